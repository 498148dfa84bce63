"""The part of a study a network works on, and the way back: the brain with its midsagittal plane in the middle of the columns.

Rows run from the forehead to the back of the head and slices from foot to head, whichever way a file holds them.
Training and prediction go through the same functions.
"""

from dataclasses import dataclass

import numpy as np

from CTPerfusionSuiteLib.errors import RequestRefused
from CTPerfusionSuiteLib.volumes import Geometry

MARGIN = 2
"""Pixels kept around the brain."""


@dataclass(frozen=True)
class BrainBox:
    """Rows and columns around the brain; columns may lie outside the image, where there is nothing.

    Attributes
    ----------
    rows, columns : (int, int)
        First, and one past the last, as the image holds them.
    turned : (bool, bool)
        Whether slices, and rows, change their order in the box.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    turned: tuple[bool, bool] = (False, False)

    def cut(self, array: np.ndarray, slices: int = -3) -> np.ndarray:
        """(..., J, I) -> (..., rows, columns), 0 outside the image; `slices` is the axis of the slices."""
        (first, last), (left, right) = self.rows, self.columns
        inside = self._turn(array[..., first:last, max(left, 0) : right], slices)
        missing = (max(-left, 0), max(right - array.shape[-1], 0))
        return np.pad(inside, [(0, 0)] * (array.ndim - 1) + [missing]) if any(missing) else inside

    def put_back(self, array: np.ndarray, rows: int, columns: int, fill: float = 0.0) -> np.ndarray:
        """(..., K, rows, columns of the box) -> (..., K, J, I), `fill` outside the box."""
        array = self._turn(array, -3)
        (first, last), (left, right) = self.rows, self.columns
        whole = np.full((*array.shape[:-2], rows, columns), fill, dtype=array.dtype)
        start, stop = max(left, 0), min(right, columns)
        whole[..., first:last, start:stop] = array[..., start - left : stop - left]
        return whole

    def _turn(self, array: np.ndarray, slices: int) -> np.ndarray:
        axes = [axis for axis, turn in zip((slices, -2), self.turned, strict=True) if turn]
        return np.flip(array, axes) if axes else array


@dataclass(frozen=True, eq=False)
class BrainStack:
    """The slices of one study, cut to the brain.

    Attributes
    ----------
    curves : float array (K, F, J, I) or None
        Enhancement over the study's scale.
    valid : uint8 array (K, F)
        1 where the scan covers a slice's frame.
    maps : float array (C, K, J, I) or None
    tissue : uint8 array (K, J, I)
    label : uint8 array (K, J, I) or None
        0 background, 1 penumbra, 2 core.
    box : BrainBox
        Where it was cut from.
    """

    curves: np.ndarray | None
    valid: np.ndarray
    maps: np.ndarray | None
    tissue: np.ndarray
    label: np.ndarray | None
    box: BrainBox


def cut_to_brain(study, curves: bool = True, maps: bool = False, label=None, dtype=np.float32) -> BrainStack:
    """Cut a study to its brain.

    Parameters
    ----------
    study : StudyInput or StudyCase
        Has curves (F, K, J, I), valid (F, K), maps (C, K, J, I) or None, brain, tissue and hemisphere (K, J, I), and its geometry.
    curves, maps : bool
        Which of them the network reads.  One that reads both does without maps where a study has none.
    label : array (K, J, I) or None
    dtype : numpy type
        Of the curves and maps.

    Raises
    ------
    RequestRefused
        Maps alone are asked for and the study was prepared without.
    """
    missing = study.maps is None or not len(study.maps)
    if maps and missing and not curves:
        raise RequestRefused("this network reads maps and the study was prepared without them; prepare it with maps")
    box = brain_box(study.brain, study.hemisphere, turned_axes(study.geometry))
    cut_curves = box.cut(np.moveaxis(np.asarray(study.curves), 0, 1), slices=0) if curves else None
    cut_maps = box.cut(np.asarray(study.maps)) if maps and not missing else None
    tissue = box.cut(np.asarray(study.tissue)) > 0
    if cut_maps is not None:
        cut_maps = np.where(tissue, cut_maps, 0)
    valid = np.asarray(study.valid).T > 0.5
    return BrainStack(
        None if cut_curves is None else np.ascontiguousarray(cut_curves, dtype=dtype),
        np.ascontiguousarray(valid[::-1] if box.turned[0] else valid).astype(np.uint8),
        None if cut_maps is None else np.ascontiguousarray(cut_maps, dtype=dtype),
        tissue.astype(np.uint8),
        None if label is None else np.ascontiguousarray(box.cut(np.asarray(label)), dtype=np.uint8),
        box,
    )


def turned_axes(geometry: Geometry) -> tuple[bool, bool]:
    """Whether slices run from head to foot, and rows from the back of the head to the forehead."""
    direction = np.asarray(geometry.direction)
    return bool(direction[2, 2] < 0), bool(direction[1, 1] < 0)


def brain_box(brain: np.ndarray, hemisphere: np.ndarray, turned: tuple[bool, bool] = (False, False)) -> BrainBox:
    """The smallest box with some margin whose middle column is where the hemispheres meet.

    Parameters
    ----------
    brain : bool array (K, J, I)
    hemisphere : uint8 array (K, J, I)
        1 left, 2 right, 0 elsewhere.
    turned : (bool, bool)
        Of `turned_axes`.
    """
    brain = np.asarray(brain) > 0
    if not brain.any():
        return BrainBox((0, brain.shape[1]), (0, brain.shape[2]), turned)
    rows, columns = (np.flatnonzero(brain.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    first, last = max(rows[0] - MARGIN, 0), min(rows[-1] + 1 + MARGIN, brain.shape[1])
    border = midsagittal_column(np.where(brain, hemisphere, 0))
    middle = int(round((columns[0] + columns[-1] + 1) / 2 if border is None else border))
    half = max(middle - columns[0], columns[-1] + 1 - middle) + MARGIN
    return BrainBox((int(first), int(last)), (int(middle - half), int(middle + half)), turned)


def midsagittal_column(hemisphere: np.ndarray) -> float | None:
    """Border between the hemispheres in columns (4.0 is the edge between columns 3 and 4), None when there is only one.

    The median over all rows in which both are present.
    """
    sides = []
    for number in (1, 2):
        there = hemisphere == number
        lowest = there.argmax(axis=-1)
        highest = hemisphere.shape[-1] - 1 - there[..., ::-1].argmax(axis=-1)
        sides.append((there.any(axis=-1), lowest, highest))
    both = sides[0][0] & sides[1][0]
    if not both.any():
        return None
    (low_a, high_a), (low_b, high_b) = ((side[1][both], side[2][both]) for side in sides)
    border = np.where(low_a + high_a < low_b + high_b, high_a + low_b, high_b + low_a) / 2 + 0.5
    return float(np.median(border))
