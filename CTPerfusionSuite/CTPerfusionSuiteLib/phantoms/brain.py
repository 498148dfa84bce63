"""Brain perfusion studies with truth: anatomy, vessels, bolus, ischemia, scanner."""

from dataclasses import dataclass, replace

import numpy as np

from CTPerfusionSuiteLib.phantoms.bolus import truncate
from CTPerfusionSuiteLib.phantoms.brain_options import SIDES, BrainOptions
from CTPerfusionSuiteLib.phantoms.contrast_passage import Vasculature, contrast, fill_vessels, lumen_bolus, sinus_curve
from CTPerfusionSuiteLib.phantoms.forward_model import CurveTable
from CTPerfusionSuiteLib.phantoms.head_anatomy import (
    CENTER,
    INTRACRANIAL,
    PARENCHYMA,
    FineHead,
    HeadPlacement,
    Tissue,
    analytic_head,
    envelope,
)
from CTPerfusionSuiteLib.phantoms.label_map_anatomy import read_head
from CTPerfusionSuiteLib.phantoms.lesion_masks import read_lesion
from CTPerfusionSuiteLib.phantoms.noise import ct_noise
from CTPerfusionSuiteLib.phantoms.physiology import Physiology, head_physiology
from CTPerfusionSuiteLib.phantoms.reference_operator import operator_times, reference_maps
from CTPerfusionSuiteLib.phantoms.stroke_lesion import GRADES, Ischemia, severity
from CTPerfusionSuiteLib.phantoms.truth_lesions import TruthLesions, truth_lesions
from CTPerfusionSuiteLib.phantoms.vessels import arteries, draw, veins
from CTPerfusionSuiteLib.phantoms.voxel_sampling import FineSampling, VoxelCurves, acquire
from CTPerfusionSuiteLib.progress import Progress, part, silent
from CTPerfusionSuiteLib.tracer_kinetics import TISSUE_DENSITY_G_PER_ML
from CTPerfusionSuiteLib.volumes import TimeSeries, Volume

__all__ = ["BrainOptions", "BrainStudy", "simulate_brain"]


@dataclass(frozen=True, eq=False)
class BrainStudy:
    """A simulated study with its truth on the scan's grid.

    Attributes
    ----------
    series : TimeSeries
        int16 HU.
    truth : dict of Volume
        cbf, cbv, mtt, delay (physical; 0 where there is no brain), tmax, rcbf, operator_cbf (reference operator, noise-free),
        hypoperfusion, core, penumbra, tissue, brain, hemisphere (1 left, 2 right), artery_fraction, vein_fraction,
        arterial_voxels, venous_voxels (enhancement dominated by that kind of vessel).
    aif, vof : tuple of (times (M,), HU (M,))
        Noise-free curves in the lumen, HU above baseline, every 0.5 s over the whole scan.
    motion : ndarray (T, 6)
        Pose of each frame, mm and degrees.
    lesions : TruthLesions
    numbers : dict
        Volumes in mL, side, reference and peaks; goes into truth.json.
    options : BrainOptions
    """

    series: TimeSeries
    truth: dict[str, Volume]
    aif: tuple[np.ndarray, np.ndarray]
    vof: tuple[np.ndarray, np.ndarray]
    motion: np.ndarray
    lesions: TruthLesions
    numbers: dict
    options: BrainOptions

    @property
    def geometry(self):
        """The scan's grid."""
        return self.series.geometry

    def mask(self, name: str) -> np.ndarray:
        """A truth mask (K, J, I) of bool."""
        return self.truth[name].values > 0


def individual_placement(rng: np.random.Generator, options: BrainOptions, scale=(1.0, 1.0, 1.0)) -> HeadPlacement:
    """How an individual of natural size and asymmetry lies in the scanner; `scale` is that of the anatomy it is made from."""
    scale = tuple(float(v) for v in np.asarray(scale) / rng.uniform((0.95, 0.95, 0.96), (1.03, 1.03, 1.03)))
    warp = rng.normal(0.0, 1.0, (3, 3)) * np.array([[0.7], [1.2], [1.2]])
    shift = np.array([0.0, -CENTER[1], 0.0]) + np.asarray(options.shift_mm, float)
    return HeadPlacement(tuple(options.rotation_deg), tuple(shift), scale, warp)


