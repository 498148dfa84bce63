"""Bring slices onto a regular grid and volumes onto each other's: tilt, uneven spacing, binning, resampling.

Gantry tilt is undone by shifting each slice within its own plane, so that the slice normal becomes the K axis: slices, and the times
at which they were scanned, never mix.  Uneven spacing is resampled along K only, with weights that also apply to the times.
"""

from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries, Volume

AIR_HU = -1024
"""What lies outside the scanned field."""
_SHIFT_TOLERANCE = 0.1
"""Pixels by which slices may be off before they are shifted."""


@dataclass(frozen=True)
class SliceLayout:
    """How stored slices, sorted along their normal, come onto a regular grid.

    Attributes
    ----------
    geometry : Geometry
        The regular grid; its K axis is the slice normal.
    shifts : ndarray (K, 2) or None
        Rows and columns (not negative) by which each stored slice moves within its plane; None where none has to.
    weights : ndarray (K', K) or None
        Weight of each stored slice in each slice of the grid; None where the stored spacing is even.
    tilt_deg : float
        Angle between the slice normal and the line through the slices.
    gaps_mm : tuple of 2
        Smallest and largest distance between stored slices.
    """

    geometry: Geometry
    shifts: np.ndarray | None = None
    weights: np.ndarray | None = None
    tilt_deg: float = 0.0
    gaps_mm: tuple[float, float] = (0.0, 0.0)

    @property
    def is_plain(self) -> bool:
        """Whether slices can be stored as they come."""
        return self.shifts is None and self.weights is None


def lay_out_slices(positions, row_axis, column_axis, pixel_spacing, shape, thickness: float = 1.0) -> SliceLayout:
    """The regular grid for slices at `positions`.

    Parameters
    ----------
    positions : array (K, 3)
        LPS mm of the center of each slice's first pixel, ascending along row_axis x column_axis.
    row_axis, column_axis : array (3,)
        Unit vectors along which the column index and the row index grow.
    pixel_spacing : (float, float)
        mm between rows and between columns, as in DICOM's PixelSpacing.
    shape : (int, int)
        Rows and columns.
    thickness : float
        mm; the K spacing where there is only one slice.

    Raises
    ------
    DataRefused
        A gap so wide that filling it would invent anatomy.
    """
    positions = np.asarray(positions, dtype=float)
    row_axis, column_axis = orthonormal(row_axis, column_axis)
    normal = np.cross(row_axis, column_axis)
    (row_step, column_step), (rows, columns) = pixel_spacing, shape
    heights = positions @ normal
    gaps = np.diff(heights)
    grid_heights, weights, step = heights, None, max(float(thickness), 0.1)
    if gaps.size:
        step = float(gaps.mean())
        even = heights[0] + step * np.arange(len(heights))
        if np.abs(heights - even).max() > max(0.02, 0.02 * step):
            grid_heights, step, weights = _even_heights(heights)
        if gaps.max() > max(3 * np.median(gaps), 15.0):
            k = int(np.argmax(gaps))
            raise DataRefused(
                f"between slices {k + 1} and {k + 2} (at {heights[k]:.1f} and {heights[k + 1]:.1f} mm) lies a gap of "
                f"{gaps[k]:.1f} mm where others are {np.median(gaps):.1f} mm apart; export the series with all its slices"
            )
    middle = len(positions) // 2
    offsets = positions - positions[middle]
    moves = np.stack([offsets @ column_axis / row_step, offsets @ row_axis / column_step], axis=1)
    shifts, tilt, corner = None, 0.0, np.zeros(2, int)
    if np.abs(moves).max() > _SHIFT_TOLERANCE:
        # The grid keeps the pixels of the middle slice and is as large as it takes to lose none of the others.
        corner = np.floor(moves.min(axis=0) + 1e-3).astype(int)
        rows, columns = (np.ceil(moves.max(axis=0) - 1e-3).astype(int) - corner + (rows, columns)).tolist()
        shifts = moves - corner
        whole = np.rint(shifts)
        shifts = np.clip(np.where(np.abs(shifts - whole) < 2e-3, whole, shifts), 0, None)
        line = positions[-1] - positions[0]
        tilt = float(np.degrees(np.arctan2(np.linalg.norm(line - (line @ normal) * normal), abs(line @ normal))))
    origin = (
        positions[middle]
        + normal * (grid_heights[0] - heights[middle])
        + corner[0] * row_step * column_axis
        + corner[1] * column_step * row_axis
    )
    geometry = Geometry(
        (columns, rows, len(grid_heights)),
        (column_step, row_step, step),
        tuple(origin),
        tuple(map(tuple, np.stack([row_axis, column_axis, normal], axis=1))),
    )
    limits = (float(gaps.min()), float(gaps.max())) if gaps.size else (step, step)
    return SliceLayout(geometry, shifts, weights, tilt, limits)


