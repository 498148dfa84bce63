"""Stories about metrics.json: what each figure means, and what is said when it cannot be told."""

import csv
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from CTPerfusionSuiteLib.volumes import Geometry
from PerfusionMapsLib.input_functions import InputFunction
from PerfusionMapsLib.lesions import lesions
from PerfusionMapsLib.observations import Observations
from PerfusionMapsLib.perfusion_metrics import VenousTransit, flatten, metrics_document, refused_document, to_csv, to_json
from PerfusionMapsLib.perfusion_options import Thresholds
from PerfusionMapsLib.quality_flags import QualityFlag, Severity, doubtful, flagged, lesion_flags, quality_flags
from PerfusionMapsLib.trial_profiles import dawn_profile, trial_profiles
from PerfusionMapsLib.truncation import tail_fraction, truncation_score

GRID = Geometry((48, 48, 10), (4.0, 4.0, 5.0), (-94.0, -94.0, 0.0))
X = GRID.to_lps(np.stack([*np.indices(GRID.shape)[::-1]], axis=-1))[..., 0]
Y = GRID.to_lps(np.stack([*np.indices(GRID.shape)[::-1]], axis=-1))[..., 1]
BRAIN = (X / 70) ** 2 + (Y / 85) ** 2 <= 1
LESION = BRAIN & (X > 20) & (np.abs(Y) < 40)
CORE = LESION & (X > 44)


def study(lesion=LESION, core=CORE, lesion_cbv=2.0):
    maps = {
        "tmax": np.where(lesion, np.where(core, 12.0, 7.0), 2.0) * BRAIN,
        "operator_cbf": np.where(core, 4.0, 40.0) * BRAIN,
        "cbf": np.where(core, 5.0, 50.0) * BRAIN,
        "cbv": np.where(lesion, lesion_cbv, 4.0) * BRAIN,
    }
    masks = {"tissue_mask": BRAIN, "hemisphere": np.where(BRAIN, np.where(X > 0, 1, 2), 0)}
    return {name: values.astype(np.float32) for name, values in maps.items()}, masks


def document(maps, masks, thresholds=None, **more):
    return metrics_document(lesions(maps, masks, thresholds or Thresholds(), GRID), maps, masks, GRID, method="bayes", **more)


def test_the_document_has_exactly_the_keys_of_the_contract():
    found = document(*study())
    assert list(found) == [
        "schema", "status", "reasons", "method", "thresholds", "volumes_ml", "mismatch_ratio", "hir", "prr_percent", "cbv_index",
        "pvt", "reference", "lesion_side", "profiles", "absolute_calibrated", "qc",
    ]  # fmt: skip
    assert list(found["thresholds"]) == ["tmax_s", "rcbf"]
    assert list(found["volumes_ml"]) == ["hypoperfusion", "core", "core_physical", "penumbra", "mismatch", "tmax_gt", "rcbf_lt"]
    assert list(found["volumes_ml"]["tmax_gt"]) == ["4", "6", "8", "10"]
    assert list(found["volumes_ml"]["rcbf_lt"]) == ["0.20", "0.30", "0.34", "0.38"]
    assert list(found["cbv_index"]) == ["corrected", "conventional", "roi"]
    assert list(found["pvt"]) == ["positive", "sss_tmax_s", "torcula_tmax_s", "aif_vof_peak_s"]
    assert list(found["reference"]) == ["cbf", "volume_ml", "side"]
    assert found["status"] == "ok" and found["lesion_side"] == "left" and found["reference"]["side"] == "right"

    def shape(value):
        return {key: shape(item) for key, item in value.items()} if isinstance(value, dict) else None

    assert shape(refused_document(["no bolus"])) == shape(found)


