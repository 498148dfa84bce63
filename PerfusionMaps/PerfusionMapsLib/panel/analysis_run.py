"""One analysis, from the panel's settings to a result in the scene, without stopping the window."""

import importlib
import logging
import shutil
import time
from pathlib import Path

import slicer

from CTPerfusionSuiteLib.errors import SuiteError
from CTPerfusionSuiteLib.panel.child_process import ChildProcess
from CTPerfusionSuiteLib.panel.stepwise import Stepwise

LIBRARIES = (
    "numpy.random",
    "numpy.ma",
    "numpy.testing",
    "numpy.f2py",
    "scipy.special",
    "scipy.ndimage",
    "SimpleITK",
    "CTPerfusionSuiteLib.nifti",
    "CTPerfusionSuiteLib.mrml_sequences",
    "CTPerfusionSuiteLib.output_folder",
    "PerfusionMapsLib.lesions",
    "PerfusionMapsLib.perfusion_pictures",
    "PerfusionMapsLib.mrml_result",
    "PerfusionMapsLib.mrml_study",
)
"""Loaded one after the other at the first run, so that the window does not wait for all of them at once."""
PREPARED, COMPUTED = 0.05, 0.95
"""Share of the bar that is full when the files are written, and when the maps are computed."""


class AnalysisRun:
    """Writes the series for the child process, runs it, and loads what it found.

    Parameters
    ----------
    settings : parameter node of the module
        Read at the start only: what is changed later belongs to the next run.
    onProgress : callable(title, fraction)
    onEnd : callable(resultNode, message)
        Once: the result's node and "", or None and one sentence ("" when canceled).
    """

    def __init__(self, settings, onProgress, onEnd):
        from ..mrml_readiness import asTheyAre

        self._onProgress, self._onEnd = onProgress, onEnd
        settings = asTheyAre(settings)
        self._canceled, self._began = False, time.monotonic()
        self._folder = Path(slicer.util.tempDirectory("CTPerfusion"))
        self._name, self._neighborID = studyName(settings), None
        self.inputNode = settings.inputNode
        self._earlier, self._keep = earlierResult(settings, self._name), settings.keepResults
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
        for name in LIBRARIES:
            importlib.import_module(name)
            yield 0.0
        from ..mrml_study import preparing, referenceVolume

        reference = referenceVolume(settings) if settings.inputNode is not None else None
        neighbor = reference if reference is not None and reference.GetScene() is slicer.mrmlScene else settings.inputNode
        self._neighborID = neighbor.GetID() if neighbor is not None else None
        return (yield from preparing(settings, self._folder))

    def _preparing(self, fraction):
        self._onProgress("Writing the series for the analysis", PREPARED * fraction)

    def _prepared(self, words, error):
        self._steps = None
        if error is not None:
            self._refuse(error)
            return
        self._child = ChildProcess(words, self._computing, self._computed)

    def _computing(self, title, fraction):
        done, share = STEP_SHARES.get(title, (0.5, 0.0))
        self._onProgress(title, PREPARED + (COMPUTED - PREPARED) * (done + share * fraction))

    def _computed(self, code, document, message):
        self._child = None
        if code != 0:
            self._finish(None, message)
            return
        from ..mrml_result import loadingResult

        neighbor = slicer.mrmlScene.GetNodeByID(self._neighborID) if self._neighborID else None
        self._steps = Stepwise(loadingResult(self._folder / "result", self._name, neighbor), self._loading, self._loaded)

    def _loading(self, fraction):
        self._onProgress("Loading the maps", COMPUTED + (1.0 - COMPUTED) * fraction)

    def _loaded(self, node, error):
        self._steps = None
        if error is not None:
            self._refuse(error)
            return
        if self._earlier is not None and self._earlier.GetScene() is not None:
            from ..mrml_result import inheritCandidates

            inheritCandidates(self._earlier, node)
        logging.info("CT perfusion maps of one study: %.1f s", time.monotonic() - self._began)
        self._finish(node, "")

    def _refuse(self, error):
        if not isinstance(error, SuiteError):
            logging.error("CT perfusion analysis", exc_info=error)
            error = "the analysis failed; the application log holds the details"
        self._finish(None, str(error))

    def _finish(self, node, message):
        shutil.rmtree(self._folder, ignore_errors=True)
        onEnd, self._onEnd, self._onProgress = self._onEnd, None, lambda *arguments: None
        replaced, self._earlier = None if self._keep else self._earlier, None
        onEnd(node, message)
        if node is not None and replaced is not None and replaced.GetScene() is not None:
            from ..mrml_result import replaceResult

            replaceResult(replaced, node)


def _shares(steps):
    """Step title -> (share of the work done before it, its own share)."""
    total, done, shares = sum(weight for _, weight in steps), 0.0, {}
    for title, weight in steps:
        shares[title] = (done / total, weight / total)
        done += weight
    return shares


STEP_SHARES = _shares(
    (
        ("Reading the series", 8),
        ("Correcting motion", 35),
        ("Finding brain and midline", 6),
        ("Classifying tissue", 5),
        ("Finding artery and vein", 12),
        ("Computing maps", 25),
        ("Measuring lesions", 2),
        ("Registering the anatomical image", 4),
        ("Writing maps and metrics", 3),
    )
)


def earlierResult(settings, name):
    """The shown result if it is one of the same study; else None."""
    from ..mrml_readiness import isResult
    from ..mrml_study_memory import carrier

    node = settings.result
    if not isResult(node):
        return None
    series = node.GetNodeReference("series")
    same = carrier(series) is carrier(settings.inputNode) if series is not None else node.GetName() == name
    return node if same else None


def studyName(settings) -> str:
    """What the result is called in the scene: after the series, or the folder."""
    from ..mrml_study_memory import carrier

    node = carrier(settings.inputNode)  # a proxy volume may be renamed with every frame
    return f"{node.GetName() if node is not None else Path(settings.dicomFolder).name or 'CT'} perfusion"
