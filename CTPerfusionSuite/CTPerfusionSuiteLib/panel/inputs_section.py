"""Inputs: the series or a DICOM folder, its time table, and an anatomical image."""

import slicer
from slicer.i18n import tr as _

from CTPerfusionSuiteLib.mrml_study_settings import carrier, hasFolder
from CTPerfusionSuiteLib.panel.section import Section
from CTPerfusionSuiteLib.panel.time_table import TimeTable, askStep

PROXY_ATTRIBUTE = "Sequences.BaseName"
"""What Slicer gives to the nodes that show an item of a sequence."""


class InputsSection(Section):
    """Shows the time axis of the chosen series and takes corrections of it.

    Another series brings its own settings, by the memory of the panel's analysis.
    """

    def __init__(self, panel, ui):
        super().__init__(panel, ui)
        self._memory, self._shown = panel.analysis.memory, None
        # Of all volumes only those that show a sequence: a result alone brings twenty others.
        ui.inputSelector.addAttribute("vtkMRMLScalarVolumeNode", PROXY_ATTRIBUTE)
        self._table = TimeTable(ui.timesTable, self._onTimes, self._refused)
        ui.pasteTimesButton.clicked.connect(lambda *arguments: self._table.paste(slicer.app.clipboard().text()))
        ui.evenTimesButton.clicked.connect(self._onEven)
        ui.restoreTimesButton.clicked.connect(self._onRestore)

    def settingsChanged(self):
        self._shown = None

    def update(self):
        """Read the time axis again when another series was chosen or its times were edited."""
        settings = self._panel.settings
        self._switchStudy(settings)
        node, times = settings.inputNode, list(settings.times)
        key = (node.GetID() if node is not None else str(settings.dicomFolder), tuple(times))
        if key == self._shown:
            return
        self._shown = key
        self._ui.timesGroup.enabled = node is not None
        if node is None:
            self._table.show([], "")
            self._ui.timesSummary.text = "" if not hasFolder(settings) else _("Times are read from the DICOM headers.")
            return
        from CTPerfusionSuiteLib.errors import SuiteError
        from CTPerfusionSuiteLib.mrml_sequences import frameCount, timesOf

        frames = frameCount(node)
        if times and len(times) == frames:
            self._show(times, settings.timesSource)
            return
        try:
            found, source = timesOf(node)
        except SuiteError as problem:
            self._table.show([], "", frames)
            self._refused(str(problem))
            self._ui.timesGroup.collapsed = frames == 0
            return
        self._show(found if found.ndim == 1 else found.min(axis=1), source, sliceTimes=found.ndim == 2)

    def _switchStudy(self, settings):
        """Another series brings its own settings, and takes none along."""
        if settings.inputNode is None and settings.studyNode is None:
            return
        before, study = settings.studyNode, carrier(settings.inputNode)
        if before is study:
            return
        with slicer.util.NodeModify(settings.parameterNode):
            if before is not None:
                self._memory.remember(settings, before)
            # What was typed before any study was chosen is meant for the first one.
            if before is not None or hasFolder(settings) or self._memory.remembers(study):
                self._memory.recall(settings, study)
            settings.studyNode = study

    def _show(self, times, source, sliceTimes=False):
        times = [float(time) for time in times]
        self._table.show(times, source)
        steps = [after - before for before, after in zip(times, times[1:], strict=False)]
        same = max(steps) - min(steps) < 0.05
        apart = f"{steps[0]:.2f}" if same else f"{min(steps):.2f}\u2013{max(steps):.2f}"
        text = _("{frames} frames over {span:.1f} s, {apart} s apart ({source}).")
        text = text.format(frames=len(times), span=times[-1] - times[0], apart=apart, source=source)
        self._ui.timesSummary.text = text + (" " + _("Slices have their own times.") if sliceTimes else "")

    def _refused(self, reason):
        self._ui.timesSummary.text = reason[:1].upper() + reason[1:] + "."

    def _onTimes(self, times, source):
        settings = self._panel.settings
        with slicer.util.NodeModify(settings.parameterNode):
            settings.timesSource = source
            settings.times = times

    def _onEven(self, *arguments):
        step = askStep()
        if step > 0:
            self._table.setEvenSteps(step)

    def _onRestore(self, *arguments):
        settings = self._panel.settings
        with slicer.util.NodeModify(settings.parameterNode):
            settings.timesSource = ""
            settings.times = []
        self._shown = None
        self.update()
