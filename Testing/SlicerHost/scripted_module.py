"""`slicer.ScriptedLoadableModule`: the base classes of scripted modules, and the application's side of them."""

import importlib.util
import os
import sys
import traceback
import types
import unittest

import slicer
from PySide6 import QtWidgets

from SlicerHost.application_names import StandIn, does_nothing, gives
from SlicerHost.pythonqt import SLOT_ERRORS
from SlicerHost.scene_widgets import qSlicerWidget


class qSlicerScriptedLoadableModule(StandIn):
    """`parent` of a module: what the application knows about a module file."""

    _slicer_name = "slicer.qSlicerScriptedLoadableModule"

    def __init__(self, path):
        self.path, self.name = path, os.path.splitext(os.path.basename(path))[0]
        self.title, self.categories, self.dependencies, self.contributors, self.associatedNodeTypes = self.name, [], [], [], []
        self.helpText = self.acknowledgementText = ""
        self.hidden, self.widgetRepresentationCreationEnabled, self.index, self.icon, self._panel = False, True, -1, None, None

    logic = does_nothing

    def widgetRepresentation(self):
        if self._panel is None and self.widgetRepresentationCreationEnabled:
            self._panel = self.createNewWidgetRepresentation()
        return self._panel

    def createNewWidgetRepresentation(self):
        return qSlicerScriptedLoadableModuleWidget(self)


class qSlicerScriptedLoadableModuleWidget(qSlicerWidget):
    """The frame a module's panel is built in."""

    isEntered, self = property(lambda frame: frame._entered), gives("_widget")

    def __init__(frame, module):
        super().__init__()
        QtWidgets.QVBoxLayout(frame)
        frame._module, frame._entered = module, False
        frame.setMRMLScene(slicer.mrmlScene)
        frame.reload()

    def reload(frame):
        """New instance of the module's widget class, set up; an exception leaves the panel half built."""
        frame._widget = getattr(sys.modules[frame._module.name], f"{frame._module.name}Widget")(frame)
        frame._call("setup")

    def _call(frame, method):
        try:
            getattr(frame._widget, method, lambda: None)()
        except Exception as error:
            traceback.print_exc()
            SLOT_ERRORS.append(error)

    def _enter(frame):
        frame._entered = True
        frame._call("enter")

    def _leave(frame):
        frame._entered = False
        frame._call("exit")


def run_module_test(name, **options):
    getattr(sys.modules[name], f"{name}Test")().runTest(**options)


class ScriptedLoadableModule:
    def __init__(self, parent):
        self.parent, self.moduleName = parent, type(self).__name__
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, filename):
        return os.path.join(os.path.dirname(slicer.util.modulePath(self.moduleName)), "Resources", filename)

    def getDefaultModuleDocumentationLink(self, docPage=None):
        return ""

    def runTest(self, msec=100, **kwargs):
        run_module_test(self.moduleName, **kwargs)


class ScriptedLoadableModuleWidget:
    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Widget")
        if parent is None:
            parent = qSlicerWidget()
            QtWidgets.QVBoxLayout(parent)
            parent.setMRMLScene(slicer.mrmlScene)
        self.parent, self.layout = parent, parent.layout()
        setattr(slicer.modules, type(self).__name__, self)

    resourcePath, setup, cleanup = ScriptedLoadableModule.resourcePath, does_nothing, does_nothing

    def onReload(self):
        slicer.util.reloadScriptedModule(self.moduleName)

    def onReloadAndTest(self, **kwargs):
        self.onReload()
        run_module_test(self.moduleName, **kwargs)


class ScriptedLoadableModuleLogic:
    def __init__(self, parent=None):
        self.parent, self.isSingletonParameterNode, self.moduleName = parent, True, type(self).__name__.removesuffix("Logic")

    def getParameterNode(self):
        """The module's parameter node; made when there is none."""
        if self.isSingletonParameterNode:
            node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        else:
            node = next(iter(self.getAllParameterNodes()), None)
        return node or slicer.mrmlScene.AddNode(self.createParameterNode())

    def getAllParameterNodes(self):
        nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
        return [node for node in nodes if node.GetAttribute("ModuleName") == self.moduleName]

    def createParameterNode(self):
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    def __init__(self, *args, **kwargs):
        super().__init__(*args or ("runTest",), **kwargs)

    takeScreenshot = does_nothing

    def delayDisplay(self, message, requestedDelay=None, msec=None):
        slicer.util.delayDisplay(message, 0)

    def runTest(self):
        for name in sorted(name for name in dir(self) if name.startswith("test")):
            self.setUp()
            getattr(self, name)()


def as_module():
    module = types.ModuleType("slicer.ScriptedLoadableModule")
    vars(module).update({name: value for name, value in globals().items() if name.startswith("ScriptedLoadableModule")})
    return module


def load_modules(folders):
    """Discover <folder>/*.py, put the folders on sys.path, then instantiate every module; returns them by name."""
    paths = {name[:-3]: os.path.join(folder, name) for folder in folders for name in sorted(os.listdir(folder)) if name.endswith(".py")}
    sys.path += [folder for folder in folders if folder not in sys.path]
    instances = {}
    for name, path in paths.items():
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
        parent = qSlicerScriptedLoadableModule(path)
        setattr(slicer.modules, name.lower(), parent)
        instances[name] = getattr(sys.modules[name], name)(parent)
        setattr(slicer.modules, f"{name}Instance", instances[name])
        missing = [d for d in parent.dependencies if d not in paths and slicer.app.moduleManager().module(d) is None]
        if missing:
            raise RuntimeError(f"{name} depends on {', '.join(missing)}, which is not among the module paths")
        slicer.app.moduleManager()._modules[name] = parent
    return instances
