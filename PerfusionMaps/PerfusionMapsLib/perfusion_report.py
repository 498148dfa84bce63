"""What stands on the report of a perfusion study, and its files.

The page says what was measured, by which definition, and how sure it is.  It gives no advice, and no patient name unless asked.
"""

from pathlib import Path

import numpy as np

from CTPerfusionSuiteLib.report.canvas import require_packages
from CTPerfusionSuiteLib.report.color_maps import CORE, PENUMBRA, hex_color
from CTPerfusionSuiteLib.report.curves_plot import Curve
from CTPerfusionSuiteLib.report.page import NOTICE, Facts, Flag, Flags, Headline, Note, Page, Picture, Section, write_page

from .lesions import Lesions, lesions
from .perfusion_pictures import (
    CLINICAL_WINDOWS,
    RELATIVE_MAPS,
    SHORT_NAMES,
    brain_layout,
    core_penumbra_picture,
    input_functions_picture,
    interval_pictures,
    is_calibrated,
    lesion_names,
    map_picture,
    motion_picture,
    rcbf_bands_picture,
    tmax_bands_picture,
    tmax_projection_picture,
)
from .perfusion_result import MAP_UNITS, PerfusionResult
from .perfusion_tables import NOTHING, curve_table, index_table, number, profile_table, region_table, volume_tables

METHOD_NAMES = {
    "bayes": "grid-Bayesian dictionary (bayes)",
    "bcsvd": "block-circulant SVD (bcsvd)",
    "osvd": "oscillation-limited block-circulant SVD (osvd)",
}
SEVERITIES = {"info": "info", "note": "info", "warning": "warning", "caution": "warning", "error": "error", "severe": "error",
              "serious": "error", "critical": "error"}
UNCALIBRATED = (
    "The arterial curve could not be calibrated to a trustworthy venous one: CBF and CBV are relative values without absolute units. "
    "Tmax, delay, MTT, relative CBF and the volumes derived from them do not depend on that scale."
)
_IDENTITY = ("patient", "birth", "accession", "referring", "operator_name", "operatorsname", "institution", "physician")
_LONGEST_LIST = 12

BESIDE_CODES = ("other_series", "skipped_file")
"""Notes of the reader about what lies beside the series; one line holds them all."""


def write_report(folder: Path, result: PerfusionResult, patient: str | None = None, tissue: tuple[Curve, ...] = ()) -> None:
    """Write ``qa_aif_vof.png``, ``qa_tmax_mip.png``, ``qa_core_penumbra.png``, ``qa_motion.png`` and ``report.html``.

    Parameters
    ----------
    folder : Path
        An existing folder.
    result : PerfusionResult
    patient : str or None
        Shown on the page when given; otherwise the page identifies nobody.
    tissue : tuple of Curve
        Tissue curves to draw beside AIF and VOF.

    Raises
    ------
    ReportUnavailable
        Before anything is written, where matplotlib or jinja2 is missing.
    """
    require_packages()
    folder = Path(folder)
    pictures = {
        "qa_aif_vof.png": input_functions_picture(result, tissue),
        "qa_tmax_mip.png": tmax_projection_picture(result),
        "qa_core_penumbra.png": core_penumbra_picture(result),
        "qa_motion.png": motion_picture(result),
    }
    for name, png in pictures.items():
        (folder / name).write_bytes(png)
    write_page(folder / "report.html", report_page(result, pictures, patient))


