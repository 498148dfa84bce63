"""Arteries and veins of the head as tubes in standard coordinates, drawn finely into voxels.

A tube is drawn by testing sub-samples of fine voxels, so that the share of a voxel that is lumen, and with it the partial volume of
an arterial curve, comes out of geometry and not of a factor.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from CTPerfusionSuiteLib.phantoms.head_anatomy import CENTER, FineHead, envelope
from CTPerfusionSuiteLib.volumes import Geometry

SUBSAMPLES = 3
"""Sub-samples of a fine voxel along each axis."""
WIDEST_SCALE = 2.5
"""The largest factor by which radii can be scaled after drawing."""


@dataclass(frozen=True)
class Vessel:
    """A tube with its timing.

    Attributes
    ----------
    name : str
        "M1", "M2", "A2", "superior sagittal sinus" ...
    kind : str
        "artery" or "vein".
    side : int
        1 left, 2 right, 0 midline.
    points : ndarray (P, 3)
        Standard mm.
    radii : ndarray (P,)
        mm.
    delay : float
        Seconds after the arterial input (arteries) or after the common venous outflow (veins).
    """

    name: str
    kind: str
    side: int
    points: np.ndarray
    radii: np.ndarray
    delay: float


def _smooth(points, radii, step_mm=2.0):
    """A cubic spline through control points, about `step_mm` between samples."""
    points, radii = np.asarray(points, float), np.asarray(radii, float)
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    fine = np.linspace(0.0, along[-1], max(int(along[-1] / step_mm), 2) + 1)
    curve = CubicSpline(along, points)(fine) if len(points) > 2 else np.stack([np.interp(fine, along, c) for c in points.T], axis=1)
    return curve, np.interp(fine, along, radii)


def on_surface(directions, depth_mm: float, surface=envelope) -> np.ndarray:
    """Points (N, 3) `depth_mm` below the dura (negative: above) in `directions` (N, 3) from the center of the head."""
    directions = np.atleast_2d(np.asarray(directions, float))
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    low, high = np.zeros(len(directions)), np.full(len(directions), 160.0)
    for _ in range(30):
        middle = (low + high) / 2.0
        inside = surface(*(CENTER + directions * middle[:, None]).T) < 1.0
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return CENTER + directions * (low - depth_mm)[:, None]


def _arc(a, b, count, depth_mm, surface):
    """Points over the convexity from direction `a` to direction `b`."""
    t = np.linspace(0.0, 1.0, count)[:, None]
    a, b = np.asarray(a, float), np.asarray(b, float)
    return on_surface((1.0 - t) * a / np.linalg.norm(a) + t * b / np.linalg.norm(b), depth_mm, surface)


_BASILAR = ((0.0, 11.0, -45.0), (0.0, 9.5, -30.0), (0.0, 8.0, -15.0))
_TRUNKS = (
    # Name, points on the left side, radii, delay.
    ("ICA", ((11.0, 3.0, -45.0), (9.0, -8.0, -32.0), (12.0, -7.0, -23.0), (13.0, -3.0, -15.0)), (2.4, 2.2, 2.0, 1.8), 0.0),
    ("M1", ((13.0, -3.0, -15.0), (22.0, -6.5, -16.5), (33.0, -4.0, -13.0)), (1.5, 1.4, 1.2), 0.1),
    ("A1", ((13.0, -3.0, -15.0), (8.0, -11.0, -15.5), (2.2, -15.0, -12.0)), (1.1, 1.0, 1.0), 0.1),
    ("A2", ((2.2, -15.0, -12.0), (2.0, -32.0, -6.0), (2.0, -43.0, 8.0), (2.2, -36.0, 26.0)), (1.1, 1.1, 1.0, 0.9), 0.2),
    ("A2", ((2.2, -36.0, 26.0), (2.2, -10.0, 35.0), (2.2, 22.0, 36.0), (2.0, 44.0, 30.0)), (0.9, 0.8, 0.6, 0.5), 0.4),
    ("P1", ((0.0, 8.0, -15.0), (6.0, 8.5, -15.5), (14.0, 15.0, -14.0)), (1.1, 1.1, 1.0), 0.2),
    ("P2", ((14.0, 15.0, -14.0), (18.5, 26.0, -10.0), (15.0, 40.0, -4.0)), (1.0, 0.95, 0.9), 0.3),
    ("P3", ((15.0, 40.0, -4.0), (13.0, 60.0, 0.0), (9.0, 82.0, 4.0), (6.0, 94.0, 8.0)), (0.9, 0.8, 0.6, 0.4), 0.5),
    ("P3", ((18.0, 30.0, -9.0), (34.0, 42.0, -12.0), (46.0, 58.0, -8.0)), (0.7, 0.6, 0.4), 0.6),
)
_CALLOSOMARGINAL = ((-60.0, 18.0, 0.5), (-45.0, 50.0, 0.6), (-5.0, 66.0, 0.7), (35.0, 62.0, 0.8))
"""Where branches of the anterior cerebral artery leave the midline (y, z of the direction) and their delay."""
_INSULAR = ((-24.0, 2.0), (-12.0, 7.0), (2.0, 11.0), (14.0, 12.0), (26.0, 12.0))
"""Crests (y, z) over the insula at which branches of the middle cerebral artery turn to the surface."""


def arteries(rng: np.random.Generator, surface=envelope) -> list[Vessel]:
    """The circle of Willis and its branches, of an individual drawn by `rng`; delays up to 1 s in the periphery."""
    out: list[Vessel] = []

    def add(name, side, points, radii, delay):
        points = np.asarray(points, float) + rng.normal(0.0, 0.5, (len(points), 3))
        out.append(Vessel(name, "artery", side, *_smooth(points, radii), delay))

    def on(direction, depth_mm=1.5):
        return on_surface([direction], depth_mm, surface)[0]

    add("BA", 0, _BASILAR, (1.7, 1.6, 1.4), 0.1)
    for side, s in ((1, 1.0), (2, -1.0)):
        mirror = np.array([s, 1.0, 1.0])
        for name, points, radii, delay in _TRUNKS:
            add(name, side, mirror * points, radii, delay)
        for y, z, delay in _CALLOSOMARGINAL:
            tip = on((s * 2.5, y - 14.0, z), 3.0) * [0.0, 1.0, 1.0] + [s * 2.2, 0.0, 0.0]
            root = np.array([s * 2.0, 0.55 * y - 8.0, 0.45 * z + 6.0])
            over = on((s * rng.uniform(14.0, 24.0), y - 10.0, z))
            add("A3", side, [root, 0.5 * (root + tip), tip, over], (0.7, 0.65, 0.6, 0.4), delay)
        bifurcation = mirror * (33.0, -4.0, -13.0)
        for branch, (y, z) in enumerate(_INSULAR):
            y, z = y + rng.normal(0.0, 2.0), z + rng.normal(0.0, 1.5)
            crest = np.array([s * (37.0 + 0.004 * y**2), y, z])
            trunk = [bifurcation, 0.5 * (bifurcation + crest) + [s * 1.5, 0.0, -1.0], crest]
            add("M2", side, trunk, (1.05, 0.95, 0.8), 0.2 + 0.03 * branch)
            lip = np.array([s * 50.0, y + 2.0, -9.0 + 0.42 * (y + 20.0) + 2.0])
            exit_point = on(lip - CENTER)
            path = [crest, 0.5 * (crest + lip) + [0.0, 0.0, 1.0], lip, exit_point]
            add("M3", side, path, (0.8, 0.75, 0.7, 0.65), 0.4 + 0.03 * branch)
            fans = [(s * 52.0, 3.4 * y - 20.0, 46.0 + rng.normal(0.0, 6.0)), (s * 60.0, 2.2 * y - 10.0, 20.0 + rng.normal(0.0, 5.0))]
            for end in fans:
                course = _arc(exit_point - CENTER, end, 6, 1.5, surface)
                add("M4", side, course, np.linspace(0.65, 0.4, 6), 0.65 + rng.uniform(0.0, 0.3))
        temporal = [bifurcation, (s * 46.0, 6.0, -12.0), on((s * 60.0, 2.0, -14.0)), on((s * 58.0, 20.0, -26.0))]
        add("M3", side, temporal, (0.8, 0.75, 0.6, 0.45), 0.5)
    add("ACoA", 0, [(2.2, -15.0, -12.0), (0.0, -15.5, -12.0), (-2.2, -15.0, -12.0)], (0.8, 0.8, 0.8), 0.2)
    return out


def veins(rng: np.random.Generator, surface=envelope) -> list[Vessel]:
    """Dural sinuses, deep and cortical veins, of an individual drawn by `rng`."""
    out: list[Vessel] = []

    def add(name, side, points, radii, delay):
        out.append(Vessel(name, "vein", side, *_smooth(points, radii), delay))

    angles = np.radians(np.linspace(-42.0, 188.0, 24))
    directions = np.stack([np.zeros_like(angles), -np.cos(angles), np.sin(angles)], axis=1)
    torcula = on_surface([(0.0, 86.0, -20.0)], 2.5, surface)[0]
    ring = on_surface(directions, 2.2, surface)
    ring = ring[(ring[:, 2] > torcula[2] + 4.0) | (ring[:, 1] < CENTER[1])]
    ring = ring[ring[:, 2] > 2.0]
    path = np.vstack([ring, torcula + [0.0, 0.0, 8.0], torcula])
    size = rng.uniform(0.9, 1.2)
    growth = np.linspace(1.3, 3.6, len(path)) * size
    add("superior sagittal sinus", 0, path, growth, 1.0)
    add("torcula", 0, [torcula + [-3.0, 0.0, 0.0], torcula + [3.0, 0.0, 0.0]], (3.8 * size, 3.8 * size), 1.2)
    dominant = rng.choice([-1.0, 1.0])
    for side, s in ((1, 1.0), (2, -1.0)):
        width = 3.4 if s == dominant else 2.2
        flow = [(s * 3.0, 84.0, -21.0), (s * 28.0, 80.0, -24.0), (s * 50.0, 60.0, -27.0), (s * 60.0, 42.0, -30.0)]
        path = on_surface(flow, 2.2, surface)
        add("transverse sinus", side, np.vstack([path, [s * 52.0, 30.0, -42.0]]), np.full(len(path) + 1, width), 1.3)
        add("internal cerebral vein", side, [(s * 1.8, -6.0, 9.0), (s * 1.8, 14.0, 13.0), (s * 1.2, 34.0, 11.0)], (0.8, 1.0, 1.2), 0.4)
        for _ in range(7):
            angle = np.radians(rng.uniform(5.0, 165.0))
            end = np.array([0.0, -80.0 * np.cos(angle), 66.0 * np.sin(angle)])
            start = end + [s * rng.uniform(44.0, 58.0), rng.normal(0.0, 8.0), -0.55 * end[2]]
            add("cortical vein", side, _arc(start, end + [s * 3.0, 0.0, 0.0], 7, 1.2, surface), np.linspace(0.5, 1.1, 7), 0.2)
        low = on_surface([(s * 62.0, 6.0, -14.0), (s * 58.0, 42.0, -26.0)], 1.2, surface)
        add("vein of Labbe", side, low, (0.8, 1.2), 0.4)
    add("straight sinus", 0, [(0.0, 36.0, 10.0), (0.0, 45.0, 9.0), (0.0, 66.0, 2.0), torcula], (1.8, 1.7, 1.8, 2.0), 0.8)
    return out


@dataclass(frozen=True)
class DrawnVessel:
    """Where a vessel lies on the fine grid, at any scale of its radii.

    Attributes
    ----------
    voxel : ndarray (S,)
        Flat index of the fine voxel of each sub-sample.
    relative : ndarray (S,) float32
        Distance to the axis over the radius there, of each sub-sample.
    """

    vessel: Vessel
    voxel: np.ndarray
    relative: np.ndarray

    def fraction(self, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Fine voxels (V,) and the share of each that is lumen (V,) float32, with all radii times `scale`."""
        voxels, counts = np.unique(self.voxel[self.relative < scale], return_counts=True)
        return voxels, (counts / SUBSAMPLES**3).astype(np.float32)


