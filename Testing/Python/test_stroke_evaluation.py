"""An evaluation a researcher can defend: nothing is masked with the truth, intervals are 95 % and respect heads, networks are paired."""

import csv

import numpy as np
import pytest
from test_stroke_scores import SHAPE, box, case, row

from StrokeSegmentationLib.evaluation import (
    Evaluation,
    bootstrap,
    calibration_table,
    clusters,
    evaluate,
    expanded_tail,
    stroke_free_table,
    summary_table,
)
from StrokeSegmentationLib.evaluation_tables import evaluation_markdown, tables_of, write_evaluation
from StrokeSegmentationLib.lesion_labels import label_from_masks
from StrokeSegmentationLib.network_ranking import ranking_table
from StrokeSegmentationLib.training_cases import save_case

TRUE, INVENTED = box((1, 4), (4, 14), (4, 14)), box((1, 5), (14, 22), (14, 22))


@pytest.fixture
def study(tmp_path):
    save_case(tmp_path / "test_0.npz", case(label_from_masks(TRUE, TRUE & False), np.zeros(SHAPE)))
    return tmp_path / "test_0.npz"


def sure_of(*masks):
    """A predictor that gives penumbra 0.9 in some masks and 0.1 elsewhere."""
    return lambda _: np.stack([np.where(sum(masks) > 0, 0.1, 0.9), np.where(sum(masks) > 0, 0.9, 0.1), np.zeros(SHAPE)])


def test_a_lesion_invented_far_from_the_true_one_counts(study):
    both, only = evaluate([study], {"both": sure_of(TRUE, INVENTED), "only": sure_of(TRUE)}).rows[:2]
    by_name = {line["method"]: line for line in evaluate([study], {"both": sure_of(TRUE, INVENTED), "only": sure_of(TRUE)}).rows}
    assert {both["method"], only["method"]} <= set(by_name)
    voxel_ml, wrong = 0.02, np.count_nonzero(INVENTED)
    assert by_name["only"]["penumbra_dice"] == 1.0 and by_name["only"]["penumbra_error_ml"] == 0.0
    assert by_name["both"]["penumbra_error_ml"] == pytest.approx(wrong * voxel_ml)
    assert by_name["both"]["penumbra_dice"] == pytest.approx(2 * TRUE.sum() / (2 * TRUE.sum() + wrong))


def test_calibration_is_that_of_all_tissue_and_of_each_group(study, tmp_path):
    free = tmp_path / "test_1.npz"
    save_case(free, case(np.zeros(SHAPE), np.zeros(SHAPE), group="none", head="a/2"))
    table = calibration_table(evaluate([study, free], {"n": sure_of(TRUE)}))
    errors = {(line["region"], line["group"]): line["expected_calibration_error"] for line in table}
    share = TRUE.mean()
    assert errors["hypoperfusion", "lvo"] == pytest.approx(0.1)  # 0.9 where all is true, 0.1 where nothing is
    assert errors["hypoperfusion", "none"] == pytest.approx(0.9 * share + 0.1 * (1 - share))
    gaps = {(line["region"], line["group"]): line["largest_gap"] for line in table}
    assert gaps["hypoperfusion", "none"] == pytest.approx(0.9) and errors["core", "lvo"] == 0.0


def test_an_interval_is_that_of_95_percent():
    values = np.random.default_rng(7).normal(0.0, 1.0, 400)
    value, low, high = bootstrap([str(n) for n in range(400)], lambda some: float(values[some].mean()))
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.08) and low < value < high


def test_an_interval_from_five_anatomies_holds_the_truth_in_nine_of_ten_cases():
    """The plain percentiles do in five of six."""
    rng, held = np.random.default_rng(0), 0
    for seed in range(200):
        values = rng.normal(size=5)
        _, low, high = bootstrap([str(n) for n in range(5)], lambda some, v=values: float(v[some].mean()), 1000, seed)
        held += low <= 0.0 <= high
    assert held / 200 >= 0.88
    assert expanded_tail(5) < 0.002 and expanded_tail(400) == pytest.approx(0.025, rel=0.03)


