"""A head in standard coordinates: the built-in analytic anatomy and what any anatomy has to offer.

Standard coordinates are millimeters in LPS directions (+x left, +y posterior, +z up) with the origin near the anterior commissure
and the size of the MNI brain, so that vessels, territories and lesion masks are described once and fit every head.
"""

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from CTPerfusionSuiteLib.volumes import Geometry


class Tissue(IntEnum):
    """What a fine voxel is made of."""

    AIR = 0
    SOFT = 1
    FAT = 2
    BONE = 3
    MARROW = 4
    CSF = 5
    GRAY = 6
    WHITE = 7
    DEEP_GRAY = 8
    CEREBELLUM = 9
    BRAINSTEM = 10
    VENTRICLE = 11
    DURA = 12
    CAVITY = 13


HU_OF_TISSUE = {
    Tissue.AIR: -1000.0,
    Tissue.SOFT: 45.0,
    Tissue.FAT: -90.0,
    Tissue.BONE: 1150.0,
    Tissue.MARROW: 650.0,
    Tissue.CSF: 8.0,
    Tissue.GRAY: 37.0,
    Tissue.WHITE: 30.0,
    Tissue.DEEP_GRAY: 37.5,
    Tissue.CEREBELLUM: 36.0,
    Tissue.BRAINSTEM: 32.0,
    Tissue.VENTRICLE: 8.0,
    Tissue.DURA: 50.0,
    Tissue.CAVITY: 10.0,
}
PARENCHYMA = (Tissue.GRAY, Tissue.WHITE, Tissue.DEEP_GRAY, Tissue.CEREBELLUM, Tissue.BRAINSTEM)
INTRACRANIAL = (*PARENCHYMA, Tissue.CSF, Tissue.VENTRICLE, Tissue.DURA, Tissue.CAVITY)

CENTER = np.array([0.0, 16.0, 8.0])
"""Center of the intracranial space in standard coordinates."""


@dataclass(frozen=True)
class HeadPlacement:
    """How a head lies in the scanner: standard = scale * R (scanner - shift) + warp.

    Attributes
    ----------
    rotation_deg : tuple of 3
        About x (nodding), y (tilting to a shoulder), z (turning), about the center of the head.
    shift_mm : tuple of 3
        Scanner position of the standard origin.
    scale : tuple of 3
        Standard millimeters per scanner millimeter, per standard axis.
    warp_mm : ndarray (3, 3)
        Amplitude of slow individual asymmetries, per component and wave.
    """

    rotation_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    warp_mm: np.ndarray = field(default_factory=lambda: np.zeros((3, 3)))

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3) linear part from scanner to standard."""
        return np.asarray(self.scale)[:, None] * Rotation.from_euler("xyz", self.rotation_deg, degrees=True).as_matrix()

    def _warp(self, x, y, z):
        waves = (np.sin(y / 42.0), np.cos(z / 37.0), np.sin((x + z) / 55.0))
        return [sum(amplitude * wave for amplitude, wave in zip(row, waves, strict=True)) for row in self.warp_mm]

    def to_standard(self, lps) -> np.ndarray:
        """Standard mm of scanner positions, both (..., 3)."""
        linear = (np.asarray(lps, dtype=float) - self.shift_mm) @ self.matrix.T
        return linear + np.stack(self._warp(*np.moveaxis(linear, -1, 0)), axis=-1)

    def to_scanner(self, standard) -> np.ndarray:
        """Scanner mm of standard positions, both (..., 3); the slow warp is inverted by fixed-point iteration."""
        standard = np.asarray(standard, dtype=float)
        linear = standard
        for _ in range(6):
            linear = standard - np.stack(self._warp(*np.moveaxis(linear, -1, 0)), axis=-1)
        return linear @ np.linalg.inv(self.matrix).T + np.asarray(self.shift_mm)

    def grid_coordinates(self, grid: Geometry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Standard x, y, z of every voxel of an axis-parallel `grid`, each (K, J, I) float32."""
        nx, ny, nz = grid.size
        axes = [grid.origin[a] + grid.spacing[a] * np.arange(n) - self.shift_mm[a] for a, n in enumerate((nx, ny, nz))]
        m = self.matrix
        linear = [
            (
                (m[a, 0] * axes[0])[None, None, :] + (m[a, 1] * axes[1])[None, :, None] + (m[a, 2] * axes[2])[:, None, None]
            ).astype(np.float32)
            for a in range(3)
        ]
        if not np.any(self.warp_mm):
            return tuple(linear)
        return tuple(part + shift.astype(np.float32) for part, shift in zip(linear, self._warp(*linear), strict=True))


