"""What a folder of simulated studies was drawn from, beside the studies, so that a second run goes on with the same or is refused."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from CTPerfusionSuiteLib.errors import RequestRefused

from .study_sources import BUILT_IN, StudySources

PLAN = "studies.json"
TESTED = {"test", "shifted"}
"""Splits that show the heads given for testing alone."""


def document_of_plan(plan: dict, sources: StudySources, seed: int, size: tuple[int, int], slices: int) -> dict:
    """All that decides about the studies of a folder, as plain values.

    Parameters
    ----------
    plan : dict of split -> StudyPlan
    sources : StudySources
        Named by their files, not by where these lie.
    seed : int
    size : (int, int)
        Rows and columns.
    slices : int
    """
    document = {
        "seed": seed,
        "size": list(size),
        "slices": slices,
        "heads": [path.name for path in sources.heads] or [BUILT_IN],
        "test_heads": [path.name for path in sources.test_heads],
        "lesions": [path.name for path in sources.lesions] or [BUILT_IN],
        "splits": {split: asdict(part) for split, part in plan.items()},
    }
    return json.loads(json.dumps(document))  # as it comes back from the file: lists for tuples


def begin_or_go_on(folder: Path, document: dict) -> None:
    """Write the plan into a folder, or add splits to the one that is there.

    Raises
    ------
    RequestRefused
        Before anything is written: the folder is a file, holds studies drawn from something else, or of unknown origin.
    """
    if folder.exists() and not folder.is_dir():
        raise RequestRefused(f"the output folder '{folder}' is a file; give another folder")
    known = stored_plan(folder)
    if known is None and folder.is_dir() and any(folder.glob("*.npz")):
        raise RequestRefused(f"'{folder}' holds studies without the plan they were simulated by ({PLAN}); give another folder")
    if known is not None:
        _refuse_another(folder, known, document)
        tested = document if _tests(document) else known
        splits = {**known["splits"], **document["splits"]}
        document = {**document, "test_heads": tested.get("test_heads", []), "splits": splits}
    if document != known:
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{PLAN}.part"
        partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, folder / PLAN)


def stored_plan(folder: Path) -> dict | None:
    """The plan in a folder, None where there is none.

    Raises
    ------
    RequestRefused
        It is damaged.
    """
    try:
        known = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as problem:
        raise RequestRefused(f"the plan '{PLAN}' in '{folder}' cannot be read; give another folder") from problem
    if not isinstance(known, dict) or not isinstance(known.get("splits"), dict):
        raise RequestRefused(f"the plan '{PLAN}' in '{folder}' is not of simulated studies; give another folder")
    return known


def _refuse_another(folder: Path, known: dict, document: dict) -> None:
    """Name the first thing that differs."""
    for name, words in (("seed", "seed"), ("size", "size"), ("slices", "number of slices")):
        if known.get(name) != document[name]:
            raise _refusal(folder, f"of another {words} ({_shown(known.get(name))}) than this one ({_shown(document[name])})")
    sources = {"heads": "heads (--anatomy)", "lesions": "lesions (--lesions)"}
    if _tests(known) and _tests(document):
        sources["test_heads"] = "heads for testing (--test_anatomy)"
    for name, words in sources.items():
        if known.get(name, []) != document[name]:
            raise _refusal(folder, f"drawn from other {words} than these")
    for split, part in document["splits"].items():
        if known["splits"].get(split, part) != part:
            raise _refusal(folder, f"of another plan of '{split}' (--share) than this one")


def _tests(document: dict) -> bool:
    """Whether any of its studies shows a head for testing."""
    return not TESTED.isdisjoint(document["splits"])


def _refusal(folder: Path, what: str) -> RequestRefused:
    return RequestRefused(f"'{folder}' holds studies {what}; go on with the same, or give another folder")


def _shown(value) -> str:
    return " x ".join(map(str, value)) if isinstance(value, list) else str(value)
