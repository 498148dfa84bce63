"""The one operator from which Tmax and relative CBF are read, whatever engine made the curves.

The literature's thresholds, Tmax > 6 s and rCBF < 30 %, were set on maps of block-circulant SVD deconvolution, which smooths the
residue function and moves its maximum.  To keep their meaning, both are read from the residue of this single operator: input and
curve on a 0.5 s grid, zero-padded to twice the scan, singular values under 10 % of the largest cut off.  The matrix is circulant,
so its singular values are the moduli of the input's Fourier transform and no decomposition is needed.

References
----------
Wu O et al., Magn Reson Med 2003;50:164-174 (block-circulant deconvolution).
"""

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, rfft

TRUNCATION = 0.10
"""Singular values under this fraction of the largest are cut off."""


@dataclass(frozen=True)
class ThresholdOperator:
    """Linear map from curves on the operator's grid to their residue functions.

    Attributes
    ----------
    times : ndarray (N,)
        Evenly spaced grid of the curves, s.
    matrix : float32 ndarray (2 N, N)
        Takes curves above baseline (HU) to flow-scaled residues (1/s); row r is time ``r * step``, the second half negative times.
    """

    times: np.ndarray
    matrix: np.ndarray

    @property
    def step(self) -> float:
        return float(self.times[1] - self.times[0])


def threshold_operator(times, aif, truncation: float = TRUNCATION) -> ThresholdOperator:
    """Build the operator.

    Parameters
    ----------
    times : array_like (N,)
        Evenly spaced, seconds.
    aif : array_like (N,)
        Arterial input above baseline on `times`, HU.
    truncation : float
        Fraction of the largest singular value.
    """
    times = np.asarray(times, dtype=float)
    step = float(times[1] - times[0])
    length = 2 * times.size
    response = rfft(step * np.asarray(aif, dtype=float), length)
    magnitude = np.abs(response)
    keep = magnitude >= truncation * magnitude.max()
    inverse = np.where(keep, 1.0, 0.0) / np.where(keep, response, 1.0)
    impulse = irfft(inverse, length)
    rows = (np.arange(length)[:, None] - np.arange(times.size)[None, :]) % length
    return ThresholdOperator(times, impulse[rows].astype(np.float32))


def vertex(rows: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Height of the parabola through the samples of each row (n, L) around index `at` (n,), and its place relative to `at`, in samples.

    Rows are circular.
    """
    line = np.arange(rows.shape[0])
    before, middle, after = rows[line, at - 1], rows[line, at], rows[line, (at + 1) % rows.shape[1]]
    bend = before - 2.0 * middle + after
    offset = np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, -1.0), 0.0)
    return middle - 0.25 * (before - after) * offset, offset


def read_residue(residues: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Height (1/s) and time (s) of the maximum of residues (n, 2 N), by the parabola through three samples.

    Times in the second half of the circle are negative.
    """
    length = residues.shape[1]
    peak = np.argmax(residues, axis=1)
    height, offset = vertex(residues, peak)
    time = np.where(peak >= length // 2, peak - length, peak) + offset
    return np.maximum(height, 0.0).astype(np.float32), (time * step).astype(np.float32)
