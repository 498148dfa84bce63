"""The plane between the hemispheres, found as the plane about which the head is most symmetric."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, optimize

from CTPerfusionSuiteLib.volumes import Geometry, Volume

SAMPLE_MM = 3.0
"""Distance in the slice of the points whose mirror images are compared."""
WINDOW_HU = (-50.0, 250.0)
"""Skull, ventricles and falx count; the contrast within bone does not."""
START_ANGLES_DEG = np.arange(-24.0, 25.0, 6.0)


@dataclass(frozen=True)
class MidsagittalPlane:
    """A plane in patient space.

    Attributes
    ----------
    point : ndarray (3,)
        A point on it, LPS mm.
    normal : ndarray (3,)
        Unit normal, pointing to the patient's left.
    asymmetry : float
        Mean difference between the halves, as a share of the comparison window (0 is perfect).
    """

    point: np.ndarray
    normal: np.ndarray
    asymmetry: float = 0.0

    def distance(self, lps) -> np.ndarray:
        """Signed distance of positions (..., 3), mm; positive on the patient's left."""
        return (np.asarray(lps, dtype=float) - self.point) @ self.normal

    def mirror(self, lps) -> np.ndarray:
        """Mirror images of positions (..., 3), LPS mm."""
        lps = np.asarray(lps, dtype=float)
        return lps - 2.0 * self.distance(lps)[..., None] * self.normal

    def distance_map(self, geometry: Geometry) -> np.ndarray:
        """Signed distance of every voxel center, (K, J, I), mm."""
        gradient = geometry.matrix[:3, :3].T @ self.normal
        k, j, i = (np.arange(n, dtype=float) for n in geometry.shape)
        offset = self.distance(np.array(geometry.origin))
        return offset + k[:, None, None] * gradient[2] + j[None, :, None] * gradient[1] + i[None, None, :] * gradient[0]

    def hemisphere(self, geometry: Geometry, mask: np.ndarray) -> np.ndarray:
        """uint8 (K, J, I): 1 on the patient's left, 2 on the right, 0 outside `mask`."""
        return np.where(self.distance_map(geometry) > 0, np.uint8(1), np.uint8(2)) * np.asarray(mask, np.uint8)

    def mirror_mask(self, mask: np.ndarray, geometry: Geometry) -> np.ndarray:
        """A bool mask (K, J, I) reflected to the other side, nearest voxel."""
        target = self._reflected_index(geometry)
        rounded = np.rint(target).astype(int)
        inside = np.ones(geometry.shape, bool)
        for axis, size in enumerate(geometry.shape):
            inside &= (rounded[axis] >= 0) & (rounded[axis] < size)
            np.clip(rounded[axis], 0, size - 1, out=rounded[axis])
        return np.asarray(mask, bool)[tuple(rounded)] & inside

    def _reflected_index(self, geometry: Geometry) -> np.ndarray:
        """Continuous indices (3: k, j, i; K, J, I) of each voxel's mirror image."""
        k, j, i = np.meshgrid(*(np.arange(n, dtype=float) for n in geometry.shape), indexing="ij")
        return np.moveaxis(geometry.to_index(self.mirror(geometry.to_lps(np.stack([i, j, k], axis=-1)))), -1, 0)[::-1]


def estimate_midsagittal(mean: Volume, brain: np.ndarray) -> MidsagittalPlane:
    """The plane of best symmetry of skull, ventricles and brain outline.

    Parameters
    ----------
    mean : Volume
        Mean or baseline CT, HU.
    brain : ndarray (K, J, I) of bool
        Its brain mask; the plane passes near its center.

    Returns
    -------
    MidsagittalPlane

    Notes
    -----
    Differences between a point and its mirror image are capped, so that a lesion or a one-sided finding cannot turn the plane.
    Directions are tried every 6 degrees about the long axis of the body and the best is refined with both angles and the offset free.

    References
    ----------
    Liu Y, Collins RT, Rothfus WE, IEEE Trans Med Imaging 2001;20:175-192 (symmetry plane of pathological brain images).
    """
    geometry = mean.geometry
    spacing = np.array(geometry.spacing[::-1])
    image = np.clip(np.nan_to_num(np.asarray(mean.values, np.float32), nan=-1000.0), *WINDOW_HU)
    image = ndimage.gaussian_filter(image, [0.0, 1.5 / spacing[1], 1.5 / spacing[2]])
    image = (image - WINDOW_HU[0]) / (WINDOW_HU[1] - WINDOW_HU[0])
    around = ndimage.binary_dilation(brain.any(axis=0), iterations=max(1, int(12.0 / spacing[1])))
    step = [max(1, int(round(SAMPLE_MM / s))) for s in spacing[1:]]
    chosen = np.zeros(geometry.shape, bool)
    chosen[:, :: step[0], :: step[1]] = True
    chosen &= around[None]
    kji = np.argwhere(chosen)
    points, values = geometry.to_lps(kji[:, ::-1]), image[tuple(kji.T)]
    center = geometry.to_lps(np.argwhere(brain)[:, ::-1]).mean(axis=0)

    def plane(parameters) -> MidsagittalPlane:
        yaw, roll, offset = parameters
        normal = _normal(yaw, roll)
        return MidsagittalPlane(center + offset * normal, normal)

    def cost(parameters) -> float:
        index = geometry.to_index(plane(parameters).mirror(points))[:, ::-1].T
        # The slab is thin: a mirror image just above or below it is compared with the end slice.
        index[0] = np.clip(index[0], 0.0, geometry.shape[0] - 1.0)
        other = ndimage.map_coordinates(image, index, order=1, mode="constant", cval=0.0, prefilter=False)
        return float(np.minimum(np.abs(other - values), 0.35).mean())

    coarse = [(cost((yaw, 0.0, offset)), yaw, offset) for yaw in START_ANGLES_DEG for offset in (-8.0, -4.0, 0.0, 4.0, 8.0)]
    best = None
    for _, yaw, offset in sorted(coarse)[:2]:
        simplex = np.array([[yaw, 0, offset], [yaw + 4, 0, offset], [yaw, 4, offset], [yaw, 0, offset + 3]], float)
        found = optimize.minimize(
            cost, simplex[0], method="Nelder-Mead", options={"initial_simplex": simplex, "xatol": 0.02, "fatol": 1e-6, "maxfev": 160}
        )
        if best is None or found.fun < best.fun:
            best = found
    chosen_plane = plane(best.x)
    return MidsagittalPlane(chosen_plane.point, chosen_plane.normal, float(best.fun))


def _normal(yaw_deg: float, roll_deg: float) -> np.ndarray:
    """Unit vector to the patient's left, turned about the z axis (yaw) and the y axis (roll)."""
    yaw, roll = np.deg2rad([yaw_deg, roll_deg])
    return np.array([np.cos(roll) * np.cos(yaw), np.cos(roll) * np.sin(yaw), np.sin(roll)])
