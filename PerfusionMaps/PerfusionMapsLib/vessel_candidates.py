"""Voxels that may lie in a vessel, with what their curves tell, for the searches for arteries and for veins.

The whole series is read once: two weighted sums over time (early and total enhancement) gate the few percent of the intracranial
voxels worth a closer look, and only their curves, alone and averaged with their neighbors, are compared with first-pass shapes.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from CTPerfusionSuiteLib.progress import Progress, silent
from CTPerfusionSuiteLib.progress import part as part_of
from CTPerfusionSuiteLib.volumes import TimeSeries

from .bolus_arrival import Bolus, unique_time_columns
from .bolus_shapes import BolusFit, BolusShapes, bolus_shapes, fit_components, fit_curves
from .input_functions import InputFunction

GATED_SHARE = 0.025
RIM_SHARE = 0.06
RIM_MM = 6.0
NEIGHBORHOOD_MM = 1.0
OWN_TIMING_Z = 12.0
MINIMUM_Z = 3.0
MINIMUM_NEIGHBORHOOD_Z = 6.0
RESTLESS = 1.5


@dataclass(frozen=True)
class VesselCandidates:
    """Enhancing intracranial voxels of one series.

    Attributes
    ----------
    kji : ndarray (N, 3) of int
        Array indices (k, j, i).
    lps : ndarray (N, 3)
        Positions, mm.
    baseline_hu : ndarray (N,)
        Before the bolus, HU.
    height_hu, neighborhood_height_hu : ndarray (N,)
        Peak enhancement of the voxel alone and of its weighted 3 x 3 neighborhood, HU.
    area : ndarray (N,)
        First-pass area of the voxel alone, HU s.
    half_rise_s, peak_s, fwhm_s : ndarray (N,)
        Timing, from the voxel alone where it is clear enough, else from its neighborhood; seconds.
    z, neighborhood_z : ndarray (N,)
        Detection of the bolus: length of the explained curve over the noise of one frame.
    explained, neighborhood_explained : ndarray (N,)
        Share of the curve's variance that the shape explains.
    noise_hu : ndarray (N,)
        Standard deviation of what the shape leaves of the voxel's curve, HU: noise of one frame, or more where something moves.
    neighborhood_noise_hu : ndarray (N,)
        The same for the weighted mean of the neighborhood.
    parts : ndarray (m, N)
        Components of the voxel's curve in the shapes of its time axis.
    column : ndarray (N,) of int
        Which time axis the voxel's slice has.
    shapes : list of BolusShapes
        One for each time axis.
    columns : ndarray (U, T)
        The time axes, seconds.
    tissue_curves : ndarray (U, T)
        Mean curve of the intracranial voxels that are not vessels, on each time axis, HU with its mean taken off.
    typical_noise_hu : float
        Noise of an ordinary voxel in one frame, HU.
    tissue : BolusFit
        Fit of the mean of these curves; fields of length 1.
    """

    kji: np.ndarray
    lps: np.ndarray
    baseline_hu: np.ndarray
    height_hu: np.ndarray
    neighborhood_height_hu: np.ndarray
    area: np.ndarray
    half_rise_s: np.ndarray
    peak_s: np.ndarray
    fwhm_s: np.ndarray
    z: np.ndarray
    neighborhood_z: np.ndarray
    explained: np.ndarray
    neighborhood_explained: np.ndarray
    noise_hu: np.ndarray
    neighborhood_noise_hu: np.ndarray
    parts: np.ndarray
    column: np.ndarray
    shapes: list[BolusShapes]
    columns: np.ndarray
    tissue_curves: np.ndarray
    typical_noise_hu: float
    tissue: BolusFit

    @property
    def common(self) -> tuple:
        """What does not belong to single voxels: columns, shapes, tissue_curves, noise, tissue."""
        return (self.columns, self.shapes, self.tissue_curves, self.typical_noise_hu, self.tissue)

    @property
    def believable(self) -> np.ndarray:
        """(N,) bool: the curve rises and falls like a bolus, and by more than noise would."""
        clear = (self.z >= MINIMUM_Z) & (self.neighborhood_z >= MINIMUM_NEIGHBORHOOD_Z)
        return clear & self.bolus_like(0.75) & (self.neighborhood_explained > 0.5)

    def bolus_like(self, least_explained: float) -> np.ndarray:
        """(N,) bool: what the best shape leaves is noise, or at least little beside the bolus (edges of bone that move leave more)."""
        calm = self.noise_hu < 1.2 * self.typical_noise_hu
        around = float(np.median(self.neighborhood_noise_hu[calm])) if calm.any() else np.inf
        like = np.ones(self.noise_hu.size, dtype=bool)
        for noise, typical, explained in (
            (self.noise_hu, self.typical_noise_hu, self.explained),
            (self.neighborhood_noise_hu, around, self.neighborhood_explained),
        ):
            # Noise itself is no misfit: only what exceeds it counts against the shape.
            beyond = np.maximum(1.0 - (typical / np.maximum(noise, 1e-6)) ** 2, 0.0) * (1.0 - explained) / np.maximum(explained, 1e-6)
            like &= (noise < RESTLESS * typical) | (1.0 / (1.0 + beyond) > least_explained)
        return like


def vessel_candidates(
    series: TimeSeries, bolus: Bolus, intracranial: np.ndarray, threads: int | None = None, progress: Progress = silent
) -> VesselCandidates:
    """Gate and describe the enhancing voxels of `intracranial` (bool (K, J, I)).

    The rim of the intracranial space, where the large sinuses lie but also every edge of bone that moves, is gated apart from the
    inside, so that neither crowds out the other.
    """
    slice_times = series.slice_times
    columns, column_of_slice = unique_time_columns(slice_times)
    window = bounding_window(intracranial)
    slices = np.arange(intracranial.shape[0])[window[0]]
    weights = [_gate_weights(column, bolus) for column in columns]
    shapes = [bolus_shapes(column) for column in columns]
    sigma = [max(0.7, NEIGHBORHOOD_MM / spacing) for spacing in series.geometry.spacing[1::-1]]
    depth = depth_mm(intracranial, series)

    def gate(k: int):
        plane = series.values[:, k][(slice(None), *window[1:])].astype(np.float32)
        inside = intracranial[k][window[1:]]
        deep = depth[k][window[1:]] > RIM_MM
        flat = plane.reshape(plane.shape[0], -1)
        sums = (weights[column_of_slice[k]] @ flat).reshape(3, *inside.shape)
        early, total = (ndimage.gaussian_filter(image, sigma) for image in sums[:2])
        soft = (sums[2] > 0.0) & (sums[2] < 70.0)
        ordinary = deep & soft
        if ordinary.any():
            middle = np.median(total[ordinary])
            ordinary &= total < middle + 6.0 * np.median(np.abs(total[ordinary] - middle))
        tissue = flat @ ordinary.ravel().astype(np.float32)
        progress(0.5 * (k + 1) / intracranial.shape[0])
        return early[inside], total[inside], deep[inside], tissue, np.count_nonzero(ordinary)

    with ThreadPoolExecutor(threads) as pool:
        gated = list(pool.map(gate, slices))
    early, total, deep = (np.concatenate([part[field] for part in gated]) for field in range(3))
    gated = [(None, None, None, *part[3:]) for part in gated]
    depth = None
    kept = np.zeros(early.size, dtype=bool)
    for zone, share in ((deep, GATED_SHARE), (~deep, RIM_SHARE)):
        if zone.any():
            kept |= zone & ((early >= np.quantile(early[zone], 1.0 - share)) | (total >= np.quantile(total[zone], 1.0 - share)))
    chosen = np.zeros_like(intracranial)
    block = chosen[window]
    block[intracranial[window]] = kept
    tissue_curves = np.zeros(columns.shape)
    weight = np.array([float(part[4]) for part in gated])
    for column in range(len(columns)):
        mine = column_of_slice[slices] == column
        curve = np.sum([part[3] for part, is_mine in zip(gated, mine, strict=True) if is_mine], axis=0) / max(1.0, weight[mine].sum())
        tissue_curves[column] = curve - np.mean(curve)
    tissue_curve = np.sum([part[3] for part in gated], axis=0) / max(1.0, weight.sum())
    mean_times = np.average(slice_times[:, slices], axis=1, weights=np.maximum(weight, 1e-3))
    tissue = fit_curves(tissue_curve[:, None] - tissue_curve.mean(), bolus_shapes(mean_times))
    common = (columns, shapes, tissue_curves, max(bolus.noise_hu, 0.5), tissue)
    return describe_voxels(series, bolus, chosen, common, threads, part_of(progress, 0.5, 1.0))


def bounding_window(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """Smallest box around a mask (K, J, I) that is not empty."""
    ends = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    return tuple(slice(int(end[0]), int(end[-1]) + 1) for end in ends)


def depth_mm(mask: np.ndarray, series: TimeSeries) -> np.ndarray:
    """In-plane distance of each voxel of a mask to its border, mm, float32 (K, J, I)."""
    spacing = series.geometry.spacing[1::-1]
    depth = np.zeros(mask.shape, dtype=np.float32)
    for k in np.flatnonzero(mask.any(axis=(1, 2))):
        depth[k] = ndimage.distance_transform_edt(mask[k], sampling=spacing)
    return depth


def describe_voxels(
    series: TimeSeries, bolus: Bolus, chosen: np.ndarray, common: tuple, threads: int | None = None, progress: Progress = silent
) -> VesselCandidates:
    """Features of every voxel of `chosen` (bool (K, J, I)); `common` is that of `VesselCandidates`."""
    columns, shapes, tissue_curves, typical_noise_hu, tissue = common
    column_of_slice = unique_time_columns(series.slice_times)[1]
    slices = np.flatnonzero(chosen.any(axis=(1, 2)))

    def describe(k: int):
        found = _describe(series, bolus, k, *np.nonzero(chosen[k]), shapes[column_of_slice[k]])
        progress((k + 1) / chosen.shape[0])
        return found

    with ThreadPoolExecutor(threads) as pool:
        described = list(pool.map(describe, slices))
    kji = np.argwhere(chosen)
    merged = {name: np.concatenate([part[name] for part in described], axis=-1) for name in described[0]}
    return VesselCandidates(
        kji=kji,
        lps=series.geometry.to_lps(kji[:, ::-1]),
        column=column_of_slice[kji[:, 0]],
        shapes=shapes,
        columns=columns,
        tissue_curves=tissue_curves,
        typical_noise_hu=typical_noise_hu,
        tissue=tissue,
        **merged,
    )


def _gate_weights(times: np.ndarray, bolus: Bolus) -> np.ndarray:
    """(3, T) weights whose sums over time are early and total enhancement above the baseline, and the baseline, HU."""
    rise = float(np.clip(0.6 * (bolus.peak_s - bolus.arrival_s), 3.0, 9.0))
    early = ((times > bolus.arrival_s) & (times <= bolus.arrival_s + rise)).astype(float)
    if not early.any():
        early[int(np.argmin(np.abs(times - bolus.arrival_s - rise / 2)))] = 1.0
    total = (times > bolus.arrival_s + 0.5 * rise).astype(float)
    before = np.zeros_like(times)
    before[list(bolus.baseline_frames)] = 1.0
    return np.stack(
        [early / early.sum() - before / before.sum(), total / total.sum() - before / before.sum(), before / before.sum()]
    ).astype(np.float32)


def _describe(series: TimeSeries, bolus: Bolus, k: int, j: np.ndarray, i: np.ndarray, shapes: BolusShapes) -> dict[str, np.ndarray]:
    """Features of the voxels (j, i) of slice k; see `VesselCandidates`."""
    plane = series.values[:, k]
    frames, height, width = plane.shape
    own = plane[:, j, i].astype(np.float32)
    around = 4.0 * own
    step_j, step_i = (max(1, int(round(0.8 * NEIGHBORHOOD_MM / spacing))) for spacing in series.geometry.spacing[1::-1])
    for dj in (-1, 0, 1):
        for di in (-1, 0, 1):
            if dj or di:
                weight = np.float32(1.0 if dj and di else 2.0)
                around += weight * plane[:, np.clip(j + dj * step_j, 0, height - 1), np.clip(i + di * step_i, 0, width - 1)]
    around /= 16.0
    baseline = own[list(bolus.baseline_frames)].mean(axis=0)
    own -= own.mean(axis=0)
    around -= around.mean(axis=0)
    own_parts, around_parts = shapes.basis @ own, shapes.basis @ around
    fit, wide = fit_components(own_parts, shapes), fit_components(around_parts, shapes)
    own_energy = np.maximum(np.einsum("tn,tn->n", own, own), 1e-6)
    around_energy = np.maximum(np.einsum("tn,tn->n", around, around), 1e-6)
    noise = np.sqrt(np.maximum(own_energy - fit.length**2, 0.0) / max(1, frames - 4))
    wide_noise = np.sqrt(np.maximum(around_energy - wide.length**2, 0.0) / max(1, frames - 4))
    floor = max(0.5, 0.7 * bolus.noise_hu)
    z = fit.length / np.maximum(noise, floor)
    # Where one voxel is too noisy to tell when it enhances, its neighborhood tells, and the voxel says only how much.
    unclear = z < OWN_TIMING_Z
    joint = fit_components(own_parts, shapes, timing_from=np.where(unclear, around_parts, own_parts))
    return {
        "baseline_hu": baseline,
        "height_hu": joint.height_hu,
        "neighborhood_height_hu": wide.height_hu,
        "area": joint.area,
        "half_rise_s": joint.half_rise_s,
        "peak_s": joint.peak_s,
        "fwhm_s": joint.fwhm_s,
        "z": joint.length / np.maximum(noise, floor),
        "neighborhood_z": wide.length / np.maximum(wide_noise, floor / 3.0),
        "explained": fit.length**2 / own_energy,
        "neighborhood_explained": wide.length**2 / around_energy,
        "noise_hu": noise,
        "neighborhood_noise_hu": np.maximum(wide_noise, 0.2 * floor),
        "parts": own_parts,
    }


def grow_vessel(
    candidates: VesselCandidates,
    seed: int,
    eligible: np.ndarray,
    tolerance_s: float,
    height_hu: np.ndarray,
    trust: np.ndarray,
    share: float = 0.6,
    reach: int = 8,
) -> np.ndarray:
    """Voxels of the seed's vessel: connected to it (26 neighbors, same time axis), timed like it, and at least `share` as bright.

    Parameters
    ----------
    candidates : VesselCandidates
    seed : int
    eligible : ndarray (N,) of bool
    tolerance_s : float
        Allowed difference of half rise and of peak from the seed, seconds.
    height_hu : ndarray (N,)
        Brightness of each voxel as the search measures it, HU.
    trust : ndarray (N,)
        0...1, how far a voxel's own timing can be trusted; where it cannot, the tolerance is wider.
    share : float
        Least brightness, as a fraction of the seed's; up to three voxels may be 0.2 dimmer.
    reach : int
        Half width of the searched box, voxels.

    Returns
    -------
    ndarray of int
        Candidate numbers, brightest first; how many are kept grows as the vessel gets fainter against the noise.
    """
    offset = candidates.kji - candidates.kji[seed]
    tolerance = tolerance_s * (1.0 + 2.0 * (1.0 - np.minimum(trust, trust[seed])))
    near = (
        eligible
        & (np.abs(offset).max(axis=1) <= reach)
        & (candidates.column == candidates.column[seed])
        & (np.abs(candidates.peak_s - candidates.peak_s[seed]) <= 1.5 * tolerance)
        & (np.abs(candidates.half_rise_s - candidates.half_rise_s[seed]) <= tolerance)
        & (height_hu >= (share - 0.2) * height_hu[seed])
    )
    near[seed] = True
    members = np.flatnonzero(near)
    box = np.zeros((2 * reach + 1,) * 3, dtype=bool)
    place = tuple((offset[members] + reach).T)
    box[place] = True
    labels, _ = ndimage.label(box, structure=np.ones((3, 3, 3)))
    members = members[labels[place] == labels[reach, reach, reach]]
    members = members[np.argsort(-height_hu[members])]
    wanted = int(np.clip(np.ceil((20.0 * candidates.noise_hu[seed] / max(float(height_hu[seed]), 1e-3)) ** 2), 4, 10))
    bright = int(np.count_nonzero(height_hu[members] >= share * height_hu[seed]))
    # Dimmer voxels join only as long as they still raise the signal of the mean over its noise.
    return members[: min(wanted, max(bright, 3))]


def vessel_curve(series: TimeSeries, bolus: Bolus, candidates: VesselCandidates, members: np.ndarray) -> tuple[InputFunction, BolusFit]:
    """Mean enhancement of some candidates on their slices' own times, and its fit (fields of length 1)."""
    kji = candidates.kji[members]
    column = int(candidates.column[members[0]])
    curve = series.values[:, kji[:, 0], kji[:, 1], kji[:, 2]].astype(np.float64).mean(axis=1)
    fit = fit_curves(curve[:, None] - curve.mean(), candidates.shapes[column])
    before = float(curve[list(bolus.baseline_frames)].mean())
    # Few frames before the bolus say little about the level under the curve; the fit over all frames then helps.
    frames = len(bolus.baseline_frames)
    fitted = float(curve.mean() - fit.mean_hu[0])
    level = before if frames >= 5 else (frames * before + (5 - frames) * fitted) / 5.0
    return InputFunction(candidates.columns[column].copy(), curve - level, kji[:, ::-1].copy(), candidates.lps[members]), fit