@dataclass(frozen=True)
class FineHead:
    """An anatomy sampled on a fine grid.

    Attributes
    ----------
    grid : Geometry
        Axis-parallel, finer than the scan's voxels.
    tissue : ndarray (Z, Y, X) of uint8
        `Tissue` of each fine voxel.
    static_hu : ndarray (Z, Y, X) of float32
        HU without contrast and without vessels.
    x, y, z : ndarray (Z, Y, X) of float32
        Standard coordinates, mm.
    placement : HeadPlacement
    """

    grid: Geometry
    tissue: np.ndarray
    static_hu: np.ndarray
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    placement: HeadPlacement

    def is_any(self, kinds) -> np.ndarray:
        """(Z, Y, X) bool: voxels of one of the `kinds`."""
        table = np.zeros(256, bool)
        table[[int(kind) for kind in kinds]] = True
        return table[self.tissue]


def smooth_field(rng: np.random.Generator, extent_mm: float, correlation_mm: float) -> tuple[np.ndarray, float]:
    """A stationary Gaussian field of unit variance in a cube of +-`extent_mm`; returns (values (n, n, n), step in mm)."""
    step = correlation_mm / 2.0
    count = int(np.ceil(2.0 * extent_mm / step)) + 1
    values = ndimage.gaussian_filter(rng.standard_normal((count, count, count), dtype=np.float32), 2.0, mode="wrap")
    return values / values.std(), step


def sample_field(values: np.ndarray, step: float, x, y, z) -> np.ndarray:
    """Field of `smooth_field` at coordinates in mm (same shapes), trilinear, repeating outside its cube."""
    half = (values.shape[0] - 1) / 2.0
    return ndimage.map_coordinates(values, [z / step + half, y / step + half, x / step + half], order=1, mode="grid-wrap")


def envelope(x, y, z):
    """Radius relative to the inner surface of the skull: 1 on it, below 1 inside; standard mm, any shape."""
    yn = (y - CENTER[1]) / 86.0
    half_width = 67.0 * (1.0 + 0.09 * yn)
    dz = z - CENTER[2]
    zn = np.where(dz > 0, dz / 71.0, dz / 80.0)
    return (np.abs(x / half_width) ** 2.3 + np.abs(yn) ** 2.3 + np.abs(zn) ** 2.3) ** (1.0 / 2.3)


def tube(x, y, z, points, radii):
    """Signed distance (mm, negative inside) to a tube along `points` (P, 3) with radii (P,); x, y, z of any one shape."""
    best = np.full(x.shape, np.inf, np.float32)
    points = np.asarray(points, np.float32)
    for a, b, ra, rb in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True):
        axis = b - a
        along = np.clip(((x - a[0]) * axis[0] + (y - a[1]) * axis[1] + (z - a[2]) * axis[2]) / float(axis @ axis), 0.0, 1.0)
        distance = np.sqrt((x - a[0] - along * axis[0]) ** 2 + (y - a[1] - along * axis[1]) ** 2 + (z - a[2] - along * axis[2]) ** 2)
        np.minimum(best, distance - (ra + along * (rb - ra)), out=best)
    return best


