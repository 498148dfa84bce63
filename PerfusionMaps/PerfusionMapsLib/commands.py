"""`ctperfusion maps`: raw brain CT perfusion to maps, lesions and a report."""

import argparse
import sys
from pathlib import Path

from CTPerfusionSuiteLib.argument_types import count, filter_width, fraction, not_negative, positive, triple
from CTPerfusionSuiteLib.errors import RequestRefused
from CTPerfusionSuiteLib.series_input import add_series_arguments, read_series
from CTPerfusionSuiteLib.tracer_kinetics import Hematocrit

from .analysis_request import AnalysisRequest, VesselRequest
from .perfusion_options import Denoising, EngineOptions, Method, Thresholds


def register(subparsers) -> None:
    """Add `ctperfusion maps`."""
    parser = subparsers.add_parser(
        "maps",
        help="brain CT perfusion to maps, core and penumbra, and a report",
        description="Raw brain CT perfusion to CBF, CBV, MTT, delay and Tmax maps, core and penumbra, and a report. Research use only.",
    )
    add_series_arguments(parser)
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
        own.add_argument(f"--{name}_lps", type=triple, metavar="X,Y,Z", help=f"{what}: position in LPS mm")
    own.add_argument("--mask", type=Path, metavar="FILE", help="brain mask instead of the automatic one")
    own.add_argument("--tissue_mask", type=Path, metavar="FILE", help="tissue mask instead of the automatic one")
    own.add_argument("--exclude", type=Path, metavar="FILE", help="mask of regions to leave out of the tissue, such as an old infarct")
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
    with console.telling_refusals():
        metrics = analyze_to_folder(options, console)
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
    series = read_series(options, console.step("read", "Reading the series"))
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


def request_from(options: argparse.Namespace) -> AnalysisRequest:
    """The options as the pipeline takes them; files that are named must exist and be of a kind that can be used.

    Raises
    ------
    RequestRefused, DataRefused
    """
    from CTPerfusionSuiteLib.nifti import volume_grid

    for name in ("mask", "tissue_mask", "exclude", "roi_mask", "contra_mask", "anatomy"):
        path = getattr(options, name)
        if path is not None and not path.is_file():
            raise RequestRefused(f"--{name} '{path}' is not a file; check the path")
        if path is not None:
            volume_grid(path)
    if (options.roi_mask is None) != (options.contra_mask is None):
        raise RequestRefused("--roi_mask and --contra_mask belong together; give both or none")
    for name in ("aif", "vof"):
        if getattr(options, name) is not None and getattr(options, f"{name}_lps") is not None:
            raise RequestRefused(f"give --{name} or --{name}_lps, not both")
        if getattr(options, name) is not None:
            check_vessel_file(getattr(options, name), name)
    if options.denoise == Denoising.NONE and options.smoothing:
        raise RequestRefused("--smoothing is the width of a filter, and --denoise none uses none; leave one of them out")
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


def check_vessel_file(text: str, name: str) -> None:
    """Refuse a curve or mask for a vessel that cannot be used, before anything is read or computed; voxels are judged later.

    Raises
    ------
    RequestRefused, DataRefused
    """
    from CTPerfusionSuiteLib.nifti import volume_grid

    from .given_curves import CURVE_SUFFIXES, VOXEL, read_curve

    if VOXEL.fullmatch(text):
        return
    path = Path(text)
    if not path.is_file():
        raise RequestRefused(f"--{name} '{text}' is neither a file nor a voxel I,J,K; check the path")
    if path.suffix.lower() in CURVE_SUFFIXES:
        read_curve(path)
    else:
        volume_grid(path)


def write_dicom(folder: Path, result, progress) -> None:
    """Parametric maps and the segmentation as DICOM objects."""
    from CTPerfusionSuiteLib.dicom.write_maps import write_maps

    from .perfusion_result import MAP_UNITS

    lesions = {name: mask for name, mask in result.masks.items() if name.startswith(("hypoperf", "core", "penumbra"))}
    maps = {name: result.maps[name] for name in MAP_UNITS if name in result.maps}
    units = {name: result.unit_of(name) for name in MAP_UNITS}
    write_maps(folder / "dicom", result.geometry, maps, lesions, units, result.source_header)
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


def hematocrit(text: str) -> Hematocrit:
    try:
        large, small = (float(part) for part in text.split(","))
        return Hematocrit(large, small)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"'{text}' must be two fractions, like .45,.25") from problem

