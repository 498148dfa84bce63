"""One bolus behind all curves of a head: what artery, tissue and vein show together.

Blood reaches the veins and the tissue through known kinds of transport: a vein shows the bolus delayed and spread by a gamma
distribution of transit times, well perfused tissue the bolus kept for a few seconds.  Their curves are means over many voxels and
almost free of noise, so that they fix the shape of the bolus and its recirculation where the artery alone is thin and noisy; the
artery fixes when it came.
"""

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.optimize import least_squares

from .bolus_shapes import bolus_shapes, fit_curves

GRID_S = 0.5
MODEL_ERROR = 0.03
"""How closely these kinds of transport describe a head: misfit of vein and tissue as a share of their range."""
RECIRCULATION_S, RECIRCULATION_WIDENING = 14.0, 1.6
"""The second passage: how much later and how much wider than the first."""
FEWEST_SAMPLES = 8
LEAST_TRUST = 4.0
"""No curve is taken for more than so many times less certain than expected."""
ALTERNATIVES_AT = 0.7
"""Nearer than the unscented transform's own points: what is asked of them jumps, and far out it jumps often."""

_EXPECTED = np.array([0.0, np.log(5.0), np.log(11.5), np.log(0.10), np.log(0.15), 3.0, np.log(5.0), np.log(2.5), 0.8, np.log(4.5)])
_SPREAD = np.array([np.inf, 0.6, 0.35, 0.7, 0.7, 3.0, 0.5, 0.5, 0.35, 0.3])
"""Physiology: gamma exponents and time constants (s) of first passes, recirculation of a tenth to a seventh of the peak, 8 s from artery
to vein, and cortex that fills about 0.8 s after the arteries that feed it and keeps blood for some 4.5 s."""
_TYPICAL_STEP = np.array([1.0, 0.3, 0.3, 0.4, 0.4, 1.0, 0.3, 0.3, 0.4, 0.3])


@dataclass(frozen=True)
class Seen:
    """A curve as measured.

    Attributes
    ----------
    times : ndarray (M,)
        Seconds.
    hu : ndarray (M,)
        Enhancement over any constant, HU.
    """

    times: np.ndarray
    hu: np.ndarray


@dataclass(frozen=True)
class SharedBolus:
    """The bolus in arterial blood.

    Attributes
    ----------
    times, values : ndarray (N,)
        Seconds, and the bolus with a first pass of peak 1.
    arterial_hu : float
        Its height in the artery's curve, HU; 1 without one.
    offset_hu : float
        Constant under the artery's curve, HU.
    admixture : float
        How much of the surroundings' curve the artery's curve holds.
    alternatives : tuple of ndarray (N,)
        Boluses that differ from `values` as far as the data allow: one to either side along every axis of the parameters' covariance,
        so that the mean square of what any function of them changes is its variance times the square of `alternatives_at`.
    alternatives_at : float
        How far out they lie, as a part of that.
    """

    times: np.ndarray
    values: np.ndarray
    arterial_hu: float
    offset_hu: float
    admixture: float
    alternatives: tuple = ()
    alternatives_at: float = 1.0

    def at(self, times_s) -> np.ndarray:
        """Values at `times_s`."""
        return np.interp(times_s, self.times, self.values)


@dataclass(frozen=True)
class Admixture:
    """What may be mixed into an artery's curve: a curve on its times, HU, and how much of it is expected, with a standard deviation."""

    hu: np.ndarray
    expected: float
    spread: float


