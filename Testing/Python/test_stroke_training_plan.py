"""A folder of simulated studies goes on with the plan it was begun with, refuses another, and says what is missing."""

import json
from types import SimpleNamespace

import pytest

from CTPerfusionSuiteLib.cli import main
from CTPerfusionSuiteLib.errors import Canceled, DataRefused, RequestRefused
from StrokeSegmentationLib import simulated_cases
from StrokeSegmentationLib.simulated_cases import StudyPlan, write_training_studies
from StrokeSegmentationLib.study_sources import StudySources


class Case:
    """Stands for a simulated study."""

    about = {"anatomy": "built-in", "volumes_ml": {}}


@pytest.fixture
def quick(monkeypatch):
    """Studies are empty files at once; those of the splits in the returned set cannot be used."""
    unusable = set()

    def simulate(drawn, *_):
        if drawn.split in unusable:
            raise DataRefused("No bolus was found.")
        return [Case()] * len(drawn.noise_hu)

    monkeypatch.setattr(simulated_cases, "simulate_cases", simulate)
    monkeypatch.setattr(simulated_cases, "save_case", lambda path, case: path.write_bytes(b""))
    return unusable


PLAN = {"train": StudyPlan({"none": 2}, levels=2)}
TESTED = {**PLAN, "test": StudyPlan({"none": 1})}


def everything(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_plan_lies_beside_the_studies(quick, tmp_path):
    assert write_training_studies(tmp_path / "cases", PLAN, seed=7) == 4
    plan = json.loads((tmp_path / "cases" / "studies.json").read_text())
    assert plan["seed"] == 7 and plan["heads"] == plan["lesions"] == ["built-in"] and plan["splits"]["train"]["heads"] == {"none": 2}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 8}, "another seed"),
        ({"plan": {"train": StudyPlan({"lvo": 2})}}, "--share"),
        ({"slices": 4}, "slices"),
        ({"size": (64, 64)}, "size"),
        ({"sources": "heads"}, "--anatomy"),
        ({"sources": "lesions"}, "--lesions"),
        ({"sources": "test_heads", "plan": {"shifted": StudyPlan({"none": 1})}}, "--test_anatomy"),
    ],
)
def test_a_second_run_that_differs_is_refused_and_changes_nothing(changes, said, quick, tmp_path):
    folder = tmp_path / "cases"
    write_training_studies(folder, TESTED, seed=7)
    before = everything(folder)
    options = {"plan": TESTED, "seed": 7, **changes}
    if "sources" in options:
        options["sources"] = StudySources(**{options["sources"]: (tmp_path / "some.nii.gz",)})
    with pytest.raises(RequestRefused, match=said):
        write_training_studies(folder, **options)
    assert everything(folder) == before


def test_the_same_run_goes_on_and_further_splits_may_be_added(quick, tmp_path):
    write_training_studies(tmp_path, PLAN, seed=7)
    (tmp_path / "train_0001b.npz").unlink()
    assert write_training_studies(tmp_path, PLAN, seed=7) == 2
    assert write_training_studies(tmp_path, {"val": StudyPlan({"none": 1})}, seed=7) == 1
    assert set(json.loads((tmp_path / "studies.json").read_text())["splits"]) == {"train", "val"}
    assert write_training_studies(tmp_path, PLAN, seed=7) == 0


