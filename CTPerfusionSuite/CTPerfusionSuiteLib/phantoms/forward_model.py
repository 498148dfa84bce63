"""Forward model of indicator dilution on a dense time grid, written independently of any deconvolution.

C(t) = (rho CBF / kappa) (Ca * R)(t - delay), R(0) = 1 and the integral of R is MTT.  The convolution is carried out on a grid of
0.05 s with the exact integral of the residue function over every step, so that a box with its edge inside a step is right too.

References
----------
Meier P, Zierler KL, J Appl Physiol 1954;6:731 (residue function).  Ostergaard L et al., Magn Reson Med 1996;36:715 (the
convolution in tissue).  Calamante F et al., Magn Reson Med 2000;44:466 (delay and dispersion of the arterial input).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import gammainc, gammaincc, ndtr

from CTPerfusionSuiteLib.tracer_kinetics import Hematocrit, flow_scale

GRID_STEP_S = 0.05
GAMMA_SHAPES = {"gamma": 3.0, "wide-gamma": 1.6, "narrow-gamma": 6.0}
"""Shapes of the gamma distribution of transit times: 1 is exponential, infinity a box."""
RESIDUES = ("exponential", "linear", "box", "near-box", *GAMMA_SHAPES, "lognormal")
NEAR_BOX_SHARPNESS = 8.0
"""Edge position over edge width of the near-box residue."""
LOGNORMAL_SPREAD = 0.6
"""Standard deviation of the logarithm of the transit times."""


def residue(shape: str, times, mtt: float) -> np.ndarray:
    """Residue function R(t), 1 at t = 0, 0 before, its integral `mtt`.

    Parameters
    ----------
    shape : str
        One of `RESIDUES`.
    times : array_like
        Seconds, any shape.
    mtt : float
        Mean transit time, seconds.
    """
    t = np.asarray(times, dtype=float)
    u = np.maximum(t, 0.0)
    if shape == "exponential":
        value = np.exp(-u / mtt)
    elif shape == "linear":
        value = np.maximum(1.0 - u / (2.0 * mtt), 0.0)
    elif shape == "box":
        value = (u < mtt).astype(float)
    elif shape == "near-box":
        q = NEAR_BOX_SHARPNESS
        width = mtt / ((1.0 + np.exp(-q)) * np.log1p(np.exp(q)))
        value = (1.0 + np.exp(-q)) / (1.0 + np.exp(np.minimum(u / width - q, 700.0)))
    elif shape in GAMMA_SHAPES:
        value = gammaincc(GAMMA_SHAPES[shape], GAMMA_SHAPES[shape] * u / mtt)
    elif shape == "lognormal":
        mu = np.log(mtt) - LOGNORMAL_SPREAD**2 / 2.0
        value = ndtr((mu - np.log(np.maximum(u, 1e-12))) / LOGNORMAL_SPREAD)
    else:
        raise ValueError(f"unknown residue function {shape!r}; one of {', '.join(RESIDUES)}")
    return np.where(t < 0, 0.0, value)


def residue_integral(shape: str, times, mtt: float) -> np.ndarray:
    """Integral of R from 0 to t in closed form (0 for t <= 0, `mtt` for t to infinity); arguments as in `residue`."""
    t = np.maximum(np.asarray(times, dtype=float), 0.0)
    if shape == "exponential":
        return -mtt * np.expm1(-t / mtt)
    if shape == "linear":
        u = np.minimum(t, 2.0 * mtt)
        return u - u * u / (4.0 * mtt)
    if shape == "box":
        return np.minimum(t, mtt)
    if shape == "near-box":
        q = NEAR_BOX_SHARPNESS
        width = mtt / ((1.0 + np.exp(-q)) * np.log1p(np.exp(q)))
        return (1.0 + np.exp(-q)) * width * (np.log1p(np.exp(q)) - np.logaddexp(0.0, q - t / width))
    if shape in GAMMA_SHAPES:
        exponent = GAMMA_SHAPES[shape]
        x = exponent * t / mtt
        return t * gammaincc(exponent, x) + mtt * gammainc(exponent + 1.0, x)
    if shape == "lognormal":
        mu = np.log(mtt) - LOGNORMAL_SPREAD**2 / 2.0
        z = (np.log(np.maximum(t, 1e-12)) - mu) / LOGNORMAL_SPREAD
        return t * ndtr(-z) + mtt * ndtr(z - LOGNORMAL_SPREAD)
    raise ValueError(f"unknown residue function {shape!r}; one of {', '.join(RESIDUES)}")


def dispersion_integral(times, mean: float, shape: float = 1.0) -> np.ndarray:
    """Integral from 0 to t of a vascular transport kernel of unit area: gamma distributed delays of a mean in seconds.

    ``shape`` 1 is the exponential kernel (1 / mean) exp(-t / mean).
    """
    t = np.maximum(np.asarray(times, dtype=float), 0.0)
    return gammainc(shape, shape * t / mean)


@dataclass(frozen=True)
class DenseGrid:
    """The fine time axis: `count` samples of `GRID_STEP_S` from `start` seconds."""

    start: float
    count: int

    @classmethod
    def covering(cls, first: float, last: float) -> "DenseGrid":
        """The grid from `first` to `last` seconds."""
        return cls(first, int(np.ceil((last - first) / GRID_STEP_S - 1e-9)) + 1)

    @property
    def times(self) -> np.ndarray:
        """(count,) seconds."""
        return self.start + GRID_STEP_S * np.arange(self.count)

    def sample(self, curves: np.ndarray, times) -> np.ndarray:
        """Curves (..., count) at `times` (M,): linear between fine samples, held at the ends; returns (..., M)."""
        position = np.clip((np.asarray(times, dtype=float) - self.start) / GRID_STEP_S, 0.0, self.count - 1.0)
        low = np.minimum(position.astype(int), self.count - 2)
        weight = position - low
        return curves[..., low] * (1.0 - weight) + curves[..., low + 1] * weight


def convolve(curve_at_midpoints: np.ndarray, kernel_steps: np.ndarray) -> np.ndarray:
    """Causal convolution on the fine grid.

    Parameters
    ----------
    curve_at_midpoints : ndarray (..., count)
        The input half a step before each sample: entry n belongs to t_n - step / 2.
    kernel_steps : ndarray (..., count)
        Integral of the kernel over each step: entry j from j to j + 1 steps.

    Returns
    -------
    ndarray (..., count)
        Entry n is the convolution at t_n.
    """
    count = curve_at_midpoints.shape[-1]
    length = next_fast_len(2 * count, real=True)
    spectrum = rfft(curve_at_midpoints, length) * rfft(kernel_steps, length)
    return irfft(spectrum, length)[..., :count]


def unit_curves(bolus: Callable, grid: DenseGrid, mtt, shape: str = "exponential", dispersion: float = 0.0) -> np.ndarray:
    """(Ca * R)(t) on the fine grid for each of `mtt` (M,) seconds, as (M, count) HU s; no delay, flow 1/s.

    The bolus has to be zero before the grid starts.  `dispersion` is the mean of an exponential transport kernel in seconds.
    """
    midpoints = bolus(grid.times - GRID_STEP_S / 2.0)
    edges = GRID_STEP_S * np.arange(grid.count + 1)
    if dispersion > 0:
        dispersed = convolve(midpoints, np.diff(dispersion_integral(edges, dispersion)))
        midpoints = dispersed - np.diff(dispersed, prepend=0.0) / 2.0
    steps = np.stack([np.diff(residue_integral(shape, edges, float(m))) for m in np.atleast_1d(mtt)])
    return convolve(midpoints, steps)


def dispersed_bolus(bolus: Callable, grid: DenseGrid, delay: float, mean: float, shape: float = 1.0) -> np.ndarray:
    """(count,) HU: the bolus after a pure `delay` and a transport kernel of a `mean` (both seconds); the area is kept."""
    if mean <= 0:
        return bolus(grid.times - delay)
    edges = GRID_STEP_S * np.arange(grid.count + 1)
    return convolve(bolus(grid.times - GRID_STEP_S / 2.0 - delay), np.diff(dispersion_integral(edges, mean, shape)))


def tissue_curve(
    bolus: Callable,
    times,
    cbf: float,
    mtt: float,
    delay: float = 0.0,
    shape: str = "exponential",
    dispersion: float = 0.0,
    hematocrit: Hematocrit = Hematocrit(),
) -> np.ndarray:
    """Tissue enhancement in HU at `times` (M,) by direct convolution on the fine grid.

    Parameters
    ----------
    bolus : callable
        Arterial enhancement in HU as a function of seconds, zero before -20 s.
    cbf : float
        mL/100 g/min.
    mtt, delay, dispersion : float
        Seconds; `dispersion` is the mean of an exponential transport kernel on the arterial side.
    """
    times = np.asarray(times, dtype=float)
    grid = DenseGrid.covering(min(0.0, float(times.min())) - 25.0, float(times.max()) + 1.0 + max(0.0, -delay))
    curve = unit_curves(bolus, grid, mtt, shape, dispersion)[0]
    return cbf / flow_scale(hematocrit) * grid.sample(curve, times - delay)


@dataclass(frozen=True)
class CurveTable:
    """Unit tissue curves over (MTT, delay), held as coefficients of a few temporal basis functions.

    Attributes
    ----------
    grid : DenseGrid
    basis : ndarray (B, count)
        Orthogonal temporal functions on the fine grid.
    coefficients : ndarray (M, D, B) float32
        Of the unit-flow curve at each node.
    log_mtt, delays : ndarray (M,), (D,)
        Nodes: logarithm of MTT in seconds, delay in seconds.
    """

    grid: DenseGrid
    basis: np.ndarray
    coefficients: np.ndarray
    log_mtt: np.ndarray
    delays: np.ndarray

    @classmethod
    def build(cls, bolus: Callable, last_s: float, shape="exponential", dispersion_ratio=0.0, mtt=(1.0, 60.0), delay=(-1.0, 18.0)):
        """Tabulate for samples up to `last_s` seconds; `dispersion_ratio` is dispersion per second of delay beyond one second."""
        grid = DenseGrid.covering(-25.0, last_s + 1.5)
        # Residues with an edge change faster along MTT.
        step = 0.05 if shape in ("box", "near-box", "linear") else 0.07
        log_mtt = np.linspace(np.log(mtt[0]), np.log(mtt[1]), int(np.ceil(np.log(mtt[1] / mtt[0]) / step)) + 1)
        every = 5
        delays = np.arange(np.floor(delay[0] * 4.0), np.ceil(delay[1] * 4.0) + 1) * every * GRID_STEP_S
        means = dispersion_ratio * np.maximum(delays - 1.0, 0.0)
        curves = np.empty((log_mtt.size, delays.size, grid.count), np.float32)
        plain = None
        for column, (shift, mean) in enumerate(zip(delays, means, strict=True)):
            if mean > 0 or plain is None:
                plain = unit_curves(bolus, grid, np.exp(log_mtt), shape, mean)
            steps = int(round(shift / GRID_STEP_S))
            curves[:, column] = np.roll(plain, steps, axis=-1)
            if steps > 0:
                curves[:, column, :steps] = 0.0
            elif steps < 0:
                curves[:, column, steps:] = plain[:, -1:]
        flat = curves.reshape(-1, grid.count)
        visible = slice(int(20.0 / GRID_STEP_S), None, every)
        # Principal components through the small matrix of time by time.
        sampled = flat[:, visible].astype(float)
        power, directions = np.linalg.eigh(sampled.T @ sampled)
        # Enough functions that a curve of the strongest flow is off by far less than a tenth of a HU.
        kept = power > (2e-5) ** 2 * power[-1]
        kept[-1] = True
        coefficients = sampled @ directions[:, kept]
        basis = (coefficients.T @ flat) / np.maximum(power[kept], 1e-30)[:, None]
        coefficients = coefficients.reshape(log_mtt.size, delays.size, -1).astype(np.float32)
        return cls(grid, basis, coefficients, log_mtt, delays)

    def project(self, flow, mtt, delay) -> np.ndarray:
        """Coefficients (N, B) float32 of the curves with `flow` (1/s), `mtt` and `delay` (s), each (N,); bilinear between nodes."""
        m = np.clip((np.log(mtt) - self.log_mtt[0]) / (self.log_mtt[1] - self.log_mtt[0]), 0.0, self.log_mtt.size - 1.001)
        d = np.clip((delay - self.delays[0]) / (self.delays[1] - self.delays[0]), 0.0, self.delays.size - 1.001)
        mi, di = m.astype(np.int32), d.astype(np.int32)
        mw, dw = (m - mi).astype(np.float32), (d - di).astype(np.float32)
        flow = np.asarray(flow, np.float32)
        out = np.zeros((flow.size, self.coefficients.shape[-1]), np.float32)
        table = self.coefficients.reshape(self.log_mtt.size * self.delays.size, -1)
        for step_m, weight_m in ((0, 1.0 - mw), (1, mw)):
            for step_d, weight_d in ((0, 1.0 - dw), (1, dw)):
                nodes = (mi + step_m) * self.delays.size + di + step_d
                out += table[nodes] * (flow * weight_m * weight_d)[:, None]
        return out

    def at(self, times) -> np.ndarray:
        """Basis functions (B, M) float32 at `times` (M,) seconds."""
        return self.grid.sample(self.basis, times).astype(np.float32)