def shared_bolus(
    tissue: Seen | None, vein: Seen | None, artery: Seen | None = None, noise_hu: float = 1.0, admixture: Admixture | None = None
) -> SharedBolus | None:
    """Fit the bolus to all curves that are given.

    Parameters
    ----------
    tissue, vein : Seen or None
        Mean curves of well perfused tissue and of a large vein.
    artery : Seen, optional
        Without it, the timing rests on how long after the arteries tissue usually fills.
    noise_hu : float
        Standard deviation of one sample of `artery`, HU.
    admixture : Admixture, optional
        Of the artery's curve.

    Returns
    -------
    SharedBolus or None
        None when no curve is long enough, or none rises.

    References
    ----------
    Thompson HK et al., Circ Res 1964;14:502-515 (gamma variate); Schabel MC et al., Magn Reson Med 2010;63:1691-1702 (one input
    estimated from many curves).
    """
    artery, tissue, vein = (
        seen if seen is not None and len(seen.times) >= FEWEST_SAMPLES and np.ptp(seen.hu) > 0 else None for seen in (artery, tissue, vein)
    )
    curves = [seen for seen in (artery, tissue, vein) if seen is not None]
    if not curves:
        return None
    start = curves[0]
    first = fit_curves((start.hu - start.hu.mean())[:, None], bolus_shapes(start.times))
    if not first.height_hu[0] > 0:
        return None
    onset = float(first.onset_s[0]) - (0.0 if start is artery else 1.5 if start is tissue else 6.0)
    begin, end = (limit(float(limit(seen.times)) for seen in curves) for limit in (min, max))
    head = _Head(np.arange(min(begin, 0.0) - 8.0, end + GRID_S, GRID_S), tissue, vein, artery, max(noise_hu, 0.3), admixture)
    low = np.array([begin - 8.0, np.log(1.2), np.log(2.5), -5.0, -5.0, -1.0, np.log(0.7), np.log(0.7), -1.0, np.log(1.5)])
    high = np.array([onset + 10.0, np.log(16.0), np.log(35.0), 0.0, 0.0, 12.0, np.log(20.0), np.log(8.0), 4.0, np.log(15.0)])
    guess = _EXPECTED.copy()
    guess[0], guess[1] = onset, np.log(4.0)
    guess[2] = np.log(max(float(first.fwhm_s[0]) - (0.0 if start is artery else 3.0), 3.0))
    how = {"bounds": (low, high), "loss": "soft_l1", "f_scale": 2.0, "max_nfev": 80, "x_scale": _TYPICAL_STEP}
    fit = least_squares(head.misfit, np.clip(guess, low + 1e-3, high - 1e-3), **how)
    if head.reweighted(fit.x):
        fit = least_squares(head.misfit, fit.x, **how)
    level = head.levels(fit.x)[0]
    values = head.bolus(fit.x)
    covariance = np.linalg.pinv(fit.jac.T @ fit.jac)
    return SharedBolus(
        head.grid,
        values,
        float(level[0]),
        float(level[1]),
        float(level[2]) if len(level) > 2 else 0.0,
        tuple(head.bolus(p) for p in _around(fit.x, covariance, low, high)),
        ALTERNATIVES_AT,
    )


def _around(p, covariance, low, high):
    """Parameters to either side of the best ones along each axis of their covariance."""
    size, axes = np.linalg.eigh(covariance)
    reach = ALTERNATIVES_AT * np.sqrt(len(p) * np.maximum(size, 0.0))
    return [np.clip(p + sign * step * axis, low, high) for step, axis in zip(reach, axes.T, strict=True) for sign in (1.0, -1.0)]


def first_pass_scale(p) -> float:
    """Time constant, seconds, of a gamma variate from its exponent and its full width at half maximum (within 2 %)."""
    return float(np.exp(p[2]) / (2.355 * np.sqrt(np.exp(p[1]) + 0.1)))


