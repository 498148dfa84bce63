"""Variants of a training study that are as good as the study: the other side, another size, a later arrival, another scale, more noise.

All work on a laid-out batch (`brain_box`): the midsagittal plane is in the middle of the columns, so turning the columns around
swaps left and right of images, maps and labels alike.
"""

import numpy as np
import torch
from torch.nn import functional

SHIFT_FRAMES = 0.5
"""Largest error of the arrival time, in frames of the grid (1 s)."""
SCALE_SPREAD = 0.15
"""Standard deviation of the logarithm of the scale's error."""
NOISE_SHARE = 0.5
"""Largest added noise over the noise that is there."""
MIDDLE_SHIFT = 2
"""Largest error of the midsagittal plane, in pixels."""
SIZE_SPREAD = 0.08
"""Standard deviation of the logarithm of a head's length, and of its width, against what they are."""
LOST_NOISE = 1.0
"""Noise that interpolation takes out of a resized head, over the noise that it leaves: it halves the variance, about."""
LEAST_SHARE = 0.25
"""Of a pixel of a resized head that has to be tissue."""
FORGOTTEN_SHARE = 0.2
"""Of the studies whose maps are withheld, so that a network given maps too still reads curves where noise spoils the maps."""


def augment(batch: dict[str, torch.Tensor], rng: np.random.Generator, maps: int = 0) -> dict[str, torch.Tensor]:
    """A random variant of every study of a batch.

    Parameters
    ----------
    batch : dict
        "x" (B, 2, Z, F, J, I) curves and what counts, or (B, C, Z, J, I) maps; "label" and "tissue" (B, Z, J, I).
    rng : Generator
    maps : int
        Maps behind the frames of the curves, which know neither arrival nor scale.

    Returns
    -------
    dict
        The same keys; new tensors.
    """
    varied = []
    for number in range(len(batch["x"])):
        one = {key: value[number] for key, value in batch.items()}
        if rng.random() < 0.5:
            one = other_side(one)
        one = moved_sideways(one, int(rng.integers(-MIDDLE_SHIFT, MIDDLE_SHIFT + 1)))
        other_size = rng.random() < 0.5
        if other_size:
            one = resized(one, *(float(factor) for factor in np.exp(rng.normal(0, SIZE_SPREAD, 2))))
        if one["x"].ndim == 5:
            x, beside = one["x"], one["x"][:, :, one["x"].shape[2] - maps :]
            x = x[:, :, : x.shape[2] - maps]
            if rng.random() < 0.5:
                x = later(x, float(rng.uniform(-SHIFT_FRAMES, SHIFT_FRAMES)))
            curves = x[0] * float(np.exp(rng.normal(0, SCALE_SPREAD)))
            added = float(rng.uniform(0, NOISE_SHARE)) if rng.random() < 0.3 else 0.0
            if other_size or added:
                curves = noisier(curves, x[1], LOST_NOISE if other_size else added, rng)
            if maps and rng.random() < FORGOTTEN_SHARE:
                beside = torch.zeros_like(beside)
            one["x"] = torch.cat([torch.stack([curves, x[1]]), beside], dim=2)
        varied.append(one)
    return {key: torch.stack([one[key] for one in varied]) for key in batch}


def other_side(one: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Left becomes right in everything."""
    return {key: value.flip(-1) for key, value in one.items()}


def moved_sideways(one: dict[str, torch.Tensor], pixels: int) -> dict[str, torch.Tensor]:
    """Everything moved along the columns, zeros coming in: the midsagittal plane is never found exactly."""
    if not pixels:
        return one
    moved = {}
    for key, value in one.items():
        shifted = torch.zeros_like(value)
        if pixels > 0:
            shifted[..., pixels:] = value[..., :-pixels]
        else:
            shifted[..., :pixels] = value[..., -pixels:]
        moved[key] = shifted
    return moved


def resized(one: dict[str, torch.Tensor], rows: float, columns: float) -> dict[str, torch.Tensor]:
    """The head longer by a factor `rows` and wider by `columns`, in an image of the same size; its middle stays the middle."""
    x = one["x"]
    counts = x[1] if x.ndim == 5 else one["tissue"][None].expand_as(x).to(x.dtype)
    values = (x[0] if x.ndim == 5 else x) * counts
    shrink = torch.tensor([[[1.0 / columns, 0.0, 0.0], [0.0, 1.0 / rows, 0.0]]], device=x.device)
    where = functional.affine_grid(shrink, (1, 1, *x.shape[-2:]), align_corners=False)

    def sampled(planes: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
        flat = planes.reshape(1, -1, *planes.shape[-2:]).float()
        return functional.grid_sample(flat, where, mode=mode, align_corners=False).reshape(planes.shape)

    tissue = sampled(one["tissue"], "nearest") > 0
    values, counts = sampled(values), sampled(counts)
    there = ((counts > LEAST_SHARE) & (tissue[:, None] if x.ndim == 5 else tissue)).to(x.dtype)
    values = values / counts.clamp_min(LEAST_SHARE) * there
    label = sampled(one["label"], "nearest").to(one["label"].dtype) * tissue
    return {"x": torch.stack([values, there]) if x.ndim == 5 else values, "label": label, "tissue": tissue}


def later(x: torch.Tensor, frames: float) -> torch.Tensor:
    """Curves (2, Z, F, J, I) as if the arrival had been found `frames` earlier than it was; -1 to 1."""
    curves, weight = x
    step = 1 if frames > 0 else -1
    share = abs(frames)
    neighbor = torch.zeros_like(curves)
    covered = torch.zeros_like(weight)
    if step > 0:
        neighbor[:, 1:], covered[:, 1:] = curves[:, :-1], weight[:, :-1]
        neighbor[:, 0], covered[:, 0] = curves[:, 0], weight[:, 0]  # before the bolus nothing changes
    else:
        neighbor[:, :-1], covered[:, :-1] = curves[:, 1:], weight[:, 1:]
    both = weight * (covered if share > 1e-6 else weight)
    return torch.stack([((1 - share) * curves + share * neighbor) * both, both])


def noisier(curves: torch.Tensor, weight: torch.Tensor, share: float, rng: np.random.Generator) -> torch.Tensor:
    """White noise added, `share` of the noise that neighboring frames show."""
    differences = (curves[:, 1:] - curves[:, :-1])[weight[:, 1:] > 0]
    if not len(differences):
        return curves
    present = float(differences.abs().median()) / (0.6745 * 2**0.5)
    drawn = rng.standard_normal(tuple(curves.shape), dtype=np.float32)
    return curves + torch.from_numpy(drawn).to(curves) * weight * (share * present)
