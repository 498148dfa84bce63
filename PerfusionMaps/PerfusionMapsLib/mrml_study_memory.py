"""What was set for one study stays with its series, so that two studies in a scene never share an artery, times or a mask."""

import json

import slicer

from CTPerfusionSuiteLib.mrml_sequences import sequenceOf

KEY = "PerfusionMaps.Study"
NODES = ("anatomy", "brainMask", "excludedRegions", "aifPoint", "aifSegmentation", "vofPoint", "vofSegmentation", "result")
TEXTS = ("timesSource", "brainMaskSegment", "excludedFrames", "excludedSlices", "aifSegment", "vofSegment")
CHOICES = ("aifSource", "vofSource")
RANKS = ("aifCandidate", "vofCandidate")


def carrier(node):
    """The node that remembers a study: the sequence behind a proxy volume, or the node itself; None for none."""
    return (sequenceOf(node) or node) if node is not None else None


def remember(settings, node) -> None:
    """Keep what is set for a study in its series' node: attributes and references, which scenes save."""
    state = {name: getattr(settings, name) for name in (*TEXTS, *RANKS)}
    state |= {name: getattr(settings, name).name for name in CHOICES}
    state["times"] = list(settings.times)
    node.SetAttribute(KEY, json.dumps(state))
    for name in NODES:
        chosen = getattr(settings, name)
        node.SetNodeReferenceID(f"{KEY}.{name}", chosen.GetID() if chosen is not None else None)


def remembers(node) -> bool:
    """Whether something was set for this study before."""
    return node is not None and bool(node.GetAttribute(KEY))


def recall(settings, node) -> None:
    """Set what a study was left with; a new one (or None) begins with nothing of the study before."""
    try:
        state = json.loads(node.GetAttribute(KEY) or "{}") if node is not None else {}
    except ValueError:
        state = {}
    with slicer.util.NodeModify(settings.parameterNode):
        for name in TEXTS:
            setattr(settings, name, str(state.get(name, "")))
        for name in RANKS:
            setattr(settings, name, int(state.get(name, 1)))
        for name in CHOICES:
            kind = type(getattr(settings, name))
            setattr(settings, name, kind[state.get(name, "AUTOMATIC")])
        settings.times = [float(time) for time in state.get("times", ())]
        for name in NODES:
            setattr(settings, name, node.GetNodeReference(f"{KEY}.{name}") if node is not None else None)


def rememberResult(node, resultNode) -> None:
    """A result that came while another study was shown: it waits with its own series."""
    node.SetNodeReferenceID(f"{KEY}.result", resultNode.GetID())