def orthonormal(row_axis, column_axis) -> tuple[np.ndarray, np.ndarray]:
    """Both axes (3,) with the rounding of text headers removed: length 1, at right angles."""
    row_axis = np.asarray(row_axis, dtype=float)
    row_axis = row_axis / np.linalg.norm(row_axis)
    column_axis = np.asarray(column_axis, dtype=float)
    column_axis = column_axis - (column_axis @ row_axis) * row_axis
    return row_axis, column_axis / np.linalg.norm(column_axis)


def _even_heights(heights: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Even heights for uneven ones: (heights (K',), step, weights (K', K)).

    The step is the median gap and the grid passes through as many stored slices as possible, so that they stay as they are; at
    most twice as many slices come out as went in.
    """
    gaps = np.diff(heights)
    extent = heights[-1] - heights[0]
    step = max(float(np.median(gaps)), extent / (2 * len(heights) - 1))
    off_grid = [np.abs((heights - anchor) / step - np.rint((heights - anchor) / step)) for anchor in heights]
    anchor = heights[int(np.argmax([np.count_nonzero(off < 0.02) for off in off_grid]))]
    slack = 0.02
    first, last = np.ceil((heights[0] - anchor) / step - slack), np.floor((heights[-1] - anchor) / step + slack)
    even = anchor + step * np.arange(int(first), int(last) + 1)
    weights = np.zeros((len(even), len(heights)))
    below = np.clip(np.searchsorted(heights, even) - 1, 0, len(heights) - 2)
    share = np.clip((even - heights[below]) / gaps[below], 0.0, 1.0)
    share = np.where(share < slack / 2, 0.0, np.where(share > 1 - slack / 2, 1.0, share))
    lines = np.arange(len(even))
    weights[lines, below] = 1 - share
    weights[lines, below + 1] += share
    return even, step, weights


def undo_tilt(values: np.ndarray, shifts: np.ndarray, shape: tuple[int, int], outside: float = AIR_HU) -> np.ndarray:
    """Each slice moved within its plane.

    Parameters
    ----------
    values : ndarray (..., K, J, I)
    shifts : array (K, 2)
        Rows and columns, not negative, by which each slice moves (`SliceLayout.shifts`).
    shape : (int, int)
        Rows and columns of the result.
    outside : float
        Value where a slice does not reach.

    Returns
    -------
    ndarray (..., K, rows, columns) of the same type.
    """
    values = np.asarray(values)
    result = np.empty((*values.shape[:-2], *shape), values.dtype)
    for place in np.ndindex(values.shape[:-2]):
        result[place] = shifted_slice(values[place], shifts[place[-1]], shape, outside)
    return result


def shifted_slice(image: np.ndarray, shift, shape: tuple[int, int], outside: float = AIR_HU) -> np.ndarray:
    """One slice (J, I) moved by `shift` (rows, columns; not negative) into `shape`; whole shifts copy, others interpolate.

    Cubic convolution (Keys 1981), which keeps noise and edges where linear interpolation would blur them by an amount that differs
    from slice to slice.
    """
    moved = image.astype(np.float32) - np.float32(outside)
    for axis in (0, 1):
        moved = _shifted_along(moved, float(shift[axis]), shape[axis], axis)
    moved += np.float32(outside)
    if np.issubdtype(image.dtype, np.integer):
        limits = np.iinfo(image.dtype)
        return np.clip(np.rint(moved, out=moved), limits.min, limits.max).astype(image.dtype)
    return moved


def _shifted_along(image: np.ndarray, shift: float, length: int, axis: int) -> np.ndarray:
    """`image` (J, I) float32 moved by `shift` pixels along `axis` into `length` pixels; zero outside."""
    if shift == 0 and image.shape[axis] == length:
        return image
    shape = list(image.shape)
    size, shape[axis] = image.shape[axis], length
    moved = np.zeros(shape, np.float32)
    whole = int(np.ceil(shift))
    f = whole - shift
    taps = (
        {0: 1.0}
        if f == 0
        else {
            -1: ((-0.5 * f + 1) * f - 0.5) * f,
            0: (1.5 * f - 2.5) * f * f + 1,
            1: ((-1.5 * f + 2) * f + 0.5) * f,
            2: (0.5 * f - 0.5) * f * f,
        }
    )
    for tap, weight in taps.items():
        # Output row r takes input row r - whole + tap.
        start = max(0, whole - tap)
        stop = min(length, size + whole - tap)
        target, source = [slice(None)] * 2, [slice(None)] * 2
        target[axis], source[axis] = slice(start, stop), slice(start - whole + tap, stop - whole + tap)
        moved[tuple(target)] += np.float32(weight) * image[tuple(source)]
    return moved


def resample_uneven_slices(values: np.ndarray, weights: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Slices (K, J, I) brought to even spacing: (K', J, I) of the same type, written to `out` if given.

    weights : array (K', K), at most two in a line are not zero (`SliceLayout.weights`).
    """
    values = np.asarray(values)
    out = np.empty((len(weights), *values.shape[1:]), values.dtype) if out is None else out
    whole = np.issubdtype(values.dtype, np.integer)
    for k, line in enumerate(weights):
        sources = np.flatnonzero(line)
        if len(sources) == 1:
            out[k] = values[sources[0]]
            continue
        mixed = sum(np.float32(line[source]) * values[source] for source in sources)
        out[k] = np.rint(mixed) if whole else mixed
    return out


def axial_slices(series: TimeSeries) -> TimeSeries:
    """The same voxels, at the same places, as slices that follow each other from foot to head.

    Files may hold the axes in any order (coronal or sagittal storage), while every step of an analysis goes slice by slice in the
    plane that was scanned.  The order of the voxels along an axis, and the order of columns and rows of axial slices, stay.

    Raises
    ------
    DataRefused
        Times of single slices that are not axial.
    """
    upward = np.abs(np.asarray(series.geometry.direction)[2])
    if upward[2] >= upward.max() - 1e-6:
        return series
    if series.times.ndim == 2 or series.slabs is not None:
        raise DataRefused("the slices of the series, which have times of their own, are not axial; give the series as it was scanned")
    vertical = int(np.argmax(upward))
    # Of the other two axes, the one that runs more from side to side gives the columns.
    sideways = np.abs(np.asarray(series.geometry.direction)[0])
    first, second = sorted((axis for axis in range(3) if axis != vertical), key=lambda axis: -sideways[axis])
    order = (first, second, vertical)
    frames = len(series.values)
    shape = tuple(series.geometry.size[axis] for axis in reversed(order))
    turned = series.values.reshape(frames, -1)
    # In place and frame by frame, so that the series is never held twice; arrays count their axes from the slowest.
    for frame, values in zip(turned, series.values, strict=True):
        frame[:] = values.transpose([2 - axis for axis in reversed(order)]).copy().ravel()
    geometry = Geometry(
        shape[::-1],
        tuple(series.geometry.spacing[axis] for axis in order),
        series.geometry.origin,
        tuple(tuple(row[axis] for axis in order) for row in series.geometry.direction),
    )
    note = ("axes_reordered", "the slices of the file are not axial; its axes were put in order, and every voxel stays where it is")
    return replace(series, values=turned.reshape(frames, *shape), geometry=geometry, notes=(*series.notes, note))


def bin_in_plane(series: TimeSeries | np.ndarray, factor: int) -> TimeSeries | np.ndarray:
    """Means of `factor` x `factor` pixels within each slice, float32; rows and columns that fill no block are left out.

    series : TimeSeries, or ndarray (..., J, I).
    """
    factor = int(factor)
    if factor < 1:
        raise ValueError(f"pixels are binned by 1, 2, 3 ..., not {factor}")
    values = series.values if isinstance(series, TimeSeries) else np.asarray(series)
    rows, columns = values.shape[-2] // factor, values.shape[-1] // factor
    if min(rows, columns) < 1:
        raise ValueError(f"slices of {values.shape[-2]} x {values.shape[-1]} pixels cannot be binned by {factor}")
    binned = np.empty((*values.shape[:-2], rows, columns), np.float32)
    # Frame by frame, so that no more than one frame is held twice.
    pairs = zip(values, binned, strict=True) if values.ndim > 3 else [(values, binned)]
    for source, target in pairs:
        target[...] = 0
        for j in range(factor):
            for i in range(factor):
                target += source[..., j : rows * factor : factor, i : columns * factor : factor]
        target /= np.float32(factor * factor)
    if not isinstance(series, TimeSeries):
        return binned
    return replace(series, values=binned, geometry=binned_geometry(series.geometry, factor))


def binned_geometry(geometry: Geometry, factor: int) -> Geometry:
    """The grid of `bin_in_plane`: its first voxel is centered on the first block."""
    size, spacing = geometry.size, geometry.spacing
    half = (factor - 1) / 2
    return Geometry(
        (size[0] // factor, size[1] // factor, size[2]),
        (spacing[0] * factor, spacing[1] * factor, spacing[2]),
        tuple(geometry.to_lps((half, half, 0))),
        geometry.direction,
    )


def sitk_image(volume: Volume) -> sitk.Image:
    """A SimpleITK image of `volume`; logical values become uint8."""
    values = volume.values.astype(np.uint8) if volume.values.dtype == bool else np.ascontiguousarray(volume.values)
    image = sitk.GetImageFromArray(values, isVector=False)
    image.SetSpacing(volume.geometry.spacing)
    image.SetOrigin(volume.geometry.origin)
    image.SetDirection(np.asarray(volume.geometry.direction).ravel().tolist())
    return image


def geometry_of(image: sitk.Image) -> Geometry:
    """The grid of a 3-D image, or the spatial part of a 4-D one."""
    dimension = image.GetDimension()
    direction = np.reshape(image.GetDirection(), (dimension, dimension))[:3, :3]
    return Geometry(image.GetSize()[:3], image.GetSpacing()[:3], image.GetOrigin()[:3], tuple(map(tuple, direction)))


def from_sitk(image: sitk.Image, quantity: str = "", unit: str = "1") -> Volume:
    """A `Volume` (a copy) of a 3-D SimpleITK image."""
    return Volume(sitk.GetArrayFromImage(image), geometry_of(image), quantity, unit)


def resample_to(volume: Volume, geometry: Geometry, interpolation: str = "linear", outside: float = 0.0) -> Volume:
    """`volume` on another grid.

    Parameters
    ----------
    interpolation : "linear" or "nearest"
        Linear gives float32 (float64 stays); nearest keeps the type (logical values become uint8) and is for labels and masks.
    outside : float
        Value where `volume` does not reach.
    """
    if interpolation not in ("linear", "nearest"):
        raise ValueError(f"interpolation is 'linear' or 'nearest', not {interpolation!r}")
    if interpolation == "linear" and volume.values.dtype not in (np.float32, np.float64):
        volume = replace(volume, values=volume.values.astype(np.float32))
    image = sitk_image(volume)
    moved = sitk.Resample(
        image,
        geometry.size,
        sitk.Transform(3, sitk.sitkIdentity),
        sitk.sitkLinear if interpolation == "linear" else sitk.sitkNearestNeighbor,
        geometry.origin,
        geometry.spacing,
        np.asarray(geometry.direction).ravel().tolist(),
        float(outside),
        image.GetPixelID(),
    )
    return Volume(sitk.GetArrayFromImage(moved), geometry, volume.quantity, volume.unit)
