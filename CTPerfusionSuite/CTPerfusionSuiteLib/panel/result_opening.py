"""A result folder opened in the panel: of the command line or of an earlier run; nothing is computed."""

import logging
from pathlib import Path

from slicer.i18n import tr as _

from CTPerfusionSuiteLib.panel.section import Section
from CTPerfusionSuiteLib.panel.stepwise import Stepwise


class ResultOpening(Section):
    """A folder and a button.

    Parameters
    ----------
    panel : AnalysisPanel
        Its analysis says whose results these are.
    ui : widgets of the panel by name; `resultFolder` and `openResultButton` are used
    label : QLabel
        Where progress and refusals are told.
    """

    def __init__(self, panel, ui, label):
        super().__init__(panel, ui)
        self._label, self._analysis = label, panel.analysis
        self._steps, self._foreign = None, False
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
        series = self._panel.settings.inputNode
        self._foreign = series is not None and not _isOf(folder, series)
        steps = self._analysis.open(folder, f"{folder.name} {self._analysis.name}", None if self._foreign else series)
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
            foreign = " " + _("It is of another scan than the chosen series.") if self._foreign else ""
            self._say(_("Opened; nothing was computed again.") + foreign)
            self._panel.settings.result = node
        self.update()


def _isOf(folder, series):
    """Whether a result folder is of the series in the scene; one that cannot be read is refused when it is opened."""
    from CTPerfusionSuiteLib.errors import SuiteError
    from CTPerfusionSuiteLib.mrml_sequences import isOfSeries
    from CTPerfusionSuiteLib.nifti import volume_grid

    try:
        return isOfSeries(volume_grid(folder / "mean_ct.nii.gz"), series)
    except SuiteError:
        return False