def test_a_network_of_another_budget_takes_no_place_and_a_filter_of_some_bands_no_mean_over_all():
    dices = {"long": 0.9, "a": 0.8, "b": 0.7, "maps, 12 mm": 0.6}
    rows = [
        row(f"{band}{n}", name, dice, head=f"h{n}", band=band) for band in ("5 HU", "20 HU") for n in range(4)
        for name, dice in dices.items() if (name, band) != ("maps, 12 mm", "5 HU")
    ]
    evaluation = Evaluation(rows, {}, ("long", "a", "b"), ("maps, 12 mm",), unranked=("long",))
    assert [line["network"] for line in ranking_table(evaluation, ("penumbra",))] == ["a", "b"]
    summary = [(line["band"], line["method"]) for line in summary_table(evaluation, resamplings=10)]
    assert ("all", "long") in summary and ("20 HU", "maps, 12 mm") in summary and ("all", "maps, 12 mm") not in summary


def test_with_five_anatomies_whole_anatomies_are_drawn_and_with_four_heads():
    many = [row(str(n), "4d", 0.5, head=f"h{n}", anatomy=f"a{n % 5}") for n in range(10)]
    assert clusters(many) == [f"a{n % 5}" for n in range(10)]
    few = [row(str(n), "4d", 0.5, head=f"h{n}", anatomy=f"a{n % 4}") for n in range(10)]
    assert clusters(few) == [f"h{n}" for n in range(10)]


def test_the_page_says_when_anatomies_are_too_few_for_the_intervals():
    rows = [row(str(n), "4d", 0.5, head=f"h{n}", anatomy=f"a{n % 2}") for n in range(4)]
    assert "how anatomies differ is not in the intervals" in evaluation_markdown(tables_of(Evaluation(rows, {}, ("4d",), ())), "T")
    rows = [row(str(n), "4d", 0.5, head=f"h{n}", anatomy=f"a{n}") for n in range(6)]
    assert "not in the intervals" not in evaluation_markdown(tables_of(Evaluation(rows, {}, ("4d",), ())), "T")


def test_networks_are_ranked_by_paired_differences():
    rng = np.random.default_rng(3)
    rows = []
    for n in range(20):
        hard = rng.uniform(0.2, 0.9)  # heads differ far more than networks do
        for name, better in (("4d", 0.03), ("3d+time", 0.0), ("2d+time", -0.05)):
            rows.append(row(str(n), name, hard + better + rng.normal(0, 0.01), head=f"h{n}"))
    table = [line for line in ranking_table(Evaluation(rows, {}, ("3d+time", "2d+time", "4d"), ())) if line["region"] == "core"]
    assert [(line["place"], line["network"]) for line in table] == [(1, "4d"), (2, "3d+time"), (3, "2d+time")]
    assert np.isnan(table[0]["behind_low"]) and 0.01 < table[1]["behind_low"] < 0.03 < table[1]["behind_high"] < 0.05
    assert table[2]["behind"] == pytest.approx(0.08, abs=0.01)


def test_a_core_that_was_missed_is_counted_where_no_distance_can_be():
    rows = [{**row(str(n), "4d", 0.0, head=f"h{n}"), "core_true_ml": 9.0, "core_found_ml": 0.0 if n else 4.0} for n in range(4)]
    line = summary_table(Evaluation(rows, {}, ("4d",), ()), 20)[0]
    assert line["core_missed"] == 3 and line["core_scored"] == 4 and line["penumbra_missed"] == 0


def test_the_tail_of_the_false_volume_has_an_interval():
    rows = [row(str(n), "4d", float("nan"), head=f"h{n}", group="none", found_ml=float(n)) for n in range(40)]
    line = stroke_free_table(Evaluation(rows, {}, ("4d",), ()))[0]
    assert line["p95_ml_low"] < line["p95_ml"] < line["p95_ml_high"] <= 39.0


def test_the_reliability_diagram_is_written_in_numbers(study, tmp_path):
    write_evaluation(tmp_path / "out", evaluate([study], {"n": sure_of(TRUE, INVENTED), "m": sure_of(TRUE)}))
    with open(tmp_path / "out" / "reliability.csv", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["method"] == "n" and line["region"] == "hypoperfusion"]
    sure = next(line for line in lines if float(line["mean_probability"]) > 0.5)
    assert int(sure["voxels"]) == np.count_nonzero(TRUE | INVENTED)
    assert float(sure["share_true"]) == pytest.approx(TRUE.sum() / (TRUE | INVENTED).sum(), abs=1e-3)
    assert (tmp_path / "out" / "ranking.csv").exists()
