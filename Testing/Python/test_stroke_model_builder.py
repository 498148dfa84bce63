"""A network is recommended only where it keeps every margin asked for, on test studies and under the shifted simulator."""

import pytest

builder = pytest.importorskip("build_stroke_model")

from test_stroke_scores import row  # noqa: E402

from StrokeSegmentationLib.evaluation import Evaluation  # noqa: E402

MAPS_DICE = 0.6


def evaluations(heads=15, dice=None, false_ml=None):
    """Networks of a made-up evaluation; `dice` by (split, band), `false_ml` of ten stroke-free studies by split."""
    found = {}
    for split, bands in builder.MARGIN_BANDS.items():
        rows = []
        for band in bands:
            own = (dice or {}).get((split, band), 0.75)
            for n in range(heads if own is not None else 0):
                for method, value in (("network", own), ("maps", MAPS_DICE)):
                    rows.append({**row(f"{split}{band}{n}", method, value, head=f"h{n}", band=band, anatomy=f"a{n % 5}"), "split": split})
        for n, volume in enumerate((false_ml or {}).get(split, [0.0] * 10)):
            rows.append({**row(f"{split}free{n}", "network", float("nan"), head=f"f{n}", group="none", found_ml=volume), "split": split})
        found[split] = Evaluation(rows, {}, ("network",), ("maps",))
    return found


def test_a_network_that_keeps_every_margin_is_recommended():
    assert builder.recommendation(evaluations(), "network") == "network"


@pytest.mark.parametrize(
    "short",
    [
        {"dice": {("test", "12 HU"): 0.71}},  # 1 - Dice reduced by 27.5 % where 30 are asked for
        {"dice": {("shifted", "5 HU"): 0.65}},
        {"dice": {("test", "20 HU"): None}},
        {"false_ml": {"test": [2.0, 2.0, *[0.0] * 8]}},
        {"false_ml": {"shifted": [0.0] * 9 + [40.0]}},
        {"false_ml": {"shifted": []}},
        {"heads": 9},
    ],
    ids=["a band short of its margin", "no better when shifted", "no band", "lesions in two of ten", "a large one", "none free", "few"],
)
def test_one_row_that_falls_short_keeps_the_maps_recommended(short):
    assert builder.recommendation(evaluations(**short), "network") == "maps"
