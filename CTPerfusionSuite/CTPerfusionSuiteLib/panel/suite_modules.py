"""The suite's modules as this window has them: their titles, the models they bring along, and opening a study in one of them."""

import re
from pathlib import Path

import slicer

from CTPerfusionSuiteLib.doctor import MODULE_PARTS
from CTPerfusionSuiteLib.models import Model, list_models


def moduleTitle(name) -> str:
    """Title of a module that is here, else ""."""
    module = getattr(slicer.modules, name.lower(), None) if name else None
    return module.title if module is not None else ""


def plainTitle(name) -> str:
    """What to call a module that may not be here: "LVO Detection" for LVODetection."""
    return moduleTitle(name) or re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)


def openIn(module, node) -> None:
    """Show a module with a node as its input."""
    slicer.util.selectModule(module)
    slicer.util.getModuleLogic(module).getParameterNode().inputNode = node


def broughtModels() -> list[tuple[str, Model]]:
    """(title of the module, model) of the learned models that come with the modules here; their weights are not read."""
    found = []
    for name in filter(moduleTitle, MODULE_PARTS):
        folder = Path(slicer.util.modulePath(name)).parent / f"{name}Lib" / "models"
        found += [(moduleTitle(name), model) for model in list_models(folder, compare=False)]
    return found


class ModuleChoice:
    """The button "Open in" and the modules beside it that can take a study; neither is shown where no module here can.

    Parameters
    ----------
    button, combo : widgets
    onOpen : callable()
        The button was pressed.
    """

    def __init__(self, button, combo, onOpen):
        self._button, self._combo, self._names = button, combo, []
        button.clicked.connect(lambda *arguments: onOpen())

    def offer(self, names, enabled=True) -> None:
        """Let the user choose among those of the named modules that are here; what was chosen stays so if it can."""
        here, chosen = [name for name in names if moduleTitle(name)], self.chosen()
        if here != self._names:
            self._names = here
            self._combo.clear()
            self._combo.addItems([moduleTitle(name) for name in here])
            self._combo.setCurrentIndex(here.index(chosen) if chosen in here else 0)
        for widget in (self._button, self._combo):
            widget.setVisible(bool(here))
            widget.enabled = enabled

    def chosen(self) -> str:
        """Name of the module to open, "" where there is none."""
        return self._names[self._combo.currentIndex] if self._names else ""
