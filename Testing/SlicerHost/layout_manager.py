"""The layout manager: view widgets arranged as the layout node's XML says."""

import xml.etree.ElementTree as ElementTree

import slicer
import vtk
from PySide6 import QtCore, QtWidgets

from SlicerHost.application_names import does_nothing, gives
from SlicerHost.scene_widgets import observe
from SlicerHost.views import view_widget


class qSlicerLayoutManager(QtCore.QObject):
    """Lives in the central frame of the main window; `slicer.app.layoutManager()`."""

    layoutChanged = QtCore.Signal(int)

    def __init__(self, frame, application_logic):
        super().__init__(frame)
        self._frame, self._application_logic, self._widgets, self._logics = frame, application_logic, {}, vtk.vtkCollection()
        application_logic.SetSliceLogics(self._logics)
        self._layout_logic = slicer.vtkMRMLLayoutLogic()
        self._layout_logic.SetMRMLScene(slicer.mrmlScene)
        self._node = self._layout_logic.GetLayoutNode()
        self._shown = None
        self._node.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        observe(self, self._node, ["ModifiedEvent"], self._arrange)
        self._arrange()

    layoutLogic, mrmlSliceLogics = gives("_layout_logic"), gives("_logics")
    pauseRender = resumeRender = does_nothing
    layout = property(lambda self: self._node.GetViewArrangement())

    def mrmlScene(self):
        return slicer.mrmlScene

    def setLayout(self, identifier):
        self._node.SetViewArrangement(identifier)

    def _slice_logic(self, node):
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(self._application_logic)
        logic.SetMRMLScene(slicer.mrmlScene)
        logic.SetSliceNode(node)
        self._logics.AddItem(logic)
        return logic

    def _widget(self, element):
        node = self._layout_logic.GetMRMLScene().GetSingletonNode(element.get("singletontag"), element.get("class"))
        if node.GetID() not in self._widgets:
            self._widgets[node.GetID()] = view_widget(node, self._slice_logic)
        return self._widgets[node.GetID()]

    def _build(self, element):
        if element.tag == "view":
            return self._widget(element)
        parts = [self._build(child[0]) for child in element.findall("item")]
        if element.get("type") == "tab":
            box = QtWidgets.QTabWidget()
            for part in parts:
                box.addTab(part, "")
            return box
        box = QtWidgets.QSplitter(QtCore.Qt.Vertical if element.get("type") == "vertical" else QtCore.Qt.Horizontal)
        for part in parts:
            box.addWidget(part)
        box.setSizes([1000] * len(parts))
        return box

    def _arrange(self):
        description = self._node.GetCurrentLayoutDescription()
        if not description or self._node.GetViewArrangement() == self._shown:
            return
        self._shown = self._node.GetViewArrangement()
        for widget in self._widgets.values():
            widget.setParent(None)
        column = self._frame.layout()
        while column.count():
            column.takeAt(0).widget().deleteLater()
        column.addWidget(self._build(ElementTree.fromstring(description)))
        for widget in self._widgets.values():
            widget.setVisible(widget.parent() is not None)
        self.layoutChanged(self._shown)

    def _of_class(self, name):
        return [w for w in self._widgets.values() if w.mrmlAbstractViewNode().IsA(name)]

    def sliceViewNames(self):
        return tuple(w.mrmlSliceNode().GetLayoutName() for w in self._of_class("vtkMRMLSliceNode"))

    def sliceWidget(self, name):
        return next((w for w in self._of_class("vtkMRMLSliceNode") if w.mrmlSliceNode().GetLayoutName() == name), None)

    def _views(name):
        count = property(lambda self: len(self._of_class(name)))
        return count, lambda self, index: self._of_class(name)[index]

    threeDViewCount, threeDWidget = _views("vtkMRMLViewNode")
    plotViewCount, plotWidget = _views("vtkMRMLPlotViewNode")
    tableViewCount, tableWidget = _views("vtkMRMLTableViewNode")

    def resetSliceViews(self):
        for index in range(self._logics.GetNumberOfItems()):
            self._logics.GetItemAsObject(index).FitSliceToBackground()

    def resetThreeDViews(self):
        for widget in self._of_class("vtkMRMLViewNode"):
            widget.threeDView().resetFocalPoint()
