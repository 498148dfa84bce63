"""Curves on a fixed grid of seconds relative to arterial arrival, whatever the scanner's sampling.

A network sees the bolus always at the same place: each slice's curves are brought from the slice's own scan times to the grid.
Between samples a curve is taken as linear, and this line is averaged under a triangle as wide as the grid's step allows, so that
dense sampling is used to reduce noise.  Nothing is invented beyond the first and the last frame.
"""

import numpy as np

GRID_STEP_S = 2.0
GRID_S = np.arange(-6.0, 42.0, GRID_STEP_S)
"""Seconds relative to arterial arrival."""

QUADRATURE_POINTS = 81
"""Points of the average under the triangle; odd, so that its top is one of them."""
TOLERANCE_S = 1e-6


def grid_weights(times, grid) -> tuple[np.ndarray, np.ndarray]:
    """Weights that take the samples of a curve to grid times.

    The average of the piecewise linear curve under a symmetric triangle keeps straight lines as they are.  The triangle reaches one
    grid step to either side; near the first and the last frame it is as narrow as it takes to stay within the scan.

    Parameters
    ----------
    times : array_like (T,)
        Scan times of the slice, seconds, strictly increasing.
    grid : array_like (F,)
        Times wanted, on the same axis, evenly spaced.

    Returns
    -------
    weights : ndarray (F, T)
        Rows sum to 1 where the scan covers the grid time, and are 0 elsewhere.
    valid : ndarray (F,) of bool
        Whether it does.

    Raises
    ------
    ValueError
        Times that do not increase.
    """
    times, grid = np.asarray(times, dtype=float), np.asarray(grid, dtype=float)
    if times.ndim != 1 or times.size < 2 or not np.all(np.diff(times) > 0):
        raise ValueError("the times of a slice must increase from frame to frame")
    valid = (grid >= times[0] - TOLERANCE_S) & (grid <= times[-1] + TOLERANCE_S)
    inside = np.clip(grid[valid], times[0], times[-1])
    step = float(grid[1] - grid[0]) if grid.size > 1 else GRID_STEP_S
    reach = np.minimum(step, np.minimum(inside - times[0], times[-1] - inside))
    place = np.linspace(-1.0, 1.0, QUADRATURE_POINTS)
    triangle = 1.0 - np.abs(place)
    triangle /= triangle.sum()
    points = inside[:, None] + reach[:, None] * place
    before = np.clip(np.searchsorted(times, points, side="right") - 1, 0, times.size - 2)
    share = (points - times[before]) / np.diff(times)[before]
    weights = np.zeros((grid.size, times.size))
    row = np.broadcast_to(np.flatnonzero(valid)[:, None], points.shape)
    np.add.at(weights, (row, before), triangle * (1.0 - share))
    np.add.at(weights, (row, before + 1), triangle * share)
    return weights, valid


def enhancement_weights(times, baseline_frames, arrival_s: float, grid_s=GRID_S) -> tuple[np.ndarray, np.ndarray]:
    """Weights (F, T) from HU at a slice's scan times to enhancement above baseline at `grid_s` after arrival; and validity (F,).

    Grid times before the first frame or after the last get no weight, so that they read 0.

    Parameters
    ----------
    times : array_like (T,)
        Scan times of the slice, seconds.
    baseline_frames : sequence of int
        Frames before the bolus.
    arrival_s : float
        Arterial arrival on the axis of `times`.
    """
    weights, valid = grid_weights(times, arrival_s + np.asarray(grid_s, dtype=float))
    baseline = np.zeros(weights.shape[1])
    baseline[list(baseline_frames)] = 1.0 / len(baseline_frames)
    weights[valid] -= baseline
    return weights.astype(np.float32), valid


def slice_weights(slice_times, baseline_frames, arrival_s: float, grid_s=GRID_S) -> tuple[list[np.ndarray], np.ndarray]:
    """`enhancement_weights` of every slice: a list of K matrices (F, T), shared between slices of the same times, and validity (F, K).

    Parameters
    ----------
    slice_times : ndarray (T, K)
        Seconds, a column a slice.
    """
    known: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    matrices, valid = [], []
    for column in np.asarray(slice_times, dtype=float).T:
        key = column.tobytes()
        if key not in known:
            known[key] = enhancement_weights(column, baseline_frames, arrival_s, grid_s)
        matrices.append(known[key][0])
        valid.append(known[key][1])
    return matrices, np.stack(valid, axis=1).astype(np.float32)
