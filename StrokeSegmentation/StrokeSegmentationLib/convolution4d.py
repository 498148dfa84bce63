"""Convolution over four axes: slice z, time t, row j and column i.

PyTorch stops at three.  A sum over four kernel axes is a sum over the kernel's slices of three-dimensional convolutions:

    y[o, z, t, j, i] = b[o] + sum over c, d, e, f, g of w[o, c, d, e, f, g] x[c, z + d - pz, s t + e - pt, j + f - pj, i + g - pi]

All of them are done as *one*: either the neighboring slices lie side by side as input channels, which a convolution sums anyway, or
every kernel slice gives output channels of its own, which are added where they belong; whichever moves less memory.

Everything is summed first, one bias is added, and the activation is left to the caller: the operation is linear, unlike the sum of
activated convolutions of the published 4D mJ-Net (Tomasetti et al., IEEE Access 2023).
"""

import math

import torch
from torch import nn
from torch.nn import functional

CHANNELS_LAST = torch.channels_last_3d
"""Memory order in which convolutions with few channels run fastest on a CPU (2-4 times, measured)."""


class Convolution4d(nn.Module):
    """A linear convolution of (B, C, Z, T, J, I) with zero borders; the output has ceil(T / time_stride) frames and all slices.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    kernel : tuple of 4 int
        Extent along z, t, j, i; all odd.
    time_stride : int
        Frames between two outputs.
    """

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int, int, int] = (3, 3, 3, 3), time_stride: int = 1):
        super().__init__()
        if len(kernel) != 4 or any(extent < 1 or extent % 2 == 0 for extent in kernel):
            raise ValueError(f"a kernel has four odd extents, not {kernel}")
        self.time_stride = time_stride
        self.weight = nn.Parameter(torch.empty(outputs, inputs, *kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.normal_(self.weight, std=math.sqrt(2.0 / (inputs * math.prod(kernel))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, Z, T, J, I) -> (B, outputs, Z, T', J, I)."""
        return convolution4d(x, self.weight, self.bias, self.time_stride)

    def extra_repr(self) -> str:
        """Shape of the kernel, for printing."""
        return f"{tuple(self.weight.shape)}, time_stride={self.time_stride}"


def convolution4d(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, time_stride: int = 1) -> torch.Tensor:
    """The sum of the module's formula.

    Parameters
    ----------
    x : tensor (B, C, Z, T, J, I)
    weight : tensor (O, C, kz, kt, kj, ki)
        Odd extents; borders are zeros.
    bias : tensor (O,) or None
    time_stride : int

    Returns
    -------
    tensor (B, O, Z, T', J, I)
        T' = ceil(T / time_stride).
    """
    depth = weight.shape[2]
    last = x.permute(0, 2, 3, 4, 5, 1).contiguous()  # (B, Z, T, J, I, C): the memory order the convolution runs in
    if depth == 1:
        return _all_slices(last, weight[:, :, 0], bias, time_stride)
    if weight.shape[1] * time_stride <= weight.shape[0]:
        last = torch.cat(neighbors(last, depth), dim=-1)
        return _all_slices(last, weight.transpose(1, 2).flatten(1, 2), bias, time_stride)
    parts = _all_slices(last, weight.movedim(2, 0).flatten(0, 1), None, time_stride).chunk(depth, dim=1)
    total, slices = parts[depth // 2].clone(), x.shape[2]
    if bias is not None:
        total = total + bias.view(1, -1, 1, 1, 1, 1)
    for d, part in enumerate(parts):
        above = d - depth // 2  # how many slices above its output this kernel slice reads
        if above and abs(above) < slices:
            total[:, :, max(-above, 0) : slices - max(above, 0)] += part[:, :, max(above, 0) : slices - max(-above, 0)]
    return total


def neighbors(stack: torch.Tensor, depth: int) -> list[torch.Tensor]:
    """`depth` versions of (B, Z, ...), moved along Z by -(depth // 2) ... depth // 2, zeros coming in."""
    half, slices = depth // 2, stack.shape[1]
    padded = functional.pad(stack, (0, 0) * (stack.ndim - 2) + (half, half))
    return [padded[:, d : d + slices] for d in range(depth)]


def _all_slices(last: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, time_stride: int) -> torch.Tensor:
    """A 3-D convolution of every slice: (B, Z, T, J, I, C), (O, C, kt, kj, ki) -> (B, O, Z, T', J, I)."""
    y = functional.conv3d(
        last.flatten(0, 1).permute(0, 4, 1, 2, 3),
        weight.contiguous(memory_format=CHANNELS_LAST),
        bias,
        stride=(time_stride, 1, 1),
        padding=tuple(extent // 2 for extent in weight.shape[2:]),
    )
    return y.unflatten(0, last.shape[:2]).permute(0, 2, 1, 3, 4, 5)
