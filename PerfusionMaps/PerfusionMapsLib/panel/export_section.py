"""Save and open: a result folder with report, the scene, and results of earlier runs."""

import slicer
from slicer.i18n import tr as _

from ..mrml_readiness import isResult
from .maps_analysis import MAPS
from .result_opening import ResultOpening

REPORT_PACKAGES = ["matplotlib>=3.8", "jinja2>=3.1"]


class ExportSection:
    """Writes what is shown and opens what was written."""

    def __init__(self, panel, ui):
        self._panel, self._ui = panel, ui
        self._opening = ResultOpening(panel, ui, ui.exportLabel, MAPS)
        ui.saveResultButton.clicked.connect(self._onSaveResult)
        ui.saveSceneButton.clicked.connect(self._onSaveScene)
        # A folder of this computer is no state of the scene: its selector remembers it.
        ui.exportFolder.currentPathChanged.connect(self._onFolder)

    def settingsChanged(self):
        self._opening.settingsChanged()

    def cleanup(self):
        self._opening.cleanup()

    def update(self):
        settings = self._panel.settings
        folder = bool(self._ui.exportFolder.currentPath)
        self._ui.saveResultButton.enabled = folder and isResult(settings.result)
        self._ui.saveSceneButton.enabled = folder
        self._opening.update()

    def _onFolder(self, *arguments):
        if self._panel.settings is not None:
            self.update()

    def _say(self, text):
        self._ui.exportLabel.text = text[:1].upper() + text[1:]

    def _onSaveResult(self, *arguments):
        from CTPerfusionSuiteLib.errors import SuiteError

        from ..mrml_export import saveResult

        settings, wanted = self._panel.settings, self._reportWanted()
        self._panel.results.flush()
        try:
            with slicer.util.WaitCursor():
                folder, report = saveResult(settings.result, self._ui.exportFolder.currentPath, wanted)
        except SuiteError as problem:
            self._say(str(problem))
            return
        except OSError as problem:
            reason = problem.strerror or type(problem).__name__
            self._say(_("the result could not be written ({reason}); choose another folder").format(reason=reason))
            return
        self._ui.exportFolder.addCurrentPathToHistory()
        text = _("Saved in {folder}.") if report else _("Saved in {folder}, without report.")
        self._say(text.format(folder=folder))

    def _reportWanted(self):
        """Whether a report is written: the packages it needs are asked for once, and a No is taken for an answer."""
        if not self._panel.settings.exportReport:
            return False
        from CTPerfusionSuiteLib.panel.install_box import ensurePackages

        return ensurePackages(REPORT_PACKAGES, _("CT Perfusion Maps (report)"))

    def _onSaveScene(self, *arguments):
        from ..mrml_export import freePath

        path = freePath(self._ui.exportFolder.currentPath, "CTPerfusion", ".mrb")
        with slicer.util.WaitCursor():
            done = slicer.util.saveScene(str(path))
        self._say(_("Scene saved as {path}.").format(path=path) if done else _("the scene could not be saved; choose another folder"))
