"""How a scanner sees a fine head: averaging into voxels, at each slice's own time, with the head moving.

Everything dynamic is linear in a few temporal functions, so that a fine head is averaged once and evaluated at any time; only frames
in which the head has moved are sampled anew from the fine grid.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, sparse
from scipy.spatial.transform import Rotation

from CTPerfusionSuiteLib.phantoms.forward_model import CurveTable
from CTPerfusionSuiteLib.progress import Progress, silent
from CTPerfusionSuiteLib.volumes import Geometry


@dataclass(frozen=True)
class FineSampling:
    """The fine grid that belongs to a scan.

    Attributes
    ----------
    scan, fine : Geometry
    factors : tuple of 3
        Fine voxels per scan voxel along x, y, z.
    margin : int
        Fine slices below the first and above the last scan slice, for moving heads.
    """

    scan: Geometry
    fine: Geometry
    factors: tuple[int, int, int]
    margin: int

    @classmethod
    def of(cls, scan: Geometry, margin_mm: float = 0.0, fine_mm: float = 0.95) -> "FineSampling":
        """Fine grid of an axis-parallel scan geometry, with `margin_mm` beyond its first and last slice.

        Fine pixels are made at most `fine_mm` wide, fine slices at most twice as thick.
        """
        limits = (fine_mm, fine_mm, 2.0 * fine_mm)
        factors = tuple(max(1, int(np.ceil(s / limit - 1e-6))) for s, limit in zip(scan.spacing, limits, strict=True))
        spacing = tuple(s / f for s, f in zip(scan.spacing, factors, strict=True))
        margin = int(np.ceil(margin_mm / spacing[2]))
        size = [n * f for n, f in zip(scan.size, factors, strict=True)]
        size[2] += 2 * margin
        origin = [o - (f - 1) / 2.0 * s for o, f, s in zip(scan.origin, factors, spacing, strict=True)]
        origin[2] -= margin * spacing[2]
        return cls(scan, Geometry(tuple(size), spacing, tuple(origin)), factors, margin)

    def scan_voxel(self, fine_voxel: np.ndarray) -> np.ndarray:
        """Flat scan voxel of flat fine voxels; -1 in the margins."""
        nx, ny, nz = self.fine.size
        fx, fy, fz = self.factors
        k, rest = np.divmod(fine_voxel, nx * ny)
        j, i = np.divmod(rest, nx)
        k = (k - self.margin) // fz
        inside = (k >= 0) & (k < self.scan.size[2])
        return np.where(inside, (k * self.scan.size[1] + j // fy) * self.scan.size[0] + i // fx, -1)

    def average(self, values: np.ndarray) -> np.ndarray:
        """Fine values (Z, Y, X) averaged into scan voxels (K, J, I)."""
        fx, fy, fz = self.factors
        inner = values[self.margin : values.shape[0] - self.margin]
        nk, nj, ni = self.scan.shape
        return inner.reshape(nk, fz, nj, fy, ni, fx).mean(axis=(1, 3, 5), dtype=np.float32)

    def matrix(self, fine_voxel: np.ndarray) -> sparse.csr_matrix:
        """Averaging of values held at `fine_voxel` (N,) only: (scan voxels, N)."""
        target = self.scan_voxel(fine_voxel)
        held = np.flatnonzero(target >= 0)
        weight = np.full(held.size, 1.0 / np.prod(self.factors), np.float32)
        return sparse.csr_matrix((weight, (target[held], held)), shape=(int(np.prod(self.scan.size)), fine_voxel.size))


@dataclass(frozen=True)
class DynamicHead:
    """A fine head with contrast running through it.

    Attributes
    ----------
    static : ndarray (Z, Y, X) float32
        HU without contrast, vessels included.
    tissue_voxel, tissue_coefficients : ndarray (N,) ascending, (N, B)
        Fine voxels of brain and their curves in `table`'s basis.
    vessel_voxel, vessel_weight, vessel_curve : ndarray (M,)
        Fine voxels with lumen (sorted), the share of each, and the row of `vessel_curves` it follows.
    vessel_curves : ndarray (V, count)
        HU on the table's fine time grid.
    """

    static: np.ndarray
    tissue_voxel: np.ndarray
    tissue_coefficients: np.ndarray
    vessel_voxel: np.ndarray
    vessel_weight: np.ndarray
    vessel_curve: np.ndarray
    vessel_curves: np.ndarray
    table: CurveTable

    def vessels_at(self, times) -> np.ndarray:
        """(V, M) HU at `times` (M,) seconds."""
        return self.table.grid.sample(self.vessel_curves, times).astype(np.float32)


@dataclass(frozen=True)
class VoxelCurves:
    """Noise-free enhancement of every scan voxel of a head at rest, for any time.

    Attributes
    ----------
    tissue : ndarray (K * J * I, B) as a sparse matrix
    vessels : sparse matrix (K * J * I, V)
    """

    tissue: sparse.csr_matrix
    vessels: sparse.csr_matrix
    head: DynamicHead

    @classmethod
    def of(cls, head: DynamicHead, sampling: FineSampling) -> "VoxelCurves":
        """Average the fine curves into scan voxels."""
        dense = sampling.matrix(head.tissue_voxel) @ head.tissue_coefficients
        weights = sparse.csr_matrix(
            (head.vessel_weight, (np.arange(head.vessel_voxel.size), head.vessel_curve)),
            shape=(head.vessel_voxel.size, len(head.vessel_curves)),
        )
        return cls(dense, sparse.csr_matrix(sampling.matrix(head.vessel_voxel) @ weights), head)

    def at(self, voxels, times) -> np.ndarray:
        """Enhancement (N, M) float32 HU of flat scan `voxels` (index, slice or mask) at `times` (M,) seconds."""
        return self.tissue[voxels] @ self.head.table.at(times) + self.vessels[voxels] @ self.head.vessels_at(times)


def sample_moved(
    head: DynamicHead, sampling: FineSampling, pose: np.ndarray, slice_times: np.ndarray, center: np.ndarray
) -> np.ndarray:
    """One frame (K, J, I) float32 of a head that has moved.

    Parameters
    ----------
    pose : ndarray (6,)
        Translation (mm) and rotation (degrees) about x, y, z that take the resting head to where it is now.
    slice_times : ndarray (K,)
        Seconds.
    center : ndarray (3,)
        Scanner position the head turns about.
    """
    fine, scan = sampling.fine, sampling.scan
    nx, ny, nz = fine.size
    fx, fy, fz = sampling.factors
    back = Rotation.from_euler("xyz", pose[3:], degrees=True).as_matrix().T
    spacing, origin = np.asarray(fine.spacing), np.asarray(fine.origin)
    # Index in the resting head of an index here: rest = S^-1 (R^T (S i + o - c - t) + c - o).
    linear = back * spacing[None, :] / spacing[:, None]
    offset = (back @ (origin - center - pose[:3]) + center - origin) / spacing
    reverse = linear[::-1, ::-1]
    out = np.empty(scan.shape, np.float32)
    corners = np.array([[i, j] for i in (0, nx - 1) for j in (0, ny - 1)])
    for k in range(scan.size[2]):
        first = sampling.margin + k * fz
        rows = [linear[2] @ [i, j, kk] + offset[2] for i, j in corners for kk in (first, first + fz - 1)]
        low = int(np.clip(np.floor(min(rows)), 0, nz - 1))
        high = int(np.clip(np.ceil(max(rows)) + 1, low + 1, nz))
        now = _dynamic_slab(head, low, high, nx * ny, slice_times[k]).reshape(high - low, ny, nx)
        shift = offset[::-1] + reverse @ np.array([first, 0, 0]) - [low, 0, 0]
        moved = ndimage.affine_transform(now, reverse, shift, (fz, ny, nx), order=1, mode="nearest")
        out[k] = moved.reshape(fz, scan.size[1], fy, scan.size[0], fx).mean(axis=(0, 2, 4))
    return out


def _dynamic_slab(head: DynamicHead, low: int, high: int, plane: int, time: float) -> np.ndarray:
    """Fine slices `low` to `high` with contrast at one time, flat."""
    now = head.static[low:high].reshape(-1).copy()
    a, b = np.searchsorted(head.tissue_voxel, (low * plane, high * plane))
    now[head.tissue_voxel[a:b] - low * plane] += (head.tissue_coefficients[a:b] @ head.table.at([time]))[:, 0]
    a, b = np.searchsorted(head.vessel_voxel, (low * plane, high * plane))
    np.add.at(now, head.vessel_voxel[a:b] - low * plane, head.vessel_weight[a:b] * head.vessels_at([time])[head.vessel_curve[a:b], 0])
    return now


def acquire(
    head: DynamicHead,
    sampling: FineSampling,
    curves: VoxelCurves,
    slice_times: np.ndarray,
    motion: np.ndarray,
    center: np.ndarray,
    progress: Progress = silent,
) -> np.ndarray:
    """The noise-free series (T, K, J, I) float32.

    Parameters
    ----------
    slice_times : ndarray (T, K)
        Seconds.
    motion : ndarray (T, 6)
        Pose of each frame as in `sample_moved`; zeros at rest.
    """
    frames, slices = slice_times.shape
    plane = sampling.scan.size[0] * sampling.scan.size[1]
    static = sampling.average(head.static)
    out = np.empty((frames, *sampling.scan.shape), np.float32)
    resting = np.flatnonzero(np.abs(motion).max(axis=1) < 1e-6)
    for k in range(slices):
        enhancement = curves.at(slice(k * plane, (k + 1) * plane), slice_times[resting, k])
        out[resting, k] = static[k] + enhancement.T.reshape(resting.size, *static.shape[1:])
        progress(0.3 * (k + 1) / slices)
    moving = [int(t) for t in np.setdiff1d(np.arange(frames), resting)]
    pool = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1))
    try:
        jobs = {t: pool.submit(sample_moved, head, sampling, motion[t], slice_times[t], center) for t in moving}
        for number, t in enumerate(moving):
            out[t] = jobs.pop(t).result()
            progress(0.3 + 0.7 * (number + 1) / len(moving))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return out
