"""What perfusion maps say at the thresholds: how clearly a voxel lies beyond them.

Labels are cuts through Tmax and relative CBF.  A map that passes its threshold slowly asks a network for weights that few studies
teach it; a saturating function of the distance from the threshold gives it the cut, and leaves the doubt near it to be resolved.
"""

import torch

from PerfusionMapsLib.perfusion_options import Thresholds

from .study_input import MAP_SCALES

WIDTHS = {"tmax": (1.0, 3.0), "rcbf": (0.08, 0.25)}
"""Distance from the threshold at which evidence is three quarters of its largest (tanh 1): near it, and from afar; seconds, ratio."""
_THRESHOLDS = {"tmax": Thresholds().tmax_s, "rcbf": Thresholds().rcbf}


def evidence_count(maps: int) -> int:
    """Channels of `threshold_evidence` for as many maps as a network is given (in the order of `MAP_SCALES`)."""
    return sum(len(WIDTHS.get(name, ())) for name in list(MAP_SCALES)[:maps])


def threshold_evidence(maps: torch.Tensor) -> torch.Tensor:
    """Maps (B, C, ...) as networks are given them -> (B, `evidence_count(C)`, ...), -1 to 1, 0 at the threshold."""
    channels = [
        torch.tanh((maps[:, number : number + 1] * scale - _THRESHOLDS[name]) / width)
        for number, (name, scale) in enumerate(list(MAP_SCALES.items())[: maps.shape[1]])
        for width in WIDTHS.get(name, ())
    ]
    return torch.cat(channels, dim=1) if channels else maps[:, :0]
