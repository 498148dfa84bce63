"""Did the scan end too early?  The probability that its end changed a lesion volume, from curves alone.

What decides is how long after the arterial peak the scan went on: delayed tissue fills late, and its curve must be seen to fall.
A logistic model of the time from the arterial peak to the end (the best single feature in de la Rosa E et al., 2022), and of how
far the curve of the brain's tissue, or of the vein, has fallen by then.
"""

import math
from dataclasses import dataclass

import numpy as np

from .input_functions import InputFunction

TAIL_S = 4.0
"""The end of a curve is its mean over this last stretch, seconds."""


@dataclass(frozen=True)
class TruncationModel:
    """Log odds = intercept + per_coverage_s * coverage (s) + per_late_s * late coverage (s) + per_tail * tail.

    Fitted once to 444 cuts, at random times, of scans of 74 simulated heads that went on for 62 s past the arterial peak; positive when
    the cut changed the volume of hypoperfusion or core by more than 10 % and more than 5 mL.  `Testing/Benchmarks/truncation_detector.py`
    judges it on others.
    """

    intercept: float
    per_coverage_s: float
    per_late_s: float = 0.0
    per_tail: float = 0.0


WITH_TISSUE = TruncationModel(1.54, -0.051, -0.059, 4.28)
WITH_VEIN = TruncationModel(2.31, -0.056, -0.069, 2.66)
ARTERY_ALONE = TruncationModel(4.50, -0.153)


def truncation_score(
    aif: InputFunction,
    vof: InputFunction | None,
    scan_end_s: float,
    tissue_curve: InputFunction | None = None,
) -> float:
    """Probability (0-1) that a longer scan would have given another hypoperfusion or core volume (by > 10 % and > 5 mL).

    Parameters
    ----------
    aif : InputFunction
    vof : InputFunction or None
        Stands in for the tissue when that is not given.
    scan_end_s : float
        Time of the last frame, seconds on the curves' axis.
    tissue_curve : InputFunction, optional
        Mean curve of all brain tissue, HU above baseline.

    References
    ----------
    de la Rosa E et al. 2022, detection of CT perfusion truncation from nine features of AIF and VOF (AIF coverage alone: AUC .964).
    """
    coverage = scan_end_s - aif.peak_time_s
    late, model = (tissue_curve, WITH_TISSUE) if tissue_curve is not None else (vof, WITH_VEIN)
    if late is None or not late.peak_hu > 0.0:
        return _logistic(ARTERY_ALONE.intercept + ARTERY_ALONE.per_coverage_s * coverage)
    return _logistic(
        model.intercept
        + model.per_coverage_s * coverage
        + model.per_late_s * (scan_end_s - late.peak_time_s)
        + model.per_tail * tail_fraction(late, scan_end_s)
    )


def tail_fraction(curve: InputFunction, scan_end_s: float) -> float:
    """End of a curve relative to its peak, within 0-1."""
    times = np.asarray(curve.times, float)
    last = (times > scan_end_s - TAIL_S) & (times <= scan_end_s + 1e-6)
    end = float(np.mean(np.asarray(curve.hu)[last])) if last.any() else float(curve.hu[-1])
    return min(max(end / curve.peak_hu, 0.0), 1.0)


def _logistic(log_odds: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(log_odds, -30.0), 30.0)))
