"""`slicer.parameterNodeWrapper`: typed parameters kept in a vtkMRMLScriptedModuleNode (written from its documentation)."""

import ast
import copy
import enum
import pathlib
import types
import typing
import weakref

import slicer
from PySide6 import QtGui

from SlicerHost import parameter_connectors
from SlicerHost.parameter_annotations import Default, FloatRange, Validator


class ParameterType:
    """How one annotated type is checked, defaulted, written into a node and read back."""

    def __init__(self, annotation):
        self.notes = ()
        if typing.get_origin(annotation) is typing.Annotated:
            annotation, *self.notes = typing.get_args(annotation)
        self.type, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
        self.parts = [ParameterType(a) for a in arguments if a not in (type(None), Ellipsis)]
        self.kind = self._kind(arguments)
        self.node_types = [p.type for p in self.parts] or [self.type]

    def _kind(self, arguments):
        t = self.type
        if t in (typing.Union, types.UnionType):
            nodes = [p.kind == "node" for p in self.parts]
            return "node" if all(nodes) else "union"
        if t in (int, float, bool, str, list, tuple, dict):
            return t.__name__
        if t is typing.Any:
            return "any"
        kinds = ((slicer.vtkMRMLNode, "node"), (enum.Enum, "enum"), (pathlib.PurePath, "path"), (QtGui.QColor, "color"))
        for base, kind in kinds:
            if issubclass(t, base):
                return kind
        if hasattr(t, "_parameter_types"):
            return "pack"
        raise ValueError(f"No serializer for type {t}")

    def note(self, kind):
        return next((note for note in self.notes if isinstance(note, kind)), None)

    def default(self):
        given = self.note(Default)
        if given:
            return given.value()
        if self.kind in ("union", "node", "any"):
            return None
        if self.kind == "enum":
            return next(iter(self.type))
        return tuple(p.default() for p in self.parts) if self.kind == "tuple" else self.type()

    def check(self, value):
        """The value as it is stored; TypeError for a wrong type, ValueError where a validator refuses it."""
        value = self._of_type(value)
        for note in self.notes:
            if isinstance(note, Validator):
                note.validate(value)
        return value

    def _of_type(self, value):
        kind, wrong = self.kind, TypeError(f"Unexpected type {type(value).__name__}, expected {self.type}")
        if kind == "union":
            for part in self.parts if value is not None else ():
                try:
                    return part.check(value)
                except TypeError:
                    continue
            if value is not None:
                raise wrong
            return None
        if kind == "node":
            if value is not None and not isinstance(value, tuple(self.node_types)):
                raise wrong
            return value
        if kind == "float" and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if kind == "any":
            return value
        if not isinstance(value, self.type) or (kind == "int" and isinstance(value, bool)):
            raise wrong
        if kind == "list":
            return [self.parts[0].check(item) for item in value]
        if kind == "tuple":
            return tuple(part.check(item) for part, item in zip(self.parts, value, strict=True))
        if kind == "dict":
            return {self.parts[0].check(k): self.parts[1].check(v) for k, v in value.items()}
        return value

    def fields(self, value=None):
        """[(suffix, type, item)] of a composite value."""
        if self.kind == "pack":
            return [(f".{name}", t, value and value._values[name]) for name, t in self.type._parameter_types.items()]
        if self.kind == "dict":
            keys = [(f".key.{i}", self.parts[0], key) for i, key in enumerate(value)]
            return keys + [(f".value.{i}", self.parts[1], item) for i, item in enumerate(value.values())]
        kinds = self.parts if self.kind == "tuple" else self.parts * len(value)
        return [(f".{i}", part, item) for i, (part, item) in enumerate(zip(kinds, value, strict=True))]

    def write(self, node, name, value):
        if self.kind == "node":
            node.SetNodeReferenceID(name, value.GetID() if value else None)
        elif self.kind == "union":
            index = next((i for i, p in enumerate(self.parts) if value is not None and p._accepts(value)), -1)
            node.SetParameter(f"{name}.type", str(index))
            if index >= 0:
                self.parts[index].write(node, name, value)
        elif self.kind in ("list", "dict", "tuple", "pack"):
            if self.kind in ("list", "dict"):
                node.SetParameter(f"{name}.len", str(len(value)))
            for suffix, part, item in self.fields(value):
                part.write(node, name + suffix, item)
        else:
            text = {"enum": lambda: value.name, "any": lambda: repr(value), "color": lambda: value.name(QtGui.QColor.HexArgb)}
            node.SetParameter(name, text.get(self.kind, lambda: str(value))())

    def _accepts(self, value):
        try:
            self.check(value)
        except (TypeError, ValueError):
            return False
        return True

    def read(self, node, name):
        if self.kind == "node":
            return node.GetNodeReference(name)
        if self.kind == "union":
            index = int(node.GetParameter(f"{name}.type"))
            return self.parts[index].read(node, name) if index >= 0 else None
        if self.kind == "list":
            return [self.parts[0].read(node, f"{name}.{i}") for i in range(int(node.GetParameter(f"{name}.len")))]
        if self.kind == "dict":
            count = range(int(node.GetParameter(f"{name}.len")))
            key, item = self.parts
            return {key.read(node, f"{name}.key.{i}"): item.read(node, f"{name}.value.{i}") for i in count}
        if self.kind == "tuple":
            return tuple(part.kept(node, f"{name}.{i}") for i, part in enumerate(self.parts))
        if self.kind == "pack":
            return self.type._make({n: part.kept(node, f"{name}.{n}") for n, part in self.type._parameter_types.items()})
        text = node.GetParameter(name)
        if self.kind == "bool" and text not in ("True", "False"):
            raise ValueError(f"not a bool: {text}")
        convert = {"bool": lambda: text == "True", "enum": lambda: self.type[text], "any": lambda: ast.literal_eval(text)}
        return convert.get(self.kind, lambda: self.type(text))()

    def stored(self, node, name):
        if self.kind == "node":
            return node.GetNodeReferenceID(name) is not None
        if self.kind in ("tuple", "pack"):
            return any(part.stored(node, name + suffix) for suffix, part, _i in self.fields(self.default()))
        suffix = {"union": ".type", "list": ".len", "dict": ".len"}.get(self.kind, "")
        return f"{name}{suffix}" in node.GetParameterNames()

    def kept(self, node, name):
        """What the node keeps, or the default where it keeps nothing (after the scene was closed, or from an older file)."""
        return self.read(node, name) if self.stored(node, name) else self.default()


