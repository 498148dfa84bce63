"""PySide6 made to behave like PythonQt, for the whole process.

Properties become attributes (`w.text`, `w.checked = True`), `connect("signal(args)", f)` works beside
`signal.connect(f)`, extra signal arguments are dropped, an exception in a slot is printed and the program goes on,
and every name that PythonQt does not offer raises AttributeError.  The Qt classes themselves are changed, so objects
made by Qt (a combo box's line edit, a child of a loaded .ui file) behave alike and `type(w) is qt.QPushButton` holds.
"""

import dis
import enum
import functools
import inspect
import sys
import traceback
import types

from PySide6 import QtCore, QtGui, QtSvgWidgets, QtWidgets

from SlicerHost.application_names import NotImitated, widget_names

SLOT_ERRORS = []  # exceptions raised in slots: printed as in Slicer, kept for tests

_getters = {}  # Qt class -> its own attribute look-up, which knows functions that are static and not
_native_connect = QtCore.QObject.connect
_native_disconnect = QtCore.QObject.disconnect
# Where one name has several signatures, the attribute form takes the one declared first: in Qt 6 order, but for these.
_FIRST_DECLARED = {"finished": "finished(int)", "currentNodeChanged": "currentNodeChanged(vtkMRMLNode*)"}


class PropertyAttribute:
    """A Qt property as a plain attribute of instances; the class keeps its original attribute."""

    def __init__(self, name, getter, setter, original):
        self.name, self.getter, self.setter, self.original = name, getter, setter, original

    def __get__(self, instance, owner):
        if instance is None:
            return self.original
        value = self.getter(instance)
        return tuple(value) if isinstance(value, list) else value

    def __set__(self, instance, value):
        if self.setter is None:
            raise AttributeError(f"Property '{self.name}' of {type(instance).__name__} object is not writable")
        self.setter(instance, value)


def make_slot(callable_):
    """A slot that drops the arguments a callable does not take, and survives its exceptions."""
    try:
        kinds = [parameter.kind for parameter in inspect.signature(callable_).parameters.values()]
    except (TypeError, ValueError):
        kinds = [inspect.Parameter.VAR_POSITIONAL]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    count = None if inspect.Parameter.VAR_POSITIONAL in kinds else sum(kind in positional for kind in kinds)
    of_qt = isinstance(callable_, types.BuiltinMethodType)

    def call(*arguments):
        try:
            try:
                callable_(*arguments[:count])
            except TypeError:
                if not (of_qt and arguments):  # clicked(bool) to dialog.accept()
                    raise
                callable_()
        except Exception as error:
            traceback.print_exc()
            SLOT_ERRORS.append(error)

    return call


def _signatures(self, name):
    """Signatures of a signal: those listed for the application, else those of Qt."""
    listed, _added = _offered(type(self))
    if listed and (name in listed.signals or name not in listed.names):
        return listed.signals.get(name, [])
    meta = self.metaObject()
    methods = (meta.method(i) for i in range(meta.methodCount()))
    return [bytes(m.methodSignature()).decode() for m in methods if bytes(m.name()).decode() == name]


def connect(self, signature, *target):
    """QObject.connect of PythonQt: connect("signal(args)", callable) or connect("signal(args)", receiver, "slot(args)")."""
    slot = target[0] if len(target) == 1 else getattr(target[0], target[1].split("(")[0])
    wanted = bytes(QtCore.QMetaObject.normalizedSignature(signature)).decode()
    if wanted not in [s.replace(" ", "") for s in _signatures(self, wanted.split("(")[0])]:
        print(f"QObject::connect: no signal {signature} in {type(self).__name__}", file=sys.stderr)
        return False
    call = make_slot(slot)
    if self.metaObject().indexOfSignal(wanted) >= 0:
        _native_connect(self, QtCore.SIGNAL(wanted), call)
    self.__dict__.setdefault("_slots", []).append((wanted, slot, call))
    return True


def disconnect(self, signature, *target):
    """Undo `connect`; without a target every slot of the signal."""
    wanted = bytes(QtCore.QMetaObject.normalizedSignature(signature)).decode()
    slots = self.__dict__.setdefault("_slots", [])
    leaving = [entry for entry in slots if entry[0] == wanted and (not target or entry[1] == target[0])]
    for entry in leaving:
        slots.remove(entry)
        if self.metaObject().indexOfSignal(wanted) >= 0:
            _native_disconnect(self, QtCore.SIGNAL(wanted), entry[2])
    return bool(leaving)


def emit(self, signature, *arguments):
    """Send a signal that only the stand-in knows (signals of Qt's own classes are sent by Qt)."""
    if not self.signalsBlocked():
        for wanted, _slot_given, call in list(self.__dict__.get("_slots", ())):
            if wanted == signature:
                call(*arguments)


class Signal:
    """`obj.clicked`: connect(f), disconnect([f]), and a call that sends the signal."""

    def __init__(self, owner, name):
        meta = owner.metaObject()
        signatures = sorted(_signatures(owner, name), key=lambda s: (meta.indexOfSignal(s) < 0, meta.indexOfSignal(s)))
        first = _FIRST_DECLARED.get(name)
        self._owner, self._name, self._all = owner, name, signatures
        self._signature = first if first in signatures else signatures[0]

    def connect(self, *target):
        return connect(self._owner, self._signature, *target)

    def disconnect(self, *target):
        return any([disconnect(self._owner, signature, *target) for signature in self._all])

    def __call__(self, *arguments):
        if self._owner.metaObject().indexOfSignal(self._signature) >= 0:
            _native_get(self._owner, self._name).emit(*arguments)
        else:
            emit(self._owner, self._signature, *arguments)


