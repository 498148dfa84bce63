"""Slicer face of the stroke networks: penumbra and core straight from the 4-D series, beside what the threshold maps say."""

# ruff: noqa: UP007, UP045 (Slicer's wrapper knows node parameters as Optional and Union)

import shutil
import unittest
from enum import Enum
from pathlib import Path
from typing import Annotated, Optional, Union

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Decimals, SingleStep, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)


class StrokeSegmentation(ScriptedLoadableModule):
    """Penumbra and core by a network."""

    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("CT Stroke Segmentation")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Quantification")]
        parent.dependencies = ["CTPerfusionSuite", "PerfusionMaps"]
        parent.contributors = ["CTPerfusionSuite contributors"]
        parent.helpText = _(
            "Penumbra and core of a brain CT perfusion study straight from its 4-D series by a trained network, beside what the "
            "threshold maps of CT Perfusion Maps say. The network that comes with it was trained on simulated studies only: research "
            "only. Needs PyTorch. Data stays on this computer. To try it, load the sample of CT Perfusion Suite."
        )
        parent.acknowledgementText = _("Networks, training data and comparisons are described in the card of each model.")


class Device(Enum):
    """Where the network runs, by the names of the command line."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"

    def label(self):
        return {"auto": _("Automatic"), "cpu": _("CPU"), "cuda": _("Graphics card (CUDA)")}[self.value]


@parameterNodeWrapper
class StrokeSegmentationParameterNode:
    """All state of the panel.  Times in seconds, opacity in percent; ranges live here alone.

    inputNode, dicomFolder - the series, or a folder of DICOM files where none is chosen
    studyNode - whose settings these are
    times, timesSource - seconds of the frames as the user corrected them, and how
    model - name of the network; empty: the first one of this computer
    passes - Monte-Carlo dropout passes for the uncertainty; 0: none
    saveFolder - where the files of a run are kept; empty: nowhere
    shownMap - role of the volume in color over the CT
    showThresholds - whether the lesions of the threshold maps are outlined
    """

    inputNode: Optional[Union[slicer.vtkMRMLSequenceNode, slicer.vtkMRMLScalarVolumeNode]]
    studyNode: Optional[Union[slicer.vtkMRMLSequenceNode, slicer.vtkMRMLScalarVolumeNode]]
    dicomFolder: Path
    times: list[float]
    timesSource: str

    model: str
    device: Device = Device.AUTO
    passes: Annotated[int, WithinRange(0, 50)] = 0
    motionCorrection: bool = True
    keepResults: bool = False
    saveFolder: Path

    result: Optional[slicer.vtkMRMLTextNode]
    shownMap: str = "hypoperfusion_probability"
    mapOpacity: Annotated[float, WithinRange(0, 100), Decimals(0), SingleStep(5)] = 50.0
    showThresholds: bool = False


class StrokeSegmentationWidget(ScriptedLoadableModuleWidget):
    """The panel, made by StrokeSegmentationLib.panel.stroke_panel: one section a file, all reading the parameter node."""

    def setup(self):
        super().setup()
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/StrokeSegmentation.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = StrokeSegmentationLogic()
        from StrokeSegmentationLib.panel.stroke_panel import strokePanel

        self.panel = strokePanel(self)

    def cleanup(self):
        self.panel.cleanup()

    def enter(self):
        self.panel.enter()

    def exit(self):
        self.panel.exit()

    def onReload(self):
        """Reload the module's library too, not the module file alone."""
        from CTPerfusionSuiteLib.panel.analysis_panel import forgetLibrary

        forgetLibrary("StrokeSegmentationLib")
        super().onReload()
        slicer.util.getModuleWidget(self.moduleName).enter()


