"""A real non-contrast head CT as the static part of a simulated study (which is then semi-synthetic, and should be called so)."""

from pathlib import Path

import numpy as np
import pydicom
from scipy import ndimage

from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused
from CTPerfusionSuiteLib.geometry import resample_to
from CTPerfusionSuiteLib.phantoms.head_anatomy import Tissue
from CTPerfusionSuiteLib.phantoms.head_source import BACK_MM, FRONT_MM, HALF_WIDTH_MM, TOP_MM, HeadSource
from CTPerfusionSuiteLib.volumes import Geometry, Volume

WORKING_MM = 1.0
INTRACRANIAL_HEIGHT_MM = 125.0
"""From the vertex of the brain to about the foramen magnum."""


def read_slices(folder: Path) -> Volume:
    """The largest CT series of a folder on an even grid of `WORKING_MM`, whatever its tilt and slice spacing.

    Every point of the grid is looked up between the two slice planes around it, so that sheared and unevenly spaced stacks come out
    right.

    Raises
    ------
    RequestRefused, DataRefused
    """
    if not folder.is_dir():
        raise RequestRefused(f"'{folder}' is neither an image nor a folder of DICOM slices; check the path")
    series: dict[str, list] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            image = pydicom.dcmread(path, force=False)
        except (pydicom.errors.InvalidDicomError, OSError):
            continue
        if image.get("Modality") == "CT" and "ImagePositionPatient" in image and "PixelData" in image:
            key = f"{image.SeriesInstanceUID} {image.Rows} {image.Columns}"
            series.setdefault(key, []).append(image)
    if not series:
        raise RequestRefused(f"'{folder}' holds no CT slices; give a folder of a non-contrast head CT or of label maps")
    slices = max(series.values(), key=len)
    if len(slices) < 8:
        raise DataRefused(f"the CT in '{folder.name}' has only {len(slices)} slices; a head needs more")
    first = slices[0]
    row, column = (np.array(first.ImageOrientationPatient[a : a + 3], float) for a in (0, 3))
    normal = np.cross(row, column)
    slices.sort(key=lambda image: float(np.dot(normal, np.array(image.ImagePositionPatient, float))))
    origins = np.array([image.ImagePositionPatient for image in slices], float)
    heights = origins @ normal
    keep = np.concatenate([[True], np.diff(heights) > 1e-3])
    slices = [image for image, kept in zip(slices, keep, strict=True) if kept]
    origins, heights = origins[keep], heights[keep]
    pixels = np.stack([_hounsfield(image) for image in slices])
    spacing = np.array([first.PixelSpacing[1], first.PixelSpacing[0]], float)

    extent = np.array([pixels.shape[2], pixels.shape[1]]) * spacing
    corners = np.array([o + a * extent[0] * row + b * extent[1] * column for o in origins[[0, -1]] for a in (0, 1) for b in (0, 1)])
    low, high = corners.min(axis=0), corners.max(axis=0)
    size = np.maximum(((high - low) / WORKING_MM).astype(int), 1)
    out = np.full(size[::-1], -1000.0, np.float32)
    gx, gy = np.meshgrid(low[0] + WORKING_MM * np.arange(size[0]), low[1] + WORKING_MM * np.arange(size[1]))
    for k in range(size[2]):
        points = np.stack([gx, gy, np.full_like(gx, low[2] + WORKING_MM * k)], axis=-1)
        above = points @ normal
        place = np.interp(above, heights, np.arange(len(heights)), left=-1.0, right=-1.0)
        start = np.stack([np.interp(above, heights, origins[:, a]) for a in range(3)], axis=-1)
        j, i = ((points - start) @ column) / spacing[1], ((points - start) @ row) / spacing[0]
        out[k] = ndimage.map_coordinates(pixels, [place, j, i], order=1, mode="constant", cval=-1000.0)
    return Volume(out, Geometry(tuple(size), (WORKING_MM,) * 3, tuple(low)), "computed tomography", "[hnsf'U]")


def _hounsfield(image) -> np.ndarray:
    """Pixels (J, I) of a slice in HU."""
    slope, intercept = float(image.get("RescaleSlope", 1.0)), float(image.get("RescaleIntercept", 0.0))
    return (image.pixel_array * slope + intercept).astype(np.float32)


