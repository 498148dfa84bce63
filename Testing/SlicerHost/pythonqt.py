"""PySide6 made to behave like PythonQt, for the whole process: the Qt classes themselves are changed, so objects made by Qt behave alike.

Properties become attributes, `connect("signal(args)", f)` works beside `signal.connect(f)`, extra signal arguments are dropped, an
exception in a slot is printed and the program goes on, and every name that PythonQt does not offer raises AttributeError.
"""

import contextlib
import dis
import functools
import inspect
import sys
import traceback
import types

from PySide6 import QtCore, QtGui, QtSvgWidgets, QtWidgets

from SlicerHost.application_names import class_names, refuse

SLOT_ERRORS = []  # exceptions raised in slots: printed as in Slicer, kept for tests

_getters = {}  # Qt class -> its own attribute look-up, which knows functions that are static and not
_native_connect, _native_disconnect = QtCore.QObject.connect, QtCore.QObject.disconnect
_native_property, _native_set_property = QtCore.QObject.property, QtCore.QObject.setProperty
# Where one name has several signatures, the attribute form takes the one declared first: in Qt 6 order, but for these.
_FIRST_DECLARED = {"finished": "finished(int)", "currentNodeChanged": "currentNodeChanged(vtkMRMLNode*)"}


class QtProperty(property):
    """A Qt property as an attribute of instances; the class keeps what it has of that name (QTimer.singleShot)."""

    def __init__(self, name, writable, original):
        virtual = isinstance(original, types.MethodDescriptorType)  # Qt asks Python for sizeHint, so Python must not ask Qt
        read = original if virtual else lambda widget: _native_property(widget, name)
        super().__init__(read, (lambda widget, value: _native_set_property(widget, name, value)) if writable else None)
        self.original = original

    def __get__(self, instance, owner=None):
        value = super().__get__(instance, owner) if instance is not None else self.original
        return tuple(value) if isinstance(value, list) else value


def make_slot(callable_):
    """A slot that drops the arguments a callable does not take, and survives its exceptions."""
    variable, count = inspect.Parameter.VAR_POSITIONAL, None
    with contextlib.suppress(TypeError, ValueError):
        kinds = [parameter.kind for parameter in inspect.signature(callable_).parameters.values()]
        count = None if variable in kinds else sum(kind < variable for kind in kinds)

    def call(*arguments):
        try:
            try:
                callable_(*arguments[:count])
            except TypeError:
                if not (arguments and isinstance(callable_, types.BuiltinMethodType)):  # clicked(bool) to dialog.accept()
                    raise
                callable_()
        except Exception as error:
            traceback.print_exception(error)
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


def _normalized(self, signature):
    """(signature without spaces and references, whether Qt itself sends it)"""
    wanted = bytes(QtCore.QMetaObject.normalizedSignature(signature)).decode()
    return wanted, self.metaObject().indexOfSignal(wanted) >= 0


def connect(self, signature, *target):
    """QObject.connect of PythonQt: connect("signal(args)", callable) or connect("signal(args)", receiver, "slot(args)")."""
    slot = target[0] if len(target) == 1 else getattr(target[0], target[1].split("(")[0])
    wanted, native = _normalized(self, signature)
    if wanted not in [s.replace(" ", "") for s in _signatures(self, wanted.split("(")[0])]:
        print(f"QObject::connect: no signal {signature} in {type(self).__name__}", file=sys.stderr)
        return False
    call = make_slot(slot)
    if native:
        _native_connect(self, QtCore.SIGNAL(wanted), call)
    self.__dict__.setdefault("_slots", []).append((wanted, slot, call))
    return True


def disconnect(self, signature, *target):
    """Undo `connect`; without a target every slot of the signal."""
    wanted, native = _normalized(self, signature)
    slots = self.__dict__.setdefault("_slots", [])
    leaving = [entry for entry in slots if entry[0] == wanted and entry[1:2] == (target or entry[1:2])]
    for entry in leaving:
        slots.remove(entry)
        if native:
            _native_disconnect(self, QtCore.SIGNAL(wanted), entry[2])
    return bool(leaving)


def emit(self, signature, *arguments):
    """Run the slots of a signal that only the stand-in knows (signals of Qt's own classes are sent by Qt)."""
    for wanted, _slot_given, call in () if self.signalsBlocked() else list(self.__dict__.get("_slots", ())):
        if wanted == signature:
            call(*arguments)


