"""A result in Slicer's scene: maps as volumes with units and colors, lesions as segments, and everything else in one text node.

The text node is the result: it holds the documents of the result folder and refers to the nodes of the arrays.  A saved scene
therefore reopens without a new analysis, and thresholds are applied to its nodes as to a folder.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import slicer

from CTPerfusionSuiteLib.errors import RequestRefused
from CTPerfusionSuiteLib.mrml import (
    HOUNSFIELD,
    colorNode,
    fillVolumeNode,
    geometryOf,
    placeBeside,
    removeWithFolder,
    removingWithFolder,
    segmentationNode,
    setSegment,
    showMap,
    terminology,
    valuesOf,
)
from CTPerfusionSuiteLib.nifti import read_volume
from CTPerfusionSuiteLib.output_folder import restore_interrupted
from CTPerfusionSuiteLib.report.color_maps import CORE, PENUMBRA, flow_table, time_table

from .lesions import Lesions, lesions
from .mrml_readiness import RESULT, isResult
from .perfusion_metrics import to_json
from .perfusion_options import Thresholds
from .perfusion_pictures import RELATIVE_MAPS, SHORT_NAMES, is_calibrated, map_window
from .perfusion_result import MAP_UNITS, PerfusionResult
from .result_folder import assemble, provenance_document, read_documents, recompute

BRAIN_WINDOW_HU = (0.0, 100.0)
LEAST_HU_OF_MR = -200.0
"""An anatomical image with values below is a CT, which air tells."""
LASTING_MASKS = ("brain_mask", "tissue_mask", "hemisphere", "roi_mask", "contra_mask")
MASK_TITLES = {"brain_mask": "Brain", "tissue_mask": "Tissue", "hemisphere": "Hemispheres"}
IMAGE_TITLES = {"mean_ct": "Mean CT (HU)", "baseline": "CT before contrast (HU)", "anatomy": "Anatomy on the perfusion grid"}
STATISTICS = {"sd": "standard deviation", "p025": "2.5th percentile", "p975": "97.5th percentile"}
_FUNCTION = ("246464006", "Function")
_PERFUSION = ("371863001", "Perfusion")
_BRAIN = ("12738006", "Brain")
HYPOPERFUSION_COLOR = (245, 196, 30)
CORE_AND_PENUMBRA = (("core", "Core", CORE), ("penumbra", "Penumbra", PENUMBRA))
"""(segment, name, color 0-255)."""
LESION_FILL = 0.12
"""How much of what lies below a lesion is covered in slices."""


def loadingResult(folder, name: str, neighbor=None) -> Iterator[float]:
    """Bring a result folder into the scene in small steps: yields the fraction done; the generator's return value is the result's node.

    What was loaded is removed again when the generator is closed before its end, or fails.

    Parameters
    ----------
    folder : path
        Of `ctperfusion maps`.
    name : str
        What the study is called in the scene.
    neighbor : vtkMRMLNode, optional
        The series; the result is placed beside it.

    Raises
    ------
    RequestRefused
        When the folder is not a complete result.
    """
    folder = Path(folder)
    restore_interrupted(folder)
    metrics, provenance = read_documents(folder)
    contents = provenance["contents"]
    # Lesion masks follow from the maps and the thresholds; the segmentation shows them.
    contents["masks"] = [mask for mask in contents["masks"] if mask in LASTING_MASKS]
    wanted = [(kind, item) for kind in ("images", "maps", "masks") for item in contents[kind]]
    made = {}
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", slicer.mrmlScene.GetUniqueNameByString(name))
    try:
        for done, (kind, item) in enumerate(wanted, start=1):
            path = folder / f"{item}.nii.gz"
            if not path.is_file():
                raise RequestRefused(f"the result folder '{folder}' has lost '{path.name}'; run 'ctperfusion maps' again")
            made[kind, item] = _volumeNode(kind, item, read_volume(path), node.GetName())
            node.SetNodeReferenceID(f"{kind}.{item}", made[kind, item].GetID())
            yield 0.9 * done / len(wanted)
        node.SetAttribute(RESULT, "brain perfusion")
        _writeDocuments(node, metrics, provenance)
        if neighbor is not None:
            node.SetNodeReferenceID("series", neighbor.GetID())
        result = resultFromNode(node)
        yield 0.9
        for name, volume in mapNodes(node).items():
            _colorMap(node, result, name, volume)
            yield 0.9
        # Without normal tissue to compare with core and penumbra cannot be told apart, and hypoperfusion is one segment.
        whole = metrics["reference"]["side"] is None
        segmentation = lesionSegmentation(node, [("hypoperfusion", "Hypoperfusion", HYPOPERFUSION_COLOR)] if whole else CORE_AND_PENUMBRA)
        yield 0.95
        applyThresholds(node, result, result.thresholds)
        yield 0.97
        for volume in made.values():
            moveWith(volume, neighbor)
        moveWith(segmentation, neighbor)
        placeBeside([*made.values(), segmentation, node], neighbor, node.GetName())
        yield 1.0
    except BaseException:
        removeResult(node)
        raise
    return node


def resultFromNode(node) -> PerfusionResult:
    """A result of the scene as arrays; maps and masks are views of their nodes' voxels.

    Raises
    ------
    RequestRefused
        When a volume of the result was deleted, or the node is none.
    """
    if not isResult(node):
        raise RequestRefused("no perfusion result was chosen; run an analysis or open a result folder")

    def values(kind: str, name: str) -> np.ndarray:
        volume = node.GetNodeReference(f"{kind}.{name}")
        if volume is None or volume.GetImageData() is None:
            raise RequestRefused(f"the result '{node.GetName()}' has lost its volume '{name}'; run the analysis again")
        return valuesOf(volume)

    try:
        documents = json.loads(node.GetText())
        result = assemble(documents["metrics"], documents["provenance"], values)
        wrong = [name for kind in (result.maps, result.masks) for name, array in kind.items() if array.shape != result.geometry.shape]
        if wrong:
            raise ValueError(f"another size of '{wrong[0]}'")
        return result
    except (KeyError, TypeError, ValueError) as problem:
        raise RequestRefused(f"the result '{node.GetName()}' is damaged ({problem}); run the analysis again") from problem


def applyThresholds(node, result: PerfusionResult, thresholds: Thresholds) -> Lesions:
    """Move the lesion segments of a result to other thresholds; quick enough to follow a slider."""
    found = lesions(result.maps, result.masks, thresholds, result.geometry)
    for _segment in showingLesions(node, found):
        pass
    return found


def showingLesions(node, found: Lesions) -> Iterator[None]:
    """Put lesions into the segments of a result, one after the other."""
    segmentation, volume = node.GetNodeReference("segmentation"), node.GetNodeReference("images.mean_ct")
    if segmentation is not None and volume is not None:
        parts = {"core": found.core, "penumbra": found.penumbra, "hypoperfusion": found.hypoperfusion}
        for identifier, mask in parts.items():
            segment = segmentation.GetSegmentation().GetSegment(identifier) if segmentation.GetScene() is not None else None
            if segment is not None:
                setSegment(segmentation, identifier, np.zeros(found.tissue.shape, bool) if mask is None else mask, volume)
                segment.SetName(segmentTitle(identifier, found.thresholds))
                yield


def loadingAnatomy(node, path) -> Iterator[float]:
    """Give a result an anatomical image on its grid, registered before, in small steps; an earlier one is replaced.

    Raises
    ------
    RequestRefused
        When the result is gone, or the image lies on another grid.
    """
    volume = read_volume(path)
    yield 0.5
    mean = node.GetNodeReference("images.mean_ct") if node.GetScene() is not None else None
    if mean is None or not volume.geometry.close_to(geometryOf(mean)):
        raise RequestRefused("the result that the anatomy was registered to is not in the scene any more; choose it and register again")
    earlier = node.GetNodeReference("images.anatomy")
    image = _volumeNode("images", "anatomy", volume, node.GetName())
    image.SetAndObserveTransformNodeID(mean.GetTransformNodeID())
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(image), hierarchy.GetItemParent(hierarchy.GetItemByDataNode(mean)))
    node.SetNodeReferenceID("images.anatomy", image.GetID())
    documents = json.loads(node.GetText())
    contents = documents["provenance"]["contents"]
    contents["images"] = [*(name for name in contents["images"] if name != "anatomy"), "anatomy"]
    node.SetText(json.dumps(documents))
    if earlier is not None:
        title = earlier.GetName()
        removeWithFolder([earlier])
        image.SetName(title)
    yield 1.0
    return node


def keepThresholds(node, result: PerfusionResult, thresholds: Thresholds, found: Lesions | None = None) -> PerfusionResult:
    """The result with every metric computed anew at `thresholds` (`found` are its lesions there); the node remembers both."""
    moved = recompute(result, thresholds, found)
    rememberThresholds(node, moved)
    return moved


def rememberThresholds(node, moved: PerfusionResult) -> None:
    """Write the metrics of a recomputed result, and its thresholds, into its node."""
    lasting = replace(moved, masks={name: mask for name, mask in moved.masks.items() if name in LASTING_MASKS})
    _writeDocuments(node, lasting.metrics, provenance_document(lasting))


def segmentTitle(identifier: str, thresholds: Thresholds) -> str:
    """Name of a lesion segment with the threshold that makes it."""
    if identifier == "core":
        return f"Core (rCBF < {100 * thresholds.rcbf:g} %)"
    return f"{'Penumbra' if identifier == 'penumbra' else 'Hypoperfusion'} (Tmax > {thresholds.tmax_s:g} s)"


def mapTitle(name: str, calibrated: bool = True) -> str:
    """Name and unit of a map for people: "CBF (mL/100 g/min)"."""
    base, _, statistic = name.partition("_")
    unit = "relative" if base in RELATIVE_MAPS and not calibrated else "of reference" if base in ("rcbf", "rcbv") else MAP_UNITS[base][2]
    return f"{SHORT_NAMES[base]}{' ' + STATISTICS[statistic] if statistic else ''} ({unit})"


def mapNodes(node) -> dict:
    """The map volumes of a result by map name, in the order they were written."""
    found = {role.partition(".")[2]: node.GetNodeReference(role) for role in _roles(node) if role.startswith("maps.")}
    order = [*MAP_UNITS, *(name for name in found if name not in MAP_UNITS)]
    return {name: found[name] for name in order if found.get(name) is not None}


def lesionSegmentation(node, parts):
    """A new segmentation of a result on the grid of its mean CT, with terminology.

    Parameters
    ----------
    node : vtkMRMLTextNode
        The result; it refers to the segmentation from now on.
    parts : sequence of (id, name, color 0-255)
    """
    entry = terminology(_FUNCTION, _PERFUSION, _BRAIN)
    segments = [(*part, entry) for part in parts]
    segmentation = segmentationNode(f"{node.GetName()} lesions", node.GetNodeReference("images.mean_ct"), segments)
    node.SetNodeReferenceID("segmentation", segmentation.GetID())
    display = segmentation.GetDisplayNode()
    display.SetOpacity2DFill(LESION_FILL)
    display.SetOpacity2DOutline(1.0)
    return segmentation


def moveWith(node, neighbor) -> None:
    """Lay a node of a result under the transform of its series."""
    if neighbor is not None and neighbor.IsA("vtkMRMLTransformableNode") and neighbor.GetTransformNodeID():
        node.SetAndObserveTransformNodeID(neighbor.GetTransformNodeID())


def inheritCandidates(old, new) -> None:
    """A run with a given vessel looks for no candidates: those of an earlier result on the same grid stay to choose from."""
    before, after = (json.loads(node.GetText()) for node in (old, new))
    if before["provenance"]["grid"] != after["provenance"]["grid"]:
        return
    curves, known = after["provenance"]["curves"], before["provenance"]["curves"]
    for name in ("aif_candidates", "vof_candidates"):
        curves[name] = curves[name] or known[name]
    new.SetText(json.dumps(after))


def replacingResult(old, new) -> Iterator[None]:
    """Remove an earlier result of the same study in small steps, and give its name to the new one."""
    name = old.GetName()
    yield from removingResult(old)
    if new.GetScene() is not None:
        renameResult(new, name)


def renameResult(node, name: str) -> None:
    """Give a result, its nodes and its folder of the subject hierarchy another name."""
    present, hierarchy = node.GetName(), slicer.mrmlScene.GetSubjectHierarchyNode()
    folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node))
    if folder and hierarchy.GetItemName(folder) == present:
        hierarchy.SetItemName(folder, name)
    for item in (*_ownNodes(node), node):
        if item.GetName().startswith(present):
            item.SetName(name + item.GetName()[len(present) :])


def removingResult(node) -> Iterator[None]:
    """Remove a result and every node it refers to, except the series, one after the other."""
    return removingWithFolder([*_ownNodes(node), node])


def removeResult(node) -> None:
    """`removingResult` at once."""
    for _removed in removingResult(node):
        pass


def _ownNodes(node) -> list:
    """The nodes a result refers to, except the series."""
    kinds = ("maps", "masks", "images", "segmentation")
    nodes = [node.GetNodeReference(role) for role in _roles(node) if role.partition(".")[0] in kinds]
    return [item for item in nodes if item is not None]


def _roles(node) -> list[str]:
    return [node.GetNthNodeReferenceRole(n) for n in range(node.GetNumberOfNodeReferenceRoles())]


def _volumeNode(kind: str, name: str, volume, study: str):
    title = IMAGE_TITLES.get(name, name) if kind == "images" else MASK_TITLES.get(name, name) if kind == "masks" else mapTitle(name)
    scene = slicer.mrmlScene
    kind_of_node = "vtkMRMLLabelMapVolumeNode" if kind == "masks" else "vtkMRMLScalarVolumeNode"
    node = scene.AddNewNodeByClass(kind_of_node, scene.GetUniqueNameByString(f"{study} {title}"))
    if kind == "maps":
        quantity, unit, _ = MAP_UNITS[name.partition("_")[0]]
        volume = replace(volume, quantity=quantity, unit=unit)
    elif kind == "images":
        volume = replace(volume, quantity="CT number", unit=HOUNSFIELD) if name != "anatomy" else volume
    else:
        volume = replace(volume, values=volume.values.astype(np.uint8), quantity=title, unit="1")
    fillVolumeNode(node, volume)
    if kind == "images":
        node.CreateDefaultDisplayNodes()
        if name != "anatomy" or volume.values.min() < LEAST_HU_OF_MR:
            node.GetDisplayNode().AutoWindowLevelOff()
            node.GetDisplayNode().SetWindowLevelMinMax(*BRAIN_WINDOW_HU)
    return node


def _colorMap(node, result: PerfusionResult, name: str, volume) -> None:
    """Colors, window and legend of one map; the unit in its name says "relative" where the scale is."""
    calibrated = is_calibrated(result)
    base, _, statistic = name.partition("_")
    flow = base in ("cbf", "cbv", "rcbf", "rcbv")
    colors = colorNode("CT perfusion flow", flow_table()) if flow else colorNode("CT perfusion time", time_table())
    window = map_window(result, base)
    high = window.high / 4.0 if statistic == "sd" else window.high
    title = mapTitle(name, calibrated)
    if not calibrated and base in RELATIVE_MAPS:
        volume.SetName(f"{node.GetName()} {title}")
    showMap(volume, colors, window.low, high, title)


def _writeDocuments(node, metrics: dict, provenance: dict) -> None:
    node.SetText(json.dumps({"metrics": json.loads(to_json(metrics)), "provenance": json.loads(to_json(provenance, digits=None))}))