def test_every_figure_is_what_its_definition_says():
    found = document(*study())
    volumes, voxel_ml = found["volumes_ml"], GRID.voxel_volume_ml
    hypoperfusion, core = LESION.sum() * voxel_ml, CORE.sum() * voxel_ml
    assert volumes["hypoperfusion"] == pytest.approx(hypoperfusion) and volumes["core"] == pytest.approx(core)
    assert volumes["core_physical"] == pytest.approx(core)
    assert volumes["penumbra"] == volumes["mismatch"] == pytest.approx(hypoperfusion - core)
    assert found["mismatch_ratio"] == pytest.approx(hypoperfusion / core, abs=1e-6)
    assert found["hir"] == pytest.approx(core / hypoperfusion, abs=1e-6)
    assert found["prr_percent"] == pytest.approx(100 * (1 - core / hypoperfusion), abs=1e-4)
    assert found["reference"]["cbf"] == pytest.approx(40.0)
    assert found["cbv_index"] == {"corrected": pytest.approx(0.5), "conventional": pytest.approx(0.5), "roi": None}


def test_the_corrected_cbv_index_looks_at_the_mirror_and_the_conventional_one_everywhere():
    maps, masks = study()
    mirror = BRAIN & (X < -20) & (np.abs(Y) < 40)
    maps["cbv"] = np.where(mirror, 5.0, maps["cbv"])
    found = document(maps, masks)["cbv_index"]
    assert found["corrected"] == pytest.approx(0.4) and 0.4 < found["conventional"] < 0.5
    # A mirror that is wrong, here the lesion itself, gives no number rather than a wrong one.
    assert document(maps, masks, mirror=lambda mask: mask)["cbv_index"]["corrected"] is None


def test_there_is_no_corrected_index_when_the_other_side_is_ischemic_too():
    maps, masks = study(lesion=BRAIN & (np.abs(X) > 20) & (np.abs(Y) < 40), core=np.zeros_like(CORE))
    found = document(maps, masks)
    assert found["cbv_index"]["corrected"] is None and found["cbv_index"]["conventional"] == pytest.approx(0.5)
    assert found["lesion_side"] == "both"


def test_the_roi_index_compares_the_users_own_regions():
    maps, masks = study()
    masks["roi_mask"], masks["contra_mask"] = LESION & (Y > 0), BRAIN & (X < -20)
    assert document(maps, masks)["cbv_index"]["roi"] == pytest.approx(0.5)
    assert document(maps, {**masks, "roi_mask": np.zeros_like(BRAIN)})["cbv_index"]["roi"] is None


def test_what_cannot_be_told_is_null_and_never_zero():
    maps, masks = study(lesion=np.zeros_like(LESION), core=np.zeros_like(CORE))
    found = document(maps, masks)
    assert found["volumes_ml"]["hypoperfusion"] == 0.0 and found["volumes_ml"]["core"] == 0.0
    assert found["mismatch_ratio"] is None and found["hir"] is None and found["prr_percent"] is None and found["lesion_side"] is None
    assert found["cbv_index"] == {"corrected": None, "conventional": None, "roi": None}
    drowned = {**maps, "tmax": np.where(BRAIN, 9.0, 0.0)}
    lost = document(drowned, masks)
    assert lost["volumes_ml"]["hypoperfusion"] > 0
    for name in ("core", "core_physical", "penumbra", "mismatch"):
        assert lost["volumes_ml"][name] is None
    assert set(lost["volumes_ml"]["rcbf_lt"].values()) == {None} and lost["reference"]["cbf"] is None
    assert {profile["status"] for profile in lost["profiles"].values()} == {"not assessable"}


def test_without_core_the_ratio_is_null_and_counts_as_infinite_in_the_profiles():
    maps, masks = study(core=np.zeros_like(CORE))
    found = document(maps, masks)
    assert found["volumes_ml"]["core"] == 0.0 and found["mismatch_ratio"] is None
    assert found["profiles"]["defuse3"]["status"] == "met" and found["profiles"]["extend"]["status"] == "met"


def test_prolonged_venous_transit_is_positive_from_ten_seconds_in_either_sinus_and_null_when_not_seen():
    def positive(*values, **more):
        return document(*study(), venous=VenousTransit(*values, **more))["pvt"]["positive"]

    assert positive(10.0, 4.0) is True and positive(4.0, 10.5) is True and positive(9.9, 4.0) is False
    assert positive(None, 4.0) is False and positive(None, 12.0) is True
    assert positive(None, None) is None and positive(12.0, 12.0, truncated=True) is None


