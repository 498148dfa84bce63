"""Artery and vein: where their curves are read, the automatic candidates, and the curves in a plot that follows live."""

import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from CTPerfusionSuiteLib.panel.curve_plot import CurvePlot
from CTPerfusionSuiteLib.panel.section import Section
from CTPerfusionSuiteLib.panel.tables import fillTable

from ..mrml_readiness import ownResult, placedPoint
from .segment_choice import SegmentChoice

VESSELS = ("aif", "vof")
COLORS = {"AIF": (194, 24, 91), "VOF": (21, 101, 192), "Tissue": (0, 137, 123)}
FOLLOW_MS = 25
"""The curves are read again this long after the last move of a point or the mouse, milliseconds."""


class VesselsSection(Section, VTKObservationMixin):
    """Chooses and shows the curves; the analysis reads them anew from the motion-corrected series."""

    def __init__(self, panel, ui):
        Section.__init__(self, panel, ui)
        VTKObservationMixin.__init__(self)
        self._plot = CurvePlot("CT perfusion curves", COLORS)
        self._segments = [SegmentChoice(panel, getattr(ui, f"{v}SegmentSelector"), f"{v}Segmentation", f"{v}Segment") for v in VESSELS]
        self._shownCandidates, self._curves, self._cursor = None, None, None
        self._observed = {}
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.interval = FOLLOW_MS
        self._timer.timeout.connect(self.updateCurves)
        for vessel in VESSELS:
            place = getattr(ui, f"{vessel}Place")
            place.deleteAllControlPointsOptionVisible = False
            place.placeMultipleMarkups = slicer.qSlicerMarkupsPlaceWidget.ForcePlaceSingleMarkup
        ui.candidatesTable.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        ui.candidatesTable.cellClicked.connect(lambda row, column: self.showCandidate(row))
        ui.candidatesTable.cellDoubleClicked.connect(lambda row, column: self.useCandidate(row))
        ui.showCurvesButton.toggled.connect(self._onShowCurves)

    def settingsChanged(self):
        self._shownCandidates = self._curves = None
        if self._panel.settings is None:
            self._ui.showCurvesButton.checked = False
            self._timer.stop()
            self.removeObservers()
            self._observed = {}
            for vessel in VESSELS:
                getattr(self._ui, f"{vessel}Place").setPlaceModeEnabled(False)
                getattr(self._ui, f"{vessel}Place").setCurrentNode(None)

    def cleanup(self):
        self._timer.stop()
        self.removeObservers()

    def update(self):
        settings = self._panel.settings
        for choice in self._segments:
            choice.update()
        for vessel in VESSELS:
            source = getattr(settings, f"{vessel}Source").value
            for name, widget in (("point", "PlaceRow"), ("segment", "SegmentSelector"), ("file", "File")):
                getattr(self._ui, f"{vessel}{widget}").setVisible(source == name)
            getattr(self._ui, f"{vessel}Choice").setVisible(source in ("point", "segment", "file"))
            if source == "point":
                self._ensurePoint(vessel)
            self._observePoint(vessel)
        self._updateCandidates()
        self._timer.start()

    def updateCurves(self):
        """Read the curves again, at the points and, while the plot is shown, under the mouse."""
        settings, plotted = self._panel.settings, self._ui.showCurvesButton.checked
        points = [vessel for vessel in VESSELS if settings is not None and getattr(settings, f"{vessel}Source").value == "point"]
        if settings is None or not (plotted or points):
            return
        from CTPerfusionSuiteLib.errors import SuiteError

        from ..mrml_vessel_curves import VesselCurves, peakWords

        self._curves = self._curves or VesselCurves(settings)
        result = self._result()
        for vessel in VESSELS if plotted else points:
            try:
                curve = self._curves.ofVessel(vessel, result)
            except SuiteError as problem:
                self._panel.say(str(problem))
                curve = None
            if vessel in points:
                placed = placedPoint(getattr(settings, f"{vessel}Point")) is not None
                words = peakWords(curve) if curve is not None else _("outside the series") if placed else _("not placed")
                getattr(self._ui, f"{vessel}PointLabel").text = words
            if plotted:
                self._plot.setCurve(vessel.upper(), *(curve or ((), ())))
        if plotted:
            self._plot.setCurve("Tissue", *(self._curves.atPosition(self._cursor, result) or ((), ())))

    def _result(self):
        """The shown result if it belongs to the chosen series."""
        return self._panel.results.resultOf(ownResult(self._panel.settings))

    def _ensurePoint(self, vessel):
        settings = self._panel.settings
        if getattr(settings, f"{vessel}Point") is None:
            name = vessel.upper()
            node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", slicer.mrmlScene.GetUniqueNameByString(name))
            node.SetMaximumNumberOfControlPoints(1)
            node.SetControlPointLabelFormat(name)
            node.CreateDefaultDisplayNodes()
            color = [part / 255.0 for part in COLORS[name]]
            node.GetDisplayNode().SetSelectedColor(*color)
            node.GetDisplayNode().SetColor(*color)
            setattr(settings, f"{vessel}Point", node)

    def _observePoint(self, vessel):
        node = getattr(self._panel.settings, f"{vessel}Point")
        place = getattr(self._ui, f"{vessel}Place")
        if self._observed.get(vessel) is node:
            return
        old = self._observed.get(vessel)
        if old is not None:
            self.removeObserver(old, old.PointModifiedEvent, self._onPointMoved)
            self.removeObserver(old, old.PointRemovedEvent, self._onPointMoved)
            if old.GetDisplayNode() is not None:
                old.GetDisplayNode().SetVisibility(False)  # it belongs to another study
        self._observed[vessel] = node
        place.setCurrentNode(node)
        if node is not None:
            if node.GetDisplayNode() is not None:
                node.GetDisplayNode().SetVisibility(True)
            self.addObserver(node, node.PointModifiedEvent, self._onPointMoved)
            self.addObserver(node, node.PointRemovedEvent, self._onPointMoved)

    def _onPointMoved(self, caller, event):
        if not self._timer.active:
            self._timer.start()
        self._panel.updateApply()

    def _onShowCurves(self, shown):
        crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        if crosshair is not None:
            event = slicer.vtkMRMLCrosshairNode.CursorPositionModifiedEvent
            if shown:
                self.addObserver(crosshair, event, self._onCursor)
            elif self.hasObserver(crosshair, event, self._onCursor):
                self.removeObserver(crosshair, event, self._onCursor)
        if shown:
            self._plot.show()
            self.updateCurves()
        else:
            self._plot.hide()

    def _onCursor(self, caller, event):
        position = [0.0, 0.0, 0.0]
        self._cursor = position if caller.GetCursorPositionRAS(position) else None
        if not self._timer.active:
            self._timer.start()

    def _updateCandidates(self):
        settings, result = self._panel.settings, self._result()
        key = [settings.result.GetID() if result is not None else None]
        key += [getattr(settings, f"{vessel}{what}") for vessel in VESSELS for what in ("Source", "Candidate")]
        if key == self._shownCandidates:
            return
        self._shownCandidates, rows, self._candidates = key, [], []
        for vessel in VESSELS:
            for rank, curve in enumerate(getattr(result, f"{vessel}_candidates") if result is not None else (), start=1):
                place = curve.lps.mean(axis=0) if len(curve.lps) else None
                used = self._isUsed(vessel, rank)
                rows.append((f"{vessel.upper()} {rank}", f"{curve.peak_hu:.0f}", f"{curve.peak_time_s:.1f}", _("used") if used else ""))
                self._candidates.append((vessel, rank, place))
        self._ui.candidatesTable.setVisible(bool(rows))
        self._ui.candidatesLabel.setVisible(not rows)
        fillTable(self._ui.candidatesTable, (_("Candidate"), _("Peak (HU)"), _("at (s)"), ""), rows, tallest=170)

    def _isUsed(self, vessel, rank):
        source = getattr(self._panel.settings, f"{vessel}Source").value
        return rank == (1 if source == "automatic" else getattr(self._panel.settings, f"{vessel}Candidate") if source == "candidate" else 0)

    def showCandidate(self, row):
        """Move the slices to the candidate in a row of the table."""
        place = self._candidates[row][2]
        if place is not None:
            crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
            ras = [-place[0], -place[1], place[2]]
            crosshair.SetCrosshairRAS(ras)
            if crosshair.GetCrosshairMode() == crosshair.NoCrosshair:
                crosshair.SetCrosshairMode(crosshair.ShowBasic)
            slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *ras, slicer.vtkMRMLSliceNode.OffsetJumpSlice)

    def useCandidate(self, row):
        """The next run reads the vessel at the candidate in a row of the table."""
        vessel, rank, _place = self._candidates[row]
        settings = self._panel.settings
        with slicer.util.NodeModify(settings.parameterNode):
            setattr(settings, f"{vessel}Candidate", rank)
            setattr(settings, f"{vessel}Source", type(settings.aifSource).CANDIDATE)
