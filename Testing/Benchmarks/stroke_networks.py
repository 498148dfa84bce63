"""Networks of equal width at equal budget, the shipped one and the threshold maps, on simulated studies.

No network trained here saw the test studies' heads and lesions where files of them are given (`--anatomy`, `--test_anatomy`, `--lesions`),
nor did the shipped one where they are those it was made with; without files the built-in ones serve for all, and the benchmark says so.
Studies are made once (`ctperfusion stroke studies`) and runs are resumed, so
the benchmark can be stopped at any time.
"""

import argparse
import sys
from pathlib import Path

from StrokeSegmentationLib.evaluation_tables import evaluation_markdown, tables_of, write_evaluation
from StrokeSegmentationLib.model_bundle import read_bundle
from StrokeSegmentationLib.networks import KINDS
from StrokeSegmentationLib.shipped_models import model_folder
from StrokeSegmentationLib.simulated_cases import write_training_studies
from StrokeSegmentationLib.study_plan_file import PLAN
from StrokeSegmentationLib.study_sources import StudySources
from StrokeSegmentationLib.training import TrainingResult, train
from StrokeSegmentationLib.training_cases import list_cases
from StrokeSegmentationLib.training_config import config_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from build_stroke_model import rule_for, scores, seen_before  # noqa: E402

OPTIONS = {"class_weights": (1.0, 1.0, 3.0), "ema": 0.998, "memory_gb": 8.0}
"""Class weights are milder than the published 1, 1, 10: the Tversky part of the loss already favors the small core."""


def trained(kinds, data: Path, runs: Path, minutes: float, threads: int) -> dict[str, TrainingResult]:
    """Every network trained for the same budget."""
    results = {}
    for kind in kinds:
        config = config_of({"kind": kind, "minutes": minutes, "threads": threads, **OPTIONS})
        results[kind] = result = train(config, list_cases(data, "train"), list_cases(data, "val"), runs / kind)
        print(
            f"  {kind}: {result.parameters:,} parameters, {result.steps} steps in {result.minutes:.1f} processor minutes on "
            f"{result.device}, validation Dice {result.score:.3f}",
            flush=True,
        )
    return results


def main() -> None:
    """Train what is not trained yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("stroke-benchmark/studies"))
    parser.add_argument("--runs", type=Path, default=Path("stroke-benchmark/runs"))
    parser.add_argument("--anatomy", type=Path)
    parser.add_argument("--test_anatomy", type=Path, nargs="+", default=())
    parser.add_argument("--lesions", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0, help="of the studies")
    parser.add_argument("--networks", default=",".join(KINDS))
    options = parser.parse_args()
    if not options.data.is_dir() or (options.data / PLAN).is_file():  # ours, perhaps interrupted; else studies of another making
        sources = StudySources.of(options.anatomy, options.lesions, options.test_anatomy)
        sources.check_test_heads()
        write_training_studies(options.data, sources=sources, seed=options.seed, say=print)
    networks = trained(options.networks.split(","), options.data, options.runs, options.minutes, options.threads)
    print("  " + seen_before(next(iter(networks.values())).facts, options.data), flush=True)
    shipped = read_bundle(model_folder())
    rules = {kind: rule_for(result.network, options.data) for kind, result in networks.items()} | {"shipped": shipped.rule}
    for split in ("test", "shifted"):
        evaluation = scores({**networks, "shipped": shipped}, rules, options.data, split, "shipped")
        write_evaluation(options.runs / split, evaluation, f"Networks and threshold maps, {split} studies")
        print(evaluation_markdown(tables_of(evaluation), f"Networks and threshold maps, {split} studies"), flush=True)


if __name__ == "__main__":
    main()