def ellipsoid(x, y, z, center, semi_axes):
    """Squared relative radius: below 1 inside."""
    return ((x - center[0]) / semi_axes[0]) ** 2 + ((y - center[1]) / semi_axes[1]) ** 2 + ((z - center[2]) / semi_axes[2]) ** 2


def _folds(rng, x, y, z, extent, correlation):
    """Distance (mm) to the nearest fold line of a random pattern, at the given coordinates."""
    values, step = smooth_field(rng, extent, correlation)
    slope = np.sqrt(sum(part**2 for part in np.gradient(values, step)))
    np.maximum(slope, 0.45 * float(np.median(slope)), out=slope)
    return np.abs(sample_field(values, step, x, y, z)) / sample_field(slope, step, x, y, z)


def analytic_head(grid: Geometry, placement: HeadPlacement, rng: np.random.Generator) -> FineHead:
    """Build the analytic head on a fine grid.

    Scalp, skull with its marrow, base with petrous ridges, orbits and air cells, CSF, folded cortex, Sylvian and interhemispheric
    fissures, ventricles, deep nuclei, brainstem, cerebellum under its tentorium, falx.  `rng` draws the individual: atrophy,
    skull thickness, ventricle size, folding.
    """
    atrophy = rng.uniform(0.6, 1.5)
    skull = rng.uniform(5.5, 8.5)
    ventricle_size = rng.uniform(0.75, 1.25) * (0.7 + 0.3 * atrophy)
    brain_rng, texture_rng = rng.spawn(2)

    x, y, z = placement.grid_coordinates(grid)
    r = envelope(x, y, z).astype(np.float32)
    away = np.sqrt((x - CENTER[0]) ** 2 + (y - CENTER[1]) ** 2 + (z - CENTER[2]) ** 2)
    depth = away * (1.0 / np.maximum(r, 1e-3) - 1.0)
    tissue = np.full(x.shape, Tissue.AIR, np.uint8)

    # Outside the dura, from the skin inwards; the temporal muscle thickens the sides below.
    temporal_muscle = 6.0 / (1.0 + np.exp(0.25 * (z + 4.0))) * np.exp(-(((y + 12.0) / 34.0) ** 2)) * np.clip(np.abs(x) / 60.0, 0.0, 1.0)
    scalp = 4.5 + 2.0 * np.sin(y / 55.0) ** 2 + temporal_muscle
    bone = skull * (1.0 + 0.25 * np.clip((np.abs(y - CENTER[1]) - 40.0) / 50.0, 0.0, 1.0))
    bone *= 1.0 - 0.25 * np.clip(temporal_muscle / 4.0, 0.0, 1.0)
    tissue[depth > -(bone + scalp)] = Tissue.SOFT
    tissue[(depth > -(bone + scalp - 1.7)) & (depth < -(bone + 1.0 + 0.85 * temporal_muscle))] = Tissue.FAT
    tissue[depth > -bone] = Tissue.BONE
    tissue[(depth > -0.70 * bone) & (depth < -0.32 * bone) & (bone > 5.0)] = Tissue.MARROW
    tissue[depth > 0] = Tissue.CSF

    inside = np.flatnonzero(depth.ravel() > 0)
    points = [a.ravel()[inside] for a in (x, y, z)]
    tissue.ravel()[inside] = _intracranial(*points, depth.ravel()[inside], away.ravel()[inside], atrophy, ventricle_size, brain_rng)
    if float(z.min()) < -8.0:
        _skull_base(tissue, x, y, z, depth)

    static = np.array([HU_OF_TISSUE.get(kind, 0.0) for kind in range(256)], np.float32)[tissue]
    static += _texture(texture_rng, tissue, x, y, z)
    return FineHead(grid, tissue, static, x, y, z, placement)


