"""Results: one map in color over the CT, thresholds that move core and penumbra live, their volumes, and what to know about them."""

import html

import qt
import slicer
from slicer.i18n import tr as _

from CTPerfusionSuiteLib.panel.tables import fillTable

from ..mrml_readiness import isResult

SETTLE_MS = 250
"""The full metrics follow this long after the last move of a threshold, milliseconds."""
BACKGROUNDS = ("images.mean_ct", "images.baseline", "images.anatomy")
SEVERITY_MARKS = {"critical": "\u26d4", "warning": "\u26a0", "info": "\u2139"}


class ResultsSection:
    """Shows the result that the parameter node names, and applies its thresholds."""

    def __init__(self, panel, ui):
        self._panel, self._ui = panel, ui
        self._cached = (None, None)  # result node, PerfusionResult
        self._node, self._fusion, self._applied = None, None, None
        self.moved, self.found = None, None
        self._reopened = False
        self._updating = False
        self._move, self._settle, self._tables = qt.QTimer(), qt.QTimer(), qt.QTimer()
        steps = ((self._move, 0, self.applyNow), (self._settle, SETTLE_MS, self.keepNow), (self._tables, 0, self.fillNow))
        for timer, interval, slot in steps:
            timer.setSingleShot(True)
            timer.interval = interval
            timer.timeout.connect(slot)
        ui.resultSelector.addAttribute("vtkMRMLTextNode", "CTPerfusionSuite.Result")
        ui.mapCombo.currentIndexChanged.connect(self._onMap)
        ui.backgroundCombo.currentIndexChanged.connect(self._onBackground)
        ui.volumesTable.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        ui.volumesTable.setSelectionMode(qt.QAbstractItemView.NoSelection)

    def resultOf(self, node):
        """The arrays of a result node, read once; None when it is damaged (the user is told)."""
        if node is None or not isResult(node):
            return None
        if self._cached[0] is not node:
            from CTPerfusionSuiteLib.errors import SuiteError

            from ..mrml_result import resultFromNode

            try:
                self._cached = (node, resultFromNode(node))
            except SuiteError as problem:
                self._panel.say(str(problem))
                self._cached = (node, None)
        return self._cached[1]

    def settingsChanged(self):
        """Another scene, or none: what was shown may be gone."""
        for timer in (self._move, self._settle, self._tables):
            timer.stop()
        self._cached, self._node, self._fusion, self._applied = (None, None), None, None, None
        self.moved = self.found = None
        # The sliders of a scene that comes back are newer than what its result remembers.
        self._reopened = True

    def cleanup(self):
        for timer in (self._move, self._settle, self._tables):
            timer.stop()

    def update(self):
        settings = self._panel.settings
        node = settings.result if isResult(settings.result) else None
        result = self.resultOf(node)
        if result is None:
            node = None
        if node is not self._node:
            self._leave()
            self._node = node
            self._enter(result)
        self._reopened = False
        shown = (self._ui.mapCombo, self._ui.backgroundCombo, self._ui.opacitySlider, self._ui.tmaxSlider, self._ui.rcbfSlider)
        for widget in shown:
            widget.enabled = node is not None
        for widget in (self._ui.volumesTable, self._ui.flagsLabel):
            widget.setVisible(node is not None)
        if node is None:
            return
        self._showFusion()
        thresholds = (settings.tmaxThreshold, settings.rcbfThreshold)
        if thresholds != self._applied and not self._move.active:
            self._move.start()

    def applyNow(self):
        """Move the segments and the volume table to the thresholds of the sliders."""
        settings = self._panel.settings
        result = self.resultOf(self._node)
        if settings is None or result is None:
            return
        from ..mrml_result import applyThresholds

        self._applied = (settings.tmaxThreshold, settings.rcbfThreshold)
        self.found = applyThresholds(self._node, result, self._thresholds())
        self._fillVolumes()
        self._settle.start()

    def keepNow(self):
        """Compute every metric at the present thresholds; the result remembers them."""
        self._settle.stop()
        result = self.resultOf(self._node)
        if result is None or self._panel.settings is None:
            return
        from ..mrml_result import keepThresholds

        self.moved = keepThresholds(self._node, result, self._thresholds(), self.found)
        self._fillFlags()
        self._tables.start()

    def flush(self):
        """Bring everything up to the sliders at once: before the scene is saved, or another result is shown."""
        if self._move.active:
            self._move.stop()
            self.applyNow()
        if self._settle.active:
            self.keepNow()

    def fillNow(self):
        """Show the metrics that were computed."""
        self._panel.metrics.show(self.moved, self.found)

    def _thresholds(self):
        from ..perfusion_options import Thresholds

        return Thresholds(float(self._applied[0]), float(self._applied[1]) / 100.0)

    def _leave(self):
        """Before another result is shown: what belongs to the old one alone."""
        if self._node is not None and self._node.GetScene() is not None:
            self.flush()
            from ..mrml_result import hideLegends

            hideLegends(self._node)
            segmentation = self._node.GetNodeReference("segmentation")
            if segmentation is not None and segmentation.GetDisplayNode() is not None:
                segmentation.GetDisplayNode().SetVisibility(False)
        self._fusion, self._applied, self.moved, self.found = None, None, None, None
        self._panel.metrics.show(None, None)

    def _enter(self, result):
        """A result is shown: its maps to choose from, and the sliders where its thresholds are."""
        self._updating = True
        self._ui.mapCombo.clear()
        self._ui.backgroundCombo.clear()
        if result is None:
            fillTable(self._ui.volumesTable, (_("Volume"), ""), [])
            self._ui.flagsLabel.text = self._ui.calibrationLabel.text = ""
            self._ui.calibrationLabel.setVisible(False)
            self._updating = False
            return
        from ..mrml_result import IMAGE_TITLES, hideOthers, mapNodes, mapTitle
        from ..perfusion_pictures import is_calibrated

        calibrated = is_calibrated(result)
        self._maps = list(mapNodes(self._node))
        self._ui.mapCombo.addItems([mapTitle(name, calibrated) for name in self._maps])
        self._backgrounds = [role for role in BACKGROUNDS if self._node.GetNodeReference(role) is not None]
        self._ui.backgroundCombo.addItems([IMAGE_TITLES[role.partition(".")[2]] for role in self._backgrounds])
        settings = self._panel.settings
        with slicer.util.NodeModify(settings.parameterNode):
            if not self._reopened:
                self._takeThresholds(settings, result.thresholds)
            if settings.shownMap not in self._maps:
                settings.shownMap = "tmax"
            if settings.background not in self._backgrounds:
                settings.background = self._backgrounds[0]
        self._updating = False
        hideOthers(self._node)
        segmentation = self._node.GetNodeReference("segmentation")
        if segmentation is not None and segmentation.GetDisplayNode() is not None:
            segmentation.GetDisplayNode().SetVisibility(True)
        relative = "" if calibrated else _("CBF and CBV are relative: the arterial curve could not be calibrated to a vein.")
        self._ui.calibrationLabel.text = relative
        self._ui.calibrationLabel.setVisible(bool(relative))
        self._move.start()

    @staticmethod
    def _takeThresholds(settings, thresholds):
        """Put the sliders where a result has its thresholds."""
        settings.tmaxThreshold = min(14.0, max(2.0, float(thresholds.tmax_s)))
        settings.rcbfThreshold = min(60.0, max(5.0, round(100 * float(thresholds.rcbf), 1)))

    def _showFusion(self):
        settings = self._panel.settings
        wanted = (settings.shownMap, settings.background, settings.mapOpacity)
        if wanted == self._fusion:
            return
        from ..mrml_result import showFusion

        first = self._fusion is None
        self._fusion = wanted
        self._updating = True
        if settings.shownMap in self._maps:
            self._ui.mapCombo.currentIndex = self._maps.index(settings.shownMap)
        if settings.background in self._backgrounds:
            self._ui.backgroundCombo.currentIndex = self._backgrounds.index(settings.background)
        self._updating = False
        background = self._node.GetNodeReference(settings.background)
        showFusion(self._node, settings.shownMap, settings.mapOpacity / 100.0, background)
        if first and slicer.app.layoutManager() is not None:
            slicer.util.resetSliceViews()

    def _onMap(self, *arguments):
        if not self._updating and self._panel.settings is not None and self._ui.mapCombo.currentIndex >= 0:
            self._panel.settings.shownMap = self._maps[self._ui.mapCombo.currentIndex]

    def _onBackground(self, *arguments):
        if not self._updating and self._panel.settings is not None and self._ui.backgroundCombo.currentIndex >= 0:
            self._panel.settings.background = self._backgrounds[self._ui.backgroundCombo.currentIndex]

    def _fillVolumes(self):
        found, thresholds = self.found, self._thresholds()
        hypoperfusion, core, penumbra = (found.volume_ml(mask) for mask in (found.hypoperfusion, found.core, found.penumbra))
        ratio = None if not core else hypoperfusion / core
        rows = [
            (_("Hypoperfusion, Tmax > {tmax:g} s").format(tmax=thresholds.tmax_s), _volume(hypoperfusion)),
            (_("Core, rCBF < {rcbf:g} %").format(rcbf=100 * thresholds.rcbf), _volume(core)),
            (_("Penumbra (mismatch)"), _volume(penumbra)),
            (_("Mismatch ratio"), "\u2013" if core is None else _("no core") if ratio is None else f"{ratio:.1f}"),
        ]
        tips = (
            _("Tissue with Tmax above the threshold, in clusters of at least 1 mL."),
            _("Hypoperfusion with relative CBF below the threshold, in clusters of at least 1 mL."),
            _("Hypoperfusion minus core."),
            _("Hypoperfusion divided by core."),
        )
        fillTable(self._ui.volumesTable, (_("Volume"), _("mL")), rows, tips)

    def _fillFlags(self):
        self._ui.flagsLabel.text = flagLines(self.moved.metrics["qc"])


def flagLines(flags):
    """Quality flags of a metrics document as rich text, one a line with the mark of its severity."""
    lines = [f"{SEVERITY_MARKS.get(flag['severity'], '')} {html.escape(flag['message'])}" for flag in flags]
    return "<br>".join(lines) if lines else _("No quality remarks.")


def _volume(value):
    return _("not assessable") if value is None else f"{value:.1f}"
