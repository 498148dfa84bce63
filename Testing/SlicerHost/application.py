"""`slicer.app`, `slicer.modules` and the main window around a real scene with its real logics."""

import tempfile
import types

import slicer
import vtk
from PySide6 import QtCore, QtWidgets

from SlicerHost import views
from SlicerHost.application_names import APPLICATION, StandIn, does_nothing, gives, refuse
from SlicerHost.widgets import qSlicerWidget


class qSlicerLoadableModule(StandIn):
    """A module of the application itself: its name, its logic and an empty panel."""

    def __init__(self, name, logic=None):
        self.name, self.title, self._logic, self._panel = name, name, logic, qSlicerWidget()
        setattr(slicer.modules, name.lower(), self)
        slicer.app._modules[name] = self

    logic, widgetRepresentation = gives("_logic"), gives("_panel")


class qSlicerIOManager(StandIn):
    """Reads and writes scenes and sequences for slicer.util's load and save functions; writes any node."""

    def fileWriterFileType(self, node):
        return node.GetClassName()

    def loadNodes(self, file_type, properties, loaded, messages=None):
        """Append the nodes of one file to a vtkCollection; False on failure."""
        path = properties["fileName"]
        properties.clear()  # slicer.util's default argument must not carry over
        if file_type == "SceneFile":
            return slicer.mrmlScene.ReadFromMRB(path, False, messages)
        if file_type != "SequenceFile":
            refuse("reading of files", file_type, (file_type,))
        logic, browser = slicer.modules.sequences.logic(), slicer.vtkMRMLSequenceBrowserNode()
        sequence = logic.AddSequence(path)
        if sequence is None:
            return False
        slicer.mrmlScene.AddNode(browser).SetAndObserveMasterSequenceNodeID(sequence.GetID())
        logic.UpdateProxyNodesFromSequences(browser)
        loaded.AddItem(sequence)
        return True

    def saveNodes(self, file_type, properties, messages=None):
        """Write one node, or the scene as .mrb or .mrml."""
        name, node, scene = str(properties["fileName"]), slicer.mrmlScene.GetNodeByID(properties.pop("nodeID", "")), slicer.mrmlScene
        if file_type == "SceneFile":
            return bool(scene.WriteToMRB(name, vtk.vtkImageData(), messages) if name.endswith(".mrb") else scene.Commit(name))
        node.AddDefaultStorageNode(name)
        return bool(node.GetStorageNode().WriteData(node))


class qSlicerMainWindow(QtWidgets.QMainWindow):
    """Module panel on the left, views in the middle; the window is its own module selector."""

    def __init__(self):
        super().__init__()
        self.objectName, self.windowTitle = "qSlicerMainWindow", "3D Slicer"
        self._panel, self._module, dock = QtWidgets.QScrollArea(), None, QtWidgets.QDockWidget()
        self._panel.setWidgetResizable(True)
        dock.setTitleBarWidget(QtWidgets.QWidget())
        dock.setWidget(self._panel)
        self.addDockWidget(QtCore.Qt.LeftDockWidgetArea, dock)
        slicer.app._layout_manager = views.qSlicerLayoutManager(self, slicer.app.applicationLogic())
        self.resize(1400, 900)
        self._panel.setFixedWidth(400)
        self.show()

    selectedModule = property(lambda self: self._module.name if self._module else "")

    def moduleSelector(self):
        return self

    def selectModule(self, name):
        """Leave the module that is entered, show and enter another."""
        module = slicer.app.moduleManager().module(name)
        if module is None or self._module is module:
            return
        if self._module:
            self._module.widgetRepresentation()._enter(False)
        self._module = module
        self._panel.takeWidget()
        self._panel.setWidget(module.widgetRepresentation())
        module.widgetRepresentation().show()
        module.widgetRepresentation()._enter()


