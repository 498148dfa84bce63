"""Whether a study is like those a network was trained on: a check that speaks up before a result is believed.

The range of each quantity is measured on the training cases and travels with the weights.
"""

import math

import numpy as np

from .bolus_grid import GRID_S, GRID_STEP_S
from .study_input import StudyInput
from .training_cases import about_case

TOLERANCE = 0.05
"""By this share a value may lie beyond the range before it is said."""
QUANTITIES = {
    "pixel_mm": ("pixels of {value:.1f} mm", "mm"),
    "slice_mm": ("slices of {value:.1f} mm", "mm"),
    "noise_hu": ("noise of {value:.1f} HU", "HU"),
    "scale_hu": ("normal tissue that enhances by {value:.1f} HU", "HU"),
    "step_s": ("a frame every {value:.1f} s", "s"),
    "covered_s": ("{value:.0f} s scanned after the bolus arrives", "s"),
}
"""What is compared: how it reads in a sentence, and its unit."""


def covered_seconds(valid: np.ndarray) -> float:
    """Seconds after arrival that every slice was scanned for, from validity (F, K)."""
    always = (np.asarray(valid) > 0).all(axis=1) & (GRID_S >= 0.0)
    return float(np.count_nonzero(always) * GRID_STEP_S)


def quantities(study: StudyInput) -> dict[str, float]:
    """The quantities of `QUANTITIES` of a study."""
    x, y, z = study.geometry.spacing
    return {
        "pixel_mm": max(x, y),
        "slice_mm": z,
        "noise_hu": study.noise_hu,
        "scale_hu": study.scale_hu,
        "step_s": study.step_s,
        "covered_s": covered_seconds(study.valid),
    }


def measured_range(paths) -> dict[str, list[float]]:
    """Least and greatest value of every quantity over the prepared cases of some paths, for the model's metadata.

    Raises
    ------
    RequestRefused
        A file is no prepared study.
    """
    rows = []
    for path in paths:
        about = about_case(path)
        x, y, z = about["voxel_mm"]
        with np.load(path, allow_pickle=False) as stored:
            covered = covered_seconds(stored["valid"])
        rows.append({
            "pixel_mm": max(x, y), "slice_mm": z, "noise_hu": about["measured_noise_hu"], "scale_hu": about["scale_hu"],
            "step_s": about.get("step_s", math.nan), "covered_s": covered,
        })
    found = {}
    for name in QUANTITIES:
        values = np.array([row[name] for row in rows], float)
        values = values[np.isfinite(values)]
        if values.size:
            found[name] = [round(float(values.min()), 3), round(float(values.max()), 3)]
    return found


def outside_training(study: StudyInput, known: dict[str, list[float]]) -> tuple[tuple[str, str], ...]:
    """Notes ("outside_training", sentence) on every quantity of a study that lies beyond the range of the training cases."""
    notes = []
    for name, value in quantities(study).items():
        low, high = known.get(name, (-math.inf, math.inf))
        if math.isfinite(value) and not low * (1.0 - TOLERANCE) <= value <= high * (1.0 + TOLERANCE):
            text, unit = QUANTITIES[name]
            notes.append((
                "outside_training",
                f"This study has {text.format(value=value)}; the network was trained on {low:.1f} to {high:.1f} {unit}, so its result here "
                "is an extrapolation.",
            ))
    return tuple(notes)
