"""From a prepared study to probabilities of penumbra and core, and how sure they are."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from CTPerfusionSuiteLib.errors import RequestRefused
from CTPerfusionSuiteLib.progress import Progress, silent

from .brain_box import BrainStack, cut_to_brain
from .curve_summaries import residue_operator, side_means
from .mjnet import CLASSES, LEVELS, MJNet, pad_to_multiple
from .training_batches import network_array

SLAB = 4
"""Slices worked on at a time where memory is short."""
LARGEST_WHOLE = 400_000
"""Voxels up to which a stack goes through in one piece on a CPU (about 1 GB)."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says of a study, on the study's grid.

    Attributes
    ----------
    probabilities : float32 ndarray (3, K, J, I)
        Background, penumbra, core; they sum to 1, and outside tissue background is 1.
    uncertainty : float32 ndarray (K, J, I) or None
        Entropy of the mean over Monte-Carlo dropout passes, 0 (sure) to 1 (all classes alike), 0 outside tissue.
    device : str
        Where it was computed in the end.
    notes : tuple of (code, message)
        That memory was short, and what was done about it.
    """

    probabilities: np.ndarray
    uncertainty: np.ndarray | None
    device: str
    notes: tuple[tuple[str, str], ...] = ()


def predict(
    network: torch.nn.Module,
    study,
    passes: int = 0,
    device: str = "auto",
    progress: Progress = silent,
    both_sides: bool = True,
    seed: int = 0,
) -> Prediction:
    """Probabilities for a whole study.

    Parameters
    ----------
    network : Module
        Of `networks.build_network`, trained.
    study : StudyInput or StudyCase
    passes : int
        Monte-Carlo dropout passes; their mean is the result and its entropy the uncertainty.  0: one pass without dropout.
    device : {"auto", "cpu", "cuda"}
        A GPU that has too little memory is given slabs of slices by networks that read curves, and if that is too much the CPU takes
        over; the notes say so.
    progress : callable
        Gets 0...1; what it raises ends the work.
    both_sides : bool
        Average with the prediction for the mirror image.
    seed : int
        Of the dropout.

    Raises
    ------
    RequestRefused
        The network reads nothing but maps and the study has none; study and network have other numbers of frames or maps; or a GPU is
        demanded and there is none.
    """
    from .training import training_device

    curves = isinstance(network, MJNet)
    stack = cut_to_brain(study, curves, network.maps > 0 if curves else True)
    _refuse_other_numbers(network, stack)
    chosen = training_device(device)
    attempts = _attempts(chosen, curves, stack)
    notes = []
    for number, (place, whole) in enumerate(attempts):
        try:
            mean = _mean_probabilities(network, stack, passes, place, whole, both_sides, seed, progress)
            break
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as problem:
            if not _out_of_memory(problem) or number + 1 == len(attempts):
                raise
            following = "on the CPU" if attempts[number + 1][0] != place else f"in slabs of {SLAB} slices"
            notes.append(("memory-short", f"The {_words(place)} had too little memory, so the network worked {following}."))
        if chosen.type == "cuda":
            torch.cuda.empty_cache()
    network.to("cpu")
    return _on_study_grid(mean, stack, study, passes, str(place), tuple(notes))


def _refuse_other_numbers(network, stack: BrainStack) -> None:
    """Refuse a study with other numbers of frames or maps than the network was trained with."""
    for name, axis, values, wanted in (("frames", 1, stack.curves, getattr(network, "frames", 0)), ("maps", 0, stack.maps, network.maps)):
        if values is not None and values.shape[axis] != wanted:
            raise RequestRefused(
                f"the model was trained on studies of {wanted} {name} and this one has {values.shape[axis]}; choose another model, or "
                "prepare the study again"
            )


def _attempts(chosen: torch.device, curves: bool, stack: BrainStack) -> list[tuple[torch.device, bool]]:
    """Where to work, and whether in one piece, in the order in which it is tried.

    The U-Net on maps sees 15 slices and normalizes over all, so there are no slabs of it.
    """
    cpu = torch.device("cpu")
    if not curves:
        attempts = [(chosen, True), (cpu, True)]
    else:
        attempts = [(chosen, _fits(stack) or chosen.type != "cpu"), (chosen, False), (cpu, False)]
    return [attempt for n, attempt in enumerate(attempts) if attempt not in attempts[:n]]


def _mean_probabilities(network, stack: BrainStack, passes: int, device, whole: bool, both_sides: bool, seed: int, progress) -> np.ndarray:
    """Mean over passes and sides: float32 (3, K, rows, columns) of the box."""
    network.to(device).eval()
    x = torch.from_numpy(network_array(stack, getattr(network, "maps", 0)))[None]
    total = torch.zeros((CLASSES, *stack.tissue.shape))
    sides = (False, True) if both_sides else (False,)
    rounds, done = max(passes, 1), 0
    with torch.inference_mode(), torch.random.fork_rng(devices=[torch.cuda.current_device()] if device.type == "cuda" else []):
        for mirrored in sides:
            decide = _prepare(network, x.flip(-1) if mirrored else x, device, whole)
            for number in range(rounds):
                torch.manual_seed(seed + number)
                if passes:
                    _dropout_only(network, True)
                try:
                    probabilities = decide().float().softmax(dim=1)[0].cpu()
                finally:
                    _dropout_only(network, False)
                total += probabilities.flip(-1) if mirrored else probabilities
                done += 1
                progress(done / (rounds * len(sides)))
    return (total / (rounds * len(sides))).numpy()


def _prepare(network, x: torch.Tensor, device, whole: bool) -> Callable[[], torch.Tensor]:
    """What remains to be done for every pass; the part with the time axis, which has no dropout, is done once."""
    if not isinstance(network, MJNet):
        x = x.to(device)
        return lambda: network(x)
    rows, columns = x.shape[-2:]
    x, (top, left) = pad_to_multiple(x, 2**LEVELS)
    curves, weight = network.tissue_curves(x)
    sides = side_means(curves, weight)
    shared = [sides.to(device), residue_operator(sides, weight).to(device)]
    slices, parts = x.shape[2], []
    step = slices if whole else SLAB
    for first in range(0, slices, step):
        last = min(first + step, slices)
        start, stop = max(first - network.halo, 0), min(last + network.halo, slices)
        made = network.collapse_time(curves[:, :, start:stop].to(device), weight[:, :, start:stop].to(device), *shared)
        parts.append([part[:, :, first - start : last - start] for part in made])
    collapsed, summaries = (torch.cat(part, dim=2) for part in zip(*parts, strict=True))
    summaries = torch.cat([summaries, network.given_maps(x[:, :, :, network.frames :].to(device))], dim=1)
    tissue = weight.amax(dim=3).to(device)
    return lambda: network.decide(collapsed, summaries, tissue)[..., top : top + rows, left : left + columns]


def _on_study_grid(mean: np.ndarray, stack: BrainStack, study, passes: int, device: str, notes) -> Prediction:
    rows, columns = np.asarray(study.tissue).shape[1:]
    tissue = np.asarray(study.tissue) > 0
    probabilities = stack.box.put_back(mean.astype(np.float32), rows, columns)
    probabilities *= tissue
    probabilities[0][~tissue] = 1.0
    uncertainty = None
    if passes:
        uncertainty = (-(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(axis=0) / np.log(CLASSES)).astype(np.float32)
        uncertainty = np.clip(uncertainty, 0, 1)
    return Prediction(probabilities, uncertainty, device, notes)


def _dropout_only(network, on: bool) -> None:
    """Dropout at work, everything else as in prediction."""
    for module in network.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.train(on)


def _fits(stack: BrainStack) -> bool:
    return stack.tissue.size <= LARGEST_WHOLE


def _out_of_memory(problem: BaseException) -> bool:
    words = str(problem).lower()
    said = ("out of memory", "not enough memory", "can't allocate", "alloc_failed")
    return isinstance(problem, (torch.OutOfMemoryError, MemoryError)) or any(one in words for one in said)


def _words(device: torch.device) -> str:
    return "computer" if device.type == "cpu" else "GPU"
