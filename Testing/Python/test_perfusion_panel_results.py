"""A result in the PerfusionMaps panel: thresholds that move live, saved scenes, result folders, reports."""

import json
import time

import numpy as np
import pytest
from perfusion_panel_hands import settle, volumes

pytest_plugins = ("perfusion_panels",)


def save(host, panel):
    panel.ui.saveResultButton.click()
    assert panel.run is not None and not panel.ui.saveResultButton.enabled
    assert host.wait(lambda: panel.run is None, 60)


def test_a_threshold_moves_core_and_penumbra_and_the_volume_table_within_a_fifth_of_a_second(slicer_host, slicer, opened):
    panel, node = opened
    before = volumes(panel)
    segmentation, volume = node.GetNodeReference("segmentation"), node.GetNodeReference("images.mean_ct")
    penumbra = segmentation.GetSegmentation().GetSegment("penumbra")
    quickest = 9.0
    for value in (5.0, 7.0, 5.5, 8.0, 4.5):
        began = time.perf_counter()
        panel.ui.tmaxSlider.value = value
        slicer_host.wait(lambda value=value: penumbra.GetName().endswith(f"> {value:g} s)"), 2)
        assert panel.ui.volumesTable.item(0, 0).text().endswith(f"> {value:g} s")
        quickest = min(quickest, time.perf_counter() - began)
    assert quickest < 0.2
    assert float(volumes(panel)[0]) > float(before[0])
    voxel_ml = np.prod(volume.GetSpacing()) / 1000
    for row, segment in ((1, "core"), (2, "penumbra")):
        shown = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment, volume).sum() * voxel_ml
        assert shown == pytest.approx(float(volumes(panel)[row]), abs=0.06)
    settle(slicer_host, panel)
    assert json.loads(node.GetText())["metrics"]["thresholds"]["tmax_s"] == 4.5


def test_a_saved_scene_opens_with_its_result_and_thresholds_still_move(slicer_host, slicer, opened, tmp_path):
    panel, _node = opened
    panel.ui.tmaxSlider.value = 7.5
    path = tmp_path / "study.mrb"
    assert slicer.util.saveScene(str(path))  # at once: what follows the slider is not waited for
    panel.results.flush()
    expected = volumes(panel)
    slicer.mrmlScene.Clear()
    slicer_host.wait(lambda: False, 0.1)
    assert panel.settings.result is None
    slicer.util.loadScene(str(path))
    slicer_host.wait(lambda: False, 0.5)
    assert panel.settings.result is not None and panel.settings.tmaxThreshold == 7.5
    assert volumes(panel) == expected
    panel.ui.tmaxSlider.value = 5.0
    settle(slicer_host, panel)
    assert float(volumes(panel)[0]) > float(expected[0])


def test_a_result_folder_is_opened_exported_and_opened_again_with_the_same_volumes(slicer_host, opened, tmp_path):
    panel, _node = opened
    expected = volumes(panel)
    panel.ui.exportFolder.currentPath = str(tmp_path)
    panel.settings.exportReport = False
    save(slicer_host, panel)
    written = tmp_path / "CTP_perfusion"
    assert (written / "metrics.json").is_file() and (written / "cbf.nii.gz").is_file(), panel.ui.exportLabel.text
    panel.ui.resultFolder.currentPath = str(written)
    panel.ui.openResultButton.click()
    slicer_host.wait(lambda: "Opened" in panel.ui.exportLabel.text, 20)
    settle(slicer_host, panel)
    assert volumes(panel) == expected


def test_ten_results_leave_no_more_nodes_or_observers_than_one(slicer_host, slicer, panel, result_folder):
    from PerfusionMapsLib.mrml_result import removeResult

    counts = []
    for _ in range(10):
        node = panel.logic.openResult(result_folder, "CTP perfusion")
        panel.settings.result = node
        settle(slicer_host, panel)
        panel.settings.result = None
        removeResult(node)
        panel.exit()
        panel.enter()
        slicer_host.wait(lambda: False, 0.02)
        counts.append((slicer.mrmlScene.GetNumberOfNodes(), len(list(panel.Observations)), len(list(panel.vessels.Observations))))
    assert len(set(counts[1:])) == 1, counts


