"""Scores and tables that say how well a lesion was found, checked by hand."""

import csv

import numpy as np
import pytest

from StrokeSegmentationLib.evaluation import (
    Evaluation,
    band_of,
    best_baseline,
    bootstrap,
    comparison_table,
    evaluate,
    stroke_free_table,
    summary_table,
)
from StrokeSegmentationLib.evaluation_tables import write_evaluation
from StrokeSegmentationLib.lesion_labels import LabelRule, label_from_masks, label_from_probabilities, volumes_ml
from StrokeSegmentationLib.lesion_scores import dice, hd95_mm, label_scores, lesion_counts, lesion_f1, reliability, surface_distances_mm
from StrokeSegmentationLib.training_cases import StudyCase, save_case

SHAPE, VOXEL_MM = (6, 24, 24), (2.0, 2.0, 5.0)


def box(k, j, i, shape=SHAPE) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[slice(*k), slice(*j), slice(*i)] = True
    return mask


def case(label, threshold_label, **about) -> StudyCase:
    """A case without curves worth looking at."""
    brain = np.ones(SHAPE, np.uint8)
    return StudyCase(
        np.zeros((2, *SHAPE), np.float16), np.ones((2, 6), np.float32), np.ones(2, np.float32), np.zeros((0, *SHAPE), np.float16),
        label.astype(np.uint8), brain, brain, brain, {"maps": threshold_label.astype(np.uint8)},
        {"voxel_mm": list(VOXEL_MM), "split": "test", "group": "lvo", "noise_hu": 5.0, "anatomy": "a", "head": "a/1", **about},
    )


def row(case_name, method, penumbra_dice, head="h", band="5 HU", group="lvo", found_ml=0.0, anatomy="a"):
    parts = {f"{part}_{score}": 0.0 for part in ("hypoperfusion", "penumbra", "core") for score in ("hd95_mm", "error_ml", "lesion_f1")}
    parts |= {f"{part}_{score}": 0.0 for part in ("hypoperfusion", "penumbra", "core") for score in ("found_ml", "true_ml")}
    parts |= {"hypoperfusion_dice": penumbra_dice, "penumbra_dice": penumbra_dice, "core_dice": penumbra_dice}
    return {
        "case": case_name, "method": method, "split": "test", "group": group, "band": band, "noise_hu": 5.0, "anatomy": anatomy,
        "head": head, **parts, "hypoperfusion_found_ml": found_ml,
    }


def test_dice_of_a_half_overlap_is_a_half_and_of_nothing_is_no_number():
    a, b = box((0, 2), (0, 8), (0, 8)), box((0, 2), (0, 8), (4, 12))
    assert dice(a, b) == 0.5
    assert np.isnan(dice(a & ~a, a & ~a)) and dice(a, a & ~a) == 0.0


def test_a_lesion_moved_by_three_pixels_lies_six_millimeters_off():
    a, b = box((1, 5), (4, 14), (4, 14)), box((1, 5), (4, 14), (7, 17))
    assert surface_distances_mm(a, b, VOXEL_MM).max() == pytest.approx(6.0)
    assert hd95_mm(a, b, VOXEL_MM) == pytest.approx(6.0)
    thick = box((2, 6), (4, 14), (4, 14))
    assert hd95_mm(a, thick, VOXEL_MM) == pytest.approx(5.0)


def test_hd95_leaves_out_the_farthest_twentieth_of_the_surface():
    # Sheets of one slice are all surface.  96 + 100 voxels lie on each other; four of the second lie 2, 4, 6 and 8 mm beyond the first.
    first, second = np.zeros((1, 30, 30), bool), np.zeros((1, 30, 30), bool)
    first[0, 2, 2:26] = first[0, 4, 2:26] = first[0, 6, 2:26] = first[0, 8, 2:26] = True
    second |= first
    second[0, 2, 26:30] = True
    distances = np.sort(surface_distances_mm(first, second, VOXEL_MM))
    assert distances.size == 96 + 100 and distances[-4:].tolist() == [2.0, 4.0, 6.0, 8.0] and not distances[:-4].any()
    assert hd95_mm(first, second, VOXEL_MM) == 0.0, "4 of 196 are fewer than 5 %"
    few, more = first.copy(), second.copy()
    few[0, 6:9] = more[0, 6:9] = False
    more[0, 4, 26:28] = True
    # Sorted: 96 zeros, then 2, 2, 4, 4, 6, 8; the 95th percentile of 102 lies at 0.95 x 101 = 95.95: 0.95 of the way from 0 to 2.
    assert hd95_mm(few, more, VOXEL_MM) == pytest.approx(1.9)


