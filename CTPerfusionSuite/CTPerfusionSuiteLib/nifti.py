"""NIfTI in and out: dynamic series with a true time axis, maps and masks that say what they are.

SimpleITK reads the geometry and writes the files.  Voxels are read here: the library turns NaN into zero, fills what a truncated
file lacks with zeros, and holds everything twice.
"""

import gzip
import math
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused
from CTPerfusionSuiteLib.geometry import from_sitk, sitk_image
from CTPerfusionSuiteLib.time_axis import enough_frames, from_first_frame, given_times, sampling_note, time_fault
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries, Volume
from CTPerfusionSuiteLib.voxel_stream import EndedEarly, read_voxels, voxel_stream

_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
"""NIfTI type codes (nifti1.h)."""
_SECONDS_BY_CODE = {8: ("s", 1.0), 16: ("ms", 1e-3), 24: ("us", 1e-6)}
"""Time codes of xyzt_units and what they are in seconds."""
_TIME_BITS = 0x38
_NOTES = "ITK_FileNotes"


@dataclass(frozen=True)
class NiftiHeader:
    """What voxels are and where they begin.

    Attributes
    ----------
    shape : tuple of int
        Slowest axis first: (T, K, J, I) or (K, J, I).
    stored : dtype
    offset : int
        Bytes from the start of the (decompressed) file.
    slope, intercept : float
        1 and 0 where the header does not scale.
    time_step : float
        pixdim[4] in the unit of `time_code`.
    description : str
    compressed : bool
    """

    shape: tuple[int, ...]
    stored: np.dtype
    offset: int
    slope: float
    intercept: float
    time_step: float
    time_code: int
    description: str
    compressed: bool

    @property
    def whole(self) -> bool:
        """Whether values are whole numbers by type and scaling."""
        return self.stored.kind in "iu" and float(self.slope).is_integer() and float(self.intercept).is_integer()


def read_nifti_series(path, times=None, dt: float | None = None) -> TimeSeries:
    """A 4-D NIfTI file as a series.

    Parameters
    ----------
    path : path
        .nii or .nii.gz, HU.
    times : array (T,) or (T, K), optional
    dt : float, optional
        The time axis or time step in seconds.  By default pixdim[4], but only when the header gives it a unit of time.

    Returns
    -------
    TimeSeries
        int16 when the values are whole by their type and scaling, else float32.

    Raises
    ------
    RequestRefused
        No such file, not NIfTI, or times that do not fit.
    DataRefused
        Not 4-D, too few time points, truncated, NaN, constant values, no time axis.
    """
    path = Path(path)
    header = read_nifti_header(path)
    what = f"'{path.name}'"
    if len(header.shape) > 4 and header.shape[0] > 1:
        raise DataRefused(f"{what} holds several values a voxel; give a series of HU")
    shape = header.shape[-4:]
    if len(shape) < 4 or shape[0] < 2:
        raise DataRefused(f"{what} holds one volume and no time points; give the 4-D dynamic series")
    enough_frames(shape[0], what)
    axis = given_times(shape[0], shape[1], times, dt)
    source = "given by the user"
    if axis is None:
        axis, source = _header_times(header, shape[0], path.name)
    geometry = _geometry(path, shape)
    values = np.empty(shape, np.int16 if header.whole else np.float32)
    _fill(path, header, values)
    check_values(values, what)
    note = sampling_note(axis)
    return TimeSeries(values, geometry, from_first_frame(axis), source, notes=(note,) if note else ())


def read_volume(path) -> Volume:
    """A 3-D NIfTI file with its own type (scaled values as float32), or any other 3-D image that SimpleITK reads.

    Quantity and unit are those of the header's description if `write_volume` wrote it.

    Raises
    ------
    RequestRefused
        No such file, or no 3-D image.
    DataRefused
        Truncated.
    """
    path = Path(path)
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return _other_volume(path)
    header = read_nifti_header(path)
    shape = header.shape
    while len(shape) > 3 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) != 3:
        raise RequestRefused(f"'{path.name}' is no 3-D volume (its size is {' x '.join(map(str, header.shape[::-1]))}); give one volume")
    scaled = header.slope != 1 or header.intercept != 0
    values = np.empty(shape, np.float32 if scaled or header.stored.kind == "f" else header.stored.newbyteorder("="))
    _fill(path, header, values[None])
    quantity, _, unit = header.description.rpartition("; ")
    quantity, unit = (quantity, unit.removeprefix("unit ")) if unit.startswith("unit ") else ("", "1")
    return Volume(values, _geometry(path, shape), quantity, unit)


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
    """Refuse a series (T, K, J, I) with NaN or infinite values, or with frames of one value only.

    Raises
    ------
    DataRefused
    """
    for t, frame in enumerate(values):
        low, high = frame.min(), frame.max()
        if not (math.isfinite(low) and math.isfinite(high)):
            raise DataRefused(
                f"frame {t + 1} of {what} holds values that are no numbers (NaN or infinite); replace them, by air (-1024 HU)"
            )
        if low == high:
            raise DataRefused(f"frame {t + 1} of {what} is empty (every voxel is {low:g}); export the series again")


