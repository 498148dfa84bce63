"""Finding the arterial input function on the unsmoothed, full-resolution series."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.progress import Progress, part, silent
from CTPerfusionSuiteLib.volumes import TimeSeries

from .arterial_excess import arterial_excess, expected_bolus
from .bolus_arrival import Bolus, frame_mean
from .brain_mask import center_lps
from .input_functions import InputFunction
from .shared_bolus import SharedBolus
from .vessel_candidates import VesselCandidates, depth_mm, describe_voxels, vessel_candidates, vessel_curve

LATENESS_S, LATEST_S = 1.5, 3.0
TYPICAL_QUANTILE = 0.4
"""Of the timing of clear arteries.  Motion makes some seem early, delay makes others late; the earliest would all be of the first kind."""
LEADS_OVER_TISSUE_S = (1.0, 0.5, 0.0)
APART_MM, VESSEL_MM = 12.0, 9.0
CANDIDATES = 5
SKULL_RIM_MM = 5.5
ARTERY_BASELINE_HU = (0.0, 110.0)
SEARCHED_T, SEED_T, MEMBER_T, POOL_T = 4.0, 4.5, 5.0, 6.0
"""Least t of a voxel to be looked at, to start an artery, to join its own, and to join from elsewhere (among some 50 000 voxels one of
noise alone reaches 5)."""
LEAST_RANK = 1.0
LEAST_SHARE = 0.1
ARTERY_EXPLAINED = 0.88
BONE_HU = 150.0
BONE_NEAR_MM = 8.0
DEEP_MM = 25.0
BACK_MM = (20.0, 45.0)
SEARCHED_SHARE = 0.02
CLEAR_Z = 8.0
MEMBER_SHARE, POOL_SHARE = 0.6, 0.75
WANTED_SNR, MOST_MM2, MOST_VOXELS = 30.0, 25.0, (4, 40)
"""More voxels than a clear curve needs are not taken; at most so much area of the slice, within these numbers."""


def find_arteries(
    series: TimeSeries,
    bolus: Bolus,
    intracranial: np.ndarray,
    threads: int | None = None,
    progress: Progress = silent,
    candidates: VesselCandidates | None = None,
) -> tuple[InputFunction, ...]:
    """Ranked arterial input functions, best first, each the mean of a few voxels.

    What tissue and veins tell of the arterial bolus is looked for in every voxel (`arterial_excess`).  Voxels rank by how surely they
    hold it, where large arteries lie before elsewhere; late (lesion side) and wide ones lose.

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
        Up to five in different places (their best voxels at least 12 mm apart), on the times of their own slices.  The first takes in
        voxels of the same rank from the whole head when those of one place are noisy.

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
    del depth
    blood = expected_bolus(candidates)
    found: list[tuple[float, InputFunction]] = []
    if blood is not None and inside.any():
        excess = arterial_excess(series, candidates, blood, inside, threads)
        rank = np.multiply(excess.t, place, out=place)
        searched = inside & (excess.t >= SEARCHED_T) & (rank >= float(np.quantile(rank[inside], 1.0 - SEARCHED_SHARE)))
        if searched.any():
            voxels = describe_voxels(series, bolus, searched, candidates.common, threads)
            at = tuple(voxels.kji.T)
            vessels = _Voxels(voxels, excess.height_hu[at], excess.t[at], rank[at] * voxels.explained, blood)
            # The lead over the tissue shrinks with short boluses and slow sampling; it is given up only when nothing has it.
            for lead in LEADS_OVER_TISSUE_S:
                found = _ranked(series, bolus, vessels, lead)
                if found:
                    break
    progress(1.0)
    if not found:
        raise DataRefused(
            "No artery enhancing before the brain tissue was found, so no arterial input function can be measured; give one with --aif."
        )
    best = found[0][0]
    return tuple(curve for worth, curve in found if worth >= LEAST_SHARE * best)


def _blood_or_brain(candidates: VesselCandidates) -> np.ndarray:
    """Candidates whose level before the bolus is that of blood or brain, not of bone, fat or air."""
    return (candidates.baseline_hu > ARTERY_BASELINE_HU[0]) & (candidates.baseline_hu < ARTERY_BASELINE_HU[1])


