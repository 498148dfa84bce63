"""What a user of the PerfusionMaps panel lives through: from a series to maps, times pasted, an own artery, and what is refused."""

import json

import numpy as np
import pytest
from perfusion_panel_hands import run, settle, volumes
from window_waits import START, printed_by

pytest_plugins = ("perfusion_panels",)


def test_a_series_in_the_scene_becomes_maps_lesions_and_metrics_beside_it(slicer_host, slicer, panel, sequence):
    panel.settings.inputNode = sequence[1]
    run(slicer_host, panel)
    node = panel.settings.result
    assert node is not None, panel.ui.statusLabel.text
    from PerfusionMapsLib.mrml_result import mapNodes

    tmax = mapNodes(node)["tmax"]
    assert tmax.GetVoxelValueUnits().GetCodeValue() == "s"
    assert tmax.GetDisplayNode().GetColorNode().GetName() == "CT perfusion time"
    legends = {name: slicer.modules.colors.logic().GetColorLegendDisplayNode(volume) for name, volume in mapNodes(node).items()}
    assert [name for name, legend in legends.items() if legend.GetVisibility()] == ["tmax"]
    assert legends["tmax"].GetTitleText() == "Tmax (s)" and legends["cbf"].GetTitleText() == "CBF (mL/100 g/min)"
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetForegroundVolumeID() == tmax.GetID()
    assert composite.GetBackgroundVolumeID() == node.GetNodeReferenceID("images.mean_ct")
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    folders = {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(n)) for n in (tmax, node.GetNodeReference("segmentation"))}
    assert [hierarchy.GetItemName(folder) for folder in folders] == ["CTP perfusion"]
    settle(slicer_host, panel)
    assert float(volumes(panel)[0]) > 1.0
    assert panel.ui.metricsTable.rowCount > 10 and panel.ui.metricsTable.item(9, 0).toolTip()


def test_a_point_placed_as_artery_shows_its_curve_while_dragged_and_the_next_run_uses_it(slicer_host, slicer, panel, sequence, small_study):
    from PerfusionMaps import VesselSource

    panel.settings.inputNode = sequence[0]
    panel.settings.aifSource = VesselSource.POINT
    assert "none was placed" in panel.ui.applyButton.toolTip and not panel.ui.applyButton.enabled
    vessels = small_study.truth.arteries if hasattr(small_study.truth, "arteries") else None
    series = small_study.series
    brightest = np.unravel_index(np.argmax(series.values.max(axis=0) - series.values[0].astype(int)), series.geometry.shape)
    assert vessels is None or len(vessels)
    lps = series.geometry.to_lps(brightest[::-1])
    ras = [-lps[0], -lps[1], lps[2]]
    point = panel.settings.aifPoint
    beside = [ras[0] + 20, ras[1], ras[2]]
    slicer.util.setSliceViewerLayers(background=sequence[1], fit=True)
    panel.ui.aifPlace.setPlaceModeEnabled(True)
    slicer_host.hover(beside)
    assert panel.ui.aifPointLabel.text == "not placed"
    slicer_host.click(beside)
    assert point.GetNumberOfDefinedControlPoints() == 1 and not panel.ui.aifPlace.placeModeEnabled
    panel.ui.showCurvesButton.checked = True
    slicer_host.wait(lambda: False, 0.15)
    before = panel.ui.aifPointLabel.text
    slicer_host.drag([beside, ras])
    slicer_host.wait(lambda: panel.ui.aifPointLabel.text != before, 1)
    assert panel.ui.aifPointLabel.text != before and "HU" in panel.ui.aifPointLabel.text
    assert panel.ui.applyButton.enabled
    run(slicer_host, panel)
    provenance = json.loads(panel.settings.result.GetText())["provenance"]
    assert provenance["vessels"]["aif_source"] == "position"


