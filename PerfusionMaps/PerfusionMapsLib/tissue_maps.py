"""From a time series and masks to perfusion maps: every slice on its own scan times, filtered in component space, then fitted."""

import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Event

import numpy as np

from CTPerfusionSuiteLib.errors import RequestRefused
from CTPerfusionSuiteLib.progress import Progress, silent
from CTPerfusionSuiteLib.volumes import TimeSeries

from .denoising import denoise_slice
from .input_functions import InputFunction
from .perfusion_model import PerfusionModel
from .perfusion_options import EngineOptions
from .residue_dictionary import CURVE_STEP_S, interpolate_input, residue_curves
from .threshold_scale import threshold_operator


def estimate_maps(series: TimeSeries, mask, tissue, aif: InputFunction, options: EngineOptions = EngineOptions(),
                  progress: Progress = silent) -> dict[str, np.ndarray]:
    """Perfusion maps of a study.

    Parameters
    ----------
    series : TimeSeries
        HU, any baseline; ``times`` may differ between slices, curves are never interpolated.
    mask : bool ndarray (K, J, I)
        Voxels to fit.
    tissue : bool ndarray (K, J, I)
        Voxels the spatial filter may mix: no vessels, cerebrospinal fluid or bone.  Others in `mask` are fitted unfiltered.
    aif : InputFunction
        HU above baseline on the series' time axis.
    options : EngineOptions
    progress : Progress

    Returns
    -------
    dict of str -> float32 ndarray (K, J, I)
        ``cbf cbv mtt delay tmax operator_cbf ttp noise`` and, with the Bayesian engine, ``{cbf,mtt,delay}_{sd,p025,p975}``, in
        the units of `PerfusionFit`; 0 outside `mask`.

    Raises
    ------
    RequestRefused
        A mask that does not fit the series.
    DataRefused
        Too few time points, or an input without a bolus.
    """
    mask, tissue = np.asarray(mask, bool), np.asarray(tissue, bool)
    if mask.shape != series.geometry.shape or tissue.shape != series.geometry.shape:
        raise RequestRefused(f"the masks {mask.shape} and {tissue.shape} do not fit the series {series.geometry.shape}; give masks on its grid")
    tissue = tissue & mask
    times = series.slice_times
    last = max(float(times.max()), float(np.max(aif.times)))
    curve_times = np.arange(0.0, last + 1e-6, CURVE_STEP_S)
    curves = residue_curves(aif.times, aif.hu, last)
    operator = threshold_operator(curve_times, interpolate_input(aif.times, aif.hu, curve_times))
    distinct, model_of_slice = np.unique(times.T, axis=0, return_inverse=True)
    model_of_slice = np.ravel(model_of_slice)
    models = {n: PerfusionModel(distinct[n], aif.times, aif.hu, options, curve_times, curves, operator)
              for n in np.unique(model_of_slice[mask.any(axis=(1, 2))])}

    slices = [k for k in np.argsort(-mask.sum(axis=(1, 2)), kind="stable") if mask[k].any()]
    threads = max(1, options.threads or os.cpu_count() or 1)
    workers = max(1, min(threads, len(slices)))
    maps: dict[str, np.ndarray] = {}
    spacing = (series.geometry.spacing[1], series.geometry.spacing[0])
    stop = Event()

    def work(k):
        if stop.is_set():
            return k, {}
        return k, _fit_slice(models[model_of_slice[k]], series.values[:, k], mask[k], tissue[k], spacing, -(-threads // workers))

    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(work, k) for k in slices]
        try:
            for done, future in enumerate(as_completed(waiting), start=1):
                k, fitted = future.result()
                for name, values in fitted.items():
                    maps.setdefault(name, np.zeros(mask.shape, np.float32))[k][mask[k]] = values
                progress(done / len(slices))
        except BaseException:
            stop.set()
            for future in waiting:
                future.cancel()
            raise
    return maps


def _fit_slice(model: PerfusionModel, values, mask, tissue, spacing, threads) -> dict[str, np.ndarray]:
    """Maps of one slice, (n,) for the n voxels of `mask`; `values` (T, J, I), `spacing` (j, i) mm."""
    inside = np.flatnonzero(mask)
    channels = np.zeros((model.dictionary.channels.shape[1], mask.size), np.float32)
    curves = values.reshape(values.shape[0], -1)[:, inside]
    channels[:, inside] = model.project(curves)
    mean_hu = np.zeros(mask.shape, np.float32)
    mean_hu.ravel()[inside] = curves.mean(axis=0, dtype=np.float32)
    count = model.dictionary.components
    clean = denoise_slice(
        channels.reshape(-1, *mask.shape), count, mean_hu, values.shape[0], mask, tissue, spacing, model.options)
    components = clean.components.reshape(count, -1)[:, inside]
    return model.fit_components(components, clean.variance.ravel()[inside], threads, clean.height_variance.ravel()[inside]).maps()
