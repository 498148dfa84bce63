"""One study from series to numbers, top to bottom; every step is a function that can be called alone."""

import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import scipy
import SimpleITK

from CTPerfusionSuiteLib.anatomy_registration import register_rigid, resample_rigid
from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused
from CTPerfusionSuiteLib.geometry import bin_in_plane
from CTPerfusionSuiteLib.nifti import read_volume
from CTPerfusionSuiteLib.progress import Progress, part, silent
from CTPerfusionSuiteLib.registration import correct_motion, estimate_motion
from CTPerfusionSuiteLib.rigid_motion import Motion
from CTPerfusionSuiteLib.version import VERSION
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries, Volume

from .analysis_request import AnalysisRequest
from .arterial_curve import blood_curve
from .arterial_input import find_arteries
from .bolus_arrival import Bolus, baseline_mean, find_bolus, frame_mean
from .brain_mask import brain_mask, intracranial_space
from .given_curves import read_mask, vessel_curve
from .input_error import InputError
from .input_functions import InputFunction
from .lesions import NORMAL_TMAX_S, SIDE_NAMES, Lesions, lesions
from .midsagittal_plane import MidsagittalPlane, estimate_midsagittal
from .perfusion_metrics import metrics_document
from .perfusion_result import MAP_UNITS, PerfusionResult
from .quality_flags import quality_flags
from .study_observations import observations, tissue_curve, venous_transit
from .tissue_classes import Enhancement, TissueClasses, classify_tissue, summarize_enhancement
from .tissue_maps import estimate_maps
from .venous_output import VeinScaling, find_vein, vein_scaling
from .venous_sinuses import find_sinuses
from .vessel_candidates import vessel_candidates

FINE_PIXEL_MM = 0.7
"""Pixels finer than this are averaged 2 x 2 for the analysis: CT perfusion resolves about 1.5 mm, and the noise falls by half."""

SMALLEST_TISSUE_ML = 10.0
"""Less tissue has no part that could serve as reference."""

VESSEL_MARGIN_MM = 10.0
"""How much around the intracranial space the search for vessels sees: bone nearer than 8 mm counts there."""

Steps = Callable[[str, str], Progress]


def no_steps(name: str, title: str) -> Progress:
    """Announce nothing."""
    return silent


def analyze(
    series: TimeSeries,
    request: AnalysisRequest = AnalysisRequest(),
    steps: Steps = no_steps,
    bolus: Bolus | None = None,
    overwrite: bool = False,
) -> PerfusionResult:
    """Maps, lesions and numbers of one study.

    Parameters
    ----------
    series : TimeSeries
        HU, as read.
    request : AnalysisRequest
    steps : callable
        Announces a step (name, title) and returns its `Progress`; `CTPerfusionSuiteLib.console.Console.step`.
    bolus : Bolus, optional
        From `bolus_arrival.find_bolus` of this series, when the caller has looked already.
    overwrite : bool
        Undo motion in the values of `series` itself, which saves a copy of them.

    Raises
    ------
    DataRefused
        No head, no bolus, no artery.
    RequestRefused
        A curve or mask of the user that does not fit the series.
    """
    # The prepared study is handed over, not kept here: what it holds is freed as it is used up.
    waiting = [prepare(series, request, steps, bolus, overwrite)]
    del series
    return analyze_prepared(waiting.pop(), request, steps)


@dataclass(frozen=True, eq=False)
class PreparedStudy:
    """A study before deconvolution: still, on the analysis grid, and with what every voxel is.

    Attributes
    ----------
    still : TimeSeries
        Motion corrected, full resolution.
    grid : TimeSeries
        The same on the analysis grid.
    bolus : Bolus
    motion : Motion or None
    mean, baseline : Volume
        Means of all frames and of those before the bolus, HU.
    brain, tissue, space : ndarray (K, J, I) of bool
        Brain, what perfusion is judged in, and the intracranial space.
    plane : MidsagittalPlane
    enhancement : Enhancement
    classes : TissueClasses
    notes : tuple of (code, message)
    """

    still: TimeSeries
    grid: TimeSeries
    bolus: Bolus
    motion: Motion | None
    mean: Volume
    baseline: Volume
    brain: np.ndarray
    tissue: np.ndarray
    space: np.ndarray
    plane: MidsagittalPlane
    enhancement: Enhancement
    classes: TissueClasses
    notes: tuple[tuple[str, str], ...]


