"""What a run still needs before it can start, told from the panel's settings; light, so that the panel opens at once."""

import slicer

from CTPerfusionSuiteLib.mrml_study_settings import NO_INPUT, StudyMemory, carrier, hasFolder

RESULT = "CTPerfusionSuite.Result"
"""Attribute of the text nodes that are results."""

READ = (
    *("inputNode", "dicomFolder", "anatomy", "times", "timesSource", "result"),
    *("brainMask", "brainMaskSegment", "excludedRegions", "excludedFrames", "excludedSlices"),
    *(f"{vessel}{what}" for vessel in ("aif", "vof") for what in ("Source", "Candidate", "Point", "Segmentation", "Segment", "File")),
    *("method", "denoising", "smoothing", "hematocritLarge", "hematocritSmall", "motionCorrection", "fullResolution", "keepResults"),
    *("age", "nihss", "tmaxThreshold", "rcbfThreshold"),
)
"""The settings an analysis depends on."""


MAPS_MEMORY = StudyMemory(
    "PerfusionMaps.Study",
    nodes=("anatomy", "brainMask", "excludedRegions", "aifPoint", "aifSegmentation", "vofPoint", "vofSegmentation", "regions", "result"),
    texts=("timesSource", "brainMaskSegment", "excludedFrames", "excludedSlices", "aifSegment", "vofSegment"),
    paths=("aifFile", "vofFile"),
    choices=("aifSource", "vofSource"),
    numbers={"aifCandidate": 1, "vofCandidate": 1, "age": 0, "nihss": -1, "tmaxThreshold": 6.0, "rcbfThreshold": 30.0},
)
"""What a study keeps when another one is chosen: all that was found or entered for this patient."""


def isResult(node) -> bool:
    """Whether a node is a perfusion result."""
    return node is not None and node.IsA("vtkMRMLTextNode") and bool(node.GetAttribute(RESULT))


def ownResult(settings):
    """The shown result, unless it is of another study than the chosen series; None without."""
    node = settings.result if isResult(settings.result) else None
    if node is None or settings.inputNode is None:
        return node
    return node if carrier(node.GetNodeReference("series")) is carrier(settings.inputNode) else None


def whatIsMissing(settings) -> str | None:
    """Why a run cannot start, in words for the button's tooltip; None when it can."""
    if settings.inputNode is None and not hasFolder(settings):
        return NO_INPUT
    for vessel in ("aif", "vof"):
        source, name = getattr(settings, f"{vessel}Source").value, vessel.upper()
        if source == "point" and not placedPoint(getattr(settings, f"{vessel}Point")):
            return f"the {name} is to be read at a point, and none was placed; place it or choose another source of the {name}"
        if source == "segment" and not getattr(settings, f"{vessel}Segment"):
            return f"the {name} is to be read in a segment, and none was chosen; choose one or another source of the {name}"
        if source == "file" and not str(getattr(settings, f"{vessel}File")).strip(". "):
            return f"the {name} is to be read from a file, and none was chosen; choose a CSV with the columns time_s,hu"
        if source == "candidate" and ownResult(settings) is None:
            return f"candidates of the {name} come from a first run; run once with the automatic {name}"
    return None


def placedPoint(markups):
    """World position (RAS mm) of the last placed control point; None if there is none."""
    if markups is None:
        return None
    defined = slicer.vtkMRMLMarkupsNode.PositionDefined
    placed = [n for n in range(markups.GetNumberOfControlPoints()) if markups.GetNthControlPointPositionStatus(n) == defined]
    return markups.GetNthControlPointPositionWorld(placed[-1]) if placed else None
