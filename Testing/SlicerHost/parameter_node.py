"""`slicer.parameterNodeWrapper`: typed parameters in a node, bound to widgets; no packs, dictionaries, tuples, ranges, observed lists."""

import enum
import pathlib
import types
import typing
import weakref
from dataclasses import make_dataclass

import slicer
import vtk

from SlicerHost.application_names import APPLICATION, NotImitated

WithinRange = make_dataclass("WithinRange", ["minimum", "maximum"])
Decimals, SingleStep = make_dataclass("Decimals", ["decimals"]), make_dataclass("SingleStep", ["singleStep"])

_UNIONS = (typing.Union, types.UnionType)
_BASES = {kind.__name__: kind for kind in (bool, int, float, str, list, enum.Enum, pathlib.PurePath)}


class ParameterType:
    """How one annotated type is checked, written into a node, read back and bound to a widget.

    `options` is what its annotations say: minimum, maximum, decimals, singleStep.
    """

    def __init__(self, annotation, *default):
        notes = ()
        if typing.get_origin(annotation) is typing.Annotated:
            annotation, *notes = typing.get_args(annotation)
        kind, parts = typing.get_origin(annotation) or annotation, [a for a in typing.get_args(annotation) if a is not type(None)]
        node_types = tuple(parts) if kind in _UNIONS else (kind,)
        self.is_node = all(isinstance(t, type) and issubclass(t, slicer.vtkMRMLNode) for t in node_types)
        if kind in (*_UNIONS, dict, tuple, typing.Any) and not self.is_node:
            raise NotImitated(f"{annotation} is a type of parameter in Slicer, the test host does not imitate it")
        self.base = "node" if self.is_node else next((name for name in _BASES if issubclass(kind, _BASES[name])), None)
        if self.base is None:
            raise ValueError(f"No serializer for type {annotation}")
        self.type, self.item = kind, ParameterType(parts[0]) if kind is list else None
        self.accepted = (*node_types, type(None)) if self.is_node else (float, int) if kind is float else kind
        self.options = {name: value for note in notes for name, value in vars(note).items()}
        self.choices = list(kind) if self.base == "Enum" else []
        first = (lambda: None) if self.is_node else (lambda: self.choices[0]) if self.choices else kind
        self.default = (lambda: default[0]) if default else first
        self.check(self.default())

    def check(self, value):
        """The value as it is stored; TypeError for a wrong type, ValueError where an annotation refuses it."""
        if not isinstance(value, self.accepted) or (isinstance(value, bool) and self.type is not bool):
            raise TypeError(f"Unexpected type {type(value).__name__}, expected {self.type}")
        limits = self.options.get("minimum", value), self.options.get("maximum", value)
        if self.options and not limits[0] <= value <= limits[1]:
            raise ValueError(f"Value must be within range {limits[0]} to {limits[1]}, value is {value!r}")
        return [self.item.check(item) for item in value] if self.item else float(value) if self.type is float else value

    def write(self, node, name, value):
        if self.is_node:
            node.SetNodeReferenceID(name, value.GetID() if value else None)
        elif self.item:
            node.SetParameter(f"{name}.len", str(len(value)))
            for index, item in enumerate(value):
                self.item.write(node, f"{name}.{index}", item)
        else:
            node.SetParameter(name, value.name if isinstance(value, enum.Enum) else str(value))

    def read(self, node, name):
        """What the node keeps, or the default where it keeps nothing (after the scene was closed, or from an older file)."""
        if self.is_node:
            return node.GetNodeReference(name)
        if (f"{name}.len" if self.item else name) not in node.GetParameterNames():
            return self.default()
        if self.item:
            return [self.item.read(node, f"{name}.{index}") for index in range(int(node.GetParameter(f"{name}.len")))]
        text = node.GetParameter(name)
        convert = {"bool": {"True": True, "False": False}.__getitem__, "Enum": lambda name: self.type[name]}
        return convert.get(self.base, self.type)(text)

    def connector(self, widget):
        """(signal, read the widget, show a value); RuntimeError where Slicer has no connector."""
        cls, to_value, to_shown = type(widget).__name__, self.type, str if self.base == "PurePath" else lambda value: value
        if self.is_node and cls == "qMRMLNodeComboBox":
            widget.nodeTypes = [kind.__name__ for kind in self.accepted[:-1]]
            return "currentNodeChanged(vtkMRMLNode*)", widget.currentNode, widget.setCurrentNode
        fitting = APPLICATION["parameter_widgets"].get(self.base, {})
        if cls not in fitting or ("Slider" in cls and "minimum" not in self.options):
            raise RuntimeError(f"No GUI connector for a {self.type} parameter {self.options} and a {cls}")
        attribute, signal = fitting[cls]
        if self.choices:
            widget.clear()
            widget.addItems([choice.label() if hasattr(choice, "label") else choice.name for choice in self.choices])
            to_value, to_shown = self.choices.__getitem__, self.choices.index
        elif attribute == "value":
            for name, value in ({"minimum": -(2.0**31), "maximum": 2.0**31 - 1} | self.options).items():
                setattr(widget, name, value)
        return signal, lambda: to_value(getattr(widget, attribute)), lambda value: setattr(widget, attribute, to_shown(value))


