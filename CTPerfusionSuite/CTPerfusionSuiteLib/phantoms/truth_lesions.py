"""Lesions of the truth maps: the project's definitions, implemented on their own, apart from the analysis.

Hypoperfusion is tissue with Tmax > 6 s, core the part of it with rCBF < 0.30; 26-connected clusters under 1 mL are dropped from the
first and returned to penumbra from the second.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

SMALLEST_CLUSTER_ML = 1.0
SMALLEST_REFERENCE_ML = 50.0


@dataclass(frozen=True)
class TruthLesions:
    """Masks (K, J, I) of bool and what they measure.

    Attributes
    ----------
    reference_cbf : float
        Median operator-scale CBF of the reference tissue, mL/100 g/min; nan when there is none.
    reference_side : str
        "left", "right" or "both".
    reference_ml : float
        Volume of the reference tissue.
    volumes_ml : dict
        hypoperfusion, core, penumbra.
    """

    rcbf: np.ndarray
    hypoperfusion: np.ndarray
    core: np.ndarray
    penumbra: np.ndarray
    reference_cbf: float
    reference_side: str
    reference_ml: float
    volumes_ml: dict


def keep_large(mask: np.ndarray, voxel_ml: float, smallest_ml: float = SMALLEST_CLUSTER_ML) -> np.ndarray:
    """The 26-connected clusters of `mask` (K, J, I) of at least `smallest_ml`."""
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count == 0:
        return np.zeros_like(mask)
    volume = np.bincount(labels.ravel()) * voxel_ml
    large = volume >= smallest_ml - 1e-9
    large[0] = False
    return large[labels]


def truth_lesions(
    tmax: np.ndarray,
    operator_cbf: np.ndarray,
    tissue: np.ndarray,
    hemisphere: np.ndarray,
    voxel_ml: float,
    tmax_s: float = 6.0,
    rcbf_limit: float = 0.30,
) -> TruthLesions:
    """Apply the definitions to noise-free maps.

    Parameters
    ----------
    tmax, operator_cbf : ndarray (K, J, I)
        Seconds and mL/100 g/min, from the reference operator.
    tissue : ndarray of bool
    hemisphere : ndarray of int
        1 left, 2 right, 0 elsewhere.
    voxel_ml : float
        Volume of a voxel in mL.
    """
    delayed = tissue & (tmax > tmax_s)
    normal = tissue & (tmax <= 4.0)
    affected = [np.count_nonzero(delayed & (hemisphere == side)) for side in (1, 2)]
    side = "both" if affected[0] == affected[1] else ("left" if affected[0] < affected[1] else "right")
    reference = normal if side == "both" else normal & (hemisphere == (1 if side == "left" else 2))
    if np.count_nonzero(reference) * voxel_ml < SMALLEST_REFERENCE_ML:
        side, reference = "both", normal
    reference_cbf = float(np.median(operator_cbf[reference])) if reference.any() else float("nan")
    # Without a reference nothing is relative to it, and there is no core.
    usable = reference_cbf > 0
    rcbf = np.where(tissue, operator_cbf / (reference_cbf if usable else 1.0), 0.0).astype(np.float32)
    hypoperfusion = keep_large(delayed, voxel_ml)
    core = keep_large(hypoperfusion & (rcbf < rcbf_limit) & usable, voxel_ml)
    penumbra = hypoperfusion & ~core
    volumes = {
        name: float(np.count_nonzero(mask) * voxel_ml)
        for name, mask in (("hypoperfusion", hypoperfusion), ("core", core), ("penumbra", penumbra))
    }
    return TruthLesions(
        rcbf, hypoperfusion, core, penumbra, reference_cbf, side, float(np.count_nonzero(reference) * voxel_ml), volumes
    )
