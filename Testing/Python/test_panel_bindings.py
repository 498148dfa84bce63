"""What binding a panel to its parameter node must not do: hide series, forget a segment, show a folder nobody chose, keep a study."""

import gc
import weakref

import pytest

pytest_plugins = ("perfusion_panels",)


@pytest.mark.parametrize(
    ("selector", "nodeName", "segmentName"),
    [("brainMaskSelector", "brainMask", "brainMaskSegment"), ("aifSegmentSelector", "aifSegmentation", "aifSegment")],
)
def test_a_segmentation_chosen_by_hand_brings_its_first_segment(slicer, panel, selector, nodeName, segmentName):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn")
    node.GetSegmentation().AddEmptySegment("first", "First")
    node.GetSegmentation().AddEmptySegment("second", "Second")
    widget = getattr(panel.ui, selector)
    widget.setCurrentNode(node)
    assert getattr(panel.settings, nodeName) is node and getattr(panel.settings, segmentName) == "first"
    assert widget.currentSegmentID() == "first"
    widget.setCurrentSegmentID("second")
    assert getattr(panel.settings, segmentName) == "second"
    setattr(panel.settings, segmentName, "")
    assert widget.currentSegmentID() == ""


def test_every_kind_of_series_is_offered_by_the_bound_selector(panel, sequence):
    kinds = list(panel.ui.inputSelector.nodeTypes)
    assert kinds == ["vtkMRMLSequenceNode", "vtkMRMLScalarVolumeNode", "vtkMRMLMultiVolumeNode"]
    for node in sequence:
        panel.ui.inputSelector.setCurrentNode(node)
        assert panel.settings.inputNode is node


def test_a_folder_that_is_not_chosen_is_not_shown_as_one(panel, tmp_path):
    edits = (panel.ui.dicomFolder, panel.ui.aifFile, panel.ui.vofFile)
    assert [edit.currentPath for edit in edits] == ["", "", ""]
    panel.settings.dicomFolder = tmp_path
    assert panel.ui.dicomFolder.currentPath == str(tmp_path)
    panel.settings.dicomFolder = type(tmp_path)()
    assert panel.ui.dicomFolder.currentPath == ""
    panel.ui.opacitySlider.value = 31
    assert [edit.currentPath for edit in edits] == ["", "", ""]


@pytest.mark.parametrize("canceled", [False, True])
def test_work_that_has_ended_holds_nothing(slicer_host, panel, canceled):
    from CTPerfusionSuiteLib.panel.stepwise import Stepwise

    class Study:
        def ended(self, result, error):
            found.append(result)

    def steps():
        yield 0.5
        return 7

    found, study = [], Study()
    work, gone = Stepwise(steps(), lambda fraction: None, study.ended), weakref.ref(study)
    if canceled:
        work.cancel()
    else:
        assert slicer_host.wait(lambda: found == [7], 5)
    del study
    gc.collect()
    assert gone() is None  # while the work itself is still held
    work.cancel()
