"""Simulated studies to train and test on: what is drawn, what is labeled, what is never trained on, and what lies on disk."""

from dataclasses import replace

import numpy as np
import pytest
import template_heads
from template_heads import write_template_heads

from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused
from CTPerfusionSuiteLib.nifti import write_volume
from CTPerfusionSuiteLib.phantoms.brain import simulate_brain
from CTPerfusionSuiteLib.phantoms.head_anatomy import INTRACRANIAL, Tissue
from CTPerfusionSuiteLib.phantoms.label_map_anatomy import read_head
from CTPerfusionSuiteLib.volumes import Geometry, Volume
from StrokeSegmentationLib.simulated_cases import STANDARD_PLAN, StudyPlan, noisy, simulate_cases, write_training_studies
from StrokeSegmentationLib.study_sources import StudySources, head_split, lesion_name, lesion_volume_ml, split_of_name
from StrokeSegmentationLib.training_cases import SPLITS, about_case, flipped, list_cases, load_case, save_case
from StrokeSegmentationLib.training_range import measured_range
from StrokeSegmentationLib.training_studies import NOISE_KERNELS, RESIDUES, LaggedNormalBolus, draw_study, group_of

SMALL = {"size": (64, 64), "slices": 5}


def lying_still(drawn):
    """The same study without motion and on a coarse anatomy, quick to simulate."""
    quick = {"fine_mm": 2.0, "fov_mm": 190.0, "size": SMALL["size"], "bottom_mm": None, "slice_mm": 8.0}
    return replace(drawn, options=replace(drawn.options, motion=None, **quick))


@pytest.fixture(scope="module")
def stroke_case():
    drawn = next(
        drawn for drawn in (lying_still(draw_study([3, n], "train", "lvo", noise_hu=(4.0,), **SMALL)) for n in range(20))
        if drawn.options.residue == "exponential" and not drawn.options.carotid_stenosis and drawn.options.collaterals != "good"
    )
    return simulate_cases(drawn, all_filters=True)[0]


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    plan = {"train": StudyPlan({"lvo": 1}, {"lvo": (4.0, 12.0)}), "shifted": StudyPlan({"none": 1}, {"none": (5.0,)})}
    lines: list[str] = []
    assert write_training_studies(folder, plan, seed=1, say=lines.append, **SMALL) == 3
    return folder, plan


def test_no_lesion_is_in_two_splits_and_growing_the_folder_moves_none():
    names = [f"sub-{n}_lesion" for n in range(2000)]
    splits = [split_of_name(name) for name in names]
    assert 0.17 < splits.count("test") / 2000 < 0.23 and 0.05 < splits.count("val") / 2000 < 0.11
    assert [split_of_name(name) for name in names[::-1]] == splits[::-1]


def test_of_eight_heads_two_are_kept_for_the_test_and_one_for_validation():
    assert [head_split(n, 8) for n in range(8)] == ["train"] * 5 + ["val"] + ["test"] * 2
    assert [head_split(n, 3) for n in range(3)] == ["train", "val", "test"]
    assert head_split(0, 1) == "train"


def test_an_atlas_among_the_lesions_is_not_taken_for_one(shared_data):
    folder = shared_data / "arterial_territories_and_stroke_lesions"
    sources = StudySources.of(shared_data / "brain_label_maps_synthseg", folder)
    assert len(sources.lesions) > 1000
    assert lesion_volume_ml(folder / "ArterialAtlas136.nii.gz") is None
    assert lesion_volume_ml(folder / "lesion_mean_1449.nii.gz") is None
    assert lesion_volume_ml(folder / "bwsrsub-1004_lesion.nii.gz") > 0.4
    train, test = ({lesion_name(path) for path in sources.lesions_of(split)} for split in ("train", "test"))
    assert not train & test and not set(sources.heads_of("train")) & set(sources.heads_of("test"))
    drawn = [draw_study([1, n], split, group, sources) for n in range(6) for split in ("test", "shifted") for group in ("lvo", "non-lvo")]
    assert {study.lesion for study in drawn} <= test and len({study.lesion for study in drawn}) > 12
    assert {study.anatomy for study in drawn} == {lesion_name(path) for path in sources.heads_of("test")}


