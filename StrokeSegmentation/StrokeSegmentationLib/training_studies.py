"""Random studies to train and test on: everything that differs between patients, scanners and protocols is drawn anew each time.

Heads, lesions and physics come from `CTPerfusionSuiteLib.phantoms`.  The shifted family is another simulator on purpose: residue
functions, arterial curves and noise that no training study has.  Training studies vary more widely than those for validation and
test: what is wide enough to hold a clinic's scans need not be what two methods are compared on.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import erfcx

from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.phantoms import bolus as boluses
from CTPerfusionSuiteLib.phantoms.acquisition_geometry import shuttle_timing
from CTPerfusionSuiteLib.phantoms.brain_options import BrainOptions
from CTPerfusionSuiteLib.phantoms.random_brains import SMALLEST_LUMEN_PEAK_HU, head_motion

from .study_sources import BUILT_IN, BUILT_IN_SOURCES, StudySources, lesion_name, lesion_volume_ml

STEP_S, FRAMES = (0.8, 3.0), (20, 60)
NOISE_HU, TRAINING_NOISE_HU = (3.0, 20.0), (3.0, 22.0)
LEAST_AIF_OVER_NOISE = 3.5
"""Arteries fainter than this against the noise of one voxel are found by nobody; such a study trains nothing."""
FINE_MM = 1.2
SLICE_MM = 5.0
"""Training studies of thinner slices have as many more of them."""
LVO_OCCLUSIONS = ("M1", "ICA-T")
LVO_LESION_ML, SMALL_LESION_ML = (12.0, 250.0), (0.4, 12.0)
TRAINING_PIXEL_MM, TRAINING_SLICE_MM = (1.5, 3.0), (3.5, 10.0)
"""Networks see finer scans averaged to about these sizes (`voxel_blocks`)."""
RESIDUES = {
    "training": ("exponential", "wide-gamma", "gamma", "narrow-gamma", "linear"),
    "standard": ("exponential", "gamma", "linear"),
    "shifted": ("near-box", "lognormal"),
}
NOISE_KERNELS = {"standard": ("white", "soft"), "shifted": ("sharp",)}
LESION_TRIES = 12


@dataclass(frozen=True)
class LaggedNormalBolus:
    """A normal curve passed through a well mixed chamber, with a washed-in plateau: the shifted family's arterial curve.

    Reference: Bassingthwaighte JB et al., Circ Res 1966;18:398-415.

    Attributes
    ----------
    center, width, lag : float
        Mean and standard deviation of the normal curve and time constant of the chamber, seconds.
    peak : float
        HU above baseline at the maximum.
    plateau : float
        Height of the mixed contrast as a fraction of the peak.
    """

    center: float
    width: float
    lag: float
    peak: float = 400.0
    plateau: float = 0.15

    def _raw(self, times):
        past = (times - self.center) / self.width
        # exp(-t/lag) convolved with the normal curve, in the form that neither over- nor underflows.
        argument = (self.width / self.lag - past) / np.sqrt(2.0)
        first = np.exp(-0.5 * past**2) * erfcx(np.clip(argument, -20.0, None))
        return np.where(times > 0, first, 0.0)

    def __call__(self, times) -> np.ndarray:
        """HU above baseline at `times` (seconds, any shape)."""
        dense = np.linspace(0.0, self.center + 8.0 * (self.width + self.lag), 3001)
        first = self._raw(dense)
        mixed = np.cumsum(first) / first.sum()
        whole = first / first.max() + self.plateau * mixed
        return self.peak / whole.max() * np.interp(times, dense, whole)


@dataclass(frozen=True, eq=False)
class DrawnStudy:
    """A study to simulate.

    Attributes
    ----------
    options : BrainOptions
        Without noise.
    noise_hu : tuple of float
        The same head is scanned once at each.
    noise_kernel : str
    wanted : str
        "lvo", "non-lvo" or "none".
    split, family : str
        Family is "standard" or "shifted".
    anatomy, lesion : str
        Names; "built-in" where no file was used, "" for no lesion.
    traits : tuple of str
        What is special, in words.
    """

    options: BrainOptions
    noise_hu: tuple[float, ...]
    noise_kernel: str
    wanted: str
    split: str
    family: str
    anatomy: str
    lesion: str
    traits: tuple[str, ...]


def draw_study(
    seed,
    split: str,
    wanted: str,
    sources: StudySources = BUILT_IN_SOURCES,
    noise_hu: tuple[float, ...] | None = None,
    size: tuple[int, int] = (96, 96),
    slices: int = 8,
    levels: int = 1,
) -> DrawnStudy:
    """Draw a study.

    Parameters
    ----------
    seed : int or sequence of int
    split : str
        "train", "val", "test" or "shifted"; heads and lesions are those of the split.
    wanted : str
        "lvo", "non-lvo" or "none".
    sources : StudySources
    noise_hu : tuple of float, optional
        Noise levels; default `levels` of them, uniform in the logarithm from 3 to 20 HU (training: 22).
    size, slices
        Of the scan; pixels measure 1.8 to 2.6 mm at 96 x 96.  Training studies show the same field with other voxels.
    """
    rng = np.random.default_rng(seed)
    family = "shifted" if split == "shifted" else "standard"
    training = split == "train"
    traits: list[str] = []
    if noise_hu is None:
        noise_hu = tuple(float(v) for v in np.exp(rng.uniform(*np.log(TRAINING_NOISE_HU if training else NOISE_HU), levels)))
    bolus, aif_peak, lumen, peak_time = draw_bolus(rng, family, max(noise_hu), training)
    slice_mm = float(rng.uniform(*TRAINING_SLICE_MM)) if training else None
    if training and slice_mm < SLICE_MM:
        slices = round(slices * SLICE_MM / slice_mm)
    times, slabs, kept_s = draw_protocol(rng, peak_time, slices, traits)
    anatomy, head = draw_head(rng, split, sources)
    lesion, lesion_options = draw_lesion(rng, split, wanted, sources)
    fov = float(rng.uniform(172.0, 245.0)) if anatomy is None else float(rng.uniform(185.0, 245.0))
    fov *= min(max(size) / 96.0, 1.0)
    if training:
        pixel_mm = np.exp(rng.uniform(*np.log(TRAINING_PIXEL_MM)))
        size = tuple(4 * round(n * fov / max(size) / pixel_mm / 4) for n in size)
    else:
        slice_mm = float(rng.choice([5.0, 5.0, 6.0, 8.0, 10.0]))
    side = str(rng.choice(["left", "right"]))
    stenosis_share = 0.35 if wanted == "none" else 0.12
    stenosis = str(rng.choice(["left", "right"])) if rng.random() < stenosis_share else None
    options = BrainOptions(
        size=size,
        slices=slices,
        fov_mm=fov,
        slice_mm=slice_mm,
        times=times,
        slabs=slabs,
        bottom_mm=None if rng.random() < 0.7 else float(rng.uniform(-24.0, -8.0)),
        fine_mm=FINE_MM,
        noise_hu=0.0,
        seed=int(rng.integers(2**31)),
        side=side,
        collaterals=str(rng.choice(["good", "moderate", "poor"])),
        texture=float(rng.uniform(0.08, 0.20)),
        residue=str(rng.choice(RESIDUES["training" if training else family])),
        dispersion=float(rng.choice([0.0, rng.uniform(0.0, 0.35)])),
        aif_peak_hu=aif_peak,
        arterial_peak_hu=lumen,
        bolus=bolus,
        truncate_s=kept_s,
        motion=draw_motion(rng, len(times), traits),
        rotation_deg=tuple(float(v) for v in rng.normal(0.0, (4.0, 3.0, 4.0))),
        shift_mm=tuple(float(v) for v in rng.normal(0.0, (3.0, 3.0, 1.0))),
        carotid_stenosis=stenosis,
        stenosis_delay_s=float(rng.uniform(1.0, 2.4)),
        chronic_infarct=bool(rng.random() < 0.15),
        white_matter_disease=bool(rng.random() < 0.3),
        anatomy=anatomy,
        **lesion_options,
    )
    for name, there in (
        ("chronic infarct", options.chronic_infarct), ("leukoaraiosis", options.white_matter_disease), ("carotid stenosis", stenosis),
    ):
        if there:
            traits.append(name)
    return DrawnStudy(options, noise_hu, str(rng.choice(NOISE_KERNELS[family])), wanted, split, family, head, lesion, tuple(traits))


def draw_bolus(rng: np.random.Generator, family: str, noise_hu: float, training: bool = False):
    """An arterial curve, the peak of the brightest arterial voxels and of the lumen (HU), and the time of the peak (s).

    For `training` width, tail and second pass of the curve are spread further than patients were seen to spread.
    """
    percentile = rng.uniform(3.0, 97.0)
    aif_peak = float(np.exp(np.interp(percentile, (3.0, *boluses.PERCENTILES, 97.0), np.log((16.0, *boluses.AIF_PEAK_HU, 400.0)))))
    aif_peak = max(aif_peak, LEAST_AIF_OVER_NOISE * noise_hu * float(rng.uniform(1.0, 1.6)))
    venous = boluses.at_percentile(boluses.VOF_PEAK_HU, 0.5 * percentile + 0.5 * rng.uniform(5.0, 95.0))
    lumen = max(venous / 0.8, SMALLEST_LUMEN_PEAK_HU, aif_peak / 0.92)
    if family == "standard":
        bolus = boluses.sample_bolus(rng, lumen)
        if training:
            width, tail, second = np.exp(rng.normal(0.0, (0.10, 0.25, 0.25)))
            bolus = replace(bolus, scale=bolus.scale * width, tail=bolus.tail * tail, second_pass=bolus.second_pass * second)
        return bolus, aif_peak, lumen, bolus.peak_time_s
    width, lag = float(rng.uniform(2.5, 5.0)), float(rng.uniform(1.0, 5.0))
    center = float(rng.uniform(4.0 + 3.0 * width, 8.0 + 3.0 * width))
    bolus = LaggedNormalBolus(center, width, lag, lumen, float(rng.uniform(0.08, 0.3)))
    return bolus, aif_peak, lumen, center + 0.6 * lag


def draw_protocol(rng: np.random.Generator, peak_time: float, slices: int, traits: list[str]):
    """Scan times (T,) or (T, K), slabs, and when the scan stops (s) if it is cut short; the truth is that of the whole scan."""
    length = float(np.clip(peak_time + rng.uniform(34.0, 44.0), 55.0, 78.0))
    step = float(np.exp(rng.uniform(*np.log(STEP_S))))
    times = step * np.arange(int(np.ceil(length / step)) + 1)
    if rng.random() < 0.2 and step < 2.0:
        # Dense while the bolus passes, then half as often.
        first = times[times <= peak_time + 14.0]
        times = np.concatenate([first, np.arange(first[-1] + 2.0 * step, length + 2.0 * step, 2.0 * step)])
        traits.append("two-rate protocol")
    if len(times) < FRAMES[0]:
        times = np.linspace(0.0, times[-1], FRAMES[0])
    end = float(times[min(len(times), FRAMES[1]) - 1])
    if rng.random() < 0.18:
        end = min(end, float(rng.uniform(peak_time + 14.0, peak_time + 26.0)))
        end = max(end, float(times[min(FRAMES[0], len(times)) - 1]))
        traits.append("truncated")
    slabs = None
    if rng.random() < 0.15:
        times, slabs = shuttle_timing(times, slices)
        traits.append("shuttle")
    last = float(times.max())
    return times, slabs, None if end >= last - 1e-6 else end + (0.5 * step if slabs is not None else 0.0)


def draw_head(rng: np.random.Generator, split: str, sources: StudySources) -> tuple[Path | None, str]:
    """A head's file (None: built-in) and name.  A quarter of the training studies show the built-in head for variety."""
    files = sources.heads_of(split)
    if not files or (split == "train" and rng.random() < 0.25):
        return None, BUILT_IN
    path = files[int(rng.integers(len(files)))]
    return path, lesion_name(path)