def prepare(
    series: TimeSeries,
    request: AnalysisRequest = AnalysisRequest(),
    steps: Steps = no_steps,
    bolus: Bolus | None = None,
    overwrite: bool = False,
) -> PreparedStudy:
    """The steps before vessels and deconvolution; parameters and refusals as in `analyze`."""
    notes = series.notes
    if bolus is None:
        bolus = find_bolus(series)
    still, motion = still_series(series, bolus, request, steps("motion", "Correcting motion"), overwrite)
    if still is not series:
        bolus = find_bolus(still)

    grid = analysis_series(still, request.full_resolution)
    geometry = grid.geometry
    mean = Volume(frame_mean(grid.values), geometry, "CT number", "[hnsf'U]")
    baseline = Volume(baseline_mean(grid, bolus), geometry, "CT number", "[hnsf'U]")
    progress = steps("head", "Finding brain and midline")
    if request.brain_mask is None:
        brain = brain_mask(baseline, mean)
    else:
        brain = read_mask(request.brain_mask, geometry, "brain mask")
        refuse_too_small(brain, geometry)
    progress(0.6)
    plane = estimate_midsagittal(mean, brain)
    space = intracranial_space(brain if request.brain_mask is None else brain | whole_brain(baseline, mean), geometry)

    progress = steps("tissue", "Classifying tissue")
    enhancement = summarize_enhancement(grid, bolus)
    progress(0.7)
    classes = classify_tissue(baseline, mean, brain, enhancement)
    tissue = classes.tissue if request.tissue_mask is None else own_tissue(request, geometry, brain)
    if request.brain_mask is not None or request.tissue_mask is not None:
        refuse_too_small(tissue, geometry)
    if request.excluded is not None:
        left_out = tissue & read_mask(request.excluded, geometry, "excluded regions")
        tissue = tissue & ~left_out
        if not tissue.any():
            raise RequestRefused("the excluded regions leave no brain tissue to analyze; make them smaller")
        volume = np.count_nonzero(left_out) * geometry.voxel_volume_ml
        notes = (*notes, ("excluded_regions", f"{volume:.1f} mL of brain tissue were left out by the user and count in no volume."))
    progress(1.0)
    notes = (*notes, *(note for note in bolus.notes if note[0] == "frame_offset"))
    return PreparedStudy(still, grid, bolus, motion, mean, baseline, brain, tissue, space, plane, enhancement, classes, notes)


def analyze_prepared(study: PreparedStudy, request: AnalysisRequest = AnalysisRequest(), steps: Steps = no_steps) -> PerfusionResult:
    """The steps of `analyze` from the vessels on."""
    grid, bolus, motion, mean = study.grid, study.bolus, study.motion, study.mean
    brain, tissue, space, plane, enhancement = study.brain, study.tissue, study.space, study.plane, study.enhancement
    geometry, notes, header = grid.geometry, study.notes, study.still.header
    images = {"mean_ct": mean.values, "baseline": study.baseline.values}
    avascular = brain & ~study.classes.vessels
    vessels = find_vessels(study.still, grid, bolus, space, avascular, request, steps("vessels", "Finding artery and vein"))
    # Where pixels were averaged, the fine ones are not needed any more.
    del study, avascular
    sinuses = find_sinuses(grid, bolus, vessels.vof, plane, space, vessels.scaling.truncated, enhancement)
    fitted = brain.copy()
    for sinus in (sinuses.superior_sagittal, sinuses.torcula):
        fitted |= False if sinus is None else sinus
    del enhancement, space
    maps = estimate_maps(grid, fitted, tissue, vessels.aif, request.engine, steps("maps", "Computing maps"))
    venous = venous_transit(vessels, sinuses, maps["tmax"])
    for values in maps.values():
        values[fitted & ~brain] = 0.0

    progress = steps("lesions", "Measuring lesions")
    masks = {"brain_mask": brain, "tissue_mask": tissue, "hemisphere": plane.hemisphere(geometry, brain)}
    for name, path in (("roi_mask", request.roi_mask), ("contra_mask", request.contra_mask)):
        if path is not None:
            masks[name] = read_mask(path, geometry, name.replace("_", " "))
    masks = {name: mask.astype(np.uint8) for name, mask in masks.items()}
    found = lesions(maps, masks, request.thresholds, geometry)
    add_relative_maps(maps, masks, found)
    mean_tissue = tissue_curve(grid, tissue, bolus)
    seen = observations(grid, bolus, vessels, motion, mean_tissue, tissue, masks["hemisphere"], maps, found, notes)
    metrics = metrics_document(
        found,
        maps,
        masks,
        geometry,
        method=request.engine.method.value,
        venous=venous,
        absolute_calibrated=vessels.scaling.absolute_calibrated,
        flags=quality_flags(seen, found),
        age_years=request.age_years,
        nihss=request.nihss,
    )
    progress(1.0)
    if request.anatomy is not None:
        images["anatomy"] = registered_anatomy(request.anatomy, mean, steps("anatomy", "Registering the anatomical image"))
    return PerfusionResult(
        geometry=geometry,
        maps={name: values for name, values in maps.items() if name.partition("_")[0] in MAP_UNITS and name != "operator_cbf"},
        masks={**masks, **found.masks()},
        images=images,
        aif=vessels.aif,
        vof=vessels.vof,
        metrics=metrics,
        thresholds=request.thresholds,
        aif_candidates=vessels.arteries,
        vof_candidates=vessels.veins,
        motion=motion,
        provenance=provenance(grid, header, notes, bolus, vessels, request),
        tissue_curve=mean_tissue,
        source_header=header,
    )


