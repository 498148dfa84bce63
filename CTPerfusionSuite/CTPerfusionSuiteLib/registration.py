"""Rigid registration of the frames of a dynamic scan to each other.

Frames are aligned on the edges of the skull (`bone_alignment`), slab by slab, and only those that moved are resampled.  An anatomical
volume is brought to the scan by `anatomy_registration`.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from CTPerfusionSuiteLib.bone_alignment import Fit, Pose, SkullReference, SlabSampling, bone_window
from CTPerfusionSuiteLib.progress import Progress, part, silent
from CTPerfusionSuiteLib.rigid_motion import Motion, rotation_matrix, rotation_vector
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries

UNTOUCHED_MM = 0.15  # frames that moved less stay as they are: resampling would cost more than it gives
# Noise and contrast let a thin slab seem to nod by 0.3 mm; a true pose of that size takes away 12 % of the mismatch at rest or more,
# a false one under 6 %.
SLIGHT_MM, PROOF = 1.0, 0.9
STILL_MM = 0.3  # reference frames lie this close together
BASELINE_S, BASELINE_FRAMES = 8.0, 10  # default reference: the frames of the first seconds, at most so many
POOR_MISMATCH = 0.1  # alignments worse than this are tried again from other starts
BLURRED_MISMATCH, BLURRED_RATIO = 0.045, 2.5  # moved during the exposure: worse than this and than so many times the usual
FAILED_MISMATCH = 0.35
NEIGHBORS = 7  # frames before and after that tell what is usual at a time
TOO_FAR_MM, LEAST_COVERED = 30.0, 0.25
SAME_TIME_S = 0.3  # slices of a slab scanned within this time count as simultaneous
AIR_HU, HEAD_MARGIN_MM = -500.0, 4.0  # what is resampled: the head and so much air around it


def estimate_motion(series: TimeSeries, baseline_frames: Sequence[int] | None = None, threads: int | None = None,
                    progress: Progress = silent) -> Motion:
    """Rigid pose of the head in every frame and slab.

    Parameters
    ----------
    series : TimeSeries
        HU.
    baseline_frames : sequence of int, optional
        Frames the reference is made of; the largest still group among them is averaged.  By default those of the first 8 s
        (contrast does not matter: only bone is compared).
    threads : int, optional
        Worker threads; every core by default.
    progress : Progress

    Returns
    -------
    Motion
    """
    frames, slabs = len(series.values), np.unique(series.slab_of_slice)
    shape = (frames, len(slabs))
    translations, rotations, far, mismatch = np.zeros((*shape, 3)), np.zeros((*shape, 3)), np.zeros(shape), np.zeros(shape)
    bad, centers, estimated, references = np.zeros(shape, bool), np.zeros((len(slabs), 3)), np.zeros(len(slabs), bool), []
    candidates = sorted({int(f) for f in baseline_frames}) if baseline_frames is not None and len(baseline_frames) else _baseline(series)
    axes = np.asarray(series.geometry.direction)
    for s, slab in enumerate(slabs):
        report = part(progress, s / len(slabs), (s + 1) / len(slabs))
        slices = _slices(series, slab)
        values, geometry = series.values[:, slices], _slab_geometry(series.geometry, slices)
        centers[s] = geometry.to_lps((np.asarray(geometry.size) - 1) / 2)
        sampling = SlabSampling.of(values[candidates[0]], geometry.spacing[::-1])
        skull, used = _reference(values, sampling, candidates)
        references.append(used)
        if not skull.usable:
            report(1.0)
            continue
        fits = _align_all(skull, values, sampling, threads, report)
        estimated[s] = True
        for t, fit in enumerate(fits):
            translations[t, s] = axes @ fit.pose.translation
            rotations[t, s] = np.degrees(rotation_vector(axes @ fit.pose.rotation @ axes.T))
            far[t, s] = fit.pose.displacement(skull.skull).max()
        mismatch[:, s] = [fit.mismatch for fit in fits]
        bad[:, s] = _bad(mismatch[:, s], far[:, s], np.array([fit.covered for fit in fits]), used)
    words = "mean of frames " + "; ".join(",".join(str(f) for f in used) for used in references) + ", bone edges"
    if not estimated.all():
        words += f"; too little bone to tell motion in slab {', '.join(str(v) for v in slabs[~estimated])}"
    return Motion(series.slice_times.mean(axis=1), translations, rotations, centers, slabs, far, bad, mismatch, estimated,
                  tuple(references), words)


def correct_motion(series: TimeSeries, motion: Motion, threads: int | None = None, progress: Progress = silent,
                   overwrite: bool = False) -> TimeSeries:
    """The series with every frame at the reference pose.

    Frames that moved by less than 0.15 mm are left alone; the others are resampled once, by cubic splines, each slab within
    itself.  Where a frame does not show a place, the nearest place it shows gives the contrast and the reference the anatomy.  Where
    the slices of a slab are scanned at times more than 0.3 s apart, the times of a resampled slice are the mean of those its pixels
    come from.  Bad frames are interpolated linearly in time, each slice at its own times.

    Parameters
    ----------
    series : TimeSeries
    motion : Motion
        Of the same series.
    threads : int, optional
    progress : Progress
    overwrite : bool
        Work in the array of `series` itself.

    Returns
    -------
    TimeSeries
        Same dtype and grid; `series` itself when nothing has to be done, else with one new array or, with `overwrite`, its own.
        Its times are (T, K) where they had to change.
    """
    moved = (motion.max_displacement_mm > UNTOUCHED_MM) & ~motion.bad
    if not (moved.any() or motion.bad.any()):
        progress(1.0)
        return series
    out = series.values if overwrite else series.values.copy()
    times = series.slice_times.copy()
    for s, slab in enumerate(motion.slabs):
        slices = _slices(series, slab)
        geometry = _slab_geometry(series.geometry, slices)
        anatomy = _Anatomy.of([series.values[t, slices] for t in motion.reference_frames[s]], geometry.spacing)

        apart = np.ptp(series.slice_times[:, slices], axis=1).max() > SAME_TIME_S

        def resample(t, s=s, slices=slices, geometry=geometry, anatomy=anatomy, apart=apart):
            frame = np.empty(geometry.shape, out.dtype)
            source = _put_at_reference(frame, series.values[t, slices], geometry, motion.pose(t, s).matrix, anatomy)
            out[t, slices] = frame
            if apart:
                times[t, slices] = np.interp(source, np.arange(len(source)), series.slice_times[t, slices])

        report = part(progress, s / len(motion.slabs), (s + 1) / len(motion.slabs))
        _each(resample, np.flatnonzero(moved[:, s]), _affordable(threads, anatomy.mean, out), report)
        _interpolate_in_time(out, times, motion.bad[:, s], slices)
    progress(1.0)
    changed = not np.array_equal(times, series.slice_times) and (np.diff(times, axis=0) > 0).all()
    return replace(series, values=out, times=times) if changed else series.with_values(out)


def _each(work: Callable, items: Iterable, threads: int | None, progress: Progress) -> list:
    """``[work(item) for item in items]`` in threads; an exception raised by `progress` (cancel) ends it before the next item."""
    items = list(items)
    if not items:
        progress(1.0)
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for done, _ in enumerate(as_completed(futures), 1):
                progress(done / len(items))
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _affordable(threads: int | None, slab: np.ndarray, series: np.ndarray) -> int:
    """Threads whose working copies (about four float slabs each) stay under half of the stored series, where slabs are large."""
    threads = threads or os.cpu_count() or 1
    return threads if slab.nbytes < 2**25 else max(1, min(threads, series.nbytes // (8 * slab.nbytes)))


def _slices(series: TimeSeries, slab: int) -> slice | np.ndarray:
    """The slices of one table position: a slice object (no copy) where they follow each other."""
    found = np.flatnonzero(series.slab_of_slice == slab)
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) == found[-1] - found[0] + 1 else found


def _slab_geometry(geometry: Geometry, slices) -> Geometry:
    """Grid of some consecutive slices of a grid."""
    numbers = np.arange(geometry.size[2])[slices]
    return Geometry((*geometry.size[:2], len(numbers)), geometry.spacing, tuple(geometry.to_lps((0, 0, numbers[0]))), geometry.direction)


def _baseline(series: TimeSeries) -> list[int]:
    """Frames of the first seconds: at least three and at most a third of the series."""
    frames = len(series.values)
    early = int((series.slice_times.mean(axis=1) <= BASELINE_S).sum())
    return list(range(max(1, min(max(early, 3), BASELINE_FRAMES, frames // 3))))


def _reference(values: np.ndarray, sampling: SlabSampling, candidates: list[int]) -> tuple[SkullReference, tuple[int, ...]]:
    """Reference of a slab and the frames it is the mean of: the largest group of candidates that lie still together."""
    images = [bone_window(values[f], sampling) for f in candidates]
    unlike = np.array([[float(np.mean(np.abs(a - b))) for a in images] for b in images])
    anchor = int(np.argmin(np.median(unlike, axis=1)))
    skull = SkullReference(images[anchor], sampling)
    if not skull.usable:
        return skull, tuple(candidates)
    together = [n for n, image in enumerate(images) if n == anchor or
                ((fit := skull.precheck(image)).mismatch < POOR_MISMATCH and fit.pose.displacement(skull.skull).max() < STILL_MM)]
    mean = np.mean([images[n] for n in together], axis=0, dtype=np.float32)
    return SkullReference(mean, sampling), tuple(candidates[n] for n in together)


def _align_all(skull: SkullReference, values, sampling: SlabSampling, threads, progress: Progress) -> list[Fit]:
    """Fit of every frame; frames that fit poorly are tried again from the poses of their neighbors and from a ring of starts."""
    def align(t):
        image = bone_window(values[t], sampling)
        first = skull.precheck(image)
        reach = first.pose.displacement(skull.skull).max()
        if reach < 0.5 * UNTOUCHED_MM and first.mismatch < BLURRED_MISMATCH:
            return first
        slight = reach < SLIGHT_MM and first.mismatch < 2 * POOR_MISMATCH
        fit = skull.align(image, refine_only=slight)
        unproven = fit.mismatch > PROOF * first.mismatch and fit.pose.displacement(skull.skull).max() < SLIGHT_MM
        return Fit(Pose.still(), first.mismatch, 1.0) if unproven else fit

    fits = _each(align, range(len(values)), threads, part(progress, 0.0, 0.8))
    poor = [t for t, fit in enumerate(fits) if fit.mismatch > POOR_MISMATCH]

    def again(t):
        good = [n for n in range(len(fits)) if fits[n].mismatch <= POOR_MISMATCH]
        near = sorted(good, key=lambda n: abs(n - t))[:2]
        starts = [fits[n].pose for n in near] + _ring(skull.in_plane_only)
        return min((fits[t], skull.align(bone_window(values[t], sampling), starts)), key=lambda fit: fit.mismatch)

    retried = dict(zip(poor, _each(again, poor, threads, part(progress, 0.8, 1.0)), strict=True))
    return [retried.get(t, fit) for t, fit in enumerate(fits)]


def _ring(in_plane_only: bool) -> list[Pose]:
    """Starts around rest: turned, shifted across slices, nodding."""
    degrees, still = np.pi / 180, np.eye(3)
    starts = [Pose(rotation_matrix((0, 0, a * degrees)), np.zeros(3)) for a in (-12, 12)]
    starts += [Pose(still, np.array(shift, float)) for shift in ((14, 0, 0), (-14, 0, 0), (0, 14, 0), (0, -14, 0))]
    if not in_plane_only:
        starts += [Pose(still, np.array((0.0, 0.0, z))) for z in (-10, 10)]
        starts += [Pose(rotation_matrix((a * degrees, 0, 0)), np.zeros(3)) for a in (-10, 10)]
    return starts


def _bad(mismatch: np.ndarray, far: np.ndarray, covered: np.ndarray, reference_frames: Sequence[int]) -> np.ndarray:
    """Frames (T,) to drop.  Motion during an exposure doubles the edges, which no pose explains."""
    usual = np.median(mismatch[mismatch < FAILED_MISMATCH]) if (mismatch < FAILED_MISMATCH).any() else 0.0
    # A new resting place that fits a little worse for many frames is not blur: each frame is compared with those around it.
    around = np.array([np.median(mismatch[max(0, t - NEIGHBORS):t + NEIGHBORS + 1]) for t in range(len(mismatch))])
    blurred = (mismatch > BLURRED_MISMATCH) & (mismatch > BLURRED_RATIO * usual) & (mismatch > 1.5 * around)
    bad = blurred | (mismatch > FAILED_MISMATCH) | (far > TOO_FAR_MM) | (covered < LEAST_COVERED)
    bad[list(reference_frames)] = False
    return bad


@dataclass(frozen=True)
class _Anatomy:
    """Static anatomy of a slab: the mean of its reference frames (K, J, I), its spline, and a mask of the head."""

    mean: np.ndarray
    spline: np.ndarray
    head: np.ndarray

    @classmethod
    def of(cls, frames: Sequence[np.ndarray], spacing) -> "_Anatomy":
        """From the reference frames, each (K, J, I), and the grid's (x, y, z) spacing in mm."""
        mean = np.zeros(frames[0].shape, np.float32)
        for frame in frames:
            mean += frame
        mean /= len(frames)
        size = [2 * int(np.ceil(HEAD_MARGIN_MM / s)) + 1 for s in spacing[1::-1]]
        head = ndimage.maximum_filter(mean > AIR_HU, size=(1, *size))
        return cls(mean, ndimage.spline_filter(mean, 3, output=np.float32, mode="mirror"), head)


