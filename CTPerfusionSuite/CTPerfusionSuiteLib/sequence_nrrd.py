"""Slicer's volume sequences, .seq.nrrd: a 4-D NRRD whose list axis carries index values, with true times or refused.

An index is a time only if it is numeric and has a unit of time.  Sequences that Slicer's DICOM import made count frames instead and
keep times in attributes named MultiVolume; those are used.  Times of single slices, which the format does not know, go into an
attribute of our own that Slicer carries along.
"""

import json
import math
import re
import zlib
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused
from CTPerfusionSuiteLib.nifti import check_frame
from CTPerfusionSuiteLib.progress import to_the_end
from CTPerfusionSuiteLib.time_axis import (
    SECONDS_IN,
    contradiction_note,
    enough_frames,
    from_first_frame,
    given_times,
    sampling_note,
    time_fault,
)
from CTPerfusionSuiteLib.volumes import VOXEL_MM, Geometry, TimeSeries
from CTPerfusionSuiteLib.voxel_stream import EndedEarly, may_hold, read_voxels, voxel_stream

_TYPES = {
    "int8": "i1",
    "signed char": "i1",
    "uint8": "u1",
    "uchar": "u1",
    "unsigned char": "u1",
    "int16": "i2",
    "short": "i2",
    "short int": "i2",
    "signed short": "i2",
    "uint16": "u2",
    "ushort": "u2",
    "unsigned short": "u2",
    "int32": "i4",
    "int": "i4",
    "signed int": "i4",
    "uint32": "u4",
    "uint": "u4",
    "unsigned int": "u4",
    "float": "f4",
    "double": "f8",
}
_TYPES |= {f"{name}_t": code for name, code in list(_TYPES.items()) if name[-1].isdigit()}
_TO_LPS = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}
SLICE_TIMES, SLABS, TIME_SOURCE = "CTPerfusionSuite.SliceTimes", "CTPerfusionSuite.Slabs", "CTPerfusionSuite.TimeSource"
"""Attributes of our own that Slicer keeps with a sequence: (T, K) seconds and (K,) slabs as JSON, and the source in words."""
_PIECE_BYTES = 16 << 20


def read_sequence(path, times=None, dt: float | None = None) -> TimeSeries:
    """A .seq.nrrd (or 4-D .nrrd, .nhdr) file as a series.

    Parameters
    ----------
    path : path
        Raw or gzip encoding, list axis first or last.
    times : array (T,) or (T, K), optional
    dt : float, optional
        The time axis or time step in seconds, instead of the file's.

    Raises
    ------
    RequestRefused
        No such file, not NRRD, a kind of NRRD this does not read, or times that do not fit.
    DataRefused
        Not 4-D, too few time points, truncated, NaN, constant values, no time axis.
    """
    return to_the_end(reading_sequence(path, times, dt))


def reading_sequence(path, times=None, dt: float | None = None) -> Generator[float, None, TimeSeries]:
    """`read_sequence` in small pieces, for callers that must stay responsive: yields the fraction done, returns the series."""
    path = Path(path)
    fields, keys, offset = _header(path)
    sizes = _sizes(fields, path.name)
    if len(sizes) != 4:
        raise DataRefused(f"'{path.name}' has {len(sizes)} axes, not 3 of space and one of time; give the dynamic sequence")
    axis = _list_axis(fields, path.name)
    frames = sizes[axis]
    enough_frames(frames, f"'{path.name}'")
    size = sizes[1:] if axis == 0 else sizes[:3]
    geometry = _geometry(fields, axis, size, path.name)
    found = given_times(frames, size[2], times, dt)
    source, notes = "given by the user", []
    try:
        own, own_source = _times(fields, keys, axis, frames, size[2], path.name)
        if found is None:
            found, source = own, own_source
        else:
            notes.append(contradiction_note(found, own, own_source))
    except DataRefused:
        if found is None:
            raise
    values = yield from _reading_values(path, fields, offset, frames, size[::-1], axis)
    for number, frame in enumerate(values, start=1):
        check_frame(frame, number, f"'{path.name}'")
        yield 0.7 + 0.3 * number / frames
    slabs = _own_array(keys, SLABS, (size[2],))
    notes = tuple(note for note in (*notes, sampling_note(found)) if note)
    return TimeSeries(values, geometry, from_first_frame(found), source, None if slabs is None else slabs.astype(int), notes)


