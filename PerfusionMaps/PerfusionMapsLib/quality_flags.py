"""What a reader should know before trusting the numbers: quality flags with a severity, in plain words with figures.

``info`` tells what was met or done and does not count against a study; ``warning`` means that a volume may be off; ``critical`` means
that it should not be used without looking at the data.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from .lesions import Lesions
from .observations import Observations


class Severity(StrEnum):
    """How much a flag matters."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True)
class QualityFlag:
    """One remark: a stable code for programs, a severity, and a sentence for people."""

    code: str
    severity: Severity
    message: str

    def document(self) -> dict[str, str]:
        """As metrics.json holds it."""
        return {"code": self.code, "severity": str(self.severity), "message": self.message}


TRUNCATION_WARNING, TRUNCATION_CRITICAL = 0.5, 0.85
"""Probability that the end of the scan changed a volume."""
AIF_WEAK_HU, AIF_VERY_WEAK_HU = 15.0, 8.0
"""2 % of the arterial curves of a commercial product peak under 15 HU (93 scans of ISLES 2018)."""
AIF_NOISY_SNR = 6.0
IMPOSSIBLE_LAG_S = 4.0
"""Late as no artery can be against the mean of all tissue, seconds."""
AIF_LEAD_S = 2.0
"""A true artery peaks at least this long before the mean of all tissue, seconds."""
MOTION_INFO, MOTION_WARNING, MOTION_CRITICAL = 3.0, 8.0, 15.0
"""Corrected motion in mm or degrees.  Rigid correction restores a few mm; more leaves tissue outside the scanned slab."""
LASTING_WARNING_MM = 2.5
"""A jolt spoils its own frames, a head that lies elsewhere for most of the scan leaves tissue half measured."""
DROPPED_WARNING, DROPPED_CRITICAL = 0.10, 0.25
"""Share of frames replaced by interpolation."""
GAP_WARNING_S = 4.5
"""A first pass lasts about 10 s; a longer gap hides its peak."""
SAMPLING_WARNING_S = 3.0
"""Coarser sampling lowers CBF and lengthens MTT by more than a third (perfusion CT sampled every 1-4 s)."""
COVERAGE_INFO_MM, COVERAGE_WARNING_MM = 50.0, 25.0
TISSUE_WARNING_ML = 100.0
ASYMMETRY_INFO_S, ASYMMETRY_WARNING_S = 1.5, 3.0
EDGE_INFO, EDGE_WARNING, EDGE_CRITICAL = 0.01, 0.05, 0.25
NOISE_WARNING_HU, NOISE_CRITICAL_HU = 15.0, 30.0
STARVED_WARNING = 0.10
VENOUS_SCALE_INFO = 10.0
"""95 % of the curve pairs of a commercial product have a smaller area ratio."""
TISSUE_VENOUS_SCALE = 15.0
"""Gray matter holds 3-6 % of the contrast of blood; a curve nearly as faint, and no clearer than its noise, is tissue, not an artery."""
REFERENCE_CBF_INFO, REFERENCE_CBF_WARNING = (8.0, 120.0), (2.0, 300.0)
"""Median CBF of normally perfused brain, mL/100 g/min.  Outside the first range the venous scaling is off, which changes no relative
figure; outside the second the curve that served as artery cannot be one."""
BILATERAL_WARNING_ML = 20.0
TMAX_ERROR_S, SENSITIVE_SHARE, SENSITIVE_ML = 0.2, 0.10, 5.0
"""A volume that an error of Tmax this small (seconds) changes by more than this share and this many mL stands on a plateau of Tmax."""
BASE_ERROR, ERROR_PER_MM = 0.03, 0.04
"""Error of a volume, as a part of it, in a still head whose input is known, and what each mm of lasting motion adds to it after correction
(random simulated heads analyzed with their true input)."""
UNCERTAIN_SHARE, UNCERTAIN_ML = 0.125, 6.0
"""A volume is uncertain when its standard error exceeds this part of it and this many mL."""
WARNING_NOTES = {
    "content_time_used", "rescale_missing", "lossy_compression", "derived_images", "times_contradicted", "frame_offset",
    "voxel_size_contradicted", "unknown_orientation",
}  # fmt: skip
"""Notes of the readers that put the numbers in doubt; all others are information."""

