"""When each frame, and each slice of it, was scanned: seconds, checked, and never a frame number.

Perfusion maps scale with the time axis, so a wrong one gives wrong maps that look right.  What a header or a user calls a time is
believed only if it increases strictly from frame to frame in every slice and is plausible for a bolus: steps of 0.2-10 s, 20-200 s
in all.
"""

import csv
import math
import re
from datetime import date
from pathlib import Path

import numpy as np

from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused

MIN_FRAMES = 8
STEP_RANGE_S = (0.2, 10.0)
SPAN_RANGE_S = (20.0, 200.0)
SAME_TIME_S = 0.02
"""Slices whose times differ by no more than this in every frame share one time."""
SAME_RATE = 0.03
"""Time axes that part by more than this share of the scan are two, not one with rounded steps."""
SLAB_STEP_S = 0.3
"""Neighboring slices scanned further apart than this in time may belong to two table positions."""
DAY_S = 86400.0
_ROUNDING_S = 1e-6
SECONDS_IN = {
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "ms": 1e-3,
    "msec": 1e-3,
    "millisecond": 1e-3,
    "milliseconds": 1e-3,
    "us": 1e-6,
    "usec": 1e-6,
    "microsecond": 1e-6,
    "microseconds": 1e-6,
    "min": 60.0,
    "minute": 60.0,
    "minutes": 60.0,
}
"""Seconds in a unit of time, by the names found in files (lower case)."""


def seconds_of_day(text: str) -> float:
    """Seconds since midnight of a DICOM time ("HHMMSS.FFFFFF", or the old "HH:MM:SS"); NaN if it is none.

    A time without seconds is no help for a time axis and counts as none.
    """
    match = re.fullmatch(r"(\d\d):?(\d\d):?(\d\d)([.,]\d+)?", text.strip())
    if not match:
        return math.nan
    hours, minutes, seconds = (int(match[n]) for n in (1, 2, 3))
    if hours > 23 or minutes > 59 or seconds > 60:
        return math.nan
    return 3600.0 * hours + 60.0 * minutes + seconds + (float("0." + match[4][1:]) if match[4] else 0.0)


def seconds_of_datetime(text: str) -> float:
    """Seconds since 0001-01-01 of a DICOM date-time ("YYYYMMDDHHMMSS.FFFFFF&ZZXX", offset ignored); NaN if it is none."""
    match = re.fullmatch(r"(\d{4})(\d\d)(\d\d)(\d{6}(?:\.\d+)?)(?:[+-]\d{4})?", text.strip())
    if not match:
        return math.nan
    try:
        days = date(int(match[1]), int(match[2]), int(match[3])).toordinal()
    except ValueError:
        return math.nan
    return DAY_S * days + seconds_of_day(match[4])


def unwrap_midnight(seconds: np.ndarray) -> np.ndarray:
    """Times of day (any shape) of one acquisition, made continuous where it crosses midnight."""
    seconds = np.asarray(seconds, dtype=float)
    if seconds.size and np.nanmax(seconds) - np.nanmin(seconds) > DAY_S / 2:
        return np.where(seconds < DAY_S / 2, seconds + DAY_S, seconds)
    return seconds


def order_fault(times: np.ndarray) -> str | None:
    """What keeps `times` (T,) or (T, K) from increasing strictly, in words with frames counted from 1; None if they do."""
    times = np.asarray(times, dtype=float)
    if not np.isfinite(times).all():
        return "some times are missing"
    steps = np.diff(times.reshape(len(times), -1), axis=0)
    for word, wrong in (("run backward", steps < 0), ("are identical", steps == 0)):
        if wrong.any():
            frame, column = np.argwhere(wrong)[0]
            where = f" (slice {column + 1})" if steps.shape[1] > 1 else ""
            more = int(np.count_nonzero(wrong.any(axis=1))) - 1
            others = f" and {more} more" if more else ""
            return f"the times {word} from frame {frame + 1} to frame {frame + 2}{where}{others}"
    return None


