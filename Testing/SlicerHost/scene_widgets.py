"""Stand-ins for the widgets that show and choose nodes of the scene."""

import shiboken6
import slicer
from PySide6 import QtWidgets

from SlicerHost import pythonqt
from SlicerHost.application_names import does_nothing, forwards, gives
from SlicerHost.control_widgets import ctkDoubleSpinBox, ctkRangeWidget, ctkSliderWidget, row_of
from SlicerHost.pythonqt import emit

_SCENE_EVENTS = ("NodeAddedEvent", "NodeRemovedEvent", "EndCloseEvent", "EndImportEvent", "EndBatchProcessEvent")


def observe(widget, subject, events, update):
    """Call update() on events of a VTK object for as long as the widget lives; returns the tags."""
    slot = pythonqt.make_slot(update)
    return [subject.AddObserver(event, lambda *_a: slot() if shiboken6.isValid(widget) else None) for event in events]


class _SceneHolder:
    """mrmlScene() and setMRMLScene(); `_update` is called when nodes come and go."""

    _scene, _scene_tags = None, ()
    mrmlScene, _update = gives("_scene"), does_nothing

    def setMRMLScene(self, scene):
        if scene is self._scene:
            return
        for tag in self._scene_tags:
            self._scene.RemoveObserver(tag)
        self._scene = scene
        self._scene_tags = observe(self, scene, [getattr(scene, name) for name in _SCENE_EVENTS], self._update) if scene else ()
        self._update()
        emit(self, "mrmlSceneChanged(vtkMRMLScene*)", scene)


class qMRMLWidget(_SceneHolder, QtWidgets.QWidget):
    pass


class qSlicerWidget(_SceneHolder, QtWidgets.QWidget):
    pass


class qMRMLSliderWidget(_SceneHolder, ctkSliderWidget):
    pass


class qMRMLSpinBox(_SceneHolder, ctkDoubleSpinBox):
    pass


class qMRMLRangeWidget(_SceneHolder, ctkRangeWidget):
    pass


