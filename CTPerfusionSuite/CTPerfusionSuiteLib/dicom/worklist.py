"""What the CT series of a folder are good for, from headers alone: which module analyzes which.

Nothing here decides about a patient: the kind of a series is a suggestion that the user sees and may overrule.
"""

import os
import re
from collections import defaultdict
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

import pydicom

from CTPerfusionSuiteLib.dicom.inventory import Acquisition, Inventory, OtherSeries, series_label, short_title, take_inventory
from CTPerfusionSuiteLib.dicom.privacy import without_names
from CTPerfusionSuiteLib.dicom.slice_stack import arrange_in_time
from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.progress import Progress, part, silent
from CTPerfusionSuiteLib.time_axis import MIN_FRAMES

_HEADERS_SHARE = 0.9
_MIN_SLICES = 10
_FIELDS = (
    "BodyPartExamined",
    "StudyDescription",
    "SeriesDescription",
    "ProtocolName",
    "ContrastBolusAgent",
    "ContrastBolusStartTime",
    "ContrastBolusVolume",
    "StudyDate",
)
_HEART = re.compile(r"heart|card|coron|myoc|ecg|ekg")
_CHEST = re.compile(r"chest|thora|lung|pulm|\bpe\b")
_HEAD = re.compile(r"head|brain|skull|cereb|neuro|crani|stroke|sinus|ncct")
_OTHER_PART = re.compile(r"abdom|liver|hepat|pelvi|renal|kidney|panc|neck|spine|\bleg|\bknee|extrem|tumou?r")
_CONTRAST = re.compile(r"\bcta\b|angio|arteri|venous|contrast|\bpost\b|\bce\b|\bkm\b|c\+")
_NO_CONTRAST = re.compile(r"non.?con|without|w/o|\bwo\b|nativ|plain|unenh|ncct|c-(?!\w)|pre.?con|low.?dose|calcium|cascore")


class Kind(Enum):
    """What a series is, and which modules analyze it."""

    BRAIN_PERFUSION = "brain perfusion"
    HEART_PERFUSION = "heart perfusion"
    HEART_PHASES = "heart phases"
    PLAIN_HEAD = "non-contrast head"
    PLAIN_CHEST = "non-contrast chest"
    CONTRAST = "with contrast"
    OTHER = "other"

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the suite's modules that take it, the usual one first; empty if none does."""
        return _MODULES.get(self, ())


_MODULES = {
    Kind.BRAIN_PERFUSION: ("PerfusionMaps", "StrokeSegmentation"),
    Kind.HEART_PERFUSION: ("MyocardialPerfusion",),
    Kind.PLAIN_HEAD: ("LVODetection",),
    Kind.PLAIN_CHEST: ("ContrastSynthesis",),
}


@dataclass(frozen=True)
class WorklistEntry:
    """One series, or acquisition of several, and what it is.

    Attributes
    ----------
    kind : Kind
    description : str
        Number and description, without names of patients.
    size : str
        Frames x slices and seconds, or files, for people.
    study : str
        Date of the study ("2025-03-14") where the header gives one.
    place : str
        The subfolder of the searched folder it lies in, without names of patients.
    folder : str
        The smallest folder that holds all its files, to open it; not for people.
    shown_folder : str
        The same without names of patients.
    series_uid : str
        Of its first series.
    reason : str
        Why it is what it is, or why no module takes it.
    """

    kind: Kind
    description: str
    size: str
    study: str
    place: str
    folder: str
    shown_folder: str
    series_uid: str
    reason: str

    def as_dict(self) -> dict:
        """JSON-serializable."""
        return {**asdict(self), "kind": self.kind.value, "modules": list(self.kind.modules)}


def make_worklist(folder, progress: Progress = silent) -> list[WorklistEntry]:
    """All series below `folder` with their kind: perfusion first, what no module takes last.

    Raises
    ------
    RequestRefused
        The folder is missing, empty or cannot be read.
    """
    inventory = take_inventory(folder, part(progress, 0.0, _HEADERS_SHARE))
    entries, single = [], list(inventory.others)
    for acquisition in inventory.candidates:
        if acquisition.kind == "a series per time point" and acquisition.time_points < MIN_FRAMES:
            single += _apart(acquisition)
        else:
            entries.append(_of_acquisition(inventory, acquisition))
    entries += [_of_series(inventory, other) for other in single]
    progress(1.0)
    order = list(Kind)
    return sorted(entries, key=lambda entry: order.index(entry.kind))


def _apart(acquisition: Acquisition) -> list[OtherSeries]:
    """The series of an acquisition that are too few for a bolus: single scans, a plain and a contrast phase for instance."""
    by_series = defaultdict(list)
    for frame in acquisition.stack.frames:
        by_series[frame.series_uid].append(frame)
    found = []
    for uid, frames in by_series.items():
        label = series_label(frames[0].series_number, frames[0].description, frames[0].names)
        found.append(OtherSeries(uid, label, len({frame.path for frame in frames}), "one time point", frames[0].path))
    return found