def draw_lesion(rng: np.random.Generator, split: str, wanted: str, sources: StudySources) -> tuple[str, dict]:
    """Name of a lesion and what it means for `BrainOptions`.

    Drawn masks of fitting size; a quarter of the training studies, and all where there are no masks, show a built-in occlusion.
    Those are the same in all splits, so studies to validate and test on never do where there are masks.

    Raises
    ------
    DataRefused
        No mask of the split has a fitting size.
    """
    if wanted == "none":
        return "", {"occlusion": "none"}
    files = sources.lesions_of(split)
    low, high = LVO_LESION_ML if wanted == "lvo" else SMALL_LESION_ML
    if files and (rng.random() < 0.75 or split != "train"):
        for n in rng.permutation(len(files))[: LESION_TRIES if split == "train" else None]:
            volume = lesion_volume_ml(files[n])
            if volume is not None and low <= volume <= high:
                return lesion_name(files[n]), {"lesions": files[n]}
        if split != "train":
            raise DataRefused(f"No lesion mask for the {split} studies measures {low:g} to {high:g} mL; give a folder with more masks.")
    if wanted == "lvo":
        return BUILT_IN, {"occlusion": str(rng.choice(["M1", "ICA-T"], p=[0.8, 0.2]))}
    return BUILT_IN, {"occlusion": str(rng.choice(["M2", "ACA", "PCA"], p=[0.5, 0.2, 0.3]))}


def draw_motion(rng: np.random.Generator, frames: int, traits: list[str]) -> np.ndarray | None:
    """Poses of the head, or None for a patient who lies still (three of four)."""
    if rng.random() > 0.27:
        return None
    kind = str(rng.choice(["drift", "jolts", "both"]))
    traits.append(f"motion: {kind}")
    drift = float(rng.uniform(0.5, 3.0)) if kind != "jolts" else 0.0
    return head_motion(rng, frames, drift, int(rng.integers(1, 4)) if kind != "drift" else 0)


def group_of(occlusion: str, hypoperfusion_ml: float, least_ml: float = 30.0) -> str:
    """Group of a simulated study by what it truly holds: "lvo" is a large deficit in the anterior circulation."""
    if hypoperfusion_ml <= 0.0:
        return "none"
    return "lvo" if occlusion in LVO_OCCLUSIONS and hypoperfusion_ml >= least_ml else "non-lvo"
