"""Slices side by side: which ones, how they are cropped, and their pixels at the right aspect.

Everything here is numpy; `pictures.py` puts frames, color bars and marks around it.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, sparse

from .orientation import RadiologicalView

MOST_TILES = 24


@dataclass(frozen=True)
class TileLayout:
    """Where slices lie in a mosaic, in pixels.

    Attributes
    ----------
    view : RadiologicalView
    slices : tuple of int
        Shown slices, inferior to superior.
    crop : ((row0, row1), (column0, column1))
        Half-open voxel ranges shown of every slice.
    columns : int
        Tiles in a row of the mosaic.
    tile_height, tile_width : int
        Pixels of one tile's image.
    label_height, gap : int
        Pixels of the strip under each tile, and between tiles.
    """

    view: RadiologicalView
    slices: tuple[int, ...]
    crop: tuple[tuple[int, int], tuple[int, int]]
    columns: int
    tile_height: int
    tile_width: int
    label_height: int = 30
    gap: int = 4

    @property
    def rows(self) -> int:
        return -(-len(self.slices) // self.columns)

    @property
    def width(self) -> int:
        return self.columns * (self.tile_width + self.gap) - self.gap

    @property
    def height(self) -> int:
        return self.rows * (self.tile_height + self.label_height + self.gap) - self.gap

    @property
    def positions_mm(self) -> np.ndarray:
        """Head-to-foot position of each shown slice, LPS z in mm."""
        return self.view.slice_positions_mm[list(self.slices)]

    def corner(self, number: int) -> tuple[int, int]:
        """(left, top) pixel of tile `number`."""
        row, column = divmod(number, self.columns)
        return column * (self.tile_width + self.gap), row * (self.tile_height + self.label_height + self.gap)

    def sample(self, values: np.ndarray) -> np.ndarray:
        """(tiles, H, W) float32 pixels of an array (K, J, I) on the view's grid."""
        return resampled(self.view.apply(values)[list(self.slices)], *self.crop, self.tile_height, self.tile_width)

    def sample_within(self, values: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of `values` averaged over the voxels of `mask` only, and (tiles, H, W) bool where the mask is.

        Zeros outside the mask never bleed into its border.
        """
        mask = np.asarray(mask, np.float32)
        share = self.sample(mask)
        return self.sample(np.where(mask > 0, values, 0)) / np.maximum(share, 1e-6), share >= 0.5

    def mosaic(self, tiles: np.ndarray, background: int = 0) -> np.ndarray:
        """(height, width, 3) uint8 picture of RGB tiles (tiles, H, W, 3)."""
        picture = np.full((self.height, self.width, 3), background, np.uint8)
        for number, tile in enumerate(tiles):
            left, top = self.corner(number)
            picture[top : top + self.tile_height, left : left + self.tile_width] = tile
        return picture


def lay_out(view: RadiologicalView, mask: np.ndarray, full_width: int, *, per_row: int = 8, widest_tile: int = 250, margin_mm: float = 4.0,
            most: int = MOST_TILES) -> TileLayout:
    """Arrange the slices of `view` that `mask` (K, J, I) reaches.

    Parameters
    ----------
    view : RadiologicalView
    mask : ndarray
        What must be seen (the brain); everything when empty.
    full_width : int
        Pixels the mosaic may be wide.
    per_row, widest_tile : int
        Tiles in a row at most, and pixels one tile may be wide.
    margin_mm : float
        Shown around the mask.
    most : int
        Tiles at most; of more slices every n-th is shown.
    """
    shown = view.apply(np.asarray(mask)) > 0
    if not shown.any():
        shown = np.ones(view.shape, bool)
    area = shown.sum(axis=(1, 2))
    slices = np.flatnonzero(area >= 0.02 * area.max())
    if len(slices) > most:
        # Whole steps, so that the distance between neighbors in the picture is the same everywhere.
        step = -(-len(slices) // most)
        slices = slices[(len(slices) - 1) % step // 2 :: step]
    crop = tuple(
        bounds(shown.any(axis=(0, 2 if axis == 1 else 1)), margin_mm / view.spacing[axis], view.shape[axis]) for axis in (1, 2)
    )
    height_mm, width_mm = ((stop - start) * view.spacing[axis] for axis, (start, stop) in zip((1, 2), crop, strict=True))
    rows = -(-len(slices) // per_row)
    columns = -(-len(slices) // rows)
    gap = TileLayout.gap
    tile_width = min(widest_tile, (full_width + gap) // columns - gap)
    tile_height = max(8, round(tile_width * height_mm / width_mm))
    if tile_height > 1.6 * widest_tile:  # a tall, narrow field must not make an endless picture
        tile_width, tile_height = max(8, round(1.6 * widest_tile * width_mm / height_mm)), round(1.6 * widest_tile)
    return TileLayout(view, tuple(int(s) for s in slices), crop, columns, tile_height, tile_width)


def bounds(occupied: np.ndarray, margin: float, size: int) -> tuple[int, int]:
    """Half-open range of the True entries of a 1-D array, widened by `margin` entries within 0...size."""
    where = np.flatnonzero(occupied)
    return max(0, int(np.floor(where[0] - margin))), min(size, int(np.ceil(where[-1] + 1 + margin)))


def resampled(planes: np.ndarray, rows: tuple[int, int], columns: tuple[int, int], height: int, width: int) -> np.ndarray:
    """(..., height, width) float32 pixels of the half-open voxel ranges rows x columns of planes (..., J, I).

    Linear where pixels are finer than voxels, area-weighted where they are coarser; edges repeat.
    """
    planes = np.asarray(planes, np.float32)
    # The weights are nearly all zero: sparse products are faster than dense ones, and start no threads.
    across = (_weights(planes.shape[-1], *columns, width) @ planes.reshape(-1, planes.shape[-1]).T).T
    across = across.reshape(*planes.shape[:-1], width)
    turned = np.moveaxis(across, -2, 0)
    down = _weights(planes.shape[-2], *rows, height) @ turned.reshape(len(turned), -1)
    return np.moveaxis(down.reshape(height, *turned.shape[1:]), 0, -2)


def _weights(size: int, start: float, stop: float, pixels: int) -> sparse.csr_array:
    """(pixels, size) weights that read `pixels` even samples of voxels start...stop from an axis of `size` voxels."""
    step = (stop - start) / pixels
    centers = np.clip(start - 0.5 + (np.arange(pixels) + 0.5) * step, 0.0, size - 1.0)
    weights = np.clip(1.0 - np.abs(centers[:, None] - np.arange(size)) / max(1.0, step), 0.0, None)
    return sparse.csr_array((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))


def outline(mask: np.ndarray, thickness: int = 2) -> np.ndarray:
    """The inner border of masks (tiles, H, W), `thickness` pixels wide, as bool."""
    structure = ndimage.generate_binary_structure(2, 1)[None]
    # The picture's own edge is no border of the mask.
    inner = ndimage.binary_erosion(mask, structure, iterations=thickness, border_value=1)
    return mask & ~inner
