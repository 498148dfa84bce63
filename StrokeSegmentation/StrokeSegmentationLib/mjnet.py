"""4D mJ-Net and its relatives: curves of a few slices in, background / penumbra / core out.

After Tomasetti et al., "CT Perfusion is All We Need: 4D CNN Segmentation of Penumbra and Core" (IEEE Access 2023): three blocks of
convolutions over slices, time and plane collapse the time axis, then an encoder-decoder in the plane finds the lesion.  What is kept is
that idea.  What differs, and why:

- the 4-D convolution is linear, with one bias, and the activation follows it (the original sums activated 3-D convolutions);
- kernels are as long as the frames that are left, never longer;
- curves stay in HU on a grid of seconds from arterial arrival, and normalization is one factor a study, not one a slice, so that
  amplitude and delay keep their meaning; frames beyond the end of the scan are known as such;
- time is collapsed at half the matrix, where noise is half as high; linear functions of the full curves enter at every scale
  (`curve_summaries`), with those of the mirrored half beside them: ischemia is a difference between the sides; and beside the
  curves stand responses from which the shape of the study's bolus is taken out, linearly;
- perfusion maps, where they are given, enter where the linear functions do, with what they say at the thresholds and what two layers
  of their own make of both;
- all slices of a stack are predicted at once, whatever their number; there is no batch normalization, so Monte-Carlo dropout needs
  no second set of statistics.

The relatives have the same layers at the same width; they differ in *where* slices meet: after the time axis is gone (3D+time), or with
it (4D), where a decision rests on the same number of slices, or never (2D+time), where it rests on one.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from CTPerfusionSuiteLib.errors import RequestRefused

from .convolution4d import Convolution4d, neighbors
from .curve_summaries import CURVE_LIMIT, CurveSummaries, masked_mean, residue_operator, side_means, spread_over_halves
from .map_evidence import evidence_count, threshold_evidence

CLASSES = 3
"""Background, penumbra, core."""
TIME_STRIDES = (2, 2, 2)
"""Of the three collapsing blocks."""
LEVELS = 4
"""Scales of the encoder: matrix / 2, / 4, / 8, / 16."""
_SLOPE = 0.1


class MJNet(nn.Module):
    """Segments a stack of slices from its curves.

    Parameters
    ----------
    width : int
        Channels of the first time-collapsing block; all others follow.
    slices : int
        Odd number of neighboring slices that a decision may rest on.
    slices_meet : {"with time", "after time", "never"}
    attention : bool
        Gates on the connections from encoder to decoder.
    frames : int
        Of the time grid.
    dropout : float
        Share of the channels dropped in training, and in Monte-Carlo passes.
    maps : int
        Perfusion maps given beside the curves; they, what they say at the thresholds (`map_evidence`) and what two layers at the full
        matrix make of both enter at every scale, where the summaries of the curves do.
    """

    def __init__(
        self,
        width: int = 16,
        slices: int = 7,
        slices_meet: str = "with time",
        attention: bool = False,
        frames: int = 24,
        dropout: float = 0.1,
        maps: int = 0,
    ):
        super().__init__()
        if slices < 1 or slices % 2 == 0:
            raise ValueError(f"the number of neighboring slices is odd, not {slices}")
        deep = (slices - 1) // 2  # layers whose kernel spans three slices; each widens the view by two
        depth_4d = iter(_depths(deep if slices_meet == "with time" else 0))
        depth_3d = iter(_depths((deep if slices_meet == "after time" else max(0, deep - 3)) if slices_meet != "never" else 0))
        self.maps = maps
        self.frames, self.halo = frames, min(deep, 3) if slices_meet == "with time" else 0
        """`halo`: neighbors on each side that the time-collapsing part needs."""
        summaries = max(width * 3 // 4, 6)
        self.summaries = CurveSummaries(frames, summaries)
        given = maps + evidence_count(maps)
        near = 0 if slices_meet == "never" else min(deep, 2)
        self.read_maps = _Double(given + 1, width // 2, tuple(_depths(near)[:2])) if maps else None
        summaries += given + width // 2 if maps else 0

        left, channels, blocks = frames, 5, []
        for outputs, stride in zip((width, width, width + width // 2), TIME_STRIDES, strict=True):
            blocks.append(Convolution4d(channels, outputs, (next(depth_4d), min(3, left - 1 + left % 2), 3, 3), stride))
            left, channels = -(-left // stride), outputs
        self.blocks = nn.ModuleList(blocks)
        self.collapse = StackConvolution(channels * left, 2 * width, 1, 1, bias=True)
        self.drop = nn.Dropout3d(dropout)

        sizes = [2 * width, 2 * width, 3 * width, 4 * width]
        self.encoder = nn.ModuleList()
        before = 2 * width
        for size in sizes:
            self.encoder.append(_Double(before + 2 * summaries + 1, size, (next(depth_3d), next(depth_3d))))
            before = size
        self.decoder, self.gates = nn.ModuleList(), nn.ModuleList()
        for size in reversed(sizes[:-1]):
            self.gates.append(_Gate(size, before) if attention else _Open())
            self.decoder.append(_Double(before + size, size, (1, 1)))
            before = size
        self.fine = _Double(before + summaries + 1, width, (1, 1))
        self.classify = StackConvolution(width, CLASSES, 1, 1, bias=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of all slices.

        Parameters
        ----------
        x : tensor (B, 2, Z, F + maps, J, I)
            Channel 0: enhancement over the study's scale, then the maps.  Channel 1: 1 where a voxel is tissue and the scan covers
            the frame.
            The midsagittal plane is in the middle of the columns.

        Returns
        -------
        tensor (B, 3, Z, J, I)
        """
        rows, columns = x.shape[-2:]
        x, (top, left) = pad_to_multiple(x, 2**LEVELS)
        curves, weight = self.tissue_curves(x)
        sides = side_means(curves, weight)
        collapsed, summaries = self.collapse_time(curves, weight, sides, residue_operator(sides, weight))
        summaries = torch.cat([summaries, self.given_maps(x[:, :, :, self.frames :])], dim=1)
        return self.decide(collapsed, summaries, weight.amax(dim=3))[..., top : top + rows, left : left + columns]

    def tissue_curves(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Curves (B, 1, Z, F, J, I), 0 where nothing counts, and what counts.

        Raises
        ------
        RequestRefused
            Another number of frames and maps than the network was built for.
        """
        if x.shape[3] != self.frames + self.maps:
            raise RequestRefused(
                f"the network was built for {self.frames} frames and {self.maps} maps and a study has {x.shape[3]} in all; use studies "
                "that were prepared alike"
            )
        weight = x[:, 1:2, :, : self.frames]
        return x[:, 0:1, :, : self.frames].clamp(-CURVE_LIMIT, CURVE_LIMIT) * weight, weight

    def given_maps(self, beside: torch.Tensor) -> torch.Tensor:
        """Maps, what they say at the thresholds, and what layers of their own make of both.

        Parameters
        ----------
        beside : tensor (B, 2, Z, maps, J, I)
            What `forward` is given behind the frames.

        Returns
        -------
        tensor (B, C, Z, J, I)
            0 outside tissue and where a study has no maps; no channels for a network that reads none.
        """
        maps, counts = (beside[:, part].transpose(1, 2) for part in (0, 1))
        if self.read_maps is None:
            return maps
        there = counts[:, :1]
        given = torch.cat([maps, threshold_evidence(maps)], dim=1) * there
        return torch.cat([given, self.read_maps(torch.cat([given, there], dim=1)) * there], dim=1)

    def collapse_time(
        self, curves: torch.Tensor, weight: torch.Tensor, sides: torch.Tensor, operator: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The part that holds the time axis; a slab with `halo` neighbors on each side gives exactly its part of the whole.

        Parameters
        ----------
        curves, weight : tensor (B, 1, Z, F, J, I)
            Of `tissue_curves`, of the slab.
        sides, operator : tensor
            Of `side_means` and `residue_operator`, of the whole study.

        Returns
        -------
        tensor (B, C, Z, J/2, I/2), tensor (B, S, Z, J, I)
        """
        # The operator takes frames beyond the end of the scan for unknown, and so do the curves: they are 0 there.
        responses = torch.einsum("bcztji,bft->bczfji", curves, operator)
        summaries = self.summaries(curves, responses)
        mean, share = masked_mean(curves, weight, 2)
        response, _ = masked_mean(responses, weight.amax(dim=3, keepdim=True), 2)
        y = torch.cat([mean, share, response, spread_over_halves(sides, mean.shape[-1]).expand(-1, -1, *mean.shape[2:])], dim=1)
        for block in self.blocks:
            y = functional.leaky_relu(block(y), _SLOPE)
        y = y.permute(0, 1, 3, 2, 4, 5).flatten(1, 2)  # what is left of time becomes channels
        return functional.leaky_relu(self.collapse(y), _SLOPE), summaries

    def decide(self, collapsed: torch.Tensor, summaries: torch.Tensor, tissue: torch.Tensor) -> torch.Tensor:
        """The encoder-decoder: (B, C, Z, J/2, I/2), (B, S, Z, J, I), (B, 1, Z, J, I) -> logits (B, 3, Z, J, I)."""
        y, skips, means, share = self.drop(collapsed), [], summaries, tissue
        for level, block in enumerate(self.encoder):
            means, share = _coarser(means, share)
            if level:
                y = _halved(y)
            y = block(torch.cat([y, means, means.flip(-1), share], dim=1))
            skips.append(y)
        y = self.drop(skips.pop())
        for gate, block in zip(self.gates, self.decoder, strict=True):
            skip = skips.pop()
            y = _finer(y)
            y = block(torch.cat([y, gate(skip, y)], dim=1))
        y = self.fine(torch.cat([_finer(y), summaries, tissue], dim=1))
        return self.classify(y)


class StackConvolution(nn.Module):
    """A convolution of (B, C, Z, J, I) over slices and plane, with zero borders.

    The slices lie in the batch of a 2-D convolution and neighboring ones side by side as channels: several times faster on a CPU
    than `torch.nn.Conv3d`, which has no fast path for a single study.
    """

    def __init__(self, inputs: int, outputs: int, depth: int, extent: int, bias: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, depth, extent, extent))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        nn.init.normal_(self.weight, std=math.sqrt(2.0 / (inputs * depth * extent**2)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, Z, J, I) -> (B, outputs, Z, J, I)."""
        last = x.permute(0, 2, 3, 4, 1).contiguous()
        depth, extent = self.weight.shape[2:4]
        if depth > 1:
            last = torch.cat(neighbors(last, depth), dim=-1)
        weight = self.weight.transpose(1, 2).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        y = functional.conv2d(last.flatten(0, 1).permute(0, 3, 1, 2), weight, self.bias, padding=extent // 2)
        return y.unflatten(0, last.shape[:2]).permute(0, 2, 1, 3, 4)


class _Double(nn.Module):
    """Convolutions in the plane (over three slices where `depths` says 3), each with group normalization and activation."""

    def __init__(self, inputs: int, outputs: int, depths: tuple[int, ...]):
        super().__init__()
        layers = []
        for depth in depths:
            layers += [
                StackConvolution(inputs, outputs, depth, 3, bias=False),
                nn.GroupNorm(_groups(outputs), outputs),
                nn.LeakyReLU(_SLOPE, inplace=True),
            ]
            inputs = outputs
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class _Gate(nn.Module):
    """Additive attention (Oktay et al., 2018): lets through of a skip connection what the coarser scale asks for."""

    def __init__(self, inputs: int, asking: int):
        super().__init__()
        inner = max(inputs // 2, 4)
        self.theta = StackConvolution(inputs, inner, 1, 1, bias=True)
        self.phi = StackConvolution(asking, inner, 1, 1, bias=False)
        self.psi = StackConvolution(inner, 1, 1, 1, bias=True)
        nn.init.constant_(self.psi.bias, 1.0)  # open at first

    def forward(self, skip: torch.Tensor, asking: torch.Tensor) -> torch.Tensor:
        return skip * torch.sigmoid(self.psi(functional.relu(self.theta(skip) + self.phi(asking))))


class _Open(nn.Module):
    """A gate that is always open."""

    def forward(self, skip: torch.Tensor, asking: torch.Tensor) -> torch.Tensor:
        return skip


def pad_to_multiple(x: torch.Tensor, multiple: int) -> tuple[torch.Tensor, tuple[int, int]]:
    """Zeros around the last two axes, evenly, so that the middle stays the middle; and the rows and columns added before."""
    rows, columns = (-size % multiple for size in x.shape[-2:])
    top, left = rows // 2, columns // 2
    if rows or columns:
        x = functional.pad(x, (left, columns - left, top, rows - top))
    return x, (top, left)


def _coarser(means: torch.Tensor, share: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Means over tissue of means over tissue: weighted with the share of tissue each rests on."""
    return masked_mean(means * share, share, 2)


def _halved(x: torch.Tensor) -> torch.Tensor:
    """Half the rows and columns, means."""
    batch, _, slices = x.shape[:3]
    flat = x.permute(0, 2, 1, 3, 4).flatten(0, 1)
    return functional.avg_pool2d(flat, 2).unflatten(0, (batch, slices)).permute(0, 2, 1, 3, 4)


def _finer(x: torch.Tensor) -> torch.Tensor:
    """Twice the rows and columns, linearly."""
    batch, _, slices = x.shape[:3]
    flat = x.permute(0, 2, 1, 3, 4).flatten(0, 1).contiguous(memory_format=torch.channels_last)
    fine = functional.interpolate(flat, scale_factor=2, mode="bilinear", align_corners=False)
    return fine.unflatten(0, (batch, slices)).permute(0, 2, 1, 3, 4)


def _depths(deep: int) -> list[int]:
    """Kernel extents along z of the layers in order: the first `deep` span three slices."""
    return [3] * deep + [1] * 64


def _groups(channels: int) -> int:
    return next(groups for groups in (4, 2, 1) if channels % groups == 0)
