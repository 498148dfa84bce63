"""Perfusion of every fine voxel of brain: normal values with natural variation, ischemia, and what imitates it."""

from dataclasses import dataclass

import numpy as np

from CTPerfusionSuiteLib.phantoms.head_anatomy import PARENCHYMA, FineHead, Tissue, sample_field, smooth_field
from CTPerfusionSuiteLib.phantoms.stroke_lesion import Collaterals, extra_delay, flow_fraction, territory, volume_fraction

TEXTURE_LENGTH_MM = 3.0
LONGEST_MTT_S = 40.0


@dataclass(frozen=True)
class Physiology:
    """Fields over the parenchyma of a fine grid, each (N,).

    Attributes
    ----------
    voxel : ndarray of int
        Flat index of the fine voxel, ascending.
    cbf, cbv : ndarray float32
        mL/100 g/min and mL/100 g.
    delay : ndarray float32
        Seconds after the arterial input.
    """

    voxel: np.ndarray
    cbf: np.ndarray
    cbv: np.ndarray
    delay: np.ndarray

    @property
    def mtt(self) -> np.ndarray:
        """Mean transit time, 60 CBV / CBF, seconds."""
        return 60.0 * self.cbv / self.cbf


def normal_values(rng: np.random.Generator) -> dict[int, tuple[float, float]]:
    """CBF (mL/100 g/min) and CBV (mL/100 g) of each tissue for one individual."""
    gray, white = rng.uniform(52.0, 63.0), rng.uniform(21.0, 27.0)
    gray_volume, white_volume = rng.uniform(3.5, 4.0), rng.uniform(1.85, 2.15)
    return {
        int(Tissue.GRAY): (gray, gray_volume),
        int(Tissue.DEEP_GRAY): (gray * 1.02, gray_volume * 0.95),
        int(Tissue.CEREBELLUM): (gray * 0.92, gray_volume * 0.95),
        int(Tissue.BRAINSTEM): (0.5 * (gray + white), 0.5 * (gray_volume + white_volume)),
        int(Tissue.WHITE): (white, white_volume),
    }


def normal_delay(x, y, z, white) -> np.ndarray:
    """Seconds: 0.2 near the circle of Willis, later with distance, in border zones, backwards and in white matter, up to about 2."""
    ax = np.abs(x)
    anterior, posterior = territory("ACA", ax, y, z), territory("PCA", ax, y, z)
    border = 4.0 * np.maximum(anterior * (1.0 - anterior), posterior * (1.0 - posterior))
    away = np.sqrt((ax - 25.0) ** 2 + (y - 0.0) ** 2 + (z + 5.0) ** 2)
    delay = 0.2 + 0.008 * away + 0.45 * posterior + 0.35 * border + 0.25 * white
    return np.minimum(delay, 2.0).astype(np.float32)


def head_physiology(
    rng: np.random.Generator,
    head: FineHead,
    depth: np.ndarray,
    grade: Collaterals,
    texture: float,
    stenosis_side: int = 0,
    stenosis_delay_s: float = 0.0,
    white_matter_disease: bool = False,
) -> Physiology:
    """Perfusion fields of a head.

    Parameters
    ----------
    depth : ndarray (Z, Y, X)
        Severity of ischemia 0-1 from `stroke_lesion`.
    texture : float
        Standard deviation of the natural variation of CBF as a fraction; CBV follows with two thirds of it.
    stenosis_side : int
        1 or 2: the side whose anterior circulation arrives `stenosis_delay_s` later, without ischemia; 0 for none.
    white_matter_disease : bool
        Patches of low flow beside the ventricles.
    """
    voxel = np.flatnonzero(head.is_any(PARENCHYMA).ravel())
    kind = head.tissue.ravel()[voxel]
    x, y, z, s = (a.ravel()[voxel] for a in (head.x, head.y, head.z, depth))
    value_rng, flow_rng, volume_rng, delay_rng, patch_rng = rng.spawn(5)

    table = np.zeros((256, 2), np.float32)
    for label, values in normal_values(value_rng).items():
        table[label] = values
    cbf, cbv = table[kind].T.copy()

    def variation(source, correlation):
        values, step = smooth_field(source, 64.0, correlation)
        return np.clip(sample_field(values, step, x, y, z), -2.0, 2.0)

    common = variation(flow_rng, TEXTURE_LENGTH_MM)
    own = variation(volume_rng, TEXTURE_LENGTH_MM)
    cbf *= 1.0 + texture * common
    cbv *= 1.0 + texture * (0.55 * common + 0.37 * own)
    delay = normal_delay(x, y, z, kind == Tissue.WHITE)
    delay = np.maximum(delay + 0.15 * variation(delay_rng, 15.0), 0.0)

    if white_matter_disease:
        beside = np.exp(-(((np.abs(x) - 20.0) / 9.0) ** 2) - ((y - 5.0) / 32.0) ** 2 - ((z - 20.0) / 11.0) ** 2)
        patch = np.clip(beside * (0.8 + 0.5 * variation(patch_rng, 7.0)), 0.0, 0.9) * (kind == Tissue.WHITE)
        cbf *= 1.0 - 0.45 * patch
        cbv *= 1.0 - 0.25 * patch
        delay += 0.5 * patch
    if stenosis_side:
        s_x = x if stenosis_side == 1 else -x
        fed = np.maximum(territory("M1", s_x, y, z), territory("ACA", s_x, y, z))
        delay += stenosis_delay_s * fed
        cbf *= 1.0 - 0.04 * fed
        cbv *= 1.0 + 0.06 * fed
    cbf *= flow_fraction(s, grade)
    cbv *= volume_fraction(s, grade)
    delay += extra_delay(s, grade)
    # A transit time stays within what blood can take; flow, which drives the thresholds, is left alone.
    cbv = np.minimum(cbv, cbf * LONGEST_MTT_S / 60.0)
    return Physiology(voxel, cbf.astype(np.float32), cbv.astype(np.float32), delay.astype(np.float32))
