"""From a drawn study to prepared cases with labels and baselines, and a whole data set of them on disk."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.phantoms.brain import BrainStudy, simulate_brain
from CTPerfusionSuiteLib.phantoms.noise import ct_noise
from CTPerfusionSuiteLib.progress import Progress, silent
from CTPerfusionSuiteLib.volumes import TimeSeries
from PerfusionMapsLib.analysis_request import AnalysisRequest
from PerfusionMapsLib.perfusion_options import EngineOptions
from PerfusionMapsLib.pipeline import analyze_prepared, prepare

from .lesion_labels import label_of, threshold_label
from .study_input import NO_REFERENCE, network_input, with_result
from .study_plan_file import begin_or_go_on, document_of_plan
from .study_sources import BUILT_IN_SOURCES, StudySources
from .training_cases import SPLITS, StudyCase, case_of, save_case
from .training_studies import DrawnStudy, draw_study, group_of

BASELINE = "maps"
FILTERS_MM, WIDE_FILTERS_MM = (3.5, 6.5, 8.0), (10.0, 12.0)
"""Standard deviations of further filters of the threshold maps; the default is 5 mm.  A network is held against the best at its noise."""
WIDE_FROM_HU = 6.5
"""Less noise is never best served by the wide filters."""
TRIES = 8


@dataclass(frozen=True)
class StudyPlan:
    """How many heads of each group a split holds, and at which noise each is scanned.

    Attributes
    ----------
    heads : dict of str -> int
        By group.
    noise_hu : dict of str -> tuple of float
        By group; a missing group gets `levels` random ones.
    levels : int
    all_filters : bool
        Make the threshold maps with all filters, not the default one alone.
    least_core_ml : float
        True core of the group "lvo", so that finding it can be scored in every such study.
    """

    heads: dict[str, int]
    noise_hu: dict[str, tuple[float, ...]] = field(default_factory=dict)
    levels: int = 1
    all_filters: bool = False
    least_core_ml: float = 0.0


BANDS_HU = (5.0, 8.0, 12.0, 20.0)
STANDARD_PLAN = {
    "train": StudyPlan({"lvo": 210, "non-lvo": 55, "none": 85}, levels=2),
    "val": StudyPlan({"lvo": 12, "non-lvo": 3, "none": 5}, levels=2, least_core_ml=3.0),
    "test": StudyPlan(
        {"lvo": 30, "non-lvo": 9, "none": 24},
        {"lvo": BANDS_HU, "non-lvo": (8.0,), "none": (5.0, 12.0)},
        all_filters=True,
        least_core_ml=3.0,
    ),
    "shifted": StudyPlan(
        {"lvo": 15, "non-lvo": 5, "none": 10},
        {"lvo": (5.0, 12.0), "non-lvo": (8.0,), "none": (8.0,)},
        all_filters=True,
        least_core_ml=3.0,
    ),
}


def share_of_plan(plan: dict[str, StudyPlan], share: float) -> dict[str, StudyPlan]:
    """The plan with `share` times as many heads, at least one of each group."""
    scaled = {name: {group: max(1, round(share * number)) for group, number in part.heads.items()} for name, part in plan.items()}
    return {name: replace(part, heads=scaled[name]) for name, part in plan.items()}


def filters_at(noise_hu: float) -> tuple[float, ...]:
    """Widths (mm) that threshold maps are made with beside the default: wider ones too where there is more noise."""
    return FILTERS_MM + WIDE_FILTERS_MM if noise_hu >= WIDE_FROM_HU else FILTERS_MM


def noisy(series: TimeSeries, noise_hu: float, kernel: str, rng: np.random.Generator) -> TimeSeries:
    """A noise-free simulated series as a scanner of that noise gives it, int16."""
    values = np.empty(series.values.shape, np.int16)
    for frame, target in zip(series.values, values, strict=True):
        noise = ct_noise(rng, frame.shape, noise_hu, kernel, series.geometry.spacing[:2])
        target[...] = np.clip(np.rint(frame + noise), -1024, 3071)
    return series.with_values(values)


def case_of_series(series: TimeSeries, study: BrainStudy, about: dict, all_filters: bool, threads: int = 1) -> StudyCase:
    """Prepare one scan of a simulated study, label it with the truth, and run the threshold maps on the same preparation.

    Raises
    ------
    DataRefused
        The scan is refused by the preparation or by the maps.
    """
    request = AnalysisRequest(engine=EngineOptions(threads=threads))
    prepared = prepare(series, request)
    found = network_input(prepared)
    result = analyze_prepared(prepared, request)
    baselines = {BASELINE: threshold_label(result, found.blocks)}
    for width in filters_at(about["noise_hu"]) if all_filters else ():
        other = replace(request, engine=replace(request.engine, smoothing_mm=width))
        baselines[f"{BASELINE}, {width:g} mm"] = threshold_label(analyze_prepared(prepared, other), found.blocks)
    label = label_of(study.mask("hypoperfusion"), study.mask("core"), found.blocks)
    found = with_result(found, result)
    if found.maps is None:
        raise DataRefused(NO_REFERENCE)
    return case_of(found, label, about, baselines)


def simulate_cases(
    drawn: DrawnStudy, all_filters: bool = False, group: str | None = None, least_core_ml: float = 0.0, threads: int = 1
) -> list[StudyCase]:
    """The cases of a drawn study, one for each of its noise levels.

    Raises
    ------
    DataRefused
        A scan is refused, or the study is not of the `group` asked for, or is "lvo" with less core than `least_core_ml`.
    """
    study = simulate_brain(drawn.options)
    volumes, occlusion = study.numbers["volumes_ml"], study.numbers["occlusion"]
    own = group_of(occlusion, volumes["hypoperfusion"])
    if group is not None and own != group:
        raise DataRefused(f"The study came out as {own} instead of {group}; draw another.")
    if drawn.wanted == "none" and volumes["hypoperfusion"] > 0.0:
        raise DataRefused("The study was to be free of stroke and is not; draw another.")
    if own == "lvo" and volumes["core"] < least_core_ml:
        raise DataRefused(f"The core measures {volumes['core']:.1f} mL only; draw another.")
    options = drawn.options
    about = {
        "split": drawn.split,
        "group": own,
        "family": drawn.family,
        "seed": options.seed,
        "noise_kernel": drawn.noise_kernel,
        "anatomy": drawn.anatomy,
        "head": f"{drawn.anatomy}/{options.seed}",
        "lesion": drawn.lesion,
        "occlusion": occlusion,
        "side": study.numbers["lesion_side"],
        "collaterals": study.numbers["collaterals"],
        "volumes_ml": {name: round(value, 2) for name, value in volumes.items()},
        "frames": len(study.series.values),
        "residue": options.residue,
        "aif_peak_hu": round(options.aif_peak_hu, 1),
        "traits": list(drawn.traits),
    }
    cases = []
    for level, noise_hu in enumerate(drawn.noise_hu):
        series = noisy(study.series, noise_hu, drawn.noise_kernel, np.random.default_rng([options.seed, 4, level]))
        cases.append(case_of_series(series, study, {**about, "noise_hu": round(noise_hu, 3)}, all_filters, threads))
    return cases


def write_training_studies(
    out_dir,
    plan: dict[str, StudyPlan] | None = None,
    sources: StudySources = BUILT_IN_SOURCES,
    seed: int = 0,
    size: tuple[int, int] = (96, 96),
    slices: int = 8,
    threads: int = 1,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda text: None,
    say_missing: Callable[[str], None] = lambda text: None,
) -> int:
    """Simulate and prepare all studies of a plan; cases that an earlier run of the same plan wrote are kept.

    Parameters
    ----------
    out_dir : path
        Gets ``<split>_<number><letter>.npz``; the letter counts the noise levels of one head; and the plan (`study_plan_file`).
    plan : dict of split -> StudyPlan
        Default `STANDARD_PLAN`.
    progress : Progress
    say : callable
        Gets a line about every head.
    say_missing : callable
        Gets a line about every head that is missing because no draw of it could be used.

    Returns
    -------
    int
        Cases written.

    Raises
    ------
    RequestRefused
        The folder holds studies of another plan, seed or other sources.
    """
    plan = STANDARD_PLAN if plan is None else plan
    out_dir = Path(out_dir)
    begin_or_go_on(out_dir, document_of_plan(plan, sources, seed, size, slices))
    total, done, written = sum(sum(part.heads.values()) for part in plan.values()), 0, 0
    for split in (name for name in SPLITS if name in plan):
        part = plan[split]
        # Groups take turns, so that an interrupted run holds all of them.
        turns = sorted(((n + 0.5) / count, group) for group, count in part.heads.items() for n in range(count))
        for number, (_, group) in enumerate(turns):
            levels = len(part.noise_hu.get(group, ())) or part.levels
            paths = [out_dir / f"{split}_{number:04d}{chr(ord('a') + level)}.npz" for level in range(levels)]
            if not all(path.exists() for path in paths):
                new = _write_head(paths, seed, split, number, group, part, sources, size, slices, threads, say)
                if not new:
                    say_missing(f"{split} {number}: no usable {group} study in {TRIES} draws")
                written += new
            done += 1
            progress(done / total)
    return written


def _write_head(paths, seed, split, number, group, part: StudyPlan, sources, size, slices, threads, say) -> int:
    """Draw heads until one can be analyzed and belongs to the group, and write its cases."""
    for attempt in range(TRIES):
        drawn = draw_study(
            [seed, SPLITS.index(split), number, attempt], split, group, sources, part.noise_hu.get(group), size, slices, part.levels
        )
        try:
            cases = simulate_cases(drawn, part.all_filters, group, part.least_core_ml, threads)
        except DataRefused as refusal:
            say(f"{split} {number} draw {attempt} ({group}): {refusal}")
            continue
        for path, case in zip(paths, cases, strict=True):
            save_case(path, case)
        say(f"{split} {number} {group}: {cases[0].about['anatomy']}, {drawn.lesion or 'no lesion'}, {cases[0].about['volumes_ml']}")
        return len(cases)
    return 0
