"""The stand-in Slicer's scene: parameters bound to widgets, selectors, sequences, segments, points, tables, files."""

# ruff: noqa: UP007, UP045 (Slicer's wrapper knows node parameters as Optional and Union)

import enum
import pathlib
from typing import Annotated, Optional, Union

import numpy as np
import pytest

UI = """<ui version="4.0"><class>Panel</class>
<widget class="qMRMLWidget" name="Panel"><layout class="QVBoxLayout" name="rows">
 <item><widget class="qMRMLNodeComboBox" name="volumeSelector">
  <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
  <property name="showChildNodeTypes"><bool>false</bool></property><property name="noneEnabled"><bool>true</bool></property>
  <property name="SlicerParameterName" stdset="0"><string>volume</string></property></widget></item>
 <item><widget class="qMRMLNodeComboBox" name="unconnectedSelector"/></item>
 <item><widget class="ctkSliderWidget" name="tmaxSlider">
  <property name="suffix"><string> s</string></property><property name="decimals"><number>1</number></property>
  <property name="SlicerParameterName" stdset="0"><string>tmax</string></property></widget></item>
 <item><widget class="QCheckBox" name="smoothCheck">
  <property name="SlicerParameterName" stdset="0"><string>smooth</string></property></widget></item>
 <item><widget class="QComboBox" name="methodCombo">
  <property name="SlicerParameterName" stdset="0"><string>method</string></property></widget></item>
 <item><widget class="ctkPathLineEdit" name="folderEdit">
  <property name="filters"><set>ctkPathLineEdit::Dirs|ctkPathLineEdit::Readable</set></property>
  <property name="SlicerParameterName" stdset="0"><string>folder</string></property></widget></item>
 <item><widget class="ctkUnheardOfWidget" name="unheardOf"/></item>
</layout></widget>
<customwidgets><customwidget><class>ctkUnheardOfWidget</class><extends>QWidget</extends><header>x.h</header></customwidget></customwidgets>
<connections><connection><sender>Panel</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
 <receiver>volumeSelector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections></ui>"""


class Method(enum.Enum):
    BAYES = 1
    BCSVD = 2

    def label(self):
        return {Method.BAYES: "Bayesian", Method.BCSVD: "Block-circulant SVD"}[self]


@pytest.fixture
def study(slicer_host, tmp_path):
    """A parameter node class, its node, a panel from a .ui file and the functions to make more."""
    import slicer
    from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
    from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

    @parameterNodeWrapper
    class Parameters:
        volume: Optional[slicer.vtkMRMLScalarVolumeNode]
        either: Optional[Union[slicer.vtkMRMLSequenceNode, slicer.vtkMRMLVolumeNode]]
        tmax: Annotated[float, WithinRange(2.0, 12.0)] = 6.0
        smooth: bool = True
        method: Method = Method.BAYES
        folder: pathlib.Path
        frames: list[int]
        note: str = ""

    class StudyLogic(ScriptedLoadableModuleLogic):
        def getParameterNode(self):
            return Parameters(super().getParameterNode())

    path = tmp_path / "panel.ui"
    path.write_text(UI)
    panel = slicer.util.loadUI(str(path))
    panel.setMRMLScene(slicer.mrmlScene)

    class Study:
        parameters, logic, ui, root = StudyLogic().getParameterNode(), StudyLogic(), slicer.util.childWidgetVariables(panel), panel

    return Study


def add_volume(name="CT", values=None):
    import slicer

    return slicer.util.addVolumeFromArray(np.zeros((4, 6, 8), np.int16) if values is None else values, name=name)


def test_a_panel_file_makes_slicers_widgets_with_their_properties(study):
    import ctk
    import qt
    import slicer

    assert type(study.root) is slicer.qMRMLWidget and type(study.ui.tmaxSlider) is ctk.ctkSliderWidget
    assert (study.ui.tmaxSlider.suffix, study.ui.tmaxSlider.decimals) == (" s", 1)
    assert study.ui.volumeSelector.nodeTypes == ("vtkMRMLScalarVolumeNode",) and not study.ui.volumeSelector.showChildNodeTypes
    assert type(study.ui.folderEdit) is ctk.ctkPathLineEdit
    assert type(study.ui.unheardOf) is qt.QWidget  # the loader does not know the class: silently its base


