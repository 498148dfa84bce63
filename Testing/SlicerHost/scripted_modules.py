"""Scripted modules, their base classes and what they import by name: ScriptedLoadableModule, i18n, packaging, SampleData, DICOMLib."""

import contextlib
import importlib.metadata
import importlib.util
import os
import pathlib
import sys
import types
import unittest

import pydicom
import slicer
from packaging.requirements import Requirement
from PySide6 import QtWidgets

from SlicerHost import parameter_node
from SlicerHost.application_names import ListedModule, StandIn, does_nothing, gives
from SlicerHost.pythonqt import make_slot
from SlicerHost.widgets import qSlicerWidget


class qSlicerScriptedLoadableModule(StandIn):
    """`parent` of a module: what the application knows about a module file."""

    _panel = None

    def __init__(self, path):
        self.path, self.name = path, os.path.splitext(os.path.basename(path))[0]
        self.title, self.dependencies = self.name, []

    def widgetRepresentation(self):
        self._panel = self._panel or self.createNewWidgetRepresentation()
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
        make_slot(frame._widget.setup)()

    def _enter(frame, entered=True):
        frame._entered = entered
        make_slot(getattr(frame._widget, "enter" if entered else "exit", lambda: None))()


class ScriptedLoadableModule:
    def __init__(self, parent):
        self.parent, self.moduleName = parent, type(self).__name__

    def resourcePath(self, filename):
        return os.path.join(os.path.dirname(slicer.util.modulePath(self.moduleName)), "Resources", filename)

    def runTest(self, msec=100, **kwargs):
        getattr(sys.modules[self.moduleName], f"{self.moduleName}Test")().runTest(**kwargs)


class ScriptedLoadableModuleWidget:
    def __init__(self, parent=None):
        self.moduleName, self.parent, self.layout = type(self).__name__.removesuffix("Widget"), parent, parent.layout()
        setattr(slicer.modules, type(self).__name__, self)

    resourcePath, setup, cleanup = ScriptedLoadableModule.resourcePath, does_nothing, does_nothing

    def onReload(self):
        slicer.util.reloadScriptedModule(self.moduleName)


class ScriptedLoadableModuleLogic:
    def __init__(self, parent=None):
        self.parent, self.isSingletonParameterNode, self.moduleName = parent, True, type(self).__name__.removesuffix("Logic")

    def getParameterNode(self):
        """The module's parameter node; made when there is none."""
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(self.moduleName)
            node.SetAttribute("ModuleName", self.moduleName)
            node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
            node = slicer.mrmlScene.AddNode(node)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    def delayDisplay(self, message, requestedDelay=None, msec=None):
        slicer.util.delayDisplay(message, 0)


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
        slicer.app._modules[name] = parent
    return instances


def pip_check(requirements):
    """True if every requirement is met by what is installed."""
    wanted = [Requirement(str(r)) for r in (requirements if isinstance(requirements, (list, tuple)) else [requirements])]
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return all(r.specifier.contains(importlib.metadata.version(r.name), prereleases=True) for r in wanted)
    return False


def pip_ensure(requirements, prompt_install=True, requester="", skip_in_testing=True, **options):
    """Nothing with --testing, nor where all is there; else asks once."""
    if (slicer.app.testingEnabled() and skip_in_testing) or pip_check(requirements):
        return
    if prompt_install and not slicer.util.confirmOkCancelDisplay(str(requirements), f"{requester} - Install Python Packages"):
        raise RuntimeError("User declined package installation")
    slicer.packaging.pip_install(requirements)


class SampleDataLogic:
    """Sample data sets; a customDownloader runs from the panel's button only."""

    @staticmethod
    def registerCustomSampleDataSource(category="Custom", sampleName=None, uris=None, fileNames=None, nodeNames=None, customDownloader=None,
                                       thumbnailFileName=None, loadFileTypes=None, loadFiles=None, checksums=None):  # fmt: skip
        source = types.SimpleNamespace(**locals())
        if uris is None or fileNames is None:
            raise TypeError("uris and fileNames must not be None")
        slicer.modules.sampleDataSources.setdefault(category, []).append(source)

    def sourceForSampleName(self, sampleName):
        every = (source for sources in slicer.modules.sampleDataSources.values() for source in sources)
        return next((source for source in every if source.sampleName == sampleName), None)


