"""DICOMLib and a DICOM database held in memory: enough to run an import plugin."""

import contextlib
import os
import types

import pydicom
import slicer

from SlicerHost.application_names import StandIn


class DICOMLoadable:
    """One thing a plugin offers to load."""

    def __init__(self):
        self.name, self.tooltip, self.warning, self.files = "Unknown", "No further information available", "", []
        self.selected, self.confidence, self.referencedInstanceUIDs = False, 0.5, []


class DICOMPlugin:
    """Base class of import plugins."""

    def __init__(self):
        self.loadType, self.tags, self.cache = "Generic DICOM", {"seriesDescription": "0008,103E", "seriesNumber": "0020,0011"}, {}

    def examineForImport(self, fileList):
        """Loadables of lists of files; a plugin's examineFiles goes before its examine, as in 5.13."""
        key = str(fileList)
        if key not in self.cache:
            found = [loadable for files in fileList for loadable in self.examineFiles(files)] if hasattr(self, "examineFiles") else []
            self.cache[key] = found or self.examine(fileList)
        return self.cache[key]

    def examine(self, fileLists):
        return []

    def load(self, loadable):
        return True

    def addSeriesInSubjectHierarchy(self, loadable, dataNode):
        """Patient and study items from the first file's header, the node's item below them."""
        if not loadable.files or dataNode is None:
            return
        value, names = slicer.dicomDatabase.fileValue, slicer.vtkMRMLSubjectHierarchyConstants
        hierarchy, first = slicer.mrmlScene.GetSubjectHierarchyNode(), loadable.files[0]
        series, uids = hierarchy.GetItemByDataNode(dataNode), [value(first, tag) for tag in ("0010,0020", "0020,000D", "0020,000E")]
        hierarchy.SetItemUID(series, names.GetDICOMUIDName(), uids[2])
        logic = slicer.vtkSlicerSubjectHierarchyModuleLogic
        logic.InsertDicomSeriesInHierarchy(hierarchy, *uids)
        study = hierarchy.GetItemParent(series)
        for item, attributes in (
            (series, {names.GetDICOMSeriesModalityAttributeName(): "0008,0060", names.GetDICOMSeriesNumberAttributeName(): "0020,0011"}),
            (study, {names.GetDICOMStudyInstanceUIDTagName(): "0020,000D", names.GetDICOMStudyDescriptionAttributeName(): "0008,1030"}),
        ):
            for name, tag in attributes.items():
                hierarchy.SetItemAttribute(item, name, value(first, tag))
        hierarchy.SetItemName(study, value(first, "0008,1030") or "No study description")
        hierarchy.SetItemName(hierarchy.GetItemParent(study), value(first, "0010,0010") or "No name")


class ctkDICOMDatabase(StandIn):
    """Headers of a folder, by file and by series."""

    _slicer_name, isOpen = "ctk.ctkDICOMDatabase", True

    def __init__(self):
        self._headers = {}

    def _add(self, folder):
        for path in sorted(os.path.join(parent, name) for parent, _folders, names in os.walk(folder) for name in names):
            with contextlib.suppress(pydicom.errors.InvalidDicomError):
                self._headers[path] = pydicom.dcmread(path, stop_before_pixels=True)

    def _find(self, keyword, **wanted):
        found = [h for h in self._headers.values() if all(h.get(k) == v for k, v in wanted.items())]
        return tuple(dict.fromkeys(str(h.get(keyword)) for h in found))

    def _of_file(self, path, keyword):
        return self._headers[path].get(keyword, "") if path in self._headers else ""

    def patients(self):
        return self._find("PatientID")

    def studiesForPatient(self, patient):
        return self._find("StudyInstanceUID", PatientID=patient)

    def seriesForStudy(self, study):
        return self._find("SeriesInstanceUID", StudyInstanceUID=study)

    def instancesForSeries(self, series):
        return self._find("SOPInstanceUID", SeriesInstanceUID=series)

    def filesForSeries(self, series):
        return tuple(path for path, header in self._headers.items() if header.SeriesInstanceUID == series)

    def fileForInstance(self, uid):
        return next((path for path, header in self._headers.items() if header.SOPInstanceUID == uid), "")

    def instanceForFile(self, path):
        return self._of_file(path, "SOPInstanceUID")

    def seriesForFile(self, path):
        return self._of_file(path, "SeriesInstanceUID")

    def fileValue(self, path, tag):
        """Text of a value, "" where it is missing; the tag as "0008,0032"."""
        element = self._headers[path].get(tuple(int(part, 16) for part in tag.split(","))) if path in self._headers else None
        if element is None or element.value is None or element.VR == "SQ":
            return ""
        value = element.value.decode("ascii", "replace") if isinstance(element.value, bytes) else element.value
        return "\\".join(str(v) for v in value) if element.VM > 1 else str(value).strip(" \0")

    def fileValueExists(self, path, tag):
        return self.fileValue(path, tag) != ""

    def instanceValue(self, uid, tag):
        return self.fileValue(self.fileForInstance(uid), tag)


@contextlib.contextmanager
def TemporaryDICOMDatabase(directory=None):
    before, slicer.dicomDatabase = slicer.dicomDatabase, ctkDICOMDatabase()
    try:
        yield slicer.dicomDatabase
    finally:
        slicer.dicomDatabase = before


def importDicom(folder, database=None):
    (database or slicer.dicomDatabase)._add(folder)
    return True


def loadables_of(series):
    """[(plugin, loadable)] that the registered plugins offer for series UIDs given together, best first."""
    files = [list(slicer.dicomDatabase.filesForSeries(uid)) for uid in series]
    plugins = [plugin_class() for plugin_class in slicer.modules.dicomPlugins.values()]
    offers = [(plugin, loadable) for plugin in plugins for loadable in plugin.examineForImport(files)]
    return sorted(offers, key=lambda offer: -offer[1].confidence)


def loadSeriesByUID(series):
    """Load everything that is selected; IDs of the nodes that came."""
    before = set(slicer.util.getNodes("*", useLists=False).values())
    for plugin, loadable in loadables_of(series):
        if loadable.selected:
            plugin.load(loadable)
    return [node.GetID() for nodes in slicer.util.getNodes("*", useLists=True).values() for node in nodes if node not in before]


def make_modules():
    """{"DICOMLib": module, "DICOMLib.DICOMUtils": module}"""
    library, utilities = types.ModuleType("DICOMLib"), types.ModuleType("DICOMLib.DICOMUtils")
    vars(library).update(DICOMPlugin=DICOMPlugin, DICOMLoadable=DICOMLoadable, DICOMUtils=utilities)
    vars(utilities).update(TemporaryDICOMDatabase=TemporaryDICOMDatabase, importDicom=importDicom, loadSeriesByUID=loadSeriesByUID)
    slicer.qSlicerDICOMLoadable = DICOMLoadable
    return {"DICOMLib": library, "DICOMLib.DICOMUtils": utilities}
