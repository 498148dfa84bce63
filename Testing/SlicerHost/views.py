"""Slice, 3D, plot and table views, drawn off-screen by the real slice logic, displayable managers and VTK.

One class serves the widgets of every kind of view: the list of names lets each offer only what Slicer's offers.
"""

import numpy as np
import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from vtk.util.numpy_support import vtk_to_numpy

from SlicerHost.application_names import does_nothing, gives
from SlicerHost.scene_widgets import _SceneHolder, observe

_SLICE = ("VolumeGlyphSlice", "ModelSlice", "Crosshair", "OrientationMarker", "Ruler", "Segmentations2D", "Markups", "ColorLegend")
_THREE_D = ("Camera", "View", "Model", "Segmentations3D", "Markups", "ColorLegend")
_COLORS = {"Red": "#F34A33", "Green": "#6EB04B", "Yellow": "#EDD54C", "1": "#7483E6"}


def register_displayable_managers(application_logic):
    for factory_class, names in (
        (slicer.vtkMRMLSliceViewDisplayableManagerFactory, _SLICE),
        (slicer.vtkMRMLThreeDViewDisplayableManagerFactory, _THREE_D),
    ):
        factory = factory_class.GetInstance()
        factory.SetMRMLApplicationLogic(application_logic)
        for name in names:
            kind, dimension = (name[:-2], name[-2:]) if name[-1] == "D" else (name, "")
            factory.RegisterDisplayableManager(f"vtkMRML{kind}DisplayableManager{dimension}")


class _RenderedView(QtWidgets.QWidget):
    """A widget whose picture is an off-screen VTK window of the same size."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self.setMinimumSize(80, 80)
        self.setSizePolicy(QtWidgets.QSizePolicy.Expanding, QtWidgets.QSizePolicy.Expanding)
        self._window, self._renderer, self._interactor = vtk.vtkRenderWindow(), vtk.vtkRenderer(), vtk.vtkGenericRenderWindowInteractor()
        self._window.SetOffScreenRendering(1)
        self._window.SetMultiSamples(0)
        self._window.AddRenderer(self._renderer)
        self._interactor.SetRenderWindow(self._window)
        self._interactor.Initialize()
        self._picture, self._timer = None, QtCore.QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._redraw)

    def _show(self, node, factory):
        self._node = node
        self._managers = factory.GetInstance().InstantiateDisplayableManagers(self._renderer)
        self._managers.SetMRMLDisplayableNode(node)
        observe(self, self._managers, ["UpdateEvent"], self.scheduleRender)

    renderWindow, interactor, _prepare = gives("_window"), gives("_interactor"), does_nothing

    def _render(self):
        size = max(self.width, 80), max(self.height, 80)
        self._window.SetSize(*size)
        self._prepare(*size)
        self._window.Render()

    def forceRender(self):
        self._redraw()

    def scheduleRender(self):
        """Render in an event of its own, as each view of the application does."""
        if not self._timer.active:
            self._timer.start(15)

    def _redraw(self):
        self._picture = self._image()
        self.update()

    def _image(self):
        """Rendered RGB picture (rows, columns, 3) uint8, first row on top."""
        self._render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self._window)
        grab.ReadFrontBufferOff()
        grab.Update()
        columns, rows, _one = grab.GetOutput().GetDimensions()
        return np.ascontiguousarray(vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars()).reshape(rows, columns, 3)[::-1])

    def paintEvent(self, event):
        if self._picture is None or self._picture.shape[:2] != (max(self.height, 80), max(self.width, 80)):
            self._picture = self._image()
        rows, columns, _three = self._picture.shape
        image = QtGui.QImage(self._picture.data, columns, rows, 3 * columns, QtGui.QImage.Format_RGB888)
        QtGui.QPainter(self).drawImage(0, 0, image)


class qMRMLSliceView(_RenderedView):
    def _show_slices(self, logic):
        self._show(logic.GetSliceNode(), slicer.vtkMRMLSliceViewDisplayableManagerFactory)
        self._logic, self._mapper, self._actor = logic, vtk.vtkImageMapper(), vtk.vtkActor2D()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._actor.SetMapper(self._mapper)
        self._actor.GetProperty().SetDisplayLocationToBackground()
        self._renderer.AddViewProp(self._actor)
        observe(self, logic, ["ModifiedEvent"], self.scheduleRender)

    mrmlSliceNode = gives("_node")

    def _prepare(self, width, height):
        if self._node.GetDimensions()[:2] != (width, height):
            self._logic.ResizeSliceNode(width, height)
        connection = self._logic.GetImageDataConnection()  # none while the view is empty
        self._actor.SetVisibility(connection is not None)
        self._mapper.SetInputConnection(connection)

    def convertXYZToRAS(self, xyz):
        return self._node.GetXYToRAS().MultiplyPoint([*xyz, 1.0])[:3]

    def convertRASToXYZ(self, ras):
        inverse = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self._node.GetXYToRAS(), inverse)
        return inverse.MultiplyPoint([*ras, 1.0])[:3]


class qMRMLThreeDView(_RenderedView):
    mrmlViewNode = gives("_node")

    def resetFocalPoint(self):
        self._renderer.ResetCamera()

    resetCamera = resetFocalPoint


class qMRMLPlotView(_RenderedView):
    """Line and scatter series of the chart that the plot view node names."""

    _node = None

    def __init__(self, parent=None):
        super().__init__(parent)
        self._chart, actor = vtk.vtkChartXY(), vtk.vtkContextActor()
        actor.GetScene().SetRenderer(self._renderer)
        actor.GetScene().AddItem(self._chart)
        self._renderer.AddViewProp(actor)
        self._renderer.SetBackground(1, 1, 1)

    mrmlPlotViewNode, chart = gives("_node"), gives("_chart")

    def setMRMLPlotViewNode(self, node):
        self._node, self._followed = node, set()
        self._follow(node)

    def _follow(self, *nodes):
        for node in set(nodes) - self._followed - {None}:
            observe(self, node, ["ModifiedEvent"], self._timer.start)
            self._followed.add(node)

    def _prepare(self, width, height):
        self._chart.ClearPlots()
        chart = self._node and self._node.GetPlotChartNode()
        self._chart.SetVisible(bool(chart))
        if not chart:
            return
        self._chart.SetTitle(chart.GetTitle() or "")
        self._chart.SetShowLegend(bool(chart.GetLegendVisibility()))
        self._chart.GetAxis(vtk.vtkAxis.BOTTOM).SetTitle(chart.GetXAxisTitle() or "")
        self._chart.GetAxis(vtk.vtkAxis.LEFT).SetTitle(chart.GetYAxisTitle() or "")
        for index in range(chart.GetNumberOfPlotSeriesNodes()):
            series = chart.GetNthPlotSeriesNode(index)
            self._follow(chart, series, series.GetTableNode())
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


class qMRMLTableView(_SceneHolder, QtWidgets.QTableView):
    """Cells of a table node as text."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._table_node, self._view_node, self._cells = None, None, QtGui.QStandardItemModel(self)
        self.setModel(self._cells)

    def mrmlTableNode(self):
        return self._view_node.GetTableNode() if self._view_node else self._table_node

    def setMRMLTableNode(self, node):
        self._table_node = node
        self._follow(node)

    def setMRMLTableViewNode(self, node):
        self._view_node = node
        self._follow(node)

    def _follow(self, node):
        if node:
            observe(self, node, ["ModifiedEvent"], self._fill)
        self._fill()

    def _fill(self):
        node = self.mrmlTableNode()
        table = node.GetTable() if node else vtk.vtkTable()
        columns = range(table.GetNumberOfColumns())
        self._cells.clear()
        self._cells.setHorizontalHeaderLabels([table.GetColumnName(c) or "" for c in columns])
        for row in range(table.GetNumberOfRows()):
            self._cells.appendRow([QtGui.QStandardItem(table.GetValue(row, c).ToString()) for c in columns])


