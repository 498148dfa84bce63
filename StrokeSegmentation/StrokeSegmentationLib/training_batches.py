"""Studies as batches: read once, cut to the brain, kept in memory as long as there is room, and drawn in an order any run repeats."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from CTPerfusionSuiteLib.errors import RequestRefused

from .brain_box import BrainStack, cut_to_brain
from .study_input import MAP_SCALES


class StudyStore:
    """The studies of a split.

    Parameters
    ----------
    studies : sequence of Path or StudyCase
    curves, maps : bool
        Which of them the network reads.
    memory_gb : float

    Attributes
    ----------
    left_out : tuple of str
        Names of studies without maps (no artery was found in them), where the network reads nothing else.

    Raises
    ------
    RequestRefused
        Maps alone are read and no study has any; a file is no prepared study.
    """

    def __init__(self, studies: Sequence, curves: bool, maps: bool, memory_gb: float = 4.0):
        without = [n for n, study in enumerate(studies) if maps and not curves and not _has_maps(study)]
        self.studies, self.curves, self.maps = [study for n, study in enumerate(studies) if n not in without], curves, maps
        self.left_out = tuple(studies[n].stem if isinstance(studies[n], Path) else f"study {n + 1}" for n in without)
        if without and not self.studies:
            raise RequestRefused("none of the studies was prepared with maps, and this network reads nothing else; train another network")
        self._kept: dict[int, BrainStack] = {}
        self._room = memory_gb * 1e9

    def __len__(self) -> int:
        return len(self.studies)

    def stack(self, number: int) -> BrainStack:
        """One study, cut to the brain, half precision."""
        if number in self._kept:
            return self._kept[number]
        study = self.studies[number]
        if isinstance(study, (str, Path)):
            from .training_cases import load_case

            study = load_case(study)
        stack = cut_to_brain(study, self.curves, self.maps, study.label, np.float16)
        size = sum(array.nbytes for array in (stack.curves, stack.maps, stack.valid, stack.tissue, stack.label) if array is not None)
        if size <= self._room:
            self._room -= size
            self._kept[number] = stack
        return stack

    def batch(self, numbers: Sequence[int]) -> dict[str, torch.Tensor]:
        """Several studies as one batch; those that are smaller get zeros around.

        Returns
        -------
        dict
            "x" float32 (B, 2, Z, F, J, I) or (B, C, Z, J, I); "label" int64 and "tissue" bool (B, Z, J, I).
        """
        stacks = [self.stack(number) for number in numbers]
        maps = max((len(stack.maps) for stack in stacks if stack.maps is not None), default=len(MAP_SCALES)) if self.maps else 0
        size = tuple(max(stack.tissue.shape[axis] for stack in stacks) for axis in range(3))
        return {
            "x": torch.from_numpy(np.stack([centered(network_array(stack, maps), size) for stack in stacks])),
            "label": torch.from_numpy(np.stack([centered(stack.label, size) for stack in stacks]).astype(np.int64)),
            "tissue": torch.from_numpy(np.stack([centered(stack.tissue, size) for stack in stacks]) > 0),
        }


def _has_maps(study) -> bool:
    """Whether a case, in memory or as a file, was prepared with maps."""
    if not isinstance(study, (str, Path)):
        return len(study.maps) > 0
    from .training_cases import about_case

    return "maps_refused" not in about_case(study)


def network_array(stack: BrainStack, maps: int = 0) -> np.ndarray:
    """What the network is given of one study: float32 (2, Z, F, J, I), curves (then maps) and what counts; or maps (C, Z, J, I).

    A network that reads `maps` beside curves gets zeros that do not count where the study has none.
    """
    if stack.curves is None:
        return stack.maps.astype(np.float32)
    counts = stack.valid[:, :, None, None] * stack.tissue[:, None]
    curves = stack.curves
    if stack.maps is not None:
        given = np.moveaxis(stack.maps, 0, 1)
        tissue = np.repeat(stack.tissue[:, None], given.shape[1], axis=1)
        curves, counts = np.concatenate([curves, given], axis=1), np.concatenate([counts, tissue], axis=1)
    elif maps:
        curves, counts = (np.pad(part, ((0, 0), (0, maps), (0, 0), (0, 0))) for part in (curves, counts))
    return np.stack([curves.astype(np.float32), counts.astype(np.float32)])


def centered(array: np.ndarray, size: tuple[int, int, int]) -> np.ndarray:
    """Zeros around an array of a stack so that slices, rows and columns become `size`; the middle column stays the middle."""
    plane = (-2, -1)
    slices = 1 if array.ndim == 5 else array.ndim - 3  # (2, Z, F, J, I), (C, Z, J, I) or (Z, J, I)
    pads = [(0, 0)] * array.ndim
    pads[slices] = (0, size[0] - array.shape[slices])
    for axis, wanted in zip(plane, size[1:], strict=True):
        missing = wanted - array.shape[axis]
        pads[axis] = (missing // 2, missing - missing // 2)
    return np.pad(array, pads) if any(any(pad) for pad in pads) else array


def order_of_studies(studies: int, batch: int, step: int, seed: int) -> list[int]:
    """Which studies a step takes: every epoch visits all in an order of its own, a function of step and seed alone."""
    first = step * batch
    chosen = []
    for place in range(first, first + batch):
        epoch, within = divmod(place, studies)
        chosen.append(int(np.random.default_rng([seed, epoch]).permutation(studies)[within]))
    return chosen
