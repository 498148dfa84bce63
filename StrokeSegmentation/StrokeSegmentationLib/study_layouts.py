"""Patient studies with labels in the folder layouts people have: ISLES 2018, ISLES 2024, and plain "CTP + label" folders.

ISLES 2018 (one folder a case, one folder an image): ``case_1/SMIR.Brain.XX.O.CT_4DPWI.<id>/*.nii`` with ``...O.OT.<id>`` (the core, from
diffusion MRI) and ``...CT_Tmax.<id>``; one frame a second.
ISLES 2024 (BIDS): ``derivatives/sub-*/ses-*1/*_space-ncct_ctp.nii.gz``, ``.../perfusion-maps/*_space-ncct_tmax.nii.gz`` and
``ses-*2/*_space-ncct_lesion-msk.nii.gz`` (the final infarct; one in another space is taken where there is none).
Plain: in a folder a case, or side by side under common beginnings, ``ctp.nii.gz`` with ``label.nii.gz`` (0 background, 1 penumbra, 2 core)
or ``core.nii.gz`` and ``penumbra.nii.gz``, and ``times.csv`` where the header has no time step.  Such a study is called by its path in the
folder: ``case0/scan_ctp.nii.gz`` is "case0_scan".
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused
from CTPerfusionSuiteLib.geometry import axial_slices, resample_to
from CTPerfusionSuiteLib.nifti import read_nifti_series, read_volume
from CTPerfusionSuiteLib.progress import Progress, silent
from CTPerfusionSuiteLib.time_axis import read_times
from CTPerfusionSuiteLib.volumes import Geometry
from PerfusionMapsLib.analysis_request import AnalysisRequest
from PerfusionMapsLib.lesions import large_clusters
from PerfusionMapsLib.pipeline import analyze_prepared, prepare

from .lesion_labels import label_from_masks, label_of, threshold_label
from .study_input import NO_REFERENCE, network_input, with_result
from .study_sources import split_of_name
from .training_cases import CORE, GROUPS, StudyCase, case_of, save_case

ISLES_2018, ISLES_2024, PLAIN = "isles-2018", "isles-2024", "plain"
ISLES_2018_STEP_S = 1.0
PENUMBRA_TMAX_S = 6.0
LARGE_DEFICIT_ML = 30.0
"""Without a table of groups a deficit from here on counts as that of a large vessel."""
_ENDINGS = (".nii.gz", ".nii")


@dataclass(frozen=True)
class StudyFiles:
    """The files of one patient study.

    Attributes
    ----------
    name : str
    layout : str
        "isles-2018", "isles-2024" or "plain".
    series : Path
        4-D.
    label, core, penumbra, tmax : Path or None
        A label image, or masks; `tmax` gives the penumbra where only a core was drawn.
    times : Path or None
        CSV.
    step_s : float or None
        Time between frames where the layout fixes it.
    """

    name: str
    layout: str
    series: Path
    label: Path | None = None
    core: Path | None = None
    penumbra: Path | None = None
    tmax: Path | None = None
    times: Path | None = None
    step_s: float | None = None


def find_studies(folder) -> list[StudyFiles]:
    """The labeled studies of a folder in whichever layout it has, sorted by name.

    Raises
    ------
    RequestRefused
        No such folder, no labeled study in it, or two that would have the same name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RequestRefused(f"the folder '{folder}' does not exist; check the path")
    images = [path for path in sorted(folder.rglob("*")) if path.name.lower().endswith(_ENDINGS) and path.is_file()]
    for search in (_isles_2018, _isles_2024, _plain):
        found = search(images, folder)
        if found:
            found.sort(key=lambda study: (study.name, study.series.as_posix()))
            _refuse_same_names(found, folder)
            return found
    raise RequestRefused(
        f"'{folder.name}' holds no perfusion series with a label; give a folder in the layout of ISLES 2018 or 2024, or one with a "
        "ctp.nii.gz and a label.nii.gz for each case"
    )


def _refuse_same_names(studies: list[StudyFiles], folder: Path) -> None:
    """Two studies of one name would overwrite each other; a file system may take upper and lower case for the same."""
    places: dict[str, Path] = {}
    for study in studies:
        place = study.series.relative_to(folder)
        other = places.setdefault(study.name.lower(), place)
        if other is not place:
            raise RequestRefused(
                f"the series '{other.as_posix()}' and '{place.as_posix()}' would both be called {study.name}; rename or move one of them"
            )


