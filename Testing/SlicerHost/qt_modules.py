"""The modules `qt` and `ctk`, and the .ui loader that makes the stand-ins."""

import types
import xml.etree.ElementTree as ElementTree

from PySide6 import QtCore, QtGui, QtSvg, QtSvgWidgets, QtUiTools, QtWidgets

from SlicerHost import control_widgets, pythonqt
from SlicerHost.application_names import MODULES, UI_FILE_CLASSES, NotImitated, widget_names

DIALOGS = []  # (title, text) of every message box that was opened
ANSWERS = {"button": QtWidgets.QMessageBox.Ok, "file": "", "files": (), "text": ""}  # what the imagined user answers

STAND_INS = {name: cls for name, cls in vars(control_widgets).items() if name.startswith("ctk")}


def _message_box(box):
    DIALOGS.append((box.windowTitle, box.text))
    return ANSWERS["button"]


def _dialog(dialog):
    """Modal dialogs have no user here: one that nobody closes within ten seconds is rejected."""
    QtCore.QTimer.singleShot(10000, dialog.reject)
    return QtWidgets.QDialog.exec(dialog)


def _value(element, owner):
    """Python value of a .ui property."""
    kind, text = element.tag, element.text or ""
    if kind in ("enum", "set"):
        total = None
        for word in text.split("|"):
            flag = getattr(owner, word.split("::")[-1], None)
            total = flag if total is None else total | flag
        return text if total is None else total
    if kind == "stringlist":
        return tuple(item.text or "" for item in element)
    if kind == "color":
        return QtGui.QColor(*(int(element.findtext(part)) for part in ("red", "green", "blue")))
    convert = {"bool": lambda t: t == "true", "number": int, "double": float, "float": float}
    return convert.get(kind, str)(text)


class QUiLoader(QtUiTools.QUiLoader):
    """Makes our stand-in where a .ui file names a class of CTK or Slicer."""

    def availableWidgets(self):
        return (*super().availableWidgets(), *UI_FILE_CLASSES)

    def createWidget(self, class_name, parent=None, name=""):
        if class_name not in STAND_INS:
            return super().createWidget(class_name, parent, name)
        widget = STAND_INS[class_name](parent)
        widget.objectName = name
        self._made[name] = widget
        return widget

    def load(self, device, parent=None):
        self._made = {}
        tree = ElementTree.fromstring(bytes(device.readAll().data()))
        assigned = []  # properties of stand-ins, which Qt does not know
        for element in tree.iter("widget"):
            class_name, name = element.get("class"), element.get("name")
            if class_name in UI_FILE_CLASSES and class_name not in STAND_INS:
                raise NotImitated(f"{class_name} exists in Slicer, the test host does not imitate it")
            if class_name in STAND_INS:
                cls, listed = STAND_INS[class_name], widget_names(class_name)
                for entry in element.findall("property"):
                    own = isinstance(getattr(cls, entry.get("name"), None), property)
                    if listed.properties.get(entry.get("name")) and (own or not hasattr(cls, entry.get("name"))):
                        assigned.append((name, entry.get("name"), _value(entry[0], cls)))
                        element.remove(entry)
        connections = [{part.tag: part.text for part in entry} for entry in tree.findall("connections/connection")]
        for entry in tree.findall("connections"):
            tree.remove(entry)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(tree))
        buffer.open(QtCore.QIODevice.ReadOnly)
        root = super().load(buffer, parent)
        for name, attribute, value in assigned:
            setattr(self._made[name], attribute, value)
        find = {root.objectName: root, **{child.objectName: child for child in root.findChildren(QtCore.QObject)}}
        for entry in connections:
            find[entry["sender"]].connect(entry["signal"], find[entry["receiver"]], entry["slot"])
        root._made_by_loader = self._made  # Python halves of the stand-ins live as long as the panel
        return root


class QFileDialog(QtWidgets.QFileDialog):
    """The static functions answer at once with ANSWERS; by default the imagined user cancels."""

    getOpenFileName = getSaveFileName = getExistingDirectory = staticmethod(lambda *arguments: ANSWERS["file"])
    getOpenFileNames = staticmethod(lambda *arguments: tuple(ANSWERS["files"]))


class QInputDialog(QtWidgets.QInputDialog):
    getText = getItem = getMultiLineText = staticmethod(lambda *arguments: ANSWERS["text"])
    getDouble = getInt = staticmethod(lambda parent, title, label, value=0, *arguments: value)


class ListedModule(types.ModuleType):
    """A module that offers what the application's module of that name offers, as far as it is imitated."""

    def __getattr__(self, name):
        if name in MODULES[self.__name__]:
            raise NotImitated(f"{self.__name__}.{name} exists in Slicer, the test host does not imitate it")
        raise AttributeError(f"module '{self.__name__}' has no attribute '{name}' in Slicer")


def make_modules():
    """{"qt": module, "ctk": module}; changes PySide6 on the way."""
    pythonqt.install()
    QtWidgets.QDialog.exec_ = _dialog
    QtWidgets.QMessageBox.exec_ = _message_box
    for static in ("question", "information", "warning", "critical", "about"):
        setattr(QtWidgets.QMessageBox, static, staticmethod(lambda parent, title, text, *buttons: _ask(title, text)))
    QtWidgets.QMenu.exec_ = lambda menu, *arguments: None
    QtCore.QEventLoop.exec_ = lambda loop: loop.exec()
    qt, ctk = ListedModule("qt"), ListedModule("ctk")
    own = {"QUiLoader": QUiLoader, "QFileDialog": QFileDialog, "QInputDialog": QInputDialog}
    for name in MODULES["qt"]:
        found = [getattr(module, name) for module in (QtCore, QtGui, QtWidgets, QtSvg, QtSvgWidgets) if hasattr(module, name)]
        if name in own or found:
            setattr(qt, name, own.get(name) or found[0])
    for name, cls in STAND_INS.items():
        if name in MODULES["ctk"]:
            setattr(ctk, name, cls)
    return {"qt": qt, "ctk": ctk}


def _ask(title, text):
    DIALOGS.append((title, text))
    return ANSWERS["button"]
