"""Start the stand-in Slicer in this process: `host = launch.start(["PerfusionMaps", "CTPerfusionSuite"])`."""

import importlib.util
import os
import sys
import time

_host = None


def missing():
    """What must be installed before the host can start; empty when all is there."""
    return [name for name in ("slicer_core", "PySide6") if importlib.util.find_spec(name) is None]


def start(folders=(), main_window=True):
    """The one Host of this process; module folders are added as with --additional-module-paths."""
    global _host
    if _host is None:
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
        sys.pyside6_option_python_enum = 2  # enums compare as the integers that PythonQt gives
        _host = Host(main_window)
    _host.add_modules(folders)
    return _host


class Host:
    """The running stand-in, and the hands of an imagined user."""

    def __init__(self, main_window):
        from SlicerHost import qt_modules

        sys.modules.update(qt_modules.make_modules())
        import slicer

        from SlicerHost import application, pythonqt, scripted_modules, views
        from SlicerHost.application_names import MODULES, refuse

        self.application, self.modules, self._slicer, self._scripted = application.app(), {}, slicer, scripted_modules
        self.slot_errors, self.dialogs, self.answers = pythonqt.SLOT_ERRORS, qt_modules.DIALOGS, qt_modules.ANSWERS
        for name in {name for name in dir(slicer) if not name.startswith("_")} - MODULES["slicer"]:
            delattr(slicer, name)  # the wheel has slicer.util's functions here too, Slicer has not
        slicer.dicomDatabase = None
        slicer.__getattr__ = lambda name: refuse("slicer", name, MODULES["slicer"])
        shown = {name: cls for source in (views, scripted_modules) for name, cls in vars(source).items()} | qt_modules.STAND_INS
        vars(slicer).update((name, cls) for name, cls in shown.items() if name in MODULES["slicer"])
        for name, module in scripted_modules.make_modules().items():
            sys.modules[name] = module
            if name.startswith("slicer."):
                setattr(slicer, name.split(".")[1], module)
        application.make_scene(self.application)
        self.widget = slicer.util.getModuleWidget  # the module's Widget object, set up but not entered
        self.logic = lambda name: getattr(sys.modules[name], f"{name}Logic")()
        if main_window:
            self.application._window = application.qSlicerMainWindow()

    def add_modules(self, folders):
        new = [os.path.abspath(folder) for folder in folders if os.path.basename(os.path.abspath(folder)) not in self.modules]
        if new:
            self.modules.update(self._scripted.load_modules(new))
            self.application.startupCompleted()

    def open(self, name):
        """Select the module as a user does; its Widget object."""
        self._slicer.util.selectModule(name)
        return self.widget(name)

    def wait(self, condition, seconds=10.0):
        """Process events until condition(); False when the time is over."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            self.application.processEvents()
            time.sleep(0.002)
        return True

    def hover(self, ras, *events, view="Red"):
        """Scroll a slice view to a world position and point at it with the mouse; then VTK's events, such as "LeaveEvent"."""
        self.application.layoutManager().sliceWidget(view).sliceView()._mouse(ras, *events)
        self.application.processEvents()

    def click(self, ras, view="Red"):
        """Click there: in place mode this places a control point."""
        self.hover(ras, "LeftButtonPressEvent", "LeftButtonReleaseEvent", view=view)

    def drag(self, positions, view="Red"):
        """Press the button at the first of world positions, on a control point for instance, and let it go at the last."""
        self.hover(positions[0], "LeftButtonPressEvent", view=view)
        for position in positions[1:]:
            self.hover(position, view=view)
        self.hover(positions[-1], "LeftButtonReleaseEvent", view=view)
