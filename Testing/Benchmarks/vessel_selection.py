"""Artery, vein, brain, midline and tissue on random heads, in memory and after motion correction, beside their truth.

    python vessel_selection.py [simulated heads = 60] [plain heads = 30]

The plain heads are a few ellipses and cylinders that share nothing with the simulator.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from benchmark_seeds import seeds, spread

from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.phantoms.brain import simulate_brain
from CTPerfusionSuiteLib.phantoms.random_brains import random_case
from CTPerfusionSuiteLib.volumes import TimeSeries, Volume
from PerfusionMapsLib.analysis_request import AnalysisRequest
from PerfusionMapsLib.arterial_input import find_arteries
from PerfusionMapsLib.bolus_arrival import baseline_mean, find_bolus, frame_mean
from PerfusionMapsLib.brain_mask import brain_mask, intracranial_space
from PerfusionMapsLib.midsagittal_plane import estimate_midsagittal
from PerfusionMapsLib.pipeline import still_series
from PerfusionMapsLib.tissue_classes import classify_tissue, summarize_enhancement
from PerfusionMapsLib.venous_output import find_vein, vein_scaling
from PerfusionMapsLib.vessel_candidates import vessel_candidates

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Python"))
from plain_head import PlainHead, plain_study  # noqa: E402


def dice(a, b) -> float:
    return 2.0 * np.count_nonzero(a & b) / max(1, np.count_nonzero(a) + np.count_nonzero(b))


def at(mask, curve) -> np.ndarray:
    return mask[tuple(curve.voxels[:, ::-1].T)]


def find_all(series: TimeSeries) -> dict:
    """Everything the vessel and anatomy steps find in a motion-free series, and the seconds they took."""
    start = time.perf_counter()
    bolus, geometry = find_bolus(series), series.geometry
    baseline, mean = (Volume(image, geometry) for image in (baseline_mean(series, bolus), frame_mean(series.values)))
    brain = brain_mask(baseline, mean)
    space = intracranial_space(brain, geometry)
    plane = estimate_midsagittal(mean, brain)
    candidates = vessel_candidates(series, bolus, space)
    arteries = find_arteries(series, bolus, space, candidates=candidates)
    veins = find_vein(series, bolus, space, arteries[0], candidates=candidates)
    scaling = vein_scaling(arteries[0], veins[0] if veins else None, float(series.slice_times.max()))
    tissue = classify_tissue(baseline, mean, brain, summarize_enhancement(series, bolus)).tissue
    seconds = time.perf_counter() - start
    return {
        "bolus": bolus,
        "brain": brain,
        "plane": plane,
        "arteries": arteries,
        "veins": veins,
        "scaling": scaling,
        "tissue": tissue,
        "seconds": seconds,
    }


def simulated(seed: int) -> dict:
    """One head of the simulator."""
    case = random_case(seed)
    study = simulate_brain(case.options)
    row = {"seed": seed, "peak_hu": study.numbers["aif_voxel_peak_hu"], "noise_hu": study.numbers["noise_hu"], "traits": case.traits}
    try:
        series = still_series(study.series, find_bolus(study.series), AnalysisRequest())[0]
        found = find_all(series)
    except DataRefused as refusal:
        return row | {"refused": str(refusal)}
    inside, side = study.mask("brain"), found["plane"].hemisphere(series.geometry, study.mask("brain"))
    arrival = study.aif[0][np.argmax(study.aif[1] > 0.02 * study.aif[1].max())]
    true_factor = study.vof[1].max() and np.trapezoid(study.vof[1], study.vof[0]) / max(
        1e-6, np.trapezoid(study.aif[1], study.aif[0]) * float(np.mean(at(study.truth["artery_fraction"].values, found["arteries"][0])))
    )
    return row | {
        "artery": float(np.mean(at(study.mask("arterial_voxels"), found["arteries"][0]))),
        "vein": float(np.mean(at(study.mask("venous_voxels"), found["veins"][0]))) if found["veins"] else 0.0,
        "scaling_ratio": found["scaling"].factor / max(true_factor, 1.0),
        "arrival_error_s": found["bolus"].arrival_s - arrival,
        "brain_dice": dice(found["brain"], inside),
        "sides_right": float((side == study.truth["hemisphere"].values)[inside].mean()),
        "tissue_dice": dice(found["tissue"], study.mask("tissue")),
        "core_kept": np.count_nonzero(found["tissue"] & study.mask("core")) / max(1, np.count_nonzero(study.mask("core"))),
        "seconds": found["seconds"],
    }


def plain(seed: int) -> dict:
    """One head of ellipses and cylinders with drawn properties."""
    rng = np.random.default_rng(seed)
    dt = float(rng.choice([1.0, 1.5, 2.0, 2.8]))
    head = PlainHead(
        seed=seed,
        dt_s=dt,
        frames=int(rng.uniform(48, 66) / dt),
        slices=int(rng.choice([4, 8, 12])),
        noise_hu=float(rng.uniform(3, 9)),
        artery_hu=float(rng.uniform(150, 450)),
        dilution=float(np.exp(rng.uniform(np.log(0.12), 0.0))),
        arrival_s=float(rng.uniform(5, 12)),
        width_s=float(rng.uniform(6, 13)),
        yaw_deg=float(rng.uniform(-15, 15)),
        roll_deg=float(rng.uniform(-8, 8)),
        background_hu=float(rng.choice([-1000, 0, -3024])),
        scalp=bool(rng.random() < 0.7),
        shuttle=bool(rng.random() < 0.25),
        lesion_side=int(rng.choice([-1, 1])),
    )
    drawn = plain_study(replace(head))
    row = {"seed": seed, "peak_hu": head.artery_hu * head.dilution, "noise_hu": head.noise_hu}
    try:
        found = find_all(drawn.series)
    except DataRefused as refusal:
        return row | {"refused": str(refusal)}
    cosine = np.clip(np.dot(found["plane"].normal, drawn.normal), -1, 1)
    return row | {
        "artery": float(np.mean(at(drawn.artery, found["arteries"][0]) > 0.02)),
        "vein": float(np.mean(at(drawn.vein, found["veins"][0]) > 0.1)) if found["veins"] else 0.0,
        "healthy_side": float(np.mean(at(drawn.healthy_artery, found["arteries"][0]) > 0.02)),
        "brain_dice": dice(found["brain"], drawn.brain),
        "midline_deg": float(np.degrees(np.arccos(cosine))),
        "midline_mm": abs(float(found["plane"].distance(drawn.point))),
        "seconds": found["seconds"],
    }


def main(simulated_heads: int = 60, plain_heads: int = 30) -> None:
    """Print a line a head and the summary."""
    for name, measure, count in (("Simulated", simulated, simulated_heads), ("Plain", plain, plain_heads)):
        rows = []
        for seed in seeds(count, f"vessel selection {name}"):
            rows.append(measure(seed))
            print({key: round(value, 3) if isinstance(value, float) else value for key, value in rows[-1].items()}, flush=True)
        done = [row for row in rows if "refused" not in row]
        print(
            f"{name} heads: {len(rows)}, refused {len(rows) - len(done)} "
            f"(AIF peak, noise HU: {[(round(r['peak_hu']), round(r['noise_hu'], 1)) for r in rows if 'refused' in r]})"
        )
        for what in ("artery", "vein", "healthy_side"):
            if done and what in done[0]:
                print(f"  every voxel of it right, {what}: {sum(row[what] == 1.0 for row in done)} of {len(done)}")
        for what in (
            "scaling_ratio",
            "arrival_error_s",
            "brain_dice",
            "sides_right",
            "midline_deg",
            "midline_mm",
            "tissue_dice",
            "core_kept",
            "seconds",
        ):
            if done and what in done[0]:
                values = [row[what] for row in done]
                print(f"  {what}: {spread(values)}, 95th percentile {np.percentile(values, 95):.3f}")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
