"""Slicer face of brain CT perfusion: a dynamic series to maps, core and penumbra, thresholds that move live, and a report."""

# ruff: noqa: UP007, UP045 (Slicer's wrapper knows node parameters as Optional and Union)

import shutil
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


class PerfusionMaps(ScriptedLoadableModule):
    """Brain CT perfusion maps, core and penumbra."""

    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("CT Perfusion Maps")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Quantification")]
        parent.dependencies = ["CTPerfusionSuite"]
        parent.contributors = ["CTPerfusionSuite contributors"]
        parent.helpText = _(
            "Raw brain CT perfusion to maps of blood flow, blood volume, transit time and Tmax, core and penumbra, and a report. "
            "Data stays on this computer. Research use only."
        )
        parent.acknowledgementText = _("Definitions and their sources are listed in the extension's README.")


class Method(Enum):
    """Deconvolution engines by the names of the command line."""

    BAYES = "bayes"
    BCSVD = "bcsvd"
    OSVD = "osvd"

    def label(self):
        words = {"bayes": _("Bayesian (with intervals)"), "bcsvd": _("Block-circulant SVD"), "osvd": _("Oscillation-limited SVD")}
        return words[self.value]


class NoiseFilter(Enum):
    """Spatial filters by the names of the command line."""

    BILATERAL = "bilateral"
    GAUSSIAN = "gaussian"
    TIPS = "tips"
    NONE = "none"

    def label(self):
        words = {"bilateral": _("Bilateral"), "gaussian": _("Gaussian"), "tips": _("Time-intensity profile similarity"), "none": _("None")}
        return words[self.value]


class VesselSource(Enum):
    """Where the curve of a vessel comes from."""

    AUTOMATIC = "automatic"
    CANDIDATE = "candidate"
    POINT = "point"
    SEGMENT = "segment"
    FILE = "file"

    def label(self):
        words = {"automatic": _("Automatic"), "candidate": _("Chosen candidate"), "point": _("Point in the image")}
        return (words | {"segment": _("Segment"), "file": _("CSV file")})[self.value]


@parameterNodeWrapper
class PerfusionMapsParameterNode:
    """All state of the panel.  Times in seconds, lengths in mm, thresholds in seconds and percent; ranges live here alone."""

    inputNode: Optional[Union[slicer.vtkMRMLSequenceNode, slicer.vtkMRMLScalarVolumeNode]]
    studyNode: Optional[Union[slicer.vtkMRMLSequenceNode, slicer.vtkMRMLScalarVolumeNode]]  # whose settings these are
    dicomFolder: Path
    anatomy: Optional[slicer.vtkMRMLScalarVolumeNode]
    times: list[float]
    timesSource: str

    brainMask: Optional[slicer.vtkMRMLSegmentationNode]
    brainMaskSegment: str
    excludedRegions: Optional[slicer.vtkMRMLSegmentationNode]
    excludedFrames: str
    excludedSlices: str

    aifSource: VesselSource = VesselSource.AUTOMATIC
    aifCandidate: int = 1
    aifPoint: Optional[slicer.vtkMRMLMarkupsFiducialNode]
    aifSegmentation: Optional[slicer.vtkMRMLSegmentationNode]
    aifSegment: str
    aifFile: Path
    vofSource: VesselSource = VesselSource.AUTOMATIC
    vofCandidate: int = 1
    vofPoint: Optional[slicer.vtkMRMLMarkupsFiducialNode]
    vofSegmentation: Optional[slicer.vtkMRMLSegmentationNode]
    vofSegment: str
    vofFile: Path

    method: Method = Method.BAYES
    denoising: NoiseFilter = NoiseFilter.BILATERAL
    smoothing: Annotated[float, WithinRange(0, 10), Decimals(1), SingleStep(0.5)] = 0.0
    hematocritLarge: Annotated[float, WithinRange(0.2, 0.7), Decimals(2), SingleStep(0.01)] = 0.45
    hematocritSmall: Annotated[float, WithinRange(0.1, 0.6), Decimals(2), SingleStep(0.01)] = 0.25
    motionCorrection: bool = True
    fullResolution: bool = False
    keepResults: bool = False
    age: Annotated[int, WithinRange(0, 120)] = 0
    nihss: Annotated[int, WithinRange(-1, 42)] = -1

    result: Optional[slicer.vtkMRMLTextNode]
    shownMap: str = "tmax"
    background: str = "images.mean_ct"
    mapOpacity: Annotated[float, WithinRange(0, 100), Decimals(0), SingleStep(5)] = 50.0
    tmaxThreshold: Annotated[float, WithinRange(2, 14), Decimals(1), SingleStep(0.5)] = 6.0
    rcbfThreshold: Annotated[float, WithinRange(5, 60), Decimals(0), SingleStep(1)] = 30.0
    regions: Optional[Union[slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLLabelMapVolumeNode]]
    exportReport: bool = True


