"""Stand-ins for the widgets of CTK and Slicer.  Names are refused by pythonqt.py; cosmetic properties are remembered and nothing more."""

import os

import shiboken6
import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from SlicerHost.application_names import does_nothing, gives
from SlicerHost.pythonqt import emit, make_slot


def row_of(widget, *parts):
    """Lay parts side by side without margins."""
    row = QtWidgets.QHBoxLayout(widget)
    row.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        row.addWidget(part)


class ctkWidgetsUtils:
    @staticmethod
    def grabWidget(widget, rectangle=None):
        """Picture (QImage) of a widget with everything in it, rendered views included."""
        QtWidgets.QApplication.processEvents()
        for view in widget.findChildren(QtWidgets.QWidget):
            if hasattr(view, "_redraw") and view.isVisible():
                view._redraw()
        return widget.grab().toImage()


class _Collapsible:
    """Hides and shows its contents, remembering what the module itself had hidden; `checked` is the inverse of `collapsed`."""

    _shown, _contents, text = True, (), ""

    def _show(self, shown):
        if shown != self._shown:
            if not shown:
                self._contents = [c for c in self.children() if isinstance(c, QtWidgets.QWidget) and not c.isHidden()]
            for child in self._contents:
                child.setVisible(shown)
            self._shown = shown
            self.setMaximumHeight(2**24 - 1 if shown else 22)
            emit(self, "toggled(bool)", shown)

    checked, collapsed = property(gives("_shown"), _show), property(lambda self: not self._shown, lambda self, value: self._show(not value))


class ctkCollapsibleGroupBox(_Collapsible, QtWidgets.QGroupBox):
    pass


class ctkCollapsibleButton(_Collapsible, QtWidgets.QWidget):
    """A header above the contents."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self.setContentsMargins(0, 22, 0, 0)

    def paintEvent(self, event):
        painter, header = QtGui.QPainter(self), QtCore.QRect(0, 0, self.width, 20)
        painter.fillRect(header, self.palette.color(QtGui.QPalette.Button).darker(108))
        painter.drawText(header, QtCore.Qt.AlignVCenter, (" \u25be " if self._shown else " \u25b8 ") + self.text)


class ctkSliderWidget(QtWidgets.QWidget):
    """A bounded floating point value: a spin box holds it, a slider of a thousand steps follows."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._spin, self._bar = QtWidgets.QDoubleSpinBox(), QtWidgets.QSlider(QtCore.Qt.Horizontal, maximum=1000)
        row_of(self, self._bar, self._spin)
        self._spin.connect("valueChanged(double)", self._changed)

    def _changed(self, value):
        span = self.maximum - self.minimum
        self._bar.value = round(1000 * (value - self.minimum) / span) if span > 0 else 0
        emit(self, "valueChanged(double)", value)

    value, minimum, maximum, singleStep, decimals, prefix, suffix = (
        property(gives(f"_spin.{name}"), lambda self, value, name=name: setattr(self._spin, name, value))
        for name in ("value", "minimum", "maximum", "singleStep", "decimals", "prefix", "suffix")
    )


class ctkPathLineEdit(QtWidgets.QWidget):
    """A path in a line edit."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._edit = QtWidgets.QLineEdit()
        row_of(self, self._edit)
        self._edit.connect("textChanged(QString)", lambda path: emit(self, "currentPathChanged(QString)", path))

    addCurrentPathToHistory = does_nothing
    currentPath = property(gives("_edit.text"), lambda self, path: setattr(self._edit, "text", os.fspath(path).replace(os.sep, "/")))


def observe(widget, subject, events, update):
    """Call update() on events of a VTK object for as long as the widget lives; returns the tags."""
    slot = make_slot(update)
    return [subject.AddObserver(event, lambda *_a: slot() if shiboken6.isValid(widget) else None) for event in events]


def show_choices(combo, texts, chosen):
    """Give a QComboBox its items and the current one in silence."""
    _silence = QtCore.QSignalBlocker(combo)  # to the end of this function
    combo.clear()
    combo.addItems(texts)
    combo.setCurrentIndex(chosen)


class qMRMLWidget(QtWidgets.QWidget):
    """A panel with a scene; base of all that have one and call `_update` on events of the node or scene that they follow."""

    _scene, _followed, _tags = None, None, ()
    mrmlScene, _scene_set, _update = gives("_scene"), does_nothing, does_nothing

    def setMRMLScene(self, scene):
        if scene is not self._scene:
            self._scene = scene
            self._scene_set()
            emit(self, "mrmlSceneChanged(vtkMRMLScene*)", scene)

    def _follow(self, subject, *events):
        for tag in self._tags:
            self._followed.RemoveObserver(tag)
        self._followed, self._tags = subject, observe(self, subject, events, self._update) if subject else ()
        self._update()


class qSlicerWidget(qMRMLWidget):
    _enter = does_nothing


class qMRMLNodeComboBox(qMRMLWidget):
    """Chooses a node; a selector without a scene is disabled."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._combo = QtWidgets.QComboBox()
        row_of(self, self._combo)
        self._nodes, self._current, self._attributes = [], None, []
        self.__dict__.update(nodeTypes=(), noneEnabled=False, showChildNodeTypes=True)  # assigning to them calls _update
        self.enabled = False

    currentNode = gives("_current")

    def addAttribute(self, node_type, name):
        self._attributes.append((node_type, name))
        self._update()

    def _scene_set(self):
        self.enabled = self._scene is not None
        of = slicer.vtkMRMLScene
        self._follow(self._scene, of.NodeAddedEvent, of.NodeRemovedEvent, of.EndCloseEvent, of.EndImportEvent, of.EndBatchProcessEvent)

    def _fits(self, node):
        fits = node.IsA if self.showChildNodeTypes else node.GetClassName().__eq__
        kind = next(filter(fits, self.nodeTypes), None)  # the first that fits decides which attribute is asked for
        lacking = any(kind == of and node.GetAttribute(name) is None for of, name in self._attributes)
        return kind is not None and not lacking and not node.GetHideFromEditors()

    def _update(self):
        scene = self._scene
        if scene is None or scene.IsBatchProcessing():
            return
        self._nodes = [node for node in map(scene.GetNthNode, range(scene.GetNumberOfNodes())) if self._fits(node)]
        self._label()
        if self._current not in self._nodes and (self._current or not self.noneEnabled):  # it was removed, or the first one came
            self._select(self._nodes[0] if self._nodes else None)

    def _label(self):
        names = ["None"] * self.noneEnabled + [node.GetName() or "" for node in self._nodes]
        show_choices(self._combo, names, self.noneEnabled + (self._nodes.index(self._current) if self._current in self._nodes else -1))

    def _select(self, node):
        if node is not self._current:
            self._current = node
            self._label()
            emit(self, "currentNodeChanged(vtkMRMLNode*)", node)

    def setCurrentNode(self, node):
        self._select(node if node in self._nodes else None if self.noneEnabled or not self._nodes else self._current)


