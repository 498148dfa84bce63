"""Voxels of a scan averaged to about the size that networks are trained with, and predictions brought back."""

from dataclasses import dataclass

import numpy as np

from CTPerfusionSuiteLib.volumes import Geometry

PIXEL_MM, SLICE_MM = 2.2, 5.0
"""What networks see: pixels from about 1.5 mm and slices from about 3.5 mm on, averaged from finer ones."""


@dataclass(frozen=True)
class VoxelBlocks:
    """Blocks of `slices` x `pixels` x `pixels` voxels of a fine grid; the last block of an axis may be incomplete.

    Attributes
    ----------
    fine : Geometry
    pixels, slices : int
    """

    fine: Geometry
    pixels: int = 1
    slices: int = 1

    @classmethod
    def of(cls, geometry: Geometry, slab_of_slice: np.ndarray | None = None) -> "VoxelBlocks":
        """Blocks near the networks' voxel size; slices are added up only where no table position ends within a block."""
        pixels = _factor(PIXEL_MM, max(geometry.spacing[:2]))
        slices = _factor(SLICE_MM, geometry.spacing[2])
        slabs = np.zeros(geometry.size[2], int) if slab_of_slice is None else np.asarray(slab_of_slice)
        while slices > 1 and any(len(set(slabs[k : k + slices].tolist())) > 1 for k in range(0, len(slabs), slices)):
            slices -= 1
        return cls(geometry, pixels, slices)

    @property
    def geometry(self) -> Geometry:
        """The grid of the blocks; an incomplete last block is as large as the others."""
        size, spacing = self.fine.size, self.fine.spacing
        step = (self.pixels, self.pixels, self.slices)
        return Geometry(
            tuple(-(-n // s) for n, s in zip(size, step, strict=True)),
            tuple(d * s for d, s in zip(spacing, step, strict=True)),
            tuple(self.fine.to_lps([(s - 1) / 2 for s in step])),
            self.fine.direction,
        )

    def members(self, k: int) -> slice:
        """Fine slices of block slice `k`."""
        return slice(k * self.slices, min((k + 1) * self.slices, self.fine.size[2]))

    def in_plane(self, values: np.ndarray) -> np.ndarray:
        """Sums over the blocks of a slice: (..., J, I) to (..., J', I'), float32."""
        if self.pixels == 1:
            return np.asarray(values, np.float32)
        p = self.pixels
        rows, columns = values.shape[-2:]
        padding = [(0, 0)] * (values.ndim - 2) + [(0, -rows % p), (0, -columns % p)]
        padded = np.pad(np.asarray(values, np.float32), padding)
        shape = (*values.shape[:-2], padded.shape[-2] // p, p, padded.shape[-1] // p, p)
        return padded.reshape(shape).sum(axis=(-3, -1))

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Means over the blocks of a volume (K, J, I), float32."""
        if self.pixels == self.slices == 1:
            return np.asarray(values, np.float32)
        planes = np.stack([self.in_plane(image) for image in values])
        counts = np.stack([self.in_plane(np.ones(values.shape[1:], np.float32))] * len(values))
        starts = np.arange(0, len(planes), self.slices)
        return np.add.reduceat(planes, starts) / np.add.reduceat(counts, starts)

    def majority(self, mask: np.ndarray) -> np.ndarray:
        """Blocks that lie at least half in a mask (K, J, I), bool."""
        return self.mean(mask) >= 0.5

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values (..., K', J', I') of the blocks on the fine grid (..., K, J, I), each voxel that of its block."""
        for axis, factor in ((-3, self.slices), (-2, self.pixels), (-1, self.pixels)):
            if factor > 1:
                values = np.repeat(values, factor, axis=axis)
        k, j, i = self.fine.shape
        return values[..., :k, :j, :i]

    def interpolated(self, values: np.ndarray) -> np.ndarray:
        """Values (..., K', J', I') of the blocks on the fine grid, linear between the centers of blocks, held beyond the outer ones."""
        values = np.asarray(values, np.float32)
        for axis, factor, count in zip((-3, -2, -1), (self.slices, self.pixels, self.pixels), self.fine.shape, strict=True):
            if factor == 1:
                continue
            place = np.clip((np.arange(count) - (factor - 1) / 2) / factor, 0.0, values.shape[axis] - 1)
            before = np.minimum(place.astype(int), max(values.shape[axis] - 2, 0))
            shape = [1] * values.ndim
            shape[axis] = count
            share = (place - before).astype(np.float32).reshape(shape)
            after = np.minimum(before + 1, values.shape[axis] - 1)
            values = np.take(values, before, axis) * (1 - share) + np.take(values, after, axis) * share
        return values


def _factor(wanted_mm: float, have_mm: float) -> int:
    """Voxels to a block: the number whose size is nearest to the wanted one in ratio."""
    exact = wanted_mm / have_mm
    below = max(1, int(exact))
    return below if exact / below <= (below + 1) / exact else below + 1