LESION_CODES = ("reference_both_hemispheres", "no_reference", "bilateral_hypoperfusion", "threshold_sensitive", "uncertain_volume")
"""Codes that depend on the thresholds and are judged anew when one moves."""


def quality_flags(seen: Observations, lesions: Lesions | None = None) -> tuple[QualityFlag, ...]:
    """All flags a study deserves, the gravest first.

    Parameters
    ----------
    seen : Observations
    lesions : Lesions, optional
        Adds `lesion_flags`.
    """
    flags = [
        *scan_flags(seen),
        *vessel_flags(seen),
        *motion_flags(seen),
        *image_flags(seen),
        *(lesion_flags(lesions, (seen.hypoperfusion_error_ml, seen.core_error_ml), seen.lasting_motion_mm) if lesions is not None else ()),
        *(QualityFlag(code, Severity.WARNING if code in WARNING_NOTES else Severity.INFO, message) for code, message in seen.notes),
    ]
    return by_severity(flags)


def by_severity(flags: Sequence[QualityFlag]) -> tuple[QualityFlag, ...]:
    """The flags with the gravest first, otherwise in their order."""
    order = (Severity.CRITICAL, Severity.WARNING, Severity.INFO)
    return tuple(sorted(flags, key=lambda flag: order.index(flag.severity)))


def flagged(flags: Sequence[QualityFlag]) -> bool:
    """Whether a study counts as flagged: anything above information."""
    return any(flag.severity != Severity.INFO for flag in flags)


def doubtful(flags: Sequence[QualityFlag]) -> bool:
    """Whether the volumes are no ground for any criterion: a critical flag says not to use them unseen."""
    return any(flag.severity == Severity.CRITICAL for flag in flags)


def scan_flags(seen: Observations) -> list[QualityFlag]:
    """Duration, sampling and coverage of the scan."""
    flags = []
    if _below(seen.baseline_frames, 3):
        severity = Severity.INFO if seen.baseline_frames == 2 else Severity.WARNING
        length = f" ({seen.baseline_s:.1f} s)" if _finite(seen.baseline_s) else ""
        flags.append(
            QualityFlag(
                "baseline_short",
                severity,
                f"Only {seen.baseline_frames} frame(s){length} were scanned before the contrast arrived; 3 are wanted.",
            )
        )
    if _above(seen.truncation_probability, TRUNCATION_WARNING):
        severity = Severity.CRITICAL if seen.truncation_probability > TRUNCATION_CRITICAL else Severity.WARNING
        end = f" after {seen.scan_end_s:.0f} s" if _finite(seen.scan_end_s) else ""
        flags.append(
            QualityFlag(
                "scan_truncated",
                severity,
                f"The scan ended{end} before the contrast had passed; with a probability of "
                f"{100 * seen.truncation_probability:.0f} % this changed a lesion volume.",
            )
        )
    if _above(seen.sampling_median_s, SAMPLING_WARNING_S):
        flags.append(
            QualityFlag(
                "slow_sampling",
                Severity.WARNING,
                f"Frames are {seen.sampling_median_s:.1f} s apart during the first pass; up to {SAMPLING_WARNING_S:g} s is reliable.",
            )
        )
    if _finite(seen.sampling_max_s) and _finite(seen.sampling_median_s) and seen.sampling_max_s > 1.8 * seen.sampling_median_s:
        severity = Severity.WARNING if seen.sampling_max_s > GAP_WARNING_S else Severity.INFO
        flags.append(
            QualityFlag(
                "irregular_sampling",
                severity,
                f"Times between frames vary during the first pass: {seen.sampling_median_s:.1f} s as a rule, "
                f"{seen.sampling_max_s:.1f} s at most.",
            )
        )
    if _below(seen.coverage_mm, COVERAGE_INFO_MM):
        severity = Severity.WARNING if seen.coverage_mm < COVERAGE_WARNING_MM else Severity.INFO
        flags.append(
            QualityFlag(
                "low_coverage", severity, f"The scan covers {seen.coverage_mm:.0f} mm of the brain; volumes count only what was scanned."
            )
        )
    if _below(seen.tissue_ml, TISSUE_WARNING_ML):
        flags.append(
            QualityFlag(
                "little_tissue", Severity.WARNING, f"Only {seen.tissue_ml:.0f} mL of brain tissue could be analyzed; check the brain mask."
            )
        )
    return flags


