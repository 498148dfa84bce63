"""Block-circulant deconvolution, with a fixed (bcSVD) or an oscillation-limited (oSVD) truncation.

Both work on the 0.5 s grid of the threshold-scale operator: curves reach it as principal components, so that projection,
interpolation and deconvolution are one matrix product.

References
----------
Wu O et al., Magn Reson Med 2003;50:164-174.
"""

import numpy as np

from .calling_thread_product import product
from .residue_dictionary import ResidueDictionary
from .threshold_scale import ThresholdOperator, read_residue, threshold_operator

OSCILLATION_LIMIT = 0.095
"""Oscillation index up to which a residue function is accepted; Wu's value for a signal-to-noise ratio near 20, usual in CT."""

OSVD_TRUNCATIONS = (0.02, 0.05, 0.10, 0.15, 0.20, 0.25, 0.30, 0.40, 0.50, 0.60, 0.75, 0.95)


def bcsvd(dictionary: ResidueDictionary, operator: ThresholdOperator, components) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flow (1/s), time of the maximum (s) and delay (s) of curves given as components (P, n)."""
    residues = product(operator.matrix @ dictionary.curve_predictor, components)
    flow, tmax = read_residue(residues, operator.step)
    return flow, tmax, half_rise(residues, operator.step)


def osvd(dictionary: ResidueDictionary, aif, components, sampling_step: float):
    """As `bcsvd`, each curve with the least truncation whose residue oscillates within `OSCILLATION_LIMIT`.

    Parameters
    ----------
    dictionary : ResidueDictionary
    aif : ndarray (N,)
        Input on the dictionary's `curve_times`, HU above baseline.
    components : float32 ndarray (P, n)
    sampling_step : float
        Typical time between scans, s: the oscillation index is defined on the sampled residue, so differences are taken over this
        distance and not over the finer grid of the operator.
    """
    count = components.shape[1]
    flow, tmax, delay = (np.zeros(count, np.float32) for _ in range(3))
    left = np.arange(count)
    for truncation in OSVD_TRUNCATIONS:
        operator = threshold_operator(dictionary.curve_times, aif, truncation)
        residues = product(operator.matrix @ dictionary.curve_predictor, components[:, left])
        stride = max(1, round(sampling_step / operator.step))
        bend = np.roll(residues, stride, axis=0) - 2.0 * residues + np.roll(residues, -stride, axis=0)
        index = np.abs(bend).mean(axis=0) / np.maximum(residues.max(axis=0), 1e-12)
        accepted = (index <= OSCILLATION_LIMIT) if truncation < OSVD_TRUNCATIONS[-1] else np.ones(left.size, bool)
        chosen = np.ascontiguousarray(residues[:, accepted])
        flow[left[accepted]], tmax[left[accepted]] = read_residue(chosen, operator.step)
        delay[left[accepted]] = half_rise(chosen, operator.step)
        left = left[~accepted]
        if left.size == 0:
            break
    return flow, tmax, delay


def half_rise(residues: np.ndarray, step: float) -> np.ndarray:
    """Time (s) at which residues (2 N, n) last rise through half of their maximum before it.

    The low-pass character of the truncation spreads the jump of a residue function evenly around the arrival of contrast, so the
    middle of the rise marks the arterial delay, where the maximum comes later by the spread.
    """
    length, count = residues.shape
    columns = np.arange(count)
    peak = np.argmax(residues, axis=0)
    half = 0.5 * residues[peak, columns]
    at = peak.copy()
    rising = np.ones(count, bool)
    for _ in range(length // 2):
        at[rising] -= 1
        rising = rising & (residues[at, columns] > half)
        if not rising.any():
            break
    low, high = residues[at, columns], residues[(at + 1) % length, columns]
    part = np.clip((half - low) / np.maximum(high - low, 1e-12), 0.0, 1.0)
    time = at + part
    time = np.where(peak >= length // 2, time - length, time)
    return (time * step).astype(np.float32)
