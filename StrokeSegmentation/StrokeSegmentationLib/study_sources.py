"""Where heads and lesions of training studies come from, and which of them are never trained on."""

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused
from CTPerfusionSuiteLib.nifti import read_volume
from CTPerfusionSuiteLib.phantoms.head_source import IMAGE_NAMES
from CTPerfusionSuiteLib.phantoms.label_map_anatomy import read_head

TEST_PERCENT, VALIDATION_PERCENT = 20, 8
"""Lesions kept for testing, and for choosing when to stop."""
TEST_SHARE, VALIDATION_SHARE = 0.25, 0.125
"""Of the heads of a folder, at least one each from three heads on."""
LESION_ML = (0.4, 350.0)
BUILT_IN = "built-in"


@dataclass(frozen=True)
class StudySources:
    """Files to draw from.

    Attributes
    ----------
    heads : tuple of Path
        Label maps or head CTs, sorted by name; none: the built-in head.
    lesions : tuple of Path
        Masks in standard space, sorted by name; none: the built-in lesions.
    test_heads : tuple of Path
        Further heads for testing alone: label maps, head CTs, or folders of DICOM slices.
    """

    heads: tuple[Path, ...] = ()
    lesions: tuple[Path, ...] = ()
    test_heads: tuple[Path, ...] = ()

    @classmethod
    def of(cls, anatomy=None, lesions=None, test_anatomy=()) -> "StudySources":
        """From folders (or single files) of a user, which are not read.

        Raises
        ------
        RequestRefused
            A folder without images; a head that is to be tested on and trained on, or one of the name of another.
        """
        heads = _images(anatomy, "anatomy")
        further = tuple(head for path in test_anatomy for head in _heads_at(Path(path)))
        names = sorted(lesion_name(path) for path in further)
        twice = {lesion_name(path) for path in heads} & set(names)
        if twice:
            raise RequestRefused(f"the head '{min(twice)}' is given both by --anatomy and by --test_anatomy; give it once")
        same = next((name for name, after in pairwise(names) if name == after), None)
        if same is not None:
            raise RequestRefused(f"two heads of --test_anatomy are called '{same}'; give each head once, under a name of its own")
        return cls(heads, _images(lesions, "lesions"), further)

    def check_test_heads(self) -> None:
        """Read every further head, so that none turns out to be unusable in the middle of the simulation.

        Raises
        ------
        RequestRefused, DataRefused
            One that is no head, by name.
        """
        for path in self.test_heads:
            read_head(path, 0)

    def heads_of(self, split: str) -> tuple[Path, ...]:
        """Heads of a split; a shifted simulator shows those of the test."""
        wanted = "test" if split == "shifted" else split
        own = tuple(path for n, path in enumerate(self.heads) if head_split(n, len(self.heads)) == wanted)
        return own + self.test_heads if wanted == "test" else own

    def lesions_of(self, split: str) -> tuple[Path, ...]:
        """Lesion masks of a split."""
        wanted = "test" if split == "shifted" else split
        return tuple(path for path in self.lesions if split_of_name(lesion_name(path)) == wanted)


BUILT_IN_SOURCES = StudySources()
"""Built-in heads and lesions."""


def head_split(number: int, count: int) -> str:
    """Split of the head at place `number` (from 0) of `count` sorted ones: the last quarter is for the test, an eighth before it
    for validation; with fewer than three all are for training, and other splits show the built-in head."""
    if count < 3:
        return "train"
    test, validation = max(1, round(TEST_SHARE * count)), max(1, round(VALIDATION_SHARE * count))
    if number >= count - test:
        return "test"
    return "val" if number >= count - test - validation else "train"


def split_of_name(name: str) -> str:
    """Split of a lesion or of a patient by name alone, so that it never changes as a folder grows."""
    percent = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 100
    if percent < TEST_PERCENT:
        return "test"
    return "val" if percent < TEST_PERCENT + VALIDATION_PERCENT else "train"


def lesion_name(path: Path) -> str:
    """File name without its ending."""
    name = Path(path).name
    return next((name[: -len(end)] for end in (".nii.gz", ".nii", ".nrrd", ".mha") if name.lower().endswith(end)), name)


def lesion_volume_ml(path: Path) -> float | None:
    """Volume of a lesion mask, or None if the image is no binary mask of a lesion (an atlas, a mean map, an empty mask)."""
    try:
        volume = read_volume(path)
    except (DataRefused, RequestRefused):
        return None
    values = np.asarray(volume.values)
    inside = values > 0.5
    if not inside.any() or np.ptp(values[inside]) > 1e-3:
        return None
    # Warped masks may have a soft rim, but hardly any of the image lies between nothing and all.
    soft = np.count_nonzero((values > 1e-3) & ~inside)
    volume_ml = float(np.count_nonzero(inside) * volume.geometry.voxel_volume_ml)
    return volume_ml if soft <= np.count_nonzero(inside) and LESION_ML[0] <= volume_ml <= LESION_ML[1] else None


def _heads_at(path: Path) -> tuple[Path, ...]:
    """A file, the images of a folder, or a folder of DICOM slices, at any depth, which is one head."""
    if path.is_dir() and not any(p.name.lower().endswith(IMAGE_NAMES) for p in path.iterdir()):
        if not any(p.is_file() for p in path.rglob("*")):
            raise RequestRefused(f"the folder '{path}' holds no head; give label maps, head CTs, or folders of DICOM slices")
        return (path,)
    return _images(path, "test anatomy")


def _images(folder, what: str) -> tuple[Path, ...]:
    if folder is None:
        return ()
    folder = Path(folder)
    if folder.is_file():
        return (folder,)
    found = sorted(p for p in folder.glob("*") if p.name.lower().endswith(IMAGE_NAMES)) if folder.is_dir() else []
    if not found:
        raise RequestRefused(f"the {what} folder '{folder}' holds no image (.nii, .nii.gz, .nrrd); give a folder of them")
    return tuple(found)
