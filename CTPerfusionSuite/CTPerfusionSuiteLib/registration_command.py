"""`ctperfusion register`: an anatomical image on the grid of a scan, for pictures under its maps."""

import argparse
from pathlib import Path

import numpy as np

from CTPerfusionSuiteLib.console import STYLES as PROGRESS_STYLES
from CTPerfusionSuiteLib.console import Console
from CTPerfusionSuiteLib.errors import RequestRefused
from CTPerfusionSuiteLib.output_file import refuse_file, whole_file

SUFFIX = ".nii.gz"


def register(subparsers) -> None:
    """Add `ctperfusion register`."""
    parser = subparsers.add_parser(
        "register",
        help="an anatomical image registered to the mean CT of a result",
        description="Registers an anatomical image (non-contrast CT, CTA, MR) rigidly to the mean CT of a result and writes it on "
        "that grid.",
    )
    parser.add_argument("--fixed", type=Path, required=True, metavar="FILE", help="the scan: mean_ct.nii.gz of a result folder, HU")
    parser.add_argument("--moving", type=Path, required=True, metavar="FILE", help="the anatomical image")
    parser.add_argument("--out_file", type=Path, required=True, metavar="FILE", help=f"file to write, named *{SUFFIX}")
    parser.add_argument("--overwrite", action="store_true", help="replace a file of that name")
    parser.add_argument("--progress", choices=PROGRESS_STYLES, default="bar", help="how progress is shown")
    parser.set_defaults(run=run_registration)


def run_registration(options: argparse.Namespace) -> int:
    """Write the file; it appears whole or not at all.

    Raises
    ------
    RequestRefused, DataRefused
    """
    from CTPerfusionSuiteLib.anatomy_registration import register_rigid, resample_rigid
    from CTPerfusionSuiteLib.nifti import read_volume, write_volume

    console, out = Console(options.progress), options.out_file
    with console.telling_refusals():
        refuse_file(out, SUFFIX, "give it that ending", options.overwrite)
        reading = console.step("read", "Reading the images")
        fixed = read_volume(options.fixed)
        reading(0.5)
        moving = read_volume(options.moving)
        for volume, path in ((fixed, options.fixed), (moving, options.moving)):
            if np.ptp(volume.values) == 0:
                raise RequestRefused(f"'{path.name}' is empty (every voxel is the same); choose another image")
        pose = register_rigid(moving, fixed, console.step("anatomy", "Registering the anatomical image"))
        console.step("write", "Writing the image")
        with whole_file(out, SUFFIX) as partial:
            write_volume(partial, resample_rigid(moving, fixed.geometry, pose))
    console.finish(out_file=str(out), matrix_lps=pose.matrix.round(6).tolist())
    return 0