@dataclass(frozen=True)
class _Voxels:
    """The searched voxels: their features, arterial height (HU), its t, t weighted by place, and the bolus that was looked for."""

    features: VesselCandidates
    height_hu: np.ndarray
    t: np.ndarray
    rank: np.ndarray
    blood: SharedBolus

    @property
    def trust(self) -> np.ndarray:
        """0...1, how far a voxel's own timing can be trusted."""
        return self.features.z**2 / (self.features.z**2 + 150.0)


def _ranked(series: TimeSeries, bolus: Bolus, vessels: _Voxels, lead_s: float) -> list[tuple[float, InputFunction]]:
    """(rank, curve) of up to `CANDIDATES` arteries at different places, the best first."""
    voxels, trust = vessels.features, vessels.trust
    tissue_rise, latest_peak = float(voxels.tissue.half_rise_s[0]), float(voxels.tissue.peak_s[0]) - lead_s
    plain = _blood_or_brain(voxels) & voxels.bolus_like(ARTERY_EXPLAINED)
    reference = _typical_timing(vessels, plain)
    latest_rise = min(tissue_rise - 0.5 * lead_s, reference[0] + LATEST_S)
    timely = (voxels.peak_s <= latest_peak) & (voxels.half_rise_s <= latest_rise)
    eligible = plain & (timely | (trust < 0.3))
    score = np.where(eligible, vessels.rank * _earliness(voxels, reference) ** trust, 0.0)
    left = np.where(vessels.t >= SEED_T, score, 0.0)
    found = []
    for _ in range(3 * CANDIDATES):
        seed = int(np.argmax(left))
        if left[seed] <= 0.0 or len(found) == CANDIDATES:
            break
        near = np.linalg.norm(voxels.lps - voxels.lps[seed], axis=1) < VESSEL_MM
        members = _members(series, vessels, seed, np.where(near, score, 0.0), MEMBER_SHARE, MEMBER_T)
        for taken in (seed, *members):
            left[np.linalg.norm(voxels.lps - voxels.lps[taken], axis=1) < APART_MM] = 0.0
        curve, fit = vessel_curve(series, bolus, voxels, members)
        noise = float(np.median(voxels.noise_hu[members])) / np.sqrt(members.size)
        if fit.peak_s[0] > latest_peak or fit.height_hu[0] < 3.0 * noise:
            continue
        sure = fit.length[0] ** 2 / (fit.length[0] ** 2 + 150.0 * noise**2)
        worth = float(vessels.rank[members].mean() * _earliness(fit, reference)[0] ** sure)
        if worth >= LEAST_RANK:
            found.append((worth, curve, seed))
    if not found:
        return []
    found.sort(key=lambda item: -item[0])
    worth, curve, seed = found[0]
    members = _members(series, vessels, seed, score, POOL_SHARE, POOL_T)
    wide, fit = vessel_curve(series, bolus, voxels, members)
    if fit.peak_s[0] <= latest_peak and len(members) > len(curve.voxels):
        found[0] = (worth, wide, seed)
    return [(worth, replace(curve, score=worth)) for worth, curve, _ in found]


def _members(series: TimeSeries, vessels: _Voxels, seed: int, score: np.ndarray, share: float, least_t: float) -> np.ndarray:
    """Numbers of the voxels whose mean is the artery's curve: timed like the seed, of a score of at least `share` of its own, the best
    first, and no more of them than the noise asks for."""
    voxels, trust = vessels.features, vessels.trust
    step = float(np.median(np.diff(voxels.columns[voxels.column[seed]])))
    tolerance = max(step, 1.0) * (1.0 + 2.0 * (1.0 - np.minimum(trust, trust[seed])))
    alike = (
        (voxels.column == voxels.column[seed])
        & (np.abs(voxels.peak_s - voxels.peak_s[seed]) <= 1.5 * tolerance)
        & (np.abs(voxels.half_rise_s - voxels.half_rise_s[seed]) <= tolerance)
        & (score >= share * score[seed])
        & (vessels.t >= least_t)
        & (vessels.height_hu >= MEMBER_SHARE * vessels.height_hu[seed])
    )
    alike[seed] = True
    members = np.flatnonzero(alike)
    members = members[np.argsort(-score[members], kind="stable")]
    clarity = np.sqrt(np.cumsum((vessels.height_hu[members] / voxels.noise_hu[members]) ** 2))
    pixel_mm2 = float(np.prod(series.geometry.spacing[:2]))
    most = int(np.clip(MOST_MM2 / pixel_mm2, *MOST_VOXELS))
    return members[: int(np.clip(np.searchsorted(clarity, WANTED_SNR) + 1, 3, most))]


