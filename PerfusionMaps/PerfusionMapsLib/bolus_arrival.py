"""Does a contrast bolus pass, when does it arrive, and which frames were scanned before it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.volumes import TimeSeries

from .bolus_shapes import BolusFit, BolusShapes, bolus_shapes, fit_curves

BLOCK_MM = 6.0
SOFT_TISSUE_HU = (-20.0, 150.0)
SHORT_BASELINE_FRAMES = 3
DETECTION_Z = 8.0
LEAST_ENHANCED, OFFSET_HU = 6, 1.5
"""The sixth of the head that enhances least shows what befalls a whole frame; from here on it is told."""
TYPICAL_LEAD_S, LONGEST_LEAD_S = 1.5, 4.0


@dataclass(frozen=True)
class Bolus:
    """The passage of the contrast agent through the head.

    Attributes
    ----------
    baseline_frames : tuple of int
        Frames scanned before the agent arrives in any slice; at least one.
    arrival_s : float
        Arrival in the earliest arteries, seconds from the first frame.
    peak_s : float
        Peak of the whole-head curve, seconds.
    times : ndarray (T,)
        Times of `head_curve`: the mean over slices of each frame's times, seconds.
    head_curve : ndarray (T,)
        Mean enhancement of the soft tissue of the head, HU above the baseline frames.
    noise_hu : float
        Typical standard deviation of one voxel in one frame, HU.
    notes : tuple of (code, message)
        What is unusual (``baseline_short``, ``scan_truncated``, ``frame_offset``).
    """

    baseline_frames: tuple[int, ...]
    arrival_s: float
    peak_s: float
    times: np.ndarray
    head_curve: np.ndarray
    noise_hu: float
    notes: tuple[tuple[str, str], ...] = ()


def baseline_mean(series: TimeSeries, bolus: Bolus) -> np.ndarray:
    """Mean of the frames before the bolus, float32 (K, J, I), HU."""
    return frame_mean(series.values, bolus.baseline_frames)


def frame_mean(values: np.ndarray, frames=None) -> np.ndarray:
    """Mean of some (default all) frames of an array (T, ...), float32 (...), without a float copy of the series."""
    frames = range(values.shape[0]) if frames is None else frames
    total = np.zeros(values.shape[1:], dtype=np.float32)
    for frame in frames:
        total += values[frame]
    return total / np.float32(len(frames))


def noise_floor(series: TimeSeries, bolus: Bolus) -> np.ndarray:
    """Noise of each voxel: standard deviation of one frame before the bolus, HU, float32 (K, J, I).

    With four or more baseline frames it is their sample standard deviation pooled with second differences in time over the whole
    scan, which a slow bolus leaves untouched; with fewer, the second differences alone.  A second difference of white noise has
    six times its variance.
    """
    noise = np.empty(series.geometry.shape, dtype=np.float32)
    for k in range(noise.shape[0]):
        noise[k] = _noise_of_slice(series.values[:, k], bolus.baseline_frames)
    return noise


def _noise_of_slice(values: np.ndarray, before: tuple[int, ...]) -> np.ndarray:
    """`noise_floor` of the frames (T, J, I) of one slice."""
    frames = values.shape[0]
    rough = np.zeros(values.shape[1:], dtype=np.float32)
    for frame in range(1, frames - 1):
        bend = values[frame - 1].astype(np.float32)
        bend += values[frame + 1]
        bend -= 2.0 * values[frame].astype(np.float32)
        rough += bend * bend
    variance = rough / np.float32(6.0 * max(1, frames - 2))
    if len(before) >= 4:
        own = np.zeros_like(variance)
        mean = frame_mean(values, before)
        for frame in before:
            own += (values[frame] - mean) ** 2
        freedom = len(before) - 1
        # Three second differences carry about the information of one independent value less than their number.
        weight = freedom / (freedom + 0.5 * (frames - 2))
        variance = weight * own / np.float32(freedom) + (1.0 - weight) * variance
    return np.sqrt(variance, out=variance)


def _doubtful_scale(series: TimeSeries) -> str:
    """What the reader said if the images do not tell how stored values become HU: more likely the reason than a missing bolus."""
    return next((f" ({message})" for code, message in series.notes if code == "rescale_missing"), "")


def find_bolus(series: TimeSeries) -> Bolus:
    """Find the bolus in the whole head.

    The series is averaged over blocks of about 6 mm in the slice, each block's curve is compared with first-pass shapes, and the
    earliest well-detected blocks (arteries) give the arrival.  Frames whose slices were all scanned before it are the baseline.

    Raises
    ------
    DataRefused
        When nothing in the head enhances like a bolus, when the scan begins after its arrival and already falls, or when it ends before
        the arterial peak.
    """
    slice_times = series.slice_times
    frames = slice_times.shape[0]
    if frames < 8:
        raise DataRefused(f"The series has {frames} time points, a bolus passage needs at least 8; scan or export the whole series.")
    columns, column_of_slice = unique_time_columns(slice_times)
    curves, slice_of_block = _block_curves(series)
    if curves.shape[1] < 20:
        raise DataRefused(
            "No soft tissue was found in the images, so no head can be analyzed; "
            f"check that the series shows a head in HU{_doubtful_scale(series)}."
        )
    centered = curves - curves.mean(axis=0)
    shapes = [bolus_shapes(column) for column in columns]
    fit, residual = _fit_blocks(centered, shapes, column_of_slice[slice_of_block])
    noise = np.maximum(residual, np.median(residual) * 0.7)
    z = fit.length / noise
    explained = 1.0 - (residual**2) * (frames - 1) / np.maximum(np.einsum("tn,tn->n", centered, centered), 1e-12)

    times = slice_times.mean(axis=1)
    head = curves.mean(axis=1)
    # Bright outlying blocks (vessels, moving rims) carry the arrival, the bulk of the head carries the proof that a bolus passed.
    bulk = np.median(centered, axis=1)
    mean_shapes = bolus_shapes(times)
    bulk_fit = fit_curves(bulk[:, None], mean_shapes)
    bulk_residual = float(np.sqrt(max(0.0, bulk @ bulk - float(bulk_fit.length[0]) ** 2) / (frames - 2)))
    bulk_z = float(bulk_fit.length[0]) / max(bulk_residual, 1e-3)
    vessels = (z >= DETECTION_Z) & (explained > 0.75) & (fit.height_hu > 2.5 * max(float(bulk_fit.height_hu[0]), 0.4))
    if bulk_z < DETECTION_Z or np.count_nonzero(vessels) < min(3, 1 + series.geometry.size[2]):
        raise DataRefused(
            "No contrast bolus passes through the head in this series, so perfusion cannot be computed; "
            f"check that this is the perfusion scan and that contrast was given{_doubtful_scale(series)}."
        )

    arrival, arterial_peak = _arterial_timing(fit, vessels)
    # Faint arteries drown in a block, but the head as a whole begins to rise shortly after they do, and almost without noise.
    fitted_rise = float(bulk_fit.onset_s[0] + 0.2 * (bulk_fit.peak_s[0] - bulk_fit.onset_s[0]))
    rise = float(np.clip(_first_rise(times, bulk, float(bulk_fit.peak_s[0])), fitted_rise - LONGEST_LEAD_S, fitted_rise + 1.0))
    arrival = max(min(max(arrival, rise - LONGEST_LEAD_S), rise - TYPICAL_LEAD_S), float(times[0]))
    last = float(times[-1])
    step = float(np.median(np.diff(times)))
    if arterial_peak > last - 1.5 * step:
        raise DataRefused(f"The scan ends at {last:.0f} s, before the contrast bolus has passed the arteries; a longer scan is needed.")
    if arterial_peak <= float(times[0]) + 0.5 * step:
        raise DataRefused(
            "The scan begins after the contrast bolus has already passed the arteries, so there is no baseline; "
            "an earlier start of the scan is needed."
        )
    before = np.flatnonzero(slice_times.max(axis=1) <= arrival)
    before = tuple(int(frame) for frame in before) or (0,)
    notes = []
    if len(before) < SHORT_BASELINE_FRAMES:
        notes.append(
            ("baseline_short", f"Only {len(before)} frame{'s' if len(before) > 1 else ''} before the bolus arrives at {arrival:.1f} s.")
        )
    least = np.argsort(fit.height_hu)[: max(20, centered.shape[1] // LEAST_ENHANCED)]
    offsets = offset_frames(times, np.median(centered[:, least], axis=1))
    if offsets:
        number = max(offsets, key=lambda frame: abs(offsets[frame]))
        also = f" and {len(offsets) - 1} more frames" if len(offsets) > 1 else ""
        frames_text = ",".join(str(frame + 1) for frame in sorted(offsets))
        notes.append((
            "frame_offset",
            f"Frame {number + 1} as a whole{also} differs by {offsets[number]:+.1f} HU from its neighbors, which no contrast does; "
            f"run again without (--exclude_frames {frames_text}).",
        ))
    peak = float(bulk_fit.peak_s[0])
    if peak > last - 2.0 * step:
        notes.append(("scan_truncated", f"The scan ends at {last:.0f} s, while the tissue still enhances."))
    return Bolus(before, float(arrival), peak, times, head - head[list(before)].mean(), _typical_noise(series), tuple(notes))


def offset_frames(times: np.ndarray, still: np.ndarray) -> dict[int, float]:
    """Frames whose whole image is off, and by how many HU: the scanner's output jumped.

    Parameters
    ----------
    times : ndarray (T,)
        Seconds.
    still : ndarray (T,)
        Median curve of the tissue that enhances least, HU: it hardly changes from frame to frame.

    Returns
    -------
    dict of int -> float
        Frame numbers from 0.
    """
    still, found = np.array(still, float), {}
    bend = _bend(times, still)
    limit = max(OFFSET_HU, 6.0 * 1.4826 * float(np.median(np.abs(bend))))
    for _ in range(len(times) // 4):
        worst = int(np.argmax(np.abs(bend)))
        if abs(bend[worst]) <= limit:
            break
        found[worst + 1] = float(bend[worst])
        still[worst + 1] -= bend[worst]
        bend = _bend(times, still)
    return found


def _bend(times: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """How far each inner sample (T - 2,) lies above the line through its neighbors."""
    share = (times[1:-1] - times[:-2]) / (times[2:] - times[:-2])
    return curve[1:-1] - (1.0 - share) * curve[:-2] - share * curve[2:]


def unique_time_columns(slice_times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct time axes among the slices: (U, T) seconds, and for each slice (K,) which one it has."""
    columns, inverse = np.unique(np.round(slice_times.T, 4), axis=0, return_inverse=True)
    return columns, np.asarray(inverse).reshape(-1)


