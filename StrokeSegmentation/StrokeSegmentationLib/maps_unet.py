"""The comparison that sees no curves: MONAI's 3-D U-Net on the maps of a deconvolution (Tmax, rCBF, rCBV ...)."""

import torch
from torch import nn

from CTPerfusionSuiteLib.errors import RequestRefused

from .map_evidence import evidence_count, threshold_evidence
from .mjnet import CLASSES, pad_to_multiple

_FACTOR = 8


class MapsUNet(nn.Module):
    """(B, C, Z, J, I) maps -> (B, 3, Z, J, I) logits; the plane is halved three times, slices are kept.

    Parameters
    ----------
    maps : int
        Channels.
    width : int
        Of the finest scale; twice, three and four times that below.
    dropout : float

    Raises
    ------
    RequestRefused
        MONAI is not installed.
    """

    def __init__(self, maps: int, width: int = 16, dropout: float = 0.1):
        super().__init__()
        require_monai()
        from monai.networks.nets import UNet  # slow to import

        self.maps = maps
        self.unet = UNet(
            spatial_dims=3,
            in_channels=maps + evidence_count(maps),
            out_channels=CLASSES,
            channels=(width, 2 * width, 3 * width, 4 * width),
            strides=((1, 2, 2),) * 3,
            kernel_size=3,
            up_kernel_size=3,
            num_res_units=1,
            act=("LEAKYRELU", {"negative_slope": 0.1, "inplace": True}),
            norm=("GROUP", {"num_groups": 1}),
            dropout=dropout,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of all slices."""
        rows, columns = x.shape[-2:]
        # Maps are 0 outside tissue, all of them, and so is what they say.
        x = torch.cat([x, threshold_evidence(x) * (x != 0).any(dim=1, keepdim=True)], dim=1)
        x, (top, left) = pad_to_multiple(x, _FACTOR)
        logits = self.unet(x.contiguous(memory_format=torch.channels_last_3d))
        return logits[..., top : top + rows, left : left + columns]


def require_monai() -> None:
    """Refuse in one sentence where MONAI is missing.

    Raises
    ------
    RequestRefused
    """
    try:
        import monai  # noqa: F401
    except ImportError as problem:
        raise RequestRefused(
            "a network that reads maps alone needs MONAI, which is not installed; run pip install 'ctperfusionsuite[learn]'"
        ) from problem
