"""Training: studies in, the best weights out; stopped at any moment and gone on with as if nothing had happened."""

import copy
import csv
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused
from CTPerfusionSuiteLib.progress import Progress, silent

from .augmentation import augment
from .checkpoints import load_state, save_state
from .losses import segmentation_loss
from .mjnet import MJNet
from .networks import MAPS, build_network, parameter_count, reads_curves, reads_maps
from .training_batches import StudyStore, order_of_studies
from .training_config import TrainingConfig

CHECKPOINT, BEST, HISTORY, CONFIG = "checkpoint.pt", "best.pt", "history.csv", "config.json"
SAVE_EVERY_S = 60.0
LARGEST_GRADIENT = 1.0
WARM_UP, LAST_RATE = 0.1, 0.01
"""Share of the run in which the learning rate rises; where it ends, over its highest."""
LEAST_LESION_VOXELS = 20
"""Studies whose true lesion is smaller have no meaningful Dice."""
BAD_STEPS = 50
"""So many steps in a row without a finite loss end the run."""


@dataclass(eq=False)
class TrainingResult:
    """What came out.

    Attributes
    ----------
    network : Module
        On the CPU, with the weights that did best on the validation studies (the moving average).
    score : float
        Its mean Dice of penumbra and core there; nan without validation studies.
    steps : int
    minutes : float
        Processor minutes on a CPU, wall minutes on a GPU.
    parameters : int
    device : str
        What it was trained on, in words.
    stopped : str
        Why it ended.
    history : list of dict
        One row a validation: step, minutes, learning_rate, loss, validation_loss, dice_penumbra, dice_core.
    """

    network: torch.nn.Module
    score: float
    steps: int
    minutes: float
    parameters: int
    device: str
    stopped: str
    history: list[dict] = field(default_factory=list)


@dataclass
class _Run:
    """The state of a run: all that a checkpoint holds."""

    step: int = 0
    seconds: float = 0.0
    validated: int = 0
    best: float = -math.inf
    waited: int = 0
    losses: float = 0.0
    counted: int = 0
    bad: int = 0
    history: list[dict] = field(default_factory=list)