def _texture(rng, tissue, x, y, z):
    """Slow variation of brain HU (SD 0.8 HU at 12 mm) and of bone (SD 60 HU at 4 mm)."""
    out = np.zeros(tissue.shape, np.float32)
    for kinds, correlation, amplitude in ((PARENCHYMA, 12.0, 0.8), ((Tissue.BONE, Tissue.MARROW), 4.0, 60.0)):
        where = np.isin(tissue, [int(kind) for kind in kinds])
        values, step = smooth_field(rng, 40.0, correlation)
        out[where] = amplitude * sample_field(values, step, x[where], y[where], z[where])
    return out


def _intracranial(x, y, z, depth, away, atrophy, ventricle_size, rng):
    """Tissue of points inside the dura, all coordinates (N,); `depth` is mm below the dura, `away` mm from the center."""
    fold_rng, medial_rng, reach_rng, *warp_rngs = rng.spawn(6)
    rim = 0.7 + 1.1 * atrophy * (0.7 + 0.5 * np.clip((-y - 10.0) / 50.0, 0.0, 1.0))
    below = depth - rim
    # Convexity folds: the pattern depends on the direction from the center, so that sulci dive at right angles to the surface.
    shrink = 72.0 / np.maximum(away, 20.0)
    to_fold = _folds(fold_rng, (x - CENTER[0]) * shrink, (y - CENTER[1]) * shrink, (z - CENTER[2]) * shrink, 76.0, 3.4) / shrink
    # Nothing in a brain is as regular as a formula: structures are looked up at slightly displaced positions.
    displaced = []
    for coordinate, source, amount in zip((x, y, z), warp_rngs, (1.1, 1.7, 1.7), strict=True):
        values, step = smooth_field(source, 48.0, 7.0)
        displaced.append(coordinate + amount * sample_field(values, step, x, y, z))
    midline = np.abs(x + 0.4 * (displaced[0] - x))
    x, y, z = displaced
    ax = np.abs(x)
    values, step = smooth_field(reach_rng, 48.0, 11.0)
    variation = sample_field(values, step, x, y, z)

    reach = np.maximum(19.0 + 5.0 * variation, 6.0)
    half_gap = (0.30 + 0.45 * atrophy) * np.clip(1.3 - below / reach, 0.0, 1.2)
    tissue = np.full(x.shape, Tissue.WHITE, np.uint8)
    tissue[(below < 3.2) | ((to_fold < half_gap + 2.3) & (below < reach + 2.3))] = Tissue.GRAY
    sulcus = (below < 0) | ((to_fold < half_gap) & (below < reach))

    # The medial wall, everywhere but at the corpus callosum and below it.
    callosal = ((y - 4.0) / 38.0) ** 2 + ((z - 6.0) / 21.0) ** 2
    medial = (callosal > 1.0) & (z > -16.0 + 0.3 * np.maximum(y - 30.0, 0.0))
    medial_fold = _folds(medial_rng, 0.25 * x, y, z, 100.0, 3.4)
    medial_reach = np.maximum(10.0 + 4.0 * variation, 4.0)
    gap = 0.6 + 0.35 * atrophy
    tissue[medial & ((midline < 3.8) | ((ax < medial_reach + 2.0) & (medial_fold < 2.8 - 0.10 * ax)))] = Tissue.GRAY
    fissure = medial & (midline < gap)
    sulcus |= fissure | (medial & (ax < medial_reach) & (medial_fold < 0.45 * atrophy * (1.1 - ax / medial_reach)))

    # Sylvian fissure: the cistern over the insula, and the cleft to the surface that rises backwards.
    plane = -9.0 + 0.42 * (y + 18.0) + 2.2 * variation
    insula = 36.5 + 0.006 * (y - 2.0) ** 2
    over_insula = ((y - 2.0) / 27.0) ** 2 + ((z - 2.0 - 0.25 * y) / 15.0) ** 2
    width = np.clip(1.25 - over_insula, 0.0, 1.0) * (0.7 + 0.6 * atrophy)
    cistern = (over_insula < 1.0) & (np.abs(ax - insula) < width)
    open_width = (0.6 + 0.6 * atrophy) * np.clip((ax - 30.0) / 18.0, 0.4, 1.2)
    along_cleft = (ax > insula) & (y > -27.0) & (y < 40.0)
    cleft = along_cleft & (np.abs(z - plane) < open_width)
    tissue[along_cleft & (np.abs(z - plane) < open_width + 3.0)] = Tissue.GRAY
    tissue[(over_insula < 1.2) & (np.abs(ax - insula) < width + 3.0)] = Tissue.GRAY

    # Deep nuclei.
    caudate = ellipsoid(ax, y, z, (13.5, -17.0, 7.0), (5.0, 10.0, 11.0)) < 1
    caudate |= tube(ax, y, z, [(14.0, -10.0, 16.0), (19.0, 12.0, 21.0)], (3.4, 2.0)) < 0
    lentiform = (ellipsoid(ax, y, z, (25.0, -2.0, 2.0), (7.5, 18.0, 11.5)) < 1) & (ax > 16.0 + 0.25 * np.abs(y + 2.0))
    thalamus = ellipsoid(ax, y, z, (10.0, 18.0, 7.0), (9.0 - 0.12 * (y - 18.0), 14.5, 10.0)) < 1
    tissue[caudate | lentiform | thalamus] = Tissue.DEEP_GRAY

    # Posterior fossa: the tentorium falls away from the midline to the sides and the back.
    roof = -4.0 - 0.28 * ax - 0.10 * np.maximum(y - 60.0, 0.0)
    fossa = (y > 30.0 + 0.25 * ax) & (z < roof)
    tissue[fossa] = Tissue.CEREBELLUM
    folia = np.abs(np.sin((roof - z + 0.25 * y) / 1.9)) < 0.08 * atrophy
    sulcus = np.where(fossa, (below < 0) | (folia & (below < 9.0)) | ((ax < 1.2) & (y > 78.0)), sulcus)
    stem = ellipsoid(ax, y, 0.0 * z, (0.0, 23.0, 0.0), (15.0 - 0.10 * (z + 12.0), 12.0 - 3.0 * np.exp(-((ax / 5.0) ** 2)), 1.0))
    in_stem = (z < -3.0) & (stem < 1.0)
    sulcus |= (z < -3.0) & (stem < 1.45 + 0.25 * atrophy) & (y < 42.0)
    tissue[in_stem] = Tissue.BRAINSTEM

    # Suprasellar cistern: a star in front of the brainstem, and the valley of the middle cerebral artery on either side.
    angle = np.arctan2(y + 3.0, x)
    star = np.hypot(x, y + 3.0) < 11.0 + 3.0 * np.cos(5.0 * (angle - np.pi / 2.0))
    valley = tube(ax, y, z, [(10.0, -4.0, -15.0), (24.0, -6.0, -16.0), (36.0, -4.0, -12.0)], (2.8, 2.2, 2.0))

    # The deep white matter, nuclei and stem are not reached by the folds drawn so far.
    deep = (ax < insula - 3.5) & (callosal < 1.6) & (below > 16.0) & (z > -10.0) & ~medial
    sulcus &= ~(deep | caudate | lentiform | thalamus | in_stem)
    sulcus |= cistern | cleft | fissure | (star & (z < -10.0) & (z > -32.0)) | (valley < 0)
    tissue[sulcus] = Tissue.CSF

    horn, body = 4.6 * ventricle_size, 5.2 * ventricle_size
    course = [(8.0, -30.0, 3.0), (9.0, -18.0, 12.0), (11.0, 4.0, 19.0), (16.0, 26.0, 18.0)]
    course += [(25.0, 41.0, 8.0), (23.0, 58.0, 5.0), (20.0, 68.0, 5.0)]
    lateral = tube(ax, y, z, course, (horn, horn, body, body, 1.25 * body, 0.8 * horn, 0.3 * horn))
    temporal = tube(ax, y, z, [(25.0, 41.0, 8.0), (31.0, 26.0, -6.0), (31.0, 8.0, -15.0)], (body, 0.5 * horn, 0.45 * horn))
    # The septum between the frontal horns, and the caudate that bulges into them, stay.
    ventricle = ((lateral < 0) | (temporal < 0)) & (ax > 0.9) & ~(caudate & (lateral > -1.5)) & ~thalamus
    third = ellipsoid(x, y, z, (0.0, 8.0, -1.0), (1.2 + 1.8 * ventricle_size, 17.0, 11.0)) < 1
    fourth = ellipsoid(x, y, z, (0.0, 43.0, -27.0), (6.0, 5.0, 9.0)) < 1
    quadrigeminal = (ellipsoid(x, y, z, (0.0, 43.0, -2.0), (11.0, 5.0, 6.0)) < 1) & ~fossa
    tissue[ventricle | third | fourth | quadrigeminal] = Tissue.VENTRICLE

    falx = medial & (midline < 0.7) & (callosal > 2.4 - 0.6 * np.clip(y / 60.0, -1.0, 1.0)) & (z > -8.0)
    tentorium = (np.abs(z - roof) < 0.8) & (y > 36.0 + 0.25 * ax) & (ax > 4.0)
    tissue[falx | tentorium] = Tissue.DURA
    return tissue


