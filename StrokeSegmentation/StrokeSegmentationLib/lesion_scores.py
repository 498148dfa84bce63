"""How well a label agrees with the truth; every score looks at the whole brain, never only where the truth lies.

A score that has no meaning is nan: Dice of a lesion that neither has, distances to nothing.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from PerfusionMapsLib.lesions import bounding_box

from .training_cases import CORE, PENUMBRA

REGIONS = ("hypoperfusion", "penumbra", "core")
CALIBRATION_BINS = 10
_TOUCHING = np.ones((3, 3, 3), bool)


def region(label: np.ndarray, name: str) -> np.ndarray:
    """Mask of one of `REGIONS` in a label."""
    return label > 0 if name == "hypoperfusion" else label == {"penumbra": PENUMBRA, "core": CORE}[name]


def dice(found: np.ndarray, true: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|); nan when both are empty."""
    total = np.count_nonzero(found) + np.count_nonzero(true)
    return 2.0 * np.count_nonzero(found & true) / total if total else float("nan")


def surface_distances_mm(found: np.ndarray, true: np.ndarray, voxel_mm) -> np.ndarray:
    """Distances of all surface voxels of each mask to the surface of the other, mm; `voxel_mm` is (x, y, z).

    Surface voxels are those with a neighbor (6) outside the mask; beyond the scan counts as outside.
    """
    box = bounding_box(found | true)
    spacing = tuple(voxel_mm)[::-1]
    surfaces = []
    for mask in (found[box], true[box]):
        padded = np.pad(mask, 1)
        surfaces.append((padded & ~ndimage.binary_erosion(padded))[1:-1, 1:-1, 1:-1])
    ways = ((surfaces[0], surfaces[1]), (surfaces[1], surfaces[0]))
    return np.concatenate([ndimage.distance_transform_edt(~other, spacing)[one] for one, other in ways])


def hd95_mm(found: np.ndarray, true: np.ndarray, voxel_mm) -> float:
    """95th percentile of the symmetric surface distances, mm; nan when one of the masks is empty."""
    if not found.any() or not true.any():
        return float("nan")
    return float(np.percentile(surface_distances_mm(found, true, voxel_mm), 95.0))


def lesion_counts(found: np.ndarray, true: np.ndarray) -> tuple[int, int, int]:
    """Lesions (26-connected) that are hit, missed and invented: a lesion is hit when any voxel of it is found."""
    true_lesions, count = ndimage.label(true, _TOUCHING)
    found_lesions, found_count = ndimage.label(found, _TOUCHING)
    hit = len(np.unique(true_lesions[found & true]))
    right = len(np.unique(found_lesions[found & true]))
    return hit, count - hit, found_count - right


def lesion_f1(found: np.ndarray, true: np.ndarray) -> float:
    """2 hit / (2 hit + missed + invented) over lesions; nan when there are none on either side."""
    hit, missed, invented = lesion_counts(found, true)
    total = 2 * hit + missed + invented
    return 2.0 * hit / total if total else float("nan")


def label_scores(found: np.ndarray, true: np.ndarray, voxel_mm) -> dict[str, float]:
    """All scores of a label against the true one, keys ``<region>_<score>``.

    ``dice``, ``hd95_mm``, ``found_ml``, ``true_ml``, ``error_ml`` (found minus true), ``lesion_f1``.
    """
    voxel_ml = float(np.prod(voxel_mm)) / 1000.0
    scores: dict[str, float] = {}
    for name in REGIONS:
        a, b = region(found, name), region(true, name)
        found_ml, true_ml = np.count_nonzero(a) * voxel_ml, np.count_nonzero(b) * voxel_ml
        values = {
            "dice": dice(a, b),
            "hd95_mm": hd95_mm(a, b, voxel_mm),
            "found_ml": found_ml,
            "true_ml": true_ml,
            "error_ml": found_ml - true_ml,
            "lesion_f1": lesion_f1(a, b),
        }
        scores |= {f"{name}_{key}": float(value) for key, value in values.items()}
    return scores


@dataclass(frozen=True, eq=False)
class Reliability:
    """Counts behind a reliability diagram; those of several studies add up.

    Attributes
    ----------
    count, predicted, happened : ndarray (bins,)
        Voxels of each bin of probability, the sum of their probabilities, and how many of them were true.
    """

    count: np.ndarray
    predicted: np.ndarray
    happened: np.ndarray

    def __add__(self, other: "Reliability") -> "Reliability":
        return Reliability(self.count + other.count, self.predicted + other.predicted, self.happened + other.happened)

    @property
    def expected_error(self) -> float:
        """Expected calibration error: mean over voxels of |predicted - observed frequency| of their bin; nan without voxels."""
        return float(np.abs(self.predicted - self.happened).sum() / self.count.sum()) if self.count.sum() else float("nan")


    @property
    def largest_gap(self) -> float:
        """Largest |predicted - observed frequency| of a bin with at least one voxel in a thousand; nan without voxels."""
        often = self.count >= max(1.0, 1e-3 * self.count.sum())
        gaps = np.abs(self.predicted - self.happened)[often] / self.count[often]
        return float(gaps.max()) if gaps.size else float("nan")


def reliability(probability: np.ndarray, true: np.ndarray, where: np.ndarray, bins: int = CALIBRATION_BINS) -> Reliability:
    """Reliability of probabilities (K, J, I) of a mask over the voxels `where`, in bins of equal width.

    Reference: Guo C et al., ICML 2017 (expected calibration error).
    """
    p = np.clip(probability[where].astype(np.float64), 0.0, 1.0)
    place = np.minimum((p * bins).astype(int), bins - 1)
    return Reliability(
        np.bincount(place, minlength=bins).astype(float),
        np.bincount(place, p, bins),
        np.bincount(place, true[where].astype(float), bins),
    )
