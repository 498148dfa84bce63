"""The dictionary of tissue curves the Bayesian engine compares every voxel with.

An atom is the arterial input convolved with a residue function of unit height, at one mean transit time and one arterial delay,
sampled at the times a slice was really scanned.  The unknown baseline is integrated out by removing the mean over all frames from
atoms and curves alike, and both are then projected on the atoms' principal components: a dozen hold all but a few ten-thousandths of
the energy even for a narrow bolus.  Directions outside that subspace carry noise alone; a few of them travel with the curves through
every filter, so that the noise after filtering is measured and not assumed.
"""

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.interpolate import CubicSpline
from scipy.optimize import least_squares
from scipy.special import gammainc, gammaincc

from CTPerfusionSuiteLib.tracer_kinetics import gamma_variate

FINE_STEP_S = 0.05
"""Step of the grid on which input and residues are convolved."""

CURVE_STEP_S = 0.5
"""Step of the grid on which denoised curves are handed to the threshold-scale operator."""

MEAN_TRANSIT_S = np.geomspace(2.0, 40.0, 18)
DELAY_S = np.arange(-2.0, 15.25, 0.5)
SHAPES = ("exponential", "linear", "gamma", "near-box")

GAMMA_SHAPE = 3.5
"""1 would be exponential, infinity a box; real capillary beds lie between (Mouridsen K et al., J Cereb Blood Flow Metab 2014)."""


def residue_area(shape: str, time_over_mtt) -> np.ndarray:
    """Integral from 0 to t of a residue function with R(0) = 1 and area MTT, in units of MTT.

    Parameters
    ----------
    shape : {"exponential", "linear", "gamma", "near-box"}
        ``exp(-t/MTT)``; ``1 - t/(2 MTT)``; transit times gamma distributed with shape `GAMMA_SHAPE`; 1 until 0.8 MTT, then falling
        linearly to 0 at 1.2 MTT.
    time_over_mtt : array_like
        Time in units of MTT; 0 is returned for negative times.
    """
    x = np.maximum(np.asarray(time_over_mtt, dtype=float), 0.0)
    if shape == "exponential":
        return -np.expm1(-np.minimum(x, 80.0))
    if shape == "linear":
        x = np.minimum(x, 2.0)
        return x - x * x / 4.0
    if shape == "gamma":
        y = GAMMA_SHAPE * x
        return x * gammaincc(GAMMA_SHAPE, y) + gammainc(GAMMA_SHAPE + 1.0, y)
    if shape == "near-box":
        fall = np.clip(x - 0.8, 0.0, 0.4)
        return np.minimum(x, 0.8) + fall - fall * fall / 0.8
    raise ValueError(f"unknown residue shape {shape!r}")


def _fit_gamma_variate(times, values):
    """Gamma variate through the first pass, as a function of time, or None when the samples do not support one."""
    peak = int(np.argmax(values))
    height = float(values[peak])
    last = peak
    while last + 1 < values.size and 0.35 * height < values[last + 1] < values[last]:
        last += 1
    t, y = times[: last + 2], values[: last + 2]
    if height <= 0 or np.count_nonzero(y > 0.05 * height) < 3:
        return None
    width = max(float(np.trapezoid(np.maximum(y, 0.0), t)) / height, 0.5)

    def curve(x, at):
        shape, scale = np.exp(x[1]), np.exp(x[2])
        return gamma_variate(at, times[peak] + x[0] - shape * scale, shape, scale)

    def misfit(x):
        g = curve(x, t)
        g = g * (g @ y) / max(g @ g, 1e-12) - y
        # A weak prior (shape near 3, peak near its sample) settles what three or four samples leave open.
        return np.concatenate([g / height, [0.02 * (x[1] - np.log(3.0)), 0.01 * x[0]]])

    start = np.array([0.0, np.log(3.0), np.clip(np.log(width / (2.5 * np.sqrt(3.0))), -1.4, 1.9)])
    x = least_squares(misfit, start, bounds=([-3.0, 0.0, -1.5], [3.0, 2.5, 2.0])).x
    g = curve(x, t)
    amplitude = float(g @ y / max(g @ g, 1e-12))
    if not 0.7 * height < amplitude < 1.3 * height:
        return None
    return lambda at: amplitude * curve(x, at)


