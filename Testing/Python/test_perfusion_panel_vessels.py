"""An own artery, vein, mask or image in the PerfusionMaps panel: what the user draws is what the analysis takes."""

import json

import numpy as np
import pytest

RUN_S = 120


@pytest.fixture
def panel(slicer_host, small_study):
    """The panel with the small study as its input."""
    from CTPerfusionSuiteLib.mrml_sequences import sequenceFromSeries
    from PerfusionMaps import Method

    panel = slicer_host.open("PerfusionMaps").panel
    panel.settings.method, panel.settings.motionCorrection = Method.BCSVD, False  # quicker
    panel.settings.inputNode = sequenceFromSeries(small_study.series, "CTP")[2]
    yield panel
    panel.stopRun()
    slicer_host.wait(lambda: panel.run is None, 5)


@pytest.fixture
def words(panel):
    """The arguments the child process would get, and the folder with the files it would read."""
    from pathlib import Path

    import slicer

    from PerfusionMapsLib.mrml_study import preparing

    def prepared():
        folder = Path(slicer.util.tempDirectory("words"))
        steps = preparing(panel.settings, folder)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value, folder

    return prepared


def drawn(slicer, panel, box, name="drawn"):
    """A segmentation with one segment that fills a box (slices of K, J, I) of the series."""
    from CTPerfusionSuiteLib.mrml import segmentationNode, setSegment, terminology

    volume = panel.settings.inputNode
    brain = ("12738006", "Brain")
    node = segmentationNode(name, volume, [(name, name, (255, 0, 0), terminology(brain, brain, brain))])
    mask = np.zeros(volume.GetImageData().GetDimensions()[::-1], np.uint8)
    mask[box] = 1
    setSegment(node, name, mask, volume)
    return node, mask


def read_mask(words, name):
    from CTPerfusionSuiteLib.nifti import read_volume

    return read_volume(words[words.index(name) + 1])


def test_every_choice_of_the_method_reaches_the_command(panel, words):
    from PerfusionMaps import Method, NoiseFilter

    settings = panel.settings
    settings.method, settings.denoising, settings.smoothing = Method.OSVD, NoiseFilter.GAUSSIAN, 2.5
    settings.hematocritLarge, settings.motionCorrection, settings.fullResolution = 0.4, False, True
    settings.age, settings.nihss, settings.tmaxThreshold, settings.rcbfThreshold = 71, 14, 5.0, 34.0
    line = " ".join(words()[0])
    for part in ("--method osvd", "--denoise gaussian", "--smoothing 2.5", "--hematocrit 0.4,0.25", "--no-motion-correction",
                 "--full-resolution", "--age 71", "--nihss 14", "--tmax 5", "--rcbf 0.34"):  # fmt: skip
        assert part in line


def test_a_drawn_artery_and_a_vein_from_a_file_are_handed_over(slicer, panel, words, tmp_path, small_study):
    from PerfusionMaps import VesselSource

    node, mask = drawn(slicer, panel, (slice(2, 3), slice(40, 43), slice(30, 32)), "artery")
    settings = panel.settings
    settings.aifSource, settings.aifSegmentation, settings.aifSegment = VesselSource.SEGMENT, node, "artery"
    curve = tmp_path / "vof.csv"
    curve.write_text("time_s,hu\n0,0\n10,0\n20,300\n30,100\n50,20\n")
    settings.vofSource, settings.vofFile = VesselSource.FILE, curve
    panel.ui.showCurvesButton.checked = True
    tables = {node.GetName().split()[-2]: node for node in slicer.util.getNodesByClass("vtkMRMLTableNode")}
    inside = small_study.series.values[:, mask > 0].mean(axis=1)
    assert np.corrcoef(slicer.util.arrayFromTableColumn(tables["AIF"], "AIF"), inside)[0, 1] > 0.999
    assert slicer.util.arrayFromTableColumn(tables["VOF"], "VOF").tolist() == [0, 0, 300, 100, 20]
    panel.ui.showCurvesButton.checked = False
    arguments, _folder = words()
    written = read_mask(arguments, "--aif")
    assert (written.values == mask).all() and written.geometry.close_to(small_study.series.geometry)
    assert arguments[arguments.index("--vof") + 1] == str(curve)


def test_a_point_in_a_moved_volume_is_read_where_it_lies_in_the_series(slicer, panel, words):
    import vtk

    from PerfusionMaps import VesselSource

    shift = vtk.vtkMatrix4x4()
    shift.SetElement(0, 3, 100.0)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    transform.SetMatrixTransformToParent(shift)
    panel.settings.inputNode.SetAndObserveTransformNodeID(transform.GetID())
    panel.settings.aifSource = VesselSource.POINT
    panel.settings.aifPoint.AddControlPoint([110.0, 20.0, 30.0])
    word = next(word for word in words()[0] if word.startswith("--aif_lps="))
    assert [float(part) for part in word.partition("=")[2].split(",")] == pytest.approx([-10.0, -20.0, 30.0])


