"""Which dynamic CT acquisitions lie in lists of files whose headers a database already knows.

A DICOM browser asks this of every series a user clicks on, so as few values as possible are asked for: positions first, and only
where positions repeat, within a series or between series, the values that put the images in order.  Enhanced objects hide theirs in
nested sequences and are read from the file.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.datadict import tag_for_keyword

from CTPerfusionSuiteLib.dicom.database_tags import OF_A_SERIES, OF_AN_IMAGE, TAGS
from CTPerfusionSuiteLib.dicom.headers import (
    CONTENT_TIME,
    ENHANCED_CT,
    EXPLICIT_LITTLE,
    Frame,
    HeaderText,
    frame_of_header,
    read_header,
    what_else,
)
from CTPerfusionSuiteLib.dicom.inventory import Acquisition, sort_headers
from CTPerfusionSuiteLib.dicom.slice_stack import arrange_in_time
from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.time_axis import MIN_FRAMES

FileValue = Callable[[str, str], str]
"""(file, "gggg,eeee") -> the value as text, "" where the file has none: `slicer.dicomDatabase.fileValue`."""


_POSITION = TAGS["ImagePositionPatient"]
_MATRIX = (TAGS["Rows"], TAGS["Columns"], TAGS["PixelSpacing"])


def tag_text(key) -> str:
    """ "gggg,eeee" of a keyword or a tag."""
    tag = int(tag_for_keyword(key)) if isinstance(key, str) else int(key)
    return f"{tag >> 16:04X},{tag & 0xFFFF:04X}"


class DatabaseHeader(HeaderText):
    """One file's values from a database; what is asked for in vain, or known for the whole series, costs nothing."""

    transfer_syntax = EXPLICIT_LITTLE

    def __init__(self, file: str, file_value: FileValue, known: dict[str, str], asked: tuple[str, ...]):
        self._values = {**known, **{tag: file_value(file, tag).strip(" \0") for tag in asked}}

    def text(self, key) -> str:
        return self._values.get(tag_text(key), "")


@dataclass(frozen=True)
class PerfusionOffer:
    """A dynamic CT acquisition that may be read.

    Attributes
    ----------
    files : tuple of str
        Its files, those of its first series first.
    files_of_series : dict
        Series UID -> its files.
    description : str
        Number and description of the (first) series, without names of patients.
    frames, slices : int
    span_s : float
        Seconds from the first to the last frame.
    time_source : str
    content_time_only : bool
        Only ContentTime, often the time of reconstruction, orders the frames: the user must accept it.
    """

    files: tuple[str, ...] = field(repr=False)
    files_of_series: dict[str, tuple[str, ...]] = field(repr=False)
    description: str
    frames: int
    slices: int
    span_s: float
    time_source: str
    content_time_only: bool = False


def find_perfusion(series: list[list[str]], file_value: FileValue) -> list[PerfusionOffer]:
    """The dynamic CT acquisitions among lists of files, a list a series.

    A single slice scanned repeatedly (bolus tracking), phases of one heart beat and series without a usable time axis are none.
    """
    frames: list[Frame] = []
    candidates = []
    for files in series:
        if not files or file_value(files[0], TAGS["Modality"]).strip() not in ("CT", ""):
            continue
        if file_value(files[0], TAGS["SOPClassUID"]).strip() in ENHANCED_CT:
            frames += _frames_of_enhanced(files)
        else:
            candidates.append({file: file_value(file, _POSITION) for file in files})
    for places in _with_repeated_positions(candidates):
        frames += _frames(places, file_value)
    if len(frames) < 2 * MIN_FRAMES:
        return []
    found = (_offer(acquisition) for acquisition in sort_headers(Path(), frames).candidates)
    return [offer for offer in found if offer is not None]


def _with_repeated_positions(candidates: list[dict[str, str]]) -> list[dict[str, str]]:
    """Series (file -> position) whose positions are scanned often enough for a bolus, alone or together with the others."""
    counts = [Counter(places.values()) for places in candidates]
    together = Counter(position for count in counts if max(count.values()) == 1 for position in count)
    chosen = []
    for places, count in zip(candidates, counts, strict=True):
        if np.median(list(count.values())) >= MIN_FRAMES:
            chosen.append(places)
        elif sum(together[position] >= MIN_FRAMES for position in count) >= len(count) / 2:
            chosen.append(places)
    return chosen


def _frames(places: dict[str, str], file_value: FileValue) -> list[Frame]:
    """The images of one series (file -> position); what is no CT image in HU is left out, here or by its frames."""
    files = list(places)
    first = files[0]
    known = {tag: file_value(first, tag).strip(" \0") for tag in OF_A_SERIES.values()}
    # A value that neither the first, the middle nor the last file has is not asked of the others, nor is a matrix these agree on.
    looked_at = (first, files[len(files) // 2], files[-1])
    found = {tag: [file_value(file, tag).strip(" \0") for file in looked_at] for tag in OF_AN_IMAGE.values()}
    known |= {tag: found[tag][0] for tag in _MATRIX if len(set(found[tag])) == 1}
    asked = tuple(tag for tag, values in found.items() if any(values) and tag != _POSITION and tag not in known)
    frames = []
    for file in files:
        header = DatabaseHeader(file, file_value, known | {_POSITION: places[file].strip(" \0")}, asked)
        frame = frame_of_header(header, file, known[TAGS["SOPClassUID"]])
        if not what_else(header, frame):
            frame.sop_uid = file  # a database keeps each instance once
            frames.append(frame)
    return frames


def _frames_of_enhanced(files: list[str]) -> list[Frame]:
    """The images of enhanced objects, their headers read from the files."""
    frames = []
    for file in files:
        found = read_header(Path(file).parent, Path(file).name)
        if isinstance(found, list):
            for frame in found:
                frame.path = file
            frames += found
    return frames


def _offer(acquisition: Acquisition) -> PerfusionOffer | None:
    """What may be offered of an acquisition; None if it is no bolus seen by several slices."""
    if acquisition.time_points < MIN_FRAMES or acquisition.slice_positions < 2 or any(f.fault for f in acquisition.stack.frames):
        return None
    timed = None
    for accept_content_time in (False, True):
        try:
            timed = arrange_in_time(acquisition.stack, acquisition.description, accept_content_time)
            break
        except DataRefused:
            continue
    if timed is None or len(timed.frames) < MIN_FRAMES:
        return None
    of_series: dict[str, dict[str, None]] = {}
    order = sorted(acquisition.stack.frames, key=lambda frame: (math.inf if math.isnan(frame.series_number) else frame.series_number))
    for frame in order:
        of_series.setdefault(frame.series_uid, {})[frame.path] = None
    return PerfusionOffer(
        tuple(path for paths in of_series.values() for path in paths),
        {uid: tuple(paths) for uid, paths in of_series.items()},
        acquisition.description,
        len(timed.frames),
        acquisition.slice_positions,
        float(np.ptp(timed.times)),
        timed.source,
        timed.source == CONTENT_TIME,
    )
