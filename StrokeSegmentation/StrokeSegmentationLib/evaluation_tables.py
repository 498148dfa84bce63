"""Evaluation tables as CSV and Markdown."""

import csv
import math
from pathlib import Path

from .evaluation import (
    LEAST_ANATOMIES,
    Evaluation,
    calibration_table,
    comparison_table,
    reliability_table,
    stroke_free_table,
    summary_table,
)
from .network_ranking import ranking_table

DIGITS = {"_ml": 1, "_mm": 1, "noise_hu": 1}


def tables_of(evaluation: Evaluation) -> dict[str, list[dict]]:
    """Every table by the name of its file."""
    return {
        "studies": evaluation.rows,
        "summary": summary_table(evaluation),
        "comparison": comparison_table(evaluation),
        "ranking": ranking_table(evaluation) if len(evaluation.networks) > 1 else [],
        "stroke_free": stroke_free_table(evaluation),
        "calibration": calibration_table(evaluation),
        "reliability": reliability_table(evaluation),
    }


def write_evaluation(out_dir, evaluation: Evaluation, title: str = "Evaluation on simulated studies") -> list[Path]:
    """Write ``studies.csv``, ``summary.csv``, ``comparison.csv``, ``ranking.csv``, ``stroke_free.csv``, ``calibration.csv``,
    ``reliability.csv`` and ``evaluation.md``; a table without rows is left out."""
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    tables, paths = tables_of(evaluation), []
    for name, rows in tables.items():
        if rows:
            paths.append(out_dir / f"{name}.csv")
            write_csv(paths[-1], rows)
    paths.append(out_dir / "evaluation.md")
    paths[-1].write_text(evaluation_markdown(tables, title), encoding="utf-8")
    return paths


def write_csv(path, rows: list[dict]) -> None:
    """One header, a line a row; a number without meaning is left empty."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({key: _cell(key, value, missing="") for key, value in row.items()})


def markdown(rows: list[dict], columns: dict[str, str]) -> str:
    """A Markdown table of some columns: key -> heading.  ``key`` with ``key_low`` and ``key_high`` is written with its interval."""
    lines = ["| " + " | ".join(columns.values()) + " |", "|" + " --- |" * len(columns)]
    for row in rows:
        cells = []
        for key in columns:
            text = _cell(key, row[key])
            if f"{key}_low" in row and math.isfinite(row[f"{key}_low"]):
                text += f" ({_cell(key, row[f'{key}_low'])} to {_cell(key, row[f'{key}_high'])})"
            cells.append(text)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def evaluation_markdown(tables: dict[str, list[dict]], title: str) -> str:
    """All tables on one page."""
    anatomies, heads = ({row[key] for row in tables["studies"]} for key in ("anatomy", "head"))
    cases = {row["case"] for row in tables["studies"]}
    parts = [
        f"# {title}\n",
        f"{len(cases)} studies of {len(heads)} individual heads from {len(anatomies)} anatomies. Intervals are 95 %, from resampling whole "
        + (
            f"anatomies (individual heads, where the studies of a row show fewer than {LEAST_ANATOMIES}); from five they hold the truth "
            "in about nine of ten cases."
            if len(anatomies) >= LEAST_ANATOMIES
            else f"individual heads: {len(anatomies)} anatomies are too few to resample, so how anatomies differ is not in the intervals."
        )
        + " Scores look at the whole brain.\n",
    ]
    if tables["comparison"]:
        columns = {
            "split": "studies of", "group": "group", "band": "noise", "region": "region", "studies": "studies",
            "network": "network", "network_dice": "Dice",
            "baseline": "against", "baseline_dice": "its Dice", "reduction": "1 - Dice reduced by",
        }
        parts += ["## Against the threshold maps\n", _NOBODYS_REGION, markdown(tables["comparison"], columns)]
    if tables["ranking"]:
        columns = {
            "split": "studies of", "group": "group", "region": "region", "place": "place", "network": "network", "studies": "studies",
            "dice": "mean Dice", "behind": "behind the first by",
        }
        parts += ["## Networks among each other, all noise levels\n", markdown(tables["ranking"], columns)]
    columns = {
        "split": "studies of", "group": "group", "band": "noise", "method": "method", "studies": "studies",
        "hypoperfusion_dice": "hypoperfusion Dice",
        "penumbra_dice": "penumbra Dice", "core_dice": "core Dice", "penumbra_hd95_mm_median": "penumbra HD95 mm",
        "core_hd95_mm_median": "core HD95 mm", "core_missed": "cores missed",
        "hypoperfusion_absolute_error_ml_median": "hypoperfusion error mL",
        "core_absolute_error_ml_median": "core error mL", "hypoperfusion_lesion_f1": "lesion F1",
    }
    parts += ["## By group and noise\n", markdown(tables["summary"], columns)]
    if tables["stroke_free"]:
        columns = {
            "split": "simulator", "method": "method", "studies": "studies", "p95_ml": "95th percentile of false volume, mL",
            "any_lesion": "share with any lesion",
        }
        parts += ["## Studies without stroke\n", _FEWER, markdown(tables["stroke_free"], columns)]
    if tables["calibration"]:
        columns = {
            "split": "studies of", "method": "network", "region": "region", "group": "group",
            "expected_calibration_error": "expected calibration error", "largest_gap": "largest gap of a bin",
        }
        parts += ["## Calibration\n", markdown(tables["calibration"], columns)]
    return "\n".join(parts)


_FEWER = "A method with fewer studies than another was run on the noisier ones only.\n"
_NOBODYS_REGION = "Of a study without the region in truth, a method that finds none either scores 1 here, if another method finds one.\n"


def _cell(key: str, value, missing: str = "-") -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return missing
    if isinstance(value, float):
        digits = next((digits for end, digits in DIGITS.items() if key.removesuffix("_median").endswith(end)), 3)
        return f"{value:.{digits}f}"
    return str(value)