def still_series(
    series: TimeSeries, bolus: Bolus, request: AnalysisRequest, progress: Progress = silent, overwrite: bool = False
) -> tuple[TimeSeries, Motion | None]:
    """The series with head motion undone, and the motion; the series itself and None when the user wants no correction."""
    if not request.motion_correction:
        return series, None
    threads = request.engine.threads
    motion = estimate_motion(series, bolus.baseline_frames, threads=threads, progress=part(progress, 0.0, 0.7))
    return correct_motion(series, motion, threads=threads, progress=part(progress, 0.7, 1.0), overwrite=overwrite), motion


def analysis_series(series: TimeSeries, full_resolution: bool = False) -> TimeSeries:
    """The series on the analysis grid: as it is, or with fine pixels averaged in the slice plane."""
    factor = 1
    if not full_resolution:
        while max(series.geometry.spacing[:2]) * factor < FINE_PIXEL_MM and min(series.geometry.size[:2]) // factor >= 256:
            factor *= 2
    return series if factor == 1 else bin_in_plane(series, factor)


@dataclass(frozen=True)
class Vessels:
    """The vessel curves of one analysis.

    Attributes
    ----------
    aif : InputFunction
        As used by the engine: after venous scaling.
    measured_aif : InputFunction
        Before it.
    vof : InputFunction or None
    scaling : VeinScaling
    arteries, veins : tuple of InputFunction
        Ranked automatic candidates.
    input_error : InputError or None
        What the uncertainty of the artery means for the maps; None for a given curve.
    """

    aif: InputFunction
    measured_aif: InputFunction
    vof: InputFunction | None
    scaling: VeinScaling
    arteries: tuple[InputFunction, ...]
    veins: tuple[InputFunction, ...]
    input_error: InputError | None = None


