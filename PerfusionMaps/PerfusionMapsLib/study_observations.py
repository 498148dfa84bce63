"""What the pipeline saw of one study, for the quality flags and the venous transit."""

import numpy as np

from CTPerfusionSuiteLib.rigid_motion import Motion
from CTPerfusionSuiteLib.volumes import TimeSeries

from .bolus_arrival import Bolus, noise_floor
from .bolus_shapes import bolus_shapes, fit_curves
from .input_functions import InputFunction
from .lesions import LEFT, NORMAL_TMAX_S, RIGHT, Lesions
from .observations import Observations
from .perfusion_metrics import VenousTransit
from .residue_dictionary import DELAY_S, MEAN_TRANSIT_S
from .truncation import truncation_score
from .venous_sinuses import VenousSinuses
from .volume_errors import lasting_motion_mm, volume_errors_ml

FIRST_PASS_S = 20.0
"""From arterial arrival to the end of the first pass through tissue, seconds."""


def observations(
    grid: TimeSeries,
    bolus: Bolus,
    vessels,
    motion: Motion | None,
    mean_tissue: InputFunction,
    tissue: np.ndarray,
    hemisphere: np.ndarray,
    maps: dict[str, np.ndarray],
    found: Lesions,
    notes=(),
) -> Observations:
    """Everything `quality_flags` judges, measured on the analysis grid.

    Parameters
    ----------
    grid : TimeSeries
        Motion corrected.
    bolus : Bolus
    vessels : PerfusionMapsLib.pipeline.Vessels
    motion : Motion or None
    mean_tissue : InputFunction
        From `tissue_curve`.
    tissue : ndarray (K, J, I) of bool
    hemisphere : ndarray (K, J, I) of uint8
        1 left, 2 right.
    maps : dict of str -> ndarray (K, J, I)
        ``tmax``, ``delay`` and ``mtt`` in seconds, ``rcbf``.
    found : Lesions
    notes : sequence of (code, message)
        Of the reader.
    """
    times = grid.slice_times
    frame_times = times.mean(axis=1)
    scan_end = float(times.max())
    aif, vof = vessels.measured_aif, vessels.vof
    timing = {name: _timing(curve) for name, curve in (("aif", aif), ("tissue", mean_tissue))}
    kept = frame_times
    if motion is not None:
        whole = ~np.asarray(motion.bad, bool).any(axis=1)
        kept = frame_times[whole] if whole.sum() > 2 else frame_times
    passing = np.diff(kept)[(kept[1:] >= bolus.arrival_s) & (kept[:-1] <= bolus.arrival_s + FIRST_PASS_S)]
    noise = noise_floor(grid, bolus)[tissue]
    normal = found.tissue & (maps["tmax"] <= NORMAL_TMAX_S)
    sides = [maps["delay"][normal & (hemisphere == side)] for side in (LEFT, RIGHT)]
    moved = motion.moved if motion is not None else None
    error = vessels.input_error
    errors_ml = (None, None) if error is None else volume_errors_ml(maps, found, error.tmax_s, error.flow)
    return Observations(
        baseline_frames=len(bolus.baseline_frames),
        baseline_s=float(np.ptp(frame_times[list(bolus.baseline_frames)])),
        scan_end_s=scan_end,
        truncation_probability=truncation_score(vessels.aif, vof, scan_end, mean_tissue),
        aif_peak_hu=aif.peak_hu,
        aif_noise_hu=curve_noise(aif),
        aif_peak_s=timing["aif"][1],
        tissue_peak_s=timing["tissue"][1],
        aif_arrival_s=timing["aif"][0],
        tissue_arrival_s=timing["tissue"][0],
        vof_tail_fraction=float(np.mean(vof.hu[-3:]) / max(vof.peak_hu, 1e-6)) if vof else None,
        vof_truncated=vessels.scaling.truncated,
        venous_scale=vessels.scaling.factor if vessels.scaling.used else None,
        absolute_calibrated=vessels.scaling.absolute_calibrated,
        motion_mm=moved.max_mm if moved else None,
        motion_deg=moved.max_degrees if moved else None,
        frames=len(times),
        frames_dropped=moved.frames_dropped if moved else None,
        motion_corrected=motion is not None,
        lasting_motion_mm=lasting_motion_mm(motion),
        sampling_median_s=float(np.median(passing)) if passing.size else None,
        sampling_max_s=float(passing.max()) if passing.size else None,
        coverage_mm=grid.geometry.size[2] * grid.geometry.spacing[2],
        tissue_ml=float(np.count_nonzero(tissue)) * grid.geometry.voxel_volume_ml,
        arrival_asymmetry_s=float(np.median(sides[0]) - np.median(sides[1])) if min(map(len, sides)) > 100 else None,
        edge_fraction=edge_fraction(maps, tissue),
        noise_hu=float(np.median(noise)) if noise.size else None,
        starved_fraction=float(np.mean(noise > 2.0 * np.median(noise))) if noise.size else None,
        reference_cbf=found.reference.flow,
        tmax_error_s=None if error is None else error.tmax_s,
        hypoperfusion_error_ml=errors_ml[0],
        core_error_ml=errors_ml[1],
        notes=tuple(notes),
    )