def old_infarct(head: FineHead, rng: np.random.Generator, side: int) -> FineHead:
    """The head with a cavity of an old cortical infarct on `side` (1 left, 2 right), filled with fluid."""
    s = 1.0 if side == 1 else -1.0
    center = np.array([s * 46.0, 46.0, 6.0]) + rng.normal(0.0, 4.0, 3)
    semi = rng.uniform((14.0, 10.0, 10.0), (18.0, 15.0, 14.0))
    hole = ((head.x - center[0]) / semi[0]) ** 2 + ((head.y - center[1]) / semi[1]) ** 2 + ((head.z - center[2]) / semi[2]) ** 2 < 1.0
    hole &= head.is_any(PARENCHYMA)
    tissue, static = head.tissue.copy(), head.static_hu.copy()
    tissue[hole] = Tissue.CAVITY
    static[hole] = 11.0
    return replace(head, tissue=tissue, static_hu=static)


def simulate_brain(options: BrainOptions, progress: Progress = silent) -> BrainStudy:
    """Simulate a brain perfusion study in memory.

    Steps: place an individual head on a fine grid, draw its vessels, give every fine voxel its physiology, average everything into
    the scan's voxels at each slice's times, add noise; then apply the reference operator to the noise-free curves.

    Raises
    ------
    RequestRefused, DataRefused
        Only with `anatomy` or `lesions`: their files cannot be used.
    """
    slice_times = np.asarray(options.slice_times, dtype=float)
    motion = np.zeros((len(slice_times), 6)) if options.motion is None else np.asarray(options.motion, dtype=float)
    body_rng, head_rng, vessel_rng, lesion_rng, tissue_rng, noise_rng = np.random.default_rng(options.seed).spawn(6)
    grade = GRADES[options.collaterals]

    drawn_lesion = None if options.lesions is None else read_lesion(options.lesions, options.seed)
    source = None if options.anatomy is None else read_head(options.anatomy, options.seed)
    geometry = options.scan_geometry(None if drawn_lesion is None else float(drawn_lesion.center[2]))
    # A moving head brings tissue from beyond the scan into it.
    reach = np.abs(motion[:, :3]).max() + np.radians(np.abs(motion[:, 3:]).max()) * 110.0 if motion.any() else 0.0
    sampling = FineSampling.of(geometry, reach, options.fine_mm)
    placement = individual_placement(body_rng, options, (1.0, 1.0, 1.0) if source is None else source.scale)
    head = analytic_head(sampling.fine, placement, head_rng) if source is None else source.head(sampling.fine, placement, head_rng)
    progress(0.2)

    if drawn_lesion is None:
        side, occlusion = SIDES[options.side], options.occlusion
        depth = severity(lesion_rng, occlusion, side, head.x, head.y, head.z)
    else:
        side, occlusion = drawn_lesion.side, drawn_lesion.occlusion
        depth = drawn_lesion.severity(grade, head.x, head.y, head.z)
    ischemia = Ischemia(depth, side, occlusion)
    if options.chronic_infarct:
        head = old_infarct(head, lesion_rng.spawn(1)[0], 3 - side)
    physiology = head_physiology(
        tissue_rng, head, depth, grade, options.texture,
        SIDES.get(options.carotid_stenosis or "", 0), options.stenosis_delay_s, options.white_matter_disease,
    )

    artery_rng, vein_rng = vessel_rng.spawn(2)
    surface = envelope if source is None else source.surface
    tubes = [*arteries(artery_rng, surface), *veins(vein_rng, surface)]
    shown = np.zeros(0, np.int64) if source is None else source.vein_voxels(head)
    if shown.size:
        tubes = [vessel for vessel in tubes if "sinus" not in vessel.name and vessel.name != "torcula"]
    vessels = fill_vessels(options, head, [draw(vessel, head) for vessel in tubes], ischemia, sampling, shown)
    progress(0.4)

    bolus = lumen_bolus(options)
    last = float(slice_times.max())
    table = CurveTable.build(bolus, last, options.residue, options.dispersion)
    dynamic = contrast(options, head, physiology, vessels, bolus, table)
    curves = VoxelCurves.of(dynamic, sampling)
    progress(0.5)
    values = acquire(dynamic, sampling, curves, slice_times, motion, placement.to_scanner(CENTER), part(progress, 0.5, 0.8))
    for frame in values:
        frame += ct_noise(noise_rng, frame.shape, options.noise_hu, options.noise_kernel, geometry.spacing[:2])
    frames = len(values) if options.truncate_s is None else truncate(slice_times, options.truncate_s)
    pixels = np.clip(np.rint(values[:frames]), -1024, 3071).astype(np.int16)
    del values
    times = slice_times[:frames] if np.ndim(options.times) == 2 else slice_times[:frames, 0]
    series = TimeSeries(pixels, geometry, times, "simulated", options.slabs, (), {"Manufacturer": "Simulated"})
    progress(0.85)

    truth, lesions = brain_truth(options, head, sampling, physiology, curves, vessels, bolus, last)
    grid = operator_times(last)
    aif, vof = (grid, bolus(grid)), (grid, table.grid.sample(sinus_curve(bolus, table.grid), grid))
    numbers = study_numbers(options, ischemia, truth, lesions, curves, slice_times, aif, vof)
    for key, item in (("anatomy", source), ("lesion_mask", drawn_lesion)):
        if item is not None:
            numbers[key] = item.name
    if drawn_lesion is not None:
        numbers["lesion_mask_ml"] = drawn_lesion.volume_ml
    progress(1.0)
    return BrainStudy(series, truth, aif, vof, motion, lesions, numbers, options)