def test_further_heads_are_tested_on_and_never_trained_on(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{name}.nii.gz").touch()
    for name in ("templates/t.nii", "ct/1.dcm", "ct/2.dcm", "single.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    further = [tmp_path / name for name in ("templates", "ct", "single.nii.gz")]
    sources = StudySources.of(tmp_path / "labels", None, further)
    assert [path.name for path in sources.heads_of("test")] == ["c.nii.gz", "t.nii", "ct", "single.nii.gz"]
    assert sources.heads_of("shifted") == sources.heads_of("test")
    assert [path.name for split in ("train", "val") for path in sources.heads_of(split)] == ["a.nii.gz", "b.nii.gz"]
    with pytest.raises(RequestRefused, match="'a' is given both"):
        StudySources.of(tmp_path / "labels", None, [tmp_path / "labels" / "a.nii.gz"])
    (tmp_path / "empty" / "series").mkdir(parents=True)
    with pytest.raises(RequestRefused, match="holds no head"):
        StudySources.of(None, None, [tmp_path / "empty"])
    (tmp_path / "empty" / "series" / "1.dcm").touch()
    assert StudySources.of(None, None, [tmp_path / "empty"]).test_heads == (tmp_path / "empty",)


@pytest.mark.parametrize("given", [("x/ct", "y/ct"), ("x/ct", "x/ct"), ("x/ct", "ct.nii.gz")])
def test_two_heads_for_testing_of_one_name_are_refused_by_name(given, tmp_path):
    for name in ("x/ct/1.dcm", "y/ct/1.dcm", "ct.nii.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(RequestRefused, match="called 'ct'"):
        StudySources.of(None, None, [tmp_path / name for name in given])


def test_what_is_no_head_is_named_before_the_simulation(tmp_path):
    brain = np.zeros((20, 24, 20), np.int16)
    brain[4:16, 4:20, 4:10], brain[4:16, 4:20, 10:16] = 42, 3
    place = Geometry((20, 24, 20), (8.0, 8.0, 8.0), (-76.0, -92.0, -76.0))
    write_volume(tmp_path / "whole.nii.gz", Volume(brain, place))
    StudySources.of(None, None, [tmp_path / "whole.nii.gz"]).check_test_heads()
    write_volume(tmp_path / "left.nii.gz", Volume(np.where(brain == 3, 3, 0).astype(np.int16), place))
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "README.txt").write_text("no slices")
    (tmp_path / "notes.txt").write_text("no head")
    for name, refusal in (("left.nii.gz", DataRefused), ("scan", RequestRefused), ("notes.txt", RequestRefused)):
        sources = StudySources.of(None, None, [tmp_path / "whole.nii.gz", tmp_path / name])
        with pytest.raises(refusal, match=name):
            sources.check_test_heads()


def test_heads_made_of_templates_have_two_hemispheres_and_ventricles(shared_data, tmp_path):
    for path in write_template_heads(shared_data, tmp_path):
        head = read_head(path, 0)
        x, y, z = (axis.ravel() for axis in np.meshgrid(np.arange(-60, 61, 4), np.arange(-60, 91, 4), [25.0], indexing="ij"))
        tissue = head.tissue[tuple(np.rint(index).astype(int) for index in head.indices(x, y, z))]
        counts = [np.count_nonzero((tissue == kind) & side) for kind in (Tissue.GRAY, Tissue.WHITE) for side in (x > 0, x < 0)]
        assert min(counts) > 40 and max(counts[:2]) < 1.3 * min(counts[:2]) and max(counts[2:]) < 1.3 * min(counts[2:]), counts
        middle = np.abs(x) < 20
        assert np.count_nonzero((tissue == Tissue.CSF) & middle & (np.abs(y - 10) < 30)) >= 4, "no ventricles"
        assert 1300 < np.isin(head.tissue, [int(kind) for kind in INTRACRANIAL]).sum() * head.geometry.voxel_volume_ml < 2200


def test_a_missing_map_of_a_template_is_named_before_anything_is_written(tmp_path, monkeypatch, capsys):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "scgrey.nii").touch()
    with pytest.raises(FileNotFoundError, match=r"'scwhite\.nii' is not in"):
        write_template_heads(tmp_path / "maps", tmp_path / "out")
    monkeypatch.setattr("sys.argv", ["template_heads.py", str(tmp_path / "maps"), str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        template_heads.main()
    assert "'scwhite.nii' is not in" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(RequestRefused, match="holds no image"):
        StudySources.of(tmp_path, None)


def test_everything_that_differs_between_patients_and_scanners_is_drawn():
    drawn = [draw_study([8, n], "train", ("lvo", "non-lvo", "none")[n % 3]) for n in range(150)]
    noise = np.array([study.noise_hu[0] for study in drawn])
    assert 3.0 <= noise.min() < 4.0 and 15.0 < noise.max() <= 22.0
    assert abs(np.mean(np.log(noise)) - np.log(np.sqrt(66.0))) < 0.15
    options = [study.options for study in drawn]
    pixels, fields = np.array([o.fov_mm / max(o.size) for o in options]), np.array([o.fov_mm for o in options])
    assert 1.4 < pixels.min() < 1.7 and 2.7 < pixels.max() < 3.2 and fields.min() > 170 and fields.max() < 250
    thickness, covered = np.array([o.slice_mm for o in options]), np.array([o.slice_mm * o.slices for o in options])
    assert 3.5 <= thickness.min() < 4.0 and 9.0 < thickness.max() <= 10.0 and covered.min() > 35
    steps = [float(np.median(np.diff(o.slice_times[:, 0]))) for o in options]
    assert min(steps) < 1.0 and max(steps) > 2.4
    for o in options:
        times = o.slice_times
        kept = len(times) if o.truncate_s is None else np.count_nonzero(times.max(axis=1) <= o.truncate_s + 1e-9)
        assert 20 <= kept <= 60
        assert np.diff(times, axis=0).min() > 0.1
    traits = {trait.split(":")[0] for study in drawn for trait in study.traits}
    assert traits >= {"motion", "shuttle", "truncated", "two-rate protocol", "carotid stenosis", "leukoaraiosis", "chronic infarct"}
    assert {o.side for o in options} == {"left", "right"} and {o.collaterals for o in options} == {"good", "moderate", "poor"}
    assert min(o.aif_peak_hu for o in options) < 40 and max(o.aif_peak_hu for o in options) > 200
    assert {o.occlusion for o, study in zip(options, drawn, strict=True) if study.wanted == "none"} == {"none"}
    assert {o.occlusion for o, study in zip(options, drawn, strict=True) if study.wanted == "non-lvo"} == {"M2", "ACA", "PCA"}


def test_the_same_seed_is_the_same_study():
    first, again = (draw_study([5, 6], "train", "lvo") for _ in range(2))
    assert first.noise_hu == again.noise_hu and first.options.seed == again.options.seed and first.traits == again.traits


def test_the_shifted_simulator_has_nothing_of_the_one_that_is_trained_on():
    for n in range(30):
        shifted = draw_study([2, n], "shifted", "lvo")
        assert shifted.options.residue in RESIDUES["shifted"] and shifted.noise_kernel in NOISE_KERNELS["shifted"]
        assert isinstance(shifted.options.bolus, LaggedNormalBolus)
        trained = draw_study([2, n], "train", "lvo")
        assert trained.options.residue in RESIDUES["training"] and trained.noise_kernel in NOISE_KERNELS["standard"]
        assert not isinstance(trained.options.bolus, LaggedNormalBolus)
    assert not set(RESIDUES["training"]) & set(RESIDUES["shifted"]) and set(RESIDUES["standard"]) <= set(RESIDUES["training"])


def test_the_shifted_artery_rises_once_and_keeps_a_plateau():
    bolus = LaggedNormalBolus(center=20.0, width=4.0, lag=3.0, peak=250.0, plateau=0.2)
    times = np.arange(0.0, 90.0, 0.1)
    curve = bolus(times)
    assert curve.max() == pytest.approx(250.0, rel=1e-3) and curve[0] < 1.0
    top = int(np.argmax(curve))
    assert np.all(np.diff(curve[:top]) >= -1e-6) and np.all(np.diff(curve[top:]) <= 1e-6)
    assert 0.15 * 250.0 < curve[-1] < 0.2 * 250.0


def test_a_large_deficit_of_the_middle_cerebral_artery_is_a_large_vessel():
    assert group_of("M1", 80.0) == "lvo" and group_of("ICA-T", 200.0) == "lvo"
    assert group_of("M1", 12.0) == "non-lvo" and group_of("PCA", 80.0) == "non-lvo" and group_of("none", 0.0) == "none"


def test_the_plan_tests_on_enough_studies():
    lvo = STANDARD_PLAN["test"].heads["lvo"] * len(STANDARD_PLAN["test"].noise_hu["lvo"])
    others = sum(STANDARD_PLAN["test"].heads[group] * len(STANDARD_PLAN["test"].noise_hu[group]) for group in ("non-lvo", "none"))
    assert lvo >= 24 and lvo + others >= 40


def test_the_label_is_the_thresholded_truth_and_the_baseline_comes_close(stroke_case):
    about = stroke_case.about
    found = {name: np.count_nonzero(stroke_case.label == kind) * stroke_case.voxel_ml for name, kind in (("penumbra", 1), ("core", 2))}
    for name, volume in found.items():
        assert volume == pytest.approx(about["volumes_ml"][name], abs=0.02)
    assert found["core"] > 1.0
    assert set(stroke_case.baselines) == {"maps", "maps, 3.5 mm", "maps, 6.5 mm", "maps, 8 mm"}
    for label in stroke_case.baselines.values():
        assert not label[stroke_case.tissue == 0].any()
        both = np.count_nonzero((label > 0) & (stroke_case.label > 0))
        assert 2.0 * both / (np.count_nonzero(label) + np.count_nonzero(stroke_case.label)) > 0.6


def test_the_label_does_not_depend_on_the_noise(small_set):
    folder, _ = small_set
    quiet, loud = (load_case(folder / f"train_0000{letter}.npz") for letter in "ab")
    np.testing.assert_array_equal(quiet.label, loud.label)
    assert quiet.about["noise_hu"] == 4.0 and loud.about["noise_hu"] == 12.0 and quiet.about["head"] == loud.about["head"]
    assert loud.about["measured_noise_hu"] > 2.0 * quiet.about["measured_noise_hu"]


def test_a_study_without_stroke_has_an_empty_label(small_set):
    folder, _ = small_set
    study = load_case(list_cases(folder, "shifted", "none")[0])
    assert not study.label.any() and study.about["lesion"] == "" and study.about["side"] is None


def test_an_interrupted_data_set_is_continued(small_set):
    folder, plan = small_set
    kept, lost = folder / "shifted_0000a.npz", folder / "train_0000b.npz"
    before, expected = kept.stat().st_mtime_ns, load_case(lost)
    lost.unlink()
    assert write_training_studies(folder, plan, seed=1, **SMALL) == 2
    assert kept.stat().st_mtime_ns == before
    np.testing.assert_array_equal(load_case(lost).curves, expected.curves)


def test_studies_are_listed_by_split_and_group(small_set):
    folder, _ = small_set
    assert len(list_cases(folder)) == 3 and len(list_cases(folder, "train")) == 2
    assert about_case(list_cases(folder, "train")[0])["group"] == "lvo"
    with pytest.raises(RequestRefused, match="holds no prepared test study"):
        list_cases(folder, "test")
    with pytest.raises(RequestRefused, match="does not exist"):
        list_cases(folder / "elsewhere")
    assert set(STANDARD_PLAN) == set(SPLITS)


def test_the_range_of_the_training_is_measured_on_its_cases(small_set):
    known = measured_range(list_cases(small_set[0], "train"))
    assert known["noise_hu"][0] == pytest.approx(4.0, rel=0.3) and known["noise_hu"][1] == pytest.approx(12.0, rel=0.3)
    assert known["slice_mm"][0] >= 5.0 and 0.7 < known["step_s"][0] < 3.2 and known["covered_s"][1] > 14.0


def test_a_case_comes_back_from_disk_as_it_was(stroke_case, tmp_path):
    save_case(tmp_path / "case.npz", stroke_case)
    again = load_case(tmp_path / "case.npz")
    for name in ("curves", "valid", "reference", "maps", "label", "hemisphere"):
        np.testing.assert_array_equal(getattr(again, name), getattr(stroke_case, name))
    assert list(again.baselines) == list(stroke_case.baselines) and again.about == stroke_case.about
    assert all((again.baselines[name] == label).all() for name, label in stroke_case.baselines.items())
    assert [path.name for path in tmp_path.iterdir()] == ["case.npz"]


def test_what_is_no_study_is_refused(tmp_path):
    (tmp_path / "text.npz").write_text("no study")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.savez(tmp_path / "objects.npz", about=np.array({"a": 1}, dtype=object))
    for path in sorted(tmp_path.glob("*.npz")):
        with pytest.raises(RequestRefused, match="is no prepared study"):
            load_case(path)


def test_a_mirrored_case_has_its_stroke_on_the_other_side(stroke_case):
    mirrored = flipped(stroke_case)
    assert {stroke_case.about["side"], mirrored.about["side"]} == {"left", "right"}
    for study in (stroke_case, mirrored):
        side = {"left": 1, "right": 2}[study.about["side"]]
        inside = study.hemisphere[study.label > 0]
        assert np.mean(inside[inside > 0] == side) > 0.9
    np.testing.assert_array_equal(mirrored.curves[..., ::-1], stroke_case.curves)
    np.testing.assert_array_equal(mirrored.maps[..., 3], stroke_case.maps[..., -4])
    again = flipped(mirrored)
    np.testing.assert_array_equal(again.hemisphere, stroke_case.hemisphere)
    assert again.about == stroke_case.about


def test_a_delay_that_looks_like_a_stroke_is_no_stroke_free_study():
    drawn = lying_still(draw_study(4, "train", "none", noise_hu=(4.0,), **SMALL))
    late = replace(drawn, options=replace(drawn.options, carotid_stenosis="left", stenosis_delay_s=9.0))
    with pytest.raises(DataRefused, match="free of stroke"):
        simulate_cases(late)


def test_noise_is_added_as_strong_as_it_is_said():
    study = simulate_brain(lying_still(draw_study(4, "train", "none", noise_hu=(4.0,), **SMALL)).options)
    loud = noisy(study.series, 12.0, "soft", np.random.default_rng(0))
    difference = loud.values.astype(float) - study.series.values
    inside = study.mask("tissue")
    assert difference[:, inside].std() == pytest.approx(12.0, rel=0.05) and loud.values.dtype == np.int16