def _put_at_reference(out: np.ndarray, frame: np.ndarray, geometry: Geometry, pose: np.ndarray, anatomy: _Anatomy) -> np.ndarray:
    """Resample one slab of one frame (K, J, I) to the reference pose into `out`; air around the head is the reference's.

    Returns
    -------
    ndarray (K,)
        From which slice of the frame the head in each slice comes on average, as a fractional number.
    """
    source = np.arange(len(frame), dtype=float)
    to_frame = (np.linalg.inv(geometry.matrix) @ pose @ geometry.matrix)[[2, 1, 0, 3]][:, [2, 1, 0, 3]]  # in (k, j, i)
    back = np.linalg.inv(to_frame)
    last = np.array(frame.shape)[:, None] - 1.0
    spline = ndimage.spline_filter(frame.astype(np.float32), 3, output=np.float32, mode="mirror")
    for k, head in enumerate(anatomy.head):  # slice by slice: coordinates of a whole slab are large
        rows, columns = np.nonzero(head)
        index = to_frame[:3, 1, None] * rows + to_frame[:3, 2, None] * columns + (to_frame[:3, 0] * k + to_frame[:3, 3])[:, None]
        if rows.size:
            source[k] = np.clip(index[0], 0.0, last[0]).mean()
        values = _values_at(spline, index)
        missing = (np.abs(index - 0.5 * last) > 0.5 * last + 0.01).any(axis=0)
        if missing.any():
            shown = np.clip(index[:, missing], 0.0, last)
            there = np.einsum("ij,jn->in", back[:3, :3], shown) + back[:3, 3:]
            contrast = _values_at(spline, shown) - _values_at(anatomy.spline, there)
            values[missing] = anatomy.mean[k, rows[missing], columns[missing]] + contrast
        whole = anatomy.mean[k].copy()
        whole[rows, columns] = values
        out[k] = _as_dtype(whole, out.dtype)
    return source


