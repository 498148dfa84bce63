"""A result on disk: what `ctperfusion maps` writes, read back, and new thresholds applied to it without the series.

The folder alone is enough: maps and masks as NIfTI, curves, the metrics document, and in provenance.json everything else that a
`PerfusionResult` holds.
"""

import csv
import dataclasses
import errno
import io
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from CTPerfusionSuiteLib.errors import RequestRefused
from CTPerfusionSuiteLib.nifti import read_volume, write_volume
from CTPerfusionSuiteLib.output_folder import new_result_folder, refuse_existing, refuse_foreign, restore_interrupted
from CTPerfusionSuiteLib.progress import Progress, silent
from CTPerfusionSuiteLib.rigid_motion import Motion
from CTPerfusionSuiteLib.volumes import Geometry, Volume

from .input_functions import InputFunction
from .lesions import Lesions, lesions, mask_names
from .perfusion_metrics import SCHEMA, VenousTransit, json_ready, metrics_document, to_csv, to_json
from .perfusion_options import Thresholds
from .perfusion_result import PerfusionResult
from .quality_flags import LESION_CODES, QualityFlag, Severity, by_severity, lesion_flags
from .volume_errors import lasting_motion_mm, volume_errors_ml

__all__ = [
    "assemble",
    "grid_of",
    "is_result",
    "new_result_folder",
    "open_result",
    "provenance_document",
    "read_documents",
    "recompute",
    "refuse_existing",
    "refuse_foreign",
    "write_result",
    "write_result_data",
]

PROVENANCE_SCHEMA = "ctperfusionsuite.provenance/1"
OWN_KEYS = ("schema", "contents", "grid", "thresholds", "curves", "motion")
"""Keys of provenance.json that belong to the folder; the others are the result's own provenance."""
NIFTI_HEADER_BYTES = 352
IMAGE_UNITS = {"mean_ct": ("CT number", "[hnsf'U]"), "baseline": ("CT number", "[hnsf'U]")}


def write_result(
    out_dir: Path | str,
    result: PerfusionResult,
    extra: Iterable[Callable[[Path, PerfusionResult], None]] = (),
    overwrite: bool = False,
    progress: Progress = silent,
) -> None:
    """Write a result folder, whole or not at all.

    Parameters
    ----------
    out_dir : Path
    result : PerfusionResult
    extra : iterable of callable
        Called with the folder and the result after the data are written (report, pictures, DICOM objects).
    overwrite : bool
        Replace an earlier result in the same place.

    Raises
    ------
    RequestRefused, SuiteError
        As `CTPerfusionSuiteLib.output_folder.new_result_folder`.
    """
    with new_result_folder(out_dir, overwrite) as folder:
        write_result_data(folder, result, progress)
        for write in extra:
            write(folder, result)


def write_result_data(folder: Path, result: PerfusionResult, progress: Progress = silent) -> None:
    """Everything but pictures and pages, into an existing folder: NIfTI, curves, metrics and provenance.

    Maps are float32 and 0 outside the brain mask; tissue without a finite Tmax or flow leaves the tissue mask, so that the written
    maps give the written masks.
    """
    files = _volumes(result)
    with ThreadPoolExecutor(max_workers=4) as pool:
        writing = [pool.submit(_write_whole, folder / f"{name}.nii.gz", volume) for name, volume in files.items()]
        try:
            for done, task in enumerate(writing, start=1):
                task.result()
                progress(done / len(writing))
        except BaseException:
            for task in writing:
                task.cancel()
            raise
    (folder / "aif.csv").write_text(curve_csv(result.aif), encoding="utf-8")
    if result.vof is not None:
        (folder / "vof.csv").write_text(curve_csv(result.vof), encoding="utf-8")
    (folder / "metrics.json").write_text(to_json(result.metrics), encoding="utf-8")
    (folder / "metrics.csv").write_text(to_csv([result.metrics]), encoding="utf-8")
    (folder / "provenance.json").write_text(to_json(provenance_document(result), digits=None), encoding="utf-8")


def is_result(folder: Path | str) -> bool:
    """Whether a folder looks like a result of `ctperfusion maps` (complete or damaged)."""
    return (Path(folder) / "metrics.json").is_file() and (Path(folder) / "provenance.json").is_file()


def open_result(folder: Path | str) -> PerfusionResult:
    """Read a result folder back.

    Raises
    ------
    RequestRefused
        When the folder is not a complete result of `ctperfusion maps`.
    """
    folder = Path(folder)
    restore_interrupted(folder)
    metrics, provenance = read_documents(folder)
    try:
        geometry = grid_of(provenance)
        return assemble(metrics, provenance, lambda kind, name: _values(folder, name, geometry))
    except (KeyError, TypeError, ValueError) as problem:
        raise RequestRefused(f"the result folder '{folder}' is damaged ({problem}); run 'ctperfusion maps' again") from problem


