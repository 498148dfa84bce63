"""One study from series to penumbra and core by a trained network, beside what the thresholds of PerfusionMaps give."""

from dataclasses import dataclass, field, replace

import numpy as np

from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.version import VERSION
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries
from PerfusionMapsLib.analysis_request import AnalysisRequest
from PerfusionMapsLib.bolus_arrival import Bolus
from PerfusionMapsLib.lesions import side_of
from PerfusionMapsLib.perfusion_result import PerfusionResult
from PerfusionMapsLib.pipeline import Steps, analyze_prepared, no_steps, prepare

from .lesion_labels import label_from_probabilities, label_of_maps, volumes_ml
from .lesion_scores import REGIONS, dice, region
from .recommendation import origin
from .stroke_folder import SCHEMA
from .study_input import NO_REFERENCE, network_input, with_result
from .training_cases import CORE, PENUMBRA
from .training_range import outside_training

GRAVE = ("outside_training", "maps_refused")
"""Codes of notes that are warnings."""


@dataclass(frozen=True)
class StrokeResult:
    """What a network found in one study, on the analysis grid of PerfusionMaps.

    Attributes
    ----------
    geometry : Geometry
    label : uint8 ndarray (K, J, I)
        0 background, 1 penumbra, 2 core.
    probabilities : dict of str -> float32 ndarray (K, J, I)
        "penumbra" and "core", 0-1.
    uncertainty : float32 ndarray (K, J, I) or None
        0 (sure) to 1, of Monte-Carlo dropout.
    masks : dict of str -> uint8 ndarray
        ``brain_mask, tissue_mask, hemisphere``.
    mean_ct : ndarray (K, J, I)
        HU.
    metrics : dict
        The document of metrics.json.
    provenance : dict
        JSON types only; no name of a patient, no path.
    maps : PerfusionResult or None
        The threshold maps of the same prepared study.
    """

    geometry: Geometry
    label: np.ndarray
    probabilities: dict[str, np.ndarray]
    uncertainty: np.ndarray | None
    masks: dict[str, np.ndarray]
    mean_ct: np.ndarray
    metrics: dict
    provenance: dict = field(default_factory=dict)
    maps: PerfusionResult | None = None


def segment_stroke(
    series: TimeSeries,
    model,
    request: AnalysisRequest = AnalysisRequest(),
    steps: Steps = no_steps,
    bolus: Bolus | None = None,
    passes: int = 0,
    device: str = "auto",
    with_maps: bool = True,
    overwrite: bool = False,
) -> StrokeResult:
    """Penumbra and core of one study.

    Parameters
    ----------
    series : TimeSeries
    model : model_bundle.StrokeModel
    request : AnalysisRequest
        What the preparation and the threshold maps are told.
    steps : callable
        Announces a step; see `PerfusionMapsLib.pipeline.analyze`.
    bolus : Bolus, optional
    passes : int
        Monte-Carlo dropout passes for the uncertainty; 0: none.
    device : {"auto", "cpu", "cuda"}
    with_maps : bool
        Compute the threshold maps too, for comparison; a network that reads maps has them anyway, where they are not refused.
    overwrite : bool
        Undo motion in the values of `series` itself.

    Raises
    ------
    DataRefused, RequestRefused
        As `PerfusionMapsLib.pipeline.analyze`; a missing artery is no reason where the network reads curves.
    """
    from .prediction import predict

    study = prepare(series, request, steps, bolus, overwrite)
    del series
    found = network_input(study, steps)
    masks = {"brain_mask": study.brain, "tissue_mask": study.tissue, "hemisphere": study.plane.hemisphere(study.grid.geometry, study.brain)}
    masks = {name: mask.astype(np.uint8) for name, mask in masks.items()}
    mean_ct, header, times = study.mean.values, study.still.header, study.grid.slice_times
    source, notes = study.grid.time_source, list(found.notes)
    maps = None
    if with_maps or model.reads_maps:
        try:
            maps = analyze_prepared(study, request, steps)
        except DataRefused as refusal:
            if model.needs_maps:
                raise
            alone = " and the network read the curves alone" if model.reads_maps else ""
            notes.append(("maps_refused", f"There are no threshold maps to compare with{alone}: {refusal}"))
    del study
    if model.reads_maps and maps is not None:
        found = with_result(found, maps)
        if found.maps is None:
            if model.needs_maps:
                raise DataRefused(f"{NO_REFERENCE} This network reads nothing but relative maps; choose another model.")
            notes.append(("maps_refused", f"{NO_REFERENCE} The network read the curves alone."))
    predicted = predict(model.network, found, passes, device, steps("network", "Segmenting"))
    fine = found.to_analysis_grid(predicted.probabilities)
    tissue = masks["tissue_mask"] > 0
    fine *= tissue
    voxel_ml = found.analysis_geometry.voxel_volume_ml
    label = label_from_probabilities(fine, tissue, voxel_ml, model.rule)
    uncertainty = None if predicted.uncertainty is None else found.to_analysis_grid(predicted.uncertainty) * tissue
    notes += [*outside_training(found, model.description.get("training_range") or {}), *predicted.notes]
    return StrokeResult(
        found.analysis_geometry,
        label,
        {"penumbra": fine[PENUMBRA], "core": fine[CORE]},
        uncertainty,
        masks,
        mean_ct,
        _metrics(label, masks["hemisphere"], voxel_ml, uncertainty, model, maps, notes),
        _provenance(model, request, passes, predicted.device, found, times, source, header),
        None if maps is None else replace(maps, source_header=header),
    )


