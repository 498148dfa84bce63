"""A DICOM folder read into the scene before the analysis: to see it, to correct its times, to place vessels and draw regions."""

import os
import shutil

import slicer
from slicer.i18n import tr as _

from ..mrml_readiness import hasFolder


class FolderLoading:
    """The button beside the folder: reads in a child process, and again stops it."""

    def __init__(self, panel, ui):
        self._panel, self._ui = panel, ui
        self._child, self._folder = None, None
        ui.loadFolderButton.clicked.connect(self._onClicked)

    def settingsChanged(self):
        if self._panel.settings is None and self._child is not None:
            self._child.cancel()

    cleanup = settingsChanged

    def update(self):
        self._ui.loadFolderButton.enabled = self._child is not None or hasFolder(self._panel.settings)
        self._ui.loadFolderButton.text = _("Cancel") if self._child is not None else _("Load")

    def _onClicked(self, *arguments):
        if self._child is not None:
            self._child.cancel()
            return
        from CTPerfusionSuiteLib.panel.child_process import ChildProcess

        self._folder = slicer.util.tempDirectory("CTPerfusion")
        words = ["sequence", "--dicom_dir", str(self._panel.settings.dicomFolder), "--progress", "json"]
        words += ["--out_file", os.path.join(self._folder, "series.seq.nrrd")]
        self._child = ChildProcess(words, self._onProgress, self._onEnd)
        self.update()

    def _onProgress(self, title, fraction):
        self._ui.timesSummary.text = _("{title}: {percent} %").format(title=title, percent=round(100 * fraction))

    def _onEnd(self, code, document, message):
        from CTPerfusionSuiteLib.errors import SuiteError
        from CTPerfusionSuiteLib.mrml_sequences import showSequence

        self._child, settings = None, self._panel.settings
        try:
            if code == 0 and settings is not None:
                name = f"{settings.dicomFolder.name} - CT perfusion"
                with slicer.util.WaitCursor():
                    settings.inputNode = showSequence(document["out_file"], name)
        except SuiteError as problem:
            message = str(problem)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        if settings is not None:
            self.update()
            if message or code:
                self._ui.timesSummary.text = f"{message[:1].upper()}{message[1:]}." if message else _("Canceled.")
