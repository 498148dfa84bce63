"""Curves and masks that the user gives instead of the automatic ones."""

import csv
import re
from pathlib import Path

import numpy as np

from CTPerfusionSuiteLib.errors import RequestRefused
from CTPerfusionSuiteLib.geometry import resample_to
from CTPerfusionSuiteLib.nifti import read_volume
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries, Volume

from .analysis_request import VesselRequest
from .input_functions import InputFunction

CURVE_SUFFIXES = (".csv", ".txt")
VOXEL = re.compile(r"\s*-?\d+\s*,\s*-?\d+\s*,\s*-?\d+\s*")


def read_curve(path: Path) -> InputFunction:
    """A curve from a CSV with the columns ``time_s,hu`` (HU above baseline, t = 0 is the series' first frame).

    Raises
    ------
    RequestRefused
        When the file cannot be read as two columns of numbers with increasing times.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row and any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise RequestRefused(f"the curve '{path.name}' cannot be read; give a CSV with the columns time_s,hu") from problem
    columns = (0, 1)
    if rows and not _is_number(rows[0][0]):
        names = [name.strip().lower() for name in rows.pop(0)]
        if "time_s" in names and "hu" in names:
            columns = (names.index("time_s"), names.index("hu"))
    try:
        table = np.array([[float(row[column]) for column in columns] for row in rows])
    except (ValueError, IndexError) as problem:
        raise RequestRefused(
            f"the curve '{path.name}' holds something that is no number; give a CSV with the columns time_s,hu"
        ) from problem
    if len(table) < 4 or not np.isfinite(table).all() or (np.diff(table[:, 0]) <= 0).any():
        raise RequestRefused(f"the curve '{path.name}' needs at least 4 rows of finite numbers with increasing times in seconds")
    if table[:, 1].max() <= 0:
        raise RequestRefused(f"the curve '{path.name}' never rises above its baseline; give HU above baseline")
    if table[0, 1] > 0.5 * table[:, 1].max():
        raise RequestRefused(f"the curve '{path.name}' does not begin at its baseline; give HU above baseline from before the bolus on")
    return InputFunction(times=table[:, 0], hu=table[:, 1], source="csv")


def of_this_scan(curve: InputFunction, series: TimeSeries, name: str) -> InputFunction:
    """The curve itself; it must run along at least half of the scan and not far beyond it.

    Raises
    ------
    RequestRefused
    """
    start, end = float(series.slice_times.min()), float(series.slice_times.max())
    first, last = float(curve.times[0]), float(curve.times[-1])
    if min(last, end) - max(first, start) < 0.5 * (end - start) or last > end + (end - start):
        raise RequestRefused(
            f"the curve '{name}' runs from {first:g} to {last:g} s and the scan from {start:g} to {end:g} s; "
            "give its times in seconds from the first frame of this series"
        )
    return curve


def read_mask(path: Path, geometry: Geometry, what: str) -> np.ndarray:
    """A mask file on `geometry` by nearest neighbor.

    Raises
    ------
    RequestRefused
        When it cannot be read, is empty, or does not overlap the grid.
    """
    volume = read_volume(path)
    values = np.asarray(volume.values) > 0.5
    if not values.any():
        raise RequestRefused(f"the {what} '{path.name}' is empty; draw it first or leave the option out")
    if volume.geometry.close_to(geometry):
        return values
    moved = resample_to(Volume(values.astype(np.uint8), volume.geometry), geometry, "nearest").values > 0
    if not moved.any():
        raise RequestRefused(f"the {what} '{path.name}' does not overlap the perfusion series; check that it belongs to this study")
    return moved


def vessel_curve(request: VesselRequest, series: TimeSeries, baseline_frames, head: np.ndarray, what: str) -> InputFunction:
    """The curve a user asked for.

    Parameters
    ----------
    request : VesselRequest
    series : TimeSeries
        On the analysis grid, motion corrected, not smoothed.
    baseline_frames : sequence of int
    head : ndarray (K, J, I) of bool
        Where a vessel can be (the head, filled).
    what : str
        "AIF" or "VOF", for messages.

    Raises
    ------
    RequestRefused
        When the place lies outside the series or the head, or the curve shows no enhancement.
    """
    geometry = series.geometry
    if request.lps is not None:
        voxels = np.rint(geometry.to_index(request.lps)).astype(int)[None]
        source, place = "position", "{:g}, {:g}, {:g} mm".format(*request.lps)
    elif VOXEL.fullmatch(request.text):
        voxels = np.array([[int(n) for n in request.text.split(",")]])
        source, place = "voxel", request.text.strip()
    else:
        path = Path(request.text)
        if not path.is_file():
            raise RequestRefused(f"the {what} '{request.text}' is neither a file nor a voxel I,J,K; check the path")
        if path.suffix.lower() in CURVE_SUFFIXES:
            return of_this_scan(read_curve(path), series, path.name)
        voxels = np.argwhere(read_mask(path, geometry, f"{what} mask"))[:, ::-1]
        source, place = "mask", path.name
    inside = np.all((voxels >= 0) & (voxels < np.array(geometry.size)), axis=1)
    voxels = voxels[inside]
    if len(voxels):
        voxels = voxels[head[tuple(voxels[:, ::-1].T)]]
    if not len(voxels):
        raise RequestRefused(f"the {what} at {place} lies outside the head; choose a place inside a vessel of this series")
    return curve_at(series, voxels, baseline_frames, source)


def curve_at(series: TimeSeries, voxels: np.ndarray, baseline_frames, source: str) -> InputFunction:
    """Mean curve of `voxels` (V, 3; i, j, k) above the mean of the baseline frames, on the mean of their slices' times."""
    i, j, k = voxels.T
    curves = series.values[:, k, j, i].astype(np.float64)
    hu = (curves - curves[list(baseline_frames)].mean(axis=0)).mean(axis=1)
    times = series.slice_times[:, k].mean(axis=1)
    return InputFunction(times=times, hu=hu, voxels=voxels, lps=series.geometry.to_lps(voxels), source=source)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
