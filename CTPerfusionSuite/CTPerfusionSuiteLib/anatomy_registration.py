"""Rigid registration of an anatomical volume (non-contrast CT, CTA, MR) to the mean CT of a perfusion scan.

The scan is a stack of a few thick slices and the modality may differ, so similarity is mutual information (Studholme's normalized
form, Pattern Recognition 1999;32:71, which does not reward small overlap), searched by Powell's method from several places along
the body axis, coarse to fine.
"""

import numpy as np
import SimpleITK as sitk
from scipy import ndimage, optimize

from CTPerfusionSuiteLib.progress import Progress, part, silent
from CTPerfusionSuiteLib.rigid_motion import RigidPose
from CTPerfusionSuiteLib.volumes import Geometry, Volume

AIR_HU = -500.0
BINS = 32
HU_OF_BINS = ((-200.0, -20.0, 100.0, 1400.0), (0.0, 4.0, 20.0, 31.0))  # most bins for soft tissue, some for bone
COARSE_MM, MIDDLE_MM, FINE_MM = 3.5, 2.5, 1.5
COARSE_POINTS, MIDDLE_POINTS, FINE_POINTS = 5000, 10000, 30000
AXIAL_STARTS_MM = (-45.0, -30.0, -15.0, 0.0, 15.0, 30.0, 45.0)
USUAL_TURN_DEG, PRIOR_WEIGHT = 10.0, 0.004  # heads lie much alike in scanners: breaks ties in slabs that show little
RESTARTS = 5
# Search directions (tx, ty, tz, rx, ry, rz) that turn about a point above or below the slab, as a skull rolls within itself.
NODDING = np.array([[0, 0.5, 0, 1, 0, 0], [0, -0.5, 0, 1, 0, 0], [0.5, 0, 0, 0, 1, 0], [-0.5, 0, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0],
                    [0, 0, 0, 0, 0, 1]], float)
DEGREES_PER_MM = 0.6  # a turn by so much moves the skull by about a millimeter


def register_rigid(moving: Volume, fixed: Volume, progress: Progress = silent) -> RigidPose:
    """Rigid pose of an anatomical volume relative to a scan.

    Parameters
    ----------
    moving : Volume
        The anatomy: CT in HU or MR.
    fixed : Volume
        The scan's mean CT in HU; may cover a part of the head only.
    progress : Progress

    Returns
    -------
    RigidPose
        From LPS mm of `fixed` to LPS mm of `moving`; `resample_rigid` uses it.
    """
    center = fixed.geometry.to_lps((np.asarray(fixed.geometry.size) - 1) / 2)
    apart = _middle(moving) - _middle(fixed)
    coarse = _Similarity(fixed, moving, center, COARSE_MM, COARSE_POINTS)
    starts = [np.zeros(6)] + [np.array([*(apart * (1, 1, 0) + (0, 0, z + middle)), 0, 0, 0]) for middle in (0.0, apart[2])
                              for z in AXIAL_STARTS_MM]
    ranked = sorted(starts[1:], key=coarse)[:5] + starts[:1]  # the scanner's own coordinates are always tried
    found = [_search(coarse, start, 4.0, part(progress, 0.08 * n, 0.08 * (n + 1))) for n, start in enumerate(ranked)]
    middle = _Similarity(fixed, moving, center, MIDDLE_MM, MIDDLE_POINTS)
    found = sorted(found, key=middle)[:3]
    found = [_search(middle, start, 4.0, part(progress, 0.48 + 0.08 * n, 0.56 + 0.08 * n)) for n, start in enumerate(found)]
    fine = _Similarity(fixed, moving, center, FINE_MM, FINE_POINTS)
    best = _search(fine, min(found, key=fine), 1.5, part(progress, 0.72, 1.0))
    return _pose(best, center)


