"""The space inside the skull, from the non-enhanced and the time-averaged image of a head CT.

The skull is recognized by what lies beyond soft tissue: seen from inside the skull, soft tissue ends at bone in every direction;
seen from scalp, orbit, face or neck muscle it ends at air or fat in some.
"""

import numpy as np
from scipy import ndimage

from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.volumes import Geometry, Volume

BONE_HU = 110.0
FAT_HU = -30.0
OPENING_MM = 4.0
GAP_RIM_MM = 6.0
SINUS_RIM_MM = 4.0
RAY_GRID_MM = 2.0
VOTE_MM = 4.0
RAYS = 16
MISSED_SHARE = 0.3
PART_SHARE = 0.15
SMALLEST_BRAIN_ML = 15.0


def brain_mask(baseline: Volume, mean: Volume) -> np.ndarray:
    """Intracranial soft tissue: brain, its cerebrospinal fluid and its vessels, without bone.

    Parameters
    ----------
    baseline : Volume
        Mean of the frames before the bolus, HU.
    mean : Volume
        Mean of all frames, HU, on the same grid (less noise, more enhancement).

    Returns
    -------
    ndarray of bool (K, J, I)

    Raises
    ------
    DataRefused
        When the images show no head.
    """
    geometry = mean.geometry
    image, bone, outside = _prepared(baseline, mean)
    soft = (image > FAT_HU) & ~bone & ~outside
    candidate = _enclosed(soft, bone, outside, geometry)
    if candidate is None:
        candidate = soft & (image > 0.0)
    mask = _main_component(candidate, soft, geometry)
    volume = np.count_nonzero(mask) * geometry.voxel_volume_ml
    if volume < SMALLEST_BRAIN_ML:
        raise DataRefused("No brain was found inside a skull in these images; check that the series shows a head in Hounsfield units.")
    return mask


def intracranial_space(brain: np.ndarray, geometry: Geometry, rim_mm: float = SINUS_RIM_MM) -> np.ndarray:
    """The brain mask widened in the slice plane by `rim_mm`, so that it holds the venous sinuses in the grooves of the inner table.

    Returns
    -------
    ndarray of bool (K, J, I)
    """
    spacing = geometry.spacing[1::-1]
    wide = np.zeros_like(brain)
    for k in np.flatnonzero(brain.any(axis=(1, 2))):
        wide[k] = ndimage.distance_transform_edt(~brain[k], sampling=spacing) <= rim_mm
    return wide


