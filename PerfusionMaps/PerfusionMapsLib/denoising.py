"""Noise reduction of tissue curves in component space.

A curve is a dozen principal components plus a few directions that hold noise alone, so filtering these channels filters the curve,
and what the noise channels keep is the noise that is left.  Only tissue takes part: voxels of vessels, cerebrospinal fluid and bone
neither give nor receive.

The default filter asks two questions with different reach.  How a curve runs in time (delay, dispersion, transit) changes slowly
across a territory, so its shape is averaged widely, also over the neighboring slices, over voxels whose curves are alike.  How high
it is changes from gray to white matter within a voxel or two, so its height is averaged less widely and only over neighbors that
also have the same mean CT number, which tells gray from white matter far better than perfusion does.  The denoised curve is the
shape times the height.

References
----------
Mendrik AM et al., Phys Med Biol 2011;56:3857-3872 (TIPS, similarity of time curves).
Wack DS et al., Med Phys 2014 (masking before smoothing).
"""

from dataclasses import dataclass

import numpy as np

from .perfusion_options import Denoising, EngineOptions
from .similarity_filter import Neighbors, bin_steps, masked_gaussian, neighbors, similarity_filter

DEFAULT_SMOOTHING_MM = {Denoising.BILATERAL: 5.0, Denoising.TIPS: 4.0, Denoising.GAUSSIAN: 2.5, Denoising.NONE: 0.0}

FIRST_LOOK_MM = 2.0
"""Gaussian under which curves are first compared."""

NARROW_SHARE = 2.0 / 3.0
"""Reach of the first pass and of the average of heights, as a fraction of the reach of the average of shapes."""

CURVE_RANGE = 6.0
"""Curves weigh exp(-1/2) when they differ by this many standard deviations of the noise left in them."""

MEAN_RANGE_HU = 3.0
"""The same for mean CT numbers, HU; twice the noise of the mean is added in quadrature."""

GUIDE_COMPONENTS = 4
"""Principal components in which curves are compared; later ones hold more noise than difference."""

HEIGHT_FLOOR = 8.0
"""Curves lower than about this many standard deviations of the noise are not raised to the height of others."""

SLAB_MM = 5.0
"""Thinner slices are added up to about this thickness where they serve as neighbors."""

BLUR_VARIANCE = 1.15
"""Factor on the noise variance after filtering, for the real differences between the voxels averaged."""

NOISE_MAP_MM = 5.0

LEAST_SIGNAL = 0.1
"""At least this share of a product of curves is taken for signal."""


@dataclass(frozen=True)
class SliceCurves:
    """One slice in component space.

    Attributes
    ----------
    channels : float32 ndarray (C, J, I)
        Principal components, then noise directions; 0 outside `mask`.
    count : int
        How many of them are components, P.
    mean_hu : float32 ndarray (J, I)
        Mean over all frames, HU.
    frames : int
    mask, tissue : bool ndarray (J, I)
        Voxels with data, and those of them that may be mixed; the others keep their curves.
    spacing : (float, float)
        Millimeters along J and I.
    """

    channels: np.ndarray
    count: int
    mean_hu: np.ndarray
    frames: int
    mask: np.ndarray
    tissue: np.ndarray
    spacing: tuple[float, float]


@dataclass(frozen=True)
class FirstPass:
    """What the first pass leaves for the second.

    Attributes
    ----------
    guide : float32 ndarray (G, J, I)
        Cleaned leading components, then the mean CT number, HU.
    level : float
        Noise left in a component of the guide, HU.
    mean_range : float
        Difference of mean CT numbers that weighs exp(-1/2), HU.
    raw_variance : float32 ndarray (J, I)
        Variance of the unfiltered noise, HU^2.
    layer : Neighbors
        The slice's channels and guide, binned.
    """

    guide: np.ndarray
    level: float
    mean_range: float
    raw_variance: np.ndarray
    layer: Neighbors


