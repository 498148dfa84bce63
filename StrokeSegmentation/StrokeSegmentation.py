"""Slicer face of the stroke networks: penumbra and core straight from the 4-D series, beside what the threshold maps say."""

# ruff: noqa: UP007, UP045 (Slicer's wrapper knows node parameters as Optional and Union)

import shutil
import unittest
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
            "threshold maps of CT Perfusion Maps say. Simulation-trained, research only: no patient data was used for training. Needs "
            "PyTorch. Data stays on this computer. To try it, load the sample of CT Perfusion Suite."
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

    inputNode: Optional[Union[slicer.vtkMRMLSequenceNode, slicer.vtkMRMLVolumeNode]]
    studyNode: Optional[Union[slicer.vtkMRMLSequenceNode, slicer.vtkMRMLVolumeNode]]
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


class StrokeSegmentationWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: one section a file in StrokeSegmentationLib.panel, all reading the parameter node."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic, self.settings, self.sections, self.run = None, None, [], None
        self._guiTag = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/StrokeSegmentation.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = StrokeSegmentationLogic()

        from PerfusionMapsLib.panel.folder_loading import FolderLoading
        from PerfusionMapsLib.panel.inputs_section import InputsSection
        from PerfusionMapsLib.panel.result_opening import ResultOpening
        from StrokeSegmentationLib.mrml_stroke_readiness import STROKE_MEMORY
        from StrokeSegmentationLib.panel.model_section import ModelSection
        from StrokeSegmentationLib.panel.results_section import ResultsSection
        from StrokeSegmentationLib.panel.stroke_analysis import STROKE
        from StrokeSegmentationLib.panel.torch_section import TorchSection

        self.results, self.models = ResultsSection(self, self.ui), ModelSection(self, self.ui)
        self.sections = [TorchSection(self, self.ui), InputsSection(self, self.ui, STROKE_MEMORY), FolderLoading(self, self.ui)]
        self.sections += [self.models, self.results, ResultOpening(self, self.ui, self.ui.openingLabel, STROKE)]
        self.ui.applyButton.clicked.connect(self.onApply)
        self.ui.openMapsButton.clicked.connect(self.onOpenMaps)
        slicer.app.aboutToQuit.connect(self.onQuit)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.StartImportEvent, self.onSceneStartImport)
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

        for name in [name for name in sys.modules if name.partition(".")[0] == "StrokeSegmentationLib"]:
            del sys.modules[name]
        super().onReload()
        slicer.util.getModuleWidget(self.moduleName).enter()

    def onSceneStartClose(self, caller, event):
        self.stopRun()
        self.setSettings(None)

    def onSceneStartImport(self, caller, event):
        # A bound node selector would wipe node parameters that are being read.
        self.setSettings(None)

    def onSceneCame(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        self.setSettings(self.logic.getParameterNode())

    def setSettings(self, settings):
        """Observe and show another parameter node; None lets go of the present one."""
        if self.settings is not None:
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
        missing = self.logic.whatIsMissing(self.settings, self.models.models) if self.settings is not None else ""
        ending = self.run is not None and self.run.canceled
        self.ui.applyButton.text = _("Canceling...") if ending else _("Cancel") if self.run else _("Apply")
        self.ui.progressBar.setVisible(self.run is not None)
        self.ui.applyButton.enabled = not ending and (self.run is not None or missing is None)
        ready = _("Segment penumbra and core in the background (about a minute); the window stays usable.")
        self.ui.applyButton.toolTip = _("Stop the run; nothing is kept of it.") if self.run else missing or ready

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
        from PerfusionMapsLib.mrml_study_memory import carrier
        from StrokeSegmentationLib.mrml_stroke_readiness import STROKE_MEMORY

        run, self.run = self.run, None
        self.ui.progressBar.value = 100 if resultNode is not None else 0
        done = _("Done. Simulation-trained, research only.") if resultNode is not None else _("Canceled; nothing was kept.")
        self.say(message or done)
        if resultNode is not None:
            settings, study = self.settings or self.logic.getParameterNode(), carrier(run.inputNode)
            if carrier(settings.inputNode) is study:
                settings.result = resultNode
            else:
                STROKE_MEMORY.rememberResult(study, resultNode)
                self.say(_("The segmentation of {study} is ready; choose its series to see it.").format(study=run.name))
        self.updateApply()

    def onOpenMaps(self, *arguments):
        self.results.openMaps()

    def stopRun(self):
        if self.run is not None:
            self.run.cancel()

    def onQuit(self):
        if self.run is not None:
            self.run.stopNow()


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
        from PerfusionMapsLib.panel.analysis_run import AnalysisRun
        from StrokeSegmentationLib.panel.stroke_analysis import STROKE

        return AnalysisRun(STROKE, settings, onProgress, onEnd)

    def process(self, settings):
        """Run the network to its end and return the result's node.

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
        from StrokeSegmentationLib.mrml_stroke_result import loadingStroke

        return toTheEnd(loadingStroke(folder, name or f"{Path(folder).name} stroke", neighbor))

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