class vtkMRMLMultiVolumeNode(slicer.vtkMRMLScalarVolumeNode):
    """A volume with a component a frame: from MultiVolumeExplorer, which Slicer bundles and the wheel lacks."""

    def GetClassName(self):
        return "vtkMRMLMultiVolumeNode"

    def IsA(self, name):
        return name == self.GetClassName() or super().IsA(name)


class DICOMLoadable:
    """One thing a plugin offers to load."""

    def __init__(self):
        self.name, self.tooltip, self.warning, self.files = "Unknown", "No further information available", "", []
        self.selected, self.confidence, self.referencedInstanceUIDs = False, 0.5, []


class DICOMPlugin:
    """Base class of import plugins."""

    def __init__(self):
        self.loadType, self.tags = "Generic DICOM", {"seriesDescription": "0008,103E", "seriesNumber": "0020,0011"}

    def addSeriesInSubjectHierarchy(self, loadable, dataNode):
        """Patient and study items by the UIDs of the first file, the node's item below them."""
        uids = [slicer.dicomDatabase.fileValue(loadable.files[0], tag) for tag in ("0010,0020", "0020,000D", "0020,000E")]
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        hierarchy.SetItemUID(hierarchy.GetItemByDataNode(dataNode), slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMUIDName(), uids[2])
        slicer.vtkSlicerSubjectHierarchyModuleLogic.InsertDicomSeriesInHierarchy(hierarchy, *uids)


def _values(keyword, parent=None):
    """A method that lists the values of a DICOM keyword, of all headers or of those whose `parent` is the one given."""

    def find(self, *uid):
        found = [header for header in self._headers.values() if not uid or header.get(parent) == uid[0]]
        return tuple(dict.fromkeys(str(header.get(keyword)) for header in found))

    return find


class ctkDICOMDatabase(StandIn):
    """Headers of folders held in memory; also the context manager `DICOMUtils.TemporaryDICOMDatabase`."""

    patients, studiesForPatient = _values("PatientID"), _values("StudyInstanceUID", "PatientID")
    seriesForStudy, filesForSeries = _values("SeriesInstanceUID", "StudyInstanceUID"), _values("filename", "SeriesInstanceUID")

    def __init__(self, directory=None):
        self._headers = {}

    def __enter__(self):
        self._before, slicer.dicomDatabase = slicer.dicomDatabase, self
        return self

    def __exit__(self, *exception):
        slicer.dicomDatabase = self._before

    def fileValue(self, path, tag):
        """Text of a value, "" where it is missing; the tag as "0008,0032"."""
        element = self._headers[path].get(tuple(int(part, 16) for part in tag.split(",")))
        value = "" if element is None or element.value is None else element.value
        return "\\".join(map(str, value)) if element and element.VM > 1 else str(value)


def import_dicom(folder, database):
    for path in filter(pathlib.Path.is_file, pathlib.Path(folder).rglob("*")):
        with contextlib.suppress(pydicom.errors.InvalidDicomError):
            database._headers[str(path)] = pydicom.dcmread(path, stop_before_pixels=True)


def load_series(series):
    """Load everything that the registered plugins offer as selected for series UIDs given together."""
    files = [list(slicer.dicomDatabase.filesForSeries(uid)) for uid in series]
    for plugin in [plugin_class() for plugin_class in slicer.modules.dicomPlugins.values()]:
        for loadable in plugin.examineForImport(files):
            if loadable.selected:
                plugin.load(loadable)


def make_modules():
    """{module name: module}"""
    utilities = {"TemporaryDICOMDatabase": ctkDICOMDatabase, "importDicom": import_dicom, "loadSeriesByUID": load_series}
    contents = {
        "slicer.i18n": {"tr": lambda text: text, "translate": lambda context, text: text},
        "slicer.packaging": {"pip_check": pip_check, "pip_ensure": pip_ensure, "pip_install": does_nothing},
        "slicer.parameterNodeWrapper": vars(parameter_node),
        "slicer.ScriptedLoadableModule": globals(),
        "SampleData": {"SampleDataLogic": SampleDataLogic},
        "DICOMLib": {"DICOMLoadable": DICOMLoadable, "DICOMPlugin": DICOMPlugin, "DICOMUtils": types.SimpleNamespace(**utilities)},
    }
    return {name: ListedModule(name, things) for name, things in contents.items()}
