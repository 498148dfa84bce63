"""Slicer face of the brain CT perfusion pipeline: choose a study, run it in a child process, see the maps over the mean CT."""

import json
import os
import shutil

import qt
import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
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
            "Research use only."
        )
        parent.acknowledgementText = ""


class PerfusionMapsWidget(ScriptedLoadableModuleWidget):
    """Panel: study folder, result folder, Apply / Cancel, progress."""

    def setup(self):
        super().setup()
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/PerfusionMaps.ui"))
        self.layout.addWidget(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        self.logic = PerfusionMapsLogic()
        self.process = None
        self.ui.applyButton.clicked.connect(self.onApply)
        for selector in (self.ui.studyFolder, self.ui.resultFolder):
            selector.currentPathChanged.connect(self.updateApply)
        slicer.app.aboutToQuit.connect(self.cancel)
        self.updateApply()

    def cleanup(self):
        self.cancel()

    def updateApply(self, *arguments):
        ready = bool(self.ui.studyFolder.currentPath) and bool(self.ui.resultFolder.currentPath)
        self.ui.applyButton.enabled = ready or self.process is not None
        self.ui.applyButton.text = _("Cancel") if self.process else _("Apply")
        self.ui.applyButton.toolTip = "" if ready else _("Choose the folder of the study and a folder for the result.")

    def onApply(self, *arguments):
        if self.process:
            self.cancel()
            return
        self.resultFolder = os.path.join(self.ui.resultFolder.currentPath, "perfusion")
        program, words, environment = self.logic.command(self.ui.studyFolder.currentPath, self.resultFolder)
        self.process = qt.QProcess(slicer.util.mainWindow())
        variables = qt.QProcessEnvironment.systemEnvironment()
        for name, value in environment.items():
            variables.insert(name, value)
        self.process.setProcessEnvironment(variables)
        self.process.readyReadStandardOutput.connect(self.onLines)
        self.process.finished.connect(self.onFinished)
        self.process.errorOccurred.connect(self.onStartFailed)
        self.process.start(program, words)
        self.updateApply()

    def onLines(self):
        while self.process and self.process.canReadLine():
            message = json.loads(self.process.readLine().data().decode("utf-8", "replace"))
            if message["event"] == "progress":
                self.ui.statusLabel.text = message["title"]
                self.ui.progressBar.value = int(100 * message["fraction"])
            elif message["event"] == "refused":
                self.ui.statusLabel.text = message["message"]

    def onFinished(self, exitCode):
        self.process = None
        self.updateApply()
        if exitCode == 0:
            self.ui.statusLabel.text = _("Result in {folder}").format(folder=self.resultFolder)
            with slicer.util.tryWithErrorDisplay(_("The maps could not be shown."), waitCursor=True):
                self.logic.showResult(self.resultFolder)

    def onStartFailed(self, error):
        if error == qt.QProcess.FailedToStart:
            self.ui.statusLabel.text = _("The analysis could not be started: PythonSlicer was not found.")
            self.process = None
            self.updateApply()

    def cancel(self):
        if self.process:
            process, self.process = self.process, None
            process.closeWriteChannel()
            if not process.waitForFinished(1800):
                process.kill()
            self.ui.statusLabel.text = _("Canceled")
            self.ui.progressBar.value = 0
            self.updateApply()


class PerfusionMapsLogic(ScriptedLoadableModuleLogic):
    """Runs the pipeline from folders and shows its result; needs no widget."""

    def command(self, studyFolder, resultFolder):
        """Program, arguments and environment of the child process that analyzes a DICOM folder."""
        import CTPerfusionSuiteLib
        import PerfusionMapsLib

        folders = [os.path.dirname(os.path.dirname(os.path.abspath(lib.__file__))) for lib in (CTPerfusionSuiteLib, PerfusionMapsLib)]
        folders += [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        words = ["-m", "CTPerfusionSuiteLib.cli", "maps", "--dicom_dir", studyFolder, "--out_dir", resultFolder]
        words += ["--overwrite", "--progress", "json"]
        return shutil.which("PythonSlicer"), words, {"PYTHONPATH": os.pathsep.join(folders)}

    def showResult(self, resultFolder):
        """Load mean CT, maps and lesion masks; show Tmax over the mean CT.  Returns the nodes by name."""
        with open(os.path.join(resultFolder, "metrics.json"), encoding="utf-8") as file:
            metrics = json.load(file)
        nodes = {}
        for name, title in (
            ("mean_ct", "Mean CT (HU)"),
            ("cbf", "CBF (mL/100 g/min)"),
            ("cbv", "CBV (mL/100 g)"),
            ("mtt", "MTT (s)"),
            ("tmax", "Tmax (s)"),
        ):
            nodes[name] = slicer.util.loadVolume(os.path.join(resultFolder, f"{name}.nii.gz"), {"name": title, "show": False})
        for name in sorted(os.listdir(resultFolder)):
            if name.startswith(("hypoperf_mask", "core_mask", "penumbra_mask")):
                nodes[name] = slicer.util.loadSegmentation(os.path.join(resultFolder, name))
        nodes["tmax"].GetDisplayNode().AutoWindowLevelOff()
        nodes["tmax"].GetDisplayNode().SetWindowLevelMinMax(0.0, 12.0)
        slicer.util.setSliceViewerLayers(background=nodes["mean_ct"], foreground=nodes["tmax"], foregroundOpacity=0.5, fit=True)
        return nodes, metrics


class PerfusionMapsTest(ScriptedLoadableModuleTest):
    """A simulated study goes through the same child process a user starts."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_SimulatedStudyIsAnalyzedAndShown()

    def test_SimulatedStudyIsAnalyzedAndShown(self):
        import subprocess
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            logic = PerfusionMapsLogic()
            program, words, environment = logic.command(os.path.join(folder, "study", "dicom"), os.path.join(folder, "result"))
            environment = {**os.environ, **environment}
            phantom = ["-m", "CTPerfusionSuiteLib.cli", "phantom", "brain", "--out_dir", os.path.join(folder, "study"), "--seed", "3"]
            subprocess.run([program, *phantom], env=environment, check=True)
            subprocess.run([program, *words], env=environment, check=True, stdin=subprocess.DEVNULL)
            nodes, metrics = logic.showResult(os.path.join(folder, "result"))
            self.assertGreater(metrics["volumes_ml"]["hypoperfusion"], 0)
            self.assertIn("tmax", nodes)