def interpolate_input(times, hu, at) -> np.ndarray:
    """Arterial input between and beyond its samples.

    A cubic spline through the samples; where the bolus is sampled at fewer than about four times its half-width, the spline runs
    through what a gamma variate of the first pass leaves over, because a spline alone misplaces the peak of a narrow bolus by up
    to a tenth.  0 before the first sample, the last value after the last.

    Parameters
    ----------
    times, hu : array_like (M,)
        Seconds, strictly increasing, and HU above baseline.
    at : array_like
        Seconds.

    Returns
    -------
    ndarray of float, shape of `at`
    """
    times, hu = np.asarray(times, dtype=float), np.asarray(hu, dtype=float)
    at = np.asarray(at, dtype=float)
    inside = np.clip(at, times[0], times[-1])
    values = CubicSpline(times, hu)(inside) if times.size > 2 else np.interp(inside, times, hu)
    peak = int(np.argmax(hu))
    near = slice(max(peak - 2, 0), peak + 3)
    step = float(np.median(np.diff(times[near]))) if times[near].size > 1 else 1.0
    above = CubicSpline(times, hu)(np.arange(times[0], times[-1], 0.1)) > 0.5 * hu[peak] if times.size > 2 else np.zeros(1)
    share = np.clip((4.2 - 0.1 * np.count_nonzero(above) / step) / 0.8, 0.0, 1.0)
    bolus = _fit_gamma_variate(times, hu) if share > 0 and times.size > 5 else None
    if bolus is not None:
        values = values + share * (bolus(inside) - CubicSpline(times, bolus(times))(inside))
    values = np.where(at > times[-1], hu[-1], values)
    return np.where(at < times[0], 0.0, values)


@dataclass(frozen=True)
class ResidueCurves:
    """Input convolved with every residue, on a fine grid; shared by all slices of a study.

    Attributes
    ----------
    times : ndarray (F,)
        Seconds, from 0 in steps of `FINE_STEP_S`.
    curves : ndarray (S * M, F)
        HU for residues of unit height (flow 1 mL/mL/s) without delay, shapes outermost.
    mtt, delay : ndarray
        (S * M,) mean transit time of each curve, s, and (L,) delays, s.
    arrival : float
        When the input first reaches 10 % of its maximum, s.
    """

    times: np.ndarray
    curves: np.ndarray
    mtt: np.ndarray
    delay: np.ndarray
    arrival: float

    def sample(self, times) -> np.ndarray:
        """Atoms at `times`: (S * M, L, len(times)), HU for unit flow, linear between fine samples, 0 before t = 0."""
        position = (np.asarray(times, dtype=float)[None, :] - self.delay[:, None]) / FINE_STEP_S
        low = np.clip(np.floor(position).astype(int), 0, self.times.size - 2)
        part = np.clip(position - low, 0.0, 1.0)
        return self.curves[:, low] * (1.0 - part) + self.curves[:, low + 1] * part


def residue_curves(aif_times, aif, last_time: float, shapes=SHAPES, mtt=MEAN_TRANSIT_S, delay=DELAY_S) -> ResidueCurves:
    """Convolve an arterial input with all residue functions.

    Parameters
    ----------
    aif_times, aif : array_like (M,)
        Seconds on the series' axis, and HU above baseline.
    last_time : float
        Latest time a slice was scanned, s.
    shapes, mtt, delay : sequences
        The grid of the dictionary.
    """
    # Curves shifted to negative delays look past the last scan; times before t = 0 hold no contrast.
    fine = np.arange(0.0, last_time - min(0.0, float(np.min(delay))) + 4 * FINE_STEP_S, FINE_STEP_S)
    source = interpolate_input(aif_times, aif, fine)
    mtt = np.asarray(mtt, dtype=float)
    edges = np.concatenate([[0.0], fine[:-1] + FINE_STEP_S / 2, [fine[-1] + FINE_STEP_S / 2]])
    kernels = np.concatenate([np.diff(residue_area(shape, edges[None, :] / mtt[:, None]), axis=1) * mtt[:, None] for shape in shapes])
    length = next_fast_len(2 * fine.size, real=True)
    curves = irfft(rfft(kernels, length, axis=1) * rfft(source, length), length, axis=1)[:, : fine.size]
    above = np.flatnonzero(source >= 0.1 * source.max())
    arrival = float(fine[above[0]]) if source.max() > 0 else 0.0
    return ResidueCurves(fine, curves, np.tile(mtt, len(shapes)), np.asarray(delay, dtype=float), arrival)


@dataclass(frozen=True)
class ResidueDictionary:
    """Atoms for one vector of scan times, in the space of their principal components.

    Atoms are numbered (shape, MTT, delay) with the delay fastest, A = S * M * L.

    Attributes
    ----------
    times : ndarray (T,)
    basis : float32 ndarray (T, P)
        Orthonormal components, all orthogonal to a constant.
    noise_basis : float32 ndarray (T, Q)
        Orthonormal directions outside components and constant.
    atoms : float32 ndarray (A, P)
        Unit atoms; rows of zeros where the bolus never reaches the scan.
    inverse_norm : float32 ndarray (A,)
        Flow in mL/mL/s per unit of amplitude; 0 where the atom is zero.
    mtt, delay : ndarray (S * M,) and (L,)
        The grid, seconds.
    curve_times : ndarray (N,)
        The grid of denoised curves, from 0 in steps of `CURVE_STEP_S` to the end of the scan.
    curve_basis : float32 ndarray (N, R)
    curve_atoms : float32 ndarray (A, R)
        ``curve_basis @ curve_atoms[a]`` is the curve of unit atom a above baseline, HU.
    curve_components : float32 ndarray (P, R)
        Takes a curve in `curve_basis` to the components it has when sampled at `times`.
    curve_predictor : float32 ndarray (N, P)
        Takes the components of a measured curve to its values above baseline on `curve_times`.
    area_predictor : float32 ndarray (P,)
        Takes the components of a measured curve to the area ratio tissue / input (CBV in mL/mL).
    arrival : float
        Arterial arrival, s.
    """

    times: np.ndarray
    basis: np.ndarray
    noise_basis: np.ndarray
    atoms: np.ndarray
    inverse_norm: np.ndarray
    mtt: np.ndarray
    delay: np.ndarray
    curve_times: np.ndarray
    curve_basis: np.ndarray
    curve_atoms: np.ndarray
    curve_components: np.ndarray
    curve_predictor: np.ndarray
    area_predictor: np.ndarray
    arrival: float

    @property
    def mtt_grid(self) -> np.ndarray:
        """(M,) mean transit times of one shape, s."""
        return np.unique(self.mtt)

    @property
    def channels(self) -> np.ndarray:
        """float32 ndarray (T, P + Q): components, then noise directions."""
        return np.concatenate([self.basis, self.noise_basis], axis=1)

    @property
    def components(self) -> int:
        """Number of principal components, P."""
        return self.basis.shape[1]