def write_sequence(path, series: TimeSeries, compress: bool = False) -> None:
    """Write a series as Slicer does: list axis last, index "time" in s, little endian, raw or gzip."""
    for _fraction in writing_sequence(path, series, compress):
        pass


def writing_sequence(path, series: TimeSeries, compress: bool = False, frames: Iterable[np.ndarray] | None = None) -> Iterator[float]:
    """`write_sequence` in small pieces, for callers that must stay responsive: yields the fraction done after each.

    Parameters
    ----------
    frames : iterable of ndarray (K, J, I), optional
        Written instead of ``series.values``, which then only gives their number and type.
    """
    values, geometry = series.values, series.geometry
    stored = np.dtype("<i2" if values.dtype == np.int16 else "<f4")
    frame_times = series.times if series.times.ndim == 1 else series.times.min(axis=1)
    size_t = len(values)
    columns = (np.asarray(geometry.direction) * np.asarray(geometry.spacing)).T
    lines = [
        "NRRD0005",
        "# Complete NRRD file format specification at:",
        "# http://teem.sourceforge.net/nrrd/format.html",
        f"type: {'short' if values.dtype == np.int16 else 'float'}",
        "dimension: 4",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, geometry.size))} {size_t}",
        f"space directions: {' '.join(_vector(c) for c in columns)} none",
        "kinds: domain domain domain list",
        'labels: "" "" "" "time"',
        'units: "" "" "" "s"',
        "endian: little",
        f"encoding: {'gzip' if compress else 'raw'}",
        f"space origin: {_vector(geometry.origin)}",
        "measurement frame: (1,0,0) (0,1,0) (0,0,1)",
        "DataNodeClassName:=vtkMRMLScalarVolumeNode",
        "axis 3 index type:=numeric",
        f"axis 3 index values:={' '.join(f'{t:.6g}' if abs(t) < 1e5 else repr(t) for t in np.round(frame_times, 4).tolist())}",
        f"{TIME_SOURCE}:={' '.join(series.time_source.split())}",
    ]
    if series.times.ndim == 2:
        lines.append(f"{SLICE_TIMES}:={json.dumps(np.round(series.times, 6).tolist(), separators=(',', ':'))}")
    if series.slabs is not None:
        lines.append(f"{SLABS}:={json.dumps(np.asarray(series.slabs).tolist(), separators=(',', ':'))}")
    with open(path, "wb") as file:
        file.write(("\n".join(lines) + "\n\n").encode("utf-8"))
        packer = zlib.compressobj(1, zlib.DEFLATED, 31) if compress else None
        slices = max(1, _PIECE_BYTES // max(1, values[0, 0].nbytes))
        for n, frame in enumerate(values if frames is None else frames):
            for k in range(0, len(frame), slices):
                data = np.ascontiguousarray(frame[k : k + slices], dtype=stored)
                file.write(packer.compress(data) if packer else data)
                yield (n + min(1.0, (k + slices) / len(frame))) / len(values)
        if packer:
            file.write(packer.flush())


def _vector(numbers) -> str:
    return "(" + ",".join(repr(float(n)) for n in numbers) + ")"


def _header(path: Path) -> tuple[dict[str, str], dict[str, str], int]:
    """(fields, key-value pairs, offset of the data in bytes) of an NRRD header."""
    if not path.is_file():
        raise RequestRefused(f"the file '{path}' does not exist; check the path")
    fields, keys = {}, {}
    try:
        with open(path, "rb") as file:
            if not file.readline(64).startswith(b"NRRD000"):
                raise RequestRefused(f"the file '{path.name}' is no NRRD file; give a .seq.nrrd")
            while True:
                raw = file.readline()
                line = raw.decode("utf-8", "replace").rstrip("\r\n")
                if not line:
                    # A blank line ends the header; in a detached header the end of the file does.
                    return fields, keys, file.tell()
                if line.startswith("#"):
                    continue
                key, pair, value = line.partition(":=")
                name, field, text = line.partition(": ")
                if pair and (not field or len(key) <= len(name)):
                    keys[key.strip()] = value.strip().replace("\\n", "\n")
                elif field:
                    fields[name.strip().lower().replace("centers", "centerings")] = text.strip()
    except OSError as error:
        raise RequestRefused(f"the file '{path.name}' cannot be read ({type(error).__name__}); check its permissions") from error


def _sizes(fields: dict[str, str], name: str) -> list[int]:
    """Voxels along each axis."""
    words = fields.get("sizes", "").split()
    if not all(re.fullmatch(r"[0-9]{1,9}", word) and int(word) for word in words):
        raise DataRefused(f"the header of '{name}' gives no usable size ('{fields['sizes'][:40]}'); save it with Slicer as .seq.nrrd")
    return [int(word) for word in words]


def _list_axis(fields: dict[str, str], name: str) -> int:
    """0 or 3: the axis that is not one of space."""
    directions = _directions(fields.get("space directions", ""))
    kinds = fields.get("kinds", "").lower().split()
    candidates = [n for n, direction in enumerate(directions) if direction is None]
    if len(candidates) != 1:
        candidates = [n for n, kind in enumerate(kinds) if kind not in ("domain", "space")]
    if len(candidates) != 1 or candidates[0] not in (0, 3):
        raise RequestRefused(
            f"the axes of '{name}' are not 3 of space and a first or last one of time; save the sequence with Slicer as .seq.nrrd"
        )
    return candidates[0]


def _directions(text: str) -> list[np.ndarray | None]:
    """The vectors of "space directions", None for "none"; NaN where there is no number."""
    found = re.findall(r"none|\([^)]*\)", text.lower())
    return [None if part == "none" else np.array([_number(n) for n in part.strip("()").split(",")]) for part in found]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _geometry(fields: dict[str, str], axis: int, size: list[int], name: str) -> Geometry:
    """The grid in LPS."""
    space = fields.get("space", "").lower().removesuffix("-time")
    if space not in _TO_LPS:
        raise RequestRefused(
            f"'{name}' does not say how it lies in the patient (space: {space or 'missing'}); save it with Slicer as .seq.nrrd"
        )
    sign = np.array(_TO_LPS[space], dtype=float)
    directions = [direction for direction in _directions(fields.get("space directions", "")) if direction is not None]
    if len(directions) != 3 or any(len(direction) != 3 for direction in directions):
        raise RequestRefused(f"'{name}' has no three directions of space; save it with Slicer as .seq.nrrd")
    columns = np.stack(directions, axis=1) * sign[:, None]
    origin = _directions(fields.get("space origin", ""))
    origin = origin[0] * sign if origin and origin[0] is not None and len(origin[0]) == 3 else np.zeros(3)
    with np.errstate(over="ignore"):
        spacing = np.linalg.norm(columns, axis=0)
    if not (np.isfinite([*spacing, *origin]).all() and VOXEL_MM[0] <= spacing.min() and spacing.max() <= VOXEL_MM[1]):
        sizes = " x ".join(f"{s:.3g}" for s in spacing)
        raise DataRefused(f"the header of '{name}' gives no usable voxel size and place ({sizes} mm); save it with Slicer as .seq.nrrd")
    if abs(np.linalg.det(columns / spacing)) < 0.99:
        raise DataRefused(f"the axes of '{name}' are not at right angles; resample it to a regular grid first")
    return Geometry(size, tuple(spacing), tuple(origin), tuple(map(tuple, columns / spacing)))


def _quoted(text: str) -> list[str]:
    """The parts of a field such as labels or units: quoted strings, or bare words."""
    return [quoted if quoted or not bare else bare for quoted, bare in re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', text)]


def _times(fields: dict[str, str], keys: dict[str, str], axis: int, frames: int, slices: int, name: str) -> tuple[np.ndarray, str]:
    """((T,) or (T, K) seconds, where they come from)."""
    units = _quoted(fields.get("units", ""))
    numeric = keys.get(f"axis {axis} index type", "numeric") == "numeric"
    index = unquote(keys.get(f"axis {axis} index values", "")) if numeric else ""
    unit = units[axis] if len(units) == 4 else ""
    remedy = "give the times of the frames (--times) or the step in seconds (--dt)"
    return sequence_times(index, unit, keys, frames, slices, f"'{name}'", remedy)


def sequence_times(
    index: str, unit: str, attributes: dict[str, str], frames: int, slices: int, what: str, remedy: str
) -> tuple[np.ndarray, str]:
    """The time axis of a sequence, from a file or from Slicer's scene.

    Parameters
    ----------
    index : str
        Index values, separated by blanks; empty if they are no numbers.
    unit : str
        Unit of the index as written.
    attributes : dict of str
        The sequence's attributes: MultiVolume's, and ours.
    frames, slices : int
    what, remedy : str
        For the refusal: what has no times, and what to do about it.

    Returns
    -------
    times : ndarray (T,) or (T, K)
        Seconds, strictly increasing and plausible.
    source : str
        Where they come from.

    Raises
    ------
    DataRefused
    """
    unit, faults = unit.strip().lower(), []
    values = _numbers(index)
    if unit in SECONDS_IN and len(values) == frames:
        times = values * SECONDS_IN[unit]
        fault = time_fault(times)
        if not fault:
            own = _own_array(attributes, SLICE_TIMES, (frames, slices))
            # Only if they still are the times of these frames: somebody may have edited the index.
            if own is not None and np.abs(own.min(axis=1) - times).max() < 1e-3 and time_fault(own) is None:
                times = own
            return times, attributes.get(TIME_SOURCE) or f"sequence index in {unit}"
        faults.append(f"by its index {fault}")
    else:
        faults.append("its index has no unit of time" if len(values) == frames else "it has no numeric index")
    labels = _numbers(attributes.get("MultiVolume.FrameLabels", ""))
    unit = attributes.get("MultiVolume.FrameIdentifyingDICOMTagUnits", "").lower()
    tag = attributes.get("MultiVolume.FrameIdentifyingDICOMTagName", "")
    if len(labels) == frames and unit in SECONDS_IN and tag != "ContentTime":
        times = labels * SECONDS_IN[unit]
        fault = time_fault(times)
        if not fault:
            return times, f"MultiVolume.FrameLabels in {unit}" + (f" ({tag})" if tag else "")
        faults.append(f"by MultiVolume.FrameLabels {fault}")
    elif len(labels) == frames and tag == "ContentTime":
        faults.append("its MultiVolume.FrameLabels are ContentTime, often the time of reconstruction")
    raise DataRefused(f"{what} has no usable time axis ({'; '.join(faults)}); {remedy}")


def _numbers(text: str) -> np.ndarray:
    """Numbers separated by blanks or commas; empty if there is anything else."""
    try:
        return np.array([float(part) for part in text.replace(",", " ").split()])
    except ValueError:
        return np.array([])


def _own_array(keys: dict[str, str], key: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """An array that `write_sequence` stored, None if it is missing or does not fit any more."""
    try:
        array = np.array(json.loads(keys[key]), dtype=float)
    except (KeyError, ValueError, TypeError):
        return None
    return array if array.shape == shape and np.isfinite(array).all() else None


def _reading_values(path: Path, fields: dict[str, str], offset: int, frames: int, shape: tuple[int, ...], axis: int):
    """(T, K, J, I) values, int16 where the type is whole and they fit, else float32; yields how much of 0.7 is done."""
    kind = _TYPES.get(fields.get("type", "").lower())
    encoding = fields.get("encoding", "").lower()
    if kind is None or encoding not in ("raw", "gzip", "gz"):
        raise RequestRefused(
            f"'{path.name}' has type '{fields.get('type')}' and encoding '{encoding}', which are not read; save it as raw or gzip"
        )
    stored = np.dtype(("<" if fields.get("endian", "little").lower() == "little" else ">") + kind)
    data, skip = path, offset
    detached = fields.get("data file", fields.get("datafile", ""))
    if detached:
        data, skip = path.parent / Path(detached).name, 0
        if not data.is_file():
            raise RequestRefused(f"the data file '{Path(detached).name}' of '{path.name}' does not exist; keep both in one folder")
    try:
        if not may_hold(data, skip + frames * math.prod(shape) * stored.itemsize, encoding != "raw"):
            raise EndedEarly
        # Slicer keeps many CT as int32; HU fit 16 bits.
        values = np.empty((frames, *shape), np.int16 if stored.kind in "iu" else np.float32)
        with voxel_stream(data, skip, encoding != "raw") as stream:
            if axis == 3:
                for n, frame in enumerate(values, start=1):
                    read_voxels(stream, frame, stored)
                    yield 0.7 * n / frames
            else:
                # Time runs fastest: read slice by slice and turn each.
                for k in range(shape[0]):
                    turned = np.empty((*shape[1:], frames), values.dtype)
                    read_voxels(stream, turned, stored)
                    values[:, k] = np.moveaxis(turned, -1, 0)
                    yield 0.7 * (k + 1) / shape[0]
    except EndedEarly as error:
        raise DataRefused(f"the file '{path.name}' is truncated: its data end before its header says; copy or export it again") from error
    return values
