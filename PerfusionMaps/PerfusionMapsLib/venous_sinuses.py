"""Superior sagittal sinus and torcula, grown from the venous output along the posterior midline (for prolonged venous transit)."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from CTPerfusionSuiteLib.volumes import TimeSeries

from .bolus_arrival import Bolus
from .brain_mask import center_lps
from .input_functions import InputFunction
from .midsagittal_plane import MidsagittalPlane
from .tissue_classes import Enhancement, summarize_enhancement
from .vessel_candidates import depth_mm

MIDLINE_MM = 9.0
WALL_MM = 14.0
BRIGHT_SHARE = 0.4
EARLIER_THAN_VEIN_S = 3.0
TRANSVERSE_MM = (14.0, 45.0)
TORCULA_HALF_HEIGHT_MM = 8.0
SMALLEST_ML = 0.05


@dataclass(frozen=True)
class VenousSinuses:
    """Where the large midline sinuses are.

    Attributes
    ----------
    superior_sagittal, torcula : ndarray of bool (K, J, I), or None
        None when the sinus is not covered or its curve is truncated.
    superior_sagittal_status, torcula_status : str
        "found", "not covered" or "truncated".
    """

    superior_sagittal: np.ndarray | None
    torcula: np.ndarray | None
    superior_sagittal_status: str
    torcula_status: str


def find_sinuses(
    series: TimeSeries,
    bolus: Bolus,
    vof: InputFunction | None,
    plane: MidsagittalPlane,
    intracranial: np.ndarray,
    truncated: bool = False,
    enhancement: Enhancement | None = None,
) -> VenousSinuses:
    """Regions of the superior sagittal sinus and of the torcula.

    Voxels that enhance at least 0.4 times as much as the venous output and not earlier, near the midline and the inner table, are
    joined to the venous output (or to the brightest of them where that lies elsewhere).  Where transverse sinuses leave to the sides,
    the level is that of the torcula, and the sagittal sinus lies above it.

    Parameters
    ----------
    series : TimeSeries
    bolus : Bolus
    vof : InputFunction or None
        The venous output with its voxels.
    plane : MidsagittalPlane
    intracranial : ndarray of bool (K, J, I)
        From `brain_mask.intracranial_space`.
    truncated : bool
        Whether the venous curve is truncated (`venous_output.VeinScaling.truncated`): a Tmax of it would mean nothing.
    enhancement : Enhancement, optional
        From `tissue_classes.summarize_enhancement`, to save a pass over the series.
    """
    if vof is None:
        return VenousSinuses(None, None, "not covered", "not covered")
    if truncated:
        return VenousSinuses(None, None, "truncated", "truncated")
    enhancement = summarize_enhancement(series, bolus) if enhancement is None else enhancement
    geometry = series.geometry
    away = plane.distance_map(geometry)
    bright = _bright(enhancement, vof, intracranial)
    center = center_lps(intracranial, geometry)
    posterior = _coordinate(geometry, 1) > center[1]
    height = _coordinate(geometry, 2)
    near_wall = depth_mm(intracranial, series) <= WALL_MM
    # Over the vertex the sinus runs within the slice, far from the outline's nearest point at the back but still at the inner table.
    midline = bright & (np.abs(away) <= MIDLINE_MM) & near_wall & (posterior | (height > center[2]))
    grown = _grown(midline, vof, enhancement)
    if grown is None or np.count_nonzero(grown) * geometry.voxel_volume_ml < SMALLEST_ML:
        return VenousSinuses(None, None, "not covered", "not covered")
    level = _transverse_level(bright & near_wall & posterior, away, height, grown)
    if level is None:
        return VenousSinuses(grown, None, "found", "not covered")
    torcula = grown & posterior & (np.abs(height - level) <= TORCULA_HALF_HEIGHT_MM)
    sagittal = grown & ~torcula & (height > level)
    found = [region if np.count_nonzero(region) * geometry.voxel_volume_ml >= SMALLEST_ML else None for region in (sagittal, torcula)]
    return VenousSinuses(*found, *("not covered" if region is None else "found" for region in found))


def _bright(enhancement: Enhancement, vof: InputFunction, intracranial: np.ndarray) -> np.ndarray:
    """Intracranial voxels enhancing much and not early."""
    if len(vof.voxels):
        level = float(np.median(enhancement.area[tuple(vof.voxels[:, ::-1].T)]))
        peak_s = float(np.median(enhancement.peak_s[tuple(vof.voxels[:, ::-1].T)]))
    else:
        level, peak_s = float(np.trapezoid(vof.hu, vof.times)), vof.peak_time_s
    return intracranial & (enhancement.area >= BRIGHT_SHARE * level) & (enhancement.peak_s >= peak_s - EARLIER_THAN_VEIN_S)


def _coordinate(geometry, axis: int) -> np.ndarray:
    """One LPS coordinate of every voxel, mm, as an array that broadcasts to (K, J, I)."""
    row = geometry.matrix[axis]
    i, j, k = (np.arange(n) * step for n, step in zip(geometry.size, row[:3], strict=True))
    return row[3] + k[:, None, None] + j[None, :, None] + i[None, None, :]


def _grown(midline: np.ndarray, vof: InputFunction, enhancement: Enhancement) -> np.ndarray | None:
    """The connected part of `midline` that holds the venous output, else the one that enhances most."""
    labels, count = ndimage.label(midline, structure=np.ones((3, 3, 3)))
    if count == 0:
        return None
    held = labels[tuple(vof.voxels[:, ::-1].T)] if len(vof.voxels) else np.zeros(0, int)
    held = held[held > 0]
    if held.size:
        # Slices of several millimeters can part the sinus; every part as bright counts if it is not a speck.
        chosen = {int(np.bincount(held).argmax())}
    else:
        total = np.bincount(labels.ravel(), np.where(midline, enhancement.area, 0.0).ravel())
        total[0] = -np.inf
        chosen = {int(np.argmax(total))}
    sizes = np.bincount(labels.ravel())
    largest = max(sizes[label] for label in chosen)
    chosen |= {label for label in range(1, count + 1) if sizes[label] >= max(4, 0.2 * largest)}
    return np.isin(labels, list(chosen))


def _transverse_level(bright: np.ndarray, away: np.ndarray, height: np.ndarray, grown: np.ndarray) -> float | None:
    """Height (LPS z, mm) at which sinuses leave the midline to either side; None when no slice shows them."""
    lateral = bright & (np.abs(away) >= TRANSVERSE_MM[0]) & (np.abs(away) <= TRANSVERSE_MM[1])
    count = lateral.sum(axis=(1, 2))
    level = np.broadcast_to(height, lateral.shape).mean(axis=(1, 2))
    if count.max() < 6:
        return None
    levels = level[(count >= 0.5 * count.max()) & grown.any(axis=(1, 2))]
    return float(np.mean(levels)) if levels.size else None
