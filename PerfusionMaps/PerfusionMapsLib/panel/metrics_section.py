"""Metrics with their definitions, and statistics of core, penumbra, any segment and any atlas territory with intervals."""

import logging

import qt
from slicer.i18n import tr as _

from CTPerfusionSuiteLib.errors import SuiteError
from CTPerfusionSuiteLib.panel.section import Section
from CTPerfusionSuiteLib.panel.stepwise import Stepwise
from CTPerfusionSuiteLib.panel.tables import fillTable
from CTPerfusionSuiteLib.progress import to_the_end


class MetricsSection(Section):
    """Two tables that follow the shown result and its thresholds."""

    def __init__(self, panel, ui):
        super().__init__(panel, ui)
        self._result, self._found, self._regions, self._filling = None, None, None, None
        for table in (ui.metricsTable, ui.regionsTable):
            table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)

    def settingsChanged(self):
        self._regions = None
        self.clear()

    def cleanup(self):
        self._stop()

    def update(self):
        regions = self._panel.settings.regions
        if regions is not self._regions:
            self._regions = regions
            self._stop()
            self._filling = Stepwise(self._fillingRegions(), lambda fraction: None, self._filled)

    def clear(self):
        """No result is shown."""
        self._stop()
        self._result = self._found = None
        to_the_end(self.showing(None, None))

    def showing(self, result, found):
        """Show another result, or the same at other thresholds, in small steps."""
        self._stop()
        self._result, self._found = result, found
        self._ui.metricsButton.enabled = self._ui.statisticsButton.enabled = result is not None
        rows, tips = _metricRows(result) if result is not None else ([], [])
        fillTable(self._ui.metricsTable, (_("Metric"), _("Value")), rows, tips, tallest=320)
        yield 0.8
        yield from self._fillingRegions()

    def _stop(self):
        if self._filling is not None:
            self._filling.cancel()
            self._filling = None

    def _filled(self, value, error):
        self._filling = None
        if error is not None:
            logging.error("Statistics of regions", exc_info=error)
            self._panel.say(_("the statistics of the regions could not be computed; the application log holds the details"))

    def _fillingRegions(self):
        """One region a step."""
        result, rows = self._result, []
        if result is None:
            fillTable(self._ui.regionsTable, (_("Region"),), [])
            return
        from ..perfusion_tables import region_caption, region_columns, region_values, standard_regions

        regions = [*standard_regions(result, self._found), *_hemispheres(result)]
        yield 0.8
        for title, mask in [*regions, *self._userRegions()]:
            rows.append(region_values(result, title, mask))
            yield 0.9
        tips = [region_caption(result, self._found)] * len(rows)
        fillTable(self._ui.regionsTable, region_columns(result), rows, tips=tips, tallest=280, wide=True)

    def _userRegions(self):
        """(name, mask on the result's grid) of every segment, or every label of an atlas."""
        node, result = self._panel.settings.regions if self._panel.settings is not None else None, self._panel.settings.result
        if node is None or node.GetScene() is None:
            return []
        from ..mrml_regions import regionMasks

        try:
            return regionMasks(node, result)
        except SuiteError as problem:
            self._panel.say(str(problem))
            return []


def _metricRows(result):
    """(rows, a definition for each) of volumes, indices and trial criteria."""
    from ..perfusion_tables import index_table, profile_table, volume_tables

    rows, tips = [], []
    for table in volume_tables(result):
        for name, value in table.rows:
            rows.append((name, value if value == "not assessable" else f"{value} mL"))
            tips.append(table.caption)
    for name, value, definition in index_table(result).rows:
        rows.append((name, value))
        tips.append(definition)
    for name, value, criteria in profile_table(result).rows:
        rows.append((_("{trial} imaging criteria").format(trial=name), value))
        tips.append(criteria)
    return rows, tips


def _hemispheres(result):
    """(name, mask) of the tissue of either side."""
    tissue, hemisphere = result.masks["tissue_mask"] > 0, result.masks["hemisphere"]
    return [(_("Tissue, left"), tissue & (hemisphere == 1)), (_("Tissue, right"), tissue & (hemisphere == 2))]
