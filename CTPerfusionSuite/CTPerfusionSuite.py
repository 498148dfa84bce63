"""Slicer face of the suite's home: what is installed, and the library all modules share."""

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)


class CTPerfusionSuite(ScriptedLoadableModule):
    """Home of the CT perfusion modules."""

    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("CT Perfusion Suite")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Quantification")]
        parent.dependencies = []
        parent.contributors = ["CTPerfusionSuite contributors"]
        parent.helpText = _("Home of the CT perfusion modules: what is installed and what is missing. Research use only.")
        parent.acknowledgementText = ""


class CTPerfusionSuiteWidget(ScriptedLoadableModuleWidget):
    """Panel: a table of the parts the suite can use."""

    def setup(self):
        super().setup()
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/CTPerfusionSuite.ui"))
        self.layout.addWidget(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        self.logic = CTPerfusionSuiteLogic()
        lines = [f"{name}: {version or _('missing')} ({purpose})" for name, version, purpose in self.logic.installedParts()]
        self.ui.partsText.plainText = "\n".join(lines)


class CTPerfusionSuiteLogic(ScriptedLoadableModuleLogic):
    """What the suite can use on this machine."""

    def installedParts(self):
        """(distribution, version or None, purpose) of every part."""
        from CTPerfusionSuiteLib.doctor import examine

        return examine()


class CTPerfusionSuiteTest(ScriptedLoadableModuleTest):
    """The parts that everything needs are there."""

    def runTest(self):
        self.setUp()
        self.test_NeededPartsAreFound()

    def test_NeededPartsAreFound(self):
        found = {name: version for name, version, _purpose in CTPerfusionSuiteLogic().installedParts()}
        for name in ("numpy", "scipy", "pydicom"):
            self.assertTrue(found[name], name)
