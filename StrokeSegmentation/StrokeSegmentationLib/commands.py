"""`ctperfusion stroke`: simulate or prepare studies, train a network, evaluate it, and segment a study with it."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from CTPerfusionSuiteLib.argument_types import count, positive, whole_number
from CTPerfusionSuiteLib.console import STYLES as PROGRESS_STYLES
from CTPerfusionSuiteLib.errors import RequestRefused
from CTPerfusionSuiteLib.series_input import add_series_arguments, read_series

DEVICES = ("auto", "cpu", "cuda")
MODEL_FOLDER = "model"
"""Inside the folder of a training run: the bundle it ends with."""


def register(subparsers) -> None:
    """Add `ctperfusion stroke` with its kinds."""
    parser = subparsers.add_parser(
        "stroke",
        help="penumbra and core straight from the 4-D series, by a trained network",
        description="Penumbra and core straight from the 4-D series. Networks are trained on simulated studies. Research use only.",
    )
    kinds = parser.add_subparsers(dest="kind", metavar="kind", required=True, parser_class=type(parser))
    _register_studies(kinds)
    _register_train(kinds)
    _register_evaluate(kinds)
    _register_predict(kinds)


def _common(parser) -> None:
    parser.add_argument("--progress", choices=PROGRESS_STYLES, default="bar", help="how progress is shown")
    parser.add_argument("--threads", type=count, metavar="N", help="worker threads (default: all cores)")


def _register_studies(kinds) -> None:
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
    parser.add_argument("--lesions", type=Path, metavar="DIR", help="lesion masks in standard space (default: built-in lesions)")
    parser.add_argument("--seed", type=whole_number, default=0, metavar="N", help="the same seed gives the same studies")
    parser.add_argument("--splits", default="train,val,test,shifted", metavar="A,B", help="of train, val, test, shifted (default all)")
    parser.add_argument("--share", type=positive, default=1.0, metavar="F", help="part of the standard number of heads (default 1)")
    _common(parser)
    parser.set_defaults(run=run_studies)


def _register_train(kinds) -> None:
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
    _common(parser)
    parser.set_defaults(run=run_train)


def _register_evaluate(kinds) -> None:
    parser = kinds.add_parser(
        "evaluate",
        help="score networks and threshold maps on prepared studies",
        description="Dice, HD95, volume error, lesion-wise F1, false-positive volume in stroke-free studies and calibration, by group and "
        "noise, with bootstrap intervals, as CSV and Markdown. Nothing is masked with the truth.",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="prepared studies")
    parser.add_argument("--model", action="append", required=True, metavar="NAME|DIR", help="may be given several times")
    parser.add_argument("--split", default="test", metavar="NAME", help="train, val, test, shifted or all (default test)")
    parser.add_argument("--out_dir", type=Path, required=True, metavar="DIR", help="folder of the tables, made new")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier evaluation in the same folder")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="default: a GPU where there is one")
    _common(parser)
    parser.set_defaults(run=run_evaluate)


def _register_predict(kinds) -> None:
    parser = kinds.add_parser(
        "predict",
        help="segment penumbra and core of one study",
        description="Penumbra and core of one study with probabilities, beside the threshold maps of the same study. Research use only.",
    )
    add_series_arguments(parser)
    parser.add_argument("--out_dir", type=Path, required=True, metavar="DIR", help="result folder, made new")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier result in the same folder")
    parser.add_argument("--model", metavar="NAME|DIR", help="default: the one that comes with the suite")
    parser.add_argument("--model_dir", type=Path, metavar="DIR", help="folder of further models")
    parser.add_argument("--passes", type=whole_number, default=0, metavar="N", help="Monte-Carlo dropout passes for uncertainty")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="default: a GPU where there is one")
    parser.add_argument("--no-maps", action="store_true", help="skip the threshold maps that the result is compared with")
    parser.add_argument("--no-motion-correction", action="store_true", help="take the frames as they are")
    parser.add_argument("--no-report", action="store_true", help="skip report.html and the picture")
    parser.add_argument("--show-patient", action="store_true", help="put the patient's name on the report (never done otherwise)")
    _common(parser)
    parser.set_defaults(run=run_predict)


def run_studies(options: argparse.Namespace) -> int:
    """Write prepared studies.

    Raises
    ------
    RequestRefused, DataRefused
    """
    from CTPerfusionSuiteLib.console import Console

    from .training_cases import SPLITS

    console = Console(options.progress)
    with console.telling_refusals():
        if options.out_dir.exists() and not options.out_dir.is_dir():
            raise RequestRefused(f"the output folder '{options.out_dir}' is a file; give another folder")
        if options.input is not None:
            written = _prepare_patients(options.input, options.out_dir, options, console)
        else:
            from .simulated_cases import STANDARD_PLAN, share_of_plan, write_training_studies
            from .study_sources import StudySources

            wanted = [name.strip() for name in options.splits.split(",") if name.strip()]
            unknown = [name for name in wanted if name not in SPLITS]
            if unknown or not wanted:
                raise RequestRefused(f"--splits '{options.splits}' is not of {', '.join(SPLITS)}; correct it")
            plan = share_of_plan({name: STANDARD_PLAN[name] for name in wanted}, options.share)
            sources = StudySources.of(options.anatomy, options.lesions)
            progress = console.step("simulate", "Simulating studies")
            say = print_line if options.progress == "bar" else lambda text: None
            written = write_training_studies(
                options.out_dir, plan, sources, options.seed, threads=options.threads or 1, progress=progress, say=say
            )
    console.finish(out_dir=str(options.out_dir), written=written)
    if options.progress != "json":
        print(f"  {written} new studies in {options.out_dir}.")
    return 0


def _prepare_patients(folder: Path, out_dir: Path, options: argparse.Namespace, console) -> int:
    from .study_layouts import read_groups, write_patient_cases

    groups = None if getattr(options, "groups", None) is None else read_groups(options.groups)
    progress = console.step("prepare", "Preparing studies")
    return write_patient_cases(folder, out_dir, options.dt, groups, options.threads, progress, say=print_line)


def run_train(options: argparse.Namespace) -> int:
    """Train, and write the model folder.

    Raises
    ------
    RequestRefused, DataRefused
    """
    from CTPerfusionSuiteLib.console import Console

    from .shipped_models import require_torch

    console = Console(options.progress)
    with console.telling_refusals():
        require_torch()
        from .own_model import bundle_of_run
        from .training import train
        from .training_cases import list_cases
        from .training_config import config_of, read_config

        if not options.data.is_dir():
            raise RequestRefused(f"the data folder '{options.data}' does not exist; make studies with ctperfusion stroke studies")
        given = {"kind": options.network, "minutes": options.minutes, "steps": options.steps, "device": options.device,
                 "threads": options.threads}
        given = {name: value for name, value in given.items() if value is not None}
        config = config_of({**(asdict(read_config(options.config)) if options.config else {}), **given})
        cases = options.data
        if not any(cases.glob("*.npz")):
            cases = options.out_dir / "studies"
            _prepare_patients(options.data, cases, options, console)
        studies = list_cases(cases, "train")
        try:
            validation = list_cases(cases, "val")
        except RequestRefused:
            validation = []  # a few patients only: trained to the end without choosing
        result = train(
            config, studies, validation, options.out_dir, console.step("train", "Training"), report=_teller(options),
            resume=not options.no_resume,
        )
        folder = bundle_of_run(options.out_dir / MODEL_FOLDER / options.name, config, result, studies, validation)
    console.finish(model=str(folder), score=result.score, steps=result.steps, minutes=result.minutes, device=result.device)
    if options.progress != "json":
        print(f"  {result.steps} steps, {result.minutes:.1f} minutes on {result.device}; {result.stopped}.")
        print(f"  mean Dice of penumbra and core on the validation studies {result.score:.3f}; model in {folder}. Research use only.")
    return 0


def run_evaluate(options: argparse.Namespace) -> int:
    """Write the tables of an evaluation.

    Raises
    ------
    RequestRefused, DataRefused
    """
    from CTPerfusionSuiteLib.console import Console
    from CTPerfusionSuiteLib.output_folder import new_result_folder, refuse_existing

    from .shipped_models import model_folder, require_torch

    console, kind = Console(options.progress), "stroke evaluations"
    with console.telling_refusals():
        require_torch()
        from .evaluation import evaluate
        from .evaluation_tables import write_evaluation
        from .model_bundle import read_bundle
        from .prediction import predict
        from .training_cases import list_cases

        refuse_existing(options.out_dir, options.overwrite, kind)
        paths = list_cases(options.data, None if options.split == "all" else options.split)
        if options.threads:
            import torch

            torch.set_num_threads(options.threads)
        models = [read_bundle(model_folder(name)) for name in options.model]
        predictors = {
            model.name: lambda case, network=model.network: predict(network, case, device=options.device).probabilities for model in models
        }
        evaluation = evaluate(paths, predictors, progress=console.step("evaluate", "Evaluating"))
        with new_result_folder(options.out_dir, options.overwrite, kind) as folder:
            console.partial_folders.append(folder)
            write_evaluation(folder, evaluation)
    console.finish(out_dir=str(options.out_dir))
    if options.progress != "json":
        print(f"  {len(paths)} studies; tables in {options.out_dir / 'evaluation.md'}. Simulated studies say nothing about patients.")
    return 0


def run_predict(options: argparse.Namespace) -> int:
    """Segment one study into a result folder.

    Raises
    ------
    RequestRefused, DataRefused
        Before anything is written.
    """
    from CTPerfusionSuiteLib.console import Console

    console = Console(options.progress)
    with console.telling_refusals():
        metrics = predict_to_folder(options, console)
    console.finish(out_dir=str(options.out_dir), metrics=metrics)
    if options.progress == "bar":
        _print_summary(metrics, options)
    return 0


def predict_to_folder(options: argparse.Namespace, console) -> dict:
    """Read, segment and write; the metrics document."""
    from CTPerfusionSuiteLib.output_folder import new_result_folder, refuse_existing, refuse_foreign

    from .shipped_models import model_folder, require_torch
    from .stroke_folder import KIND, write_stroke_data
    from .stroke_result import segment_stroke

    refuse_foreign(options.out_dir, KIND)
    folder = model_folder(options.model, options.model_dir)
    require_torch()
    from .model_bundle import read_bundle

    model = read_bundle(folder)
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    series = read_series(options, console.step("read", "Reading the series"))
    from PerfusionMapsLib.bolus_arrival import find_bolus

    bolus = find_bolus(series)
    refuse_existing(options.out_dir, options.overwrite, KIND)
    waiting = [series]
    del series
    result = segment_stroke(
        waiting.pop(), model, _request(options), console.step, bolus, options.passes, options.device, not options.no_maps, overwrite=True
    )
    with new_result_folder(options.out_dir, options.overwrite, KIND) as place:
        console.partial_folders.append(place)
        write_stroke_data(place, result, console.step("write", "Writing masks and metrics"))
        if not options.no_report:
            _write_page(place, result, model.card, options, console.step("report", "Drawing the report"))
    return result.metrics


def _request(options: argparse.Namespace):
    from PerfusionMapsLib.analysis_request import AnalysisRequest
    from PerfusionMapsLib.perfusion_options import EngineOptions

    return AnalysisRequest(engine=EngineOptions(threads=options.threads), motion_correction=not options.no_motion_correction)


def _write_page(folder: Path, result, card: str, options: argparse.Namespace, progress) -> None:
    """The report; without matplotlib or jinja2 the masks stand alone and the user is told."""
    from CTPerfusionSuiteLib.report.canvas import ReportUnavailable

    from .stroke_report import write_stroke_report

    patient = None
    if options.show_patient and options.dicom_dir is not None and result.maps is not None:
        from CTPerfusionSuiteLib.dicom.patient import patient_label

        patient = patient_label(result.maps.source_header)
    try:
        write_stroke_report(folder, result, card, patient)
    except ReportUnavailable as missing:
        print(f"ctperfusion: no report: {missing}", file=sys.stderr)
    progress(1.0)


def _print_summary(metrics: dict, options: argparse.Namespace) -> None:
    """The volumes of both methods, and what to make of them."""
    from .recommendation import verdict

    rival = metrics["threshold_maps"]

    def shown(value) -> str:
        return "not known" if value is None else f"{value:.1f} mL"

    for name in ("hypoperfusion", "core", "penumbra"):
        beside = f"   by thresholds {shown(rival['volumes_ml'][name])}" if rival else ""
        print(f"  {name:16s} {shown(metrics['volumes_ml'][name]):>12s}{beside}")
    print(f"  {'side':16s} {metrics['lesion_side'] or 'none':>12s}")
    for flag in metrics["qc"]:
        if flag["severity"] != "info":
            print(f"  {flag['severity']}: {flag['message']}", file=sys.stderr)
    page = options.out_dir / "report.html"
    print(f"  result in {options.out_dir}" + (f", report {page}" if page.exists() else ""))
    print(f"  {verdict(metrics)} Research use only.")


def _teller(options: argparse.Namespace):
    """What reports a row of the training history to people."""
    if options.progress != "bar":
        return None
    return lambda row: print_line(
        f"step {row['step']:6d}  {row['minutes']:6.1f} min  loss {row['loss']:.3f}  Dice penumbra {row['dice_penumbra']:.3f}  core "
        f"{row['dice_core']:.3f}"
    )


def print_line(text: str) -> None:
    """A line of news between two states of the bar."""
    print(f"\n  {text}", file=sys.stderr, flush=True)