def _of_acquisition(inventory: Inventory, acquisition: Acquisition) -> WorklistEntry:
    """A series with several images at each position."""
    header = _header(inventory, acquisition.stack.frames[0].path)
    size = f"{acquisition.time_points} x {acquisition.slice_positions} slices"
    kind, reason = Kind.OTHER, ""
    try:
        timed = arrange_in_time(acquisition.stack, acquisition.description)
        size += f", {timed.times.max() - timed.times.min():.0f} s"
    except DataRefused as refusal:
        reason = str(refusal)
    heart = not _HEAD.search(header.get("BodyPartExamined", "").lower()) and bool(_HEART.search(_words(header)))
    if acquisition.time_points < MIN_FRAMES:
        reason = f"{acquisition.time_points} time points; a bolus needs at least {MIN_FRAMES}"
    elif acquisition.slice_positions < 2:
        reason = "one slice scanned repeatedly, as for bolus tracking"
    elif reason and heart:
        kind, reason = Kind.HEART_PHASES, "phases of the heart beat, no bolus"
    elif reason:
        kind = Kind.BRAIN_PERFUSION if _part(header) in ("head", "") else Kind.OTHER
    elif heart or _part(header) == "chest":
        kind, reason = Kind.HEART_PERFUSION, "dynamic, of the heart"
    elif _part(header) == "other":
        reason = "dynamic, but neither of the brain nor of the heart"
    else:
        kind, reason = Kind.BRAIN_PERFUSION, "dynamic, of the head" if _part(header) else "dynamic; the header names no body part"
    paths = [frame.path for frame in acquisition.stack.frames]
    return _entry(inventory, kind, acquisition.description, size, header, paths, acquisition.series_uids[0], reason)


def _of_series(inventory: Inventory, other: OtherSeries) -> WorklistEntry:
    """A series of one time point, or of no CT images."""
    header = _header(inventory, other.example)
    kind, reason = Kind.OTHER, other.reason
    if other.reason == "one time point":
        part_of_body, contrast = _part(header), _has_contrast(header)
        if other.files < _MIN_SLICES and not header.get("NumberOfFrames"):
            reason = f"{other.files} slice{'s' if other.files != 1 else ''} only"
        elif contrast:
            kind, reason = Kind.CONTRAST, "one time point with contrast agent; may serve as anatomy"
        elif part_of_body == "head":
            kind, reason = Kind.PLAIN_HEAD, "one time point of the head without contrast agent"
        elif part_of_body == "chest":
            kind, reason = Kind.PLAIN_CHEST, "one time point of the chest without contrast agent"
        else:
            reason = "one time point; the header names neither head nor chest"
    size = f"{other.files} file{'s' if other.files != 1 else ''}"
    return _entry(inventory, kind, other.description, size, header, [other.example], other.series_uid, reason)


def _entry(inventory, kind, description, size, header, paths, series_uid, reason) -> WorklistEntry:
    folders = {os.path.dirname(path) for path in paths}
    common = os.path.commonpath(folders) if len(folders) > 1 else next(iter(folders))
    date = header.get("StudyDate", "")
    study = f"{date[:4]}-{date[4:6]}-{date[6:]}" if re.fullmatch(r"\d{8}", date) else ""
    names = set(inventory.names)
    place = without_names(Path(common).parts[0], names) if Path(common).parts else ""
    folder = str(inventory.folder / common)
    return WorklistEntry(
        kind,
        short_title(description),
        size,
        study,
        place,
        folder,
        without_names(folder, names),
        series_uid,
        reason,
    )


def _header(inventory: Inventory, path: str) -> dict[str, str]:
    """The few values of one file that tell what a series shows."""
    if not path:
        return {}
    try:
        dataset = pydicom.dcmread(
            Path(inventory.folder) / path, stop_before_pixels=True, force=True, specific_tags=[*_FIELDS, "NumberOfFrames"]
        )
        return {name: str(dataset.get(name) or "").strip() for name in (*_FIELDS, "NumberOfFrames")}
    except Exception:  # noqa: BLE001 - whatever a parser raises on a broken file, nothing is known of it
        return {}


def _words(header: dict[str, str]) -> str:
    return " ".join(header.get(name, "") for name in ("BodyPartExamined", "SeriesDescription", "ProtocolName", "StudyDescription")).lower()


def _part(header: dict[str, str]) -> str:
    """ "head", "chest", "other", or "" where the header is silent; the element made for it comes before free text."""
    for text in (header.get("BodyPartExamined", "").lower(), _words(header)):
        for name, pattern in (("head", _HEAD), ("chest", _HEART), ("chest", _CHEST), ("other", _OTHER_PART)):
            if pattern.search(text):
                return name
    return ""


def _has_contrast(header: dict[str, str]) -> bool:
    """Whether a contrast agent was given: by its own elements, else by what the series (not the study) is called."""
    agent = header.get("ContrastBolusAgent", "").lower()
    if agent and agent not in ("no", "none", "n", "without"):
        return True
    if header.get("ContrastBolusStartTime"):
        return True
    words = (header.get("SeriesDescription") or header.get("ProtocolName", "")).lower()
    return bool(_CONTRAST.search(words)) and not _NO_CONTRAST.search(words)
