"""Arterial input function and venous output function as the engine and the report use them."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class InputFunction:
    """An enhancement curve in a vessel.

    Attributes
    ----------
    times : ndarray (M,)
        Seconds on the series' own axis (t = 0 is its first frame).
    hu : ndarray (M,)
        HU above baseline.
    voxels : ndarray (V, 3) of int
        Voxels (i, j, k) it was averaged over, on the grid it was read from; empty for a given curve.
    lps : ndarray (V, 3)
        Their positions, LPS mm.
    source : str
        "automatic", "csv", "mask", "voxel" or "position".
    score : float
        Rank among automatic candidates, higher is better; nan when given.
    """

    times: np.ndarray
    hu: np.ndarray
    voxels: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), int))
    lps: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    source: str = "automatic"
    score: float = float("nan")

    @property
    def peak_hu(self) -> float:
        return float(np.max(self.hu))

    @property
    def peak_time_s(self) -> float:
        return float(self.times[int(np.argmax(self.hu))])
