"""Start the stand-in Slicer in this process: `host = launch.start(["PerfusionMaps", "CTPerfusionSuite"])`."""

import importlib.util
import os
import sys
import time
import types

_host = None


def missing():
    """What must be installed before the host can start; empty when all is there."""
    return [name for name in ("slicer_core", "PySide6") if importlib.util.find_spec(name) is None]


def start(folders=(), main_window=True):
    """The one Host of this process; module folders are added as with --additional-module-paths."""
    global _host
    if _host is None:
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
        _host = Host(main_window)
    _host.add_modules(folders)
    return _host


class Host:
    """The running stand-in, and the hands of an imagined user."""

    def __init__(self, main_window):
        from SlicerHost import qt_modules

        sys.modules.update(qt_modules.make_modules())
        import slicer
        import vtk

        from SlicerHost import application, application_modules, dicom_modules, pythonqt, scripted_module
        from SlicerHost.application_names import MODULES, NotImitated

        self.application, self.modules, self._slicer, self._scripted = application.app(), {}, slicer, scripted_module
        self.slot_errors, self.dialogs, self.answers = pythonqt.SLOT_ERRORS, qt_modules.DIALOGS, qt_modules.ANSWERS
        self.click_sample, self.loadables_of = application_modules.click_sample, dicom_modules.loadables_of
        for name in set(dir(slicer)) - MODULES["slicer"]:
            if not name.startswith("_"):
                delattr(slicer, name)  # the wheel has slicer.util's functions here too, Slicer has not
        slicer.selfTests, slicer.dicomDatabase = {}, None
        _add_classes(slicer, qt_modules.STAND_INS)
        for name, module in _modules(MODULES["slicer.parameterNodeWrapper"]).items():
            sys.modules[name] = module
            if name.startswith("slicer."):
                setattr(slicer, name.split(".")[1], module)

        def absent(name):
            if name in MODULES["slicer"]:
                raise NotImitated(f"slicer.{name} exists in Slicer, the test host does not imitate it")
            raise AttributeError(f"module 'slicer' has no attribute '{name}' in Slicer")

        slicer.__getattr__ = absent
        vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)  # the wheel carries no color and terminology files
        application.make_scene(self.application)
        vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_ERROR)
        if main_window:
            application.open_main_window(self.application)

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
        self._scripted.run_module_test(name)

    def wait(self, condition, seconds=10.0):
        """Process events until condition(); False when the time is over."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            self.application.processEvents()
            time.sleep(0.002)
        return True

    def picture(self, path, widget=None):
        """PNG of a widget (default: the whole window) with its rendered views."""
        from SlicerHost.views import grab

        grab(widget or self.application._window).save(str(path))

    def slice_pixels(self, view="Red", size=(400, 400)):
        """RGB pixels (rows, columns, 3) uint8 of a slice view of a given size; slicer.util.resetSliceViews() fits it."""
        widget = self.application.layoutManager().sliceWidget(view).sliceView()
        widget.resize(*size)
        return widget._image()

    def click(self, ras):
        """A click in a slice view at a world position: in place mode the new control point's index, else -1."""
        logic = self.application.applicationLogic()
        interaction, node_id = logic.GetInteractionNode(), logic.GetSelectionNode().GetActivePlaceNodeID()
        if interaction.GetCurrentInteractionMode() != interaction.Place or not node_id:
            return -1
        index = self._slicer.mrmlScene.GetNodeByID(node_id).AddControlPoint(list(ras))
        if not interaction.GetPlaceModePersistence():
            interaction.SetCurrentInteractionMode(interaction.ViewTransform)
        return index

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


def _add_classes(slicer, stand_ins):
    from SlicerHost import interaction_widgets, scene_widgets, scripted_module, views

    for source in (vars(scene_widgets), vars(interaction_widgets), views.exported(), vars(scripted_module)):
        for name, cls in source.items():
            if name.startswith(("qMRML", "qSlicer")):
                setattr(slicer, name, cls)
                stand_ins.setdefault(name, cls)


def _modules(wrapper_names):
    """{module name: module} of everything that is imported by name."""
    from SlicerHost import application_modules, dicom_modules, parameter_annotations, parameter_node, scripted_module

    wrapper = types.ModuleType("slicer.parameterNodeWrapper")
    for source in (parameter_annotations, parameter_node):
        vars(wrapper).update({name: value for name, value in vars(source).items() if name in wrapper_names})
    made = {"slicer.parameterNodeWrapper": wrapper, "slicer.ScriptedLoadableModule": scripted_module.as_module()}
    return made | application_modules.make_modules() | dicom_modules.make_modules()
