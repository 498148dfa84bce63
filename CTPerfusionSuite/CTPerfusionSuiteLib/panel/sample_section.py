"""The sample study: made on this computer while the window stays alive, loaded, and its truth told."""

import slicer
from slicer.i18n import tr as _

from CTPerfusionSuiteLib.errors import SuiteError
from CTPerfusionSuiteLib.panel.child_process import ChildProcess
from CTPerfusionSuiteLib.panel.sample_data import loadSample, sampleIsMade, sampleTruth, sampleWords
from CTPerfusionSuiteLib.panel.suite_modules import ModuleChoice, openIn

MODULES = ("PerfusionMaps", "StrokeSegmentation")


class SampleSection:
    """One button makes and loads the sample, another opens it in a module that analyzes it."""

    def __init__(self, ui):
        self.ui, self._child, self._loaded = ui, None, ""
        ui.sampleButton.clicked.connect(self.onSample)
        self.modules = ModuleChoice(ui.openSampleButton, ui.openSampleModule, self.onOpen)
        self.update()

    @property
    def running(self):
        return self._child is not None

    def cleanup(self):
        if self._child is not None:
            self._child.stopNow()

    def update(self):
        self.ui.sampleProgress.visible = self.running
        self.ui.sampleButton.text = _("Cancel") if self.running else _("Load sample")
        self.modules.offer(MODULES if self.sequence() is not None else ())

    def sequence(self):
        """The sample's sequence node while it is in the scene, else None."""
        return slicer.mrmlScene.GetNodeByID(self._loaded) if self._loaded else None

    def onOpen(self, *arguments):
        if self.sequence() is not None:
            openIn(self.modules.chosen(), self.sequence())

    def onSample(self, *arguments):
        if self.running:
            self._child.cancel()
        elif sampleIsMade():
            self._load()
        else:
            self.ui.sampleProgress.value = 0
            self._child = ChildProcess(sampleWords(), self._onProgress, self._onEnd)
            self.ui.sampleLabel.text = _("Making the study on this computer...")
            self.update()

    def _onProgress(self, title, fraction):
        self.ui.sampleProgress.value = int(100 * fraction)

    def _onEnd(self, code, document, message):
        self._child = None
        self.update()
        if code == 0:
            self._load()
        else:
            self.ui.sampleLabel.text = _("Canceled.") if code == 130 else _("The sample was not made: {why}.").format(why=message)

    def _load(self):
        try:
            with slicer.util.WaitCursor():
                sequence = loadSample()
        except SuiteError as problem:
            self.ui.sampleLabel.text = _("Not loaded: {reason}.").format(reason=problem)
            return
        truth = sampleTruth()
        self.ui.sampleLabel.text = _(
            "Loaded as {name}. True volumes: hypoperfusion {whole:.0f} mL, core {core:.0f} mL, penumbra {penumbra:.0f} mL."
        ).format(name=sequence.GetName(), whole=truth["hypoperfusion"], core=truth["core"], penumbra=truth["penumbra"])
        self._loaded = sequence.GetID()
        self.update()
