"""Where probabilities are cut is measured on validation studies, travels with the model, and is used by every prediction."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from test_stroke_scores import SHAPE, box, case  # noqa: E402

from CTPerfusionSuiteLib.errors import DataRefused  # noqa: E402
from CTPerfusionSuiteLib.models import METADATA  # noqa: E402
from StrokeSegmentationLib.lesion_labels import STANDARD_RULE, LabelRule, label_from_masks, rule_of  # noqa: E402
from StrokeSegmentationLib.model_bundle import StrokeModel, read_bundle, write_bundle  # noqa: E402
from StrokeSegmentationLib.networks import build_network  # noqa: E402
from StrokeSegmentationLib.rule_choice import choose_rule  # noqa: E402
from StrokeSegmentationLib.training_cases import save_case  # noqa: E402

DEFICIT, CORE = box((1, 5), (4, 20), (4, 20)), box((1, 5), (7, 17), (7, 17))


@pytest.fixture
def studies(tmp_path):
    true = label_from_masks(DEFICIT, CORE)
    for n in range(5):
        save_case(tmp_path / f"val_{n}.npz", case(true, np.zeros(SHAPE), head=f"a/{n}"))
    return sorted(tmp_path.glob("*.npz"))


def boasting(_):
    """Core 0.62 of the deficit's probability in a rim around the true core, 0.9 within; a deficit of 0.55 around the true one."""
    core_share = np.where(CORE, 0.9, np.where(box((1, 5), (5, 19), (5, 19)), 0.62, 0.1))
    deficit = np.where(DEFICIT, 0.95, np.where(box((1, 5), (2, 22), (2, 22)), 0.55, 0.05))
    return np.stack([1 - deficit, deficit * (1 - core_share), deficit * core_share])


def test_a_network_that_boasts_is_cut_higher_so_that_its_volumes_are_right(studies):
    rule = choose_rule(studies, boasting)
    assert 0.55 < rule.deficit < 0.95 and 0.62 < rule.core <= 0.8


def test_an_honest_network_is_cut_at_one_half(studies):
    true = label_from_masks(DEFICIT, CORE)
    assert choose_rule(studies, lambda _: np.stack([true == kind for kind in range(3)])) == STANDARD_RULE


def test_with_too_few_studies_or_none_that_can_be_read_the_standard_rule_stays(studies):
    assert choose_rule(studies[:3], boasting) == STANDARD_RULE and choose_rule([], boasting) == STANDARD_RULE
    assert choose_rule(studies, lambda _: None) == STANDARD_RULE


def test_the_rule_travels_with_the_model_and_a_nonsense_one_is_refused(tmp_path):
    build = {"kind": "4d", "width": 4, "slices": 3}
    folder = write_bundle(tmp_path / "own", build_network(**build), build, "# Own", label_rule={"deficit": 0.6, "core": 0.7})
    assert read_bundle(folder).rule == LabelRule(0.6, 0.7)
    description = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    for wrong in ({"deficit": 1.5, "core": 0.7}, {"deficit": 0.6}, "strict"):
        with pytest.raises(ValueError, match="rule|cuts"):
            rule_of({"label_rule": wrong})
        (folder / METADATA).write_text(json.dumps({**description, "label_rule": wrong}), encoding="utf-8")
        with pytest.raises(DataRefused):
            read_bundle(folder)
    assert rule_of({}) == STANDARD_RULE


def test_a_stricter_rule_gives_a_smaller_lesion_of_the_same_study(small_study):
    from StrokeSegmentationLib.stroke_result import segment_stroke

    torch.manual_seed(3)
    network, volumes = build_network("4d", 4, 3).eval(), []
    shares = None
    for cut in (0.1, 0.9):
        if shares is not None:
            cut = float(np.median(shares[shares > 0]))  # about half of the tissue
        model = StrokeModel(network, "4d", "tiny", "1", "", {"label_rule": {"deficit": cut, "core": 0.5}})
        result = segment_stroke(small_study.series, model, device="cpu", with_maps=False)
        shares = result.probabilities["penumbra"] + result.probabilities["core"]
        volumes.append(result.metrics["volumes_ml"]["hypoperfusion"])
        assert result.metrics["model"]["label_rule"]["deficit"] == cut
    assert 0 < volumes[1] < 0.8 * volumes[0]
