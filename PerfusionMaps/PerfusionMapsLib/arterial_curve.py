"""From the curve of an artery's voxels to that of its blood: what the surrounding tissue adds is taken away, noise is damped.

An artery thinner than a voxel shares it with tissue.  When the arterial part is 16-50 HU high, the 5-10 HU of the tissue, later and
wider than the bolus, shift and broaden the arterial input by half a second or more.
"""

from dataclasses import replace

import numpy as np
from scipy import optimize

from CTPerfusionSuiteLib.volumes import TimeSeries

from .bolus_arrival import Bolus
from .input_functions import InputFunction

RING_MM = (2.4, 6.5)
"""In-plane distance from the artery of the voxels that stand for its surroundings."""
FEWEST_VOXELS = 12
EXPECTED_SHARE, SHARE_SPREAD = 0.6, 0.4
"""What the surroundings contribute, as a part of all that is not artery: expected, and how far that may be off."""
MIXED_AFTER_S = 12.0
"""From the venous peak to when arterial and venous blood enhance alike, seconds."""


def without_surroundings(
    curve: InputFunction,
    vein: InputFunction | None,
    series: TimeSeries,
    bolus: Bolus,
    avascular: np.ndarray,
    venous_factor: float,
    noise_hu: float,
) -> InputFunction:
    """The curve less the share of it that its surroundings (tissue, or fluid in a cistern) contribute.

    Parameters
    ----------
    curve : InputFunction
        As measured, with its voxels on the grid of `series`.
    vein : InputFunction or None
        Long after the bolus arterial and venous blood have mixed: the share is chosen so that both end alike, as far as noise lets
        that be seen.
    series : TimeSeries
        Motion corrected.
    bolus : Bolus
    avascular : ndarray (K, J, I) of bool
        Brain and its fluid without vessels.
    venous_factor : float
        Area of the venous over the measured arterial curve; the arterial share of the voxels is about its inverse.
    noise_hu : float
        Standard deviation of one sample of `curve`, HU.
    """
    most = 1.0 - 1.0 / max(venous_factor, 1.0)
    around = _surroundings(curve, series, bolus, avascular)
    if most <= 0 or around is None:
        return curve
    shares = np.linspace(0.0, most, 21)
    doubt = ((shares / most - EXPECTED_SHARE) / SHARE_SPREAD) ** 2
    late = np.zeros(0, int) if vein is None else np.flatnonzero(curve.times > vein.peak_time_s + MIXED_AFTER_S)
    if len(late) >= 4:
        end = float(np.mean(np.interp(curve.times[late], vein.times, vein.hu)) / np.trapezoid(vein.hu, vein.times))
        left = curve.hu - shares[:, None] * around
        areas = np.maximum(np.trapezoid(left, curve.times, axis=1), 1e-6)
        doubt = doubt + ((left[:, late].mean(axis=1) - end * areas) / (noise_hu / np.sqrt(len(late)) + 0.1 * end * areas)) ** 2
    return replace(curve, hu=curve.hu - shares[int(np.argmin(doubt))] * around)


def _surroundings(curve: InputFunction, series: TimeSeries, bolus: Bolus, avascular: np.ndarray) -> np.ndarray | None:
    """Enhancement around the voxels of an artery at its own times, HU; None where there is too little brain around."""
    spacing = series.geometry.spacing
    rows, columns = np.arange(series.geometry.size[1]), np.arange(series.geometry.size[0])
    around, weights = [], []
    for k in np.unique(curve.voxels[:, 2]):
        own = curve.voxels[curve.voxels[:, 2] == k]
        apart = np.min([np.hypot((rows[:, None] - j) * spacing[1], (columns[None, :] - i) * spacing[0]) for i, j, _ in own], axis=0)
        ring = (apart > RING_MM[0]) & (apart < RING_MM[1]) & avascular[k]
        if np.count_nonzero(ring) >= FEWEST_VOXELS:
            # The median: small vessels in the ring that nobody has marked must not count.
            hu = np.median(series.values[:, k][:, ring], axis=1)
            around.append(np.interp(curve.times, series.slice_times[:, k], hu - hu[list(bolus.baseline_frames)].mean()))
            weights.append(len(own))
    return np.average(around, axis=0, weights=weights) if around else None


def damped(curve: InputFunction, noise_hu: float) -> InputFunction:
    """The curve drawn towards a bolus with recirculation, the more the noisier it is.

    A gamma variate, its delayed and widened second passage and a plateau of mixed blood are fitted; what the curve holds beyond the
    fit is kept in proportion to how far it exceeds the noise (Wiener's rule), so that clean curves stay as they are.

    Parameters
    ----------
    curve : InputFunction
    noise_hu : float
        Standard deviation of one sample, HU.

    References
    ----------
    Thompson HK et al., Circ Res 1964;14:502-515 (gamma variate).
    """
    times, hu = np.asarray(curve.times, float), np.asarray(curve.hu, float)
    if noise_hu <= 0 or len(times) < 12:
        return curve
    peak = int(np.argmax(np.convolve(hu, [0.25, 0.5, 0.25], mode="same")))

    def design(parameters):
        arrival, log_shape, log_scale = parameters
        shape, scale = np.exp(log_shape), np.exp(log_scale)
        return np.stack([_passage(times, arrival, shape, scale), _passage(times, arrival + 2.2 * shape * scale, shape, 2.2 * scale),
                         _mixed(times, arrival, shape, scale), np.ones_like(times)], axis=1)  # fmt: skip

    def misfit(parameters):
        matrix = design(parameters)
        level, residual = _nonnegative(matrix, hu)
        away = np.array([(parameters[1] - np.log(4.0)) / 0.7, (parameters[2] - np.log(2.0)) / 0.7])
        return np.concatenate([(matrix @ level - hu) / noise_hu, away])

    best = None
    for shape in (2.5, 6.0):
        width = max(0.6, 0.4 * (times[peak] - times[0]) / shape)
        start = [times[peak] - shape * min(width, 2.0), np.log(shape), np.log(min(width, 2.0))]
        bounds = ([times[0] - 6.0, np.log(1.2), np.log(0.4)], [times[peak] + 1.0, np.log(15.0), np.log(6.0)])
        found = optimize.least_squares(misfit, np.clip(start, *bounds), bounds=bounds, max_nfev=60)
        if best is None or found.cost < best.cost:
            best = found
    matrix = design(best.x)
    level, _ = _nonnegative(matrix, hu)
    fitted = matrix @ level
    beyond = hu - fitted
    freedom = len(times) - 7
    excess = float(beyond @ beyond) / (freedom * noise_hu**2)
    keep = max(0.0, 1.0 - 1.0 / max(excess, 1e-6))
    return replace(curve, hu=fitted + keep * beyond)


def _passage(times, arrival, shape, scale):
    """Gamma variate with peak 1."""
    x = np.maximum(times - arrival, 0.0) / (shape * scale)
    return np.exp(shape * (np.log(np.maximum(x, 1e-12)) + 1.0 - x)) * (x > 0)


def _mixed(times, arrival, shape, scale):
    """Running area of the first passage, 0 to 1: blood that has mixed through the body."""
    fine = np.linspace(times[0] - 8.0, times[-1], 400)
    area = np.cumsum(_passage(fine, arrival, shape, scale))
    return np.interp(times, fine, area / max(area[-1], 1e-9))


def _nonnegative(matrix, values):
    """Levels of the parts, the offset free and the others not negative."""
    signed = np.concatenate([matrix, -matrix[:, -1:]], axis=1)
    level, residual = optimize.nnls(signed, values)
    return np.append(level[:3], level[3] - level[4]), residual
