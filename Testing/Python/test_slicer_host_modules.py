"""The stand-in Slicer runs module files unchanged: panels, reload, self-tests, child processes, DICOM plugins, sample data."""

import sys

import pytest

MODULE = '''
import qt
import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import *
from slicer.util import VTKObservationMixin


class HostSample(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Host sample")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Quantification")]
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="CT perfusion", sampleName="HostSample1", uris="", fileNames="x", nodeNames=None,
        customDownloader=lambda source: slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", source.sampleName))


@parameterNodeWrapper
class HostSampleParameterNode:
    smooth: bool = True


class HostSampleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.calls, self.tag = ["init"], None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/HostSample.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = HostSampleLogic()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onEndClose)
        self.calls.append("setup")
        self.bind()

    def bind(self):
        self.parameters = self.logic.getParameterNode()
        self.tag = self.parameters.connectGui(self.ui)

    def unbind(self):
        if self.tag is not None:
            self.parameters.disconnectGui(self.tag)
            self.tag = None

    def enter(self):
        self.calls.append("enter")

    def exit(self):
        self.calls.append("exit")

    def cleanup(self):
        self.calls.append("cleanup")
        self.removeObservers()

    def onStartClose(self, caller, event):
        self.unbind()
        self.calls.append("close")

    def onEndClose(self, caller, event):
        if self.parent.isEntered:
            self.bind()
            self.calls.append("bound again")


class HostSampleLogic(ScriptedLoadableModuleLogic):
    def getParameterNode(self):
        return HostSampleParameterNode(super().getParameterNode())


class HostSampleTest(ScriptedLoadableModuleTest):
    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_Smooth()

    def test_Smooth(self):
        self.delayDisplay("Starting")
        self.assertTrue(HostSampleLogic().getParameterNode().smooth)
'''
UI = """<ui version="4.0"><class>HostSample</class><widget class="qMRMLWidget" name="HostSample"><layout class="QVBoxLayout" name="rows">
<item><widget class="QCheckBox" name="smoothCheck"><property name="SlicerParameterName" stdset="0"><string>smooth</string></property>
</widget></item></layout></widget></ui>"""


@pytest.fixture
def sample(slicer_host, tmp_path_factory):
    """The host with the module HostSample, added once."""
    if "HostSample" not in slicer_host.modules:
        folder = tmp_path_factory.mktemp("modules") / "HostSample"
        (folder / "Resources" / "UI").mkdir(parents=True)
        (folder / "HostSample.py").write_text(MODULE)
        (folder / "Resources" / "UI" / "HostSample.ui").write_text(UI)
        slicer_host.add_modules([folder])
    return slicer_host


def test_a_module_lives_through_setup_enter_exit_and_scene_close(sample):
    import slicer

    slicer.util.selectModule("CTPerfusionSuite")
    panel = sample.widget("HostSample")
    panel.calls.clear()
    assert not panel.parent.isEntered and slicer.modules.hostsample.title == "Host sample"
    sample.open("HostSample")
    assert panel.parent.isEntered and slicer.util.selectedModule() == "HostSample"
    panel.ui.smoothCheck.checked = False
    slicer.mrmlScene.Clear()
    assert panel.parameters.smooth is True and panel.ui.smoothCheck.checked
    slicer.util.selectModule("CTPerfusionSuite")
    slicer.mrmlScene.Clear()
    assert panel.calls == ["enter", "close", "bound again", "exit", "close"]
    assert slicer.util.getModuleLogic("HostSample") is panel.logic


def test_reload_cleans_up_and_sets_up_a_new_panel_without_entering_it(sample):
    import slicer

    old = sample.open("HostSample")
    old.onReload()
    new = sample.widget("HostSample")
    assert new is not old and old.calls[-1] == "cleanup" and new.calls == ["init", "setup"]
    assert slicer.modules.HostSampleWidget is new and type(new) is sys.modules["HostSample"].HostSampleWidget
    slicer.util.selectModule("CTPerfusionSuite")


def test_an_exception_in_setup_is_reported_and_the_panel_is_still_entered(sample, capsys):
    import slicer

    widget = sys.modules["HostSample"].HostSampleWidget
    original, widget.setup = widget.setup, lambda self: 1 / 0
    try:
        parent = slicer.modules.hostsample.createNewWidgetRepresentation()
        parent._enter()
    finally:
        widget.setup = original
    assert parent.self().calls == ["init", "enter"] and "ZeroDivisionError" in capsys.readouterr().err
    assert [type(error) for error in sample.slot_errors] == [ZeroDivisionError]
    sample.slot_errors.clear()


def test_a_modules_own_test_runs(sample):
    sample.modules["HostSample"].runTest()
    sample.modules["CTPerfusionSuite"].runTest()


def test_sample_data_is_generated_by_its_button_only(sample):
    import SampleData

    source = SampleData.SampleDataLogic().sourceForSampleName("HostSample1")
    assert source.customDownloader(source).GetName() == "HostSample1"
    with pytest.raises(TypeError):
        SampleData.SampleDataLogic.registerCustomSampleDataSource(sampleName="x", customDownloader=print)


def test_every_face_of_the_suite_opens_unchanged_and_fast(slicer_host):
    import slicer

    for name in ("CTPerfusionSuite", "PerfusionMaps", "StrokeSegmentation"):
        panel = slicer_host.open(name)
        assert panel.parent.isEntered and slicer.util.findChildren(panel.parent, className="QPushButton") is not None
    slicer.util.selectModule("CTPerfusionSuite")


def test_a_module_name_that_slicer_does_not_have_cannot_be_set_on_its_parent(sample):
    import slicer

    with pytest.raises(AttributeError):
        slicer.modules.hostsample.license = "Apache"


def test_packages_are_installed_only_when_missing_asked_for_and_not_while_testing(slicer_host, monkeypatch):
    import qt
    import slicer

    installed, requirements = [], ["numpy>=1.20", "no-such-package>=1"]
    monkeypatch.setattr(slicer.packaging, "pip_install", installed.append)
    assert slicer.packaging.pip_check(requirements[0]) and not slicer.packaging.pip_check(requirements)
    slicer.packaging.pip_ensure(requirements, requester="CTPerfusionSuite")
    assert slicer_host.dialogs == installed == []  # --testing
    slicer_host.application._testing = False
    slicer.packaging.pip_ensure(requirements[:1], requester="CTPerfusionSuite")
    assert slicer_host.dialogs == []
    slicer_host.answers.append(qt.QMessageBox.Cancel)
    with pytest.raises(RuntimeError, match="declined"):
        slicer.packaging.pip_ensure(requirements, requester="CTPerfusionSuite")
    assert installed == [] and slicer_host.dialogs[0][0] == "CTPerfusionSuite - Install Python Packages"
    slicer.packaging.pip_ensure(requirements, requester="CTPerfusionSuite")
    assert installed == [requirements]


def test_module_files_import_only_what_slicer_allows_at_the_top(slicer_host):
    import slicer

    assert slicer.util.modulePath("PerfusionMaps").endswith("PerfusionMaps.py")
    assert "slicer" in sys.modules and slicer.app.applicationVersion.startswith("5.")
    assert slicer.app.testingEnabled()
