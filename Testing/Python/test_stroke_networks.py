"""Networks take any number of slices, frames and pixels, know the two sides, and predict alike whole, in slabs and on any device."""

import sys
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from toy_strokes import toy_case  # noqa: E402

from CTPerfusionSuiteLib.errors import Canceled, RequestRefused  # noqa: E402
from StrokeSegmentationLib import prediction  # noqa: E402
from StrokeSegmentationLib.brain_box import brain_box, cut_to_brain, midsagittal_column, turned_axes  # noqa: E402
from StrokeSegmentationLib.curve_summaries import residue_operator, side_means  # noqa: E402
from StrokeSegmentationLib.map_evidence import evidence_count, threshold_evidence  # noqa: E402
from StrokeSegmentationLib.networks import KINDS, build_network, parameter_count, reads_curves  # noqa: E402
from StrokeSegmentationLib.prediction import predict  # noqa: E402
from StrokeSegmentationLib.study_input import MAP_SCALES  # noqa: E402
from StrokeSegmentationLib.training_batches import StudyStore, network_array  # noqa: E402
from StrokeSegmentationLib.training_cases import flipped, save_case  # noqa: E402

CURVES = [kind for kind in KINDS if reads_curves(kind)]


def built(kind="4d", width=4, frames=12, **options):
    torch.manual_seed(0)
    if kind == "maps-unet":
        pytest.importorskip("monai")
    return build_network(kind, width, frames=frames, maps=2, **options).eval()


def curves_batch(slices=3, frames=12, rows=20, columns=24, batch=1):
    torch.manual_seed(1)
    x = torch.randn(batch, 2, slices, frames, rows, columns)
    x[:, 1] = 1
    return x


@pytest.mark.parametrize("kind", CURVES)
@pytest.mark.parametrize(("slices", "frames", "rows", "columns"), [(1, 12, 20, 24), (2, 9, 33, 18), (5, 30, 17, 22)])
def test_any_number_of_slices_frames_and_pixels_goes_in_and_all_slices_come_out(kind, slices, frames, rows, columns):
    network = built(kind, frames=frames)
    logits = network(curves_batch(slices, frames + network.maps, rows, columns, batch=2))
    assert logits.shape == (2, 3, slices, rows, columns) and bool(torch.isfinite(logits).all())


def test_the_maps_network_takes_any_stack_too():
    network = built("maps-unet")
    assert network(torch.randn(1, 2, 3, 20, 18)).shape == (1, 3, 3, 20, 18)


def test_networks_that_are_compared_have_about_as_many_parameters():
    pytest.importorskip("monai")
    counts = {kind: parameter_count(build_network(kind)) for kind in KINDS}
    assert max(counts.values()) < 1.3 * min(counts.values()), counts


@pytest.mark.parametrize(
    ("kind", "slices", "reach"),
    [("4d", 7, 3), ("3d+time", 7, 3), ("4d", 3, 1), ("3d+time", 1, 0), ("2d+time", 7, 0), ("4d+maps", 7, 3), ("4d+maps", 1, 0)],
)
def test_a_decision_rests_on_the_announced_number_of_slices(kind, slices, reach):
    network = built(kind, slices=slices)
    for module in network.modules():  # normalization over the whole stack is another matter
        if isinstance(module, torch.nn.GroupNorm):
            module.forward = lambda x: x
    x = curves_batch(slices=11, frames=12 + network.maps).requires_grad_()
    network(x)[:, :, 5].sum().backward()  # what the study has in common, as its mean curves, is a constant
    reached = x.grad[0, 0].abs().amax(dim=(1, 2, 3)) > 0
    assert reached.nonzero().ravel().tolist() == list(range(5 - reach, 6 + reach))


def test_what_the_scan_does_not_cover_and_what_is_no_tissue_has_no_influence():
    network, x = built(), curves_batch()
    x[:, 1, :, 8:] = 0
    x[:, 1, :, :, :5] = 0
    other = x.clone()
    other[:, 0, :, 8:] += 5
    other[:, 0, :, :, :5] -= 7
    assert torch.equal(network(x), network(other))