def read_documents(folder: Path | str) -> tuple[dict, dict]:
    """metrics.json and provenance.json of a result folder.

    Raises
    ------
    RequestRefused
        When the folder is not a result of `ctperfusion maps`.
    """
    folder = Path(folder)
    metrics, provenance = (_document(folder, name) for name in ("metrics.json", "provenance.json"))
    if not str(metrics.get("schema", "")).startswith(SCHEMA.partition("/")[0]) or provenance.get("schema") != PROVENANCE_SCHEMA:
        raise RequestRefused(f"the folder '{folder}' is not a result of 'ctperfusion maps' of this version; run it again")
    return metrics, provenance


def grid_of(provenance: dict) -> Geometry:
    """The analysis grid that provenance.json describes."""
    grid = provenance["grid"]
    return Geometry(grid["size"], grid["spacing"], grid["origin"], grid["direction"])


def assemble(metrics: dict, provenance: dict, values: Callable[[str, str], np.ndarray]) -> PerfusionResult:
    """A result from its two documents and its arrays, wherever these are kept.

    Parameters
    ----------
    metrics, provenance : dict
        Of `read_documents`.
    values : callable
        Takes the kind (``"maps"``, ``"masks"`` or ``"images"``) and the name, gives the array (K, J, I).

    Raises
    ------
    KeyError, TypeError, ValueError
        When a document is damaged.
    """
    arrays = {kind: {name: values(kind, name) for name in provenance["contents"][kind]} for kind in ("maps", "masks", "images")}
    curves = provenance["curves"]
    return PerfusionResult(
        geometry=grid_of(provenance),
        maps={name: array.astype(np.float32, copy=False) for name, array in arrays["maps"].items()},
        masks={name: array.astype(np.uint8, copy=False) for name, array in arrays["masks"].items()},
        images=arrays["images"],
        aif=_curve(curves["aif"]),
        vof=_curve(curves["vof"]) if curves["vof"] else None,
        metrics=metrics,
        thresholds=Thresholds(**provenance["thresholds"]),
        aif_candidates=tuple(_curve(item) for item in curves["aif_candidates"]),
        vof_candidates=tuple(_curve(item) for item in curves["vof_candidates"]),
        motion=_motion(provenance["motion"]),
        provenance={key: value for key, value in provenance.items() if key not in OWN_KEYS},
    )


def recompute(result: PerfusionResult, thresholds: Thresholds, found: Lesions | None = None) -> PerfusionResult:
    """The same study with other thresholds: masks and metrics anew from the maps, everything else as it was.

    `found` are its lesions at these thresholds, where the caller has them already.
    """
    if found is None:
        found = lesions(result.maps, result.masks, thresholds, result.geometry)
    old, names = result.metrics, mask_names(result.thresholds)
    pvt, dawn = old["pvt"], old["profiles"]["dawn"]
    seen = (pvt["sss_tmax_s"], pvt["torcula_tmax_s"]) != (None, None)
    kept = [
        QualityFlag(flag["code"], Severity(flag["severity"]), flag["message"]) for flag in old["qc"] if flag["code"] not in LESION_CODES
    ]
    error = result.provenance.get("vessels", {}).get("input_error") or {}
    errors_ml = volume_errors_ml(result.maps, found, error.get("tmax_s"), error.get("flow"))
    metrics = metrics_document(
        found,
        result.maps,
        result.masks,
        result.geometry,
        method=old["method"],
        reference_cbf=old["reference"]["cbf"],
        venous=VenousTransit(pvt["sss_tmax_s"], pvt["torcula_tmax_s"], pvt["aif_vof_peak_s"], truncated=seen and pvt["positive"] is None),
        absolute_calibrated=old["absolute_calibrated"],
        flags=by_severity([*kept, *lesion_flags(found, errors_ml, lasting_motion_mm(result.motion))]),
        age_years=dawn["age_years"],
        nihss=dawn["nihss"],
    )
    lasting = {name: mask for name, mask in result.masks.items() if name not in (*names, "penumbra_mask")}
    return dataclasses.replace(result, masks={**lasting, **found.masks()}, metrics=metrics, thresholds=thresholds)


