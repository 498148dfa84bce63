"""Runs of the PerfusionMaps panel that are stopped, fail, end late, or are repeated."""

import time

import pytest
from perfusion_panel_hands import RUN_S, run, settle

pytest_plugins = ("perfusion_panels",)


def test_cancel_returns_control_and_leaves_no_process_node_or_file(slicer_host, slicer, panel, sequence):
    import psutil

    panel.settings.inputNode = sequence[0]
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    panel.ui.applyButton.click()
    slicer_host.wait(lambda: panel.ui.progressBar.value > 10, 30)
    folder = panel.run._folder
    assert folder.is_dir() and psutil.Process().children()
    began = time.perf_counter()
    panel.ui.applyButton.click()
    assert time.perf_counter() - began < 0.1
    assert slicer_host.wait(lambda: panel.run is None, 3)
    assert time.perf_counter() - began < 2.0
    assert not folder.exists() and not psutil.Process().children()
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes
    assert panel.ui.applyButton.text == "Apply" and "ancel" in panel.ui.statusLabel.text


def test_the_scene_can_be_closed_in_the_middle_of_a_run(slicer_host, slicer, panel, sequence):
    import psutil

    panel.settings.inputNode = sequence[0]
    panel.ui.applyButton.click()
    slicer_host.wait(lambda: panel.ui.progressBar.value > 10, 30)
    slicer.mrmlScene.Clear()
    assert slicer_host.wait(lambda: panel.run is None, 3)
    assert not psutil.Process().children()
    assert panel.settings.result is None and not panel.ui.applyButton.enabled


@pytest.mark.parametrize("how", ["cancel", "close the scene"])
def test_stopping_while_maps_are_loaded_removes_what_was_loaded(slicer_host, slicer, panel, sequence, how):
    panel.settings.inputNode = sequence[0]
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    panel.ui.applyButton.click()
    slicer_host.wait(lambda: slicer.mrmlScene.GetNumberOfNodes() > nodes + 3, RUN_S)
    assert panel.run is not None
    if how == "cancel":
        panel.ui.applyButton.click()
    else:
        slicer.mrmlScene.Clear()
    slicer_host.wait(lambda: panel.run is None, 2)
    assert panel.run is None and panel.settings.result is None
    assert not slicer.util.getNodesByClass("vtkMRMLTextNode") and not [
        node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if "perfusion" in node.GetName()
    ]
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    assert not hierarchy.GetItemChildWithName(hierarchy.GetSceneItemID(), "CTP perfusion")


def test_running_again_replaces_the_result_and_leaves_no_more_nodes_unless_both_are_wanted(slicer_host, slicer, panel, sequence, tmp_path):
    from PerfusionMaps import Method

    panel.settings.inputNode, panel.settings.method = sequence[1], Method.BCSVD
    counts = []
    for _ in range(3):
        run(slicer_host, panel)
        settle(slicer_host, panel)
        counts.append(slicer.mrmlScene.GetNumberOfNodes())
        assert [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLTextNode")] == ["CTP perfusion"]
    assert len(set(counts)) == 1, counts
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(panel.settings.result)
    assert hierarchy.GetItemName(hierarchy.GetItemParent(item)) == "CTP perfusion"
    # A scene saved at the very end of a run holds no half of the earlier result.
    panel.ui.applyButton.click()
    assert slicer_host.wait(lambda: panel.run is None, RUN_S)
    panel.ui.exportFolder.currentPath = str(tmp_path)
    panel.ui.saveSceneButton.click()
    assert (tmp_path / "CTPerfusion.mrb").is_file()
    assert [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLTextNode")] == ["CTP perfusion"]
    panel.settings.keepResults = True
    run(slicer_host, panel)
    assert len(slicer.util.getNodesByClass("vtkMRMLTextNode")) == 2


def test_a_child_that_dies_or_never_starts_is_told_in_one_sentence(slicer_host, panel, sequence, monkeypatch):
    import psutil

    from CTPerfusionSuiteLib.panel import child_process

    panel.settings.inputNode = sequence[0]
    panel.ui.applyButton.click()
    slicer_host.wait(lambda: panel.ui.progressBar.value > 10, 30)
    for child in psutil.Process().children():
        child.kill()
    assert slicer_host.wait(lambda: panel.run is None, 5)
    assert "ended abruptly" in panel.ui.statusLabel.text
    monkeypatch.setattr(child_process, "pythonProgram", lambda: "/nowhere/PythonSlicer")
    panel.ui.applyButton.click()
    assert slicer_host.wait(lambda: panel.run is None, 30)
    assert "could not be started" in panel.ui.statusLabel.text


def test_the_module_can_be_reloaded_in_the_middle_of_a_run(slicer_host, slicer, panel, sequence, monkeypatch):
    import sys

    import psutil

    for name in [name for name in sys.modules if name.startswith("PerfusionMapsLib")]:
        monkeypatch.setitem(sys.modules, name, sys.modules[name])  # other tests know these

    panel.settings.inputNode = sequence[0]
    panel.ui.applyButton.click()
    slicer_host.wait(lambda: panel.ui.progressBar.value > 10, 30)
    stopped = panel.run
    panel.widget.onReload()
    assert slicer_host.wait(lambda: not stopped.running, 3) and not psutil.Process().children()
    again = slicer_host.widget("PerfusionMaps").panel
    assert again is not panel and again.settings.inputNode is not None and again.ui.applyButton.text == "Apply"
    panel.run = None


def test_a_run_of_one_study_ends_beside_it_though_another_is_shown_meanwhile(slicer_host, slicer, panel, sequence, small_study):
    from CTPerfusionSuiteLib.mrml_sequences import sequenceFromSeries

    second = sequenceFromSeries(small_study.series, "Other")[2]
    panel.settings.inputNode = sequence[1]
    panel.ui.applyButton.click()
    slicer_host.wait(lambda: panel.ui.progressBar.value > 5, 30)
    panel.settings.inputNode = second
    assert slicer_host.wait(lambda: panel.run is None, RUN_S)
    assert panel.settings.result is None and "CTP perfusion are ready" in panel.ui.statusLabel.text
    panel.settings.inputNode = sequence[1]
    assert panel.settings.result.GetName() == "CTP perfusion"
