"""Two studies open at once in the PerfusionMaps panel: neither takes anything from the other."""

from perfusion_panel_hands import RUN_S, run, settle, volumes

pytest_plugins = ("perfusion_panels",)


def test_two_studies_in_one_scene_keep_their_own_settings_and_results(slicer_host, slicer, panel, sequence, small_study, result_folder):
    from CTPerfusionSuiteLib.mrml_sequences import sequenceFromSeries
    from PerfusionMaps import VesselSource

    first, second = sequence[1], sequenceFromSeries(small_study.series, "Other")[2]
    panel.settings.inputNode = first
    panel.settings.aifSource = VesselSource.POINT
    panel.settings.aifPoint.AddControlPoint([0.0, 0.0, 0.0])
    panel.settings.excludedFrames = "2"
    panel.settings.result = panel.logic.openResult(result_folder, "First")
    settle(slicer_host, panel)
    panel.ui.tmaxSlider.value = 8.0
    panel.settings.inputNode = second
    settle(slicer_host, panel)
    assert panel.settings.aifSource == VesselSource.AUTOMATIC and panel.settings.aifPoint is None
    assert panel.settings.result is None and panel.settings.excludedFrames == ""
    panel.settings.result = panel.logic.openResult(result_folder, "Second")
    settle(slicer_host, panel)
    assert panel.settings.tmaxThreshold == 6.0
    panel.ui.tmaxSlider.value = 5.0
    settle(slicer_host, panel)
    at_five = volumes(panel)
    panel.settings.inputNode = None
    assert panel.settings.result is None and panel.settings.excludedFrames == ""
    panel.settings.inputNode = first
    settle(slicer_host, panel)
    assert panel.settings.aifSource == VesselSource.POINT and panel.settings.excludedFrames == "2"
    assert panel.settings.result.GetName() == "First" and panel.settings.tmaxThreshold == 8.0
    assert volumes(panel) != at_five


def test_a_series_opened_from_elsewhere_brings_no_settings_of_the_study_before(slicer_host, slicer, panel, sequence, small_study):
    from CTPerfusionSuiteLib.mrml_sequences import sequenceFromSeries

    panel.settings.inputNode = sequence[1]
    panel.settings.excludedFrames = "5"
    slicer.util.selectModule("CTPerfusionSuite")
    slicer_host.logic("PerfusionMaps").getParameterNode().inputNode = sequenceFromSeries(small_study.series, "Other")[0]
    slicer_host.open("PerfusionMaps")
    assert panel.settings.inputNode.GetName() == "Other" and panel.settings.excludedFrames == ""
    panel.settings.inputNode = sequence[0]
    assert panel.settings.excludedFrames == "5"


def test_age_curve_file_territories_and_thresholds_never_reach_another_patient(slicer, panel, sequence, small_study, tmp_path):
    from CTPerfusionSuiteLib.mrml_sequences import sequenceFromSeries
    from PerfusionMaps import VesselSource

    settings, second = panel.settings, sequenceFromSeries(small_study.series, "Other")[2]
    settings.inputNode = sequence[1]
    territories = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "territories")
    settings.age, settings.nihss, settings.regions, settings.tmaxThreshold = 71, 14, territories, 8.0
    settings.aifSource, settings.aifFile = VesselSource.FILE, tmp_path / "first.csv"
    settings.inputNode = second
    assert (settings.age, settings.nihss, settings.regions, settings.tmaxThreshold) == (0, -1, None, 6.0)
    assert settings.aifSource == VesselSource.AUTOMATIC and str(settings.aifFile) == "."
    settings.age, settings.vofSource, settings.vofFile = 55, VesselSource.FILE, tmp_path / "second.csv"
    settings.inputNode = sequence[1]
    assert (settings.age, settings.nihss, settings.regions, settings.tmaxThreshold) == (71, 14, territories, 8.0)
    assert settings.aifFile == tmp_path / "first.csv" and settings.vofSource == VesselSource.AUTOMATIC and str(settings.vofFile) == "."


