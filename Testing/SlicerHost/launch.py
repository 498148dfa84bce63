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
        self.slot_errors, self.dialogs = pythonqt.SLOT_ERRORS, qt_modules.DIALOGS
        for name in set(dir(slicer)) - MODULES["slicer"]:
            if not name.startswith("_"):
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
        if main_window:
            self.application._window = application.qSlicerMainWindow()

    def add_modules(self, folders):
        new = [os.path.abspath(folder) for folder in folders if os.path.basename(os.path.abspath(folder)) not in self.modules]
        if new:
            self.modules.update(self._scripted.load_modules(new))
            self.application.startupCompleted()

    def reset(self):
        """Empty scene, default layout, nothing pending: how every test begins and ends."""
        self._slicer.mrmlScene.Clear()
        if self.application.layoutManager():
            self.application.layoutManager().setLayout(self._slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
            self._slicer.util.setSliceViewerLayers(background=None, foreground=None, label=None)
        self.application._testing = True
        self.slot_errors.clear()
        self.dialogs.clear()

    def widget(self, name):
        """The module's Widget object, set up but not entered."""
        return self._slicer.util.getModuleWidget(name)

    def open(self, name):
        """Select the module as a user does; its Widget object."""
        self._slicer.util.selectModule(name)
        return self.widget(name)

    def logic(self, name):
        return getattr(sys.modules[name], f"{name}Logic")()

    def run_test(self, name):
        """Run <Module>Test as Reload & Test would; raises what fails."""
        self.modules[name].runTest()

    def click_sample(self, name):
        """Press the button of a sample data set."""
        source = self._scripted.SampleDataLogic().sourceForSampleName(name)
        return source.customDownloader(source)

    def wait(self, condition, seconds=10.0):
        """Process events until condition(); False when the time is over."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            self.application.processEvents()
            time.sleep(0.002)
        return True

    def slice_pixels(self, view="Red", size=(400, 400)):
        """RGB pixels (rows, columns, 3) uint8 of a slice view of a given size; slicer.util.resetSliceViews() fits it."""
        widget = self.application.layoutManager().sliceWidget(view).sliceView()
        widget.resize(*size)
        return widget._image()

    def drag(self, markups, index, positions):
        """Drag a control point along world positions, with the events a mouse gives."""
        markups.InvokeEvent(markups.PointStartInteractionEvent)
        for position in positions:
            markups.SetNthControlPointPosition(index, list(position))
            self.application.processEvents()
        markups.InvokeEvent(markups.PointEndInteractionEvent)

    def hover(self, ras):
        """Move the mouse over a slice view to a world position."""
        self._slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode").SetCursorPositionRAS(list(ras))
        self.application.processEvents()
