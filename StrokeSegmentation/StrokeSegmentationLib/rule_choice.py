"""Which rule turns a network's probabilities into a label: the one that does best on the studies its weights were chosen on.

A loss that weighs the core more, or a missed voxel more than one too many, shifts probabilities; cut at one half they give lesions that
are too large or too small.  Where to cut instead is measured on the validation studies, never on test studies.
"""

from collections.abc import Callable, Iterable

import numpy as np

from CTPerfusionSuiteLib.progress import Progress, silent

from .lesion_labels import STANDARD_RULE, LabelRule, label_from_probabilities
from .lesion_scores import dice, region
from .training_cases import load_case

CUTS = tuple(round(0.05 * n, 2) for n in range(7, 17))
"""Tried for the deficit and for the core's share in it: 0.35 to 0.80."""
LEAST_STUDIES = 4
"""With fewer that have a core the standard rule stays."""
LEAST_CORE_ML = 3.0


def choose_rule(paths: Iterable, predictor: Callable, progress: Progress = silent) -> LabelRule:
    """The rule with the highest mean Dice, of penumbra and core alike, over the studies with a true core of at least 3 mL.

    The deficit is cut first, by the Dice of the hypoperfusion, then the core within it.

    Parameters
    ----------
    paths : iterable of path
        Prepared studies.
    predictor : callable
        Takes a `StudyCase`, gives probabilities (3, K, J, I), or None for a study it cannot read.
    progress : Progress
    """
    paths, studies = list(paths), []
    for n, path in enumerate(paths):
        case = load_case(path)
        if np.count_nonzero(region(case.label, "core")) * case.voxel_ml >= LEAST_CORE_ML:
            found = predictor(case)
            if found is not None:
                studies.append((case, np.asarray(found, np.float32)))
        progress((n + 1) / len(paths))
    if len(studies) < LEAST_STUDIES:
        return STANDARD_RULE

    def mean_dice(rule: LabelRule, *parts: str) -> float:
        labels = [label_from_probabilities(found, case.tissue, case.voxel_ml, rule) for case, found in studies]
        pairs = [(label, case.label) for label, (case, _) in zip(labels, studies, strict=True)]
        return float(np.nanmean([dice(region(label, part), region(true, part)) for label, true in pairs for part in parts]))

    deficit = max(CUTS, key=lambda cut: (mean_dice(LabelRule(cut, STANDARD_RULE.core), "hypoperfusion"), -abs(cut - 0.5)))
    core = max(CUTS, key=lambda cut: (mean_dice(LabelRule(deficit, cut), "penumbra", "core"), -abs(cut - 0.5)))
    return LabelRule(deficit, core)
