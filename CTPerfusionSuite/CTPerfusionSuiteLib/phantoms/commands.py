"""`ctperfusion phantom`: write a simulated study with its truth."""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from CTPerfusionSuiteLib.argument_types import between, triple, whole_number
from CTPerfusionSuiteLib.console import STYLES as PROGRESS_STYLES
from CTPerfusionSuiteLib.console import Console
from CTPerfusionSuiteLib.errors import RequestRefused
from CTPerfusionSuiteLib.output_folder import PHANTOMS, new_result_folder, refuse_existing
from CTPerfusionSuiteLib.phantoms.forward_model import RESIDUES
from CTPerfusionSuiteLib.phantoms.noise import KERNELS
from CTPerfusionSuiteLib.phantoms.stroke_lesion import COLLATERALS, OCCLUSIONS
from CTPerfusionSuiteLib.time_axis import MIN_FRAMES, STEP_RANGE_S

SIDES = ("left", "right")
HEADER_STYLES = ("siemens", "ge", "philips", "canon", "shuttle", "enhanced")
HEADER_VARIANTS = ("philips-offset", "ge-trigger", "shuttle-acquisitions", "enhanced-split")
FRAMES, STEP_S = between(MIN_FRAMES, 1000, whole=True), between(*STEP_RANGE_S, "s")
"""What the readers take for a perfusion series."""
LARGEST_STUDY = 2_000_000_000
"""Voxels of all frames: 4 GB, twice a scan of 512 x 512 x 64 voxels and 60 frames."""
LARGEST_TURN_DEG = 60.0


def register(subparsers) -> None:
    """Add `ctperfusion phantom` with its kinds."""
    parser = subparsers.add_parser(
        "phantom",
        help="write a simulated study with its truth",
        description="Simulated studies with known truth: dicom/ (or series.nii.gz, series.seq.nrrd), and truth/ with maps, curves and "
        "truth.json.",
    )
    kinds = parser.add_subparsers(dest="kind", metavar="kind", required=True, parser_class=type(parser))
    _register_brain(kinds)
    _register_kudo(kinds)


def _common(parser) -> None:
    parser.add_argument("--out_dir", type=Path, required=True, metavar="DIR", help="study folder, made new")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier study in the same folder")
    parser.add_argument("--seed", type=whole_number, default=0, metavar="N", help="the same seed is the same study, whatever the noise")
    parser.add_argument("--noise", type=between(0, 500, "HU"), default=5.0, metavar="HU",
                        help="standard deviation in every pixel (default 5)")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--nifti", dest="kind_of_file", action="store_const", const="nifti", default="dicom",
                      help="write series.nii.gz and times.csv instead of DICOM")
    kind.add_argument("--sequence", dest="kind_of_file", action="store_const", const="sequence",
                      help="write series.seq.nrrd, Slicer's volume sequence, instead of DICOM")
    parser.add_argument("--style", choices=(*HEADER_STYLES, *HEADER_VARIANTS), default="siemens", help="DICOM headers (default siemens)")
    parser.add_argument("--compress", choices=("jpeg2000", "jpegls", "rle"), help="compressed DICOM transfer syntax")
    parser.add_argument("--residue", choices=RESIDUES, default="exponential", help="residue function (default exponential)")
    parser.add_argument("--progress", choices=PROGRESS_STYLES, default="bar", help="how progress is shown")


