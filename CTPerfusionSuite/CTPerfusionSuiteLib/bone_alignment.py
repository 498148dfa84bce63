"""Rigid alignment of head CT frames on the edges of the skull.

During a perfusion scan vessels rise by up to 400 HU and tissue by 5-10 HU, so similarity of the whole image mistakes contrast for
motion.  Bone does not enhance: frames are compared after `bone_window` has made everything softer than bone equal.  The pose follows
from Gauss-Newton steps on the sum of squared differences at edge points of the reference ("inverse compositional" Lucas-Kanade:
the points, their gradients and Jacobians are computed once; Baker and Matthews, Int J Comput Vis 2004;56:221), coarse to fine, with
Tukey weights so that an enhancing sinus at the inner table or a wire does not pull.

Products over the points are written as einsum and sums: BLAS would start its own threads for every one of them, beside the threads
that already share the frames (four times slower, measured).

Inside this file positions are millimeters along the image axes (I, J, K), from the center of the slab.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from CTPerfusionSuiteLib.rigid_motion import rotation_matrix, rotation_vector

SOFT_HU = 250.0  # everything below is made equal: the brightest artery of a bolus hardly rises above it
SOFT_HU_THIN, SOFT_SHARE = 130.0, 0.35  # thin or soft skulls: this share of their density, but above any unenhanced tissue
DENSE_HU = 1400.0  # everything above is made equal: metal, teeth
FINE_MM = 2.0  # in-plane sampling of the fine level
COARSE_MM = 5.0  # in-plane sampling and blur of the coarse level
FINE_POINTS, COARSE_POINTS = 12000, 5000
LONGEST_STEP_MM, HEAD_RADIUS_MM = 12.0, 80.0
# Spread of poses expected before looking, only felt where bone says nothing: through-plane shift and nodding in thin slabs.
PRIOR_MM, PRIOR_DEG = 6.0, 4.0
# Thick slices alias: what lies between two of them is a guess wherever the skull slants.  A blur of 0.7 slice in all directions takes
# the guessed part away (with less, poses are drawn to where slices coincide and nodding is missed by a degree; measured in
# Testing/Benchmarks/motion_correction.py), and the outermost half slice, where half of that blur is made up, is not compared.
BLUR_SLICES, EDGE_SLICES = 0.7, 0.5
BLUR_MM = (2.0, 5.0)  # least and most in-plane blur
FORGIVEN = 0.1
RESIDUAL_CORRELATION = 40.0  # neighboring residuals are alike: so many count as one


@dataclass(frozen=True)
class SlabSampling:
    """How a slab of the scan is averaged to the fine level.

    Attributes
    ----------
    shape : tuple of 3
        Voxels of the slab (K, J, I).
    spacing : tuple of 3
        mm along (K, J, I).
    factors : tuple of 3
        Voxels averaged along (K, J, I).
    soft_hu : float
        Everything softer is made equal.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    factors: tuple[int, int, int]
    soft_hu: float = SOFT_HU

    @classmethod
    def of(cls, slab: np.ndarray, spacing) -> "SlabSampling":
        """Sampling near `FINE_MM` in the slice plane and no finer than 2.5 mm across slices, for a frame before contrast.

        `slab` is (K, J, I) HU, `spacing` its mm along (K, J, I).
        """
        wanted = (2.5, FINE_MM, FINE_MM)
        factors = tuple(max(1, min(int(w / s + 0.5), n // 4)) for w, s, n in zip(wanted, spacing, slab.shape, strict=True))
        dense = slab[:, :: max(1, factors[1]), :: max(1, factors[2])]
        dense = dense[dense > SOFT_HU_THIN]
        soft = float(np.clip(SOFT_SHARE * np.percentile(dense, 90), SOFT_HU_THIN, SOFT_HU)) if dense.size else SOFT_HU
        return cls(slab.shape, tuple(float(s) for s in spacing), factors, float(round(soft)))

    @property
    def fine_spacing(self) -> np.ndarray:
        """mm between fine samples along (K, J, I)."""
        return np.asarray(self.spacing) * self.factors

    @property
    def fine_shape(self) -> tuple[int, int, int]:
        """Samples of the fine level (K, J, I)."""
        return tuple(n // f for n, f in zip(self.shape, self.factors, strict=True))

    @property
    def fine_origin(self) -> np.ndarray:
        """mm from the slab's center to the first fine sample along (K, J, I)."""
        return ((np.asarray(self.factors) - 1) / 2 - (np.asarray(self.shape) - 1) / 2) * np.asarray(self.spacing)


def bone_window(slab: np.ndarray, sampling: SlabSampling) -> np.ndarray:
    """Fine-level bone image.

    Parameters
    ----------
    slab : ndarray (K, J, I)
        HU.
    sampling : SlabSampling

    Returns
    -------
    ndarray, float32, `sampling.fine_shape`
        HU between `soft_hu` and `DENSE_HU`, averaged to the fine level and blurred (see `BLUR_SLICES`).
    """
    (k, j, i), (fk, fj, fi) = sampling.fine_shape, sampling.factors
    kind = slab.dtype.type  # stay in the series' own type: int16 is clipped and summed much faster
    clipped = np.clip(slab[:k * fk, :j * fj, :i * fi], kind(sampling.soft_hu), kind(DENSE_HU))
    if (fk, fj, fi) != (1, 1, 1):
        clipped = clipped.reshape(k, fk, j, fj, i, fi).sum(axis=(1, 3, 5), dtype=np.float32) / (fk * fj * fi)
    image = clipped.astype(np.float32, copy=False)
    blur = np.clip(BLUR_SLICES * sampling.fine_spacing[0], *BLUR_MM) / sampling.fine_spacing[1:]
    for axis in (1, 2):
        image = ndimage.gaussian_filter1d(image, blur[axis - 1], axis=axis, mode="nearest", truncate=3.0)
    if k >= 4:
        image = ndimage.gaussian_filter1d(image, BLUR_SLICES, axis=0, mode="nearest", truncate=3.0)
    return image


@dataclass(frozen=True)
class Pose:
    """Rotation (3, 3) and translation (3,) mm in slab coordinates: where a point of the reference lies in the frame."""

    rotation: np.ndarray
    translation: np.ndarray

    @classmethod
    def still(cls) -> "Pose":
        """The head where the reference has it."""
        return cls(np.eye(3), np.zeros(3))

    @property
    def parameters(self) -> np.ndarray:
        """(6,) translation in mm and rotation vector in radians."""
        return np.concatenate([self.translation, rotation_vector(self.rotation)])

    def displacement(self, points: np.ndarray) -> np.ndarray:
        """(N,) mm that points (N, 3) move."""
        moved = np.einsum("ij,nj->ni", self.rotation - np.eye(3), points) + self.translation
        return np.sqrt((moved**2).sum(axis=1))

    def after_undoing(self, step: np.ndarray) -> "Pose":
        """This pose composed with the inverse of a small one (6,): the inverse compositional update."""
        inverse = rotation_matrix(step[3:]).T
        rotation = self.rotation @ inverse
        return Pose(rotation, self.translation - rotation @ step[:3])


@dataclass(frozen=True)
class EdgeLevel:
    """Edge points of the reference at one resolution.

    Attributes
    ----------
    spacing, origin : ndarray (3,)
        mm along (I, J, K) of the level's samples.
    shape : tuple of 3
        Samples (K, J, I).
    margin : float
        Slices at either end that are not compared.
    index : tuple of 3 ndarray (N,)
        Array indices of the points.
    points : ndarray (N, 3)
        mm.
    values : ndarray (N,)
        Reference image at the points, HU.
    jacobian : ndarray (N, 6)
        Change of the reference by each pose parameter, HU/mm and HU/rad.
    """

    spacing: np.ndarray
    origin: np.ndarray
    shape: tuple[int, int, int]
    margin: float
    index: tuple
    points: np.ndarray
    values: np.ndarray
    jacobian: np.ndarray


@dataclass(frozen=True)
class Fit:
    """Result of an alignment: the pose, and the share of the edge contrast it leaves unexplained (0...1)."""

    pose: Pose
    mismatch: float
    covered: float


class SkullReference:
    """The reference of one slab, ready to align frames to.

    Parameters
    ----------
    image : ndarray
        Fine-level bone image (`bone_window`) of the reference.
    sampling : SlabSampling

    Attributes
    ----------
    usable : bool
        False when the slab shows too little bone to tell motion.
    in_plane_only : bool
        True below four fine slices, where shift across slices and nodding cannot be told from the shape of the skull.
    skull : ndarray (M, 3)
        Points of the skull, mm: the head's displacement is measured there.
    """

    def __init__(self, image: np.ndarray, sampling: SlabSampling):
        self.sampling = sampling
        self.in_plane_only = image.shape[0] < 4
        skull = _largest_parts(image > 1.4 * sampling.soft_hu)
        self.usable = int(skull.sum()) >= 40 * image.shape[0] ** 0.5
        spacing, origin = sampling.fine_spacing[::-1], sampling.fine_origin[::-1]
        where = np.argwhere(skull)
        self.skull = (where[:: max(1, len(where) // 2000), ::-1] * spacing + origin).astype(float)
        if not self.usable:
            self.levels = ()
            return
        reach = np.maximum(1, np.round(10.0 / sampling.fine_spacing)).astype(int)
        reach[0] = min(reach[0], 1)
        near = ndimage.maximum_filter(skull, size=tuple(2 * reach + 1))
        if not self.in_plane_only:
            near[[0, -1]] = False
        fine = _edge_level(image, near, spacing, origin, FINE_POINTS)
        stride = self._stride
        coarse = _edge_level(self._blurred(image), near[:, ::stride, ::stride], spacing * (stride, stride, 1), origin, COARSE_POINTS)
        self.levels = (coarse, fine)
        self.usable = min(len(level.points) for level in self.levels) >= 50

    @property
    def _stride(self) -> int:
        return max(1, int(round(COARSE_MM / self.sampling.fine_spacing[1])))

    def _blurred(self, image: np.ndarray) -> np.ndarray:
        """Coarse level of a fine image: blurred by `COARSE_MM` and thinned in the slice plane."""
        spacing = self.sampling.fine_spacing
        stride = self._stride
        out = ndimage.gaussian_filter1d(image, COARSE_MM / spacing[2], axis=2, mode="nearest", truncate=2.5)[:, :, ::stride]
        out = ndimage.gaussian_filter1d(out, COARSE_MM / spacing[1], axis=1, mode="nearest", truncate=2.5)[:, ::stride]
        if not self.in_plane_only:
            out = ndimage.gaussian_filter1d(out, COARSE_MM / spacing[0], axis=0, mode="nearest", truncate=2.5)
        return out

    def precheck(self, image: np.ndarray) -> Fit:
        """One Gauss-Newton step from rest without interpolation: exact for a still frame, a hint for a moved one."""
        fine = self.levels[-1]
        step = _step(fine, image[fine.index] - fine.values, np.ones(len(fine.values)), Pose.still(), self._free, robust=True)
        return Fit(Pose.still().after_undoing(step), _mismatch(fine, image[fine.index], np.ones(len(fine.values))), 1.0)

    def align(self, image: np.ndarray, starts=(), refine_only: bool = False) -> Fit:
        """Pose of a frame.

        Parameters
        ----------
        image : ndarray
            Fine-level bone image of the frame.
        starts : sequence of Pose
            Poses to start from; rest when empty.  The best result is kept.
        refine_only : bool
            Leave out the coarse level.
        """
        coarse_level, fine_level = self.levels
        starts = tuple(starts) or (Pose.still(),)
        if not refine_only:
            coarse = ndimage.spline_filter(self._blurred(image), 3, output=np.float32, mode="mirror")
            fits = [_iterate(coarse_level, coarse, start, self._free, 25, 0.05, robust=False) for start in starts]
            starts = (min(fits, key=lambda fit: fit.mismatch).pose,)
        fine = ndimage.spline_filter(image, 3, output=np.float32, mode="mirror")
        fits = [_iterate(fine_level, fine, start, self._free, 15, 0.01, robust=True) for start in starts]
        return min(fits, key=lambda fit: fit.mismatch)

    @property
    def _free(self) -> np.ndarray:
        """Indices of the pose parameters that are estimated."""
        return np.array([0, 1, 5]) if self.in_plane_only else np.arange(6)


def _largest_parts(mask: np.ndarray) -> np.ndarray:
    """The skull: the largest connected part and others at least a fifth as large (head holders and wires are left out)."""
    labels, count = ndimage.label(mask, structure=np.ones((3, 3, 3), bool))
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return (sizes >= sizes.max() / 5)[labels]


def _edge_level(image, near, spacing, origin, limit) -> EdgeLevel:
    """Points, values and Jacobians of the strongest edges of a reference image within the mask `near`."""
    spline = ndimage.spline_filter(image, 3, output=np.float64, mode="mirror")
    index = np.argwhere(near)
    gradient = np.zeros((len(index), 3))
    for axis in range(3):
        if image.shape[axis] < 4:
            continue
        offset = np.zeros(3)
        offset[axis] = 0.25
        ahead, behind = (ndimage.map_coordinates(spline, (index + s * offset).T, order=3, prefilter=False, mode="mirror") for s in (1, -1))
        gradient[:, 2 - axis] = (ahead - behind) / (0.5 * spacing[2 - axis])
    strength = np.linalg.norm(gradient, axis=1)
    keep = np.flatnonzero(strength > 0.05 * np.percentile(strength, 99))
    keep = keep[:: max(1, -(-len(keep) // limit))]
    index, gradient = index[keep], gradient[keep]
    points = index[:, ::-1] * spacing + origin
    return EdgeLevel(np.asarray(spacing, float), np.asarray(origin, float), image.shape, EDGE_SLICES if len(image) >= 4 else 0.0,
                     tuple(index.T), points,
                     image[tuple(index.T)].astype(float), np.hstack([gradient, np.cross(points, gradient)]))


def _step(level, residual, inside, pose, free, robust):
    """One Gauss-Newton step (6,) of the small pose that undoes the residuals (N,) HU, points weighted by `inside` (N,)."""
    scale = max(1.4826 * np.median(np.abs(residual[inside > 0.5])), 2.0) if (inside > 0.5).any() else 1e3
    weights = inside
    if robust:
        weights = inside * np.clip(1.0 - (residual / (6.0 * scale)) ** 2, 0.0, None) ** 2
    jacobian = level.jacobian[:, free]
    weighted = jacobian * weights[:, None]
    precision = np.repeat([PRIOR_MM, np.radians(PRIOR_DEG)], 3)[free] ** -2.0 * scale**2 * RESIDUAL_CORRELATION
    normal = np.einsum("ni,nj->ij", weighted, jacobian) + np.diag(precision)
    right = np.einsum("ni,n->i", weighted, residual) + precision * pose.parameters[free]
    step = np.zeros(6)
    step[free] = np.linalg.solve(normal, right)
    return step


def _mismatch(level, values, inside) -> float:
    """Share of the reference's edge contrast that differs, over the points inside the field.

    The worst `FORGIVEN` of the points do not count: carotids and sinuses full of contrast beside bone.
    """
    total = inside.sum()
    if total < 1:
        return 1.0
    contrast = level.values - (inside * level.values).sum() / total
    squares = inside * (values - level.values) ** 2
    counted = int((1.0 - FORGIVEN) * len(squares))
    unlike = np.partition(squares, counted)[:counted].sum()
    return float(np.sqrt(unlike / max((inside * contrast**2).sum(), 1e-6)))


def _sample(level, spline, pose):
    """Frame values (N,) at the points of the reference under a pose, and how far inside the field each lies (0...1)."""
    index = np.einsum("ij,nj->in", pose.rotation / level.spacing[:, None], level.points)
    index += ((pose.translation - level.origin) / level.spacing)[:, None]
    outside = np.zeros(len(level.points))
    for row, count, margin in zip(index, level.shape[::-1], (0.0, 0.0, level.margin), strict=True):
        np.maximum(outside, np.abs(row - 0.5 * (count - 1)) - (0.5 * (count - 1) - margin), out=outside)
    values = ndimage.map_coordinates(spline, index[::-1], order=3, prefilter=False, mode="mirror", output=np.float32)
    return values.astype(float), np.clip(1.0 - 3.0 * outside, 0.0, 1.0)


def _iterate(level, spline, start, free, iterations, tolerance_mm, robust) -> Fit:
    """Gauss-Newton iterations from a start pose to the best pose met."""
    pose, best = start, Fit(start, np.inf, 0.0)
    for _ in range(iterations + 1):
        values, inside = _sample(level, spline, pose)
        fit = Fit(pose, _mismatch(level, values, inside), float(inside.mean()))
        if fit.covered < 0.2:
            break
        if fit.mismatch < best.mismatch:
            best = fit
        elif fit.mismatch > 1.5 * best.mismatch + 0.05:
            break
        step = _step(level, values - level.values, inside, pose, free, robust)
        size = np.linalg.norm(step[:3]) + HEAD_RADIUS_MM * np.linalg.norm(step[3:])
        if size > LONGEST_STEP_MM:
            step *= LONGEST_STEP_MM / size
        pose = pose.after_undoing(step)
        if size < tolerance_mm:
            return Fit(pose, fit.mismatch, fit.covered)
    return best
