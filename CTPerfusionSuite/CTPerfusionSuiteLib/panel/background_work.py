"""Work for a child process from the scene and back: prepared and loaded in small steps, so that the window never waits."""

import importlib
import logging
import shutil
import tempfile
import time
from pathlib import Path

import slicer

from CTPerfusionSuiteLib.errors import SuiteError
from CTPerfusionSuiteLib.panel.child_process import ChildProcess
from CTPerfusionSuiteLib.panel.stepwise import Stepwise


class BackgroundWork:
    """Loads what it needs, writes files for the child process, runs it, and brings what it found into the scene.

    A kind of work says what it is by overriding the class attributes and the methods `prepare`, `load` and `loaded`.

    Parameters
    ----------
    onProgress : callable(title, fraction)
    onEnd : callable(value, message)
        Once: what came of it and what to know about it or "", or None and one sentence ("" when canceled).
    """

    preparingTitle, loadingTitle = "", ""
    prepared, computed = 0.05, 0.95
    """Share of the bar that is full when the files are written, and when the child process is done."""
    libraries = ()
    """Modules imported one after the other, so that the window does not wait for all of them at once."""
    steps = ()
    """(title, weight) of what the child announces, with its part of the time."""

    def __init__(self, onProgress, onEnd):
        self._onProgress, self._onEnd = onProgress, onEnd
        self._canceled, self._began = False, time.monotonic()
        # Slicer's own temporary folders are named by the millisecond, and two works may begin in the same.
        self._folder = Path(tempfile.mkdtemp(prefix="CTPerfusion-", dir=slicer.app.temporaryPath))
        self._child, self._steps = None, None
        self._steps = Stepwise(self._preparation(), self._preparing, self._prepared)

    def prepare(self, folder):
        """Generator: writes what the child reads, yields the fraction done, returns the arguments of ``ctperfusion``."""
        raise NotImplementedError

    def load(self, folder):
        """Generator: brings what the child wrote into the scene, yields the fraction done, returns what came of it."""
        raise NotImplementedError

    def loaded(self, value) -> str:
        """All is in the scene; what the user should know, "" when all went well."""
        return ""

    @property
    def running(self):
        return self._onEnd is not None

    @property
    def canceled(self):
        return self._canceled

    def cancel(self, quietly=False):
        """Stop; returns at once, and within two seconds nothing is left: no process, no node, no file.

        Quietly: the callbacks are not called any more, because their panel is going.
        """
        if quietly and self.running:
            self._onEnd = self._onProgress = lambda *arguments: None
        if not self.running or self._canceled:
            return
        self._canceled = True
        if self._steps is not None:
            self._steps.cancel()
        if self._child is not None:
            self._child.cancel()
        else:
            self._finish(None, "")

    def stopNow(self):
        """The same before returning: for the end of the application."""
        self.cancel()
        if self._child is not None:
            self._child.stopNow()

    def _preparation(self):
        for name in self.libraries:
            importlib.import_module(name)
            yield 0.0
        return (yield from self.prepare(self._folder))

    def _preparing(self, fraction):
        self._onProgress(self.preparingTitle, self.prepared * fraction)

    def _prepared(self, words, error):
        self._steps = None
        if error is not None:
            self._refuse(error)
            return
        self._child = ChildProcess(words, self._computing, self._computed)

    def _computing(self, title, fraction):
        self._onProgress(title, self.prepared + (self.computed - self.prepared) * shareDone(self.steps, title, fraction))

    def _computed(self, code, document, message):
        self._child = None
        if code != 0:
            self._finish(None, message)
            return
        self._steps = Stepwise(self.load(self._folder), self._loading, self._loaded)

    def _loading(self, fraction):
        self._onProgress(self.loadingTitle, self.computed + (1.0 - self.computed) * fraction)

    def _loaded(self, value, error):
        self._steps = None
        if error is not None:
            self._refuse(error)
            return
        message = self.loaded(value)
        logging.info("%s: %.1f s", type(self).__name__, time.monotonic() - self._began)
        self._finish(value, message)

    def _refuse(self, error):
        if not isinstance(error, SuiteError):
            logging.error("CT perfusion", exc_info=error)
            error = "the analysis failed; the application log holds the details"
        self._finish(None, str(error))

    def _finish(self, value, message):
        shutil.rmtree(self._folder, ignore_errors=True)
        onEnd, self._onEnd, self._onProgress = self._onEnd, None, lambda *arguments: None
        onEnd(value, message)


def shareDone(steps, title, fraction):
    """Share of the child's work done when the step of that title is done to `fraction`; half for a step that is not known."""
    total, done = sum(weight for _, weight in steps), 0.0
    for step, weight in steps:
        if step == title:
            return (done + weight * fraction) / total
        done += weight
    return 0.5
