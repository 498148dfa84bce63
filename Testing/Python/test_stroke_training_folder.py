"""The folder of a training run is made only where nothing of anybody else lies, and a run goes on only with the studies it began with."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from toy_strokes import save_toys, toy_case, toy_cases  # noqa: E402

from CTPerfusionSuiteLib.errors import RequestRefused  # noqa: E402
from StrokeSegmentationLib.model_bundle import read_bundle  # noqa: E402
from StrokeSegmentationLib.own_model import bundle_of_run  # noqa: E402
from StrokeSegmentationLib.run_folder import RunFacts, facts_of_run, facts_of_studies, studies_of_run, write_facts  # noqa: E402
from StrokeSegmentationLib.training import train  # noqa: E402
from StrokeSegmentationLib.training_cases import list_cases, load_case, save_case  # noqa: E402
from StrokeSegmentationLib.training_config import TrainingConfig  # noqa: E402

CONFIG = TrainingConfig(width=2, slices=1, threads=1, device="cpu", tensorboard=False, steps=1, validations=1)


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    return save_toys(tmp_path_factory.mktemp("studies"), train=2, val=1)


@pytest.fixture(scope="module")
def finished(studies, tmp_path_factory):
    """A finished run: its folder and result."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, train(CONFIG, list_cases(studies, "train"), list_cases(studies, "val"), folder)


def everything(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("theirs", [["best.pt", "config.json"], ["thesis.txt"], ["studies/notes.txt"], ["run.json"], ["checkpoint.pt"]])
def test_files_of_others_are_left_alone(theirs, tmp_path):
    for name in theirs:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"mine": 1}')
    before = everything(tmp_path)
    with pytest.raises(RequestRefused, match="another folder|new or empty folder"):
        train(CONFIG, toy_cases(1), [], tmp_path)
    assert everything(tmp_path) == before


def test_an_empty_folder_and_one_with_studies_prepared_for_the_run_will_do(studies, tmp_path):
    shutil.copytree(studies, tmp_path / "run" / "studies")
    (tmp_path / "run" / ".DS_Store").write_bytes(b"")
    assert train(CONFIG, list_cases(tmp_path / "run" / "studies", "train"), [], tmp_path / "run").steps == 1


def test_a_file_in_the_place_of_the_folder_or_above_it_is_refused(tmp_path):
    (tmp_path / "run").write_text("mine")
    for folder in (tmp_path / "run", tmp_path / "run" / "deep" / "er"):
        with pytest.raises(RequestRefused, match="is a file"):
            train(CONFIG, toy_cases(1), [], folder)
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize("wrong", [{"kind": "5d"}, {"slices": 2}])
def test_a_network_that_cannot_be_built_leaves_no_folder(wrong, tmp_path):
    with pytest.raises(RequestRefused, match="network"):
        train(replace(CONFIG, **wrong), toy_cases(1), [], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_damaged_study_is_found_before_hours_of_training(studies, tmp_path):
    shutil.copytree(studies, tmp_path / "studies")
    last = tmp_path / "studies" / "val_0.npz"
    content = bytearray(last.read_bytes())
    content[len(content) // 3] ^= 255
    last.write_bytes(content)
    with pytest.raises(RequestRefused, match="val_0.npz"):
        train(CONFIG, list_cases(studies, "train"), [last], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_says_what_it_learns_from_and_on(finished):
    folder, result = finished
    said = json.loads((folder / "run.json").read_text())
    assert said["train"] == ["train_0", "train_1"] and said["val"] == ["val_0"]
    assert said["device"] == "CPU" and said["torch"] == torch.__version__ and len(said["digest"]) == 64
    assert result.facts == facts_of_run(folder)


def test_a_run_goes_on_with_its_own_studies_only(studies, finished, tmp_path):
    folder, _ = finished
    before = everything(folder)
    learned, chosen = list_cases(studies, "train"), list_cases(studies, "val")
    shutil.copytree(studies, tmp_path / "same-names")
    another = load_case(learned[1])
    another.label[0, 10, 10] ^= 1
    save_case(tmp_path / "same-names" / "train_1.npz", another)
    for some, others in ((learned[:1], chosen), (learned, []), (list_cases(tmp_path / "same-names", "train"), chosen)):
        with pytest.raises(RequestRefused, match="other studies"):
            train(CONFIG, some, others, folder)
    assert everything(folder) == before
    assert train(CONFIG, learned[::-1], chosen, folder).steps == 1


def test_what_networks_are_not_given_may_change_and_the_rest_may_not(tmp_path):
    case = toy_case(1)
    with_baseline = replace(case, baselines={"maps": case.label})
    changed = replace(case, maps=case.maps + np.float16(1))
    digests = []
    for number, one in enumerate((case, with_baseline, changed)):
        (tmp_path / str(number)).mkdir()
        save_case(tmp_path / str(number) / "train_0.npz", one)
        digests.append(facts_of_studies([tmp_path / str(number) / "train_0.npz"], []).digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_run_described_by_hand_is_compared_by_its_names(tmp_path):
    (tmp_path / "run.json").write_text('{"train": ["b", "a"], "val": ["c"], "digest": "", "device": "CPU"}')
    facts = facts_of_run(tmp_path)
    assert facts == RunFacts(("a", "b"), ("c",), device="CPU")
    assert facts.same_studies(RunFacts(("a", "b"), ("c",), "0123")) and not facts.same_studies(RunFacts(("a",), ("c",), "0123"))
    write_facts(tmp_path, facts.also_on("H100"))
    assert facts_of_run(tmp_path).device == "CPU, H100" == facts_of_run(tmp_path).also_on("CPU").device


def test_the_model_describes_the_studies_of_its_run_whatever_has_come_since(studies, finished, tmp_path):
    folder, result = finished
    shutil.copytree(studies, tmp_path / "grown")
    late = load_case(tmp_path / "grown" / "train_0.npz")
    save_case(tmp_path / "grown" / "train_9.npz", replace(late, about={**late.about, "noise_hu": 99.0, "measured_noise_hu": 99.0}))
    model = read_bundle(bundle_of_run(tmp_path / "mine", CONFIG, result, tmp_path / "grown"))
    said = model.description
    assert said["training"]["studies"] == 2 and said["training"]["validation_studies"] == 1 and said["training"]["device"] == "CPU"
    assert said["training_range"]["noise_hu"] == [8.0, 9.0] and model.card.count("\n2 studies: ") == 1
    assert "had the lowest loss on 1 validation study." in model.card
    (tmp_path / "grown" / "train_1.npz").unlink()
    with pytest.raises(RequestRefused, match="train_1"):
        studies_of_run(result.facts, tmp_path / "grown")


def test_the_builder_of_the_shipped_model_reads_what_a_run_says_of_itself(finished):
    builder = pytest.importorskip("build_stroke_model")
    folder, result = finished
    write_facts(folder, replace(result.facts, device="an abacus"))
    found = builder.trained_network(folder)
    assert found.device == "an abacus" and found.facts.train == ("train_0", "train_1") and found.steps == 1
    write_facts(folder, result.facts)