class PerfusionMapsWidget(ScriptedLoadableModuleWidget):
    """The panel, made by PerfusionMapsLib.panel.maps_panel: one section a file, all reading the parameter node."""

    def setup(self):
        super().setup()
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/PerfusionMaps.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = PerfusionMapsLogic()
        from PerfusionMapsLib.panel.maps_panel import mapsPanel

        self.panel = mapsPanel(self)

    def cleanup(self):
        self.panel.cleanup()

    def enter(self):
        self.panel.enter()

    def exit(self):
        self.panel.exit()

    def onReload(self):
        """Reload the module's library too, not the module file alone."""
        from CTPerfusionSuiteLib.panel.analysis_panel import forgetLibrary

        forgetLibrary("PerfusionMapsLib")
        super().onReload()
        slicer.util.getModuleWidget(self.moduleName).enter()


class PerfusionMapsLogic(ScriptedLoadableModuleLogic):
    """From nodes to a result in the scene; needs no widget and no main window."""

    def getParameterNode(self):
        return PerfusionMapsParameterNode(super().getParameterNode())

    def whatIsMissing(self, settings):
        """Why a run cannot start, in words; None when it can."""
        from PerfusionMapsLib.mrml_readiness import whatIsMissing

        return whatIsMissing(settings)

    def start(self, settings, onProgress, onEnd):
        """Begin an analysis that reports through callbacks; the `AnalysisRun`, which can be canceled."""
        from CTPerfusionSuiteLib.panel.analysis_run import AnalysisRun
        from PerfusionMapsLib.panel.maps_analysis import MAPS

        return AnalysisRun(MAPS, settings, onProgress, onEnd)

    def process(self, settings):
        """Run an analysis to its end and return the result's node.

        Raises
        ------
        ValueError
            With one sentence, when the data or the request are refused.
        """
        from CTPerfusionSuiteLib.panel.analysis_run import runToEnd

        return runToEnd(self, settings)

    def startRegistration(self, resultNode, anatomy, onProgress, onEnd):
        """Begin to register an anatomical image to a result; a `BackgroundWork`, which can be canceled."""
        from PerfusionMapsLib.panel.anatomy_section import AnatomyRegistration

        return AnatomyRegistration(resultNode, anatomy, onProgress, onEnd)

    def registerAnatomy(self, resultNode, anatomy):
        """Register an anatomical image to a result, which keeps it as an image on its grid."""
        from CTPerfusionSuiteLib.panel.analysis_run import waitFor

        return waitFor(lambda *callbacks: self.startRegistration(resultNode, anatomy, *callbacks))

    def startSaving(self, resultNode, folder, report, onProgress, onEnd):
        """Begin to write a result folder into `folder`; a `BackgroundWork`, which can be canceled."""
        from PerfusionMapsLib.panel.export_section import SavingResult

        return SavingResult(resultNode, folder, report, onProgress, onEnd)

    def saveResult(self, resultNode, folder, report=True):
        """Write a result folder into `folder`, named after the result; its path."""
        from CTPerfusionSuiteLib.panel.analysis_run import waitFor

        return waitFor(lambda *callbacks: self.startSaving(resultNode, folder, report, *callbacks))

    def openResult(self, folder, name=None, neighbor=None):
        """Load a result folder; returns the result's node."""
        from CTPerfusionSuiteLib.progress import to_the_end
        from PerfusionMapsLib.mrml_result import loadingResult

        return to_the_end(loadingResult(folder, name or f"{Path(folder).name} perfusion", neighbor))

    def moveThresholds(self, resultNode, tmax, rcbf):
        """Core and penumbra of a result at other thresholds (seconds, fraction); returns the metrics document."""
        from PerfusionMapsLib.mrml_result import applyThresholds, keepThresholds, resultFromNode
        from PerfusionMapsLib.perfusion_options import Thresholds

        result, thresholds = resultFromNode(resultNode), Thresholds(float(tmax), float(rcbf))
        found = applyThresholds(resultNode, result, thresholds)
        return keepThresholds(resultNode, result, thresholds, found).metrics