def test_a_selector_without_the_scene_connection_stays_disabled(study):
    assert study.ui.volumeSelector.mrmlScene() is not None and study.ui.volumeSelector.enabled
    assert study.ui.unconnectedSelector.mrmlScene() is None and not study.ui.unconnectedSelector.enabled


def test_parameters_and_widgets_follow_each_other_until_disconnected(study):
    tag = study.parameters.connectGui(study.ui)
    assert tag == 0 and study.ui.tmaxSlider.maximum == 12.0 and study.ui.tmaxSlider.value == 6.0
    assert [study.ui.methodCombo.itemText(i) for i in range(2)] == ["Bayesian", "Block-circulant SVD"]
    study.ui.tmaxSlider.value, study.ui.smoothCheck.checked, study.ui.methodCombo.currentIndex = 8, False, 1
    study.ui.folderEdit.currentPath = "/data/study"
    volume = add_volume()
    study.ui.volumeSelector.setCurrentNode(volume)
    p = study.parameters
    assert (p.tmax, p.smooth, p.method, p.folder, p.volume) == (8.0, False, Method.BCSVD, pathlib.Path("/data/study"), volume)
    p.tmax, p.smooth, p.method, p.volume = 4.0, True, Method.BAYES, None
    assert (study.ui.tmaxSlider.value, study.ui.smoothCheck.checked, study.ui.methodCombo.currentText) == (4.0, True, "Bayesian")
    assert study.ui.volumeSelector.currentNode() is None
    p.disconnectGui(tag)
    study.ui.tmaxSlider.value, p.smooth = 3.0, False
    assert p.tmax == 4.0 and study.ui.smoothCheck.checked


def test_types_of_parameters_that_the_host_lacks_are_named(slicer_host):
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    for annotation in (dict[str, float], tuple[int, float], Optional[float]):
        with pytest.raises(NotImplementedError, match="does not imitate"):
            parameterNodeWrapper(type("P", (), {"__annotations__": {"x": annotation}}))


def test_wrong_values_are_refused_as_in_slicer(study):
    p = study.parameters
    for error, name, value in (
        (TypeError, "smooth", np.bool_(True)),
        (TypeError, "method", "BAYES"),
        (TypeError, "folder", "/data"),
        (TypeError, "volume", p.parameterNode),
        (TypeError, "either", p.parameterNode),
        (TypeError, "frames", [1.5]),
    ):
        with pytest.raises(error):
            setattr(p, name, value)
    with pytest.raises(ValueError, match="range"):
        p.tmax = 20.0
    with pytest.raises(TypeError):
        p.tmax = np.float32(5)
    p.tmax = np.float64(5)
    assert p.tmax == 5.0


def test_a_default_outside_its_limits_is_refused_when_the_class_is_made(slicer_host):
    from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

    for annotation in (Annotated[int, WithinRange(1, 5)], set):
        with pytest.raises(ValueError):
            parameterNodeWrapper(type("P", (), {"__annotations__": {"x": annotation}}))


def test_a_widget_without_connector_binds_nothing_at_all(study):
    import qt

    with pytest.raises(RuntimeError, match="No GUI connector"):
        study.parameters.connectParametersToGui({"smooth": study.ui.smoothCheck, "note": qt.QPlainTextEdit()})
    study.ui.smoothCheck.checked = not study.parameters.smooth
    assert study.ui.smoothCheck.checked != study.parameters.smooth


def test_one_modified_event_for_many_assignments_and_none_for_the_same_value(study):
    import slicer
    import vtk

    events = []
    study.parameters.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_a: events.append(1))
    with slicer.util.NodeModify(study.parameters.parameterNode):
        study.parameters.smooth, study.parameters.note = False, "rerun"
    study.parameters.note = "rerun"
    assert len(events) == 1


