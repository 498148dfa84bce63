"""A head known as a formula, scanned in any pose: truth for motion correction without resampling anything.

Positions are mm from the middle of the head, +x left, +y posterior, +z up.  A frame is made by asking the formula at the points of
each voxel carried back into the head, and averaging over the voxel (thick slices included), so that no interpolation of ours can
agree with itself.
"""

from dataclasses import dataclass

import numpy as np

from CTPerfusionSuiteLib.rigid_motion import RigidPose
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries

AIR, STATIC_HOLDER = -1000.0, 120.0
# center, semi-axes, HU: structures painted in this order inside the brain or the skull base
INNER = (
    ((10.0, -6.0, 12.0), (9.0, 30.0, 9.0), 8.0),  # ventricles, the left one larger
    ((-9.0, -4.0, 13.0), (6.0, 25.0, 7.0), 8.0),
    ((0.0, 8.0, -2.0), (3.0, 9.0, 9.0), 8.0),
    ((24.0, 2.0, 2.0), (11.0, 17.0, 12.0), 44.0),  # deep gray matter
    ((-24.0, 0.0, 2.0), (11.0, 17.0, 12.0), 44.0),
    ((0.0, 27.0, 6.0), (2.5, 2.5, 2.5), 260.0),  # calcified pineal
    ((1.0, -60.0, 40.0), (1.2, 12.0, 9.0), 180.0),  # calcified falx
)
BASE = (
    ((36.0, 22.0, -42.0), (26.0, 9.0, 10.0), 1500.0),  # petrous bones, unlike
    ((-38.0, 24.0, -40.0), (24.0, 10.0, 11.0), 1350.0),
    ((0.0, 2.0, -46.0), (14.0, 12.0, 9.0), 900.0),  # clivus, sphenoid
    ((46.0, 26.0, -42.0), (8.0, 7.0, 6.0), -700.0),  # mastoid air
    ((-46.0, 28.0, -40.0), (9.0, 6.0, 7.0), -700.0),
    ((8.0, -76.0, -12.0), (14.0, 7.0, 12.0), -950.0),  # frontal sinus, one-sided
    ((30.0, -62.0, -40.0), (19.0, 22.0, 18.0), -70.0),  # orbits
    ((-31.0, -60.0, -40.0), (19.0, 22.0, 18.0), -70.0),
)
ARTERIES = (  # from, to, radius
    ((14.0, -4.0, -50.0), (12.0, -12.0, -14.0), 2.4), ((-14.0, -4.0, -50.0), (-12.0, -12.0, -14.0), 2.4),
    ((12.0, -12.0, -14.0), (46.0, -14.0, -4.0), 1.6), ((-12.0, -12.0, -14.0), (-46.0, -14.0, -2.0), 1.6),
    ((2.0, -30.0, -10.0), (2.0, -52.0, 30.0), 1.3), ((-2.0, -30.0, -10.0), (-2.0, -50.0, 30.0), 1.3),
    ((46.0, -14.0, -4.0), (56.0, 10.0, 30.0), 1.2), ((-46.0, -14.0, -2.0), (-55.0, 12.0, 30.0), 1.2),
)


@dataclass(frozen=True)
class Scan:
    """Field of view: matrix, slices, spacing in mm, and where along z the slab's center lies in the head."""

    matrix: int = 128
    slices: int = 8
    pixel_mm: float = 1.8
    slice_mm: float = 5.0
    level_mm: float = 15.0

    @property
    def geometry(self) -> Geometry:
        half = (self.matrix - 1) / 2 * self.pixel_mm
        return Geometry((self.matrix, self.matrix, self.slices), (self.pixel_mm, self.pixel_mm, self.slice_mm),
                        (-half, -half + 6.0, self.level_mm - (self.slices - 1) / 2 * self.slice_mm))


def _ellipsoid(p, center, semi):
    return sum(((p[axis] - center[axis]) / semi[axis]) ** 2 for axis in range(3)) < 1.0


def _tube(p, start, stop, radius):
    a, b = np.asarray(start, np.float32), np.asarray(stop, np.float32)
    along = (b - a) / np.linalg.norm(b - a)
    s = np.clip(sum((p[n] - a[n]) * along[n] for n in range(3)), 0.0, np.linalg.norm(b - a))
    return sum((p[n] - a[n] - s * along[n]) ** 2 for n in range(3)) < radius**2