def venous_transit(vessels, sinuses: VenousSinuses, tmax: np.ndarray) -> VenousTransit:
    """Median Tmax in the superior sagittal sinus and the torcula, and how much later the vein peaks than the artery."""
    if vessels.vof is None:
        return VenousTransit()
    lag = _timing(vessels.vof)[1] - _timing(vessels.measured_aif)[1]
    medians = [None if part is None else float(np.median(tmax[part])) for part in (sinuses.superior_sagittal, sinuses.torcula)]
    return VenousTransit(*medians, float(lag), vessels.scaling.truncated)


def tissue_curve(grid: TimeSeries, tissue: np.ndarray, bolus: Bolus) -> InputFunction:
    """Mean enhancement of the tissue, HU above the frames before the bolus."""
    inside = np.flatnonzero(tissue)
    hu = np.array([frame.reshape(-1)[inside].mean(dtype=np.float64) for frame in grid.values])
    weights = tissue.sum(axis=(1, 2))
    times = np.average(grid.slice_times, axis=1, weights=weights) if weights.any() else grid.slice_times.mean(axis=1)
    return InputFunction(times, hu - hu[list(bolus.baseline_frames)].mean())


def curve_noise(curve: InputFunction) -> float:
    """Standard deviation of one sample of a vessel curve, HU, from second differences (6 sigma^2 for white noise) outside the peak."""
    bend = np.diff(curve.hu, 2)
    quiet = np.abs(curve.hu[1:-1]) < 0.35 * curve.peak_hu
    bend = bend[quiet] if quiet.sum() >= 5 else bend
    return float(1.4826 * np.median(np.abs(bend)) / np.sqrt(6.0))


def edge_fraction(maps: dict[str, np.ndarray], tissue: np.ndarray) -> float:
    """Share of tissue whose delay or MTT lies at the edge of the grid it was looked for on (0-1)."""
    delay, mtt = maps["delay"][tissue], maps["mtt"][tissue]
    edge = (delay >= DELAY_S[-1] - 0.5) | (delay <= DELAY_S[0] + 0.25) | (mtt >= 0.95 * MEAN_TRANSIT_S[-1])
    return float(edge.mean()) if edge.size else 0.0


def _timing(curve: InputFunction) -> tuple[float, float]:
    """Arrival and peak of a curve, seconds, from the first-pass shape that fits it best."""
    fit = fit_curves((curve.hu - curve.hu.mean())[:, None], bolus_shapes(curve.times))
    return float(fit.onset_s[0]), float(fit.peak_s[0])
