"""The tables of a perfusion report: volumes, indices, trial criteria, regions and curves, each figure with its definition."""

import numpy as np

from CTPerfusionSuiteLib.report.page import Table

from .input_functions import InputFunction
from .lesions import Lesions, mask_names
from .perfusion_pictures import RELATIVE_MAPS, SHORT_NAMES, has_place, is_calibrated, normal_tissue
from .perfusion_result import MAP_UNITS, PerfusionResult

NOTHING = "\u2013"
PROFILE_NAMES = {"defuse3": "DEFUSE-3", "extend": "EXTEND", "dawn": "DAWN"}
CRITERIA = {
    "core_below_70_ml": "core < 70 mL",
    "ratio_at_least_1_8": "ratio \u2265 1.8",
    "mismatch_at_least_15_ml": "mismatch \u2265 15 mL",
    "ratio_above_1_2": "ratio > 1.2",
    "difference_above_10_ml": "mismatch > 10 mL",
    "adult": "age \u2265 18 years",
    "nihss_high_enough": "NIHSS \u2265 10",
    "core_small_enough": "core below the limit for age and NIHSS",
}


def volume_tables(result: PerfusionResult) -> list[Table]:
    volumes = result.metrics["volumes_ml"]
    tmax, rcbf = volumes.get("tmax_gt", {}), volumes.get("rcbf_lt", {})
    times, flows = ("4", "6", "8", "10"), ("0.20", "0.30", "0.34", "0.38")
    physical = volumes.get("core_physical")
    return [
        Table(("Delayed tissue", "Volume (mL)"), tuple((f"Tmax > {key} s", number(tmax.get(key))) for key in times),
              "Clusters under 1 mL are dropped; > 8 and > 10 s are parts of > 6 s.",
              strong=tuple(n for n, key in enumerate(times) if float(key) == result.thresholds.tmax_s)),
        Table(("Low flow", "Volume (mL)"), tuple((f"rCBF < {100 * float(key):.0f} %", number(rcbf.get(key))) for key in flows)
              + ((f"CBF of the engine < {100 * result.thresholds.rcbf:g} %", number(physical)),),
              f"Within Tmax > {result.thresholds.tmax_s:g} s; clusters under 1 mL are dropped.",
              strong=tuple(n for n, key in enumerate(flows) if abs(float(key) - result.thresholds.rcbf) < 1e-9)),
    ]


def index_table(result: PerfusionResult) -> Table:
    """HIR, PRR, CBV index, PVT and the reference, each with its definition."""
    metrics = result.metrics
    index, pvt, reference = metrics.get("cbv_index") or {}, metrics.get("pvt") or {}, metrics.get("reference") or {}
    positive = pvt.get("positive")
    sinuses = [f"{name} {pvt[key]:.1f} s" for name, key in (("Superior sagittal sinus", "sss_tmax_s"), ("torcula", "torcula_tmax_s"))
               if pvt.get(key) is not None]
    venous = ("; ".join(sinuses) + ". " if sinuses else "") + "Positive when the median Tmax in either sinus is at least 10 s."
    unit = MAP_UNITS["cbf"][2] if is_calibrated(result) else "(relative)"
    side = {"left": "left hemisphere", "right": "right hemisphere", "both": "both hemispheres"}.get(reference.get("side"), "no reference")
    rows = [
        ("Hypoperfusion intensity ratio (HIR)", number(metrics.get("hir"), 2), "Volume of Tmax > 10 s / volume of Tmax > 6 s."),
        ("Penumbra rescue ratio (PRR)", number(metrics.get("prr_percent"), 0, " %"), "Penumbra / hypoperfusion."),
        ("CBV index, corrected", number(index.get("corrected"), 2),
         "Mean CBV of hypoperfused tissue / mean CBV of its mirror image, tissue without hypoperfusion only."),
        ("CBV index, conventional", number(index.get("conventional"), 2),
         "Mean CBV of hypoperfused tissue / mean CBV of tissue with Tmax \u2264 4 s."),
    ]
    if index.get("roi") is not None:
        rows.append(("CBV index, drawn regions", number(index["roi"], 2), "Mean CBV of the given region / of the given opposite region."))
    rows += [
        ("Prolonged venous transit (PVT)", "not assessable" if positive is None else "positive" if positive else "negative", venous),
        ("Peak of AIF to peak of VOF", number(pvt.get("aif_vof_peak_s"), 1, " s"), "Time between the peaks of the two curves."),
        ("Reference CBF", number(reference.get("cbf"), 1, f" {unit}"),
         f"Median operator-scale CBF of tissue with Tmax \u2264 4 s: {side}, {number(reference.get('volume_ml'), 0, ' mL')}."),
    ]
    return Table(("Index", "Value", "Definition"), tuple(rows), numeric=False)


def profile_table(result: PerfusionResult) -> Table:
    """Trial imaging criteria, each criterion by itself."""
    rows = []
    for key, profile in (result.metrics.get("profiles") or {}).items():
        details = profile if isinstance(profile, dict) else {"status": profile}
        criteria = [f"{CRITERIA.get(name, name.replace('_', ' '))}: {'not known' if met is None else 'yes' if met else 'no'}"
                    for name, met in (details.get("criteria") or {}).items()]
        if details.get("group"):
            criteria.append(f"group {details['group']}")
        rows.append((PROFILE_NAMES.get(key, key), str(details.get("status") or "not assessable"), "; ".join(criteria)))
    caption = "Facts about volumes, no recommendation. DAWN needs age and NIHSS. Not assessable under a critical quality flag."
    return Table(("Imaging criteria of", "Result", "Criteria"), tuple(rows), caption, numeric=False)