def resample_rigid(moving: Volume, geometry: Geometry, pose: RigidPose) -> Volume:
    """`moving` on the grid `geometry` of the fixed image under the pose of `register_rigid`; its minimum where it shows nothing."""
    image = sitk.GetImageFromArray(moving.values.astype(np.float32))
    image.SetSpacing(moving.geometry.spacing)
    image.SetOrigin(moving.geometry.origin)
    image.SetDirection(np.ravel(moving.geometry.direction).tolist())
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(pose.matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(pose.matrix[:3, 3].tolist())
    values = sitk.Resample(image, geometry.size, transform, sitk.sitkLinear, geometry.origin, geometry.spacing,
                           np.ravel(geometry.direction).tolist(), float(moving.values.min()), sitk.sitkFloat32)
    return Volume(sitk.GetArrayFromImage(values), geometry, moving.quantity, moving.unit)


class _Similarity:
    """Negative normalized mutual information of two volumes as a function of six parameters in mm (turns by `DEGREES_PER_MM`)."""

    def __init__(self, fixed: Volume, moving: Volume, center: np.ndarray, blur_mm: float, count: int):
        self.center = center
        thick = 0.3 * max(fixed.geometry.spacing)  # standard deviation of a slice's profile
        # Blur first, bins after: thick slices have mixed bone and brain before bins could part them.
        here = _bins(_blurred(fixed.values, fixed.geometry, blur_mm))
        self.moving = _bins(_blurred(moving.values, moving.geometry, max(blur_mm, thick)))
        reach = 2 * max(1, round(10.0 / fixed.geometry.spacing[0])) + 1
        head = ndimage.maximum_filter(fixed.values > AIR_HU, size=(1, reach, reach))
        where = np.flatnonzero(head)
        # A fixed random choice: any regular one beats with the grid of the moving image.
        where = where[np.random.default_rng(0).permutation(len(where))[:count]]
        k, j, i = np.unravel_index(where, head.shape)
        self.points = fixed.geometry.to_lps(np.stack([i, j, k], axis=1)) - center
        self.fixed_bins = here.ravel()[where].astype(np.intp)
        self.to_index = np.linalg.inv(moving.geometry.matrix)

    def __call__(self, parameters: np.ndarray) -> float:
        matrix = self.to_index @ _pose(parameters, self.center).matrix
        index = np.einsum("ij,nj->in", matrix[:3, :3], self.points) + (matrix[:3, :3] @ self.center + matrix[:3, 3])[:, None]
        # What the moving image does not show counts as background, so a pose cannot win by showing little of the head.
        values = ndimage.map_coordinates(self.moving, index[::-1], order=1, mode="constant", cval=0.0, prefilter=False)
        low = np.minimum(values.astype(np.intp), BINS - 2)
        upper = values - low
        pair = self.fixed_bins * BINS + low
        joint = np.bincount(pair, 1.0 - upper, BINS * BINS) + np.bincount(pair + 1, upper, BINS * BINS)[: BINS * BINS]
        joint = joint.reshape(BINS, BINS) / len(values)
        unusual = PRIOR_WEIGHT * float(((DEGREES_PER_MM * np.asarray(parameters[3:]) / USUAL_TURN_DEG) ** 2).sum())
        return unusual - (_entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))) / _entropy(joint.ravel())


def _search(similarity: _Similarity, start: np.ndarray, step_mm: float, progress: Progress) -> np.ndarray:
    """Parameters (6,) after Powell's search with first steps of `step_mm`, begun anew until it finds no more.

    One run settles in the narrow valley where nodding and a shift forward make up for each other; fresh directions leave it.
    """
    best, value = np.asarray(start, float), similarity(start)
    for run in range(RESTARTS):
        axes = step_mm * (np.eye(6) if run % 2 == 0 else NODDING)
        found = optimize.minimize(similarity, best, method="Powell", options={"direc": axes, "xtol": 0.02, "ftol": 1e-5, "maxiter": 4})
        gain, best, value = value - found.fun, found.x, min(value, found.fun)
        progress((run + 1) / RESTARTS)
        if run and gain < 2e-4:
            break
    progress(1.0)
    return best


def _pose(parameters, center) -> RigidPose:
    return RigidPose(np.array(parameters[:3]), DEGREES_PER_MM * np.array(parameters[3:]), center)


def _entropy(share: np.ndarray) -> float:
    share = share[share > 0.0]
    return float(-(share * np.log(share)).sum())


def _bins(values: np.ndarray) -> np.ndarray:
    """Values as continuous bin numbers 0...BINS-1: HU by `HU_OF_BINS`, other images between their 0.5 and 99.5 percentiles."""
    low, high = np.percentile(values, (0.5, 99.5))
    if low < AIR_HU:
        return np.interp(values, *HU_OF_BINS).astype(np.float32)
    return (np.clip((values - low) / max(high - low, 1e-6), 0.0, 1.0) * (BINS - 1)).astype(np.float32)


def _blurred(values: np.ndarray, geometry: Geometry, blur_mm: float) -> np.ndarray:
    """Gaussian of standard deviation `blur_mm` less what a voxel blurs already."""
    sigma = [np.sqrt(max(blur_mm**2 - (0.3 * s) ** 2, 0.0)) / s for s in geometry.spacing[::-1]]
    return ndimage.gaussian_filter(values.astype(np.float32), sigma, mode="nearest", truncate=3.0)


def _middle(volume: Volume) -> np.ndarray:
    """LPS mm of the middle of all that is not background."""
    low, high = np.percentile(volume.values, (0.5, 99.5))
    found = np.argwhere(volume.values > low + 0.25 * (high - low))
    return volume.geometry.to_lps(0.5 * (found.min(axis=0) + found.max(axis=0))[::-1])
