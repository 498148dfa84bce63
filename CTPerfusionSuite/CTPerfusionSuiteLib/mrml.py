"""The bridge between Slicer's scene and the suite's arrays: where voxels lie, what they mean, and where a node belongs.

Slicer's matrices are RAS, the suite's are LPS.  Nothing here needs a window.
"""

from collections.abc import Iterator

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import get_vtk_array_type, vtk_to_numpy

from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused
from CTPerfusionSuiteLib.volumes import Geometry, Volume

HOUNSFIELD = "[hnsf'U]"
_LPS_OF_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_QUANTITIES = {
    "CT number": ("112031", "Attenuation Coefficient"),
    "cerebral blood flow": ("126390", "Absolute Regional Blood Flow"),
    "cerebral blood volume": ("126391", "Absolute Regional Blood Volume"),
    "mean transit time": ("113052", "Mean Transit Time"),
    "arterial delay": ("126371", "Bolus Arrival Time"),
    "time to maximum of the residue function": ("113084", "Tmax"),
    "time to peak from arterial arrival": ("113069", "Time To Peak"),
    "relative cerebral blood flow": ("126397", "Relative Regional Blood Flow"),
    "relative cerebral blood volume": ("126398", "Relative Regional Blood Volume"),
}
"""Quantity in words -> code and meaning in the DICOM Controlled Terminology; others are written in words under the suite's own scheme."""
_UNIT_WORDS = {
    HOUNSFIELD: "Hounsfield unit",
    "mL/min/(100.g)": "milliliter per 100 gram per minute",
    "mL/(100.g)": "milliliter per 100 gram",
    "s": "second",
    "1": "no units",
}
_COLOR_NAME = "CTPerfusionSuite.Color"
_SMALLEST_SHOWN = 1e-3
"""Maps are 0 outside the brain; what is shown begins just above."""
_PLAIN_TYPES = (np.uint8, np.int16, np.int32, np.float32)


def geometryOf(volumeNode) -> Geometry:
    """The grid of a volume node in LPS, before any transform the node lies under.

    Raises
    ------
    DataRefused
        A volume without voxels, or one whose axes are not at right angles.
    """
    image = volumeNode.GetImageData()
    if image is None or 0 in image.GetDimensions():
        raise DataRefused(f"the volume '{volumeNode.GetName()}' has no voxels; choose one that holds an image")
    ijkToRas = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(ijkToRas)
    return _geometry(volumeNode, _LPS_OF_RAS @ _array(ijkToRas))


def geometryBeside(volumeNode, otherNode) -> Geometry:
    """The grid of a volume node as another one sees it from below its own transforms: both nodes' transforms count.

    Raises
    ------
    DataRefused
        As `geometryOf`, and where a transform between them bends.
    """
    geometry, own, other = geometryOf(volumeNode), volumeNode.GetParentTransformNode(), otherNode.GetParentTransformNode()
    if own is other:
        return geometry
    between = vtk.vtkMatrix4x4()
    if not slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(own, other, between):
        raise DataRefused(f"the volume '{volumeNode.GetName()}' lies under a transform that bends it; harden the transform first")
    return _geometry(volumeNode, _LPS_OF_RAS @ _array(between) @ _LPS_OF_RAS @ geometry.matrix)


def _array(matrix) -> np.ndarray:
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def _geometry(volumeNode, matrix: np.ndarray) -> Geometry:
    """A grid from voxel indices to LPS mm, refused where its axes are not at right angles."""
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    direction = matrix[:3, :3] / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-3:
        raise DataRefused(
            f"the axes of the volume '{volumeNode.GetName()}' are not at right angles; harden its transform onto a regular grid first"
        )
    return Geometry(volumeNode.GetImageData().GetDimensions(), tuple(spacing), tuple(matrix[:3, 3]), tuple(map(tuple, direction)))


def setGeometry(volumeNode, geometry: Geometry) -> None:
    """Lay a volume node's voxels where `geometry` says; its image keeps unit spacing, as Slicer wants it."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy((_LPS_OF_RAS @ geometry.matrix).ravel())
    volumeNode.SetIJKToRASMatrix(matrix)


def imageOf(values: np.ndarray) -> vtk.vtkImageData:
    """A vtkImageData that holds a copy of values (K, J, I); a type VTK's pipelines do not handle is cast first."""
    kind = values.dtype if values.dtype in _PLAIN_TYPES else np.uint8 if values.dtype == bool else np.float32
    image = vtk.vtkImageData()
    image.SetDimensions(*values.shape[::-1])
    image.AllocateScalars(get_vtk_array_type(np.dtype(kind)), 1)
    vtk_to_numpy(image.GetPointData().GetScalars()).reshape(values.shape)[:] = values
    return image