def _register_brain(kinds) -> None:
    parser = kinds.add_parser(
        "brain",
        help="a head with an arterial occlusion",
        description="A brain perfusion study: built-in head, label maps or a real non-contrast scan, with simulated contrast. "
        "Research use only.",
    )
    _common(parser)
    head = parser.add_argument_group("head")
    head.add_argument("--anatomy", type=Path, metavar="DIR",
                      help="label maps (FreeSurfer numbers; a file, or a folder from which the seed picks), or a non-contrast head CT "
                           "(NIfTI or a DICOM folder) as static baseline")
    head.add_argument("--lesions", type=Path, metavar="DIR", help="lesion mask in standard space (file, or folder the seed picks from)")
    head.add_argument("--head-rotation", type=triple, default=(0.0, 0.0, 0.0), metavar="X,Y,Z", help="how the head lies, degrees")
    head.add_argument("--stenosis", choices=SIDES, help="carotid stenosis: blood of that side is late without ischemia")
    head.add_argument("--chronic-infarct", action="store_true", help="an old cavity opposite to the lesion")
    head.add_argument("--white-matter-disease", action="store_true", help="low flow beside the ventricles")

    lesion = parser.add_argument_group("ischemia")
    lesion.add_argument("--side", choices=SIDES, default="left", help="side of the occlusion (default left)")
    lesion.add_argument("--occlusion", choices=OCCLUSIONS, default="M1", help="occluded artery (default M1)")
    lesion.add_argument("--no-lesion", action="store_true", help="a healthy brain")
    lesion.add_argument("--collaterals", choices=COLLATERALS, default="moderate", help="collateral grade (default moderate)")
    lesion.add_argument("--texture", type=between(0, 0.4), default=0.15, metavar="F", help="natural variation of CBF (default 0.15)")
    lesion.add_argument("--dispersion", type=between(0, 5), default=0.0, metavar="F", help="seconds of dispersion per second of delay")

    scan = parser.add_argument_group("scan")
    scan.add_argument("--size", type=between(32, 1024, "pixels", whole=True), default=128, metavar="N",
                      help="pixels along x and y (default 128)")
    scan.add_argument("--slices", type=between(1, 400, whole=True), default=8, metavar="N", help="number of slices (default 8)")
    scan.add_argument("--slice-mm", type=between(0.3, 20, "mm"), default=5.0, metavar="MM", help="slice thickness (default 5)")
    scan.add_argument("--frames", type=FRAMES, default=40, metavar="N", help="number of frames (default 40)")
    scan.add_argument("--dt", type=STEP_S, default=1.5, metavar="S", help="seconds between frames (default 1.5)")
    scan.add_argument("--aif_peak", type=between(10, 1000, "HU"), default=300.0, metavar="HU",
                      help="peak of the brightest arterial voxels (default 300)")
    scan.add_argument("--arterial_peak", type=between(20, 2000, "HU"), metavar="HU", help="peak in the lumen (default from --aif_peak)")
    scan.add_argument("--truncate", type=between(1, 10_000, "s"), metavar="S",
                      help="stop the scan early; the truth is that of the whole scan")
    scan.add_argument("--motion", type=between(0, 50, "mm"), default=0.0, metavar="MM", help="drift of the head, mm and degrees")
    scan.add_argument("--jolts", type=between(0, 1000, whole=True), default=0, metavar="N", help="frames in which the head jolts 3 mm away")
    scan.add_argument("--tilt", type=between(-30, 30, "degrees"), default=0.0, metavar="DEG", help="gantry tilt of the DICOM series")
    scan.add_argument("--uneven", action="store_true", help="uneven slice spacing in the DICOM series")
    scan.add_argument("--kernel", choices=KERNELS, default="white", help="noise spectrum (default white)")
    scan.add_argument("--random", action="store_true", help="draw bolus, noise, motion, placement, side and style from the seed instead")
    parser.set_defaults(run=run_brain)


def _register_kudo(kinds) -> None:
    parser = kinds.add_parser(
        "kudo",
        help="tiles of known flow, volume and delay",
        description="The digital phantom after Kudo et al.: columns MTT, rows delay, slices CBV 1 to 5. Research use only.",
    )
    _common(parser)
    parser.add_argument("--tile", type=between(2, 256, "pixels", whole=True), default=32, metavar="N",
                        help="pixels along the side of a tile (default 32)")
    parser.add_argument("--frames", type=FRAMES, default=30, metavar="N", help="number of frames (default 30)")
    parser.add_argument("--dt", type=STEP_S, default=2.0, metavar="S", help="seconds between frames (default 2)")
    parser.add_argument("--correlated", action="store_true", help="noise of a soft reconstruction kernel instead of white")
    parser.set_defaults(run=run_kudo)


def run_brain(options: argparse.Namespace) -> int:
    """Write a brain study.

    Raises
    ------
    RequestRefused, DataRefused
    """
    from CTPerfusionSuiteLib.phantoms.brain import simulate_brain
    from CTPerfusionSuiteLib.phantoms.study_files import write_study

    refuse_existing(options.out_dir, options.overwrite, PHANTOMS)
    console = Console(options.progress)
    brain, style, writing = brain_request(options)
    study = simulate_brain(brain, console.step("simulate", "Simulating the study"))
    numbers = study.numbers["volumes_ml"]
    with new_result_folder(options.out_dir, options.overwrite, PHANTOMS) as folder:
        console.partial_folders.append(folder)
        write_study(folder, study, style, options.seed, options.kind_of_file, console.step("write", "Writing the study"), **writing)
    console.finish(out_dir=str(options.out_dir))
    if options.progress != "json":
        print("  truth: " + ", ".join(f"{name} {value:.1f} mL" for name, value in numbers.items()))
        print(f"  study in {options.out_dir}. Simulated, research use only.")
    return 0


