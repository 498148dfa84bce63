"""`ctperfusion worklist`: what the CT series of a folder are good for."""

import argparse
from pathlib import Path

from CTPerfusionSuiteLib.console import STYLES as PROGRESS_STYLES
from CTPerfusionSuiteLib.console import Console


def register(subparsers) -> None:
    """Add `ctperfusion worklist`."""
    parser = subparsers.add_parser(
        "worklist",
        help="what the CT series of a folder are good for",
        description="Perfusion, non-contrast and heart series below a folder, from headers alone, and the modules that take each.",
    )
    parser.add_argument("--dicom_dir", type=Path, required=True, metavar="DIR", help="any tree of DICOM files")
    parser.add_argument("--progress", choices=PROGRESS_STYLES, default="bar", help="how progress is shown")
    parser.set_defaults(run=run_worklist)


def run_worklist(options: argparse.Namespace) -> int:
    """Print the worklist, or hand it to the parent with JSON lines.

    Raises
    ------
    RequestRefused
    """
    from CTPerfusionSuiteLib.dicom.worklist import make_worklist

    console = Console(options.progress)
    with console.telling_refusals():
        entries = make_worklist(options.dicom_dir, console.step("headers", "Reading headers"))
    console.finish(entries=[entry.as_dict() for entry in entries])
    if options.progress != "json":
        for entry in entries:
            modules = ", ".join(entry.kind.modules) or "-"
            print(f"{entry.kind.value:20s} {modules:34s} {entry.description}, {entry.size}: {entry.reason}")
            print(f"{'':20s} {'':34s} {entry.shown_folder}")
    return 0
