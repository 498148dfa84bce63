"""The document of metrics.json: volumes, indices, venous transit, profiles and quality flags, each defined once."""

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from CTPerfusionSuiteLib.volumes import Geometry

from .hemisphere_mirror import mirrored
from .lesions import NORMAL_TMAX_S, STANDARD_RCBF, STANDARD_TMAX_S, Lesions
from .perfusion_options import Thresholds
from .quality_flags import QualityFlag, doubtful
from .trial_profiles import trial_profiles

SCHEMA = "ctperfusionsuite.metrics/1"
PVT_TMAX_S = 10.0
"""Prolonged venous transit: Tmax in a dural sinus from here on, seconds (Salim H et al., Eur J Neurol 2025;32:e16563)."""
MIRROR_SHARE = 0.5
"""Least share of the mirrored lesion that must lie in tissue without hypoperfusion for the corrected CBV index."""


@dataclass(frozen=True)
class VenousTransit:
    """What was seen in the draining sinuses.

    Attributes
    ----------
    sss_tmax_s, torcula_tmax_s : float or None
        Median Tmax in the superior sagittal sinus and the torcula, seconds; None where the scan does not cover them.
    aif_vof_peak_s : float or None
        Peak of the VOF minus peak of the AIF, seconds.
    truncated : bool
        The scan ended before the venous passage could be judged.
    """

    sss_tmax_s: float | None = None
    torcula_tmax_s: float | None = None
    aif_vof_peak_s: float | None = None
    truncated: bool = False


def metrics_document(
    lesions: Lesions,
    maps: dict,
    masks: dict,
    geometry: Geometry,
    *,
    method: str,
    reference_cbf: float | None = None,
    venous: VenousTransit = VenousTransit(),
    absolute_calibrated: bool = True,
    flags: Sequence[QualityFlag] = (),
    age_years: float | None = None,
    nihss: float | None = None,
    mirror: Callable[[np.ndarray], np.ndarray | None] | None = None,
) -> dict:
    """Everything metrics.json says about one study.

    Parameters
    ----------
    lesions : Lesions
    maps : dict of str -> ndarray (K, J, I)
        ``tmax`` (s) and ``cbv`` (mL/100 g).
    masks : dict of str -> ndarray (K, J, I)
        ``hemisphere``; optionally ``roi_mask`` and ``contra_mask`` for the CBV index of a user's regions.
    geometry : Geometry
    method : str
        Name of the deconvolution engine.
    reference_cbf : float or None
        Operator-scale CBF that a flow of 1 in `lesions.reference.flow` stands for, mL/100 g/min; given when the lesions were computed
        from a relative map.
    venous : VenousTransit
    absolute_calibrated : bool
        False when the arterial curve could not be scaled to a trustworthy venous one.
    flags : sequence of QualityFlag
    age_years, nihss : float or None
    mirror : callable or None
        Takes a bool mask to its mirror image, bool or None; None mirrors at the plane between the hemispheres of `masks`.

    Returns
    -------
    dict
        JSON types only, without NaN or infinity; what is missing is None, never 0.
    """
    if mirror is None:
        hemisphere = masks.get("hemisphere")

        def mirror(mask):
            return None if hemisphere is None else mirrored(mask, hemisphere, geometry)

    hypoperfusion_ml = lesions.volume_ml(lesions.hypoperfusion)
    core_ml = lesions.volume_ml(lesions.core)
    penumbra_ml = lesions.volume_ml(lesions.penumbra)
    tmax_gt = {name: lesions.volume_ml(mask) for name, mask in lesions.tmax_gt.items()}
    reference = lesions.reference
    flow = None if reference.flow is None else reference.flow * (1.0 if reference_cbf is None else reference_cbf)
    document = {
        "schema": SCHEMA,
        "status": "ok",
        "reasons": [],
        "method": str(method),
        "thresholds": {"tmax_s": lesions.thresholds.tmax_s, "rcbf": lesions.thresholds.rcbf},
        "volumes_ml": {
            "hypoperfusion": hypoperfusion_ml,
            "core": core_ml,
            "core_physical": lesions.volume_ml(lesions.core_physical),
            "penumbra": penumbra_ml,
            "mismatch": penumbra_ml,
            "tmax_gt": tmax_gt,
            "rcbf_lt": {name: lesions.volume_ml(mask) for name, mask in lesions.rcbf_lt.items()},
        },
        "mismatch_ratio": _ratio(hypoperfusion_ml, core_ml),
        "hir": _ratio(tmax_gt["10"], tmax_gt["6"]),
        "prr_percent": None if penumbra_ml is None else _ratio(100.0 * penumbra_ml, hypoperfusion_ml),
        "cbv_index": cbv_index(lesions, maps, masks, mirror),
        "pvt": prolonged_venous_transit(venous),
        "reference": {"cbf": flow, "volume_ml": reference.volume_ml, "side": reference.side},
        "lesion_side": lesions.lesion_side,
        "profiles": trial_profiles(*((None, None) if doubtful(flags) else (hypoperfusion_ml, core_ml)), age_years, nihss),
        "absolute_calibrated": bool(absolute_calibrated),
        "qc": [flag.document() for flag in flags],
    }
    return json_ready(document)


