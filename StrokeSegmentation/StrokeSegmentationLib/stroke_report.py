"""The report of a network's segmentation: its lesions beside those of the threshold maps, how sure it is, and what it was trained on."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from CTPerfusionSuiteLib.report.canvas import require_packages
from CTPerfusionSuiteLib.report.color_maps import CORE as CORE_COLOR
from CTPerfusionSuiteLib.report.color_maps import PENUMBRA as PENUMBRA_COLOR
from CTPerfusionSuiteLib.report.color_maps import hex_color, time_table
from CTPerfusionSuiteLib.report.orientation import RadiologicalView
from CTPerfusionSuiteLib.report.page import NOTICE, Headline, Note, Page, Picture, Section, Table, write_page
from CTPerfusionSuiteLib.report.pictures import EDGE, FULL_WIDTH, MOSAIC_WIDTH, MaskLayer, Window, map_mosaic, overlay_mosaic
from CTPerfusionSuiteLib.report.tiles import lay_out
from PerfusionMapsLib.perfusion_report import provenance_facts, quality_list
from PerfusionMapsLib.perfusion_tables import NOTHING, number

from .card_sections import card_sections
from .lesion_labels import label_of_maps, rule_of
from .lesion_scores import REGIONS
from .recommendation import origin, recommendation, short_origin
from .stroke_result import StrokeResult
from .training_cases import CORE, PENUMBRA


def write_stroke_report(folder: Path, result: StrokeResult, card: str, patient: str | None = None) -> None:
    """Write ``qa_core_penumbra.png`` and ``report.html``.

    Parameters
    ----------
    folder : Path
        An existing folder.
    result : StrokeResult
    card : str
        The model card; untrusted text.
    patient : str or None
        Shown when given; otherwise the page identifies nobody.

    Raises
    ------
    ReportUnavailable
        Before anything is written, where matplotlib or jinja2 is missing.
    """
    require_packages()
    picture = lesion_picture(result, result.label, "Core and penumbra by the network, on mean CT")
    (Path(folder) / "qa_core_penumbra.png").write_bytes(picture)
    write_page(Path(folder) / "report.html", stroke_page(result, picture, card, patient))


def stroke_page(result: StrokeResult, picture: bytes, card: str, patient: str | None = None) -> Page:
    """The content of the page."""
    metrics, maps = result.metrics, result.maps
    # The loud note above the list says it already.
    shown = {"qc": [flag for flag in metrics["qc"] if flag["code"] not in ("simulation_trained", "user_trained")]}
    sections = [
        Section("Quality", (Note(recommendation(metrics), loud=True), quality_list(shown))),
        Section("Core and penumbra by the network", (Picture(
            picture, "Axial slices of the mean CT with core and penumbra",
            "Radiological orientation: the patient's left is on the right of every slice."),)),
    ]
    if maps is not None:
        rival = lesion_picture(result, label_of_maps(maps), "Core and penumbra by thresholds, on mean CT")
        sections.append(Section("The same by thresholds of Tmax and relative CBF", (
            comparison(metrics), Picture(rival, "Axial slices of the mean CT with core and penumbra by thresholds"))))
    sections += [
        Section("Probabilities", tuple(_probabilities(result))),
        Section("Provenance", tuple(provenance_facts(result.provenance)), beside=True),
        *card_sections(card),
    ]
    side = {"left": "left", "right": "right", "both": "both sides"}.get(metrics["lesion_side"], "none")
    x, y, z = result.geometry.spacing
    grid = " \u00d7 ".join(str(n) for n in result.geometry.size)
    facts = (
        ("Side of hypoperfusion", side),
        ("Model", f"{metrics['model']['name']} {metrics['model']['version']}"),
        ("Grid", f"{grid}, {x:.2f} \u00d7 {y:.2f} \u00d7 {z:.2f} mm"),
    )
    return Page(
        title="Penumbra and core from the 4-D series",
        subtitle=short_origin(metrics),
        facts=((("Patient", patient),) if patient else ()) + facts,
        headlines=_headlines(metrics),
        sections=tuple(sections),
        footer=f"{NOTICE} {origin(metrics)}",
    )


def lesion_picture(result: StrokeResult, label: np.ndarray, title: str) -> bytes:
    """PNG mosaic of a label over the mean CT."""
    view = RadiologicalView(result.geometry)
    layout = lay_out(view, result.masks["brain_mask"], FULL_WIDTH - 2 * EDGE, per_row=6, widest_tile=410, margin_mm=10.0)
    voxel_ml = result.geometry.voxel_volume_ml
    layers = [
        MaskLayer(f"{name} {number(np.count_nonzero(label == kind) * voxel_ml, 1, ' mL')}", label == kind, color, opacity)
        for name, kind, color, opacity in (("penumbra", PENUMBRA, PENUMBRA_COLOR, 0.38), ("core", CORE, CORE_COLOR, 0.55))
    ]
    return overlay_mosaic(layout, result.mean_ct, layers, title)


def comparison(metrics: dict) -> Table:
    """Volumes of network and thresholds, and their overlap."""
    rival = metrics["threshold_maps"]
    t = rival["thresholds"]
    rows = tuple(
        (name.capitalize(), number(metrics["volumes_ml"][name], 1, " mL"), number(rival["volumes_ml"][name], 1, " mL"),
         number(rival["dice"][name], 2))
        for name in REGIONS
    )
    caption = f"Thresholds: Tmax > {t['tmax_s']:g} s, relative CBF < {100 * t['rcbf']:g} %. Dice: overlap of the two, 1 when the same."
    return Table(("Region", "Network", "Thresholds", "Dice"), rows, caption)


def _headlines(metrics: dict) -> tuple[Headline, ...]:
    volumes, ratio = metrics["volumes_ml"], metrics["mismatch_ratio"]
    how = "by the network"
    return (
        Headline("Core", number(volumes["core"], 1), "mL", how, hex_color(CORE_COLOR)),
        Headline("Hypoperfusion", number(volumes["hypoperfusion"], 1), "mL", f"core and penumbra, {how}", "#f0641e"),
        Headline("Mismatch", number(volumes["mismatch"], 1), "mL", "penumbra", hex_color(PENUMBRA_COLOR)),
        Headline("Mismatch ratio", number(ratio, 2) if ratio else NOTHING, "", "hypoperfusion / core" if ratio else "no core", "#55616f"),
    )


def _probabilities(result: StrokeResult) -> list[Picture]:
    layout = lay_out(RadiologicalView(result.geometry), result.masks["brain_mask"], MOSAIC_WIDTH)
    tissue, plain = result.masks["tissue_mask"], Window(0.0, 100.0, "%", time_table())
    rule = rule_of(result.metrics["model"])
    marked = replace(plain, marks=(100.0 * rule.deficit,))
    whole = 100.0 * (result.probabilities["penumbra"] + result.probabilities["core"])
    pictures = [
        Picture(map_mosaic(layout, whole, tissue, marked, "Probability of hypoperfusion (core or penumbra)"),
                "Axial slices of the probability of hypoperfusion", "Line on the color bar: from here on a voxel counts."),
        Picture(map_mosaic(layout, 100.0 * result.probabilities["core"], tissue, plain, "Probability of core"),
                "Axial slices of the probability of core",
                f"Core is where it makes up {100 * rule.core:.0f} % of the probability of hypoperfusion or more."),
    ]
    if result.uncertainty is not None:
        pictures.append(Picture(map_mosaic(layout, 100.0 * result.uncertainty, tissue, plain, "Uncertainty (entropy over dropout passes)"),
                                "Axial slices of the uncertainty", "0: sure; 100 %: all classes alike."))
    return pictures
