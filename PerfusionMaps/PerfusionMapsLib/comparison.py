"""Two results, a result and reference maps, or two folders of cases: what agrees, case by case and over all cases."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from CTPerfusionSuiteLib.errors import RequestRefused, SuiteError
from CTPerfusionSuiteLib.progress import Progress, silent

from .agreement import bland_altman, category_agreement, dice, intraclass_correlation, voxel_agreement
from .perfusion_metrics import json_ready
from .perfusion_options import Thresholds
from .reference_maps import ComparedMaps, find_maps, of_result, on_grid, read_reference, with_lesions
from .result_folder import is_result, open_result
from .trial_profiles import NOT_ASSESSABLE, trial_profiles

SCHEMA = "ctperfusionsuite.comparison/1"
LESIONS = ("hypoperfusion", "core", "penumbra")
PROFILES = ("defuse3", "extend")


def compare(a: Path, b: Path, thresholds: Thresholds | None = None, progress: Progress = silent) -> dict:
    """The document of comparison.json.

    Parameters
    ----------
    a, b : Path
        Each a result folder, a folder or file of reference maps, or a folder of case folders (paired by name).
    thresholds : Thresholds, optional
        For reference maps without masks of their own; by default those of the result they are compared with.

    Returns
    -------
    dict
        ``schema, a, b, cases[], unpaired{a,b}, failed[], summary``; differences are A minus B, missing is None.

    Raises
    ------
    RequestRefused
        When a side cannot be read or no case of A has a partner in B.
    """
    pairs, unpaired = pair_cases(Path(a), Path(b))
    cases, failed = [], []
    for number, (name, path_a, path_b) in enumerate(pairs):
        progress(number / len(pairs))
        try:
            cases.append(compare_case(name, path_a, path_b, thresholds))
        except SuiteError as problem:
            if len(pairs) == 1:
                raise
            failed.append({"case": name, "reason": str(problem)})
    if not cases:
        raise RequestRefused(f"none of the {len(pairs)} paired cases of '{a}' and '{b}' could be compared: {failed[0]['reason']}")
    progress(1.0)
    document = {
        "schema": SCHEMA,
        "a": Path(a).name,
        "b": Path(b).name,
        "cases": cases,
        "unpaired": unpaired,
        "failed": failed,
        "summary": summarize(cases),
    }
    return json_ready(document)


def pair_cases(a: Path, b: Path) -> tuple[list[tuple[str, Path, Path]], dict[str, list[str]]]:
    """Cases of both sides with the same folder name (or the one case of each side), and the names left over.

    Raises
    ------
    RequestRefused
    """
    for path in (a, b):
        if not path.exists():
            raise RequestRefused(f"'{path}' does not exist; give a result folder, reference maps, or a folder of case folders")
    cases_a, cases_b = case_folders(a), case_folders(b)
    if (cases_a is None) != (cases_b is None):
        one, many, cases = (a, b, cases_b) if cases_a is None else (b, a, cases_a)
        if len(cases) > 1:
            raise RequestRefused(f"'{one}' is one case and '{many}' a folder of cases; give two cases or two folders of cases")
        only = next(iter(cases.values()))
        a, b, cases_a = (a, only, None) if cases_a is None else (only, b, None)
    if cases_a is None:
        name = a.name if a.name == b.name else f"{a.name} | {b.name}"
        return [(name, a, b)], {"a": [], "b": []}
    common = sorted(set(cases_a) & set(cases_b))
    if not common:
        raise RequestRefused(f"no case folder of '{a}' has the same name as one of '{b}'; name the folders of a case alike")
    left = {"a": sorted(set(cases_a) - set(common)), "b": sorted(set(cases_b) - set(common))}
    return [(name, cases_a[name], cases_b[name]) for name in common], left


def case_folders(path: Path) -> dict[str, Path] | None:
    """Name -> folder of the cases in a folder of cases; None when `path` is itself one case.

    Raises
    ------
    RequestRefused
        When it is neither.
    """
    if path.is_file() or is_result(path):
        return None
    if any(file.is_file() and file.name.lower().endswith((".nii", ".nii.gz")) for file in path.iterdir()):
        return None
    folders = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and not folder.name.startswith(".")]
    if not any(is_result(folder) for folder in folders) and _maps_of_one_case(folders):
        return None
    cases = {folder.name: folder for folder in folders if is_result(folder) or any(find_maps(folder))}
    if not cases:
        raise RequestRefused(f"'{path}' holds neither a result, nor reference maps, nor case folders; check the path")
    return cases


def _maps_of_one_case(folders: list[Path]) -> bool:
    """Whether sibling folders hold different maps of one case (the layout of ISLES 2018: one folder a map)."""
    found = [{*maps, *masks} for maps, masks in map(find_maps, folders) if maps or masks]
    return len(found) > 1 and all(len(content) == 1 for content in found) and len(set().union(*found)) == len(found)


def compare_case(name: str, path_a: Path, path_b: Path, thresholds: Thresholds | None = None) -> dict:
    """One case: volumes, Dice, voxel agreement of every map both sides have, and trial profiles, on the grid of A."""
    side_a, thresholds_a = _side("A", path_a)
    side_b, thresholds_b = _side("B", path_b)
    notes = []
    if thresholds_a and thresholds_b and thresholds_a != thresholds_b:
        notes.append(f"A and B were thresholded differently: {_words(thresholds_a)} against {_words(thresholds_b)}")
    thresholds = thresholds or thresholds_a or thresholds_b or Thresholds()
    own_b = with_lesions(side_b, thresholds) if thresholds_a is None and thresholds_b is None else side_b
    side_b = on_grid(own_b, side_a.geometry)
    side_a, side_b = with_lesions(side_a, thresholds, side_b), with_lesions(side_b, thresholds, side_a)

    volumes = {}
    for lesion in LESIONS:
        ml_a, ml_b = side_a.volumes_ml.get(lesion), side_b.volumes_ml.get(lesion)
        volumes[lesion] = {"a": ml_a, "b": ml_b, "difference": None if ml_a is None or ml_b is None else ml_a - ml_b}
    infarcts = {side: maps.volumes_ml.get("infarct") for side, maps in (("a", side_a), ("b", side_b))}
    inside = _common_tissue(side_a, side_b)
    return {
        "case": name,
        "thresholds": {"tmax_s": thresholds.tmax_s, "rcbf": thresholds.rcbf},
        "volumes_ml": volumes,
        "infarct_ml": next((ml for ml in infarcts.values() if ml is not None), None),
        "dice": {lesion: _dice(side_a, lesion, side_b, lesion) for lesion in LESIONS},
        "dice_core_infarct": _first(_dice(side_a, "core", side_b, "infarct"), _dice(side_a, "infarct", side_b, "core")),
        "maps": {
            word: asdict(voxel_agreement(side_a.maps[word], side_b.maps[word], inside))
            for word in ("tmax", "cbf", "cbv", "mtt", "rcbf", "delay", "ttp")
            if word in side_a.maps and word in side_b.maps
        },
        "profiles": {word: _profile_pair(word, side_a, side_b) for word in PROFILES},
        "notes": [*side_a.notes, *side_b.notes, *notes],
    }


def summarize(cases: list[dict]) -> dict:
    """Over all cases: ICC(A,1) and limits of agreement of the volumes, Dice, voxel correlation and agreement of the profiles."""
    volumes = {}
    for lesion in LESIONS:
        pairs = [(case["volumes_ml"][lesion]["a"], case["volumes_ml"][lesion]["b"]) for case in cases]
        known = np.array([pair for pair in pairs if None not in pair], float).reshape(-1, 2)
        volumes[lesion] = {
            "icc": asdict(intraclass_correlation(known[:, 0], known[:, 1])),
            "bland_altman": asdict(bland_altman(known[:, 0], known[:, 1])),
            "mean_absolute_difference": float(np.abs(known[:, 0] - known[:, 1]).mean()) if len(known) else None,
        }
    words = sorted({word for case in cases for word in case["maps"]})
    profiles = {}
    for word in PROFILES:
        pairs = [(case["profiles"][word]["a"], case["profiles"][word]["b"]) for case in cases]
        pairs = [pair for pair in pairs if None not in pair and NOT_ASSESSABLE not in pair]
        profiles[word] = asdict(category_agreement([pair[0] for pair in pairs], [pair[1] for pair in pairs]))
    return {
        "cases": len(cases),
        "volumes_ml": volumes,
        "dice": {lesion: _spread([case["dice"][lesion] for case in cases]) for lesion in LESIONS},
        "voxel_r": {word: _spread([case["maps"][word]["r"] for case in cases if word in case["maps"]]) for word in words},
        "profiles": profiles,
    }


def _side(label: str, path: Path) -> tuple[ComparedMaps, Thresholds | None]:
    if is_result(path):
        result = open_result(path)
        return of_result(label, result), result.thresholds
    return read_reference(label, path), None


def _common_tissue(a: ComparedMaps, b: ComparedMaps) -> np.ndarray:
    """Tissue of both sides where both know it; a side without tissue mask counts where any of its maps is not zero."""
    inside = np.ones(a.geometry.shape, bool)
    for side in (a, b):
        if "tissue_mask" in side.masks:
            inside &= np.asarray(side.masks["tissue_mask"]) > 0
        elif side.maps:
            inside &= np.any([np.nan_to_num(values) != 0 for values in side.maps.values()], axis=0)
    return inside


def _dice(a: ComparedMaps, mask_a: str, b: ComparedMaps, mask_b: str) -> float | None:
    if mask_a not in a.masks or mask_b not in b.masks:
        return None
    return dice(a.masks[mask_a], b.masks[mask_b])


def _profile_pair(word: str, a: ComparedMaps, b: ComparedMaps) -> dict[str, str | bool | None]:
    statuses = []
    for side in (a, b):
        volumes = side.volumes_ml
        computed = trial_profiles(volumes.get("hypoperfusion"), volumes.get("core"))[word]["status"]
        statuses.append(side.profiles.get(word, computed))
    return {"a": statuses[0], "b": statuses[1], "agree": None if NOT_ASSESSABLE in statuses else statuses[0] == statuses[1]}


def _spread(values: list[float | None]) -> dict[str, float | int | None]:
    known = [value for value in values if value is not None]
    if not known:
        return {"mean": None, "median": None, "lowest": None, "cases": 0}
    return {"mean": float(np.mean(known)), "median": float(np.median(known)), "lowest": min(known), "cases": len(known)}


def _first(*values):
    return next((value for value in values if value is not None), None)


def _words(thresholds: Thresholds) -> str:
    return f"Tmax > {thresholds.tmax_s:g} s and rCBF < {thresholds.rcbf:g}"
