"""The run behind the panel: what the child process is given, what it announces, and how its result comes into the scene."""

import shutil
from pathlib import Path

from slicer.i18n import tr as _

from CTPerfusionSuiteLib.panel.analysis_run import Analysis
from PerfusionMapsLib.panel.maps_analysis import LIBRARIES as LIBRARIES_OF_MAPS

from ..mrml_stroke_readiness import SETTINGS, STROKE_MEMORY, isStrokeResult
from ..recommendation import short_origin
from .model_section import chosenModel

LIBRARIES = (*LIBRARIES_OF_MAPS, "StrokeSegmentationLib.stroke_folder", "StrokeSegmentationLib.mrml_stroke_result")
STEPS = (
    ("Reading the series", 6),
    ("Correcting motion", 28),
    ("Finding brain and midline", 5),
    ("Classifying tissue", 4),
    ("Aligning curves to the bolus", 5),
    ("Finding artery and vein", 9),
    ("Computing maps", 18),
    ("Measuring lesions", 2),
    ("Segmenting", 20),
    ("Writing masks and metrics", 3),
    ("Drawing the report", 3),
)


def wordsOf(settings, folder, model) -> list[str]:
    """Arguments of ``ctperfusion`` except the input.

    Parameters
    ----------
    settings : parameter node of the module, or what it was
    folder : Path
        The output goes to its folder ``result``.
    model : Path
    """
    words = ["stroke", "predict", "--out_dir", str(folder / "result"), "--progress", "json", "--model", str(model)]
    words += ["--device", settings.device.value, "--passes", str(settings.passes)]
    if not settings.motionCorrection:
        words.append("--no-motion-correction")
    if not savesFiles(settings):
        words.append("--no-report")
    return words


def savesFiles(settings) -> bool:
    """Whether the files of a run are kept in a folder of the user's; an empty path counts as none."""
    return str(settings.saveFolder) not in ("", ".")


def _prepare(settings, folder):
    from CTPerfusionSuiteLib.errors import RequestRefused
    from PerfusionMapsLib.mrml_study import writingSeries

    if savesFiles(settings) and not Path(settings.saveFolder).is_dir():
        raise RequestRefused(f"the folder '{settings.saveFolder}' for the files does not exist; choose another one or none")
    words = wordsOf(settings, folder, chosenModel(settings.model).folder)
    return [*words, *(yield from writingSeries(settings, folder))]


def _open(folder, name, neighbor):
    from ..mrml_stroke_result import loadingStroke

    return loadingStroke(folder, name, neighbor)


def _complete(settings, folder, earlier, node):
    """Keep the files where the user wants them, and say what the network learned from; a result that is in the scene is not lost when
    files cannot be kept."""
    from ..mrml_stroke_result import strokeMetrics

    learned = short_origin(strokeMetrics(node))
    if not savesFiles(settings):
        return _("Done. {origin}.").format(origin=learned)
    from PerfusionMapsLib.mrml_export import freePath

    target = freePath(settings.saveFolder, "".join(c if c.isalnum() or c in "-_" else "_" for c in node.GetName()))
    try:
        shutil.copytree(folder / "result", target)
    except OSError as problem:
        shutil.rmtree(target, ignore_errors=True)
        reason = problem.strerror or type(problem).__name__
        return _("the result is in the scene, but its files could not be written ({reason}); choose another folder").format(reason=reason)
    return _("Done, files in {folder}. {origin}.").format(folder=target, origin=learned)


def _replace(old, new):
    from ..mrml_stroke_result import replacingStrokeResult

    return replacingStrokeResult(old, new)


STROKE = Analysis(
    "stroke", STROKE_MEMORY, SETTINGS, LIBRARIES, STEPS, "Loading the segmentation", isStrokeResult, _prepare, _open, _complete, _replace
)
