"""Finding the arterial input function on the unsmoothed, full-resolution series."""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.progress import Progress, part, silent
from CTPerfusionSuiteLib.volumes import TimeSeries

from .arterial_excess import ArterialShape, arterial_shape, excess_map
from .bolus_arrival import Bolus, frame_mean
from .input_functions import InputFunction
from .vessel_candidates import VesselCandidates, depth_mm, describe_voxels, grow_vessel, vessel_candidates, vessel_curve

LEADS_OVER_TISSUE_S = (1.0, 0.5)
LATENESS_S = 1.5
LATEST_S = 3.0
APART_MM = 12.0
CANDIDATES = 5
SKULL_RIM_MM = 5.5
ARTERY_BASELINE_HU = (0.0, 110.0)
EXCESS_Z = 4.5
LEAST_SCORE_HU = {False: 2.0, True: 3.0}
LEAST_SHARE = 0.1
ARTERY_EXPLAINED = 0.88
BONE_HU = 150.0
BONE_NEAR_MM = 8.0
DEEP_MM = 25.0
BACK_MM = (20.0, 45.0)
MOVED_NOISES, END_SLICE = 4.0, 0.3
JOINING_SPREADS = 2.75
SEARCHED_SHARE = 0.02


def find_arteries(
    series: TimeSeries,
    bolus: Bolus,
    intracranial: np.ndarray,
    threads: int | None = None,
    progress: Progress = silent,
    candidates: VesselCandidates | None = None,
) -> tuple[InputFunction, ...]:
    """Ranked arterial input functions, best first, each the mean of a few voxels of one artery.

    Every voxel's curve is taken as tissue plus a share of the earliest bolus of the head (`arterial_excess`).  Among the voxels whose
    share is clear of the noise, high ones win (they are the least diluted by partial volume); late (lesion side) and wide ones lose.

    Parameters
    ----------
    series : TimeSeries
    bolus : Bolus
    intracranial : ndarray of bool (K, J, I)
        From `brain_mask.intracranial_space`.
    candidates : VesselCandidates, optional
        From `vessel_candidates.vessel_candidates`, to share them with `find_vein`.

    Returns
    -------
    tuple of InputFunction
        Up to five in different places (their brightest voxels at least 12 mm apart), on the times of their own slices.

    Raises
    ------
    DataRefused
        When no voxel enhances like an artery.

    References
    ----------
    Mouridsen K et al., Magn Reson Med 2006;55:524-531; Straka M et al., J Magn Reson Imaging 2010;32:1024-1037 (what marks an artery).
    """
    if candidates is None:
        candidates = vessel_candidates(series, bolus, intracranial, threads, part(progress, 0.0, 0.5))
    # Scalp and meningeal arteries and moving edges of bone lie in the outer rim.
    depth = depth_mm(intracranial, series)
    inside, place = depth > SKULL_RIM_MM, _likelihood_of_place(series, bolus, intracranial, depth)
    moved = bool(candidates.edge_movement_hu > MOVED_NOISES * candidates.typical_noise_hu)
    slices = np.flatnonzero(intracranial.any(axis=(1, 2)))
    if moved and slices.size >= 4:
        # Into the outermost slices motion has carried what was never scanned at rest; skull base there rises and falls like a bolus.
        place[slices[[0, -1]]] *= END_SLICE
    plain = candidates.believable & inside[tuple(candidates.kji.T)] & _blood_or_brain(candidates) & candidates.bolus_like(ARTERY_EXPLAINED)
    found: list[tuple[float, InputFunction]] = []
    # The lead over the tissue shrinks with short boluses and slow sampling; it is given up only when nothing has it.
    for lead in LEADS_OVER_TISSUE_S:
        shaped = arterial_shape(candidates, bolus, plain, place[tuple(candidates.kji.T)], lead)
        if shaped is not None:
            found = _ranked(series, bolus, candidates, shaped[0], inside, place, moved, lead, threads)
        if found:
            break
    progress(1.0)
    if not found:
        raise DataRefused(
            "No artery enhancing before the brain tissue was found, so no arterial input function can be measured; give one with --aif."
        )
    best = max(worth for worth, _ in found)
    return tuple(curve for worth, curve in sorted(found, key=lambda item: -item[0]) if worth >= LEAST_SHARE * best)


def _blood_or_brain(candidates: VesselCandidates) -> np.ndarray:
    """Candidates whose level before the bolus is that of blood or brain, not of bone, fat or air."""
    return (candidates.baseline_hu > ARTERY_BASELINE_HU[0]) & (candidates.baseline_hu < ARTERY_BASELINE_HU[1])


