"""A plain perfusion head of a few ellipses and cylinders, unlike the project's own simulator: what others may test with.

Positions are mm from the middle of the head, +x left, +y posterior, +z up, turned by a known yaw and roll.  Every curve is evaluated
at each slice's own times.  Arteries and the sagittal sinus are drawn with 9 samples a voxel, so that thin ones are diluted.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from CTPerfusionSuiteLib.tracer_kinetics import gamma_variate
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries

LAG_VEIN_S, LESION_DELAY_S = 2.5, 5.0


@dataclass(frozen=True)
class PlainHead:
    """What is drawn: HU, mm, seconds, degrees; `artery_hu` is the peak in the lumen, `dilution` thins the arteries."""

    matrix: int = 128
    slices: int = 8
    slice_mm: float = 5.0
    frames: int = 40
    dt_s: float = 1.5
    noise_hu: float = 5.0
    artery_hu: float = 350.0
    dilution: float = 1.0
    arrival_s: float = 8.0
    width_s: float = 9.0
    yaw_deg: float = 0.0
    roll_deg: float = 0.0
    background_hu: float = -1000.0
    scalp: bool = True
    craniotomy: bool = False
    shuttle: bool = False
    lesion_side: int = 1
    seed: int = 0


@dataclass(frozen=True)
class PlainStudy:
    """The series and its truth, arrays (K, J, I)."""

    series: TimeSeries
    artery: np.ndarray
    healthy_artery: np.ndarray
    vein: np.ndarray
    brain: np.ndarray
    csf: np.ndarray
    lesion: np.ndarray
    point: np.ndarray
    normal: np.ndarray
    artery_peak_s: float
    area_hu_s: float


def plain_study(head: PlainHead = PlainHead()) -> PlainStudy:
    """Draw and scan a head."""
    rng = np.random.default_rng(head.seed)
    pixel = 220.0 / head.matrix
    geometry = Geometry((head.matrix, head.matrix, head.slices), (pixel, pixel, head.slice_mm), (-110.0, -110.0, 0.0))
    k, j, i = np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij")
    center = np.array([rng.uniform(-5, 5), rng.uniform(-5, 5), head.slice_mm * (head.slices - 1) / 2])
    offset = geometry.to_lps(np.stack([i, j, k], axis=-1)) - center
    yaw, roll = np.radians(head.yaw_deg), np.radians(head.roll_deg)
    normal = np.array([np.cos(yaw) * np.cos(roll), np.sin(yaw) * np.cos(roll), np.sin(roll)])
    back = np.array([-np.sin(yaw), np.cos(yaw), 0.0])
    axes = np.stack([normal, back, np.cross(normal, back)])

    def share(inside):
        total = np.zeros(geometry.shape, np.float32)
        for dx in (-1 / 3, 0.0, 1 / 3):
            for dy in (-1 / 3, 0.0, 1 / 3):
                total += inside(*np.moveaxis((offset + [dx * pixel, dy * pixel, 0.0]) @ axes.T, -1, 0))
        return total / 9

    def ball(grow):
        return lambda x, y, z: np.sqrt((x / (67 + grow)) ** 2 + (y / (84 + grow)) ** 2 + ((z + 10) / (76 + grow)) ** 2)

    def tube(start, end, radius):
        start, end = np.asarray(start, float), np.asarray(end, float)

        def inside(x, y, z):
            p = np.stack([x, y, z], axis=-1) - start
            along = np.clip(p @ (end - start) / ((end - start) @ (end - start)), 0, 1)
            return np.linalg.norm(p - along[..., None] * (end - start), axis=-1) < radius

        return inside

    brain = share(lambda *p: ball(0)(*p) < 1)
    solid = share(lambda *p: ball(6)(*p) < 1)
    outer = share(lambda *p: ball(12)(*p) < 1) if head.scalp else solid
    x, y, z = np.moveaxis(offset @ axes.T, -1, 0)
    skull = solid - brain
    if head.craniotomy:
        skull = np.where((x > 20) & (np.abs(y) < 30), 0.0, skull)
    csf = share(lambda x, y, z: ((np.abs(x) - 9) / 5) ** 2 + (y / 24) ** 2 + ((z - 4) / 13) ** 2 < 1)
    gray = share(lambda *p: ball(0)(*p) > 0.87) * brain
    arteries = {side: share(tube((side * 9, -12, -6), (side * 44, -14, -4), 2.2)) for side in (-1, 1)}
    arteries[0] = share(tube((1, -32, -20), (1, -40, 20), 2.0))
    vein = share(lambda x, y, z: (np.abs(x) < 3.5) & (ball(0)(x, y, z) < 1) & (ball(0)(x, y, z) > 0.925) & (y > 15))
    healthy = np.maximum(arteries[-head.lesion_side], arteries[0]) * head.dilution
    delayed = arteries[head.lesion_side] * head.dilution
    lesion = (x * head.lesion_side > 16) & (np.abs(y + 4) < 36) & (brain > 0.9)

    fine = np.arange(-20.0, 140.0, 0.1)
    scale = head.width_s / (2.355 * 2.0)
    blood = gamma_variate(fine, head.arrival_s, 4.0, scale, head.artery_hu)
    again = np.convolve(blood, np.exp(-np.arange(0, 60, 0.1) / 15) * 0.1 / 15)[: fine.size]
    blood = blood + 0.8 * np.interp(fine - 12.0, fine, again)
    drain = np.interp(fine - LAG_VEIN_S, fine, np.convolve(blood, np.exp(-np.arange(0, 40, 0.1) / 4) * 0.1 / 4)[: fine.size])
    times = np.arange(head.frames) * head.dt_s
    slice_times = np.repeat(times[:, None], head.slices, axis=1)
    if head.shuttle:
        slice_times[:, head.slices // 2 :] += head.dt_s / 2

    static = brain * 29 + gray * 8 + 30 * np.clip(outer - solid, 0, 1) + 900 * np.clip(skull, 0, 1) + head.background_hu * (1 - outer)
    static = np.where(csf > 0, static * (1 - csf) + 8 * csf, static)
    if head.craniotomy:
        static += 30 * np.clip(solid - brain - skull, 0, 1)
    values = np.repeat(static[None].astype(np.float32), head.frames, axis=0)
    parenchyma = np.clip(brain - csf, 0, 1) * (1 - np.clip(healthy + delayed + vein, 0, 1))
    flow = np.where(gray > 0.5, 60.0, 26.0) / 6000 * 1.05 / 0.733 * np.where(lesion, 0.25, 1.0)
    for n in range(head.slices):
        when = slice_times[:, n]
        for late in (False, True):
            for slow in (False, True):
                chosen = parenchyma[n] * (lesion[n] == late) * ((gray[n] <= 0.5) == slow) * flow[n]
                if chosen.any():
                    transit = (5.0 if slow else 4.0) * (2.0 if late else 1.0)
                    curve = np.convolve(blood, np.exp(-np.arange(0, 60, 0.1) / transit) * 0.1)[: fine.size]
                    values[:, n] += np.interp(when - LESION_DELAY_S * late, fine, curve)[:, None, None] * chosen
        for curve, where, delay in ((blood, healthy, 0.0), (blood, delayed, 3.0), (drain, vein, 0.0)):
            values[:, n] += np.interp(when - delay, fine, curve)[:, None, None] * where[n]
    noise = ndimage.gaussian_filter(rng.standard_normal(values.shape, dtype=np.float32), (0, 0, 0.5, 0.5))
    values += noise * (head.noise_hu / noise[0].std())
    series = TimeSeries(np.rint(values).astype(np.int16), geometry, slice_times if head.shuttle else times)
    return PlainStudy(
        series,
        healthy + delayed,
        healthy,
        vein,
        brain > 0.5,
        csf,
        lesion,
        center,
        normal,
        float(fine[np.argmax(blood)]),
        float(np.trapezoid(blood, fine)),
    )