def test_parameters_survive_saving_and_loading_a_scene_bundle(study, tmp_path):
    import slicer

    p, path = study.parameters, str(tmp_path / "study.mrb")
    p.tmax, p.frames, p.method, p.folder = 8.0, [1, 2], Method.BCSVD, pathlib.Path("/data/x")
    p.volume = add_volume("Mean CT", np.arange(192, dtype=np.int16).reshape(4, 6, 8))
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear()
    assert study.logic.getParameterNode().tmax == 6.0
    old = study.logic.getParameterNode()
    slicer.util.loadScene(path)
    fresh = study.logic.getParameterNode()
    assert (fresh.tmax, fresh.frames, fresh.method, fresh.folder) == (8.0, [1, 2], Method.BCSVD, pathlib.Path("/data/x"))
    assert fresh.volume.GetName() == "Mean CT" and slicer.util.arrayFromVolume(fresh.volume)[3, 5, 7] == 191
    assert old.volume is None  # as in Slicer: a wrapper made before the load has lost its nodes


def test_closing_the_scene_sends_both_close_events_and_empties_the_selectors(study):
    import slicer

    volume, events = add_volume(), []
    study.ui.volumeSelector.setCurrentNode(volume)
    scene = slicer.mrmlScene
    tags = [scene.AddObserver(e, lambda *_a, e=e: events.append(e)) for e in (scene.StartCloseEvent, scene.EndCloseEvent)]
    scene.Clear()
    for tag in tags:
        scene.RemoveObserver(tag)
    assert events == [scene.StartCloseEvent, scene.EndCloseEvent] and study.ui.volumeSelector.currentNode() is None


def test_a_selector_picks_the_first_node_only_when_none_is_not_allowed(slicer_host):
    import slicer

    optional, needed, chosen = slicer.qMRMLNodeComboBox(), slicer.qMRMLNodeComboBox(), []
    for selector in (optional, needed):
        selector.nodeTypes, selector.noneEnabled = ("vtkMRMLScalarVolumeNode",), selector is optional
        selector.setMRMLScene(slicer.mrmlScene)
    needed.currentNodeChanged.connect(lambda node: chosen.append(node and node.GetName()))
    first, second = add_volume("one"), add_volume("two")
    assert optional.currentNode() is None and needed.currentNode() is first
    optional.setCurrentNode(second)
    slicer.mrmlScene.RemoveNode(second)
    assert optional.currentNode() is first and chosen == ["one"]


def test_a_sequence_keeps_seconds_and_its_proxy_follows(slicer_host, tmp_path):
    import slicer

    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "CTP")
    for index, seconds in enumerate((4.75, 0.0, 1.5)):
        frame = add_volume("frame", np.full((2, 3, 4), int(100 * seconds), np.int16))
        sequence.SetDataNodeAtValue(frame, str(seconds))
        slicer.mrmlScene.RemoveNode(frame)
        assert sequence.GetNumberOfDataNodes() == index + 1
    assert (sequence.GetIndexName(), sequence.GetIndexUnit()) == ("time", "s")
    path = str(tmp_path / "ctp.seq.nrrd")
    assert slicer.util.saveNode(sequence, path)
    slicer.mrmlScene.Clear()
    loaded = slicer.util.loadSequence(path)
    assert [loaded.GetNthIndexValue(i) for i in range(3)] == ["0.0", "1.5", "4.75"]
    browser = slicer.modules.sequences.logic().GetFirstBrowserNodeForSequenceNode(loaded)
    browser.SetSelectedItemNumber(2)
    assert slicer.util.arrayFromVolume(browser.GetProxyNode(loaded)).max() == 475


def test_segments_take_masks_and_give_them_back(slicer_host):
    import slicer

    volume = add_volume(values=np.zeros((4, 16, 16), np.int16))
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Lesions")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    core = segmentation.GetSegmentation().AddEmptySegment("core", "Core", [1, 0, 0])
    mask = np.zeros((4, 16, 16), np.uint8)
    mask[1:3, 4:8, 4:8] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, core, volume)
    assert (slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, core, volume) == mask).all()
    selector = slicer.qMRMLSegmentSelectorWidget()
    selector.setMRMLScene(slicer.mrmlScene)
    selector.setCurrentNode(segmentation)
    segmentation.GetSegmentation().AddEmptySegment("penumbra", "Penumbra")
    selector.setCurrentSegmentID("penumbra")
    assert selector.currentSegmentID() == "penumbra"
    with pytest.raises(TypeError):
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(bool), segmentation, core, volume)