def vessel_flags(seen: Observations) -> list[QualityFlag]:
    """The arterial and the venous curve."""
    flags = []
    if _below(seen.aif_peak_hu, AIF_WEAK_HU):
        severity = Severity.CRITICAL if seen.aif_peak_hu < AIF_VERY_WEAK_HU else Severity.WARNING
        flags.append(
            QualityFlag(
                "aif_weak",
                severity,
                f"The artery enhances by only {seen.aif_peak_hu:.0f} HU; under {AIF_WEAK_HU:g} HU maps become unreliable.",
            )
        )
    if _finite(seen.aif_peak_hu) and _finite(seen.aif_noise_hu) and seen.aif_peak_hu < AIF_NOISY_SNR * seen.aif_noise_hu:
        flags.append(
            QualityFlag(
                "aif_noisy",
                # Where the error that noise makes is known, it is judged by what it does to the volumes.
                Severity.WARNING if seen.tmax_error_s is None else Severity.INFO,
                f"The arterial peak of {seen.aif_peak_hu:.0f} HU stands only "
                f"{seen.aif_peak_hu / seen.aif_noise_hu:.1f} times above its noise of {seen.aif_noise_hu:.1f} HU.",
            )
        )
    if _tissue_as_artery(seen):
        flags.append(
            QualityFlag(
                "aif_in_tissue",
                Severity.CRITICAL,
                f"The vein holds {seen.venous_scale:.0f} times the contrast of the given arterial curve, which hardly stands above its "
                "noise: this is tissue, not an artery; place the AIF in a vessel.",
            )
        )
    late = _lateness(seen)
    if late is not None:
        flags.append(QualityFlag("aif_late", Severity.CRITICAL if _far_too_late(seen) else Severity.WARNING, late))
    if seen.vof_truncated:
        tail = f" (it ends at {100 * seen.vof_tail_fraction:.0f} % of its peak)" if _finite(seen.vof_tail_fraction) else ""
        flags.append(QualityFlag("vof_truncated", Severity.INFO, f"The venous curve is cut off by the end of the scan{tail}."))
    if not seen.absolute_calibrated:
        flags.append(
            QualityFlag(
                "uncalibrated",
                Severity.INFO,
                "No complete venous curve was there to scale the artery: CBF and CBV are relative, not absolute.",
            )
        )
    if _above(seen.venous_scale, VENOUS_SCALE_INFO):
        flags.append(
            QualityFlag(
                "venous_scale_large",
                Severity.INFO,
                f"The vein holds {seen.venous_scale:.1f} times the contrast of the chosen artery, which is small or badly seen.",
            )
        )
    if seen.absolute_calibrated and _finite(seen.reference_cbf) and not _within(seen.reference_cbf, REFERENCE_CBF_INFO):
        low, high = REFERENCE_CBF_INFO
        flags.append(
            QualityFlag(
                "implausible_flow",
                Severity.INFO if _within(seen.reference_cbf, REFERENCE_CBF_WARNING) else Severity.WARNING,
                f"Normal tissue shows a CBF of {seen.reference_cbf:.1f} mL/100 g/min, where {low:g}-{high:g} is plausible: "
                "absolute CBF and CBV are off, check artery and vein.",
            )
        )
    return flags


def motion_flags(seen: Observations) -> list[QualityFlag]:
    """Motion of the head."""
    flags = []
    worst = max((value for value in (seen.motion_mm, seen.motion_deg) if _finite(value)), default=0.0)
    dropped = seen.frames_dropped or 0
    share = dropped / seen.frames if seen.frames else 0.0
    if worst > MOTION_INFO or dropped:
        severity = Severity.INFO
        lasting = seen.lasting_motion_mm is None or seen.lasting_motion_mm > LASTING_WARNING_MM
        if (worst > MOTION_WARNING and lasting) or share > DROPPED_WARNING:
            severity = Severity.WARNING
        if worst > MOTION_CRITICAL or share > DROPPED_CRITICAL:
            severity = Severity.CRITICAL
        frames = f"; {dropped} of {seen.frames} frames were replaced by interpolation" if dropped and seen.frames else ""
        flags.append(
            QualityFlag(
                "motion",
                severity,
                f"The head moved by up to {seen.motion_mm or 0.0:.1f} mm and {seen.motion_deg or 0.0:.1f} degrees, corrected{frames}.",
            )
        )
    if not seen.motion_corrected:
        flags.append(QualityFlag("motion_uncorrected", Severity.INFO, "Motion was not corrected."))
    return flags


