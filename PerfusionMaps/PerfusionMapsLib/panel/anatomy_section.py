"""Anatomy registered on request: to the shown result, in the background, without analyzing the series again."""

import slicer
from slicer.i18n import tr as _

from CTPerfusionSuiteLib.panel.background_work import BackgroundWork
from CTPerfusionSuiteLib.panel.section import Section

from ..mrml_readiness import isResult
from .maps_analysis import LIBRARIES


class AnatomyRegistration(BackgroundWork):
    """An anatomical image of the scene comes onto the grid of a result, as its image "anatomy".

    Parameters
    ----------
    resultNode, anatomy : vtkMRMLTextNode, vtkMRMLScalarVolumeNode
    onProgress : callable(title, fraction)
    onEnd : callable(resultNode, message)
        Once: the result's node, or None and one sentence ("" when canceled).
    """

    preparingTitle, loadingTitle = "Writing the anatomical image", "Loading the registered image"
    libraries = LIBRARIES
    steps = (("Reading the images", 5), ("Registering the anatomical image", 90), ("Writing the image", 5))

    def __init__(self, resultNode, anatomy, onProgress, onEnd):
        self._resultNode, self._anatomy = resultNode, anatomy
        super().__init__(onProgress, onEnd)

    def prepare(self, folder):
        from CTPerfusionSuiteLib.mrml import geometryOf, valuesOf
        from CTPerfusionSuiteLib.volume_nrrd import writing_volume

        from ..mrml_result import resultFromNode
        from ..mrml_study import writingAnatomy

        resultFromNode(self._resultNode)  # refuses one that has lost its images
        mean = self._resultNode.GetNodeReference("images.mean_ct")
        words = ["register", "--progress", "json", "--out_file", str(folder / "registered.nii.gz")]
        words += ["--fixed", str(folder / "mean_ct.nrrd"), "--moving", str(folder / "anatomy.nrrd")]
        for fraction in writing_volume(folder / "mean_ct.nrrd", valuesOf(mean), geometryOf(mean)):
            yield 0.1 * fraction
        for fraction in writingAnatomy(self._anatomy, folder / "anatomy.nrrd", mean):
            yield 0.1 + 0.9 * fraction
        return words

    def load(self, folder):
        from ..mrml_result import loadingAnatomy

        return loadingAnatomy(self._resultNode, folder / "registered.nii.gz")


class AnatomySection(Section):
    """The button beside the anatomy; Apply shows its progress and stops it."""

    def __init__(self, panel, ui):
        super().__init__(panel, ui)
        ui.registerButton.clicked.connect(self._onRegister)

    def update(self):
        missing = self._whatIsMissing()
        ready = _("Register the anatomy rigidly to the mean CT of the shown result, in the background; nothing else is computed again.")
        self._ui.registerButton.enabled = missing is None
        self._ui.registerButton.toolTip = missing or ready

    def _whatIsMissing(self):
        settings = self._panel.settings
        if self._panel.run is not None:
            return _("Wait for the end of what is running, or cancel it.")
        if settings.anatomy is None:
            return _("Choose a non-contrast CT, a CT angiography or an MR of the same patient.")
        if not isResult(settings.result):
            return _("There is no result yet: Apply registers the anatomy with the analysis.")
        return None

    def _onRegister(self, *arguments):
        settings, panel = self._panel.settings, self._panel
        self._panel.begin(panel.logic.startRegistration(settings.result, settings.anatomy, panel.onProgress, self._onEnd))

    def _onEnd(self, resultNode, message):
        self._panel.ended(resultNode, message, _("The anatomy is registered and lies under the map; compare it with the mean CT."))
        settings = self._panel.settings
        if resultNode is not None and settings is not None and settings.result is resultNode:
            self._panel.results.imagesChanged()
            with slicer.util.NodeModify(settings.parameterNode):
                settings.background = "images.anatomy"
