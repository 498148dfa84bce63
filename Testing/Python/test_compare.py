"""Stories about `ctperfusion compare`: two results, reference maps of other software, and many cases."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from example_result import axial_geometry, example_result

from CTPerfusionSuiteLib.cli import main
from CTPerfusionSuiteLib.geometry import resample_to
from CTPerfusionSuiteLib.nifti import write_volume
from CTPerfusionSuiteLib.output_folder import new_result_folder
from CTPerfusionSuiteLib.volumes import Geometry, Volume
from PerfusionMapsLib.agreement import bland_altman, category_agreement, dice, intraclass_correlation, voxel_agreement
from PerfusionMapsLib.comparison import compare
from PerfusionMapsLib.perfusion_options import Thresholds
from PerfusionMapsLib.reference_maps import find_maps
from PerfusionMapsLib.result_folder import recompute, write_result_data

GRID = axial_geometry((48, 52, 8), (4.2, 4.1, 6.3))


@pytest.fixture(scope="module")
def result():
    return example_result(GRID, motion=False, bayes=False)


def store(folder, result):
    with new_result_folder(folder) as partial:
        write_result_data(partial, result)
    return folder


def store_maps(folder, result, names, pattern, geometry=None):
    folder.mkdir(parents=True)
    for name in names:
        values = result.maps[name] if name in result.maps else result.masks[name]
        volume = Volume(values, result.geometry)
        if geometry is not None:
            volume = resample_to(volume, geometry, "linear" if name in result.maps else "nearest")
        write_volume(folder / pattern.format(name), volume)
    return folder


def test_dice_is_twice_the_overlap_over_the_sum_and_unknown_for_two_empty_masks():
    first, second = np.zeros((2, 3, 4)), np.zeros((2, 3, 4))
    assert dice(first, second) is None
    first[0], second[0, :2] = 1, 1
    assert dice(first, second) == pytest.approx(2 * 8 / (12 + 8)) and dice(first, np.zeros_like(first)) == 0.0


def test_icc_is_that_of_shrout_and_fleiss_and_sees_a_bias_that_correlation_does_not():
    # Judges 1 and 4 of the example table of Shrout and Fleiss 1979; their mean squares by hand.
    first, second = np.array([9.0, 6, 8, 7, 10, 6]), np.array([8.0, 2, 6, 6, 9, 7])
    table = np.column_stack([first, second])
    grand, n = table.mean(), 6
    rows = 2 * ((table.mean(1) - grand) ** 2).sum() / 5
    columns = n * ((table.mean(0) - grand) ** 2).sum()
    error = (((table - grand) ** 2).sum() - 5 * rows - columns) / 5
    found = intraclass_correlation(first, second)
    assert found.icc == pytest.approx((rows - error) / (rows + error + 2 * (columns - error) / n))
    assert found.low < found.icc < found.high and found.cases == 6
    volumes = np.array([3.0, 20, 55, 80, 120, 260])
    assert intraclass_correlation(volumes, volumes).icc == pytest.approx(1.0)
    assert np.corrcoef(volumes, volumes + 80)[0, 1] == pytest.approx(1.0)
    assert intraclass_correlation(volumes, volumes + 80).icc < 0.8
    assert intraclass_correlation(volumes, [3, 20, 55, 80, 120, np.nan]).cases == 5
    assert intraclass_correlation([1, 2], [1, 2]).icc is None and intraclass_correlation([5] * 4, [5] * 4).icc is None


def test_the_interval_of_the_icc_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(300):
        case, rater = rng.normal(0, 2.0, 25)[:, None], rng.normal(0, 0.3, 2)[None, :]
        table = case + rater + rng.normal(0, 1.0, (25, 2))
        found = intraclass_correlation(table[:, 0], table[:, 1])
        covered += found.low <= 4.0 / (4.0 + 0.09 + 1.0) <= found.high
    assert 0.90 <= covered / 300 <= 0.99


def test_limits_of_agreement_and_kappa_are_the_textbook_ones():
    found = bland_altman([10.0, 12, 9, 15], [8.0, 13, 9, 11])
    assert found.bias == pytest.approx(1.25) and found.sd == pytest.approx(np.std([2, -1, 0, 4], ddof=1))
    assert (found.low, found.high) == (pytest.approx(1.25 - 1.96 * found.sd), pytest.approx(1.25 + 1.96 * found.sd))
    assert bland_altman([], []).bias is None and bland_altman([3.0], [1.0]).sd is None
    kappa = category_agreement(["y"] * 25 + ["n"] * 25, ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15)
    assert kappa.agreement == pytest.approx(0.7) and kappa.kappa == pytest.approx(0.4)
    assert category_agreement(["y", "y"], ["y", "y"]).kappa is None


def test_voxel_agreement_ignores_what_is_outside_or_no_number():
    rng = np.random.default_rng(0)
    first = rng.normal(size=(3, 5, 6))
    second = (2.0 * first + 1.0).astype(np.float32)
    mask = np.ones(first.shape)
    second[0, 0, 0], mask[0, 0, 1] = np.nan, 0
    second[0, 0, 1] = 1e6
    found = voxel_agreement(second, first, mask)
    assert found.r == pytest.approx(1.0) and found.slope == pytest.approx(2.0, rel=1e-5) and found.voxels == 88
    assert voxel_agreement(first, np.ones_like(first), mask).r is None


def test_a_result_agrees_perfectly_with_itself_and_less_with_other_thresholds(result, tmp_path):
    a, b = store(tmp_path / "a", result), store(tmp_path / "b", recompute(result, Thresholds(8.0, 0.3)))
    same = compare(a, a)["cases"][0]
    assert same["dice"] == {"hypoperfusion": 1.0, "core": 1.0, "penumbra": 1.0}
    assert {name: found["r"] for name, found in same["maps"].items()} == dict.fromkeys(
        ("tmax", "cbf", "cbv", "mtt", "rcbf", "delay", "ttp"), pytest.approx(1.0)
    )
    assert same["profiles"]["defuse3"]["agree"] is True and same["notes"] == []
    other = compare(a, b)["cases"][0]
    assert 0.3 < other["dice"]["hypoperfusion"] < 0.95 and "thresholded differently" in other["notes"][0]
    assert other["volumes_ml"]["hypoperfusion"]["difference"] == pytest.approx(
        result.metrics["volumes_ml"]["hypoperfusion"] - other["volumes_ml"]["hypoperfusion"]["b"], abs=1e-3
    )


def test_a_mirrored_result_does_not_agree(result, tmp_path):
    mirrored = replace(
        result,
        maps={name: values[:, :, ::-1].copy() for name, values in result.maps.items()},
        masks={name: mask[:, :, ::-1].copy() for name, mask in result.masks.items()},
    )
    found = compare(store(tmp_path / "a", result), store(tmp_path / "b", mirrored))["cases"][0]
    assert found["dice"]["hypoperfusion"] < 0.05 and found["maps"]["tmax"]["r"] < 0.5
    assert found["volumes_ml"]["hypoperfusion"]["difference"] == 0.0


def test_maps_of_other_software_on_another_grid_are_resampled_and_thresholded_by_the_same_code(result, tmp_path):
    fine = Geometry((100, 110, 9), (2.1, 2.0, 5.6), (-105.0, -110.0, -5.0))
    reference = store_maps(
        tmp_path / "isles", result, ["tmax", "cbf", "cbv", "mtt"], "SMIR.Brain.XX.O.CT_{}.345563.nii", geometry=fine
    )
    found = compare(store(tmp_path / "a", result), reference)["cases"][0]
    assert found["dice"]["hypoperfusion"] > 0.9 and found["dice"]["core"] > 0.75
    assert all(found["maps"][name]["r"] > 0.9 for name in ("tmax", "cbf", "cbv", "mtt"))
    notes = " ".join(found["notes"])
    assert "resampled" in notes and "100 x 110 x 9" in notes and "hypoperfusion of B was made here" in notes
    turned = compare(reference, tmp_path / "a")["cases"][0]
    assert turned["dice"]["hypoperfusion"] > 0.9 and turned["volumes_ml"]["core"]["b"] == result.metrics["volumes_ml"]["core"]


def test_reference_maps_alone_can_be_compared_with_each_other(result, tmp_path):
    first = store_maps(tmp_path / "rapid", result, ["tmax", "cbf"], "{}.nii.gz")
    second = store_maps(tmp_path / "olea", result, ["tmax", "rcbf"], "case1_{}_map.nii.gz")
    found = compare(first, second)["cases"][0]
    assert found["dice"]["hypoperfusion"] == 1.0 and found["dice"]["core"] > 0.95 and found["profiles"]["defuse3"]["agree"]


def test_masks_of_other_software_keep_their_own_volumes_and_a_follow_up_infarct_is_set_beside_the_core(result, tmp_path):
    reference = store_maps(tmp_path / "reference", result, ["core_mask_rcbf30", "penumbra_mask"], "{}.nii.gz")
    write_volume(reference / "sub-1_lesion-msk.nii.gz", Volume(result.masks["core_mask_rcbf30"], GRID))
    found = compare(store(tmp_path / "a", result), reference)["cases"][0]
    assert found["dice"] == {"hypoperfusion": 1.0, "core": 1.0, "penumbra": 1.0} and found["dice_core_infarct"] == 1.0
    assert found["infarct_ml"] == found["volumes_ml"]["core"]["b"] == pytest.approx(result.metrics["volumes_ml"]["core"])


def test_a_phantom_folder_with_its_truth_inside_is_one_case(result, tmp_path):
    store_maps(tmp_path / "phantom" / "truth", result, ["tmax", "rcbf", "cbf"], "{}.nii.gz")
    (tmp_path / "phantom" / "dicom").mkdir()
    (tmp_path / "phantom" / "dicom" / "000001").write_bytes(b"")
    a = store(tmp_path / "a", result)
    for pair in ((a, tmp_path / "phantom"), (tmp_path / "phantom", a)):
        assert compare(*pair)["cases"][0]["dice"]["core"] == 1.0


def test_each_map_in_a_folder_of_its_own_as_isles_2018_stores_them_is_one_case(result, tmp_path):
    for name in ("tmax", "cbf", "cbv"):
        store_maps(tmp_path / "case_1" / f"SMIR.Brain.XX.O.CT_{name}.1", result, [name], "SMIR.Brain.XX.O.CT_{}.1.nii")
    assert compare(store(tmp_path / "a", result), tmp_path / "case_1")["cases"][0]["dice"]["hypoperfusion"] == 1.0


def test_file_names_of_isles_rapid_and_our_own_are_understood(tmp_path):
    for name in (
        "SMIR.Brain.XX.O.CT_CBF.345.nii", "SMIR.Brain.XX.O.CT_Tmax.346.nii", "SMIR.Brain.XX.O.CT_4DPWI.347.nii",
        "SMIR.Brain.XX.O.OT.348.nii", "sub-stroke0001_ses-01_space-ncct_mtt.nii.gz", "cbv.nii.gz", "cbv_sd.nii.gz",
        "core_mask_rcbf30.nii.gz", "readme.txt", "brain_mask.nii.gz",
    ):  # fmt: skip
        (tmp_path / name).write_bytes(b"")
    maps, masks = find_maps(tmp_path)
    assert {kind: path.name.split(".")[0] if "SMIR" not in path.name else path.name for kind, path in maps.items()} == {
        "cbf": "SMIR.Brain.XX.O.CT_CBF.345.nii", "tmax": "SMIR.Brain.XX.O.CT_Tmax.346.nii",
        "mtt": "sub-stroke0001_ses-01_space-ncct_mtt", "cbv": "cbv",
    }  # fmt: skip
    assert {kind: path.name for kind, path in masks.items()} == {
        "core": "core_mask_rcbf30.nii.gz",
        "infarct": "SMIR.Brain.XX.O.OT.348.nii",
    }


def cases(folder, result, scales):
    for number, scale in enumerate(scales):
        maps = {**result.maps, "tmax": result.maps["tmax"] * np.float32(scale)}
        store(folder / f"case{number}", recompute(replace(result, maps=maps), Thresholds()))
    return folder


def test_two_folders_of_cases_are_paired_by_name_and_summarized(result, tmp_path, capsys):
    cases(tmp_path / "ours", result, (1.0, 0.9, 0.8, 0.55))
    cases(tmp_path / "theirs", result, (0.98, 0.91, 0.82))
    (tmp_path / "theirs" / "case9").mkdir()
    store_maps(tmp_path / "theirs" / "case3" / "maps", result, ["tmax", "cbf"], "{}.nii.gz")
    store(tmp_path / "ours" / "alone", result)
    code = main(["compare", str(tmp_path / "ours"), str(tmp_path / "theirs"), "--out-dir", str(tmp_path / "out"), "--progress", "none"])
    assert code == 0
    document = json.loads((tmp_path / "out" / "comparison.json").read_text())
    summary = document["summary"]
    assert summary["cases"] == 4 and document["unpaired"] == {"a": ["alone"], "b": []} and document["failed"] == []
    hypoperfusion = [case["volumes_ml"]["hypoperfusion"] for case in document["cases"]]
    expected = intraclass_correlation([v["a"] for v in hypoperfusion], [v["b"] for v in hypoperfusion])
    assert summary["volumes_ml"]["hypoperfusion"]["icc"]["icc"] == pytest.approx(expected.icc, abs=1e-5)
    assert summary["volumes_ml"]["hypoperfusion"]["bland_altman"]["cases"] == 4
    assert summary["dice"]["hypoperfusion"]["lowest"] < summary["dice"]["hypoperfusion"]["median"]
    assert summary["profiles"]["defuse3"]["cases"] == 4
    rows = list(csv.reader((tmp_path / "out" / "comparison.csv").open()))
    assert len(rows) == 5 and rows[0][0] == "case" and "dice.core" in rows[0] and len({len(row) for row in rows}) == 1
    assert (tmp_path / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_one_pair_is_compared_on_the_command_line_and_told_in_words(result, tmp_path, capsys):
    a = store(tmp_path / "a", result)
    assert main(["compare", str(a), str(a), "--out_dir", str(tmp_path / "out")]) == 0
    assert "Dice 1.000" in capsys.readouterr().out and not (tmp_path / "out" / "comparison.png").exists()
    assert main(["compare", str(a), str(a), "--out_dir", str(tmp_path / "out")]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["compare", str(a), str(a), "--out_dir", str(tmp_path / "out"), "--overwrite"]) == 0
    assert main(["compare", str(a), str(a), "--out_dir", str(a), "--overwrite"]) == 2
    assert (a / "metrics.json").exists()


def test_a_comparison_that_makes_no_sense_is_refused_with_code_2(result, tmp_path, capsys):
    a = store(tmp_path / "a", result)
    (tmp_path / "empty").mkdir()
    (tmp_path / "many").mkdir()
    store(tmp_path / "many" / "x", result)
    store(tmp_path / "many" / "z", result)
    (tmp_path / "others").mkdir()
    store(tmp_path / "others" / "y", result)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tmax.nii.gz").write_bytes(b"no image")
    for first, second in (("a", "missing"), ("a", "empty"), ("a", "many"), ("many", "others"), ("a", "broken")):
        code = main(["compare", str(tmp_path / first), str(tmp_path / second), "--out_dir", str(tmp_path / "out"), "--progress", "none"])
        told = capsys.readouterr().err.strip()
        assert code == 2 and told.count("\n") == 0 and told.startswith("ctperfusion: "), (first, second, told)
        assert not (tmp_path / "out").exists()
    assert a.exists()
