"""Random brain studies for robustness tests: boluses, noise, motion, placement, side and header style drawn from one seed."""

from dataclasses import dataclass, field, replace

import numpy as np

from CTPerfusionSuiteLib.phantoms import bolus as boluses
from CTPerfusionSuiteLib.phantoms.acquisition_geometry import shuttle_timing
from CTPerfusionSuiteLib.phantoms.brain_options import BrainOptions

RANDOM_STYLES = ("siemens", "ge", "philips", "canon", "shuttle", "enhanced")
SMALLEST_LUMEN_PEAK_HU = 170.0
"""An injection that enhances the lumen less than this is not a perfusion study."""


@dataclass(frozen=True)
class RandomCase:
    """A drawn study and how it is written.

    Attributes
    ----------
    options : BrainOptions
    style : str
        DICOM header style.
    gantry_tilt_deg : float
        For the DICOM writer.
    uneven : bool
        Uneven slice spacing, for the DICOM writer.
    traits : tuple of str
        What is special about the case, in words.
    """

    options: BrainOptions
    style: str = "siemens"
    gantry_tilt_deg: float = 0.0
    uneven: bool = False
    traits: tuple[str, ...] = field(default_factory=tuple)


def head_motion(rng: np.random.Generator, frames: int, drift_mm: float = 0.0, jolts: int = 0, jolt_mm: float = 3.0) -> np.ndarray:
    """Poses (T, 6), mm and degrees: a slow drift that starts after the baseline, and frames that a jolt moves away and back."""
    motion = np.zeros((frames, 6))
    start = min(5, frames // 4)
    if drift_mm > 0:
        path = np.cumsum(rng.normal(0.0, 1.0, (frames, 6)), axis=0)
        path -= path[start]
        path[:start] = 0.0
        motion += drift_mm * path / max(np.abs(path).max(), 1e-9)
    for frame in rng.choice(np.arange(start + 2, frames), size=min(jolts, max(frames - start - 2, 0)), replace=False):
        motion[frame] += rng.uniform(-1.0, 1.0, 6) * jolt_mm
    return motion


def shuttle_times(options: BrainOptions) -> BrainOptions:
    """The options with the times and table positions of a scan whose table moves to and fro."""
    frames = options.slice_times[:, 0]
    times, slabs = shuttle_timing(frames, options.slices)
    return replace(options, times=times, slabs=slabs)


def random_case(seed: int, **fixed) -> RandomCase:
    """Draw a study; `fixed` replaces fields of the drawn `BrainOptions` (size, slices, noise_hu ...)."""
    rng = np.random.default_rng([seed, 60])
    percentile = rng.uniform(3.0, 97.0)
    aif_peak = float(np.exp(np.interp(percentile, (3.0, *boluses.PERCENTILES, 97.0), np.log((16.0, *boluses.AIF_PEAK_HU, 400.0)))))
    # Strong injections make both curves strong; the rest of an arterial deficit is partial volume.
    venous = boluses.at_percentile(boluses.VOF_PEAK_HU, 0.5 * percentile + 0.5 * rng.uniform(5.0, 95.0))
    lumen = max(venous / 0.8, SMALLEST_LUMEN_PEAK_HU, aif_peak / 0.92)
    traits = [f"AIF peak {aif_peak:.0f} HU"]
    dt = float(rng.choice([1.0, 1.5, 2.0]))
    bolus = boluses.sample_bolus(rng, lumen)
    length = min(max(55.0, bolus.peak_time_s + 38.0), 75.0)
    frames = int(np.ceil(length / dt)) + 1
    motion = None
    kind = rng.choice(["still", "drift", "jolts", "both"], p=[0.4, 0.3, 0.15, 0.15])
    if kind != "still":
        motion = head_motion(
            rng, frames, rng.uniform(0.5, 3.0) if kind in ("drift", "both") else 0.0, int(rng.integers(1, 4)) if kind != "drift" else 0
        )
        traits.append(f"motion: {kind}")
    occlusion = str(rng.choice(["M1", "M2", "ICA-T", "PCA", "ACA"], p=[0.55, 0.18, 0.12, 0.08, 0.07]))
    side = str(rng.choice(["left", "right"]))
    options = BrainOptions(
        frames=frames,
        dt_s=dt,
        noise_hu=float(rng.uniform(3.0, 6.0)),
        noise_kernel=str(rng.choice(["white", "soft", "sharp"])),
        seed=seed,
        side=side,
        occlusion=occlusion,
        collaterals=str(rng.choice(["good", "moderate", "poor"])),
        residue=str(rng.choice(["exponential", "gamma", "near-box", "lognormal"], p=[0.5, 0.2, 0.15, 0.15])),
        dispersion=float(rng.choice([0.0, 0.2])),
        aif_peak_hu=aif_peak,
        arterial_peak_hu=lumen,
        bolus=bolus,
        motion=motion,
        rotation_deg=tuple(float(v) for v in rng.normal(0.0, (4.0, 3.0, 4.0))),
        shift_mm=tuple(float(v) for v in rng.normal(0.0, (3.0, 3.0, 1.0))),
        white_matter_disease=bool(rng.random() < 0.25),
        chronic_infarct=bool(rng.random() < 0.10),
        carotid_stenosis=({"left": "right", "right": "left"}[side] if rng.random() < 0.08 else None),
        stenosis_delay_s=float(rng.uniform(1.5, 2.2)),
    )
    style = str(rng.choice(RANDOM_STYLES))
    tilt = float(rng.choice([0.0, 0.0, 0.0, rng.uniform(5.0, 20.0)]))
    uneven = bool(rng.random() < 0.1)
    if fixed:
        options = replace(options, **fixed)
    if style == "shuttle":
        options = shuttle_times(options)
    traits += [style] + (["gantry tilt"] if tilt else []) + (["uneven spacing"] if uneven else [])
    return RandomCase(options, style, tilt, uneven, tuple(traits))


def random_options(seed: int, **fixed) -> BrainOptions:
    """The options of `random_case`, for use in memory."""
    return random_case(seed, **fixed).options
