"""Gray matter, white matter, cerebrospinal fluid and vessels of the brain; what is left for lesions to be looked for in."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from CTPerfusionSuiteLib.progress import Progress, silent
from CTPerfusionSuiteLib.volumes import TimeSeries, Volume

from .bolus_arrival import Bolus

FLUID_HU = 8.0
"""Cerebrospinal fluid on CT."""
FLUID_LIMIT_HU = (15.0, 23.0)
"""Bounds of the density below which a voxel is mostly fluid, whatever the patient's brain density."""
GRAY_PERCENTILE = 70.0
"""Percentile of brain density that stands for gray matter, which is what fluid mostly borders on."""
DENSE_HU = 75.0
"""Denser than any perfused brain: bone at the rim, calcification."""
VESSEL_SHARE = 2.5
"""Enhancement area of a vessel over that of the median tissue."""
SHIFTS_S = (-4.0, 0.0, 4.0, 8.0)
SMOOTH_MM = 0.7


@dataclass(frozen=True)
class TissueClasses:
    """Bool masks (K, J, I) within the brain mask; `tissue` is gray and white matter without vessels, fluid and dense voxels."""

    gray: np.ndarray
    white: np.ndarray
    csf: np.ndarray
    vessels: np.ndarray
    bone: np.ndarray
    tissue: np.ndarray


def classify_tissue(
    series: TimeSeries, baseline: Volume, mean: Volume, brain: np.ndarray, bolus: Bolus, threads: int | None = None, progress: Progress = silent
) -> TissueClasses:
    """Classes of brain voxels from density and enhancement.

    Parameters
    ----------
    series : TimeSeries
        The analysis grid, motion corrected.
    baseline, mean : Volume
        Means of the frames before the bolus and of all frames, HU.  Density is read from the latter: its noise is the lowest there is.
    brain : ndarray (K, J, I) of bool
    bolus : Bolus
    threads : int, optional
        Unused cores cost nothing here; kept for symmetry with the other steps.
    progress : Progress

    Notes
    -----
    Fluid is gated on the mean of all frames, so that the rims of sulci and ventricles, which enhance little, cannot pass for ischemic
    core; ischemic tissue is only a few HU less dense than normal and stays.
    """
    geometry = series.geometry
    spacing = geometry.spacing
    sigma = [0.0, SMOOTH_MM / spacing[1], SMOOTH_MM / spacing[0]]
    density = _masked_smooth(np.asarray(mean.values, np.float32), brain, sigma)
    gray_hu = float(np.percentile(density[brain], GRAY_PERCENTILE)) if brain.any() else 37.0
    limit = float(np.clip(0.5 * (FLUID_HU + gray_hu), *FLUID_LIMIT_HU))
    csf = brain & (density < limit)
    bone = brain & (density > DENSE_HU)
    progress(0.3)
    area = enhancement_area(series, brain, bolus)
    progress(0.9)
    solid = brain & ~csf & ~bone
    reference = float(np.median(area[solid])) if solid.any() else 1.0
    vessels = brain & (area > VESSEL_SHARE * max(reference, 1e-6))
    bone &= ~vessels
    tissue = brain & ~csf & ~bone & ~vessels
    middle = _threshold(density[tissue]) if tissue.any() else 0.0
    progress(1.0)
    return TissueClasses(tissue & (density >= middle), tissue & (density < middle), csf, vessels, bone, tissue)


def enhancement_area(series: TimeSeries, brain: np.ndarray, bolus: Bolus) -> np.ndarray:
    """Enhancement of each voxel relative to the whole head, float32 (K, J, I): a matched filter with the head's curve.

    The head's curve is shifted by a few seconds either way and the best match counts, so that early arteries and late veins and
    collaterals are not missed.  Its noise is far below that of a plain sum over the frames.
    """
    times = series.slice_times
    best = np.full(brain.shape, -np.inf, np.float32)
    for k in np.flatnonzero(brain.any(axis=(1, 2))):
        inside = np.flatnonzero(brain[k])
        curves = series.values[:, k].reshape(len(times), -1)[:, inside].astype(np.float32)
        shapes = np.stack([np.interp(times[:, k] - shift, bolus.times, bolus.head_curve) for shift in SHIFTS_S])
        shapes -= shapes.mean(axis=1, keepdims=True)
        norms = np.einsum("st,st->s", shapes, shapes)
        shapes = shapes[norms > 0.05 * norms.max()] / norms[norms > 0.05 * norms.max(), None]
        best[k].reshape(-1)[inside] = (shapes.astype(np.float32) @ curves).max(axis=0)
    return np.where(brain, best, 0.0).astype(np.float32)


def _masked_smooth(values: np.ndarray, mask: np.ndarray, sigma) -> np.ndarray:
    """Gaussian smoothing within a mask (normalized convolution); the values themselves outside."""
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    smooth = ndimage.gaussian_filter(np.where(mask, values, 0.0), sigma) / np.maximum(weight, 1e-3)
    return np.where(mask, smooth, values)


def _threshold(values: np.ndarray) -> float:
    """Otsu's threshold between two classes of density, HU (Otsu N, IEEE Trans Syst Man Cybern 1979;9:62-66)."""
    low, high = np.percentile(values, (1.0, 99.0))
    counts, edges = np.histogram(values, bins=64, range=(low, max(high, low + 1e-3)))
    centers = 0.5 * (edges[1:] + edges[:-1])
    below = np.cumsum(counts)
    above = below[-1] - below
    mean_below = np.cumsum(counts * centers) / np.maximum(below, 1)
    mean_above = (np.sum(counts * centers) - np.cumsum(counts * centers)) / np.maximum(above, 1)
    return float(centers[np.argmax(below * above * (mean_below - mean_above) ** 2)])
