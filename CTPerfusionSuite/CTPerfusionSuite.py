"""Slicer face of the suite's home: worklist, sample data, installed parts, learned models; and the DICOM import of perfusion series."""

import logging
import os
import sys
from enum import Enum

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class CTPerfusionSuite(ScriptedLoadableModule):
    """Home of the CT perfusion modules."""

    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("CT Perfusion Suite")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Quantification")]
        parent.dependencies = []
        parent.contributors = ["CTPerfusionSuite contributors"]
        parent.helpText = _(
            "Home of the CT perfusion modules: finds the series a module can analyze, loads a sample, shows what is installed, and keeps "
            "learned models. DICOM series of a CT perfusion scan are loaded as one sequence with their true times. Research use only."
        )
        parent.acknowledgementText = _("Definitions, methods and how to cite: see the README of the extension.")
        registerDICOMPlugins()
        slicer.app.connect("startupCompleted()", self.onStartupCompleted)

    def onStartupCompleted(self):
        from CTPerfusionSuiteLib.panel.sample_data import registerSampleData

        registerSampleData(self.resourcePath)


def registerDICOMPlugins():
    """Let the DICOM module know our import plugins before it looks for them; Slicer can be built without DICOM."""
    try:
        import DICOMLib  # noqa: F401
    except ImportError:
        logging.info("CTPerfusionSuite: no DICOM module, so no import of perfusion series")
        return
    from CTPerfusionSuiteLib.mrml_dicom_plugin import registerPlugins

    registerPlugins()


class SeriesShown(Enum):
    """Which series of a folder the worklist shows."""

    ANALYZABLE = "analyzable"
    ALL = "all"

    def label(self):
        return {SeriesShown.ANALYZABLE: _("Series that a module analyzes"), SeriesShown.ALL: _("All series, with the reason")}[self]


@parameterNodeWrapper
class CTPerfusionSuiteParameterNode:
    """State of the panel that belongs to the scene; folders are settings of the computer.

    seriesShown - which series of a folder the worklist shows
    """

    seriesShown: SeriesShown = SeriesShown.ANALYZABLE


class CTPerfusionSuiteWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Panel: one section a file in CTPerfusionSuiteLib.panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.sections = []
        self._parameterNode = None
        self._guiTag = None

    def setup(self):
        super().setup()
        from CTPerfusionSuiteLib.panel.models_section import ModelsSection
        from CTPerfusionSuiteLib.panel.parts_section import PartsSection
        from CTPerfusionSuiteLib.panel.sample_section import SampleSection
        from CTPerfusionSuiteLib.panel.worklist_section import WorklistSection

        uiWidget = slicer.util.loadUI(self.resourcePath("UI/CTPerfusionSuite.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = CTPerfusionSuiteLogic()
        self.worklist = WorklistSection(self.ui, self.showsAllSeries)
        self.sample = SampleSection(self.ui)
        self.parts = PartsSection(self.ui, self.resourcePath("CTPerfusionSuite-requirements.txt"))
        self.models = ModelsSection(self.ui)
        self.sections = [self.worklist, self.sample]
        scene = slicer.mrmlScene
        for event, observer in (
            (scene.StartCloseEvent, self.onSceneCloses),
            (scene.EndCloseEvent, self.onSceneEnds),
            (scene.StartImportEvent, self.onSceneImports),
            (scene.EndImportEvent, self.onSceneEnds),
        ):
            self.addObserver(scene, event, observer)
        slicer.app.connect("aboutToQuit()", self.stopChildren)
        self.initializeParameterNode()

    def enter(self):
        self.initializeParameterNode()
        self.parts.update()  # something may have been installed meanwhile

    def exit(self):
        self.setParameterNode(None)

    def cleanup(self):
        self.stopChildren()
        self.setParameterNode(None)
        self.removeObservers()
        slicer.app.disconnect("aboutToQuit()", self.stopChildren)

    def stopChildren(self):
        for section in self.sections:
            section.cleanup()

    def onSceneCloses(self, caller, event):
        self.worklist.sceneCloses()
        self.setParameterNode(None)

    def onSceneImports(self, caller, event):
        """The scene imports: stored references would be lost under a connected panel."""
        self.setParameterNode(None)

    def onSceneEnds(self, caller, event):
        self.sample.update()
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode):
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self._parameterNode.parameterNode, "ModifiedEvent", self.onParameters)
        self._parameterNode = parameterNode
        if parameterNode is not None:
            self._guiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode.parameterNode, "ModifiedEvent", self.onParameters)
            self.onParameters()

    def onParameters(self, caller=None, event=None):
        self.worklist.updateTable()

    def showsAllSeries(self):
        return self._parameterNode is not None and self._parameterNode.seriesShown == SeriesShown.ALL

    def onReload(self):
        """Reload the sections too, not the module file only."""
        for name in [name for name in sys.modules if name.startswith("CTPerfusionSuiteLib.panel.") and name.endswith("_section")]:
            del sys.modules[name]
        super().onReload()