@dataclass(frozen=True)
class DenoisedSlice:
    """Filtered curves of a slice and the noise left in them.

    Attributes
    ----------
    components : float32 ndarray (P, J, I)
    variance : float32 ndarray (J, I)
        Of the noise in each component, HU^2.
    height_variance : float32 ndarray (J, I)
        Of the noise in the height of the curve (its norm), HU^2.
    """

    components: np.ndarray
    variance: np.ndarray
    height_variance: np.ndarray


def smoothing_mm(options: EngineOptions) -> float:
    """Standard deviation of the chosen filter, mm; 0 for none."""
    if options.denoising == Denoising.NONE:
        return 0.0
    return DEFAULT_SMOOTHING_MM[options.denoising] if options.smoothing_mm is None else float(options.smoothing_mm)


def noise_map(noise, tissue, spacing) -> np.ndarray:
    """Local variance (J, I) of noise channels (Q, J, I), averaged over the neighborhood; 0 outside `tissue`."""
    if noise.shape[0] == 0 or not tissue.any():
        return np.zeros(tissue.shape, np.float32)
    energy = np.mean(noise * noise, axis=0, keepdims=True)
    return masked_gaussian(energy, tissue, tuple(NOISE_MAP_MM / s for s in spacing))[0]


def _noise_level(noise, tissue) -> float:
    """Standard deviation of noise channels (Q, J, I) within `tissue`; never 0."""
    inside = noise[:, tissue]
    return max(float(np.sqrt(np.mean(inside * inside))) if inside.size else 1.0, 1e-3)


def first_pass(curves: SliceCurves, width_mm: float) -> FirstPass:
    """Clean a slice just enough to compare its curves; `width_mm` is the standard deviation of the whole filter."""
    count, tissue, spacing = curves.count, curves.tissue, curves.spacing
    compared = min(count, GUIDE_COMPONENTS)
    kept = np.concatenate([curves.channels[:compared], curves.channels[count:]])
    light = masked_gaussian(kept, tissue, tuple(FIRST_LOOK_MM / s for s in spacing))
    steps = bin_steps(spacing)
    layer = neighbors(kept, light[:compared], tissue, steps)
    scale = np.full(compared, 1.0 / (CURVE_RANGE * _noise_level(light[compared:], tissue)))
    first = similarity_filter(light[:compared], tissue, [(layer, 0.0)], spacing, NARROW_SHARE * width_mm, scale)
    raw = noise_map(curves.channels[count:], curves.mask, spacing)
    mean_noise = float(np.sqrt(raw[tissue].mean() / curves.frames)) if tissue.any() else 0.0
    guide = np.concatenate([first[:compared], np.where(tissue, curves.mean_hu, 0.0)[None]]).astype(np.float32)
    return FirstPass(
        guide,
        _noise_level(first[compared:], tissue),
        float(np.hypot(MEAN_RANGE_HU, 2.0 * mean_noise)),
        raw,
        neighbors(curves.channels, guide, tissue, steps),
    )


def second_pass(curves: SliceCurves, first: FirstPass, layers, width_mm: float) -> DenoisedSlice:
    """Average over `layers` ((Neighbors, distance in mm)): shapes widely, heights narrowly."""
    count, tissue, spacing = curves.count, curves.tissue, curves.spacing
    compared = first.guide.shape[0] - 1
    scale = np.full(compared + 1, 1.0 / (CURVE_RANGE * first.level))
    scale[-1] = 0.0
    leveled = [(_leveled(layer, compared, first.level), distance) for layer, distance in layers]
    shape = similarity_filter(first.guide, tissue, leveled, spacing, width_mm, scale)
    scale[-1] = 1.0 / first.mean_range
    height = similarity_filter(first.guide, tissue, layers, spacing, NARROW_SHARE * width_mm, scale)
    components = shape[:count]
    ratio = _height_over_shape(shape, height, curves)
    return DenoisedSlice(
        np.where(tissue, components * ratio, curves.channels[:count]),
        _variance(shape[count:] * ratio, curves, first.raw_variance),
        _variance(height[count:], curves, first.raw_variance),
    )