def _arterial_timing(fit: BolusFit, vessels: np.ndarray) -> tuple[float, float]:
    """Arrival and peak in the earliest vessels: a low quantile of each, weighted with the height, so that a stray fit moves neither."""
    half_rise, height = fit.half_rise_s[vessels], fit.height_hu[vessels]
    order = np.argsort(half_rise)
    share = np.cumsum(height[order]) / height.sum()
    early = order[: max(3, int(np.searchsorted(share, 0.15)) + 1)]
    weight = height[early]
    peak = float(np.average(fit.peak_s[vessels][early], weights=weight))
    # The foot of a shape is flat; a fifth of the way from onset to peak it has reached a few percent of its maximum.
    onset = float(np.average(fit.onset_s[vessels][early], weights=weight))
    return onset + 0.2 * (peak - onset), peak


def _typical_noise(series: TimeSeries) -> float:
    """Median over a sample of soft-tissue voxels of the noise of one frame, HU, from second differences in time."""
    found = []
    # Slice by slice: a float copy of even a ninth of the series is large.
    for k in range(series.values.shape[1]):
        sample = series.values[:, k, ::3, ::3].astype(np.float32)
        level = sample.mean(axis=0)
        bend = np.diff(sample, n=2, axis=0)
        noise = np.sqrt(np.mean(bend * bend, axis=0) / 6.0)
        found.append(noise[(level > SOFT_TISSUE_HU[0]) & (level < SOFT_TISSUE_HU[1]) & (noise > 0)])
    soft = np.concatenate(found)
    return float(np.median(soft)) if soft.size else 0.0


