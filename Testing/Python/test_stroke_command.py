"""A researcher segments a study with a network, and trains and scores one of their own, by `ctperfusion stroke`."""

import json
import sys
from dataclasses import replace

import nibabel
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from toy_strokes import toy_cases  # noqa: E402

from CTPerfusionSuiteLib.cli import main  # noqa: E402
from CTPerfusionSuiteLib.models import read_model  # noqa: E402
from CTPerfusionSuiteLib.report.page import Page, render  # noqa: E402
from PerfusionMapsLib.result_folder import open_result  # noqa: E402
from StrokeSegmentationLib.card_sections import card_sections  # noqa: E402
from StrokeSegmentationLib.model_bundle import write_bundle  # noqa: E402
from StrokeSegmentationLib.networks import build_network  # noqa: E402
from StrokeSegmentationLib.stroke_folder import MASKS, PROBABILITIES, open_stroke_result  # noqa: E402
from StrokeSegmentationLib.training_cases import load_case, save_case  # noqa: E402

BUILD = {"kind": "4d", "width": 4, "slices": 3}


def stroke(*words):
    """Run `ctperfusion stroke` quietly; its exit code."""
    return main(["stroke", *map(str, words), "--progress", "none"])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network that has learned nothing, as a model folder."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("models") / "tiny-4d"
    limits = {"noise_hu": [50.0, 60.0]}
    return write_bundle(folder, build_network(**BUILD), BUILD, "# Tiny\n\nIt knows <b>nothing</b>.\n", training_range=limits)


@pytest.fixture(scope="module")
def result(small_dicom, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("stroke") / "result"
    assert stroke("predict", "--dicom_dir", small_dicom, "--model", model, "--out_dir", out, "--passes", 2) == 0
    return out


def image(folder, name):
    return np.asarray(nibabel.load(folder / f"{name}.nii.gz").dataobj)


def test_masks_probabilities_and_numbers_belong_together(result):
    metrics = json.loads((result / "metrics.json").read_text())
    voxel_ml = float(np.prod(nibabel.load(result / "core_mask.nii.gz").header.get_zooms())) / 1000
    grids = [nibabel.load(result / f"{name}.nii.gz").affine for name in (*MASKS, *PROBABILITIES, "uncertainty", "mean_ct", "maps/tmax")]
    assert all(np.allclose(grid, grids[0]) for grid in grids)
    whole, core, penumbra = (image(result, name) > 0 for name in MASKS)
    assert (whole == (core | penumbra)).all() and not (core & penumbra).any() and not whole[image(result, "tissue_mask") == 0].any()
    for name, mask in zip(("hypoperfusion", "core", "penumbra"), (whole, core, penumbra), strict=True):
        assert metrics["volumes_ml"][name] == pytest.approx(mask.sum() * voxel_ml, abs=0.01)
    share = image(result, "penumbra_probability") + image(result, "core_probability")
    assert share.min() >= 0 and share.max() <= 1 + 1e-5 and share[whole].min() >= 0.5 - 1e-5
    assert 0 < image(result, "uncertainty").max() <= 1


def test_the_threshold_maps_of_the_same_study_lie_beside_it_and_open_as_a_result_of_their_own(result, small_dicom, tmp_path):
    assert main(["maps", "--dicom_dir", str(small_dicom), "--out_dir", str(tmp_path / "maps"), "--no-report", "--progress", "none"]) == 0
    alone, beside = open_result(tmp_path / "maps"), open_result(result / "maps")
    np.testing.assert_allclose(beside.maps["tmax"], alone.maps["tmax"], atol=1e-4)
    told = json.loads((result / "metrics.json").read_text())["threshold_maps"]
    for name in ("hypoperfusion", "core"):
        assert told["volumes_ml"][name] == pytest.approx(alone.metrics["volumes_ml"][name], abs=0.01)
        assert told["dice"][name] is None or 0 <= told["dice"][name] <= 1


def test_every_surface_says_that_the_network_was_trained_on_simulations(result):
    page = (result / "report.html").read_text(encoding="utf-8")
    metrics = json.loads((result / "metrics.json").read_text())
    assert "simulated studies only" in page and "recommends the threshold maps" in page
    assert metrics["model"]["simulation_trained"] is True and metrics["recommended"] == "not compared"
    assert "It knows &lt;b&gt;nothing&lt;/b&gt;." in page, "the card is untrusted text"
    assert "SECRET" not in page + (result / "provenance.json").read_text() + (result / "metrics.csv").read_text()


def test_a_study_unlike_the_training_studies_is_told(result):
    flags = {flag["code"]: flag for flag in json.loads((result / "metrics.json").read_text())["qc"]}
    assert flags["outside_training"]["severity"] == "warning" and "50.0 to 60.0 HU" in flags["outside_training"]["message"]


def test_a_result_reopens_from_its_folder_alone(result):
    stored = open_stroke_result(result)
    assert (stored.volumes["core_mask"].transpose() == image(result, "core_mask")).all()
    assert stored.maps_folder == result / "maps" and stored.metrics["model"]["name"] == "tiny-4d"


@pytest.mark.parametrize("damage", ["a model that is not there", "another weight file", "a folder of others"])
def test_what_cannot_be_used_is_refused_in_one_sentence(damage, small_dicom, model, tmp_path, capsys):
    import shutil

    out, wanted, code = tmp_path / "out", "no-such-model", 2
    if damage == "another weight file":
        wanted, code = shutil.copytree(model, tmp_path / "tiny-4d"), 1
        (wanted / "models" / "model.pt").write_bytes(b"something else")
    if damage == "a folder of others":
        wanted = model
        out.mkdir()
        (out / "thesis.txt").write_text("mine")
    assert stroke("predict", "--dicom_dir", small_dicom, "--model", wanted, "--out_dir", out) == code
    told = capsys.readouterr().err.strip()
    assert told.startswith("ctperfusion: ") and "\n" not in told and "Traceback" not in told
    assert not out.exists() or (out / "thesis.txt").read_text() == "mine"


def test_too_few_frames_are_refused_as_by_the_maps(small_study, model, tmp_path, capsys):
    from CTPerfusionSuiteLib.nifti import write_series

    short = replace(small_study.series, values=small_study.series.values[:6], times=small_study.series.times[:6])
    write_series(tmp_path / "short.nii.gz", short)
    assert stroke("predict", "--input", tmp_path / "short.nii.gz", "--dt", 1.6, "--model", model, "--out_dir", tmp_path / "out") == 1
    assert "6 time points" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("missing", "words"), [("artery", "No artery"), ("normal tissue", "too little normally perfused tissue")])