@pytest.mark.parametrize(
    ("hypoperfusion", "core", "defuse3", "extend"),
    [
        (126.0, 70.0, "not met", "not met"),  # core not under 70
        (125.0, 69.0, "met", "met"),
        (124.0, 69.0, "not met", "met"),  # ratio 1.797
        (33.0, 18.0, "met", "met"),
        (32.0, 17.5, "not met", "met"),  # mismatch 14.5
        (27.0, 17.0, "not met", "not met"),  # difference 10, not above
        (14.9, 0.0, "not met", "met"),  # infinite ratio, but 14.9 mL
        (0.0, 0.0, "not met", "not met"),
        (None, 10.0, "not assessable", "not assessable"),
        (90.0, 80.0, "not met", "not met"),
        (None, 80.0, "not met", "not met"),  # whatever the rest, the core is too large
    ],
)
def test_trial_profiles_follow_the_published_limits(hypoperfusion, core, defuse3, extend):
    found = trial_profiles(hypoperfusion, core)
    assert (found["defuse3"]["status"], found["extend"]["status"]) == (defuse3, extend)


@pytest.mark.parametrize(
    ("age", "nihss", "core", "status", "group"),
    [
        (80, 10, 20.9, "met", "A"),
        (80, 10, 21.0, "not met", None),
        (79, 10, 30.9, "met", "B"),
        (79, 10, 31.0, "not met", None),
        (79, 20, 31.0, "met", "C"),
        (79, 20, 50.9, "met", "C"),
        (79, 20, 51.0, "not met", None),
        (85, 25, 30.0, "not met", None),
        (60, 9, 5.0, "not met", None),
        (16, 15, 5.0, "not met", None),
        (None, 15, 5.0, "not assessable", None),
        (60, None, 5.0, "not assessable", None),
        (60, 15, None, "not assessable", None),
    ],
)
def test_dawn_needs_age_and_nihss(age, nihss, core, status, group):
    found = dawn_profile(core, age, nihss)
    assert (found["status"], found["group"]) == (status, group)


def test_profiles_never_give_advice():
    text = json.dumps(document(*study(), age_years=70, nihss=15)["profiles"]).lower()
    assert not any(word in text for word in ("treat", "eligib", "thrombectomy", "recommend", "candidate", "indicat", "suitab"))