class qMRMLSegmentSelectorWidget(qMRMLWidget):
    """Chooses a segmentation and one of its segments."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._selector, self._segments, self._ids = qMRMLNodeComboBox(), QtWidgets.QComboBox(), ()
        self._selector.nodeTypes = ("vtkMRMLSegmentationNode",)
        row_of(self, self._selector, self._segments)
        self._selector.connect("currentNodeChanged(vtkMRMLNode*)", self._node_changed)
        self._segments.connect("currentIndexChanged(int)", lambda i: emit(self, "currentSegmentChanged(QString)", self.currentSegmentID()))

    noneEnabled = property(gives("_selector.noneEnabled"), lambda self, value: setattr(self._selector, "noneEnabled", value))
    currentNode = gives("_followed")

    def _scene_set(self):
        self._selector.setMRMLScene(self._scene)

    def setCurrentNode(self, node):
        self._selector.setCurrentNode(node)

    def _node_changed(self, node):
        kinds = slicer.vtkSegmentation
        self._follow(node, kinds.SegmentAdded, kinds.SegmentRemoved, kinds.SegmentModified)
        emit(self, "currentNodeChanged(vtkMRMLNode*)", node)

    def _update(self):
        chosen, segmentation = self.currentSegmentID(), self._followed and self._followed.GetSegmentation()
        ids = tuple(segmentation.GetSegmentIDs()) if segmentation else ()
        self._ids = ("",) * bool(ids and self.noneEnabled) + ids
        show_choices(self._segments, [segmentation.GetSegment(own).GetName() if own else "None" for own in self._ids], -1)
        self.setCurrentSegmentID(chosen if chosen in ids else next(iter(ids), ""))

    def currentSegmentID(self):
        return dict(enumerate(self._ids)).get(self._segments.currentIndex, "")

    def setCurrentSegmentID(self, segment_id):
        if segment_id in self._ids:
            self._segments.setCurrentIndex(self._ids.index(segment_id))


class qSlicerMarkupsPlaceWidget(qMRMLWidget):
    """Place button for one markups node: the next click in a view adds a control point."""

    ShowPlaceMultipleMarkupsOption, HidePlaceMultipleMarkupsOption, ForcePlaceSingleMarkup, ForcePlaceMultipleMarkups = range(4)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._node, self._button = None, QtWidgets.QToolButton(text="Place", checkable=True)
        row_of(self, self._button)
        self._button.connect("toggled(bool)", self.setPlaceModeEnabled)

    def _scene_set(self):
        logic = slicer.app.applicationLogic()
        self._interaction, self._selection = logic.GetInteractionNode(), logic.GetSelectionNode()
        self._follow(self._interaction, self._interaction.InteractionModeChangedEvent)

    def _update(self):
        self._button.checked = self._placing()

    def setCurrentNode(self, node):
        if node is not self._node:
            self.setPlaceModeEnabled(False)
            self._node = node
            self._button.enabled = node is not None

    def _placing(self):
        placing = self._scene and self._interaction.GetCurrentInteractionMode() == self._interaction.Place
        return bool(placing and self._node and self._selection.GetActivePlaceNodeID() == self._node.GetID())

    def setPlaceModeEnabled(self, placing):
        if placing == self._placing() or self._node is None or self._scene is None:
            return
        if placing:
            self._selection.SetReferenceActivePlaceNodeClassName(self._node.GetClassName())
            self._selection.SetActivePlaceNodeID(self._node.GetID())
        self._interaction.SetCurrentInteractionMode(self._interaction.Place if placing else self._interaction.ViewTransform)

    placeModeEnabled = property(_placing, setPlaceModeEnabled)