def train(
    config: TrainingConfig,
    studies: Sequence,
    validation: Sequence,
    folder,
    progress: Progress = silent,
    report: Callable[[dict], None] | None = None,
    resume: bool = True,
) -> TrainingResult:
    """Train a network.

    Parameters
    ----------
    config : TrainingConfig
    studies, validation : sequence of Path or StudyCase
        For learning, and for choosing the best weights; the latter may be empty.
    folder : Path
        Where checkpoint, best weights and history are kept.
    progress : callable
        Gets 0...1; what it raises ends the run, which can then be resumed.
    report : callable or None
        Gets every row of the history.
    resume : bool
        Go on where the folder's checkpoint stopped, if there is one; otherwise an earlier run in the folder is refused.

    Raises
    ------
    RequestRefused
        No studies, an earlier run with another configuration, no GPU where one is demanded.
    DataRefused
        The loss is not finite any more.
    """
    if not len(studies):
        raise RequestRefused("there are no studies to train on; make some with `ctperfusion stroke studies`, or name another folder")
    folder = Path(folder)
    device = training_device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    curves, maps = reads_curves(config.kind), reads_maps(config.kind)
    store, held_out = (StudyStore(some, curves, maps, config.memory_gb / 2) for some in (studies, validation))
    first = store.stack(0)
    shape = {"frames": first.curves.shape[1]} if curves else {}
    if maps:
        shape["maps"] = MAPS if first.maps is None else len(first.maps)
    network = build_network(config.kind, config.width, config.slices, dropout=config.dropout, **shape).to(device)
    average = copy.deepcopy(network).eval()
    optimizer = torch.optim.AdamW(_weight_groups(network, config.weight_decay), lr=config.learning_rate, betas=(0.9, 0.99))
    run = _start_or_resume(folder, config, resume, network, average, optimizer)
    board = _tensorboard(folder) if config.tensorboard else None
    clock = time.process_time if device.type == "cpu" else time.monotonic
    began, earlier = clock(), run.seconds
    saved = time.monotonic()
    stopped, whole = "all steps done", True
    try:
        while (done := _share_done(config, run)) < 1:
            progress(done)
            whole = False
            rate = one_cycle(done) * config.learning_rate
            for group in optimizer.param_groups:
                group["lr"] = rate
            _step(config, store, network, optimizer, run, device)
            _follow(average, network, min(config.ema, (1 + run.step) / (10 + run.step)))
            run.seconds = earlier + clock() - began
            if int(_share_done(config, run) * config.validations) > run.validated:
                run.validated = int(_share_done(config, run) * config.validations)
                row = _validate(config, held_out, average, run, rate, device)
                run.seconds = earlier + clock() - began
                better = not len(validation) or _score(row) > run.best
                run.best, run.waited = (_score(row), 0) if better else (run.best, run.waited + 1)
                if better:
                    save_state(folder / BEST, _on_cpu(average.state_dict()))
                run.history.append(row)
                _write_history(folder / HISTORY, run.history)
                if board:
                    for name in row.keys() - {"step"}:
                        board.add_scalar(name, row[name], run.step)
                if report:
                    report(row)
                if config.patience and run.waited >= config.patience:
                    stopped, whole = f"no better result in {config.patience} validations", True
                    break
            whole = True
            if time.monotonic() - saved > SAVE_EVERY_S:
                _save(folder, config, run, network, average, optimizer)
                saved = time.monotonic()
    finally:
        if whole:  # not in the middle of a step
            run.seconds = earlier + clock() - began
            _save(folder, config, run, network, average, optimizer)
        if board:
            board.close()
    progress(1.0)
    if config.minutes is not None and stopped == "all steps done":
        stopped = f"the budget of {config.minutes:g} minutes is spent"
    average.load_state_dict(load_state(folder / BEST, f"'{BEST}'"))
    score = run.best if len(validation) else math.nan
    words = "CPU" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return TrainingResult(average.cpu(), score, run.step, run.seconds / 60, parameter_count(average), words, stopped, run.history)


