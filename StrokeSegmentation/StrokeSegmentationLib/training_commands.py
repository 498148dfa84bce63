"""`ctperfusion stroke studies` and `ctperfusion stroke train`: what a network is trained on, and its training."""

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from CTPerfusionSuiteLib.argument_types import count, positive, whole_number
from CTPerfusionSuiteLib.console import STYLES as PROGRESS_STYLES
from CTPerfusionSuiteLib.errors import Canceled, RequestRefused

from .training_config import DEVICES

MODEL_FOLDER = "model"
"""Inside the folder of a training run: the bundle it ends with."""


def add_common_arguments(parser) -> None:
    """Progress and threads, which all kinds of the command take."""
    parser.add_argument("--progress", choices=PROGRESS_STYLES, default="bar", help="how progress is shown")
    parser.add_argument("--threads", type=count, metavar="N", help="worker threads (default: all cores)")


def register_studies(kinds) -> None:
    """Add `studies`."""
    parser = kinds.add_parser(
        "studies",
        help="simulate studies to train on, or prepare labeled studies of patients",
        description="Prepared studies (.npz) to train and evaluate on: simulated ones, or with --input labeled studies of patients in the "
        "layout of ISLES 2018 or 2024, or folders with ctp.nii.gz and label.nii.gz. A second run goes on where the first stopped.",
    )
    parser.add_argument("--out_dir", type=Path, required=True, metavar="DIR", help="folder of the prepared studies")
    parser.add_argument("--input", type=Path, metavar="DIR", help="labeled studies of patients instead of simulated ones")
    parser.add_argument("--dt", type=positive, metavar="S", help="seconds between frames of patient series that carry no times")
    parser.add_argument("--groups", type=Path, metavar="CSV", help="columns name and group (lvo, non-lvo, none) of patient studies")
    parser.add_argument("--anatomy", type=Path, metavar="DIR", help="label maps of heads (default: the built-in head)")
    parser.add_argument("--test_anatomy", type=Path, nargs="+", default=(), metavar="PATH",
                        help="further heads, never trained on: label maps, head CTs, or folders of DICOM slices")
    parser.add_argument("--lesions", type=Path, metavar="DIR", help="lesion masks in standard space (default: built-in lesions)")
    parser.add_argument("--seed", type=whole_number, default=0, metavar="N", help="the same seed gives the same studies")
    parser.add_argument("--splits", default="train,val,test,shifted", metavar="A,B", help="of train, val, test, shifted (default all)")
    parser.add_argument("--share", type=positive, default=1.0, metavar="F", help="part of the standard number of heads (default 1)")
    add_common_arguments(parser)
    parser.set_defaults(run=run_studies)


def register_train(kinds) -> None:
    """Add `train`."""
    parser = kinds.add_parser(
        "train",
        help="train a network",
        description="Trains a network on prepared studies, or on labeled patient studies in the layouts of `stroke studies --input`. A run "
        "that was stopped goes on where it was. The result is a model folder with its card.",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="prepared studies, or labeled studies of patients")
    parser.add_argument("--out_dir", type=Path, required=True, metavar="DIR", help="folder of the run: checkpoint, history, model")
    parser.add_argument("--config", type=Path, metavar="JSON", help="training options; those below replace its entries")
    parser.add_argument("--network", metavar="KIND", help="4d, 4d-attention, 4d+maps, 3d+time, 2d+time or maps-unet (default 4d)")
    parser.add_argument("--minutes", type=positive, metavar="M", help="budget: minutes of the processor, or of the GPU's time")
    parser.add_argument("--steps", type=count, metavar="N", help="training steps, instead of a budget")
    parser.add_argument("--device", choices=DEVICES, help="default: a GPU where there is one")
    parser.add_argument("--dt", type=positive, metavar="S", help="seconds between frames of patient series that carry no times")
    parser.add_argument("--name", default="my-stroke-model", metavar="NAME", help="of the model (default my-stroke-model)")
    parser.add_argument("--no-resume", action="store_true", help="refuse a folder that holds an earlier run")
    add_common_arguments(parser)
    parser.set_defaults(run=run_train)


