"""`ctperfusion stroke`: simulate or prepare studies, train a network, evaluate it, and segment a study with it."""

import argparse
import sys
from pathlib import Path

from CTPerfusionSuiteLib.argument_types import whole_number
from CTPerfusionSuiteLib.errors import RequestRefused
from CTPerfusionSuiteLib.series_input import add_series_arguments, read_series

from .training_commands import add_common_arguments, print_line, register_studies, register_train
from .training_config import DEVICES


def register(subparsers) -> None:
    """Add `ctperfusion stroke` with its kinds."""
    parser = subparsers.add_parser(
        "stroke",
        help="penumbra and core straight from the 4-D series, by a trained network",
        description="Penumbra and core straight from the 4-D series. Networks are trained on simulated studies, or on labeled ones of the "
        "user. Research use only.",
    )
    kinds = parser.add_subparsers(dest="kind", metavar="kind", required=True, parser_class=type(parser))
    register_studies(kinds)
    register_train(kinds)
    _register_evaluate(kinds)
    _register_predict(kinds)


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
    add_common_arguments(parser)
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
    add_common_arguments(parser)
    parser.set_defaults(run=run_predict)


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
        from .training_cases import about_case, list_cases

        refuse_existing(options.out_dir, options.overwrite, kind)
        paths = list_cases(options.data, None if options.split == "all" else options.split)
        abouts = {path: about_case(path) for path in paths}
        if options.threads:
            import torch

            torch.set_num_threads(options.threads)
        models = [read_bundle(model_folder(name)) for name in options.model]
        _refuse_same_names([model.name for model in models], {name for about in abouts.values() for name in about.get("baselines") or ()})
        if any(model.needs_maps for model in models):
            paths = _with_maps(abouts)
        patients = sum(bool(abouts[path].get("patient")) for path in paths)
        predictors = {
            model.name: lambda case, network=model.network: predict(network, case, device=options.device).probabilities for model in models
        }
        rules = {model.name: model.rule for model in models}
        evaluation = evaluate(paths, predictors, rules, progress=console.step("evaluate", "Evaluating"))
        with new_result_folder(options.out_dir, options.overwrite, kind) as folder:
            console.partial_folders.append(folder)
            write_evaluation(folder, evaluation, f"Evaluation on {_kinds_of_studies(patients, len(paths))}")
    console.finish(out_dir=str(options.out_dir))
    if options.progress != "json":
        warning = "" if patients == len(paths) else " Simulated studies say nothing about patients."
        print(f"  {len(paths)} studies; tables in {options.out_dir / 'evaluation.md'}.{warning} Research use only.")
    return 0


def _with_maps(abouts: dict[Path, dict]) -> list[Path]:
    """Studies that a network of maps alone can be scored on, so that all methods are scored on the same; the others are said."""
    without = [path for path, about in abouts.items() if "maps_refused" in about]
    if len(without) == len(abouts):
        raise RequestRefused("none of the studies was prepared with maps, and one of the models reads nothing else; leave it out")
    for path in without:
        print_line(f"{path.stem} is left out: it was prepared without maps, and one of the models reads nothing else")
    return [path for path in abouts if path not in without]


def _kinds_of_studies(patients: int, studies: int) -> str:
    """Whose studies they are, in words; `patients` of them are of patients."""
    if patients == studies:
        return "studies of patients"
    return f"{studies - patients} simulated studies and {patients} of patients" if patients else "simulated studies"


def _refuse_same_names(models: list[str], baselines: set[str]) -> None:
    """Refuse what could not be told apart in the tables."""
    twice = next((name for name in models if models.count(name) > 1), None)
    if twice:
        raise RequestRefused(f"two of the models are called '{twice}'; repeat stroke train on one of their runs with another --name")
    taken = next((name for name in models if name in {"maps", *baselines}), None)
    if taken:
        raise RequestRefused(f"a model is called '{taken}', as threshold maps are; repeat stroke train on its run with another --name")


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
