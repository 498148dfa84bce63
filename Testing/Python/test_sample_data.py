"""A tutorial that needs no network: the sample is made here, has seconds and Hounsfield units, and survives a saved scene."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

TITLE = "Brain CT perfusion (simulated)"


def press_the_button():
    """What the button of the module Sample Data does: the list of what it loaded."""
    from SampleData import SampleDataLogic

    source = SampleDataLogic().sourceForSampleName(TITLE)
    return source.customDownloader(source)


@pytest.fixture(scope="module")
def sample(running_slicer_host):
    """Folder of the sample, made once as the button makes it."""
    from CTPerfusionSuiteLib.panel import sample_data

    press_the_button()
    return sample_data.sampleFolder()


def test_the_sample_is_registered_with_a_picture(slicer_host):
    from SampleData import SampleDataLogic

    source = SampleDataLogic().sourceForSampleName(TITLE)
    picture = Path(source.thumbnailFileName)
    assert picture.is_file() and picture.stat().st_size < 60_000
    assert source.customDownloader is not None
    assert (source.uris, source.fileNames, source.loadFileTypes) == ("", "CTPBrainSimulated.seq.nrrd", "SequenceFile")


def test_its_button_loads_a_sequence_with_seconds_and_hounsfield_units(slicer_host, sample):
    import slicer

    (sequence,) = press_the_button()
    assert sequence.GetName().startswith("CTPBrainSimulated")
    assert (sequence.GetIndexName(), sequence.GetIndexUnit(), sequence.GetNumberOfDataNodes()) == ("time", "s", 40)
    assert [float(sequence.GetNthIndexValue(n)) for n in (0, 1, 39)] == [0.0, 1.5, 58.5]
    for n in (0, 20, 39):
        item = sequence.GetNthDataNode(n)
        assert item.GetVoxelValueUnits().GetCodeValue() == "[hnsf'U]"
        values = slicer.util.arrayFromVolume(item)
        assert values.shape == (8, 128, 128) and values.dtype == np.int16
    browser = slicer.modules.sequences.logic().GetFirstBrowserNodeForSequenceNode(sequence)
    assert browser.GetProxyNode(sequence).GetDisplayNode().GetWindowLevelMax() == 100.0


def test_the_second_time_nothing_is_made_again(slicer_host, sample):
    path = sample / "series.seq.nrrd"
    before = path.stat().st_mtime_ns
    press_the_button()
    assert path.stat().st_mtime_ns == before


def test_the_command_line_reads_the_file_of_the_sample_with_its_seconds(sample):
    from CTPerfusionSuiteLib.sequence_nrrd import read_sequence

    series = read_sequence(sample / "series.seq.nrrd")
    assert series.values.shape == (40, 8, 128, 128)
    assert series.times[-1] == 58.5


def test_the_truth_lies_beside_the_sample(sample):
    from CTPerfusionSuiteLib.panel.sample_data import sampleTruth

    truth = sampleTruth()
    assert truth["hypoperfusion"] == pytest.approx(truth["core"] + truth["penumbra"], rel=0.05)


def test_the_tutorial_tells_the_truth_of_the_sample_and_what_the_analysis_finds(sample, tmp_path):
    from CTPerfusionSuiteLib.cli import main
    from CTPerfusionSuiteLib.panel.sample_data import sampleTruth

    readme = " ".join((Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").split())
    number = r"([\d.]+) mL"
    told = [
        [float(value) for value in re.search(pattern, readme).groups()]
        for pattern in (
            f"true volumes: hypoperfusion {number}, core {number}, penumbra {number}",
            f"volumes: hypoperfusion {number}, core {number}, penumbra {number} with the default method",
        )
    ]
    truth = sampleTruth()
    assert told[0] == [round(truth[name]) for name in ("hypoperfusion", "core", "penumbra")]
    words = ["maps", "--input", str(sample / "series.seq.nrrd"), "--out_dir", str(tmp_path / "result"), "--no-report", "--progress", "none"]
    assert main(words) == 0
    found = json.loads((tmp_path / "result" / "metrics.json").read_text())["volumes_ml"]
    assert told[1] == pytest.approx([found[name] for name in ("hypoperfusion", "core", "penumbra")], rel=0.03)


def test_the_seconds_survive_a_saved_and_reopened_scene(slicer_host, sample, tmp_path):
    import slicer

    from CTPerfusionSuiteLib.mrml_sequences import timesOf

    press_the_button()
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    (sequence,) = slicer.util.getNodesByClass("vtkMRMLSequenceNode")
    times, _source = timesOf(sequence)
    assert times.tolist() == [1.5 * n for n in range(40)]


def test_a_damaged_file_in_the_cache_is_explained_and_made_anew_next_time(slicer_host, sample, monkeypatch):
    import slicer

    said = []
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text, *arguments, **options: said.append(text))
    path = sample / "series.seq.nrrd"
    path.write_bytes(b"NRRD0005\n\n")
    assert press_the_button() == []
    assert "damaged" in said[0]
    assert len(press_the_button()) == 1
    assert os.path.getsize(path) > 1_000_000


def test_the_home_panel_loads_it_without_holding_up_the_window(slicer_host, sample):
    home = slicer_host.open("CTPerfusionSuite")
    home.ui.sampleButton.click()
    assert slicer_host.wait(lambda: not home.sample.running, 60)
    assert "hypoperfusion" in home.ui.sampleLabel.text


def test_the_loaded_sample_opens_in_its_module_until_the_scene_is_closed(slicer_host, sample):
    import slicer

    home = slicer_host.open("CTPerfusionSuite")
    assert not home.ui.openSampleButton.visible  # nothing to open yet
    home.ui.sampleButton.click()
    slicer_host.wait(lambda: not home.sample.running, 60)
    for index, module in enumerate(("PerfusionMaps", "StrokeSegmentation")):
        slicer_host.open("CTPerfusionSuite")
        assert home.ui.openSampleButton.visible and home.ui.openSampleButton.enabled
        home.ui.openSampleModule.currentIndex = index
        home.ui.openSampleButton.click()
        assert slicer.util.selectedModule() == module
        assert slicer.util.getModuleLogic(module).getParameterNode().inputNode == home.sample.sequence()
    slicer_host.open("CTPerfusionSuite")
    slicer.mrmlScene.Clear()
    assert not home.ui.openSampleButton.visible and not home.ui.openSampleModule.visible
