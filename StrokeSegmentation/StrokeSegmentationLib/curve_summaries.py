"""What a network reads from noisy curves before anything nonlinear happens to them: means, and responses free of the bolus.

Perfusion of a voxel cannot be seen in its own curve at 10-20 HU of noise; the mean of its surroundings is the best estimate there is,
and averaging is only free of bias while the curves are still linear.  So means come first, over tissue only, and a network is given
linear functions of the curves at every scale beside what its convolutions make of them.
"""

import torch
from torch import nn
from torch.nn import functional

CURVE_LIMIT = 12.0
"""Multiples of the study's scale beyond which a value of a tissue voxel is no enhancement (streaks, a vessel in the mask)."""

AHEAD_FRAMES = 2
"""How far tissue may be ahead of the mean curve of its side."""
REGULARIZATION = 0.1
"""Of the response, over the largest singular value (about)."""

RESPONSE_SCALE = 4.0
"""Brings responses of normal tissue to about 1."""


def masked_mean(values: torch.Tensor, weight: torch.Tensor, factor: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Means over `factor` x `factor` pixels of what counts.

    Parameters
    ----------
    values : tensor (B, ..., J, I)
        Already multiplied by `weight`.
    weight : tensor, broadcastable to `values`
        1 where a value counts; between 0 and 1 where it is a mean of which only a share counts.
    factor : int

    Returns
    -------
    tensor (B, ..., J / factor, I / factor)
        The mean, 0 where nothing counts.
    tensor
        The share that counts.
    """
    share = _pool(weight, factor)
    return _pool(values, factor) / share.clamp_min(1e-3), share


@torch.no_grad()
def side_means(curves: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The mean tissue curve of a voxel's own half of the image and of the other half.

    The image is laid out with the midsagittal plane in its middle.  Two curves that hardly carry noise tell the shape of the
    bolus in this study and which side is late.

    Parameters
    ----------
    curves, weight : tensor (B, 1, Z, F, J, I)
        Curves are 0 where the weight is.

    Returns
    -------
    tensor (B, 2, 1, F, 1, 2) float32
        Channels own and other, last axis the half.  Also under autocast.
    """
    with torch.autocast(curves.device.type, enabled=False):
        curves, weight = curves.float(), weight.float()
        middle = curves.shape[-1] // 2
        means = []
        for half in (slice(None, middle), slice(middle, None)):
            total = weight[..., half].sum(dim=(2, 4, 5), keepdim=True)
            means.append(curves[..., half].sum(dim=(2, 4, 5), keepdim=True) / total.clamp_min(1.0))
        own = torch.cat(means, dim=-1)
        return torch.cat([own, own.flip(-1)], dim=1)


def spread_over_halves(means: torch.Tensor, columns: int) -> torch.Tensor:
    """(..., 2) -> (..., columns): each half of the image gets its value."""
    return means.repeat_interleave(columns // 2, dim=-1)


@torch.no_grad()
def residue_operator(sides: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A matrix that undoes the shape of the bolus: enhancement -> response to a short bolus, relative to normal tissue.

    Convolution with the mean curve of the less affected side (the taller one), a little earlier than it is so that tissue may be ahead
    of the mean, inverted with Tikhonov's regularization over the frames that were scanned.  Late tissue answers late, ischemic tissue
    low, whatever the injection and the heart; and the operator is linear, so that means can still be taken afterwards.

    Parameters
    ----------
    sides : tensor (B, 2, 1, F, 1, 2)
        Of `side_means`.
    weight : tensor (B, 1, Z, F, J, I)
        What counts.

    Returns
    -------
    tensor (B, F, F) float32
        Also under autocast: the normal equations square what half precision would round off.
    """
    with torch.autocast(sides.device.type, enabled=False):
        own = sides[:, 0, 0, :, 0].float()  # (B, F, 2)
        taller = own.amax(dim=1).argmax(dim=1)
        curve = own[torch.arange(len(own), device=own.device), :, taller]
        frames = curve.shape[1]
        ahead = torch.cat([curve[:, AHEAD_FRAMES:], curve[:, -1:].expand(-1, AHEAD_FRAMES)], dim=1)
        lag = torch.arange(frames, device=own.device)[:, None] - torch.arange(frames, device=own.device)
        convolution = ahead[:, lag.clamp_min(0)] * (lag >= 0)
        scanned = (weight.amax(dim=(1, 2, 4, 5)) > 0).to(curve.dtype)  # (B, F)
        weighted = convolution * scanned[:, :, None]
        normal = weighted.mT @ weighted
        strength = REGULARIZATION**2 * torch.linalg.matrix_norm(normal, ord="fro")[:, None, None] + 1e-6
        return RESPONSE_SCALE * torch.linalg.solve(normal + strength * torch.eye(frames, device=own.device), weighted.mT)


class CurveSummaries(nn.Module):
    """Linear functions of each voxel's curve and response: twice (B, 1, Z, F, J, I) -> (B, outputs, Z, J, I)."""

    def __init__(self, frames: int, outputs: int):
        super().__init__()
        self.basis = nn.Linear(2 * frames, outputs, bias=False)
        # Start from smooth functions of time, which average noise, rather than from noise of their own.
        phase = (torch.arange(frames) + 0.5) / frames
        cosines = torch.stack([torch.cos(torch.pi * (n // 2) * phase) for n in range(outputs)])
        kind = torch.arange(outputs)[:, None] % 2
        with torch.no_grad():
            self.basis.weight.copy_(torch.cat([cosines * (1 - kind), cosines * kind], dim=1) * (2.0 / frames) ** 0.5)

    def forward(self, curves: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Weighted sums over frames."""
        both = torch.cat([curves[:, 0], responses[:, 0]], dim=2)
        return torch.einsum("bzfji,sf->bszji", both, self.basis.weight)


def _pool(values: torch.Tensor, factor: int) -> torch.Tensor:
    shape = values.shape
    pooled = functional.avg_pool2d(values.reshape(-1, 1, *shape[-2:]), factor)
    return pooled.reshape(*shape[:-2], *pooled.shape[-2:])
