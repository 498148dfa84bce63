"""Constants and closed forms of tracer kinetics that the engine and the phantoms share.

Nothing else is shared between them on purpose: the phantoms' forward model and reference operator are independent of the engine,
so that a mistake in one cannot cancel itself in the other.
"""

from dataclasses import dataclass

import numpy as np

TISSUE_DENSITY_G_PER_ML = 1.05
"""Mass density of brain tissue, rho."""

SECONDS_PER_MINUTE = 60.0


@dataclass(frozen=True)
class Hematocrit:
    """Volume fraction of red cells, which iodine does not enter, in large and in small vessels."""

    large: float = 0.45
    small: float = 0.25

    def __post_init__(self):
        if not (0.0 <= self.small < 1.0 and 0.0 <= self.large < 1.0):
            raise ValueError("hematocrit must lie in [0, 1)")

    @property
    def kappa(self) -> float:
        """(1 - Hct_large) / (1 - Hct_small), the plasma fraction ratio."""
        return (1.0 - self.large) / (1.0 - self.small)


def flow_scale(hematocrit: Hematocrit = Hematocrit()) -> float:
    """Factor from a residue-function peak in 1/s to CBF in mL/100 g/min: 6000 kappa / rho."""
    return 6000.0 * hematocrit.kappa / TISSUE_DENSITY_G_PER_ML


def volume_scale(hematocrit: Hematocrit = Hematocrit()) -> float:
    """Factor from an area ratio (tissue / artery) to CBV in mL/100 g: 100 kappa / rho."""
    return 100.0 * hematocrit.kappa / TISSUE_DENSITY_G_PER_ML


def gamma_variate(times, arrival, shape, scale, peak=1.0):
    """Gamma variate with its maximum normalized to `peak`.

    Parameters
    ----------
    times : array_like
        Seconds.
    arrival, scale : float
        Bolus arrival t0 and time constant b, seconds.
    shape : float
        Exponent a; the maximum lies at ``arrival + shape * scale``.
    peak : float
        Value at the maximum, any unit.

    References
    ----------
    Thompson HK et al., Circ Res 1964;14:502-515 (gamma variate of an indicator bolus).
    """
    x = np.maximum(np.asarray(times, dtype=float) - arrival, 0.0) / (shape * scale)
    with np.errstate(divide="ignore"):
        return peak * np.where(x > 0, np.exp(shape * (np.log(np.where(x > 0, x, 1.0)) + 1.0 - x)), 0.0)
