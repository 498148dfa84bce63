"""Random heads through DICOM and the command's own path: vessels, side, volumes and flags."""

import sys
import tempfile
from pathlib import Path

import numpy as np
from benchmark_seeds import seeds

from CTPerfusionSuiteLib.dicom.perfusion_series import read_perfusion_series
from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.phantoms.brain import simulate_brain
from CTPerfusionSuiteLib.phantoms.dicom_styles import write_dicom_study
from CTPerfusionSuiteLib.phantoms.random_brains import random_case
from PerfusionMapsLib.pipeline import analyze

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Python"))
from lesion_overlap import volumes_agree  # noqa: E402


def at_positions(volume, lps) -> np.ndarray:
    """Values of a volume at LPS positions, nearest voxel, 0 outside."""
    voxels = np.rint(volume.geometry.to_index(lps)).astype(int)
    inside = np.all((voxels >= 0) & (voxels < np.array(volume.geometry.size)), axis=1)
    values = np.zeros(len(voxels))
    i, j, k = voxels[inside].T
    values[inside] = volume.values[k, j, i]
    return values


def measure(seed: int) -> dict:
    """One random head from DICOM files to numbers beside its truth."""
    case = random_case(seed)
    study = simulate_brain(case.options)
    with tempfile.TemporaryDirectory() as folder:
        write_dicom_study(study.series, folder, style=case.style, seed=seed % 10000, tilt_deg=case.gantry_tilt_deg, uneven=case.uneven)
        try:
            result = analyze(read_perfusion_series(folder))
        except DataRefused as refusal:
            return {"seed": seed, "traits": case.traits, "refused": str(refusal)}
    true, found = study.numbers["volumes_ml"], result.metrics["volumes_ml"]
    flags = [flag for flag in result.metrics["qc"] if flag["severity"] != "info"]
    side = result.metrics["lesion_side"]
    right = all(volumes_agree(found[name], true[name]) for name in ("hypoperfusion", "core"))
    return {
        "seed": seed,
        "traits": case.traits,
        "aif_arterial": float(np.mean(at_positions(study.truth["arterial_voxels"], result.aif.lps) > 0)),
        "vof_venous": float(np.mean(at_positions(study.truth["venous_voxels"], result.vof.lps) > 0)) if result.vof else None,
        "wrong_side": true["hypoperfusion"] > 5 and side in ("left", "right") and side != study.numbers["lesion_side"],
        "volumes_right": right,
        "true": (true["hypoperfusion"], true["core"]),
        "found": (found["hypoperfusion"], found["core"]),
        "flags": [flag["code"] for flag in flags],
    }


def main(count: int = 60) -> None:
    """Print a line a head and the summary."""
    rows = []
    for seed in seeds(count, "random heads"):
        row = measure(seed)
        rows.append(row)
        print(row, flush=True)
    done = [row for row in rows if "refused" not in row]
    missed = [row for row in done if not row["volumes_right"]]
    clean = [row for row in done if row["volumes_right"]]
    share = lambda part, whole: f"{len(part)} of {len(whole)} ({100 * len(part) / max(1, len(whole)):.0f} %)"  # noqa: E731
    print(f"Random heads: {len(rows)}, refused {len(rows) - len(done)}")
    print("  every AIF voxel arterial:", share([r for r in done if r["aif_arterial"] == 1.0], done))
    print("  every VOF voxel venous:", share([r for r in done if r["vof_venous"] == 1.0], done))
    print("  wrong side:", share([r for r in done if r["wrong_side"]], done))
    print("  volumes within max(10 %, 5 mL):", share(clean, done))
    print("  misses that are flagged:", share([r for r in missed if r["flags"]], missed))
    print("  right volumes without a flag:", share([r for r in clean if not r["flags"]], clean))
    print("  flagged in all:", share([r for r in done if r["flags"]], done))


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