def ct_head(volume: Volume, name: str = "head CT") -> HeadSource:
    """A head from a non-contrast CT: intracranial space inside the bone, tissue by HU.

    Raises
    ------
    DataRefused
        No skull with a brain in it.
    """
    hu, geometry = volume.values.astype(np.float32), volume.geometry
    turned = np.abs(np.asarray(geometry.direction) - np.eye(3)).max() > 1e-3
    if turned or max(geometry.spacing) > 3.0 * WORKING_MM or min(geometry.spacing) < 0.6:
        corners = geometry.to_lps(np.array(np.meshgrid(*[(0, n - 1) for n in geometry.size])).reshape(3, -1).T)
        low, high = corners.min(axis=0), corners.max(axis=0)
        size = np.maximum(np.round((high - low) / WORKING_MM).astype(int) + 1, 1)
        geometry = Geometry(tuple(size), (WORKING_MM,) * 3, tuple(low))
        hu = resample_to(volume, geometry, "linear", -1000.0).values.astype(np.float32)
    inside = intracranial_space(hu, geometry, name)
    soft = np.clip(hu, -20.0, 90.0)
    fine, coarse = ([mm / s for s in geometry.spacing[::-1]] for mm in (0.8, 2.0))
    smooth = ndimage.gaussian_filter(soft, fine)
    weight = ndimage.gaussian_filter(inside.astype(np.float32), coarse)
    broad = ndimage.gaussian_filter(np.where(inside, soft, 0.0), coarse) / np.maximum(weight, 0.05)
    tissue = np.full(hu.shape, int(Tissue.SOFT), np.uint8)
    tissue[hu < -300.0] = Tissue.AIR
    tissue[(hu >= -300.0) & (hu < -20.0)] = Tissue.FAT
    tissue[hu > 250.0] = Tissue.BONE
    fluid = inside & (smooth < 18.0)
    # Gray and white matter by which half of this scan's own brain values a voxel belongs to.
    threshold = float(np.median(broad[inside & (smooth > 22.0) & (smooth < 60.0)]))
    depth = ndimage.distance_transform_edt(inside[::2, ::2, ::2], 2.0 * np.asarray(geometry.spacing[::-1]))
    ribbon = inside & ~_doubled(depth > 6.0, hu.shape)
    tissue[inside] = np.where(ribbon[inside] | (broad[inside] > threshold), int(Tissue.GRAY), int(Tissue.WHITE))
    tissue[fluid] = Tissue.CSF
    to_source, scale = _alignment(geometry, inside)
    return HeadSource(geometry, tissue, inside.astype(np.float32), hu, np.zeros(hu.shape, bool), to_source, scale, name)


def intracranial_space(hu: np.ndarray, geometry: Geometry, name: str = "head CT") -> np.ndarray:
    """Mask (K, J, I) of the space inside the skull, down to `INTRACRANIAL_HEIGHT_MM` below its top.

    Raises
    ------
    DataRefused
    """
    # Every second voxel is enough to find the space; its border is that of the bone at full resolution.
    coarse = hu[::2, ::2, ::2]
    spacing = 2.0 * np.asarray(geometry.spacing[::-1])
    soft = (coarse > -15.0) & (coarse < 95.0)
    # Openings of the skull base are narrower than 9 mm in radius: what is wider than that and enclosed is the brain.
    wide = _largest(ndimage.distance_transform_edt(soft, spacing) > 9.0)
    if not wide.any():
        raise DataRefused(f"'{name}' shows no brain inside a skull; give a non-contrast head CT that covers the whole head")
    near = _doubled(ndimage.distance_transform_edt(~wide, spacing) < 11.5, hu.shape)
    inside = _largest(ndimage.binary_opening(near & (hu > -30.0) & (hu < 130.0)))
    inside = np.stack([ndimage.binary_fill_holes(plane) for plane in inside])
    top = np.flatnonzero(inside.any(axis=(1, 2))).max()
    bottom = max(0, int(top - INTRACRANIAL_HEIGHT_MM / geometry.spacing[2]))
    inside[:bottom] = False
    bone = (hu > 250.0)[bottom:].sum() * geometry.voxel_volume_ml
    volume = inside.sum() * geometry.voxel_volume_ml
    if volume < 500.0 or volume > 2500.0 or bone < 80.0:
        raise DataRefused(f"'{name}' shows no whole brain inside a skull ({volume:.0f} mL found); give a head CT that covers the brain")
    return inside


def _doubled(mask: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """A mask of every second voxel on the full grid of `shape`."""
    for axis in range(3):
        mask = np.repeat(mask, 2, axis)
    return mask[: shape[0], : shape[1], : shape[2]]


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask; empty stays empty."""
    labels, count = ndimage.label(mask)
    return labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:])) if count else mask


def _alignment(geometry: Geometry, inside: np.ndarray):
    """(4, 4) from standard to source LPS mm, and standard mm per source mm, from the extent of the upper intracranial space."""
    k, j, i = np.nonzero(inside)
    upper = k > k.max() - 80.0 / geometry.spacing[2]
    points = geometry.to_lps(np.stack([i, j, k], axis=1)[upper])
    low, high = np.percentile(points, 0.1, axis=0), np.percentile(points, 99.9, axis=0)
    length, width = high[1] - low[1], high[0] - low[0]
    scale = np.array([2.0 * (HALF_WIDTH_MM + 2.0) / width, (BACK_MM - FRONT_MM + 4.0) / length, 0.0])
    scale[2] = float(np.sqrt(scale[0] * scale[1]))
    origin = np.array([0.5 * (low[0] + high[0]), low[1] - (FRONT_MM - 2.0) / scale[1], high[2] - (TOP_MM + 2.0) / scale[2]])
    to_source = np.eye(4)
    to_source[:3, :3] = np.diag(1.0 / scale)
    to_source[:3, 3] = origin
    return to_source, tuple(float(s) for s in scale)
