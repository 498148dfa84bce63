"""A newcomer opens the home of the suite: finds a study, opens it in its module, sees what is installed, keeps models."""

import time

import pytest
from model_archives import files_of_model, write_archive

from CTPerfusionSuiteLib.phantoms.brain_options import BrainOptions
from CTPerfusionSuiteLib.phantoms.dicom_styles import write_dicom_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A small stroke study as a scanner exports it, one series a time point."""
    from CTPerfusionSuiteLib.phantoms.brain import simulate_brain

    folder = tmp_path_factory.mktemp("archive") / "study"
    series = simulate_brain(BrainOptions(size=(32, 32), slices=4, frames=16, dt_s=2.5, seed=5)).series
    write_dicom_study(series, folder, style="canon", seed=5, patient_name="SECRET^NAME")
    return folder


@pytest.fixture
def home(slicer_host):
    """The panel as a user finds it."""
    panel = slicer_host.open("CTPerfusionSuite")
    panel.worklist.setEntries([])
    panel.ui.studyFolder.currentPath = ""
    yield panel
    panel.stopChildren()
    assert slicer_host.wait(lambda: not panel.worklist.running and not panel.sample.running, 5)


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
                 "removeModelButton", "studyFolder", "modelFolder", "seriesShown"):
        assert getattr(home.ui, name).toolTip, name
    assert not home.ui.searchButton.enabled and not home.ui.openButton.enabled


def test_a_folder_is_searched_and_the_perfusion_series_is_found(slicer_host, home, study):
    search(slicer_host, home, study)
    assert home.ui.worklistTable.rowCount == 1
    shown = home.ui.worklistTable.item(0, 1).text()
    assert "Neuro Perfusion" in shown and "16 x 4 slices" in shown and "SECRET" not in shown
    assert home.ui.openButton.enabled and "CT Perfusion Maps" in home.ui.openButton.text


def test_the_series_opens_in_its_module_with_its_true_times(slicer_host, home, study):
    import slicer

    search(slicer_host, home, study)
    home.ui.openButton.click()
    assert home.ui.searchButton.text == "Cancel" and not home.ui.openButton.enabled
    assert slicer_host.wait(lambda: not home.worklist.running, 30)
    assert slicer.util.selectedModule() == "PerfusionMaps"
    sequence = slicer.util.getModuleLogic("PerfusionMaps").getParameterNode().inputNode
    assert sequence is not None and sequence.GetNumberOfDataNodes() == 16
    assert (sequence.GetIndexUnit(), float(sequence.GetNthIndexValue(2))) == ("s", 5.0)


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
    assert not [name for name in after - before if "CTPerfusionSuite" in name]


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
    assert not home.ui.openButton.enabled and "No module" in home.ui.openButton.toolTip


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


def test_missing_parts_are_named_and_installed_only_after_asking(slicer_host, home, monkeypatch):
    import slicer.packaging

    from CTPerfusionSuiteLib.panel import parts_section

    real = parts_section.installed_version
    monkeypatch.setattr(parts_section, "installed_version", lambda name: None if name == "highdicom" else real(name) or "1.0")
    home.parts.update()
    assert "without maps and lesions as DICOM objects" in home.ui.partsLabel.text
    asked, there = [], iter([False, True])
    monkeypatch.setattr(slicer.packaging, "pip_check", lambda requirements: next(there))
    monkeypatch.setattr(slicer.packaging, "pip_ensure", lambda requirements, **options: asked.append((requirements, options)))
    home.ui.installButton.click()
    assert asked == [(["highdicom>=0.27"], {"requester": "CT Perfusion Suite"})]  # asks, and shows progress: Slicer's own defaults
    assert "Not everything" not in home.ui.partsLabel.text


def test_declining_an_installation_is_no_error(slicer_host, home, monkeypatch):
    import slicer.packaging

    def decline(requirements, **options):
        raise RuntimeError("User declined package installation")

    monkeypatch.setattr(slicer.packaging, "pip_check", lambda requirements: False)
    monkeypatch.setattr(slicer.packaging, "pip_ensure", decline)
    monkeypatch.setattr(home.parts, "missing", lambda: ["highdicom"])
    home.parts.onInstall()
    assert "Not everything was installed" in home.ui.partsLabel.text
    assert slicer_host.dialogs == []


def test_a_failing_installation_is_explained_without_a_trace(home, monkeypatch):
    import slicer.packaging

    def fail(requirements, **options):
        raise OSError("no route to host")

    said = []
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text, **options: said.append((text, options)))
    monkeypatch.setattr(slicer.packaging, "pip_check", lambda requirements: False)
    monkeypatch.setattr(slicer.packaging, "pip_ensure", fail)
    monkeypatch.setattr(home.parts, "missing", lambda: ["highdicom"])
    home.parts.onInstall()
    assert "Check the network" in said[0][0] and "no route" in said[0][1]["detailedText"]


def test_without_its_extension_pytorch_is_explained_not_installed(home):
    home.parts.onInstallTorch()
    assert "Extensions Manager" in home.ui.partsLabel.text


def test_a_model_is_imported_checked_shown_with_its_card_and_removed(slicer_host, home, tmp_path, monkeypatch):
    import slicer

    home.ui.modelFolder.currentPath = str(tmp_path / "models")
    assert "No models here" in home.ui.modelsLabel.text
    home.models.importFile(write_archive(tmp_path / "tiny.zip", files_of_model()))
    table = home.ui.modelsTable
    assert [table.item(0, column).text() for column in range(4)] == ["tiny", "0.1.0", "0.0 MB", "not checked"]
    assert "nothing may be claimed" in home.ui.modelCard.plainText
    home.ui.checkModelButton.click()
    assert table.item(0, 3).text() == "intact"
    weights = tmp_path / "models" / "tiny" / "models" / "model.pt"
    weights.write_bytes(b"changed")
    home.ui.checkModelButton.click()
    assert table.item(0, 3).text() == "damaged" and "was changed" in home.ui.modelCard.plainText
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *arguments, **options: False)
    home.ui.removeModelButton.click()
    assert weights.is_file()
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *arguments, **options: True)
    home.ui.removeModelButton.click()
    assert not weights.exists() and table.rowCount == 0 and not home.ui.removeModelButton.enabled


def test_a_refused_model_is_explained_and_nothing_is_kept(home, tmp_path, monkeypatch):
    import slicer

    said = []
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text, *arguments, **options: said.append(text))
    home.ui.modelFolder.currentPath = str(tmp_path / "models")
    home.models.importFile(write_archive(tmp_path / "tiny.zip", {**files_of_model(), "models/model.pt": b"other"}))
    assert "was changed" in said[0]
    assert home.ui.modelsTable.rowCount == 0


def test_the_modules_self_test_passes(slicer_host):
    slicer_host.run_test("CTPerfusionSuite")


def test_the_panel_fits_a_narrow_column(slicer_host, home, study):
    search(slicer_host, home, study)
    for section in (home.ui.partsSection, home.ui.modelsSection):
        section.collapsed = False
    hint = home.parent.minimumSizeHint
    assert (hint() if callable(hint) else hint).width() <= 400
