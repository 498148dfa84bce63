"""What was set for one study stays with its series, so that two studies in a scene never share an artery, times or a mask.

Light to import: the panel needs it before a series is chosen.
"""

import json
from dataclasses import dataclass

import slicer


def carrier(node):
    """The node that remembers a study: the sequence behind a proxy volume, or the node itself; None for none."""
    from CTPerfusionSuiteLib.mrml_sequences import sequenceOf

    return (sequenceOf(node) or node) if node is not None else None


@dataclass(frozen=True)
class StudyMemory:
    """What a module remembers of each study, in its series' node: attributes and references, which scenes save.

    Attributes
    ----------
    key : str
        Name of the attribute.
    nodes, texts, ranks, choices : tuple of str
        Settings that are nodes, texts, numbers from 1 on, and enums with a member AUTOMATIC; the list `times` belongs to every study.
    """

    key: str
    nodes: tuple[str, ...]
    texts: tuple[str, ...] = ()
    ranks: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()

    def remember(self, settings, node) -> None:
        """Keep what is set for a study."""
        state = {name: getattr(settings, name) for name in (*self.texts, *self.ranks)}
        state |= {name: getattr(settings, name).name for name in self.choices}
        state["times"] = list(settings.times)
        node.SetAttribute(self.key, json.dumps(state))
        for name in self.nodes:
            chosen = getattr(settings, name)
            node.SetNodeReferenceID(f"{self.key}.{name}", chosen.GetID() if chosen is not None else None)

    def remembers(self, node) -> bool:
        """Whether something was set for this study before."""
        return node is not None and bool(node.GetAttribute(self.key))

    def recall(self, settings, node) -> None:
        """Set what a study was left with; a new one (or None) begins with nothing of the study before."""
        try:
            state = json.loads(node.GetAttribute(self.key) or "{}") if node is not None else {}
        except ValueError:
            state = {}
        with slicer.util.NodeModify(settings.parameterNode):
            for name in self.texts:
                setattr(settings, name, str(state.get(name, "")))
            for name in self.ranks:
                setattr(settings, name, int(state.get(name, 1)))
            for name in self.choices:
                kind = type(getattr(settings, name))
                setattr(settings, name, kind[state.get(name, "AUTOMATIC")])
            settings.times = [float(time) for time in state.get("times", ())]
            for name in self.nodes:
                setattr(settings, name, node.GetNodeReference(f"{self.key}.{name}") if node is not None else None)

    def rememberResult(self, node, resultNode) -> None:
        """A result that came while another study was shown: it waits with its own series."""
        node.SetNodeReferenceID(f"{self.key}.result", resultNode.GetID())


MAPS_MEMORY = StudyMemory(
    "PerfusionMaps.Study",
    nodes=("anatomy", "brainMask", "excludedRegions", "aifPoint", "aifSegmentation", "vofPoint", "vofSegmentation", "result"),
    texts=("timesSource", "brainMaskSegment", "excludedFrames", "excludedSlices", "aifSegment", "vofSegment"),
    ranks=("aifCandidate", "vofCandidate"),
    choices=("aifSource", "vofSource"),
)
