"""Heads that come from files, brought into standard coordinates by their extent and their midline; they keep their own size."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from CTPerfusionSuiteLib.errors import RequestRefused
from CTPerfusionSuiteLib.phantoms.head_anatomy import (
    HU_OF_TISSUE,
    INTRACRANIAL,
    FineHead,
    HeadPlacement,
    sample_field,
    smooth_field,
)
from CTPerfusionSuiteLib.volumes import Geometry

IMAGE_NAMES = (".nii", ".nii.gz", ".nrrd", ".mha")
FRONT_MM, BACK_MM, TOP_MM, HALF_WIDTH_MM = -68.0, 100.0, 77.0, 65.0
"""Extent of the cerebrum in standard coordinates."""


@dataclass(frozen=True, eq=False)
class HeadSource:
    """An anatomy from files.

    Attributes
    ----------
    geometry : Geometry
        Of the arrays below.
    tissue : ndarray (K, J, I) of uint8
        `Tissue` of each voxel.
    inside : ndarray (K, J, I) of float32
        1 in the intracranial space, 0 outside.
    hu : ndarray (K, J, I) of float32, or None
        Real HU; None: typical HU of each tissue.
    veins : ndarray (K, J, I) of bool
        Lumen of dural sinuses and veins that the source shows; all False where it shows none.
    to_source : ndarray (4, 4)
        Standard mm to LPS mm of the source.
    scale : tuple of 3
        Standard mm per mm of this head, per axis.
    name : str
        File or folder it came from.
    """

    geometry: Geometry
    tissue: np.ndarray
    inside: np.ndarray
    hu: np.ndarray | None
    veins: np.ndarray
    to_source: np.ndarray
    scale: tuple[float, float, float]
    name: str

    def indices(self, x, y, z) -> list[np.ndarray]:
        """Continuous array indices [k, j, i] of standard coordinates of any one shape."""
        whole = np.linalg.inv(self.geometry.matrix) @ self.to_source
        i, j, k = (np.float32(whole[a, 0]) * x + np.float32(whole[a, 1]) * y + np.float32(whole[a, 2]) * z + np.float32(whole[a, 3])
                   for a in range(3))
        return [k, j, i]

    def surface(self, x, y, z):
        """Below 1 inside the skull, above outside; standard mm, any shapes that fit together."""
        where = np.broadcast_arrays(*self.indices(*np.broadcast_arrays(x, y, z)))
        return 1.5 - ndimage.map_coordinates(self.inside, where, order=1, mode="constant")

    def head(self, grid: Geometry, placement: HeadPlacement, rng: np.random.Generator) -> FineHead:
        """Sample on a fine grid; brain HU from labels get a slow natural variation."""
        x, y, z = placement.grid_coordinates(grid)
        where = self.indices(x, y, z)
        tissue = ndimage.map_coordinates(self.tissue, where, order=0, mode="constant")
        if self.hu is None:
            static = np.array([HU_OF_TISSUE.get(kind, 0.0) for kind in range(256)], np.float32)[tissue]
            values, step = smooth_field(rng, 40.0, 10.0)
            brain = np.isin(tissue, [int(kind) for kind in INTRACRANIAL])
            static[brain] += 0.8 * sample_field(values, step, x[brain], y[brain], z[brain])
        else:
            static = ndimage.map_coordinates(self.hu, where, order=1, mode="constant", cval=-1000.0)
        return FineHead(grid, tissue, static.astype(np.float32, copy=False), x, y, z, placement)

    def vein_voxels(self, head: FineHead) -> np.ndarray:
        """Flat fine voxels of the venous lumen that the source shows."""
        if not self.veins.any():
            return np.zeros(0, np.int64)
        return np.flatnonzero(ndimage.map_coordinates(self.veins.astype(np.uint8), self.indices(head.x, head.y, head.z), order=0).ravel())


def pick_file(path: Path, seed: int) -> Path:
    """`path` if it is a file, else one of the images in it, chosen by `seed`.

    Raises
    ------
    RequestRefused
    """
    if path.is_file():
        return path
    files = sorted(p for p in path.glob("*") if p.name.lower().endswith(IMAGE_NAMES)) if path.is_dir() else []
    if not files:
        raise RequestRefused(f"'{path}' holds no image (.nii, .nii.gz, .nrrd); give a file or a folder of them")
    return files[seed % len(files)]