def run_studies(options: argparse.Namespace) -> int:
    """Write prepared studies.

    Raises
    ------
    RequestRefused, DataRefused
    """
    from CTPerfusionSuiteLib.console import Console

    console, missing = Console(options.progress), []
    try:
        with console.telling_refusals(), _telling_what_is_kept(options.out_dir):
            _refuse_sources_of_patients(options)
            if options.out_dir.exists() and not options.out_dir.is_dir():
                raise RequestRefused(f"the output folder '{options.out_dir}' is a file; give another folder")
            if options.input is not None:
                written = _prepare_patients(options.input, options.out_dir, options, console)
            else:
                written = _simulate(options, console, missing)
    except _Kept as stop:
        return _told(stop)
    console.finish(out_dir=str(options.out_dir), written=written, missing=missing)
    if options.progress != "json":
        short = f"; {len(missing)} heads are missing, as no draw of them could be used ({missing[0]})" if missing else ""
        print(f"  {written} new studies in {options.out_dir}{short}.")
    return 0


def _refuse_sources_of_patients(options: argparse.Namespace) -> None:
    """Studies of patients have heads and lesions of their own."""
    if options.input is not None:
        for word in ("anatomy", "test_anatomy", "lesions"):
            if getattr(options, word):
                raise RequestRefused(f"--{word} is for simulated studies and --input for those of patients; give one of the two")


def _simulate(options: argparse.Namespace, console, missing: list[str]) -> int:
    """Write simulated studies; `missing` gets a line about every head that none could be made of."""
    from .simulated_cases import STANDARD_PLAN, share_of_plan, write_training_studies
    from .study_plan_file import TESTED
    from .study_sources import StudySources
    from .training_cases import SPLITS

    wanted = [name.strip() for name in options.splits.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in SPLITS]
    if unknown or not wanted:
        raise RequestRefused(f"--splits '{options.splits}' is not of {', '.join(SPLITS)}; correct it")
    plan = share_of_plan({name: STANDARD_PLAN[name] for name in wanted}, options.share)
    sources = StudySources.of(options.anatomy, options.lesions, options.test_anatomy)
    if not TESTED.isdisjoint(wanted):
        sources.check_test_heads()
    progress = console.step("simulate", "Simulating studies")
    say = print_line if options.progress == "bar" else lambda text: None

    def say_missing(text: str) -> None:
        missing.append(text)
        print_line(text)

    return write_training_studies(
        options.out_dir, plan, sources, options.seed, threads=options.threads or 1, progress=progress, say=say, say_missing=say_missing
    )


def _prepare_patients(folder: Path, out_dir: Path, options: argparse.Namespace, console) -> int:
    from .study_layouts import read_groups, write_patient_cases
    from .study_plan_file import stored_plan

    if stored_plan(out_dir) is not None:
        raise RequestRefused(f"'{out_dir}' holds simulated studies; give another folder for those of patients")
    groups = None if getattr(options, "groups", None) is None else read_groups(options.groups)
    progress = console.step("prepare", "Preparing studies")
    return write_patient_cases(folder, out_dir, options.dt, groups, options.threads, progress, say=print_line)


def run_train(options: argparse.Namespace) -> int:
    """Train, and write the model folder.

    Raises
    ------
    RequestRefused, DataRefused
        Wherever possible before anything is written.
    """
    from CTPerfusionSuiteLib.console import Console

    from .shipped_models import require_torch

    console = Console(options.progress)
    try:
        with console.telling_refusals():
            require_torch()
            result, folder = _train_to_folder(options, console)
    except _Kept as stop:
        return _told(stop)
    score = result.score if math.isfinite(result.score) else None
    console.finish(
        model=str(folder), score=score, steps=result.steps, minutes=result.minutes, device=result.device, parameters=result.parameters
    )
    if options.progress != "json":
        size = f"{result.parameters:,} parameters"
        print(f"  {size}; {result.steps} steps, {result.minutes:.1f} minutes on {result.device}; {result.stopped}.")
        print(f"  {_in_words(score, len(result.facts.val))}; model in {folder}. Research use only.")
    return 0