class app(QtWidgets.QApplication):
    """`slicer.app`; named so because its names are listed under slicer.app."""

    startupCompleted = QtCore.Signal()

    def __init__(self):
        super().__init__(["Slicer"])
        self.applicationName, self.applicationVersion, self.organizationName = "Slicer", "5.13.0-2026-08-21", "SlicerHost"
        self._folder = tempfile.TemporaryDirectory(prefix="SlicerHost", ignore_cleanup_errors=True)
        QtCore.QSettings.setDefaultFormat(QtCore.QSettings.IniFormat)
        QtCore.QSettings.setPath(QtCore.QSettings.IniFormat, QtCore.QSettings.UserScope, self._folder.name)
        self._layout_manager, self._window, self._testing, self._options = None, None, True, types.SimpleNamespace()
        self._modules, self._io, self._logic = {}, qSlicerIOManager(), slicer.vtkSlicerApplicationLogic()
        self._manager, self._settings = types.SimpleNamespace(module=self._modules.get), QtCore.QSettings()

    temporaryPath = cachePath = property(lambda self: self._folder.name)
    applicationLogic, layoutManager, moduleManager = gives("_logic"), gives("_layout_manager"), gives("_manager")
    coreIOManager, testingEnabled, commandOptions = gives("_io"), gives("_testing"), gives("_options")
    pauseRender, resumeRender, settings, userSettings = does_nothing, does_nothing, gives("_settings"), gives("_settings")


def make_scene(application):
    """The scene with the logics of the application's modules, as slicer.mrmlScene and slicer.modules."""
    scene, logic = slicer.vtkMRMLScene(), application.applicationLogic()
    slicer.mrmlScene, slicer.app = scene, application
    slicer.modules = types.SimpleNamespace(dicomPlugins={}, sampleDataSources={})
    cache, data = slicer.vtkCacheManager(), slicer.vtkDataIOManager()  # scene bundles are unpacked in the cache
    cache.SetRemoteCacheDirectory(f"{application.temporaryPath}/cache")
    data.SetCacheManager(cache)
    scene.SetDataIOManager(data)
    logic.SetTemporaryPath(application.temporaryPath)
    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)  # the wheel carries no color and terminology files
    logic.SetMRMLScene(scene)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    scene.AddNewNodeByClass("vtkMRMLCrosshairNode").SetSingletonTag("default")
    for name, class_name in APPLICATION["logics"].items():
        module = qSlicerLoadableModule(name, getattr(slicer, class_name)())
        module.logic().SetMRMLApplicationLogic(logic)
        module.logic().SetMRMLScene(scene)
        logic.SetModuleLogic(name, module.logic())
    qSlicerLoadableModule("SegmentEditor")
    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_ERROR)
    logic.SetColorLogic(slicer.modules.colors.logic())
    application._nodes = _follow_nodes(scene)


def _follow_nodes(scene):
    """Items in the subject hierarchy for data nodes that come and go; the Python halves of all nodes, whose observers need them."""

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def came(caller, event, node):
        kept.add(node)
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        wanted = any(node.IsA(f"vtkMRML{kind}Node") for kind in APPLICATION["nodes_in_subject_hierarchy"]) and not node.GetHideFromEditors()
        if wanted and not scene.IsImporting() and not hierarchy.GetItemByDataNode(node):
            hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def went(caller, event, node):
        kept.discard(node)
        hierarchy = scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
        if hierarchy and not scene.IsClosing() and hierarchy.GetItemByDataNode(node):
            hierarchy.RemoveItem(hierarchy.GetItemByDataNode(node), False, False)

    kept = set(map(scene.GetNthNode, range(scene.GetNumberOfNodes())))
    scene.AddObserver(scene.NodeAddedEvent, came)
    scene.AddObserver(scene.NodeRemovedEvent, went)
    scene.AddObserver(scene.EndImportEvent, lambda *_a: [came(scene, "", node) for node in list(kept)])
    return kept