def test_surface_distances_agree_with_all_pairs_of_surface_voxels():
    rng = np.random.default_rng(3)
    a, b = (rng.random((4, 9, 10)) > 0.7 for _ in range(2))

    def surface(mask):
        points = []
        for p in np.argwhere(mask):
            around = [p + d for d in np.vstack([np.eye(3, dtype=int), -np.eye(3, dtype=int)])]
            if any((q < 0).any() or (q >= mask.shape).any() or not mask[tuple(q)] for q in around):
                points.append(p * np.array([5.0, 2.0, 2.0]))
        return np.array(points)

    first, second = surface(a), surface(b)
    pairs = np.linalg.norm(first[:, None] - second[None], axis=2)
    expected = np.sort(np.concatenate([pairs.min(axis=1), pairs.min(axis=0)]))
    np.testing.assert_allclose(np.sort(surface_distances_mm(a, b, VOXEL_MM)), expected)


def test_a_lesion_counts_as_hit_when_any_of_it_is_found():
    true = box((0, 2), (0, 4), (0, 4)) | box((3, 5), (10, 14), (10, 14))
    found = box((0, 1), (0, 2), (0, 2)) | box((0, 2), (18, 22), (18, 22))
    assert lesion_counts(found, true) == (1, 1, 1)
    assert lesion_f1(found, true) == 0.5
    assert np.isnan(lesion_f1(found & ~found, true & ~true))


def test_a_false_lesion_far_from_the_truth_costs_dice():
    true = label_from_masks(box((1, 4), (4, 10), (4, 10)), box((1, 4), (6, 8), (6, 8)))
    exact, extra = true.copy(), true.copy()
    extra[box((1, 4), (16, 22), (16, 22))] = 1
    good, bad = (label_scores(found, true, VOXEL_MM) for found in (exact, extra))
    assert good["penumbra_dice"] == good["core_dice"] == 1.0 and good["core_hd95_mm"] == 0.0
    assert bad["penumbra_dice"] < 0.7 and bad["core_dice"] == 1.0
    assert bad["penumbra_error_ml"] == pytest.approx(3 * 36 * 0.02)


def test_clusters_under_a_milliliter_are_dropped_and_small_cores_become_penumbra():
    probabilities = np.zeros((3, *SHAPE), np.float32)
    probabilities[0] = 0.9
    large, speck, small_core = box((1, 4), (4, 14), (4, 14)), box((1, 2), (20, 22), (20, 22)), box((2, 3), (6, 9), (6, 9))
    for mask, values in ((large, (0.2, 0.7, 0.1)), (speck, (0.1, 0.8, 0.1)), (small_core, (0.1, 0.2, 0.7))):
        probabilities[:, mask] = np.array(values)[:, None]
    label = label_from_probabilities(probabilities, np.ones(SHAPE), 0.02)
    assert (label == np.where(large, 1, 0)).all()
    kept = label_from_probabilities(probabilities, np.ones(SHAPE), 0.02, LabelRule(minimum_ml=0.1))
    assert (kept[small_core] == 2).all() and not kept[speck].any()
    assert volumes_ml(kept, 0.02)["core"] == pytest.approx(9 * 0.02)


def test_nothing_is_found_outside_the_tissue_and_a_strict_rule_finds_less():
    probabilities = np.full((3, *SHAPE), 0.0, np.float32)
    probabilities[1] = 0.6
    probabilities[0] = 0.4
    tissue = box((0, 6), (0, 24), (0, 12))
    assert (label_from_probabilities(probabilities, tissue, 0.02) > 0).sum() == tissue.sum()
    assert not label_from_probabilities(probabilities, tissue, 0.02, LabelRule(deficit=0.7)).any()


def test_honest_probabilities_have_no_calibration_error_and_boasting_ones_do():
    rng = np.random.default_rng(5)
    p = rng.random(200_000)
    true, where = rng.random(p.size) < p, np.ones(p.size, bool)
    assert reliability(p, true, where).expected_error < 0.01
    assert reliability(np.where(p > 0.5, 1.0, 0.0), true, where).expected_error == pytest.approx(0.25, abs=0.01)
    half = reliability(p[:1000], true[:1000], where[:1000]) + reliability(p[1000:], true[1000:], where[1000:])
    assert half.expected_error == pytest.approx(reliability(p, true, where).expected_error)


