"""Contrast on its way through arteries, brain and veins of a fine head."""

from dataclasses import dataclass, replace

import numpy as np

from CTPerfusionSuiteLib.phantoms.brain_options import SIDES, BrainOptions
from CTPerfusionSuiteLib.phantoms.forward_model import CurveTable, DenseGrid, dispersed_bolus
from CTPerfusionSuiteLib.phantoms.head_anatomy import FineHead
from CTPerfusionSuiteLib.phantoms.physiology import Physiology
from CTPerfusionSuiteLib.phantoms.stroke_lesion import GRADES, Ischemia, downstream_of
from CTPerfusionSuiteLib.phantoms.vessels import DrawnVessel, Vessel
from CTPerfusionSuiteLib.phantoms.voxel_sampling import DynamicHead, FineSampling
from CTPerfusionSuiteLib.tracer_kinetics import flow_scale

ARTERY_HU, VEIN_HU, CLOT_HU = 42.0, 50.0, 62.0
ANTERIOR_CIRCULATION = ("M1", "M2", "M3", "M4", "A1", "A2", "A3")
VENOUS_DELAY_S, VENOUS_SPREAD_S = 2.0, 5.0
"""From the arterial input to the first veins: shift and mean of a gamma transport kernel (shape 3)."""
SINUS_DELAY_S = 1.0
"""From the first veins to the superior sagittal sinus."""


@dataclass(frozen=True)
class Passage:
    """How blood reaches a vessel.

    Attributes
    ----------
    kind : str
        "artery" or "vein".
    delay, spread : float
        Seconds: pure delay, and mean of the dispersion on the way (beyond that of any vein).
    strength : float
        Share of the lumen that is perfused.
    """

    kind: str
    delay: float
    spread: float = 0.0
    strength: float = 1.0

    def curve(self, bolus, grid: DenseGrid) -> np.ndarray:
        """(count,) HU on the fine time grid."""
        if self.kind == "vein":
            return self.strength * dispersed_bolus(bolus, grid, VENOUS_DELAY_S + self.delay, VENOUS_SPREAD_S + self.spread, 3.0)
        return self.strength * dispersed_bolus(bolus, grid, self.delay, self.spread)


def sinus_curve(bolus, grid: DenseGrid) -> np.ndarray:
    """(count,) HU: enhancement in the superior sagittal sinus, the venous output function of the truth."""
    return Passage("vein", SINUS_DELAY_S).curve(bolus, grid)


def lumen_scale(drawn: list[DrawnVessel], sampling: FineSampling, wanted: float) -> float:
    """Factor on arterial radii at which the five fullest scan voxels hold `wanted` (0-1) of lumen on average, at most 2.45."""

    def fullest(scale):
        voxels, shares = (np.concatenate(parts) for parts in zip(*(item.fraction(scale) for item in drawn), strict=True))
        # Where vessels meet their lumen counts once.
        voxels, place = np.unique(voxels, return_inverse=True)
        shares = np.minimum(np.bincount(place, shares), 1.0)
        target = sampling.scan_voxel(voxels)
        inside = target >= 0
        filled = np.bincount(target[inside], shares[inside], 5)
        return float(np.partition(filled, -5)[-5:].mean()) / float(np.prod(sampling.factors))

    low, high = 0.05, 2.45
    if not drawn:
        return 1.0
    if fullest(high) <= wanted:
        return high
    for _ in range(14):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if fullest(middle) < wanted else (low, middle)
    return float(np.sqrt(low * high))


def ischemia_of(item: DrawnVessel, ischemia: Ischemia, sampling: FineSampling) -> float:
    """How far (0-1) a vessel lies beyond the occlusion, by what of it the scan covers."""
    vessel = item.vessel
    beyond = vessel.kind == "artery" and vessel.side == ischemia.side and vessel.name in downstream_of(ischemia.occlusion)
    if not beyond or not item.voxel.size:
        return 0.0
    if vessel.name == "M1":
        return 1.0
    covered = item.voxel[sampling.scan_voxel(item.voxel) >= 0]
    return float(np.clip(1.6 * ischemia.depth.ravel()[covered].mean(), 0.0, 1.0)) if covered.size else 0.0


