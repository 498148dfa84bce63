"""Results: one map in color over the CT, thresholds that move core and penumbra live, their volumes, and what to know about them."""

import html
import logging

import qt
import slicer
from slicer.i18n import tr as _

from CTPerfusionSuiteLib.panel.section import Section
from CTPerfusionSuiteLib.panel.stepwise import Stepwise
from CTPerfusionSuiteLib.panel.tables import fillTable
from CTPerfusionSuiteLib.progress import to_the_end

from ..mrml_readiness import isResult

SETTLE_MS = 250
"""The full metrics follow this long after the last move of a threshold, milliseconds."""
BACKGROUNDS = ("images.mean_ct", "images.baseline", "images.anatomy")
VOLUME_HEADER = (_("At these thresholds"), _("Value"))
SEVERITY_MARKS = {"critical": "\u26d4", "warning": "\u26a0", "info": "\u2139"}


class ResultsSection(Section):
    """Shows the result that the parameter node names, and applies its thresholds."""

    def __init__(self, panel, ui):
        super().__init__(panel, ui)
        self._cached = (None, None)  # result node, PerfusionResult
        self._node, self._fusion = None, None
        self._wanted, self._applied = None, None  # thresholds of the sliders for the shown result, and those its lesions have
        self.moved, self.found = None, None
        self._reopened = False
        self._settled = True  # whether the result remembers the thresholds that are applied
        self._updating = False
        self._moving, self._keeping = None, None  # Stepwise, while they go on
        self._settle = qt.QTimer()
        self._settle.setSingleShot(True)
        self._settle.interval = SETTLE_MS
        self._settle.timeout.connect(self._keepLater)
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
        self._stop()
        self._cached, self._node, self._fusion, self._applied, self._wanted = (None, None), None, None, None, None
        self.moved = self.found = None
        # The sliders of a scene that comes back are newer than what its result remembers.
        self._reopened = True

    def cleanup(self):
        self._stop()

    def _stop(self):
        self._settle.stop()
        for steps in (self._moving, self._keeping):
            if steps is not None:
                steps.cancel()
        self._moving = self._keeping = None

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
        self._wanted = (settings.tmaxThreshold, settings.rcbfThreshold)
        self._follow()

    def _follow(self):
        """Move lesions and volumes after the sliders, in steps; what is under way is finished first, so that all of it keeps up."""
        if self._moving is None and self._node is not None and self._wanted != self._applied:
            if self._keeping is not None:
                self._keeping.cancel()
                self._keeping = None
            self._settle.stop()
            self._moving = Stepwise(self._applying(), lambda fraction: None, self._moved)

    def _applying(self):
        """Lesions, the volume table, and the segments at the thresholds of the sliders."""
        from ..lesions import lesions
        from ..mrml_result import showingLesions

        node, result = self._node, self.resultOf(self._node)
        self._applied, self._settled = self._wanted, False
        self.found = lesions(result.maps, result.masks, self._thresholds(), result.geometry)
        yield 0.5
        self._fillVolumes()
        yield from showingLesions(node, self.found)

    def _moved(self, value, error):
        self._moving = None
        if error is not None:
            self._failed(error)
            return
        self._settle.start()
        self._follow()

    def _keepLater(self):
        self._keeping = Stepwise(self._keep(), lambda fraction: None, self._kept)

    def _keep(self):
        """Every metric at the present thresholds; the result remembers them."""
        from ..mrml_result import rememberThresholds
        from ..result_folder import recompute

        moved = recompute(self.resultOf(self._node), self._thresholds(), self.found)
        yield 0.4
        rememberThresholds(self._node, moved)
        self.moved, self._settled = moved, True
        yield 0.6
        self._fillFlags()
        yield from self._panel.metrics.showing(moved, self.found)

    def _kept(self, value, error):
        self._keeping = None
        if error is not None:
            self._failed(error)

    def _failed(self, error):
        logging.error("Thresholds of a result", exc_info=error)
        self._panel.say(_("the thresholds could not be applied; the application log holds the details"))

    def flush(self):
        """Bring everything up to the sliders at once: before the scene is saved, or another result is shown."""
        if self._node is None or self._wanted is None or self.resultOf(self._node) is None:
            return
        late = self._moving is not None or self._wanted != self._applied
        unsettled = late or not self._settled or self._keeping is not None
        self._stop()
        if late:
            to_the_end(self._applying())
        if unsettled:
            to_the_end(self._keep())

    def _thresholds(self):
        from ..perfusion_options import Thresholds

        return Thresholds(float(self._applied[0]), float(self._applied[1]) / 100.0)

    def _leave(self):
        """Before another result is shown: what belongs to the old one alone."""
        if self._node is not None and self._node.GetScene() is not None:
            self.flush()
            from ..mrml_views import hideLegends

            hideLegends(self._node)
            segmentation = self._node.GetNodeReference("segmentation")
            if segmentation is not None and segmentation.GetDisplayNode() is not None:
                segmentation.GetDisplayNode().SetVisibility(False)
        self._stop()
        self._fusion, self._applied, self._wanted, self.moved, self.found, self._settled = None, None, None, None, None, True
        self._panel.metrics.clear()

    def _enter(self, result):
        """A result is shown: its maps to choose from, and the sliders where its thresholds are."""
        self._updating = True
        self._ui.mapCombo.clear()
        if result is None:
            self._ui.backgroundCombo.clear()
            fillTable(self._ui.volumesTable, VOLUME_HEADER, [])
            self._ui.flagsLabel.text = self._ui.calibrationLabel.text = ""
            self._ui.calibrationLabel.setVisible(False)
            self._updating = False
            return
        from ..mrml_result import mapNodes, mapTitle
        from ..mrml_views import hideOthers
        from ..perfusion_pictures import is_calibrated

        calibrated = is_calibrated(result)
        self._maps = list(mapNodes(self._node))
        self._ui.mapCombo.addItems([mapTitle(name, calibrated) for name in self._maps])
        self._fillBackgrounds()
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

    def imagesChanged(self):
        """The shown result has another image to lie under its maps."""
        if self._node is not None:
            self._cached = (None, None)
            self._updating = True
            self._fillBackgrounds()
            self._updating, self._fusion = False, None

    def _fillBackgrounds(self):
        from ..mrml_result import IMAGE_TITLES

        self._backgrounds = [role for role in BACKGROUNDS if self._node.GetNodeReference(role) is not None]
        self._ui.backgroundCombo.clear()
        self._ui.backgroundCombo.addItems([IMAGE_TITLES[role.partition(".")[2]] for role in self._backgrounds])

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
        from ..mrml_views import markSides, showFusion

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
            markSides()
            slicer.util.resetSliceViews()

    def _onMap(self, *arguments):
        if not self._updating and self._panel.settings is not None and self._ui.mapCombo.currentIndex >= 0:
            self._panel.settings.shownMap = self._maps[self._ui.mapCombo.currentIndex]

    def _onBackground(self, *arguments):
        if not self._updating and self._panel.settings is not None and self._ui.backgroundCombo.currentIndex >= 0:
            self._panel.settings.background = self._backgrounds[self._ui.backgroundCombo.currentIndex]

    def _fillVolumes(self):
        from ..quality_flags import known_error_ml
        from ..volume_errors import lasting_motion_mm, volume_errors_ml

        found, result, thresholds = self.found, self.resultOf(self._node), self._thresholds()
        hypoperfusion, core, penumbra = (found.volume_ml(mask) for mask in (found.hypoperfusion, found.core, found.penumbra))
        known = result.provenance.get("vessels", {}).get("input_error") or {}
        errors = volume_errors_ml(result.maps, found, known.get("tmax_s"), known.get("flow"))
        moved_mm = lasting_motion_mm(result.motion)
        errors = [
            None if volume is None or error is None else known_error_ml(volume, error, moved_mm)
            for volume, error in zip((hypoperfusion, core), errors, strict=True)
        ]
        ratio = None if not core else hypoperfusion / core
        rows = [
            (_("Hypoperfusion, Tmax > {tmax:g} s").format(tmax=thresholds.tmax_s), _volume(hypoperfusion, errors[0])),
            (_("Core, rCBF < {rcbf:g} %").format(rcbf=100 * thresholds.rcbf), _volume(core, errors[1])),
            (_("Penumbra (mismatch)"), _volume(penumbra)),
            (_("Mismatch ratio"), "\u2013" if core is None else _("no core") if ratio is None else f"{ratio:.1f}"),
        ]
        error = _("\u00b1: standard error by what is known of noise and motion.")
        tips = (
            _("Tissue with Tmax above the threshold, in clusters of at least 1 mL.") + " " + error,
            _("Hypoperfusion with relative CBF below the threshold, in clusters of at least 1 mL.") + " " + error,
            _("Hypoperfusion minus core."),
            _("Hypoperfusion divided by core."),
        )
        fillTable(self._ui.volumesTable, VOLUME_HEADER, rows, tips)

    def _fillFlags(self):
        self._ui.flagsLabel.text = flagLines(self.moved.metrics["qc"])


def flagLines(flags):
    """Quality flags of a metrics document as rich text, one a line with the mark of its severity."""
    lines = [f"{SEVERITY_MARKS.get(flag['severity'], '')} {html.escape(flag['message'])}" for flag in flags]
    return "<br>".join(lines) if lines else _("No quality remarks.")


def _volume(value, error=None):
    """Milliliters with their standard error where it is known."""
    if value is None:
        return _("not assessable")
    return f"{value:.1f} mL" if error is None else f"{value:.1f} \u00b1 {error:.1f} mL"