def _isles_2018(images: list[Path], folder: Path) -> list[StudyFiles]:
    found = []
    for path in images:
        if ".CT_4DPWI." not in path.name:
            continue
        # The image lies in a folder of its own name within that of the case, or directly in the latter.
        case = path.parent.parent if ".CT_4DPWI." in path.parent.name else path.parent
        own = [image for image in images if image.is_relative_to(case)]
        core = _first(own, lambda name: ".O.OT." in name)
        if core is not None:
            tmax = _first(own, lambda name: ".CT_Tmax." in name)
            found.append(StudyFiles(_case_name(case, folder), ISLES_2018, path, core=core, tmax=tmax, step_s=ISLES_2018_STEP_S))
    return found


def _isles_2024(images: list[Path], folder: Path) -> list[StudyFiles]:
    found = []
    for path in images:
        stem = _stem(path)
        if not (stem.startswith("sub-") and stem.endswith("space-ncct_ctp")):
            continue
        subject = stem.split("_")[0]
        own = [image for image in images if image.name.startswith(subject + "_")]
        # A mask in the space of another scan than the series may lie beside the one that was brought over.
        core = _first(own, lambda name: _stem(name).endswith("space-ncct_lesion-msk")) or _first(
            own, lambda name: _stem(name).endswith("lesion-msk")
        )
        if core is not None:
            tmax = _first(own, lambda name: _stem(name).endswith("space-ncct_tmax"))
            found.append(StudyFiles(subject, ISLES_2024, path, core=core, tmax=tmax))
    return found


def _plain(images: list[Path], folder: Path) -> list[StudyFiles]:
    found = []
    for path in images:
        stem = _stem(path)
        if not (stem.lower() == "ctp" or stem.lower().endswith(("_ctp", "-ctp"))):
            continue
        beginning = stem[: -len("ctp")]
        own = {_stem(image).lower(): image for image in images if image.parent == path.parent}
        label, core, penumbra, tmax = (own.get((beginning + kind).lower()) for kind in ("label", "core", "penumbra", "tmax"))
        times = path.parent / f"{beginning}times.csv"
        if label is not None or core is not None:
            name = _plain_name(beginning.strip("_-"), path.parent, folder)
            found.append(StudyFiles(name, PLAIN, path, label, core, penumbra, tmax, times if times.is_file() else None))
    return found


def read_label(files: StudyFiles, geometry: Geometry, tissue: np.ndarray) -> tuple[np.ndarray, str]:
    """The label (K, J, I) of a study on a grid, and where it comes from in words.

    Masks on another grid are resampled.  Where only a core was drawn, penumbra is tissue with Tmax > 6 s on the map that came with it
    (clusters of at least 1 mL); without such a map there is none.

    Raises
    ------
    RequestRefused, DataRefused
        A file cannot be read, or a label holds other numbers than 0, 1 and 2.
    """
    if files.label is not None:
        volume = read_volume(files.label)
        if not np.isin(np.unique(volume.values), (0, 1, 2)).all():
            raise DataRefused(f"the label '{files.label.name}' holds other numbers than 0, 1 (penumbra) and 2 (core)")
        masks = (_mask_on(volume, geometry, lambda v: v > 0), _mask_on(volume, geometry, lambda v: v == CORE))
        return label_from_masks(*masks), "label image"
    core = _mask_on(read_volume(files.core), geometry, lambda v: v > 0.5)
    if files.penumbra is not None:
        return label_from_masks(_mask_on(read_volume(files.penumbra), geometry, lambda v: v > 0.5), core), "masks of core and penumbra"
    if files.tmax is None:
        return label_from_masks(np.zeros_like(core), core), "mask of core alone"
    tmax = resample_to(_numbers(read_volume(files.tmax)), geometry).values
    minimum = int(np.ceil(1.0 / geometry.voxel_volume_ml - 1e-6))
    return label_from_masks(large_clusters((tmax > PENUMBRA_TMAX_S) & tissue, minimum), core), "mask of core, Tmax map"


def _numbers(volume):
    """The volume as float32 without numbers that are none."""
    return replace(volume, values=np.nan_to_num(np.asarray(volume.values, np.float32)))