class qMRMLNodeComboBox(_SceneHolder, QtWidgets.QWidget):
    """Chooses a node; a selector without a scene is disabled."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._combo = QtWidgets.QComboBox()
        row_of(self, self._combo)
        self._nodes, self._current, self._attributes, self._observed = [], None, [], {}
        self._options = {"nodeTypes": (), "noneEnabled": False, "showHidden": False, "showChildNodeTypes": True, "noneDisplay": "None"}
        self._combo.connect("activated(int)", self._activated)
        self.enabled = False

    def _option(name):
        def assign(self, value):
            self._options[name] = tuple(value) if name == "nodeTypes" else value
            self._update()

        return property(lambda self: self._options[name], assign)

    nodeTypes, noneEnabled, showHidden = _option("nodeTypes"), _option("noneEnabled"), _option("showHidden")
    showChildNodeTypes, noneDisplay = _option("showChildNodeTypes"), _option("noneDisplay")

    def addAttribute(self, node_type, name, value=None):
        self._attributes.append((node_type, name, value))
        self._update()

    def _fits(self, node):
        for node_type, name, value in self._attributes:
            given = node.GetAttribute(name)
            if node.IsA(node_type) and (given is None if value is None else given != str(value)):
                return False
        exact = self._options["showChildNodeTypes"] or node.GetClassName() in self._options["nodeTypes"]
        return exact and (self._options["showHidden"] or not node.GetHideFromEditors())

    def _update(self):
        scene = self._scene
        self.enabled = scene is not None
        if scene is None or scene.IsBatchProcessing():
            return
        every, types = (scene.GetNthNode(i) for i in range(scene.GetNumberOfNodes())), self._options["nodeTypes"]
        self._nodes = [node for node in every if any(map(node.IsA, types)) and self._fits(node)]
        for node in self._nodes:
            if node not in self._observed:
                self._observed[node] = observe(self, node, ["ModifiedEvent"], self._label)  # it may be renamed
        self._observed = {node: tags for node, tags in self._observed.items() if node in self._nodes}
        self._label()
        if self._current not in self._nodes and (self._current or not self.noneEnabled):  # it was removed, or the first one came
            self._select(self._nodes[0] if self._nodes else None)

    def _label(self):
        names = [self.noneDisplay] * self.noneEnabled + [node.GetName() or "" for node in self._nodes]
        blocker = pythonqt.QtCore.QSignalBlocker(self._combo)
        if names != [self._combo.itemText(i) for i in range(self._combo.count)]:
            self._combo.clear()
            self._combo.addItems(names)
        chosen = self._nodes.index(self._current) + self.noneEnabled if self._current in self._nodes else self.noneEnabled - 1
        self._combo.setCurrentIndex(chosen)
        blocker.unblock()

    def _activated(self, index):
        index -= int(self.noneEnabled)
        self._select(self._nodes[index] if index >= 0 else None)
        emit(self, "nodeActivated(vtkMRMLNode*)", self._current)

    def _select(self, node):
        if node is self._current:
            return
        self._current = node
        self._label()
        emit(self, "currentNodeChanged(vtkMRMLNode*)", node)
        emit(self, "currentNodeChanged(bool)", node is not None)
        emit(self, "currentNodeIDChanged(QString)", node.GetID() if node else "")

    currentNode = gives("_current")

    def setCurrentNode(self, node):
        self._select(node if node in self._nodes else None if self.noneEnabled or not self._nodes else self._current)

    def setCurrentNodeID(self, node_id):
        self.setCurrentNode(self._scene.GetNodeByID(node_id) if self._scene and node_id else None)

    currentNodeID = currentNodeId = property(lambda self: self._current.GetID() if self._current else "", setCurrentNodeID)

    def setCurrentNodeIndex(self, index):
        self._select(self._nodes[index])

    def nodeCount(self):
        return len(self._nodes)

    def nodeFromIndex(self, index):
        return self._nodes[index]

    def addNode(self, node_type=None):
        name = self.__dict__.get("_remembered", {}).get("baseName", "")
        node = self._scene.AddNewNodeByClass(node_type or self.nodeTypes[0], name)
        self._select(node)
        emit(self, "nodeAddedByUser(vtkMRMLNode*)", node)
        return node

    def removeCurrentNode(self):
        self._scene.RemoveNode(self._current)


class qMRMLColorTableComboBox(qMRMLNodeComboBox):
    def __init__(self, parent=None):
        super().__init__(parent)
        self.nodeTypes = ("vtkMRMLColorNode",)


class _SegmentationHolder(_SceneHolder):
    """Follows the segments of one segmentation node."""

    _segmentation, _segment_tags = None, ()

    def _follow(self, node):
        for tag in self._segment_tags:
            self._segmentation.RemoveObserver(tag)
        self._segmentation = node
        events = [slicer.vtkSegmentation.SegmentAdded, slicer.vtkSegmentation.SegmentRemoved, slicer.vtkSegmentation.SegmentModified]
        self._segment_tags = observe(self, node, events, self._update) if node else ()
        self._update()

    def _segment_ids(self):
        return tuple(self._segmentation.GetSegmentation().GetSegmentIDs()) if self._segmentation else ()

    def _segment_names(self):
        return [self._segmentation.GetSegmentation().GetSegment(segment_id).GetName() for segment_id in self._segment_ids()]


class qMRMLSegmentSelectorWidget(_SegmentationHolder, QtWidgets.QWidget):
    def __init__(self, parent=None):
        super().__init__(parent)
        self._selector, self._segments, self._ids = qMRMLNodeComboBox(), QtWidgets.QComboBox(), ()
        self._selector.nodeTypes = ("vtkMRMLSegmentationNode",)
        row_of(self, self._selector, self._segments)
        self._selector.connect("currentNodeChanged(vtkMRMLNode*)", self._node_changed)
        self._segments.connect("currentIndexChanged(int)", lambda i: emit(self, "currentSegmentChanged(QString)", self.currentSegmentID()))

    noneEnabled, currentNodeID = forwards("_selector", "noneEnabled"), lambda self: self._selector.currentNodeID
    currentNode = gives("_segmentation")

    def setMRMLScene(self, scene):
        super().setMRMLScene(scene)
        self._selector.setMRMLScene(scene)

    def _node_changed(self, node):
        self._follow(node)
        emit(self, "currentNodeChanged(vtkMRMLNode*)", node)

    def _update(self):
        chosen, self._ids = self.currentSegmentID(), self._segment_ids()
        blocker = pythonqt.QtCore.QSignalBlocker(self._segments)
        self._segments.clear()
        self._segments.addItems(self._segment_names())
        blocker.unblock()
        self.setCurrentSegmentID(chosen if chosen in self._ids else self._ids[0] if self._ids else "")

    def setCurrentNode(self, node):
        self._selector.setCurrentNode(node)

    def currentSegmentID(self):
        return self._ids[self._segments.currentIndex] if 0 <= self._segments.currentIndex < len(self._ids) else ""

    def setCurrentSegmentID(self, segment_id):
        if segment_id in self._ids:
            self._segments.setCurrentIndex(self._ids.index(segment_id))


class qMRMLSegmentsTableView(_SegmentationHolder, QtWidgets.QWidget):
    def __init__(self, parent=None):
        super().__init__(parent)
        self._list = QtWidgets.QListWidget()
        self._list.selectionMode = QtWidgets.QAbstractItemView.ExtendedSelection
        row_of(self, self._list)

    segmentCount = property(lambda self: len(self._segment_ids()))
    setSegmentationNode, segmentationNode = _SegmentationHolder._follow, gives("_segmentation")

    def _update(self):
        self._list.clear()
        self._list.addItems(self._segment_names())

    def selectedSegmentIDs(self):
        return tuple(segment_id for row, segment_id in enumerate(self._segment_ids()) if self._list.item(row).isSelected())

    def setSelectedSegmentIDs(self, segment_ids):
        for row, segment_id in enumerate(self._segment_ids()):
            self._list.item(row).setSelected(segment_id in segment_ids)


class qMRMLSegmentEditorWidget(_SegmentationHolder, QtWidgets.QWidget):
    """Remembers what it edits; it has no effects."""

    _source, _segment, _editor = None, "", None
    segmentationNode, sourceVolumeNode, mrmlSegmentEditorNode = gives("_segmentation"), gives("_source"), gives("_editor")
    currentSegmentID, setSegmentationNode = gives("_segment"), _SegmentationHolder._follow

    def setMRMLSegmentEditorNode(self, node):
        self._editor = node

    def setSourceVolumeNode(self, node):
        self._source = node

    def setCurrentSegmentID(self, segment_id):
        self._segment = segment_id if segment_id in self._segment_ids() else ""
        emit(self, "currentSegmentIDChanged(QString)", self._segment)
