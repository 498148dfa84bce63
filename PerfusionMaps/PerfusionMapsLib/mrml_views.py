"""A result in the slice views: one map in color over the CT, its legend alone, and the patient's sides."""

import slicer

from CTPerfusionSuiteLib.mrml import showLegend

from .mrml_result import mapNodes

SIDES_MARKED = "CTPerfusionSuite.SidesMarked"


def showFusion(node, shown: str, opacity: float, background=None) -> None:
    """Lay one map of a result over its mean CT (or another background) in every slice view, with its legend alone."""
    maps = mapNodes(node)
    background = background or node.GetNodeReference("images.mean_ct")
    foreground = maps.get(shown)
    slicer.util.setSliceViewerLayers(background=background, foreground=foreground, foregroundOpacity=float(opacity))
    for name, volume in maps.items():
        showLegend(volume, name == shown and opacity > 0)


def markSides() -> None:
    """Show the patient's directions in slice views that show none; a user who takes them off again is not asked twice."""
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        if node.GetOrientationMarkerType() == node.OrientationMarkerTypeNone and not node.GetAttribute(SIDES_MARKED):
            node.SetOrientationMarkerType(node.OrientationMarkerTypeAxes)
            node.SetOrientationMarkerSize(node.OrientationMarkerSizeSmall)
            node.SetAttribute(SIDES_MARKED, "1")


def hideLegends(node) -> None:
    """Take the color legends of a result off the views."""
    for volume in mapNodes(node).values():
        showLegend(volume, False)


def hideOthers(node) -> None:
    """Take legends and lesions of every other result of the scene off the views: a legend beside the colors of another map misleads."""
    for other in slicer.util.getNodesByClass("vtkMRMLTextNode"):
        if other is not node:
            hideLegends(other)
            segmentation = other.GetNodeReference("segmentation")
            if segmentation is not None and segmentation.GetDisplayNode() is not None:
                segmentation.GetDisplayNode().SetVisibility(False)