def _height_over_shape(shape, height, curves: SliceCurves) -> np.ndarray:
    """Factor (J, I) that brings averaged shapes (C, J, I) to the height of averaged heights (C, J, I).

    Both averages share noise, which would raise every product of them by its covariance in each component, most where curves are low;
    the noise channels show how much that is.
    """
    count = curves.count
    energy = np.einsum("cji,cji->ji", shape[:count], shape[:count])
    along = np.einsum("cji,cji->ji", shape[:count], height[:count])
    if curves.channels.shape[0] > count:
        smooth = tuple(NOISE_MAP_MM / s for s in curves.spacing)
        shared = np.stack([np.mean(shape[count:] * other[count:], axis=0) for other in (shape, height)])
        own, common = masked_gaussian(shared, curves.tissue, smooth)
        energy = np.maximum(energy - count * own, LEAST_SIGNAL * energy)
        along = np.maximum(along - count * common, LEAST_SIGNAL * along)
    return np.maximum(along / np.maximum(energy, 1e-12), 0.0)


def _leveled(layer: Neighbors, compared: int, level: float) -> Neighbors:
    """The layer with its curves brought to the same height.

    Otherwise tall curves would lead the average, and where flow falls tall means early.  Heights are kept above the noise.
    """
    mean = layer.like[:compared] / np.maximum(layer.amount, 1.0)
    height = np.sqrt(np.einsum("gji,gji->ji", mean, mean) + (HEIGHT_FLOOR * level) ** 2)
    return Neighbors(layer.amount, layer.values / height, layer.like)


def _variance(noise, curves: SliceCurves, raw):
    return np.where(curves.tissue, BLUR_VARIANCE * noise_map(noise, curves.tissue, curves.spacing), raw)


def single_pass(curves: SliceCurves, options: EngineOptions) -> DenoisedSlice:
    """The simpler filters: masked Gaussian, TIPS, or none."""
    count, tissue, spacing = curves.count, curves.tissue, curves.spacing
    width = smoothing_mm(options)
    raw = noise_map(curves.channels[count:], curves.mask, spacing)
    if width <= 0 or not tissue.any():
        return DenoisedSlice(curves.channels[:count], raw, raw)
    if options.denoising == Denoising.TIPS:
        like = curves.channels[: min(count, GUIDE_COMPONENTS)]
        layer = neighbors(curves.channels, like, tissue, bin_steps(spacing))
        scale = np.full(like.shape[0], 1.0 / (CURVE_RANGE * _noise_level(curves.channels[count:], tissue)))
        filtered = similarity_filter(like, tissue, [(layer, 0.0)], spacing, width, scale)
    else:
        filtered = masked_gaussian(curves.channels, tissue, tuple(width / s for s in spacing))
    variance = _variance(filtered[count:], curves, raw)
    return DenoisedSlice(np.where(tissue, filtered[:count], curves.channels[:count]), variance, variance)


def slabs(positions_mm, groups) -> list[list[int]]:
    """Slices that serve as one layer of neighbors: runs of one group, up to about `SLAB_MM` thick.

    Parameters
    ----------
    positions_mm : ndarray (K,)
        Position of each slice along the slice normal, mm, ascending or descending.
    groups : ndarray (K,)
        Slices of different groups (scan times, table positions) are never added up.
    """
    found: list[list[int]] = []
    for k in range(len(positions_mm)):
        run = found[-1] if found else None
        if (
            run is not None
            and groups[run[0]] == groups[k]
            and abs(positions_mm[k] - positions_mm[run[0]]) < SLAB_MM - 0.5 * abs(positions_mm[k] - positions_mm[k - 1])
        ):
            run.append(k)
        else:
            found.append([k])
    return found
