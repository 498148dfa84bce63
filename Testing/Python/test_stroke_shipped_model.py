"""The network that comes with the suite: complete, small, honest about itself, and able to find a simulated stroke."""

import json

import numpy as np
import pytest

from CTPerfusionSuiteLib.models import METADATA, read_model
from StrokeSegmentationLib.shipped_models import SHIPPED, model_folder, stroke_models

MOST_MB = 10.0


@pytest.fixture(scope="module")
def model():
    return read_model(model_folder())


def test_the_model_is_what_was_packed_and_small(model):
    assert model.intact, model.faults
    assert model.size_bytes < MOST_MB * 1e6
    assert sum(found.size_bytes for found in stroke_models()) < 30e6
    assert model.folder.parent == SHIPPED


def test_its_card_tells_what_it_was_trained_on_how_it_compares_where_it_fails_and_what_must_not_be_claimed(model):
    metadata = json.loads((model.folder / METADATA).read_text(encoding="utf-8"))
    assert "simulation" in metadata["intended_use"] and "no scan of a patient" in metadata["data_source"]
    for heading in ("What it was trained on", "Against the threshold maps", "Studies without stroke", "shifted simulator", "Where it fails",
                    "What must not be claimed"):
        assert heading in model.card, heading
    assert metadata["recommended"] in ("maps", "network")
    pictures = [name for name in metadata["sha256"] if name.endswith(".png")]
    assert len(pictures) >= 3 and all(f"]({name.removeprefix('docs/')})" in model.card for name in pictures)


def test_it_finds_a_simulated_stroke_it_was_not_trained_on(small_study, model):
    pytest.importorskip("torch")
    from StrokeSegmentationLib.lesion_scores import dice
    from StrokeSegmentationLib.model_bundle import read_bundle
    from StrokeSegmentationLib.stroke_result import segment_stroke

    result = segment_stroke(small_study.series, read_bundle(model.folder), device="cpu")
    tissue = result.masks["tissue_mask"] > 0
    assert dice(result.label > 0, small_study.mask("hypoperfusion") & tissue) > 0.85
    assert dice(result.label == 2, small_study.mask("core") & tissue) > 0.6
    assert result.metrics["lesion_side"] == "left"
    # The other way round it would be wrong.
    assert dice(result.label[..., ::-1] > 0, small_study.mask("hypoperfusion") & tissue) < 0.3
    assert np.isfinite(result.probabilities["core"]).all()