def test_excluded_regions_and_slices_become_one_mask(slicer, panel, words):
    node, mask = drawn(slicer, panel, (slice(1, 4), slice(20, 40), slice(50, 60)), "old infarct")
    panel.settings.excludedRegions, panel.settings.excludedSlices = node, "6"
    mask[5] = 1
    assert (read_mask(words()[0], "--exclude").values == mask).all()


def test_the_brain_of_a_result_is_edited_as_a_segment_and_used_by_the_next_run(slicer_host, slicer, panel, words):
    panel.ui.applyButton.click()
    assert slicer_host.wait(lambda: panel.run is None, RUN_S)
    mean, mask = (panel.settings.result.GetNodeReference(role) for role in ("images.mean_ct", "masks.brain_mask"))
    brain = slicer.util.arrayFromVolume(mask) > 0
    panel.ui.drawBrainButton.click()
    editor = slicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
    assert editor.GetSourceVolumeNode() is mean
    slicer_host.open("PerfusionMaps")  # back from the Segment Editor
    assert panel.settings.brainMaskSegment == "brain"
    assert (read_mask(words()[0], "--mask").values > 0).sum() == brain.sum()
    # An excluded half of the brain is no tissue of the next run.
    node, _mask = drawn(slicer, panel, (slice(None), slice(None), slice(0, 48)), "half")
    panel.settings.excludedRegions = node
    panel.ui.applyButton.click()
    assert slicer_host.wait(lambda: panel.run is None, RUN_S)
    tissue = slicer.util.arrayFromVolume(panel.settings.result.GetNodeReference("masks.tissue_mask"))
    assert not tissue[:, :, :48].any() and tissue.any()


def test_candidates_are_listed_best_first_and_a_double_click_uses_one(slicer_host, slicer, panel, words):
    from PerfusionMaps import VesselSource

    panel.ui.applyButton.click()
    assert slicer_host.wait(lambda: panel.run is None, RUN_S)
    table = panel.ui.candidatesTable
    names = [table.item(row, 0).text() for row in range(table.rowCount)]
    assert names[:2] == ["AIF 1", "AIF 2"] and "VOF 1" in names and table.item(0, 3).text() == "used"
    panel.vessels.showCandidate(1)
    panel.vessels.useCandidate(1)
    assert panel.settings.aifSource == VesselSource.CANDIDATE and panel.settings.aifCandidate == 2
    assert table.item(1, 3).text() == "used" and table.item(0, 3).text() == ""
    candidates = json.loads(panel.settings.result.GetText())["provenance"]["curves"]["aif_candidates"]
    assert (read_mask(words()[0], "--aif").values > 0).sum() == len(candidates[1]["voxels"])
    panel.ui.applyButton.click()
    assert slicer_host.wait(lambda: panel.run is None, RUN_S)
    provenance = json.loads(panel.settings.result.GetText())["provenance"]
    assert provenance["vessels"]["aif_source"] == "mask"
    # The other candidates are still there to choose from.
    assert [table.item(row, 0).text() for row in range(table.rowCount)] == names and table.item(1, 3).text() == "used"


def test_the_tissue_under_the_mouse_follows_in_the_plot(slicer_host, slicer, panel, small_study):
    panel.ui.showCurvesButton.checked = True
    series = small_study.series
    voxel = (3, 50, 30)
    lps = series.geometry.to_lps(voxel[::-1])
    slicer_host.hover([-lps[0], -lps[1], lps[2]])
    slicer_host.wait(lambda: False, 0.15)
    tables = [node for node in slicer.util.getNodesByClass("vtkMRMLTableNode") if "Tissue" in node.GetName()]
    shown = slicer.util.arrayFromTableColumn(tables[0], "Tissue")
    expected = series.values[(slice(None), *voxel)].astype(float)
    assert np.corrcoef(shown, expected)[0, 1] > 0.999
    assert slicer.util.arrayFromTableColumn(tables[0], "time") == pytest.approx(series.times)
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    for i in range(30, 40):
        lps = series.geometry.to_lps((i, 50, 3))
        slicer_host.hover([-lps[0], -lps[1], lps[2]])
    slicer_host.wait(lambda: False, 0.1)
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes


def test_a_folder_of_dicom_files_is_analyzed_without_loading_it_first(slicer_host, panel, small_dicom):
    panel.settings.inputNode = None
    panel.settings.dicomFolder = small_dicom
    panel.ui.applyButton.click()
    assert slicer_host.wait(lambda: panel.run is None, RUN_S)
    assert panel.settings.result is not None, panel.ui.statusLabel.text
    assert panel.settings.result.GetName() == "dicom perfusion"
    assert "SECRET" not in panel.settings.result.GetText()


