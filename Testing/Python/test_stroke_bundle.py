"""A trained model goes into a folder and comes back the same; what was changed, or is no weights, never gets in."""

import json
import os
import pickle
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from toy_strokes import toy_case  # noqa: E402

from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused  # noqa: E402
from CTPerfusionSuiteLib.models import list_models, read_model, sha256  # noqa: E402
from StrokeSegmentationLib.checkpoints import load_state, load_weights  # noqa: E402
from StrokeSegmentationLib.model_bundle import read_bundle, write_bundle  # noqa: E402
from StrokeSegmentationLib.networks import build_network  # noqa: E402
from StrokeSegmentationLib.prediction import predict  # noqa: E402
from StrokeSegmentationLib.recommendation import short_origin  # noqa: E402

BUILD = {"kind": "4d", "width": 4, "slices": 3, "frames": 12}
CARD = "# Tiny\n\nTrained on nothing.\n"


class Trap:
    """Unpickling it would make a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.fixture
def bundle(tmp_path):
    torch.manual_seed(0)
    return write_bundle(tmp_path / "models" / "tiny-4d", build_network(**BUILD), BUILD, CARD, data_source="nothing")


def seal(folder):
    """Announce the weights as they now are."""
    metadata = json.loads((folder / "configs" / "metadata.json").read_text())
    metadata["sha256"]["models/model.pt"] = sha256(folder / "models" / "model.pt")
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))


def one_sentence(refusal):
    text = str(refusal.value)
    assert "\n" not in text and "Traceback" not in text and len(text) < 250
    return text


def test_a_model_comes_back_and_predicts_as_before(bundle):
    torch.manual_seed(0)
    before = predict(build_network(**BUILD).eval(), toy_case(1), device="cpu").probabilities
    model = read_bundle(bundle)
    assert (model.kind, model.name, model.card, model.needs_maps) == ("4d", "tiny-4d", CARD, False)
    assert "research only" in model.description["intended_use"] and model.description["data_source"] == "nothing"
    np.testing.assert_allclose(predict(model.network, toy_case(1), device="cpu").probabilities, before, atol=5e-3)


def test_what_was_trained_on_patients_is_nowhere_called_simulated(tmp_path):
    folder = write_bundle(tmp_path / "own", build_network(**BUILD), BUILD, CARD, simulation_trained=False)
    metadata = json.loads((folder / "configs" / "metadata.json").read_text())
    texts = json.dumps(metadata) + (folder / "LICENSE").read_text() + (folder / "docs" / "data_license.txt").read_text()
    assert metadata["simulation_trained"] is False and "simulat" not in texts.replace("simulation_trained", "")
    assert "its user" in metadata["intended_use"] and "not for diagnosis" in metadata["intended_use"]
    assert short_origin(metadata) == "Network trained on its user's studies, research only"


def test_a_model_says_by_itself_that_it_is_of_simulations_and_on_what_conditions_it_may_be_used(bundle):
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert metadata["simulation_trained"] is True and "simulation-trained" in metadata["intended_use"]
    assert short_origin(metadata) == "Simulation-trained network, research only"
    assert "Apache License" in (bundle / "LICENSE").read_text() and "simulated" in (bundle / "docs" / "data_license.txt").read_text()
    assert {"LICENSE", "docs/data_license.txt"} <= set(metadata["sha256"]) and read_model(bundle).intact


@pytest.mark.parametrize(("kind", "frames", "maps"), [("4d", 12, 0), ("4d+maps", 12, 2), ("maps-unet", 0, 5)])
def test_the_announced_input_is_the_one_the_network_takes(tmp_path, kind, frames, maps):
    if kind == "maps-unet":
        pytest.importorskip("monai")
    build = {"kind": kind, "width": 4, "slices": 3, **({"frames": frames} if frames else {}), **({"maps": maps} if maps else {})}
    folder = write_bundle(tmp_path / "it", build_network(**build), build, CARD)
    told = json.loads((folder / "configs" / "metadata.json").read_text())["network_data_format"]["inputs"]["image"]
    shape = [size if size != "*" else 16 for size in told["spatial_shape"]]
    assert len(told["channel_def"]) == told["num_channels"] and len(shape) == (4 if frames else 3)
    logits = read_bundle(folder).network(torch.zeros(1, told["num_channels"], *shape))
    assert logits.shape == (1, 3, 16, 16, 16)


def test_a_model_of_maps_asks_for_monai_where_it_is_missing(tmp_path, monkeypatch):
    pytest.importorskip("monai")
    build = {"kind": "maps-unet", "width": 4}
    folder = write_bundle(tmp_path / "maps-net", build_network(**build), build, CARD)
    monkeypatch.setitem(sys.modules, "monai", None)
    with pytest.raises(RequestRefused, match="MONAI") as refusal:
        read_bundle(folder)
    one_sentence(refusal)


def test_the_weights_are_half_precision_tensors_and_nothing_else(bundle):
    state = load_state(bundle / "models" / "model.pt", "it")
    assert all(isinstance(value, torch.Tensor) and value.dtype == torch.float16 for value in state.values())


def test_the_models_panel_lists_it_as_intact(bundle):
    (model,) = list_models(bundle.parent)
    assert model.intact and model.name == "tiny-4d" and "penumbra" in model.task


def test_one_changed_bit_is_refused(bundle):
    content = bytearray((bundle / "models" / "model.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "models" / "model.pt").write_bytes(content)
    with pytest.raises(DataRefused) as refusal:
        read_bundle(bundle)
    assert "was changed" in one_sentence(refusal)


def test_a_pickle_that_is_no_weights_is_refused_and_not_run(bundle, tmp_path):
    for content in (pickle.dumps(Trap(tmp_path / "pwned")), b"weights, honestly", b""):
        (bundle / "models" / "model.pt").write_bytes(content)
        seal(bundle)
        with pytest.raises(DataRefused) as refusal:
            read_bundle(bundle)
        assert "something else than weights" in one_sentence(refusal)
    torch.save(Trap(tmp_path / "pwned"), bundle / "models" / "model.pt")
    seal(bundle)
    with pytest.raises(DataRefused):
        read_bundle(bundle)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("state", [[torch.zeros(3)], {"a": 1}, {"a": torch.zeros(3)}])
def test_tensors_of_something_else_are_refused(bundle, state):
    torch.save(state, bundle / "models" / "model.pt")
    seal(bundle)
    with pytest.raises(DataRefused) as refusal:
        read_bundle(bundle)
    assert "tiny-4d" in one_sentence(refusal)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    network = build_network(**BUILD)
    state = network.state_dict()
    next(iter(state.values()))[0] = float("nan")
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(DataRefused, match="not finite"):
        load_weights(network, tmp_path / "model.pt", "the file")


@pytest.mark.parametrize(
    "network", [None, "4d", {"kind": "magic"}, {"kind": "4d", "wings": 2}, {"kind": "4d", "width": -4}, {"kind": "4d", "width": "x"},
                {"kind": "4d", "frames": 10**9}, {"kind": "4d", "frames": 24.5}, {"kind": "4d", "frames": True},
                {"kind": "4d", "slices": 10**7 + 1}, {"kind": "4d+maps", "maps": 10**9}, {"kind": "4d", "width": None}]
)
def test_a_description_that_fits_no_network_is_refused(bundle, network):
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    metadata["network"] = network
    (bundle / "configs" / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(DataRefused) as refusal:
        read_bundle(bundle)
    one_sentence(refusal)


def test_a_model_of_another_size_than_described_is_refused(bundle):
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    metadata["network"]["width"] = 8
    (bundle / "configs" / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(DataRefused, match="another network"):
        read_bundle(bundle)


def test_nothing_is_written_without_a_card_a_plain_name_or_over_something_else(bundle, tmp_path):
    network = build_network(**BUILD)
    with pytest.raises(RequestRefused, match="card"):
        write_bundle(tmp_path / "other", network, BUILD, "  ")
    with pytest.raises(RequestRefused, match="plain name"):
        write_bundle(tmp_path / "bad name!", network, BUILD, CARD)
    with pytest.raises(RequestRefused, match="exists"):
        write_bundle(bundle, network, BUILD, CARD)
    (tmp_path / "holiday").mkdir()
    with pytest.raises(RequestRefused, match="exists"):
        write_bundle(tmp_path / "holiday", network, BUILD, CARD, replace=True)
    assert read_bundle(write_bundle(bundle, network, BUILD, CARD, version="0.2.0", replace=True)).version == "0.2.0"
    assert sorted(os.listdir(tmp_path)) == ["holiday", "models"] and os.listdir(tmp_path / "models") == ["tiny-4d"]


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RequestRefused, match="no model folder"):
        read_bundle(tmp_path / "nowhere")