class PerfusionMapsTest(ScriptedLoadableModuleTest):
    """A user's story: compute maps, move a threshold, register an anatomy, choose an own artery, save and reopen."""

    def setUp(self):
        slicer.mrmlScene.Clear()
        self.logic = PerfusionMapsLogic()

    def runTest(self):
        self.setUp()
        self.test_StrokeFromSeriesToSavedScene()

    def test_StrokeFromSeriesToSavedScene(self):
        import json

        from CTPerfusionSuiteLib.mrml_sequences import sequenceFromSeries
        from CTPerfusionSuiteLib.phantoms.brain import BrainOptions, simulate_brain

        self.delayDisplay("Compute maps of a simulated stroke")
        study = simulate_brain(BrainOptions(size=(96, 96), slices=6, frames=32, dt_s=1.6, noise_hu=4.0, seed=11, side="left"))
        settings = self.logic.getParameterNode()
        settings.inputNode = sequenceFromSeries(study.series, "CTP")[0]
        node = self.logic.process(settings)
        metrics = json.loads(node.GetText())["metrics"]
        self.assertEqual(metrics["lesion_side"], "left")
        self.assertGreater(metrics["volumes_ml"]["core"], 1.0)

        self.delayDisplay("Move the threshold")
        narrow = self.logic.moveThresholds(node, 8.0, 0.30)["volumes_ml"]["hypoperfusion"]
        self.assertLess(narrow, metrics["volumes_ml"]["hypoperfusion"])

        self.delayDisplay("Register an anatomical image to the result")
        self.logic.registerAnatomy(node, node.GetNodeReference("images.baseline"))
        self.assertIsNotNone(node.GetNodeReference("images.anatomy"))

        self.delayDisplay("Choose another artery")
        settings.aifSource, settings.aifCandidate, settings.keepResults = VesselSource.CANDIDATE, 2, True
        other = self.logic.process(settings)
        self.assertEqual(json.loads(other.GetText())["provenance"]["vessels"]["aif_source"], "mask")
        firstName, otherName = node.GetName(), other.GetName()

        self.delayDisplay("Save the result and the scene, and reopen it")
        folder = slicer.util.tempDirectory("PerfusionMapsTest")
        self.assertTrue((self.logic.saveResult(node, folder, report=False) / "metrics.json").is_file())
        path = str(Path(folder) / "study.mrb")
        self.assertTrue(slicer.util.saveScene(path))
        slicer.mrmlScene.Clear()
        slicer.util.loadScene(path)
        shutil.rmtree(folder, ignore_errors=True)
        reopened = self.logic.getParameterNode().result
        self.assertEqual(reopened.GetName(), otherName)
        again = self.logic.moveThresholds(slicer.util.getFirstNodeByClassByName("vtkMRMLTextNode", firstName), 8.0, 0.30)
        self.assertAlmostEqual(again["volumes_ml"]["hypoperfusion"], narrow, places=3)
        self.delayDisplay("Test passed")