def test_frame_numbers_are_refused_until_the_times_are_pasted(slicer_host, slicer, panel, sequence, small_study):
    node = sequence[0]
    node.SetIndexName("")
    node.SetIndexUnit("")
    panel.settings.inputNode = node
    assert "time table" in panel.ui.timesSummary.text
    slicer.app.clipboard().setText("\n".join(str(n) for n in range(5)))
    panel.ui.pasteTimesButton.click()
    assert "5 times were pasted for 32 frames" in panel.ui.timesSummary.text
    slicer.app.clipboard().setText("\n".join(f"{1000 * t:.0f}" for t in small_study.series.times))
    panel.ui.pasteTimesButton.click()
    assert "no seconds of a bolus" in panel.ui.timesSummary.text and len(panel.settings.times) == 0
    slicer.app.clipboard().setText("\n".join(f"{t:.2f}" for t in small_study.series.times))
    panel.ui.pasteTimesButton.click()
    assert len(panel.settings.times) == 32 and "32 frames" in panel.ui.timesSummary.text
    panel.ui.timesTable.item(3, 1).setText("1.0")
    assert "run backward" in panel.ui.timesSummary.text
    assert panel.settings.times[3] == pytest.approx(small_study.series.times[3])


def test_batch_mode_without_a_window_gives_a_result():
    code = """
import slicer
assert slicer.util.mainWindow() is None and slicer.app.layoutManager() is None
from CTPerfusionSuiteLib.mrml_sequences import sequenceFromSeries
from CTPerfusionSuiteLib.phantoms.brain import BrainOptions, simulate_brain
from PerfusionMaps import Method
logic = host.logic("PerfusionMaps")
settings = logic.getParameterNode()
settings.inputNode = sequenceFromSeries(simulate_brain(BrainOptions(size=(96, 96), slices=4, frames=32, seed=11)).series, "CTP")[0]
settings.method, settings.motionCorrection = Method.BCSVD, False
node = logic.process(settings)
print("hypoperfusion", logic.moveThresholds(node, 5.0, 0.3)["volumes_ml"]["hypoperfusion"])
"""
    assert float(printed_by(START.replace("])\n", "], main_window=False)\n") + code).split("hypoperfusion")[-1]) > 1.0


def test_the_logic_runs_without_a_panel(slicer_host, slicer, sequence):
    logic = slicer_host.logic("PerfusionMaps")
    settings = logic.getParameterNode()
    settings.inputNode = sequence[0]
    settings.excludedFrames = "3, 31-32"
    node = logic.process(settings)
    document = json.loads(node.GetText())
    assert document["provenance"]["input"]["frames"] == 29
    low = logic.moveThresholds(node, 4.0, 0.3)["volumes_ml"]["hypoperfusion"]
    assert low > logic.moveThresholds(node, 8.0, 0.3)["volumes_ml"]["hypoperfusion"]


def test_a_refusal_is_one_sentence_that_names_input_and_remedy(slicer_host, slicer, panel, sequence):
    panel.settings.inputNode = sequence[0]
    panel.settings.excludedSlices = "40"
    panel.ui.applyButton.click()
    slicer_host.wait(lambda: panel.run is None, 20)
    assert panel.ui.statusLabel.text == "Slice 40 was to be left out of a series of 6 slices; count them from the lowest, 1"
    assert slicer_host.dialogs == []


def test_the_module_tests_itself_as_reload_and_test_would(slicer_host):
    slicer_host.modules["PerfusionMaps"].runTest()


def test_data_without_a_bolus_are_refused_by_the_child_in_its_own_words(slicer_host, panel):
    from CTPerfusionSuiteLib.mrml_sequences import sequenceFromSeries
    from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries

    geometry = Geometry((64, 64, 3), (3.0, 3.0, 5.0))
    values = np.random.default_rng(0).integers(20, 40, (20, *geometry.shape)).astype(np.int16)
    panel.settings.inputNode = sequenceFromSeries(TimeSeries(values, geometry, 2.0 * np.arange(20)), "Water")[0]
    run(slicer_host, panel)
    text = panel.ui.statusLabel.text
    assert panel.settings.result is None and len(text) > 20 and "Traceback" not in text and "log" not in text
