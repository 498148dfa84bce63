"""The other side of the head: mirrors a mask at the plane between the hemispheres.

The plane is read from the hemisphere map itself, so that a stored result needs nothing else.
"""

import numpy as np

from CTPerfusionSuiteLib.volumes import Geometry

from .lesions import LEFT, RIGHT


def plane_between(hemisphere: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, float] | None:
    """The plane that separates the two hemispheres.

    Parameters
    ----------
    hemisphere : ndarray (K, J, I)
        1 left, 2 right, 0 elsewhere.

    Returns
    -------
    (normal, offset) or None
        Unit normal (3,) in LPS pointing to the left, and ``normal . x`` of its points in mm; None when there are not both sides.

    Notes
    -----
    In each row of voxels that crosses the head the border lies midway between the innermost voxels of either side; x is regressed
    on y and z over these points, twice, the second time without outliers.
    """
    axis = int(np.argmax(np.abs(np.asarray(geometry.direction)[0])))
    leftward = np.asarray(geometry.direction)[0, axis] > 0
    rows = np.moveaxis(np.asarray(hemisphere), 2 - axis, 2)
    if not leftward:
        rows = rows[..., ::-1]
    left, right = rows == LEFT, rows == RIGHT
    both = left.any(axis=2) & right.any(axis=2)
    if np.count_nonzero(both) < 3:
        return None
    first_left = left[both].argmax(axis=1)
    last_right = rows.shape[2] - 1 - right[both][:, ::-1].argmax(axis=1)
    border = 0.5 * (first_left + last_right)
    if not leftward:
        border = rows.shape[2] - 1 - border

    index = np.zeros((border.size, 3))
    index[:, axis] = border
    slow, fast = (2 - a for a in range(3) if a != 2 - axis)
    index[:, slow], index[:, fast] = np.nonzero(both)
    points = geometry.to_lps(index)
    design = np.column_stack([np.ones(len(points)), points[:, 1:] - points[:, 1:].mean(axis=0)])
    kept = np.ones(len(points), bool)
    for _ in range(2):
        slopes, *_ = np.linalg.lstsq(design[kept], points[kept, 0], rcond=1e-9)
        residual = np.abs(points[:, 0] - design @ slopes)
        kept = residual <= max(3.0 * float(np.median(residual)), 1.0)
    normal = np.array([1.0, -slopes[1], -slopes[2]])
    normal /= np.linalg.norm(normal)
    middle = np.array([slopes[0], *points[:, 1:].mean(axis=0)])
    return normal, float(normal @ middle)


def mirrored(mask: np.ndarray, hemisphere: np.ndarray, geometry: Geometry) -> np.ndarray | None:
    """A bool (K, J, I) mask reflected to the other hemisphere (nearest voxel); None when the plane cannot be told."""
    plane = plane_between(hemisphere, geometry)
    if plane is None:
        return None
    normal, offset = plane
    k, j, i = np.nonzero(mask)
    points = geometry.to_lps(np.column_stack([i, j, k]))
    points -= 2.0 * (points @ normal - offset)[:, None] * normal
    index = np.rint(geometry.to_index(points)).astype(int)
    inside = ((index >= 0) & (index < geometry.size)).all(axis=1)
    out = np.zeros(geometry.shape, bool)
    out[index[inside, 2], index[inside, 1], index[inside, 0]] = True
    return out
