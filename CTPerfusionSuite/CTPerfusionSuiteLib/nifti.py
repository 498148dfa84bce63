"""NIfTI in and out: dynamic series with a true time axis, maps and masks that say what they are.

SimpleITK writes the files.  They are read here: the library turns NaN into zero, fills what a truncated file lacks with zeros, holds
everything twice, and takes voxel sizes from pixdim where the sform says otherwise.
"""

import math
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused
from CTPerfusionSuiteLib.geometry import from_sitk, geometry_of, sitk_image
from CTPerfusionSuiteLib.nifti_header import NiftiHeader, read_nifti_header
from CTPerfusionSuiteLib.time_axis import enough_frames, from_first_frame, given_times, sampling_note, time_fault
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries, Volume
from CTPerfusionSuiteLib.voxel_stream import EndedEarly, read_voxels, voxel_stream

_SECONDS_BY_CODE = {8: ("s", 1.0), 16: ("ms", 1e-3), 24: ("us", 1e-6)}
"""Time codes of xyzt_units and what they are in seconds."""
_NOTES = "ITK_FileNotes"
LARGEST_HU = 1e6
"""Far beyond metal and any padding of a scanner: values above it are no CT."""


def read_nifti_series(path, times=None, dt: float | None = None, missing_dt: float | None = None) -> TimeSeries:
    """A 4-D NIfTI file as a series; also one whose time points lie on the fifth axis, the fourth being of size 1.

    Parameters
    ----------
    path : path
        .nii or .nii.gz, HU.
    times : array (T,) or (T, K), optional
    dt : float, optional
        The time axis or time step in seconds.  By default pixdim[4], but only when the header gives it a unit of time; NIfTI knows no
        time step of a fifth axis.
    missing_dt : float, optional
        The time step in seconds where the header gives none that can be used.

    Returns
    -------
    TimeSeries
        int16 when the values are whole by their type and scaling, else float32.

    Raises
    ------
    RequestRefused
        No such file, not NIfTI, or times that do not fit.
    DataRefused
        Not 4-D, too few time points, truncated, no usable grid, NaN, no HU, constant values, no time axis.
    """
    path = Path(path)
    header = read_nifti_header(path)
    what = f"'{path.name}'"
    shape = header.shape
    while len(shape) > 4 and shape[0] == 1:
        shape = shape[1:]
    fifth = len(shape) == 5 and shape[1] == 1
    if fifth:
        shape = (shape[0], *shape[2:])
    if len(shape) > 4:
        raise DataRefused(f"{what} holds several values a voxel; give a series of HU")
    if len(shape) < 4 or shape[0] < 2:
        raise DataRefused(f"{what} holds one volume and no time points; give the 4-D dynamic series")
    enough_frames(shape[0], what)
    axis = given_times(shape[0], shape[1], times, dt)
    source = "given by the user"
    if axis is None:
        try:
            axis, source = _header_times(header, shape[0], path.name, fifth)
        except DataRefused:
            axis = given_times(shape[0], shape[1], dt=missing_dt)
            if axis is None:
                raise
    geometry = header.grid(path.name)
    values = np.empty(shape, np.int16 if header.whole else np.float32)
    _fill(path, header, values)
    check_values(values, what)
    notes = tuple(note for note in (sampling_note(axis), _placing_note(header)) if note)
    return TimeSeries(values, geometry, from_first_frame(axis), source, notes=notes)


def read_volume(path) -> Volume:
    """A 3-D NIfTI file with its own type (scaled values as float32), or any other 3-D image that SimpleITK reads.

    Quantity and unit are those of the header's description if `write_volume` wrote it.

    Raises
    ------
    RequestRefused
        No such file, or no 3-D image.
    DataRefused
        Truncated, or no usable grid.
    """
    path = Path(path)
    if not _is_nifti(path):
        return _other_volume(path)
    header = read_nifti_header(path)
    shape = _volume_shape(header, path.name)
    scaled = header.slope != 1 or header.intercept != 0
    values = np.empty(shape, np.float32 if scaled or header.stored.kind == "f" else header.stored.newbyteorder("="))
    _fill(path, header, values[None])
    quantity, _, unit = header.description.rpartition("; ")
    quantity, unit = (quantity, unit.removeprefix("unit ")) if unit.startswith("unit ") else ("", "1")
    return Volume(values, header.grid(path.name), quantity, unit)


def volume_grid(path) -> Geometry:
    """The grid of the file that `read_volume` would read, from its header alone; parameters and refusals as there."""
    path = Path(path)
    if _is_nifti(path):
        header = read_nifti_header(path)
        _volume_shape(header, path.name)
        return header.grid(path.name)
    reader = sitk.ImageFileReader()
    _read_other(path, reader, reader.ReadImageInformation)
    return geometry_of(reader)


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _volume_shape(header: NiftiHeader, name: str) -> tuple[int, int, int]:
    """(K, J, I) of a file of one volume."""
    shape = header.shape
    while len(shape) > 3 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) != 3:
        raise RequestRefused(f"'{name}' is no 3-D volume (its size is {' x '.join(map(str, header.shape[::-1]))}); give one volume")
    return shape


def write_volume(path, volume: Volume) -> None:
    """Write a volume as NIfTI: sform and qform alike, code 1 (scanner), quantity and unit in `descrip`.

    The type is kept, but float64 becomes float32 and logical values uint8.
    """
    if volume.values.dtype == np.float64:
        volume = replace(volume, values=volume.values.astype(np.float32))
    image = sitk_image(volume)
    image.SetMetaData(_NOTES, _description(volume.quantity, volume.unit))
    _write(image, path)