def find_vessels(
    series: TimeSeries,
    grid: TimeSeries,
    bolus: Bolus,
    space: np.ndarray,
    avascular: np.ndarray,
    request: AnalysisRequest,
    progress: Progress = silent,
) -> Vessels:
    """Artery and vein, automatic or as the user gives them, and the partial-volume scaling of the artery by the vein.

    Parameters
    ----------
    series : TimeSeries
        Full resolution, not smoothed: where vessels are looked for.
    grid : TimeSeries
        The analysis grid, on which a user's voxels count.
    space, avascular : ndarray (K, J, I) of bool
        Intracranial space, and the brain and its fluid without vessels, on the analysis grid.
    """
    fine_space = space
    factor = series.geometry.size[0] // grid.geometry.size[0]
    if factor > 1:
        fine_space = np.zeros(series.geometry.shape, bool)
        wide = space.repeat(factor, axis=1).repeat(factor, axis=2)
        fine_space[:, : wide.shape[1], : wide.shape[2]] = wide
    threads, arteries, veins = request.engine.threads, (), ()
    head = bolus_head(grid)
    if not (request.aif.given and request.vof.given):
        # Vessels are looked for inside the skull, with the bone around it; maps of the air around the head would cost memory.
        series, fine_space = around(series, fine_space, VESSEL_MARGIN_MM)
        candidates = vessel_candidates(series, bolus, fine_space, threads, part(progress, 0.0, 0.9))
    if request.aif.given:
        aif = vessel_curve(request.aif, grid, bolus.baseline_frames, head, "AIF")
    else:
        arteries = find_arteries(series, bolus, fine_space, threads, candidates=candidates)
        arteries = tuple(on_grid(curve, grid.geometry) for curve in arteries)
        aif = arteries[0]
    curve_given = aif.source == "csv"
    if request.vof.given:
        vof = vessel_curve(request.vof, grid, bolus.baseline_frames, head, "VOF")
    else:
        veins = find_vein(series, bolus, fine_space, aif, threads, candidates=candidates)
        veins = tuple(on_grid(curve, grid.geometry) for curve in veins)
        vof = veins[0] if veins else None
    if curve_given and not request.vof.given:
        scaling = VeinScaling(1.0, False, False, True, "The given arterial curve is used as it is.")
    else:
        scaling = vein_scaling(aif, vof, float(grid.slice_times.max()))
    clean, error = aif, None
    if not request.aif.given:
        # What tissue and noise add to a thin artery would shift the input; what is left is scaled to the vein anew.
        noise = bolus.noise_hu / np.sqrt(max(1, len(arteries[0].voxels)))
        clean, error = blood_curve(aif, vof, grid, bolus, avascular, scaling.factor, noise)
        scaling = vein_scaling(clean, vof, float(grid.slice_times.max()))
    scaled = replace(clean, hu=clean.hu * scaling.factor)
    progress(1.0)
    return Vessels(scaled, aif, vof, scaling, arteries, veins, error)


def bolus_head(series: TimeSeries) -> np.ndarray:
    """Where anything but air was scanned, (K, J, I) of bool, filled: the head with its vessels outside the skull."""
    from scipy import ndimage

    solid = frame_mean(series.values) > -300.0
    return np.stack([ndimage.binary_fill_holes(image) for image in solid])


def around(series: TimeSeries, mask: np.ndarray, margin_mm: float) -> tuple[TimeSeries, np.ndarray]:
    """Views of the series and of a mask (K, J, I) that are cut in the slice plane to the mask and `margin_mm` around it."""
    spacing, size = series.geometry.spacing, series.geometry.size
    cut, start = [], []
    for axis, others in ((1, (0, 2)), (2, (0, 1))):
        held = np.flatnonzero(mask.any(axis=others))
        margin = int(np.ceil(margin_mm / spacing[2 - axis]))
        first, last = (0, size[2 - axis]) if not held.size else (held[0] - margin, held[-1] + 1 + margin)
        cut.append(slice(max(0, int(first)), min(size[2 - axis], int(last))))
        start.append(cut[-1].start)
    values, inner = series.values[:, :, cut[0], cut[1]], mask[:, cut[0], cut[1]]
    origin = tuple(series.geometry.to_lps((start[1], start[0], 0)))
    geometry = Geometry(inner.shape[::-1], spacing, origin, series.geometry.direction)
    return replace(series, values=values, geometry=geometry), inner


def on_grid(curve: InputFunction, geometry: Geometry) -> InputFunction:
    """The same curve with its voxels counted on another grid."""
    if not len(curve.voxels):
        return curve
    voxels = np.rint(geometry.to_index(curve.lps)).astype(int)
    first = np.sort(np.unique(voxels, axis=0, return_index=True)[1])
    return replace(curve, voxels=np.clip(voxels[first], 0, np.array(geometry.size) - 1))


def whole_brain(baseline: Volume, mean: Volume) -> np.ndarray:
    """The automatic brain mask, (K, J, I) of bool; empty where none is found.

    A mask of the user's says what to measure, not where the head's vessels run.
    """
    try:
        return brain_mask(baseline, mean)
    except DataRefused:
        return np.zeros(mean.geometry.shape, bool)