def test_regions_of_the_user_and_of_an_atlas_join_the_statistics_with_intervals(slicer_host, slicer, panel, small_study):
    panel.settings.method = type(panel.settings.method).BAYES
    panel.ui.applyButton.click()
    assert slicer_host.wait(lambda: panel.run is None, RUN_S)
    table = panel.ui.regionsTable
    assert slicer_host.wait(lambda: table.rowCount == 5, 3)
    assert [table.item(row, 0).text() for row in (3, 4)] == ["Tissue, left", "Tissue, right"]
    node, _mask = drawn(slicer, panel, (slice(2, 4), slice(30, 60), slice(20, 40)), "M2 territory")
    panel.settings.regions = node
    assert slicer_host.wait(lambda: table.rowCount == 6, 3)
    assert table.item(5, 0).text() == "M2 territory" and "\u00a0to\u00a0" in table.item(5, 2).text()
    atlas = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "atlas")
    from CTPerfusionSuiteLib.mrml import fillVolumeNode, geometryOf
    from CTPerfusionSuiteLib.volumes import Volume

    labels = np.ones(geometryOf(panel.settings.inputNode).shape, np.uint8)
    labels[:, :, 48:] = 2
    fillVolumeNode(atlas, Volume(labels, geometryOf(panel.settings.inputNode)))
    panel.settings.regions = atlas
    assert slicer_host.wait(lambda: table.rowCount == 7, 3)
    volumes = [float(table.item(row, 1).text()) for row in (5, 6)]
    # Moved half a head to the patient's left by a transform, the atlas has its second label outside the head.
    import vtk

    shift = vtk.vtkMatrix4x4()
    shift.SetElement(0, 3, -48 * small_study.series.geometry.spacing[0])
    moved = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    moved.SetMatrixTransformToParent(shift)
    atlas.SetAndObserveTransformNodeID(moved.GetID())
    panel.settings.regions = None
    panel.settings.regions = atlas
    assert slicer_host.wait(lambda: table.rowCount == 6, 3)
    assert float(table.item(5, 1).text()) == pytest.approx(volumes[1], abs=0.2)


def test_edited_times_keep_what_is_known_of_each_slice(slicer, panel, words, small_study):
    from dataclasses import replace

    from CTPerfusionSuiteLib.mrml_sequences import sequenceFromSeries
    from CTPerfusionSuiteLib.sequence_nrrd import read_sequence

    series = small_study.series
    shuttle = replace(series, times=series.times[:, None] + np.array([0, 0, 0, 0.7, 0.7, 0.7]))
    panel.settings.inputNode = sequenceFromSeries(shuttle, "Shuttle")[0]
    panel.settings.times = [float(time) for time in 1.1 * series.times]
    read = read_sequence(words()[1] / "series.seq.nrrd")
    assert read.times[:, 0] == pytest.approx(1.1 * series.times) and read.times[:, 5] == pytest.approx(1.1 * series.times + 0.7)


def test_a_dicom_folder_is_loaded_to_be_seen_and_corrected_before_the_analysis(slicer_host, panel, small_dicom, tmp_path):
    panel.settings.inputNode = None
    panel.settings.dicomFolder = small_dicom
    panel.ui.loadFolderButton.click()
    assert panel.ui.loadFolderButton.text == "Cancel"
    assert slicer_host.wait(lambda: panel.ui.loadFolderButton.text == "Load", RUN_S)
    assert panel.settings.inputNode.GetNumberOfDataNodes() == 32
    assert "32 frames" in panel.ui.timesSummary.text and "SECRET" not in panel.settings.inputNode.GetName()
    panel.settings.inputNode = None
    panel.settings.dicomFolder = tmp_path
    panel.ui.loadFolderButton.click()
    assert slicer_host.wait(lambda: panel.ui.loadFolderButton.text == "Load", RUN_S)
    assert panel.settings.inputNode is None and panel.ui.timesSummary.text.endswith(".") and len(panel.ui.timesSummary.text) > 20


def test_loading_a_dicom_folder_can_be_stopped_while_its_frames_come(slicer_host, slicer, panel, small_dicom):
    panel.settings.inputNode = None
    panel.settings.dicomFolder = small_dicom
    sequences = len(slicer.util.getNodesByClass("vtkMRMLSequenceNode"))
    panel.ui.loadFolderButton.click()
    assert slicer_host.wait(lambda: len(slicer.util.getNodesByClass("vtkMRMLSequenceNode")) > sequences, RUN_S)
    panel.ui.loadFolderButton.click()
    assert panel.ui.loadFolderButton.text == "Load" and panel.ui.timesSummary.text == "Canceled."
    slicer_host.wait(lambda: False, 0.1)
    assert len(slicer.util.getNodesByClass("vtkMRMLSequenceNode")) == sequences and panel.settings.inputNode is None
