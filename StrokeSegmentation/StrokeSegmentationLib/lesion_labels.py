"""Labels of penumbra and core: of a network's probabilities, one rule for evaluation and prediction with the cluster sizes of the maps, of
masks, and of the threshold maps.  The validations during training take the likeliest class instead.
"""

from dataclasses import dataclass

import numpy as np

from PerfusionMapsLib.lesions import large_clusters
from PerfusionMapsLib.perfusion_result import PerfusionResult

from .training_cases import CORE, PENUMBRA
from .voxel_blocks import VoxelBlocks


@dataclass(frozen=True)
class LabelRule:
    """When a voxel counts.

    Attributes
    ----------
    deficit : float
        Least probability of penumbra and core together.
    core : float
        Least share of core in it.
    minimum_ml : float
        Smaller clusters of the deficit are dropped, smaller clusters of core go back to penumbra.
    """

    deficit: float = 0.5
    core: float = 0.5
    minimum_ml: float = 1.0


STANDARD_RULE = LabelRule()


def rule_of(document: dict) -> LabelRule:
    """The rule in a model's metadata, key "label_rule"; without one the standard rule.

    Raises
    ------
    ValueError
        No rule: something else, or cuts outside 0 to 1.
    """
    stored = document.get("label_rule")
    if stored is None:
        return STANDARD_RULE
    try:
        rule = LabelRule(float(stored["deficit"]), float(stored["core"]))
    except (KeyError, TypeError) as problem:
        raise ValueError(f"{stored!r} is no rule") from problem
    if not (0 < rule.deficit < 1 and 0 < rule.core < 1):
        raise ValueError(f"{stored!r} has cuts outside 0 to 1")
    return rule


def label_from_probabilities(probabilities: np.ndarray, tissue: np.ndarray, voxel_ml: float, rule: LabelRule = STANDARD_RULE) -> np.ndarray:
    """Label (K, J, I) uint8: 0 background, 1 penumbra, 2 core.

    Parameters
    ----------
    probabilities : ndarray (3, K, J, I)
        Background, penumbra and core, adding up to 1.
    tissue : ndarray (K, J, I)
        Where lesions may lie.
    voxel_ml : float
        Volume of a voxel.
    rule : LabelRule
    """
    inside = np.asarray(tissue) > 0
    both = probabilities[PENUMBRA].astype(np.float32) + probabilities[CORE]
    minimum = int(np.ceil(rule.minimum_ml / voxel_ml - 1e-6))
    deficit = large_clusters(inside & (both >= rule.deficit), minimum)
    core = large_clusters(deficit & (probabilities[CORE] >= rule.core * both), minimum)
    return label_from_masks(deficit, core)


def label_from_masks(deficit: np.ndarray, core: np.ndarray) -> np.ndarray:
    """Label (K, J, I) uint8 of two masks: core, and penumbra where the deficit is no core."""
    return np.where(np.asarray(core) > 0, CORE, np.where(np.asarray(deficit) > 0, PENUMBRA, 0)).astype(np.uint8)


def label_of(hypoperfusion: np.ndarray, core: np.ndarray, blocks: VoxelBlocks) -> np.ndarray:
    """Label (K, J, I) uint8 on the networks' grid from masks on the scan's."""
    deficit = blocks.majority(hypoperfusion)
    return label_from_masks(deficit, deficit & blocks.majority(core))


def label_of_maps(result: PerfusionResult) -> np.ndarray:
    """Label (K, J, I) uint8 of the lesion masks of a threshold result, on its grid."""
    return label_from_masks(*_threshold_masks(result))


def threshold_label(result: PerfusionResult, blocks: VoxelBlocks) -> np.ndarray:
    """The same on the networks' grid."""
    return label_of(*_threshold_masks(result), blocks)


def _threshold_masks(result: PerfusionResult) -> tuple[np.ndarray, np.ndarray]:
    """Hypoperfusion and core (K, J, I) of a threshold result; without a reference there is no core."""
    hypoperfusion = next(mask for name, mask in result.masks.items() if name.startswith("hypoperf_mask")) > 0
    core = next((mask for name, mask in result.masks.items() if name.startswith("core_mask")), np.zeros_like(hypoperfusion)) > 0
    return hypoperfusion, core


def volumes_ml(label: np.ndarray, voxel_ml: float) -> dict[str, float]:
    """Volumes of hypoperfusion, penumbra and core of a label, mL."""
    penumbra, core = (float(np.count_nonzero(label == kind)) * voxel_ml for kind in (PENUMBRA, CORE))
    return {"hypoperfusion": penumbra + core, "penumbra": penumbra, "core": core}