def curve_csv(curve: InputFunction) -> str:
    """``time_s,hu`` of a vessel curve, HU above baseline."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["time_s", "hu"])
    writer.writerows((f"{time:.6g}", f"{hu:.6g}") for time, hu in zip(curve.times, curve.hu, strict=True))
    return text.getvalue()


def _write_whole(path: Path, volume: Volume) -> None:
    """Write a volume and make sure that all of it arrived: the image library does not notice a full disk.

    Raises
    ------
    OSError
        ENOSPC when the file was cut off.
    """
    write_volume(path, volume)
    # A gzip file ends with the length of its content, which is a NIfTI header of 352 bytes and the values.
    with open(path, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - 4, 0))
        length = int.from_bytes(file.read(4), "little")
    if length != (NIFTI_HEADER_BYTES + volume.values.nbytes) % 2**32:
        raise OSError(errno.ENOSPC, "the file was cut off while it was written", str(path))


def _volumes(result: PerfusionResult) -> dict[str, Volume]:
    """Every NIfTI of the folder by its name without suffix."""
    geometry, brain = result.geometry, np.asarray(result.masks["brain_mask"]) > 0
    files = {}
    for name, values in result.maps.items():
        shown = np.where(brain & np.isfinite(values), values, 0.0).astype(np.float32)
        files[name] = Volume(shown, geometry, *result.unit_of(name)[:2])
    usable = brain.copy()
    for name in ("tmax", "rcbf"):
        usable &= np.isfinite(result.maps[name])
    for name, mask in result.masks.items():
        values = np.asarray(mask)
        files[name] = Volume((values * usable if name == "tissue_mask" else values).astype(np.uint8), geometry, name.replace("_", " "), "1")
    for name, values in result.images.items():
        files[name] = Volume(np.nan_to_num(np.asarray(values, np.float32)), geometry, *IMAGE_UNITS.get(name, (name, "1")))
    return files


def provenance_document(result: PerfusionResult) -> dict:
    """What provenance.json holds: all of a result but its arrays and metrics."""
    geometry = result.geometry
    return {
        "schema": PROVENANCE_SCHEMA,
        **{key: value for key, value in result.provenance.items() if key not in OWN_KEYS},
        "contents": {"maps": list(result.maps), "masks": list(result.masks), "images": list(result.images)},
        "grid": {"size": geometry.size, "spacing": geometry.spacing, "origin": geometry.origin, "direction": geometry.direction},
        "thresholds": dataclasses.asdict(result.thresholds),
        "curves": {
            "aif": dataclasses.asdict(result.aif),
            "vof": None if result.vof is None else dataclasses.asdict(result.vof),
            "aif_candidates": [dataclasses.asdict(curve) for curve in result.aif_candidates],
            "vof_candidates": [dataclasses.asdict(curve) for curve in result.vof_candidates],
        },
        "motion": None if result.motion is None else json_ready(dataclasses.asdict(result.motion)),
    }


def _curve(stored: dict) -> InputFunction:
    return InputFunction(
        times=_numbers(stored["times"]),
        hu=_numbers(stored["hu"]),
        voxels=np.asarray(stored["voxels"], int).reshape(-1, 3),
        lps=np.asarray(stored["lps"], float).reshape(-1, 3),
        source=stored["source"],
        score=float("nan") if stored["score"] is None else float(stored["score"]),
    )


def _motion(stored: dict | None) -> Motion | None:
    if stored is None:
        return None
    kinds = {field.name: field.type for field in dataclasses.fields(Motion)}
    return Motion(**{name: _numbers(value) if kinds[name] is np.ndarray else _frozen(value) for name, value in stored.items()})


def _frozen(value):
    """Lists as tuples, all the way down."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _numbers(stored: list) -> np.ndarray:
    """A stored array of numbers or truth values; null is NaN."""
    array = np.asarray(stored)
    return array.astype(float) if array.dtype == object else array


def _values(folder: Path, name: str, geometry: Geometry) -> np.ndarray:
    path = folder / f"{name}.nii.gz"
    if not path.is_file() and path.with_name(f"{name}.nrrd").is_file():
        path = path.with_name(f"{name}.nrrd")  # as a panel hands over a result of its scene
    if not path.is_file():
        raise RequestRefused(f"the result folder '{folder}' has lost '{path.name}'; run 'ctperfusion maps' again")
    volume = read_volume(path)
    if not volume.geometry.close_to(geometry, tolerance_mm=0.2):
        raise RequestRefused(f"'{path.name}' in '{folder}' lies on another grid than the rest of the result; run 'ctperfusion maps' again")
    return volume.values


def _document(folder: Path, name: str) -> dict:
    try:
        document = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise RequestRefused(f"the folder '{folder}' is not a result of 'ctperfusion maps': '{name}' is missing or unreadable") from problem
    if not isinstance(document, dict):
        raise RequestRefused(f"the folder '{folder}' is not a result of 'ctperfusion maps': '{name}' is not a JSON object")
    return document
