"""The reference operator behind threshold-scale truth: block-circulant SVD, dense, on a grid of 0.5 s.

The thresholds Tmax > 6 s and rCBF < 30 % were set on maps of truncated block-circulant deconvolution, so the truth of a phantom is
read from that operator applied to noise-free curves.  It is written with a dense matrix and `numpy.linalg.svd` on purpose:
independent of any faster engine.

References
----------
Wu O et al., Magn Reson Med 2003;50:164 (block-circulant deconvolution).
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from CTPerfusionSuiteLib.tracer_kinetics import Hematocrit, flow_scale

OPERATOR_STEP_S = 0.5
OPERATOR_TRUNCATION = 0.10


@dataclass(frozen=True)
class OperatorMaps:
    """What the operator reads from curves.

    Attributes
    ----------
    tmax : ndarray (N,) float32
        Seconds to the maximum of the deconvolved residue; lags beyond half the cycle are negative.
    cbf : ndarray (N,) float32
        mL/100 g/min, from the height of the maximum (truncation makes it lower than the physical flow).
    """

    tmax: np.ndarray
    cbf: np.ndarray


def operator_times(last_s: float) -> np.ndarray:
    """The operator's time axis: every 0.5 s from 0 to not beyond `last_s`."""
    return OPERATOR_STEP_S * np.arange(int(np.floor(last_s / OPERATOR_STEP_S + 1e-9)) + 1)


def inverse_operator(aif: np.ndarray, truncation: float = OPERATOR_TRUNCATION) -> np.ndarray:
    """Truncated pseudo-inverse (L, N) of the block-circulant matrix of an AIF of N samples at 0.5 s, L = 2 N, unit 1/(HU s).

    Raises
    ------
    ValueError
        The AIF shows no enhancement.
    """
    if not np.max(np.abs(aif)) > 0:
        raise ValueError("the arterial curve shows no enhancement, so nothing can be deconvolved")
    count = aif.size
    padded = np.concatenate([aif, np.zeros(count)])
    rows = np.arange(2 * count)
    matrix = OPERATOR_STEP_S * padded[(rows[:, None] - rows[None, :]) % (2 * count)]
    left, singular, right = np.linalg.svd(matrix)
    kept = singular >= truncation * singular[0]
    return (right[kept].T / singular[kept]) @ left[:count, kept].T


def reference_maps(aif: np.ndarray, curves: np.ndarray, hematocrit: Hematocrit = Hematocrit(), chunk: int = 16384) -> OperatorMaps:
    """Tmax and operator-scale CBF of noise-free curves.

    Parameters
    ----------
    aif : ndarray (N,)
        Arterial enhancement in HU on `operator_times`.
    curves : ndarray (V, N)
        Tissue enhancement in HU on the same times.  A phantom evaluates its forward model there; measured samples go
        through `resample`.
    chunk : int
        Curves a pass, which bounds the memory.
    """
    inverse = inverse_operator(np.asarray(aif, dtype=float)).astype(np.float32)
    length = inverse.shape[0]
    tmax = np.empty(len(curves), np.float32)
    height = np.empty(len(curves), np.float32)
    for start in range(0, len(curves), chunk):
        k = np.asarray(curves[start : start + chunk], np.float32) @ inverse.T
        top = np.argmax(k, axis=1)
        row = np.arange(len(k))
        before, at, after = k[row, (top - 1) % length], k[row, top], k[row, (top + 1) % length]
        # Vertex of the parabola through the maximum and its neighbors on the cycle.
        curvature = before - 2.0 * at + after
        shift = np.where(curvature < 0, 0.5 * (before - after) / np.where(curvature < 0, curvature, -1.0), 0.0)
        position = top + shift
        position = np.where(position > length / 2, position - length, position)
        tmax[start : start + chunk] = OPERATOR_STEP_S * position
        height[start : start + chunk] = at - 0.25 * (before - after) * shift
    return OperatorMaps(tmax, (flow_scale(hematocrit) * height).astype(np.float32))


def resample(times, curves: np.ndarray, last_s: float | None = None) -> np.ndarray:
    """Sampled curves (..., T) at `times` (T,) on `operator_times` by cubic spline; constant before the first sample.

    Splines of a smooth noise-free curve at 1-2 s are within a few tenths of a percent of its peak; the truth of a phantom does not
    pass through here.
    """
    times = np.asarray(times, dtype=float)
    grid = operator_times(float(times[-1]) if last_s is None else last_s)
    return CubicSpline(times, curves, axis=-1)(np.clip(grid, times[0], times[-1]))
