"""Stand-ins for CTK's widgets.  Names are refused by pythonqt.py; cosmetic properties are remembered and nothing more."""

import os

from PySide6 import QtCore, QtGui, QtWidgets

from SlicerHost.application_names import does_nothing, forwards
from SlicerHost.pythonqt import emit

_AS_IN_QT = {
    QtWidgets.QPushButton: ("ctkPushButton", "ctkCheckablePushButton", "ctkMenuButton"),
    QtWidgets.QToolButton: ("ctkExpandButton",),
    QtWidgets.QLineEdit: ("ctkSearchBox",),
    QtWidgets.QTextBrowser: ("ctkFittedTextBrowser",),
    **{getattr(QtWidgets, f"Q{kind}"): (f"ctk{kind}",) for kind in ("CheckBox", "ComboBox", "MessageBox", "DoubleSpinBox")},
}
globals().update({name: type(name, (base,), {"__module__": __name__}) for base, names in _AS_IN_QT.items() for name in names})


def row_of(widget, *parts):
    """Lay parts side by side without margins."""
    row = QtWidgets.QHBoxLayout(widget)
    row.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        row.addWidget(part)


class ctkWidgetsUtils:
    @staticmethod
    def grabWidget(widget, rectangle=None):
        """Picture (QImage) of a widget with everything in it, rendered views included."""
        from SlicerHost.views import grab

        return grab(widget).toImage()


class ctkColorPickerButton(QtWidgets.QPushButton):
    _color = QtGui.QColor("black")

    def _set_color(self, color):
        if color != self._color:
            self._color = QtGui.QColor(color)
            self.text = self._color.name()
            emit(self, "colorChanged(QColor)", self._color)

    color = property(lambda self: self._color, _set_color)


def _collapse(widget, collapsed):
    """Hide or show the contents, remembering what the module itself had hidden."""
    if collapsed:
        widget._contents = [c for c in widget.children() if isinstance(c, QtWidgets.QWidget) and not c.isHidden()]
    for child in getattr(widget, "_contents", ()):
        child.setVisible(not collapsed)


_COLLAPSED = property(lambda self: not self.checked, lambda self, collapsed: setattr(self, "checked", not collapsed))


