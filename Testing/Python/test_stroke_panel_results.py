"""A network's result in the scene: what is shown, the volumes of two methods, the threshold maps behind it, and a saved scene."""

import numpy as np
import pytest
from stroke_panel_hands import cells, lesion_ml, open_result

pytest_plugins = ("stroke_panels",)


@pytest.fixture
def panel(stroke_panel):
    return stroke_panel


def test_a_result_has_volumes_with_units_colors_and_legend_and_segments_with_terminology(slicer, panel, stroke_folder):
    from made_up_stroke import made_up_stroke

    node, truth = open_result(panel, stroke_folder), made_up_stroke()
    from StrokeSegmentationLib.mrml_stroke_result import shownVolumes

    volumes = shownVolumes(node)
    assert list(volumes) == ["hypoperfusion_probability", "core_probability", "penumbra_probability", "uncertainty"]
    core = volumes["core_probability"]
    assert core.GetVoxelValueUnits().GetCodeValue() == "1" and core.GetVoxelValueQuantity().GetCodeMeaning() == "core probability"
    assert node.GetNodeReference("images.mean_ct").GetVoxelValueUnits().GetCodeValue() == "[hnsf'U]"
    np.testing.assert_allclose(slicer.util.arrayFromVolume(core), truth.probabilities["core"], atol=1e-6)
    both = truth.probabilities["core"] + truth.probabilities["penumbra"]
    np.testing.assert_allclose(slicer.util.arrayFromVolume(volumes["hypoperfusion_probability"]), both, atol=1e-6)
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(volumes["hypoperfusion_probability"])
    assert legend.GetVisibility() and legend.GetTitleText() == "Probability of\nhypoperfusion"
    segmentation = node.GetNodeReference("segmentation").GetSegmentation()
    assert [segmentation.GetNthSegment(n).GetName() for n in range(2)] == ["Core (network)", "Penumbra (network)"]
    assert "simulated studies only" in node.GetNodeReference("segmentation").GetDescription()
    import vtk

    for segment in ("core", "penumbra"):
        entry = vtk.reference("")
        assert segmentation.GetSegment(segment).GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), entry)
        assert "SCT^371863001^Perfusion" in str(entry) and "SCT^12738006^Brain" in str(entry)
        assert lesion_ml(slicer, node, segment) == pytest.approx(truth.metrics["volumes_ml"][segment], abs=0.01)
    place = volumes["core_probability"].GetOrigin()
    x, y, z = truth.geometry.origin
    assert place == pytest.approx((-x, -y, z))


def test_a_network_trained_on_ones_own_patients_is_not_called_simulated(panel, stroke_folder, tmp_path):
    import json
    import shutil

    folder = shutil.copytree(stroke_folder, tmp_path / "own")
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    metrics["model"]["simulation_trained"] = False
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    node = panel.logic.openResult(folder, "Own")
    for described in (node, node.GetNodeReference("segmentation"), node.GetNodeReference("maps.core_probability")):
        assert "studies its user gave" in described.GetDescription()
    panel.settings.result = node
    shown = "Shown result: Network trained on its user's studies, research only."
    assert panel.ui.noticeLabel.text == f"Chosen model: Simulation-trained network, research only. {shown}"
    panel.settings.model = "of-another-computer"
    assert panel.ui.noticeLabel.text == shown.removeprefix("Shown result: ")
    assert "studies its user gave" in panel.ui.noticeLabel.toolTip
    panel.settings.result = None
    assert panel.ui.noticeLabel.text == "Simulation-trained network, research only."


def test_a_result_lies_under_the_transform_of_its_series(slicer, panel, sequence, stroke_folder):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    sequence[1].SetAndObserveTransformNodeID(transform.GetID())
    node = panel.logic.openResult(stroke_folder, "Moved stroke", sequence[1])
    parts = [node.GetNodeReference(role) for role in ("images.mean_ct", "maps.core_probability", "segmentation")]
    assert [part.GetTransformNodeID() for part in parts] == [transform.GetID()] * 3


