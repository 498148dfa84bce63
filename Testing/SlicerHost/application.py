"""`slicer.app`, `slicer.modules` and the main window around a real scene with its real logics."""

import os
import sys
import tempfile
import types

import slicer
import vtk
from PySide6 import QtCore, QtWidgets

from SlicerHost import views
from SlicerHost.application_names import StandIn, does_nothing, gives
from SlicerHost.data_files import qSlicerIOManager
from SlicerHost.layout_manager import qSlicerLayoutManager

LOGICS = {  # module -> class of its logic
    "Colors": "vtkSlicerColorLogic",
    "Data": "vtkSlicerDataModuleLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Models": "vtkSlicerModelsLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Units": "vtkSlicerUnitsLogic",
    "Volumes": "vtkSlicerVolumesLogic",
}


class ModulePanel(QtWidgets.QWidget):
    """The (empty) panel of one of the application's own modules."""

    _enter = _leave = does_nothing


class qSlicerLoadableModule(StandIn):
    """A module of the application itself: its name, its logic and an empty panel."""

    _slicer_name = "slicer.qSlicerLoadableModule"

    def __init__(self, name, logic):
        self.name, self.title, self._logic, self._panel = name, name, logic, ModulePanel()
        self.autoShowToolBar, self.toolBarVisible = True, False

    logic, widgetRepresentation, setToolBarActiveBrowserNode = gives("_logic"), gives("_panel"), does_nothing


class qSlicerModuleManager:
    """Modules by name."""

    def __init__(self):
        self._modules = {}

    def module(self, name):
        return self._modules.get(name)

    def loadedModuleNames(self):
        return tuple(self._modules)

    def factoryManager(self):
        return self

    modulesNames, connect, disconnect = loadedModuleNames, does_nothing, does_nothing


class ModuleSelector(QtWidgets.QWidget):
    """Enters and leaves modules; the panel shows the module that is entered."""

    def __init__(self, panel):
        super().__init__()
        self._panel, self._selected = panel, None

    selectedModule = property(lambda self: self._selected.name if self._selected else "")

    def selectModule(self, name):
        module = slicer.app.moduleManager().module(name)
        if module is None or self._selected is module:
            return
        if self._selected:
            self._selected.widgetRepresentation()._leave()
        self._selected = module
        self._panel.takeWidget()
        self._panel.setWidget(module.widgetRepresentation())
        module.widgetRepresentation().show()
        module.widgetRepresentation()._enter()


class qSlicerMainWindow(QtWidgets.QMainWindow):
    """Module panel on the left, views in the middle."""

    def __init__(self):
        super().__init__()
        self.objectName, self.windowTitle = "qSlicerMainWindow", "3D Slicer"
        panel, dock, frame = QtWidgets.QScrollArea(), QtWidgets.QDockWidget(), QtWidgets.QWidget()
        panel.setWidgetResizable(True)
        dock.setTitleBarWidget(QtWidgets.QWidget())
        dock.setWidget(panel)
        self.addDockWidget(QtCore.Qt.LeftDockWidgetArea, dock)
        QtWidgets.QVBoxLayout(frame).setContentsMargins(0, 0, 0, 0)
        self.setCentralWidget(frame)
        self._selector = ModuleSelector(panel)
        self.resize(1400, 900)
        self.resizeDocks([dock], [400], QtCore.Qt.Horizontal)

    moduleSelector = gives("_selector")