class CTPerfusionSuiteLogic(ScriptedLoadableModuleLogic):
    """What the home offers without a panel."""

    def getParameterNode(self):
        return CTPerfusionSuiteParameterNode(super().getParameterNode())

    def worklist(self, folder):
        """Series below a folder with their kind and module, as a list of dictionaries.

        Raises
        ------
        RequestRefused
            The folder is missing, empty or cannot be read.
        """
        from CTPerfusionSuiteLib.dicom.worklist import make_worklist

        return [entry.as_dict() for entry in make_worklist(folder)]

    def installedParts(self):
        """(distribution, version or None, purpose) of every part the suite can use."""
        from CTPerfusionSuiteLib.doctor import examine

        return examine()

    def loadSample(self):
        """Make the sample study where it is missing and load it: its sequence node."""
        from CTPerfusionSuiteLib.panel.sample_data import makeAndLoadSample

        return makeAndLoadSample()


class CTPerfusionSuiteTest(ScriptedLoadableModuleTest):
    """What a newcomer does first."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        for story in (
            self.test_TheSampleComesWithSecondsAndHounsfieldUnits,
            self.test_AFolderIsSearchedAndItsPerfusionSeriesFound,
            self.test_ADicomStudyIsLoadedAsOneSequenceWithItsTimes,
            self.test_ASeriesATimePointIsLoadedAsOneSequenceAndNothingBeside,
        ):
            self.setUp()
            story()
        self.delayDisplay("Test passed")

    def test_TheSampleComesWithSecondsAndHounsfieldUnits(self):
        sequence = CTPerfusionSuiteLogic().loadSample()
        self.assertEqual((sequence.GetIndexName(), sequence.GetIndexUnit()), ("time", "s"))
        self.assertEqual(float(sequence.GetNthIndexValue(2)), 3.0)
        self.assertEqual(sequence.GetNthDataNode(5).GetVoxelValueUnits().GetCodeValue(), "[hnsf'U]")

    def test_AFolderIsSearchedAndItsPerfusionSeriesFound(self):
        with _TemporaryStudy("canon") as folder:
            entries = CTPerfusionSuiteLogic().worklist(folder)
        self.assertEqual(entries[0]["kind"], "brain perfusion")
        self.assertEqual(entries[0]["modules"][0], "PerfusionMaps")
        self.assertGreater(len(entries), 3)

    def test_ADicomStudyIsLoadedAsOneSequenceWithItsTimes(self):
        sequence = self.loadThroughTheDicomModule("shuttle")
        self.assertEqual(sequence.GetIndexUnit(), "s")
        self.assertTrue(sequence.GetNthDataNode(0).GetAttribute("CTPerfusionSuite.SliceTimes"))

    def test_ASeriesATimePointIsLoadedAsOneSequenceAndNothingBeside(self):
        sequence = self.loadThroughTheDicomModule("canon")
        self.assertEqual(sequence.GetNumberOfDataNodes(), 16)
        self.assertEqual(len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")), 1)

    def loadThroughTheDicomModule(self, style):
        """Import a simulated study, choose all its perfusion series and load them as the user does; the one sequence."""
        from DICOMLib import DICOMUtils

        with _TemporaryStudy(style) as folder, DICOMUtils.TemporaryDICOMDatabase(os.path.join(folder, "database")) as database:
            DICOMUtils.importDicom(os.path.join(folder, "dicom"), database)
            patients = database.patients()
            series = [uid for p in patients for study in database.studiesForPatient(p) for uid in database.seriesForStudy(study)]
            plugin = slicer.modules.dicomPlugins["CTPerfusionSequencePlugin"]()
            (loadable,) = plugin.examineForImport([list(database.filesForSeries(uid)) for uid in series])
            self.assertTrue(loadable.selected)
            DICOMUtils.loadSeriesByUID([uid for uid in series if set(database.filesForSeries(uid)) & set(loadable.files)])
        (sequence,) = slicer.util.getNodesByClass("vtkMRMLSequenceNode")
        return sequence


class _TemporaryStudy:
    """A small simulated study as DICOM in a folder that vanishes afterward."""

    def __init__(self, style):
        import tempfile

        self._folder, self._style = tempfile.TemporaryDirectory(ignore_cleanup_errors=True), style

    def __enter__(self):
        from CTPerfusionSuiteLib.cli import main

        study = os.path.join(self._folder.name, "study")
        words = ["phantom", "brain", "--out_dir", study, "--style", self._style, "--size", "48", "--slices", "4", "--frames", "16"]
        if main([*words, "--dt", "2.5", "--progress", "none"]):
            raise RuntimeError("the simulated study was not written")
        return study

    def __exit__(self, *exception):
        self._folder.cleanup()
