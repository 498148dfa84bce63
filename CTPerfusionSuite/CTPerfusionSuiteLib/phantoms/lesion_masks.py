"""Ischemia shaped by a drawn lesion: the mask becomes the core, penumbra surrounds it within the arterial territory."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.nifti import read_volume
from CTPerfusionSuiteLib.phantoms.head_source import pick_file
from CTPerfusionSuiteLib.phantoms.stroke_lesion import Collaterals, territory

NARROWEST_PENUMBRA_MM, PENUMBRA_PER_SIZE = 8.0, 6.5
"""The ischemia reaches this far outside the mask, plus this many mm per cube root of the mask's mL, before the territory's border."""
TRANSITION_MM = 4.0


@dataclass(frozen=True, eq=False)
class LesionMask:
    """A lesion in standard space.

    Attributes
    ----------
    distance : ndarray (K, J, I) float32
        Signed distance to the border of the mask in mm, positive inside.
    to_index : ndarray (4, 4)
        Standard LPS mm to voxel index (i, j, k).
    side : int
        1 left, 2 right: where most of it lies.
    occlusion : str
        "M1", "ACA" or "PCA": the territory that holds most of it.
    center : ndarray (3,)
        Standard mm.
    volume_ml : float
        Of the mask in standard space.
    name : str
    """

    distance: np.ndarray
    to_index: np.ndarray
    side: int
    occlusion: str
    center: np.ndarray
    volume_ml: float
    name: str

    def severity(self, grade: Collaterals, x, y, z) -> np.ndarray:
        """Depth of ischemia 0-1 (float32) at standard positions of any one shape."""
        i, j, k = (self.to_index[a, 0] * x + self.to_index[a, 1] * y + self.to_index[a, 2] * z + self.to_index[a, 3] for a in range(3))
        inside = ndimage.map_coordinates(self.distance, [k, j, i], order=1, mode="constant", cval=-200.0)
        # Flow has fallen half way outside the drawn border, so that inside it is below the core's threshold.
        edge = min(grade.half_flow_at + 0.14, 0.985)
        deep = edge + (1.0 - edge) * np.clip(inside / TRANSITION_MM, 0.0, 1.0)
        around = edge * np.clip(1.0 + inside / (NARROWEST_PENUMBRA_MM + PENUMBRA_PER_SIZE * self.volume_ml ** (1.0 / 3.0)), 0.0, 1.0)
        s = 1.0 if self.side == 1 else -1.0
        limits = np.maximum(territory(self.occlusion, s * x, y, z), 1.0 / (1.0 + np.exp(np.clip(-inside / 2.0, -30.0, 30.0))))
        return (np.where(inside > 0, deep, around) * limits).astype(np.float32)


def read_lesion(path: Path, seed: int) -> LesionMask:
    """A lesion mask in standard (MNI) space; from a folder the seed picks one.

    Raises
    ------
    RequestRefused, DataRefused
    """
    file = pick_file(Path(path), seed)
    volume = read_volume(file)
    mask = volume.values > 0.5
    if not mask.any():
        raise DataRefused(f"the lesion mask '{file.name}' is empty; give one with a lesion")
    if mask.mean() > 0.5:
        raise DataRefused(f"the lesion mask '{file.name}' covers most of its image; it is no lesion in standard space")
    spacing = volume.geometry.spacing[::-1]
    distance = ndimage.distance_transform_edt(mask, spacing) - ndimage.distance_transform_edt(~mask, spacing)
    points = volume.geometry.to_lps(np.argwhere(mask)[:, ::-1])
    side = 1 if np.count_nonzero(points[:, 0] > 0) * 2 >= len(points) else 2
    s = 1.0 if side == 1 else -1.0
    shares = {name: float(territory(name, s * points[:, 0], points[:, 1], points[:, 2]).sum()) for name in ("M1", "ACA", "PCA")}
    return LesionMask(
        distance.astype(np.float32),
        np.linalg.inv(volume.geometry.matrix),
        side,
        max(shares, key=shares.get),
        points.mean(axis=0),
        len(points) * volume.geometry.voxel_volume_ml,
        file.name,
    )
