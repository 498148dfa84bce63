"""What is kept of a training, checked by hand: the moving average, what it is worth, and the precision of what it rests on."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from toy_strokes import toy_cases  # noqa: E402

from CTPerfusionSuiteLib.errors import Canceled  # noqa: E402
from StrokeSegmentationLib.checkpoints import load_state  # noqa: E402
from StrokeSegmentationLib.curve_summaries import residue_operator, side_means  # noqa: E402
from StrokeSegmentationLib.learner import follow, learner_of  # noqa: E402
from StrokeSegmentationLib.losses import segmentation_loss  # noqa: E402
from StrokeSegmentationLib.run_folder import BEST, CHECKPOINT  # noqa: E402
from StrokeSegmentationLib.training import train  # noqa: E402
from StrokeSegmentationLib.training_batches import StudyStore  # noqa: E402
from StrokeSegmentationLib.training_config import TrainingConfig  # noqa: E402

TINY = {"width": 2, "slices": 1, "threads": 1, "device": "cpu", "tensorboard": False}


def close(one, other):
    return one.keys() == other.keys() and all(torch.allclose(value, other[name], rtol=1e-5, atol=1e-7) for name, value in one.items())


def mixture(decay, old, new):
    return {name: decay * value + (1 - decay) * new[name] for name, value in old.items()}


def test_the_average_moves_by_the_share_that_is_not_kept():
    average, network = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    for module, value in ((average, 2.0), (network, 10.0)):
        torch.nn.init.constant_(module.weight, value)
        torch.nn.init.constant_(module.bias, -value)
    follow(average, network, 0.75)
    assert average.weight.item() == pytest.approx(4.0) and average.bias.item() == pytest.approx(-4.0)
    assert network.weight.item() == 10.0


def test_every_step_moves_the_average_briskly_at_first_and_then_as_it_is_told(tmp_path):
    config = TrainingConfig(steps=3, validations=1, ema=0.2, learning_rate=0.05, **TINY)
    fresh = learner_of(config, toy_cases(2), [], torch.device("cpu"))
    average = {name: value.clone() for name, value in fresh.average.state_dict().items()}
    assert close(average, fresh.network.state_dict())
    for step, decay in ((1, 2 / 11), (2, 0.2), (3, 0.2)):  # (1 + step) / (10 + step) is 2/11, then 1/4 and more

        def stop(fraction, step=step):
            if fraction > (step - 0.5) / 3:
                raise Canceled("stopped")

        if step < 3:
            with pytest.raises(Canceled):
                train(config, toy_cases(2), [], tmp_path, stop)
        else:
            train(config, toy_cases(2), [], tmp_path)
        state = load_state(tmp_path / CHECKPOINT, "it")
        assert json.loads(state["run"])["step"] == step
        average = mixture(decay, average, state["network"])
        assert close(state["average"], average) and not close(state["average"], state["network"]), step


def test_the_kept_weights_are_the_average_and_not_the_network(tmp_path):
    result = train(TrainingConfig(steps=3, validations=1, learning_rate=0.05, **TINY), toy_cases(2), toy_cases(1, first=50), tmp_path)
    state, best = load_state(tmp_path / CHECKPOINT, "it"), load_state(tmp_path / BEST, "it")
    assert close(best, state["average"]) and not close(best, state["network"])
    assert close(result.network.state_dict(), state["average"])


def test_a_worse_average_does_not_replace_a_better_one(tmp_path):
    """Worse is a higher validation loss, whatever the Dice of the likeliest class is."""
    config = TrainingConfig(steps=12, validations=12, learning_rate=1.0, ema=0.0, **TINY)
    losses, kept = [], []

    def report(row):
        losses.append(row["validation_loss"])
        kept.append(load_state(tmp_path / BEST, "it"))

    train(config, toy_cases(2), toy_cases(1, first=50), tmp_path, report=report)
    worse = [losses[n] >= min(losses[:n]) for n in range(1, len(losses))]
    assert any(worse) and not all(worse), losses
    assert [close(kept[n], kept[n - 1]) for n in range(1, len(kept))] == worse, losses


def test_what_a_validation_says_is_what_the_kept_weights_give(tmp_path):
    held_out = toy_cases(2, first=50)
    config = TrainingConfig(steps=8, validations=1, learning_rate=0.02, ema=0.5, **TINY)
    result = train(config, toy_cases(2), held_out, tmp_path)
    store, losses, dice = StudyStore(held_out, curves=True, maps=False), [], {1: [], 2: []}
    for number in range(2):
        batch = store.batch([number])
        with torch.no_grad():
            logits = result.network(batch["x"])
        losses.append(float(segmentation_loss(logits, batch["label"], batch["tissue"], config.loss, config.class_weights)))
        found, truth = np.where(batch["tissue"], logits.argmax(dim=1), 0), batch["label"].numpy()
        for label, values in dice.items():
            values.append(2 * ((found == label) & (truth == label)).sum() / ((found == label).sum() + (truth == label).sum()))
    (row,) = result.history
    assert row["validation_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert row["dice_penumbra"] == pytest.approx(np.mean(dice[1])) and row["dice_core"] == pytest.approx(np.mean(dice[2]))
    assert result.score == pytest.approx((np.mean(dice[1]) + np.mean(dice[2])) / 2)


def test_half_precision_around_it_does_not_touch_the_operator():
    time, generator = torch.arange(24.0), torch.Generator().manual_seed(0)
    bolus = torch.where(time > 2, (time - 2) ** 2 * torch.exp(-(time - 2)), 0)
    curves = bolus[:, None, None] * (1 + 0.1 * torch.randn(1, 1, 2, 24, 4, 8, generator=generator))
    weight = torch.ones_like(curves)
    sides = side_means(curves, weight)
    operator = residue_operator(sides, weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert (curves.flatten(0, 4) @ curves.flatten(0, 4).mT).dtype == torch.bfloat16, "autocast is at work"
        inside = side_means(curves, weight)
        assert torch.equal(inside, sides) and torch.equal(residue_operator(inside, weight), operator)
        rough = side_means(curves.bfloat16(), weight.bfloat16())
        assert rough.dtype == residue_operator(rough, weight.bfloat16()).dtype == torch.float32
