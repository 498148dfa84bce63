"""Pack a trained stroke network as a model folder, with what it and its rivals score on studies none of them saw.

The recommendation follows from the scores: the network only where it beats the threshold maps by the margin asked for, also under the
shifted simulator.
"""

import argparse
import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from CTPerfusionSuiteLib.report.orientation import RadiologicalView
from CTPerfusionSuiteLib.report.pictures import MaskLayer, overlay_mosaic
from CTPerfusionSuiteLib.report.tiles import lay_out
from StrokeSegmentationLib.checkpoints import load_weights
from StrokeSegmentationLib.evaluation import Evaluation, Predictor, comparison_table, evaluate, stroke_free_table
from StrokeSegmentationLib.evaluation_tables import evaluation_markdown, tables_of, write_evaluation
from StrokeSegmentationLib.lesion_labels import LabelRule, label_from_probabilities
from StrokeSegmentationLib.mjnet import MJNet
from StrokeSegmentationLib.model_bundle import StrokeModel
from StrokeSegmentationLib.network_ranking import ranking_table
from StrokeSegmentationLib.networks import build_network, parameter_count
from StrokeSegmentationLib.own_model import bundle_of_run
from StrokeSegmentationLib.prediction import predict
from StrokeSegmentationLib.rule_choice import choose_rule
from StrokeSegmentationLib.run_folder import BEST, CONFIG, HISTORY, RUN, RunFacts, facts_of_run
from StrokeSegmentationLib.training import TrainingResult, kept_dice
from StrokeSegmentationLib.training_cases import about_case, list_cases, load_case
from StrokeSegmentationLib.training_config import read_config

MARGINS = {"5 HU": 0.15, "12 HU": 0.30, "20 HU": 0.30}
"""By how much 1 - Dice has to be lower than that of the threshold maps, penumbra and core of large-vessel occlusions."""
MARGIN_BANDS = {"test": ("5 HU", "12 HU", "20 HU"), "shifted": ("5 HU", "12 HU")}
"""Bands of each split in which a margin is asked for."""
MOST_FALSE_ML, MOST_WITH_ANY = 5.0, 0.10
WITHOUT_MAPS = ", curves alone"
"""Added to the name of a network that is given no maps, as where no artery is found."""
LEAST_STUDIES = 30
"""Of strokes of a large vessel; fewer say nothing."""
FAILURES = 4
CONTEXT = (
    "Published figures on patients, as context only and never to be compared with simulated ones: 4D mJ-Net Dice .53 penumbra and .23 "
    "core, PerfU-Net .46 core, best of ISLES 2018 .51 core."
)


def trained_network(run: Path) -> TrainingResult:
    """What a run left in its folder; a rival may be one that does not say which studies it learned from."""
    config = read_config(run / CONFIG)
    network = build_network(config.kind, config.width, config.slices, dropout=config.dropout).eval()
    load_weights(network, run / BEST, f"'{run.name}'")
    with open(run / HISTORY, newline="", encoding="utf-8") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    steps, minutes = int(rows[-1]["step"]), rows[-1]["minutes"]
    facts = facts_of_run(run) or RunFacts((), ())
    return TrainingResult(network, kept_dice(rows), steps, minutes, parameter_count(network), facts, "", rows)


def rule_for(network, data: Path) -> LabelRule:
    """Where to cut the probabilities of a network, by the validation studies."""
    return choose_rule(list_cases(data, "val"), predictor(network))


def scores(
    results: dict[str, TrainingResult | StrokeModel], rules: dict[str, LabelRule], data: Path, split: str, chosen: str
) -> Evaluation:
    """Networks and the threshold maps on the studies of a split.

    The chosen network is scored a second time without any maps, where it can do without; either way it takes no place among the others.
    """
    predictors, without_maps = {name: predictor(result.network) for name, result in results.items()}, chosen + WITHOUT_MAPS
    network = results[chosen].network
    if isinstance(network, MJNet) and network.maps:
        predictors[without_maps] = predictor(network, with_maps=False)
        rules = {**rules, without_maps: rules[chosen]}
    return replace(evaluate(list_cases(data, split), predictors, rules), unranked=(chosen, without_maps) if len(results) > 1 else ())


