"""What the panels of all analyses share: the parameter node, the sections that read it, and Apply, which runs in the background."""

import sys
from dataclasses import dataclass

import ctk
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from CTPerfusionSuiteLib.mrml_study_settings import carrier
from CTPerfusionSuiteLib.panel.analysis_run import finishTidying
from CTPerfusionSuiteLib.panel.idle_imports import IdleImports


@dataclass(frozen=True)
class Sentences:
    """What a panel says of its run.

    Attributes
    ----------
    ready : str
        Tooltip of Apply.
    done : str
        After a run.
    elsewhere : str
        After a run of a study that is not shown any more; `{study}` is the result's name.
    """

    ready: str
    done: str
    elsewhere: str


class AnalysisPanel(VTKObservationMixin):
    """Runs one module's panel; the module's widget makes it in `setup` and forwards its life cycle.

    Parameters
    ----------
    widget : ScriptedLoadableModuleWidget
        With `ui` and `logic`; the .ui has applyButton, progressBar and statusLabel.
    analysis : Analysis
    sentences : Sentences
    sections : callable(panel) -> list of Section
        Makes them, in the order in which they follow a change.

    Attributes
    ----------
    settings : the module's parameter node, or None while it is left
    whatIsMissing : callable(settings) -> str or None
        Why a run cannot start: the logic's own, unless a section that knows more replaces it.
    run : BackgroundWork or None
    """

    def __init__(self, widget, analysis, sentences, sections):
        VTKObservationMixin.__init__(self)
        self.widget, self.ui, self.logic = widget, widget.ui, widget.logic
        self.analysis, self._sentences = analysis, sentences
        self.settings, self.run, self._guiTag = None, None, None
        self.whatIsMissing = self.logic.whatIsMissing
        self._imports = IdleImports(analysis.libraries)
        self._seriesKinds = self.ui.inputSelector.nodeTypes
        self._paths = [child for child in vars(self.ui).values() if isinstance(child, ctk.ctkPathLineEdit)]
        self.sections = sections(self)
        self.ui.applyButton.clicked.connect(self.onApply)
        slicer.app.aboutToQuit.connect(self.onQuit)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.StartImportEvent, self.onSceneStartImport)
        self.addObserver(scene, scene.StartSaveEvent, self.onSceneStartSave)
        for event in (scene.EndCloseEvent, scene.EndImportEvent):
            self.addObserver(scene, event, self.onSceneCame)
        self.enter()

    def enter(self):
        self.setSettings(self.logic.getParameterNode())
        self._imports.start()

    def exit(self):
        self._imports.stop()
        self.setSettings(None)

    def cleanup(self):
        if self.run is not None:
            self.run.cancel(quietly=True)
        self._imports.stop()
        self.setSettings(None)
        for section in self.sections:
            section.cleanup()
        slicer.app.aboutToQuit.disconnect(self.onQuit)
        self.removeObservers()

    def onSceneStartClose(self, caller, event):
        self.stopRun()
        self.setSettings(None)

    def onSceneStartImport(self, caller, event):
        # A bound node selector would wipe node parameters that are being read.
        self.setSettings(None)

    def onSceneStartSave(self, caller, event):
        # Slicer's dialog tells of this; a script that saves does not, and the panel's own button calls `flush`.
        self.flush()

    def flush(self):
        """Finish what was put off: before the scene is saved."""
        finishTidying()
        for section in self.sections:
            section.flush()

    def onSceneCame(self, caller, event):
        if self.widget.parent.isEntered:
            self.enter()

    def setSettings(self, settings):
        """Observe and show another parameter node; None lets go of the present one."""
        if self.settings is not None:
            for section in self.sections:
                section.flush()
            self.settings.disconnectGui(self._guiTag)
            self.removeObserver(self.settings.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onSettings)
        self.settings = settings
        if settings is not None:
            self._guiTag = settings.connectGui(self.ui)
            self._offerAllSeries()
            # After the bound widgets, whose observers have priority 0.
            self.addObserver(settings.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onSettings, priority=-1.0)
        for section in self.sections:
            section.settingsChanged()
        self.onSettings()

    def _offerAllSeries(self):
        """Binding a selector leaves it the classes of the parameter's annotation, which cannot name that of multi-volumes: Slicer has it
        only once its module is loaded."""
        selector = self.ui.inputSelector
        blocked = selector.blockSignals(True)
        selector.nodeTypes = self._seriesKinds
        selector.setCurrentNode(self.settings.inputNode)
        selector.blockSignals(blocked)

    def _clearEmptyPaths(self):
        """A path that is not given is bound as ".", which looks like a folder."""
        for edit in self._paths:
            if edit.currentPath == ".":
                blocked = edit.blockSignals(True)
                edit.currentPath = ""
                edit.blockSignals(blocked)

    def onSettings(self, caller=None, event=None):
        self._clearEmptyPaths()
        if self.settings is not None:
            for section in self.sections:
                section.update()
        self.updateApply()

    def updateApply(self):
        """Apply, Cancel, or a tooltip that says what is missing."""
        missing = self.whatIsMissing(self.settings) if self.settings is not None else ""
        ending = self.run is not None and self.run.canceled
        self.ui.applyButton.text = _("Canceling...") if ending else _("Cancel") if self.run else _("Apply")
        self.ui.progressBar.setVisible(self.run is not None)
        self.ui.applyButton.enabled = not ending and (self.run is not None or missing is None)
        self.ui.applyButton.toolTip = _("Stop; nothing is kept of it.") if self.run else missing or self._sentences.ready

    def say(self, text):
        """One sentence under the Apply button."""
        self.ui.statusLabel.text = text[:1].upper() + text[1:]

    def onApply(self, *arguments):
        """Begin a run, or stop what is running."""
        if self.run is not None:
            self.run.cancel()
            self.updateApply()
            return
        self.begin(self.logic.start(self.settings, self.onProgress, self.onEnd))

    def begin(self, work):
        """Show work that was started with `onProgress` of this panel and an `onEnd` that calls `ended`."""
        self.run = work
        self.ui.progressBar.value = 0
        self.say(_("Starting"))
        self.onSettings()

    def ended(self, value, message, done):
        """The work is over: show `message`, or `done` where it gave a value; returns the work."""
        work, self.run = self.run, None
        self.ui.progressBar.value = 100 if value is not None else 0
        self.say(message or (done if value is not None else _("Canceled; nothing was kept.")))
        self.onSettings()
        return work

    def onProgress(self, title, fraction):
        self.ui.progressBar.value = round(100 * fraction)
        self.say(title)

    def onEnd(self, resultNode, message):
        """The run is over: with a result, a refusal, or (no message) a cancel."""
        run = self.ended(resultNode, message, self._sentences.done)
        if resultNode is not None:
            settings, study = self.settings or self.logic.getParameterNode(), carrier(run.inputNode)
            if carrier(settings.inputNode) is study:
                settings.result = resultNode
            else:
                if study is not None:
                    self.analysis.memory.rememberResult(study, resultNode)
                self.say(self._sentences.elsewhere.format(study=run.name))

    def stopRun(self):
        if self.run is not None:
            self.run.cancel()

    def onQuit(self):
        if self.run is not None:
            self.run.stopNow()


def forgetLibrary(name):
    """Drop a module's library, so that reloading the module reads it anew."""
    for loaded in [loaded for loaded in sys.modules if loaded.partition(".")[0] == name]:
        del sys.modules[loaded]