def center_lps(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Mean position (3,) of the voxels of a mask (K, J, I) that is not empty, LPS mm, without a list of all of them."""
    counts = [np.count_nonzero(mask, axis=axes) for axes in ((0, 1), (0, 2), (1, 2))]
    return geometry.to_lps([np.average(np.arange(count.size), weights=count) for count in counts])


def _prepared(baseline: Volume, mean: Volume) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lightly smoothed mean image, bone, and the surroundings of the head, (K, J, I)."""
    spacing = mean.geometry.spacing[1::-1]
    image = np.nan_to_num(np.asarray(mean.values, dtype=np.float32), nan=-1000.0)
    before = np.nan_to_num(np.asarray(baseline.values, dtype=np.float32), nan=-1000.0)
    image = np.clip(image, -1000.0, 3000.0)
    border = np.concatenate([image[:, 0].ravel(), image[:, -1].ravel(), image[:, :, 0].ravel(), image[:, :, -1].ravel()])
    surroundings = float(np.median(border))
    sigma = [0.0] + [0.6 / s for s in spacing]
    smooth = ndimage.gaussian_filter(image, sigma)
    # Bone is taken from the image before the contrast agent, where a bright vein cannot pass for bone.
    bone = np.minimum(ndimage.gaussian_filter(np.clip(before, -1000.0, 3000.0), sigma), smooth) > BONE_HU
    bone = _without_specks(bone)
    if surroundings < -200.0:
        return smooth, bone, smooth < -200.0
    # The surroundings were overwritten with a constant (0 HU in many exports), which lies too near water for a threshold alone.
    dark = (ndimage.gaussian_filter(image, [0.0] + [1.0 / s for s in spacing]) < 15.0) & ~bone
    outside = np.zeros_like(dark)
    for k in range(dark.shape[0]):
        labels, _ = ndimage.label(dark[k])
        rim = np.unique(np.concatenate([labels[k2] for k2 in (0, -1)] + [labels[:, 0], labels[:, -1]]))
        outside[k] = np.isin(labels, rim[rim > 0])
    return smooth, bone, outside | (smooth < -200.0)


def _without_specks(bone: np.ndarray) -> np.ndarray:
    """Bone without bright islands of a few voxels (calcified choroid plexus, falx or vessel walls)."""
    labels, count = ndimage.label(bone)
    if count == 0:
        return bone
    sizes = np.bincount(labels.ravel())
    keep = sizes >= max(30, 0.01 * sizes[1:].max())
    keep[0] = False
    return keep[labels]


def _enclosed(soft, bone, outside, geometry) -> np.ndarray | None:
    """Soft tissue that ends at bone in nearly every in-plane direction; None where there is no skull to speak of."""
    if np.count_nonzero(bone) < 0.02 * np.count_nonzero(soft):
        return None
    spacing = geometry.spacing[1::-1]
    step_j, step_i = (max(1, int(RAY_GRID_MM / s)) for s in spacing)
    coarse_bone = _blocks(bone, step_j, step_i).any(axis=(2, 4))
    coarse_open = _blocks(~soft & ~bone, step_j, step_i).mean(axis=(2, 4)) >= 0.5
    coarse_spacing = (spacing[0] * step_j, spacing[1] * step_i)
    # 1 bone, 2 air, fat or the surroundings, 0 soft tissue: the first thing a ray meets.
    kind = np.where(coarse_bone, 1, np.where(_large(coarse_open & ~coarse_bone, coarse_spacing), 2, 0)).astype(np.int8)
    hits = np.zeros(kind.shape, dtype=np.float32)
    misses = np.zeros(kind.shape, dtype=np.float32)
    for meets in _rays(kind):
        hits += meets == 1
        misses += meets == 2
    # A gap in thin bone lets single rays through: neighbors vote.
    sigma = [0.0] + [VOTE_MM / s for s in coarse_spacing]
    voters = ndimage.gaussian_filter((kind == 0).astype(np.float32), sigma) + 1e-3
    hits, misses = (ndimage.gaussian_filter(count * (kind == 0), sigma) / voters for count in (hits, misses))
    inside = (misses < MISSED_SHARE * RAYS) & (hits > 0.3 * RAYS)
    enclosed = np.repeat(np.repeat(inside, step_j, axis=1), step_i, axis=2)[:, : soft.shape[1], : soft.shape[2]]
    pad = [(0, 0)] + [(0, full - got) for full, got in zip(soft.shape[1:], enclosed.shape[1:], strict=True)]
    enclosed = np.pad(enclosed, pad) & soft
    if np.count_nonzero(enclosed) * geometry.voxel_volume_ml < SMALLEST_BRAIN_ML:
        return None
    # In the gap of an opened skull the rim next to air is scalp, not brain.
    air = outside | ~(soft | bone)
    for k in range(soft.shape[0]):
        if enclosed[k].any() and air[k].any():
            to_air = ndimage.distance_transform_edt(~air[k], sampling=spacing)
            near = enclosed[k] & (to_air < GAP_RIM_MM)
            if near.any() and bone[k].any():
                to_bone = ndimage.distance_transform_edt(~bone[k], sampling=spacing)
                enclosed[k] &= ~(near & (to_air < to_bone))
    return enclosed


def _blocks(array: np.ndarray, step_j: int, step_i: int) -> np.ndarray:
    """View of (K, J, I) as (K, J', step_j, I', step_i) after padding J and I up to whole blocks."""
    slices, rows, columns = array.shape
    pad = [(0, 0), (0, -rows % step_j), (0, -columns % step_i)]
    padded = np.pad(array, pad, mode="edge")
    return padded.reshape(slices, padded.shape[1] // step_j, step_j, padded.shape[2] // step_i, step_i)


def _large(mask: np.ndarray, spacing: tuple[float, float], smallest_mm2: float = 40.0) -> np.ndarray:
    """In each slice, only the connected parts of at least `smallest_mm2`."""
    keep = np.zeros_like(mask)
    for k in range(mask.shape[0]):
        labels, count = ndimage.label(mask[k])
        if count:
            big = np.bincount(labels.ravel()) * spacing[0] * spacing[1] >= smallest_mm2
            big[0] = False
            keep[k] = big[labels]
    return keep


def _rays(kind: np.ndarray):
    """For 16 in-plane directions, what each voxel meets first: 1, 2, or 0 where its ray leaves the image; yields (K, J, I) arrays."""
    for turned in (False, True):
        image = kind.transpose(0, 2, 1) if turned else kind
        slices, rows, columns = image.shape
        for slope in (-1.0, -0.5, 0.0, 0.5, 1.0):
            if turned and abs(slope) == 1.0:
                continue
            # Shifting each row by slope x its number turns oblique lines into columns.
            shift = np.floor(slope * np.arange(rows)).astype(int)
            shift -= shift.min()
            index = shift[:, None] + np.arange(columns)[None, :]
            row = np.arange(rows)[:, None]
            sheared = np.zeros((slices, rows, columns + shift.max()), dtype=np.int8)
            sheared[:, row, index] = image
            for meets in _both_ways(sheared):
                meets = meets[:, row, index]
                yield meets.transpose(0, 2, 1) if turned else meets


def _both_ways(kind: np.ndarray):
    """First nonzero value met along axis 1, upwards and downwards."""
    place = (np.arange(1, kind.shape[1] + 1, dtype=np.int16) * 4)[None, :, None]
    for image, back in ((kind, slice(None)), (kind[:, ::-1], slice(None, None, -1))):
        # The row number above two bits of kind: the running maximum carries the latest nonzero kind along.
        met = np.maximum.accumulate(np.where(image > 0, place + image, np.int16(0)), axis=1)
        yield (met & 3)[:, back]


def _main_component(candidate: np.ndarray, soft: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The brain: the largest parts that survive an opening in the slice, with what the opening shaved off its surface given back."""
    spacing = geometry.spacing[1::-1]
    core = np.zeros_like(candidate)
    radius = max(OPENING_MM, 1.01 * max(spacing))
    for k in range(candidate.shape[0]):
        if candidate[k].any():
            # Calcifications and dense vessels leave holes that would split the brain.
            filled = ndimage.binary_fill_holes(candidate[k])
            core[k] = ndimage.distance_transform_edt(filled, sampling=spacing) > radius
    labels, count = ndimage.label(core)
    if count == 0:
        return np.zeros_like(candidate)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    # Where the scan ends at the skull base, lobes and cerebellum may lie in it as separate parts.
    core = (sizes >= PART_SHARE * sizes.max())[labels] & (labels > 0)
    mask = np.zeros_like(candidate)
    for k in np.flatnonzero(core.any(axis=(1, 2))):
        reach = ndimage.distance_transform_edt(~core[k], sampling=spacing) <= 1.5 * radius + max(spacing)
        mask[k] = reach & candidate[k]
        mask[k] = ndimage.binary_fill_holes(mask[k])
    return mask
