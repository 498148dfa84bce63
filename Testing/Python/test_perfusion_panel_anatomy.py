"""An anatomical image under the maps: registered with the analysis, or on request to a result that is there already."""

import json
import time

import numpy as np
import pytest
from perfusion_panel_hands import run

pytest_plugins = ("perfusion_panels",)


@pytest.fixture
def anatomy(slicer_host, slicer, small_study):
    """The scan before contrast, 6 mm beside its place: a non-contrast CT of another table position."""
    from dataclasses import replace

    from CTPerfusionSuiteLib.mrml import fillVolumeNode
    from CTPerfusionSuiteLib.volumes import Volume

    geometry = small_study.series.geometry
    moved = replace(geometry, origin=tuple(np.add(geometry.origin, (6.0, 0.0, 0.0))))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "NCCT")
    fillVolumeNode(node, Volume(small_study.series.values[:4].mean(axis=0).astype(np.int16), moved, "CT number", "[hnsf'U]"))
    return node


def register(host, panel):
    assert panel.ui.registerButton.enabled, panel.ui.registerButton.toolTip
    panel.ui.registerButton.click()
    assert panel.run is not None and panel.ui.applyButton.text == "Cancel"
    assert host.wait(lambda: panel.run is None, 60)


def backgrounds(panel):
    return [panel.ui.backgroundCombo.itemText(n) for n in range(panel.ui.backgroundCombo.count)]


def test_anatomy_chosen_before_a_run_is_registered_with_it(slicer_host, slicer, panel, sequence, anatomy):
    from PerfusionMaps import Method

    panel.settings.inputNode, panel.settings.anatomy, panel.settings.method = sequence[1], anatomy, Method.BCSVD
    assert not panel.ui.registerButton.enabled and "Apply registers" in panel.ui.registerButton.toolTip
    run(slicer_host, panel)
    assert panel.settings.result is not None, panel.ui.statusLabel.text
    assert backgrounds(panel)[-1].startswith("Anatomy")


def test_anatomy_is_registered_to_a_reopened_result_without_a_new_analysis(slicer_host, slicer, opened, anatomy, small_study):
    panel, node = opened
    assert not panel.ui.registerButton.enabled and "Choose" in panel.ui.registerButton.toolTip
    before = json.loads(node.GetText())["metrics"]
    panel.ui.tmaxSlider.value = 7.0
    panel.settings.anatomy = anatomy
    register(slicer_host, panel)
    assert "registered" in panel.ui.statusLabel.text and backgrounds(panel)[-1].startswith("Anatomy")
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    image = node.GetNodeReference("images.anatomy")
    assert panel.settings.background == "images.anatomy" and composite.GetBackgroundVolumeID() == image.GetID()
    mean = slicer.util.arrayFromVolume(node.GetNodeReference("images.mean_ct"))
    brain = slicer.util.arrayFromVolume(node.GetNodeReference("masks.brain_mask")) > 0
    found = slicer.util.arrayFromVolume(image)
    shifted = np.roll(found, 3, axis=2)  # three pixels of 2.3 mm: what an image that was left in its place would look like
    apart = [np.abs(values - mean)[mean > 300].mean() for values in (found, shifted)]
    assert apart[0] < 0.4 * apart[1] and found[brain].mean() == pytest.approx(mean[brain].mean(), abs=10)
    assert image.GetDisplayNode().GetWindowLevelMin() == 0 and image.GetDisplayNode().GetWindowLevelMax() == 100
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    parents = {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(n)) for n in (image, node)}
    assert len(parents) == 1
    panel.results.flush()
    document = json.loads(node.GetText())
    assert document["metrics"]["thresholds"]["tmax_s"] == 7.0 and document["metrics"]["reference"] == before["reference"]
    assert document["provenance"]["contents"]["images"][-1] == "anatomy"


def test_registering_again_replaces_the_image_and_the_scene_keeps_it(slicer_host, slicer, opened, anatomy, tmp_path):
    panel, _node = opened
    panel.settings.anatomy = anatomy
    counts = []
    for _ in range(2):
        register(slicer_host, panel)
        counts.append((slicer.mrmlScene.GetNumberOfNodes(), panel.settings.result.GetNodeReference("images.anatomy").GetName()))
    assert counts[0] == counts[1]
    assert slicer.util.saveScene(str(tmp_path / "study.mrb"))
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(tmp_path / "study.mrb"))
    slicer_host.wait(lambda: False, 0.3)
    assert backgrounds(panel)[-1].startswith("Anatomy") and panel.settings.background == "images.anatomy"
    assert panel.ui.registerButton.enabled


@pytest.mark.parametrize("how", ["cancel", "close the scene"])
def test_a_registration_that_is_stopped_leaves_nothing(slicer_host, slicer, opened, anatomy, how):
    import psutil

    panel, node = opened
    panel.settings.anatomy = anatomy
    slicer_host.wait(lambda: False, 0.5)
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    panel.ui.registerButton.click()
    folder = panel.run._folder
    assert slicer_host.wait(lambda: panel.ui.progressBar.value > 10, 30) and psutil.Process().children()
    assert "Registering" in panel.ui.statusLabel.text and not panel.ui.registerButton.enabled
    began = time.perf_counter()
    if how == "cancel":
        panel.ui.applyButton.click()
    else:
        slicer.mrmlScene.Clear()
    assert slicer_host.wait(lambda: panel.run is None, 3) and time.perf_counter() - began < 2.0
    assert not folder.exists() and not psutil.Process().children()
    if how == "cancel":
        assert slicer.mrmlScene.GetNumberOfNodes() == nodes and node.GetNodeReference("images.anatomy") is None
        assert panel.ui.registerButton.enabled


def test_an_anatomy_that_a_transform_brings_near_starts_from_there_and_one_that_is_bent_is_refused(slicer, opened, anatomy, tmp_path):
    import vtk

    from CTPerfusionSuiteLib.errors import DataRefused
    from CTPerfusionSuiteLib.mrml import geometryOf
    from CTPerfusionSuiteLib.nifti import volume_grid
    from PerfusionMapsLib.mrml_study import writingAnatomy

    mean = opened[1].GetNodeReference("images.mean_ct")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 6.0)  # right by 6 mm, where the scan lies
    moved = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    moved.SetMatrixTransformToParent(matrix)
    anatomy.SetAndObserveTransformNodeID(moved.GetID())
    list(writingAnatomy(anatomy, tmp_path / "anatomy.nrrd", mean))
    assert volume_grid(tmp_path / "anatomy.nrrd").close_to(geometryOf(mean))
    bent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "bent")
    bent.SetAndObserveTransformToParent(vtk.vtkThinPlateSplineTransform())
    anatomy.SetAndObserveTransformNodeID(bent.GetID())
    with pytest.raises(DataRefused, match="harden the transform"):
        writingAnatomy(anatomy, tmp_path / "bent.nrrd", mean)


def test_what_cannot_be_registered_is_refused_in_one_sentence(slicer_host, slicer, opened, anatomy):
    panel, node = opened
    slicer.util.arrayFromVolume(anatomy)[:] = 0
    panel.settings.anatomy = anatomy
    register(slicer_host, panel)
    assert "is empty" in panel.ui.statusLabel.text and node.GetNodeReference("images.anatomy") is None
    slicer.mrmlScene.RemoveNode(node.GetNodeReference("images.mean_ct"))
    register(slicer_host, panel)
    assert "has lost its volume" in panel.ui.statusLabel.text
