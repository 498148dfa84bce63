"""Slicer face of brain CT perfusion: a dynamic series to maps, core and penumbra, thresholds that move live, and a report."""

# ruff: noqa: UP007, UP045 (Slicer's wrapper knows node parameters as Optional and Union)

import shutil
from enum import Enum
from pathlib import Path
from typing import Annotated, Optional, Union

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Decimals, SingleStep, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


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

    inputNode: Optional[Union[slicer.vtkMRMLSequenceNode, slicer.vtkMRMLVolumeNode]]
    studyNode: Optional[Union[slicer.vtkMRMLSequenceNode, slicer.vtkMRMLVolumeNode]]  # whose settings these are
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


class PerfusionMapsWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: one section a file in PerfusionMapsLib.panel, all reading the parameter node."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic, self.settings, self.sections, self.run = None, None, [], None
        self._guiTag = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/PerfusionMaps.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = PerfusionMapsLogic()

        from PerfusionMapsLib.panel.edit_section import EditSection
        from PerfusionMapsLib.panel.export_section import ExportSection
        from PerfusionMapsLib.panel.folder_loading import FolderLoading
        from PerfusionMapsLib.panel.inputs_section import InputsSection
        from PerfusionMapsLib.panel.metrics_section import MetricsSection
        from PerfusionMapsLib.panel.results_section import ResultsSection
        from PerfusionMapsLib.panel.vessels_section import VesselsSection

        self.results, self.metrics = ResultsSection(self, self.ui), MetricsSection(self, self.ui)
        self.vessels = VesselsSection(self, self.ui)
        self.sections = [section(self, self.ui) for section in (InputsSection, FolderLoading, EditSection, ExportSection)]
        self.sections += [self.vessels, self.results, self.metrics]
        self.ui.applyButton.clicked.connect(self.onApply)
        slicer.app.aboutToQuit.connect(self.onQuit)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.StartImportEvent, self.onSceneStartImport)
        self.addObserver(scene, scene.StartSaveEvent, self.onSceneStartSave)
        for event in (scene.EndCloseEvent, scene.EndImportEvent):
            self.addObserver(scene, event, self.onSceneCame)
        self.initializeParameterNode()

    def cleanup(self):
        if self.run is not None:
            self.run.cancel(quietly=True)
        self.setSettings(None)
        for section in self.sections:
            section.cleanup()
        slicer.app.aboutToQuit.disconnect(self.onQuit)
        self.removeObservers()

    def enter(self):
        self.initializeParameterNode()

    def exit(self):
        self.setSettings(None)

    def onReload(self):
        """Reload the module's library too, not the module file alone."""
        import sys

        for name in [name for name in sys.modules if name.partition(".")[0] == "PerfusionMapsLib"]:
            del sys.modules[name]
        super().onReload()
        slicer.util.getModuleWidget(self.moduleName).enter()

    def onSceneStartClose(self, caller, event):
        self.stopRun()
        self.setSettings(None)

    def onSceneStartImport(self, caller, event):
        # A bound node selector would wipe node parameters that are being read.
        self.setSettings(None)

    def onSceneStartSave(self, caller, event):
        self.results.flush()

    def onSceneCame(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        self.setSettings(self.logic.getParameterNode())

    def setSettings(self, settings):
        """Observe and show another parameter node; None lets go of the present one."""
        if self.settings is not None:
            self.results.flush()
            self.settings.disconnectGui(self._guiTag)
            self.removeObserver(self.settings.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onSettings)
        self.settings = settings
        if settings is not None:
            self._guiTag = settings.connectGui(self.ui)
            self.addObserver(settings.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onSettings)
        for section in self.sections:
            section.settingsChanged()
        self.onSettings()

    def onSettings(self, caller=None, event=None):
        if self.settings is not None:
            for section in self.sections:
                section.update()
        self.updateApply()

    def updateApply(self):
        """Apply, Cancel, or a tooltip that says what is missing."""
        missing = self.logic.whatIsMissing(self.settings) if self.settings is not None else ""
        ending = self.run is not None and self.run.canceled
        self.ui.applyButton.text = _("Canceling...") if ending else _("Cancel") if self.run else _("Apply")
        self.ui.progressBar.setVisible(self.run is not None)
        self.ui.applyButton.enabled = not ending and (self.run is not None or missing is None)
        ready = _("Compute the maps in the background (about a minute); the window stays usable.")
        self.ui.applyButton.toolTip = _("Stop the analysis; nothing is kept of it.") if self.run else missing or ready

    def say(self, text):
        """One sentence under the Apply button."""
        self.ui.statusLabel.text = text[:1].upper() + text[1:]

    def onApply(self, *arguments):
        if self.run is not None:
            self.run.cancel()
            self.updateApply()
            return
        self.run = self.logic.start(self.settings, self.onProgress, self.onEnd)
        self.ui.progressBar.value = 0
        self.say(_("Starting"))
        self.updateApply()

    def onProgress(self, title, fraction):
        self.ui.progressBar.value = round(100 * fraction)
        self.say(title)

    def onEnd(self, resultNode, message):
        """The run is over: with a result, a refusal, or (no message) a cancel."""
        from PerfusionMapsLib.mrml_study_memory import MAPS_MEMORY, carrier

        run, self.run = self.run, None
        self.ui.progressBar.value = 100 if resultNode is not None else 0
        self.say(message or (_("Done. Research use only.") if resultNode is not None else _("Canceled; nothing was kept.")))
        if resultNode is not None:
            settings, study = self.settings or self.logic.getParameterNode(), carrier(run.inputNode)
            if carrier(settings.inputNode) is study:
                settings.result = resultNode
            else:
                MAPS_MEMORY.rememberResult(study, resultNode)
                self.say(_("The maps of {study} are ready; choose its series to see them.").format(study=run.name))
        self.updateApply()

    def stopRun(self):
        if self.run is not None:
            self.run.cancel()

    def onQuit(self):
        if self.run is not None:
            self.run.stopNow()


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
        from PerfusionMapsLib.panel.analysis_run import AnalysisRun
        from PerfusionMapsLib.panel.maps_analysis import MAPS

        return AnalysisRun(MAPS, settings, onProgress, onEnd)

    def process(self, settings):
        """Run an analysis to its end and return the result's node.

        Raises
        ------
        ValueError
            With one sentence, when the data or the request are refused.
        """
        from PerfusionMapsLib.panel.analysis_run import runToEnd

        return runToEnd(self, settings)

    def openResult(self, folder, name=None, neighbor=None):
        """Load a result folder; returns the result's node."""
        from CTPerfusionSuiteLib.panel.stepwise import toTheEnd
        from PerfusionMapsLib.mrml_result import loadingResult

        return toTheEnd(loadingResult(folder, name or f"{Path(folder).name} perfusion", neighbor))

    def moveThresholds(self, resultNode, tmax, rcbf):
        """Core and penumbra of a result at other thresholds (seconds, fraction); returns the metrics document."""
        from PerfusionMapsLib.mrml_result import applyThresholds, keepThresholds, resultFromNode
        from PerfusionMapsLib.perfusion_options import Thresholds

        result, thresholds = resultFromNode(resultNode), Thresholds(float(tmax), float(rcbf))
        found = applyThresholds(resultNode, result, thresholds)
        return keepThresholds(resultNode, result, thresholds, found).metrics


class PerfusionMapsTest(ScriptedLoadableModuleTest):
    """A user's story: load a study, compute maps, move a threshold, choose an own artery, save and reopen the scene."""

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

        self.delayDisplay("Choose another artery")
        settings.aifSource, settings.aifCandidate, settings.keepResults = VesselSource.CANDIDATE, 2, True
        other = self.logic.process(settings)
        self.assertEqual(json.loads(other.GetText())["provenance"]["vessels"]["aif_source"], "mask")
        firstName, otherName = node.GetName(), other.GetName()

        self.delayDisplay("Save and reopen the scene")
        folder = slicer.util.tempDirectory("PerfusionMapsTest")
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
