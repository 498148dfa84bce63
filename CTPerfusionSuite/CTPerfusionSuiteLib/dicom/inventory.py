"""What lies in a folder of DICOM files, from headers alone: dynamic CT acquisitions, and what everything else is.

No suffixes, names or folder structure are relied on.  A dynamic acquisition is found in three forms: one series whose slice
positions are scanned over and over (Siemens, GE cine, Philips, shuttle), series of one time point each over the same positions
(Canon), and enhanced multi-frame objects, one or many.
"""

import math
import os
import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from CTPerfusionSuiteLib.dicom.headers import ENHANCED_CT, TIME_SOURCES, Frame, NotAnImage, Skipped, read_header
from CTPerfusionSuiteLib.dicom.privacy import name_parts, without_names
from CTPerfusionSuiteLib.dicom.slice_stack import SliceStack, stack_slices
from CTPerfusionSuiteLib.errors import RequestRefused
from CTPerfusionSuiteLib.output_folder import MARKER, OWNER, PHANTOMS, kind_of
from CTPerfusionSuiteLib.progress import Progress, silent
from CTPerfusionSuiteLib.time_axis import MIN_FRAMES, STEP_RANGE_S, unwrap_midnight

_MAP_WORDS = {
    "CBF",
    "CBV",
    "RCBF",
    "RCBV",
    "MTT",
    "TTP",
    "TMAX",
    "TTD",
    "TTS",
    "PENUMBRA",
    "PERMEABILITY",
    "MIP",
    "MINIP",
    "AVERAGE",
}
_UNITS_OF_CT = {"", "HU", "US", "HU_MOD"}
_DENIED = "may not be read"


@dataclass(frozen=True)
class Acquisition:
    """A dynamic CT acquisition that may be read.

    Attributes
    ----------
    kind : str
        "one series", "a series per time point" or "enhanced multi-frame".
    series_uids : tuple of str
    description : str
        Number and description of its (first) series; untrusted text without names of patients.
    time_points, slice_positions : int
    stack : SliceStack
        Its images, sorted by position.
    """

    kind: str
    series_uids: tuple[str, ...]
    description: str
    time_points: int
    slice_positions: int
    stack: SliceStack = field(repr=False)


@dataclass(frozen=True)
class OtherSeries:
    """A series that is no dynamic CT acquisition, and why; `example` is the relative path of one of its files."""

    series_uid: str
    description: str
    files: int
    reason: str
    example: str = ""