def _observed(value, changed):
    """A copy of a list, dict, pack or range that calls changed(copy) after every edit, also of its parts."""

    def part_changed(*_part):
        changed(made)

    if isinstance(value, (list, dict)):
        kind = type(value)
        made = types.new_class(kind.__name__, (kind,))()
        items = enumerate(value) if kind is list else value.items()
        parts = {key: _observed(part, part_changed) for key, part in items}
        kind.__init__(made, parts.values() if kind is list else parts)
        for method in ("append extend insert remove pop clear sort reverse update setdefault __setitem__ __delitem__ __iadd__").split():
            if hasattr(kind, method):
                setattr(type(made), method, _then(getattr(kind, method), part_changed))
        return made
    if hasattr(value, "_parameter_types"):
        made = value._make({n: _observed(v, part_changed) for n, v in value._values.items()})
        made.__dict__["_changed"] = part_changed
        return made
    return value


def _then(method, changed):
    def edit(self, *arguments, **named):
        result = method(self, *arguments, **named)
        changed()
        return result

    return edit


def _types_of(cls):
    """{name: ParameterType} of a class's annotations, defaults checked."""
    found = {}
    for name, annotation in typing.get_type_hints(cls, include_extras=True).items():
        kind = ParameterType(annotation)
        if name in vars(cls):
            kind.notes = (*kind.notes, Default(vars(cls)[name]))
            kind.given_in_class = True
        kind.check(kind.default())
        found[name] = kind
    return found


