"""The midsagittal plane of a head, from the symmetry of skull and brain."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.optimize import minimize

from CTPerfusionSuiteLib.volumes import Geometry, Volume

from .brain_mask import center_lps

LEFT, RIGHT = 1, 2
HEAD_RIM_MM = 12.0
LARGEST_YAW_DEG = 24.0
LARGEST_ROLL_DEG = 12.0
SKULL_WINDOW_HU = (0.0, 100.0)
DIFFERENCE_CUT_HU = 30.0
BRAIN_WINDOW_HU = (5.0, 45.0)
BRAIN_CUT_HU = 12.0
BORDER_MM = 2.0
MIDDLE_MM = 40.0
SKULL_SHARE = 0.1
ROLL_PENALTY_HU = 0.02


@dataclass(frozen=True)
class MidsagittalPlane:
    """A plane that parts left from right.

    Attributes
    ----------
    point : tuple of 3
        A point of the plane, LPS mm.
    normal : tuple of 3
        Unit normal, LPS, pointing to the patient's left.
    asymmetry_hu : float
        Mean difference between the halves, HU (cut at 30): what the fit could not mirror.
    """

    point: tuple[float, float, float]
    normal: tuple[float, float, float]
    asymmetry_hu: float = float("nan")

    def distance(self, points) -> np.ndarray:
        """Signed distance (...) of LPS points (..., 3), mm; positive on the patient's left."""
        return (np.asarray(points, dtype=float) - np.asarray(self.point)) @ np.asarray(self.normal)

    def mirror(self, points) -> np.ndarray:
        """LPS points (..., 3) reflected in the plane."""
        return np.asarray(points, dtype=float) - 2.0 * self.distance(points)[..., None] * np.asarray(self.normal)

    def distance_map(self, geometry: Geometry) -> np.ndarray:
        """Signed distance of every voxel of a grid, float32 (K, J, I), mm."""
        matrix = geometry.matrix
        normal = np.asarray(self.normal)
        along = normal @ matrix[:3, :3]
        start = float((matrix[:3, 3] - np.asarray(self.point)) @ normal)
        i, j, k = (np.arange(n) * step for n, step in zip(geometry.size, along, strict=True))
        return (start + k[:, None, None] + j[None, :, None] + i[None, None, :]).astype(np.float32)

    def hemisphere(self, geometry: Geometry, mask: np.ndarray) -> np.ndarray:
        """uint8 (K, J, I): 1 on the patient's left, 2 on the right, 0 outside `mask`."""
        side = np.where(self.distance_map(geometry) >= 0.0, LEFT, RIGHT).astype(np.uint8)
        return np.where(mask, side, np.uint8(0))

    def mirror_mask(self, mask: np.ndarray, geometry: Geometry) -> np.ndarray:
        """The mask (K, J, I) reflected in the plane, nearest voxel; False where the mirror image leaves the grid."""
        offset, matrix = self._index_mirror(geometry)
        # affine_transform pulls: the output at a voxel is the input at its mirror image, and a reflection is its own inverse.
        mirrored = ndimage.affine_transform(mask.astype(np.uint8), matrix, offset, order=0, mode="grid-constant", cval=0)
        return mirrored.astype(bool)

    def _index_mirror(self, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
        """Offset (3,) and matrix (3, 3) of the reflection in array indices (k, j, i)."""
        corners = np.vstack([np.zeros(3), np.eye(3)])
        mirrored = geometry.to_index(self.mirror(geometry.to_lps(corners)))
        matrix = (mirrored[1:] - mirrored[0]).T
        return mirrored[0][::-1], matrix[::-1, ::-1]


def estimate_midsagittal(image: Volume, brain: np.ndarray) -> MidsagittalPlane:
    """The plane in which skull and brain mirror themselves best.

    Heads are searched over turns of +-24 degrees and tilts of +-12 degrees about the scanner's axes.  The skull, which noise and
    lesions leave alone, gives the plane roughly; the brain within 4 cm of it (falx, fissure, ventricles, deep nuclei) gives it
    finally, because few skulls are as symmetric as the middle of the brain.  The difference between a point and its mirror image is
    cut, so that a lesion, an opened skull or half a frontal sinus weighs little.

    Parameters
    ----------
    image : Volume
        Mean or baseline image, HU.
    brain : ndarray of bool (K, J, I)
        Brain mask on the same grid.

    References
    ----------
    Liu Y et al., IEEE Trans Med Imaging 2001;20:175-192 (symmetry plane of pathological neuroimages).
    """
    geometry = image.geometry
    center = center_lps(brain, geometry)
    outer = _Symmetry(image, brain, SKULL_WINDOW_HU, DIFFERENCE_CUT_HU, HEAD_RIM_MM, center)
    starts = [
        (yaw, roll, shift) for yaw in np.arange(-20.0, 21.0, 4.0) for roll in (-7.0, 0.0, 7.0) for shift in (-9.0, -4.5, 0.0, 4.5, 9.0)
    ]
    order = np.argsort([outer.cost(start, 2500) for start in starts])
    found = [_refined(lambda p: outer.cost(p, 2500), starts[order[rank]], (2.5, 3.0, 2.5), 120) for rank in (0, 1, 3)]
    rough = min(found, key=lambda result: result.fun).x

    inner = _Symmetry(image, brain, BRAIN_WINDOW_HU, BRAIN_CUT_HU, -BORDER_MM, center)
    inner.keep_near(rough, MIDDLE_MM)

    def cost(parameters):
        # The skull still counts a little: it holds the plane where a large lesion or few slices leave the brain undecided.
        away = (parameters - rough) / np.array([4.0, 4.0, 4.0])
        return inner.cost(parameters) + SKULL_SHARE * outer.cost(parameters, 5000) + 0.05 * float(away @ away)

    best = _refined(cost, rough, (1.5, 1.5, 1.5), 160)
    best = _refined(cost, best.x, (0.4, 0.5, 0.4), 80)
    normal = _normal(best.x)
    point = center + best.x[2] * normal
    return MidsagittalPlane(tuple(float(p) for p in point), tuple(float(n) for n in normal), float(outer.cost(best.x)))


def _normal(parameters) -> np.ndarray:
    """Unit normal of (yaw, roll, shift) in degrees and mm."""
    yaw, roll = np.radians(parameters[0]), np.radians(parameters[1])
    return np.array([np.cos(yaw) * np.cos(roll), np.sin(yaw) * np.cos(roll), np.sin(roll)])


def _refined(cost, start, steps, evaluations):
    """Nelder-Mead from a start (yaw, roll, shift) with initial steps."""
    simplex = np.vstack([start, np.asarray(start) + np.diag(steps)])
    return minimize(
        cost, start, method="Nelder-Mead", options={"initial_simplex": simplex, "maxfev": evaluations, "xatol": 0.02, "fatol": 1e-4}
    )


class _Symmetry:
    """How badly a window of HU mirrors itself in a plane, at sample points in and around the brain."""

    def __init__(self, image: Volume, brain: np.ndarray, window: tuple[float, float], cut_hu: float, rim_mm: float, center: np.ndarray):
        spacing = image.geometry.spacing[1::-1]
        values = np.clip(np.nan_to_num(np.asarray(image.values, dtype=np.float32)), *window)
        self.values = ndimage.gaussian_filter(values, [0.0] + [1.5 / s for s in spacing])
        self.geometry, self.cut_hu, self.center = image.geometry, cut_hu, center
        self.points = _sample_points(brain, image.geometry, rim_mm)
        self.own = _values_at(self.values, self.geometry, self.points)[0]

    def keep_near(self, parameters, reach_mm: float) -> None:
        """Drop the points farther than `reach_mm` from a plane."""
        near = np.abs((self.points - self.center) @ _normal(parameters) - parameters[2]) <= reach_mm
        self.points, self.own = self.points[near], self.own[near]

    def cost(self, parameters, count: int | None = None) -> float:
        """Mean cut difference, HU, over the first `count` points."""
        normal = _normal(parameters)
        points, own = self.points[:count], self.own[:count]
        distance = (points - self.center) @ normal - parameters[2]
        mirrored, seen = _values_at(self.values, self.geometry, points - 2.0 * distance[:, None] * normal)
        if np.count_nonzero(seen) < 0.4 * max(1, seen.size):
            return self.cut_hu
        difference = np.minimum(np.abs(own[seen] - mirrored[seen]), self.cut_hu).mean()
        over = max(0.0, abs(parameters[0]) - LARGEST_YAW_DEG) + max(0.0, abs(parameters[1]) - LARGEST_ROLL_DEG)
        # Few slices hardly show a sideways tilt; the penalty then keeps it near that of the scanner.
        return float(difference + ROLL_PENALTY_HU * (parameters[1] / 5.0) ** 2 + over)


def _sample_points(brain: np.ndarray, geometry: Geometry, rim_mm: float, wanted: int = 12_000) -> np.ndarray:
    """About `wanted` LPS points (N, 3) spread over the brain widened (or, where negative, narrowed) in the slice plane by `rim_mm`."""
    spacing = geometry.spacing[1::-1]
    region = np.zeros_like(brain)
    for k in np.flatnonzero(brain.any(axis=(1, 2))):
        if rim_mm >= 0.0:
            region[k] = ndimage.distance_transform_edt(~brain[k], sampling=spacing) <= rim_mm
        else:
            region[k] = ndimage.distance_transform_edt(brain[k], sampling=spacing) > -rim_mm
    kji = np.argwhere(region if region.any() else brain)
    rng = np.random.default_rng(0)
    chosen = kji[rng.permutation(len(kji))[:wanted]].astype(float)
    # Scattering the points inside their voxels avoids the bias of mirroring one grid onto another.
    chosen[:, 1:] += rng.uniform(-0.5, 0.5, (len(chosen), 2))
    return geometry.to_lps(chosen[:, ::-1])


def _values_at(values: np.ndarray, geometry: Geometry, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Linear interpolation at LPS points; also which lie on the grid (half a voxel beyond the outer slices counts)."""
    ijk = geometry.to_index(points)
    size = np.asarray(geometry.size)
    seen = np.all((ijk > -0.5) & (ijk < size - 0.5), axis=1)
    return ndimage.map_coordinates(values, ijk[:, ::-1].T, order=1, mode="nearest"), seen
