"""Binding of parameters to widgets, both ways.  Which widget fits which type was tried out in Slicer 5.13."""

import enum
import pathlib

import vtk
from PySide6 import QtWidgets

from SlicerHost import control_widgets as ctk
from SlicerHost import interaction_widgets, scene_widgets
from SlicerHost.parameter_annotations import Choice, Decimals, Default, FloatRange, RangeBounds, SingleStep, WithinRange

_NUMBERS = (QtWidgets.QDoubleSpinBox, ctk.ctkDoubleSpinBox, ctk.ctkDoubleSlider, scene_widgets.qMRMLSpinBox)
_SLIDERS = (ctk.ctkSliderWidget, scene_widgets.qMRMLSliderWidget)
_CHECKS = (QtWidgets.QCheckBox, ctk.ctkCheckBox, QtWidgets.QPushButton, ctk.ctkCheckablePushButton)
_COMBOS = (QtWidgets.QComboBox, ctk.ctkComboBox)
_RANGES = (ctk.ctkRangeWidget, ctk.ctkDoubleRangeSlider, scene_widgets.qMRMLRangeWidget)
_TEXTS = {
    QtWidgets.QLineEdit: ("text", "textChanged(QString)"),
    QtWidgets.QTextEdit: ("plainText", "textChanged()"),
    QtWidgets.QLabel: ("text", None),
}
_PATHS = {
    ctk.ctkPathLineEdit: ("currentPath", "currentPathChanged(QString)"),
    ctk.ctkDirectoryButton: ("directory", "directoryChanged(QString)"),
}


def _attribute(widget, name, signal, convert=lambda value: value, show=lambda value: value):
    """(signal, read the widget, show a value) for a value that is one property."""
    return signal, lambda: convert(getattr(widget, name)), lambda value: setattr(widget, name, show(value))


def connector(widget, kind):
    """(signal, get, set) of a widget for a ParameterType; RuntimeError where Slicer has no connector."""
    cls, within, choice = type(widget), kind.note(WithinRange), kind.note(Choice)
    bounded = within and float("-inf") < within.minimum and within.maximum < float("inf")
    if choice and kind.kind in ("str", "int") or kind.kind == "enum":
        if cls in _COMBOS:
            values = list(choice.choices if choice else kind.type)
            labels = [v.label() if hasattr(v, "label") else v.name if isinstance(v, enum.Enum) else str(v) for v in values]
            widget.clear()
            widget.addItems(labels)
            return _attribute(widget, "currentIndex", "currentIndexChanged(int)", lambda i: values[i], values.index)
    elif kind.kind in ("int", "float"):
        integers = (QtWidgets.QSpinBox,) if kind.kind == "int" else ()
        limited = (QtWidgets.QSlider, *_SLIDERS) if kind.kind == "int" else _SLIDERS
        if cls in limited and not bounded:
            raise RuntimeError(f"Cannot bind an unbounded parameter to {cls.__name__}: annotate it with WithinRange")
        if cls in (*integers, *_NUMBERS, *limited):
            for note in kind.notes:
                if type(note) in (Decimals, SingleStep):
                    setattr(widget, "decimals" if type(note) is Decimals else "singleStep", note.value)
            limit = 1e9 if cls in (*_NUMBERS, *_SLIDERS) else 2**31 - 1
            widget.minimum = kind.type(max(within.minimum, -limit) if within else -limit)
            widget.maximum = kind.type(min(within.maximum, limit) if within else limit)
            whole = cls in (QtWidgets.QSpinBox, QtWidgets.QSlider)
            return _attribute(widget, "value", f"valueChanged({'int' if whole else 'double'})", kind.type)
    elif kind.kind == "bool" and cls in _CHECKS:
        widget.checkable = True
        return _attribute(widget, "checked", "toggled(bool)")
    elif kind.kind == "str" and cls in _TEXTS:
        return _attribute(widget, *_TEXTS[cls])
    elif kind.kind == "path" and cls in _PATHS:
        return _attribute(widget, *_PATHS[cls], kind.type, lambda path: "" if path == pathlib.Path() else str(path))
    elif kind.kind == "color" and cls is ctk.ctkColorPickerButton:
        return _attribute(widget, "color", "colorChanged(QColor)")
    elif kind.kind == "node" and cls is scene_widgets.qMRMLNodeComboBox:
        return "currentNodeChanged(vtkMRMLNode*)", widget.currentNode, widget.setCurrentNode
    elif kind.kind == "node" and cls is interaction_widgets.qSlicerSimpleMarkupsWidget:
        return "markupsNodeChanged()", widget.currentNode, widget.setCurrentNode
    elif kind.type is FloatRange and cls in _RANGES:
        bounds = kind.note(RangeBounds)
        if kind.note(Default) is None or getattr(kind, "given_in_class", False):
            raise AttributeError("'int' object has no attribute 'minimum'")  # as Slicer 5.13 fails without Default(...)
        widget.setRange(bounds.minimum, bounds.maximum)
        get = lambda: FloatRange(widget.minimumValue, widget.maximumValue)  # noqa: E731
        return "valuesChanged(double,double)", get, lambda value: widget.setValues(value.minimum, value.maximum)
    raise RuntimeError(f"No GUI connector for a {kind.type} parameter and a {cls.__name__}")


def bind(parameters, widgets):
    """Connect {"name" or "pack.field": widget}; returns a function that undoes it.  All or nothing."""
    bound, undo = [], []
    for path, widget in widgets.items():
        kind, read, write = parameters.parameterPath(path)
        bound.append((widget, kind, read, write, *connector(widget, kind)))

    def to_widgets(*_event):
        for _w, _kind, read, _write, _signal, get, show in bound:
            if get() != read():
                show(read())

    to_widgets()
    for widget, _kind, _read, write, signal, get, _show in bound:
        if signal:
            slot = lambda *_a, write=write, get=get: write(get())  # noqa: E731
            widget.connect(signal, slot)
            undo.append(lambda widget=widget, signal=signal, slot=slot: widget.disconnect(signal, slot))
    tag = parameters.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, to_widgets)
    undo.append(lambda: parameters.parameterNode.RemoveObserver(tag))

    def disconnect():
        for step in undo:
            step()

    return disconnect