class _ViewWidget(_SceneHolder, QtWidgets.QWidget):
    """A view under a thin colored bar, as the application frames it."""

    def __init__(self, node, view, logic=None):
        super().__init__()
        self._node, self._view, self._logic = node, view, logic
        bar = QtWidgets.QLabel(" " + (node.GetLayoutLabel() or ""))
        bar.setStyleSheet(f"background: {_COLORS.get(node.GetLayoutName(), '#E1BA3C')}; color: black; font-size: 9px;")
        bar.setFixedHeight(12)
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(bar)
        column.addWidget(view)
        if isinstance(view, _RenderedView):
            observe(self, node, ["ModifiedEvent"], lambda: view._timer.start(15))

    mrmlAbstractViewNode = mrmlSliceNode = mrmlViewNode = mrmlPlotViewNode = mrmlTableViewNode = gives("_node")
    viewWidget = sliceView = threeDView = plotView = tableView = gives("_view")
    sliceLogic = gives("_logic")

    def mrmlSliceCompositeNode(self):
        return self._logic.GetSliceCompositeNode()

    def fitSliceToBackground(self):
        self._logic.FitSliceToBackground()

_NAMES = ("qMRMLSliceWidget", "qMRMLThreeDWidget", "qMRMLPlotWidget", "qMRMLTableWidget")
WIDGETS = {name: type(name, (_ViewWidget,), {}) for name in _NAMES}


def grab(widget):
    """Picture (QPixmap) of a widget with its views as they are now."""
    QtWidgets.QApplication.processEvents()
    for view in widget.findChildren(QtWidgets.QWidget):
        if isinstance(view, _RenderedView) and view.isVisible():
            view._redraw()
    return widget.grab()


def view_widget(node, slice_logic):
    """The widget that shows one view node of the layout."""
    logic = None
    if node.IsA("vtkMRMLSliceNode"):
        view, logic = qMRMLSliceView(), slice_logic(node)
        view._show_slices(logic)
    elif node.IsA("vtkMRMLViewNode"):
        view = qMRMLThreeDView()
        view._show(node, slicer.vtkMRMLThreeDViewDisplayableManagerFactory)
    elif node.IsA("vtkMRMLPlotViewNode"):
        view = qMRMLPlotView()
        view.setMRMLPlotViewNode(node)
    else:
        view = qMRMLTableView()
        view.setMRMLTableViewNode(node)
    return WIDGETS[type(view).__name__.replace("View", "Widget")](node, view, logic)


def exported():
    """{name: class} of what slicer.* and .ui files can name."""
    return WIDGETS | {cls.__name__: cls for cls in (qMRMLSliceView, qMRMLThreeDView, qMRMLPlotView, qMRMLTableView)}