def _skull_base(tissue, x, y, z, depth):
    """Bone, air and fat of the skull base, in place; only where a scan reaches that low."""
    low = np.flatnonzero((z < -8.0).ravel())
    flat = tissue.ravel()
    ax, yl, zl, dl = np.abs(x.ravel()[low]), y.ravel()[low], z.ravel()[low], depth.ravel()[low]
    kinds = flat[low]
    head = kinds != Tissue.AIR
    petrous = tube(ax, yl, zl, [(14.0, 14.0, -42.0), (34.0, 24.0, -35.0), (62.0, 44.0, -32.0)], (6.0, 6.5, 9.0))
    sphenoid = tube(ax, yl, zl, [(12.0, -12.0, -29.0), (34.0, -28.0, -25.0), (62.0, -34.0, -19.0)], (2.5, 1.8, 3.0))
    clivus = tube(ax, yl, zl, [(0.0, -4.0, -36.0), (0.0, 8.0, -52.0)], (7.0, 7.0))
    roof = -29.0 + 6.0 * np.exp(-(((ax - 30.0) / 12.0) ** 2)) - 0.15 * (yl + 62.0)
    front = (yl < -27.0 - 0.25 * ax) & (dl > -4.0)
    orbit = ellipsoid(ax, yl, zl, (31.0, -64.0, -44.0), (19.0, 26.0, 18.0)) < 1
    globe = ellipsoid(ax, yl, zl, (31.0, -74.0, -44.0), (12.0, 12.0, 12.0)) < 1
    kinds[front & (zl < roof) & (zl > roof - 3.0)] = Tissue.BONE
    kinds[front & (zl <= roof - 3.0)] = Tissue.SOFT
    kinds[head & ((petrous < 0) | (sphenoid < 0) | (clivus < 0))] = Tissue.BONE
    kinds[head & orbit] = Tissue.FAT
    kinds[head & globe] = Tissue.SOFT
    frontal_sinus = ellipsoid(ax, yl, zl, (8.0, -76.0, -20.0), (9.0, 3.5, 10.0)) < 1
    sphenoid_sinus = ellipsoid(ax, yl, zl, (8.0, -16.0, -44.0), (8.0, 11.0, 9.0)) < 1
    mastoid = ellipsoid(ax, yl, zl, (58.0, 46.0, -36.0), (9.0, 12.0, 11.0)) < 1
    cells = mastoid & (np.sin(1.3 * yl + 0.7 * zl) * np.sin(1.1 * ax + 0.5 * yl) > 0.1)
    kinds[head & (frontal_sinus | sphenoid_sinus | cells)] = Tissue.AIR
    flat[low] = kinds
