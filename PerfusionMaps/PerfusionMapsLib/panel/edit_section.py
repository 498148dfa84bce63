"""Edit: an own brain mask, excluded regions, frames and slices; the next run takes them."""

import slicer
from slicer.i18n import tr as _

from CTPerfusionSuiteLib.panel.section import Section

from ..mrml_readiness import isResult, ownResult
from .segment_choice import SegmentChoice


class EditSection(Section):
    """Segments for the next run, drawn in Slicer's Segment Editor."""

    def __init__(self, panel, ui):
        super().__init__(panel, ui)
        self._brain = SegmentChoice(panel, ui.brainMaskSelector, "brainMask", "brainMaskSegment")
        ui.drawBrainButton.clicked.connect(self._onDrawBrain)
        ui.drawExcludedButton.clicked.connect(self._onDrawExcluded)

    def update(self):
        self._brain.update()
        settings = self._panel.settings
        self._ui.drawBrainButton.enabled = settings.brainMask is not None or isResult(settings.result)

    def _onDrawBrain(self, *arguments):
        """The brain of the shown result becomes a segment; what was drawn before is edited further."""
        settings = self._panel.settings
        if settings.brainMask is None:
            from CTPerfusionSuiteLib.mrml import segmentationNode, setSegment, terminology, valuesOf

            mean, mask = (settings.result.GetNodeReference(role) for role in ("images.mean_ct", "masks.brain_mask"))
            brain = ("12738006", "Brain")
            entry = terminology(("123037004", "Anatomical Structure"), brain, brain)
            node = segmentationNode(f"{settings.result.GetName()} brain mask", mean, [("brain", _("Brain"), (250, 250, 225), entry)])
            setSegment(node, "brain", valuesOf(mask), mean)
            with slicer.util.NodeModify(settings.parameterNode):
                settings.brainMask, settings.brainMaskSegment = node, "brain"
        self._edit(settings.brainMask)

    def _onDrawExcluded(self, *arguments):
        settings = self._panel.settings
        if settings.excludedRegions is None:
            from CTPerfusionSuiteLib.mrml import segmentationNode, terminology

            from ..mrml_study import referenceVolume

            reference = referenceVolume(settings)
            if reference is None:
                self._panel.say(_("choose a series before you draw regions to leave out of it"))
                return
            entry = terminology(("49755003", "Morphologically Altered Structure"), ("55641003", "Infarct"), ("12738006", "Brain"))
            name = slicer.mrmlScene.GetUniqueNameByString(_("Excluded regions"))
            settings.excludedRegions = segmentationNode(name, reference, [("excluded", _("Excluded"), (150, 150, 150), entry)])
        self._edit(settings.excludedRegions)

    def _edit(self, segmentation):
        """Open the Segment Editor on a segmentation; without a window there is nothing to open."""
        if slicer.util.mainWindow() is None:
            return
        tag = "SegmentEditor"
        editorNode = slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLSegmentEditorNode")
        if editorNode is None:
            editorNode = slicer.vtkMRMLSegmentEditorNode()
            editorNode.SetSingletonTag(tag)
            editorNode = slicer.mrmlScene.AddNode(editorNode)
        editorNode.SetAndObserveSegmentationNode(segmentation)
        editorNode.SetAndObserveSourceVolumeNode(self._drawnOn())
        slicer.util.selectModule(tag)

    def _drawnOn(self):
        """What the user draws on: the mean CT of the shown result, else the volume that shows the series."""
        from CTPerfusionSuiteLib.mrml_sequences import shownVolume

        settings = self._panel.settings
        result = ownResult(settings)
        volume = result.GetNodeReference("images.mean_ct") if result is not None else shownVolume(settings.inputNode)
        return volume if volume is not None and volume.IsA("vtkMRMLScalarVolumeNode") else None