def image_flags(seen: Observations) -> list[QualityFlag]:
    """Noise, the posterior's grid and the symmetry of arrival."""
    flags = []
    if _above(seen.noise_hu, NOISE_WARNING_HU):
        severity = Severity.CRITICAL if seen.noise_hu > NOISE_CRITICAL_HU else Severity.WARNING
        flags.append(
            QualityFlag(
                "photon_starvation",
                severity,
                f"The noise of tissue is {seen.noise_hu:.0f} HU; above {NOISE_WARNING_HU:g} HU the core is unreliable.",
            )
        )
    elif _above(seen.starved_fraction, STARVED_WARNING):
        flags.append(
            QualityFlag(
                "photon_starvation",
                Severity.WARNING,
                f"{100 * seen.starved_fraction:.0f} % of the tissue is over twice as noisy as the rest (streaks, photon starvation).",
            )
        )
    if _above(seen.edge_fraction, EDGE_INFO):
        severity = Severity.WARNING if seen.edge_fraction > EDGE_WARNING else Severity.INFO
        if seen.edge_fraction > EDGE_CRITICAL:
            severity = Severity.CRITICAL
        flags.append(
            QualityFlag(
                "posterior_edge",
                severity,
                f"In {100 * seen.edge_fraction:.1f} % of the tissue delay or MTT lies at the edge of what the model covers.",
            )
        )
    if _finite(seen.arrival_asymmetry_s) and abs(seen.arrival_asymmetry_s) > ASYMMETRY_INFO_S:
        late = "left" if seen.arrival_asymmetry_s > 0 else "right"
        severity = Severity.WARNING if abs(seen.arrival_asymmetry_s) > ASYMMETRY_WARNING_S else Severity.INFO
        flags.append(
            QualityFlag(
                "arrival_asymmetry",
                severity,
                f"Normal tissue of the {late} hemisphere fills {abs(seen.arrival_asymmetry_s):.1f} s later than the other side "
                "(a proximal stenosis delays without ischemia).",
            )
        )
    return flags


def lesion_flags(lesions: Lesions, errors_ml=(None, None), lasting_motion_mm: float | None = None) -> list[QualityFlag]:
    """What the thresholded maps themselves tell; judged anew when a threshold moves.

    Parameters
    ----------
    lesions : Lesions
    errors_ml : pair of (float or None)
        Standard errors of hypoperfusion and core, mL; `volume_errors.volume_errors_ml`.
    lasting_motion_mm : float, optional
        `volume_errors.lasting_motion_mm`.
    """
    flags = []
    reference = lesions.reference
    if reference.flow is None:
        flags.append(
            QualityFlag(
                "no_reference",
                Severity.CRITICAL,
                f"Only {reference.volume_ml:.0f} mL of tissue are normally perfused: relative CBF and the core cannot be told.",
            )
        )
    elif reference.side == "both":
        flags.append(
            QualityFlag(
                "reference_both_hemispheres",
                Severity.INFO,
                "Neither hemisphere alone holds 50 mL of normally perfused tissue to compare with: "
                f"relative CBF is measured against {reference.volume_ml:.0f} mL of both.",
            )
        )
    volume_ml = lesions.volume_ml(lesions.hypoperfusion)
    if lesions.lesion_side == "both" and volume_ml > BILATERAL_WARNING_ML:
        flags.append(
            QualityFlag(
                "bilateral_hypoperfusion",
                Severity.WARNING,
                f"{volume_ml:.0f} mL of hypoperfusion lie in both hemispheres: check the artery, cardiac output and carotids.",
            )
        )
    change_ml = TMAX_ERROR_S * lesions.ml_per_s
    if change_ml > max(SENSITIVE_SHARE * volume_ml, SENSITIVE_ML):
        flags.append(
            QualityFlag(
                "threshold_sensitive",
                Severity.INFO,
                f"Much tissue has a Tmax just around {lesions.thresholds.tmax_s:g} s: an error of {TMAX_ERROR_S:g} s changes the "
                f"{volume_ml:.0f} mL of hypoperfusion by {change_ml:.0f} mL.",
            )
        )
    return flags + _volume_flags(lesions, errors_ml, lasting_motion_mm)


