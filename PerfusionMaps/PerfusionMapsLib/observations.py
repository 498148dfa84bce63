"""What the quality of a study is judged by: plain figures, measured by `study_observations` and judged by `quality_flags`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Observations:
    """What the pipeline measured about one study.  None (or an empty tuple) means not measured, and raises no flag.

    Attributes
    ----------
    baseline_frames : int or None
        Frames before the contrast arrives in the artery.
    baseline_s : float or None
        Their duration, seconds.
    scan_end_s : float or None
        Time of the last frame, seconds from the first.
    truncation_probability : float or None
        Of `truncation.truncation_score`.
    aif_peak_hu, aif_noise_hu : float or None
        Peak of the AIF above baseline as it was measured (before venous scaling), and the standard deviation of its baseline; HU.
    aif_peak_s, tissue_peak_s : float or None
        Times of the peak of the AIF and of the mean curve of all tissue, seconds.
    aif_arrival_s, tissue_arrival_s : float or None
        Arrival times of the same two curves, seconds.
    vof_tail_fraction : float or None
        End of the VOF relative to its peak.
    vof_truncated : bool
        The scan ends before the venous first pass is over.
    venous_scale : float or None
        Area of the VOF over area of the AIF (k_av).
    absolute_calibrated : bool
        Whether absolute CBF and CBV may be trusted.
    motion_mm, motion_deg : float or None
        Largest corrected displacement and rotation among the kept frames.
    lasting_motion_mm : float or None
        Mean over the kept frames of the largest displacement in the head, mm.
    frames, frames_dropped : int or None
        Frames of the series and those replaced by interpolation because of motion.
    motion_corrected : bool
        False when correction was switched off or impossible.
    sampling_median_s, sampling_max_s : float or None
        Median and largest time between kept frames from arterial arrival to the end of the first pass, seconds.
    coverage_mm : float or None
        Extent of the scanned volume along the slice normal, mm.
    tissue_ml : float or None
        Volume of brain tissue that was analyzed, mL.
    arrival_asymmetry_s : float or None
        Median arrival of normally perfused tissue, left minus right, seconds.
    edge_fraction : float or None
        Share of tissue whose posterior lies at the edge of its delay or MTT grid (0-1).
    noise_hu : float or None
        Median noise of a tissue voxel on the analysis grid before denoising, HU.
    starved_fraction : float or None
        Share of tissue with more than twice the median noise (0-1).
    reference_cbf : float or None
        Operator-scale CBF of the reference tissue, mL/100 g/min.
    tmax_error_s : float or None
        Standard error of Tmax due to the arterial input, seconds.
    hypoperfusion_error_ml, core_error_ml : float or None
        What the errors of Tmax and of relative flow that the arterial input leaves mean for the two volumes, mL (standard errors).
    notes : tuple of (code, message)
        What the readers and the steps noted (`TimeSeries.notes`).
    """

    baseline_frames: int | None = None
    baseline_s: float | None = None
    scan_end_s: float | None = None
    truncation_probability: float | None = None
    aif_peak_hu: float | None = None
    aif_noise_hu: float | None = None
    aif_peak_s: float | None = None
    tissue_peak_s: float | None = None
    aif_arrival_s: float | None = None
    tissue_arrival_s: float | None = None
    vof_tail_fraction: float | None = None
    vof_truncated: bool = False
    venous_scale: float | None = None
    absolute_calibrated: bool = True
    motion_mm: float | None = None
    motion_deg: float | None = None
    frames: int | None = None
    frames_dropped: int | None = None
    motion_corrected: bool = True
    lasting_motion_mm: float | None = None
    sampling_median_s: float | None = None
    sampling_max_s: float | None = None
    coverage_mm: float | None = None
    tissue_ml: float | None = None
    arrival_asymmetry_s: float | None = None
    edge_fraction: float | None = None
    noise_hu: float | None = None
    starved_fraction: float | None = None
    reference_cbf: float | None = None
    tmax_error_s: float | None = None
    hypoperfusion_error_ml: float | None = None
    core_error_ml: float | None = None
    notes: tuple[tuple[str, str], ...] = ()