def test_a_multi_volume_is_a_volume_of_its_own_class_that_a_selector_has_to_name(slicer_host):
    import slicer
    import vtk

    image = vtk.vtkImageData()
    image.SetDimensions(4, 3, 2)
    image.AllocateScalars(vtk.VTK_SHORT, 5)
    node = slicer.mrmlScene.AddNode(slicer.vtkMRMLMultiVolumeNode())
    node.SetName("MultiVolume")
    node.SetAndObserveImageData(image)
    assert (node.GetClassName(), node.IsA("vtkMRMLScalarVolumeNode"), node.IsA("vtkMRMLSequenceNode")) == (
        "vtkMRMLMultiVolumeNode", True, False,
    )  # fmt: skip
    assert slicer.mrmlScene.GetFirstNodeByName("MultiVolume") is node and slicer.util.arrayFromVolume(node).shape == (2, 3, 4, 5)
    plain, naming = slicer.qMRMLNodeComboBox(), slicer.qMRMLNodeComboBox()
    for selector, kinds in ((plain, ("vtkMRMLScalarVolumeNode",)), (naming, ("vtkMRMLScalarVolumeNode", "vtkMRMLMultiVolumeNode"))):
        selector.nodeTypes, selector.showChildNodeTypes = kinds, False
        selector.setMRMLScene(slicer.mrmlScene)
    assert (plain.currentNode(), naming.currentNode()) == (None, node)
    other = add_volume("CT")
    naming.addAttribute("vtkMRMLScalarVolumeNode", "Sequences.BaseName")  # asked of scalar volumes only
    naming.setCurrentNode(other)
    assert naming.currentNode() is node
    other.SetAttribute("Sequences.BaseName", "CTP")
    naming.setMRMLScene(None)
    naming.setMRMLScene(slicer.mrmlScene)
    naming.setCurrentNode(other)
    assert naming.currentNode() is other


def test_nodes_come_into_the_subject_hierarchy_beside_their_source(slicer_host):
    import slicer

    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Head CT")
    volume, tmax = add_volume("CT"), add_volume("Tmax")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(volume), study)
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(tmax), hierarchy.GetItemParent(hierarchy.GetItemByDataNode(volume)))
    assert hierarchy.GetItemAncestorAtLevel(hierarchy.GetItemByDataNode(tmax), "Study") == study
    slicer.mrmlScene.RemoveNode(tmax)
    assert hierarchy.GetNumberOfItemChildren(study) == 1


def test_volumes_keep_units_colors_and_legend_in_a_bundle(slicer_host, tmp_path):
    import slicer

    volume = add_volume("CBF", np.linspace(0, 80, 192, dtype=np.float32).reshape(4, 6, 8))
    units = slicer.vtkCodedEntry()
    units.SetValueSchemeMeaning("ml/(100.g.min)", "UCUM", "mL/100 g/min")
    volume.SetVoxelValueUnits(units)
    volume.CreateDefaultDisplayNodes()
    colors = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLProceduralColorNode", "Perfusion CBF")
    for value, rgb in ((0, (0, 0, 0)), (80, (1, 0, 0))):
        colors.GetColorTransferFunction().AddRGBPoint(value, *rgb)
    volume.GetDisplayNode().SetAndObserveColorNodeID(colors.GetID())
    legend = slicer.modules.colors.logic().AddDefaultColorLegendDisplayNode(volume)
    legend.SetTitleText("CBF (mL/100 g/min)")
    slicer.util.saveScene(str(tmp_path / "maps.mrb"))
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(tmp_path / "maps.mrb"))
    loaded = slicer.util.getNode("CBF")
    assert loaded.GetVoxelValueUnits().GetCodeMeaning() == "mL/100 g/min"
    assert loaded.GetDisplayNode().GetColorNode().GetName() == "Perfusion CBF"


def test_nodes_are_written_by_slicer_util_and_other_files_are_refused(slicer_host, tmp_path):
    import slicer

    volume, path = add_volume("Tmax", np.arange(192, dtype=np.float32).reshape(4, 6, 8)), tmp_path / "tmax.nii.gz"
    assert slicer.util.saveNode(volume, str(path)) and path.is_file()
    with pytest.raises(RuntimeError, match="Failed to load"):
        slicer.util.loadSequence(str(tmp_path / "missing.seq.nrrd"))
    with pytest.raises(NotImplementedError, match="VolumeFile exists in Slicer"):
        slicer.util.loadVolume(str(path))