def read_nifti_header(path: Path) -> NiftiHeader:
    """The header of a NIfTI-1 file in one piece.

    Raises
    ------
    RequestRefused
    """
    if not path.is_file():
        raise RequestRefused(f"the file '{path}' does not exist; check the path")
    unreadable = RequestRefused(f"the file '{path.name}' cannot be read as NIfTI; give a complete .nii or .nii.gz file")
    try:
        with open(path, "rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            raw = (gzip.GzipFile(fileobj=file) if compressed else file).read(348)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable from error
    if raw[4:8] == b"n+2\0":
        raise RequestRefused(f"the file '{path.name}' is NIfTI-2, which neither Slicer nor this reads; save it as NIfTI-1")
    for order in "<>":
        if len(raw) >= 348 and struct.unpack(order + "i", raw[:4])[0] == 348 and raw[344:348] == b"n+1\0":
            size = struct.unpack(order + "8h", raw[40:56])
            kind, step, units = struct.unpack(order + "h", raw[70:72])[0], struct.unpack(order + "f", raw[92:96])[0], raw[123]
            offset, slope, intercept = struct.unpack(order + "3f", raw[108:120])
            description = raw[148:228]
            break
    else:
        raise unreadable
    if kind not in _TYPES or not 1 <= size[0] <= 7 or min(size[1 : size[0] + 1]) < 1:
        raise RequestRefused(
            f"the file '{path.name}' holds voxels of a type (code {kind}) or size that is not read; save it as 16-bit or float"
        )
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        slope, intercept = 1.0, 0.0
    shape = tuple(int(n) for n in size[size[0] : 0 : -1])
    # Below three dimensions the missing ones have size 1.
    shape = (1,) * (3 - len(shape)) + shape
    return NiftiHeader(
        shape,
        np.dtype(order + _TYPES[kind]),
        int(offset),
        slope,
        intercept,
        float(step),
        units & _TIME_BITS,
        description.split(b"\0")[0].decode("latin-1").strip(),
        compressed,
    )


def _fill(path: Path, header: NiftiHeader, values: np.ndarray) -> None:
    """Read all voxels into `values`, (T, K, J, I), frame by frame."""
    try:
        with voxel_stream(path, header.offset, header.compressed, header_compressed=True) as stream:
            for frame in values:
                read_voxels(stream, frame, header.stored, header.slope, header.intercept)
    except EndedEarly as error:
        raise DataRefused(f"the file '{path.name}' is truncated: its data end before its header says; copy or export it again") from error


def _geometry(path: Path, shape: tuple[int, ...]) -> Geometry:
    """The grid in LPS, from the header as SimpleITK understands sform and qform."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise RequestRefused(f"the header of '{path.name}' has no grid at right angles; resample it to one") from error
    dimension = reader.GetDimension()
    direction = np.eye(3)
    spatial = min(dimension, 3)
    direction[:spatial, :spatial] = np.reshape(reader.GetDirection(), (dimension, dimension))[:spatial, :spatial]
    spacing, origin = (*reader.GetSpacing(), 1.0)[:3], (*reader.GetOrigin(), 0.0)[:3]
    return Geometry(shape[-1:-4:-1], spacing, origin, tuple(map(tuple, direction)))


def _header_times(header: NiftiHeader, frames: int, name: str) -> tuple[np.ndarray, str]:
    """Times by pixdim[4], which counts only with a unit of time."""
    remedy = "give the times of the frames (--times) or the step in seconds (--dt)"
    if header.time_code not in _SECONDS_BY_CODE:
        raise DataRefused(f"the header of '{name}' gives its time step no unit; {remedy}")
    unit, scale = _SECONDS_BY_CODE[header.time_code]
    times = header.time_step * scale * np.arange(frames)
    fault = time_fault(times)
    if fault:
        raise DataRefused(f"the header of '{name}' gives no usable time axis ({fault}); {remedy}")
    return times, f"NIfTI pixdim[4] in {unit}"


def _other_volume(path: Path) -> Volume:
    """A 3-D image of another kind."""
    if not path.is_file():
        raise RequestRefused(f"the file '{path}' does not exist; check the path")
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise RequestRefused(f"the file '{path.name}' cannot be read as an image; give a .nii.gz file") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise RequestRefused(f"'{path.name}' is no 3-D volume ({image.GetDimension()}-D); give one volume")
    return from_sitk(image)


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
