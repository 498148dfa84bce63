"""Microseconds a curve for each method at the full dictionary grid, and a whole study of 256 x 256 x 16 x 60, best of five runs."""

import sys
import time

import numpy as np

from CTPerfusionSuiteLib.phantoms.bolus import ArterialBolus
from CTPerfusionSuiteLib.phantoms.forward_model import CurveTable
from CTPerfusionSuiteLib.tracer_kinetics import flow_scale
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries
from PerfusionMapsLib.bayesian import posterior
from PerfusionMapsLib.input_functions import InputFunction
from PerfusionMapsLib.perfusion_model import PerfusionModel
from PerfusionMapsLib.perfusion_options import EngineOptions, Method
from PerfusionMapsLib.tissue_maps import estimate_maps

THREADS = 2
"""The table's figures are for two cores."""

NOISE_HU = 5.0


def study(slices: int = 16, pixels: int = 256, frames: int = 60) -> tuple[TimeSeries, InputFunction, np.ndarray]:
    """A series with smooth perfusion at 5 HU, its input, and a tissue mask of about the share a head has."""
    rng = np.random.default_rng(1)
    bolus, times = ArterialBolus(), np.arange(float(frames))
    y, x = np.mgrid[:pixels, :pixels] / pixels - 0.5
    inside = (x / 0.40) ** 2 + (y / 0.47) ** 2 < 1.0
    delay = 6.0 * np.clip(x + 0.3, 0, 1)
    mtt = 4.0 + 8.0 * np.clip(x, 0, 1)
    cbf = 55.0 - 60.0 * np.clip(x, 0, 1) + 10.0 * np.sin(40 * y)
    table = CurveTable.build(bolus, times[-1])
    curves = table.project((cbf / flow_scale()).ravel(), mtt.ravel(), delay.ravel()) @ table.at(times)
    values = np.empty((frames, slices, pixels, pixels), np.int16)
    for frame, plane in zip(values, 35.0 + curves.T, strict=True):
        frame[:] = np.rint(plane.reshape(pixels, pixels) + NOISE_HU * rng.standard_normal(frame.shape, dtype=np.float32))
    tissue = np.repeat(inside[None], slices, axis=0)
    return TimeSeries(values, Geometry((pixels, pixels, slices), (0.86, 0.86, 5.0)), times), InputFunction(times, bolus(times)), tissue


def best(work, runs: int = 5) -> float:
    """Shortest wall time of `work` in seconds."""
    shortest = np.inf
    for _ in range(runs):
        start = time.perf_counter()
        work()
        shortest = min(shortest, time.perf_counter() - start)
    return shortest


def main(runs: int = 5) -> None:
    """Print the table's speed row."""
    series, aif, tissue = study()
    noisy = series.values[:, :2].reshape(series.values.shape[0], -1)[:, tissue[:2].ravel()].astype(np.float32)
    # The slices differ in noise alone; their mean is about as clear as what the filter makes of one.
    mean = series.values.mean(axis=1, dtype=np.float32)[:, None].repeat(2, axis=1)
    clear = mean.reshape(mean.shape[0], -1)[:, tissue[:2].ravel()]
    cases = (("5 HU in each curve", noisy, NOISE_HU), ("filtered", clear, NOISE_HU / np.sqrt(series.values.shape[1])))
    print(f"{THREADS} threads, best of {runs}; {noisy.shape[1]} curves of {noisy.shape[0]} frames")
    for method, wanted in ((Method.BCSVD, 0.3), (Method.OSVD, None), (Method.BAYES, 3.0)):
        model = PerfusionModel(series.times, aif.times, aif.hu, EngineOptions(method=method))
        goal = "" if wanted is None else f" (at most {wanted})"
        for name, curves, noise_hu in cases:
            parts = np.ascontiguousarray(model.project(curves)[: model.dictionary.components])
            variance = np.full(curves.shape[1], noise_hu**2, np.float32)
            seconds = best(lambda m=model, c=parts, n=variance: m.fit_components(c, n, THREADS), runs)
            each = 1e6 * seconds / curves.shape[1]
            print(f"  {method.value:6s} all maps from components, {name}: {each:.2f} us a curve{goal}", flush=True)
            if method == Method.BAYES:
                seconds = best(lambda d=model.dictionary, c=parts, n=variance: posterior(d, c, n, THREADS), runs)
                each, atoms = 1e6 * seconds / curves.shape[1], model.dictionary.atoms.shape[0]
                print(f"  {method.value:6s} posterior alone, {name}: {each:.2f} us a curve at {atoms} atoms", flush=True)
    count = int(tissue.sum())
    for method in (Method.BAYES, Method.BCSVD):
        seconds = best(lambda m=method: estimate_maps(series, tissue, tissue, aif, EngineOptions(method=m, threads=THREADS)), min(runs, 3))
        print(f"  {method.value:6s} 256 x 256 x 16 x 60, {count} curves, with the default filter: {seconds:.2f} s", flush=True)


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
