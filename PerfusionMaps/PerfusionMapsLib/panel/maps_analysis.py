"""The analysis behind the panel of PerfusionMaps: what the child is given, what it announces, how its result comes into the scene."""

from CTPerfusionSuiteLib.panel.analysis_run import Analysis

from ..mrml_readiness import MAPS_MEMORY, READ, isResult

LIBRARIES = (
    "numpy",
    "numpy.random",
    "numpy.ma",
    "numpy.testing",
    "numpy.f2py",
    "scipy",
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
    "PerfusionMapsLib.mrml_views",
    "PerfusionMapsLib.mrml_regions",
    "PerfusionMapsLib.mrml_vessel_curves",
    "PerfusionMapsLib.perfusion_tables",
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
    from ..mrml_result import replacingResult

    return replacingResult(old, new)


MAPS = Analysis("perfusion", MAPS_MEMORY, READ, LIBRARIES, STEPS, "Loading the maps", isResult, _prepare, _open, _complete, _replace)
