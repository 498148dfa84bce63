"""Which names the real application offers, class by class (`application_names.json`, written down from Slicer 5.13).

What is absent there does not exist in Slicer, and the host must refuse it: code that runs here has to run there.
"""

import functools
import json
import pathlib


class NotImitated(NotImplementedError, AttributeError):
    """Slicer has this name, the test host does not imitate it."""


with open(pathlib.Path(__file__).with_suffix(".json"), encoding="utf-8") as _file:
    _names = json.load(_file)

MODULES = {name: frozenset(members) for name, members in _names["modules"].items()}
UI_FILE_CLASSES = frozenset(_names["ui_file_classes"])


class ClassNames:
    """Names of one class of the application, its base's included.

    `names`: everything an instance offers; `properties`: name -> writable; `signals`: signatures by signal name.
    """

    def __init__(self, entry, base):
        self.properties = {**(base.properties if base else {}), **{name: True for name in entry.get("properties", ())}}
        self.properties.update({name: False for name in entry.get("readonly", ())})
        self.signals = {name: list(signatures) for name, signatures in base.signals.items()} if base else {}
        for signature in entry.get("signals", ()):
            self.signals.setdefault(signature.split("(")[0], []).append(signature)
        names = set(entry.get("methods", ())) | (base.names if base else {"name"})  # PythonQt: name is the objectName
        names |= {"exec_"} if "exec" in names else set()  # PythonQt's second name
        self.names = frozenset(names | set(self.properties) | set(self.signals))


@functools.cache
def class_names(full_name):
    """ClassNames of "qt.QLabel", "ctk.ctkSliderWidget", "slicer.qMRMLWidget", "slicer.app", ... or None if not listed."""
    entry = _names["classes"].get(full_name)
    return entry and ClassNames(entry, entry.get("base") and class_names(entry["base"]))


@functools.cache
def widget_names(class_name):
    """The same from the bare class name of a Qt, CTK or qMRML class."""
    for module in ("qt", "ctk", "slicer"):
        found = class_names(f"{module}.{class_name}")
        if found:
            return found
    return None


def gives(attribute):
    """A method that returns a private attribute."""
    return lambda self: getattr(self, attribute)


def forwards(part, name):
    """A property that is the same property of an inner object."""
    return property(lambda self: getattr(getattr(self, part), name), lambda self, value: setattr(getattr(self, part), name, value))


def does_nothing(self, *arguments):
    """A method of the application that has no effect here."""


class StandIn:
    """Base of the host's plain Python stand-ins: `_slicer_name` says which object of the application is imitated."""

    _slicer_name = None

    def __getattr__(self, name):
        listed = class_names(self._slicer_name)
        if not name.startswith("_") and name in listed.names:
            raise NotImitated(f"{self._slicer_name}.{name} exists in Slicer, the test host does not imitate it")
        raise AttributeError(f"{self._slicer_name} has no attribute '{name}' in Slicer")

    def __setattr__(self, name, value):
        if not name.startswith("_") and name not in class_names(self._slicer_name).names:
            raise AttributeError(f"{self._slicer_name} has no attribute '{name}' in Slicer")
        object.__setattr__(self, name, value)
