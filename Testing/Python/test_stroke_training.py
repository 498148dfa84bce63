"""Training learns, can be stopped and gone on with, and refuses what it cannot use."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from toy_strokes import toy_case, toy_cases  # noqa: E402

from CTPerfusionSuiteLib.errors import Canceled, DataRefused, RequestRefused  # noqa: E402
from StrokeSegmentationLib import augmentation  # noqa: E402
from StrokeSegmentationLib.augmentation import augment, later, noisier, other_side, resized  # noqa: E402
from StrokeSegmentationLib.learner import one_cycle  # noqa: E402
from StrokeSegmentationLib.losses import focal_tversky, segmentation_loss, weighted_cross_entropy  # noqa: E402
from StrokeSegmentationLib.networks import reads_curves  # noqa: E402
from StrokeSegmentationLib.training import train  # noqa: E402
from StrokeSegmentationLib.training_batches import StudyStore, order_of_studies  # noqa: E402
from StrokeSegmentationLib.training_cases import flipped, save_case  # noqa: E402
from StrokeSegmentationLib.training_config import TrainingConfig, config_of, read_config  # noqa: E402

TINY = {"width": 4, "slices": 3, "threads": 1, "device": "cpu", "tensorboard": False, "class_weights": (1.0, 1.0, 3.0)}


def weights_of(result):
    return {name: value.numpy() for name, value in result.network.state_dict().items()}


@pytest.mark.parametrize("kind", ["4d", "maps-unet", "4d+maps"])
def test_a_small_problem_is_really_learned(kind, tmp_path):
    if not reads_curves(kind):
        pytest.importorskip("monai")
    config = TrainingConfig(kind=kind, steps=90, validations=3, ema=0.9, learning_rate=5e-3, **TINY)
    result = train(config, toy_cases(10), toy_cases(4, first=100), tmp_path)
    last = result.history[-1]
    assert last["dice_penumbra"] > 0.7 and last["dice_core"] > 0.7, result.history
    assert last["validation_loss"] < 0.85 * result.history[0]["validation_loss"]
    assert result.score == max((row["dice_penumbra"] + row["dice_core"]) / 2 for row in result.history)
    assert result.steps == 90 and result.device == "CPU" and result.parameters > 1000
    assert (tmp_path / "history.csv").read_text().startswith("step,minutes,learning_rate,loss,validation_loss,dice_penumbra,dice_core")


def test_a_run_that_was_stopped_and_gone_on_with_ends_like_one_that_was_not(tmp_path):
    config = TrainingConfig(steps=9, validations=3, **TINY)
    studies, validation = toy_cases(5), toy_cases(1, first=50)
    straight = train(config, studies, validation, tmp_path / "straight")
    calls = []

    def stop_once(fraction):
        calls.append(fraction)
        if len(calls) in (3, 8):
            raise Canceled("stopped")

    for _ in range(2):
        with pytest.raises(Canceled):
            train(config, studies, validation, tmp_path / "broken", stop_once)
    resumed = train(config, studies, validation, tmp_path / "broken", stop_once)
    for name, value in weights_of(straight).items():
        np.testing.assert_array_equal(value, weights_of(resumed)[name])
    drop = {"minutes"}
    assert [{k: v for k, v in row.items() if k not in drop} for row in straight.history] == [
        {k: v for k, v in row.items() if k not in drop} for row in resumed.history
    ]


def test_a_finished_run_is_not_trained_again_and_one_with_other_options_is_refused(tmp_path):
    config = TrainingConfig(steps=2, validations=1, **TINY)
    first = train(config, toy_cases(2), [], tmp_path)
    assert math.isnan(first.score)
    again = train(config, toy_cases(2), [], tmp_path)
    assert again.steps == 2 and all(np.array_equal(value, weights_of(again)[name]) for name, value in weights_of(first).items())
    with pytest.raises(RequestRefused, match="options"):
        train(TrainingConfig(steps=3, validations=1, **TINY), toy_cases(2), [], tmp_path)
    with pytest.raises(RequestRefused, match="earlier"):
        train(config, toy_cases(2), [], tmp_path, resume=False)


def test_a_budget_of_processor_time_ends_a_run_near_it(tmp_path):
    config = TrainingConfig(minutes=0.02, validations=2, **TINY)
    result = train(config, toy_cases(3), toy_cases(1, first=50), tmp_path)
    assert 0.02 <= result.minutes < 0.06 and "budget" in result.stopped and result.steps > 0
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = train(config, toy_cases(3), toy_cases(1, first=50), tmp_path)
    assert (again.steps, again.minutes, len(again.history)) == (result.steps, result.minutes, 2), "what is spent is spent"
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == kept


def test_training_ends_early_when_nothing_gets_better(tmp_path):
    config = TrainingConfig(steps=40, validations=20, patience=2, **{**TINY, "learning_rate": 1e-12})
    result = train(config, toy_cases(2), toy_cases(1, first=50), tmp_path)
    assert result.steps < 40 and "no better" in result.stopped
    again = train(config, toy_cases(2), toy_cases(1, first=50), tmp_path)
    assert (again.steps, again.stopped, again.history) == (result.steps, result.stopped, result.history), "the end is final"


def test_a_damaged_checkpoint_and_a_loss_that_is_not_finite_are_refused(tmp_path):
    config = TrainingConfig(steps=80, validations=1, augment=False, **TINY)
    train(replace(config, steps=1), toy_cases(1), [], tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(DataRefused, match="checkpoint"):
        train(config, toy_cases(1), [], tmp_path)
    broken = toy_case(0)
    broken.curves[...] = np.nan
    with pytest.raises(DataRefused, match="converge"):
        train(config, [broken], [], tmp_path / "other")
    with pytest.raises(RequestRefused, match="no studies"):
        train(config, [], [], tmp_path / "nothing")


def test_studies_are_read_from_files_and_padded_about_the_middle_where_they_differ(tmp_path):
    save_case(tmp_path / "a.npz", toy_case(1))
    store = StudyStore([tmp_path / "a.npz", toy_case(2, shape=(6, 40, 28))], curves=True, maps=False)
    batch = store.batch([0, 1])
    assert batch["x"].shape[0] == 2 and batch["x"].shape[3] == 12 and batch["x"].shape[2] == 6
    assert batch["label"].shape == batch["tissue"].shape == (2, *batch["x"].shape[2:3], *batch["x"].shape[4:])
    tissue = batch["tissue"].float().sum(dim=(1, 2))
    assert torch.equal(tissue > 0, (tissue > 0).flip(-1))
    assert store.batch([0])["x"].shape[2] == 4


def test_every_epoch_visits_every_study_once_in_an_order_of_its_own():
    visited = [number for step in range(6) for number in order_of_studies(4, 2, step, seed=3)]
    epochs = [visited[:4], visited[4:8], visited[8:]]
    assert all(sorted(epoch) == [0, 1, 2, 3] for epoch in epochs) and len({tuple(epoch) for epoch in epochs}) > 1
    assert visited == [number for step in range(6) for number in order_of_studies(4, 2, step, seed=3)]


def test_weights_of_the_classes_really_weigh_and_the_right_answer_costs_least():
    scores, label = torch.zeros(4, 3), torch.tensor([0, 0, 1, 2])
    even = math.log(3)
    assert float(weighted_cross_entropy(scores, label, (1, 1, 1))) == pytest.approx(even)
    assert float(weighted_cross_entropy(scores, label, (1, 1, 10))) == pytest.approx(even * 13 / 4)
    right = torch.nn.functional.one_hot(label, 3).float()
    assert float(focal_tversky(right, label)) < 1e-3 < float(focal_tversky(right.roll(1, dims=1), label))


def test_missing_a_voxel_costs_more_than_one_too_many():
    label = torch.tensor([0] * 50 + [1] * 50 + [2] * 0)
    missed, extra = label.clone(), label.clone()
    missed[50:60], extra[40:50] = 0, 1
    one_hot = torch.nn.functional.one_hot
    assert float(focal_tversky(one_hot(missed, 3).float(), label)) > float(focal_tversky(one_hot(extra, 3).float(), label))


def test_maps_beside_the_curves_know_neither_arrival_nor_scale(monkeypatch):
    monkeypatch.setattr(augmentation, "SIZE_SPREAD", 0.0)
    store = StudyStore(toy_cases(2), curves=True, maps=True)
    batch = store.batch([0, 1])
    maps, withheld = len(store.stack(0).maps), 0
    for seed in range(30):
        varied = augment(batch, np.random.default_rng(seed), maps)
        given, kept = batch["x"][:, 0, :, -maps:], varied["x"][:, 0, :, -maps:]
        for old, new in zip(given, kept, strict=True):
            if not new.any():
                withheld += 1
                continue
            shifted = [torch.roll(side, pixels, -1) for side in (old, old.flip(-1)) for pixels in range(-2, 3)]
            assert any(torch.allclose(new[..., 4:-4], other[..., 4:-4], atol=1e-4) for other in shifted)
        assert not torch.equal(varied["x"][:, 0, :, :-maps], batch["x"][:, 0, :, :-maps])
    assert 4 <= withheld <= 22  # about one study in five learns without maps


@pytest.mark.parametrize("kind", ["cross-entropy", "focal-tversky", "sum"])
def test_only_tissue_counts_and_a_study_without_tissue_costs_nothing(kind):
    torch.manual_seed(0)
    logits, label = torch.randn(1, 3, 2, 4, 4, requires_grad=True), torch.randint(0, 3, (1, 2, 4, 4))
    tissue = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    assert float(segmentation_loss(logits, label, tissue, kind).detach()) == 0
    tissue[:, 0] = True
    segmentation_loss(logits, label, tissue, kind).backward()
    assert bool((logits.grad[:, :, 1] == 0).all()) and bool((logits.grad[:, :, 0] != 0).any())


def test_turning_a_study_around_swaps_the_sides_of_curves_maps_and_labels():
    case = toy_case(3)
    for curves in (True, False):
        plain, turned = (StudyStore([one], curves, not curves).batch([0]) for one in (case, flipped(case)))
        found = other_side(plain)
        assert all(torch.equal(found[key], turned[key]) for key in found)


def test_variants_keep_what_they_must_and_change_what_they_should():
    batch = StudyStore(toy_cases(3), curves=True, maps=False).batch([0, 1, 2])
    one, same, other = (augment(batch, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(one[key], same[key]) for key in one) and not torch.equal(one["x"], other["x"])
    assert all(one[key].shape == batch[key].shape and one[key].dtype == batch[key].dtype for key in batch)
    assert bool((one["x"][:, 0][one["x"][:, 1] == 0] == 0).all())


def test_half_of_the_variants_have_another_size_and_all_are_as_noisy_as_the_study(monkeypatch):
    for name, value in (("MIDDLE_SHIFT", 0), ("SHIFT_FRAMES", 0.0), ("SCALE_SPREAD", 0.0), ("NOISE_SHARE", 0.0)):
        monkeypatch.setattr(augmentation, name, value)
    rng = np.random.default_rng(0)
    tissue = torch.zeros(2, 64, 64, dtype=torch.bool)
    tissue[:, 12:52, 12:52] = True
    curves = torch.from_numpy(rng.normal(size=(2, 12, 64, 64)).astype(np.float32)) * tissue[:, None]
    x = torch.stack([curves, tissue[:, None].expand_as(curves).float()])
    batch = {"x": x[None], "label": tissue[None].long(), "tissue": tissue[None]}
    resized_ones = 0
    for seed in range(40):
        found = augment(batch, np.random.default_rng(seed))
        values, there = found["x"][0]
        resized_ones += int(found["label"].sum()) != int(tissue.sum())
        assert float(values[there > 0].std()) == pytest.approx(1.0, abs=0.2), seed
    assert 10 <= resized_ones <= 30


@pytest.mark.parametrize("curves", [True, False])
def test_a_resized_head_is_longer_and_wider_by_its_factors_in_curves_maps_and_labels(curves):
    label = torch.zeros(2, 40, 30, dtype=torch.int64)
    label[:, 10:30, 10:20] = 1
    tissue = label > 0
    values = tissue[:, None].float().expand(-1, 3, -1, -1)
    x = torch.stack([2.0 * values, values]) if curves else 2.0 * values.transpose(0, 1)
    found = resized({"x": x, "label": label, "tissue": tissue}, 1.3, 0.8)
    rows, columns = (found["label"][0].any(dim=axis).nonzero() for axis in (1, 0))
    assert (int(rows[0]), int(rows[-1]) + 1) == (7, 33) and (int(columns[0]), int(columns[-1]) + 1) == (11, 19)
    assert torch.equal(found["tissue"], found["label"] > 0)
    shown = found["x"][0][:, 0] if curves else found["x"][0]
    assert torch.allclose(shown[found["tissue"]], torch.tensor(2.0), atol=1e-5), "what is no tissue does not fade the rim"
    assert not shown[~found["tissue"]].any()
    if curves:
        assert torch.equal(found["x"][1][:, 0] > 0, found["tissue"])


def test_a_shift_in_time_moves_the_bolus_by_that_much():
    time = torch.arange(20.0)
    curve = torch.exp(-((time - 8) ** 2) / 8)
    x = torch.stack([curve, torch.ones(20)]).reshape(2, 1, 20, 1, 1)
    for frames in (-0.5, 0.25):
        moved, weight = later(x, frames).reshape(2, 20)
        center = float((moved * time).sum() / moved.sum())
        assert center == pytest.approx(8 + frames, abs=0.02)
        assert float(weight.sum()) == (19 if frames < 0 else 20)


def test_added_noise_is_a_share_of_what_is_there():
    torch.manual_seed(0)
    curves, weight = torch.randn(4, 30, 20, 20) * 2, torch.ones(4, 30, 20, 20)
    louder = noisier(curves, weight, 0.5, np.random.default_rng(0))
    assert float((louder - curves).std()) == pytest.approx(1.0, rel=0.05)


def test_the_learning_rate_rises_briefly_and_falls_to_almost_nothing():
    assert one_cycle(0) < 0.1 and one_cycle(0.1) == pytest.approx(1) and one_cycle(1) == pytest.approx(0.01)
    assert all(one_cycle(n / 50) >= one_cycle((n + 1) / 50) for n in range(5, 50))


def test_a_configuration_comes_back_from_its_file(tmp_path):
    config = TrainingConfig(kind="2d+time", minutes=3, class_weights=(1, 2, 3), patience=4)
    (tmp_path / "config.json").write_text(config.to_json())
    assert read_config(tmp_path / "config.json") == config


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"widht": 8}, "widht"),
        ({"width": "8"}, "width"),
        ({"width": 8.5}, "width"),
        ({"steps": 0}, "steps"),
        ({"minutes": -1}, "minutes"),
        ({"loss": "dice"}, "loss"),
        ({"device": "tpu"}, "device"),
        ({"class_weights": [1, 1]}, "class_weights"),
        ({"augment": 1}, "augment"),
        ({"seed": -1}, "seed"),
        ({"patience": -1}, "patience"),
        ({"ema": 1}, "ema"),
        ({"threads": 10**9}, "threads"),
        ({"slices": 10**9 + 1}, "slices"),
        ({"learning_rate": None}, "learning_rate"),
        ([1], "object"),
    ],
)
def test_options_that_mean_nothing_are_refused_by_name(options, word, tmp_path):
    with pytest.raises(RequestRefused, match=word):
        config_of(options)
    (tmp_path / "config.json").write_text(json.dumps(options))
    with pytest.raises(RequestRefused, match=word):
        read_config(tmp_path / "config.json")


def test_a_configuration_that_is_no_json_or_is_not_there_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RequestRefused, match="JSON"):
        read_config(tmp_path / "config.json")
    with pytest.raises(RequestRefused, match="read"):
        read_config(tmp_path / "missing.json")
