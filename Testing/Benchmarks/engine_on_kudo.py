"""The engine on the Kudo-type phantom with the artery given: rows 1, 2 and 4 of the accuracy table, beside classical deconvolutions."""

import sys
from pathlib import Path

import numpy as np
from benchmark_seeds import seeds, spread
from scipy.linalg import toeplitz

from CTPerfusionSuiteLib.phantoms.bolus import ArterialBolus
from CTPerfusionSuiteLib.phantoms.forward_model import tissue_curve
from CTPerfusionSuiteLib.phantoms.kudo import KudoPhantom, kudo_phantom
from CTPerfusionSuiteLib.phantoms.reference_operator import operator_times, reference_maps
from CTPerfusionSuiteLib.tracer_kinetics import flow_scale, volume_scale
from PerfusionMapsLib.perfusion_model import PerfusionModel
from PerfusionMapsLib.perfusion_options import Denoising, EngineOptions, Method
from PerfusionMapsLib.similarity_filter import masked_gaussian

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Python"))
from engine_truth import agreement, flow_change_with_delay, kudo_maps  # noqa: E402

RESIDUES = ("exponential", "linear", "box")
SMOOTHING_MM = 2.5


def classical_maps(phantom: KudoPhantom, inverse, circular: bool) -> dict[str, np.ndarray]:
    """Maps by a linear deconvolution of Gaussian-smoothed curves on the frames' own grid; `inverse` takes a matrix to its inverse."""
    times, aif = phantom.aif
    step, count = float(times[1] - times[0]), times.size
    values = phantom.series.values - phantom.series.values[:4].mean(axis=0)
    sigma = (SMOOTHING_MM, SMOOTHING_MM)
    smooth = np.stack([masked_gaussian(values[:, k], valid, sigma) for k, valid in enumerate(phantom.valid)], axis=1)
    curves = smooth.reshape(count, -1)
    if circular:
        padded = np.concatenate([aif, np.zeros(count)])
        matrix = step * padded[(np.arange(2 * count)[:, None] - np.arange(2 * count)) % (2 * count)]
        curves = np.concatenate([curves, np.zeros_like(curves)])
    else:
        matrix = step * toeplitz(aif, np.zeros(count))
    residues = inverse(matrix) @ curves
    peak = residues.argmax(axis=0)
    time = step * np.where(peak > count, peak - 2 * count, peak) if circular else step * peak
    cbf = flow_scale() * np.maximum(residues.max(axis=0), 1e-9)
    cbv = volume_scale() * np.trapezoid(smooth.reshape(count, -1), times, axis=0) / np.trapezoid(aif, times)
    maps = {"cbf": cbf, "cbv": cbv, "mtt": 60 * cbv / cbf, "delay": time}
    return {name: np.asarray(v, np.float32).reshape(phantom.valid.shape) for name, v in maps.items()}


def truncated(share: float):
    """Pseudo-inverse without singular values under `share` of the largest."""
    return lambda matrix: np.linalg.pinv(matrix, rcond=share)


def tikhonov(share: float):
    """Regularized inverse with a parameter of `share` of the largest singular value."""

    def inverse(matrix):
        left, singular, right = np.linalg.svd(matrix)
        return (right.T * (singular / (singular**2 + (share * singular[0]) ** 2))) @ left.T

    return inverse


def engines():
    """Name and function of a phantom for everything that is compared."""
    yield "Bayes (default)", kudo_maps
    yield "bcSVD 10 %", lambda p: kudo_maps(p, EngineOptions(method=Method.BCSVD))
    yield "oSVD", lambda p: kudo_maps(p, EngineOptions(method=Method.OSVD))
    yield "Bayes, masked Gaussian", lambda p: kudo_maps(p, EngineOptions(denoising=Denoising.GAUSSIAN))
    yield "sSVD 20 % (comparator)", lambda p: classical_maps(p, truncated(0.2), False)
    yield "Tikhonov (comparator)", lambda p: classical_maps(p, tikhonov(0.1), True)


def without_noise() -> None:
    """Row 1."""
    print("Noise-free (exponential: r >= .99, slope .97-1.03, CBF varies < 2 % over delays)")
    for residue in RESIDUES:
        phantom = kudo_phantom(residue, tile=4)
        for method in (Method.BAYES, Method.BCSVD):
            maps = kudo_maps(phantom, EngineOptions(method=method, denoising=Denoising.NONE))
            found = agreement(phantom, maps)
            words = ", ".join(f"{name} r {v['r']:.4f} slope {v['slope']:.3f}" for name, v in found.items())
            print(f"  {residue:12s} {method.value:6s} {words}; CBF varies {flow_change_with_delay(phantom, maps):.2f} %", flush=True)


def with_noise(count: int) -> None:
    """Row 2."""
    print("5 HU white in every pixel of 1 mm: r CBF >= .985, MAPE <= 10 % (box 40); CBV within 4 %; MTT r >= .97, slope .9-1.1;")
    print("delay r >= .94, slope .95-1.05")
    for residue in RESIDUES:
        found: dict[str, list] = {}
        for seed in seeds(count, "kudo"):
            phantom = kudo_phantom(residue, noise_hu=5.0, seed=seed)
            for name, engine in engines():
                found.setdefault(name, []).append(agreement(phantom, engine(phantom)))
        for name, values in found.items():
            print(f"  {residue}, {name}")
            for quantity in ("cbf", "cbv", "mtt", "delay"):
                row = [v[quantity] for v in values]
                words = "; ".join(f"{key} {spread([r[key] for r in row])}" for key in ("r", "slope", "mape", "rmse"))
                print(f"    {quantity:6s} {words}", flush=True)


def same_thresholds() -> None:
    """Row 4."""
    print("Threshold maps of Bayes against bcSVD, noise-free (tmax within 0.3 s, rcbf within .03)")
    bolus, mtt, delay = ArterialBolus(), (3.0, 4.5, 7.0, 12.0, 20.0), (0.0, 0.7, 1.5, 3.3, 6.0, 10.0)
    for residue in ("exponential", "linear", "gamma", "lognormal"):
        for step in (1.0, 1.5, 2.0, 3.0):
            times = np.arange(0.0, 60.0, step)
            grid = operator_times(times[-1])
            measured, dense = (
                np.stack([tissue_curve(bolus, t, 240.0 / m, m, d, residue) for m in mtt for d in delay], axis=1) for t in (times, grid)
            )
            reference = reference_maps(bolus(grid), dense.T)
            normal = np.median(reference.cbf)
            a, b = (PerfusionModel(times, times, bolus(times), EngineOptions(method=m)).fit(measured, noise=0.02) for m in list(Method)[:2])
            print(
                f"  {residue:12s} {step:.1f} s: tmax {np.abs(a.tmax - b.tmax).max():.3f} s, "
                f"rcbf {np.abs(a.operator_cbf - b.operator_cbf).max() / normal:.4f}; Bayes against the dense reference "
                f"{np.abs(a.tmax - reference.tmax).max():.3f} s, {np.abs(a.operator_cbf - reference.cbf).max() / normal:.4f}",
                flush=True,
            )


if __name__ == "__main__":
    without_noise()
    same_thresholds()
    with_noise(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
