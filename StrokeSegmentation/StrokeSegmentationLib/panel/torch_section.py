"""What to install where PyTorch is missing; hidden where it is there."""

import importlib

from slicer.i18n import tr as _

from CTPerfusionSuiteLib.panel.section import Section

from ..mrml_stroke_readiness import NO_TORCH, torchIsInstalled


class TorchSection(Section):
    """A sentence and a button; everything else of the panel works without PyTorch."""

    def __init__(self, panel, ui):
        super().__init__(panel, ui)
        ui.installTorchButton.clicked.connect(self._onInstall)

    def settingsChanged(self):
        """The panel was entered: PyTorch may have come meanwhile."""
        importlib.invalidate_caches()
        missing = not torchIsInstalled()
        self._ui.torchBox.setVisible(missing)
        text = NO_TORCH + "; " + _("results of other computers can be opened and compared without it")
        self._ui.torchLabel.text = text + "."

    def _onInstall(self, *arguments):
        from CTPerfusionSuiteLib.panel.install_box import installTorch

        first = installTorch()
        self.settingsChanged()
        if first:
            self._ui.torchLabel.text = first
        self._panel.updateApply()