def _typical_timing(vessels: _Voxels, plain: np.ndarray) -> tuple[float, float, float]:
    """Half rise, peak and width, seconds, of a typical clear artery; of the bolus that was looked for when none is clear."""
    voxels = vessels.features
    clear = plain & (vessels.trust > 0.5) & (voxels.z >= CLEAR_Z) & (vessels.rank >= 0.3 * vessels.rank.max())
    if np.count_nonzero(clear) >= 5:
        return tuple(
            float(np.quantile(values[clear], q))
            for values, q in ((voxels.half_rise_s, TYPICAL_QUANTILE), (voxels.peak_s, TYPICAL_QUANTILE), (voxels.fwhm_s, 0.5))
        )
    times, values = vessels.blood.times, vessels.blood.values
    top = int(np.argmax(values))
    high = np.flatnonzero(values >= values[top] / 2)
    return float(times[high[0]]), float(times[top]), float(times[high[high >= top][-1]] - times[high[0]])


def _earliness(timed, reference: tuple[float, float, float]) -> np.ndarray:
    """Factor 0...1 that falls with lateness and width against a typical artery."""
    rise, peak, width = reference
    late = np.maximum(timed.half_rise_s - rise, 0.0) + 0.5 * np.maximum(timed.peak_s - peak, 0.0)
    return np.exp(-late / LATENESS_S) * np.minimum(1.0, np.sqrt(width / np.asarray(timed.fwhm_s)))


def _likelihood_of_place(series: TimeSeries, bolus: Bolus, intracranial: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Factor (K, J, I) of 0.05...1: where the large arteries of a head lie, and where little else mimics them.

    The circle of Willis and its first branches lie deep and not at the back, where veins gather; within 8 mm of bone, in the slice or
    the next ones, what is left of motion mimics enhancement.  The factor only ranks: no place is excluded.
    """
    spacing = series.geometry.spacing[1::-1]
    middle = center_lps(intracranial, series.geometry)
    row = series.geometry.matrix[1]
    i, j, k = (np.arange(n) * step for n, step in zip(series.geometry.size, row[:3], strict=True))

    def to_bone(number: int) -> np.ndarray:
        bone = frame_mean(series.values[:, number], bolus.baseline_frames) > BONE_HU
        return ndimage.distance_transform_edt(~bone, sampling=spacing) if bone.any() else np.full(bone.shape, 99.0)

    place = np.empty(intracranial.shape, dtype=np.float32)
    below, here = None, to_bone(0)
    for number in range(place.shape[0]):
        above = to_bone(number + 1) if number + 1 < place.shape[0] else None
        nearest = here
        for beside in (below, above):
            nearest = nearest if beside is None else np.minimum(nearest, beside)
        away_from_bone = np.clip(nearest / BONE_NEAR_MM, 0.25, 1.0)
        deep = np.clip(0.35 + 0.65 * (depth[number] - SKULL_RIM_MM) / (DEEP_MM - SKULL_RIM_MM), 0.35, 1.0)
        posterior = row[3] + k[number] + j[:, None] + i[None, :] - middle[1]
        not_at_the_back = np.clip(1.0 - 0.65 * (posterior - BACK_MM[0]) / (BACK_MM[1] - BACK_MM[0]), 0.35, 1.0)
        place[number] = away_from_bone * deep * not_at_the_back
        below, here = here, above
    return place