@pytest.mark.parametrize("kind", ["4d+maps", "maps-unet"])
def test_where_no_artery_or_normal_tissue_is_found_curves_are_read_alone_and_a_network_of_maps_gives_up(
    kind, missing, words, small_study, monkeypatch
):
    """Without normal tissue relative maps are 0 everywhere, which would read as core."""
    from CTPerfusionSuiteLib.errors import DataRefused
    from StrokeSegmentationLib import prediction, stroke_result
    from StrokeSegmentationLib.model_bundle import StrokeModel

    analyze, predict, seen = stroke_result.analyze_prepared, prediction.predict, []

    def refuse(*_):
        raise DataRefused("No artery was found.")

    def without_reference(*given):
        result = analyze(*given)
        return replace(result, maps={**result.maps, "rcbf": 0.0 * result.maps["rcbf"], "rcbv": 0.0 * result.maps["rcbv"]})

    monkeypatch.setattr(stroke_result, "analyze_prepared", refuse if missing == "artery" else without_reference)
    monkeypatch.setattr(prediction, "predict", lambda network, study, *rest, **_: seen.append(study.maps) or predict(network, study))
    model = StrokeModel(build_network(kind, 4, 3).eval(), kind, "tiny", "1", "", {})
    if kind == "maps-unet":
        with pytest.raises(DataRefused, match=words):
            stroke_result.segment_stroke(small_study.series, model, device="cpu")
        return
    metrics = stroke_result.segment_stroke(small_study.series, model, device="cpu").metrics
    told = next(flag for flag in metrics["qc"] if flag["code"] == "maps_refused")
    assert told["severity"] == "warning" and "curves alone" in told["message"] and words in told["message"]
    assert seen == [None] and metrics["volumes_ml"]["hypoperfusion"] is not None
    assert (metrics["threshold_maps"] is None) == (missing == "artery")