def _metrics(label, hemisphere, voxel_ml: float, uncertainty, model, maps: PerfusionResult | None, notes) -> dict:
    """The document of metrics.json; missing is None, never 0."""
    volumes = volumes_ml(label, voxel_ml)
    lesion = label > 0
    simulated = bool(model.description.get("simulation_trained", True))
    flags = [{"code": "simulation_trained" if simulated else "user_trained", "severity": "warning", "message": origin(model.description)}]
    for code, message in notes:
        flags.append({"code": code, "severity": "warning" if code in GRAVE else "info", "message": message})
    if maps is not None:
        known = {flag["code"] for flag in flags}
        flags += [flag for flag in maps.metrics["qc"] if flag["code"] not in known]
    order = ("critical", "warning", "info")
    core, whole = volumes["core"], volumes["hypoperfusion"]
    return {
        "schema": SCHEMA,
        "status": "ok",
        "reasons": [],
        "method": model.kind,
        "model": {"name": model.name, "version": model.version, "simulation_trained": simulated,
                  "label_rule": {"deficit": model.rule.deficit, "core": model.rule.core}},
        "recommended": model.description.get("recommended", "not compared"),
        "volumes_ml": {**volumes, "mismatch": volumes["penumbra"]},
        "mismatch_ratio": whole / core if core > 0 else None,
        "lesion_side": side_of(lesion, hemisphere),
        "mean_uncertainty": float(uncertainty[lesion].mean()) if uncertainty is not None and lesion.any() else None,
        "threshold_maps": None if maps is None else _compared(label, maps, voxel_ml),
        "qc": sorted(flags, key=lambda flag: order.index(flag["severity"])),
    }


def _compared(label: np.ndarray, maps: PerfusionResult, voxel_ml: float) -> dict:
    """Volumes of the threshold method and its overlap with the network's."""
    own = label_of_maps(maps)
    told = any(name.startswith("core_mask") for name in maps.masks)
    volumes = volumes_ml(own, voxel_ml)
    known = [name for name in REGIONS if told or name == "hypoperfusion"]
    thresholds = maps.thresholds
    return {
        "thresholds": {"tmax_s": thresholds.tmax_s, "rcbf": thresholds.rcbf},
        "volumes_ml": {name: volumes[name] if name in known else None for name in REGIONS},
        "dice": {name: _dice(label, own, name) if name in known else None for name in REGIONS},
    }


def _dice(label: np.ndarray, other: np.ndarray, name: str) -> float | None:
    """Overlap of a region; None where neither has it."""
    first, second = region(label, name), region(other, name)
    return float(dice(first, second)) if first.any() or second.any() else None


def _provenance(model, request: AnalysisRequest, passes: int, device: str, found, times, source: str, header: dict) -> dict:
    import torch

    return {
        "software": {"ctperfusionsuite": VERSION, "torch": str(torch.__version__)},
        "model": {"name": model.name, "version": model.version, "kind": model.kind, "parameters": model.description.get("parameters"),
                  "data_source": model.description.get("data_source", "")},
        "options": {"monte_carlo_passes": passes, "device": device, "motion_correction": request.motion_correction},
        "input": {
            "frames": len(times), "time_source": source,
            "arrival_s": found.arrival_s, "scale_hu": found.scale_hu, "noise_hu": found.noise_hu,
            "network_grid": {"size": found.geometry.size, "spacing": found.geometry.spacing},
            **{key: value for key, value in header.items() if key in ("manufacturer", "model", "kvp", "kernel", "slice_thickness")},
        },
    }
