"""Training: studies in, the best weights out; stopped at any moment and gone on with as if nothing had happened."""

import csv
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from CTPerfusionSuiteLib.errors import Canceled, DataRefused, RequestRefused
from CTPerfusionSuiteLib.progress import Progress, silent

from .checkpoints import load_state, save_state
from .interruption import stopping_between_steps
from .learner import Learner, RunState, learner_of, mean_dice, score, share_done, take_step, validate, validations_due, why_ended
from .networks import parameter_count
from .run_folder import BEST, CHECKPOINT, CONFIG, HISTORY, RunFacts, facts_of_run, facts_of_studies, refuse_foreign_run, write_facts
from .training_config import TrainingConfig

SAVE_EVERY_S = 60.0


@dataclass(eq=False)
class TrainingResult:
    """What came out.

    Attributes
    ----------
    network : Module
        On the CPU, with the weights (of the moving average) that had the lowest loss on the validation studies.
    score : float
        Its mean Dice of penumbra and core there; nan without validation studies, or where none of them has a lesion.
    steps : int
    minutes : float
        Processor minutes on a CPU, wall minutes on a GPU.
    parameters : int
    facts : RunFacts
        The studies it learned from and the devices it was trained on.
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
    facts: RunFacts
    stopped: str
    history: list[dict] = field(default_factory=list)

    @property
    def device(self) -> str:
        """What it was trained on, in words."""
        return self.facts.device


def train(
    config: TrainingConfig,
    studies: Sequence,
    validation: Sequence,
    folder,
    progress: Progress = silent,
    report: Callable[[dict], None] | None = None,
    resume: bool = True,
    say: Callable[[str], None] = lambda text: None,
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
    say : callable
        Gets a line about the network and where it begins.

    Raises
    ------
    RequestRefused
        No studies or damaged ones, a folder that is not of a run, an earlier run with another configuration or other studies, no GPU
        where one is demanded.
    DataRefused
        The loss is not finite any more.
    Canceled
        By `progress`, Ctrl-C or SIGTERM, between two steps and with the state saved.
    """
    if not len(studies):
        raise RequestRefused("there are no studies to train on; make some with `ctperfusion stroke studies`, or name another folder")
    folder = Path(folder)
    refuse_foreign_run(folder)
    if not resume and (folder / CHECKPOINT).exists():
        raise RequestRefused(f"'{folder.name}' holds an earlier training run; resume it, or give another folder")
    device = training_device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    facts = facts_of_studies(studies, validation, device_in_words(device), progress)
    learner = learner_of(config, studies, validation, device)
    facts = _begin(folder, facts, learner) if not (folder / CHECKPOINT).exists() else _go_on(folder, facts, learner)
    run, average = learner.run, learner.average
    for name in (*learner.store.left_out, *learner.held_out.left_out):
        say(f"{name} is left out: it was prepared without maps, and this network reads nothing else")
    say(
        f"{config.kind}: {parameter_count(average):,} parameters; studies: {len(learner.store)} to learn from, {len(learner.held_out)} to "
        f"choose by; on {device_in_words(device)}" + (f"; goes on after step {run.step}" if run.step else "")
    )
    if not why_ended(config, run):
        _learn(learner, folder, progress, report)
    progress(1.0)
    average.load_state_dict(load_state(folder / BEST, f"'{BEST}'"))
    return TrainingResult(
        average.cpu(), kept_dice(run.history), run.step, run.seconds / 60, parameter_count(average), facts,
        why_ended(config, run), run.history,
    )


def kept_dice(history: list[dict]) -> float:
    """Mean Dice of penumbra and core of the weights that are kept, those of the lowest validation loss; nan where none was measured."""
    measured = [row for row in history if not math.isnan(row["validation_loss"])]
    return mean_dice(max(measured, key=score)) if measured else math.nan


def device_in_words(device: torch.device) -> str:
    """What a person calls it."""
    return "CPU" if device.type == "cpu" else torch.cuda.get_device_name(device)


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