@dataclass(frozen=True)
class Inventory:
    """Everything found below a folder.

    Attributes
    ----------
    candidates : tuple of Acquisition
        Best first: several slices before one (bolus tracking), then most time points, originals, largest coverage.
    others : tuple of OtherSeries
    skipped : tuple of (file, reason)
        Relative names of files that are not DICOM or are damaged.
    damaged : tuple of str
        Those of `skipped` that begin like DICOM.
    ct_images : int
        CT images of any kind.
    duplicates : int
        Files that repeat another.
    """

    folder: Path
    candidates: tuple[Acquisition, ...] = ()
    others: tuple[OtherSeries, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    damaged: tuple[str, ...] = ()
    ct_images: int = 0
    duplicates: int = 0
    names: frozenset[str] = field(default=frozenset(), repr=False)


def take_inventory(folder, progress: Progress = silent, threads: int | None = None) -> Inventory:
    """Read all headers below `folder` (or of one file, or of a list of files) and sort them into acquisitions.

    Raises
    ------
    RequestRefused
        The folder is missing, empty or cannot be read.
    """
    if isinstance(folder, (list, tuple)):
        root, names = _listed_files(folder)
    else:
        folder = Path(folder)
        names = _file_names(folder)
        root = folder if folder.is_dir() else folder.parent
    frames: list[Frame] = []
    objects: list[NotAnImage] = []
    skipped: list[Skipped] = []
    with ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
        try:
            for n, found in enumerate(pool.map(lambda name: _header_or_skipped(root, name), names), start=1):
                if isinstance(found, list):
                    frames += found
                else:
                    (objects if isinstance(found, NotAnImage) else skipped).append(found)
                if n % 64 == 0 or n == len(names):
                    progress(n / len(names))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    inventory = sort_headers(root, frames, objects, skipped)
    denied = next((entry.path for entry in skipped if entry.why == _DENIED), None)
    if denied is not None:
        # Only now the names are known that its folders may repeat.
        what = f"the file '{without_names(denied, inventory.names)}'" if frames or objects else "no file of the folder"
        raise RequestRefused(f"{what} {_DENIED if frames or objects else 'may be read'}; check the permissions")
    return inventory


def sort_headers(root: Path, frames: list[Frame], objects: list[NotAnImage] = (), skipped: list[Skipped] = ()) -> Inventory:
    """Sort headers that were read already, of files below `root`, into acquisitions."""
    parts = frozenset(name_parts({frame.patient for frame in frames} | {other.patient for other in objects}))
    for frame in frames:
        frame.names = parts
    candidates, others, duplicates = _sorted_frames(frames, parts)
    others += _other_objects(objects, parts)
    skipped = [entry for entry in skipped if entry.why != "DICOMDIR"]
    return Inventory(
        root,
        tuple(sorted(candidates, key=_rank, reverse=True)),
        tuple(others),
        tuple((without_names(entry.path, parts), entry.why) for entry in skipped),
        tuple(without_names(entry.path, parts) for entry in skipped if entry.damaged),
        len(frames),
        duplicates,
        parts,
    )


def _listed_files(files) -> tuple[Path, list[str]]:
    """The folder that holds all `files`, and their relative names; files on several drives keep their full names."""
    paths = [Path(file).absolute() for file in files]
    if not paths:
        raise RequestRefused("no DICOM files were given; choose at least one series")
    missing = sum(not path.is_file() for path in paths)
    if missing:
        # Their names may be those of patients.
        raise RequestRefused(f"{missing} of the {len(paths)} files are not there any more; import the study again")
    try:
        root = Path(os.path.commonpath([path.parent for path in paths]))
    except ValueError:
        return Path(), [path.as_posix() for path in paths]
    return root, [path.relative_to(root).as_posix() for path in paths]


def _file_names(folder: Path) -> list[str]:
    """All files below `folder`, relative, sorted."""
    if folder.is_file():
        return [folder.name]
    if not folder.is_dir():
        raise RequestRefused(f"the folder '{folder}' does not exist; check the path")
    names = []

    def unreadable(error: OSError) -> None:
        raise RequestRefused(f"the folder '{folder}' cannot be read completely ({type(error).__name__}); check its permissions") from error

    root, entered, results = Path(os.path.realpath(folder)), set(), 0
    for place, below, files in os.walk(folder, onerror=unreadable, followlinks=True):
        real = os.path.realpath(place)
        # Links may lead to a folder that was entered already, or to one that holds the folder asked for.
        if entered and (real in entered or root.is_relative_to(real)):
            below.clear()
            continue
        if entered and _is_a_result(place, files):
            below.clear()
            results += 1
            continue
        entered.add(real)
        below.sort(key=lambda name, place=place: (os.path.islink(os.path.join(place, name)), name))
        wanted = [name for name in files if not (name.upper() == "DICOMDIR" or name.startswith("."))]
        names += [(Path(place) / name).relative_to(folder).as_posix() for name in wanted]
    if not names:
        found = "holds nothing but results of this program" if results else "is empty"
        raise RequestRefused(f"the folder '{folder}' {found}; give the folder that holds the DICOM files")
    return sorted(names)


def _is_a_result(place: str, files: list[str]) -> bool:
    """Whether a folder is a result of ours, complete or being written; a phantom is a study like any other."""
    if MARKER in files:
        return kind_of(Path(place)) not in ("", PHANTOMS)
    return OWNER in files


def _header_or_skipped(root: Path, name: str) -> list[Frame] | NotAnImage | Skipped:
    """`read_header`, with files that cannot be read skipped."""
    try:
        return read_header(root, name)
    except PermissionError:
        return Skipped(name, _DENIED)
    except OSError as error:
        if os.path.islink(root / name) and not os.path.exists(root / name):
            return Skipped(name, "broken link")
        return Skipped(name, f"cannot be read ({type(error).__name__})", damaged=True)


def series_label(number: float, description: str, parts) -> str:
    """Series number and description for people."""
    shown = without_names(" ".join(description.split())[:64], parts)
    return (f"series {number:g}" if math.isfinite(number) else "series without number") + (f" '{shown}'" if shown else "")


def short_title(label: str) -> str:
    """What `series_label` gives, as lists of series show it: "series 5 'CTP'" is "5: CTP"."""
    number, quote, name = label.removeprefix("series ").partition(" '")
    return f"{number}: {name.removesuffix(chr(39))}" if quote else number


def _other_objects(objects: list[NotAnImage], parts) -> list[OtherSeries]:
    """Objects that are no CT images, by series and kind."""
    groups = defaultdict(list)
    for other in objects:
        groups[other.series_uid, other.what].append(other)
    return [
        OtherSeries(uid, series_label(group[0].series_number, group[0].description, parts), len(group), what, group[0].path)
        for (uid, what), group in groups.items()
    ]


def _why_not(frame: Frame, parts) -> str:
    """Why a CT image cannot belong to a dynamic series of HU images; empty if it can."""
    if "LOCALIZER" in frame.image_type:
        return "localizer"
    if frame.image_type[:1] == ("DERIVED",):
        words = set(re.split(r"[^A-Z]+", " ".join((*frame.image_type, frame.description.upper()))))
        if words & _MAP_WORDS:
            return "derived map"
    if frame.rescale_type not in _UNITS_OF_CT:
        return f"not in HU (rescale type {without_names(frame.rescale_type, parts)})"
    if len(frame.position) != 3 or len(frame.orientation) != 6 or len(frame.pixel_spacing) != 2 or min(frame.pixel_spacing) <= 0:
        # A file cut off inside its header has lost these too.
        return "" if frame.fault else "no position in space"
    if (
        not np.isfinite((*frame.position, *frame.orientation)).all()
        or np.linalg.norm(np.cross(frame.orientation[:3], frame.orientation[3:])) < 0.5
    ):
        return "no valid orientation in space"
    return ""


def _sorted_frames(frames: list[Frame], parts) -> tuple[list[Acquisition], list[OtherSeries], int]:
    """CT images sorted into acquisitions and other series."""
    unfit: dict[tuple[str, str], list[Frame]] = defaultdict(list)
    groups: dict[tuple, list[Frame]] = defaultdict(list)
    grids: list[Frame] = []
    for frame in frames:
        reason = _why_not(frame, parts)
        if reason:
            unfit[frame.series_uid, reason].append(frame)
        elif len(frame.position) != 3:
            what = "truncated files" if frame.known_transfer_syntax else f"unknown transfer syntax {frame.transfer_syntax}"
            unfit[frame.series_uid, what].append(frame)
        else:
            groups[frame.series_uid, _grid_number(frame, grids)].append(frame)
    candidates, single, duplicates = [], [], 0
    for group in groups.values():
        kept = _without_duplicates(group)
        duplicates += len(group) - len(kept)
        stack = stack_slices(kept)
        (candidates if stack.time_points > 1 else single).append(stack)
    together, single = _series_per_time_point(single)
    candidates = [_acquisition(stack, parts) for stack in candidates + together]
    others = [
        OtherSeries(
            uid, series_label(group[0].series_number, group[0].description, parts), len({f.path for f in group}), reason, group[0].path
        )
        for (uid, reason), group in unfit.items()
    ]
    for stack in single:
        first = stack.frames[0]
        others.append(
            OtherSeries(
                first.series_uid,
                series_label(first.series_number, first.description, parts),
                len({f.path for f in stack.frames}),
                "one time point",
                first.path,
            )
        )
    return candidates, others, duplicates


def _grid_number(frame: Frame, grids: list[Frame]) -> int:
    """Number of the first frame in `grids` with the same orientation, matrix and pixel size; a new one is added."""
    for number, other in enumerate(grids):
        if (
            (frame.rows, frame.columns) == (other.rows, other.columns)
            and max(abs(a - b) for a, b in zip(frame.orientation, other.orientation, strict=True)) < 0.01
            and max(abs(a - b) for a, b in zip(frame.pixel_spacing, other.pixel_spacing, strict=True)) < 1e-3
        ):
            return number
    grids.append(frame)
    return len(grids) - 1


def _without_duplicates(frames: list[Frame]) -> list[Frame]:
    """`frames` without repetitions of an image; the intact one of two is kept.

    The instance UID alone is not enough: careless de-identification gives one to all images.
    """
    kept: dict[tuple, Frame] = {}
    for frame in frames:
        key = (frame.sop_uid, frame.index, frame.position, frame.instance_number, tuple(sorted(frame.seconds.items())))
        if key not in kept or (kept[key].fault and not frame.fault):
            kept[key] = frame
    return list(kept.values())


def _series_per_time_point(single: list[SliceStack]) -> tuple[list[SliceStack], list[SliceStack]]:
    """Join series of one time point over the same positions into dynamic ones: (joined, left over)."""
    groups: list[list[SliceStack]] = []
    for stack in single:
        for group in groups:
            if _same_protocol(stack, group[0]):
                group.append(stack)
                break
        else:
            groups.append([stack])
    joined, left = [], []
    for group in groups:
        chosen = _one_scan(group)
        if len(chosen) < 2:
            left += group
            continue
        joined.append(stack_slices([frame for stack in chosen for frame in stack.frames]))
        left += [stack for stack in group if not any(stack is other for other in chosen)]
    return joined, left


def _same_protocol(first: SliceStack, second: SliceStack) -> bool:
    """Whether two single scans may be time points of one acquisition."""
    a, b = first.frames[0], second.frames[0]
    return (
        (a.study_uid, a.frame_of_reference, a.kernel, a.image_type[:3], a.rows, a.columns)
        == (b.study_uid, b.frame_of_reference, b.kernel, b.image_type[:3], b.rows, b.columns)
        and (a.thickness == b.thickness or math.isnan(a.thickness) and math.isnan(b.thickness))
        and _close(a.orientation, b.orientation, 0.01)
        and _close(a.pixel_spacing, b.pixel_spacing, 1e-3)
        and _overlap(first.positions, second.positions)
    )


def _close(first, second, tolerance: float) -> bool:
    return bool(np.abs(np.subtract(first, second)).max() < tolerance)


def _overlap(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether at least half of the positions (K, 3) are the same: a time point may lack slices, which is then said."""
    distance = np.linalg.norm(first[:, None] - second[None], axis=2).min(axis=1)
    return np.count_nonzero(distance < 0.1) >= 0.5 * max(len(first), len(second))


def _one_scan(group: list[SliceStack]) -> list[SliceStack]:
    """The largest set of single scans of `group` that follow each other as the frames of one dynamic scan do.

    Time points usually share their description up to digits; where they do not, all descriptions count.  A pause longer than any
    dynamic protocol has separates, for instance, a plain scan before contrast.
    """
    by_name: dict[str, list[SliceStack]] = defaultdict(list)
    for stack in group:
        by_name[re.sub(r"[^a-z]+", "", stack.frames[0].description.lower())].append(stack)
    largest = max(by_name.values(), key=len)
    return max((_without_pauses(part) for part in ([largest] if len(largest) >= MIN_FRAMES else [largest, group])), key=len)


def _without_pauses(stacks: list[SliceStack]) -> list[SliceStack]:
    """The longest run of single scans without a pause; all of them if nothing tells their times."""
    for source in TIME_SOURCES:
        begins = np.array([min(frame.seconds.get(source, math.nan) for frame in stack.frames) for stack in stacks])
        if not np.isfinite(begins).all() or len(np.unique(begins)) < len(begins):
            continue
        begins = unwrap_midnight(begins)
        order = np.argsort(begins, kind="stable")
        cuts = np.flatnonzero(np.diff(begins[order]) > STEP_RANGE_S[1]) + 1
        return [stacks[n] for n in max(np.split(order, cuts), key=len)]
    return stacks


def _acquisition(stack: SliceStack, parts) -> Acquisition:
    """Describe a stack of several time points."""
    first = min(stack.frames, key=lambda frame: (not math.isfinite(frame.series_number), frame.series_number))
    uids = tuple(dict.fromkeys(frame.series_uid for frame in stack.frames))
    kind = "enhanced multi-frame" if first.sop_class in ENHANCED_CT else "one series" if len(uids) == 1 else "a series per time point"
    label = series_label(first.series_number, first.description, parts)
    return Acquisition(kind, uids, label, stack.time_points, len(stack.positions), stack)


def _rank(acquisition: Acquisition) -> tuple:
    """Sort key: larger is better."""
    original = acquisition.stack.frames[0].image_type[:1] != ("DERIVED",)
    return (
        acquisition.slice_positions > 1,
        acquisition.time_points,
        original,
        round(acquisition.stack.extent_mm),
        -acquisition.slice_positions,
    )
