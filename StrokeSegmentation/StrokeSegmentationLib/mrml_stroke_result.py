"""A network's result in Slicer's scene: probabilities as volumes, lesions as segments, and everything else in one text node.

The text node is the result, as in `PerfusionMapsLib.mrml_result`, whose roles of node references it shares.  The threshold maps that
lie in the result folder come along as a result of PerfusionMaps of its own.  A saved scene reopens with both.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import slicer

from CTPerfusionSuiteLib.errors import RequestRefused
from CTPerfusionSuiteLib.mrml import HOUNSFIELD, colorNode, fillVolumeNode, placeBeside, setSegment, showMap
from CTPerfusionSuiteLib.progress import part_of_steps
from CTPerfusionSuiteLib.report.color_maps import time_table
from CTPerfusionSuiteLib.volumes import Geometry, Volume
from PerfusionMapsLib.mrml_result import (
    BRAIN_WINDOW_HU,
    CORE_AND_PENUMBRA,
    LESION_FILL,
    lesionSegmentation,
    loadingResult,
    mapNodes,
    moveWith,
    removeResult,
    removingResult,
    renameResult,
    replacingResult,
)
from PerfusionMapsLib.perfusion_metrics import to_json

from .mrml_stroke_readiness import RESULT, isStrokeResult
from .recommendation import origin
from .stroke_folder import UNCERTAINTY, maps_folder, read_documents, read_image

HYPOPERFUSION = "hypoperfusion_probability"
TITLES = {
    HYPOPERFUSION: "Probability of hypoperfusion",
    "core_probability": "Probability of core",
    "penumbra_probability": "Probability of penumbra",
    UNCERTAINTY: "Uncertainty",
}
"""What can be laid over the CT, in the order of the chooser; all run from 0 to 1."""
LESIONS = tuple((identifier, f"{title} (network)", color) for identifier, title, color in CORE_AND_PENUMBRA)
SMALLEST_SHOWN = 0.05
"""Probabilities below are clear, so that the CT of healthy tissue is seen as it is."""
SOLID_FILL = 0.45
THRESHOLDS = "thresholds"
"""Role of the reference to the result of PerfusionMaps."""
HANDED_OVER = "StrokeSegmentation.OpenedInPerfusionMaps"


def loadingStroke(folder, name: str, neighbor=None) -> Iterator[float]:
    """Bring a result folder into the scene in small steps: yields the fraction done; the generator's return value is the result's node.

    What was loaded is removed again when the generator is closed before its end, or fails.

    Parameters
    ----------
    folder : path
        Of `ctperfusion stroke predict`.
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
    metrics, provenance = read_documents(folder)
    grid = provenance["grid"]
    geometry = Geometry(grid["size"], grid["spacing"], grid["origin"], grid["direction"])
    maps = maps_folder(folder)
    own = 0.4 if maps is not None else 1.0
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", slicer.mrmlScene.GetUniqueNameByString(name))
    try:
        node.SetAttribute(RESULT, "stroke segmentation")
        text = {"metrics": metrics, "provenance": provenance}
        node.SetText(json.dumps({key: json.loads(to_json(document, digits=None)) for key, document in text.items()}))
        if neighbor is not None:
            node.SetNodeReferenceID("series", neighbor.GetID())
        mean = _meanCT(node, read_image(folder, "mean_ct", geometry))
        yield 0.1 * own
        penumbra = read_image(folder, "penumbra_probability", geometry)
        yield 0.2 * own
        core = read_image(folder, "core_probability", geometry)
        yield 0.3 * own
        shares = {HYPOPERFUSION: replace(core, values=penumbra.values + core.values)}
        shares |= {"core_probability": core, "penumbra_probability": penumbra}
        if UNCERTAINTY in provenance["contents"]:
            shares[UNCERTAINTY] = read_image(folder, UNCERTAINTY, geometry)
            yield 0.4 * own
        for role, volume in shares.items():
            _share(node, role, volume)
            yield 0.6 * own
        segmentation = lesionSegmentation(node, LESIONS)
        yield 0.7 * own
        for identifier, _title, _color in LESIONS:
            setSegment(segmentation, identifier, read_image(folder, f"{identifier}_mask", geometry).values > 0, mean)
            yield 0.8 * own
        nodes = [mean, *mapNodes(node).values(), segmentation]
        node.SetDescription(origin(metrics))
        for item in nodes:
            item.SetDescription(origin(metrics))
            moveWith(item, neighbor)
            yield 0.9 * own
        placeBeside([*nodes, node], neighbor, node.GetName())
        yield own
        if maps is not None:
            rival = yield from part_of_steps(loadingResult(maps, f"{node.GetName()} thresholds", neighbor), own, 1.0)
            node.SetNodeReferenceID(THRESHOLDS, rival.GetID())
            rival.GetNodeReference("segmentation").GetDisplayNode().SetVisibility(False)
        yield 1.0
    except BaseException:
        removeStrokeResult(node)
        raise
    return node


