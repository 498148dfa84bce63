"""Slice and plot views, drawn off-screen, each in an event of its own, by the real displayable managers, and the layout manager."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from vtk.util.numpy_support import vtk_to_numpy

from SlicerHost.application_names import APPLICATION, does_nothing, gives
from SlicerHost.widgets import observe, row_of


class _RenderedView(QtWidgets.QWidget):
    """A widget whose picture is an off-screen VTK window of the same size."""

    def __init__(self, node):
        super().__init__()
        self.setMinimumSize(80, 80)
        self._node, self._picture, self._timer = node, None, QtCore.QTimer(self, singleShot=True, interval=15)
        self._window, self._renderer, self._interactor = vtk.vtkRenderWindow(), vtk.vtkRenderer(), vtk.vtkGenericRenderWindowInteractor()
        self._window.SetOffScreenRendering(1)
        self._window.SetMultiSamples(0)
        self._window.AddRenderer(self._renderer)
        self._interactor.SetRenderWindow(self._window)
        self._interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())  # VTK's own would turn a camera
        self._interactor.Initialize()
        self._timer.timeout.connect(self._redraw)
        observe(self, node, ["ModifiedEvent"], self._timer.start)

    _prepare = does_nothing

    def _redraw(self):
        self._picture = self._image()
        self.update()

    forceRender = _redraw

    def _image(self):
        """Rendered RGB picture (rows, columns, 3) uint8, first row on top."""
        columns, rows, pixels = self.width, self.height, vtk.vtkUnsignedCharArray()
        self._window.SetSize(columns, rows)
        self._prepare(columns, rows)
        self._window.Render()
        self._window.GetPixelData(0, 0, columns - 1, rows - 1, 0, pixels, 0)
        return np.ascontiguousarray(vtk_to_numpy(pixels).reshape(rows, columns, 3)[::-1])

    def paintEvent(self, event):
        if self._picture is None or self._picture.shape[:2] != (self.height, self.width):
            self._picture = self._image()
        rows, columns, _three = self._picture.shape
        QtGui.QPainter(self).drawImage(0, 0, QtGui.QImage(self._picture.data, columns, rows, 3 * columns, QtGui.QImage.Format_RGB888))


class qMRMLSliceView(_RenderedView):
    def __init__(self, node, logic):
        super().__init__(node)
        self._managers = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance().InstantiateDisplayableManagers(self._renderer)
        self._managers.SetMRMLDisplayableNode(node)
        self._logic, self._composite = logic, logic.GetSliceCompositeNode()
        self._mapper, self._actor = vtk.vtkImageMapper(), vtk.vtkActor2D()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._actor.SetMapper(self._mapper)
        self._actor.GetProperty().SetDisplayLocationToBackground()
        self._renderer.AddViewProp(self._actor)
        self._style = slicer.vtkMRMLSliceViewInteractorStyle()  # the real one answers to the mouse
        self._style.SetInteractor(self._interactor)
        self._style.SetSliceLogic(logic)
        self._style.SetDisplayableManagers(self._managers)
        observe(self, self._managers, ["UpdateEvent"], self._timer.start)
        observe(self, logic, ["ModifiedEvent"], self._timer.start)

    def _mouse(self, ras, *events):
        """Scroll to a world position, point at it and let VTK's events happen there."""
        self._node.JumpSliceByOffsetting(*ras)
        self._redraw()
        to_pixels = vtk.vtkMatrix4x4()
        to_pixels.Invert(self._node.GetXYToRAS(), to_pixels)
        self._interactor.SetEventInformation(*(round(at) for at in to_pixels.MultiplyPoint([*ras, 1])[:2]), 0, 0, "\0", 0, None)
        for event in ("MouseMoveEvent", *events):
            self._interactor.InvokeEvent(event)

    def _prepare(self, width, height):
        if self._node.GetDimensions()[:2] != (width, height):
            self._logic.ResizeSliceNode(width, height)
        connection = self._logic.GetImageDataConnection()  # none while the view is empty
        self._actor.SetVisibility(connection is not None)
        self._mapper.SetInputConnection(connection)