def report_page(result: PerfusionResult, pictures: dict[str, bytes], patient: str | None = None) -> Page:
    """The content of the page; `pictures` are the PNGs under the names they are written with."""
    layout = brain_layout(result)
    found = lesions(result.maps, result.masks, result.thresholds, result.geometry)
    sections = [
        _quality(result),
        Section("Core and penumbra", (Picture(
            pictures["qa_core_penumbra.png"], "Axial slices of the mean CT with core and penumbra",
            "Radiological orientation: the patient's left is on the right of every slice. Slices run from inferior to superior; under each "
            f"its position (DICOM z).{_skipped(result, layout)}"),)),
        Section("Volumes by threshold", (*volume_tables(result),), beside=True),
        Section("Indices and trial criteria", (index_table(result), profile_table(result))),
        Section("Threshold bands", tuple(_bands(result, found))),
        Section("Perfusion maps", tuple(_maps(result, layout))),
        Section("Largest Tmax through the brain", (Picture(
            pictures["qa_tmax_mip.png"], "Axial, coronal and sagittal maximum of Tmax",
            "Gray: brain without tissue on the line of sight."),)),
        Section("Values by region", (region_table(result, found), *_intervals(result, layout))),
        Section("Arterial and venous curves", (*_input_functions(result, pictures["qa_aif_vof.png"]),)),
        Section("Motion", (Picture(pictures["qa_motion.png"], "Translations and rotations of every frame", _motion_words(result)),)),
        Section("Definitions", (_definitions(result),)),
        Section("Provenance", tuple(provenance_facts(result.provenance)), beside=True),
    ]
    facts = ((("Patient", patient),) if patient else ()) + _summary(result)
    return Page(
        title="CT perfusion of the brain",
        subtitle=_subtitle(result),
        facts=facts,
        headlines=_headlines(result),
        sections=tuple(sections),
        footer=f"{NOTICE} Volumes and thresholds are specific to this software and method; trial criteria are stated as facts about "
        "volumes and are no recommendation.",
    )


def _headlines(result: PerfusionResult) -> tuple[Headline, ...]:
    """Core, hypoperfusion, mismatch volume and ratio."""
    volumes, ratio = result.metrics["volumes_ml"], result.metrics.get("mismatch_ratio")
    hypoperfusion, core = lesion_names(result)
    core_ml = volumes.get("core")
    if ratio is not None:
        why = "hypoperfusion / core"
    elif core_ml is None:
        why = "not determined: too little normal tissue for a reference"
    elif volumes.get("hypoperfusion") == 0:
        why = "no hypoperfusion"
    else:
        why = "no core (counts as infinite in trial criteria)"
    return (
        Headline("Core", *_value(core_ml), f"{core} of normal tissue, within {hypoperfusion}", hex_color(CORE)),
        Headline("Hypoperfusion", *_value(volumes.get("hypoperfusion")), hypoperfusion, "#f0641e"),
        Headline("Mismatch", *_value(volumes.get("mismatch")), "hypoperfusion minus core (penumbra)", hex_color(PENUMBRA)),
        Headline("Mismatch ratio", NOTHING if ratio is None else number(ratio, 2), "", why, "#55616f"),
    )


def _quality(result: PerfusionResult) -> Section:
    """The flags, and the warning about relative maps."""
    loud = () if is_calibrated(result) else (Note(UNCALIBRATED, loud=True),)
    return Section("Quality", (*loud, quality_list(result.metrics)))


def quality_list(metrics: dict) -> Flags:
    """The quality flags of a metrics document, the most severe first; files beside the series share one line."""
    raised = metrics.get("qc", [])
    beside = [str(flag.get("message", "")) for flag in raised if flag.get("code") in BESIDE_CODES]
    flags = [Flag(SEVERITIES.get(str(flag.get("severity", "")).lower(), "warning"), str(flag.get("message", "")), str(flag.get("code", "")))
             for flag in raised if flag.get("code") not in BESIDE_CODES]
    if beside:
        flags.append(Flag("info", "Also in the folder, not used: " + "; ".join(beside) + ".", "not_used"))
    flags += [Flag("error", str(reason)) for reason in metrics.get("reasons", [])]
    flags.sort(key=lambda flag: ("error", "warning", "info").index(flag.severity))
    return Flags(tuple(flags), "No quality flag was raised.")


def _bands(result: PerfusionResult, found: Lesions) -> list:
    parts: list = [Picture(tmax_bands_picture(result, found), "Tmax above 4, 6, 8 and 10 seconds on mean CT")]
    flow = rcbf_bands_picture(result, found)
    if flow is None:
        parts.append(Note("Relative CBF could not be told: too little normally perfused tissue for a reference."))
    else:
        parts.append(Picture(flow, "Relative CBF under 38, 34, 30 and 20 percent on mean CT"))
    return parts