class _Parameters:
    """What `@parameterNodeWrapper` adds to a class."""

    def __init__(self, parameterNode):
        self.parameterNode, self._bound, self._nodes_lost = parameterNode, {}, False
        self.AddObserver, self.RemoveObserver = parameterNode.AddObserver, parameterNode.RemoveObserver
        with slicer.util.NodeModify(parameterNode):
            for name, kind in self._parameter_types.items():
                kind.write(parameterNode, name, kind.read(parameterNode, name))
        this = weakref.ref(self)
        slicer.mrmlScene.AddObserver(slicer.mrmlScene.StartImportEvent, lambda *_a: this() and setattr(this(), "_nodes_lost", True))

    def getValue(self, name):
        kind = self._parameter_types[name]
        if kind.is_node and self._nodes_lost:  # seen in 5.13: a wrapper older than a loaded scene has lost its nodes
            return None
        return kind.read(self.parameterNode, name)

    def setValue(self, name, value):
        kind = self._parameter_types[name]
        value = kind.check(value)
        with slicer.util.NodeModify(self.parameterNode):
            kind.write(self.parameterNode, name, value)

    def connectGui(self, gui):
        """Bind every widget that has a SlicerParameterName."""
        named = {widget.property("SlicerParameterName"): widget for widget in vars(gui).values() if hasattr(widget, "property")}
        return self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def connectParametersToGui(self, widgets):
        """Bind {name: widget}, all or nothing; the tag that undoes it."""
        made = [(name, widget, *self._parameter_types[name].connector(widget)) for name, widget in widgets.items()]

        def to_widgets(*_event):
            for name, _widget, _signal, get, show in made:
                if get() != self.getValue(name):
                    show(self.getValue(name))

        to_widgets()
        slots = [(widget, signal, lambda *_a, name=name, get=get: self.setValue(name, get())) for name, widget, signal, get, _show in made]
        for widget, signal, slot in slots:
            widget.connect(signal, slot)
        tag = len(self._bound)
        self._bound[tag] = slots, self.AddObserver(vtk.vtkCommand.ModifiedEvent, to_widgets)
        return tag

    def disconnectGui(self, tag):
        slots, observer = self._bound.pop(tag)
        for widget, signal, slot in slots:
            widget.disconnect(signal, slot)
        self.RemoveObserver(observer)


def parameterNodeWrapper(cls):
    """Class decorator: its annotated attributes live in a parameter node."""
    kinds, members = {}, {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    for name, annotation in typing.get_type_hints(cls, include_extras=True).items():
        kinds[name] = ParameterType(annotation, *([members[name]] if name in members else ()))
        members[name] = property(lambda self, name=name: self.getValue(name), lambda self, value, name=name: self.setValue(name, value))
    return type(cls.__name__, (_Parameters,), members | {"_parameter_types": kinds})