@functools.cache
def _getter(cls):
    return next(_getters[base] for base in cls.__mro__ if base in _getters)


def _native_get(self, name):
    return _getter(type(self))(self, name)


@functools.cache
def _offered(cls):
    """(listed names or None, names a Python subclass adds or None for a plain Qt or stand-in class)."""
    added = set()
    for depth, base in enumerate(cls.__mro__):
        listed = widget_names(base.__name__)
        if listed:
            return listed, (added if depth else None)
        if base.__module__.startswith("PySide6"):
            return None, (added if depth else None)
        added.update(vars(base))
    return None, added


def _asked_by_python(frame, *instructions):
    """True if the frame reads (or sets) an attribute just now; False inside a call, where Qt itself looks or sets."""
    code, at = frame.f_code.co_code, frame.f_lasti
    while dis.opname[code[at]] == "CACHE":  # 3.12 has advanced over them
        at -= 2
    return dis.opname[code[at]] in instructions


_READS = ("LOAD_ATTR", "LOAD_METHOD")


def _getattribute(self, name):
    if name.startswith("_"):
        return _native_get(self, name)
    if name in ("connect", "disconnect") and _asked_by_python(sys._getframe(1), *_READS):  # QTimer.singleShot connects in its own way
        return functools.partial(connect if name == "connect" else disconnect, self)
    listed, added = _offered(type(self))
    if listed and name not in listed.names and name not in (added or ()) and name not in _native_get(self, "__dict__"):
        if _asked_by_python(sys._getframe(1), *_READS) or not hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__} has no attribute named '{name}' in Slicer")
    try:
        value = _native_get(self, name)
    except AttributeError as error:
        if listed and name in listed.signals:
            return Signal(self, name)
        remembered = _native_get(self, "__dict__").get("_remembered", {})
        if name in remembered:
            return remembered[name]
        if listed and name in listed.names:
            if name.startswith("set") and name[3:4].lower() + name[4:] in listed.properties:
                return functools.partial(setattr, self, name[3:4].lower() + name[4:])
            raise NotImitated(f"{type(self).__name__}.{name} exists in Slicer, the test host does not imitate it") from error
        raise
    return Signal(self, name) if isinstance(value, QtCore.SignalInstance) else value


def _setattr(self, name, value):
    descriptor = inspect.getattr_static(type(self), name, None)
    listed, added = _offered(type(self))
    if hasattr(descriptor, "__set__"):
        descriptor.__set__(self, value)
    elif name.startswith("_") or added is not None or isinstance(value, QtCore.SignalInstance):  # PySide6 keeps its signals so
        self.__dict__[name] = value
    elif listed and listed.properties.get(name):  # a property whose effect is not imitated: kept, so that it reads back
        self.__dict__.setdefault("_remembered", {})[name] = value
    elif _asked_by_python(sys._getframe(1), "STORE_ATTR") or not isinstance(value, QtCore.QObject):  # the .ui loader tries too
        raise AttributeError(f"creating new attributes on C++ objects is not allowed: {type(self).__name__}.{name}")


def _property_attributes(cls):
    """Turn the properties a Qt class declares into attributes."""
    meta = cls.staticMetaObject
    for index in range(meta.propertyOffset(), meta.propertyCount()):
        declared = meta.property(index)
        name = declared.name()
        capital = name[0].upper() + name[1:]
        getters = [getattr(cls, candidate, None) for candidate in (name, "is" + capital, "has" + capital)]
        getter = next((g for g in getters if callable(g)), lambda self, name=name: self.property(name))
        setter = getattr(cls, "set" + capital, lambda self, value, name=name: self.setProperty(name, value))
        getter, setter = (_without_instance(f) if isinstance(f, types.BuiltinFunctionType) else f for f in (getter, setter))
        setattr(cls, name, PropertyAttribute(name, getter, setter if declared.isWritable() else None, getters[0]))


def _without_instance(static):
    return lambda _instance, *arguments: static(*arguments)


def _number_enums(cls):
    """Enums compare as the integers that PythonQt gives."""
    for kind in vars(cls).values():
        if isinstance(kind, type) and issubclass(kind, enum.Enum) and not issubclass(kind, int):
            kind.__eq__ = lambda self, other: self is other or self.value == getattr(other, "value", other)
            kind.__hash__ = lambda self: hash(self.value)
            kind.__int__ = kind.__index__ = lambda self: self.value


def install():
    """Change PySide6's classes; once per process."""
    if QtCore.QObject.__getattribute__ is _getattribute:
        return
    modules = (QtCore, QtGui, QtWidgets, QtSvgWidgets)
    classes = {c for module in modules for c in (getattr(module, name) for name in dir(module)) if isinstance(c, type)}
    for cls in classes:
        _number_enums(cls)
    for cls in sorted((c for c in classes if issubclass(c, QtCore.QObject)), key=lambda c: len(c.__mro__)):
        _property_attributes(cls)
        _getters[cls] = cls.__getattribute__
    for cls in _getters:
        cls.__getattribute__ = _getattribute
        cls.__setattr__ = _setattr
    QtCore.QObject.name = vars(QtCore.QObject)["objectName"]
    QtCore.QObject.className = lambda self: self.metaObject().className()
    QtCore.QObject.delete = lambda self: self.deleteLater()