def brain_truth(
    options: BrainOptions,
    head: FineHead,
    sampling: FineSampling,
    physiology: Physiology,
    curves: VoxelCurves,
    vessels: Vasculature,
    bolus,
    last_s: float,
) -> tuple[dict[str, Volume], TruthLesions]:
    """Truth on the scan's grid, of the resting head over the whole scan, from the fine fields and the noise-free curves."""
    scan = sampling.scan
    average = sampling.matrix(physiology.voxel)
    share = 1.0 - vessels.artery[physiology.voxel] - vessels.vein[physiology.voxel]

    def averaged(values):
        return np.asarray(average @ (values * share), np.float32).reshape(scan.shape)

    cbf, cbv, parenchyma = averaged(physiology.cbf), averaged(physiology.cbv), averaged(np.ones_like(share))
    flowing = np.maximum(cbf, np.float32(1e-6))
    # The delay and the transit time of a mixed voxel are those of its blood flow.
    delay = np.where(cbf > 0, averaged(physiology.cbf * physiology.delay) / flowing, np.float32(0))
    mtt = np.where(cbf > 0, np.float32(60) * cbv / flowing, np.float32(0))
    artery, vein = (sampling.average(a.reshape(head.tissue.shape)) for a in (vessels.artery, vessels.vein))
    # Area under the tissue curve over that of the artery.
    tissue_blood = cbv / 100.0 * TISSUE_DENSITY_G_PER_ML / options.hematocrit.kappa
    arterial = (artery > vein) & (artery > tissue_blood) & (artery > 0.01)
    venous = (vein >= artery) & (vein > tissue_blood) & (vein > 0.01)
    brain = sampling.average(head.is_any(INTRACRANIAL).astype(np.float32)) > 0.5
    # A twentieth of bone in a voxel is 50 HU: no longer brain for anybody.
    bone = sampling.average(head.is_any((Tissue.BONE, Tissue.MARROW)).astype(np.float32)) > 0.05
    tissue = (parenchyma >= 0.5) & ~arterial & ~venous & brain & ~bone
    hemisphere = np.where(brain, np.where(sampling.average(head.x) > 0, 1, 2), 0)

    grid = operator_times(last_s)
    aif = bolus(grid)
    where = np.flatnonzero((brain & (parenchyma + artery + vein > 0.02)).ravel())
    tmax, operator_cbf = np.zeros(brain.size, np.float32), np.zeros(brain.size, np.float32)
    # A scan that ends before the bolus comes has no truth to read.
    for start in range(0, where.size if aif.max() > 0 else 0, 65536):
        some = where[start : start + 65536]
        maps = reference_maps(aif, curves.at(some, grid), options.hematocrit)
        tmax[some], operator_cbf[some] = maps.tmax, maps.cbf
    tmax, operator_cbf = tmax.reshape(scan.shape), operator_cbf.reshape(scan.shape)
    lesions = truth_lesions(tmax, operator_cbf, tissue, hemisphere, scan.voxel_volume_ml)
    flow_unit, volume_unit = "mL/min/(100.g)", "mL/(100.g)"
    maps = {
        "cbf": (cbf, "cerebral blood flow", flow_unit),
        "cbv": (cbv, "cerebral blood volume", volume_unit),
        "mtt": (mtt, "mean transit time", "s"),
        "delay": (delay, "arterial delay", "s"),
        "tmax": (tmax, "time to maximum of the residue, reference operator", "s"),
        "rcbf": (lesions.rcbf, "relative cerebral blood flow, reference operator", "1"),
        "operator_cbf": (operator_cbf, "cerebral blood flow, reference operator", flow_unit),
        "artery_fraction": (artery, "arterial lumen", "1"),
        "vein_fraction": (vein, "venous lumen", "1"),
    }
    masks = {
        "hypoperfusion": (lesions.hypoperfusion, "hypoperfusion"),
        "core": (lesions.core, "ischemic core"),
        "penumbra": (lesions.penumbra, "penumbra"),
        "tissue": (tissue, "perfused tissue"),
        "brain": (brain, "intracranial space"),
        "hemisphere": (hemisphere, "hemisphere, 1 left, 2 right"),
        "arterial_voxels": (arterial, "voxels dominated by arteries"),
        "venous_voxels": (venous, "voxels dominated by veins"),
    }
    truth = {name: Volume(values.astype(np.float32, copy=False), scan, what, unit) for name, (values, what, unit) in maps.items()}
    truth |= {name: Volume(values.astype(np.uint8), scan, what, "1") for name, (values, what) in masks.items()}
    return truth, lesions