def responses_to(bolus, residue, scanned=24):
    """Responses of a study whose left half is normal and whose right half has another residue."""
    both = [np.convolve(bolus, one)[:24] for one in (np.exp(-np.arange(24) / 2), residue)]
    curves = torch.tensor(np.stack(both), dtype=torch.float32)[None, None, None, :, None].permute(0, 1, 2, 5, 4, 3).repeat(1, 1, 2, 1, 4, 3)
    curves = torch.cat([curves[..., 0::2], curves[..., 1::2]], dim=-1) / float(max(map(max, both)))
    weight = torch.ones_like(curves)
    weight[:, :, :, scanned:] = 0
    curves *= weight
    operator = residue_operator(side_means(curves, weight), weight)
    return torch.einsum("bcztji,bft->bczfji", curves, operator)[0, 0, 0, :, 0, -1].numpy()


def test_responses_depend_on_the_tissue_and_hardly_on_the_bolus():
    time = np.arange(24.0)
    boluses = [np.where(time > 2, (time - 2) ** 2 * np.exp(-(time - 2) / width), 0) for width in (0.8, 1.6)]
    normal, late = np.exp(-time / 2), np.where(time >= 3, 0.5 * np.exp(-(time - 3) / 3), 0)
    found = {(n, name): responses_to(bolus, one) for n, bolus in enumerate(boluses) for name, one in (("normal", normal), ("late", late))}
    center = {key: float((time * response).sum() / response.sum()) for key, response in found.items()}
    for n in (0, 1):
        assert 2.5 < center[n, "late"] - center[n, "normal"] < 5.5, center
    for name in ("normal", "late"):
        assert abs(center[0, name] - center[1, name]) < 1, center
        assert found[0, name].sum() == pytest.approx(found[1, name].sum(), rel=0.15)
    low = responses_to(boluses[0], 0.4 * late)
    assert low.max() == pytest.approx(0.4 * found[0, "late"].max(), rel=0.05)


def test_a_scan_that_ends_early_gives_about_the_same_response():
    time = np.arange(24.0)
    bolus, late = np.where(time > 2, (time - 2) ** 2 * np.exp(-(time - 2)), 0), np.where(time >= 3, 0.5 * np.exp(-(time - 3) / 3), 0)
    whole, cut = responses_to(bolus, late), responses_to(bolus, late, scanned=19)
    assert np.abs(whole - cut)[:12].max() < 0.1 * whole.max()


def test_the_mirror_image_of_a_case_lies_mirrored_in_the_box():
    case = toy_case(3)
    images = ("curves", "label", "tissue", "brain", "hemisphere")
    off_center = replace(case, **{name: np.roll(getattr(case, name), 3, axis=-1) for name in images})
    plain, turned = (network_array(cut_to_brain(one, True)) for one in (off_center, flipped(off_center)))
    np.testing.assert_array_equal(plain[..., ::-1], turned)


def test_the_middle_of_the_box_is_where_the_hemispheres_meet_even_beyond_the_image():
    hemisphere = np.zeros((2, 10, 20), np.uint8)
    hemisphere[:, 2:8, 1:5], hemisphere[:, 2:8, 5:16] = 2, 1
    assert midsagittal_column(hemisphere) == 5.0
    box = brain_box(hemisphere > 0, hemisphere)
    assert sum(box.columns) == 10 and box.columns[0] < 0
    image = np.arange(400.0).reshape(2, 10, 20)
    back = box.put_back(box.cut(image), 10, 20, -1)
    inside = back >= 0
    assert np.array_equal(back[inside], image[inside]) and inside[hemisphere > 0].all()


def stored_otherwise(case, slices: bool, rows: bool):
    """The same patient in a file whose slices run downward, or whose rows run forward."""
    axes = [axis for axis, turn in ((-3, slices), (-2, rows)) if turn]
    images = ("curves", "maps", "label", "tissue", "brain", "hemisphere")
    direction = [[1, 0, 0], [0, -1 if rows else 1, 0], [0, 0, -1 if slices else 1]]
    valid = case.valid[:, ::-1] if slices else case.valid
    turned = {name: np.flip(getattr(case, name), axes) for name in images}
    return replace(case, **turned, valid=valid, about={**case.about, "direction": direction}), axes


