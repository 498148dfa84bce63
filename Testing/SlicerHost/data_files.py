"""Reading and writing data files: `slicer.app.coreIOManager()`, which slicer.util's load and save functions call."""

import os

import slicer
import vtk

from SlicerHost.application_names import StandIn

_TYPES = (  # file type and ends of the file name; the first that fits
    ("SceneFile", (".mrml", ".mrb")),
    ("SegmentationFile", (".seg.nrrd", ".seg.nhdr")),
    ("SequenceFile", (".seq.nrrd", ".seq.mrb", ".seq.nhdr")),
    ("MarkupsFile", (".mrk.json", ".fcsv")),
    ("ColorTableFile", (".ctbl",)),
    ("TableFile", (".tsv", ".csv")),
    ("TransformFile", (".tfm", ".h5")),
    ("TextFile", (".txt", ".json")),
    ("ModelFile", (".vtk", ".vtp", ".stl", ".ply", ".obj")),
    ("VolumeFile", (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd", ".hdr")),
)
_VOLUME_OPTIONS = {"labelmap": 1, "center": 2, "singleFile": 4, "autoWindowLevel": 8, "discardOrientation": 16}


def _logic(module):
    return getattr(slicer.modules, module).logic()


def _volume(path, name, properties):
    options = sum(bit for key, bit in _VOLUME_OPTIONS.items() if properties.get(key))
    node = _logic("volumes").AddArchetypeVolume(path, name, options)
    if node and properties.get("colorNodeID"):
        node.GetDisplayNode().SetAndObserveColorNodeID(properties["colorNodeID"])
    if node and properties.get("show", True):
        selection = slicer.app.applicationLogic().GetSelectionNode()
        (selection.SetActiveLabelVolumeID if properties.get("labelmap") else selection.SetActiveVolumeID)(node.GetID())
        slicer.app.applicationLogic().PropagateVolumeSelection()
    return node


def _sequence(path, name, properties):
    node = _logic("sequences").AddSequence(path)
    if node:
        browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{node.GetName()} browser")
        browser.SetAndObserveMasterSequenceNodeID(node.GetID())
        _logic("sequences").UpdateProxyNodesFromSequences(browser)
        proxy = browser.GetProxyNode(node)
        if properties.get("show", True) and proxy and proxy.IsA("vtkMRMLVolumeNode"):
            slicer.util.setSliceViewerLayers(background=proxy, fit=slicer.app.layoutManager() is not None)
    return node


def _text(path, name, properties):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", name)
    with open(path, encoding="utf-8") as file:
        node.SetText(file.read())
    return node


def _scene(path, name, properties):
    if path.endswith(".mrb"):
        return bool(slicer.mrmlScene.ReadFromMRB(path, bool(properties.get("clear")), slicer.vtkMRMLMessageCollection()))
    slicer.mrmlScene.SetURL(path)
    return bool(slicer.mrmlScene.Import())


_READERS = {
    "SceneFile": _scene,
    "VolumeFile": _volume,
    "SequenceFile": _sequence,
    "TextFile": _text,
    "SegmentationFile": lambda path, name, _p: _logic("segmentations").LoadSegmentationFromFile(path, True, name),
    "MarkupsFile": lambda path, name, _p: slicer.mrmlScene.GetNodeByID(_logic("markups").LoadMarkups(path, name) or ""),
    "ColorTableFile": lambda path, name, _p: _logic("colors").LoadColorFile(path, name),
    "TransformFile": lambda path, _name, _p: _logic("transforms").AddTransform(path, slicer.mrmlScene),
    "ModelFile": lambda path, _name, _p: _logic("models").AddModel(path),
    "TableFile": lambda path, name, _p: _logic("tables").AddTable(path, name),
}


class qSlicerIOManager(StandIn):
    _slicer_name = "slicer.qSlicerIOManager"

    def fileType(self, name):
        return next((kind for kind, ends in _TYPES if name.lower().endswith(ends)), "NoFile")

    def fileWriterFileType(self, node):
        return node.GetClassName()

    def loadScene(self, path, clear=True):
        if clear:
            slicer.mrmlScene.Clear()
        return _scene(path, "", {})

    def loadNodes(self, file_type, properties, loaded, messages=None):
        """Append the nodes of one file to a vtkCollection; False on failure."""
        path, wanted = properties["fileName"], properties.get("name")
        name = wanted or os.path.basename(path).split(".")[0]
        node = _READERS[file_type](path, name, properties) if file_type in _READERS and os.path.isfile(path) else None
        properties.clear()  # slicer.util's default argument must not carry over
        if isinstance(node, slicer.vtkMRMLNode):
            if wanted and not node.GetName().startswith(wanted):
                node.SetName(slicer.mrmlScene.GenerateUniqueName(wanted))
            loaded.AddItem(node)
        return bool(node)

    def saveNodes(self, file_type, properties, messages=None):
        """Write one node, or the scene as .mrb, .mrml or a folder."""
        name, node, scene = str(properties["fileName"]), slicer.mrmlScene.GetNodeByID(properties.get("nodeID") or ""), slicer.mrmlScene
        properties.clear()
        if file_type == "SceneFile" and name.endswith(".mrb"):
            return bool(scene.WriteToMRB(name, vtk.vtkImageData(), slicer.vtkMRMLMessageCollection()))
        if file_type == "SceneFile" and name.endswith(".mrml"):
            scene.SetURL(name)
            return bool(scene.Commit())
        if file_type == "SceneFile":
            return bool(slicer.app.applicationLogic().SaveSceneToSlicerDataBundleDirectory(name, vtk.vtkImageData()))
        if node.GetStorageNode() is None:
            node.AddDefaultStorageNode()
        return _write(node, node.GetStorageNode(), name)

    def extractKnownExtension(self, name, node):
        return next((e for e in sorted(_extensions(node), key=len, reverse=True) if name.lower().endswith(e)), "")

    def fileWriterExtensions(self, node):
        return tuple(f"{extension} (*{extension})" for extension in _extensions(node))

    def exportNodes(self, node_ids, names, properties, harden, messages=None):
        """Write nodes without touching their storage nodes."""
        nodes = [slicer.mrmlScene.GetNodeByID(node_id) for node_id in node_ids]
        return all([_write(node, node.CreateDefaultStorageNode(), name) for node, name in zip(nodes, names, strict=True)])


def _extensions(node):
    types = node.CreateDefaultStorageNode().GetSupportedWriteFileTypes()
    formats = [types.GetValue(i) for i in range(types.GetNumberOfValues())] or _TYPES[-1][1]  # the wheel lists none for volumes
    return [slicer.vtkDataFileFormatHelper.GetFileExtensionFromFormatString(f) or f for f in formats]


def _write(node, storage, name):
    storage.SetFileName(name)
    return bool(storage.WriteData(node))