def setUnits(volumeNode, quantity: str, unit: str) -> None:
    """Say what a volume's values are: a quantity in words and its UCUM unit, as coded entries."""
    if quantity in _QUANTITIES:
        value, meaning = _QUANTITIES[quantity]
        coded = (value, "DCM", meaning)
    else:
        coded = (quantity.upper().replace(" ", "_")[:16] or "UNKNOWN", "99CTPERFUSION", quantity or "unknown")
    units = (unit, "UCUM", _UNIT_WORDS.get(unit, unit))
    for code, setter in ((coded, volumeNode.SetVoxelValueQuantity), (units, volumeNode.SetVoxelValueUnits)):
        entry = slicer.vtkCodedEntry()
        entry.SetValueSchemeMeaning(*code)
        setter(entry)


def fillVolumeNode(volumeNode, volume: Volume) -> None:
    """Put a `Volume` into a volume node: voxels, place, quantity and unit."""
    with slicer.util.NodeModify(volumeNode):
        setGeometry(volumeNode, volume.geometry)
        volumeNode.SetAndObserveImageData(imageOf(volume.values))
        setUnits(volumeNode, volume.quantity, volume.unit)


def volumeFromNode(volumeNode) -> Volume:
    """A scalar volume node as a `Volume`; its values are a copy."""
    geometry = geometryOf(volumeNode)
    scalars = volumeNode.GetImageData().GetPointData().GetScalars()
    unit = volumeNode.GetVoxelValueUnits()
    return Volume(vtk_to_numpy(scalars).reshape(geometry.shape).copy(), geometry, "", unit.GetCodeValue() if unit else "1")


def valuesOf(volumeNode) -> np.ndarray:
    """The voxels of a scalar volume node, (K, J, I); a view, so that what changes in the scene changes here."""
    image = volumeNode.GetImageData()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def localPosition(volumeNode, world) -> np.ndarray:
    """LPS mm (3,) in a volume's own space of a world position in RAS, as markups give it; undoes the volume's transforms."""
    transform = volumeNode.GetParentTransformNode() if volumeNode is not None else None
    ras = list(world)
    if transform is not None:
        toLocal = vtk.vtkGeneralTransform()
        slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, transform, toLocal)
        ras = toLocal.TransformPoint(ras)
    return np.array([-ras[0], -ras[1], ras[2]])


def colorNode(name: str, table: np.ndarray):
    """The color table node of that name in the scene, made at the first call from `table` (N, 3) of 0-255."""
    scene = slicer.mrmlScene
    nodes = scene.GetNodesByClass("vtkMRMLColorTableNode")
    nodes.UnRegister(None)
    for n in range(nodes.GetNumberOfItems()):
        if nodes.GetItemAsObject(n).GetAttribute(_COLOR_NAME) == name:
            return nodes.GetItemAsObject(n)
    node = slicer.vtkMRMLColorTableNode()
    node.SetTypeToUser()
    node.SetName(name)
    node.SetAttribute("Category", "CT Perfusion")
    node.SetAttribute(_COLOR_NAME, name)
    node.SetNumberOfColors(len(table))
    for n, (red, green, blue) in enumerate(np.asarray(table) / 255.0):
        node.SetColor(n, f"{n}", red, green, blue, 1.0)
    node.SetHideFromEditors(False)
    return scene.AddNode(node)


def showMap(volumeNode, colors, low: float, high: float, title: str, labels: str = "") -> None:
    """Display a map in its own colors and window, clear where it is 0 (outside the brain), with a titled legend.

    Parameters
    ----------
    colors : vtkMRMLColorNode
    low, high : float
        Values of the first and last color.
    title : str
        Name and unit, for the legend.
    labels : str
        Format of the legend's numbers; by default as many digits as the window needs.
    """
    volumeNode.CreateDefaultDisplayNodes()
    display = volumeNode.GetDisplayNode()
    with slicer.util.NodeModify(display):
        display.SetAndObserveColorNodeID(colors.GetID())
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(low, high)
        display.SetThreshold(_SMALLEST_SHOWN, 1e6)
        display.SetApplyThreshold(1)
    legend = slicer.modules.colors.logic().AddDefaultColorLegendDisplayNode(volumeNode)
    if legend is not None:
        legend.SetTitleText(title)
        legend.SetLabelFormat(labels or ("%.1f" if high < 5 else "%.0f"))
        legend.SetVisibility(False)
        legend.SetSize(0.05, 0.4)
        legend.SetPosition(0.97, 0.5)
        for font, size in ((legend.GetTitleTextProperty(), 14), (legend.GetLabelTextProperty(), 12)):
            font.SetFontSize(size)


