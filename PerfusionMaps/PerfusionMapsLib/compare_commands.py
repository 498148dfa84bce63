"""`ctperfusion compare`: agreement of two results, or of a result with reference maps."""

import argparse
from pathlib import Path

KIND = "comparisons"


def register(subparsers) -> None:
    """Add `ctperfusion compare`."""
    parser = subparsers.add_parser(
        "compare",
        help="agreement of two results, or of a result with reference maps",
        description="Dice, voxel correlation, and over several cases ICC, Bland-Altman and DEFUSE-3 agreement. A and B are each a result "
        "folder, reference maps (ISLES or RAPID style NIfTI), or a folder of case folders paired by name. Differences are A minus B. "
        "Research use only.",
    )
    parser.add_argument("a", type=Path, metavar="A", help="result folder, reference maps, or folder of cases")
    parser.add_argument("b", type=Path, metavar="B", help="what to compare it with")
    parser.add_argument("--out_dir", type=Path, required=True, metavar="DIR", help="folder for comparison.json and .csv, made new")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier comparison in the same folder")
    parser.add_argument(
        "--tmax", type=_positive, metavar="S", help="maps without masks: hypoperfusion above this Tmax (default: as the result)"
    )
    parser.add_argument(
        "--rcbf", type=_fraction, metavar="F", help="maps without masks: core under this relative CBF (default: as the result)"
    )
    parser.add_argument("--progress", choices=("bar", "json", "none"), default="bar", help="how progress is shown")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Carry out `ctperfusion compare`; returns the exit code.

    Raises
    ------
    RequestRefused, SuiteError
        Before anything is written.
    """
    from CTPerfusionSuiteLib.console import Console
    from CTPerfusionSuiteLib.output_folder import new_result_folder, refuse_existing

    from .agreement_plots import draw_agreement
    from .comparison import compare
    from .perfusion_metrics import to_csv, to_json
    from .perfusion_options import Thresholds

    console = Console(options.progress)
    with console.telling_refusals():
        refuse_existing(options.out_dir, options.overwrite, KIND)
        thresholds = None
        if options.tmax is not None or options.rcbf is not None:
            standard = Thresholds()
            thresholds = Thresholds(options.tmax or standard.tmax_s, options.rcbf or standard.rcbf)
        document = compare(options.a, options.b, thresholds, console.step("compare", "Comparing"))
        with new_result_folder(options.out_dir, options.overwrite, KIND) as folder:
            console.partial_folders.append(folder)
            (folder / "comparison.json").write_text(to_json(document), encoding="utf-8")
            (folder / "comparison.csv").write_text(to_csv(document["cases"]), encoding="utf-8")
            draw_agreement(document, folder / "comparison.png")
    console.finish(out_dir=str(options.out_dir), summary=document["summary"])
    if options.progress == "bar":
        print_summary(document)
    return 0


def print_summary(document: dict) -> None:
    """The figures a user looks for first."""
    summary = document["summary"]
    print(f"  {summary['cases']} case(s), A = {document['a']}, B = {document['b']}")
    for lesion, volumes in summary["volumes_ml"].items():
        words = [f"Dice {_shown(summary['dice'][lesion]['mean'], 3)}"]
        limits, icc = volumes["bland_altman"], volumes["icc"]
        if summary["cases"] == 1:
            pair = document["cases"][0]["volumes_ml"][lesion]
            words.append(f"{_shown(pair['a'], 1)} against {_shown(pair['b'], 1)} mL")
        else:
            words.append(f"A - B {_shown(limits['bias'], 1)} mL [{_shown(limits['low'], 1)}, {_shown(limits['high'], 1)}]")
            words.append(f"ICC {_shown(icc['icc'], 3)}")
        print(f"  {lesion:14s} {', '.join(words)}")
    correlations = ", ".join(f"{word} {_shown(spread['median'], 3)}" for word, spread in summary["voxel_r"].items())
    if correlations:
        print(f"  voxel r        {correlations}")
    profile = summary["profiles"]["defuse3"]
    if profile["cases"]:
        print(f"  DEFUSE-3       same in {100 * profile['agreement']:.0f} % of {profile['cases']}, kappa {_shown(profile['kappa'], 2)}")
    for case in document["cases"]:
        for note in case["notes"]:
            print(f"  note ({case['case']}): {note}")
    for failure in document["failed"]:
        print(f"  not compared ({failure['case']}): {failure['reason']}")
    left = document["unpaired"]["a"] + document["unpaired"]["b"]
    if left:
        print(f"  without partner: {', '.join(left)}")


def _shown(value: float | None, digits: int) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' must be a number above 0")
    return value


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' must lie between 0 and 1 (0.3 is 30 %)")
    return value
