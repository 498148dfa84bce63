"""When the bolus reaches normal tissue and how high it rises there: the clock and the yardstick of a study.

Both come from the mean curve of the less affected hemisphere.  Averaged over thousands of voxels it has hardly any noise, and its
half rise follows that of the artery within about half a second whatever the dose, which no single artery does.
"""

import numpy as np

from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.volumes import TimeSeries

from .bolus_grid import slice_weights

TISSUE_AFTER_ARRIVAL_S = 5.0
"""From arterial arrival to the half rise of normal tissue, typically; arrival is defined by it."""
SAMPLING_S = 1.0
LEAST_PEAK_HU = 0.5
"""A mean tissue curve lower than this is no perfusion study."""


def tissue_means(series: TimeSeries, region: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean HU (T, K) of a region (K, J, I) in each slice, and the number of its voxels there (K,)."""
    counts = region.sum(axis=(1, 2))
    means = np.zeros(series.values.shape[:2])
    for k in np.flatnonzero(counts):
        means[:, k] = series.values[:, k][:, region[k]].mean(axis=1, dtype=np.float64)
    return means, counts


def mean_curve(means: np.ndarray, counts: np.ndarray, matrices: list[np.ndarray], valid: np.ndarray) -> np.ndarray:
    """Enhancement (F,) of a region whose slices have means (T, K): at every grid time over the slices scanned then, by voxels."""
    brought = np.stack([matrix @ means[:, k] for k, matrix in enumerate(matrices)], axis=1)
    weight = valid * counts
    return (brought * weight).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-9)


def half_rise(times: np.ndarray, curve: np.ndarray) -> float:
    """Time at which a curve (F,) last passes half of its maximum on the way up, seconds."""
    peak = int(np.argmax(curve))
    below = np.flatnonzero(curve[: peak + 1] <= 0.5 * curve[peak])
    if not below.size:
        return float(times[0])
    n = int(below[-1])
    return float(times[n] + (0.5 * curve[peak] - curve[n]) / (curve[n + 1] - curve[n]) * (times[n + 1] - times[n]))


def normal_side(series: TimeSeries, baseline_frames, tissue: np.ndarray, hemisphere: np.ndarray) -> tuple[int, float]:
    """The less affected hemisphere and the arterial arrival that its tissue tells, seconds from the first frame.

    Stroke lowers and delays the mean curve of its side, so the taller one is taken.

    Parameters
    ----------
    series : TimeSeries
    baseline_frames : sequence of int
    tissue : ndarray (K, J, I) of bool
    hemisphere : ndarray (K, J, I) of int
        1 left, 2 right.

    Raises
    ------
    DataRefused
        Tissue does not enhance.
    """
    last = float(series.slice_times.max())
    grid = np.arange(0.0, last + 1e-6, SAMPLING_S)
    matrices, valid = slice_weights(series.slice_times, baseline_frames, 0.0, grid)
    best = None
    for side in (1, 2):
        means, counts = tissue_means(series, tissue & (hemisphere == side))
        if not counts.any():
            continue
        curve = mean_curve(means, counts, matrices, valid)
        if best is None or curve.max() > best[1].max():
            best = side, curve
    if best is None or best[1].max() < LEAST_PEAK_HU:
        raise DataRefused("The brain tissue hardly enhances, so nothing can be judged; check that contrast was given.")
    return best[0], half_rise(grid, best[1]) - TISSUE_AFTER_ARRIVAL_S