class StrokeSegmentationLogic(ScriptedLoadableModuleLogic):
    """From nodes to a result in the scene; needs no widget and no main window."""

    def getParameterNode(self):
        return StrokeSegmentationParameterNode(super().getParameterNode())

    def whatIsMissing(self, settings, models=None):
        """Why a run cannot start, in words; None when it can.  `models` are those of this computer, if they are known already."""
        from StrokeSegmentationLib.mrml_stroke_readiness import whatIsMissing
        from StrokeSegmentationLib.panel.model_section import modelsHere

        return whatIsMissing(settings, modelsHere(settings.model) if models is None else models)

    def start(self, settings, onProgress, onEnd):
        """Begin a run that reports through callbacks; the `AnalysisRun`, which can be canceled."""
        from CTPerfusionSuiteLib.panel.analysis_run import AnalysisRun
        from StrokeSegmentationLib.panel.stroke_analysis import STROKE

        return AnalysisRun(STROKE, settings, onProgress, onEnd)

    def process(self, settings):
        """Run the network to its end and return the result's node.

        Raises
        ------
        ValueError
            With one sentence, when the data or the request are refused.
        """
        from CTPerfusionSuiteLib.panel.analysis_run import runToEnd

        return runToEnd(self, settings)

    def openResult(self, folder, name=None, neighbor=None):
        """Load a result folder; returns the result's node."""
        from CTPerfusionSuiteLib.progress import to_the_end
        from StrokeSegmentationLib.mrml_stroke_result import loadingStroke

        return to_the_end(loadingStroke(folder, name or f"{Path(folder).name} stroke", neighbor))

    def metrics(self, resultNode):
        """The metrics document of a result: volumes of the network and of the thresholds, their overlap, quality flags."""
        from StrokeSegmentationLib.mrml_stroke_result import strokeMetrics

        return strokeMetrics(resultNode)


class StrokeSegmentationTest(ScriptedLoadableModuleTest):
    """A user's story: a simulated stroke, a run, volumes of both methods, a saved scene that reopens."""

    def setUp(self):
        slicer.mrmlScene.Clear()
        self.logic = StrokeSegmentationLogic()

    def runTest(self):
        self.setUp()
        try:
            self.test_StrokeFromSeriesToSavedScene()
        except unittest.SkipTest as reason:
            self.delayDisplay(f"Skipped. {reason}", 3000)

    def test_StrokeFromSeriesToSavedScene(self):
        from CTPerfusionSuiteLib.mrml_sequences import sequenceFromSeries
        from CTPerfusionSuiteLib.phantoms.brain import BrainOptions, simulate_brain

        settings = self.logic.getParameterNode()
        study = simulate_brain(BrainOptions(size=(96, 96), slices=6, frames=32, dt_s=1.6, noise_hu=4.0, seed=11, side="left"))
        settings.inputNode = sequenceFromSeries(study.series, "CTP")[0]
        missing = self.logic.whatIsMissing(settings)
        if missing:
            self.skipTest(f"The network cannot run here: {missing}")

        self.delayDisplay("Segment a simulated stroke")
        settings.passes = 2
        node = self.logic.process(settings)
        volumes, rival = self.logic.metrics(node)["volumes_ml"], self.logic.metrics(node)["threshold_maps"]["volumes_ml"]
        self.assertGreater(rival["hypoperfusion"], 1.0)
        self.assertGreater(volumes["hypoperfusion"], 1.0)
        self.assertIsNotNone(node.GetNodeReference("maps.uncertainty"))
        name = node.GetName()

        self.delayDisplay("Save and reopen the scene")
        folder = slicer.util.tempDirectory("StrokeSegmentationTest")
        path = str(Path(folder) / "study.mrb")
        self.assertTrue(slicer.util.saveScene(path))
        slicer.mrmlScene.Clear()
        slicer.util.loadScene(path)
        shutil.rmtree(folder, ignore_errors=True)
        reopened = self.logic.getParameterNode().result
        self.assertEqual(reopened.GetName(), name)
        self.assertEqual(self.logic.metrics(reopened)["volumes_ml"], volumes)
        self.delayDisplay("Test passed")
