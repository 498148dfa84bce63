"""`ctperfusion maps`: raw brain CT perfusion to maps, lesions and a report."""

import argparse
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from CTPerfusionSuiteLib.errors import RequestRefused, SuiteError
from CTPerfusionSuiteLib.time_axis import enough_frames
from CTPerfusionSuiteLib.tracer_kinetics import Hematocrit
from CTPerfusionSuiteLib.volumes import TimeSeries

from .analysis_request import AnalysisRequest, VesselRequest
from .perfusion_options import Denoising, EngineOptions, Method, Thresholds


def register(subparsers) -> None:
    """Add `ctperfusion maps`."""
    parser = subparsers.add_parser(
        "maps",
        help="brain CT perfusion to maps, core and penumbra, and a report",
        description="Raw brain CT perfusion to CBF, CBV, MTT, delay and Tmax maps, core and penumbra, and a report. Research use only.",
    )
    source = parser.add_argument_group("input (one of the first two)")
    source.add_argument("--dicom_dir", type=Path, metavar="DIR", help="folder of DICOM files, any depth, any names")
    source.add_argument("--input", type=Path, metavar="FILE", help="4-D .nii.gz or .seq.nrrd")
    source.add_argument("--series", metavar="UID", help="series instance UID, when the folder holds several")
    source.add_argument("--times", type=Path, metavar="CSV", help="seconds of each frame, for files that carry no times")
    source.add_argument("--dt", type=positive, metavar="S", help="seconds between frames, for files that carry no times")
    source.add_argument("--accept-content-time", action="store_true", help="use ContentTime when nothing better is there (flagged)")

    out = parser.add_argument_group("output")
    out.add_argument("--out_dir", type=Path, required=True, metavar="DIR", help="result folder, made new")
    out.add_argument("--overwrite", action="store_true", help="replace an earlier result in the same folder")
    out.add_argument("--dicom-output", action="store_true", help="also write DICOM parametric maps and a segmentation")
    out.add_argument("--no-report", action="store_true", help="skip report.html and the pictures")
    out.add_argument("--show-patient", action="store_true", help="put the patient's name on the report (never done otherwise)")
    out.add_argument("--progress", choices=("bar", "json", "none"), default="bar", help="how progress is shown")

    method = parser.add_argument_group("method")
    method.add_argument(
        "--method", choices=[m.value for m in Method], default=Method.BAYES.value, help="deconvolution engine (default bayes)"
    )
    method.add_argument(
        "--denoise", choices=[d.value for d in Denoising], default=Denoising.BILATERAL.value, help="spatial filter of tissue"
    )
    method.add_argument("--smoothing", type=filter_width, metavar="MM", help="standard deviation of the spatial filter, 0-20 mm")
    method.add_argument("--no-motion-correction", action="store_true", help="take the frames as they are")
    method.add_argument("--full-resolution", action="store_true", help="keep fine pixels instead of averaging them 2 x 2")
    method.add_argument("--hematocrit", type=hematocrit, default=Hematocrit(), metavar="LARGE,SMALL", help="default .45,.25")
    method.add_argument("--tmax", type=positive, default=6.0, metavar="S", help="hypoperfusion: Tmax above this, seconds (default 6)")
    method.add_argument("--rcbf", type=fraction, default=0.30, metavar="F", help="core: relative CBF under this (default 0.3)")
    method.add_argument("--threads", type=count, metavar="N", help="worker threads (default: all cores)")

    own = parser.add_argument_group("your own vessels and masks (voxels are 0-based on the analysis grid)")
    for name, what in (("aif", "arterial input function"), ("vof", "venous output function")):
        own.add_argument(f"--{name}", metavar="CSV|FILE|I,J,K", help=f"{what}: curve (time_s,hu), mask or voxel")
        own.add_argument(f"--{name}_lps", type=position, metavar="X,Y,Z", help=f"{what}: position in LPS mm")
    own.add_argument("--mask", type=Path, metavar="FILE", help="brain mask instead of the automatic one")
    own.add_argument("--tissue_mask", type=Path, metavar="FILE", help="tissue mask instead of the automatic one")
    own.add_argument("--exclude", type=Path, metavar="FILE", help="mask of regions to leave out of the tissue, such as an old infarct")
    own.add_argument("--exclude_frames", type=frame_numbers, metavar="N,N-N", help="frames to leave out, counted from 1, like 3,7-9")
    own.add_argument("--roi_mask", type=Path, metavar="FILE", help="region for the CBV index")
    own.add_argument("--contra_mask", type=Path, metavar="FILE", help="its contralateral region")
    own.add_argument("--anatomy", type=Path, metavar="FILE", help="anatomical image, registered to the mean CT and written on its grid")
    own.add_argument("--age", type=not_negative, metavar="N", help="age in years, for the DAWN criteria")
    own.add_argument("--nihss", type=not_negative, metavar="N", help="NIHSS, for the DAWN criteria")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Carry out `ctperfusion maps`; returns the exit code.

    Raises
    ------
    DataRefused, RequestRefused
        Before anything is written.
    """
    from CTPerfusionSuiteLib.console import Console

    console = Console(options.progress)
    try:
        metrics = analyze_to_folder(options, console)
    except SuiteError as problem:
        console.refuse(str(problem), problem.exit_code)
        raise
    console.finish(out_dir=str(options.out_dir), metrics=metrics)
    if options.progress == "bar":
        print_summary(metrics, options)
    return 0


def analyze_to_folder(options: argparse.Namespace, console) -> dict:
    """Read, analyze and write; the metrics document."""
    from .pipeline import analyze
    from .result_folder import new_result_folder, refuse_existing, refuse_foreign, write_result_data

    request = request_from(options)
    refuse_foreign(options.out_dir)
    series = without_frames(read_series(options, console.step("read", "Reading the series")), options.exclude_frames)
    # A refusal of the data comes before the question whether an earlier result may be replaced.
    from .bolus_arrival import find_bolus

    bolus = find_bolus(series)
    refuse_existing(options.out_dir, options.overwrite)
    # Handed over and not kept: the fine pixels are released as soon as the vessels are found.
    waiting = [series]
    del series
    result = analyze(waiting.pop(), request, console.step, bolus, overwrite=True)
    with new_result_folder(options.out_dir, options.overwrite) as folder:
        console.partial_folders.append(folder)
        progress = console.step("write", "Writing maps and metrics")
        write_result_data(folder, result, progress=progress)
        if options.dicom_output:
            write_dicom(folder, result, console.step("dicom", "Writing DICOM objects"))
        if not options.no_report:
            write_page(folder, result, options, console.step("report", "Drawing the report"))
    return result.metrics


def read_series(options: argparse.Namespace, progress) -> TimeSeries:
    """The dynamic series from a DICOM folder, a NIfTI file or a Slicer sequence."""
    if (options.dicom_dir is None) == (options.input is None):
        raise RequestRefused("give either --dicom_dir DIR or --input FILE")
    times = None
    if options.times is not None:
        from CTPerfusionSuiteLib.time_axis import read_times

        times = read_times(options.times)
    if options.dicom_dir is not None:
        from CTPerfusionSuiteLib.dicom.perfusion_series import read_perfusion_series

        return read_perfusion_series(
            options.dicom_dir,
            series_uid=options.series,
            accept_content_time=options.accept_content_time,
            threads=options.threads,
            progress=progress,
            times=times,
            dt=options.dt,
        )
    if options.series is not None:
        raise RequestRefused("--series chooses among the series of a DICOM folder; leave it out with --input")
    path: Path = options.input
    if not path.is_file():
        raise RequestRefused(f"the input '{path}' is not a file; check the path")
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        from CTPerfusionSuiteLib.nifti import read_nifti_series as read
    elif name.endswith((".nrrd", ".nhdr")):
        from CTPerfusionSuiteLib.sequence_nrrd import read_sequence as read
    else:
        raise RequestRefused(f"the input '{path.name}' is of no known kind; give a 4-D .nii.gz or .seq.nrrd, or a folder with --dicom_dir")
    return read(path, times=times, dt=options.dt)


def without_frames(series: TimeSeries, numbers: tuple[int, ...] | None) -> TimeSeries:
    """The series without the frames `numbers`, counted from 1; times stay those of the frames that are kept.

    Raises
    ------
    RequestRefused
        A frame the series does not have.
    DataRefused
        Too few frames are left.
    """
    if not numbers:
        return series
    frames = len(series.values)
    if max(numbers) > frames:
        raise RequestRefused(f"frame {max(numbers)} was to be left out of a series of {frames} frames; count the frames from 1")
    kept = np.setdiff1d(np.arange(frames), np.array(numbers) - 1)
    enough_frames(len(kept), "what is left of the series")
    note = ("excluded_frames", f"{frames - len(kept)} of {frames} frames were left out by the user: {', '.join(map(str, numbers))}")
    return replace(series, values=series.values[kept], times=series.times[kept], notes=(*series.notes, note))


def request_from(options: argparse.Namespace) -> AnalysisRequest:
    """The options as the pipeline takes them; files that are named must exist.

    Raises
    ------
    RequestRefused
    """
    for name in ("mask", "tissue_mask", "exclude", "roi_mask", "contra_mask", "anatomy", "times"):
        path = getattr(options, name)
        if path is not None and not path.is_file():
            raise RequestRefused(f"--{name} '{path}' is not a file; check the path")
    if (options.roi_mask is None) != (options.contra_mask is None):
        raise RequestRefused("--roi_mask and --contra_mask belong together; give both or none")
    for name in ("aif", "vof"):
        if getattr(options, name) is not None and getattr(options, f"{name}_lps") is not None:
            raise RequestRefused(f"give --{name} or --{name}_lps, not both")
    return AnalysisRequest(
        engine=EngineOptions(
            method=Method(options.method),
            hematocrit=options.hematocrit,
            denoising=Denoising(options.denoise),
            smoothing_mm=options.smoothing,
            threads=options.threads,
        ),
        thresholds=Thresholds(tmax_s=options.tmax, rcbf=options.rcbf),
        motion_correction=not options.no_motion_correction,
        full_resolution=options.full_resolution,
        aif=VesselRequest(options.aif, options.aif_lps),
        vof=VesselRequest(options.vof, options.vof_lps),
        brain_mask=options.mask,
        tissue_mask=options.tissue_mask,
        excluded=options.exclude,
        roi_mask=options.roi_mask,
        contra_mask=options.contra_mask,
        anatomy=options.anatomy,
        age_years=options.age,
        nihss=options.nihss,
    )


def write_dicom(folder: Path, result, progress) -> None:
    """Parametric maps and the segmentation as DICOM objects."""
    from CTPerfusionSuiteLib.dicom.write_maps import write_maps

    from .perfusion_result import MAP_UNITS

    lesions = {name: mask for name, mask in result.masks.items() if name.startswith(("hypoperf", "core", "penumbra"))}
    maps = {name: result.maps[name] for name in MAP_UNITS if name in result.maps}
    write_maps(folder / "dicom", result.geometry, maps, lesions, MAP_UNITS, result.source_header)
    progress(1.0)


def write_page(folder: Path, result, options: argparse.Namespace, progress) -> None:
    """The pictures and report.html; without matplotlib or jinja2 the maps stand alone and the user is told."""
    from CTPerfusionSuiteLib.report.canvas import ReportUnavailable
    from CTPerfusionSuiteLib.report.curves_plot import Curve

    from .perfusion_report import write_report

    patient = None
    if options.show_patient and options.dicom_dir is not None:
        from CTPerfusionSuiteLib.dicom.patient import patient_label

        patient = patient_label(result.source_header)
    tissue = () if result.tissue_curve is None else (Curve("Tissue", result.tissue_curve.times, result.tissue_curve.hu),)
    try:
        write_report(folder, result, patient=patient, tissue=tissue)
    except ReportUnavailable as missing:
        print(f"ctperfusion: no report: {missing}", file=sys.stderr)
    progress(1.0)


def print_summary(metrics: dict, options: argparse.Namespace) -> None:
    """The numbers a user looks for first, with their thresholds."""
    volumes, thresholds = metrics["volumes_ml"], metrics["thresholds"]

    def shown(value, unit="mL", digits=1):
        return "not assessable" if value is None else f"{value:.{digits}f} {unit}".rstrip()

    rows = [
        (f"hypoperfusion (Tmax > {thresholds['tmax_s']:g} s)", shown(volumes["hypoperfusion"])),
        (f"core (rCBF < {100 * thresholds['rcbf']:g} %)", shown(volumes["core"])),
        ("mismatch volume", shown(volumes["mismatch"])),
        ("mismatch ratio", shown(metrics["mismatch_ratio"], "", 2) if volumes["core"] != 0 else "no core"),
        ("side", metrics["lesion_side"] or "none"),
        ("method", metrics["method"]),
    ]
    for name, value in rows:
        print(f"  {name:32s} {value}")
    for flag in metrics["qc"]:
        if flag["severity"] != "info":
            print(f"  {flag['severity']}: {flag['message']}", file=sys.stderr)
    page = options.out_dir / "report.html"
    print(f"  result in {options.out_dir}" + (f", report {page}" if page.exists() else ""))
    print("  Research use only.")


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from problem


def positive(text: str) -> float:
    value = number(text)
    if not np.isfinite(value) or value <= 0:
        raise argparse.ArgumentTypeError(f"'{text}' must be a number above 0")
    return value


def not_negative(text: str) -> float:
    value = number(text)
    if not np.isfinite(value) or value < 0:
        raise argparse.ArgumentTypeError(f"'{text}' must be a number of at least 0")
    return value


def filter_width(text: str) -> float:
    value = number(text)
    # Wider than a vascular territory is no filter any more, and its windows would fill the memory.
    if not 0 <= value <= 20:
        raise argparse.ArgumentTypeError(f"'{text}' must lie between 0 and 20 mm")
    return value


def fraction(text: str) -> float:
    value = number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' must lie between 0 and 1 (0.3 is 30 %)")
    return value


def count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number of at least 1")
    return value


def frame_numbers(text: str) -> tuple[int, ...]:
    """Frames counted from 1, as in ``3,7-9``, in order and each once."""
    numbers = set()
    for part in text.replace(" ", "").split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last:
            raise argparse.ArgumentTypeError(f"'{text}' must be frame numbers from 1 on, like 3,7-9")
        numbers.update(range(first, last + 1))
    return tuple(sorted(numbers))


def hematocrit(text: str) -> Hematocrit:
    try:
        large, small = (float(part) for part in text.split(","))
        return Hematocrit(large, small)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"'{text}' must be two fractions, like .45,.25") from problem


def position(text: str) -> tuple[float, float, float]:
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"'{text}' must be three numbers X,Y,Z in mm") from problem
    return x, y, z
