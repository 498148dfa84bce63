"""From the curve of an artery's voxels to that of its blood: what the surrounding tissue adds is taken away, noise is damped.

An artery thinner than a voxel shares it with tissue.  When the arterial part is 16-50 HU high, the 5-10 HU of the tissue, later and
wider than the bolus, shift and broaden the arterial input by half a second or more, and noise bends it.
"""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from CTPerfusionSuiteLib.volumes import TimeSeries

from .bolus_arrival import Bolus
from .input_error import InputError, input_error
from .input_functions import InputFunction
from .shared_bolus import Admixture, Seen, shared_bolus

RING_MM = (2.4, 6.5)
"""In-plane distance from the artery of the voxels that stand for its surroundings."""
FEWEST_VOXELS = 12
EXPECTED_SHARE, SHARE_SPREAD = 0.6, 0.4
"""What the surroundings contribute, as a part of all that is not artery: expected, and how far that may be off."""
PERFUSED_QUANTILES, TISSUE_FILTER_MM, TISSUE_S = (0.6, 0.9), 3.0, (-2.0, 8.0)
"""Tissue that stands for the well perfused: between these quantiles of enhancement, filtered, in these seconds around the arterial peak
(the most enhancing hundredth holds small vessels)."""
FEWEST_TISSUE = 100
OUTLIER = 3.0


def blood_curve(
    curve: InputFunction,
    vein: InputFunction | None,
    series: TimeSeries,
    bolus: Bolus,
    avascular: np.ndarray,
    venous_factor: float,
    noise_hu: float,
) -> tuple[InputFunction, InputError | None]:
    """The curve of arterial blood alone, and what its uncertainty means for the maps (None when it could not be told).

    One bolus is fitted to the artery's curve with a share of its surroundings, to well perfused tissue and to the vein
    (`shared_bolus`).  What the artery's curve holds beyond it is kept as far as it lasts from frame to frame, as a true difference
    does and noise does not.

    Parameters
    ----------
    curve : InputFunction
        As measured, with its voxels on the grid of `series`.
    vein : InputFunction or None
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
    around = _surroundings(curve, series, bolus, avascular) if most > 0.02 else None
    mixed = None if around is None else Admixture(around, EXPECTED_SHARE * most, SHARE_SPREAD * most)
    tissue = perfused_tissue(curve, series, bolus, avascular)
    seen = None if vein is None else Seen(np.asarray(vein.times, float), np.asarray(vein.hu, float))
    times, hu = np.asarray(curve.times, float), np.asarray(curve.hu, float)
    tissue = None if tissue is None else Seen(times, tissue)
    shared = shared_bolus(tissue, seen, Seen(times, hu), noise_hu, mixed)
    if shared is None or shared.arterial_hu <= 0.0:
        return curve, None
    fitted = shared.arterial_hu * shared.at(times)
    own = hu - shared.offset_hu - (shared.admixture * around if around is not None else 0.0)
    clean = replace(curve, hu=fitted + _lasting(own - fitted, noise_hu))
    return clean, input_error(clean, shared)


def _lasting(beyond: np.ndarray, noise_hu: float) -> np.ndarray:
    """What of a residual is no noise: by its covariance from one frame to the next, single outliers cut off."""
    limit = OUTLIER * max(noise_hu, 1.4826 * float(np.median(np.abs(beyond))))
    beyond = np.clip(beyond, -limit, limit)
    power = max(float(np.mean(beyond**2)), 1e-9)
    keep = float(np.clip(np.mean(beyond[1:] * beyond[:-1]) / power, 0.0, 1.0))
    smooth = np.convolve(np.pad(beyond, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
    return keep * (keep * beyond + (1.0 - keep) * smooth)


def perfused_tissue(curve: InputFunction, series: TimeSeries, bolus: Bolus, avascular: np.ndarray) -> np.ndarray | None:
    """Mean enhancement (T,), HU, of well perfused tissue in the slices scanned at the curve's times; None where there is too little."""
    times, before = np.asarray(curve.times), list(bolus.baseline_frames)
    early = np.flatnonzero((times > curve.peak_time_s + TISSUE_S[0]) & (times < curve.peak_time_s + TISSUE_S[1]))
    sigma = [TISSUE_FILTER_MM / spacing for spacing in series.geometry.spacing[1::-1]]
    rises = {}
    for k in np.flatnonzero((np.abs(series.slice_times - times[:, None]) < 0.05).all(axis=0)):
        if early.size and np.count_nonzero(avascular[k]) >= FEWEST_TISSUE:
            weight = avascular[k].astype(np.float32)
            rise = (series.values[early, k].mean(axis=0) - series.values[before, k].mean(axis=0)) * weight
            rises[k] = (ndimage.gaussian_filter(rise, sigma) / np.maximum(ndimage.gaussian_filter(weight, sigma), 1e-3))[avascular[k]]
    if not rises:
        return None
    low, high = np.quantile(np.concatenate(list(rises.values())), PERFUSED_QUANTILES)
    total, count = np.zeros(len(times)), 0
    for k, rise in rises.items():
        chosen = np.zeros(avascular[k].shape, bool)
        chosen[avascular[k]] = (rise >= low) & (rise <= high)
        total += np.array([frame[chosen].sum(dtype=float) for frame in series.values[:, k]])
        count += np.count_nonzero(chosen)
    return total / count - total[before].mean() / count if count >= FEWEST_TISSUE else None


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