def test_what_is_shown_in_color_is_chosen_and_fades_over_the_mean_ct(slicer_host, slicer, panel, stroke_folder):
    from StrokeSegmentationLib.mrml_stroke_result import shownVolumes

    node = open_result(panel, stroke_folder)
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == node.GetNodeReferenceID("images.mean_ct")
    assert composite.GetForegroundVolumeID() == shownVolumes(node)["hypoperfusion_probability"].GetID()
    panel.ui.mapCombo.currentIndex = 3
    assert panel.settings.shownMap == "uncertainty"
    assert composite.GetForegroundVolumeID() == shownVolumes(node)["uncertainty"].GetID()
    panel.ui.opacitySlider.value = 20
    assert composite.GetForegroundOpacity() == pytest.approx(0.2)
    legends = slicer.modules.colors.logic()
    shown = [role for role, volume in shownVolumes(node).items() if legends.GetColorLegendDisplayNode(volume).GetVisibility()]
    assert shown == ["uncertainty"]


def test_the_table_shows_both_methods_and_their_overlap(panel, stroke_folder):
    from made_up_stroke import made_up_stroke

    open_result(panel, stroke_folder)
    metrics = made_up_stroke().metrics
    own, rival = metrics["volumes_ml"], metrics["threshold_maps"]
    rows = cells(panel.ui.volumesTable)
    for row, name in enumerate(("hypoperfusion", "core", "penumbra")):
        values = [f"{own[name]:.1f}", f"{rival['volumes_ml'][name]:.1f}", f"{rival['dice'][name]:.2f}"]
        assert rows[row] == [name.capitalize(), *values]
    assert rows[3][1] == f"{own['hypoperfusion'] / own['core']:.1f}" and own["core"] > 1
    assert "Tmax > 6 s, relative CBF < 30 %" in panel.ui.comparisonLabel.text
    assert "simulated studies only" in panel.ui.flagsLabel.text and "too little memory" in panel.ui.flagsLabel.text
    assert "made-up 0.1.0" in panel.ui.resultNoticeLabel.text and "recommends the threshold maps" in panel.ui.resultNoticeLabel.text


def test_without_threshold_maps_or_uncertainty_the_panel_says_so(panel, tmp_path):
    from made_up_stroke import write_made_up_stroke

    write_made_up_stroke(tmp_path / "alone", maps=False, uncertainty=False, recommended="network")
    open_result(panel, tmp_path / "alone")
    assert cells(panel.ui.volumesTable)[0][2:] == ["\u2013", "\u2013"]
    assert "no threshold maps" in panel.ui.comparisonLabel.text and panel.ui.mapCombo.count == 3
    assert not panel.ui.openMapsButton.enabled and not panel.ui.thresholdsCheck.enabled
    assert "was better than the threshold maps" in panel.ui.resultNoticeLabel.text


def test_lesions_of_the_thresholds_are_outlined_over_those_of_the_network(panel, stroke_folder):
    node = open_result(panel, stroke_folder)
    own, theirs = (n.GetNodeReference("segmentation").GetDisplayNode() for n in (node, node.GetNodeReference("thresholds")))
    assert own.GetVisibility() and not theirs.GetVisibility() and own.GetOpacity2DOutline() == 1
    panel.ui.thresholdsCheck.checked = True
    assert theirs.GetVisibility() and theirs.GetOpacity2DFill() == 0 and own.GetOpacity2DOutline() == 0
    panel.ui.thresholdsCheck.checked = False
    assert not theirs.GetVisibility() and own.GetOpacity2DOutline() == 1 and theirs.GetOpacity2DFill() > 0


def test_the_threshold_maps_are_opened_in_perfusion_maps_with_movable_thresholds(slicer_host, slicer, panel, stroke_folder):
    node = open_result(panel, stroke_folder)
    expected = cells(panel.ui.volumesTable)[0][2]
    panel.ui.openMapsButton.click()
    assert slicer.util.selectedModule() == "PerfusionMaps"
    maps = slicer_host.widget("PerfusionMaps").panel
    assert maps.settings.result is node.GetNodeReference("thresholds")
    assert slicer_host.wait(lambda: maps.ui.volumesTable.rowCount == 4, 5)
    maps.results.flush()
    assert maps.ui.volumesTable.item(0, 1).text().split(" ")[0] == expected
    own, theirs = (n.GetNodeReference("segmentation").GetDisplayNode() for n in (node, maps.settings.result))
    assert theirs.GetVisibility() and theirs.GetOpacity2DFill() > 0 and not own.GetVisibility()
    legends, tmax = slicer.modules.colors.logic(), maps.settings.result.GetNodeReference("maps.tmax")
    whole = node.GetNodeReference("maps.hypoperfusion_probability")
    assert [legends.GetColorLegendDisplayNode(volume).GetVisibility() for volume in (tmax, whole)] == [True, False]
    slicer_host.open("StrokeSegmentation")
    assert own.GetVisibility() and not theirs.GetVisibility()
    assert [legends.GetColorLegendDisplayNode(volume).GetVisibility() for volume in (tmax, whole)] == [False, True]
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert "hypoperfusion" in slicer.mrmlScene.GetNodeByID(composite.GetForegroundVolumeID()).GetName()


