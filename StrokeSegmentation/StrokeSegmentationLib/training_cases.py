"""Prepared studies with their labels on disk: what training and evaluation read, one .npz of plain arrays a study."""

import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from CTPerfusionSuiteLib.errors import RequestRefused
from CTPerfusionSuiteLib.volumes import Geometry

from .study_input import StudyInput

FORMAT = 1
BACKGROUND, PENUMBRA, CORE = 0, 1, 2
SPLITS = ("train", "val", "test", "shifted")
GROUPS = ("lvo", "non-lvo", "none")


@dataclass(frozen=True, eq=False)
class StudyCase:
    """One study as networks see it, with what is true and what thresholds say.

    Attributes
    ----------
    curves : ndarray (F, K, J, I) float16
        As `StudyInput.curves`.
    valid : ndarray (F, K) float32
    reference : ndarray (F,) float32
    maps : ndarray (C, K, J, I) float16
        As `StudyInput.maps`; no channels when there are none.
    label : ndarray (K, J, I) uint8
        0 background, 1 penumbra, 2 core.
    tissue, brain, hemisphere : ndarray (K, J, I) uint8
        `hemisphere` is 1 left, 2 right.
    baselines : dict of str -> ndarray (K, J, I) uint8
        The labels that PerfusionMaps finds, by the name of its filter; empty when it was not run.
    about : dict
        JSON: ``split``, ``group`` (lvo, non-lvo, none), ``seed``, ``noise_hu``, ``anatomy``, ``head``, ``lesion``, ``voxel_mm``
        [x, y, z], ``direction`` (rows of `Geometry.direction`), ``scale_hu`` ...
    """

    curves: np.ndarray
    valid: np.ndarray
    reference: np.ndarray
    maps: np.ndarray
    label: np.ndarray
    tissue: np.ndarray
    brain: np.ndarray
    hemisphere: np.ndarray
    baselines: dict[str, np.ndarray]
    about: dict

    @property
    def voxel_mm(self) -> tuple[float, float, float]:
        """Voxel size (x, y, z), mm."""
        return tuple(self.about["voxel_mm"])

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.voxel_mm)) / 1000.0

    @property
    def geometry(self) -> Geometry:
        """The grid as it lies in the patient, placed at the origin."""
        grid = Geometry(self.label.shape[::-1], self.voxel_mm)
        return replace(grid, direction=self.about.get("direction", grid.direction))


_ARRAYS = {
    "curves": np.float16, "valid": np.float32, "reference": np.float32, "maps": np.float16, "label": np.uint8, "tissue": np.uint8,
    "brain": np.uint8, "hemisphere": np.uint8,
}
_BASELINES = "baselines"
_UNREADABLE = (
    OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error,
)
"""What reading something else, or a damaged file, may raise."""


def case_of(
    study: StudyInput, label: np.ndarray, about: dict, baselines: dict[str, np.ndarray] | None = None
) -> StudyCase:
    """A case of a prepared study, a label and `baselines` (K, J, I) on its grid; `about` gets the voxel size, scale, arrival and noise."""
    if label.shape != study.geometry.shape:
        raise ValueError(f"a label {label.shape} does not fit the study {study.geometry.shape}")
    measured = {
        "format": FORMAT,
        "voxel_mm": list(study.geometry.spacing),
        "direction": [list(row) for row in study.geometry.direction],
        "scale_hu": round(study.scale_hu, 4),
        "arrival_s": round(study.arrival_s, 3),
        "measured_noise_hu": round(study.noise_hu, 3),
        "step_s": round(study.step_s, 3),
    }
    return StudyCase(
        study.curves.astype(np.float16),
        study.valid.astype(np.float32),
        study.reference.astype(np.float32),
        np.zeros((0, *study.geometry.shape), np.float16) if study.maps is None else study.maps.astype(np.float16),
        label.astype(np.uint8),
        study.tissue.astype(np.uint8),
        study.brain.astype(np.uint8),
        study.hemisphere.astype(np.uint8),
        {name: np.asarray(baseline, np.uint8) for name, baseline in (baselines or {}).items()},
        {**about, **measured},
    )


def save_case(path, case: StudyCase) -> None:
    """Write a case; it appears under its name only when it is complete."""
    path = Path(path)
    partial = path.with_name(path.name + ".part")
    with open(partial, "wb") as file:
        arrays = {name: getattr(case, name).astype(kind) for name, kind in _ARRAYS.items()}
        arrays[_BASELINES] = np.stack(list(case.baselines.values())) if case.baselines else np.zeros((0, *case.label.shape), np.uint8)
        about = {**case.about, _BASELINES: list(case.baselines)}
        np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)
    os.replace(partial, path)


def load_case(path) -> StudyCase:
    """Read a case.

    Raises
    ------
    RequestRefused
        Not such a file.
    """
    with _stored(path) as stored:
        about = json.loads(str(stored["about"]))
        baselines = dict(zip(about.pop(_BASELINES), stored[_BASELINES], strict=True))
        return StudyCase(**{name: stored[name] for name in _ARRAYS}, baselines=baselines, about=about)


def about_case(path) -> dict:
    """The description of a case without its arrays.

    Raises
    ------
    RequestRefused
        Not such a file.
    """
    with _stored(path) as stored:
        return json.loads(str(stored["about"]))


@contextmanager
def _stored(path) -> Iterator:
    """The arrays of a file; what goes wrong while they are read is refused in one sentence."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            yield stored
    except _UNREADABLE as error:
        name = Path(path).name
        raise RequestRefused(f"'{name}' is no prepared study; make the studies again with `ctperfusion stroke studies`") from error


def list_cases(folder, split: str | None = None, group: str | None = None) -> list[Path]:
    """Paths of the cases of a folder, sorted by name; of one split and one group where they are given.

    Raises
    ------
    RequestRefused
        No such folder, or no case of that kind in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RequestRefused(f"the folder '{folder}' does not exist; make studies with `ctperfusion stroke studies`")
    found = []
    for path in sorted(folder.glob("*.npz")):
        about = about_case(path) if split or group else {}
        if (split is None or about.get("split") == split) and (group is None or about.get("group") == group):
            found.append(path)
    if not found:
        kind = " ".join(word for word in (split, group) if word)
        raise RequestRefused(f"'{folder.name}' holds no prepared {kind + ' ' if kind else ''}study; make studies first")
    return found


def flipped(case: StudyCase) -> StudyCase:
    """The mirror image: left and right change places in all images, and so do the numbers of the hemispheres."""

    def mirror(values):
        return np.ascontiguousarray(values[..., ::-1])

    images = ("curves", "maps", "label", "tissue", "brain")
    hemisphere = mirror(case.hemisphere)
    swapped = np.array([0, 2, 1], np.uint8)[hemisphere]
    side = {"left": "right", "right": "left"}
    about = {**case.about, "side": side.get(case.about.get("side"), case.about.get("side"))}
    baselines = {name: mirror(label) for name, label in case.baselines.items()}
    return replace(case, **{name: mirror(getattr(case, name)) for name in images}, baselines=baselines, hemisphere=swapped, about=about)
