"""Networks of equal width at equal budget, and the threshold maps, on simulated studies that no network saw.

Studies are made once (`ctperfusion stroke studies`) and runs are resumed, so the benchmark can be stopped at any time.
"""

import argparse
from pathlib import Path

from StrokeSegmentationLib.evaluation import evaluate
from StrokeSegmentationLib.evaluation_tables import evaluation_markdown, tables_of, write_evaluation
from StrokeSegmentationLib.networks import KINDS, parameter_count
from StrokeSegmentationLib.prediction import predict
from StrokeSegmentationLib.simulated_cases import write_training_studies
from StrokeSegmentationLib.study_plan_file import PLAN
from StrokeSegmentationLib.study_sources import StudySources
from StrokeSegmentationLib.training import train
from StrokeSegmentationLib.training_cases import list_cases
from StrokeSegmentationLib.training_config import config_of

CLASS_WEIGHTS = (1.0, 1.0, 3.0)
"""Milder than the published 1, 1, 10: the Tversky part of the loss already favors the small core."""


def trained(kinds, data: Path, runs: Path, minutes: float, threads: int) -> dict:
    """Every network trained for the same budget: kind -> network."""
    networks = {}
    for kind in kinds:
        config = config_of({"kind": kind, "minutes": minutes, "threads": threads, "class_weights": CLASS_WEIGHTS})
        result = train(config, list_cases(data, "train"), list_cases(data, "val"), runs / kind)
        networks[kind] = result.network.eval()
        print(
            f"  {kind}: {parameter_count(result.network):,} parameters, {result.steps} steps in {result.minutes:.1f} processor minutes on "
            f"{result.device}, validation Dice {result.score:.3f}",
            flush=True,
        )
    return networks


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
        write_training_studies(options.data, sources=sources, seed=options.seed, say=print)
    networks = trained(options.networks.split(","), options.data, options.runs, options.minutes, options.threads)
    for split in ("test", "shifted"):
        predictors = {
            kind: lambda case, network=network: predict(network, case, device="cpu").probabilities for kind, network in networks.items()
        }
        evaluation = evaluate(list_cases(options.data, split), predictors)
        write_evaluation(options.runs / split, evaluation, f"Networks and threshold maps, {split} studies")
        print(evaluation_markdown(tables_of(evaluation), f"Networks and threshold maps, {split} studies"), flush=True)


if __name__ == "__main__":
    main()