def test_a_saved_scene_opens_with_the_result_its_choices_and_its_threshold_maps(slicer_host, slicer, panel, stroke_folder, tmp_path):
    open_result(panel, stroke_folder)
    panel.settings.shownMap, panel.settings.passes, panel.settings.showThresholds = "core_probability", 7, True
    expected, path = cells(panel.ui.volumesTable), tmp_path / "study.mrb"
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear()
    slicer_host.wait(lambda: False, 0.1)
    assert panel.settings.result is None and panel.ui.volumesTable.isHidden()
    slicer.util.loadScene(str(path))
    slicer_host.wait(lambda: False, 0.3)
    node = panel.settings.result
    assert node is not None and cells(panel.ui.volumesTable) == expected
    assert panel.settings.shownMap == "core_probability" and panel.settings.passes == 7 and panel.ui.passesSpin.value == 7
    assert lesion_ml(slicer, node, "core") == pytest.approx(float(expected[1][1]), abs=0.06)
    assert node.GetNodeReference("thresholds").GetNodeReference("segmentation").GetDisplayNode().GetVisibility()
    panel.ui.openMapsButton.click()
    slicer_host.wait(lambda: False, 0.1)
    assert slicer_host.widget("PerfusionMaps").panel.settings.result is node.GetNodeReference("thresholds")


@pytest.mark.parametrize("after", [2, 9, 20])
def test_stopping_while_a_result_is_loaded_removes_what_was_loaded(slicer_host, slicer, panel, stroke_folder, after):
    from StrokeSegmentationLib.mrml_stroke_result import loadingStroke

    slicer_host.wait(lambda: False, 0.05)
    open_result(panel, stroke_folder)  # colors are made once
    from StrokeSegmentationLib.mrml_stroke_result import removeStrokeResult

    removeStrokeResult(panel.settings.result)
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    steps = loadingStroke(stroke_folder, "Half")
    for _ in range(after):
        next(steps)
    assert slicer.mrmlScene.GetNumberOfNodes() > nodes
    steps.close()
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes


def test_a_folder_that_is_no_result_is_refused_in_one_sentence(slicer_host, slicer, panel, tmp_path, stroke_folder):
    import shutil

    nodes = slicer.mrmlScene.GetNumberOfNodes()
    broken = tmp_path / "broken"
    shutil.copytree(stroke_folder, broken)
    (broken / "core_mask.nii.gz").write_bytes(b"")
    for folder in (tmp_path, stroke_folder / "maps", broken):
        panel.ui.openingLabel.text = ""
        panel.ui.resultFolder.currentPath = str(folder)
        panel.ui.openResultButton.click()
        assert slicer_host.wait(lambda: "not a complete result" in panel.ui.openingLabel.text, 5), panel.ui.openingLabel.text
    slicer_host.wait(lambda: False, 0.05)
    left = {node.GetClassName() for node in slicer.util.getNodesByClass("vtkMRMLNode")}
    assert slicer.mrmlScene.GetNumberOfNodes() <= nodes + 1, left  # a color table stays
    assert not slicer.util.getNodesByClass("vtkMRMLTextNode")


def test_a_result_whose_volume_was_deleted_is_told_and_nothing_breaks(slicer, panel, stroke_folder):
    node = panel.logic.openResult(stroke_folder, "Study stroke")
    slicer.mrmlScene.RemoveNode(node.GetNodeReference("images.mean_ct"))
    panel.settings.result = node
    assert "has lost its volumes" in panel.ui.statusLabel.text and panel.ui.volumesTable.isHidden()
