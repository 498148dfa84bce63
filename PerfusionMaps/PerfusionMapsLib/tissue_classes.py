"""Gray matter, white matter, fluid, vessels and bone inside the brain mask, and the tissue that perfusion is judged in."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries, Volume

from .bolus_arrival import Bolus

BONE_HU = 90.0
VESSEL_FACTOR = 2.5
SHIFTS_S = (-4.0, 0.0, 4.0, 8.0)
"""Shifts of the head's curve against a voxel's that are tried, seconds."""
FLUID_HU = 8.0
FLUID_SHARE = 0.55
"""Between fluid and the tissue beside it, as a fraction of their difference: below it a voxel counts as fluid."""
SOLID_SHARE, LOWEST_TISSUE, HIGHEST_TISSUE = 0.78, 0.85, 1.3
"""Densities of solid tissue relative to the commonest one: from here on it counts, and the bounds of its local level."""
SURROUNDINGS_MM = 3.0
DENSE_ABOVE_MODE_HU = 28.0
SMALLEST_ISLAND_ML = 0.5


@dataclass(frozen=True)
class Enhancement:
    """What the bolus did in each voxel, (K, J, I) float32.

    Attributes
    ----------
    area : ndarray
        Area under the enhancement, HU s.
    peak_hu : ndarray
        Maximum of the running mean of three frames above the baseline, HU.
    peak_s : ndarray
        Its time, seconds from the first frame.
    """

    area: np.ndarray
    peak_hu: np.ndarray
    peak_s: np.ndarray


@dataclass(frozen=True)
class TissueClasses:
    """Boolean masks (K, J, I) inside the brain mask.

    Attributes
    ----------
    gray, white, csf, vessels, bone : ndarray of bool
        Disjoint; together with dense remains (calcification, blood) they fill the brain mask.
    tissue : ndarray of bool
        Brain without fluid, vessels, bone, and edges that bone blurs into: what perfusion is judged in.
    """

    gray: np.ndarray
    white: np.ndarray
    csf: np.ndarray
    vessels: np.ndarray
    bone: np.ndarray
    tissue: np.ndarray


def summarize_enhancement(series: TimeSeries, bolus: Bolus) -> Enhancement:
    """Area, peak and time to peak of every voxel, one slice in memory at a time.

    The area is that of the head's own curve times the factor by which it fits the voxel's curve best, at a few shifts in time so that
    early arteries and late veins are not missed; the noise of such a matched filter is far below that of a plain sum over frames.
    """
    values, times = series.values, series.slice_times
    shape = values.shape[1:]
    area, peak, when = (np.empty(shape, np.float32) for _ in range(3))
    head_area = float(np.trapezoid(np.maximum(bolus.head_curve, 0.0), bolus.times))
    for k in range(shape[0]):
        curves = values[:, k].reshape(len(times), -1).astype(np.float32)
        filters = np.stack([np.interp(times[:, k] - shift, bolus.times, bolus.head_curve) for shift in SHIFTS_S])
        filters -= filters.mean(axis=1, keepdims=True)
        energy = np.einsum("st,st->s", filters, filters)
        filters = filters[energy > 0.05 * energy.max()] * (head_area / energy[energy > 0.05 * energy.max(), None])
        area[k] = (filters.astype(np.float32) @ curves).max(axis=0).reshape(shape[1:])
        level = (curves[:-2] + curves[1:-1] + curves[2:]) / np.float32(3.0)
        highest = level.argmax(axis=0)
        baseline = curves[list(bolus.baseline_frames)].mean(axis=0)
        peak[k] = (np.take_along_axis(level, highest[None], axis=0)[0] - baseline).reshape(shape[1:])
        when[k] = times[1:-1, k][highest].reshape(shape[1:])
    return Enhancement(area, peak, when)


def classify_tissue(baseline: Volume, mean: Volume, brain: np.ndarray, enhancement: Enhancement) -> TissueClasses:
    """Classify the voxels of the brain mask.

    Fluid is told from tissue in the mean of all frames (whose noise is a fraction of one frame's) at about half of the tissue's own
    level, so that poorly enhancing infarct core stays tissue while old cavities and the rims of sulci and ventricles do not; vessels
    are what enhances far more than tissue.

    Parameters
    ----------
    baseline, mean : Volume
        Means of the frames before the bolus and of all frames, HU.
    brain : ndarray of bool (K, J, I)
    enhancement : Enhancement
        From `summarize_enhancement`.
    """
    geometry = mean.geometry
    image = np.nan_to_num(np.asarray(mean.values, dtype=np.float32))
    before = np.nan_to_num(np.asarray(baseline.values, dtype=np.float32))
    bone = brain & (_within(before, brain, geometry, 0.5) > BONE_HU)
    soft = brain & ~bone
    smooth = _within(image, soft, geometry, 0.8)
    mode = _mode(smooth[soft & (smooth > 15.0) & (smooth < 60.0)])

    # Vessels by their enhancement; the noise of the area must not make vessels of noisy tissue.
    area = enhancement.area
    plain = soft & (smooth > 0.6 * mode) & (smooth < mode + 15.0)
    middle = float(np.median(area[plain])) if plain.any() else 0.0
    spread = 1.4826 * float(np.median(np.abs(area[plain] - middle))) if plain.any() else 0.0
    vessels = soft & (area > max(VESSEL_FACTOR * middle, middle + 4.0 * spread))

    csf = _fluid(image, soft, mode, geometry) & ~vessels
    dense = soft & ~vessels & (smooth > mode + DENSE_ABOVE_MODE_HU)
    tissue = soft & ~vessels & ~csf & ~dense
    tissue = _without_islands(tissue, geometry)
    split = _two_class_threshold(_within(image, tissue, geometry, 1.5)[tissue]) if tissue.any() else mode
    level = _within(image, tissue, geometry, 1.5)
    gray = tissue & (level >= split)
    return TissueClasses(gray, tissue & ~gray, csf, vessels, bone, tissue)


def _fluid(image: np.ndarray, soft: np.ndarray, mode: float, geometry: Geometry) -> np.ndarray:
    """Voxels at least half filled with fluid.

    What is half fluid lies half-way between fluid and the tissue beside it, which is denser where gray matter enhances and less dense
    where it is white: so each voxel is compared with the solid tissue around it, not with one threshold for all.
    """
    solid = soft & (image > SOLID_SHARE * mode)
    beside = np.clip(_within(image, solid, geometry, SURROUNDINGS_MM), LOWEST_TISSUE * mode, HIGHEST_TISSUE * mode)
    return soft & (image - FLUID_HU < FLUID_SHARE * (beside - FLUID_HU))


def _within(values: np.ndarray, mask: np.ndarray, geometry: Geometry, sigma_mm: float) -> np.ndarray:
    """In-plane Gaussian mean over the voxels of a mask only (normalized convolution), float32; 0 far from the mask."""
    sigma = [0.0] + [max(0.5, sigma_mm / s) for s in geometry.spacing[1::-1]]
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    return ndimage.gaussian_filter(np.where(mask, values, 0.0).astype(np.float32), sigma) / np.maximum(weight, 1e-3)


def _mode(values: np.ndarray) -> float:
    """Most common level, HU, of the brain's tissue."""
    if values.size < 50:
        return 33.0
    counts, edges = np.histogram(values, bins=90, range=(15.0, 60.0))
    counts = ndimage.gaussian_filter1d(counts.astype(float), 4.0)
    return float(edges[int(np.argmax(counts))] + 0.25)


def _two_class_threshold(values: np.ndarray) -> float:
    """Threshold between gray and white matter by Otsu's criterion (IEEE Trans Syst Man Cybern 1979;9:62-66)."""
    low, high = np.percentile(values, [2.0, 98.0])
    counts, edges = np.histogram(values, bins=128, range=(low, max(high, low + 1.0)))
    centers = 0.5 * (edges[1:] + edges[:-1])
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centers)
    between = below * above * (sums / np.maximum(below, 1) - (sums[-1] - sums) / np.maximum(above, 1)) ** 2
    return float(edges[int(np.argmax(between)) + 1])


def _without_islands(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The mask without connected parts under half a milliliter (rims of sulci, septa)."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    keep = np.bincount(labels.ravel()) * geometry.voxel_volume_ml >= SMALLEST_ISLAND_ML
    keep[0] = False
    return keep[labels]
