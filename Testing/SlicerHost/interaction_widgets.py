"""Stand-ins for the widgets that place markups and play sequences."""

import slicer
from PySide6 import QtCore, QtWidgets

from SlicerHost.application_names import gives
from SlicerHost.control_widgets import row_of
from SlicerHost.pythonqt import emit
from SlicerHost.scene_widgets import _SceneHolder, observe, qMRMLNodeComboBox


class qSlicerMarkupsPlaceWidget(_SceneHolder, QtWidgets.QWidget):
    """Place button for one markups node: the next click in a view adds a control point."""

    ShowPlaceMultipleMarkupsOption, HidePlaceMultipleMarkupsOption, ForcePlaceSingleMarkup, ForcePlaceMultipleMarkups = range(4)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._node, self._was_placing, self._persistent = None, False, False
        self._button, self._delete = QtWidgets.QToolButton(), QtWidgets.QToolButton()
        self._button.text, self._button.checkable, self._delete.text = "Place", True, "Delete"
        row_of(self, self._button, self._delete)
        self._button.connect("toggled(bool)", lambda placing: self.setPlaceModeEnabled(placing))
        self._delete.connect("clicked()", self.deleteAllPoints)

    placeButton, deleteButton, currentNode, currentMarkupsNode = gives("_button"), gives("_delete"), gives("_node"), gives("_node")

    def setMRMLScene(self, scene):
        super().setMRMLScene(scene)
        interaction = self.interactionNode()
        observe(self, interaction, [interaction.InteractionModeChangedEvent], self._mode_changed)

    def interactionNode(self):
        return slicer.app.applicationLogic().GetInteractionNode()

    def selectionNode(self):
        return slicer.app.applicationLogic().GetSelectionNode()

    def _show_buttons(self, shown):
        self._button.setVisible(shown)
        self._delete.setVisible(shown)

    buttonsVisible = property(lambda self: not self._button.isHidden(), _show_buttons)

    def setCurrentNode(self, node):
        if node is not self._node:
            self.setPlaceModeEnabled(False)
            self._node = node
            self._button.enabled = node is not None

    def _placing(self):
        if self._node is None or self._scene is None:
            return False
        active = self.selectionNode().GetActivePlaceNodeID() == self._node.GetID()
        return active and self.interactionNode().GetCurrentInteractionMode() == slicer.vtkMRMLInteractionNode.Place

    def setPlaceModeEnabled(self, placing):
        if placing == self._placing() or self._node is None or self._scene is None:
            return
        interaction = self.interactionNode()
        if placing:
            self.selectionNode().SetReferenceActivePlaceNodeClassName(self._node.GetClassName())
            self.selectionNode().SetActivePlaceNodeID(self._node.GetID())
            interaction.SetPlaceModePersistence(self._persistent)
        interaction.SetCurrentInteractionMode(interaction.Place if placing else interaction.ViewTransform)
        self._mode_changed()

    def setPlaceModePersistency(self, persistent):
        self._persistent = persistent

    placeModeEnabled = property(_placing, setPlaceModeEnabled)
    placeModePersistency = property(gives("_persistent"), setPlaceModePersistency)

    def _mode_changed(self):
        placing = self._placing()
        if placing != self._was_placing:
            self._was_placing = self._button.checked = placing
            emit(self, "activeMarkupsPlaceModeChanged(bool)", placing)
            emit(self, "activeMarkupsFiducialPlaceModeChanged(bool)", placing)

    def deleteAllPoints(self):
        if self._node:
            self._node.RemoveAllControlPoints()

    def deleteLastPoint(self):
        if self._node and self._node.GetNumberOfControlPoints():
            self._node.RemoveNthControlPoint(self._node.GetNumberOfControlPoints() - 1)


class qSlicerSimpleMarkupsWidget(_SceneHolder, QtWidgets.QWidget):
    """A selector of point lists with a place button."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._selector, self._placer = qMRMLNodeComboBox(), qSlicerMarkupsPlaceWidget()
        self._selector.nodeTypes, self._selector.noneEnabled = ("vtkMRMLMarkupsFiducialNode",), True
        row_of(self, self._selector, self._placer)
        self._selector.connect("currentNodeChanged(vtkMRMLNode*)", self._changed)

    markupsPlaceWidget, markupsSelectorComboBox = gives("_placer"), gives("_selector")

    def setMRMLScene(self, scene):
        super().setMRMLScene(scene)
        self._selector.setMRMLScene(scene)
        self._placer.setMRMLScene(scene)

    def _changed(self, node):
        self._placer.setCurrentNode(node)
        emit(self, "markupsNodeChanged()")
        emit(self, "markupsFiducialNodeChanged()")

    def currentNode(self):
        return self._selector.currentNode()

    def setCurrentNode(self, node):
        self._selector.setCurrentNode(node)


class qMRMLSequenceBrowserSeekWidget(_SceneHolder, QtWidgets.QWidget):
    """A slider over the items of a sequence browser."""

    _browser = None

    def __init__(self, parent=None):
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Horizontal)
        row_of(self, self._slider)
        self._slider.connect("valueChanged(int)", lambda item: self._browser and self._browser.SetSelectedItemNumber(item))

    slider = gives("_slider")

    def setMRMLSequenceBrowserNode(self, node):
        self._browser = node
        if node:
            observe(self, node, ["ModifiedEvent"], self._update)
        self._update()

    def setSelectedItemNumber(self, item):
        self._slider.value = item

    def _update(self):
        if self._browser:
            self._slider.maximum = max(0, self._browser.GetNumberOfItems() - 1)
            self._slider.value = self._browser.GetSelectedItemNumber()
