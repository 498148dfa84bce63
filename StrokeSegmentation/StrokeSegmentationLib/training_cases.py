"""Prepared studies with their labels on disk: what training and evaluation read, one .npz of plain arrays a study."""

import json
import os
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from CTPerfusionSuiteLib.errors import RequestRefused
from CTPerfusionSuiteLib.volumes import Geometry

from .study_input import MAP_SCALES, StudyInput

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
    threshold_label : ndarray (K, J, I) uint8
        What PerfusionMaps finds with its default filter; empty array when it was not run.
    threshold_label_smooth : ndarray (K, J, I) uint8
        With a wider filter; empty array when it was not run.
    about : dict
        JSON: ``split``, ``group`` (lvo, non-lvo, none), ``seed``, ``noise_hu``, ``anatomy``, ``head``, ``lesion``, ``voxel_mm``
        [x, y, z], ``scale_hu`` ...
    """

    curves: np.ndarray
    valid: np.ndarray
    reference: np.ndarray
    maps: np.ndarray
    label: np.ndarray
    tissue: np.ndarray
    brain: np.ndarray
    hemisphere: np.ndarray
    threshold_label: np.ndarray
    threshold_label_smooth: np.ndarray
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
        """The grid, placed at the origin."""
        return Geometry(self.label.shape[::-1], self.voxel_mm)

    def baselines(self) -> dict[str, np.ndarray]:
        """The threshold labels that were made, by name."""
        found = {"maps": self.threshold_label, "maps, wide filter": self.threshold_label_smooth}
        return {name: label for name, label in found.items() if label.size}


_ARRAYS = {
    "curves": np.float16, "valid": np.float32, "reference": np.float32, "maps": np.float16, "label": np.uint8, "tissue": np.uint8,
    "brain": np.uint8, "hemisphere": np.uint8, "threshold_label": np.uint8, "threshold_label_smooth": np.uint8,
}


def case_of(
    study: StudyInput, label: np.ndarray, about: dict, threshold_label: np.ndarray | None = None, smooth: np.ndarray | None = None
) -> StudyCase:
    """A case of a prepared study and a label (K, J, I) on its grid; `about` gets the voxel size, scale, arrival and noise."""
    if label.shape != study.geometry.shape:
        raise ValueError(f"a label {label.shape} does not fit the study {study.geometry.shape}")
    none = np.zeros((0, 0, 0), np.uint8)
    measured = {
        "format": FORMAT,
        "voxel_mm": list(study.geometry.spacing),
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
        none if threshold_label is None else threshold_label.astype(np.uint8),
        none if smooth is None else smooth.astype(np.uint8),
        {**about, **measured},
    )


def save_case(path, case: StudyCase) -> None:
    """Write a case; it appears under its name only when it is complete."""
    path = Path(path)
    partial = path.with_name(path.name + ".part")
    with open(partial, "wb") as file:
        arrays = {name: getattr(case, name).astype(kind) for name, kind in _ARRAYS.items()}
        np.savez_compressed(file, about=np.array(json.dumps(case.about)), **arrays)
    os.replace(partial, path)


def load_case(path) -> StudyCase:
    """Read a case.

    Raises
    ------
    RequestRefused
        Not such a file.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as stored:
            return StudyCase(**{name: stored[name] for name in _ARRAYS}, about=json.loads(str(stored["about"])))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise RequestRefused(f"'{path.name}' is no prepared study; make the studies again with `ctperfusion stroke studies`") from error


def about_case(path) -> dict:
    """The description of a case without its arrays.

    Raises
    ------
    RequestRefused
        Not such a file.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as stored:
            return json.loads(str(stored["about"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise RequestRefused(f"'{path.name}' is no prepared study; make the studies again with `ctperfusion stroke studies`") from error


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

    images = ("curves", "maps", "label", "tissue", "brain", "threshold_label", "threshold_label_smooth")
    hemisphere = mirror(case.hemisphere)
    swapped = np.array([0, 2, 1], np.uint8)[hemisphere]
    side = {"left": "right", "right": "left"}
    about = {**case.about, "side": side.get(case.about.get("side"), case.about.get("side"))}
    return replace(case, **{name: mirror(getattr(case, name)) for name in images}, hemisphere=swapped, about=about)


def map_names() -> tuple[str, ...]:
    """Names of the channels of `StudyCase.maps`."""
    return tuple(MAP_SCALES)