def _first_rise(times: np.ndarray, curve: np.ndarray, peak_s: float) -> float:
    """Time of the last frame before a nearly noise-free curve passes 3 % of its peak, or three standard deviations of its noise."""
    noise = float(np.sqrt(np.mean(np.diff(curve, n=2) ** 2) / 6.0))
    smooth = np.convolve(np.pad(curve, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
    top = max(3, int(np.searchsorted(times, peak_s)))
    top = min(top, times.size - 1)
    start = 0
    for _ in range(4):
        # The baseline is what lies before the rise, which is found from the baseline: two or three turns settle it.
        base = float(np.mean(curve[: max(1, start)])) if start else float(np.min(smooth[:top]))
        limit = base + max(0.03 * (smooth[top] - base), 3.0 * noise)
        below = np.flatnonzero(smooth[:top] <= limit)
        start = int(below[-1]) if below.size else 0
    return float(times[start])


def _block_curves(series: TimeSeries) -> tuple[np.ndarray, np.ndarray]:
    """Curves (T, N) of soft-tissue blocks and the slice (N,) of each."""
    values = series.values
    _, slices, rows, columns = values.shape
    step_i, step_j = (max(1, int(round(BLOCK_MM / spacing))) for spacing in series.geometry.spacing[:2])
    blocks_j, blocks_i = max(1, rows // step_j), max(1, columns // step_i)
    step_j, step_i = min(step_j, rows), min(step_i, columns)

    def one_slice(k: int) -> np.ndarray:
        plane = values[:, k, : blocks_j * step_j, : blocks_i * step_i]
        total = plane[:, 0::step_j].astype(np.float32)
        for offset in range(1, step_j):
            total += plane[:, offset::step_j]
        mean = total[:, :, 0::step_i].copy()
        for offset in range(1, step_i):
            mean += total[:, :, offset::step_i]
        mean /= step_i * step_j
        mean = mean.reshape(mean.shape[0], -1)
        level = mean.mean(axis=0)
        # A constant background (air padded with 0 HU) never varies; a living voxel always has noise.
        soft = (level > SOFT_TISSUE_HU[0]) & (level < SOFT_TISSUE_HU[1]) & (np.ptp(mean, axis=0) > 0) & (np.abs(level) > 2.0)
        return mean[:, soft]

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(one_slice, range(slices)))
    slice_of_block = np.repeat(np.arange(slices), [block.shape[1] for block in found])
    return np.concatenate(found, axis=1), slice_of_block


def _fit_blocks(centered: np.ndarray, shapes: list[BolusShapes], column_of_block: np.ndarray) -> tuple[BolusFit, np.ndarray]:
    """Fit every block with the shapes of its own times; also the standard deviation (N,) of what the shape leaves, HU."""
    parts, order = [], []
    for column, family in enumerate(shapes):
        members = np.flatnonzero(column_of_block == column)
        parts.append(fit_curves(centered[:, members], family))
        order.append(members)
    back = np.argsort(np.concatenate(order))
    fit = BolusFit(*(np.concatenate([getattr(part, name) for part in parts])[back] for name in BolusFit.__dataclass_fields__))
    energy = np.einsum("tn,tn->n", centered, centered)
    left = np.maximum(energy - fit.length**2, 0.0)
    return fit, np.sqrt(left / max(1, centered.shape[0] - 3))