def predictor(network, with_maps: bool = True) -> Predictor:
    """What gives the probabilities of a case."""
    return lambda case: predict(network, case if with_maps else replace(case, maps=case.maps[:0]), device="cpu").probabilities


def recommendation(evaluations: dict[str, Evaluation], name: str) -> str:
    """"network" when it keeps every margin on test studies and under the shifted simulator, else "maps"."""
    kept = all(keeps_margins(evaluations[split], split, bands, name) for split, bands in MARGIN_BANDS.items())
    enough = len(evaluations["test"].some(method=name, split="test", group="lvo")) >= LEAST_STUDIES
    return "network" if kept and enough else "maps"


def keeps_margins(evaluation: Evaluation, split: str, bands: tuple[str, ...], name: str) -> bool:
    """Whether a network is better than the threshold maps by the margin in every band and region, and finds nothing where nothing is."""
    reductions = {
        (row["band"], row["region"]): row["reduction"] for row in comparison_table(evaluation)
        if row["network"] == name and row["group"] == "lvo" and row["split"] == split
    }
    better = all(reductions.get((band, region), -np.inf) >= MARGINS[band] for band in bands for region in ("penumbra", "core"))
    free = [row for row in stroke_free_table(evaluation) if row["method"] == name and row["split"] == split]
    return better and bool(free) and all(row["p95_ml"] < MOST_FALSE_ML and row["any_lesion"] <= MOST_WITH_ANY for row in free)


def failure_picture(path: Path, network, rule: LabelRule) -> bytes:
    """The true and the found lesion over the study's mean enhancement."""
    case = load_case(path)
    found = label_from_probabilities(predict(network, case).probabilities, case.tissue, case.voxel_ml, rule) > 0
    image = ndimage.gaussian_filter(case.curves.astype(np.float32).mean(axis=0), (0.0, 1.5, 1.5))
    # Normal tissue in the middle of the grays; vessels may saturate.
    background = 80.0 * np.clip(image / max(2.5 * float(np.median(image[case.tissue > 0])), 1e-3), 0, 1)
    layers = [MaskLayer("true", case.label > 0, (64, 160, 255), 0.35), MaskLayer("found", found, (255, 150, 30), 0.35)]
    about = case.about
    title = f"{path.stem}: {about['group']}, {about.get('noise_hu', 0):.0f} HU, hypoperfusion"
    layout = lay_out(RadiologicalView(case.geometry), case.brain, 1200, per_row=4, widest_tile=290)
    return overlay_mosaic(layout, background, layers, title)


def worst_studies(evaluation: Evaluation, name: str) -> list[dict]:
    """The least overlap among strokes, and the largest false volume where there is any."""
    own = evaluation.some(method=name, split="test")
    strokes = sorted((row for row in own if row["group"] != "none"), key=lambda row: np.nan_to_num(row["hypoperfusion_dice"], nan=0.0))
    invented = (row for row in own if row["group"] == "none" and row["hypoperfusion_found_ml"] > 0)
    free = sorted(invented, key=lambda row: -row["hypoperfusion_found_ml"])
    return [*strokes[: FAILURES - 1], *free[:1]]