@pytest.mark.parametrize(("slices", "rows"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("kind", ["4d+maps", "maps-unet"])
def test_a_network_sees_every_head_upright_and_answers_in_the_order_of_the_file(kind, slices, rows):
    case, network = toy_case(5), built(kind)
    valid = case.valid.copy()
    valid[9:, 0] = 0  # one end of the stack is scanned for a shorter time
    case = replace(case, valid=valid)
    other, axes = stored_otherwise(case, slices, rows)
    first, second = (network_array(cut_to_brain(one, kind != "maps-unet", True), 2) for one in (case, other))
    np.testing.assert_array_equal(first, second)
    plain, turned = (predict(network, one, passes=1, device="cpu") for one in (case, other))
    np.testing.assert_allclose(np.flip(turned.probabilities, axes), plain.probabilities, atol=1e-6)
    np.testing.assert_allclose(np.flip(turned.uncertainty, axes), plain.uncertainty, atol=1e-6)
    unaware, _ = stored_otherwise(case, slices, rows)
    unaware.about.pop("direction")
    assert np.abs(np.flip(predict(network, unaware, device="cpu").probabilities, axes) - plain.probabilities).max() > 1e-3


def test_the_heads_of_our_simulator_are_upright_already(small_study):
    assert turned_axes(small_study.geometry) == turned_axes(toy_case(1).geometry) == (False, False)


@pytest.mark.parametrize("kind", ["4d", "4d+maps"])
def test_slabs_give_what_the_whole_stack_gives_and_what_training_computes(kind, monkeypatch):
    case, network = toy_case(1, shape=(11, 32, 32)), built(kind, slices=7)
    stack = cut_to_brain(case, True, kind == "4d+maps")
    with torch.inference_mode():
        trained = network(torch.from_numpy(network_array(stack))[None]).softmax(dim=1)[0].numpy()
    inside = stack.tissue > 0
    for most in (prediction.LARGEST_WHOLE, 0):
        monkeypatch.setattr(prediction, "LARGEST_WHOLE", most)
        found = predict(network, case, device="cpu", both_sides=False)
        np.testing.assert_allclose(stack.box.cut(found.probabilities)[:, inside], trained[:, inside], atol=1e-5)
        assert found.notes == ()


def test_too_little_memory_falls_back_to_slabs_and_says_so():
    case, network = toy_case(1, shape=(9, 32, 32)), built(slices=3)
    expected = predict(network, case, device="cpu").probabilities
    enough = network.collapse_time

    def short_of_memory(curves, *rest):
        if curves.shape[2] > 6:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return enough(curves, *rest)

    network.collapse_time = short_of_memory
    found = predict(network, case, device="cpu")
    assert [code for code, _ in found.notes] == ["memory-short"] and "slabs" in found.notes[0][1]
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)


@pytest.fixture
def full_gpu(monkeypatch):
    """A GPU that never has memory enough; what was tried: (device, whether in one piece)."""
    tried = []
    whole = prediction._mean_probabilities

    def short_of_memory(network, stack, passes, device, in_one, *rest):
        tried.append((device.type, in_one))
        if device.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(network, stack, passes, device, in_one, *rest)

    monkeypatch.setattr("StrokeSegmentationLib.training.training_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(prediction, "_mean_probabilities", short_of_memory)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    return tried


@pytest.mark.parametrize(
    "words", ["CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate", "CUDNN_STATUS_ALLOC_FAILED"]
)
def test_a_full_gpu_is_known_by_what_its_libraries_say(words):
    assert prediction._out_of_memory(RuntimeError(words)) and not prediction._out_of_memory(RuntimeError("CUDNN_STATUS_BAD_PARAM"))


def test_a_gpu_without_memory_hands_over_to_slabs_and_then_to_the_processor(full_gpu):
    case, network = toy_case(1), built()
    found = predict(network, case)
    assert full_gpu == [("cuda", True), ("cuda", False), ("cpu", False)] and found.device == "cpu"
    assert "slabs" in found.notes[0][1] and "on the CPU" in found.notes[1][1]


def test_a_network_of_maps_goes_from_a_full_gpu_straight_to_the_processor(full_gpu):
    case, network = toy_case(1), built("maps-unet")
    found = predict(network, case)
    assert full_gpu == [("cuda", True), ("cpu", True)] and found.device == "cpu"
    assert [message for _, message in found.notes] == ["The GPU had too little memory, so the network worked on the CPU."]


class Undecided(torch.nn.Module):
    """Gives the same logits everywhere."""

    maps = 2

    def __init__(self, *logits):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, x):
        return self.logits[None, :, None, None, None].expand(1, 3, *x.shape[2:])


def test_uncertainty_is_the_entropy_over_that_of_three_classes_alike():
    case = toy_case(2)
    inside = case.tissue > 0
    alike = predict(Undecided(0.0, 0.0, 0.0), case, passes=1, device="cpu").uncertainty
    np.testing.assert_allclose(alike[inside], 1.0, atol=1e-5)
    # Two classes alike and a third that is out of question: log 2 / log 3 = 0.6309.
    two = predict(Undecided(0.0, 0.0, -40.0), case, passes=1, device="cpu").uncertainty
    np.testing.assert_allclose(two[inside], 0.63093, atol=1e-4)
    assert not two[~inside].any()


@pytest.mark.parametrize(("kind", "words"), [("4d", "12 frames and this one has 10"), ("maps-unet", "2 maps and this one has 1")])
def test_a_study_that_was_prepared_otherwise_than_the_model_expects_is_refused(kind, words):
    case = toy_case(1)
    other = replace(case, maps=case.maps[:1]) if kind == "maps-unet" else replace(case, curves=case.curves[:10], valid=case.valid[:10])
    with pytest.raises(RequestRefused, match=words) as refusal:
        predict(built(kind), other, device="cpu")
    assert "\n" not in str(refusal.value)
    if kind == "4d":
        with pytest.raises(RequestRefused, match="12 frames"):
            built("4d")(curves_batch(frames=10))


def test_without_monai_a_network_of_maps_is_refused_in_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai", None)
    with pytest.raises(RequestRefused, match="needs MONAI, which is not installed"):
        build_network("maps-unet", 4, maps=2)


def test_studies_without_maps_are_left_out_of_what_a_network_of_maps_learns_from(tmp_path):
    cases = [toy_case(1), replace(toy_case(2), maps=toy_case(2).maps[:0]), toy_case(3)]
    paths = []
    for number, case in enumerate(cases):
        about = case.about if len(case.maps) else {**case.about, "maps_refused": "No artery was found."}
        paths.append(tmp_path / f"patient_{number}.npz")
        save_case(paths[-1], replace(case, about=about))
    store = StudyStore(paths, curves=False, maps=True)
    assert len(store) == 2 and store.left_out == ("patient_1",) and store.batch([0, 1])["x"].shape[0] == 2
    assert len(StudyStore(cases, curves=False, maps=True)) == 2
    assert len(StudyStore(paths, curves=True, maps=True)) == 3, "a network that reads curves does without maps"
    with pytest.raises(RequestRefused, match="none of the studies was prepared with maps"):
        StudyStore(paths[1:2], curves=False, maps=True)


@pytest.mark.parametrize("kind", ["4d", "maps-unet", "4d+maps"])
def test_probabilities_are_those_of_tissue_and_uncertainty_lies_between_0_and_1(kind):
    case = toy_case(2)
    found = predict(built(kind, dropout=0.3), case, passes=3, device="cpu")
    assert found.probabilities.shape == (3, *case.label.shape) and found.probabilities.dtype == np.float32
    np.testing.assert_allclose(found.probabilities.sum(axis=0), 1, atol=1e-5)
    assert (found.probabilities[0][case.tissue == 0] == 1).all() and (found.uncertainty[case.tissue == 0] == 0).all()
    assert 0 <= found.uncertainty.min() and 0 < found.uncertainty.max() <= 1
    assert predict(built(kind), case, device="cpu").uncertainty is None


def test_dropout_passes_differ_and_are_repeated_by_their_seed():
    case, network = toy_case(2), built(dropout=0.4)
    one, again, other = (predict(network, case, passes=2, device="cpu", seed=seed).probabilities for seed in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    assert not network.training and not any(module.training for module in network.modules())


def test_left_and_right_are_treated_alike():
    case, network = toy_case(4), built()
    plain, turned = (predict(network, one, device="cpu").probabilities for one in (case, flipped(case)))
    np.testing.assert_allclose(plain[..., ::-1], turned, atol=1e-5)


def test_prediction_can_be_stopped():
    def stop(fraction):
        raise Canceled("stopped")

    with pytest.raises(Canceled):
        predict(built(), toy_case(1), device="cpu", progress=stop)


def test_a_maps_network_without_maps_and_a_gpu_that_is_not_there_are_refused():
    case = toy_case(1)
    with pytest.raises(RequestRefused, match="maps"):
        predict(built("maps-unet"), replace(case, maps=case.maps[:0]), device="cpu")
    if not torch.cuda.is_available():
        with pytest.raises(RequestRefused, match="GPU"):
            predict(built(), case, device="cuda")


def test_a_network_of_curves_and_maps_does_without_maps_where_no_artery_was_found():
    """As training withholds them: neither values nor what they say at the thresholds."""
    case, network = toy_case(1), built("4d+maps")
    maps = len(case.maps)
    withheld = torch.from_numpy(network_array(cut_to_brain(case, True, True)))[None]
    withheld[:, :, :, -maps:] = 0
    without = torch.from_numpy(network_array(cut_to_brain(replace(case, maps=case.maps[:0]), True, True), maps))[None]
    assert not network.given_maps(without[:, :, :, -maps:]).any()
    torch.testing.assert_close(network(withheld), network(without))
    given, alone = (predict(network, one, device="cpu").probabilities for one in (case, replace(case, maps=case.maps[:0])))
    assert not np.allclose(alone, given, atol=1e-3)


@pytest.mark.parametrize("kind", ["4d+maps", "maps-unet"])
def test_maps_say_nothing_outside_tissue(kind):
    """Zeros there would read as Tmax under and flow under their thresholds."""
    case, network = toy_case(1), built(kind)
    stack = cut_to_brain(case, kind == "4d+maps", True)
    x, seen = torch.from_numpy(network_array(stack))[None], []
    if kind == "maps-unet":
        network.unet.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        network(x)
        rows, columns = stack.tissue.shape[1:]
        top, left = (-rows % 8) // 2, (-columns % 8) // 2
        given = seen[0][..., top : top + rows, left : left + columns]
    else:
        given = network.given_maps(x[:, :, :, -len(case.maps) :])
    outside = stack.tissue == 0
    assert outside.any() and given.shape[1] > len(case.maps)
    assert not given[0][:, outside].any() and given[0][:, ~outside].any(dim=0).all()


def test_maps_say_clearly_on_which_side_of_the_thresholds_a_voxel_lies():
    tmax_s, rcbf = np.array([0.0, 5.5, 6.0, 7.0, 18.0]), np.array([1.0, 0.45, 0.3, 0.2, 0.0])
    maps = torch.tensor(np.stack([tmax_s / MAP_SCALES["tmax"], rcbf / MAP_SCALES["rcbf"]]), dtype=torch.float32)[None, :, None, None]
    near_tmax, far_tmax, near_rcbf, far_rcbf = threshold_evidence(maps)[0, :, 0, 0].numpy()
    np.testing.assert_allclose(near_tmax, np.tanh((tmax_s - 6.0) / 1.0), atol=1e-5)
    np.testing.assert_allclose(far_rcbf, np.tanh((rcbf - 0.3) / 0.25), atol=1e-5)
    assert (np.diff(far_tmax) > 0).all() and (np.diff(near_rcbf) < 0).all()
    assert evidence_count(2) == evidence_count(5) == 4 and evidence_count(1) == 2 and evidence_count(0) == 0


@pytest.mark.parametrize(
    "options", [{"kind": "5d"}, {"kind": "4d", "slices": 4}, {"kind": "4d", "width": 0}, {"kind": "4d", "dropout": 1.0}]
)
def test_networks_that_cannot_be_are_refused(options):
    with pytest.raises(RequestRefused):
        build_network(**options)