def region_table(result: PerfusionResult, found: Lesions) -> Table:
    """Medians in core, penumbra and normal tissue with the median voxel's 95 % interval."""
    rows = [region_values(result, title, mask) for title, mask in standard_regions(result, found)]
    return Table(region_columns(result), tuple(rows), region_caption(result, found))


def standard_regions(result: PerfusionResult, found: Lesions) -> list[tuple[str, np.ndarray | None]]:
    """(name, mask (K, J, I) or None) of core, penumbra and normal tissue of the reference hemisphere."""
    side = {"left": 1, "right": 2}.get(found.reference.side)
    normal = normal_tissue(result)
    if side is not None:
        normal &= result.masks["hemisphere"] == side
    core, penumbra = result.masks.get(mask_names(result.thresholds)[1]), result.masks.get("penumbra_mask")
    return [("Core", core), ("Penumbra", penumbra), ("Normal tissue", normal)]


def region_columns(result: PerfusionResult) -> tuple[str, ...]:
    """Header of `region_table`: names of maps with units."""
    return ("Region", "Volume (mL)", *(_column(result, name) for name in _region_maps(result)))


def region_caption(result: PerfusionResult, found: Lesions) -> str:
    """What the rows of `region_table` are."""
    where = f"in the {found.reference.side} hemisphere" if found.reference.side in ("left", "right") else "in both hemispheres"
    caption = f"Normal tissue: Tmax \u2264 4 s {where}. Medians over the region"
    interval = any(f"{name}_p025" in result.maps for name in _region_maps(result))
    return caption + ("; in parentheses the median limits of the voxels' 95 % intervals." if interval else ".")


def region_values(result: PerfusionResult, title: str, mask: np.ndarray | None) -> tuple[str, ...]:
    """A row of `region_table` for any mask (K, J, I): volume, and medians with the median limits of the voxels' intervals."""
    inside = np.zeros(result.geometry.shape, bool) if mask is None else np.asarray(mask) > 0
    volume = None if mask is None else float(inside.sum()) * result.geometry.voxel_volume_ml
    return (title, number(volume), *(_median(result, name, inside) for name in _region_maps(result)))


def _region_maps(result: PerfusionResult) -> list[str]:
    return [name for name in ("cbf", "cbv", "mtt", "delay", "tmax", "rcbf") if name in result.maps]


def _column(result: PerfusionResult, name: str) -> str:
    """Name and unit of a map over its column; the unit never breaks."""
    unit = "relative" if name in RELATIVE_MAPS and not is_calibrated(result) else "of reference" if name == "rcbf" else MAP_UNITS[name][2]
    return f"{SHORT_NAMES[name]} ({unit})".replace(" (", "\0(").replace(" ", "\u00a0").replace("\0", " ")


def _median(result: PerfusionResult, name: str, inside: np.ndarray) -> str:
    if not inside.any():
        return NOTHING
    digits = 2 if name == "rcbf" else 1
    text = f"{np.median(result.maps[name][inside]):.{digits}f}"
    if f"{name}_p025" in result.maps and f"{name}_p975" in result.maps:
        low, high = (np.median(result.maps[f"{name}_{end}"][inside]) for end in ("p025", "p975"))
        text += f" ({low:.{digits}f}\u00a0to\u00a0{high:.{digits}f})"
    return text.replace("-", "\u2212")


def curve_table(result: PerfusionResult) -> Table:
    """AIF, VOF and the automatic candidates: source, peak, place and score."""
    rows = [_curve_row("AIF", result.aif)]
    if result.vof is not None:
        rows.append(_curve_row("VOF", result.vof))
    rows += [_curve_row(f"AIF candidate {n}", curve) for n, curve in enumerate(result.aif_candidates, 1)]
    rows += [_curve_row(f"VOF candidate {n}", curve) for n, curve in enumerate(result.vof_candidates, 1)]
    columns = ("Curve", "Source", "Peak (HU)", "Peak time (s)", "Voxels", "Left, posterior, superior (mm)", "Score")
    return Table(columns, tuple(rows), "Positions are LPS millimeters; candidates before venous scaling, the best first.")


def _curve_row(name: str, curve: InputFunction) -> tuple[str, ...]:
    place = ", ".join(f"{c:.1f}" for c in np.mean(curve.lps, axis=0)).replace("-", "\u2212") if has_place(curve) else NOTHING
    score = f"{curve.score:.{0 if abs(curve.score) >= 100 else 2}f}" if np.isfinite(curve.score) else NOTHING
    voxels = str(len(curve.voxels)) if len(curve.voxels) else NOTHING
    return name, curve.source, f"{curve.peak_hu:.0f}", f"{curve.peak_time_s:.1f}", voxels, place, score


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    return "not assessable" if value is None else f"{value:.{digits}f}{unit}"
