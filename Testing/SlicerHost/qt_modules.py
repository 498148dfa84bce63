"""The modules `qt` and `ctk`, and the .ui loader that makes the stand-ins."""

import xml.etree.ElementTree as ElementTree

from PySide6 import QtCore, QtGui, QtSvg, QtSvgWidgets, QtUiTools, QtWidgets

from SlicerHost import pythonqt, widgets
from SlicerHost.application_names import APPLICATION, ListedModule, class_names, refuse

DIALOGS, ANSWERS = [], []  # (title, text) of every dialog that was opened; what the imagined user answers to the next ones
STAND_INS = {name: cls for name, cls in vars(widgets).items() if name.startswith(("ctk", "qMRML", "qSlicer"))}
STAND_INS["ctkMessageBox"] = QtWidgets.QMessageBox


class QUiLoader(QtUiTools.QUiLoader):
    """Makes our stand-in where a .ui file names a class of CTK or Slicer."""

    def createWidget(self, class_name, parent=None, name=""):
        if class_name not in STAND_INS:
            return super().createWidget(class_name, parent, name)
        self._made[name] = widget = STAND_INS[class_name](parent)
        widget.objectName = name
        return widget

    def load(self, device, parent=None):
        """The panel of a file; what Qt does not know of stand-ins (properties and connections) is done here."""
        self._made = {}
        tree = ElementTree.fromstring(bytes(device.readAll().data()))
        for element in tree.iter("widget"):
            imitated = element.get("class") in STAND_INS
            if element.get("class") in APPLICATION["ui_file_classes"] and not imitated:
                refuse("the .ui file's loader", element.get("class"), APPLICATION["ui_file_classes"])
            for entry in element.findall("property[set]") if imitated else ():  # flags of a dialog that never opens
                element.remove(entry)
        connections = [{part.tag: part.text for part in entry} for entry in tree.findall("connections/connection")]
        for entry in tree.findall("connections"):
            tree.remove(entry)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(tree))
        buffer.open(QtCore.QIODevice.ReadOnly)
        root = super().load(buffer, parent)
        for widget in self._made.values():
            for name in [bytes(name).decode() for name in widget.dynamicPropertyNames()]:
                if class_names(type(widget).__name__).properties.get(name):
                    setattr(widget, name, widget.property(name))
                    widget.setProperty(name, None)
        find = {root.objectName: root, **{child.objectName: child for child in root.findChildren(QtCore.QObject)}}
        for entry in connections:
            find[entry["sender"]].connect(entry["signal"], find[entry["receiver"]], entry["slot"])
        root._made_by_loader = self._made  # Python halves of the stand-ins live as long as the panel
        return root


def _answer(title, text, otherwise):
    DIALOGS.append((title, text))
    return ANSWERS.pop(0) if ANSWERS else otherwise


def make_modules():
    """{"qt": module, "ctk": module}; changes PySide6 on the way."""
    pythonqt.install()
    QtWidgets.QMessageBox.exec_ = lambda box: _answer(box.windowTitle, box.text, QtWidgets.QMessageBox.Ok)
    QtWidgets.QFileDialog.getOpenFileName = staticmethod(lambda parent, title, *arguments: _answer(title, "", ""))  # "": canceled
    QtWidgets.QInputDialog.getDouble = staticmethod(lambda parent, title, label, value=0, *arguments: _answer(title, label, value))
    offered = {name: getattr(module, name) for module in (QtSvgWidgets, QtSvg, QtWidgets, QtGui, QtCore) for name in dir(module)}
    return {"qt": ListedModule("qt", offered | {"QUiLoader": QUiLoader}), "ctk": ListedModule("ctk", STAND_INS)}
