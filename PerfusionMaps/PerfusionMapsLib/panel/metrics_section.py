"""Metrics with their definitions, and statistics of core, penumbra, any segment and any atlas territory with intervals."""

import qt
from slicer.i18n import tr as _

from CTPerfusionSuiteLib.panel.tables import fillTable


class MetricsSection:
    """Two tables that follow the shown result and its thresholds."""

    def __init__(self, panel, ui):
        self._panel, self._ui = panel, ui
        self._result, self._found, self._regions = None, None, None
        for table in (ui.metricsTable, ui.regionsTable):
            table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)

    def settingsChanged(self):
        self._regions = None
        self.show(None, None)

    def cleanup(self):
        pass

    def update(self):
        settings = self._panel.settings
        regions = settings.regions.GetID() if settings.regions is not None else None
        if regions != self._regions:
            self._regions = regions
            self._fillRegions()

    def show(self, result, found):
        """Show another result, or the same at other thresholds; None empties the tables."""
        self._result, self._found = result, found
        self._ui.metricsButton.enabled = self._ui.statisticsButton.enabled = result is not None
        rows, tips = [], []
        if result is not None:
            from ..perfusion_tables import index_table, profile_table, volume_tables

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
        fillTable(self._ui.metricsTable, (_("Metric"), _("Value")), rows, tips, tallest=320)
        self._fillRegions()

    def _fillRegions(self):
        if self._result is None:
            fillTable(self._ui.regionsTable, (_("Region"),), [])
            return
        from ..perfusion_tables import region_table, region_values

        table = region_table(self._result, self._found)
        rows = list(table.rows)
        for title, mask in self._userRegions():
            rows.append(region_values(self._result, title, mask))
        fillTable(self._ui.regionsTable, table.columns, rows, tips=[table.caption] * len(rows), tallest=280, wide=True)

    def _userRegions(self):
        """(name, mask on the result's grid) of every segment, or every label of an atlas."""
        node, result = self._panel.settings.regions if self._panel.settings is not None else None, self._panel.settings.result
        if node is None or node.GetScene() is None:
            return []
        from ..mrml_result import regionMasks

        return regionMasks(node, result)
