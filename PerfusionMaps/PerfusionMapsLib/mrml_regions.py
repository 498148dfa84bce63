"""Regions of the user on a result's grid: segments, or an atlas of territories."""

from dataclasses import replace

import numpy as np
import slicer

from CTPerfusionSuiteLib.mrml import geometryBeside, geometryOf, valuesOf, volumeFromNode


def regionMasks(node, resultNode) -> list[tuple[str, np.ndarray]]:
    """(name, bool (K, J, I) on the result's grid within its brain) of every segment of a segmentation, or every label of an atlas.

    An atlas is resampled to the grid by nearest neighbor; labels take their names from its color table.
    """
    volume, brain = resultNode.GetNodeReference("images.mean_ct"), valuesOf(resultNode.GetNodeReference("masks.brain_mask")) > 0
    found = []
    if node.IsA("vtkMRMLSegmentationNode"):
        segmentation = node.GetSegmentation()
        for n in range(segmentation.GetNumberOfSegments()):
            identifier = segmentation.GetNthSegmentID(n)
            mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volume) > 0
            found.append((segmentation.GetSegment(identifier).GetName(), mask & brain))
        return found
    from CTPerfusionSuiteLib.geometry import resample_to

    grid = geometryOf(volume)
    atlas = replace(volumeFromNode(node), geometry=geometryBeside(node, volume))
    labels = atlas.values if atlas.geometry.close_to(grid) else resample_to(atlas, grid, "nearest").values
    labels = np.where(brain, np.rint(labels), 0).astype(int)
    colors = node.GetDisplayNode().GetColorNode() if node.GetDisplayNode() is not None else None
    for label in np.unique(labels[labels > 0]).tolist():
        name = colors.GetColorName(label) if colors is not None and label < colors.GetNumberOfColors() else ""
        found.append((name or f"Label {label}", labels == label))
    return found