def brain_request(options: argparse.Namespace):
    """What `run_brain` simulates and writes: `BrainOptions`, header style, further arguments of the DICOM writer."""
    from CTPerfusionSuiteLib.phantoms.brain_options import BrainOptions
    from CTPerfusionSuiteLib.phantoms.random_brains import head_motion, random_case, shuttle_times

    for name in ("anatomy", "lesions"):
        path = getattr(options, name)
        if path is not None and not path.exists():
            raise RequestRefused(f"--{name} '{path}' does not exist; check the path")
    if max(map(abs, options.head_rotation)) > LARGEST_TURN_DEG:
        raise RequestRefused(f"--head-rotation must stay within {LARGEST_TURN_DEG:g} degrees about each axis")
    if options.truncate is not None and options.truncate < (MIN_FRAMES - 1) * options.dt:
        raise RequestRefused(f"--truncate leaves fewer than {MIN_FRAMES} frames; stop the scan later")
    refuse_huge(options.size**2 * options.slices * options.frames)
    given = {"size": (options.size, options.size), "slices": options.slices, "slice_mm": options.slice_mm, "anatomy": options.anatomy,
             "lesions": options.lesions}
    writing = {"compress": options.compress} if options.compress else {}
    if options.random:
        case = random_case(options.seed, **given)
        return case.options, case.style, {**writing, "tilt_deg": case.gantry_tilt_deg, "uneven": case.uneven}
    motion = None
    if options.motion or options.jolts:
        motion = head_motion(np.random.default_rng([options.seed, 9]), options.frames, options.motion, options.jolts)
    brain = BrainOptions(
        **given,
        frames=options.frames,
        dt_s=options.dt,
        noise_hu=options.noise,
        noise_kernel=options.kernel,
        seed=options.seed,
        side=options.side,
        occlusion="none" if options.no_lesion else options.occlusion,
        collaterals=options.collaterals,
        texture=options.texture,
        residue=options.residue,
        dispersion=options.dispersion,
        aif_peak_hu=options.aif_peak,
        arterial_peak_hu=options.arterial_peak,
        truncate_s=options.truncate,
        motion=motion,
        rotation_deg=options.head_rotation,
        carotid_stenosis=options.stenosis,
        chronic_infarct=options.chronic_infarct,
        white_matter_disease=options.white_matter_disease,
    )
    if options.style.startswith("shuttle"):
        brain = shuttle_times(brain)
    if options.tilt:
        writing["tilt_deg"] = options.tilt
    if options.uneven:
        writing["uneven"] = True
    return brain, options.style, writing


def refuse_huge(voxels: int) -> None:
    """Refuse a study of more `voxels`, all frames together, than a computer holds.

    Raises
    ------
    RequestRefused
    """
    if voxels > LARGEST_STUDY:
        raise RequestRefused(f"the study would have {voxels / 1e9:.1f} billion voxels; {LARGEST_STUDY / 1e9:g} billion are the most")


def run_kudo(options: argparse.Namespace) -> int:
    """Write the tile phantom.

    Raises
    ------
    RequestRefused
    """
    from CTPerfusionSuiteLib.phantoms.kudo import kudo_phantom
    from CTPerfusionSuiteLib.phantoms.study_files import write_scan, write_truth

    refuse_existing(options.out_dir, options.overwrite, PHANTOMS)
    # Five slices of 7 x 7 tiles with half a tile around them.
    refuse_huge(5 * (8 * options.tile) ** 2 * options.frames)
    console = Console(options.progress)
    progress = console.step("simulate", "Simulating the phantom")
    phantom = kudo_phantom(
        options.residue, tile=options.tile, noise_hu=options.noise, seed=options.seed, dt=options.dt, frames=options.frames,
        correlated=options.correlated,
    )
    progress(1.0)
    whole = replace(phantom.series, values=np.rint(phantom.series.values).astype(np.int16))
    numbers = {"residue": options.residue, "noise_hu": options.noise, "seed": options.seed, "arterial_peak_hu": float(phantom.aif[1].max())}
    with new_result_folder(options.out_dir, options.overwrite, PHANTOMS) as folder:
        console.partial_folders.append(folder)
        writing = {"compress": options.compress} if options.compress else {}
        write_scan(folder, whole, options.style, options.seed, options.kind_of_file, console.step("write", "Writing the series"), **writing)
        write_truth(folder / "truth", phantom.truth, phantom.aif, phantom.vof, numbers, console.step("truth", "Writing the truth"))
    console.finish(out_dir=str(options.out_dir))
    if options.progress != "json":
        print(f"  phantom in {options.out_dir}. Simulated, research use only.")
    return 0
