"""How a volume is turned so that a radiologist can read it.

Pictures are radiological: the patient's left on the picture's right, anterior at the top, slices from inferior to superior.  A
volume is only transposed and flipped (closest patient axes, no resampling), so what is shown is what was computed.
"""

from itertools import permutations

import numpy as np

from CTPerfusionSuiteLib.volumes import Geometry


class RadiologicalView:
    """The view of one grid as (slice, row, column) = (superior, posterior, left), each index growing that way.

    Parameters
    ----------
    geometry : Geometry

    Attributes
    ----------
    spacing : tuple of 3 floats
        (slice, row, column) spacing in mm.
    shape : tuple of 3 ints
        (slices, rows, columns).
    obliquity_degrees : float
        Largest angle between a grid axis and the patient axis it is shown as.
    """

    def __init__(self, geometry: Geometry):
        self.geometry = geometry
        direction = np.asarray(geometry.direction)
        # Which grid axis (0 = I, 1 = J, 2 = K) is closest to x, y, z: the assignment with the largest total alignment, so that
        # even a strongly oblique grid uses each axis once.
        axes = max(permutations(range(3)), key=lambda order: sum(abs(direction[patient, order[patient]]) for patient in range(3)))
        self._grid_axes = axes[::-1]  # of (z, y, x)
        self._flipped = tuple(direction[patient, axes[patient]] < 0 for patient in (2, 1, 0))
        self.spacing = tuple(geometry.spacing[axis] for axis in self._grid_axes)
        self.shape = tuple(geometry.size[axis] for axis in self._grid_axes)
        cosines = [abs(direction[patient, axes[patient]]) / np.linalg.norm(direction[:, axes[patient]]) for patient in range(3)]
        self.obliquity_degrees = float(np.degrees(np.arccos(np.clip(min(cosines), -1.0, 1.0))))

    def apply(self, values: np.ndarray) -> np.ndarray:
        """The array (K, J, I) as (slice, row, column); a view, nothing is copied."""
        turned = np.transpose(values, [2 - axis for axis in self._grid_axes])
        return turned[tuple(slice(None, None, -1) if flip else slice(None) for flip in self._flipped)]

    def position(self, lps) -> np.ndarray:
        """Continuous (slice, row, column) of LPS positions in mm, both (..., 3)."""
        index = self.geometry.to_index(lps)
        shown = [
            self.geometry.size[axis] - 1 - index[..., axis] if flip else index[..., axis]
            for axis, flip in zip(self._grid_axes, self._flipped, strict=True)
        ]
        return np.stack(shown, axis=-1)

    @property
    def slice_positions_mm(self) -> np.ndarray:
        """(slices,) head-to-foot position of each slice's center, LPS z in mm (superior positive)."""
        index = np.tile((np.asarray(self.geometry.size) - 1) / 2.0, (self.shape[0], 1))
        slices = np.arange(self.shape[0])
        index[:, self._grid_axes[0]] = slices[::-1] if self._flipped[0] else slices
        return self.geometry.to_lps(index)[:, 2]
