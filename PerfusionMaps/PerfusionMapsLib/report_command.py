"""`ctperfusion report`: a result folder written anew, at its own or other thresholds, with its report; the series is not needed."""

import argparse
import sys
from pathlib import Path

from CTPerfusionSuiteLib.argument_types import fraction, positive
from CTPerfusionSuiteLib.console import STYLES as PROGRESS_STYLES
from CTPerfusionSuiteLib.console import Console

from .perfusion_options import Thresholds


def register(subparsers) -> None:
    """Add `ctperfusion report`."""
    parser = subparsers.add_parser(
        "report",
        help="a result folder written anew, at other thresholds, with its report",
        description="Writes a result of ctperfusion maps anew from its folder alone: masks, metrics, report; at other thresholds if asked.",
    )
    parser.add_argument("--result", type=Path, required=True, metavar="DIR", help="result folder of ctperfusion maps")
    parser.add_argument("--out_dir", type=Path, required=True, metavar="DIR", help="result folder, made new")
    parser.add_argument("--tmax", type=positive, metavar="S", help="hypoperfusion: Tmax above this, seconds (default: as it was)")
    parser.add_argument("--rcbf", type=fraction, metavar="F", help="core: relative CBF under this (default: as it was)")
    parser.add_argument("--no-report", action="store_true", help="skip report.html and the pictures")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier result in the same folder")
    parser.add_argument("--progress", choices=PROGRESS_STYLES, default="bar", help="how progress is shown")
    parser.set_defaults(run=run_report)


def run_report(options: argparse.Namespace) -> int:
    """Carry out `ctperfusion report`; returns the exit code.

    Raises
    ------
    DataRefused, RequestRefused
        Before anything is written.
    """
    from CTPerfusionSuiteLib.report.canvas import ReportUnavailable

    from .perfusion_report import write_report
    from .result_folder import new_result_folder, open_result, recompute, refuse_existing, refuse_foreign, write_result_data

    console = Console(options.progress)
    with console.telling_refusals():
        refuse_foreign(options.out_dir)
        refuse_existing(options.out_dir, options.overwrite)
        console.step("read", "Reading the result")
        result = open_result(options.result)
        old = result.thresholds
        result = recompute(result, Thresholds(options.tmax or old.tmax_s, options.rcbf or old.rcbf, old.minimum_cluster_ml))
        with new_result_folder(options.out_dir, options.overwrite) as folder:
            console.partial_folders.append(folder)
            write_result_data(folder, result, progress=console.step("write", "Writing maps and metrics"))
            if not options.no_report:
                console.step("report", "Drawing the report")
                try:
                    write_report(folder, result)
                except ReportUnavailable as missing:
                    print(f"ctperfusion: no report: {missing}", file=sys.stderr)
    console.finish(out_dir=str(options.out_dir), metrics=result.metrics)
    return 0
