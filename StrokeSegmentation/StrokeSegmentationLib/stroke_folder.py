"""The result folder of `ctperfusion stroke predict`: written whole or not at all, and opened again from itself."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from CTPerfusionSuiteLib.errors import RequestRefused, SuiteError
from CTPerfusionSuiteLib.nifti import read_volume, write_volume
from CTPerfusionSuiteLib.output_folder import restore_interrupted
from CTPerfusionSuiteLib.progress import Progress, silent
from CTPerfusionSuiteLib.volumes import Geometry, Volume
from PerfusionMapsLib.perfusion_metrics import to_csv, to_json
from PerfusionMapsLib.result_folder import write_result_data

if TYPE_CHECKING:  # a panel that only opens results does not wait for the analysis to be imported
    from .stroke_result import StrokeResult

SCHEMA = "ctperfusion-stroke/1"
KIND = "stroke segmentations"
MAPS_FOLDER = "maps"
"""Inside the result: a complete result of `ctperfusion maps` of the same study."""
PROVENANCE_SCHEMA = "ctperfusion-stroke-provenance/1"
MASKS = ("hypoperfusion_mask", "core_mask", "penumbra_mask")
PROBABILITIES = ("penumbra_probability", "core_probability")
UNCERTAINTY = "uncertainty"


@dataclass(frozen=True)
class StoredStroke:
    """A stroke result as its folder holds it.

    Attributes
    ----------
    geometry : Geometry
    volumes : dict of str -> ndarray (K, J, I)
        `MASKS`, `PROBABILITIES`, ``uncertainty`` where it was computed, ``mean_ct, brain_mask, tissue_mask, hemisphere``.
    metrics, provenance : dict
    maps_folder : Path or None
        The threshold result beside it.
    """

    geometry: Geometry
    volumes: dict[str, np.ndarray]
    metrics: dict
    provenance: dict
    maps_folder: Path | None


def volumes_of(result: "StrokeResult") -> dict[str, Volume]:
    """Every NIfTI of the folder by its name without suffix."""
    from .training_cases import CORE, PENUMBRA

    geometry, label = result.geometry, result.label
    masks = {"hypoperfusion_mask": label > 0, "core_mask": label == CORE, "penumbra_mask": label == PENUMBRA, **result.masks}
    files = {name: Volume(np.asarray(mask).astype(np.uint8), geometry, name.replace("_", " "), "1") for name, mask in masks.items()}
    shares = {f"{name}_probability": values for name, values in result.probabilities.items()}
    if result.uncertainty is not None:
        shares[UNCERTAINTY] = result.uncertainty
    files |= {name: Volume(np.asarray(values, np.float32), geometry, name.replace("_", " "), "1") for name, values in shares.items()}
    return files | {"mean_ct": Volume(np.asarray(result.mean_ct, np.float32), geometry, "CT number", "[hnsf'U]")}


def write_stroke_data(folder: Path, result: "StrokeResult", progress: Progress = silent) -> None:
    """Masks, probabilities, metrics and provenance into an existing folder; the threshold maps into its folder ``maps``."""
    files = volumes_of(result)
    for done, (name, volume) in enumerate(files.items(), start=1):
        write_volume(folder / f"{name}.nii.gz", volume)
        progress(0.6 * done / len(files))
    if result.maps is not None:
        (folder / MAPS_FOLDER).mkdir()
        write_result_data(folder / MAPS_FOLDER, result.maps)
    geometry = result.geometry
    provenance = {
        "schema": PROVENANCE_SCHEMA,
        **result.provenance,
        "contents": list(files),
        "grid": {"size": geometry.size, "spacing": geometry.spacing, "origin": geometry.origin, "direction": geometry.direction},
    }
    (folder / "metrics.json").write_text(to_json(result.metrics), encoding="utf-8")
    (folder / "metrics.csv").write_text(to_csv([result.metrics]), encoding="utf-8")
    (folder / "provenance.json").write_text(to_json(provenance, digits=None), encoding="utf-8")
    progress(1.0)


def open_stroke_result(folder: Path | str) -> StoredStroke:
    """Read a result folder back.

    Raises
    ------
    RequestRefused
        The folder is not a complete result of `ctperfusion stroke predict`.
    """
    folder = Path(folder)
    metrics, provenance = read_documents(folder)
    grid = provenance["grid"]
    geometry = Geometry(grid["size"], grid["spacing"], grid["origin"], grid["direction"])
    volumes = {name: read_image(folder, name, geometry).values for name in provenance["contents"]}
    return StoredStroke(geometry, volumes, metrics, provenance, maps_folder(folder))


def read_documents(folder: Path | str) -> tuple[dict, dict]:
    """metrics.json and provenance.json of a result folder, checked.

    Raises
    ------
    RequestRefused
        The folder is not a complete result of `ctperfusion stroke predict`.
    """
    folder = Path(folder)
    restore_interrupted(folder)
    try:
        metrics, provenance = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("metrics.json", "provenance.json"))
        if metrics["schema"] != SCHEMA or provenance["schema"] != PROVENANCE_SCHEMA:
            raise KeyError("schema")
        grid = provenance["grid"]
        Geometry(grid["size"], grid["spacing"], grid["origin"], grid["direction"])
        provenance["contents"] = [_plain_name(name) for name in provenance["contents"]]
        if not {*MASKS, *PROBABILITIES, "mean_ct"} <= set(provenance["contents"]):
            raise KeyError("contents")
    except (OSError, ValueError, KeyError, TypeError, SuiteError) as problem:
        raise _incomplete(folder) from problem
    return metrics, provenance


def read_image(folder: Path, name: str, geometry: Geometry) -> Volume:
    """One NIfTI of a result folder.

    Raises
    ------
    RequestRefused
        It is not there, cannot be read, or lies on another grid.
    """
    try:
        volume = read_volume(folder / f"{name}.nii.gz")
    except (OSError, ValueError, SuiteError) as problem:
        raise _incomplete(folder) from problem
    if volume.values.shape != geometry.shape:
        raise RequestRefused(f"the images in '{folder}' do not fit together; run 'ctperfusion stroke predict' again")
    return volume


def maps_folder(folder: Path) -> Path | None:
    """The threshold result inside a result folder, where there is one."""
    maps = Path(folder) / MAPS_FOLDER
    return maps if (maps / "metrics.json").is_file() else None


def _incomplete(folder: Path) -> RequestRefused:
    return RequestRefused(f"the folder '{folder}' is not a complete result of 'ctperfusion stroke predict'; run it again")


def _plain_name(name) -> str:
    """A name of a file of ours: what is read from a document never leaves the folder."""
    if not isinstance(name, str) or not name.replace("_", "").isalnum():
        raise ValueError(f"no file of ours: {name!r}")
    return name