def _values_at(spline, index) -> np.ndarray:
    """Cubic spline values at array indices (3, N)."""
    return ndimage.map_coordinates(spline, index, order=3, prefilter=False, mode="mirror", output=np.float32)


def _as_dtype(values: np.ndarray, dtype) -> np.ndarray:
    """Rounded and held within an integer type's range; floats as they are."""
    if np.issubdtype(dtype, np.integer):
        return np.clip(np.rint(values), np.iinfo(dtype).min, np.iinfo(dtype).max).astype(dtype)
    return values.astype(dtype)


def _interpolate_in_time(values: np.ndarray, slice_times: np.ndarray, bad: np.ndarray, slices) -> None:
    """Fill bad frames of a slab in place: linear between the good frames around, each slice at its own times; held at the ends."""
    good = np.flatnonzero(~bad)
    if not len(good):
        return
    for t in np.flatnonzero(bad):
        before, after = good[good < t], good[good > t]
        a, b = (before[-1] if len(before) else after[0]), (after[0] if len(after) else before[-1])
        times = slice_times[:, slices]
        weight = np.zeros(times.shape[1]) if a == b else (times[t] - times[a]) / (times[b] - times[a])
        weight = weight[:, None, None].astype(np.float32)
        values[t, slices] = _as_dtype((1.0 - weight) * values[a, slices] + weight * values[b, slices], values.dtype)
