"""The networks by name, at one width budget."""

from torch import nn

from CTPerfusionSuiteLib.errors import RequestRefused

from .bolus_grid import GRID_S
from .maps_unet import MapsUNet
from .mjnet import MJNet
from .study_input import MAP_SCALES

KINDS = ("4d", "4d-attention", "3d+time", "2d+time", "maps-unet", "4d+maps")
"""From the one whose slices, frames and planes meet in one kernel to the one that sees no curves; and the one that is given both."""
MAPS = len(MAP_SCALES)
"""Perfusion maps that a network which reads maps is given."""
FRAMES = len(GRID_S)
"""Of the time grid."""


def build_network(
    kind: str, width: int = 16, slices: int = 7, frames: int = FRAMES, maps: int = MAPS, dropout: float = 0.1
) -> nn.Module:
    """A fresh network.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    width : int
        Channels of the finest layers; the same for networks that are compared.
    slices : int
        Odd number of neighboring slices a decision rests on (1 for "2d+time" whatever is asked; the U-Net sees 15).
    frames, maps : int
        What networks that read curves, and those that read maps, are given.
    dropout : float

    Returns
    -------
    Module
        Curve networks take (B, 2, Z, F, J, I), with maps behind the frames where both are read; the maps U-Net takes
        (B, maps, Z, J, I); all give logits (B, 3, Z, J, I) for any Z, J, I.

    Raises
    ------
    RequestRefused
        A name or a number that means nothing.
    """
    if kind not in KINDS:
        raise RequestRefused(f"there is no network '{kind}'; choose one of {', '.join(KINDS)}")
    if not 2 <= width <= 256 or slices < 1 or slices % 2 == 0 or frames < 2 or maps < 1 or not 0 <= dropout < 1:
        raise RequestRefused(
            f"no network can be built with width {width}, {slices} slices, {frames} frames and dropout {dropout}; "
            "the width is 2 to 256, the number of slices odd, there are two frames at least and dropout is below 1"
        )
    if kind == "maps-unet":
        return MapsUNet(maps, width, dropout)
    meet = {"2d+time": "never", "3d+time": "after time"}.get(kind, "with time")
    return MJNet(width, slices, meet, kind == "4d-attention", frames, dropout, maps if kind == "4d+maps" else 0)


def reads_curves(kind: str) -> bool:
    """Whether a network is given curves."""
    return kind != "maps-unet"


def reads_maps(kind: str) -> bool:
    """Whether a network is given maps."""
    return kind in ("maps-unet", "4d+maps")


def parameter_count(network: nn.Module) -> int:
    """Numbers that training sets."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
