"""Does the truncation score tell which scans ended too early?  ROC-AUC over random heads, each scan cut at random times.

A scan goes on for 62 s past the arterial peak; a cut is positive when it changed the volume of hypoperfusion or core by more than
10 % and more than 5 mL.  Both volumes come from the whole automatic pipeline.
"""

import sys
from dataclasses import replace

import numpy as np
from benchmark_seeds import seeds
from scipy.stats import rankdata

from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.phantoms.brain import simulate_brain
from CTPerfusionSuiteLib.phantoms.random_brains import random_case
from CTPerfusionSuiteLib.volumes import TimeSeries
from PerfusionMapsLib.analysis_request import AnalysisRequest
from PerfusionMapsLib.bolus_arrival import find_bolus
from PerfusionMapsLib.pipeline import analyze
from PerfusionMapsLib.study_observations import tissue_curve
from PerfusionMapsLib.truncation import truncation_score

AFTER_PEAK_S = 62.0
EARLIEST_CUT_S, LATEST_CUT_S = 5.0, 55.0
"""Cuts lie between these times after the arterial peak."""
CUTS = 5


def until(series: TimeSeries, end_s: float) -> TimeSeries:
    """The frames that are complete by `end_s` seconds."""
    frames = int(np.count_nonzero(series.slice_times.max(axis=1) <= end_s + 1e-9))
    return replace(series, values=series.values[:frames], times=series.times[:frames])


def measure(seed: int) -> list[dict]:
    """The cuts of one head: score, seconds from the arterial peak to the end, and whether a volume changed."""
    options = random_case(seed, size=(96, 96), slices=8, motion=None).options
    frames = int(np.ceil((options.bolus.peak_time_s + AFTER_PEAK_S) / options.dt_s)) + 1
    series = simulate_brain(replace(options, frames=frames, times=None, slabs=None, truncate_s=None)).series
    request = AnalysisRequest(motion_correction=False)

    def volumes(result):
        return [result.metrics["volumes_ml"][name] or 0.0 for name in ("hypoperfusion", "core")]

    whole = analyze(series, request)
    rng, rows = np.random.default_rng(seed), []
    for end in whole.aif.peak_time_s + rng.uniform(EARLIEST_CUT_S, LATEST_CUT_S, CUTS):
        cut = until(series, end)
        try:
            result = analyze(cut, request)
        except DataRefused:
            continue
        scan_end = float(cut.slice_times.max())
        tissue = tissue_curve(cut, result.masks["tissue_mask"] > 0, find_bolus(cut))
        rows.append(
            {
                "seed": seed,
                "coverage_s": scan_end - result.aif.peak_time_s,
                "score": truncation_score(result.aif, result.vof, scan_end, tissue),
                "changed": any(abs(a - b) > max(0.1 * a, 5.0) for a, b in zip(volumes(whole), volumes(result), strict=True)),
            }
        )
    return rows


def roc_auc(scores, positive) -> float:
    """Probability that a positive scores higher than a negative."""
    ranks, positive = rankdata(scores), np.asarray(positive, bool)
    count = np.count_nonzero(positive)
    return float((ranks[positive].mean() - (count + 1) / 2) / np.count_nonzero(~positive))


def main(heads: int = 24) -> None:
    """Print the ROC-AUC of the score and of the time from the arterial peak to the end alone, and how often each class is called."""
    rows = []
    for seed in seeds(heads, "truncation"):
        try:
            rows += measure(seed)
        except DataRefused as refusal:
            print(f"  head {seed} refused: {refusal}")
    changed, scores = np.array([row["changed"] for row in rows]), np.array([row["score"] for row in rows])
    print(f"  {len(rows)} cuts, {changed.sum()} changed a volume")
    print(f"  ROC-AUC {roc_auc(scores, changed):.3f} (at least .96); time from arterial peak to end alone "
          f"{roc_auc([-row['coverage_s'] for row in rows], changed):.3f}")  # fmt: skip
    print(
        "  called at a score above one half: "
        f"{np.mean(scores[changed] > 0.5):.2f} of the changed, {np.mean(scores[~changed] > 0.5):.2f} of the others"
    )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
