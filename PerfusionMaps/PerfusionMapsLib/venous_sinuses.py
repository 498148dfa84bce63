"""The superior sagittal sinus and the torcula, grown from the venous curve along the posterior midline."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from CTPerfusionSuiteLib.volumes import TimeSeries

from .bolus_arrival import Bolus
from .input_functions import InputFunction
from .midsagittal_plane import MidsagittalPlane

MIDLINE_MM = 9.0
"""Half width of the strip about the midsagittal plane that holds both sinuses."""
CORRELATION = 0.7
AREA_SHARE = 0.35
"""Least enhancement of a sinus voxel as a share of the VOF's (partial volume with bone and brain)."""
LATERAL_MM = (15.0, 45.0)
"""Where a transverse sinus lies beside the midline at the height of the torcula."""
TORCULA_MM = 10.0
"""Height above the highest transverse sinus that still counts as torcula."""
SMALLEST_VOXELS = 4


@dataclass(frozen=True)
class VenousSinuses:
    """Bool masks (K, J, I); None where the scan does not cover the sinus."""

    sagittal: np.ndarray | None
    torcula: np.ndarray | None

    def region(self, shape: tuple[int, int, int]) -> np.ndarray:
        """Both together, bool of `shape`."""
        both = np.zeros(shape, bool)
        for part in (self.sagittal, self.torcula):
            if part is not None:
                both |= part
        return both


def find_sinuses(
    series: TimeSeries, bolus: Bolus, vof: InputFunction, plane: MidsagittalPlane, brain: np.ndarray, space: np.ndarray
) -> VenousSinuses:
    """Regions with the venous curve at the posterior midline.

    Parameters
    ----------
    series : TimeSeries
        The analysis grid, motion corrected.
    bolus : Bolus
    vof : InputFunction
    plane : MidsagittalPlane
    brain, space : ndarray (K, J, I) of bool
        Brain mask, and the wider intracranial space that holds the sinuses.

    Notes
    -----
    The torcula is where the transverse sinuses leave the midline: slices with venous voxels on a side behind the brain's center, and
    up to 10 mm above; the sagittal sinus is the rest above it.
    """
    venous = _venous_voxels(series, vof, space)
    geometry = series.geometry
    distance = plane.distance_map(geometry)
    center = geometry.to_lps(np.argwhere(brain)[:, ::-1]).mean(axis=0)
    k, j, i = (np.arange(n, dtype=float) for n in geometry.shape)
    rows = geometry.matrix
    y = rows[1, 3] + k[:, None, None] * rows[1, 2] + j[None, :, None] * rows[1, 1] + i[None, None, :] * rows[1, 0]
    z = rows[2, 3] + k[:, None, None] * rows[2, 2] + j[None, :, None] * rows[2, 1] + i[None, None, :] * rows[2, 0]
    depth = ndimage.distance_transform_edt(space, sampling=geometry.spacing[::-1]) if space.any() else np.zeros(geometry.shape)
    behind = y > center[1]
    midline = venous & behind & (np.abs(distance) < MIDLINE_MM) & (depth < 14.0)
    midline = _seen_with(midline, vof, geometry)
    if np.count_nonzero(midline) < SMALLEST_VOXELS:
        return VenousSinuses(None, None)
    beside = venous & behind & (np.abs(distance) > LATERAL_MM[0]) & (np.abs(distance) < LATERAL_MM[1]) & (depth < 10.0)
    wide = [np.count_nonzero(beside[s]) for s in range(geometry.shape[0])]
    transverse = [s for s in range(geometry.shape[0]) if wide[s] >= max(SMALLEST_VOXELS, 0.5 * max(wide))] if max(wide) >= SMALLEST_VOXELS else []
    torcula = np.zeros_like(midline)
    if transverse:
        top = max(float(z[s].mean()) for s in transverse)
        torcula = midline & (z <= top + TORCULA_MM)
    sagittal = midline & ~torcula
    return VenousSinuses(*(part if np.count_nonzero(part) >= SMALLEST_VOXELS else None for part in (sagittal, torcula)))


def _venous_voxels(series: TimeSeries, vof: InputFunction, space: np.ndarray) -> np.ndarray:
    """Voxels whose curve resembles the VOF in shape and comes near it in size, bool (K, J, I)."""
    found = np.zeros(space.shape, bool)
    for k in np.flatnonzero(space.any(axis=(1, 2))):
        times = series.slice_times[:, k]
        shape = np.interp(times, vof.times, vof.hu)
        shape = (shape - shape.mean()).astype(np.float32)
        energy = float(shape @ shape)
        inside = np.flatnonzero(space[k])
        curves = series.values[:, k].reshape(len(times), -1)[:, inside].astype(np.float32)
        curves -= curves.mean(axis=0)
        product = shape @ curves
        norm = np.sqrt(np.maximum(np.einsum("tn,tn->n", curves, curves), 1e-6) * energy)
        found[k].reshape(-1)[inside] = (product / norm > CORRELATION) & (product / energy > AREA_SHARE)
    return found


def _seen_with(mask: np.ndarray, vof: InputFunction, geometry) -> np.ndarray:
    """The connected parts of a mask that hold a voxel of the VOF, or all of it when none does (a given curve)."""
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if not count or not len(vof.lps):
        return mask
    voxels = np.rint(geometry.to_index(vof.lps)).astype(int)
    inside = np.all((voxels >= 0) & (voxels < np.array(geometry.size)), axis=1)
    hit = {int(labels[k, j, i]) for i, j, k in voxels[inside]} - {0}
    return np.isin(labels, list(hit)) if hit else mask
