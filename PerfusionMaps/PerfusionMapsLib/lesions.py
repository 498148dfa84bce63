"""Hypoperfusion, core and penumbra from the threshold-scale maps: one pure function for command line, slider and comparison.

Cut-offs belong to the scale of the maps they are applied to (Tmax > 6 s and rCBF < 30 % were set on block-circulant SVD maps), so
the masks come from the operator-scale `tmax` and `rcbf` maps; only `core_physical` looks at the engine's own CBF.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from CTPerfusionSuiteLib.volumes import Geometry

from .perfusion_options import Thresholds

NORMAL_TMAX_S = 4.0
"""Tissue up to this Tmax is normally perfused and may serve as the reference, seconds."""
STANDARD_TMAX_S = (4.0, 6.0, 8.0, 10.0)
STANDARD_RCBF = (0.20, 0.30, 0.34, 0.38)
REFERENCE_ONE_SIDE_ML = 50.0
"""Less reference tissue than this in one hemisphere, mL: both hemispheres are used."""
REFERENCE_LEAST_ML = 10.0
"""Less reference tissue than this in all, mL: no reference, so no core."""
SLOPE_REACH_S = 0.5
SIDE_DOMINANCE = 2.0
"""A lesion has a side when that hemisphere holds at least this many times the volume of the other."""

LEFT, RIGHT = 1, 2
SIDE_NAMES = {LEFT: "left", RIGHT: "right"}
_TOUCHING = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class Reference:
    """Normally perfused tissue that relative CBF is measured against.

    Attributes
    ----------
    flow : float or None
        Median operator-scale flow there, in the unit of the given map (1 when that map is already relative); None without reference.
    cbf, cbv : float or None
        Medians of the physical CBF and CBV maps there, mL/100 g/min and mL/100 g.
    volume_ml : float
        Volume of the tissue the medians are taken over.
    side : str or None
        "left" or "right", the hemisphere used; "both" when neither alone holds enough; None without reference.
    """

    flow: float | None
    cbf: float | None
    cbv: float | None
    volume_ml: float
    side: str | None


@dataclass(frozen=True)
class Lesions:
    """Lesion masks, bool (K, J, I) on the maps' grid; a mask is None where it cannot be told (no reference tissue).

    Attributes
    ----------
    hypoperfusion : ndarray
        Tissue with Tmax above the threshold, in clusters of at least 1 mL.
    core, penumbra : ndarray or None
        Hypoperfusion with relative CBF under the threshold, in clusters of at least 1 mL; and the rest of it.
    core_physical : ndarray or None
        The same with the physical CBF against its own reference.
    tmax_gt : dict of str -> ndarray
        "4", "6", "8", "10" (s).  "4" and "6" are filtered alone, "8" and "10" are subsets of "6".
    rcbf_lt : dict of str -> ndarray or None
        "0.20", "0.30", "0.34", "0.38", each within `hypoperfusion`.
    tissue : ndarray
        Tissue with a finite Tmax and flow, where lesions were looked for.
    reference : Reference
    lesion_side : str or None
        "left", "right", "both", or None without hypoperfusion.
    ml_per_s : float
        How fast the volume falls as the Tmax threshold rises, mL per second, over half a second to either side.
    thresholds : Thresholds
    voxel_volume_ml : float
    """

    hypoperfusion: np.ndarray
    core: np.ndarray | None
    penumbra: np.ndarray | None
    core_physical: np.ndarray | None
    tmax_gt: dict[str, np.ndarray]
    rcbf_lt: dict[str, np.ndarray | None]
    tissue: np.ndarray
    reference: Reference
    lesion_side: str | None
    ml_per_s: float
    thresholds: Thresholds
    voxel_volume_ml: float

    def volume_ml(self, mask: np.ndarray | None) -> float | None:
        """Volume of one of the masks in mL; None stays None."""
        return None if mask is None else float(np.count_nonzero(mask)) * self.voxel_volume_ml

    def masks(self) -> dict[str, np.ndarray]:
        """uint8 masks under the names they are written with; a mask that cannot be told is left out."""
        hypoperfusion, core = mask_names(self.thresholds)
        named = {hypoperfusion: self.hypoperfusion, core: self.core, "penumbra_mask": self.penumbra}
        return {name: mask.astype(np.uint8) for name, mask in named.items() if mask is not None}


def mask_names(thresholds: Thresholds) -> tuple[str, str]:
    """File names (without suffix) of the hypoperfusion and core masks, such as ``hypoperf_mask_tmax6`` and ``core_mask_rcbf30``."""
    return f"hypoperf_mask_tmax{thresholds.tmax_s:g}", f"core_mask_rcbf{100.0 * thresholds.rcbf:g}"


def relative_to(values: np.ndarray, reference: float | None) -> np.ndarray:
    """A map divided by its reference, float32 as it is written and thresholded; zeros without reference."""
    values = np.asarray(values, np.float32)
    if reference is None:
        return np.zeros_like(values)
    return values if reference == 1.0 else values / np.float32(reference)


def large_clusters(mask: np.ndarray, minimum_voxels: int) -> np.ndarray:
    """The 26-connected clusters of a bool (K, J, I) mask that hold at least `minimum_voxels` voxels."""
    kept = np.zeros_like(mask)
    box = bounding_box(mask)
    part = mask[box]
    if minimum_voxels > 1 and part.size:
        labels, _ = ndimage.label(part, _TOUCHING)
        large = np.bincount(labels.ravel()) >= minimum_voxels
        large[0] = False
        part = large[labels]
    kept[box] = part
    return kept


def lesions(maps: dict, masks: dict, thresholds: Thresholds, geometry: Geometry) -> Lesions:
    """Lesion masks of one study at given thresholds.

    Parameters
    ----------
    maps : dict of str -> ndarray (K, J, I)
        ``tmax`` in seconds and the operator-scale flow, either as ``operator_cbf`` (any unit) or as ``rcbf`` (already divided by its
        reference, as the result folder stores it); ``cbf`` in mL/100 g/min for `core_physical`; ``cbv`` for its reference value.
    masks : dict of str -> ndarray (K, J, I)
        ``tissue_mask`` and ``hemisphere`` (1 left, 2 right; without it both hemispheres are one).
    thresholds : Thresholds
    geometry : Geometry
        Gives the physical volume of a voxel.

    Returns
    -------
    Lesions

    Notes
    -----
    The less affected hemisphere is the one with less tissue of Tmax > 6 s whatever threshold the user moves, so that the relative CBF
    map of a stored result stays valid at every threshold.

    References
    ----------
    Cluster size, nested Tmax and rCBF levels and the reference follow DESIGN of this project; compare Straka M et al., J Magn Reson
    Imaging 2010;32:1024-1037 and Campbell BCV et al., Stroke 2011;42:3435-3440 (relative CBF as the core's marker).
    """
    voxel_ml = geometry.voxel_volume_ml
    tmax = np.asarray(maps["tmax"])
    relative = "operator_cbf" not in maps
    flow = np.asarray(maps["rcbf"] if relative else maps["operator_cbf"])
    tissue = np.asarray(masks["tissue_mask"]) > 0
    tissue = tissue & np.isfinite(tmax) & np.isfinite(flow)
    hemisphere = np.asarray(masks["hemisphere"]) if "hemisphere" in masks else np.zeros(tissue.shape, np.uint8)
    minimum = int(np.ceil(thresholds.minimum_cluster_ml / voxel_ml - 1e-6))

    # Everything but the reference happens inside the box around delayed tissue.
    lowest = min(NORMAL_TMAX_S, thresholds.tmax_s - SLOPE_REACH_S)
    box = bounding_box(tissue & (tmax > lowest))
    boxed_tmax = np.where(tissue[box], tmax[box], -np.inf)

    def on_grid(part: np.ndarray) -> np.ndarray:
        whole = np.zeros(tissue.shape, bool)
        whole[box] = part
        return whole

    # A large cluster at a stricter level lies in a large cluster of every looser one, so each level is searched in the one before.
    levels = sorted({4.0, 6.0, thresholds.tmax_s})
    filtered, looser = {}, np.ones(boxed_tmax.shape, bool)
    for level in levels:
        looser = filtered[level] = large_clusters(looser & (boxed_tmax > level), minimum)
    hypoperfusion = filtered[thresholds.tmax_s]
    above = {4.0: filtered[4.0], 6.0: filtered[6.0]}
    above[8.0], above[10.0] = above[6.0] & (boxed_tmax > 8.0), above[6.0] & (boxed_tmax > 10.0)

    # Around the threshold: within clusters of Tmax > 4 s where these reach far enough down, else in all tissue.
    around = boxed_tmax[filtered[4.0]] if thresholds.tmax_s - SLOPE_REACH_S >= 4.0 else boxed_tmax
    low_end, high_end = (np.count_nonzero(around > thresholds.tmax_s + reach) for reach in (-SLOPE_REACH_S, SLOPE_REACH_S))

    less_affected = _less_affected(above[6.0], above[4.0], hemisphere[box])
    reference = _reference(tmax, flow, maps, tissue, hemisphere, less_affected, voxel_ml, relative)

    core = core_physical = penumbra = None
    cores = dict.fromkeys(STANDARD_RCBF)
    if reference.flow is not None:
        low = _nested_low_flow(flow[box], reference.flow, {*STANDARD_RCBF, thresholds.rcbf}, hypoperfusion, minimum)
        cores, core = {level: low[level] for level in STANDARD_RCBF}, low[thresholds.rcbf]
        penumbra = hypoperfusion & ~core
        if reference.cbf is not None:
            cbf = np.asarray(maps["cbf"])[box]
            core_physical = _nested_low_flow(cbf, reference.cbf, {thresholds.rcbf}, hypoperfusion, minimum)[thresholds.rcbf]

    return Lesions(
        hypoperfusion=on_grid(hypoperfusion),
        core=None if core is None else on_grid(core),
        penumbra=None if penumbra is None else on_grid(penumbra),
        core_physical=None if core_physical is None else on_grid(core_physical),
        tmax_gt={f"{level:g}": on_grid(above[level]) for level in STANDARD_TMAX_S},
        rcbf_lt={f"{level:.2f}": None if part is None else on_grid(part) for level, part in cores.items()},
        tissue=tissue,
        reference=reference,
        lesion_side=side_of(hypoperfusion, hemisphere[box]),
        ml_per_s=(low_end - high_end) * voxel_ml / (2.0 * SLOPE_REACH_S),
        thresholds=thresholds,
        voxel_volume_ml=voxel_ml,
    )


def _nested_low_flow(flow, normal: float, fractions, hypoperfusion: np.ndarray, minimum: int) -> dict[float, np.ndarray]:
    """Large clusters of hypoperfusion with a flow under each fraction of `normal`, the loosest searched first."""
    inner = bounding_box(hypoperfusion)
    relative, looser = relative_to(flow[inner], normal), hypoperfusion[inner]
    found = {}
    for fraction in sorted(fractions, reverse=True):
        looser = large_clusters(looser & (relative < np.float32(fraction)), minimum)
        found[fraction] = np.zeros_like(hypoperfusion)
        found[fraction][inner] = looser
    return found


def bounding_box(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """Slices (K, J, I) of the smallest box that holds a bool mask; empty slices for an empty mask."""
    box = []
    for axis in range(3):
        filled = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(int(filled[0]), int(filled[-1]) + 1) if filled.size else slice(0, 0))
    return tuple(box)


def _less_affected(severe: np.ndarray, delayed: np.ndarray, hemisphere: np.ndarray) -> int:
    """The hemisphere (1 or 2) with less Tmax > 6 s tissue; ties are settled by Tmax > 4 s, then by convention."""
    for part in (severe, delayed):
        left, right = np.count_nonzero(part & (hemisphere == LEFT)), np.count_nonzero(part & (hemisphere == RIGHT))
        if left != right:
            return LEFT if left < right else RIGHT
    return LEFT


def _reference(tmax, flow, maps, tissue, hemisphere, less_affected, voxel_ml, relative) -> Reference:
    """Medians over normally perfused tissue of the less affected hemisphere, or of both when it is too small."""
    normal = tissue & (tmax <= NORMAL_TMAX_S)
    region, side = normal & (hemisphere == less_affected), SIDE_NAMES[less_affected]
    if np.count_nonzero(region) * voxel_ml < REFERENCE_ONE_SIDE_ML:
        region, side = normal, "both"
    volume_ml = float(np.count_nonzero(region)) * voxel_ml
    if volume_ml < REFERENCE_LEAST_ML:
        return Reference(None, None, None, volume_ml, None)
    middle = _positive_median(flow[region])
    if middle is None:
        return Reference(None, None, None, volume_ml, None)
    if relative and abs(middle - 1.0) < 1e-4:
        # A stored rcbf map was divided by this very median: what is left is rounding, and masks must come out voxel for voxel.
        middle = 1.0
    cbf, cbv = (None if maps.get(name) is None else _positive_median(np.asarray(maps[name])[region]) for name in ("cbf", "cbv"))
    return Reference(middle, cbf, cbv, volume_ml, side)


def _positive_median(values: np.ndarray) -> float | None:
    values = values[np.isfinite(values)]
    middle = float(np.median(values)) if values.size else 0.0
    return middle if middle > 0.0 else None


def side_of(hypoperfusion: np.ndarray, hemisphere: np.ndarray) -> str | None:
    """The side that holds most of the hypoperfusion; "both" when neither dominates; None without hypoperfusion or hemispheres."""
    left = np.count_nonzero(hypoperfusion & (hemisphere == LEFT))
    right = np.count_nonzero(hypoperfusion & (hemisphere == RIGHT))
    if left + right == 0:
        return None
    if left >= SIDE_DOMINANCE * right:
        return "left"
    return "right" if right >= SIDE_DOMINANCE * left else "both"
