"""What a run still needs before it can start, told from the panel's settings; light, so that the panel opens at once."""

from importlib.util import find_spec

from CTPerfusionSuiteLib.mrml_study_settings import NO_INPUT, StudyMemory, hasFolder

RESULT = "CTPerfusionSuite.StrokeResult"
"""Attribute of the text nodes that are results of a network."""
NO_TORCH = (
    'PyTorch is not installed; install the extension "PyTorch" from the Extensions Manager, restart Slicer, then install PyTorch here'
)
NO_MODEL = "there is no model on this computer; import one in CT Perfusion Suite, or train one with ctperfusion stroke train"

SETTINGS = (
    *("inputNode", "dicomFolder", "times", "timesSource", "result"),
    *("model", "device", "passes", "motionCorrection", "keepResults", "saveFolder"),
)
"""The settings a run depends on."""
STROKE_MEMORY = StudyMemory("StrokeSegmentation.Study", nodes=("result",), texts=("timesSource",))


def isStrokeResult(node) -> bool:
    """Whether a node is the result of a network."""
    return node is not None and node.IsA("vtkMRMLTextNode") and bool(node.GetAttribute(RESULT))


def torchIsInstalled() -> bool:
    """Whether PyTorch can be imported; it is not imported, which takes seconds."""
    return find_spec("torch") is not None


def whatIsMissing(settings, models) -> str | None:
    """Why a run cannot start, in words for the button's tooltip; None when it can.

    Parameters
    ----------
    settings : parameter node of the module
    models : list of CTPerfusionSuiteLib.models.Model
        Those on this computer.
    """
    if not torchIsInstalled():
        return NO_TORCH
    if not models:
        return NO_MODEL
    chosen = modelNamed(settings.model, models)
    if chosen is None:
        return f"the model '{settings.model}' is not on this computer; choose another one"
    if chosen.faults:
        return f"the model '{chosen.name}' is not what its author packed ({chosen.faults[0]}); get it again or choose another one"
    return NO_INPUT if settings.inputNode is None and not hasFolder(settings) else None


def modelNamed(name: str, models):
    """The model of that name, the first one when none is named; None when it is not there."""
    return next((model for model in models if name in ("", model.name)), None)
