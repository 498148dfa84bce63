"""The study a panel works on: what its settings say of it, and what stays with its series when another one is chosen.

Two studies in a scene never share an artery, times, a mask or a patient's age.  Light to import: panels need it before a series is chosen.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import slicer

NO_INPUT = "no perfusion series was chosen; choose a sequence, its volume or a multi-volume, or a folder of DICOM files"


def carrier(node):
    """The node that remembers a study: the sequence behind a proxy volume, or the node itself; None for none."""
    from CTPerfusionSuiteLib.mrml_sequences import sequenceOf

    return (sequenceOf(node) or node) if node is not None else None


def hasFolder(settings) -> bool:
    """Whether a folder of DICOM files is chosen; an empty path counts as none."""
    return str(settings.dicomFolder) not in ("", ".")


def studyName(settings, what: str) -> str:
    """What a result is called in the scene: after the series, or the folder, and `what` it is."""
    node = carrier(settings.inputNode)  # a proxy volume may be renamed with every frame
    return f"{node.GetName() if node is not None else Path(settings.dicomFolder).name or 'CT'} {what}"


def asTheyAre(settings, names) -> SimpleNamespace:
    """The named settings of this moment: what the user changes during a run belongs to the next one."""
    kept = SimpleNamespace(**{name: getattr(settings, name) for name in names})
    kept.times = list(kept.times)
    return kept


@dataclass(frozen=True)
class StudyMemory:
    """What a module remembers of each study, in its series' node: attributes and references, which scenes save.

    Attributes
    ----------
    key : str
        Name of the attribute.
    nodes, texts, paths, choices : tuple of str
        Settings that are nodes, texts, paths, and enums with a member AUTOMATIC; the list `times` belongs to every study.
    numbers : dict of str -> int or float
        Settings that are numbers, with what a new study begins with.
    """

    key: str
    nodes: tuple[str, ...]
    texts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    numbers: dict[str, float] = field(default_factory=dict)

    def remember(self, settings, node) -> None:
        """Keep what is set for a study."""
        state = {name: getattr(settings, name) for name in (*self.texts, *self.numbers)}
        state |= {name: getattr(settings, name).name for name in self.choices}
        state |= {name: getattr(settings, name).as_posix() for name in self.paths}
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
            for name in self.paths:
                setattr(settings, name, Path(str(state.get(name, ""))))
            for name, first in self.numbers.items():
                setattr(settings, name, type(first)(state.get(name, first)))
            for name in self.choices:
                kind = type(getattr(settings, name))
                setattr(settings, name, kind[state.get(name, "AUTOMATIC")])
            settings.times = [float(time) for time in state.get("times", ())]
            for name in self.nodes:
                setattr(settings, name, node.GetNodeReference(f"{self.key}.{name}") if node is not None else None)

    def rememberResult(self, node, resultNode) -> None:
        """A result that came while another study was shown: it waits with its own series."""
        node.SetNodeReferenceID(f"{self.key}.result", resultNode.GetID())