class qMRMLPlotView(_RenderedView):
    """Line and scatter series of the chart that the plot view node names."""

    def __init__(self, node):
        super().__init__(node)
        self._followed, self._chart, actor = {None}, vtk.vtkChartXY(), vtk.vtkContextActor()
        actor.GetScene().SetRenderer(self._renderer)
        actor.GetScene().AddItem(self._chart)
        self._renderer.AddViewProp(actor)
        self._renderer.SetBackground(1, 1, 1)

    def _prepare(self, width, height):
        self._chart.ClearPlots()
        chart = self._node.GetPlotChartNode()
        self._chart.SetVisible(bool(chart))
        if not chart:
            return
        self._chart.SetTitle(chart.GetTitle() or "")
        self._chart.SetShowLegend(bool(chart.GetLegendVisibility()))
        self._chart.GetAxis(vtk.vtkAxis.BOTTOM).SetTitle(chart.GetXAxisTitle() or "")
        self._chart.GetAxis(vtk.vtkAxis.LEFT).SetTitle(chart.GetYAxisTitle() or "")
        for series in map(chart.GetNthPlotSeriesNode, range(chart.GetNumberOfPlotSeriesNodes())):
            for followed in {chart, series, series.GetTableNode()} - self._followed:
                observe(self, followed, ["ModifiedEvent"], self._timer.start)
                self._followed.add(followed)
            table, columns = series.GetTableNode() and series.GetTableNode().GetTable(), (series.GetXColumnName(), series.GetYColumnName())
            if not table or not table.GetNumberOfRows() or not all(name and table.GetColumnByName(name) for name in columns):
                continue
            plot = self._chart.AddPlot(vtk.vtkChart.LINE)
            plot.SetInputData(table, *columns)
            plot.SetLabel(series.GetName())
            plot.SetColor(*(round(255 * c) for c in series.GetColor()), 255)
            plot.SetWidth(series.GetLineWidth() if series.GetLineStyle() else 0)
            plot.SetMarkerStyle(max(0, series.GetMarkerStyle()))
        self._chart.RecalculateBounds()


class qMRMLPlotWidget(QtWidgets.QWidget):
    """What the layout manager gives for a plot: the frame around its view."""

    def __init__(self, view):
        super().__init__()
        self._view = view
        row_of(self, view)

    plotView = gives("_view")


class qMRMLSliceWidget(qMRMLPlotWidget):
    """The same for a slice."""

    sliceView, mrmlSliceNode = gives("_view"), gives("_view._node")
    sliceLogic, mrmlSliceCompositeNode = gives("_view._logic"), gives("_view._composite")


class qSlicerLayoutManager(QtCore.QObject):
    """`slicer.app.layoutManager()`: views arranged in the main window as the layout node's XML says; 3D views and tables stay empty."""

    threeDViewCount = tableViewCount = 0

    def __init__(self, window, application_logic):
        super().__init__(window)
        self._window, self._application_logic, self._widgets, self._logics = window, application_logic, {}, vtk.vtkCollection()
        application_logic.SetSliceLogics(self._logics)
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(application_logic)
        for name in APPLICATION["slice_displayable_managers"]:
            factory.RegisterDisplayableManager(name)
        self._layout_logic, self._shown = slicer.vtkMRMLLayoutLogic(), None
        self._layout_logic.SetMRMLScene(slicer.mrmlScene)
        self._node = self._layout_logic.GetLayoutNode()
        observe(self, self._node, ["ModifiedEvent"], self._arrange)
        self.setLayout(self._node.SlicerLayoutFourUpView)

    layoutLogic, mrmlSliceLogics = gives("_layout_logic"), gives("_logics")
    layout = property(lambda self: self._node.GetViewArrangement())

    def setLayout(self, identifier):
        self._node.SetViewArrangement(identifier)

    def _new_widget(self, node):
        """The widget that shows a view node."""
        if node.IsA("vtkMRMLPlotViewNode"):
            return qMRMLPlotWidget(qMRMLPlotView(node))
        if not node.IsA("vtkMRMLSliceNode"):
            return QtWidgets.QLabel(node.GetClassName())
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(self._application_logic)
        logic.SetMRMLScene(slicer.mrmlScene)
        logic.SetSliceNode(node)
        self._logics.AddItem(logic)
        return qMRMLSliceWidget(qMRMLSliceView(node, logic))

    def _build(self, element):
        if element.tag == "view":
            node = slicer.mrmlScene.GetSingletonNode(element.get("singletontag"), element.get("class"))
            if node not in self._widgets:
                self._widgets[node] = self._new_widget(node)
            return self._widgets[node]
        box = QtWidgets.QSplitter(QtCore.Qt.Vertical if element.get("type") == "vertical" else QtCore.Qt.Horizontal)
        for item in element.findall("item"):
            box.addWidget(self._build(item[0]))
        box.setSizes([1000] * box.count())
        return box

    def _arrange(self):
        description = self._node.GetCurrentLayoutDescription()
        if not description or self.layout == self._shown:
            return
        self._shown = self.layout
        for widget in self._widgets.values():
            widget.setParent(None)
        self._window.setCentralWidget(self._build(ElementTree.fromstring(description)))
        for widget in self._widgets.values():
            widget.setVisible(widget.parent() is not None)

    def _of_class(self, name):
        return [widget for node, widget in self._widgets.items() if node.IsA(name)]

    plotViewCount = property(lambda self: len(self._of_class("vtkMRMLPlotViewNode")))

    def plotWidget(self, index):
        return self._of_class("vtkMRMLPlotViewNode")[index]

    def sliceViewNames(self):
        return tuple(widget.mrmlSliceNode().GetLayoutName() for widget in self._of_class("vtkMRMLSliceNode"))

    def sliceWidget(self, name):
        return dict(zip(self.sliceViewNames(), self._of_class("vtkMRMLSliceNode"), strict=True)).get(name)

    def resetSliceViews(self):
        for widget in self._of_class("vtkMRMLSliceNode"):
            widget.sliceLogic().FitSliceToBackground()
