"""The data types every module shares: a grid in space, a volume on it, a series in time.

Arrays are (K, J, I), series (T, K, J, I); positions are LPS millimeters, so +x is the patient's left.
"""

from dataclasses import dataclass, field, replace

import numpy as np

VOXEL_MM = (0.01, 100.0)
"""Sizes of voxels that a file may give; others are no medical image, or in another unit."""


@dataclass(frozen=True)
class Geometry:
    """A regular grid in patient space.

    Attributes
    ----------
    size, spacing, origin : tuple of 3
        In (x, y, z) order: voxels along (I, J, K), their spacing in mm, and the LPS position in mm of the center of voxel (0, 0, 0).
    direction : tuple of 3 rows of 3
        Its columns are the unit vectors of the I, J and K axes in LPS.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

    def __post_init__(self):
        object.__setattr__(self, "size", tuple(int(n) for n in self.size))
        object.__setattr__(self, "spacing", tuple(float(s) for s in self.spacing))
        object.__setattr__(self, "origin", tuple(float(o) for o in self.origin))
        object.__setattr__(self, "direction", tuple(tuple(float(c) for c in row) for row in self.direction))
        if min(self.size) < 1 or min(self.spacing) <= 0:
            raise ValueError(f"a grid needs at least one voxel and positive spacing, got {self.size} and {self.spacing}")
        if not np.isfinite([*self.spacing, *self.origin, *np.ravel(self.direction)]).all():
            raise ValueError(f"a grid needs finite numbers, got {self.spacing}, {self.origin} and {self.direction}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Array shape (K, J, I)."""
        return self.size[::-1]

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in mL."""
        return float(np.prod(self.spacing)) / 1000.0

    @property
    def matrix(self) -> np.ndarray:
        """(4, 4) matrix from voxel index (i, j, k, 1) to LPS mm."""
        affine = np.eye(4)
        affine[:3, :3] = np.asarray(self.direction) * np.asarray(self.spacing)
        affine[:3, 3] = self.origin
        return affine

    def to_lps(self, ijk) -> np.ndarray:
        """LPS mm of voxel indices, both (..., 3)."""
        return np.asarray(ijk, dtype=float) @ self.matrix[:3, :3].T + np.asarray(self.origin)

    def to_index(self, lps) -> np.ndarray:
        """Continuous voxel indices (i, j, k) of LPS positions, both (..., 3)."""
        offset = np.asarray(lps, dtype=float) - np.asarray(self.origin)
        return offset @ np.linalg.inv(self.matrix[:3, :3]).T

    def close_to(self, other: "Geometry", tolerance_mm: float = 0.05) -> bool:
        """Whether both grids hold the same voxels: every corner within `tolerance_mm`."""
        if self.size != other.size:
            return False
        corners = np.array([[i, j, k] for i in (0, self.size[0]) for j in (0, self.size[1]) for k in (0, self.size[2])])
        return bool(np.abs(self.to_lps(corners) - other.to_lps(corners)).max() <= tolerance_mm)


@dataclass(frozen=True)
class Volume:
    """Values on a grid, with what they mean.

    Attributes
    ----------
    values : ndarray (K, J, I)
    geometry : Geometry
    quantity : str
        What is measured, for people ("cerebral blood flow").
    unit : str
        UCUM code ("mL/100.g/min" is written ``mL/min/(100.g)``, seconds ``s``, none ``1``).
    """

    values: np.ndarray
    geometry: Geometry
    quantity: str = ""
    unit: str = "1"

    def __post_init__(self):
        if self.values.shape != self.geometry.shape:
            raise ValueError(f"values {self.values.shape} do not fit the grid {self.geometry.shape}")


@dataclass(frozen=True)
class TimeSeries:
    """A dynamic CT acquisition.

    Attributes
    ----------
    values : ndarray (T, K, J, I)
        HU; int16 when every rescale slope is whole, else float32.
    geometry : Geometry
    times : ndarray (T,) or (T, K)
        Seconds from the first frame; one column a slice where slices are scanned at different times.
    time_source : str
        Where the times come from, in words.
    slabs : ndarray (K,) of int, or None
        Number of the table position of each slice; None when all were scanned at one position.
    notes : tuple of (code, message)
        What the reader did or met that a user should know (skipped files, tilt undone, other series present ...).
    header : dict
        A few harmless header fields for provenance and for writing DICOM (never a patient name).
    """

    values: np.ndarray
    geometry: Geometry
    times: np.ndarray
    time_source: str = "given"
    slabs: np.ndarray | None = None
    notes: tuple[tuple[str, str], ...] = ()
    header: dict = field(default_factory=dict)

    def __post_init__(self):
        times = np.asarray(self.times, dtype=float)
        object.__setattr__(self, "times", times)
        if self.values.ndim != 4 or self.values.shape[1:] != self.geometry.shape:
            raise ValueError(f"values {self.values.shape} do not fit the grid {self.geometry.shape}")
        if times.shape not in (self.values.shape[:1], self.values.shape[:2]):
            raise ValueError(f"times {times.shape} do not fit {self.values.shape[0]} frames of {self.values.shape[1]} slices")

    @property
    def slice_times(self) -> np.ndarray:
        """(T, K) seconds, a column a slice."""
        if self.times.ndim == 2:
            return self.times
        return np.broadcast_to(self.times[:, None], self.values.shape[:2])

    @property
    def slab_of_slice(self) -> np.ndarray:
        """(K,) table position of each slice; zeros when there is one."""
        return np.zeros(self.values.shape[1], int) if self.slabs is None else np.asarray(self.slabs, int)

    def with_values(self, values: np.ndarray) -> "TimeSeries":
        """The same acquisition with other pixel values."""
        return replace(self, values=values)
