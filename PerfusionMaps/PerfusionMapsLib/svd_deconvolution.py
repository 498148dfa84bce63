"""Block-circulant deconvolution, with a fixed (bcSVD) or an oscillation-limited (oSVD) truncation.

Both work on the 0.5 s grid of the threshold-scale operator: curves reach it as principal components, so that projection,
interpolation and deconvolution are one matrix product.

References
----------
Wu O et al., Magn Reson Med 2003;50:164-174.
"""

import numpy as np

from .calling_thread_product import product_of_columns
from .residue_dictionary import ResidueDictionary
from .threshold_scale import read_residue, threshold_operator

OSCILLATION_LIMIT = 0.095
"""Oscillation index up to which a residue function is accepted; Wu's value for a signal-to-noise ratio near 20, usual in CT."""

OSVD_TRUNCATIONS = (0.02, 0.05, 0.10, 0.15, 0.20, 0.25, 0.30, 0.40, 0.50, 0.60, 0.75, 0.95)

USUAL_RISE_S, LONGEST_RISE_S = 5.0, 15.0
"""How far before the maximum of a residue its rise is looked for, at first and at most."""


def bcsvd(residues: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flow (1/s), time of the maximum (s) and delay (s) read from residues (n, 2 N) every `step` seconds."""
    flow, tmax = read_residue(residues, step)
    return flow, tmax, half_rise(residues, step)


def osvd_matrices(dictionary: ResidueDictionary, aif) -> list[np.ndarray]:
    """Matrices (2 N, P) from components to residues, of increasing truncation, for an input `aif` (N,) HU on `curve_times`."""
    operators = [threshold_operator(dictionary.curve_times, aif, truncation) for truncation in OSVD_TRUNCATIONS]
    return [operator.matrix @ dictionary.curve_predictor for operator in operators]


def osvd(matrices, components, step: float, sampling_step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `bcsvd`, each curve with the least truncation whose residue oscillates within `OSCILLATION_LIMIT`.

    Parameters
    ----------
    matrices : sequence of ndarray (2 N, P)
        From `osvd_matrices`.
    components : float32 ndarray (P, n)
    step : float
        Between samples of the residue, s.
    sampling_step : float
        Typical time between scans, s: the oscillation index is defined on the sampled residue, so differences are taken over this
        distance and not over the finer grid of the operator.
    """
    found = [np.zeros(components.shape[1], np.float32) for _ in range(3)]
    left = np.arange(components.shape[1])
    stride = max(1, round(sampling_step / step))
    for number, matrix in enumerate(matrices, start=1):
        residues = product_of_columns(components[:, left], matrix)
        bend = np.roll(residues, stride, axis=1) - 2.0 * residues + np.roll(residues, -stride, axis=1)
        index = np.abs(bend).mean(axis=1) / np.maximum(residues.max(axis=1), 1e-12)
        accepted = (index <= OSCILLATION_LIMIT) | (number == len(matrices))
        for values, read in zip(found, bcsvd(residues[accepted], step), strict=True):
            values[left[accepted]] = read
        left = left[~accepted]
        if left.size == 0:
            break
    return found[0], found[1], found[2]


def half_rise(residues: np.ndarray, step: float) -> np.ndarray:
    """Time (s) at which residues (n, 2 N) last rise through half of their maximum before it.

    The low-pass character of the truncation spreads the jump of a residue function evenly around the arrival of contrast, so the
    middle of the rise marks the arterial delay, where the maximum comes later by the spread.
    """
    length = residues.shape[1]
    peak = np.argmax(residues, axis=1)
    back = min(int(np.ceil(LONGEST_RISE_S / step)), length // 2)
    near = min(int(np.ceil(USUAL_RISE_S / step)), back)
    crossed, part, found = _last_rise(residues, peak, near)
    slow = np.flatnonzero(~found)
    if slow.size and back > near:
        crossed[slow], part[slow], _ = _last_rise(residues[slow], peak[slow], back)
    time = np.where(peak >= length // 2, peak - length, peak) - crossed + part
    return (time * step).astype(np.float32)


def _last_rise(residues, peak, back: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples from the peak (n,) back to the last one under half of it, the part of a sample from there to half, and whether the rise
    lies within `back` samples; where not, its beginning is taken to lie there."""
    count, length = residues.shape
    line = np.arange(count)
    # Rows are circles.
    place = peak[:, None] - np.arange(back + 1)
    place[place < 0] += length
    before = np.take_along_axis(residues, place, axis=1)
    half = 0.5 * before[:, :1]
    low = before <= half
    found = low.any(axis=1)
    low[:, -1] = True
    crossed = np.argmax(low, axis=1)
    under, over = before[line, crossed], before[line, np.maximum(crossed - 1, 0)]
    return crossed, np.clip((half[:, 0] - under) / np.maximum(over - under, 1e-12), 0.0, 1.0), found