def write_series(path, series: TimeSeries) -> None:
    """Write a series as 4-D NIfTI with pixdim[4] in seconds (the mean time step; NIfTI has no place for uneven or per-slice times)."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(series.values), isVector=False)
    step = float(np.diff(series.times, axis=0).mean()) if len(series.values) > 1 else 1.0
    image.SetSpacing((*series.geometry.spacing, step))
    image.SetOrigin((*series.geometry.origin, 0.0))
    direction = np.eye(4)
    direction[:3, :3] = series.geometry.direction
    image.SetDirection(direction.ravel().tolist())
    image.SetMetaData(_NOTES, _description("computed tomography", "[hnsf'U]"))
    _write(image, path)


def check_values(values: np.ndarray, what: str) -> None:
    """Refuse a series (T, K, J, I) with NaN or infinite values, with values that are no HU, or with frames of one value only.

    Raises
    ------
    DataRefused
    """
    for number, frame in enumerate(values, start=1):
        check_frame(frame, number, what)


def check_frame(frame: np.ndarray, number: int, what: str) -> None:
    """`check_values` of one frame (K, J, I), whose number counts from 1."""
    low, high = frame.min(), frame.max()
    if not (math.isfinite(low) and math.isfinite(high)):
        raise DataRefused(f"frame {number} of {what} holds values that are no numbers (NaN or infinite); replace them, by air (-1024 HU)")
    if max(abs(float(low)), abs(float(high))) > LARGEST_HU:
        raise DataRefused(f"frame {number} of {what} holds values from {low:g} to {high:g}, which are no HU; export the series in HU")
    if low == high:
        raise DataRefused(f"frame {number} of {what} is empty (every voxel is {low:g}); export the series again")


def _fill(path: Path, header: NiftiHeader, values: np.ndarray) -> None:
    """Read all voxels into `values`, (T, K, J, I), frame by frame."""
    try:
        with voxel_stream(path, header.offset, header.compressed, header_compressed=True) as stream:
            for frame in values:
                read_voxels(stream, frame, header.stored, header.slope, header.intercept)
    except EndedEarly as error:
        raise DataRefused(f"the file '{path.name}' is truncated: its data end before its header says; copy or export it again") from error


def _header_times(header: NiftiHeader, frames: int, name: str, fifth: bool) -> tuple[np.ndarray, str]:
    """Times by pixdim[4], which counts only with a unit of time and where the fourth axis is that of time."""
    remedy = "give the times of the frames (--times) or the step in seconds (--dt)"
    if fifth:
        raise DataRefused(f"'{name}' holds its time points on the fifth axis, of which a NIfTI header gives no time step; {remedy}")
    if header.time_code not in _SECONDS_BY_CODE:
        raise DataRefused(f"the header of '{name}' gives its time step no unit; {remedy}")
    unit, scale = _SECONDS_BY_CODE[header.time_code]
    times = header.time_step * scale * np.arange(frames)
    fault = time_fault(times)
    if fault:
        raise DataRefused(f"the header of '{name}' gives no usable time axis ({fault}); {remedy}")
    return times, f"NIfTI pixdim[4] in {unit}"


def _placing_note(header: NiftiHeader) -> tuple[str, str] | None:
    """A note for the user when the header is at odds with itself about the voxels, or says nothing of left and right."""
    if not header.placed:
        return "unknown_orientation", "the header does not say how the head lies; left and right may be exchanged"
    sizes = header.contradicted_sizes
    return sizes and ("voxel_size_contradicted", f"the header contradicts itself about the size of voxels ({sizes}, in the header's unit)")


def _other_volume(path: Path) -> Volume:
    """A 3-D image of another kind."""
    reader = sitk.ImageFileReader()
    _read_other(path, reader, reader.ReadImageInformation)
    return from_sitk(_read_other(path, reader, reader.Execute))


def _read_other(path: Path, reader: sitk.ImageFileReader, read) -> sitk.Image | None:
    """What `read`, a method of `reader`, makes of a 3-D image of one value a voxel."""
    if not path.is_file():
        raise RequestRefused(f"the file '{path}' does not exist; check the path")
    reader.SetFileName(str(path))
    try:
        with _quiet():
            found = read()
    except RuntimeError as error:
        raise RequestRefused(f"the file '{path.name}' cannot be read as an image; give a .nii.gz file") from error
    if reader.GetDimension() != 3 or reader.GetNumberOfComponents() != 1:
        raise RequestRefused(f"'{path.name}' is no 3-D volume ({reader.GetDimension()}-D); give one volume")
    if not np.isfinite([*reader.GetSpacing(), *reader.GetOrigin(), *reader.GetDirection()]).all() or min(reader.GetSpacing()) <= 0:
        raise DataRefused(f"the header of '{path.name}' gives no usable voxel size and place; export the image again")
    return found


@contextmanager
def _quiet():
    """Keep the library from printing what it thinks of a file beside our own sentence; afterwards it speaks as before."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _description(quantity: str, unit: str) -> str:
    """Quantity and unit in the 79 characters that NIfTI has; the unit is never cut."""
    tail = f"unit {unit}"
    return f"{quantity[: 79 - len(tail) - 2]}; {tail}" if quantity else tail


def _write(image: sitk.Image, path) -> None:
    """Write; compressed for .gz names (the library takes no notice of a level, its own is a fast one)."""
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.SetUseCompression(str(path).lower().endswith(".gz"))
    try:
        writer.Execute(image)
    except RuntimeError as error:
        raise OSError(f"'{path}' could not be written: {error}") from error
