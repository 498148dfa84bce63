"""Heads from label maps of real people (FreeSurfer numbers)."""

from pathlib import Path

import numpy as np
from scipy import ndimage

from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.nifti import read_volume
from CTPerfusionSuiteLib.phantoms.head_anatomy import INTRACRANIAL, Tissue
from CTPerfusionSuiteLib.phantoms.head_source import BACK_MM, FRONT_MM, HALF_WIDTH_MM, IMAGE_NAMES, TOP_MM, HeadSource, pick_file
from CTPerfusionSuiteLib.phantoms.static_head_ct import ct_head, read_slices
from CTPerfusionSuiteLib.volumes import Geometry, Volume

ARTERY_LABEL, VEIN_LABEL = 502, 514
"""Vessels among the extracerebral labels 501-530 of Iacono's MIDA head model, which whole-head FreeSurfer label maps use."""

_LEFT, _RIGHT = (2, 3, 10, 11, 12), (41, 42, 49, 50, 51)
_OF_LABEL = {
    Tissue.AIR: (0, 501),
    Tissue.GRAY: (3, 42),
    Tissue.WHITE: (2, 41, 25, 57, 77, 85, 136, 137, 163, 164, 251, 252, 253, 254, 255),
    Tissue.VENTRICLE: (4, 5, 14, 15, 43, 44, 72, 213),
    Tissue.CSF: (24, 30, 62, ARTERY_LABEL, VEIN_LABEL),
    Tissue.CEREBELLUM: (7, 8, 46, 47),
    Tissue.DEEP_GRAY: (10, 11, 12, 13, 17, 18, 26, 28, 49, 50, 51, 52, 53, 54, 58, 60),
    Tissue.BRAINSTEM: (16, 512),
    Tissue.SOFT: (506, 508, 509, 511, 530),
    Tissue.FAT: (507,),
    Tissue.BONE: (515,),
    Tissue.MARROW: (516,),
}
THALAMUS_Z_MM = 7.0
"""Where the thalami lie in standard coordinates."""


def read_head(path: Path, seed: int) -> HeadSource:
    """A head from a label map or a non-contrast CT (NIfTI, or a folder of DICOM slices).

    Raises
    ------
    RequestRefused
        Nothing readable there.
    DataRefused
        It is neither a label map of a head nor a head CT.
    """
    path = Path(path)
    images = path.is_file() and path.name.lower().endswith(IMAGE_NAMES)
    if path.is_dir():
        images = any(p.name.lower().endswith(IMAGE_NAMES) for p in path.iterdir())
    if not images:
        return ct_head(read_slices(path), path.name)
    file = pick_file(path, seed)
    volume = read_volume(file)
    if float(volume.values.min()) < -500.0:
        return ct_head(volume, file.name)
    return label_map_head(volume, file.name)


def label_map_head(volume: Volume, name: str = "label map") -> HeadSource:
    """A head from FreeSurfer labels; extracerebral labels 501-530 are used where present, else skull and scalp are grown around.

    Raises
    ------
    DataRefused
    """
    labels = volume.values if np.issubdtype(volume.values.dtype, np.integer) else np.rint(volume.values).astype(np.int32)
    if labels.min() < 0 or labels.max() > 20000:
        raise DataRefused(f"'{name}' holds values outside 0 to 20000, no FreeSurfer labels; give a label map or a head CT")
    table = np.full(max(int(labels.max()), 2036) + 1, int(Tissue.WHITE), np.uint8)
    table[501:531] = int(Tissue.SOFT)
    table[1000:] = int(Tissue.GRAY)
    for kind, numbers in _OF_LABEL.items():
        table[list(numbers)] = int(kind)
    tissue = table[labels]
    left, right = np.isin(labels, _LEFT), np.isin(labels, _RIGHT)
    voxel_ml = volume.geometry.voxel_volume_ml
    if min(left.sum(), right.sum()) * voxel_ml < 200.0:
        raise DataRefused(f"'{name}' shows less than 200 mL of labeled hemisphere; give a whole-head FreeSurfer label map or a head CT")
    if not (labels >= 501).any():
        tissue = _grown_skull(tissue, volume.geometry)
    to_source, scale = _alignment(volume.geometry, left, right, np.isin(labels, (10, 49)))
    inside = np.zeros(256, np.float32)
    inside[[int(kind) for kind in INTRACRANIAL]] = 1.0
    return HeadSource(volume.geometry, tissue, inside[tissue], None, labels == VEIN_LABEL, to_source, scale, name)


def _grown_skull(tissue: np.ndarray, geometry: Geometry) -> np.ndarray:
    """CSF, skull and scalp around a brain that came without them: 2, 7 and 5 mm."""
    brain = ndimage.binary_fill_holes(tissue != Tissue.AIR)
    away = ndimage.distance_transform_edt(~brain, geometry.spacing[::-1])
    out = tissue.copy()
    for limit, kind in ((14.0, Tissue.SOFT), (9.0, Tissue.BONE), (2.0, Tissue.CSF)):
        out[(away > 0) & (away <= limit)] = kind
    out[brain & (tissue == Tissue.AIR)] = Tissue.CSF
    return out


def _alignment(geometry: Geometry, left: np.ndarray, right: np.ndarray, thalami: np.ndarray):
    """(4, 4) from standard to source LPS mm, and standard mm per source mm, from the extent of the hemispheres."""

    def positions(mask):
        return geometry.to_lps(np.argwhere(mask)[:, ::-1])

    first, second = positions(left), positions(right)
    across = first.mean(axis=0) - second.mean(axis=0)
    across /= np.linalg.norm(across)
    back = np.array([0.0, 1.0, 0.0]) - across[1] * across
    back /= np.linalg.norm(back)
    axes = np.stack([across, back, np.cross(across, back)])
    turned = np.vstack([first, second]) @ axes.T
    low, high = np.percentile(turned, 0.05, axis=0), np.percentile(turned, 99.95, axis=0)
    middle_x = 0.5 * ((first @ axes[0]).mean() + (second @ axes[0]).mean())
    thalamus = positions(thalami) @ axes[2] if thalami.any() else np.array([high[2] - 70.0])
    scale = np.array([
        2.0 * HALF_WIDTH_MM / (high[0] - low[0]),
        (BACK_MM - FRONT_MM) / (high[1] - low[1]),
        (TOP_MM - THALAMUS_Z_MM) / (high[2] - thalamus.mean()),
    ])
    origin = np.array([middle_x, low[1] - FRONT_MM / scale[1], high[2] - TOP_MM / scale[2]])
    to_source = np.eye(4)
    to_source[:3, :3] = axes.T / scale
    to_source[:3, 3] = axes.T @ origin
    return to_source, tuple(float(s) for s in scale)