def refused_document(reasons: Sequence[str], method: str | None = None, thresholds: Thresholds | None = None) -> dict:
    """The same document for a study that was refused: every figure null, the reasons in words."""
    thresholds = thresholds or Thresholds()
    return {
        "schema": SCHEMA,
        "status": "refused",
        "reasons": [str(reason) for reason in reasons],
        "method": method,
        "thresholds": {"tmax_s": thresholds.tmax_s, "rcbf": thresholds.rcbf},
        "volumes_ml": {
            **dict.fromkeys(("hypoperfusion", "core", "core_physical", "penumbra", "mismatch")),
            "tmax_gt": {f"{level:g}": None for level in STANDARD_TMAX_S},
            "rcbf_lt": {f"{level:.2f}": None for level in STANDARD_RCBF},
        },
        **dict.fromkeys(("mismatch_ratio", "hir", "prr_percent")),
        "cbv_index": dict.fromkeys(("corrected", "conventional", "roi")),
        "pvt": prolonged_venous_transit(VenousTransit()),
        "reference": dict.fromkeys(("cbf", "volume_ml", "side")),
        "lesion_side": None,
        "profiles": trial_profiles(None, None),
        "absolute_calibrated": None,
        "qc": [],
    }


def cbv_index(lesions: Lesions, maps: dict, masks: dict, mirror: Callable[[np.ndarray], np.ndarray | None]) -> dict[str, float | None]:
    """CBV of hypoperfused tissue relative to healthy tissue, in three ways; each is None where it cannot be told.

    ``corrected`` compares with the lesion's mirror image, tissue without hypoperfusion only, and needs at least half of it;
    ``conventional`` with all tissue of Tmax <= 4 s; ``roi`` compares the user's two regions.
    """
    cbv, tmax = np.asarray(maps["cbv"]), np.asarray(maps["tmax"])
    lesion, tissue = lesions.hypoperfusion, lesions.tissue
    index: dict[str, float | None] = {"corrected": None, "conventional": None, "roi": None}
    if lesion.any():
        low = _mean(cbv, lesion)
        other_side = mirror(lesion)
        if other_side is not None:
            healthy = np.asarray(other_side, bool) & tissue & ~lesion
            if np.count_nonzero(healthy) >= MIRROR_SHARE * np.count_nonzero(lesion):
                index["corrected"] = _ratio(low, _mean(cbv, healthy))
        index["conventional"] = _ratio(low, _mean(cbv, tissue & (tmax <= NORMAL_TMAX_S)))
    if masks.get("roi_mask") is not None and masks.get("contra_mask") is not None:
        roi, contra = (tissue & (np.asarray(masks[name]) > 0) for name in ("roi_mask", "contra_mask"))
        index["roi"] = _ratio(_mean(cbv, roi), _mean(cbv, contra))
    return index


def prolonged_venous_transit(venous: VenousTransit) -> dict:
    """PVT: positive when either sinus has a median Tmax of at least 10 s; null when neither is covered or the scan is truncated."""
    seen = [value for value in (venous.sss_tmax_s, venous.torcula_tmax_s) if value is not None and math.isfinite(value)]
    positive = max(seen) >= PVT_TMAX_S if seen and not venous.truncated else None
    return {
        "positive": positive,
        "sss_tmax_s": venous.sss_tmax_s,
        "torcula_tmax_s": venous.torcula_tmax_s,
        "aif_vof_peak_s": venous.aif_vof_peak_s,
    }


def json_ready(value, digits: int | None = 6):
    """The same document in JSON types: numbers rounded to `digits` decimals (None keeps all), NaN and infinity as None."""
    if isinstance(value, dict):
        return {str(key): json_ready(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_ready(item, digits) for item in value]
    if isinstance(value, np.ndarray):
        return json_ready(value.tolist(), digits)
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        if not math.isfinite(value):
            return None
        return float(value) if digits is None else round(float(value), digits)
    return value if value is None else str(value)


def to_json(document: dict, digits: int | None = 6) -> str:
    """The text of a JSON file, never with NaN or infinity."""
    return json.dumps(json_ready(document, digits), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(documents: Sequence[dict], leading: Sequence[dict] | None = None) -> str:
    """The text of a CSV file: one header, one row a document, keys joined by dots, null empty.

    Parameters
    ----------
    documents : sequence of dict
        Metrics documents.
    leading : sequence of dict, optional
        Columns to put before each row (case name ...).
    """
    rows = [{**(leading[n] if leading else {}), **flatten(document)} for n, document in enumerate(documents)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def flatten(document: dict, prefix: str = "") -> dict[str, str]:
    """One level of dotted keys and text values; lists are joined by ``;``, the quality flags give three columns."""
    flat: dict[str, str] = {}
    for key, value in document.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat.update(flatten(value, name + "."))
        elif key == "qc":
            for part in ("code", "severity", "message"):
                flat[f"{name}.{part}"] = _joined([flag[part] for flag in value])
        else:
            flat[name] = _joined(value) if isinstance(value, list | tuple) else _cell(value)
    return flat


def _joined(values) -> str:
    return ";".join(_cell(value).replace(";", ",") for value in values)


def _cell(value) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _mean(values: np.ndarray, mask: np.ndarray) -> float | None:
    inside = values[mask]
    inside = inside[np.isfinite(inside)]
    return float(inside.mean(dtype=float)) if inside.size else None


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or whole is None or not whole > 0.0 else part / whole
