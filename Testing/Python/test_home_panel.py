"""A newcomer opens the home of the suite: finds a study, opens it in its module, sees what is installed, keeps models."""

import time

import pytest

from CTPerfusionSuiteLib.phantoms.brain_options import BrainOptions
from CTPerfusionSuiteLib.phantoms.dicom_styles import write_dicom_study

pytest_plugins = ("home_panels",)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A small stroke study as a scanner exports it, one series a time point."""
    from CTPerfusionSuiteLib.phantoms.brain import simulate_brain

    folder = tmp_path_factory.mktemp("archive") / "study"
    series = simulate_brain(BrainOptions(size=(32, 32), slices=4, frames=16, dt_s=2.5, seed=5)).series
    write_dicom_study(series, folder, style="canon", seed=5, patient_name="SECRET^NAME")
    return folder


def search(host, home, folder):
    home.ui.studyFolder.currentPath = str(folder)
    home.ui.searchButton.click()
    assert host.wait(lambda: not home.worklist.running, 30)


def test_the_panel_opens_in_half_a_second(slicer_host, monkeypatch):
    import slicer

    module = slicer.modules.ctperfusionsuite
    monkeypatch.setattr(slicer.modules, "CTPerfusionSuiteWidget", None, raising=False)  # every panel made puts itself there
    times = []
    for _ in range(3):
        began = time.perf_counter()
        frame = module.createNewWidgetRepresentation()
        times.append(time.perf_counter() - began)
        frame.self().cleanup()
    assert min(times) < 0.5


def test_every_button_says_what_it_does_or_what_is_missing(home):
    for name in ("searchButton", "openButton", "sampleButton", "installButton", "torchButton", "importModelButton", "checkModelButton",
                 "removeModelButton", "studyFolder", "modelFolder", "seriesShown", "openModule", "openSampleButton", "openSampleModule"):
        assert getattr(home.ui, name).toolTip, name
    assert not home.ui.searchButton.enabled and not home.ui.openButton.visible and not home.ui.openModule.visible


def test_a_folder_is_searched_and_the_perfusion_series_is_found(slicer_host, home, study):
    search(slicer_host, home, study)
    assert home.ui.worklistTable.rowCount == 1
    shown = home.ui.worklistTable.item(0, 1).text()
    assert "Neuro Perfusion" in shown and "16 x 4 slices" in shown and "SECRET" not in shown
    assert home.ui.openButton.enabled and home.ui.openModule.currentText == "CT Perfusion Maps"


@pytest.mark.parametrize(("title", "module"), [("CT Perfusion Maps", "PerfusionMaps"), ("CT Stroke Segmentation", "StrokeSegmentation")])
def test_the_series_opens_in_the_module_of_choice_with_its_true_times(slicer_host, home, study, title, module):
    import slicer

    search(slicer_host, home, study)
    assert [home.ui.openModule.itemText(n) for n in range(home.ui.openModule.count)] == ["CT Perfusion Maps", "CT Stroke Segmentation"]
    home.ui.openModule.currentIndex = home.ui.openModule.findText(title)
    home.ui.openButton.click()
    assert home.ui.searchButton.text == "Cancel" and home.ui.worklistLabel.text == "Reading the series..."
    assert not home.ui.openButton.enabled and not home.ui.openModule.enabled
    assert slicer_host.wait(lambda: not home.worklist.running, 30)
    assert slicer.util.selectedModule() == module
    sequence = slicer.util.getModuleLogic(module).getParameterNode().inputNode
    assert sequence is not None and sequence.GetNumberOfDataNodes() == 16
    assert (sequence.GetIndexUnit(), float(sequence.GetNthIndexValue(2))) == ("s", 5.0)


def test_series_for_modules_that_are_not_here_yet_say_so_and_offer_no_dead_button(home):
    from CTPerfusionSuiteLib.dicom.worklist import Kind

    about = {"description": "3: Head 5.0", "size": "24 files", "study": "", "place": "", "series_uid": "1.2"}
    about |= dict.fromkeys(("folder", "shown_folder"), "archive")
    kinds = (Kind.PLAIN_HEAD, Kind.HEART_PERFUSION, Kind.PLAIN_CHEST, Kind.BRAIN_PERFUSION)
    home.worklist.setEntries(
        [{**about, "kind": kind.value, "modules": list(kind.modules), "reason": f"recognized as {kind.value}"} for kind in kinds]
    )
    for row, title in enumerate(("LVO Detection", "Myocardial Perfusion", "Contrast Synthesis")):
        home.ui.worklistTable.selectRow(row)
        said = home.ui.worklistLabel.text
        assert f"Recognized as {kinds[row].value}. The module for such series, {title}, is not part" in said
        assert not home.ui.openButton.visible and not home.ui.openModule.visible
    home.ui.worklistTable.selectRow(3)
    assert home.ui.worklistLabel.text == "Recognized as brain perfusion." and home.ui.openButton.visible


def test_the_choice_of_module_stays_when_another_series_is_selected(home):
    from CTPerfusionSuiteLib.panel.suite_modules import ModuleChoice

    choice = ModuleChoice(home.ui.openSampleButton, home.ui.openSampleModule, lambda: None)
    choice.offer(["PerfusionMaps", "LVODetection", "StrokeSegmentation"])
    home.ui.openSampleModule.currentIndex = 1
    choice.offer(["StrokeSegmentation", "PerfusionMaps"])
    assert choice.chosen() == "StrokeSegmentation"
    choice.offer(["LVODetection"])
    assert choice.chosen() == "" and not home.ui.openSampleButton.visible
    home.sample.update()


def test_opening_a_series_can_be_canceled_and_leaves_nothing(slicer_host, home, study):
    import os
    import tempfile

    import slicer

    search(slicer_host, home, study)
    nodes, before = slicer.mrmlScene.GetNumberOfNodes(), set(os.listdir(slicer.app.temporaryPath)) | set(os.listdir(tempfile.gettempdir()))
    home.ui.openButton.click()
    home.ui.searchButton.click()
    assert slicer_host.wait(lambda: not home.worklist.running, 5)
    assert home.ui.worklistLabel.text == "Canceled." and home.ui.openButton.enabled
    assert slicer.util.selectedModule() == "CTPerfusionSuite" and slicer.mrmlScene.GetNumberOfNodes() == nodes
    after = set(os.listdir(slicer.app.temporaryPath)) | set(os.listdir(tempfile.gettempdir()))
    assert not [name for name in after - before if "CTPerfusion" in name]


def test_opening_can_be_canceled_while_the_frames_come(slicer_host, home, study):
    import slicer

    search(slicer_host, home, study)
    home.ui.openButton.click()
    assert slicer_host.wait(lambda: slicer.util.getNodesByClass("vtkMRMLSequenceNode"), 30) and home.worklist.running
    assert home.ui.worklistProgress.value >= 70
    home.ui.searchButton.click()
    assert not home.worklist.running and home.ui.worklistLabel.text == "Canceled."
    slicer_host.wait(lambda: False, 0.1)
    assert slicer.util.getNodesByClass("vtkMRMLSequenceNode") == [] and slicer.util.selectedModule() == "CTPerfusionSuite"


def test_closing_the_scene_while_a_series_is_opened_opens_nothing(slicer_host, home, study):
    import slicer

    search(slicer_host, home, study)
    home.ui.openButton.click()
    slicer.mrmlScene.Clear()
    assert slicer_host.wait(lambda: not home.worklist.running, 5)
    assert slicer.util.selectedModule() == "CTPerfusionSuite"
    assert slicer.util.getNodesByClass("vtkMRMLSequenceNode") == []


def test_a_series_that_cannot_be_read_is_explained(slicer_host, home, tmp_path):
    import numpy as np
    from dicom_samples import truth, write_dynamic

    folder = write_dynamic(tmp_path, truth(), 2.0 * np.arange(12), BodyPartExamined="HEAD")
    search(slicer_host, home, folder)
    victim = next(path for path in folder.rglob("IM*"))
    victim.write_bytes(victim.read_bytes()[:-100])
    home.ui.openButton.click()
    assert slicer_host.wait(lambda: not home.worklist.running, 30)
    assert "truncated" in home.ui.worklistLabel.text


def test_the_panel_is_reloaded_with_its_sections_by_developers(slicer_host, home):
    import slicer

    home.onReload()
    again = slicer.util.getModuleWidget("CTPerfusionSuite")
    again.enter()
    assert again is not home and not again.worklist.running
    again.ui.seriesShown.currentIndex = 1
    assert again.showsAllSeries()
    again.ui.seriesShown.currentIndex = 0


def test_series_that_no_module_takes_are_listed_on_request_with_the_reason(slicer_host, home, study):
    search(slicer_host, home, study)
    home.ui.seriesShown.currentIndex = 1
    assert home.ui.worklistTable.rowCount == len(home.worklist.entries) > 3
    row = next(n for n in range(home.ui.worklistTable.rowCount) if "Topogram" in home.ui.worklistTable.item(n, 1).text())
    home.ui.worklistTable.selectRow(row)
    assert "ocalizer" in home.ui.worklistLabel.text
    assert not home.ui.openButton.visible and "No module" in home.ui.worklistLabel.text


def test_which_series_are_listed_is_kept_with_the_scene(slicer_host, home, tmp_path):
    import slicer

    home.ui.seriesShown.currentIndex = 1
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    assert home.ui.seriesShown.currentIndex == 0
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    assert home.ui.seriesShown.currentIndex == 1


def test_no_folder_of_this_computer_gets_into_a_saved_scene(slicer_host, home, study, tmp_path):
    import slicer

    search(slicer_host, home, study)
    assert slicer.util.saveScene(str(tmp_path / "scene.mrml"))
    assert str(study) not in (tmp_path / "scene.mrml").read_text()


def test_an_empty_folder_is_refused_with_a_sentence(slicer_host, home, tmp_path):
    search(slicer_host, home, tmp_path)
    assert "is empty" in home.ui.worklistLabel.text and "Traceback" not in home.ui.worklistLabel.text
    assert home.ui.searchButton.text == "Search" and home.ui.searchButton.enabled


def test_a_search_is_canceled_at_once_and_leaves_no_process(slicer_host, home, study):
    import psutil

    home.ui.studyFolder.currentPath = str(study)
    home.ui.searchButton.click()
    assert home.ui.searchButton.text == "Cancel"
    began = time.perf_counter()
    home.ui.searchButton.click()
    assert slicer_host.wait(lambda: not home.worklist.running, 5)
    assert time.perf_counter() - began < 2.5
    assert home.ui.worklistLabel.text == "Canceled." and home.ui.searchButton.text == "Search"
    assert not [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]


def test_the_window_stays_alive_while_headers_are_read(slicer_host, home, study):
    import qt

    gaps, last = [], [time.perf_counter()]

    def tick():
        gaps.append(time.perf_counter() - last[0])
        last[0] = time.perf_counter()

    timer = qt.QTimer()
    timer.timeout.connect(tick)
    timer.start(10)
    home.ui.studyFolder.currentPath = str(study)
    home.ui.searchButton.click()
    last[0] = time.perf_counter()
    slicer_host.wait(lambda: not home.worklist.running, 30)
    timer.stop()
    assert sorted(gaps)[-3] < 0.1  # the machine may hold up anyone twice


def test_closing_the_scene_during_a_search_is_safe(slicer_host, home, study):
    import slicer

    home.ui.studyFolder.currentPath = str(study)
    home.ui.searchButton.click()
    slicer.mrmlScene.Clear()
    assert slicer_host.wait(lambda: not home.worklist.running, 30)
    assert home.ui.worklistTable.rowCount == 1


def test_repeated_searches_leave_no_nodes_and_no_observers_behind(slicer_host, home, study):
    import slicer

    search(slicer_host, home, study)
    nodes, observers = slicer.mrmlScene.GetNumberOfNodes(), len(home.Observations)
    for _ in range(3):
        search(slicer_host, home, study)
        home.exit()
        home.enter()
    assert (slicer.mrmlScene.GetNumberOfNodes(), len(home.Observations)) == (nodes, observers)


def test_the_modules_self_test_passes(slicer_host):
    slicer_host.modules["CTPerfusionSuite"].runTest()


def test_the_panel_fits_a_narrow_column(slicer_host, home, study):
    search(slicer_host, home, study)
    for section in (home.ui.partsSection, home.ui.modelsSection):
        section.collapsed = False
    hint = home.parent.minimumSizeHint
    assert (hint() if callable(hint) else hint).width() <= 400 - 20  # a column of 400 pixels with its scroll bar