def own_tissue(request: AnalysisRequest, geometry: Geometry, brain: np.ndarray) -> np.ndarray:
    """The user's tissue mask within the brain."""
    tissue = read_mask(request.tissue_mask, geometry, "tissue mask") & brain
    if not tissue.any():
        name = request.tissue_mask.name
        raise RequestRefused(f"the tissue mask '{name}' does not overlap the brain; check that it belongs to this study")
    return tissue


def refuse_too_small(tissue: np.ndarray, geometry: Geometry) -> None:
    """Refuse a user's mask that leaves so little tissue, (K, J, I) of bool, that no volume or reference can be measured in it.

    Raises
    ------
    RequestRefused
    """
    volume = np.count_nonzero(tissue) * geometry.voxel_volume_ml
    if volume < SMALLEST_TISSUE_ML:
        raise RequestRefused(
            f"the given mask holds {volume:.1f} mL of brain tissue, too little to analyze; give one of at least {SMALLEST_TISSUE_ML:g} mL"
        )


def add_relative_maps(maps: dict[str, np.ndarray], masks: dict[str, np.ndarray], found: Lesions) -> None:
    """``rcbf`` (operator scale) and ``rcbv``, relative to the reference tissue; 0 everywhere without a reference."""
    flow = maps.pop("operator_cbf")
    reference = reference_tissue(maps, masks, found)
    volume = float(np.median(maps["cbv"][reference])) if reference.any() else 0.0
    maps["rcbf"] = (flow / np.float32(found.reference.flow)) if found.reference.flow else np.zeros_like(flow)
    maps["rcbv"] = (maps["cbv"] / np.float32(volume)) if volume > 0 else np.zeros_like(flow)


def reference_tissue(maps: dict, masks: dict, found: Lesions) -> np.ndarray:
    """The tissue that relative maps are measured against, bool (K, J, I)."""
    normal = found.tissue & (maps["tmax"] <= NORMAL_TMAX_S)
    for number, name in SIDE_NAMES.items():
        if name == found.reference.side:
            normal &= masks["hemisphere"] == number
    return normal if found.reference.side else np.zeros_like(normal)


def registered_anatomy(path, mean: Volume, progress: Progress = silent) -> np.ndarray:
    """An anatomical image of the same patient, rigidly registered to the mean CT and resampled to its grid, float32 (K, J, I)."""
    anatomy = read_volume(path)
    return resample_rigid(anatomy, mean.geometry, register_rigid(anatomy, mean, progress)).values.astype(np.float32)


def provenance(grid: TimeSeries, header: dict, notes, bolus: Bolus, vessels: Vessels, request: AnalysisRequest) -> dict:
    """Versions, options and input of a run in JSON types; never a name of a patient or a path."""
    engine, thresholds = request.engine, request.thresholds
    times = grid.slice_times
    return {
        "software": {
            "ctperfusionsuite": VERSION,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "SimpleITK": SimpleITK.Version_VersionString(),
            "system": sys.platform,
        },
        "input": {
            "frames": len(times),
            "time_source": grid.time_source,
            "times_s": np.round(times.mean(axis=1), 4).tolist(),
            "times_differ_between_slices": bool(np.ptp(times, axis=1).max() > 0),
            **{key: value for key, value in header.items() if key in ("manufacturer", "model", "kvp", "kernel", "slice_thickness")},
        },
        "options": {
            "method": engine.method.value,
            "denoising": engine.denoising.value,
            "smoothing_mm": engine.smoothing_mm,
            "hematocrit_large": engine.hematocrit.large,
            "hematocrit_small": engine.hematocrit.small,
            "tmax_s": thresholds.tmax_s,
            "rcbf": thresholds.rcbf,
            "motion_correction": request.motion_correction,
            "full_resolution": request.full_resolution,
            "own_brain_mask": request.brain_mask is not None,
            "own_tissue_mask": request.tissue_mask is not None,
            "excluded_regions": request.excluded is not None,
        },
        "vessels": {
            "aif_source": vessels.aif.source,
            "vof_source": vessels.vof.source if vessels.vof else None,
            "venous_scaling": vessels.scaling.factor,
            "venous_scaling_reason": vessels.scaling.reason,
            "input_error": None if vessels.input_error is None else asdict(vessels.input_error),
        },
        "bolus": {"arrival_s": bolus.arrival_s, "baseline_frames": list(bolus.baseline_frames), "noise_hu": bolus.noise_hu},
        "notes": [f"{message}" for _, message in notes],
    }