def head(p):
    """Baseline HU and the artery, vein and tissue fractions at points p, three arrays x, y, z in mm."""
    x, y, z = p
    x_bent = x * (1.0 - 0.0012 * y) - 0.0004 * y * z  # wider behind, a little skew
    radius = np.sqrt(x_bent**2 + y**2 + z**2) + 1e-3
    shell = np.sqrt((x_bent / 79.0) ** 2 + (y / 97.0) ** 2 + ((z + 4.0) / 93.0) ** 2) + 1e-6
    depth = radius * (1.0 / shell - 1.0)
    u, v, w = x / radius, y / radius, z / radius
    scalp = 6.0 + 1.5 * v + u * w
    bone = 6.0 + 2.0 * v * v + 1.2 * np.sin(5.0 * u + 1.0) * w + 1.0 * np.sin(7.0 * v)
    into = (depth - scalp) / bone
    hu = np.where(depth > 0.0, np.float32(30.0), np.float32(AIR))
    hu = np.where((depth > 1.8) & (into < 0.0), np.float32(-60.0) * (u > -0.9), hu)
    hu = np.where((into >= 0.0) & (into < 1.0), np.where(np.abs(into - 0.5) < 0.18, np.float32(650.0), np.float32(1350.0)), hu)
    brain = into >= 1.0
    texture = 4.0 * np.sin(x / 7.0 + 1.0) * np.sin(y / 9.0) * np.cos(z / 8.0)
    gray = (into < 1.0 + 6.0 / bone) | (np.sin(x / 5.0) * np.sin(y / 6.0 + x / 20.0) * np.cos(z / 9.0) > 0.25)
    hu = np.where(brain, np.where(gray, np.float32(37.0), np.float32(28.0)) + texture, hu).astype(np.float32)
    tissue = np.where(brain, np.where(gray, np.float32(1.0), np.float32(0.45)), np.float32(0.0))
    for center, semi, value in INNER:
        inside = brain & _ellipsoid(p, center, semi)
        hu[inside] = value
        if value < 20.0 or value > 100.0:
            tissue[inside] = 0.0
    for center, semi, value in BASE:
        inside = (into > 0.1) & _ellipsoid(p, center, semi)
        hu[inside] = value
        tissue[inside] = 0.0
    artery = np.zeros_like(hu)
    for start, stop, r in ARTERIES:
        artery[(into > 0.0) & _tube(p, start, stop, r)] = 1.0
    sinus = brain & (np.abs(x - 1.0) < 3.5) & ((into - 1.0) * bone < 6.0) & ((z > 0.0) | (y > 0.0)) & (z > -30.0)
    vein = sinus.astype(np.float32)
    hu[(artery + vein) > 0] = 42.0
    tissue[(artery + vein) > 0] = 0.0
    return hu, artery, vein, tissue


def expose(scan: Scan, poses, in_plane: int = 2, through: int = 4):
    """The four maps of `head` as the scanner averages them, (4, K, J, I): mean over the poses met during the exposure.

    A holder that does not move lies behind the head.
    """
    geometry = scan.geometry
    fine = []
    for axis, parts in ((0, in_plane), (1, in_plane), (2, through)):
        offsets = (np.arange(parts) + 0.5) / parts - 0.5
        fine.append(geometry.origin[axis] + geometry.spacing[axis] * (np.arange(geometry.size[axis])[:, None] + offsets).ravel())
    out = np.zeros((4, *geometry.shape), np.float32)
    for pose in poses:
        back = np.linalg.inv(pose.matrix)
        for k in range(scan.slices):
            zz = fine[2][k * through:(k + 1) * through]
            z, y, x = np.meshgrid(zz, fine[1], fine[0], indexing="ij")
            p = [(back[n, 0] * x + back[n, 1] * y + back[n, 2] * z + back[n, 3]).astype(np.float32) for n in range(3)]
            maps = head(p)
            holder = (maps[0] < -900.0) & (np.abs(np.hypot(x, y - 20.0) - 96.0) < 3.0) & (y > 60.0)
            maps[0][holder] = STATIC_HOLDER
            for m, values in enumerate(maps):
                out[m, k] += values.reshape(through, scan.matrix, in_plane, scan.matrix, in_plane).mean(axis=(0, 2, 4))
    return out / len(poses)


def contrast_curves(times, artery_peak_hu: float):
    """Artery, vein and gray-matter enhancement in HU at times in seconds."""
    def bolus(t0, width, peak):
        s = np.clip((times - t0) / width, 0.0, None)
        return peak * (s * np.exp(1.0 - s)) ** 3
    return (bolus(8.0, 8.0, artery_peak_hu) + 0.15 * artery_peak_hu / (1.0 + np.exp(-(times - 28.0) / 3.0)),
            bolus(12.0, 10.0, 0.9 * artery_peak_hu), bolus(9.0, 11.0, 9.0) + 1.5 / (1.0 + np.exp(-(times - 25.0) / 3.0)))


def pose(translation=(0.0, 0.0, 0.0), rotation=(0.0, 0.0, 0.0), scan: Scan = Scan()) -> RigidPose:
    """A pose about the slab's center: mm and degrees."""
    return RigidPose(np.asarray(translation, float), np.asarray(rotation, float), np.array([*_center(scan.geometry)]))


def _center(geometry):
    return geometry.to_lps((np.asarray(geometry.size) - 1) / 2)


def series(scan: Scan, poses, artery_peak_hu: float = 250.0, noise_hu: float = 5.0, step_s: float = 1.5, seed: int = 0) -> TimeSeries:
    """A perfusion series of the head.

    Parameters
    ----------
    poses : sequence, one entry a frame
        A pose, or a tuple of the poses met during that frame's exposure.
    """
    rng = np.random.default_rng(seed)
    times = step_s * np.arange(len(poses))
    curves = contrast_curves(times, artery_peak_hu)
    maps, values = {}, np.empty((len(poses), *scan.geometry.shape), np.int16)
    for t, entry in enumerate(poses):
        met = entry if isinstance(entry, tuple) else (entry,)
        key = tuple((tuple(m.translation_mm), tuple(m.rotation_deg)) for m in met)
        if key not in maps:
            maps[key] = expose(scan, met)
        base, *fractions = maps[key]
        frame = base + sum(f * c[t] for f, c in zip(fractions, curves, strict=True))
        values[t] = np.round(frame + noise_hu * rng.standard_normal(base.shape, np.float32))
    return TimeSeries(values, scan.geometry, times)


def head_points(scan: Scan, count: int = 1500, seed: int = 1) -> np.ndarray:
    """(N, 3) LPS points of the head within the slab, where the error of a pose is judged."""
    rng = np.random.default_rng(seed)
    geometry = scan.geometry
    low, high = geometry.to_lps((0, 0, 0)), geometry.to_lps(np.asarray(geometry.size) - 1)
    points = rng.uniform(low, high, (count * 4, 3))
    inside = head(list(points.T.astype(np.float32)))[0] > -200.0
    return points[inside][:count]
