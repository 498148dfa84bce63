"""Networks among each other: the same studies, paired differences to the one with the highest mean."""

import numpy as np

from .evaluation import RESAMPLINGS, Evaluation, bootstrap, clusters, mean_of


def ranking_table(
    evaluation: Evaluation, parts: tuple[str, ...] = ("penumbra", "core"), group: str = "lvo", resamplings: int = RESAMPLINGS
) -> list[dict]:
    """A row a split, region and network over all noise bands, the best mean Dice first.

    ``behind`` is the mean difference of Dice to the best network on the studies both have a Dice for, with a 95 % interval from
    resampling clusters; the best network has no interval.
    """
    table = []
    for split in dict.fromkeys(row["split"] for row in evaluation.rows):
        for part in parts:
            names = [name for name in evaluation.networks if name not in evaluation.unranked]
            scores = {name: {row["case"]: row for row in evaluation.some(split=split, group=group, method=name)} for name in names}
            means = {name: mean_of(_dices(rows.values(), part)) for name, rows in scores.items() if rows}
            order = sorted(means, key=lambda name: -np.nan_to_num(means[name], nan=-1.0))
            for place, name in enumerate(order, start=1):
                row = {"split": split, "group": group, "region": part, "place": place, "network": name, "studies": len(scores[name])}
                table.append({**row, "dice": means[name], **_behind(scores[order[0]], scores[name], part, resamplings, place == 1)})
    return table


def _behind(best: dict, other: dict, part: str, resamplings: int, same: bool) -> dict[str, float]:
    if same:
        return {"behind": 0.0, "behind_low": float("nan"), "behind_high": float("nan")}
    both = [case for case in best if case in other]
    differences = _dices([best[case] for case in both], part) - _dices([other[case] for case in both], part)
    known = np.isfinite(differences)
    kept, differences = [best[case] for case, there in zip(both, known, strict=True) if there], differences[known]
    value, low, high = bootstrap(clusters(kept), lambda some: float(differences[some].mean()), resamplings) if kept else (float("nan"),) * 3
    return {"behind": value, "behind_low": low, "behind_high": high}


def _dices(rows, part: str) -> np.ndarray:
    return np.array([row[f"{part}_dice"] for row in rows])