def _maps(result: PerfusionResult, layout) -> list:
    """CBF, CBV, MTT, Tmax and delay."""
    parts: list = [] if is_calibrated(result) else [Note(UNCALIBRATED, loud=True)]
    captions = {
        "tmax": f"Line on the color bar: threshold of {result.thresholds.tmax_s:g} s.",
        "delay": "Arrival of the bolus in tissue after the arterial curve, by the engine's own model; it is not Tmax.",
    }
    for name in ("cbf", "cbv", "mtt", "tmax", "delay"):
        if name in result.maps:
            text = captions.get(name, "")
            if name in RELATIVE_MAPS and not is_calibrated(result):
                text = "Relative values; the window is scaled to normally perfused tissue."
            parts.append(Picture(map_picture(result, name, layout), f"Axial slices of {MAP_UNITS[name][0]}", text))
    return parts


def _intervals(result: PerfusionResult, layout) -> list[Picture]:
    captions = {"delay": "Where delay is uncertain (bright), so is whether a voxel exceeds the Tmax threshold.",
                "cbf": "Half width of the interval as a share of CBF."}
    return [Picture(png, f"Uncertainty of {MAP_UNITS[name][0]}", captions[name]) for name, png in interval_pictures(result, layout)]


def _input_functions(result: PerfusionResult, picture: bytes) -> list:
    """The curves, where they come from, and the other candidates."""
    parts: list = [Picture(picture, "Arterial and venous enhancement curves and their places in the head",
                           "Thick rings and lines: used. Thin: other candidates. The AIF is shown as the engine uses it, after venous "
                           "scaling.")]
    parts.append(curve_table(result))
    if result.vof is None:
        parts.append(Note("No venous output function was used."))
    return parts


def _motion_words(result: PerfusionResult) -> str:
    motion = result.motion
    if motion is None:
        return ""
    bad = np.asarray(motion.bad, bool)
    shift = np.linalg.norm(motion.translations_mm, axis=-1)[~bad].max(initial=0.0)
    turn = np.linalg.norm(motion.rotations_deg, axis=-1)[~bad].max(initial=0.0)
    dropped = int(bad.any(axis=1).sum())
    words = "Rigid motion, corrected frame by frame" + (". " if bad.shape[1] == 1 else " in each table position. ")
    words += f"Largest shift {shift:.1f} mm and rotation {turn:.1f}\u00b0 among the frames kept; "
    return words + (f"{dropped} of {len(bad)} frames dropped and interpolated." if dropped else "no frame dropped.")


def _summary(result: PerfusionResult) -> tuple[tuple[str, str], ...]:
    """Facts under the title."""
    geometry, metrics = result.geometry, result.metrics
    x, y, z = geometry.spacing
    side = {"left": "left", "right": "right", "both": "both sides"}.get(metrics.get("lesion_side"), "none")
    facts = [
        ("Side of hypoperfusion", side),
        ("Method", METHOD_NAMES.get(str(metrics.get("method")), str(metrics.get("method")))),
        ("Grid", f"{geometry.size[0]} \u00d7 {geometry.size[1]} \u00d7 {geometry.size[2]}, {x:.2f} \u00d7 {y:.2f} \u00d7 {z:.2f} mm"),
    ]
    times = result.motion.times if result.motion is not None else result.aif.times if result.aif.source == "automatic" else None
    if times is not None and len(times) > 1:
        facts.append(("Time", f"{len(times)} frames over {times[-1] - times[0]:.0f} s"))
    brain_ml = float(np.count_nonzero(result.masks["brain_mask"])) * geometry.voxel_volume_ml
    facts.append(("Brain covered", f"{brain_ml:.0f} mL"))
    if not is_calibrated(result):
        facts.append(("CBF and CBV", "relative only"))
    return tuple(facts)