def test_more_doses_of_the_same_heads_make_no_narrower_interval():
    rng = np.random.default_rng(2)
    values = rng.normal(0.7, 0.1, 8)
    heads = [f"h{n}" for n in range(8)]
    once = bootstrap(heads, lambda some: float(values[some].mean()))
    fourfold = np.tile(values, 4)
    again = bootstrap(heads * 4, lambda some: float(fourfold[some].mean()))
    assert again[2] - again[1] == pytest.approx(once[2] - once[1], rel=0.1)
    assert once[1] < once[0] < once[2]
    assert np.isnan(bootstrap(["h"] * 3, lambda some: 1.0)[1])


def test_a_network_is_compared_with_the_better_filter_of_each_noise_band():
    rows = []
    for n in range(6):
        for band, narrow, wide in (("5 HU", 0.8, 0.6), ("20 HU", 0.4, 0.6)):
            for method, value in (("maps", narrow), ("maps, wide filter", wide), ("4d", 0.8)):
                rows.append(row(f"{n}{band}", method, value, head=f"h{n}", band=band))
    evaluation = Evaluation(rows, {}, ("4d",), ("maps", "maps, wide filter"))
    assert best_baseline(evaluation, evaluation.some(band="20 HU"), "core") == "maps, wide filter"
    table = {(line["band"], line["region"]): line for line in comparison_table(evaluation, resamplings=50)}
    assert table["5 HU", "core"]["baseline"] == "maps" and table["5 HU", "core"]["reduction"] == pytest.approx(0.0)
    assert table["20 HU", "penumbra"]["reduction"] == pytest.approx(0.5)
    assert table["20 HU", "penumbra"]["reduction_low"] == pytest.approx(0.5)


def test_a_core_that_only_one_method_invents_counts_against_it():
    rows = [row("1", "4d", 0.5), row("1", "maps", 0.5), row("2", "4d", 0.0, head="g"), row("2", "maps", float("nan"), head="g")]
    line = comparison_table(Evaluation(rows, {}, ("4d",), ("maps",)), ("core",), 20)[0]
    assert line["studies"] == 2 and line["network_dice"] == 0.25 and line["baseline_dice"] == 0.75 and line["reduction"] < 0


def test_stroke_free_studies_are_judged_by_false_volume():
    rows = [row(str(n), "4d", float("nan"), head=f"h{n}", group="none", found_ml=0.0 if n else 12.0) for n in range(10)]
    line = stroke_free_table(Evaluation(rows, {}, ("4d",), ()))[0]
    assert line["any_lesion"] == pytest.approx(0.1) and line["p95_ml"] == pytest.approx(6.6)


def test_noise_bands():
    assert [band_of(noise) for noise in (3.0, 5.0, 8.0, 12.0, 20.0, None)] == ["5 HU", "5 HU", "8 HU", "12 HU", "20 HU", "unknown"]


def test_an_evaluation_is_written_as_tables_people_and_programs_read(tmp_path):
    true = label_from_masks(box((1, 4), (4, 14), (4, 14)), box((1, 4), (6, 12), (6, 12)))
    half = np.where(box((0, 6), (0, 24), (0, 9)), true, 0)
    for n in range(3):
        save_case(tmp_path / f"test_{n}.npz", case(true, half, head=f"a/{n}"))
    save_case(tmp_path / "test_9.npz", case(np.zeros(SHAPE), np.zeros(SHAPE), group="none", head="a/9"))

    def knows_all(study):
        return np.stack([study.label == kind for kind in range(3)]).astype(np.float32)

    evaluation = evaluate(sorted(tmp_path.glob("*.npz")), {"oracle": knows_all})
    assert evaluation.methods == ("oracle", "maps") and len(evaluation.rows) == 8
    assert {line["core_dice"] for line in summary_table(evaluation, 20) if line["method"] == "oracle"} == {1.0}
    paths = write_evaluation(tmp_path / "out", evaluation)
    assert {path.name for path in paths} >= {"studies.csv", "summary.csv", "comparison.csv", "stroke_free.csv", "evaluation.md"}
    with open(tmp_path / "out" / "comparison.csv", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert lines and all(line["network"] == "oracle" and float(line["reduction"]) == 1.0 for line in lines)
    text = (tmp_path / "out" / "evaluation.md").read_text(encoding="utf-8")
    assert "4 studies of 4 individual heads" in text and "oracle" in text and "nan" not in text