def time_fault(times: np.ndarray) -> str | None:
    """Why `times` (T,) or (T, K), in seconds, are not the time axis of a bolus; None if they may be."""
    fault = order_fault(times)
    if fault:
        return fault
    times = np.asarray(times, dtype=float).reshape(len(times), -1)
    if len(times) < 2:
        return "there is one time only"
    steps, spans = np.diff(times, axis=0), times[-1] - times[0]
    for what, values, (low, high) in (("steps", steps, STEP_RANGE_S), ("a scan", spans, SPAN_RANGE_S)):
        if values.min() < low - _ROUNDING_S or values.max() > high + _ROUNDING_S:
            found = f"{values.min():.3g}" if np.isclose(values.min(), values.max()) else f"{values.min():.3g}-{values.max():.3g}"
            return f"{what} of {found} s {'are' if what == 'steps' else 'is'} outside {low:g}-{high:g} s"
    return None


def from_first_frame(times: np.ndarray) -> np.ndarray:
    """Times counted from the earliest slice of the first frame: (T,) if the slices agree within `SAME_TIME_S`, else (T, K)."""
    times = np.asarray(times, dtype=float)
    if times.ndim == 2 and np.ptp(times, axis=1).max() <= SAME_TIME_S:
        times = times.mean(axis=1)
    # Six decimals: what remains of subtracting large date-times is rounding, not time.
    return np.round(times - times[0].min(), 6)


def given_times(frames: int, slices: int, times=None, dt: float | None = None) -> np.ndarray | None:
    """The user's time axis, checked against the series: (T,) or (T, K) seconds from the first frame; None if none was given.

    Raises
    ------
    RequestRefused
        Both given, a wrong number of times, a `dt` that is not positive.
    DataRefused
        Times that do not increase, or that are no plausible seconds.
    """
    if times is None and dt is None:
        return None
    if times is not None and dt is not None:
        raise RequestRefused("give a list of times or a time step, not both")
    if dt is not None:
        if not (math.isfinite(dt) and dt > 0):
            raise RequestRefused(f"the time step is {dt:g} s; give a positive number of seconds")
        times = dt * np.arange(frames)
    times = np.asarray(times, dtype=float)
    if times.shape not in ((frames,), (frames, slices)):
        raise RequestRefused(
            f"{times.shape[0]} times{f' x {times.shape[1]} slices' if times.ndim == 2 else ''} were given for a series of "
            f"{frames} frames of {slices} slices; give one time a frame, or one a frame and slice"
        )
    fault = order_fault(times)
    if fault:
        raise DataRefused(f"{fault} in the given time axis; give strictly increasing seconds")
    typical = float(np.median(np.diff(times, axis=0))) if frames > 1 else 1.0
    # A user may know of an unusual protocol, but milliseconds or minutes must not pass for seconds.
    if not 0.05 <= typical <= 30:
        raise DataRefused(f"the given time axis has steps of {typical:g}, which are no plausible seconds; give it in seconds")
    return from_first_frame(times)


def contradiction_note(given: np.ndarray, own: np.ndarray | None, source: str) -> tuple[str, str] | None:
    """A note for the user when the given times (T,) or (T, K) are not those the series carries itself.

    None when they agree, or when the series' own are missing or no time axis of a bolus.

    They agree while they run apart by no more than `SAME_RATE` of the scan, which rounding in a header or a protocol explains.

    Parameters
    ----------
    given, own : array (T,) or (T, K)
        Seconds.
    source : str
        Where `own` comes from, in words.
    """
    if own is None or time_fault(own):
        return None
    mine, theirs = (from_first_frame(times).reshape(len(times), -1).mean(axis=1) for times in (given, own))
    mine, theirs = mine - mine[0], theirs - theirs[0]
    if np.abs(mine - theirs).max() <= SAME_RATE * theirs[-1]:
        return None
    step, own_step = (float(np.median(np.diff(times))) for times in (mine, theirs))
    return (
        "times_contradicted",
        f"the given time axis (steps of {step:.2f} s, {mine[-1]:.1f} s in all) contradicts the series' own by {source} "
        f"(steps of {own_step:.2f} s, {theirs[-1]:.1f} s in all); the given one was used",
    )


