"""The line above all: what the network learned from."""

from slicer.i18n import tr as _

from CTPerfusionSuiteLib.panel.section import Section

from ..recommendation import origin, short_origin


class OriginNotice(Section):
    """The line above all: what the chosen network learned from, and what that of the shown result did where it is another."""

    def update(self):
        result = self._panel.results.metrics
        chosen = self._panel.models.description or result or {}
        shown = result or chosen
        self._ui.noticeLabel.text = _both(f"{short_origin(chosen)}.", f"{short_origin(shown)}.")
        self._ui.noticeLabel.toolTip = _both(origin(chosen), origin(shown))


def _both(chosen, shown):
    return chosen if chosen == shown else _("Chosen model: {chosen} Shown result: {shown}").format(chosen=chosen, shown=shown)
