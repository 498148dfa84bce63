"""Finding the venous output function, and scaling the arterial input by it."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import least_squares

from CTPerfusionSuiteLib.progress import Progress, silent
from CTPerfusionSuiteLib.tracer_kinetics import gamma_variate
from CTPerfusionSuiteLib.volumes import TimeSeries

from .bolus_arrival import Bolus
from .bolus_shapes import bolus_shapes, fit_curves
from .brain_mask import center_lps
from .input_functions import InputFunction
from .vessel_candidates import VesselCandidates, grow_vessel, vessel_candidates, vessel_curve

AFTER_ARTERY_S = 2.0
BEFORE_TISSUE_PEAK_S, BEFORE_TISSUE_RISE_S = 3.0, 0.75
APART_MM = 12.0
CANDIDATES = 4
VEIN_BASELINE_HU = (0.0, 160.0)
TAIL_SHARE = 0.30
VEIN_EXPLAINED = 0.85
PURITY_POWER = 6
LEAST_SHARE = 0.2
NOISY_AREA = 0.08


@dataclass(frozen=True)
class VeinScaling:
    """How much the arterial curve is scaled up to undo partial volume.

    Attributes
    ----------
    factor : float
        Area of the venous over area of the arterial curve, at least 1.
    used : bool
        Whether a venous curve could be used (the factor is 1 when not).
    truncated : bool
        Whether the scan ends before the venous bolus has passed.
    absolute_calibrated : bool
        Whether absolute values after scaling are comparable between patients.
    reason : str
        One sentence for people.
    """

    factor: float
    used: bool
    truncated: bool
    absolute_calibrated: bool
    reason: str


def find_vein(
    series: TimeSeries,
    bolus: Bolus,
    intracranial: np.ndarray,
    aif: InputFunction,
    threads: int | None = None,
    progress: Progress = silent,
    candidates: VesselCandidates | None = None,
) -> tuple[InputFunction, ...]:
    """Ranked venous output functions, best first: late curves of large area, preferably at the back near the midline.

    Parameters
    ----------
    series : TimeSeries
    bolus : Bolus
    intracranial : ndarray of bool (K, J, I)
        From `brain_mask.intracranial_space`; the large sinuses lie in its rim.
    aif : InputFunction
        The arterial input; a vein rises and peaks after it.
    candidates : VesselCandidates, optional
        From `vessel_candidates.vessel_candidates`, to share them with `find_arteries`.

    Returns
    -------
    tuple of InputFunction
        Up to four; empty when no vein is covered or the scan ends before any peaks.
    """
    if candidates is None:
        candidates = vessel_candidates(series, bolus, intracranial, threads, progress)
    artery = fit_curves(aif.hu[:, None] - aif.hu.mean(), bolus_shapes(aif.times))
    tissue_peak, tissue_height = float(candidates.tissue.peak_s[0]), float(candidates.tissue.height_hu[0])
    tissue_rise = float(candidates.tissue.half_rise_s[0])
    step = float(np.median(np.diff(candidates.columns, axis=1)))
    artery_peak, artery_rise = float(artery.peak_s[0]), float(artery.half_rise_s[0])
    plain = (
        candidates.believable
        & candidates.bolus_like(VEIN_EXPLAINED)
        & (candidates.baseline_hu > VEIN_BASELINE_HU[0])
        & (candidates.baseline_hu < VEIN_BASELINE_HU[1])
        & (candidates.height_hu > 2.0 * tissue_height)
    )
    eligible = (
        plain
        & (candidates.peak_s >= max(artery_peak + AFTER_ARTERY_S, tissue_peak - BEFORE_TISSUE_PEAK_S))
        & (candidates.half_rise_s >= max(artery_rise + 0.75 * AFTER_ARTERY_S, tissue_rise - BEFORE_TISSUE_RISE_S))
    )
    if not eligible.any():
        return ()
    offset = candidates.lps - center_lps(intracranial, series.geometry)
    midline = 0.3 + 0.7 * np.exp(-0.5 * (offset[:, 0] / 20.0) ** 2)
    posterior = 0.3 + 0.7 / (1.0 + np.exp(-offset[:, 1] / 12.0))
    area = np.minimum(candidates.area, 3.0 * candidates.neighborhood_height_hu * candidates.fwhm_s)
    # The sinuses border bone, and what is left of motion shows there: a curve that is all bolus goes before a slightly larger one.
    clean = candidates.explained**PURITY_POWER * np.minimum(1.0, candidates.neighborhood_z / 25.0)
    score = np.where(eligible, area * midline * posterior * clean, 0.0)
    trust = candidates.z**2 / (candidates.z**2 + 150.0)
    found = []
    for _ in range(3 * CANDIDATES):
        seed = int(np.argmax(score))
        if score[seed] <= 0.0 or len(found) == CANDIDATES:
            break
        alike = eligible & (candidates.explained >= min(0.97, candidates.explained[seed] - 0.03))
        members = grow_vessel(candidates, seed, alike, max(step, 1.0), candidates.height_hu, trust, share=0.7)
        curve, fit = vessel_curve(series, bolus, candidates, members)
        worth = float(fit.area[0] * np.mean((midline * posterior * clean)[members]))
        for taken in (seed, *members):
            score[np.linalg.norm(candidates.lps - candidates.lps[taken], axis=1) < APART_MM] = 0.0
        eligible[members] = False
        if fit.peak_s[0] >= artery_peak + 0.75 * AFTER_ARTERY_S:
            found.append((worth, replace(curve, score=worth)))
    progress(1.0)
    best = max((worth for worth, _ in found), default=0.0)
    return tuple(curve for worth, curve in sorted(found, key=lambda item: -item[0]) if worth >= LEAST_SHARE * best)


def vein_scaling(aif: InputFunction, vof: InputFunction | None, scan_end_s: float) -> VeinScaling:
    """Partial-volume scaling of the arterial input: only upwards, by the ratio of the areas of vein and artery.

    Both areas end at the same time.  When the scan ends while the vein still carries more than 30 % of its peak, the areas of
    gamma variates fitted to both first passes are used instead, provided the vein is seen half a width past its peak.

    Parameters
    ----------
    aif, vof : InputFunction
        Curves in HU above baseline; `vof` may be None.
    scan_end_s : float
        Last scan time, seconds.

    References
    ----------
    Straka M et al., J Magn Reson Imaging 2010;32:1024-1037; Thompson HK et al., Circ Res 1964;14:502-515 (first-pass fit).
    """
    if vof is None:
        return VeinScaling(1.0, False, False, False, "No vein was found, so the arterial curve is not corrected for partial volume.")
    end = min(scan_end_s, float(aif.times[-1]), float(vof.times[-1]))
    vein, artery = first_pass_fit(vof), first_pass_fit(aif)
    if vein is None or artery is None:
        return VeinScaling(
            1.0, False, False, False, "The venous or arterial curve has no clear first pass, so no partial-volume correction is made."
        )
    past = end - vein.peak_s
    truncated = past < vein.fwhm_s and _tail_share(vof, end) > TAIL_SHARE
    if past < 0.5 * vein.fwhm_s:
        return VeinScaling(
            1.0, False, True, False, "The scan ends before the venous curve has fallen by half, so absolute values are not calibrated."
        )
    if truncated:
        ratio, how = vein.area / artery.area, "first-pass gamma-variate fits, because the scan truncates the venous curve"
    else:
        ratio, how = area_until(vof, end) / max(area_until(aif, end), 1e-6), f"areas up to {end:.0f} s"
        # The error of an area is mostly that of its baseline, summed over the whole scan; a fit has its own free baseline.
        frames = np.asarray(aif.times).size
        error = artery.residual_hu * np.sqrt(1.0 + frames / 6.0) * (end - float(aif.times[0])) / np.sqrt(frames)
        if error > NOISY_AREA * area_until(aif, end):
            ratio, how = vein.area / artery.area, "first-pass gamma-variate fits, because the arterial curve is noisy"
    if ratio <= 1.0:
        return VeinScaling(1.0, True, truncated, True, f"The artery has the larger area ({how}), so no scaling is needed.")
    return VeinScaling(float(ratio), True, truncated, True, f"Scaled up by {ratio:.2f} to the area of the vein ({how}).")


@dataclass(frozen=True)
class FirstPass:
    """Gamma variate fitted to the first pass of a curve: peak HU and time, full width at half maximum, area (HU s), misfit (HU)."""

    height_hu: float
    peak_s: float
    fwhm_s: float
    area: float
    residual_hu: float


def first_pass_fit(curve: InputFunction) -> FirstPass | None:
    """Gamma variate over a free constant, fitted up to where the falling curve reaches 40 % of its peak; None without a peak."""
    times, hu = np.asarray(curve.times, float), np.asarray(curve.hu, float)
    start = fit_curves(hu[:, None] - hu.mean(), bolus_shapes(times))
    height, peak, fwhm = float(start.height_hu[0]), float(start.peak_s[0]), float(start.fwhm_s[0])
    if height <= 0.0:
        return None
    smooth = np.convolve(np.pad(hu, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
    low = np.flatnonzero((times > peak) & (smooth < 0.4 * max(height, smooth.max())))
    last = int(low[0]) if low.size else times.size - 1
    used = np.arange(times.size) <= max(last, min(times.size - 1, int(np.searchsorted(times, peak)) + 2))
    x, y = times[used], hu[used]
    if x.size < 5:
        return None

    def misfit(p):
        return p[4] + gamma_variate(x, p[1] - np.exp(p[2]) * np.exp(p[3]), np.exp(p[2]), np.exp(p[3]), p[0]) - y

    exponent = 4.0
    first = np.array([height, peak, np.log(exponent), np.log(max(0.3, fwhm / (2.355 * np.sqrt(exponent)))), 0.0])
    bounds = (
        [0.2 * height, peak - fwhm, np.log(1.0), np.log(0.15), -0.3 * height],
        [3.0 * height, peak + fwhm, np.log(20.0), np.log(15.0), 0.3 * height],
    )
    result = least_squares(misfit, np.clip(first, *bounds), bounds=bounds, loss="soft_l1", f_scale=max(1.0, 0.05 * height))
    height, peak, exponent, scale = float(result.x[0]), float(result.x[1]), float(np.exp(result.x[2])), float(np.exp(result.x[3]))
    fine = np.linspace(peak - exponent * scale, peak + 30.0 * scale, 4000)
    values = gamma_variate(fine, peak - exponent * scale, exponent, scale, height)
    above = fine[values >= height / 2]
    return FirstPass(
        height, peak, float(above[-1] - above[0]), float(np.trapezoid(values, fine)), float(np.sqrt(np.mean(misfit(result.x) ** 2)))
    )


def area_until(curve: InputFunction, end_s: float) -> float:
    """Area under a curve from its first frame to `end_s`, HU s, by the trapezoid rule."""
    times, hu = np.asarray(curve.times, float), np.asarray(curve.hu, float)
    inside = times <= end_s
    x, y = times[inside], hu[inside]
    if end_s > x[-1] + 1e-9 and end_s <= times[-1]:
        x, y = np.append(x, end_s), np.append(y, np.interp(end_s, times, hu))
    return float(np.trapezoid(y, x))


def _tail_share(curve: InputFunction, end_s: float) -> float:
    """Mean of the last three samples before `end_s` as a share of the peak."""
    seen = np.asarray(curve.hu)[np.asarray(curve.times) <= end_s]
    return float(np.mean(seen[-3:]) / max(np.max(seen), 1e-6))