def training_device(name: str) -> torch.device:
    """The device of that name; "auto" takes a GPU where there is one.

    Raises
    ------
    RequestRefused
        A GPU is demanded and there is none.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise RequestRefused("there is no GPU that PyTorch can use; choose the device cpu or auto")
    return torch.device("cuda" if there and name != "cpu" else "cpu")


def one_cycle(done: float) -> float:
    """Learning rate over its highest when a share `done` of the run is over: a short rise, then half a cosine."""
    if done < WARM_UP:
        return 0.04 + 0.96 * done / WARM_UP
    return LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def _share_done(config: TrainingConfig, run: _Run) -> float:
    return run.seconds / (60 * config.minutes) if config.minutes is not None else run.step / config.steps


def _step(config, store, network, optimizer, run: _Run, device) -> None:
    """One update; everything random in it depends on seed and step alone, so that a resumed run repeats it."""
    rng = np.random.default_rng([config.seed, 1, run.step])
    torch.manual_seed(int(rng.integers(2**31)))
    batch = store.batch(order_of_studies(len(store), config.batch, run.step, config.seed))
    if config.augment:
        batch = augment(batch, rng, network.maps if isinstance(network, MJNet) else 0)
    batch = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
    network.train()
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        logits = network(batch["x"])
    loss = segmentation_loss(logits, batch["label"], batch["tissue"], config.loss, config.class_weights)
    loss.backward()
    size = torch.nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
    run.step += 1
    if not bool(torch.isfinite(loss)) or not bool(torch.isfinite(size)):
        run.bad += 1
        if run.bad >= BAD_STEPS:
            raise DataRefused("training does not converge: the loss is not finite any more; lower the learning rate or check the studies")
        return
    run.bad = 0
    optimizer.step()
    run.losses, run.counted = run.losses + float(loss.detach()), run.counted + 1


@torch.no_grad()
def _follow(average, network, decay: float) -> None:
    """Move the averaged weights towards those of the network."""
    for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        kept.lerp_(new, 1 - decay) if kept.is_floating_point() else kept.copy_(new)


@torch.no_grad()
def _validate(config, store, average, run: _Run, rate: float, device) -> dict:
    """One row of the history; resets the mean training loss."""
    row = {"step": run.step, "minutes": run.seconds / 60, "learning_rate": rate, "loss": run.losses / max(run.counted, 1)}
    run.losses, run.counted = 0.0, 0
    losses, dice = [], {1: [], 2: []}
    average.eval()
    for number in range(len(store)):
        batch = {key: value.to(device) for key, value in store.batch([number]).items()}
        logits = average(batch["x"])
        losses.append(float(segmentation_loss(logits, batch["label"], batch["tissue"], config.loss, config.class_weights)))
        found = logits.argmax(dim=1) * batch["tissue"]
        for label, values in dice.items():
            truth, mask = batch["label"] == label, found == label
            if int(truth.sum()) >= LEAST_LESION_VOXELS:
                values.append(2 * int((truth & mask).sum()) / int(truth.sum() + mask.sum()))
    row["validation_loss"] = float(np.mean(losses)) if losses else math.nan
    for label, name in ((1, "dice_penumbra"), (2, "dice_core")):
        row[name] = float(np.mean(dice[label])) if dice[label] else math.nan
    return row


def _score(row: dict) -> float:
    """Mean of what could be measured; minus the loss where no validation study has a lesion."""
    dice = [row[name] for name in ("dice_penumbra", "dice_core") if not math.isnan(row[name])]
    return float(np.mean(dice)) if dice else -row["validation_loss"]


def _weight_groups(network, decay: float) -> list[dict]:
    """Kernels decay, biases and norms do not."""
    kernels = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    return [{"params": kernels, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def _on_cpu(state: dict) -> dict:
    return {name: value.detach().cpu().clone() for name, value in state.items()}


def _save(folder: Path, config, run: _Run, network, average, optimizer) -> None:
    state = {"config": config.to_json(), "run": json.dumps(vars(run)), "network": network.state_dict(), "average": average.state_dict()}
    save_state(folder / CHECKPOINT, {**state, "optimizer": optimizer.state_dict()})


def _start_or_resume(folder: Path, config, resume: bool, network, average, optimizer) -> _Run:
    """A fresh state, or that of the checkpoint."""
    place = folder / CHECKPOINT
    if not place.exists():
        (folder / CONFIG).write_text(config.to_json(), encoding="utf-8")
        save_state(folder / BEST, _on_cpu(average.state_dict()))
        return _Run()
    if not resume:
        raise RequestRefused(f"'{folder.name}' holds an earlier training run; resume it, or give another folder")
    state = load_state(place, f"the checkpoint in '{folder.name}'")
    try:
        if _what_counts(state["config"]) != _what_counts(config.to_json()):
            raise RequestRefused(
                f"the training run in '{folder.name}' has other options; resume it with its own {CONFIG}, or give another folder"
            )
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        return _Run(**json.loads(state["run"]))
    except (KeyError, TypeError, ValueError, RuntimeError) as problem:
        raise DataRefused(f"the checkpoint in '{folder.name}' is damaged; start again in another folder") from problem


def _what_counts(config: str) -> dict:
    """Options that change the result; a run may go on with another device."""
    return {name: value for name, value in json.loads(config).items() if name not in ("threads", "device", "memory_gb", "tensorboard")}


def _write_history(path: Path, history: list[dict]) -> None:
    partial = path.with_name(path.name + ".part")
    with open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    os.replace(partial, path)


def _tensorboard(folder: Path):
    """A writer of curves, None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
