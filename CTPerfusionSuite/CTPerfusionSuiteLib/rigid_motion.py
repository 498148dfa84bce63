"""Rigid poses of the head, and how it moved during a dynamic scan.

A pose maps a point of the reference head to where that point lies in another image: ``x -> center + R (x - center) + t``,
positions and translations in LPS mm.  R is given by its rotation vector (axis times angle), which has no gimbal lock and no
order of axes to remember.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class RigidPose:
    """One rigid transform from the reference (fixed) image to another (moving) image.

    Attributes
    ----------
    translation_mm : ndarray (3,)
        LPS mm.
    rotation_deg : ndarray (3,)
        Rotation vector about LPS axes, degrees.
    center : ndarray (3,)
        LPS mm; the point that only translates.
    """

    translation_mm: np.ndarray
    rotation_deg: np.ndarray
    center: np.ndarray

    @property
    def matrix(self) -> np.ndarray:
        """(4, 4) matrix from reference LPS mm to LPS mm in the other image."""
        rotation = rotation_matrix(np.radians(self.rotation_deg))
        out = np.eye(4)
        out[:3, :3] = rotation
        out[:3, 3] = np.asarray(self.center) + self.translation_mm - rotation @ np.asarray(self.center)
        return out

    def __call__(self, points) -> np.ndarray:
        """Where reference points (..., 3) LPS mm lie in the other image."""
        matrix = self.matrix
        return np.asarray(points, float) @ matrix[:3, :3].T + matrix[:3, 3]


class MotionSummary(NamedTuple):
    """The motion of a whole series in three numbers."""

    max_mm: float
    max_degrees: float
    frames_dropped: int


@dataclass(frozen=True)
class Motion:
    """How the head moved, frame by frame and slab by slab (T frames, S slabs).

    Attributes
    ----------
    times : ndarray (T,)
        Seconds from the first frame, mean over slices.
    translations_mm : ndarray (T, S, 3)
        Displacement of the slab's center from its reference place, LPS mm.
    rotations_deg : ndarray (T, S, 3)
        Rotation vector about the slab's center, LPS axes, degrees.
    centers_lps : ndarray (S, 3)
        Center of each slab, LPS mm.
    slabs : ndarray (S,) of int
        The table position each column belongs to (values of `TimeSeries.slab_of_slice`).
    max_displacement_mm : ndarray (T, S)
        Largest displacement of any point of the head within the slab, mm.
    bad : ndarray (T, S) of bool
        Frames to drop: too far away, moved during the exposure, or impossible to align.
    mismatch : ndarray (T, S)
        What of the bone edges is left unexplained after alignment, as a fraction of their contrast (0 perfect, 1 unrelated).
    estimated : ndarray (S,) of bool
        False where a slab shows too little bone to tell motion; its poses are zero.
    reference_frames : tuple of tuple of int
        For each slab the frames whose mean is the reference.
    reference : str
        What the frames were compared with, in words.
    """

    times: np.ndarray
    translations_mm: np.ndarray
    rotations_deg: np.ndarray
    centers_lps: np.ndarray
    slabs: np.ndarray
    max_displacement_mm: np.ndarray
    bad: np.ndarray
    mismatch: np.ndarray
    estimated: np.ndarray
    reference_frames: tuple[tuple[int, ...], ...]
    reference: str

    def pose(self, frame: int, slab: int) -> RigidPose:
        """Pose of one frame of the slab in column `slab`."""
        return RigidPose(self.translations_mm[frame, slab], self.rotations_deg[frame, slab], self.centers_lps[slab])

    @property
    def moved(self) -> MotionSummary:
        """Largest displacement (mm) and rotation (degrees) among the frames that are kept, and how many frames are dropped."""
        kept = ~self.bad
        angles = np.linalg.norm(self.rotations_deg, axis=-1)
        return MotionSummary(float(self.max_displacement_mm[kept].max(initial=0.0)), float(angles[kept].max(initial=0.0)),
                             int(self.bad.any(axis=1).sum()))


def rotation_matrix(vector) -> np.ndarray:
    """(3, 3) rotation of a rotation vector (3,) in radians (Rodrigues' formula)."""
    vector = np.asarray(vector, float)
    angle = float(np.linalg.norm(vector))
    x, y, z = vector
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    if angle < 1e-8:
        return np.eye(3) + cross + 0.5 * cross @ cross
    return np.eye(3) + np.sin(angle) / angle * cross + (1.0 - np.cos(angle)) / angle**2 * cross @ cross


def rotation_vector(matrix) -> np.ndarray:
    """(3,) rotation vector in radians of a (3, 3) rotation by less than pi."""
    matrix = np.asarray(matrix, float)
    skew = 0.5 * np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
    sine = float(np.linalg.norm(skew))
    angle = np.arctan2(sine, 0.5 * (np.trace(matrix) - 1.0))
    return skew if sine < 1e-9 else skew * (angle / sine)