def _volume_flags(lesions: Lesions, errors_ml, lasting_motion_mm: float | None) -> list[QualityFlag]:
    """What is known of the errors put together: how far the volumes may be off."""
    found = []
    for name, mask, error_ml in (
        ("hypoperfusion", lesions.hypoperfusion, errors_ml[0]),
        ("core", lesions.core, errors_ml[1]),
    ):
        volume_ml = lesions.volume_ml(mask)
        if volume_ml is None or not _finite(error_ml):
            continue
        error_ml = known_error_ml(volume_ml, error_ml, lasting_motion_mm)
        if error_ml > max(UNCERTAIN_SHARE * volume_ml, UNCERTAIN_ML):
            found.append(f"{name} {volume_ml:.0f} +- {error_ml:.0f} mL")
    if not found:
        return []
    return [
        QualityFlag(
            "uncertain_volume",
            Severity.WARNING,
            f"What is left of noise and motion leaves the volumes uncertain: {', '.join(found)} (standard error).",
        )
    ]


def known_error_ml(volume_ml: float, error_ml: float, lasting_motion_mm: float | None) -> float:
    """Standard error of a lesion's volume, mL: that of `volume_errors.volume_errors_ml` with what is left of motion and of all else."""
    share = math.hypot(BASE_ERROR, ERROR_PER_MM * (lasting_motion_mm or 0.0))
    return math.hypot(error_ml, share * volume_ml)


def _tissue_as_artery(seen: Observations) -> bool:
    """Whether the user's curve is that of tissue.  An automatic one comes with its error, which is judged by the volumes."""
    faint = _above(seen.venous_scale, TISSUE_VENOUS_SCALE) and _finite(seen.aif_peak_hu) and _finite(seen.aif_noise_hu)
    return faint and seen.tmax_error_s is None and seen.aif_peak_hu < AIF_NOISY_SNR * seen.aif_noise_hu


def _lateness(seen: Observations) -> str | None:
    """Why the AIF seems to come too late, or None.  Peaks are known to half a frame only."""
    tolerance = 0.5 * seen.sampling_median_s if _finite(seen.sampling_median_s) else 0.0
    if (
        _finite(seen.aif_arrival_s)
        and _finite(seen.tissue_arrival_s)
        and seen.aif_arrival_s > seen.tissue_arrival_s + max(1.0, 2 * tolerance)
    ):
        return f"Contrast reaches the chosen artery at {seen.aif_arrival_s:.1f} s, after the tissue at {seen.tissue_arrival_s:.1f} s."
    if _finite(seen.aif_peak_s) and _finite(seen.tissue_peak_s) and seen.tissue_peak_s - seen.aif_peak_s + tolerance < AIF_LEAD_S:
        return (
            f"The chosen artery peaks at {seen.aif_peak_s:.1f} s, hardly before the tissue at {seen.tissue_peak_s:.1f} s; "
            f"{AIF_LEAD_S:g} s are expected."
        )
    return None


def _far_too_late(seen: Observations) -> bool:
    """Whether the AIF comes so long after the tissue that no artery of this head can be meant."""
    pairs = ((seen.aif_arrival_s, seen.tissue_arrival_s), (seen.aif_peak_s, seen.tissue_peak_s))
    return any(_finite(aif) and _finite(tissue) and aif > tissue + IMPOSSIBLE_LAG_S for aif, tissue in pairs)


def _finite(value) -> bool:
    return value is not None and math.isfinite(value)


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def _above(value, limit: float) -> bool:
    return _finite(value) and value > limit


def _below(value, limit: float) -> bool:
    return _finite(value) and value < limit