class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A header that shows and hides what lies below; `checked` is the inverse of `collapsed`."""

    _header = 24
    collapsed = _COLLAPSED

    def __init__(self, *arguments):
        super().__init__(*(a for a in arguments if not isinstance(a, str)))
        self.text = next((a for a in arguments if isinstance(a, str)), "")
        self.checkable = self.checked = True
        self.setContentsMargins(0, self._header, 0, 0)
        self.setSizePolicy(QtWidgets.QSizePolicy.Preferred, QtWidgets.QSizePolicy.Preferred)
        self.toggled.connect(self._show_contents)

    def _show_contents(self, shown):
        _collapse(self, not shown)
        self.setMaximumHeight(16777215 if shown else self._header)
        emit(self, "contentsCollapsed(bool)", not shown)

    def sizeHint(self):
        layout = self.layout()
        wanted = layout.sizeHint() if layout and not self.collapsed else QtCore.QSize(80, 0)
        return QtCore.QSize(wanted.width(), wanted.height() + self._header)

    def hitButton(self, position):
        return position.y() < self._header

    def paintEvent(self, event):
        painter, header = QtGui.QPainter(self), QtCore.QRect(0, 0, self.width, self._header - 2)
        painter.fillRect(header, self.palette.color(QtGui.QPalette.Button).darker(108))
        arrow = "\u25b8 " if self.collapsed else "\u25be "
        painter.drawText(header.adjusted(6, 0, 0, 0), QtCore.Qt.AlignVCenter | QtCore.Qt.AlignLeft, arrow + self.text)


class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):
    collapsed = _COLLAPSED

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.checkable = True
        self.toggled.connect(lambda shown: _collapse(self, not shown))


class ctkSliderWidget(QtWidgets.QWidget):
    """A bounded floating point value: a spin box holds it, a slider of a thousand steps follows."""

    def __init__(self, *arguments):
        super().__init__(*(a for a in arguments if isinstance(a, QtWidgets.QWidget)))
        self._spin, self._bar = QtWidgets.QDoubleSpinBox(), QtWidgets.QSlider(QtCore.Qt.Horizontal)
        self._bar.maximum = 1000
        row_of(self, self._bar, self._spin)
        self._bar.connect("sliderMoved(int)", lambda step: self._spin.setValue(self.minimum + (self.maximum - self.minimum) * step / 1000))
        self._spin.connect("valueChanged(double)", self._changed)

    def _changed(self, value):
        self._follow()
        emit(self, "valueChanged(double)", value)

    def _follow(self):
        span = self.maximum - self.minimum
        self._bar.value = round(1000 * (self.value - self.minimum) / span) if span > 0 else 0

    def _bound(name):
        def assign(self, value):
            setattr(self._spin, name, value)
            self._follow()

        return property(lambda self: getattr(self._spin, name), assign)

    minimum, maximum = _bound("minimum"), _bound("maximum")
    value, singleStep, decimals = forwards("_spin", "value"), forwards("_spin", "singleStep"), forwards("_spin", "decimals")
    prefix, suffix, tracking = forwards("_spin", "prefix"), forwards("_spin", "suffix"), forwards("_spin", "keyboardTracking")
    spinBoxVisible = property(lambda self: not self._spin.isHidden(), lambda self, shown: self._spin.setVisible(shown))


class ctkDoubleSlider(ctkSliderWidget):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._spin.decimals = 6
        self._spin.setVisible(False)


class ctkRangeWidget(QtWidgets.QWidget):
    """Two bounded values, lower <= upper."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._low, self._high = QtWidgets.QDoubleSpinBox(), QtWidgets.QDoubleSpinBox()
        row_of(self, self._low, self._high)
        self._high.value = 99.0
        self._values = (self._low.value, self._high.value)
        self._low.connect("valueChanged(double)", lambda value: self.setValues(value, max(value, self._high.value)))
        self._high.connect("valueChanged(double)", lambda value: self.setValues(min(value, self._low.value), value))

    def _assign(self, **properties):
        for spin in (self._low, self._high):
            blocker = QtCore.QSignalBlocker(spin)
            for name, values in properties.items():
                setattr(spin, name, values[spin is self._high])
            blocker.unblock()

    def setValues(self, lower, upper):
        self._assign(value=(lower, upper))
        before, self._values = self._values, (self._low.value, self._high.value)
        for name, old, new in zip(("minimum", "maximum"), before, self._values, strict=True):
            if old != new:
                emit(self, f"{name}ValueChanged(double)", new)
        if self._values != before:
            emit(self, "valuesChanged(double,double)", *self._values)

    def setRange(self, minimum, maximum):
        self.minimum, self.maximum = minimum, maximum

    def _both(name):
        def assign(self, value):
            values = self._values
            self._assign(**{name: (value, value)})
            self.setValues(*values)

        return property(lambda self: getattr(self._low, name), assign)

    minimum, maximum, decimals, singleStep = _both("minimum"), _both("maximum"), _both("decimals"), _both("singleStep")
    prefix, suffix = _both("prefix"), _both("suffix")
    minimumValue = property(lambda self: self._values[0], lambda self, value: self.setValues(value, max(value, self._values[1])))
    maximumValue = property(lambda self: self._values[1], lambda self, value: self.setValues(min(value, self._values[0]), value))


class ctkDoubleRangeSlider(ctkRangeWidget):
    pass


class ctkPathLineEdit(QtWidgets.QWidget):
    """A path in a line edit with a browse button."""

    _changed = "currentPathChanged(QString)"
    AllEntries, Dirs, Files, Drives, NoDot, NoDotDot, NoDotAndDotDot, Readable, Writable, Executable, Hidden, System = (
        getattr(QtCore.QDir, name)
        for name in "AllEntries Dirs Files Drives NoDot NoDotDot NoDotAndDotDot Readable Writable Executable Hidden System".split()
    )
    ShowDirsOnly = QtWidgets.QFileDialog.ShowDirsOnly

    def __init__(self, *arguments):
        super().__init__(*(a for a in arguments if isinstance(a, QtWidgets.QWidget)))
        self._edit, browse = QtWidgets.QLineEdit(next((a for a in arguments if isinstance(a, str)), "")), QtWidgets.QToolButton()
        browse.text = "..."
        row_of(self, self._edit, browse)
        self._edit.connect("textChanged(QString)", lambda path: emit(self, self._changed, path))

    def _set_path(self, path):
        self._edit.text = os.fspath(path).replace(os.sep, "/")

    currentPath = directory = property(lambda self: self._edit.text, _set_path)
    addCurrentPathToHistory = retrieveHistory = does_nothing


class ctkDirectoryButton(ctkPathLineEdit):
    _changed = "directoryChanged(QString)"