CURVE_RANK = 12
"""Functions that describe denoised curves on the operator's grid to a few parts in ten thousand."""


def _principal_axes(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, largest first, and eigenvectors (columns) of the mean outer product of `rows` (A, n)."""
    values, vectors = np.linalg.eigh(rows.T @ rows / rows.shape[0])
    return values[::-1], vectors[:, ::-1]


def _linear_prediction(inputs, targets, noise):
    """Matrix (n_targets, n_inputs) that best takes `inputs` (A, p) with white noise of standard deviation `noise` to `targets` (A, q)."""
    gram = inputs.T @ inputs / inputs.shape[0] + noise**2 * np.eye(inputs.shape[1])
    return np.linalg.solve(gram, inputs.T @ targets / inputs.shape[0]).T


def build_dictionary(curves: ResidueCurves, times, curve_times, components: int = 12, noise_channels: int = 6) -> ResidueDictionary:
    """Atoms, components and predictors for one vector of scan times.

    Parameters
    ----------
    curves : ResidueCurves
    times : array_like (T,)
        When the curves were sampled, seconds.
    curve_times : ndarray (N,)
        Grid of denoised curves, seconds.
    components, noise_channels : int
        Wanted numbers; fewer where a short scan leaves no room.
    """
    times = np.asarray(times, dtype=float)
    frames = times.size
    atoms = curves.sample(times).reshape(-1, frames)
    fine = curves.sample(curve_times).reshape(atoms.shape[0], -1)
    atoms = atoms - atoms.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(atoms, axis=1)
    # An atom that hardly reaches the scan would get any flow from noise; it stays as "nothing seen".
    seen = norm > 0.02 * norm.max()
    inverse = np.where(seen, 1.0 / np.where(seen, norm, 1.0), 0.0)
    unit = atoms * inverse[:, None]
    fine *= inverse[:, None]

    count = max(3, min(components, frames - 1 - min(noise_channels, 3)))
    _, axes = _principal_axes(unit)
    basis = axes[:, :count]
    # The next two directions still hold a little signal; the constant and the components are projected away for exactness.
    spare = axes[:, count:][:, : frames - 1 - count]
    spare = spare[:, min(2, max(spare.shape[1] - noise_channels, 0)) :]
    spare = spare - spare.mean(axis=0)
    spare = np.linalg.qr(spare)[0] if spare.shape[1] else spare
    wanted = min(noise_channels, spare.shape[1])
    # Fixed rotation, so that each channel samples all spare directions alike.
    angle = np.pi * (2 * np.arange(spare.shape[1])[:, None] + 1) * np.arange(wanted)[None, :] / (2 * max(spare.shape[1], 1))
    mix = np.cos(angle) * np.where(np.arange(wanted) == 0, 1.0, np.sqrt(2.0)) / np.sqrt(max(spare.shape[1], 1))
    noise_basis = spare @ mix

    coordinates = unit @ basis
    rank = min(CURVE_RANK, curve_times.size)
    _, fine_axes = _principal_axes(fine)
    fine_axes = fine_axes[:, :rank]
    area = (np.repeat(curves.mtt, curves.delay.size) * inverse)[:, None]
    predictors = _linear_prediction(coordinates[seen], np.concatenate([fine, area], axis=1)[seen], noise=0.003)
    curve_coordinates = fine @ fine_axes
    back = _linear_prediction(curve_coordinates[seen], coordinates[seen], noise=1e-4)

    def single(array):
        return np.ascontiguousarray(array, dtype=np.float32)

    return ResidueDictionary(
        times=times,
        basis=single(basis),
        noise_basis=single(noise_basis),
        atoms=single(coordinates),
        inverse_norm=single(inverse),
        mtt=curves.mtt,
        delay=curves.delay,
        curve_times=np.asarray(curve_times, dtype=float),
        curve_basis=single(fine_axes),
        curve_atoms=single(curve_coordinates),
        curve_components=single(back),
        curve_predictor=single(predictors[:-1]),
        area_predictor=single(predictors[-1]),
        arrival=curves.arrival,
    )
