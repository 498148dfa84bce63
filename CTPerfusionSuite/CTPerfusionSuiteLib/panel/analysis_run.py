"""One analysis, from the panel's settings to a result in the scene, without stopping the window."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import slicer

from CTPerfusionSuiteLib.mrml_study_settings import StudyMemory, asTheyAre, carrier, studyName
from CTPerfusionSuiteLib.panel.background_work import BackgroundWork
from CTPerfusionSuiteLib.panel.stepwise import Stepwise


@dataclass(frozen=True)
class Analysis:
    """What one kind of analysis does around its child process.

    Attributes
    ----------
    name : str
        What its results are called after the study's name.
    memory : StudyMemory
        What is kept for each study.
    settings : tuple of str
        The settings it depends on.
    libraries : tuple of str
        What is imported before a run, and while the panel is idle.
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
    replace : callable(old, new) -> generator
        Removes the earlier one in small steps.
    """

    name: str
    memory: StudyMemory
    settings: tuple[str, ...]
    libraries: tuple[str, ...]
    steps: tuple[tuple[str, float], ...]
    loadingTitle: str
    isResult: Callable
    prepare: Callable
    open: Callable
    complete: Callable
    replace: Callable


class AnalysisRun(BackgroundWork):
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

    preparingTitle = "Writing the series for the analysis"

    def __init__(self, analysis, settings, onProgress, onEnd):
        self.libraries, self.steps, self.loadingTitle = analysis.libraries, analysis.steps, analysis.loadingTitle
        self._analysis, self._settings = analysis, asTheyAre(settings, analysis.settings)
        self.name, self.inputNode = studyName(settings, analysis.name), settings.inputNode
        self._neighborID = None
        self._earlier, self._keep = earlierResult(analysis, settings, self.name), settings.keepResults
        super().__init__(onProgress, onEnd)

    def prepare(self, folder):
        from CTPerfusionSuiteLib.mrml_sequences import shownVolume

        neighbor = shownVolume(self.inputNode)
        self._neighborID = neighbor.GetID() if neighbor is not None else None
        return (yield from self._analysis.prepare(self._settings, folder))

    def load(self, folder):
        neighbor = slicer.mrmlScene.GetNodeByID(self._neighborID) if self._neighborID else None
        return self._analysis.open(folder / "result", self.name, neighbor)

    def loaded(self, node):
        earlier = self._earlier if self._earlier is not None and self._earlier.GetScene() is not None else None
        return self._analysis.complete(self._settings, self._folder, earlier, node)

    @property
    def running(self):
        """Also while the earlier result is removed, after `onEnd`."""
        return super().running or self in _tidying

    def _finish(self, node, message):
        replaced, self._earlier, self._settings = None if self._keep else self._earlier, None, None
        super()._finish(node, message)
        self.inputNode = None
        if node is not None and replaced is not None and replaced.GetScene() is not None:
            # Nobody else holds a run that has ended.
            _tidying[self] = Stepwise(self._analysis.replace(replaced, node), lambda fraction: None, self._tidied)

    def _tidied(self, value, error):
        del _tidying[self]
        if error is not None:
            logging.error("Removing an earlier result", exc_info=error)


_tidying = {}
"""Runs that remove an earlier result, with their steps."""


def finishTidying():
    """Remove at once what is being removed: no scene is saved with half of a result."""
    for steps in list(_tidying.values()):
        steps.finish()


def earlierResult(analysis, settings, name):
    """The shown result if it is one of the same study; else None."""
    node = settings.result
    if not analysis.isResult(node):
        return None
    series = node.GetNodeReference("series")
    same = carrier(series) is carrier(settings.inputNode) if series is not None else node.GetName() == name
    return node if same else None


def runToEnd(logic, settings):
    """Carry out a run of a module's logic while events are handled; `settings` and the caller get the result's node.

    Raises
    ------
    ValueError
        With one sentence, when the data or the request are refused.
    """
    missing = logic.whatIsMissing(settings)
    if missing:
        raise ValueError(missing)
    settings.result = waitFor(lambda *callbacks: logic.start(settings, *callbacks))
    return settings.result


def waitFor(begin):
    """Carry out a `BackgroundWork` that `begin(onProgress, onEnd)` starts while events are handled; what came of it.

    Raises
    ------
    ValueError
        With one sentence, when it is refused.
    """
    ends = []
    work = begin(lambda title, fraction: None, lambda value, message: ends.append((value, message)))
    while work.running:
        slicer.app.processEvents()
        time.sleep(0.005)
    value, message = ends[0]
    if value is None:
        raise ValueError(message)
    return value