def test_heads_for_testing_count_only_where_studies_are_tested_on(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(simulated_cases, "draw_study", lambda seed, split, *_: SimpleNamespace(split=split, noise_hu=(5.0,), lesion=""))
    some, other = (StudySources(test_heads=(tmp_path / f"{name}.nii.gz",)) for name in ("some", "other"))

    def named():
        return json.loads((tmp_path / "studies.json").read_text())["test_heads"]

    one = StudyPlan({"none": 1})
    write_training_studies(tmp_path, {"train": one}, seed=7)
    old = json.loads((tmp_path / "studies.json").read_text())
    del old["test_heads"]  # as data sets were before
    (tmp_path / "studies.json").write_text(json.dumps(old))
    write_training_studies(tmp_path, {"val": one}, some, seed=7)
    assert named() == []
    assert write_training_studies(tmp_path, {"test": one}, some, seed=7) == 1
    assert named() == ["some.nii.gz"]
    assert write_training_studies(tmp_path, {"train": one, "val": one}, seed=7) == 0
    assert named() == ["some.nii.gz"]
    with pytest.raises(RequestRefused, match="--test_anatomy"):
        write_training_studies(tmp_path, {"shifted": one}, other, seed=7)
    assert named() == ["some.nii.gz"] and write_training_studies(tmp_path, {"shifted": one}, some, seed=7) == 1


@pytest.mark.parametrize(("splits", "code"), [("train,test", 2), ("shifted", 2), ("train,val", 0)])
def test_a_head_that_is_none_is_refused_before_anything_is_simulated(splits, code, quick, tmp_path, capsys):
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "README.txt").write_text("no slices")
    words = ["stroke", "studies", "--out_dir", str(tmp_path / "cases"), "--splits", splits, "--share", "0.01", "--progress", "none"]
    assert main([*words, "--test_anatomy", str(tmp_path / "scan")]) == code
    assert (tmp_path / "cases").exists() == (code == 0) and ("holds no CT slices" in capsys.readouterr().err) == (code == 2)


@pytest.mark.parametrize("option", ["anatomy", "test_anatomy", "lesions"])
def test_heads_and_lesions_are_refused_beside_studies_of_patients(option, tmp_path, capsys):
    words = ["stroke", "studies", "--out_dir", str(tmp_path / "cases"), "--input", str(tmp_path), "--progress", "none"]
    assert main([*words, f"--{option}", str(tmp_path)]) == 2
    assert f"--{option} is for simulated studies and --input for those of patients" in capsys.readouterr().err
    assert not (tmp_path / "cases").exists()


def test_studies_of_unknown_origin_are_not_continued(quick, tmp_path):
    (tmp_path / "patient_1.npz").write_bytes(b"")
    with pytest.raises(RequestRefused, match="without the plan"):
        write_training_studies(tmp_path, PLAN, seed=7)
    assert [path.name for path in tmp_path.iterdir()] == ["patient_1.npz"]


@pytest.mark.parametrize("progress", ["json", "none"])
def test_a_shortage_is_said_also_to_programs(progress, quick, tmp_path, capsys):
    quick.add("val")
    words = ["stroke", "studies", "--out_dir", str(tmp_path / "cases"), "--splits", "train,val", "--share", "0.01", "--progress", progress]
    assert main(words) == 0
    told = capsys.readouterr()
    assert told.err.count("no usable") == 3
    if progress == "json":
        done = json.loads(told.out.splitlines()[-1])
        assert done["written"] == 8 and len(done["missing"]) == 3 and "no usable" in done["missing"][0]
    else:
        assert "8 new studies" in told.out and "3 heads are missing" in told.out


def test_the_command_refuses_another_seed_and_patients_among_simulated_studies(quick, tmp_path, capsys):
    folder = tmp_path / "cases"
    words = ["stroke", "studies", "--out_dir", str(folder), "--splits", "val", "--share", "0.01", "--progress", "none"]
    assert main(words) == 0
    assert main([*words, "--seed", "1"]) == 2
    assert "another seed (0) than this one (1)" in capsys.readouterr().err
    assert main(["stroke", "studies", "--input", str(tmp_path), "--out_dir", str(folder), "--progress", "none"]) == 2
    assert "holds simulated studies" in capsys.readouterr().err


def test_stopping_says_that_the_studies_so_far_are_kept(quick, tmp_path, capsys, monkeypatch):
    plain, calls = simulated_cases.save_case, []

    def stop(path, case):
        calls.append(path)
        if len(calls) == 3:
            raise Canceled("canceled")
        plain(path, case)

    monkeypatch.setattr(simulated_cases, "save_case", stop)
    words = ["stroke", "studies", "--out_dir", str(tmp_path / "cases"), "--splits", "train", "--share", "0.01", "--progress", "none"]
    assert main(words) == 130
    told = capsys.readouterr().err
    assert "nothing was written" not in told and str(tmp_path / "cases") in told and "the same command goes on" in told
