"""One analysis, from the panel's settings to a result in the scene, without stopping the window."""

import importlib
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import slicer

from CTPerfusionSuiteLib.errors import SuiteError
from CTPerfusionSuiteLib.panel.child_process import ChildProcess
from CTPerfusionSuiteLib.panel.stepwise import Stepwise

PREPARED, COMPUTED = 0.05, 0.95
"""Share of the bar that is full when the files are written, and when the child process is done."""


@dataclass(frozen=True)
class Analysis:
    """What one kind of analysis does around its child process.

    Attributes
    ----------
    name : str
        What its results are called after the study's name.
    settings : tuple of str
        The settings it depends on.
    libraries : tuple of str
        Loaded one after the other at the first run, so that the window does not wait for all of them at once.
    steps : tuple of (title, weight)
        What the child announces, with its part of the time.
    loadingTitle : str
        Shown while the result comes into the scene.
    isResult : callable(node) -> bool
    prepare : callable(settings, folder) -> generator
        Writes what the child reads; yields the fraction done and returns the arguments of ``ctperfusion``, output in ``folder/result``.
    open : callable(folder, name, neighbor) -> generator
        Brings a result folder into the scene; yields the fraction done and returns the result's node.
    complete : callable(settings, folder, earlier, node) -> str
        What is done with the result of a run when it is in the scene; `earlier` is the last one of the same study or None.  Returns what
        the user should know, "" when all went well.
    replace : callable(old, new)
        Removes the earlier one.
    """

    name: str
    settings: tuple[str, ...]
    libraries: tuple[str, ...]
    steps: tuple[tuple[str, float], ...]
    loadingTitle: str
    isResult: Callable
    prepare: Callable
    open: Callable
    complete: Callable
    replace: Callable

    def progress(self, title, fraction):
        """Share of the child's work done when the step of that title is done to `fraction`."""
        total, done = sum(weight for _, weight in self.steps), 0.0
        for step, weight in self.steps:
            if step == title:
                return (done + weight * fraction) / total
            done += weight
        return 0.5


class AnalysisRun:
    """Writes the series for the child process, runs it, and loads what it found.

    Parameters
    ----------
    analysis : Analysis
    settings : parameter node of the module
        Read at the start only: what is changed later belongs to the next run.
    onProgress : callable(title, fraction)
    onEnd : callable(resultNode, message)
        Once: the result's node and what to know about it or "", or None and one sentence ("" when canceled).
    """

    def __init__(self, analysis, settings, onProgress, onEnd):
        from ..mrml_readiness import asTheyAre

        self._analysis, self._onProgress, self._onEnd = analysis, onProgress, onEnd
        self._settings = settings = asTheyAre(settings, analysis.settings)
        self._canceled, self._began = False, time.monotonic()
        self._folder = Path(slicer.util.tempDirectory("CTPerfusion"))
        self._name, self._neighborID = studyName(settings, analysis.name), None
        self.inputNode = settings.inputNode
        self._earlier, self._keep = earlierResult(analysis, settings, self._name), settings.keepResults
        self._child, self._steps = None, None
        self._steps = Stepwise(self._preparation(settings), self._preparing, self._prepared)

    @property
    def name(self):
        """What the result will be called."""
        return self._name

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

    def _preparation(self, settings):
        """Load the libraries, then write what the child reads."""
        for name in self._analysis.libraries:
            importlib.import_module(name)
            yield 0.0
        from ..mrml_study import referenceVolume

        reference = referenceVolume(settings) if settings.inputNode is not None else None
        neighbor = reference if reference is not None and reference.GetScene() is slicer.mrmlScene else settings.inputNode
        self._neighborID = neighbor.GetID() if neighbor is not None else None
        return (yield from self._analysis.prepare(settings, self._folder))

    def _preparing(self, fraction):
        self._onProgress("Writing the series for the analysis", PREPARED * fraction)

    def _prepared(self, words, error):
        self._steps = None
        if error is not None:
            self._refuse(error)
            return
        self._child = ChildProcess(words, self._computing, self._computed)

    def _computing(self, title, fraction):
        self._onProgress(title, PREPARED + (COMPUTED - PREPARED) * self._analysis.progress(title, fraction))

    def _computed(self, code, document, message):
        self._child = None
        if code != 0:
            self._finish(None, message)
            return
        neighbor = slicer.mrmlScene.GetNodeByID(self._neighborID) if self._neighborID else None
        self._steps = Stepwise(self._analysis.open(self._folder / "result", self._name, neighbor), self._loading, self._loaded)

    def _loading(self, fraction):
        self._onProgress(self._analysis.loadingTitle, COMPUTED + (1.0 - COMPUTED) * fraction)

    def _loaded(self, node, error):
        self._steps = None
        if error is not None:
            self._refuse(error)
            return
        earlier = self._earlier if self._earlier is not None and self._earlier.GetScene() is not None else None
        message = self._analysis.complete(self._settings, self._folder, earlier, node)
        logging.info("CT %s of one study: %.1f s", self._analysis.name, time.monotonic() - self._began)
        self._finish(node, message)

    def _refuse(self, error):
        if not isinstance(error, SuiteError):
            logging.error("CT perfusion analysis", exc_info=error)
            error = "the analysis failed; the application log holds the details"
        self._finish(None, str(error))

    def _finish(self, node, message):
        shutil.rmtree(self._folder, ignore_errors=True)
        onEnd, self._onEnd, self._onProgress, self._settings = self._onEnd, None, lambda *arguments: None, None
        replaced, self._earlier = None if self._keep else self._earlier, None
        onEnd(node, message)
        if node is not None and replaced is not None and replaced.GetScene() is not None:
            self._analysis.replace(replaced, node)


def earlierResult(analysis, settings, name):
    """The shown result if it is one of the same study; else None."""
    from ..mrml_study_memory import carrier

    node = settings.result
    if not analysis.isResult(node):
        return None
    series = node.GetNodeReference("series")
    same = carrier(series) is carrier(settings.inputNode) if series is not None else node.GetName() == name
    return node if same else None


def studyName(settings, what: str) -> str:
    """What the result is called in the scene: after the series, or the folder, and `what` it is."""
    from ..mrml_study_memory import carrier

    node = carrier(settings.inputNode)  # a proxy volume may be renamed with every frame
    return f"{node.GetName() if node is not None else Path(settings.dicomFolder).name or 'CT'} {what}"


def runToEnd(logic, settings):
    """Carry out a run of a module's logic while events are handled; `settings` and the caller get the result's node.

    Raises
    ------
    ValueError
        With one sentence, when the data or the request are refused.
    """
    ends, missing = [], logic.whatIsMissing(settings)
    if missing:
        raise ValueError(missing)
    run = logic.start(settings, lambda title, fraction: None, lambda node, message: ends.append((node, message)))
    while run.running:
        slicer.app.processEvents()
        time.sleep(0.005)
    node, message = ends[0]
    if node is None:
        raise ValueError(message)
    settings.result = node
    return node
