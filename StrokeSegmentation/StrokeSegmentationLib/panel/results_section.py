"""Results: probabilities and uncertainty in color over the CT, lesions, their volumes beside those of the thresholds, and what to know."""

import qt
import slicer
from slicer.i18n import tr as _

from CTPerfusionSuiteLib.panel.section import Section
from CTPerfusionSuiteLib.panel.tables import fillTable
from PerfusionMapsLib.panel.results_section import flagLines

from ..mrml_stroke_readiness import isStrokeResult
from ..recommendation import verdict

REGIONS = ("hypoperfusion", "core", "penumbra")
NOTHING = "\u2013"


class ResultsSection(Section):
    """Shows the result that the parameter node names."""

    def __init__(self, panel, ui):
        super().__init__(panel, ui)
        self._node, self._metrics, self._roles = None, None, []
        self._refused, self._fusion, self._lesions, self._updating = None, None, None, False
        ui.resultSelector.addAttribute("vtkMRMLTextNode", "CTPerfusionSuite.StrokeResult")
        ui.mapCombo.currentIndexChanged.connect(self._onMap)
        ui.openMapsButton.clicked.connect(lambda *arguments: self.openMaps())
        ui.volumesTable.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        ui.volumesTable.setSelectionMode(qt.QAbstractItemView.NoSelection)

    @property
    def metrics(self):
        """The document of the shown result, None where none is shown."""
        return self._metrics if self._node is not None else None

    def settingsChanged(self):
        """Another scene, or none: what was shown may be gone."""
        self._node = self._metrics = self._refused = self._fusion = self._lesions = None

    def update(self):
        settings = self._panel.settings
        node = settings.result if isStrokeResult(settings.result) else None
        if node is not None and node is not self._node:
            node = self._read(node)
        if node is not self._node:
            self._leave()
            self._node = node
            self._enter()
        for widget in (self._ui.mapCombo, self._ui.opacitySlider):
            widget.enabled = node is not None
        for widget in (self._ui.resultNoticeLabel, self._ui.volumesTable, self._ui.comparisonLabel, self._ui.flagsLabel):
            widget.setVisible(node is not None)
        self._updateMapsButton()
        if node is not None:
            self._showFusion()
            self._showLesions()

    def _read(self, node):
        """The node if its documents can be read; a refusal is told once."""
        from CTPerfusionSuiteLib.errors import SuiteError

        from ..mrml_stroke_result import strokeMetrics

        if node is self._refused:
            return None
        try:
            self._metrics = strokeMetrics(node)
        except SuiteError as problem:
            self._refused = node
            self._panel.say(str(problem))
            return None
        return node

    def _leave(self):
        """Before another result is shown: what belongs to the old one alone."""
        if self._node is not None and self._node.GetScene() is not None:
            from PerfusionMapsLib.mrml_views import hideLegends

            from ..mrml_stroke_result import hideLesions

            hideLegends(self._node)
            hideLesions(self._node)
        self._fusion = self._lesions = None

    def _enter(self):
        self._updating = True
        self._ui.mapCombo.clear()
        self._roles = []
        if self._node is None:
            self._updating = False
            return
        from PerfusionMapsLib.mrml_views import hideOthers

        from ..mrml_stroke_result import TITLES, shownVolumes

        hideOthers(self._node)
        self._roles = list(shownVolumes(self._node))
        self._ui.mapCombo.addItems([TITLES[role] for role in self._roles])
        self._updating = False
        if self._panel.settings.shownMap not in self._roles:
            self._panel.settings.shownMap = self._roles[0]
        model = self._metrics["model"]
        named = _("Model {name} {version}.").format(name=model["name"], version=model["version"])
        self._ui.resultNoticeLabel.text = f"{named} {verdict(self._metrics)}"
        self._fillVolumes()
        self._ui.flagsLabel.text = flagLines(self._metrics["qc"])

    def _fillVolumes(self):
        """Volumes of both methods, and their overlap."""
        own, rival = self._metrics["volumes_ml"], self._metrics["threshold_maps"]
        rows = []
        for region in REGIONS:
            beside = (_volume(rival["volumes_ml"][region]), _overlap(rival["dice"][region])) if rival else (NOTHING, NOTHING)
            rows.append((region.capitalize(), _volume(own[region]), *beside))
        rival_ratio = _ratio(rival["volumes_ml"]) if rival else NOTHING
        rows.append((_("Mismatch ratio"), _ratio(own), rival_ratio, ""))
        tips = (
            _("Core and penumbra together."),
            _("Tissue whose blood flow is too low to survive."),
            _("Hypoperfusion minus core."),
            _("Hypoperfusion divided by core."),
        )
        fillTable(self._ui.volumesTable, (_("Volume"), _("Network"), _("Thresholds"), _("Dice")), rows, tips)
        self._ui.comparisonLabel.text = _comparison(rival)

    def _updateMapsButton(self):
        """The threshold maps of the result, or at least its series, opened in PerfusionMaps."""
        from CTPerfusionSuiteLib.panel.suite_modules import moduleTitle

        title = moduleTitle("PerfusionMaps")
        button = self._ui.openMapsButton
        button.text = _("Open in {module}").format(module=title) if title else _("Open maps")
        maps, series = self._maps(), self._series()
        button.enabled = bool(title) and (maps is not None or series is not None)
        self._ui.thresholdsCheck.enabled = maps is not None
        button.toolTip = (
            _("Show the threshold maps of this result, with all metrics and movable thresholds.") if maps is not None
            else _("The maps of this result are not in the scene; open its series to compute them.") if series is not None
            else _("This result has no threshold maps in the scene.") if self._node is not None
            else _("Run the network or open a result first.")
        )

    def _maps(self):
        if self._node is None:
            return None
        from ..mrml_stroke_result import thresholdResult

        return thresholdResult(self._node)

    def _series(self):
        return self._node.GetNodeReference("series") if self._node is not None else None

    def openMaps(self):
        """Go to PerfusionMaps with the threshold maps of the shown result, or with its series where they are gone."""
        from CTPerfusionSuiteLib.panel.suite_modules import openIn

        from ..mrml_stroke_result import handOver, hideLesions

        node, series = self._node, self._series()
        maps = handOver(node)
        hideLesions(node)
        openIn("PerfusionMaps", series)
        if maps is not None:
            slicer.util.getModuleLogic("PerfusionMaps").getParameterNode().result = maps

    def _showFusion(self):
        settings = self._panel.settings
        wanted = (settings.shownMap, settings.mapOpacity)
        if wanted == self._fusion:
            return
        from PerfusionMapsLib.mrml_views import markSides, showFusion

        first = self._fusion is None
        self._fusion = wanted
        self._updating = True
        if settings.shownMap in self._roles:
            self._ui.mapCombo.currentIndex = self._roles.index(settings.shownMap)
        self._updating = False
        showFusion(self._node, settings.shownMap, settings.mapOpacity / 100.0)
        if first and slicer.app.layoutManager() is not None:
            markSides()
            slicer.util.resetSliceViews()

    def _showLesions(self):
        wanted = self._panel.settings.showThresholds
        if wanted != self._lesions:
            from ..mrml_stroke_result import showLesions

            self._lesions = wanted
            showLesions(self._node, wanted)

    def _onMap(self, *arguments):
        if not self._updating and self._panel.settings is not None and self._ui.mapCombo.currentIndex >= 0:
            self._panel.settings.shownMap = self._roles[self._ui.mapCombo.currentIndex]


def _volume(value):
    return _("not assessable") if value is None else f"{value:.1f}"


def _overlap(value):
    return NOTHING if value is None else f"{value:.2f}"


def _ratio(volumes):
    """Hypoperfusion divided by core, in words where it is none."""
    if volumes["core"] is None or volumes["hypoperfusion"] is None:
        return NOTHING
    return f"{volumes['hypoperfusion'] / volumes['core']:.1f}" if volumes["core"] > 0 else _("no core")


def _comparison(rival):
    if not rival:
        return _("Volumes in mL. There are no threshold maps to compare with.")
    thresholds = rival["thresholds"]
    text = _("Volumes in mL. Thresholds: Tmax > {tmax:g} s, relative CBF < {rcbf:g} %. Dice: overlap of the two, 1 when the same.")
    return text.format(tmax=thresholds["tmax_s"], rcbf=100 * thresholds["rcbf"])