def parameterPack(cls):
    """Class decorator: a value made of typed fields."""

    def make(values):
        pack = object.__new__(cls)
        pack.__dict__["_values"] = values
        return pack

    def init(self, *arguments, **named):
        values = {**dict(zip(cls._parameter_types, arguments, strict=False)), **named}
        self.__dict__["_values"] = {n: t.check(values.get(n, copy.deepcopy(t.default()))) for n, t in cls._parameter_types.items()}

    def assign(self, name, value):
        if name in cls._parameter_types:
            self._values[name] = cls._parameter_types[name].check(value)
            self.__dict__.get("_changed", lambda: None)()
        else:
            object.__setattr__(self, name, value)

    cls._parameter_types, cls._make = _types_of(cls), staticmethod(make)
    cls.__init__, cls.__setattr__ = init, assign
    cls.__eq__ = lambda self, other: type(self) is type(other) and self._values == other._values
    for name in cls._parameter_types:
        setattr(cls, name, property(lambda self, name=name: self._values[name], lambda self, value, name=name: assign(self, name, value)))
    return cls


class _Parameters:
    """What `@parameterNodeWrapper` adds to a class."""

    def __init__(self, parameterNode):
        self.parameterNode, self._tags, self._nodes_lost = parameterNode, {}, False
        with slicer.util.NodeModify(parameterNode):
            for name, kind in self._parameter_types.items():
                if not kind.stored(parameterNode, name):
                    kind.write(parameterNode, name, kind.check(kind.default()))
        this = weakref.ref(self)
        slicer.mrmlScene.AddObserver(slicer.mrmlScene.StartImportEvent, lambda *_a: this() and setattr(this(), "_nodes_lost", True))

    def getValue(self, name):
        kind = self._parameter_types[name]
        if kind.kind == "node" and self._nodes_lost:  # seen in 5.13: a wrapper older than a loaded scene has lost its nodes
            return None
        return _observed(kind.kept(self.parameterNode, name), lambda value: self.setValue(name, value))

    def setValue(self, name, value):
        kind = self._parameter_types[name]
        value = kind.check(value)
        with slicer.util.NodeModify(self.parameterNode):
            kind.write(self.parameterNode, name, value)

    def default(self, name):
        return self._parameter_types[name].default()

    def dataType(self, name):
        return self._parameter_types[name].type

    def AddObserver(self, event, callback, priority=0.0):
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag):
        self.parameterNode.RemoveObserver(tag)

    def Modified(self):
        self.parameterNode.Modified()

    def parameterPath(self, path):
        """(type, get, set) of "name" or "pack.field"."""
        name, *fields = path.split(".")
        kind = self._parameter_types[name]
        for field in fields:
            kind = kind.type._parameter_types[field]

        def owner():
            value = self
            for part in path.split(".")[:-1]:
                value = getattr(value, part)
            return value

        last = path.split(".")[-1]
        return kind, lambda: getattr(owner(), last), lambda value: setattr(owner(), last, value)

    def connectGui(self, gui):
        """Bind every widget that has a SlicerParameterName."""
        widgets = {}
        for widget in vars(gui).values():
            name = widget.property("SlicerParameterName") if hasattr(widget, "property") else None
            if name:
                widgets.setdefault(name, widget)
        return self.connectParametersToGui(widgets)

    def connectParametersToGui(self, widgets):
        tag = len(self._tags)
        self._tags[tag] = parameter_connectors.bind(self, widgets)
        return tag

    def disconnectGui(self, tag):
        self._tags.pop(tag, lambda: None)()
        self._tags.setdefault(tag, lambda: None)


def parameterNodeWrapper(cls):
    """Class decorator: its annotated attributes live in a parameter node."""
    kinds = _types_of(cls)
    members = {"_parameter_types": kinds, "__doc__": cls.__doc__, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    members.update({n: v for n, v in vars(cls).items() if n not in kinds and not n.startswith("__")})
    for name in kinds:
        members[name] = property(
            lambda self, name=name: self.getValue(name), lambda self, value, name=name: self.setValue(name, value)
        )
    return type(cls.__name__, (_Parameters,), members)


parameterPack(FloatRange)