def study_numbers(options, ischemia: Ischemia, truth, lesions: TruthLesions, curves: VoxelCurves, slice_times, aif, vof) -> dict:
    """What belongs into truth.json; the arterial voxel peak is the mean of the five brightest arterial voxels at the scan's times."""
    arterial = np.flatnonzero(truth["arterial_voxels"].values.ravel())
    brightest = arterial[np.argsort(truth["artery_fraction"].values.ravel()[arterial])[-100:]]
    peaks = np.sort(curves.at(brightest, slice_times.mean(axis=1)).max(axis=1))[-5:] if brightest.size else np.zeros(1)
    occluded = ischemia.occlusion != "none"
    return {
        "volumes_ml": lesions.volumes_ml,
        "lesion_side": {1: "left", 2: "right"}[ischemia.side] if occluded else None,
        "occlusion": ischemia.occlusion,
        "collaterals": options.collaterals if occluded else None,
        "reference": {"cbf": lesions.reference_cbf, "side": lesions.reference_side, "volume_ml": lesions.reference_ml},
        "tissue_ml": float(np.count_nonzero(truth["tissue"].values) * truth["tissue"].geometry.voxel_volume_ml),
        "aif_voxel_peak_hu": float(np.mean(peaks)),
        "arterial_peak_hu": float(np.max(aif[1])),
        "venous_peak_hu": float(np.max(vof[1])),
        "noise_hu": options.noise_hu,
        "seed": options.seed,
    }
