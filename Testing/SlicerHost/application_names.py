"""Which names Slicer offers (`application_names.json`, written down from 5.13); what is absent there does not exist and is refused."""

import functools
import json
import operator
import pathlib
import types


class NotImitated(NotImplementedError, AttributeError):
    """Slicer has this name, the test host does not imitate it."""


APPLICATION = json.loads(pathlib.Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
MODULES = {name: frozenset(members) for name, members in APPLICATION["modules"].items()}


def refuse(owner, name, listed):
    """Raise AttributeError for a name: NotImitated where Slicer has it."""
    if name in listed:
        raise NotImitated(f"{owner}.{name} exists in Slicer, the test host does not imitate it")
    raise AttributeError(f"{owner} has no attribute named '{name}' in Slicer")


@functools.cache
def class_names(name):
    """Of a class with its bases: `names` all, `properties` name -> writable, `signals` name -> signatures; None if it is not listed."""
    entry = APPLICATION["classes"].get(name)
    if entry is None:
        return None
    nothing = types.SimpleNamespace(names={"name"}, properties={}, signals={})  # PythonQt: name is the objectName
    base = class_names(entry.get("base")) or nothing
    properties = base.properties | dict.fromkeys(entry.get("properties", ()), True) | dict.fromkeys(entry.get("readonly", ()), False)
    signals = dict(base.signals)
    for signature in entry.get("signals", ()):
        signals[signature.split("(")[0]] = [*signals.get(signature.split("(")[0], ()), signature]
    names = base.names | {*entry.get("methods", ()), *properties, *signals}
    return types.SimpleNamespace(names=names | ({"exec_"} if "exec" in names else set()), properties=properties, signals=signals)


def gives(path):
    """A method that returns a private attribute, also one of an inner object: "_view._node"."""
    return lambda self: operator.attrgetter(path)(self)


def does_nothing(self, *arguments):
    """A method of the application that has no effect here."""


class ListedModule(types.ModuleType):
    """A module that offers what the application's module of that name offers, as far as it is among the contents."""

    def __init__(self, name, contents):
        super().__init__(name)
        self._listed = MODULES.get(name, contents)
        vars(self).update((name, thing) for name, thing in contents.items() if name in self._listed)

    def __getattr__(self, name):
        refuse(self.__name__, name, self._listed)


class StandIn:
    """Base of the host's plain Python stand-ins, which are named as in the application."""

    def __getattr__(self, name):
        refuse(type(self).__name__, name, () if name.startswith("_") else class_names(type(self).__name__).names)

    def __setattr__(self, name, value):
        if not name.startswith("_") and name not in class_names(type(self).__name__).names:
            refuse(type(self).__name__, name, ())
        object.__setattr__(self, name, value)
