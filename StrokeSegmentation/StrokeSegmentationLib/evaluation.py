"""Networks against the threshold maps, study by study: tables a group and a noise band, with intervals that respect clusters.

Studies of one anatomy, or of one head at several doses, are not independent, so intervals come from resampling them as one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.special import ndtr, stdtrit

from CTPerfusionSuiteLib.progress import Progress, silent

from .lesion_labels import STANDARD_RULE, LabelRule, label_from_probabilities
from .lesion_scores import REGIONS, Reliability, label_scores, region, reliability
from .training_cases import CORE, PENUMBRA, StudyCase, load_case

BANDS = (("5 HU", 0.0, 6.5), ("8 HU", 6.5, 10.0), ("12 HU", 10.0, 16.0), ("20 HU", 16.0, np.inf))
"""Noise bands: name, from (including), to (HU)."""
RESAMPLINGS = 2000
LEAST_ANATOMIES = 5
"""With fewer different anatomies, the individual heads made of them are the clusters."""
ANY_LESION_ML = 1.0

Predictor = Callable[[StudyCase], np.ndarray]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of all methods on all studies.

    Attributes
    ----------
    rows : list of dict
        One a study and method: ``case``, ``method``, ``split``, ``group``, ``band``, ``noise_hu``, ``anatomy``, ``head`` and the scores of
        `label_scores`.
    calibration : dict of (method, region, group, split) -> Reliability
        Regions "hypoperfusion" and "core", over the tissue of all studies of a group in a split.
    networks, baselines : tuple of str
        Names of the methods.
    unranked : tuple of str
        Networks that had another budget than the others and so take no place among them.
    """

    rows: list[dict]
    calibration: dict[tuple[str, str, str, str], Reliability] = field(default_factory=dict)
    networks: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()
    unranked: tuple[str, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        return (*self.networks, *self.baselines)

    def some(self, **wanted) -> list[dict]:
        """Rows whose fields have the wanted values; a tuple means any of them."""
        return [
            row for row in self.rows
            if all(row[key] in value if isinstance(value, tuple) else row[key] == value for key, value in wanted.items())
        ]


def band_of(noise_hu: float | None) -> str:
    """Name of a noise band; "unknown" where the noise is not known."""
    if noise_hu is None or not np.isfinite(noise_hu):
        return "unknown"
    return next(name for name, low, high in BANDS if low <= noise_hu < high)


def evaluate(
    paths: Iterable, predictors: dict[str, Predictor], rules: dict[str, LabelRule] | None = None, progress: Progress = silent
) -> Evaluation:
    """Score networks, and the threshold labels that the cases hold, on prepared studies.

    Parameters
    ----------
    paths : iterable of path
    predictors : dict of str -> callable
        Takes a `StudyCase`, gives probabilities (3, K, J, I); it must not look at the label.
    rules : dict of str -> LabelRule, optional
        Of networks whose rule is not the standard one.
    progress : Progress
    """
    paths, rows, calibration = [Path(path) for path in paths], [], {}
    baselines: dict[str, None] = {}
    for n, path in enumerate(paths):
        case = load_case(path)
        labels = dict(case.baselines)
        baselines |= dict.fromkeys(labels)
        for name, predictor in predictors.items():
            probabilities = np.asarray(predictor(case), np.float32)
            labels[name] = label_from_probabilities(probabilities, case.tissue, case.voxel_ml, (rules or {}).get(name, STANDARD_RULE))
            for part, values in (("hypoperfusion", probabilities[PENUMBRA] + probabilities[CORE]), ("core", probabilities[CORE])):
                counts = reliability(values, region(case.label, part), case.tissue > 0)
                key = (name, part, case.about.get("group", ""), case.about.get("split", ""))
                calibration[key] = calibration[key] + counts if key in calibration else counts
        for name, label in labels.items():
            rows.append(_row(path.stem, case, name, label))
        progress((n + 1) / len(paths))
    return Evaluation(rows, calibration, tuple(predictors), tuple(baselines))


def _row(name: str, case: StudyCase, method: str, label: np.ndarray) -> dict:
    about = case.about
    noise = about.get("noise_hu", about.get("measured_noise_hu"))
    return {
        "case": name,
        "method": method,
        "split": about.get("split", ""),
        "group": about.get("group", ""),
        "band": band_of(noise),
        "noise_hu": noise,
        "anatomy": about.get("anatomy", name),
        "head": about.get("head", name),
        **label_scores(label, case.label, case.voxel_mm),
    }


def clusters(rows: list[dict]) -> list[str]:
    """The cluster of each row: its anatomy where there are enough of them, else its head."""
    key = "anatomy" if len({row["anatomy"] for row in rows}) >= LEAST_ANATOMIES else "head"
    return [str(row[key]) for row in rows]


def bootstrap(
    groups: list[str], statistic: Callable[[np.ndarray], float], resamplings: int = RESAMPLINGS, seed: int = 0
) -> tuple[float, float, float]:
    """Value and 95 % interval of a statistic of rows, resampling whole clusters with replacement.

    The interval lies between percentiles that are further out the fewer clusters there are, as Student's t is against the normal
    distribution: from five clusters the plain 2.5 and 97.5 percent would hold the truth in five of six cases only, these in nine of ten.

    Reference: the expanded percentile interval of Hesterberg TC, Am Stat 2015;69:371-386.

    Parameters
    ----------
    groups : list of str
        Cluster of each row.
    statistic : callable
        Takes indices of rows (with repetitions), gives a number; nan is left out of the interval.
    """
    order = {name: n for n, name in enumerate(dict.fromkeys(groups))}
    of_row = np.array([order[name] for name in groups], int)
    value = statistic(np.arange(len(groups)))
    if len(order) < 2:
        return value, float("nan"), float("nan")
    members = [np.flatnonzero(of_row == n) for n in range(len(order))]
    rng = np.random.default_rng(seed)
    drawn = [statistic(np.concatenate([members[n] for n in rng.integers(len(members), size=len(members))])) for _ in range(resamplings)]
    drawn = np.array(drawn)
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size:
        return value, float("nan"), float("nan")
    outside = 100.0 * expanded_tail(len(order))
    return value, float(np.percentile(drawn, outside)), float(np.percentile(drawn, 100.0 - outside))


def expanded_tail(clusters: int, tail: float = 0.025) -> float:
    """Share of the resamplings of so many clusters that lies beyond either end of an interval which `tail` of the truths lie beyond."""
    return float(ndtr(np.sqrt(clusters / (clusters - 1.0)) * stdtrit(clusters - 1, tail)))


def mean_of(values: np.ndarray) -> float:
    """Mean without nan; nan of nothing."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def summary_table(evaluation: Evaluation, resamplings: int = RESAMPLINGS) -> list[dict]:
    """A row a split, group with stroke, noise band (and all of them where there are several) and method.

    Mean Dice with interval, and over how many studies that have the region in truth or label; medians of HD95, where both have it, and of
    the absolute volume error; studies whose region was missed altogether; mean lesion-wise F1.
    """
    table = []
    for split, group in dict.fromkeys((row["split"], row["group"]) for row in evaluation.rows if row["group"] != "none"):
        own = evaluation.some(split=split, group=group)
        bands = [name for name, _, _ in BANDS if any(row["band"] == name for row in own)]
        for band in [*bands, "all"] if len(bands) > 1 else bands:
            for method in evaluation.methods:
                rows = [row for row in own if row["method"] == method and band in ("all", row["band"])]
                # Filters that only noisier studies were given cannot stand beside the others over all.
                if rows and (band != "all" or {row["band"] for row in rows} == set(bands)):
                    head = {"split": split, "group": group, "band": band, "method": method, "studies": len(rows)}
                    table.append({**head, **_summary(rows, resamplings)})
    return table


def _summary(rows: list[dict], resamplings: int) -> dict:
    found = {}
    own = clusters(rows)
    for name in REGIONS:
        values = np.array([row[f"{name}_dice"] for row in rows])
        mean, low, high = bootstrap(own, lambda some, v=values: mean_of(v[some]), resamplings)
        found |= {f"{name}_dice": mean, f"{name}_dice_low": low, f"{name}_dice_high": high}
        found[f"{name}_scored"] = int(np.isfinite(values).sum())
        found[f"{name}_missed"] = sum(row[f"{name}_true_ml"] > 0 and row[f"{name}_found_ml"] == 0 for row in rows)
        for score, short in (("hd95_mm", "hd95_mm"), ("error_ml", "absolute_error_ml")):
            values = np.abs([row[f"{name}_{score}"] for row in rows])
            known = values[np.isfinite(values)]
            found[f"{name}_{short}_median"] = float(np.median(known)) if known.size else float("nan")
        found[f"{name}_lesion_f1"] = mean_of(np.array([row[f"{name}_lesion_f1"] for row in rows]))
    return found


def best_baseline(evaluation: Evaluation, rows: list[dict], part: str) -> str:
    """The baseline with the highest mean Dice of a region among rows: it is given the best filter for that noise."""
    means = {name: mean_of(np.array([row[f"{part}_dice"] for row in rows if row["method"] == name])) for name in evaluation.baselines}
    return max(means, key=lambda name: means[name] if np.isfinite(means[name]) else -1.0)


def comparison_table(
    evaluation: Evaluation, parts: tuple[str, ...] = ("penumbra", "core"), resamplings: int = RESAMPLINGS
) -> list[dict]:
    """Networks against the best baseline of each noise band, paired on the same studies.

    ``reduction`` is 1 - mean(1 - Dice of the network) / mean(1 - Dice of the baseline), with a 95 % interval; studies without the region
    in truth and in either label are left out.
    """
    table = []
    for split, group in dict.fromkeys((row["split"], row["group"]) for row in evaluation.rows):
        if group == "none" or not evaluation.baselines:
            continue
        own = evaluation.some(split=split, group=group)
        bands = [name for name, _, _ in BANDS if any(row["band"] == name for row in own)]
        for band in bands:
            inside = [row for row in own if row["band"] == band]
            for part in parts:
                rival = best_baseline(evaluation, inside, part)
                for network in evaluation.networks:
                    head = {"split": split, "group": group, "band": band, "region": part}
                    table.append({**head, **_paired(inside, network, rival, part, resamplings)})
    return table


def _paired(rows: list[dict], network: str, rival: str, part: str, resamplings: int) -> dict:
    scores = {name: {row["case"]: row for row in rows if row["method"] == name} for name in (network, rival)}
    both = [case for case in scores[network] if case in scores[rival]]
    errors = np.array([[1.0 - scores[name][case][f"{part}_dice"] for name in (network, rival)] for case in both]).reshape(-1, 2)
    # A lesion that only one method invents counts; one that nobody has says nothing.
    known = np.isfinite(errors).any(axis=1)
    errors = np.nan_to_num(errors[known], nan=0.0)
    kept = [scores[network][case] for case, there in zip(both, known, strict=True) if there]

    def reduction(some: np.ndarray) -> float:
        mine, theirs = errors[some].mean(axis=0)
        return 1.0 - mine / theirs if theirs > 0 else float("nan")

    found = (float("nan"),) * 3 if not kept else bootstrap(clusters(kept), reduction, resamplings)
    dices = 1.0 - errors.mean(axis=0) if kept else (float("nan"), float("nan"))
    return {
        "network": network,
        "baseline": rival,
        "studies": len(kept),
        "network_dice": float(dices[0]),
        "baseline_dice": float(dices[1]),
        "reduction": found[0],
        "reduction_low": found[1],
        "reduction_high": found[2],
    }


def stroke_free_table(evaluation: Evaluation) -> list[dict]:
    """A row a method: studies without stroke, 95th percentile of the false-positive volume (mL), share with any lesion of 1 mL."""
    table = []
    for split in dict.fromkeys(row["split"] for row in evaluation.rows):
        for method in evaluation.methods:
            rows = evaluation.some(split=split, group="none", method=method)
            if not rows:
                continue
            volumes = np.array([row["hypoperfusion_found_ml"] for row in rows])
            share = bootstrap(clusters(rows), lambda some, v=volumes: float(np.mean(v[some] >= ANY_LESION_ML)))
            tail = bootstrap(clusters(rows), lambda some, v=volumes: float(np.percentile(v[some], 95.0)))
            table.append({
                "split": split, "method": method, "studies": len(rows), "p95_ml": tail[0], "p95_ml_low": tail[1], "p95_ml_high": tail[2],
                "any_lesion": share[0], "any_lesion_low": share[1], "any_lesion_high": share[2],
            })
    return table


def calibration_table(evaluation: Evaluation) -> list[dict]:
    """Expected calibration error of each network and region over the tissue of the studies of a group, and its largest gap in a bin."""
    return [
        {
            "split": split, "method": method, "region": part, "group": group, "expected_calibration_error": counts.expected_error,
            "largest_gap": counts.largest_gap,
        }
        for (method, part, group, split), counts in evaluation.calibration.items()
    ]


def reliability_table(evaluation: Evaluation) -> list[dict]:
    """The reliability diagram in numbers: a row a network, region, group and bin of probability that holds voxels."""
    return [
        {
            "split": split, "method": method, "region": part, "group": group, "voxels": int(number),
            "mean_probability": float(predicted / number), "share_true": float(happened / number),
        }
        for (method, part, group, split), counts in evaluation.calibration.items()
        for number, predicted, happened in zip(counts.count, counts.predicted, counts.happened, strict=True) if number
    ]
