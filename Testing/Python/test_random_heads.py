"""Heads drawn at random, from bright to hardly visible arteries and from still to restless, are analyzed without anybody's help."""

from functools import cache

import numpy as np
import pytest
from lesion_overlap import analyzed, volumes_agree

from CTPerfusionSuiteLib.phantoms.brain import simulate_brain
from CTPerfusionSuiteLib.phantoms.random_brains import random_case

SEEDS = range(1, 9)
LEAST_RIGHT = 5
"""Of 8; `Testing/Benchmarks/random_heads.py` counts on other heads, through DICOM, how many are."""


@cache
def study(seed):
    return simulate_brain(random_case(seed).options)


@cache
def result(seed):
    return analyzed(study(seed))


def share(seed, name, curve):
    """Share of a curve's voxels that lie in a mask of the truth."""
    return float(np.mean(study(seed).mask(name)[tuple(curve.voxels[:, ::-1].T)]))


def right(seed, found=None):
    true = study(seed).numbers["volumes_ml"]
    found = result(seed).metrics["volumes_ml"] if found is None else found
    return all(volumes_agree(found[name], true[name]) for name in ("hypoperfusion", "core"))


def flagged(seed):
    return any(flag["severity"] != "info" for flag in result(seed).metrics["qc"])


@pytest.mark.parametrize("seed", SEEDS)
def test_every_voxel_of_the_vein_is_venous(seed):
    assert result(seed).vof is not None and share(seed, "venous_voxels", result(seed).vof) == 1.0


def test_the_lesion_is_on_its_side_unless_the_study_says_that_it_is_uncertain():
    wrong = [seed for seed in SEEDS if result(seed).metrics["lesion_side"] not in (study(seed).numbers["lesion_side"], "both")]
    assert len(wrong) <= 1 and all(flagged(seed) for seed in wrong)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_voxel_of_the_artery_is_arterial(seed):
    assert share(seed, "arterial_voxels", result(seed).aif) == 1.0


def test_most_volumes_are_right_and_far_misses_are_flagged():
    assert sum(right(seed) for seed in SEEDS) >= LEAST_RIGHT
    for seed in SEEDS:
        true, found = study(seed).numbers["volumes_ml"], result(seed).metrics
        if not all(volumes_agree(found["volumes_ml"][name], true[name], 0.25, 12.0) for name in ("hypoperfusion", "core")):
            assert flagged(seed), f"head {seed} is far off without a flag"


def test_the_volumes_of_another_head_would_be_noticed():
    others = [result(other).metrics["volumes_ml"] for other in (*SEEDS[1:], SEEDS[0])]
    assert sum(right(seed, found) for seed, found in zip(SEEDS, others, strict=True)) < LEAST_RIGHT / 2
