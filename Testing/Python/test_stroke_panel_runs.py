"""A run of the network from the panel: what the child is given, cancel, a second run, and files that are kept."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from stroke_panel_hands import run
from window_waits import waits

pytest_plugins = ("stroke_panels",)
OWN_PROCESS = "CTPERFUSION_TEST_IN_ITS_OWN_PROCESS"


def test_a_run_gives_the_child_what_was_chosen_and_its_result_lies_beside_it(slicer_host, slicer, ready, models, sequence, tmp_path):
    from StrokeSegmentation import Device

    settings = ready.settings
    settings.inputNode = sequence[1]
    ready.ui.passesSpin.value = 5
    settings.device, settings.motionCorrection = Device.CPU, False
    assert ready.ui.applyButton.enabled, ready.ui.applyButton.toolTip
    run(slicer_host, ready)
    words = json.loads((tmp_path / "words.json").read_text())
    assert words[:2] == ["stroke", "predict"] and {"--no-motion-correction", "--no-report"} <= set(words)
    given = dict(zip(words, words[1:], strict=False))
    assert Path(given["--model"]) == models / "tiny-4d" and (given["--device"], given["--passes"]) == ("cpu", "5")
    assert given["--input"].endswith(".seq.nrrd") and not Path(given["--input"]).exists()
    node = settings.result
    assert node.GetName() == "CTP stroke" and node.GetNodeReference("series") is sequence[1]
    assert "research only" in ready.ui.statusLabel.text
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(node.GetNodeReference("segmentation"))
    assert hierarchy.GetItemName(hierarchy.GetItemParent(item)) == "CTP stroke"


def test_the_end_of_a_run_says_what_the_network_learned_from(slicer_host, ready, sequence, tmp_path, stroke_folder, monkeypatch):
    import made_up_stroke

    folder = shutil.copytree(stroke_folder, tmp_path / "own")
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    metrics["model"]["simulation_trained"] = False
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    ready.settings.inputNode = sequence[1]
    run(slicer_host, ready)
    assert ready.ui.statusLabel.text == "Done. Simulation-trained network, research only."
    monkeypatch.setenv(made_up_stroke.PREPARED, str(folder))
    run(slicer_host, ready)
    assert ready.ui.statusLabel.text == "Done. Network trained on its user's studies, research only."
    (tmp_path / "kept").mkdir()
    ready.settings.saveFolder = tmp_path / "kept"
    run(slicer_host, ready)
    assert ready.ui.statusLabel.text.startswith("Done, files in ") and "trained on its user's studies" in ready.ui.statusLabel.text


def test_the_arguments_of_a_run_are_those_of_the_command_line(ready, tmp_path):
    """Also where PyTorch is missing: the parser knows every word the panel gives."""
    from CTPerfusionSuiteLib.cli import build_parser
    from StrokeSegmentationLib.panel.stroke_analysis import STEPS, wordsOf

    ready.settings.motionCorrection = False
    words = [*wordsOf(ready.settings, tmp_path, tmp_path / "model"), "--input", "series.seq.nrrd"]
    options = build_parser(words).parse_args(words)
    assert options.model == str(tmp_path / "model") and options.no_report and options.no_motion_correction and options.passes == 0
    source = "".join(path.read_text(encoding="utf-8") for name in ("StrokeSegmentation", "PerfusionMaps") for path in science(name))
    assert [title for title, _weight in STEPS if f'"{title}"' not in source] == []


def science(module):
    return (Path(__file__).resolve().parents[2] / module / f"{module}Lib").glob("*.py")


def test_the_window_never_freezes_during_a_run(alone, slicer_host, ready, sequence):
    if OWN_PROCESS not in os.environ:
        # As in a user's application: no scenes, nodes and libraries of hundreds of other tests.
        name = f"{__file__}::test_the_window_never_freezes_during_a_run"
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name]
        done = subprocess.run(words, env={**os.environ, OWN_PROCESS: "1"}, capture_output=True, text=True, cwd=Path(__file__).parents[2])
        assert done.returncode == 0, done.stdout[-2000:]
        return
    ready.settings.inputNode, ready.settings.keepResults = sequence[0], True
    longest = []
    for _ in range(2):  # another program may hold one of them up
        with waits(lambda: ready.ui.statusLabel.text) as found:
            run(slicer_host, ready)
        longest.append(max(found))
    assert min(longest)[0] < 0.1, longest


def test_cancel_leaves_no_process_node_or_file(slicer_host, slicer, ready, sequence, monkeypatch):
    import made_up_stroke
    import psutil

    monkeypatch.setenv(made_up_stroke.STEP_S, "0.3")
    ready.settings.inputNode = sequence[0]
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    ready.ui.applyButton.click()
    assert slicer_host.wait(lambda: ready.ui.progressBar.value > 10, 30)
    folder = ready.run._folder
    assert folder.is_dir() and psutil.Process().children()
    began = time.perf_counter()
    ready.ui.applyButton.click()
    assert slicer_host.wait(lambda: ready.run is None, 3) and time.perf_counter() - began < 2.0
    assert not folder.exists() and not psutil.Process().children()
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes
    assert ready.ui.applyButton.text == "Apply" and "ancel" in ready.ui.statusLabel.text


def test_running_again_replaces_the_result_and_its_maps_unless_they_were_opened(slicer_host, slicer, ready, sequence):
    ready.settings.inputNode = sequence[1]
    counts = []
    for _ in range(2):
        run(slicer_host, ready)
        slicer_host.wait(lambda: False, 0.05)
        counts.append(slicer.mrmlScene.GetNumberOfNodes())
        names = sorted(node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLTextNode"))
        assert names == ["CTP stroke", "CTP stroke thresholds"]
    assert counts[0] == counts[1]
    ready.ui.openMapsButton.click()
    slicer_host.wait(lambda: False, 0.1)
    slicer_host.open("StrokeSegmentation")
    run(slicer_host, ready)
    names = sorted(node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLTextNode"))
    assert names == ["CTP stroke", "CTP stroke thresholds", "CTP stroke thresholds_1"]
    kept = slicer_host.logic("PerfusionMaps").getParameterNode().result
    assert kept is not None and kept.GetName() == "CTP stroke thresholds"


def test_the_files_of_a_run_are_kept_where_the_user_wants_them(slicer_host, ready, sequence, tmp_path):
    ready.settings.inputNode = sequence[1]
    (tmp_path / "kept").mkdir()
    ready.settings.saveFolder = tmp_path / "kept"
    run(slicer_host, ready)
    assert (tmp_path / "kept" / "CTP_stroke" / "core_mask.nii.gz").is_file() and "CTP_stroke" in ready.ui.statusLabel.text
    assert "--no-report" not in json.loads((tmp_path / "words.json").read_text())
    ready.settings.saveFolder = tmp_path / "nowhere"
    run(slicer_host, ready)
    assert "does not exist" in ready.ui.statusLabel.text and ready.settings.result is not None


def test_two_studies_in_one_scene_keep_their_own_results(slicer_host, ready, sequence, small_study):
    from CTPerfusionSuiteLib.mrml_sequences import sequenceFromSeries

    second = sequenceFromSeries(small_study.series, "Other")[2]
    ready.settings.inputNode = sequence[1]
    run(slicer_host, ready)
    ready.settings.inputNode = second
    assert ready.settings.result is None and ready.ui.volumesTable.isHidden()
    run(slicer_host, ready)
    assert ready.settings.result.GetName() == "Other stroke"
    ready.settings.inputNode = sequence[1]
    assert ready.settings.result.GetName() == "CTP stroke"


def test_a_refusal_of_the_child_is_told_in_its_own_words(slicer_host, ready, sequence, monkeypatch):
    import made_up_stroke

    monkeypatch.setenv(made_up_stroke.PREPARED, "/nowhere")
    ready.settings.inputNode = sequence[1]
    run(slicer_host, ready)
    assert ready.settings.result is None and ready.ui.statusLabel.text == "The prepared folder is gone"