class Signal:
    """`obj.clicked`: connect(f), disconnect([f]), and a call that sends the signal."""

    def __init__(self, owner, name):
        position, self._owner = owner.metaObject().indexOfSignal, owner
        self._all = sorted(_signatures(owner, name), key=lambda s: (s != _FIRST_DECLARED.get(name), position(s) < 0, position(s)))

    def connect(self, *target):
        return connect(self._owner, self._all[0], *target)

    def disconnect(self, *target):
        return any([disconnect(self._owner, signature, *target) for signature in self._all])

    def __call__(self, *arguments):
        emit(self._owner, self._all[0], *arguments)


def _native_get(self, name):
    return next(_getters[base] for base in type(self).__mro__ if base in _getters)(self, name)


@functools.cache
def _offered(cls):
    """(listed names or None, names a Python subclass adds or None for a plain Qt or stand-in class)."""
    added = None
    for base in cls.__mro__:
        listed = class_names(base.__name__)
        if listed or base.__module__.startswith("PySide6"):
            break
        added = (added or set()) | set(vars(base))
    return listed, added


def _asked_by_python(frame, *instructions):
    """True if the frame reads (or sets) an attribute just now; False inside a call, where Qt itself looks or sets."""
    code, at = frame.f_code.co_code, frame.f_lasti
    while dis.opname[code[at]] == "CACHE":  # 3.12 has advanced over them
        at -= 2
    return dis.opname[code[at]] in instructions


def _getattribute(self, name):
    if name.startswith("_"):
        return _native_get(self, name)
    by_python = _asked_by_python(sys._getframe(1), "LOAD_ATTR", "LOAD_METHOD")  # QTimer.singleShot connects in its own way
    if name in ("connect", "disconnect") and by_python:
        return functools.partial(connect if name == "connect" else disconnect, self)
    listed, added = _offered(type(self))
    mine = _native_get(self, "__dict__").get(name, ...)  # where PySide6 keeps its signals too
    foreign = isinstance(mine, (types.EllipsisType, QtCore.SignalInstance)) and name not in (added or ())
    if foreign and listed and name not in listed.names:
        if by_python or not hasattr(type(self), name):
            refuse(type(self).__name__, name, ())
    try:
        value = _native_get(self, name)
    except AttributeError:
        if not listed or name not in listed.names:
            raise
        if name in listed.signals:
            return Signal(self, name)
        if name.startswith("set") and name[3:4].lower() + name[4:] in listed.properties:
            return functools.partial(setattr, self, name[3:4].lower() + name[4:])
        refuse(type(self).__name__, name, listed.names)
    return Signal(self, name) if isinstance(value, QtCore.SignalInstance) else value


def _setattr(self, name, value):
    descriptor = inspect.getattr_static(type(self), name, None)
    listed, added = _offered(type(self))
    kept = listed and listed.properties.get(name)  # a property whose effect is not imitated reads back
    if hasattr(descriptor, "__set__"):
        descriptor.__set__(self, value)
    elif kept:
        self.__dict__[name] = tuple(value) if isinstance(value, list) else value
        getattr(self, "_update", lambda: None)()
    elif name.startswith("_") or added is not None or isinstance(value, QtCore.SignalInstance):  # PySide6 keeps its signals so
        self.__dict__[name] = value
    elif _asked_by_python(sys._getframe(1), "STORE_ATTR") or not isinstance(value, QtCore.QObject):  # the .ui loader tries too
        raise AttributeError(f"creating new attributes on C++ objects is not allowed: {type(self).__name__}.{name}")


def _refusing(cls):
    """Attribute look-up of a listed class that is no QObject."""
    native, names = cls.__getattribute__, class_names(cls.__name__).names
    return lambda self, name: native(self, name) if name.startswith("_") or name in names else refuse(cls.__name__, name, ())


def install():
    """Change PySide6's classes; once per process."""
    everything = [getattr(module, name) for module in (QtCore, QtGui, QtWidgets, QtSvgWidgets) for name in dir(module)]
    every = {c for c in everything if isinstance(c, type)}
    classes = sorted((c for c in every if issubclass(c, QtCore.QObject)), key=lambda c: len(c.__mro__))
    for cls in (c for c in every if not issubclass(c, QtCore.QObject) and class_names(c.__name__)):
        cls.__getattribute__ = _refusing(cls)
    for cls in classes:
        meta = cls.staticMetaObject
        for declared in map(meta.property, range(meta.propertyOffset(), meta.propertyCount())):
            setattr(cls, declared.name(), QtProperty(declared.name(), declared.isWritable(), getattr(cls, declared.name(), None)))
        _getters[cls] = cls.__getattribute__
    for cls in classes:
        cls.__getattribute__, cls.__setattr__ = _getattribute, _setattr
    QtCore.QObject.name = vars(QtCore.QObject)["objectName"]
    QtCore.QObject.className = lambda self: self.metaObject().className()
