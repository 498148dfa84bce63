"""A DICOM folder read into the scene before the analysis: to see it, to correct its times, to place vessels and draw regions."""

import logging
import os
import shutil

import slicer
from slicer.i18n import tr as _

from CTPerfusionSuiteLib.errors import SuiteError
from CTPerfusionSuiteLib.mrml_study_settings import hasFolder
from CTPerfusionSuiteLib.panel.section import Section
from CTPerfusionSuiteLib.panel.stepwise import Stepwise


class FolderLoading(Section):
    """The button beside the folder: reads in a child process, brings the frames into the scene one by one, and again stops it."""

    def __init__(self, panel, ui):
        super().__init__(panel, ui)
        self._child, self._steps, self._folder = None, None, None
        ui.loadFolderButton.clicked.connect(self._onClicked)

    def settingsChanged(self):
        if self._panel.settings is None:
            self._stop()

    def cleanup(self):
        self._stop()

    def update(self):
        busy = self._child is not None or self._steps is not None
        self._ui.loadFolderButton.enabled = busy or hasFolder(self._panel.settings)
        self._ui.loadFolderButton.text = _("Cancel") if busy else _("Load")

    def _stop(self):
        if self._child is not None:
            self._child.cancel()
        if self._steps is not None:
            self._steps.cancel()
            self._end("")

    def _onClicked(self, *arguments):
        if self._child is not None or self._steps is not None:
            self._stop()
            return
        from CTPerfusionSuiteLib.panel.child_process import ChildProcess

        self._folder = slicer.util.tempDirectory("CTPerfusion")
        words = ["sequence", "--dicom_dir", str(self._panel.settings.dicomFolder), "--progress", "json"]
        words += ["--out_file", os.path.join(self._folder, "series.seq.nrrd")]
        self._child = ChildProcess(words, self._onProgress, self._onRead)
        self.update()

    def _onProgress(self, title, fraction):
        self._ui.timesSummary.text = _("{title}: {percent} %").format(title=title, percent=round(100 * fraction))

    def _onRead(self, code, document, message):
        self._child, settings = None, self._panel.settings
        if code != 0 or settings is None:
            self._end(message)
            return
        from CTPerfusionSuiteLib.mrml_sequences import showingSequence

        steps = showingSequence(document["out_file"], f"{settings.dicomFolder.name} - CT perfusion")
        self._steps = Stepwise(steps, lambda fraction: self._onProgress(_("Loading the frames"), fraction), self._onShown)

    def _onShown(self, sequence, error):
        self._steps = None
        message = "" if error is None else str(error)
        if error is not None and not isinstance(error, SuiteError):
            logging.error("Loading a folder", exc_info=error)
            message = _("the series could not be loaded; the application log holds the details")
        if sequence is not None:
            self._panel.settings.inputNode = sequence
        self._end(message, done=sequence is not None)

    def _end(self, message, done=False):
        """Nothing is under way any more: a refusal, a cancel (no message), or the series is shown."""
        self._steps = None
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._panel.settings is not None:
            self.update()
            if not done:
                self._ui.timesSummary.text = f"{message[:1].upper()}{message[1:]}." if message else _("Canceled.")