class _Head:
    """The three curves, and what a bolus would make of them."""

    def __init__(self, grid, tissue, vein, artery, noise_hu, admixture):
        self.grid, self.tissue, self.vein, self.artery, self.noise_hu, self.admixture = grid, tissue, vein, artery, noise_hu, admixture
        self.size = next_fast_len(2 * grid.size)
        self.lag = GRID_S * np.arange(grid.size)
        self.trust = [1.0, 1.0, 1.0]

    def bolus(self, p) -> np.ndarray:
        """Bolus on the grid: first pass of peak 1, second pass, and mixed blood."""
        exponent, scale = np.exp(p[1]), first_pass_scale(p)
        first = _passage(self.grid - p[0], exponent, scale)
        second = _passage(self.grid - p[0] - RECIRCULATION_S, exponent, RECIRCULATION_WIDENING * scale)
        mixed = np.cumsum(first)
        return first + np.exp(p[3]) * second + np.exp(p[4]) * mixed / max(mixed[-1], 1e-9)

    def levels(self, p):
        """Levels of the artery's parts, and the weighted misfit of all curves."""
        bolus = self.bolus(p)
        level, misfits = np.array([1.0, 0.0]), []
        if self.artery is not None:
            parts = [np.interp(self.artery.times, self.grid, bolus), np.ones(len(self.artery.times))]
            wanted = self.artery.hu / self.noise_hu
            matrix = np.stack(parts, axis=1) / self.noise_hu
            if self.admixture is not None:
                matrix = np.column_stack([matrix, self.admixture.hu / self.noise_hu])
                matrix = np.vstack([matrix, [0.0, 0.0, 1.0 / self.admixture.spread]])
                wanted = np.append(wanted, self.admixture.expected / self.admixture.spread)
            level = np.linalg.lstsq(matrix, wanted, rcond=None)[0]
            if level[0] < 0:
                level = np.concatenate([[0.0, self.artery.hu.mean()], np.zeros(len(level) - 2)])
            misfits.append(self.trust[0] * (matrix @ level - wanted))
        spectrum = rfft(bolus, self.size)
        if self.vein is not None:
            exponent, transit = np.exp(p[7]), np.exp(p[6])
            lag = self.lag + 0.5 * GRID_S
            passing = np.exp((exponent - 1.0) * np.log(lag) - lag * exponent / transit)
            misfits.append(self.trust[1] * self._passed(spectrum, self.vein, passing, p[5]))
        if self.tissue is not None:
            kept = np.exp(-self.lag / np.exp(p[9]))
            kept[0] *= 0.5
            misfits.append(self.trust[2] * self._passed(spectrum, self.tissue, kept, p[8]))
        return level, misfits

    def _passed(self, spectrum, seen: Seen, transport, delay_s) -> np.ndarray:
        """Weighted misfit of a curve that shows the bolus after `transport` on the grid and a delay."""
        curve = irfft(spectrum * rfft(transport / transport.sum(), self.size), self.size)[: self.grid.size]
        model = np.stack([np.interp(seen.times - delay_s, self.grid, curve), np.ones(len(seen.times))], axis=1)
        level = np.linalg.lstsq(model, seen.hu, rcond=None)[0]
        return (model @ level - seen.hu) / (MODEL_ERROR * np.ptp(seen.hu))

    def reweighted(self, p) -> bool:
        """Trust curves less that differ more from the model than they should (motion); whether any does."""
        misfits = iter(self.levels(p)[1])
        for number, seen in enumerate((self.artery, self.vein, self.tissue)):
            if seen is not None:
                unrest = float(np.sqrt(np.mean(next(misfits) ** 2)))
                self.trust[number] = 1.0 / min(unrest, LEAST_TRUST) if unrest > 1.1 else 1.0
        return min(self.trust) < 1.0

    def misfit(self, p) -> np.ndarray:
        """All weighted residuals, and how far the parameters are from what is expected."""
        return np.concatenate([*self.levels(p)[1], ((p - _EXPECTED) / _SPREAD)[1:]])


def _passage(since, exponent, scale) -> np.ndarray:
    """Gamma variate with peak 1."""
    x = np.maximum(since, 0.0) / (exponent * scale)
    return np.exp(exponent * (np.log(np.maximum(x, 1e-12)) + 1.0 - x)) * (x > 0)