def passage_of(vessel: Vessel, beyond: float, options: BrainOptions, ischemia: Ischemia) -> Passage:
    """How blood reaches `vessel`, which lies `beyond` (0-1) the occlusion."""
    if vessel.kind == "vein":
        drains_lesion = ischemia.occlusion != "none" and vessel.side == ischemia.side and "vein" in vessel.name
        return Passage("vein", round(vessel.delay + 1.8 * drains_lesion, 1), 1.5 * drains_lesion)
    stenosed = options.carotid_stenosis is not None and vessel.side == SIDES[options.carotid_stenosis]
    late = options.stenosis_delay_s if stenosed and vessel.name in ANTERIOR_CIRCULATION else 0.0
    # What lies beyond the clot fills backwards over collaterals: late, dispersed, and not to its full width.
    late += 0.75 * GRADES[options.collaterals].longest_delay_s * beyond
    return Passage("artery", round(vessel.delay + late, 1), round(3.0 * beyond, 1), round(1.0 - 0.45 * beyond, 2))


@dataclass(frozen=True, eq=False)
class Vasculature:
    """The lumen of a fine head.

    Attributes
    ----------
    artery, vein : ndarray (fine voxels,) float32
        Share of each fine voxel.
    voxel, weight, curve : ndarray (M,)
        Fine voxels with lumen (sorted), the share of each, and the row of `passages` it follows.
    passages : list of Passage
    static_hu : ndarray (fine voxels,) float32
        HU without contrast, with blood in the lumen.
    """

    artery: np.ndarray
    vein: np.ndarray
    voxel: np.ndarray
    weight: np.ndarray
    curve: np.ndarray
    passages: list
    static_hu: np.ndarray


def fill_vessels(
    options: BrainOptions,
    head: FineHead,
    drawn: list[DrawnVessel],
    ischemia: Ischemia,
    sampling: FineSampling,
    vein_voxels: np.ndarray,
) -> Vasculature:
    """Give drawn vessels, and the veins that an anatomy shows itself (flat fine `vein_voxels`), their share of voxels and their blood."""
    beyond = [ischemia_of(item, ischemia, sampling) for item in drawn]
    patent = [item for item, s in zip(drawn, beyond, strict=True) if item.vessel.kind == "artery" and item.voxel.size and s == 0.0]
    scale = lumen_scale(patent, sampling, min(options.aif_peak_hu / options.lumen_peak_hu, 1.0))
    shares = {"artery": np.zeros(head.tissue.size, np.float32), "vein": np.zeros(head.tissue.size, np.float32)}
    static = head.static_hu.ravel().copy()
    rows: dict[Passage, int] = {}
    voxels, weights, curves = [], [], []

    def fill(where, share, passage, blood):
        # Vessels drawn earlier keep their lumen where two meet.
        share = np.clip(share, 0.0, 1.0 - shares["artery"][where] - shares["vein"][where])
        shares[passage.kind][where] += share
        static[where] += share * (blood - static[where])
        voxels.append(where)
        weights.append(share)
        curves.append(np.full(where.size, rows.setdefault(passage, len(rows))))

    for item, s in zip(drawn, beyond, strict=True):
        where, share = item.fraction(scale if item.vessel.kind == "artery" else 1.0)
        if where.size:
            occluded = item.vessel.name == "M1" and s == 1.0
            blood = CLOT_HU if occluded else ARTERY_HU if item.vessel.kind == "artery" else VEIN_HU
            fill(where, share, passage_of(item.vessel, s, options, ischemia), blood)
    if vein_voxels.size:
        fill(vein_voxels, np.ones(vein_voxels.size, np.float32), Passage("vein", SINUS_DELAY_S), VEIN_HU)
    if not voxels:
        none = np.zeros(0, np.int64)
        return Vasculature(shares["artery"], shares["vein"], none, none.astype(np.float32), none, [Passage("artery", 0.0)], static)
    where = np.concatenate(voxels)
    order = np.argsort(where, kind="stable")
    return Vasculature(
        shares["artery"], shares["vein"], where[order], np.concatenate(weights)[order].astype(np.float32), np.concatenate(curves)[order],
        list(rows), static,
    )


def contrast(options: BrainOptions, head: FineHead, physiology: Physiology, vessels: Vasculature, bolus, table: CurveTable) -> DynamicHead:
    """The fine head with its curves: tissue in the table's basis, vessels each with their own."""
    tissue_share = 1.0 - vessels.artery[physiology.voxel] - vessels.vein[physiology.voxel]
    flow = physiology.cbf * tissue_share / np.float32(flow_scale(options.hematocrit))
    return DynamicHead(
        vessels.static_hu.reshape(head.tissue.shape),
        physiology.voxel,
        table.project(flow, physiology.mtt, physiology.delay),
        vessels.voxel,
        vessels.weight,
        vessels.curve,
        np.stack([passage.curve(bolus, table.grid) for passage in vessels.passages]),
        table,
    )


def lumen_bolus(options: BrainOptions):
    """The arterial bolus of a study at its peak in the lumen."""
    return replace(options.bolus, peak=options.lumen_peak_hu)