def showLegend(volumeNode, visible: bool) -> None:
    """Show or hide the color legend of a map."""
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(volumeNode)
    if legend is not None:
        legend.SetVisibility(visible)


def segmentationNode(name: str, volumeNode, segments):
    """A new segmentation on the grid of a volume node, with empty segments.

    Parameters
    ----------
    segments : sequence of (id, name, color 0-255, terminology)
        The terminology entry as Slicer stores it; see `terminology`.
    """
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    for identifier, title, color, entry in segments:
        node.GetSegmentation().AddEmptySegment(identifier, title, [part / 255.0 for part in color])
        node.GetSegmentation().GetSegment(identifier).SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), entry)
    return node


def terminology(category, kind, region) -> str:
    """A terminology entry: category, type and anatomic region, each (code, meaning) of SNOMED CT.

    The DICOM master list holds functions such as perfusion (context groups 7150 and 7161).
    """
    category, kind, region = (f"SCT^{code}^{meaning}" for code, meaning in (category, kind, region))
    return (
        f"Segmentation category and type - DICOM master list~{category}~{kind}~^^~"
        f"Anatomic codes - DICOM master list~{region}~^^"
    )


def setSegment(node, identifier: str, mask: np.ndarray, volumeNode) -> None:
    """Put a mask (K, J, I) on the grid of `volumeNode` into a segment that exists.

    Raises
    ------
    ValueError
        An unknown segment or a mask of another shape, which Slicer would take silently.
    """
    if node.GetSegmentation().GetSegment(identifier) is None:
        raise ValueError(f"there is no segment '{identifier}' in '{node.GetName()}'")
    if mask.shape != volumeNode.GetImageData().GetDimensions()[::-1]:
        raise ValueError(f"a mask of {mask.shape} does not fit the volume '{volumeNode.GetName()}'")
    # slicer.util's way goes through a volume node that comes and goes, which every node selector notices.
    labels = slicer.vtkOrientedImageData()
    labels.ShallowCopy(imageOf(np.asarray(mask, np.uint8)))
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    labels.SetImageToWorldMatrix(matrix)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetBinaryLabelmapToSegment(labels, node, identifier, logic.MODE_REPLACE)


def segmentMask(node, identifier: str, volumeNode) -> np.ndarray:
    """Where a segment lies on the grid of a volume node, bool (K, J, I).

    Raises
    ------
    RequestRefused
        When there is no such segment or it is empty there.
    """
    segment = node.GetSegmentation().GetSegment(identifier) if node is not None else None
    if segment is None:
        raise RequestRefused("the chosen segment is not in the scene any more; choose another one")
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volumeNode) > 0
    if not mask.any():
        raise RequestRefused(f"the segment '{segment.GetName()}' is empty on the perfusion series; draw it there or choose another one")
    return mask


def placeBeside(nodes, neighbor, folderName: str) -> int:
    """Put nodes into a new folder of the subject hierarchy, beside `neighbor` (in its study); returns the folder's item."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    beside = hierarchy.GetItemByDataNode(neighbor) if neighbor is not None else 0
    parent = hierarchy.GetItemParent(beside) if beside else hierarchy.GetSceneItemID()
    folder = hierarchy.CreateFolderItem(parent, folderName)
    for node in nodes:
        item = hierarchy.GetItemByDataNode(node)
        if item:
            hierarchy.SetItemParent(item, folder)
    return folder


def removingWithFolder(nodes) -> Iterator[None]:
    """Remove nodes from the scene one after the other, and the subject hierarchy folder they lay in when it is empty then.

    A node that has gone meanwhile is passed over.
    """
    scene, hierarchy = slicer.mrmlScene, slicer.mrmlScene.GetSubjectHierarchyNode()
    folders = {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in nodes if hierarchy.GetItemByDataNode(node)}
    for node in nodes:
        if node.GetScene() is None:
            continue
        for n in reversed(range(node.GetNumberOfDisplayNodes() if node.IsA("vtkMRMLDisplayableNode") else 0)):
            scene.RemoveNode(node.GetNthDisplayNode(n))
            yield
        scene.RemoveNode(node)
        yield
    if scene.GetSubjectHierarchyNode() is not hierarchy:
        return  # another scene
    for folder in folders:
        if folder and folder != hierarchy.GetSceneItemID() and not hierarchy.GetNumberOfItemChildren(folder):
            hierarchy.RemoveItem(folder)


def removeWithFolder(nodes) -> None:
    """`removingWithFolder` at once."""
    for _node in removingWithFolder(nodes):
        pass
