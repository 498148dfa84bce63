"""A training can be stopped at any moment without loss, says where it is kept, and an end is an end."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from toy_strokes import save_toys, toy_cases  # noqa: E402

from CTPerfusionSuiteLib.cli import main  # noqa: E402
from CTPerfusionSuiteLib.errors import Canceled  # noqa: E402
from StrokeSegmentationLib import interruption, learner  # noqa: E402
from StrokeSegmentationLib.checkpoints import load_state  # noqa: E402
from StrokeSegmentationLib.interruption import stopping_between_steps  # noqa: E402
from StrokeSegmentationLib.run_folder import CHECKPOINT  # noqa: E402
from StrokeSegmentationLib.training import train  # noqa: E402
from StrokeSegmentationLib.training_config import TrainingConfig  # noqa: E402

TINY = {"width": 2, "slices": 1, "threads": 1, "device": "cpu", "tensorboard": False}
CONFIG = TrainingConfig(steps=4, validations=2, **TINY)


def state_of(folder):
    return json.loads(load_state(folder / CHECKPOINT, "it")["run"])


def ends_alike(one, other):
    weights, others = one.network.state_dict(), other.network.state_dict()
    rows = [[{name: row[name] for name in row if name != "minutes"} for row in result.history] for result in (one, other)]
    return all(torch.equal(value, others[name]) for name, value in weights.items()) and rows[0] == rows[1]


@pytest.fixture
def interrupt(monkeypatch):
    """Makes Ctrl-C or a scheduler's wish arrive in the middle of the n-th step from now."""

    def arrange(step, number=signal.SIGINT):
        plain, calls = learner.order_of_studies, []

        def order(*values):
            calls.append(1)
            if len(calls) == step:
                signal.raise_signal(number)
            return plain(*values)

        monkeypatch.setattr(learner, "order_of_studies", order)

    return arrange


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_within_a_step_waits_for_its_end_and_nothing_is_lost(number, interrupt, tmp_path):
    studies, validation = toy_cases(3), toy_cases(1, first=50)
    straight = train(CONFIG, studies, validation, tmp_path / "straight")
    before = signal.getsignal(number)
    interrupt(3, number)
    with pytest.raises(Canceled, match="kept up to step 3 in .*start it again") as said:
        train(CONFIG, studies, validation, tmp_path / "run")
    assert str(tmp_path / "run") in str(said.value) and signal.getsignal(number) is before
    assert state_of(tmp_path / "run")["step"] == 3
    assert ends_alike(straight, train(CONFIG, studies, validation, tmp_path / "run"))


def test_who_insists_does_not_wait_for_the_end_of_a_step(monkeypatch):
    monkeypatch.setattr(interruption, "INSISTENT_S", -1.0)
    with pytest.raises(KeyboardInterrupt), stopping_between_steps():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_a_validation_can_be_stopped_and_is_made_up_for(tmp_path):
    studies, validation = toy_cases(2), toy_cases(3, first=50)
    config = TrainingConfig(steps=2, validations=2, **TINY)
    straight = train(config, studies, validation, tmp_path / "straight")
    fractions = []

    def stop_in_validation(fraction):
        fractions.append(fraction)
        if fractions.count(0.5) == 2:
            raise Canceled("stopped")

    with pytest.raises(Canceled, match="step 1"):
        train(config, studies, validation, tmp_path / "run", stop_in_validation)
    state = state_of(tmp_path / "run")
    assert state["step"] == 1 and state["validated"] == 0 and state["history"] == [], "stopped between two validation studies"
    assert ends_alike(straight, train(config, studies, validation, tmp_path / "run"))


def test_a_run_that_ended_early_is_not_trained_on_though_steps_are_left(tmp_path):
    config = TrainingConfig(steps=30, validations=30, patience=1, learning_rate=1e-12, **TINY)
    first = train(config, toy_cases(1), toy_cases(1, first=50), tmp_path)
    fractions = []
    again = train(config, toy_cases(1), toy_cases(1, first=50), tmp_path, fractions.append)
    assert first.steps < 30 and ends_alike(first, again) and again.steps == first.steps and again.stopped == first.stopped
    assert set(fractions) == {0.0, 1.0}, "studies are checked, nothing is trained"


def test_ctrl_c_ends_the_command_with_the_truth_and_the_same_command_goes_on(interrupt, tmp_path, capsys):
    data = save_toys(tmp_path / "studies", train=2)
    (tmp_path / "config.json").write_text(json.dumps({**TINY, "steps": 3}))
    words = ["stroke", "train", "--data", data, "--out_dir", tmp_path / "run", "--config", tmp_path / "config.json", "--progress", "none"]
    interrupt(2)
    assert main([*map(str, words)]) == 130
    told = capsys.readouterr().err.strip()
    assert "step 2" in told and str(tmp_path / "run") in told and "nothing was written" not in told and "\n" not in told
    assert main([*map(str, words)]) == 0
    assert state_of(tmp_path / "run")["step"] == 3 and np.isfinite(state_of(tmp_path / "run")["seconds"])


def test_a_parent_that_closes_the_line_ends_the_training_in_time(tmp_path):
    data = save_toys(tmp_path / "studies", train=2, val=1)
    (tmp_path / "config.json").write_text(json.dumps({**TINY, "steps": 100_000, "validations": 100_000}))
    words = ["stroke", "train", "--data", data, "--out_dir", tmp_path / "run", "--config", tmp_path / "config.json", "--progress", "json"]
    child = subprocess.Popen(
        [sys.executable, "-m", "CTPerfusionSuiteLib.cli", *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )
    try:
        assert json.loads(child.stdout.readline())["step"] == "train"
        while not (tmp_path / "run" / "history.csv").exists():
            assert child.poll() is None
        child.stdin.close()
        child.wait(timeout=10)
        assert child.returncode == 130 and state_of(tmp_path / "run")["step"] > 0
        events = [json.loads(line) for line in child.stdout]
        assert events[-1]["event"] == "refused" and events[-1]["exit_code"] == 130 and "start it again" in events[-1]["message"]
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()
