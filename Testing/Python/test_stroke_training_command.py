"""`ctperfusion stroke train` says what it did in JSON and words that hold, and refuses in one sentence before it writes."""

import json

import pytest

torch = pytest.importorskip("torch")

from toy_strokes import save_toys, toy_cases  # noqa: E402

from CTPerfusionSuiteLib.cli import main  # noqa: E402
from CTPerfusionSuiteLib.models import read_model  # noqa: E402
from StrokeSegmentationLib.networks import build_network, parameter_count  # noqa: E402
from StrokeSegmentationLib.training import train  # noqa: E402
from StrokeSegmentationLib.training_config import TrainingConfig  # noqa: E402

TINY = {"width": 2, "slices": 1, "threads": 1, "device": "cpu", "tensorboard": False, "steps": 1, "validations": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Studies to learn from and none to choose by."""
    return save_toys(tmp_path_factory.mktemp("studies"), train=1)


@pytest.fixture
def command(data, tmp_path):
    """Runs `stroke train` into `tmp_path`/run; its exit code."""
    (tmp_path / "config.json").write_text(json.dumps(TINY))

    def run(*words, config=tmp_path / "config.json", progress="none", out=tmp_path / "run", studies=data):
        given = ["--data", studies, "--out_dir", out, "--config", config, "--progress", progress, *words]
        return main(["stroke", "train", *map(str, given)])

    return run


def one_sentence(capsys):
    told = capsys.readouterr().err.strip()
    assert told.startswith("ctperfusion: ") and "\n" not in told and "internal error" not in told
    return told


def test_without_validation_studies_nothing_is_claimed_of_them(command, tmp_path, capsys):
    assert command(progress="json") == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1], parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert done["event"] == "done" and done["score"] is None and done["steps"] == 1
    assert done["parameters"] == parameter_count(build_network("4d", 2, 1))
    assert command(progress="bar") == 0
    told = capsys.readouterr()
    assert "nan" not in told.out + told.err and "no validation studies" in told.out and f"{done['parameters']:,} parameters" in told.out
    card = read_model(tmp_path / "run" / "model" / "my-stroke-model").card
    assert "validation studies, so the weights are the average at the end" in card and "lowest loss" not in card and "nan" not in card


def test_the_card_reads_as_it_is_meant(command, tmp_path):
    assert command() == 0
    card = read_model(tmp_path / "run" / "model" / "my-stroke-model").card
    claims = card.split("## What must not be claimed\n")[1]
    assert claims.startswith("No claim about patients can be made: ") and "Nothing about patients" not in card


def test_the_size_of_the_network_is_said_when_training_begins(command, capsys):
    assert command(progress="bar") == 0
    size = parameter_count(build_network("4d", 2, 1))
    assert f"4d: {size:,} parameters; studies: 1 to learn from, 0 to choose by" in capsys.readouterr().err


def test_validation_studies_without_a_lesion_have_a_loss_and_no_dice(tmp_path):
    healthy = [case for case in toy_cases(5, first=50) if not case.label.any()]
    result = train(TrainingConfig(**{**TINY, "steps": 2, "validations": 2}), toy_cases(1), healthy, tmp_path)
    assert healthy and result.score != result.score and result.history[0]["validation_loss"] > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--name", "../escape"], "plain name"),
        (["--name", "my model"], "plain name"),
        (["--network", "5d"], "5d"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(words, said, command, tmp_path, capsys):
    assert command(*words) == 2
    assert said in one_sentence(capsys) and not (tmp_path / "run").exists()


def test_a_negative_seed_is_refused_by_name(command, tmp_path, capsys):
    (tmp_path / "other.json").write_text('{"seed": -1}')
    assert command(config=tmp_path / "other.json") == 2
    assert "'seed'" in one_sentence(capsys) and not (tmp_path / "run").exists()


def test_a_file_in_the_place_of_the_folder_is_refused(command, tmp_path, capsys):
    (tmp_path / "run").write_text("mine")
    assert command() == 2
    assert "is a file" in one_sentence(capsys) and (tmp_path / "run").read_text() == "mine"


def test_a_configuration_kept_in_the_folder_of_the_run_is_not_rewritten(command, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(TINY))
    assert command(config=tmp_path / "run" / "config.json") == 2
    assert "config.json" in one_sentence(capsys)
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == TINY and len(list((tmp_path / "run").iterdir())) == 1


@pytest.mark.parametrize("place", [0.02, 0.5, 0.97])
def test_a_damaged_study_is_refused_and_nothing_left_behind(place, command, tmp_path, capsys):
    studies = save_toys(tmp_path / "studies", train=2)
    content = bytearray((studies / "train_1.npz").read_bytes())
    start = int(place * len(content))
    content[start : start + 40] = b"\xff" * 40
    (studies / "train_1.npz").write_bytes(content)
    assert command(studies=studies) == 2
    assert "train_1.npz" in one_sentence(capsys) and not (tmp_path / "run").exists()


def test_studies_of_patients_that_cannot_be_used_leave_no_folder(command, tmp_path, capsys):
    (tmp_path / "patients").mkdir()
    assert command(studies=tmp_path / "patients") == 2
    assert "no perfusion series" in one_sentence(capsys) and not (tmp_path / "run").exists()
