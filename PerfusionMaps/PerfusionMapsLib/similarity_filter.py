"""A masked bilateral filter as matrix products: voxels average over neighbors that lie close and look alike.

References
----------
Tomasi C, Manduchi R, ICCV 1998 (bilateral filter).  Knutsson H, Westin CF, CVPR 1993 (normalized convolution).
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import correlate1d

from .calling_thread_product import LARGEST

SOURCE_MM = 1.7
"""Smaller pixels are binned to about this size where they serve as neighbors; the voxels averaged for stay as they are."""

REACH = 1.5
"""Windows reach this many standard deviations of the spatial weight."""

TILE = 8
BATCH = 8
"""Pixels along the edge of a tile, and tiles whose weights are worked out together."""


@dataclass(frozen=True)
class Neighbors:
    """Voxels of one slice, or of several added up, in bins within the plane.

    Attributes
    ----------
    amount : float32 ndarray (j, i)
        Tissue voxels in each bin.
    values : float32 ndarray (C, j, i)
        Sums over them of the channels to be averaged.
    like : float32 ndarray (G, j, i)
        Sums over them of the features that are compared.
    """

    amount: np.ndarray
    values: np.ndarray
    like: np.ndarray

    def __add__(self, other: "Neighbors") -> "Neighbors":
        return Neighbors(self.amount + other.amount, self.values + other.values, self.like + other.like)


def bin_steps(spacing) -> tuple[int, int]:
    """Pixels along J and I that make a bin: 1, 2, 4 or 8, for pixels of `spacing` (j, i) mm."""
    return tuple(next(b for b in (1, 2, 4, 8) if b * s > 0.7 * SOURCE_MM or b == 8) for s in spacing)


def neighbors(values, like, tissue, steps) -> Neighbors:
    """Bin channels (C, J, I) and features (G, J, I) of the voxels of `tissue` (J, I)."""

    def binned(stack):
        rows, columns = (-(-n // TILE) * TILE for n in tissue.shape)
        stack = np.pad(stack * tissue, [(0, 0), (0, rows - tissue.shape[0]), (0, columns - tissue.shape[1])])
        total = np.zeros((stack.shape[0], rows // steps[0], columns // steps[1]), np.float32)
        for a in range(steps[0]):
            for b in range(steps[1]):
                total += stack[:, a :: steps[0], b :: steps[1]]
        return total

    return Neighbors(binned(np.ones((1, 1, 1), np.float32))[0], binned(values), binned(like))


def similarity_filter(like, tissue, layers, spacing, sigma_mm: float, scale) -> np.ndarray:
    """Average over neighbors that lie close and look alike.

    Parameters
    ----------
    like : float32 ndarray (G, J, I)
        Features of the voxels to average for.
    tissue : bool ndarray (J, I)
    layers : sequence of (Neighbors, float)
        Where neighbors come from, and the distance in mm of each layer from this slice.
    spacing : (float, float)
        Millimeters along J and I.
    sigma_mm : float
        Spatial standard deviation, mm.
    scale : float32 ndarray (G,)
        Features times `scale` at distance d weigh exp(-d^2 / 2).

    Returns
    -------
    float32 ndarray (C, J, I), 0 outside tissue

    Notes
    -----
    For a tile of voxels p and its surroundings s the exponents are one matrix product of (g, -|g|^2/2, 1) with (g, 1, -|g|^2/2),
    and the averages are another, of the weights with the channels: far less work than shifting whole images past each other.
    """
    rows, columns = tissue.shape
    steps = bin_steps(spacing)
    sigma = tuple(sigma_mm / (s * b) for s, b in zip(spacing, steps, strict=True))
    reach = tuple(max(1, int(np.ceil(REACH * s))) for s in sigma)
    tiles = (-(-rows // TILE), -(-columns // TILE))
    # Powers of two instead of e: the fastest exponential.
    scale = (np.asarray(scale) * np.sqrt(np.log2(np.e))).astype(np.float32)[:, None, None]
    inside = np.pad(tissue, [(0, n * TILE - size) for n, size in zip(tiles, tissue.shape, strict=True)])
    own = np.pad(like, [(0, 0), (0, inside.shape[0] - rows), (0, inside.shape[1] - columns)]) * (scale * inside)
    own = np.concatenate([own, -0.5 * np.sum(own**2, axis=0, keepdims=True), inside[None]]).astype(np.float32)
    own = own.reshape(-1, tiles[0], TILE, tiles[1], TILE).transpose(1, 3, 2, 4, 0)
    edge = tuple(TILE // b for b in steps)
    window = tuple(e + 2 * r for e, r in zip(edge, reach, strict=True))
    prepared = [_windows(layer, scale, reach, window, edge) for layer, _ in layers]
    spatial = _spatial_exponents(window, reach, steps, sigma)
    offsets = [np.float32(-0.5 * np.log2(np.e) * (distance / sigma_mm) ** 2) for _, distance in layers]

    count = layers[0][0].values.shape[0]
    result = np.zeros((count, tiles[0], TILE, tiles[1], TILE), np.float32)
    busy = np.argwhere(inside.reshape(tiles[0], TILE, tiles[1], TILE).any(axis=(1, 3)))
    taken = max(1, LARGEST // spatial.size)
    for at in range(0, len(busy), BATCH):
        a, b = busy[at : at + BATCH].T
        here = np.ascontiguousarray(own[a, b]).reshape(len(a), TILE * TILE, -1)
        sums = np.zeros((len(a), TILE * TILE, count + 1), np.float32)
        for (around, source), offset in zip(prepared, offsets, strict=True):
            there = around[:, a, b].reshape(here.shape[2], len(a), -1).transpose(1, 0, 2)
            weights = np.matmul(here, there)
            weights += spatial + offset
            # Far below -60 powers of two turn denormal, which is many times slower and changes nothing.
            np.clip(weights, -60.0, 60.0, out=weights)
            np.exp2(weights, out=weights)
            given = np.ascontiguousarray(source[:, a, b].reshape(count + 1, len(a), -1).transpose(1, 2, 0))
            for first in range(0, count + 1, taken):
                sums[:, :, first : first + taken] += np.matmul(weights, given[:, :, first : first + taken])
        mean = sums[:, :, :-1] / np.maximum(sums[:, :, -1:], 1e-20)
        result[:, a, :, b, :] = mean.reshape(len(a), TILE, TILE, count).transpose(0, 3, 1, 2)
    return result.reshape(count, tiles[0] * TILE, tiles[1] * TILE)[:, :rows, :columns] * tissue


def _windows(layer: Neighbors, scale, reach, window, edge):
    """Windows onto the features (g, 1, -|g|^2/2) and onto the channels and amounts of one layer, one window a tile."""
    seen = layer.amount > 0
    like = layer.like * (scale / np.where(seen, layer.amount, 1.0))
    half = np.where(seen, -0.5 * np.sum(like**2, axis=0), -1e4)
    border = [(0, 0)] + [(r, r) for r in reach]
    around = np.pad(np.concatenate([like, np.ones_like(half)[None], half[None]]).astype(np.float32), border)
    around[-1] = np.pad(half, border[1:], constant_values=-1e4)
    source = np.pad(np.concatenate([layer.values, layer.amount[None]]), border)
    return tuple(sliding_window_view(v, window, axis=(1, 2))[:, :: edge[0], :: edge[1]] for v in (around, source))


def _spatial_exponents(window, reach, steps, sigma) -> np.ndarray:
    """Base-2 logarithm of the spatial weight between the voxels of a tile and the bins of its window."""
    fall = []
    for size, r, b, s in zip(window, reach, steps, sigma, strict=True):
        target = (np.arange(TILE) + 0.5) / b - 0.5
        fall.append(-0.5 * np.log2(np.e) * ((np.arange(size)[None, :] - r - target[:, None]) / s) ** 2)
    return (fall[0][:, None, :, None] + fall[1][None, :, None, :]).reshape(TILE * TILE, -1).astype(np.float32)


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