def case_of_files(files: StudyFiles, step_s: float | None = None, group: str | None = None, threads: int | None = None) -> StudyCase:
    """Read, prepare and label one patient study.

    Parameters
    ----------
    files : StudyFiles
    step_s : float, optional
        Seconds between frames where neither times file, layout nor header tell.
    group : str, optional
        One of "lvo", "non-lvo", "none"; default by the size of the deficit.
    threads : int, optional

    Raises
    ------
    RequestRefused, DataRefused
        As `PerfusionMapsLib.pipeline.analyze`, and for labels that cannot be used.  When only the maps are refused (no artery), the case
        is made without maps and without a baseline.
    """
    request = AnalysisRequest()
    request = replace(request, engine=replace(request.engine, threads=threads))
    times = None if files.times is None else read_times(files.times)
    series = read_nifti_series(files.series, times, None if times is not None else files.step_s, missing_dt=step_s)
    prepared = prepare(axial_slices(series), request)
    found = network_input(prepared)
    label, source = read_label(files, prepared.grid.geometry, prepared.tissue)
    label = label_of(label > 0, label == CORE, found.blocks)
    deficit_ml = float(np.count_nonzero(label)) * found.geometry.voxel_volume_ml
    if group is None:
        group = "none" if deficit_ml == 0 else "lvo" if deficit_ml >= LARGE_DEFICIT_ML else "non-lvo"
    about = {
        "split": split_of_name(files.name), "group": group, "noise_hu": round(found.noise_hu, 3), "anatomy": files.name, "head": files.name,
        "lesion": files.name, "layout": files.layout, "label_source": source, "frames": len(series.values), "patient": True,
    }
    baseline = None
    try:
        result = analyze_prepared(prepared, request)
    except DataRefused as refusal:
        about["maps_refused"] = str(refusal)
    else:
        found, baseline = with_result(found, result), {"maps": threshold_label(result, found.blocks)}
        if found.maps is None:
            about["maps_refused"] = NO_REFERENCE
    return case_of(found, label, about, baseline)


def read_groups(path) -> dict[str, str]:
    """Groups of cases from a CSV with the columns ``name`` and ``group`` (lvo, non-lvo, none).

    Raises
    ------
    RequestRefused
    """
    path = Path(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            groups = {row["name"].strip(): row["group"].strip().lower() for row in csv.DictReader(file)}
    except (OSError, KeyError, AttributeError, UnicodeDecodeError) as error:
        raise RequestRefused(f"'{path.name}' is no table of groups; give a CSV with the columns name and group") from error
    wrong = sorted(set(groups.values()) - set(GROUPS))
    if wrong:
        raise RequestRefused(f"'{path.name}' holds the group '{wrong[0]}'; the groups are {', '.join(GROUPS)}")
    return groups


def write_patient_cases(
    folder,
    out_dir,
    step_s: float | None = None,
    groups: dict[str, str] | None = None,
    threads: int | None = None,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda text: None,
) -> int:
    """Prepare all labeled studies of a folder as ``patient_<name>.npz``; returns how many were written.

    A study that is refused is said and left out, and one without maps is said; cases that are there already are kept.

    Raises
    ------
    RequestRefused
        No labeled study.
    DataRefused
        All studies are refused.
    """
    studies, out_dir, done, reason = find_studies(folder), Path(out_dir), 0, None
    out_dir.mkdir(parents=True, exist_ok=True)
    for n, files in enumerate(studies):
        path = out_dir / f"patient_{files.name.replace('/', '_')}.npz"
        if path.exists():
            done += 1
        else:
            try:
                case = case_of_files(files, step_s, (groups or {}).get(files.name), threads)
                save_case(path, case)
                done += 1
                if "maps_refused" in case.about:
                    say(f"{files.name}: prepared without maps, so networks that read maps alone leave it out: {case.about['maps_refused']}")
            except (DataRefused, RequestRefused) as refusal:
                reason = reason or refusal
                say(f"{files.name}: {refusal}")
        progress((n + 1) / len(studies))
    if not done:
        raise DataRefused(f"none of the {len(studies)} studies can be used, the first because: {reason}")
    return done


def _mask_on(volume, geometry: Geometry, inside: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Where values are `inside`, on another grid: at least half of the voxel's center by linear interpolation."""
    mask = np.asarray(inside(volume.values))
    if volume.geometry.close_to(geometry):
        return mask
    return resample_to(replace(volume, values=mask.astype(np.float32)), geometry).values >= 0.5


def _first(images: list[Path], wanted: Callable[[str], bool]) -> Path | None:
    """The first by path, so that the choice among several is always the same."""
    return next((path for path in images if wanted(path.name)), None)


def _stem(path) -> str:
    name = path if isinstance(path, str) else path.name
    return next((name[: -len(end)] for end in _ENDINGS if name.lower().endswith(end)), name)


def _plain_name(beginning: str, place: Path, folder: Path) -> str:
    """Path of a plain study within the folder and the beginning of its files; parts that the beginning repeats are said once."""
    if not beginning:
        return _case_name(place, folder)
    told = beginning.lower().split("_")
    parts = [part for part in place.relative_to(folder).parts if part.lower() not in (*told, beginning.lower())]
    return "_".join([*parts, beginning])


def _case_name(case: Path, folder: Path) -> str:
    """Path of a case within the folder, its parts joined by underscores."""
    return "_".join(case.relative_to(folder).parts) or folder.name