def test_a_saved_result_has_its_report(slicer_host, opened, tmp_path):
    pytest.importorskip("matplotlib")
    panel, _node = opened
    panel.ui.exportFolder.currentPath = str(tmp_path)
    save(slicer_host, panel)
    assert (tmp_path / "CTP_perfusion" / "report.html").is_file(), panel.ui.exportLabel.text
    save(slicer_host, panel)
    assert (tmp_path / "CTP_perfusion_2" / "report.html").is_file()  # nothing saved before is replaced
    panel.ui.saveSceneButton.click()
    assert (tmp_path / "CTPerfusion.mrb").is_file()


def test_without_normal_tissue_core_is_not_assessable_and_not_shown(slicer_host, slicer, opened):
    panel, node = opened
    tissue = slicer.util.arrayFromVolume(node.GetNodeReference("masks.tissue_mask"))
    tissue[slicer.util.arrayFromVolume(node.GetNodeReference("maps.tmax")) < 5] = 0
    panel.ui.tmaxSlider.value = 5.5
    settle(slicer_host, panel)
    assert volumes(panel)[1:] == ["not assessable", "not assessable", "\u2013"] and float(volumes(panel)[0]) > 1
    segmentation, volume = node.GetNodeReference("segmentation"), node.GetNodeReference("images.mean_ct")
    assert not slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "core", volume).any()


def test_a_folder_that_is_no_result_is_refused_in_one_sentence(slicer_host, slicer, panel, tmp_path):
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    panel.ui.resultFolder.currentPath = str(tmp_path)
    panel.ui.openResultButton.click()
    slicer_host.wait(lambda: "not a result" in panel.ui.exportLabel.text, 5)
    assert "not a result" in panel.ui.exportLabel.text
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes


def test_saving_keeps_the_window_free_and_can_be_stopped(slicer_host, opened, tmp_path):
    import psutil

    panel, _node = opened
    panel.ui.exportFolder.currentPath = str(tmp_path)
    panel.ui.tmaxSlider.value = 8.0
    panel.ui.saveResultButton.click()
    assert slicer_host.wait(lambda: panel.ui.progressBar.value > 5, 30) and panel.ui.applyButton.text == "Cancel"
    panel.ui.applyButton.click()
    assert slicer_host.wait(lambda: panel.run is None, 3)
    assert not list(tmp_path.iterdir()) and not psutil.Process().children()
    assert "ancel" in panel.ui.exportLabel.text
    save(slicer_host, panel)
    assert json.loads((tmp_path / "CTP_perfusion" / "metrics.json").read_text())["thresholds"]["tmax_s"] == 8.0
    assert (tmp_path / "CTP_perfusion" / "hypoperf_mask_tmax8.nii.gz").is_file()


def test_a_folder_that_cannot_be_written_is_refused_in_one_sentence(slicer_host, opened, tmp_path):
    panel, _node = opened
    (tmp_path / "file").write_text("no folder")
    panel.ui.exportFolder.currentPath = str(tmp_path / "file")
    save(slicer_host, panel)
    assert "is a file; give another folder" in panel.ui.exportLabel.text


def test_maps_and_plain_volumes_are_not_offered_as_a_series(slicer, opened, sequence):
    panel, node = opened
    tmax, chooser = node.GetNodeReference("maps.tmax"), panel.ui.inputSelector
    for candidate, taken in ((sequence[0], True), (tmax, False), (sequence[1], True)):
        chooser.setCurrentNode(candidate)
        assert (chooser.currentNode() is candidate) == taken


def test_the_patients_sides_are_marked_in_the_views_unless_the_user_takes_the_marks_off(slicer_host, slicer, panel, result_folder):
    node = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        view.SetOrientationMarkerType(view.OrientationMarkerTypeNone)
        view.RemoveAttribute("CTPerfusionSuite.SidesMarked")
    panel.settings.result = panel.logic.openResult(result_folder, "First")
    assert node.GetOrientationMarkerType() == node.OrientationMarkerTypeAxes
    toRAS = node.GetSliceToRAS()
    assert toRAS.GetElement(0, 0) == -1.0  # the patient's left is on the right of the picture
    node.SetOrientationMarkerType(node.OrientationMarkerTypeNone)
    panel.settings.result = panel.logic.openResult(result_folder, "Second")
    assert node.GetOrientationMarkerType() == node.OrientationMarkerTypeNone