def _learn(learner: Learner, folder: Path, progress: Progress, report: Callable[[dict], None] | None) -> None:
    """Steps and validations until the run has ended; whatever stops it, the folder keeps its state after the last whole step."""
    config, run = learner.config, learner.run
    clock = time.process_time if learner.device.type == "cpu" else time.monotonic
    began, earlier = clock(), run.seconds
    saved, saved_step, whole = time.monotonic(), run.step, True
    try:
        with stopping_between_steps() as check, _drawn_curves(folder, config.tensorboard) as draw:

            def between() -> None:
                progress(min(share_done(config, run), 1.0))
                check()

            try:
                while True:
                    if validations_due(config, run) > run.validated:
                        _record(learner, validate(learner, between), folder)
                        draw(run.history[-1])
                        if report:
                            report(run.history[-1])
                    run.seconds = earlier + clock() - began
                    if why_ended(config, run):
                        break
                    between()
                    whole = False
                    take_step(learner)
                    whole = True
                    run.seconds = earlier + clock() - began
                    if time.monotonic() - saved > SAVE_EVERY_S:
                        _save(learner, folder)
                        saved, saved_step = time.monotonic(), run.step
            finally:
                if whole:
                    _save(learner, folder)
                    saved_step = run.step
    except (Canceled, KeyboardInterrupt) as wish:
        raise Canceled(
            f"training was stopped and is kept up to step {saved_step} in '{folder}'; start it again with the same folder to go on"
        ) from wish


def _record(learner: Learner, row: dict, folder: Path) -> None:
    """A validation into the run's state and folder: the averaged weights are kept when they did better than all before."""
    config, run = learner.config, learner.run
    better = not len(learner.held_out) or score(row) > run.best
    if better:
        save_state(folder / BEST, _on_cpu(learner.average.state_dict()))
        run.best, run.waited = score(row), 0
    else:
        run.waited += 1
    run.validated = validations_due(config, run)
    run.losses, run.counted = 0.0, 0
    run.history.append(row)
    _write_history(folder / HISTORY, run.history)


def _on_cpu(state: dict) -> dict:
    return {name: value.detach().cpu().clone() for name, value in state.items()}


def _save(learner: Learner, folder: Path) -> None:
    weights = {name: getattr(learner, name).state_dict() for name in ("network", "average", "optimizer")}
    save_state(folder / CHECKPOINT, {"config": learner.config.to_json(), "run": json.dumps(vars(learner.run)), **weights})


def _begin(folder: Path, facts: RunFacts, learner: Learner) -> RunFacts:
    """Make a folder that of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    write_facts(folder, facts)
    (folder / CONFIG).write_text(learner.config.to_json(), encoding="utf-8")
    save_state(folder / BEST, _on_cpu(learner.average.state_dict()))
    _save(learner, folder)
    return facts


def _go_on(folder: Path, facts: RunFacts, learner: Learner) -> RunFacts:
    """Take up the state of the checkpoint."""
    known = facts_of_run(folder)
    if not known.same_studies(facts):
        raise RequestRefused(
            f"the training run in '{folder.name}' learned from other studies ({len(known.train)} to learn from, {len(known.val)} to choose "
            "by) than these; resume it with its own, or give another folder"
        )
    state = load_state(folder / CHECKPOINT, f"the checkpoint in '{folder.name}'")
    try:
        if _what_counts(state["config"]) != _what_counts(learner.config.to_json()):
            raise RequestRefused(
                f"the training run in '{folder.name}' has other options; resume it with its own {CONFIG}, or give another folder"
            )
        for name in ("network", "average", "optimizer"):
            getattr(learner, name).load_state_dict(state[name])
        learner.run = RunState(**json.loads(state["run"]))
    except (KeyError, TypeError, ValueError, RuntimeError) as problem:
        raise DataRefused(f"the checkpoint in '{folder.name}' is damaged; start again in another folder") from problem
    if not why_ended(learner.config, learner.run) and known != known.also_on(facts.device):
        known = known.also_on(facts.device)
        write_facts(folder, known)
    return known


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


@contextmanager
def _drawn_curves(folder: Path, wanted: bool) -> Iterator[Callable[[dict], None]]:
    """What draws a row of the history for TensorBoard; nothing where it is not wanted or not installed."""
    writer = None
    if wanted:
        try:
            from torch.utils.tensorboard import SummaryWriter

            writer = SummaryWriter(str(folder / "tensorboard"))
        except ImportError:
            pass

    def draw(row: dict) -> None:
        for name in row.keys() - {"step"} if writer else ():
            writer.add_scalar(name, row[name], row["step"])

    try:
        yield draw
    finally:
        if writer:
            writer.close()
