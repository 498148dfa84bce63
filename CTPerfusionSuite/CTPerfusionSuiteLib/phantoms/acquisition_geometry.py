"""How a scanner lays slices in space and time: gantry tilt, uneven spacing, and the two table positions of a shuttle scan."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import CubicSpline

from ..volumes import Geometry, TimeSeries

AIR_HU = -1024.0
_LANCZOS_TAPS = 3


@dataclass(frozen=True)
class AcquiredSlices:
    """The slices of a dynamic study as they are scanned.

    Attributes
    ----------
    values : ndarray (T, K, J, I)
        HU.
    times : ndarray (T, K)
        Seconds from the first frame.
    positions : ndarray (K, 3)
        LPS mm of the center of each slice's first pixel.
    geometry : Geometry
        In-plane spacing and orientation; its origin and slice spacing describe the grid the series came on.
    slabs : ndarray (K,) of int
        Table position of each slice.
    tilt_deg : float
        Angle between the slices' normal and the table axis.
    """

    values: np.ndarray
    times: np.ndarray
    positions: np.ndarray
    geometry: Geometry
    slabs: np.ndarray
    tilt_deg: float = 0.0


def acquire(series: TimeSeries, *, tilt_deg: float = 0.0, uneven: bool = False, rotate_with_gantry: bool = False) -> AcquiredSlices:
    """Scan `series` slice by slice, with uneven spacing and a tilted gantry where asked.

    Uneven spacing comes first (it moves slices along their normal only), then the tilt.
    """
    size_k = series.values.shape[1]
    indices = np.stack([np.zeros(size_k), np.zeros(size_k), np.arange(size_k)], axis=1)
    slices = AcquiredSlices(series.values, np.array(series.slice_times), series.geometry.to_lps(indices), series.geometry,
                            series.slab_of_slice)
    if uneven:
        slices = with_uneven_spacing(slices)
    if tilt_deg:
        slices = with_tilted_gantry(slices, tilt_deg, rotate_with_gantry)
    return slices


def shuttle_timing(times, slices: int, stagger: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Times of a scan that moves the table to and fro between a lower and an upper slab.

    On the way up the lower slab is scanned first, on the way down the upper one, so each slab alone is sampled irregularly
    (short and long steps in turn) and the two are interleaved.  A simulator should evaluate each slice at these times.

    Parameters
    ----------
    times : array (T,)
        Seconds at which each pass begins, increasing.
    slices : int
        Number of slices; the lower half is table position 0.
    stagger : float
        Fraction (under 0.5) of the median step between the two positions of one pass.

    Returns
    -------
    times : ndarray (T, K)
        Seconds; the earliest is that of the first pass.
    slabs : ndarray (K,) of int
    """
    times = np.asarray(times, dtype=float)
    slabs = (np.arange(slices) >= (slices + 1) // 2).astype(int)
    offset = stagger * (float(np.median(np.diff(times))) if times.size > 1 else 1.0)
    upward = np.arange(times.size) % 2 == 0
    late = np.where(upward[:, None], slabs[None] == 1, slabs[None] == 0)
    return times[:, None] + offset * late, slabs


def as_shuttle(series: TimeSeries) -> TimeSeries:
    """`series` as a shuttle scan sees it: unchanged if it has slabs and per-slice times, else resampled in time onto `shuttle_timing`.

    The resampling (a cubic spline through each voxel's frames) keeps pixels and times consistent; a simulation evaluated at the
    times of `shuttle_timing` in the first place is better.
    """
    if series.times.ndim == 2 and series.slabs is not None:
        return series
    size_t, size_k = series.values.shape[:2]
    if series.times.ndim == 2:
        return replace(series, slabs=(np.arange(size_k) >= (size_k + 1) // 2).astype(int))
    times, slabs = shuttle_timing(series.times, size_k)
    values = np.empty_like(series.values)
    whole = np.issubdtype(values.dtype, np.integer)
    for k in range(size_k):
        if np.array_equal(times[:, k], series.times) or size_t < 2:
            values[:, k] = series.values[:, k]
            continue
        # A spline is linear in its values, so one matrix does all voxels.  Past the last frame it would run away: the last value is held.
        weights = CubicSpline(series.times, np.eye(size_t))(np.minimum(times[:, k], series.times[-1])).astype(np.float32)
        resampled = np.tensordot(weights, series.values[:, k].astype(np.float32), axes=1)
        values[:, k] = np.rint(resampled) if whole else resampled
    return replace(series, values=values, times=times, slabs=slabs)


def with_uneven_spacing(slices: AcquiredSlices) -> AcquiredSlices:
    """The same extent with spacing that grows from 0.75 to 1.25 of the mean, linearly interpolated along K inside each slab."""
    values, times, positions = np.array(slices.values, dtype=np.float32), np.array(slices.times), np.array(slices.positions)
    for slab in np.unique(slices.slabs):
        members = np.flatnonzero(slices.slabs == slab)
        if members.size < 3:
            continue
        steps = np.linspace(0.75, 1.25, members.size - 1)
        where = np.concatenate([[0.0], np.cumsum(steps / steps.mean())])
        below = np.minimum(where.astype(int), members.size - 2)
        weight = where - below
        for k, b, w in zip(members, below, weight, strict=True):
            first, second = members[b], members[b + 1]
            values[:, k] = (1 - w) * slices.values[:, first] + w * slices.values[:, second].astype(np.float32)
            times[:, k] = (1 - w) * slices.times[:, first] + w * slices.times[:, second]
            positions[k] = (1 - w) * slices.positions[first] + w * slices.positions[second]
    return replace(slices, values=_like(values, slices.values.dtype), times=times, positions=positions)


def with_tilted_gantry(slices: AcquiredSlices, tilt_deg: float, rotate_with_gantry: bool = False) -> AcquiredSlices:
    """Slices whose stack is sheared along the columns, as when the table moves at an angle to the slices' normal.

    Each slice's image shows the same plane but is shifted within it: its pixels are resampled along J (Lanczos, 6 taps) and its
    position moves by the same distance, so that anatomy stays where it is in space.

    Parameters
    ----------
    tilt_deg : float
        Shift per mm along the normal is -tan(tilt), centered on the middle of the stack (the sign of GE's GantryDetectorTilt).
    rotate_with_gantry : bool
        False: the slices keep the planes of the series' grid (the table runs obliquely).  True: all is turned about the x axis so
        that the table axis becomes z again, as scanners write it; the anatomy then lies at turned positions.
    """
    direction = np.asarray(slices.geometry.direction)
    column, normal = direction[:, 1], direction[:, 2]
    height = (slices.positions - slices.positions.mean(axis=0)) @ normal
    shear = -np.tan(np.deg2rad(tilt_deg))
    shift_mm = height * shear
    values = np.empty(slices.values.shape, np.float32)
    for k, shift in enumerate(shift_mm):
        values[:, k] = _shifted_along_columns(slices.values[:, k], shift / slices.geometry.spacing[1])
    positions = slices.positions + shift_mm[:, None] * column
    geometry = slices.geometry
    if rotate_with_gantry:
        stack = normal + shear * column
        turn = _rotation_between(stack / np.linalg.norm(stack), normal)
        center = positions.mean(axis=0)
        positions = (positions - center) @ turn.T + center
        geometry = Geometry(geometry.size, geometry.spacing, geometry.origin, tuple(map(tuple, turn @ direction)))
    return replace(slices, values=_like(values, slices.values.dtype), positions=positions, geometry=geometry, tilt_deg=tilt_deg)


def _like(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Round back to whole HU when the series was whole."""
    return np.rint(values).astype(dtype) if np.issubdtype(dtype, np.integer) else values.astype(dtype)


def _shifted_along_columns(images: np.ndarray, shift: float) -> np.ndarray:
    """(T, J, I) images sampled at row j + `shift`, air outside; exact for whole shifts."""
    rows = images.shape[1]
    whole = int(np.floor(shift))
    fraction = shift - whole
    taps = np.arange(-_LANCZOS_TAPS + 1, _LANCZOS_TAPS + 1)
    weights = np.sinc(taps - fraction) * np.sinc((taps - fraction) / _LANCZOS_TAPS)
    weights /= weights.sum()
    result = np.zeros(images.shape, np.float32)
    for tap, weight in zip(taps, weights, strict=True):
        if abs(weight) < 1e-9:
            continue
        source = np.arange(rows) + whole + tap
        inside = (source >= 0) & (source < rows)
        result[:, inside] += np.float32(weight) * images[:, source[inside]]
        result[:, ~inside] += np.float32(weight * AIR_HU)
    return result


def _rotation_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rotation matrix that turns unit vector `a` to unit vector `b` (Rodrigues)."""
    axis, cosine = np.cross(a, b), float(a @ b)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + cross + cross @ cross / (1 + cosine)
