"""A result folder opened in the panel: of the command line or of an earlier run; nothing is computed."""

import logging
from pathlib import Path

from slicer.i18n import tr as _

from CTPerfusionSuiteLib.panel.stepwise import Stepwise


class ResultOpening:
    """A folder and a button.

    Parameters
    ----------
    panel : has `settings`, the parameter node or None
    ui : widgets of the panel by name; `resultFolder` and `openResultButton` are used
    label : QLabel
        Where progress and refusals are told.
    analysis : analysis_run.Analysis
        Whose results these are.
    """

    def __init__(self, panel, ui, label, analysis):
        self._panel, self._ui, self._label, self._analysis = panel, ui, label, analysis
        self._steps = None
        ui.openResultButton.clicked.connect(self._onOpen)
        # A folder of this computer is no state of the scene: its selector remembers it.
        ui.resultFolder.currentPathChanged.connect(self._onFolder)

    def settingsChanged(self):
        if self._panel.settings is None:
            self.cleanup()

    def cleanup(self):
        if self._steps is not None:
            self._steps.cancel()
            self._steps = None

    def update(self):
        self._ui.openResultButton.enabled = bool(self._ui.resultFolder.currentPath) and self._steps is None

    def _onFolder(self, *arguments):
        if self._panel.settings is not None:
            self.update()

    def _say(self, text):
        self._label.text = text[:1].upper() + text[1:]

    def _onOpen(self, *arguments):
        self._ui.resultFolder.addCurrentPathToHistory()
        folder = Path(self._ui.resultFolder.currentPath)
        steps = self._analysis.open(folder, f"{folder.name} {self._analysis.name}", self._panel.settings.inputNode)
        self._steps = Stepwise(steps, self._onOpening, self._opened)
        self.update()

    def _onOpening(self, fraction):
        self._say(_("Opening: {percent} %").format(percent=round(100 * fraction)))

    def _opened(self, node, error):
        from CTPerfusionSuiteLib.errors import SuiteError

        self._steps = None
        if error is not None:
            if not isinstance(error, SuiteError):
                logging.error("Opening a result", exc_info=error)
                error = _("the result could not be opened; the application log holds the details")
            self._say(str(error))
        else:
            self._say(_("Opened; nothing was computed again."))
            self._panel.settings.result = node
        self.update()
