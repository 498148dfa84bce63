"""How much of the arterial bolus each voxel holds beyond what tissue explains, and how surely.

A voxel's curve is taken as a constant plus shares of two known curves: the bolus in arterial blood and the mean curve of tissue.  The
share of the bolus is large in arteries even where partial volume leaves them a peak hardly above gray matter's.  It is judged by the
voxel's own misfit, so that edges that move, whose curves resemble no bolus, do not pass for arteries.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from CTPerfusionSuiteLib.volumes import TimeSeries

from .bolus_arrival import unique_time_columns
from .bolus_shapes import bolus_curve
from .shared_bolus import Seen, SharedBolus, shared_bolus
from .vessel_candidates import VesselCandidates, bounding_window

SMOOTHING_MM = 0.7
"""Standard deviation of the filter over the shares: less than the radius of the arteries looked for."""
QUIETEST = 0.8
"""No voxel is taken for less noisy than this part of the typical one."""
LATE_VESSELS = 60


@dataclass(frozen=True)
class ArterialExcess:
    """Arterial excess over the searched part of a head; 0 elsewhere.

    Attributes
    ----------
    height_hu : float32 ndarray (K, J, I)
        Height of the arterial bolus in each voxel beyond tissue, HU.
    t : float32 ndarray (K, J, I)
        That, filtered lightly in the slice, over its standard error from the voxel's own misfit.
    """

    height_hu: np.ndarray
    t: np.ndarray


def expected_bolus(candidates: VesselCandidates) -> SharedBolus | None:
    """The arterial bolus that tissue and veins of this head tell of, on the time axis that most candidates have."""
    column = int(np.argmax(np.bincount(candidates.column, minlength=len(candidates.shapes))))
    times = candidates.columns[column]
    vein = venous_curve(candidates, column)
    return shared_bolus(Seen(times, candidates.tissue_curves[column]), None if vein is None else Seen(times, vein))


def venous_curve(candidates: VesselCandidates, column: int) -> np.ndarray | None:
    """Mean curve (T,) of the clearest late vessels on one time axis, its mean taken off; None where none is seen."""
    rise, peak = float(candidates.tissue.half_rise_s[0]), float(candidates.tissue.peak_s[0])
    late = np.flatnonzero(
        candidates.believable & (candidates.half_rise_s > rise + 0.25) & (candidates.peak_s > peak - 1.5) & (candidates.z > 8.0)
    )
    if late.size < 5:
        return None
    top = late[np.argsort(-candidates.area[late])][: max(5, min(LATE_VESSELS, late.size // 4))]
    mine = top[candidates.column[top] == column]
    if mine.size >= 3:
        return candidates.shapes[column].basis.T @ candidates.parts[:, mine].mean(axis=1)
    width = float(np.median(candidates.fwhm_s[top]))
    shape = bolus_curve(candidates.columns[column], float(np.median(candidates.half_rise_s[top])) - 0.55 * width, width, 0.2)
    return shape - shape.mean()


def arterial_excess(
    series: TimeSeries, candidates: VesselCandidates, bolus: SharedBolus, inside: np.ndarray, threads: int | None = None
) -> ArterialExcess:
    """Fit bolus and tissue to every voxel of `inside` (bool (K, J, I))."""
    column_of_slice = unique_time_columns(series.slice_times)[1]
    designs = [_design(candidates, column, bolus) for column in range(len(candidates.columns))]
    sigma = [SMOOTHING_MM / spacing for spacing in series.geometry.spacing[1::-1]]
    window = bounding_window(inside)
    height, t = np.zeros(inside.shape, np.float32), np.zeros(inside.shape, np.float32)
    floor = QUIETEST * candidates.typical_noise_hu

    def one_slice(k: int) -> None:
        here = inside[k][window[1:]]
        if not here.any():
            return
        curves = series.values[:, k][(slice(None), *window[1:])][:, here].astype(np.float32)
        curves -= curves.mean(axis=0)
        design, solve, unit_error = designs[column_of_slice[k]]
        level = solve @ curves
        left = np.einsum("tn,tn->n", curves, curves) - np.einsum("cn,cn->n", design.T @ curves, level)
        noise = np.sqrt(np.maximum(left, 0.0) / max(1, len(curves) - 3))
        error = unit_error * np.maximum(noise, floor)
        share, weight, spread = (np.zeros(here.shape, np.float32) for _ in range(3))
        share[here], weight[here], spread[here] = level[0], 1.0, error
        smooth = ndimage.gaussian_filter(share, sigma)[here] / np.maximum(ndimage.gaussian_filter(weight, sigma)[here], 0.1)
        # How much the filter damps noise depends on its spectrum; what it does to the bulk of the slice tells.
        damping = float(np.median(np.abs(smooth - np.median(smooth))) / max(np.median(np.abs(level[0] - np.median(level[0]))), 1e-6))
        height[k][window[1:]] = share
        spread[here] = smooth / (max(damping, 0.1) * error)
        t[k][window[1:]] = spread

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one_slice, np.arange(inside.shape[0])[window[0]]))
    return ArterialExcess(height, t)


def _design(candidates: VesselCandidates, column: int, bolus: SharedBolus) -> tuple[np.ndarray, np.ndarray, float]:
    """Bolus and tissue on one time axis (T, 2), what gives their shares of a curve (2, T), and the share's error per HU of noise."""
    values, tissue = bolus.at(candidates.columns[column]), candidates.tissue_curves[column]
    design = np.stack([values / max(np.ptp(values), 1e-9), tissue / max(np.ptp(tissue), 1e-9)], axis=1)
    design -= design.mean(axis=0)
    inverse = np.linalg.pinv(design.T @ design)
    return design.astype(np.float32), (inverse @ design.T).astype(np.float32), float(np.sqrt(inverse[0, 0]))
