"""What brain study to simulate."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from CTPerfusionSuiteLib.phantoms.bolus import ArterialBolus
from CTPerfusionSuiteLib.phantoms.forward_model import RESIDUES
from CTPerfusionSuiteLib.phantoms.noise import KERNELS
from CTPerfusionSuiteLib.phantoms.stroke_lesion import COLLATERALS, OCCLUSIONS
from CTPerfusionSuiteLib.tracer_kinetics import Hematocrit
from CTPerfusionSuiteLib.volumes import Geometry

SIDES = {"left": 1, "right": 2}
"""Numbers of the hemispheres in masks."""


@dataclass(frozen=True, eq=False)
class BrainOptions:
    """What to simulate.

    Attributes
    ----------
    size : tuple of 2
        Pixels along x and y; the field of view is `fov_mm` wide.
    slices, slice_mm
        Number and thickness (= spacing) of slices.
    frames, dt_s
        Frames and seconds between them; `times` (T,) or (T, K), seconds from the first frame, replaces both.
    slabs : ndarray (K,) of int, optional
        Table position of each slice.
    bottom_mm : float, optional
        Standard z (mm) of the lower edge of the scan; default just below the circle of Willis.
    fine_mm : float
        Anatomy is sampled in pixels at most this wide (slices twice that) before it is averaged into voxels; vessels three times finer.
    noise_hu, noise_kernel
        Standard deviation in HU and spectrum: "white", "soft", "sharp".
    seed : int
        Draws the individual, the lesion and the noise; the same seed is the same study whatever the noise.
    side : str
        "left" or "right": the side of the occlusion.
    occlusion, collaterals : str
        One of `OCCLUSIONS` and of `COLLATERALS`.
    texture : float
        Standard deviation of CBF within a tissue, as a fraction.
    residue : str
        One of `RESIDUES`.
    dispersion : float
        Seconds of exponential dispersion per second of arterial delay beyond one second.
    aif_peak_hu : float
        Peak of the brightest arterial voxels of the scan; arteries are made as thin as that takes.
    arterial_peak_hu : float, optional
        Peak in the lumen; default from `aif_peak_hu`: the lower that is, the more of it is partial volume.
    bolus : ArterialBolus
        Its peak is replaced by the arterial peak.
    truncate_s : float, optional
        The scan stops here; the truth is that of the whole scan.
    motion : ndarray (T, 6), optional
        Translation (mm) and rotation (degrees) of the head in each frame.
    rotation_deg, shift_mm
        How the head lies in the scanner.
    carotid_stenosis : str, optional
        "left" or "right": blood of that side arrives `stenosis_delay_s` later without ischemia.
    chronic_infarct, white_matter_disease : bool
        An old cavity opposite to the lesion; low flow beside the ventricles.
    anatomy : path, optional
        Label map or non-contrast head CT, or a folder of them, instead of the built-in head; see `label_map_anatomy`.
    lesions : path, optional
        Lesion mask in standard space, or a folder of them: the mask, on its own side, becomes the core; see `lesion_masks`.
    hematocrit : Hematocrit
    """

    size: tuple[int, int] = (128, 128)
    slices: int = 8
    fov_mm: float = 220.0
    slice_mm: float = 5.0
    frames: int = 40
    dt_s: float = 1.5
    times: np.ndarray | None = None
    slabs: np.ndarray | None = None
    bottom_mm: float | None = None
    fine_mm: float = 0.95
    noise_hu: float = 5.0
    noise_kernel: str = "white"
    seed: int = 0
    side: str = "left"
    occlusion: str = "M1"
    collaterals: str = "moderate"
    texture: float = 0.15
    residue: str = "exponential"
    dispersion: float = 0.0
    aif_peak_hu: float = 300.0
    arterial_peak_hu: float | None = None
    bolus: ArterialBolus = ArterialBolus()
    truncate_s: float | None = None
    motion: np.ndarray | None = None
    rotation_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    carotid_stenosis: str | None = None
    stenosis_delay_s: float = 2.2
    chronic_infarct: bool = False
    white_matter_disease: bool = False
    anatomy: Path | None = None
    lesions: Path | None = None
    hematocrit: Hematocrit = field(default_factory=Hematocrit)

    def __post_init__(self):
        for value, allowed, name in (
            (self.occlusion, OCCLUSIONS, "occlusion"),
            (self.collaterals, COLLATERALS, "collaterals"),
            (self.residue, RESIDUES, "residue"),
            (self.noise_kernel, KERNELS, "noise_kernel"),
            (self.side, tuple(SIDES), "side"),
            (self.carotid_stenosis, (None, *SIDES), "carotid_stenosis"),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; one of {', '.join(str(a) for a in allowed)}")
        if self.motion is not None and np.shape(self.motion) != (len(self.slice_times), 6):
            raise ValueError(f"motion {np.shape(self.motion)} does not fit {len(self.slice_times)} frames")

    @property
    def slice_times(self) -> np.ndarray:
        """(T, K) seconds."""
        times = self.dt_s * np.arange(self.frames) if self.times is None else np.asarray(self.times, dtype=float)
        return np.broadcast_to(times[:, None], (len(times), self.slices)) if times.ndim == 1 else times

    def scan_geometry(self, center_z_mm: float | None = None) -> Geometry:
        """The scan's grid: axis-parallel, centered on the scanner axis.

        Unless `bottom_mm` says otherwise it begins below the circle of Willis, or lies around `center_z_mm` (standard z of a lesion).
        """
        nx, ny = self.size
        pixel = self.fov_mm / nx
        height = self.slices * self.slice_mm
        bottom = -22.0 if height < 60.0 else -28.0
        if self.bottom_mm is not None:
            bottom = self.bottom_mm
        elif center_z_mm is not None:
            # Part of the circle of Willis and some of the vertex stay in view where the coverage allows it.
            bottom = float(np.clip(center_z_mm - height / 2.0, bottom, max(bottom, 70.0 - height)))
        return Geometry(
            (nx, ny, self.slices),
            (pixel, pixel, self.slice_mm),
            (-(nx - 1) / 2.0 * pixel, -(ny - 1) / 2.0 * pixel, bottom + self.slice_mm / 2.0),
        )

    @property
    def geometry(self) -> Geometry:
        """The scan's grid of a study without a drawn lesion."""
        return self.scan_geometry()

    @property
    def lumen_peak_hu(self) -> float:
        """Arterial peak without partial volume."""
        if self.arterial_peak_hu is not None:
            return float(self.arterial_peak_hu)
        return max(self.aif_peak_hu / 0.9, 120.0 + 0.5 * self.aif_peak_hu)
