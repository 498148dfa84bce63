"""A simulated study as files: the series as DICOM, NIfTI or Slicer's sequence, and its truth beside it."""

import csv
import json
from pathlib import Path

import numpy as np

from CTPerfusionSuiteLib.nifti import write_series, write_volume
from CTPerfusionSuiteLib.progress import Progress, part, silent
from CTPerfusionSuiteLib.sequence_nrrd import write_sequence
from CTPerfusionSuiteLib.volumes import TimeSeries, Volume


def write_curve(path: Path, times, hu) -> None:
    """A curve as CSV with the header ``time_s,hu``."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["time_s", "hu"])
        writer.writerows((f"{t:.4f}", f"{v:.4f}") for t, v in zip(times, hu, strict=True))


def write_truth(folder: Path, truth: dict[str, Volume], aif, vof, numbers: dict, progress: Progress = silent) -> None:
    """Write truth maps (.nii.gz), aif.csv, vof.csv (HU above baseline) and truth.json into `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for count, (name, volume) in enumerate(truth.items()):
        write_volume(folder / f"{name}.nii.gz", volume)
        progress((count + 1) / len(truth))
    write_curve(folder / "aif.csv", *aif)
    write_curve(folder / "vof.csv", *vof)
    (folder / "truth.json").write_text(json.dumps(_without_nan(numbers), indent=1) + "\n", encoding="utf-8")


def write_scan(
    folder: Path, series: TimeSeries, style: str, seed: int, kind: str = "dicom", progress: Progress = silent, **writing
) -> None:
    """Write the series into `folder`, which is made; `writing` goes to the DICOM writer.

    `kind` is "dicom" (``dicom/`` in a header style), "nifti" (``series.nii.gz`` with ``times.csv``) or "sequence" (``series.seq.nrrd``).
    """
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "sequence":
        write_sequence(folder / "series.seq.nrrd", series, compress=True)
        progress(1.0)
        return
    if kind == "nifti":
        write_series(folder / "series.nii.gz", series)
        with open(folder / "times.csv", "w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            columns = 1 if series.times.ndim == 1 else series.times.shape[1]
            rows.writerow(["time_s"] if columns == 1 else [f"slice_{k}" for k in range(columns)])
            rows.writerows([f"{t:.4f}" for t in np.atleast_1d(row)] for row in series.times)
        progress(1.0)
        return
    from CTPerfusionSuiteLib.phantoms.dicom_styles import write_dicom_study

    write_dicom_study(series, folder / "dicom", style=style, seed=seed, **writing)
    progress(1.0)


def write_study(folder: Path, study, style: str, seed: int, kind: str = "dicom", progress: Progress = silent, **writing) -> None:
    """Write a study (`series`, `truth`, `aif`, `vof`, `numbers`) into `folder`; `kind` as in `write_scan`."""
    write_scan(folder, study.series, style, seed, kind, part(progress, 0.0, 0.7), **writing)
    write_truth(folder / "truth", study.truth, study.aif, study.vof, study.numbers, part(progress, 0.7, 1.0))


def _without_nan(value):
    """Missing is null, never a number."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return None if not np.isfinite(value) else float(value)
    if isinstance(value, np.integer):
        return int(value)
    return value
