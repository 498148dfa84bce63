"""Sort the images of an acquisition by slice position, and each position's images by time.

Ordinals (temporal position, acquisition number, instance number) say in which order images were taken; only a true time says when.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from CTPerfusionSuiteLib.dicom.headers import CONTENT_TIME, GE_MID_SCAN_TIME, TIME_SOURCES, Frame
from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.geometry import orthonormal
from CTPerfusionSuiteLib.time_axis import order_fault, table_positions, time_fault, unwrap_midnight

_SAME_POSITION_MM = 0.1
_TIMES_OF_DAY = ("AcquisitionTime", CONTENT_TIME)


@dataclass(frozen=True)
class SliceStack:
    """Images of one orientation, matrix and pixel size.

    Attributes
    ----------
    frames : list of Frame
    members : list of K int arrays
        Which frames lie at each position; positions ascend along the slice normal.
    positions : ndarray (K, 3)
        LPS mm.
    normal : ndarray (3,)
    """

    frames: list[Frame] = field(repr=False)
    members: list[np.ndarray] = field(repr=False)
    positions: np.ndarray
    normal: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """(K,) images at each position."""
        return np.array([len(members) for members in self.members])

    @property
    def time_points(self) -> int:
        """Images at most positions."""
        return int(np.median(self.counts))

    @property
    def heights(self) -> np.ndarray:
        """(K,) mm along the normal."""
        return self.positions @ self.normal

    @property
    def extent_mm(self) -> float:
        """Distance of the outer slices."""
        return float(np.ptp(self.heights))


def stack_slices(frames: list[Frame]) -> SliceStack:
    """Sort frames by position along their normal."""
    row_axis, column_axis = orthonormal(frames[0].orientation[:3], frames[0].orientation[3:])
    normal = np.cross(row_axis, column_axis)
    places = np.array([frame.position for frame in frames])
    heights = places @ normal
    order = np.argsort(heights, kind="stable")
    cuts = np.flatnonzero(np.diff(heights[order]) > _SAME_POSITION_MM) + 1
    members = np.split(order, cuts)
    return SliceStack(frames, members, np.array([np.median(places[group], axis=0) for group in members]), normal)


@dataclass(frozen=True)
class TimedStack:
    """A stack as frames x slices.

    Attributes
    ----------
    frames : object ndarray (T, K) of Frame
    times : ndarray (T, K)
        Seconds, not yet counted from the first frame; None where frames are only in order.
    source : str
        Where the times come from.
    dropped : int
        Last frames left out because only one table position has them.
    """

    frames: np.ndarray
    times: np.ndarray | None
    source: str
    dropped: int = 0

    def numbers(self, attribute: str) -> np.ndarray:
        """(T, K) float values of a number that each frame carries."""
        return np.vectorize(lambda frame: float(getattr(frame, attribute)), otypes=[float])(self.frames)


def arrange_in_time(stack: SliceStack, what: str, accept_content_time: bool = False, ordered_only: bool = False) -> TimedStack:
    """The images as frames x slices, with the first time source that can be believed.

    Parameters
    ----------
    what : str
        The series, for messages.
    accept_content_time : bool
        Also believe ContentTime, often the time of reconstruction, as the last resort.
    ordered_only : bool
        Only put frames in order: the user gives the times.

    Raises
    ------
    DataRefused
        Slices missing from a frame; no usable time axis.
    """
    stack, dropped = _complete(stack, what)
    frames, counts = stack.frames, stack.counts
    order = _strong_order(stack)
    sources = TIME_SOURCES + ((CONTENT_TIME,) if accept_content_time else ())
    faults: dict[str, list[str]] = {}
    for source in sources:
        seconds = _seconds(frames, source)
        if np.isnan(seconds).all():
            continue
        if np.isnan(seconds).any():
            faults.setdefault(f"the time is missing in {np.count_nonzero(np.isnan(seconds))} of {len(frames)} images", []).append(source)
            continue
        index = _order_in_time(stack, seconds) if order is None else order
        times = seconds[index]
        fault = _belief(times, source) or (order is None and _against_weak_order(stack, index))
        if not fault:
            # Milliseconds where the standard, or all known files, have seconds.
            if source == GE_MID_SCAN_TIME and time_fault(times):
                times = times / 1000.0
            _check_frames_belong_together(times, stack, what)
            return TimedStack(_table(frames, index), times, source, dropped)
        faults.setdefault(fault, []).append(source)
    if ordered_only:
        index = order if order is not None else _any_order(stack)
        if index is not None:
            return TimedStack(_table(frames, index), None, "ordinals", dropped)
    # A few words for each kind of fault: the first sources are those that matter.
    reasons = (
        "; ".join(f"{fault} by {' and '.join(names[:2])}" for fault, names in list(faults.items())[:2]) or "it carries no acquisition times"
    )
    remedy = "export it again with its acquisition times"
    if not accept_content_time and _content_time_would_do(stack, order):
        remedy += ", or use ContentTime with --accept-content-time if it is not the time of reconstruction"
    raise DataRefused(f"{what} ({counts.max()} time points) has no usable time axis: {reasons}; {remedy}")


def _table(frames: list[Frame], index: np.ndarray) -> np.ndarray:
    """Object array (T, K) of the frames at `index`."""
    table = np.empty(index.shape, dtype=object)
    for place in np.ndindex(index.shape):
        table[place] = frames[index[place]]
    return table


def _seconds(frames: list[Frame], source: str) -> np.ndarray:
    """(N,) times by `source`, NaN where missing, continuous over midnight."""
    seconds = np.array([frame.seconds.get(source, math.nan) for frame in frames])
    if source in _TIMES_OF_DAY and np.isfinite(seconds).any():
        seconds = unwrap_midnight(seconds)
    return seconds


def _belief(times: np.ndarray, source: str) -> str | None:
    """Why `times` (T, K) of `source` cannot be believed."""
    fault = time_fault(times)
    if fault and source == GE_MID_SCAN_TIME and not order_fault(times) and time_fault(times / 1000.0) is None:
        return None
    return fault


def _strong_order(stack: SliceStack) -> np.ndarray | None:
    """(T, K) indices by temporal position or acquisition number, where these tell the frames of every position apart."""
    for attribute in ("temporal_index", "acquisition_number"):
        index = _order_by(stack, np.array([getattr(frame, attribute) for frame in stack.frames], dtype=float))
        if index is not None:
            return index
    return None


def _order_by(stack: SliceStack, numbers: np.ndarray) -> np.ndarray | None:
    """(T, K) indices that sort every position by `numbers` (N,); None where numbers are missing or repeat."""
    if not np.isfinite(numbers).all() or any(len(np.unique(numbers[group])) < len(group) for group in stack.members):
        return None
    return _order_in_time(stack, numbers)


def _order_in_time(stack: SliceStack, numbers: np.ndarray) -> np.ndarray:
    """(T, K) indices that sort every position by `numbers` (N,)."""
    return np.stack([group[np.argsort(numbers[group], kind="stable")] for group in stack.members], axis=1)


def _weak_numbers(stack: SliceStack) -> list[np.ndarray]:
    """Numbers (N,) that usually follow time: of the series where each time point has one, else of the image."""
    series = np.array([frame.series_number for frame in stack.frames])
    return [series, np.array([frame.instance_number for frame in stack.frames])]


def _any_order(stack: SliceStack) -> np.ndarray | None:
    """(T, K) indices by anything that gives every position an order."""
    sources = [_seconds(stack.frames, source) for source in (*TIME_SOURCES, CONTENT_TIME)]
    for numbers in (*sources, *_weak_numbers(stack)):
        index = _order_by(stack, numbers)
        if index is not None:
            return index
    return None


def _against_weak_order(stack: SliceStack, index: np.ndarray) -> str | None:
    """Whether the times contradict series or instance numbers that otherwise follow them.

    Numbers in no relation to time (an archive renumbered the images) are ignored; numbers that agree with most of the times, or run
    against all of them, mean that some times run backward.
    """
    for numbers in _weak_numbers(stack):
        if not np.isfinite(numbers).all():
            continue
        table = numbers[index]
        if (np.diff(np.sort(table, axis=0), axis=0) == 0).any():
            continue
        rising = np.diff(table, axis=0) > 0
        if rising.all():
            return None
        pairs = np.sign(table[None] - table[:, None])[np.triu_indices(len(table), 1)]
        agreement = float((pairs > 0).mean())
        if agreement > 0.75 or agreement < 0.02:
            frame = int(np.argwhere(~rising)[0][0])
            return f"the times run backward against the numbers of the images around frame {frame + 1}"
        return None
    return None


def _content_time_would_do(stack: SliceStack, order: np.ndarray | None) -> bool:
    """Whether ContentTime would pass as a time axis."""
    seconds = _seconds(stack.frames, CONTENT_TIME)
    if np.isnan(seconds).any():
        return False
    index = _order_in_time(stack, seconds) if order is None else order
    return time_fault(seconds[index]) is None


def _check_frames_belong_together(times: np.ndarray, stack: SliceStack, what: str) -> None:
    """Refuse frames whose slices were not scanned in one pass: each position lacks an image, but not of the same frame.

    Neighbors of one table position are scanned at times that differ by (nearly) the same in every frame; behind a missing image
    they differ by a frame more.

    Raises
    ------
    DataRefused
    """
    slabs = table_positions(times)
    neighbors = np.diff(slabs) == 0 if slabs is not None else np.ones(times.shape[1] - 1, bool)
    late = np.diff(times, axis=1)[:, neighbors]
    if late.size == 0:
        return
    late = late - np.median(late, axis=0)
    frame, column = np.unravel_index(np.argmax(np.abs(late)), late.shape)
    if abs(late[frame, column]) > 0.75 * np.median(np.diff(times, axis=0)):
        k = np.flatnonzero(neighbors)[column]
        raise DataRefused(
            f"slices are missing from {what}: in frame {frame + 1} those at {stack.heights[k]:.1f} and {stack.heights[k + 1]:.1f} mm were "
            "not scanned together; copy or export the series again completely"
        )


def _complete(stack: SliceStack, what: str) -> tuple[SliceStack, int]:
    """`stack` with the same number of images at every position, and how many last frames had to go.

    A shuttle scan may stop between its table positions: then one of them has a frame more than the other, and it is dropped.

    Raises
    ------
    DataRefused
        Slices are missing from a frame.
    """
    counts = stack.counts
    if counts.min() == counts.max():
        return stack, 0
    edges = np.flatnonzero(np.diff(counts) != 0) + 1
    blocks = np.split(np.arange(len(counts)), edges)
    if counts.max() - counts.min() == 1 and len(blocks) == 2 and min(map(len, blocks)) >= 2:
        trimmed = _without_last_pass(stack, counts.min())
        if trimmed is not None:
            return trimmed, 1
    raise DataRefused(f"slices are missing from {what}: {_missing(stack)}; copy or export the series again completely")


def _without_last_pass(stack: SliceStack, frames: int) -> SliceStack | None:
    """The stack without surplus images if they are the last of all in time and of a pass of their own; else None."""
    for source in TIME_SOURCES:
        seconds = _seconds(stack.frames, source)
        if np.isnan(seconds).any() or time_fault(np.sort(seconds[stack.members[0]])) or time_fault(np.sort(seconds[stack.members[-1]])):
            continue
        members = [group[np.argsort(seconds[group], kind="stable")] for group in stack.members]
        kept, surplus = [group[:frames] for group in members], np.concatenate([group[frames:] for group in members])
        times = np.stack([seconds[group] for group in kept], axis=1)
        low = stack.counts == frames
        # Two table positions are scanned apart in time; slices of one position that lack an image are simply missing it.
        apart = np.abs(np.median(times[:, low], axis=1) - np.median(times[:, ~low], axis=1))
        if seconds[surplus].min() > times.max() and np.median(apart) > 0.2:
            return SliceStack(stack.frames, kept, stack.positions, stack.normal)
    return None


def _missing(stack: SliceStack) -> str:
    """Which frames lack which slices, in words."""
    counts = stack.counts
    full = int(counts.max())
    labels = _frame_labels(stack, full)
    if labels is None:
        few = np.flatnonzero(counts < full)
        shown = ", ".join(f"the position {stack.heights[k]:.1f} mm has {counts[k]} of {full} images" for k in few[:3])
        return shown + (f" and {len(few) - 3} more positions lack some" if len(few) > 3 else "")
    gaps = [(frame, k) for k, group in enumerate(stack.members) for frame in sorted(set(range(full)) - {int(n) for n in labels[group]})]
    shown = ", ".join(f"frame {frame + 1} has no slice at {stack.heights[k]:.1f} mm" for frame, k in sorted(gaps)[:3])
    return shown + (f" and {len(gaps) - 3} more are missing" if len(gaps) > 3 else "")


def _frame_labels(stack: SliceStack, full: int) -> np.ndarray | None:
    """(N,) frame number from 0 of every image, by whatever tells `full` frames apart; None if nothing does."""
    frames = stack.frames
    for attribute in ("temporal_index", "acquisition_number", "series"):
        values = [(frame.series_number, frame.series_uid) if attribute == "series" else getattr(frame, attribute) for frame in frames]
        distinct = sorted(set(values))
        if len(distinct) != full:
            continue
        labels = np.array([distinct.index(value) for value in values])
        if all(len(np.unique(labels[group])) == len(group) for group in stack.members):
            return labels
    complete = next(group for group in stack.members if len(group) == full)
    for source in TIME_SOURCES:
        seconds = _seconds(frames, source)
        if np.isnan(seconds).any() or time_fault(np.sort(seconds[complete])):
            continue
        labels = np.abs(seconds[:, None] - np.sort(seconds[complete])[None]).argmin(axis=1)
        if all(len(np.unique(labels[group])) == len(group) for group in stack.members):
            return labels
    return None