def draw(vessel: Vessel, head: FineHead) -> DrawnVessel:
    """Draw a vessel on the fine grid of a head."""
    grid: Geometry = head.grid
    points = grid.to_index(head.placement.to_scanner(vessel.points))
    spacing = np.asarray(grid.spacing)
    size = np.asarray(grid.size)
    scales = np.asarray(head.placement.scale)
    radii = vessel.radii / float(np.prod(scales)) ** (1.0 / 3.0)
    reach = WIDEST_SCALE if vessel.kind == "artery" else 1.0
    margin = (reach * radii.max() / spacing) + 1.0
    low = np.maximum(np.floor(points.min(axis=0) - margin), 0).astype(int)
    high = np.minimum(np.ceil(points.max(axis=0) + margin) + 1, size).astype(int)
    if np.any(high <= low):
        return DrawnVessel(vessel, np.zeros(0, np.int64), np.zeros(0, np.float32))
    extent = high - low
    relative = np.full(tuple((extent * SUBSAMPLES)[::-1]), np.inf, np.float32)
    offset = (np.arange(SUBSAMPLES) + 0.5) / SUBSAMPLES - 0.5
    axes = [((low[a] + np.arange(extent[a]))[:, None] + offset).ravel() * spacing[a] for a in range(3)]
    mm = points * spacing
    for a, b, ra, rb in zip(mm[:-1], mm[1:], radii[:-1], radii[1:], strict=True):
        edge = reach * max(ra, rb)
        spans = [
            slice(*np.searchsorted(axis, (min(a[i], b[i]) - edge, max(a[i], b[i]) + edge))) for i, axis in enumerate(axes)
        ]
        if any(span.stop <= span.start for span in spans):
            continue
        px, py, pz = axes[0][spans[0]][None, None, :], axes[1][spans[1]][None, :, None], axes[2][spans[2]][:, None, None]
        axis = b - a
        along = np.clip(((px - a[0]) * axis[0] + (py - a[1]) * axis[1] + (pz - a[2]) * axis[2]) / max(axis @ axis, 1e-9), 0.0, 1.0)
        square = (px - a[0] - along * axis[0]) ** 2 + (py - a[1] - along * axis[1]) ** 2 + (pz - a[2] - along * axis[2]) ** 2
        box = relative[spans[2], spans[1], spans[0]]
        np.minimum(box, np.sqrt(square) / (ra + along * (rb - ra)), out=box)
    hit = np.nonzero(relative < reach)
    k, j, i = (index // SUBSAMPLES + start for index, start in zip(hit, low[::-1], strict=True))
    voxel = (k * size[1] + j) * size[0] + i
    return DrawnVessel(vessel, voxel, relative[hit])