def _train_to_folder(options: argparse.Namespace, console):
    """The result of the training and its model folder."""
    from .model_bundle import refuse_name, refuse_place
    from .networks import build_network
    from .own_model import bundle_of_run
    from .rule_choice import choose_rule
    from .run_folder import STUDIES, refuse_foreign_run
    from .training import train, training_device
    from .training_cases import list_cases

    refuse_name(options.name)
    config, target = _config(options), options.out_dir / MODEL_FOLDER / options.name
    build_network(config.kind, config.width, config.slices, dropout=config.dropout)
    training_device(config.device)
    refuse_foreign_run(options.out_dir)
    refuse_place(target, replace=True)
    if not options.data.is_dir():
        raise RequestRefused(f"the data folder '{options.data}' does not exist; make studies with ctperfusion stroke studies")
    cases = options.data
    if not any(cases.glob("*.npz")):
        cases = options.out_dir / STUDIES
        with _telling_what_is_kept(cases), _no_empty_folders(cases, options.out_dir):
            _prepare_patients(options.data, cases, options, console)
    studies = list_cases(cases, "train")
    try:
        validation = list_cases(cases, "val")
    except RequestRefused:
        validation = []  # a few patients only: trained to the end without choosing
    say = print_line if options.progress == "bar" else lambda text: None
    progress, resume = console.step("train", "Training"), not options.no_resume
    with _telling_what_is_kept(options.out_dir):
        result = train(config, studies, validation, options.out_dir, progress, _teller(options), resume, say)
        rule = choose_rule(validation, _predictor(config, result.network), console.step("rule", "Choosing where to cut probabilities"))
        return result, bundle_of_run(target, config, result, cases, rule=rule)


def _predictor(config, network):
    """Probabilities of a case by a network; None where it reads nothing but maps and the case has none."""
    from .networks import reads_curves
    from .prediction import predict

    def of_case(case):
        return predict(network, case, device=config.device).probabilities if reads_curves(config.kind) or len(case.maps) else None

    return of_case


def _config(options: argparse.Namespace):
    from .training_config import config_of, read_config

    given = {"kind": options.network, "minutes": options.minutes, "steps": options.steps, "device": options.device,
             "threads": options.threads}
    given = {name: value for name, value in given.items() if value is not None}
    return config_of({**(asdict(read_config(options.config)) if options.config else {}), **given})


def _in_words(score: float | None, validations: int) -> str:
    """What is known about a network, for people."""
    if score is not None:
        return f"mean Dice of penumbra and core on the validation studies {score:.3f}"
    if validations:
        return "no validation study has a lesion, so the weights with the lowest loss were kept"
    return "no validation studies, so the weights are those of the end"


def _teller(options: argparse.Namespace) -> Callable[[dict], None] | None:
    """What reports a row of the training history to people."""
    if options.progress != "bar":
        return None

    def tell(row: dict) -> None:
        text = f"step {row['step']:6d}  {row['minutes']:6.1f} min  loss {row['loss']:.3f}"
        for name, words in (("dice_penumbra", "Dice penumbra"), ("dice_core", "Dice core")):
            text += "" if math.isnan(row[name]) else f"  {words} {row[name]:.3f}"
        print_line(text)

    return tell


class _Kept(Canceled):
    """Stopped by the user, and something is left to go on with."""


@contextmanager
def _telling_what_is_kept(folder: Path) -> Iterator[None]:
    """Where work that can be gone on with is stopped, say so; where nothing was written yet, leave that to be said."""
    try:
        yield
    except (Canceled, KeyboardInterrupt) as stop:
        if not folder.is_dir() or not any(folder.iterdir()):
            raise
        said = str(stop)
        raise _Kept(said if str(folder) in said else f"canceled; '{folder}' keeps what was done, and the same command goes on") from stop


@contextmanager
def _no_empty_folders(*folders: Path) -> Iterator[None]:
    """Remove folders that work which fails has made and not filled."""
    fresh = [folder for folder in folders if not folder.exists()]
    try:
        yield
    except BaseException:
        for folder in fresh:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        raise


def _told(stop: Canceled) -> int:
    print(f"ctperfusion: {stop}.", file=sys.stderr)
    return Canceled.exit_code


def print_line(text: str) -> None:
    """A line of news between two states of the bar."""
    print(f"\n  {text}", file=sys.stderr, flush=True)
