"""First-pass bolus shapes and their matched-filter fit to many noisy curves at once.

A vessel or tissue curve is compared with gamma variates of every onset and width, with and without a recirculation tail.  The
unknown constant under a curve is projected out, so that no separate baseline is needed, and the shapes are sampled at each
slice's own times, so that nothing is ever interpolated.  All comparisons are made in the principal components of the shapes:
a spatial filter of the components is a filter of the curves.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import gammainc

SHAPE_EXPONENT = 4.0
WIDTHS_S = (3.5, 4.5, 5.8, 7.5, 9.7, 12.5, 16.0, 21.0)
TAILS = (0.0, 0.2, 0.45)
COMPONENTS = 10


@dataclass(frozen=True)
class BolusShapes:
    """Every shape of the family, sampled at one list of times.

    Attributes
    ----------
    basis : ndarray (m, T)
        Orthonormal principal components of the centered shapes; each is orthogonal to a constant.
    directions : ndarray (m, n)
        Unit vectors of the n shapes in the components.
    height_per_length : ndarray (n,)
        Peak height, HU, of a shape whose centered vector has length one.
    mean_per_height : ndarray (n,)
        Mean over the frames of a shape with a peak of 1 HU: what the unknown constant must be corrected by.
    tail : ndarray (n,)
        Recirculation level of the shape.
    onset_s, peak_s, half_rise_s, fwhm_s, area_s : ndarray (n,)
        Onset, maximum, half of the maximum on the rising side, full width at half maximum of the first pass, all in seconds, and
        first-pass area in HU s of a shape with a peak of 1 HU.
    """

    basis: np.ndarray
    directions: np.ndarray
    height_per_length: np.ndarray
    mean_per_height: np.ndarray
    tail: np.ndarray
    onset_s: np.ndarray
    peak_s: np.ndarray
    half_rise_s: np.ndarray
    fwhm_s: np.ndarray
    area_s: np.ndarray


@lru_cache(maxsize=32)
def _unit_shape(tail: float) -> tuple[float, float, float, float, float]:
    """Maximum, its place, half rise, width and first-pass area of ``u^a exp(a - u)/a^a + tail P(a + 1, u)``, u in time constants."""
    u = np.linspace(0.0, 40.0, 8001)
    first_pass = _gamma(u)
    values = first_pass + tail * gammainc(SHAPE_EXPONENT + 1.0, u)
    top = int(np.argmax(values))
    peak = values[top]
    rise = u[int(np.argmax(values >= peak / 2))]
    above = np.flatnonzero(first_pass >= first_pass.max() / 2)
    return peak, u[top], rise, u[above[-1]] - u[above[0]], float(np.trapezoid(first_pass, u))


def _gamma(u: np.ndarray) -> np.ndarray:
    """Gamma variate with a maximum of 1 at u = a."""
    u = np.clip(u, 0.0, 60.0)
    return (u / SHAPE_EXPONENT) ** SHAPE_EXPONENT * np.exp(SHAPE_EXPONENT - u)


def bolus_curve(times_s, onset_s: float, fwhm_s: float, tail: float) -> np.ndarray:
    """One shape of the family, peak 1, at any times: (T,)."""
    peak, _, _, width, _ = _unit_shape(tail)
    u = (np.asarray(times_s, dtype=float) - onset_s) * width / fwhm_s
    return (_gamma(u) + tail * gammainc(SHAPE_EXPONENT + 1.0, np.clip(u, 0.0, 60.0))) / peak


def bolus_timing(onset_s: float, fwhm_s: float, tail: float) -> tuple[float, float]:
    """Half rise and peak, seconds, of `bolus_curve`."""
    _, top, rise, width, _ = _unit_shape(tail)
    return onset_s + rise * fwhm_s / width, onset_s + top * fwhm_s / width


def bolus_shapes(times_s) -> BolusShapes:
    """The family sampled at `times_s`, with onsets from one typical rise before the first frame to two frames before the last.

    Parameters
    ----------
    times_s : array_like (T,)
        Seconds, increasing, not necessarily regular.

    References
    ----------
    Thompson HK et al., Circ Res 1964;14:502-515 (gamma variate); Turin GL, IRE Trans Inf Theory 1960;6:311-329 (matched filter).
    """
    return _sampled_shapes(tuple(np.asarray(times_s, dtype=float).tolist()))


@lru_cache(maxsize=64)
def _sampled_shapes(times_s: tuple[float, ...]) -> BolusShapes:
    """`bolus_shapes`, remembered: many curves share one time axis."""
    times = np.array(times_s)
    step = float(np.median(np.diff(times))) if times.size > 1 else 1.0
    first = times[0] - 4.0
    last = max(times[-1] - 2.0 * step, first + step)
    onsets = np.arange(first, last + 1e-6, float(np.clip(step / 3.0, 0.4, 0.75)))
    rows, parameters = [], []
    for tail in TAILS:
        peak, top, rise, width, area = _unit_shape(tail)
        for fwhm in WIDTHS_S:
            scale = fwhm / width
            u = (times[None, :] - onsets[:, None]) / scale
            rows.append((_gamma(u) + tail * gammainc(SHAPE_EXPONENT + 1.0, np.clip(u, 0.0, 60.0))) / peak)
            parameters.append(
                np.stack(
                    [
                        onsets,
                        onsets + top * scale,
                        onsets + rise * scale,
                        np.full_like(onsets, fwhm),
                        np.full_like(onsets, area * scale / peak),
                        np.full_like(onsets, tail),
                    ]
                )
            )
    curves = np.concatenate(rows)
    onset, peak_s, half, fwhm, area, tails = np.concatenate(parameters, axis=1)
    mean = curves.mean(axis=1)
    curves = curves - mean[:, None]
    length = np.linalg.norm(curves, axis=1)
    # A shape the scan hardly sees (nothing but its foot or its tail) has an unbounded height; it explains noise only.
    seen = (length > 0.35 * np.median(length)) & (peak_s < times[-1] + 2.0 * step)
    curves, length = curves[seen], length[seen]
    unit = curves / length[:, None]
    components = min(COMPONENTS, times.size - 2) if times.size > 3 else 1
    basis = np.linalg.svd(unit, full_matrices=False)[2][:components]
    directions = basis @ unit.T
    directions /= np.linalg.norm(directions, axis=0)
    return BolusShapes(
        basis.astype(np.float32),
        directions.astype(np.float32),
        (1.0 / length).astype(np.float32),
        mean[seen],
        tails[seen],
        onset[seen],
        peak_s[seen],
        half[seen],
        fwhm[seen],
        area[seen],
    )


@dataclass(frozen=True)
class BolusFit:
    """The best shape of each of N curves.

    Attributes
    ----------
    shape : ndarray (N,) of int
        Index of the shape.
    height_hu : ndarray (N,)
        Peak above the unknown constant, HU; 0 where no shape has a positive amplitude.
    mean_hu : ndarray (N,)
        Mean of the fitted enhancement over the frames, HU; the curve's own mean less this is its baseline.
    length : ndarray (N,)
        Length of the explained part of the curve, HU (divided by the noise per frame it is the detection's z).
    onset_s, peak_s, half_rise_s, fwhm_s, area : ndarray (N,)
        As in `BolusShapes`; `area` is the first-pass area in HU s.
    """

    shape: np.ndarray
    height_hu: np.ndarray
    mean_hu: np.ndarray
    length: np.ndarray
    onset_s: np.ndarray
    peak_s: np.ndarray
    half_rise_s: np.ndarray
    fwhm_s: np.ndarray
    area: np.ndarray


def fit_components(components: np.ndarray, shapes: BolusShapes, timing_from: np.ndarray | None = None) -> BolusFit:
    """Best shape of curves given by their components.

    Parameters
    ----------
    components : ndarray (m, N)
        ``shapes.basis @ curves``.
    shapes : BolusShapes
    timing_from : ndarray (m, N), optional
        Components from which the shape is chosen (a spatially filtered copy where single curves are too noisy to tell); the
        height is always that of `components`.
    """
    source = components if timing_from is None else timing_from
    count = components.shape[1]
    best = np.zeros(count, dtype=int)
    chunk = max(1, 1_000_000 // max(1, shapes.directions.shape[1]))
    for start in range(0, count, chunk):
        best[start : start + chunk] = np.argmax(source[:, start : start + chunk].T @ shapes.directions, axis=1)
    length = np.maximum(np.einsum("mn,mn->n", components, shapes.directions[:, best]), 0.0)
    height = length * shapes.height_per_length[best]
    return BolusFit(
        best,
        height,
        height * shapes.mean_per_height[best],
        length,
        shapes.onset_s[best],
        shapes.peak_s[best],
        shapes.half_rise_s[best],
        shapes.fwhm_s[best],
        height * shapes.area_s[best],
    )


def fit_curves(curves: np.ndarray, shapes: BolusShapes) -> BolusFit:
    """Best shape of each curve of an array (T, N), HU."""
    return fit_components(shapes.basis @ np.asarray(curves, dtype=np.float32), shapes)
