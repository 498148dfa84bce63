"""`ctperfusion sequence`: a dynamic CT series from DICOM as one file that Slicer opens, with its true times."""

import argparse
from pathlib import Path

from CTPerfusionSuiteLib.console import STYLES as PROGRESS_STYLES
from CTPerfusionSuiteLib.console import Console
from CTPerfusionSuiteLib.output_file import refuse_file, whole_file
from CTPerfusionSuiteLib.series_input import add_series_arguments

SUFFIX = ".seq.nrrd"


def register(subparsers) -> None:
    """Add `ctperfusion sequence`."""
    parser = subparsers.add_parser(
        "sequence",
        help="a dynamic CT series from DICOM as .seq.nrrd",
        description="Reads a dynamic CT series from DICOM and writes Slicer's volume sequence: HU, and seconds in the index.",
    )
    add_series_arguments(parser, files=False)
    parser.add_argument("--out_file", type=Path, required=True, metavar="FILE", help=f"file to write, named *{SUFFIX}")
    parser.add_argument("--compress", action="store_true", help="smaller, slower to read")
    parser.add_argument("--overwrite", action="store_true", help="replace a file of that name")
    parser.add_argument("--progress", choices=PROGRESS_STYLES, default="bar", help="how progress is shown")
    parser.set_defaults(run=run_sequence)


def run_sequence(options: argparse.Namespace) -> int:
    """Write the file; it appears whole or not at all.

    Raises
    ------
    RequestRefused, DataRefused
    """
    from CTPerfusionSuiteLib.dicom.perfusion_series import read_perfusion_series
    from CTPerfusionSuiteLib.sequence_nrrd import write_sequence

    console, out = Console(options.progress), options.out_file
    with console.telling_refusals():
        refuse_file(out, SUFFIX, "Slicer knows sequences by that ending", options.overwrite)
        reading = console.step("read", "Reading the series")
        series = read_perfusion_series(options.dicom_dir, options.series, options.accept_content_time, progress=reading)
        console.step("write", "Writing the sequence")
        with whole_file(out, SUFFIX) as partial:
            write_sequence(partial, series, options.compress)
    console.finish(out_file=str(out))
    if options.progress != "json":
        print(f"  {len(series.values)} frames in {out}, times from {series.time_source}.")
    return 0