def main() -> None:
    """Score, choose what to recommend, and write the model folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="prepared studies with the splits test and shifted")
    parser.add_argument("--runs", type=Path, required=True, help="folder of training runs")
    parser.add_argument("--chosen", required=True, help="the run to pack")
    parser.add_argument("--rivals", default="", help="further runs to score, separated by commas")
    parser.add_argument("--out", type=Path, required=True, help="model folder; its last part is the model's name")
    parser.add_argument("--minutes-each", default="", help="said in the card of the budget of the networks that are ranked")
    parser.add_argument("--data-license", type=Path, help="text file: on what conditions anatomies and lesions were published")
    parser.add_argument("--version", default="0.1.0", help="of the model")
    options = parser.parse_args()
    if facts_of_run(options.runs / options.chosen) is None:
        parser.error(f"the run '{options.chosen}' has no {RUN} that names the studies it learned from")
    results = {name: trained_network(options.runs / name) for name in [options.chosen, *filter(None, options.rivals.split(","))]}
    rules = {name: rule_for(result.network, options.data) for name, result in results.items()}
    evaluations = {split: scores(results, rules, options.data, split, options.chosen) for split in MARGIN_BANDS}
    pack(options, results[options.chosen], rules[options.chosen], evaluations)


def seen_before(facts: RunFacts, data: Path) -> str:
    """What heads a network is tested on, and whether it has learned from their anatomies and lesions, in words."""
    known = [about_case(data / f"{name}.npz") for name in (*facts.train, *facts.val)]
    tested = [about_case(path) for split in MARGIN_BANDS for path in list_cases(data, split)]
    said = [f"Test heads are made of {', '.join(sorted({about['anatomy'] for about in tested}))}."]
    for what, plural in (("anatomy", "anatomies"), ("lesion", "lesions")):
        both = {about[what] for about in known} & {about[what] for about in tested} - {""}
        said += [f"Studies it is tested on share {plural} with the training or the validation: {', '.join(sorted(both))}."] if both else []
    return " ".join(said if len(said) > 1 else [*said, "None of their anatomies and lesions was used for training or validation."])


def page_of(evaluation: Evaluation, name: str, title: str) -> str:
    """The tables of one network and the maps, and how its rivals of equal budget rank; a level below the card's own headings."""
    own = tuple(network for network in (name, name + WITHOUT_MAPS) if network in evaluation.networks)
    rows = [row for row in evaluation.rows if row["method"] in (*own, *evaluation.baselines)]
    calibration = {key: counts for key, counts in evaluation.calibration.items() if key[0] in own}
    tables = tables_of(Evaluation(rows, calibration, own, evaluation.baselines))
    page = evaluation_markdown({**tables, "ranking": ranking_table(evaluation)}, title)
    return "#" + page.replace("\n#", "\n##")


def pack(options: argparse.Namespace, result: TrainingResult, rule: LabelRule, evaluations: dict[str, Evaluation]) -> None:
    """The tables into the folder of runs, and the chosen network with its card into its model folder."""
    pages, pictures, lines = [], {}, []
    for split, title in (("test", "Unseen studies"), ("shifted", "A shifted simulator: another family of boluses, residues and noise")):
        write_evaluation(options.runs / f"evaluation-{split}", evaluations[split], title)
        pages.append(page_of(evaluations[split], options.chosen, title))
        pictures[f"docs/comparison_{split}.csv"] = (options.runs / f"evaluation-{split}" / "comparison.csv").read_bytes()
    network, advice = result.network, recommendation(evaluations, options.chosen)
    for number, row in enumerate(worst_studies(evaluations["test"], options.chosen), start=1):
        pictures[f"docs/failure{number}.png"] = failure_picture(options.data / f"{row['case']}.npz", network, rule)
        lines.append(f"![{row['case']}](failure{number}.png)\n")
    words = "recommended" if advice == "network" else "not recommended over the threshold maps, which the panel recommends"
    budget = f"The networks that are ranked had equal budgets of {options.minutes_each}." if options.minutes_each else ""
    without_maps, second = options.chosen + WITHOUT_MAPS, ""
    if without_maps in evaluations["test"].networks:
        second = f", '{without_maps}' the same without any maps, as where no artery is found"
    card = "\n".join([
        "## What was measured",
        f"'{options.chosen}' is this model{second}; 'maps' are the threshold maps of CT Perfusion Maps with their default filter (5 mm), "
        "'maps, 3.5 mm' and so on with other widths (wider ones from 6.5 HU of noise on), on the same studies and the same tissue; in each "
        "noise band the model is held against the best of them. Where the narrowest or the widest is the best, another might be better "
        f"still. {seen_before(result.facts, options.data)} {budget} By these figures this model is {words}.",
        *pages,
        "## Where it fails",
        "The test studies with the least overlap" + (
            ", and the stroke-free one with the largest false volume." if len(lines) == FAILURES
            else "; in none of the stroke-free ones was a lesion found."
        ),
        *lines,
        "## Context",
        CONTEXT,
        "",
    ])
    config = read_config(options.runs / options.chosen / CONFIG)
    if options.data_license:
        pictures["docs/data_license.txt"] = options.data_license.read_bytes()
    folder = bundle_of_run(options.out, config, result, options.data, advice, card, pictures, options.version, rule)
    print(f"  {folder}: {sum(path.stat().st_size for path in folder.rglob('*') if path.is_file()) / 1e6:.1f} MB, recommended: {advice}")


if __name__ == "__main__":
    main()
