"""Contrast boluses: the enhancement of artery and vein as functions of time.

Shapes are drawn from percentiles of 93 arterial and venous curves of the ISLES 2018 cases (one sample a second); the percentiles
are numbers of our own, the curves are not reproduced.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import gammainc

from CTPerfusionSuiteLib.tracer_kinetics import gamma_variate

PERCENTILES = (5.0, 25.0, 50.0, 75.0, 95.0)
AIF_PEAK_HU = (16.5, 22.8, 40.2, 91.8, 215.0)
AIF_PEAK_TIME_S = (10.0, 12.0, 15.0, 19.0, 26.4)
AIF_WIDTH_S = (9.0, 10.0, 11.0, 14.0, 19.4)
AIF_SHAPE = (2.2, 4.6, 6.0, 9.9, 15.0)
AIF_TAIL = (0.13, 0.16, 0.21, 0.27, 0.37)
VOF_PEAK_HU = (61.2, 118.1, 148.1, 214.5, 397.2)
VOF_LAG_S = (4.0, 5.0, 6.0, 7.0, 9.4)
EARLIEST_ARRIVAL_S = 4.0
"""A scan starts before the bolus: without a baseline there is nothing to subtract."""


@dataclass(frozen=True)
class ArterialBolus:
    """Arterial enhancement without partial volume: first pass, recirculation and the washed-in tail.

    Attributes
    ----------
    arrival : float
        Seconds from the first frame to the first contrast.
    shape, scale : float
        Exponent and time constant (s) of the gamma variate of the first pass.
    peak : float
        HU above baseline at the maximum of the whole curve.
    tail : float
        Height of the well mixed tail, as a fraction of the peak.
    second_pass : float
        Height of the second, broader pass, as a fraction of the peak; it follows the first after `second_delay` seconds.
    """

    arrival: float = 8.0
    shape: float = 6.0
    scale: float = 1.5
    peak: float = 400.0
    tail: float = 0.12
    second_pass: float = 0.10
    second_delay: float = 14.0

    @property
    def peak_time_s(self) -> float:
        """Seconds to the maximum of the first pass."""
        return self.arrival + self.shape * self.scale

    def _raw(self, times):
        first = gamma_variate(times, self.arrival, self.shape, self.scale)
        second = gamma_variate(times, self.arrival + self.second_delay, self.shape, 1.6 * self.scale)
        since = np.maximum(times - self.arrival, 0.0)
        # Contrast that has passed once mixes into the blood pool and leaves it over minutes.
        mixed = gammainc(self.shape + 1.0, since / self.scale) * np.exp(-since / 200.0)
        return first + self.second_pass * second + self.tail * mixed

    def __call__(self, times) -> np.ndarray:
        """HU above baseline at `times` (seconds, any shape)."""
        dense = np.linspace(self.arrival, self.arrival + 3.0 * self.shape * self.scale, 2001)
        return self.peak / self._raw(dense).max() * self._raw(np.asarray(times, dtype=float))


@dataclass(frozen=True)
class GammaVariateBolus:
    """A single gamma variate A (t - t0)^a exp(-(t - t0) / b), peak in HU: no recirculation."""

    arrival: float
    shape: float
    scale: float
    peak: float

    def __call__(self, times) -> np.ndarray:
        """HU above baseline at `times` (seconds, any shape)."""
        return gamma_variate(times, self.arrival, self.shape, self.scale, self.peak)


def at_percentile(values, percentile: float) -> float:
    """Value at a percentile (0-100), linear between the tabulated ones and flat outside them."""
    return float(np.interp(percentile, PERCENTILES, values))


def percentile_of(values, value: float) -> float:
    """Percentile (5-95) at which `value` lies among the tabulated ones."""
    return float(np.interp(value, values, PERCENTILES))


def sample_bolus(rng: np.random.Generator, peak: float) -> ArterialBolus:
    """Draw a bolus of a given arterial peak (HU) whose width, arrival, skew and tail follow the measured percentiles."""
    shape = at_percentile(AIF_SHAPE, rng.uniform(10.0, 90.0))
    width = at_percentile(AIF_WIDTH_S, rng.uniform(5.0, 95.0))
    # Width of a gamma variate at half its height, within 2 % for exponents above 2.
    scale = width / (2.355 * np.sqrt(shape + 0.1))
    peak_time = at_percentile(AIF_PEAK_TIME_S, rng.uniform(5.0, 95.0))
    arrival = max(peak_time - shape * scale, EARLIEST_ARRIVAL_S)
    tail = at_percentile(AIF_TAIL, rng.uniform(5.0, 95.0))
    share = rng.uniform(0.5, 0.8)
    return ArterialBolus(arrival, shape, scale, peak, share * tail, (1.0 - share) * tail, rng.uniform(11.0, 17.0))


def without_recirculation(bolus: ArterialBolus) -> ArterialBolus:
    """The first pass alone, as if the contrast left the body."""
    return replace(bolus, tail=0.0, second_pass=0.0)


def truncate(times: np.ndarray, end_s: float) -> int:
    """Number of frames of a scan that stops at `end_s` seconds; `times` is (T,) or (T, K)."""
    last = times if times.ndim == 1 else times.max(axis=1)
    return int(np.count_nonzero(last <= end_s + 1e-9))
