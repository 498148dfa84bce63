"""What training minimizes, over tissue only: weighted cross-entropy, focal Tversky, or their sum."""

import torch
from torch.nn import functional

from .training_config import LOSSES

PUBLISHED_WEIGHTS = (1.0, 1.0, 10.0)
"""Of background, penumbra and core in the configuration of 4D mJ-Net; there they really weigh."""


def segmentation_loss(
    logits: torch.Tensor, label: torch.Tensor, tissue: torch.Tensor, kind: str = "sum", weights: tuple[float, ...] = PUBLISHED_WEIGHTS
) -> torch.Tensor:
    """One number to minimize.

    Parameters
    ----------
    logits : tensor (B, 3, Z, J, I)
    label : int64 tensor (B, Z, J, I)
        0 background, 1 penumbra, 2 core.
    tissue : bool tensor (B, Z, J, I)
        Where the label counts.
    kind : {"cross-entropy", "focal-tversky", "sum"}
    weights : tuple of 3 float
        Of the classes in the cross-entropy.
    """
    if kind not in LOSSES:
        raise ValueError(f"there is no loss '{kind}'")
    scores, wanted = logits.float().movedim(1, -1)[tissue], label[tissue]
    if not len(wanted):
        return logits.sum() * 0.0
    loss = logits.new_zeros((), dtype=torch.float32)
    if kind != "focal-tversky":
        loss = loss + weighted_cross_entropy(scores, wanted, weights)
    if kind != "cross-entropy":
        loss = loss + focal_tversky(scores.softmax(dim=1), wanted)
    return loss


def weighted_cross_entropy(scores: torch.Tensor, label: torch.Tensor, weights: tuple[float, ...] = PUBLISHED_WEIGHTS) -> torch.Tensor:
    """Mean over voxels of weight[label] * (-log p[label]), over the number of voxels: (N, C), (N,) -> number."""
    return functional.cross_entropy(scores, label, weight=scores.new_tensor(weights), reduction="sum") / len(label)


def focal_tversky(
    probabilities: torch.Tensor, label: torch.Tensor, missed: float = 0.7, extra: float = 0.3, gamma: float = 1 / 1.33, smooth: float = 30.0
) -> torch.Tensor:
    """Mean over penumbra and core of (1 - Tversky index)^gamma (Abraham and Khan, ISBI 2019).

    Parameters
    ----------
    probabilities : tensor (N, C)
    label : tensor (N,)
    missed, extra : float
        Weight of voxels that were missed, and of voxels that are too many.
    gamma : float
        Exponent.
    smooth : float
        Voxels added above and below, so that a study without a lesion asks for an empty mask.
    """
    total = probabilities.new_zeros(())
    for number in range(1, probabilities.shape[1]):
        truth, found = (label == number).to(probabilities.dtype), probabilities[:, number]
        hit = (truth * found).sum()
        index = (hit + smooth) / (hit + missed * (truth * (1 - found)).sum() + extra * ((1 - truth) * found).sum() + smooth)
        total = total + (1 - index).clamp_min(1e-6) ** gamma
    return total / (probabilities.shape[1] - 1)
