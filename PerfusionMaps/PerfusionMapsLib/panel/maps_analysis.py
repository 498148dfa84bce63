"""The analysis behind the panel of PerfusionMaps: what the child is given, what it announces, how its result comes into the scene."""

from ..mrml_readiness import READ, isResult
from .analysis_run import Analysis

LIBRARIES = (
    "numpy.random",
    "numpy.ma",
    "numpy.testing",
    "numpy.f2py",
    "scipy.special",
    "scipy.ndimage",
    "SimpleITK",
    "CTPerfusionSuiteLib.nifti",
    "CTPerfusionSuiteLib.mrml_sequences",
    "CTPerfusionSuiteLib.output_folder",
    "PerfusionMapsLib.lesions",
    "PerfusionMapsLib.perfusion_pictures",
    "PerfusionMapsLib.mrml_result",
    "PerfusionMapsLib.mrml_study",
)
STEPS = (
    ("Reading the series", 8),
    ("Correcting motion", 35),
    ("Finding brain and midline", 6),
    ("Classifying tissue", 5),
    ("Finding artery and vein", 12),
    ("Computing maps", 25),
    ("Measuring lesions", 2),
    ("Registering the anatomical image", 4),
    ("Writing maps and metrics", 3),
)


def _prepare(settings, folder):
    from ..mrml_study import preparing

    return preparing(settings, folder)


def _open(folder, name, neighbor):
    from ..mrml_result import loadingResult

    return loadingResult(folder, name, neighbor)


def _complete(settings, folder, earlier, node):
    if earlier is not None:
        from ..mrml_result import inheritCandidates

        inheritCandidates(earlier, node)
    return ""


def _replace(old, new):
    from ..mrml_result import replaceResult

    replaceResult(old, new)


MAPS = Analysis("perfusion", READ, LIBRARIES, STEPS, "Loading the maps", isResult, _prepare, _open, _complete, _replace)
