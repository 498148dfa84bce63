"""Curves in a plot of Slicer that follows live: one table and one series a curve, made once and then only filled."""

import numpy as np
import slicer

OWN = "CTPerfusionSuite.Curve"


class CurvePlot:
    """A chart of enhancement over time.

    Parameters
    ----------
    name : str
        Of the chart, unique to its panel: nodes of the same name are used again.
    colors : dict of str -> (red, green, blue) 0-255
        Curves in the order of the legend.
    """

    def __init__(self, name, colors):
        self._name, self._colors = name, colors
        self._layout = None

    def setCurve(self, curve, times, values):
        """Show values (HU above baseline) over times (s); empty arrays hide the curve."""
        table = self._tables()[curve]
        data = np.column_stack([np.asarray(times, float), np.asarray(values, float)]).reshape(-1, 2)
        if table.GetNumberOfRows() == len(data) and table.GetNumberOfColumns() == 2:
            for column, filled in enumerate(("time", curve)):
                array = slicer.util.arrayFromTableColumn(table, filled)
                array[:] = data[:, column]
                slicer.util.arrayFromTableColumnModified(table, filled)
        else:
            slicer.util.updateTableFromArray(table, data, ["time", curve])

    def show(self):
        """Show the chart; the layout the user had is remembered."""
        self._tables()
        manager = slicer.app.layoutManager()
        if manager is not None and self._layout is None:
            self._layout = int(manager.layout)
        slicer.modules.plots.logic().ShowChartInLayout(self._chart())
        self._shown = int(manager.layout) if manager is not None else None

    def hide(self):
        """Return to the layout from before `show`, unless the user has chosen another one since."""
        manager = slicer.app.layoutManager()
        if manager is not None and self._layout is not None and int(manager.layout) == self._shown:
            manager.setLayout(self._layout)
        self._layout = None

    def _chart(self):
        return self._node("vtkMRMLPlotChartNode", "chart")

    def _tables(self):
        """The tables by curve; chart and series are made with them."""
        tables = {curve: self._node("vtkMRMLTableNode", f"{curve} table") for curve in self._colors}
        chart = self._chart()
        if chart.GetNumberOfPlotSeriesNodes() < len(self._colors):
            chart.SetTitle(self._name)
            chart.SetXAxisTitle("Time (s)")
            chart.SetYAxisTitle("HU above baseline")
            for curve, color in self._colors.items():
                slicer.util.updateTableFromArray(tables[curve], np.zeros((0, 2)), ["time", curve])
                series = self._node("vtkMRMLPlotSeriesNode", curve)
                series.SetName(curve)
                series.SetAndObserveTableNodeID(tables[curve].GetID())
                series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
                series.SetXColumnName("time")
                series.SetYColumnName(curve)
                series.SetColor(*(part / 255.0 for part in color))
                series.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone)
                series.SetLineWidth(2.5)
                chart.AddAndObservePlotSeriesNodeID(series.GetID())
        return tables

    def _node(self, className, role):
        """The node of this plot with that role, made at the first call."""
        key = f"{self._name}/{role}"
        nodes = slicer.mrmlScene.GetNodesByClass(className)
        nodes.UnRegister(None)
        for n in range(nodes.GetNumberOfItems()):
            if nodes.GetItemAsObject(n).GetAttribute(OWN) == key:
                return nodes.GetItemAsObject(n)
        node = slicer.mrmlScene.AddNewNodeByClass(className, f"{self._name} {role}")
        node.SetAttribute(OWN, key)
        return node
