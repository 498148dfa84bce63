"""A network while it learns: a step, the moving average that follows it, and what the average is worth on studies kept back."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from CTPerfusionSuiteLib.errors import DataRefused

from .augmentation import augment
from .losses import segmentation_loss
from .mjnet import MJNet
from .networks import MAPS, build_network, reads_curves, reads_maps
from .training_batches import StudyStore, order_of_studies
from .training_config import TrainingConfig

LARGEST_GRADIENT = 1.0
WARM_UP, LAST_RATE = 0.1, 0.01
"""Share of the run in which the learning rate rises; where it ends, over its highest."""
LEAST_LESION_VOXELS = 20
"""Studies whose true lesion is smaller have no meaningful Dice."""
BAD_STEPS = 50
"""So many steps in a row without a finite loss end the run."""


@dataclass
class RunState:
    """Where a run is: what a checkpoint holds beside weights.

    Attributes
    ----------
    step : int
        Steps done.
    seconds : float
        Of processor time on a CPU, of wall time on a GPU.
    rate : float
        Learning rate of the last step.
    validated, waited : int
        Validations that were due so far; validations since the best one.
    best : float
        Highest `score`, of the weights that are kept.
    losses : float
        Sum over the `counted` steps since the last validation.
    bad : int
        Steps in a row without a finite loss.
    history : list of dict
        As in `TrainingResult`.
    """

    step: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    validated: int = 0
    best: float = -math.inf
    waited: int = 0
    losses: float = 0.0
    counted: int = 0
    bad: int = 0
    history: list[dict] = field(default_factory=list)


@dataclass
class Learner:
    """A network at work: between two of its steps its state is whole and can be saved."""

    config: TrainingConfig
    device: torch.device
    store: StudyStore
    held_out: StudyStore
    network: torch.nn.Module
    average: torch.nn.Module
    optimizer: torch.optim.Optimizer
    run: RunState = field(default_factory=RunState)


def one_cycle(done: float) -> float:
    """Learning rate over its highest when a share `done` of the run is over: a short rise, then half a cosine."""
    if done < WARM_UP:
        return 0.04 + 0.96 * done / WARM_UP
    return LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def learner_of(config: TrainingConfig, studies: Sequence, validation: Sequence, device: torch.device) -> Learner:
    """A fresh network and what it learns from."""
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
    return Learner(config, device, store, held_out, network, average, optimizer)


def share_done(config: TrainingConfig, run: RunState) -> float:
    """Of the steps, or of the budget of minutes; may exceed 1."""
    return run.seconds / (60 * config.minutes) if config.minutes is not None else run.step / config.steps


def validations_due(config: TrainingConfig, run: RunState) -> int:
    """How many there should have been by now."""
    return int(min(share_done(config, run), 1.0) * config.validations)


def why_ended(config: TrainingConfig, run: RunState) -> str:
    """In words, "" while there is something left to do."""
    if config.patience and run.waited >= config.patience:
        return f"no better result in {config.patience} validations"
    if share_done(config, run) < 1 or validations_due(config, run) > run.validated:
        return ""
    return "all steps done" if config.minutes is None else f"the budget of {config.minutes:g} minutes is spent"


def take_step(learner: Learner) -> None:
    """One update; everything random in it depends on seed and step alone, so that a resumed run repeats it."""
    config, run, network = learner.config, learner.run, learner.network
    run.rate = one_cycle(share_done(config, run)) * config.learning_rate
    for group in learner.optimizer.param_groups:
        group["lr"] = run.rate
    size, loss = _gradients(learner)
    run.step += 1
    if math.isfinite(loss) and math.isfinite(size):
        learner.optimizer.step()
        run.bad, run.losses, run.counted = 0, run.losses + loss, run.counted + 1
    else:
        run.bad += 1
        if run.bad >= BAD_STEPS:
            raise DataRefused("training does not converge: the loss is not finite any more; lower the learning rate or check the studies")
    follow(learner.average, network, min(config.ema, (1 + run.step) / (10 + run.step)))


def _gradients(learner: Learner) -> tuple[float, float]:
    """Compute those of one batch, limited in size; their size and the loss."""
    config, run, network, device = learner.config, learner.run, learner.network, learner.device
    rng = np.random.default_rng([config.seed, 1, run.step])
    torch.manual_seed(int(rng.integers(2**31)))
    batch = learner.store.batch(order_of_studies(len(learner.store), config.batch, run.step, config.seed))
    if config.augment:
        batch = augment(batch, rng, network.maps if isinstance(network, MJNet) else 0)
    batch = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
    network.train()
    learner.optimizer.zero_grad(set_to_none=True)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        logits = network(batch["x"])
    loss = segmentation_loss(logits, batch["label"], batch["tissue"], config.loss, config.class_weights)
    loss.backward()
    size = torch.nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
    return float(size), float(loss.detach())


@torch.no_grad()
def follow(average: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    """Move the averaged weights towards those of the network: decay x average + (1 - decay) x network."""
    for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        kept.lerp_(new, 1 - decay) if kept.is_floating_point() else kept.copy_(new)


@torch.no_grad()
def validate(learner: Learner, between: Callable[[], None]) -> dict:
    """One row of the history, of the averaged weights; changes nothing, so that it can be stopped between two studies."""
    config, run, store, device = learner.config, learner.run, learner.held_out, learner.device
    row = {"step": run.step, "minutes": run.seconds / 60, "learning_rate": run.rate, "loss": run.losses / max(run.counted, 1)}
    losses, dice = [], {1: [], 2: []}
    learner.average.eval()
    for number in range(len(store)):
        between()
        batch = {key: value.to(device) for key, value in store.batch([number]).items()}
        logits = learner.average(batch["x"])
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


def mean_dice(row: dict) -> float:
    """Of what could be measured, else nan."""
    dice = [row[name] for name in ("dice_penumbra", "dice_core") if not math.isnan(row[name])]
    return float(np.mean(dice)) if dice else math.nan


def score(row: dict) -> float:
    """What the best weights are chosen by: minus the validation loss.

    Dice would be that of the likeliest class, but where probabilities are cut is chosen later (`rule_choice`): early weights with a lucky
    cut would win over better ones.
    """
    return -row["validation_loss"]


def _weight_groups(network, decay: float) -> list[dict]:
    """Kernels decay, biases and norms do not."""
    kernels = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    return [{"params": kernels, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
