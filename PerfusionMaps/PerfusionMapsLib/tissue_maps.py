"""From a time series and masks to perfusion maps: every slice on its own scan times, filtered in component space, then fitted."""

import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Event

import numpy as np

from CTPerfusionSuiteLib.errors import RequestRefused
from CTPerfusionSuiteLib.progress import Progress, part, silent
from CTPerfusionSuiteLib.volumes import TimeSeries

from .denoising import FirstPass, SliceCurves, first_pass, second_pass, single_pass, slabs, smoothing_mm
from .input_functions import InputFunction
from .perfusion_model import PerfusionModel
from .perfusion_options import Denoising, EngineOptions
from .residue_dictionary import CURVE_STEP_S, interpolate_input, residue_curves
from .threshold_scale import threshold_operator


def estimate_maps(
    series: TimeSeries, mask, tissue, aif: InputFunction, options: EngineOptions = EngineOptions(), progress: Progress = silent
) -> dict[str, np.ndarray]:
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
        raise RequestRefused(
            f"the masks {mask.shape} and {tissue.shape} do not fit the series {series.geometry.shape}; give masks on its grid"
        )
    tissue = tissue & mask
    models, model_of_slice = _models(series, mask, aif, options)
    spacing = (series.geometry.spacing[1], series.geometry.spacing[0])
    slices = [int(k) for k in np.argsort(-mask.sum(axis=(1, 2)), kind="stable") if mask[k].any()]
    threads = max(1, options.threads or os.cpu_count() or 1)

    def curves(k: int) -> SliceCurves:
        return _slice_curves(models[model_of_slice[k]], series.values[:, k], mask[k], tissue[k], spacing)

    width = smoothing_mm(options)
    two_passes = options.denoising == Denoising.BILATERAL and width > 0
    first: dict[int, FirstPass] = {}
    if two_passes:
        _each(lambda k: first_pass(curves(k), width), slices, threads, first.__setitem__, part(progress, 0.0, 0.2))
        layers = _layers(series, first, model_of_slice)

    def fit(k: int) -> dict[str, np.ndarray]:
        found = curves(k)
        # What no other slice needs is dropped as it is used.
        looked = first.pop(k, None)
        clean = second_pass(found, looked, layers[k], width) if two_passes and tissue[k].any() else single_pass(found, options)
        inside = np.flatnonzero(mask[k])
        return (
            models[model_of_slice[k]]
            .fit_components(
                clean.components.reshape(found.count, -1)[:, inside],
                clean.variance.ravel()[inside],
                max(1, threads // len(slices)),
                clean.height_variance.ravel()[inside],
            )
            .maps()
        )

    maps: dict[str, np.ndarray] = {}

    def store(k: int, fitted: dict[str, np.ndarray]) -> None:
        for name, values in fitted.items():
            maps.setdefault(name, np.zeros(mask.shape, np.float32))[k][mask[k]] = values

    _each(fit, slices, threads, store, part(progress, 0.2 if two_passes else 0.0, 1.0))
    return maps


def _models(series: TimeSeries, mask, aif: InputFunction, options: EngineOptions) -> tuple[dict[int, PerfusionModel], np.ndarray]:
    """A model for each distinct vector of scan times, and which of them each slice uses."""
    times = series.slice_times
    last = max(float(times.max()), float(np.max(aif.times)))
    curve_times = np.arange(0.0, last + 1e-6, CURVE_STEP_S)
    curves = residue_curves(aif.times, aif.hu, last)
    operator = threshold_operator(curve_times, interpolate_input(aif.times, aif.hu, curve_times))
    distinct, model_of_slice = np.unique(times.T, axis=0, return_inverse=True)
    model_of_slice = np.ravel(model_of_slice)
    needed = np.unique(model_of_slice[mask.any(axis=(1, 2))])
    return {int(n): PerfusionModel(distinct[n], aif.times, aif.hu, options, curve_times, curves, operator) for n in needed}, model_of_slice


def _layers(series: TimeSeries, first: dict[int, FirstPass], model_of_slice) -> dict[int, list]:
    """For every slice its own slab of neighbors and the slabs below and above, each with its distance in mm."""
    step = series.geometry.spacing[2]
    groups = model_of_slice * (series.slab_of_slice.max() + 1) + series.slab_of_slice
    runs = [[k for k in run if k in first] for run in slabs(step * np.arange(len(groups)), groups)]
    runs = [run for run in runs if run]
    added = [sum((first[k].layer for k in run[1:]), first[run[0]].layer) for run in runs]
    layers: dict[int, list] = {}
    for n, run in enumerate(runs):
        beside = [m for m in (n - 1, n + 1) if 0 <= m < len(runs) and groups[runs[m][0]] == groups[run[0]]]
        for k in run:
            layers[k] = [(added[n], 0.0)] + [(added[m], step * abs(float(np.mean(runs[m])) - k)) for m in beside]
    return layers


def _slice_curves(model: PerfusionModel, values, mask, tissue, spacing) -> SliceCurves:
    """Curves of one slice; `values` (T, J, I) HU."""
    inside = np.flatnonzero(mask)
    channels = np.zeros((model.dictionary.channels.shape[1], mask.size), np.float32)
    curves = values.reshape(values.shape[0], -1)[:, inside]
    channels[:, inside] = model.project(curves)
    mean_hu = np.zeros(mask.size, np.float32)
    mean_hu[inside] = curves.mean(axis=0, dtype=np.float32)
    return SliceCurves(
        channels.reshape(-1, *mask.shape), model.dictionary.components, mean_hu.reshape(mask.shape), values.shape[0], mask, tissue, spacing
    )


def _each(work, items, threads: int, store, progress: Progress) -> None:
    """Do `work` on all items in parallel and `store` what it returns from the calling thread; stops when `progress` raises."""
    stop = Event()

    def guarded(item):
        return None if stop.is_set() else (item, work(item))

    with ThreadPoolExecutor(max(1, min(threads, len(items)))) as pool:
        waiting = [pool.submit(guarded, item) for item in items]
        try:
            for done, future in enumerate(as_completed(waiting), start=1):
                store(*future.result())
                progress(done / len(items))
        except BaseException:
            stop.set()
            for future in waiting:
                future.cancel()
            raise