def _subtitle(result: PerfusionResult) -> str:
    """What the header says of the series; fields that could identify a person are never asked for."""
    header = result.source_header
    names = ("series_description", "manufacturer", "model")
    return ", ".join(dict.fromkeys(str(header.get(name)).strip() for name in names if header.get(name)))


def _definitions(result: PerfusionResult) -> Facts:
    t = result.thresholds
    small = f"clusters under {t.minimum_cluster_ml:g} mL"
    shown = [name for name in ("cbf", "cbv", "mtt", "tmax", "delay") if name not in RELATIVE_MAPS or is_calibrated(result)]
    windows = ", ".join(f"{SHORT_NAMES[name]} 0\u2013{CLINICAL_WINDOWS[name]:g} {MAP_UNITS[name][2]}" for name in shown)
    return Facts((
        ("Hypoperfusion", f"Tissue with Tmax > {t.tmax_s:g} s; 26-connected {small} dropped."),
        ("Core", f"Hypoperfusion with CBF < {100 * t.rcbf:g} % of the reference; {small} stay penumbra."),
        ("Tmax and rCBF", "Read from the residue function of one block-circulant operator (truncation at 10 % of the largest "
                          "singular value) applied to the denoised curves, whatever the method: the scale on which the thresholds "
                          "of the literature were set."),
        ("CBF, CBV, MTT, delay", "Physical estimates of the engine named above; MTT = 60 CBV / CBF."),
        ("95 % intervals", "Posterior intervals of a voxel (Bayesian method only)."),
        ("Color windows", f"{windows}; fixed."),
    ))


def provenance_facts(provenance: dict) -> list[Facts]:
    """The provenance document, one list a top entry; entries that could identify a person are left out."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for key, value in provenance.items():
        if _identifies(key):
            continue
        if isinstance(value, dict):
            groups.setdefault(_words(key), []).extend(_pairs(value))
        else:
            groups.setdefault("Run", []).append((_words(key), _text(value)))
    return [Facts(tuple(pairs), heading) for heading, pairs in groups.items() if pairs]


def _pairs(document: dict, prefix: str = "") -> list[tuple[str, str]]:
    pairs = []
    for key, value in document.items():
        if _identifies(key):
            continue
        name = f"{prefix}{_words(key, capital=not prefix)}"
        if isinstance(value, dict):
            pairs.extend(_pairs(value, f"{name}, "))
        else:
            pairs.append((name, _text(value)))
    return pairs


def _identifies(key) -> bool:
    return any(part in str(key).lower().replace(" ", "_") for part in _IDENTITY)


def _words(key, capital: bool = True) -> str:
    text = str(key).replace("_", " ")
    return text[:1].upper() + text[1:] if capital else text


def _text(value) -> str:
    """A JSON value in words; long lists are cut and say so."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return "; ".join(f"{_words(k, False)} {_text(v)}" for k, v in value.items() if not _identifies(k))
    if isinstance(value, list | tuple):
        shown = [_text(item) for item in value[:_LONGEST_LIST]]
        more = f" ... ({len(value)} in all)" if len(value) > _LONGEST_LIST else ""
        return ("; " if any(len(s) > 20 for s in shown) else ", ").join(shown) + more
    return str(value)


def _skipped(result: PerfusionResult, layout) -> str:
    """Said where not every slice is shown, or where slices are tilted against the patient's axes."""
    text = ""
    step = layout.slices[1] - layout.slices[0] if len(layout.slices) > 1 else 1
    if step > 1:
        text += f" Every {step}th slice is shown." if step > 3 else f" Every {('second', 'third')[step - 2]} slice is shown."
    if layout.view.obliquity_degrees > 3:
        text += f" The slices are tilted by {layout.view.obliquity_degrees:.0f}\u00b0 against the patient's axes and shown as scanned."
    return text


def _value(volume: float | None) -> tuple[str, str]:
    """Value and unit of a volume for a headline."""
    return (NOTHING, "") if volume is None else (number(volume, 0 if volume >= 100 else 1), "mL")
