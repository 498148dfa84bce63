"""Spatial filters for tissue curves, in component space and within the slice.

A curve is a handful of principal components plus a few directions that hold noise alone, so filtering these channels filters the
curve, and what the noise channels keep is the noise that is left.  Only tissue takes part: voxels of vessels, cerebrospinal fluid
and bone neither give nor receive (normalized convolution).

The default filter asks two questions with different reach.  How a curve runs in time (delay, dispersion, transit) changes slowly
across a territory, so its shape is averaged widely, over neighbors whose curves are alike.  How high it is changes from gray to
white matter within a voxel or two, so its height is averaged less widely and only over neighbors that also have the same mean CT
number, which tells gray from white matter far better than perfusion does.  The denoised curve is the shape times the height.

References
----------
Mendrik AM et al., Phys Med Biol 2011;56:3857-3872 (TIPS, similarity of time curves).
Tomasi C, Manduchi R, ICCV 1998 (bilateral filter).  Knutsson H, Westin CF, CVPR 1993 (normalized convolution).
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import correlate1d

from .calling_thread_product import LARGEST
from .perfusion_options import Denoising, EngineOptions

DEFAULT_SMOOTHING_MM = {Denoising.BILATERAL: 6.0, Denoising.TIPS: 3.0, Denoising.GAUSSIAN: 2.5, Denoising.NONE: 0.0}

FIRST_LOOK_MM = 2.0
"""Gaussian under which curves are first compared."""

HEIGHT_SHARE = 2.0 / 3.0
"""Reach of the average of heights, as a fraction of the reach of the average of shapes."""

CURVE_RANGE = 6.0
"""Curves weigh exp(-1/2) when they differ by this many standard deviations of the noise left in them."""

MEAN_RANGE_HU = 2.0
"""The same for mean CT numbers, HU; half the noise of the mean is added in quadrature four times over."""

GUIDE_COMPONENTS = 4
"""Principal components in which curves are compared; later ones hold more noise than difference."""

BLUR_VARIANCE = 1.3
"""Factor on the noise variance after filtering, for the real differences between the voxels averaged."""

NOISE_MAP_MM = 5.0
SOURCE_MM = 1.7
"""Smaller pixels are binned to about this size where they serve as neighbors; the voxels averaged for stay as they are."""

TILE = 8
BATCH = 8
"""Pixels along the edge of a tile, and tiles whose weights are worked out together."""


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


def denoise_slice(channels, count: int, mean_hu, frames: int, mask, tissue, spacing, options: EngineOptions = EngineOptions()) -> DenoisedSlice:
    """Filter one slice.

    Parameters
    ----------
    channels : float32 ndarray (C, J, I)
        `count` principal components, then noise directions; 0 outside `mask`.
    mean_hu : float32 ndarray (J, I)
        Mean over all `frames`, HU.
    mask, tissue : bool ndarray (J, I)
        Voxels with data, and those of them that may be mixed; the others keep their curves.
    spacing : (float, float)
        Millimeters along J and I.
    options : EngineOptions
        `denoising` and `smoothing_mm` are used.
    """
    raw = noise_map(channels[count:], mask, spacing)
    width = DEFAULT_SMOOTHING_MM[options.denoising] if options.smoothing_mm is None else options.smoothing_mm
    if options.denoising == Denoising.NONE or width <= 0 or not tissue.any():
        return DenoisedSlice(channels[:count], raw, raw)
    level = float(np.sqrt(raw[tissue].mean()))
    height = None
    if options.denoising == Denoising.GAUSSIAN:
        filtered = masked_gaussian(channels, tissue, tuple(width / s for s in spacing))
    elif options.denoising == Denoising.TIPS:
        filtered = similarity_filter(channels, guide(channels, count, tissue), tissue, spacing, width)
    else:
        light = masked_gaussian(channels, tissue, tuple(FIRST_LOOK_MM / s for s in spacing))
        first = similarity_filter(channels, guide(light, count, tissue), tissue, spacing, width)
        compared = guide(first, count, tissue)
        filtered = similarity_filter(channels, compared, tissue, spacing, width)
        mean_range = np.hypot(MEAN_RANGE_HU, 2.0 * level / np.sqrt(frames))
        centered = np.where(tissue, mean_hu - mean_hu[tissue].mean(), 0.0) / np.float32(mean_range)
        height = similarity_filter(channels, np.concatenate([compared, centered[None]]), tissue, spacing, width * HEIGHT_SHARE)
    variance = BLUR_VARIANCE * noise_map(filtered[count:], tissue, spacing)
    components, height_variance = filtered[:count], variance
    if height is not None:
        energy = np.maximum(np.einsum("cji,cji->ji", components, components), 1e-6)
        ratio = np.einsum("cji,cji->ji", components, height[:count]) / energy
        # Both averages come from the same place; a ratio outside these bounds is noise.
        components = components * np.clip(ratio, 0.25, 4.0)
        height_variance = BLUR_VARIANCE * noise_map(height[count:], tissue, spacing)
    return DenoisedSlice(
        np.where(tissue, components, channels[:count]), np.where(tissue, variance, raw), np.where(tissue, height_variance, raw))


def noise_map(noise, tissue, spacing) -> np.ndarray:
    """Local variance (J, I) of noise channels (Q, J, I), averaged over the neighborhood; 0 outside `tissue`."""
    if noise.shape[0] == 0 or not tissue.any():
        return np.zeros(tissue.shape, np.float32)
    energy = np.mean(noise * noise, axis=0, keepdims=True)
    return masked_gaussian(energy, tissue, tuple(NOISE_MAP_MM / s for s in spacing))[0]


def guide(channels, count: int, tissue) -> np.ndarray:
    """Leading components in units of `CURVE_RANGE` times the noise in them, (G, J, I)."""
    noise = channels[count:][:, tissue]
    level = np.sqrt(np.mean(noise * noise)) if noise.size else 1.0
    return channels[: min(count, GUIDE_COMPONENTS)] / np.float32(max(CURVE_RANGE * level, 1e-2))


def gaussian_kernel(sigma: float) -> np.ndarray:
    """Weights of a Gaussian of `sigma` samples, cut at 2.5 sigma, sum 1."""
    reach = int(np.ceil(2.5 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    return (weights / weights.sum()).astype(np.float32)


def masked_gaussian(channels, tissue, sigma) -> np.ndarray:
    """Normalized Gaussian smoothing of (C, J, I) within `tissue` (J, I); `sigma` is (j, i) in pixels.  0 outside tissue."""
    stack = np.concatenate([np.where(tissue, channels, 0.0), tissue[None]]).astype(np.float32)
    for axis, width in ((1, sigma[0]), (2, sigma[1])):
        if width > 0.05:
            stack = correlate1d(stack, gaussian_kernel(width), axis=axis, mode="constant")
    return np.where(tissue, stack[:-1] / np.maximum(stack[-1], 1e-6), 0.0).astype(np.float32)


def _binned(stack, steps):
    """Sums of (C, J, I) over bins of `steps` (j, i) pixels; the shape has to be divisible."""
    count, rows, columns = stack.shape
    return stack.reshape(count, rows // steps[0], steps[0], columns // steps[1], steps[1]).sum(axis=(2, 4))


def similarity_filter(channels, like, tissue, spacing, sigma_mm: float) -> np.ndarray:
    """Average channels over neighbors that lie close and look alike.

    Parameters
    ----------
    channels : float32 ndarray (C, J, I)
    like : float32 ndarray (G, J, I)
        A neighbor at distance d in this space weighs exp(-d^2 / 2).
    tissue : bool ndarray (J, I)
    spacing : (float, float)
        Millimeters along J and I.
    sigma_mm : float
        Spatial standard deviation, mm; the window reaches twice as far.

    Returns
    -------
    float32 ndarray (C, J, I), 0 outside tissue

    Notes
    -----
    For a tile of pixels p and its surroundings s the exponents are one matrix product of (g, -|g|^2/2, 1) with (g, 1, -|g|^2/2),
    and the averages are another, of the weights with the channels: far less work than shifting whole images past each other.
    """
    count, rows, columns = channels.shape
    steps = tuple(next(b for b in (1, 2, 4, 8) if b * s > 0.7 * SOURCE_MM or b == 8) for s in spacing)
    sigma = tuple(sigma_mm / (s * b) for s, b in zip(spacing, steps, strict=True))
    reach = tuple(max(1, int(np.ceil(2.0 * s))) for s in sigma)
    tiles = (-(-rows // TILE), -(-columns // TILE))
    fill = [(0, 0), (0, tiles[0] * TILE - rows), (0, tiles[1] * TILE - columns)]
    inside = np.pad(tissue, fill[1:])
    # Powers of two instead of e: the fastest exponential.
    scaled = np.pad(like * np.float32(np.sqrt(np.log2(np.e))), fill) * inside
    values = np.pad(channels, fill) * inside

    amount = _binned(inside[None].astype(np.float32), steps)
    share = 1.0 / np.maximum(amount, 1.0)
    source_like = _binned(scaled, steps) * share
    source_half = np.where(amount > 0, -0.5 * np.sum(source_like**2, axis=0, keepdims=True), -1e4)
    border = [(0, 0)] + [(r, r) for r in reach]
    around = np.pad(np.concatenate([source_like, np.ones_like(amount), source_half]), border)
    around[-1] = np.pad(source_half[0], border[1:], constant_values=-1e4)
    source = np.pad(np.concatenate([_binned(values, steps), amount]), border)

    edge = tuple(TILE // b for b in steps)
    window = tuple(e + 2 * r for e, r in zip(edge, reach, strict=True))
    fall = []
    for size, r, b, s in zip(window, reach, steps, sigma, strict=True):
        target = (np.arange(TILE) + 0.5) / b - 0.5
        fall.append(-0.5 * np.log2(np.e) * ((np.arange(size)[None, :] - r - target[:, None]) / max(s, 1e-6)) ** 2)
    spatial = (fall[0][:, None, :, None] + fall[1][None, :, None, :]).reshape(TILE * TILE, -1).astype(np.float32)

    around = sliding_window_view(around, window, axis=(1, 2))[:, :: edge[0], :: edge[1]]
    source = sliding_window_view(source, window, axis=(1, 2))[:, :: edge[0], :: edge[1]]
    own = np.concatenate([scaled, -0.5 * np.sum(scaled**2, axis=0, keepdims=True), inside[None]]).astype(np.float32)
    own = own.reshape(own.shape[0], tiles[0], TILE, tiles[1], TILE).transpose(1, 3, 2, 4, 0)
    busy = np.argwhere(inside.reshape(tiles[0], TILE, tiles[1], TILE).any(axis=(1, 3)))
    result = np.zeros((count, tiles[0], TILE, tiles[1], TILE), np.float32)
    taken = max(1, LARGEST // spatial.size)
    for at in range(0, len(busy), BATCH):
        a, b = busy[at : at + BATCH].T
        here = np.ascontiguousarray(own[a, b]).reshape(len(a), TILE * TILE, -1)
        there = around[:, a, b].reshape(here.shape[2], len(a), -1).transpose(1, 0, 2)
        weights = np.matmul(here, there)
        weights += spatial
        # Far below -60 powers of two turn denormal, which is many times slower and changes nothing.
        np.maximum(weights, -60.0, out=weights)
        np.exp2(weights, out=weights)
        given = np.ascontiguousarray(source[:, a, b].reshape(count + 1, len(a), -1).transpose(1, 2, 0))
        sums = [np.matmul(weights, given[:, :, first : first + taken]) for first in range(0, count + 1, taken)]
        sums = np.concatenate(sums, axis=2)
        mean = sums[:, :, :-1] / np.maximum(sums[:, :, -1:], 1e-20)
        result[:, a, :, b, :] = mean.reshape(len(a), TILE, TILE, count).transpose(0, 3, 1, 2)
    return result.reshape(count, tiles[0] * TILE, tiles[1] * TILE)[:, :rows, :columns] * tissue