class app(QtWidgets.QApplication):
    """`slicer.app`; named so because its names are listed under slicer.app."""

    startupCompleted = QtCore.Signal()
    majorVersion, minorVersion, revision, repositoryRevision, releaseType, arch = 5, 13, "34908", "34908", "Preview", "amd64"
    mainApplicationName, mainApplicationMajorVersion, mainApplicationMinorVersion = "Slicer", 5, 13

    def __init__(self):
        super().__init__(["Slicer"])
        self.applicationName, self.applicationVersion, self.organizationName = "Slicer", "5.13.0-2026-08-21", "SlicerHost"
        self._folder = tempfile.TemporaryDirectory(prefix="SlicerHost", ignore_cleanup_errors=True)
        QtCore.QSettings.setDefaultFormat(QtCore.QSettings.IniFormat)
        QtCore.QSettings.setPath(QtCore.QSettings.IniFormat, QtCore.QSettings.UserScope, self._folder.name)
        self._layout_manager, self._window, self._testing = None, None, True
        self._modules, self._io, self._logic = qSlicerModuleManager(), qSlicerIOManager(), slicer.vtkSlicerApplicationLogic()
        self._make_python_slicer()

    temporaryPath = cachePath = slicerHome = property(lambda self: self._folder.name)
    launcherExecutableFilePath = property(lambda self: sys.executable)
    applicationLogic, layoutManager, moduleManager = gives("_logic"), gives("_layout_manager"), gives("_modules")
    coreIOManager, ioManager, testingEnabled = gives("_io"), gives("_io"), gives("_testing")
    pauseRender = resumeRender = setRenderPaused = pythonConsole = does_nothing

    def commandOptions(self):
        return types.SimpleNamespace(runPythonAndExit=False)

    def _make_python_slicer(self):
        """bin/PythonSlicer on the PATH: this interpreter."""
        folder, windows = os.path.join(self.slicerHome, "bin"), sys.platform == "win32"
        os.makedirs(folder)
        script = os.path.join(folder, "PythonSlicer.cmd" if windows else "PythonSlicer")
        with open(script, "w", encoding="utf-8") as file:
            file.write(f'@"{sys.executable}" %*\n' if windows else f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        os.chmod(script, 0o755)
        os.environ["PATH"] = folder + os.pathsep + os.environ["PATH"]

    def mrmlScene(self):
        return slicer.mrmlScene

    def settings(self):
        return QtCore.QSettings()

    userSettings = revisionUserSettings = settings

    def startupEnvironment(self):
        return QtCore.QProcessEnvironment.systemEnvironment()


def make_scene(application):
    """The scene with the logics of the application's modules, as slicer.mrmlScene and slicer.modules."""
    scene, logic = slicer.vtkMRMLScene(), application.applicationLogic()
    slicer.mrmlScene, slicer.app = scene, application
    slicer.modules = types.SimpleNamespace(dicomPlugins={}, sampleDataSources={})
    cache, data = slicer.vtkCacheManager(), slicer.vtkDataIOManager()  # scene bundles are unpacked in the cache
    folder = os.path.join(application.temporaryPath, "cache")
    os.makedirs(folder)
    with open(os.path.join(folder, ".slicer-cache"), "w", encoding="utf-8"):
        cache.SetRemoteCacheDirectory(folder)
    data.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(data)
    logic.SetTemporaryPath(application.temporaryPath)
    logic.SetMRMLScene(scene)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    scene.AddNewNodeByClass("vtkMRMLCrosshairNode").SetSingletonTag("default")
    for name, class_name in LOGICS.items():
        module = qSlicerLoadableModule(name, getattr(slicer, class_name)())
        module.logic().SetMRMLApplicationLogic(logic)
        module.logic().SetMRMLScene(scene)
        logic.SetModuleLogic(name, module.logic())
        setattr(slicer.modules, name.lower(), module)
        application.moduleManager()._modules[name] = module
    application.moduleManager()._modules["SegmentEditor"] = slicer.modules.segmenteditor = qSlicerLoadableModule("SegmentEditor", None)
    logic.SetColorLogic(slicer.modules.colors.logic())
    views.register_displayable_managers(logic)
    _follow_subject_hierarchy(scene)
    application._nodes = _keep_wrappers(scene)


def _keep_wrappers(scene):
    """The Python halves of all nodes of the scene, kept alive.

    Garbage collection clears the observers of a wrapper that only a reference cycle held, though the node lives on, and
    the next event would crash.
    """
    kept = set()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def added(caller, event, node):
        kept.add(node)

    def changed(caller, event):
        kept.clear()
        kept.update(scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes()))

    scene.AddObserver(scene.NodeAddedEvent, added)
    for event in (scene.NodeRemovedEvent, scene.EndCloseEvent, scene.EndImportEvent):
        scene.AddObserver(event, changed)
    changed(scene, None)
    return kept


def _follow_subject_hierarchy(scene):
    """Data nodes get an item in the subject hierarchy when they come and lose it when they go."""
    kinds = "Volume Segmentation Table Markups Model Sequence SequenceBrowser Text Transform PlotChart PlotSeries".split()

    def add(node):
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        wanted = any(node.IsA(f"vtkMRML{kind}Node") for kind in kinds) and not node.GetHideFromEditors()
        if wanted and not hierarchy.GetItemByDataNode(node):
            hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def added(caller, event, node):
        if not scene.IsImporting():
            add(node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def leaving(caller, event, node):
        hierarchy = scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
        if hierarchy and not scene.IsClosing() and hierarchy.GetItemByDataNode(node):
            hierarchy.RemoveItem(hierarchy.GetItemByDataNode(node), False, False)

    def imported(caller, event):
        for index in range(scene.GetNumberOfNodes()):
            add(scene.GetNthNode(index))

    for event, call in ((scene.NodeAddedEvent, added), (scene.NodeAboutToBeRemovedEvent, leaving), (scene.EndImportEvent, imported)):
        scene.AddObserver(event, call)


def open_main_window(application):
    application._window = window = qSlicerMainWindow()
    application._layout_manager = qSlicerLayoutManager(window.centralWidget(), application.applicationLogic())
    window.show()
