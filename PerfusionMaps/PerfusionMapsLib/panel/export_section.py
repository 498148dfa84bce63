"""Save and open: a result folder with report, the scene, and results of earlier runs."""

import slicer
from slicer.i18n import tr as _

from CTPerfusionSuiteLib.panel.background_work import BackgroundWork
from CTPerfusionSuiteLib.panel.result_opening import ResultOpening
from CTPerfusionSuiteLib.panel.section import Section

from ..mrml_readiness import isResult
from .maps_analysis import LIBRARIES

REPORT_PACKAGES = ["matplotlib>=3.8", "jinja2>=3.1"]


class SavingResult(BackgroundWork):
    """A result of the scene becomes a result folder, the same that `ctperfusion maps` writes.

    Parameters
    ----------
    resultNode : vtkMRMLTextNode
    folder : path
        The result folder is made new in here.
    report : bool
        Whether it has pictures and a page.
    onProgress : callable(title, fraction)
    onEnd : callable(path, message)
        Once: the new folder, or None and one sentence ("" when canceled).
    """

    preparingTitle, loadingTitle = "Writing the result", "Finishing"
    libraries = LIBRARIES
    steps = (("Reading the result", 10), ("Writing maps and metrics", 30), ("Drawing the report", 60))

    def __init__(self, resultNode, folder, report, onProgress, onEnd):
        self._resultNode, self._target, self._report = resultNode, folder, report
        super().__init__(onProgress, onEnd)

    def prepare(self, folder):
        from ..mrml_export import folderFor, writingResult

        self._target = folderFor(self._resultNode, self._target)
        given = folder / "given"
        given.mkdir()
        yield from writingResult(self._resultNode, given)
        words = ["report", "--result", str(given), "--out_dir", str(self._target), "--progress", "json"]
        return words if self._report else [*words, "--no-report"]

    def load(self, folder):
        yield 1.0
        return self._target


class ExportSection(Section):
    """Writes what is shown and opens what was written."""

    def __init__(self, panel, ui):
        super().__init__(panel, ui)
        self._opening = ResultOpening(panel, ui, ui.exportLabel)
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
        self._ui.saveResultButton.enabled = folder and isResult(settings.result) and self._panel.run is None
        self._ui.saveSceneButton.enabled = folder
        self._opening.update()

    def _onFolder(self, *arguments):
        if self._panel.settings is not None:
            self.update()

    def _say(self, text):
        self._ui.exportLabel.text = text[:1].upper() + text[1:]

    def _onSaveResult(self, *arguments):
        panel = self._panel
        panel.results.flush()
        folder, wanted = self._ui.exportFolder.currentPath, self._reportWanted()
        panel.begin(panel.logic.startSaving(panel.settings.result, folder, wanted, panel.onProgress, self._onSaved))

    def _onSaved(self, folder, message):
        report = folder is not None and (folder / "report.html").is_file()
        text = _("Saved in {folder}.") if report else _("Saved in {folder}, without report.")
        self._panel.ended(folder, message, text.format(folder=folder))
        self._say(self._ui.statusLabel.text)
        if folder is not None:
            self._ui.exportFolder.addCurrentPathToHistory()

    def _reportWanted(self):
        """Whether a report is written: the packages it needs are asked for once, and a No is taken for an answer."""
        if not self._panel.settings.exportReport:
            return False
        from CTPerfusionSuiteLib.panel.install_box import ensurePackages

        return ensurePackages(REPORT_PACKAGES, _("CT Perfusion Maps (report)"))

    def _onSaveScene(self, *arguments):
        from ..mrml_export import freePath

        self._panel.flush()
        path = freePath(self._ui.exportFolder.currentPath, "CTPerfusion", ".mrb")
        with slicer.util.WaitCursor():
            done = slicer.util.saveScene(str(path))
        self._say(_("Scene saved as {path}.").format(path=path) if done else _("the scene could not be saved; choose another folder"))