def _likelihood_of_place(series: TimeSeries, bolus: Bolus, intracranial: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Factor (K, J, I) of 0.05...1: where the large arteries of a head lie, and where little else mimics them.

    The circle of Willis and its first branches lie deep and not at the back, where veins gather; within 8 mm of bone, in the slice or
    the next ones, what is left of motion mimics enhancement.  The factor only ranks: no place is excluded.
    """
    bone = frame_mean(series.values, bolus.baseline_frames) > BONE_HU
    spacing = series.geometry.spacing[1::-1]
    distance = np.stack(
        [ndimage.distance_transform_edt(~image, sampling=spacing) if image.any() else np.full(image.shape, 99.0) for image in bone]
    )
    nearest = distance.copy()
    nearest[1:] = np.minimum(nearest[1:], distance[:-1])
    nearest[:-1] = np.minimum(nearest[:-1], distance[1:])
    away_from_bone = np.clip(nearest / BONE_NEAR_MM, 0.25, 1.0)
    deep = np.clip(0.35 + 0.65 * (depth - SKULL_RIM_MM) / (DEEP_MM - SKULL_RIM_MM), 0.35, 1.0)
    middle = series.geometry.to_lps(np.argwhere(intracranial)[:, ::-1]).mean(axis=0)
    row = series.geometry.matrix[1]
    i, j, k = (np.arange(n) * step for n, step in zip(series.geometry.size, row[:3], strict=True))
    posterior = row[3] + k[:, None, None] + j[None, :, None] + i[None, None, :] - middle[1]
    not_at_the_back = np.clip(1.0 - 0.65 * (posterior - BACK_MM[0]) / (BACK_MM[1] - BACK_MM[0]), 0.35, 1.0)
    return (away_from_bone * deep * not_at_the_back).astype(np.float32)


def _earliness(half_rise, peak, fwhm, reference: ArterialShape):
    """Factor 0...1 that falls with lateness and width against the earliest arteries."""
    late = np.maximum(half_rise - reference.half_rise_s, 0.0) + 0.5 * np.maximum(peak - reference.peak_s, 0.0)
    return np.exp(-late / LATENESS_S) * np.minimum(1.0, np.sqrt(reference.fwhm_s / np.asarray(fwhm)))


def _ranked(series, bolus, candidates, shape: ArterialShape, inside, likely, moved, lead_s, threads) -> list[tuple[float, InputFunction]]:
    """(score, curve) of up to `CANDIDATES` arteries at different places."""
    excess = excess_map(series, candidates, shape, inside, threads)
    searched = inside & (excess.z >= max(EXCESS_Z - 1.5, float(np.quantile(excess.z[inside], 1.0 - SEARCHED_SHARE))))
    if not searched.any():
        return []
    voxels = describe_voxels(series, bolus, searched, candidates.common, threads)
    place = tuple(voxels.kji.T)
    own, filtered, z = excess.height_hu[place], excess.filtered_hu[place], excess.z[place]
    latest_peak = float(candidates.tissue.peak_s[0]) - lead_s
    trust = voxels.z**2 / (voxels.z**2 + 150.0)
    latest_rise = min(float(candidates.tissue.half_rise_s[0]) - 0.5 * lead_s, shape.half_rise_s + LATEST_S)
    timely = (voxels.peak_s <= latest_peak) & (voxels.half_rise_s <= latest_rise)
    eligible = (
        _blood_or_brain(voxels)
        & voxels.bolus_like(ARTERY_EXPLAINED)
        & (own > JOINING_SPREADS * excess.spread_hu)
        & (timely | (trust < 0.3))
    )
    height = trust * np.minimum(own, 2.5 * filtered) + (1.0 - trust) * np.minimum(filtered, own)
    early = _earliness(voxels.half_rise_s, voxels.peak_s, voxels.fwhm_s, shape) ** trust
    score = np.where(eligible & (z >= EXCESS_Z), height * early * likely[place] * np.minimum(1.0, z / 15.0), 0.0)
    step = float(np.median(np.diff(voxels.columns, axis=1)))
    found = []
    for _ in range(3 * CANDIDATES):
        seed = int(np.argmax(score))
        if score[seed] <= 0.0 or len(found) == CANDIDATES:
            break
        members = grow_vessel(voxels, seed, eligible, max(step, 1.0), height, trust)
        curve, fit = vessel_curve(series, bolus, voxels, members)
        for taken in (seed, *members):
            score[np.linalg.norm(voxels.lps - voxels.lps[taken], axis=1) < APART_MM] = 0.0
        eligible[members] = False
        noise = float(np.median(voxels.noise_hu[members])) / np.sqrt(members.size)
        if fit.peak_s[0] > latest_peak or fit.height_hu[0] < 3.0 * noise:
            continue
        sure = fit.length[0] ** 2 / (fit.length[0] ** 2 + 150.0 * noise**2)
        worth = float(np.mean(own[members]) * _earliness(fit.half_rise_s, fit.peak_s, fit.fwhm_s, shape)[0] ** sure)
        worth *= min(1.0, float(np.mean(z[members])) / 15.0) * float(likely[place][members].mean())
        if worth >= LEAST_SCORE_HU[moved]:
            found.append((worth, replace(curve, score=worth)))
    return found