def test_json_never_holds_nan_or_infinity_and_csv_is_one_header_and_one_row():
    maps, masks = study()
    maps["cbv"][:] = np.nan
    found = document(maps, masks, venous=VenousTransit(float("nan"), float("inf")), flags=(QualityFlag("a", Severity.INFO, "x; y"),) * 2)
    again = json.loads(to_json(found), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert again["cbv_index"]["conventional"] is None and again["pvt"]["sss_tmax_s"] is None and again["pvt"]["positive"] is None
    rows = list(csv.reader(io.StringIO(to_csv([found]))))
    assert len(rows) == 2 and len(rows[0]) == len(rows[1]) == len(set(rows[0]))
    row = dict(zip(*rows, strict=True))
    assert float(row["volumes_ml.hypoperfusion"]) == found["volumes_ml"]["hypoperfusion"]
    assert float(row["volumes_ml.rcbf_lt.0.30"]) == found["volumes_ml"]["core"]
    assert row["cbv_index.corrected"] == "" and row["absolute_calibrated"] == "true"
    assert row["qc.code"] == "a;a" and row["qc.message"] == "x, y;x, y" and row["reasons"] == ""


def test_the_csv_of_any_study_has_the_same_columns():
    full, empty = document(*study(), flags=(QualityFlag("a", Severity.INFO, "b"),)), refused_document(["no bolus; nothing"])
    assert list(flatten(full)) == list(flatten(empty))


@settings(max_examples=40, deadline=None)
@given(st.floats(0.5, 14.0), st.floats(0.05, 0.95), st.integers(0, 10**6))
def test_whatever_the_thresholds_and_the_noise_the_parts_add_up(tmax_s, rcbf, seed):
    rng = np.random.default_rng(seed)
    grid = Geometry((16, 14, 4), (8.0, 8.0, 6.0))
    inside = rng.random(grid.shape) > 0.1
    maps = {
        "tmax": rng.gamma(2.0, 2.5, grid.shape).astype(np.float32),
        "operator_cbf": rng.gamma(2.0, 20.0, grid.shape).astype(np.float32),
        "cbf": rng.gamma(2.0, 20.0, grid.shape).astype(np.float32),
        "cbv": rng.gamma(2.0, 2.0, grid.shape).astype(np.float32),
    }
    masks = {"tissue_mask": inside, "hemisphere": np.broadcast_to(np.where(np.arange(16) > 7, 1, 2), grid.shape)}
    found = metrics_document(lesions(maps, masks, Thresholds(tmax_s, rcbf), grid), maps, masks, grid, method="osvd")
    volumes = found["volumes_ml"]
    assert volumes["hypoperfusion"] <= inside.sum() * grid.voxel_volume_ml + 1e-6
    if volumes["core"] is not None:
        assert volumes["core"] + volumes["penumbra"] == pytest.approx(volumes["hypoperfusion"], abs=1e-5)
    levels = list(volumes["tmax_gt"].values())
    assert levels == sorted(levels, reverse=True)
    for value in (found["hir"], found["prr_percent"]):
        assert value is None or 0.0 <= value <= 100.0
    assert all(math.isfinite(value) for value in levels)
    to_json(found)


CLEAN = Observations(
    baseline_frames=5, baseline_s=7.5, scan_end_s=60.0, truncation_probability=0.03, aif_peak_hu=180.0, aif_noise_hu=2.0, aif_peak_s=14.0,
    tissue_peak_s=19.0, aif_arrival_s=8.0, tissue_arrival_s=10.0, vof_tail_fraction=0.15, venous_scale=2.5, motion_mm=0.8, motion_deg=0.5,
    frames=40, frames_dropped=0, sampling_median_s=1.5, sampling_max_s=1.5, coverage_mm=80.0, tissue_ml=700.0, arrival_asymmetry_s=0.3,
    edge_fraction=0.002, noise_hu=5.0, starved_fraction=0.01, reference_cbf=38.0,
)  # fmt: skip


def test_a_clean_study_has_no_flag_and_nothing_measured_raises_none():
    assert quality_flags(CLEAN) == () and quality_flags(Observations()) == ()


@pytest.mark.parametrize(
    ("code", "severity", "seen"),
    [
        ("baseline_short", "info", {"baseline_frames": 2}),
        ("baseline_short", "warning", {"baseline_frames": 1}),
        ("scan_truncated", "warning", {"truncation_probability": 0.6}),
        ("scan_truncated", "critical", {"truncation_probability": 0.95}),
        ("aif_weak", "warning", {"aif_peak_hu": 13.0}),
        ("aif_weak", "critical", {"aif_peak_hu": 5.0, "aif_noise_hu": 0.5}),
        ("aif_noisy", "warning", {"aif_noise_hu": 40.0}),
        ("aif_late", "warning", {"aif_peak_s": 19.0}),
        ("aif_late", "warning", {"aif_arrival_s": 14.0}),
        ("aif_late", "critical", {"aif_arrival_s": 25.0}),
        ("posterior_edge", "critical", {"edge_fraction": 0.4}),
        ("motion", "info", {"motion_mm": 4.0}),
        ("motion", "warning", {"motion_deg": 9.0}),
        ("motion", "critical", {"frames_dropped": 12}),
        ("irregular_sampling", "info", {"sampling_max_s": 3.0}),
        ("irregular_sampling", "warning", {"sampling_max_s": 6.0}),
        ("slow_sampling", "warning", {"sampling_median_s": 3.5, "sampling_max_s": 3.5}),
        ("low_coverage", "info", {"coverage_mm": 40.0}),
        ("low_coverage", "warning", {"coverage_mm": 10.0}),
        ("little_tissue", "warning", {"tissue_ml": 60.0}),
        ("arrival_asymmetry", "warning", {"arrival_asymmetry_s": -4.0}),
        ("posterior_edge", "warning", {"edge_fraction": 0.2}),
        ("photon_starvation", "warning", {"noise_hu": 20.0}),
        ("photon_starvation", "warning", {"starved_fraction": 0.3}),
        ("uncalibrated", "info", {"absolute_calibrated": False}),
        ("implausible_flow", "info", {"reference_cbf": 5.0}),
        ("implausible_flow", "warning", {"reference_cbf": 0.5}),
        ("content_time_used", "warning", {"notes": (("content_time_used", "times are of the reconstruction"),)}),
        ("file_skipped", "info", {"notes": (("file_skipped", "readme.txt is no image"),)}),
    ],
)  # fmt: skip
def test_each_trouble_raises_its_own_flag_with_its_severity(code, severity, seen):
    from dataclasses import replace

    flags = quality_flags(replace(CLEAN, **seen))
    assert [(flag.code, flag.severity) for flag in flags] == [(code, severity)]
    assert flagged(flags) == (severity != "info")
    assert flags[0].document() == {"code": code, "severity": severity, "message": flags[0].message}


def test_flags_from_the_maps_tell_of_missing_reference_and_of_both_sides():
    maps, masks = study()
    assert lesion_flags(lesions(maps, masks, Thresholds(), GRID)) == []
    maps["tmax"] = np.where(BRAIN, 9.0, 0.0)
    assert [flag.code for flag in lesion_flags(lesions(maps, masks, Thresholds(), GRID))] == ["no_reference", "bilateral_hypoperfusion"]
    maps["tmax"] = np.where(LESION, 9.0, np.where(BRAIN & (X > 0), 5.9, 2.0)) * BRAIN
    plateau = lesions(maps, masks, Thresholds(), GRID)
    assert [flag.code for flag in lesion_flags(plateau)] == ["threshold_sensitive"]
    assert plateau.ml_per_s == pytest.approx((BRAIN & (X > 0) & ~LESION).sum() * GRID.voxel_volume_ml)
    assert lesion_flags(lesions(maps, masks, Thresholds(7.0), GRID)) == []
    maps["tmax"] = np.where(BRAIN, np.where(Y > 70, 2.0, 9.0), 0.0)
    assert "reference_both_hemispheres" in [flag.code for flag in lesion_flags(lesions(maps, masks, Thresholds(), GRID))]


def bolus(times, peak_s, width_s, height=1.0):
    return InputFunction(times, height * np.exp(-0.5 * ((times - peak_s) / (width_s / 2.35)) ** 2) + 0.1 * height * (times > peak_s))


def test_the_earlier_a_scan_ends_the_likelier_it_is_called_truncated():
    scores = []
    for end in (22.0, 30.0, 38.0, 46.0, 55.0, 70.0):
        times = np.arange(0.0, end + 0.1, 1.5)
        artery, vein, tissue = bolus(times, 15.0, 8.0, 200.0), bolus(times, 22.0, 10.0, 300.0), bolus(times, 20.0, 12.0, 8.0)
        scores.append([truncation_score(artery, v, times[-1], t) for v, t in ((None, None), (vein, None), (vein, tissue))])
    scores = np.array(scores)
    assert (np.diff(scores, axis=0) < 0).all()
    assert (scores[0] > 0.85).all() and (scores[-1] < 0.05).all()


def test_a_late_bolus_needs_a_longer_scan():
    times = np.arange(0.0, 50.1, 1.5)
    early = truncation_score(bolus(times, 10.0, 8.0), None, times[-1], bolus(times, 15.0, 12.0))
    late = truncation_score(bolus(times, 35.0, 8.0), None, times[-1], bolus(times, 40.0, 12.0))
    assert early < 0.2 and late > 0.8


def test_the_end_of_a_curve_is_judged_against_its_peak():
    times = np.arange(0.0, 40.1, 1.0)
    assert tail_fraction(bolus(times, 15.0, 8.0, 200.0), 40.0) == pytest.approx(0.1, abs=0.01)
    assert tail_fraction(InputFunction(times, np.minimum(times, 30.0)), 40.0) == 1.0
    assert tail_fraction(InputFunction(times, np.where(times < 20, times, -1.0)), 40.0) == 0.0


def test_a_given_curve_that_is_tissue_leaves_no_criterion_to_judge():
    from dataclasses import replace

    faint = replace(CLEAN, venous_scale=20.0, aif_noise_hu=40.0, tmax_error_s=None)
    assert ("aif_in_tissue", "critical") in [(flag.code, flag.severity) for flag in quality_flags(faint)]
    assert doubtful(quality_flags(faint)) and not doubtful(quality_flags(replace(faint, venous_scale=3.0)))
