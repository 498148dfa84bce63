"""A made-up result of a network beside the threshold maps of `example_result`, and a stand-in for the command that makes one.

Run as ``python -m made_up_stroke stroke predict ...`` it announces steps as `ctperfusion stroke predict` does and copies the prepared
folder that the environment names, where PyTorch or a trained model is missing.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
from example_result import axial_geometry, example_result
from scipy.ndimage import binary_erosion, gaussian_filter

from CTPerfusionSuiteLib.errors import RequestRefused
from StrokeSegmentationLib.lesion_labels import label_of_maps, volumes_ml
from StrokeSegmentationLib.lesion_scores import REGIONS, dice, region
from StrokeSegmentationLib.recommendation import SIMULATED
from StrokeSegmentationLib.stroke_folder import SCHEMA, write_stroke_data
from StrokeSegmentationLib.stroke_result import StrokeResult

PREPARED, WORDS, STEP_S = "MADE_UP_STROKE_FOLDER", "MADE_UP_STROKE_WORDS", "MADE_UP_STROKE_STEP_S"
"""Environment: the folder to copy, a file for the arguments, and how long a step takes."""


def made_up_stroke(maps: bool = True, uncertainty: bool = True, recommended: str = "maps") -> StrokeResult:
    """A network that sees the lesion of the threshold maps a little smaller."""
    rival = example_result(axial_geometry((96, 96, 6), (2.2, 2.2, 6.0)))
    geometry, theirs = rival.geometry, label_of_maps(rival)
    whole = binary_erosion(theirs > 0, np.ones((1, 3, 3)))
    label = np.where(whole, np.where(theirs == 2, 2, 1), 0).astype(np.uint8)
    tissue = rival.masks["tissue_mask"] > 0
    shares = {name: gaussian_filter((label == n).astype(np.float32), (0, 1, 1)) * tissue for n, name in ((1, "penumbra"), (2, "core"))}
    voxel_ml = geometry.voxel_volume_ml
    volumes = volumes_ml(label, voxel_ml)
    metrics = {
        "schema": SCHEMA,
        "status": "ok",
        "reasons": [],
        "method": "4d",
        "model": {"name": "made-up", "version": "0.1.0", "simulation_trained": True},
        "recommended": recommended,
        "volumes_ml": {**volumes, "mismatch": volumes["penumbra"]},
        "mismatch_ratio": volumes["hypoperfusion"] / volumes["core"],
        "lesion_side": "left",
        "mean_uncertainty": 0.2 if uncertainty else None,
        "threshold_maps": {
            "thresholds": {"tmax_s": rival.thresholds.tmax_s, "rcbf": rival.thresholds.rcbf},
            "volumes_ml": volumes_ml(theirs, voxel_ml),
            "dice": {name: float(dice(region(label, name), region(theirs, name))) for name in REGIONS},
        } if maps else None,
        "qc": [
            {"code": "simulation_trained", "severity": "warning", "message": SIMULATED},
            {"code": "memory-short", "severity": "info", "message": "The GPU had too little memory, so the network worked on the CPU."},
        ],
    }
    masks = {name: rival.masks[name] for name in ("brain_mask", "tissue_mask", "hemisphere")}
    unsure = np.clip(4 * shares["core"] * (1 - shares["core"]), 0, 1) if uncertainty else None
    return StrokeResult(
        geometry, label, shares, unsure, masks, rival.images["mean_ct"], metrics, {"model": metrics["model"]}, rival if maps else None
    )


def write_made_up_stroke(folder: Path, **options) -> StrokeResult:
    """A result folder as `ctperfusion stroke predict` writes it."""
    result = made_up_stroke(**options)
    folder.mkdir(parents=True)
    write_stroke_data(folder, result)
    return result


def predict(words: list[str]) -> int:
    """What the child process of the panel does."""
    from CTPerfusionSuiteLib.console import Console

    console = Console("json")
    given = dict(zip(words, words[1:], strict=False))
    Path(os.environ[WORDS]).write_text(json.dumps(words))
    with console.telling_refusals():
        if not Path(os.environ[PREPARED]).is_dir():
            raise RequestRefused("the prepared folder is gone")
    for title in ("Reading the series", "Correcting motion", "Computing maps", "Segmenting", "Writing masks and metrics"):
        progress = console.step(title.partition(" ")[0].lower(), title)
        for fraction in (0.2, 0.6, 1.0):
            time.sleep(float(os.environ.get(STEP_S, "0")))
            progress(fraction)
    shutil.copytree(os.environ[PREPARED], given["--out_dir"])
    console.finish(out_dir=given["--out_dir"])
    return 0


if __name__ == "__main__":
    try:
        code = predict(sys.argv[1:])
    except RequestRefused:
        code = 2
    sys.exit(code)