def test_without_torch_the_command_says_what_to_install(small_dicom, model, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert stroke("predict", "--dicom_dir", small_dicom, "--model", model, "--out_dir", tmp_path / "out") == 2
    assert "PyTorch is not installed" in capsys.readouterr().err


@pytest.fixture(scope="module")
def toy_folder(tmp_path_factory):
    """Prepared toy studies of two splits, with a threshold label that misses the core."""
    folder = tmp_path_factory.mktemp("toys")
    for number, case in enumerate(toy_cases(8, frames=24)):
        split = "train" if number < 5 else "test"
        about = {**case.about, "split": split, "noise_hu": 8.0, "measured_noise_hu": 8.0, "scale_hu": 5.0, "anatomy": f"toy-{number}"}
        save_case(folder / f"{split}_{number}.npz", replace(case, about=about, baselines={"maps": np.minimum(case.label, 1)}))
    return folder


def test_a_network_is_trained_goes_on_after_a_stop_and_is_scored(toy_folder, tmp_path, monkeypatch):
    import signal

    from StrokeSegmentationLib import learner

    steps, plain = [], learner.order_of_studies

    def order(studies, batch, step, seed):
        steps.append(step)
        if len(steps) == 2:
            signal.raise_signal(signal.SIGINT)
        return plain(studies, batch, step, seed)

    monkeypatch.setattr(learner, "order_of_studies", order)
    (tmp_path / "config.json").write_text(json.dumps({"width": 4, "slices": 3, "batch": 2, "validations": 2}))
    words = ("train", "--data", toy_folder, "--out_dir", tmp_path / "run", "--config", tmp_path / "config.json", "--device", "cpu")
    assert stroke(*words, "--steps", 4, "--name", "mine") == 130 and not (tmp_path / "run" / "model").exists()
    assert stroke(*words, "--steps", 4, "--name", "mine") == 0
    assert steps == [0, 1, 2, 3], "no step is lost and none is done twice"
    trained = read_model(tmp_path / "run" / "model" / "mine")
    assert trained.intact and "4 steps" in trained.card and "What must not be claimed" in trained.card
    assert stroke(*words, "--steps", 4, "--name", "mine", "--no-resume") == 2, "an earlier run is never overwritten silently"
    assert stroke("evaluate", "--data", toy_folder, "--model", trained.folder, "--out_dir", tmp_path / "scores", "--device", "cpu") == 0
    rows = (tmp_path / "scores" / "studies.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 * 2, "three test studies, each by the network and by thresholds"
    assert "mine" in (tmp_path / "scores" / "evaluation.md").read_text()


@pytest.fixture
def evaluation_of(model, toy_folder, tmp_path):
    """Scores copies of the tiny model under some names; the exit code and the folder."""

    def run(*names, data=toy_folder, device="cpu", **build):
        words = []
        for number, name in enumerate(names):
            own = {**BUILD, **build}
            words += ["--model", write_bundle(tmp_path / f"run{number}" / name, build_network(**own), own, "# It")]
        return stroke("evaluate", "--data", data, *words, "--out_dir", tmp_path / "scores", "--device", device), tmp_path / "scores"

    return run


@pytest.mark.parametrize("names", [("mine", "mine"), ("maps",), ("mine", "maps-other")])
def test_models_that_could_not_be_told_apart_in_the_tables_are_refused(names, evaluation_of, toy_folder, tmp_path, capsys):
    folder = tmp_path / "cases"
    folder.mkdir()
    for path in toy_folder.glob("test_*.npz"):
        case = load_case(path)
        save_case(folder / path.name, replace(case, baselines={"maps-other": case.label}))
    code, out = evaluation_of(*names, data=folder)
    told = capsys.readouterr().err.strip()
    assert code == 2 and "called" in told and "\n" not in told and not out.exists()


def test_an_evaluation_says_whether_its_studies_are_simulated_or_of_patients(evaluation_of, toy_folder, tmp_path):
    from StrokeSegmentationLib.commands import _kinds_of_studies

    folder = tmp_path / "cases"
    folder.mkdir()
    for path in toy_folder.glob("test_*.npz"):
        case = load_case(path)
        save_case(folder / path.name, replace(case, about={**case.about, "patient": True}))
    code, out = evaluation_of("mine", data=folder)
    page = (out / "evaluation.md").read_text(encoding="utf-8")
    assert code == 0 and page.startswith("# Evaluation on studies of patients") and "simulated" not in page
    assert _kinds_of_studies(1, 3) == "2 simulated studies and 1 of patients" and _kinds_of_studies(0, 3) == "simulated studies"


def test_a_study_without_maps_is_left_out_of_the_scores_of_a_network_of_maps(evaluation_of, toy_folder, tmp_path, capsys):
    pytest.importorskip("monai")
    folder = tmp_path / "cases"
    folder.mkdir()
    for number, path in enumerate(sorted(toy_folder.glob("test_*.npz"))):
        case = load_case(path)
        about = case.about if number else {**case.about, "maps_refused": "No artery was found."}
        save_case(folder / path.name, replace(case, about=about, maps=case.maps[: len(case.maps) if number else 0]))
    build = {"kind": "maps-unet", "maps": 2}
    code, out = evaluation_of("mine", data=folder, **build)
    assert code == 0 and "test_5 is left out" in capsys.readouterr().err
    assert "test_5" not in (out / "studies.csv").read_text()
    for path in sorted(folder.glob("*.npz"))[1:]:
        path.unlink()
    assert evaluation_of("other", data=folder, **build)[0] == 2


def test_a_model_for_other_studies_is_refused_in_one_sentence(evaluation_of, small_dicom, tmp_path, capsys):
    code, out = evaluation_of("mine", frames=12)
    told = capsys.readouterr().err.strip()
    assert code == 2 and "12 frames and this one has 24" in told and "\n" not in told and not out.exists()
    words = ("--model", tmp_path / "run0" / "mine", "--out_dir", tmp_path / "out", "--device", "cpu")
    assert stroke("predict", "--dicom_dir", small_dicom, *words, "--no-maps") == 2
    told = capsys.readouterr().err.strip()
    assert "12 frames and this one has 24" in told and "\n" not in told and not (tmp_path / "out").exists()


CARD = """# Tiny

It knows **nothing** but `words` and
[links](http://x).

## Nothing below
## Figures

| study | *Dice* | a\\|b |
| --- | :-: | --- |
| <i>one</i> | 0.5 (0.4 to 0.6) | 3 |
| two | 0.7 |

- first
- second

## Where it fails
![the worst](w.png)
![the next](n.png)
"""


def test_the_card_is_shown_with_its_tables_and_without_the_marks_of_markdown():
    sections = card_sections(CARD)
    assert [section.title for section in sections] == ["Model card", "Model card: Figures", "Model card: Where it fails"]
    assert [part.text for part in sections[0].parts] == ["It knows nothing but words and links."]
    table, *items = sections[1].parts
    assert table.columns == ("study", "Dice", "a|b") and table.numeric
    assert table.rows == (("<i>one</i>", "0.5 (0.4 to 0.6)", "3"), ("two", "0.7", ""))
    assert [item.text for item in items] == ["\u2022 first", "\u2022 second"]
    assert [part.text for part in sections[2].parts] == ["Pictures in the model's folder: the worst, the next."]
    page = render(Page("t", "", (), (), sections))
    assert "<td>0.7</td>" in page and "&lt;i&gt;one&lt;/i&gt;" in page
    assert not [text for text in ("<i>", "**", "Nothing below") if text in page]


def test_a_card_of_anything_is_taken_as_text():
    assert card_sections("") == () and card_sections("## Only\n---\n") == ()
    (section,) = card_sections("| no table |\n2*3*4\n|\n|-|")
    texts = [getattr(part, "text", part.kind) for part in section.parts]
    assert texts == ["| no table | 2*3*4", "table"]


def test_the_report_of_a_network_of_patients_is_not_called_simulated():
    from made_up_stroke import made_up_stroke

    from StrokeSegmentationLib.stroke_report import stroke_page

    made = made_up_stroke()
    simulated = stroke_page(made, b"\0" * 24, "# x").subtitle
    metrics = {**made.metrics, "model": {**made.metrics["model"], "simulation_trained": False}}
    own = stroke_page(replace(made, metrics=metrics), b"\0" * 24, "# x")
    assert simulated.startswith("Simulation-trained") and "user's studies" in own.subtitle and "studies its user gave" in own.footer


def test_only_the_probability_of_hypoperfusion_has_a_line_from_which_on_a_voxel_counts(monkeypatch):
    from made_up_stroke import made_up_stroke

    from StrokeSegmentationLib import stroke_report

    marks = {}

    def remember(layout, values, mask, window, title):
        marks[title.split(" (")[0]] = window.marks
        return b"\0" * 24

    monkeypatch.setattr(stroke_report, "map_mosaic", remember)
    stroke_report.stroke_page(made_up_stroke(), b"\0" * 24, "# x")
    assert marks == {"Probability of hypoperfusion": (50.0,), "Probability of core": (), "Uncertainty": ()}


def test_a_split_that_does_not_exist_is_refused(tmp_path, capsys):
    assert stroke("studies", "--out_dir", tmp_path / "cases", "--splits", "exam") == 2
    assert "train, val, test, shifted" in capsys.readouterr().err and not (tmp_path / "cases").exists()
