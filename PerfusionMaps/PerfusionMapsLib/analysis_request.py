"""What one run was asked to do, beside the engine's own options."""

from dataclasses import dataclass, field
from pathlib import Path

from .perfusion_options import EngineOptions, Thresholds


@dataclass(frozen=True)
class VesselRequest:
    """A vessel curve given by the user.

    Attributes
    ----------
    text : str or None
        A CSV of ``time_s,hu``, a mask file, or a voxel ``I,J,K`` (0-based, analysis grid).
    lps : tuple of 3 or None
        A position, LPS mm.
    """

    text: str | None = None
    lps: tuple[float, float, float] | None = None

    @property
    def given(self) -> bool:
        return self.text is not None or self.lps is not None


@dataclass(frozen=True)
class AnalysisRequest:
    """Choices of a run of `PerfusionMapsLib.pipeline.analyze`.

    Attributes
    ----------
    engine : EngineOptions
    thresholds : Thresholds
    motion_correction : bool
    full_resolution : bool
        Keep the series' own pixels instead of averaging fine ones to the analysis grid.
    aif, vof : VesselRequest
    brain_mask, tissue_mask, roi_mask, contra_mask, anatomy : Path or None
        Files that replace or extend what is found automatically.
    excluded : Path or None
        Mask of regions that are no tissue for the analysis, such as an old infarct.
    age_years, nihss : float or None
        For the DAWN criteria.
    """

    engine: EngineOptions = field(default_factory=EngineOptions)
    thresholds: Thresholds = field(default_factory=Thresholds)
    motion_correction: bool = True
    full_resolution: bool = False
    aif: VesselRequest = field(default_factory=VesselRequest)
    vof: VesselRequest = field(default_factory=VesselRequest)
    brain_mask: Path | None = None
    tissue_mask: Path | None = None
    excluded: Path | None = None
    roi_mask: Path | None = None
    contra_mask: Path | None = None
    anatomy: Path | None = None
    age_years: float | None = None
    nihss: float | None = None
