"""What a user may choose about an analysis, with units and defaults."""

from dataclasses import dataclass, field
from enum import StrEnum

from CTPerfusionSuiteLib.tracer_kinetics import Hematocrit


class Method(StrEnum):
    """Deconvolution engine."""

    BAYES = "bayes"
    BCSVD = "bcsvd"
    OSVD = "osvd"


class Denoising(StrEnum):
    """Spatial filter applied to tissue curves before deconvolution."""

    BILATERAL = "bilateral"
    GAUSSIAN = "gaussian"
    TIPS = "tips"
    NONE = "none"


@dataclass(frozen=True)
class EngineOptions:
    """How curves become maps.

    Attributes
    ----------
    method : Method
    hematocrit : Hematocrit
    denoising : Denoising
    smoothing_mm : float or None
        Standard deviation of the spatial filter in the slice plane, mm; None chooses the filter's own default.
    threads : int or None
        Worker threads; None uses every core.
    """

    method: Method = Method.BAYES
    hematocrit: Hematocrit = field(default_factory=Hematocrit)
    denoising: Denoising = Denoising.BILATERAL
    smoothing_mm: float | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Thresholds:
    """Cut-offs of the threshold-scale maps: Tmax in seconds, rCBF as a fraction of the reference."""

    tmax_s: float = 6.0
    rcbf: float = 0.30
    minimum_cluster_ml: float = 1.0
