"""How well an analysis found what a simulated study holds."""

import numpy as np

from PerfusionMapsLib.analysis_request import AnalysisRequest
from PerfusionMapsLib.perfusion_result import PerfusionResult
from PerfusionMapsLib.pipeline import analyze


def dice(a, b) -> float:
    """Dice coefficient of two masks; 1 when both are empty."""
    a, b = np.asarray(a) > 0, np.asarray(b) > 0
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 1.0 if total == 0 else 2.0 * np.count_nonzero(a & b) / total


def analyzed(study, request: AnalysisRequest = AnalysisRequest()) -> PerfusionResult:
    """`study` through the whole pipeline with automatic vessels and masks; its series is left as it is."""
    return analyze(study.series.with_values(study.series.values.copy()), request)


def overlaps(result: PerfusionResult, study) -> tuple[float, float]:
    """Dice of hypoperfusion and of core against the truth."""
    return (
        dice(result.masks["hypoperf_mask_tmax6"], study.truth["hypoperfusion"].values),
        dice(result.masks.get("core_mask_rcbf30", np.zeros(1)), study.truth["core"].values) if "core_mask_rcbf30" in result.masks else 0.0,
    )


def volumes_agree(found_ml: float | None, true_ml: float, share: float = 0.10, least_ml: float = 5.0) -> bool:
    """Within max(10 %, 5 mL)."""
    return found_ml is not None and abs(found_ml - true_ml) <= max(share * true_ml, least_ml)