def test_a_result_folder_of_another_scan_is_never_taken_for_the_chosen_study(slicer_host, panel, sequence, small_study, result_folder):
    from dataclasses import replace

    from CTPerfusionSuiteLib.mrml_sequences import sequenceFromSeries
    from PerfusionMaps import Method

    series = small_study.series
    beside = replace(series.geometry, origin=tuple(c + 9.0 for c in series.geometry.origin))
    panel.settings.inputNode = sequenceFromSeries(replace(series, geometry=beside), "Other patient")[2]
    panel.settings.method = Method.BCSVD
    panel.ui.resultFolder.currentPath = str(result_folder)
    panel.ui.openResultButton.click()
    assert slicer_host.wait(lambda: panel.settings.result is not None, 20)
    foreign = panel.settings.result
    assert foreign.GetNodeReference("series") is None and "another scan" in panel.ui.exportLabel.text
    assert panel.ui.candidatesTable.isHidden()
    run(slicer_host, panel)
    assert foreign.GetScene() is not None and panel.settings.result is not foreign  # a run replaces results of its own study only
    panel.settings.inputNode = sequence[1]
    panel.ui.openResultButton.click()
    assert slicer_host.wait(lambda: panel.settings.result is not None, 20)
    assert panel.settings.result.GetNodeReference("series") is sequence[1] and panel.ui.exportLabel.text.startswith("Opened")
    assert not panel.ui.candidatesTable.isHidden()


def test_a_run_of_a_folder_ends_well_though_a_series_is_chosen_meanwhile(slicer_host, slicer, panel, sequence, small_dicom):
    from PerfusionMaps import Method

    panel.settings.dicomFolder, panel.settings.method = small_dicom, Method.BCSVD
    panel.ui.applyButton.click()
    assert slicer_host.wait(lambda: panel.ui.progressBar.value > 5, 30)
    panel.settings.inputNode = sequence[1]
    assert slicer_host.wait(lambda: panel.run is None, RUN_S)
    assert panel.settings.result is None and "are ready" in panel.ui.statusLabel.text
    assert [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLTextNode")] == ["dicom perfusion"]


def test_all_that_was_set_survives_a_saved_scene(slicer_host, slicer, panel, sequence, tmp_path):
    from PerfusionMaps import Method, NoiseFilter, PerfusionMapsParameterNode, VesselSource

    kinds, settings = PerfusionMapsParameterNode.__annotations__, panel.settings
    settings.inputNode = sequence[1]
    made = {name: "vtkMRMLSegmentationNode" for name in ("brainMask", "excludedRegions", "aifSegmentation", "vofSegmentation", "regions")}
    made |= {"anatomy": "vtkMRMLScalarVolumeNode", "aifPoint": "vtkMRMLMarkupsFiducialNode", "vofPoint": "vtkMRMLMarkupsFiducialNode"}
    for name, className in made.items():
        setattr(settings, name, slicer.mrmlScene.AddNewNodeByClass(className, f"my {name}"))
    chosen = {"aifSource": VesselSource.SEGMENT, "vofSource": VesselSource.CANDIDATE}
    chosen |= {"aifFile": tmp_path / "a.csv", "vofFile": tmp_path / "v.csv", "dicomFolder": tmp_path}
    chosen |= {"aifCandidate": 3, "vofCandidate": 2, "aifSegment": "one", "vofSegment": "two", "brainMaskSegment": "brain"}
    chosen |= {"excludedFrames": "3, 7-9", "excludedSlices": "1", "method": Method.OSVD, "denoising": NoiseFilter.TIPS, "smoothing": 2.5}
    chosen |= {"hematocritLarge": 0.4, "hematocritSmall": 0.2, "motionCorrection": True, "fullResolution": True, "keepResults": True}
    chosen |= {"age": 71, "nihss": 14, "shownMap": "cbf", "background": "images.baseline", "mapOpacity": 70.0, "tmaxThreshold": 8.0}
    chosen |= {"rcbfThreshold": 34.0, "exportReport": False, "times": [1.7 * n for n in range(32)], "timesSource": "pasted by the user"}
    for name, value in chosen.items():
        setattr(settings, name, value)
    assert set(kinds) == {*made, *chosen, "inputNode", "studyNode", "result"}, "a new setting: say here that it survives"
    assert slicer.util.saveScene(str(tmp_path / "study.mrb"))
    slicer.mrmlScene.Clear()
    assert panel.settings.age == 0 and panel.settings.brainMask is None
    slicer.util.loadScene(str(tmp_path / "study.mrb"))
    slicer_host.wait(lambda: False, 0.2)
    settings = panel.settings
    assert {name: getattr(settings, name) for name in chosen} == chosen
    assert {name: getattr(settings, name).GetName() for name in made} == {name: f"my {name}" for name in made}
    assert settings.inputNode.GetName() == "CTP" and settings.studyNode is not None
    # What was set for it stays with the study, also in the file.
    settings.inputNode = None
    assert settings.age == 0 and settings.brainMask is None
    settings.inputNode = slicer.util.getNodesByClass("vtkMRMLSequenceNode")[0]
    assert settings.age == 71 and settings.brainMask.GetName() == "my brainMask" and settings.aifFile == tmp_path / "a.csv"
