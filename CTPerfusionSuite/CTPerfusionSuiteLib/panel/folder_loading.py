"""A DICOM folder read into the scene before the analysis: to see it, to correct its times, to place vessels and draw regions."""

from slicer.i18n import tr as _

from CTPerfusionSuiteLib.mrml_study_settings import hasFolder
from CTPerfusionSuiteLib.panel.section import Section
from CTPerfusionSuiteLib.panel.series_reading import SeriesReading


class FolderLoading(Section):
    """The button beside the folder: reads it, and again stops that."""

    def __init__(self, panel, ui):
        super().__init__(panel, ui)
        self._reading = None
        ui.loadFolderButton.clicked.connect(self._onClicked)

    def settingsChanged(self):
        if self._panel.settings is None:
            self._stop()

    def cleanup(self):
        self._stop()

    def update(self):
        self._ui.loadFolderButton.enabled = self._reading is not None or hasFolder(self._panel.settings)
        self._ui.loadFolderButton.text = _("Load") if self._reading is None else _("Cancel")

    def _stop(self):
        if self._reading is not None:
            self._reading.cancel()

    def _onClicked(self, *arguments):
        if self._reading is not None:
            self._stop()
            return
        folder = self._panel.settings.dicomFolder
        self._reading = SeriesReading(folder, f"{folder.name} - CT perfusion", self._onProgress, self._onEnd)
        self.update()

    def _onProgress(self, title, fraction):
        self._ui.timesSummary.text = _("{title}: {percent} %").format(title=title, percent=round(100 * fraction))

    def _onEnd(self, sequence, message):
        self._reading = None
        if self._panel.settings is None:
            return
        if sequence is not None:
            self._panel.settings.inputNode = sequence
        self.update()
        if sequence is None:
            self._ui.timesSummary.text = f"{message[:1].upper()}{message[1:]}." if message else _("Canceled.")