def strokeMetrics(node) -> dict:
    """The document metrics.json of a result of the scene.

    Raises
    ------
    RequestRefused
        When the node is none, is damaged, or has lost a volume.
    """
    if not isStrokeResult(node):
        raise RequestRefused("no result of a network was chosen; run one or open a result folder")
    if node.GetNodeReference("images.mean_ct") is None or node.GetNodeReference("segmentation") is None or not mapNodes(node):
        raise RequestRefused(f"the result '{node.GetName()}' has lost its volumes; run it again")
    try:
        metrics = json.loads(node.GetText())["metrics"]
        if not {"volumes_ml", "threshold_maps", "qc", "model"} <= set(metrics):
            raise KeyError("metrics")
    except (KeyError, TypeError, ValueError) as problem:
        raise RequestRefused(f"the result '{node.GetName()}' is damaged; run it again") from problem
    return metrics


def shownVolumes(node) -> dict:
    """The volumes of a result that can be laid over the CT, by role, in the order of `TITLES`."""
    found = mapNodes(node)
    return {role: found[role] for role in TITLES if role in found}


def thresholdResult(node):
    """The result of PerfusionMaps that a network's result is compared with; None when there is none (any more)."""
    return node.GetNodeReference(THRESHOLDS) if node is not None else None


def showLesions(node, withThresholds: bool) -> None:
    """Show the network's lesions; with those of the thresholds, the network's are filled and the others outlined."""
    withThresholds = withThresholds and thresholdResult(node) is not None
    own = node.GetNodeReference("segmentation")
    _display(own, True, SOLID_FILL if withThresholds else LESION_FILL, not withThresholds)
    if thresholdResult(node) is not None:
        _display(thresholdResult(node).GetNodeReference("segmentation"), withThresholds, 0.0 if withThresholds else LESION_FILL, True)


def hideLesions(node) -> None:
    """Take the lesions of both methods off the views; those of the thresholds get back the looks of PerfusionMaps."""
    showLesions(node, False)
    _display(node.GetNodeReference("segmentation"), False, LESION_FILL, True)


def replacingStrokeResult(old, new) -> Iterator[None]:
    """Remove an earlier result of the same study in small steps, and give its name to the new one.

    Maps that were opened in PerfusionMaps stay.
    """
    oldMaps, newMaps = thresholdResult(old), thresholdResult(new)
    yield from replacingResult(old, new)
    name = f"{new.GetName()} thresholds"
    if oldMaps is not None and oldMaps.GetAttribute(HANDED_OVER):
        name = slicer.mrmlScene.GetUniqueNameByString(name)
    elif oldMaps is not None:
        yield from removingResult(oldMaps)
    if newMaps is not None and newMaps.GetScene() is not None:
        renameResult(newMaps, name)


def removeStrokeResult(node) -> None:
    """Remove a result with its threshold maps, unless those were opened in PerfusionMaps."""
    maps = thresholdResult(node)
    removeResult(node)
    if maps is not None and not maps.GetAttribute(HANDED_OVER):
        removeResult(maps)


def handOver(node):
    """The threshold maps of a result, which belong to PerfusionMaps from now on; None when there are none."""
    maps = thresholdResult(node)
    if maps is not None:
        maps.SetAttribute(HANDED_OVER, "yes")
    return maps


def _meanCT(node, volume: Volume):
    volumeNode = _volumeNode(node, "Mean CT (HU)", replace(volume, quantity="CT number", unit=HOUNSFIELD))
    node.SetNodeReferenceID("images.mean_ct", volumeNode.GetID())
    volumeNode.CreateDefaultDisplayNodes()
    volumeNode.GetDisplayNode().AutoWindowLevelOff()
    volumeNode.GetDisplayNode().SetWindowLevelMinMax(*BRAIN_WINDOW_HU)
    return volumeNode


def _share(node, role: str, volume: Volume) -> None:
    """A probability or the uncertainty, 0-1."""
    values = np.asarray(volume.values, np.float32)
    quantity = role.replace("_", " ")
    volumeNode = _volumeNode(node, TITLES[role], replace(volume, values=values, quantity=quantity, unit="1"))
    node.SetNodeReferenceID(f"maps.{role}", volumeNode.GetID())
    showMap(volumeNode, colorNode("CT perfusion time", time_table()), 0.0, 1.0, TITLES[role].replace(" of ", " of\n"), "%.2f")
    volumeNode.GetDisplayNode().SetThreshold(SMALLEST_SHOWN, 1e6)


def _volumeNode(node, title: str, volume: Volume):
    scene = slicer.mrmlScene
    volumeNode = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GetUniqueNameByString(f"{node.GetName()} {title}"))
    fillVolumeNode(volumeNode, volume)
    return volumeNode


def _display(segmentation, visible: bool, fill: float, outline: bool) -> None:
    display = segmentation.GetDisplayNode() if segmentation is not None else None
    if display is not None:
        with slicer.util.NodeModify(display):
            display.SetVisibility(visible)
            display.SetOpacity2DFill(fill)
            display.SetOpacity2DOutline(1.0 if outline else 0.0)