def read_times(path) -> np.ndarray:
    """The time axis in a CSV file: seconds, (T,) or (T, K).

    One column, a column named ``time_s`` among others, or, all columns numbers without a header (or headers that name slices), one
    column a slice.  Comma, semicolon, tab or blanks separate; lines that begin with # are comments.

    Raises
    ------
    RequestRefused
        The file cannot be read or holds no such columns.
    """
    path = Path(path)
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip() and not line.lstrip().startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        raise RequestRefused(f"the times file '{path.name}' cannot be read ({type(error).__name__}); give a CSV text file") from error
    if not lines:
        raise RequestRefused(f"the times file '{path.name}' is empty; give one time in seconds a line")
    separator = next((s for s in (";", "\t", ",") if s in lines[0]), None)
    rows = [line.split() for line in lines] if separator is None else list(csv.reader(lines, delimiter=separator))
    rows = [[cell.strip().replace(",", ".") if separator == ";" else cell.strip() for cell in row] for row in rows]
    header = rows.pop(0) if any(not _is_number(cell) for cell in rows[0]) else None
    if header is not None:
        names = [name.lower() for name in header]
        if "time_s" in names:
            column = names.index("time_s")
            rows = [row[column : column + 1] for row in rows]
        elif len(names) > 1 and not all("slice" in name for name in names):
            raise RequestRefused(
                f"the times file '{path.name}' has the columns {', '.join(header)} but none named time_s; name the one to use"
            )
    try:
        times = np.array([[float(cell) for cell in row] for row in rows], dtype=float)
    except ValueError as error:
        raise RequestRefused(f"the times file '{path.name}' holds something that is no number ({error}); give seconds only") from error
    if times.ndim != 2 or times.size == 0:
        raise RequestRefused(f"the times file '{path.name}' has lines of different length or none; give one time in seconds a line")
    return times[:, 0] if times.shape[1] == 1 else times


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def table_positions(times: np.ndarray, acquisitions: np.ndarray | None = None) -> np.ndarray | None:
    """Which slices were scanned together: the table position (slab) of each slice.

    Neighbors belong to different table positions when their times differ by clearly more than those of other neighbors, or when
    they never share an acquisition number.

    Parameters
    ----------
    times : array (T, K)
        Seconds, slices in the order of their position.
    acquisitions : array (T, K), optional
        Acquisition number of each slice of each frame.

    Returns
    -------
    ndarray (K,) of int, or None
        None when all slices belong together.
    """
    times = np.asarray(times, dtype=float)
    if times.ndim == 1 or times.shape[1] < 2:
        return None
    # The table moves to and fro, so the sign of the difference changes from frame to frame: its size counts.
    apart = np.median(np.abs(np.diff(times, axis=1)), axis=0)
    by_time = (apart > SLAB_STEP_S) & (apart > 4 * np.median(apart))
    by_number = np.zeros_like(by_time)
    if acquisitions is not None and np.isfinite(acquisitions).all():
        sets = [set(column) for column in np.asarray(acquisitions).T]
        by_number = np.array([first.isdisjoint(second) for first, second in zip(sets[:-1], sets[1:], strict=True)])
    for edges in (by_time | by_number, by_time):
        slabs = np.concatenate([[0], np.cumsum(edges)])
        # One slice a "table position" is a scanner that takes slices one after the other, not a shuttle.
        if edges.any() and slabs[-1] + 1 <= times.shape[1] / 2:
            return slabs
    return None


def sampling_note(times: np.ndarray) -> tuple[str, str] | None:
    """A note for the user when some step is about twice the usual one, so that the bolus may be missed; None if not."""
    times = np.asarray(times, dtype=float).reshape(len(times), -1)
    steps = np.diff(times, axis=0)
    usual = float(np.median(steps))
    if steps.max() < 1.9 * usual:
        return None
    frame = int(np.argmax(steps.max(axis=1)))
    return (
        "irregular_sampling",
        f"time steps vary from {steps.min():.2f} to {steps.max():.2f} s (usually {usual:.2f} s; longest after frame {frame + 1})",
    )


def enough_frames(frames: int, what: str) -> None:
    """Refuse a series with too few time points.

    Raises
    ------
    DataRefused
    """
    if frames < 2:
        raise DataRefused(f"{what} holds one time point, not a dynamic series; give the dynamic (4-D) acquisition")
    if frames < MIN_FRAMES:
        raise DataRefused(f"{what} holds {frames} time points, and at least {MIN_FRAMES} are needed; give the complete dynamic acquisition")
