"""Simulated studies against what was asked: heads, lesions, vessels, motion, anatomy from files, and the command."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from CTPerfusionSuiteLib.cli import main
from CTPerfusionSuiteLib.phantoms.brain import simulate_brain
from CTPerfusionSuiteLib.phantoms.brain_options import BrainOptions
from CTPerfusionSuiteLib.phantoms.random_brains import RANDOM_STYLES, head_motion, random_case, shuttle_times
from CTPerfusionSuiteLib.phantoms.reference_operator import reference_maps
from CTPerfusionSuiteLib.tracer_kinetics import volume_scale

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SMALL = BrainOptions(size=(80, 80), slices=8, fine_mm=1.9, noise_hu=0.0, seed=4)


@pytest.fixture(scope="module")
def stroke():
    """A small noise-free study of a left M1 occlusion."""
    return simulate_brain(SMALL)


def test_the_same_seed_is_the_same_study_whatever_the_noise(stroke):
    noisy = simulate_brain(replace(SMALL, noise_hu=6.0, noise_kernel="soft"))
    for name, volume in stroke.truth.items():
        assert np.array_equal(volume.values, noisy.truth[name].values), name
    difference = noisy.series.values.astype(float) - stroke.series.values
    assert difference.std() == pytest.approx(6.0, rel=0.03)
    other = simulate_brain(replace(SMALL, seed=5))
    assert not np.array_equal(other.truth["cbf"].values, stroke.truth["cbf"].values)


def test_a_study_looks_like_a_head_to_a_scanner(stroke):
    baseline = stroke.series.values[0]
    tissue = stroke.mask("tissue")
    assert stroke.series.values.dtype == np.int16
    assert 25.0 < baseline[tissue].mean() < 40.0
    assert baseline.min() <= -950 and baseline.max() > 800
    assert 300.0 < stroke.numbers["tissue_ml"] < 900.0
    cbf = stroke.truth["cbf"].values[tissue & (stroke.truth["hemisphere"].values == 2)]
    assert 15.0 < np.percentile(cbf, 10) < np.percentile(cbf, 90) < 75.0


@pytest.mark.parametrize(("side", "number", "sign"), [("left", 1, 1.0), ("right", 2, -1.0)])
def test_the_lesion_lies_on_the_side_asked_for_and_left_is_plus_x(stroke, side, number, sign):
    study = stroke if side == "left" else simulate_brain(replace(SMALL, side=side))
    core = study.mask("core")
    assert study.numbers["volumes_ml"]["core"] > 10.0
    assert study.numbers["lesion_side"] == side
    assert study.lesions.reference_side == {"left": "right", "right": "left"}[side]
    x = study.geometry.to_lps(np.argwhere(core)[:, ::-1])[:, 0]
    assert np.all(sign * x > 0)
    assert np.mean(study.truth["hemisphere"].values[study.mask("hypoperfusion")] == number) > 0.98


def test_ischemia_fades_continuously_from_core_to_healthy_tissue(stroke):
    delay, mask = stroke.truth["delay"].values, stroke.mask("tissue")
    lesion = np.sort(delay[mask & (stroke.truth["hemisphere"].values == 1)])
    assert lesion[-1] > 8.0
    assert lesion[0] < 1.0
    assert np.diff(lesion[: lesion.size - 20]).max() < 0.15
    healthy = delay[mask & (stroke.truth["hemisphere"].values == 2)]
    assert healthy.min() >= 0.0 and np.percentile(healthy, 99) < 2.1
    core, penumbra = (np.median(stroke.truth["cbf"].values[stroke.mask(name)]) for name in ("core", "penumbra"))
    assert core < 0.5 * penumbra < 0.5 * np.median(stroke.truth["cbf"].values[mask])


def test_poor_collaterals_make_a_larger_core_than_good_ones():
    volumes = [simulate_brain(replace(SMALL, collaterals=grade)).numbers["volumes_ml"]["core"] for grade in ("good", "poor")]
    assert volumes[1] > 2.0 * volumes[0] + 10.0


def test_truth_maps_agree_with_the_noise_free_pixels():
    study = simulate_brain(replace(SMALL, frames=80, dt_s=2.0))
    values = study.series.values.astype(float)
    clean = study.mask("tissue") & (study.truth["artery_fraction"].values + study.truth["vein_fraction"].values < 1e-4)
    times, artery = study.series.times, study.options.bolus
    area = (values - values[0]).sum(axis=0)[clean] / (study.numbers["arterial_peak_hu"] / artery.peak * artery(times)).sum()
    # Whole HU limit a single voxel; the population does not lie.
    cbv = study.truth["cbv"].values[clean]
    assert np.polyfit(cbv, volume_scale() * area, 1)[0] == pytest.approx(1.0, abs=0.06)
    assert np.median(volume_scale() * area / cbv) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("peak", [16.0, 40.0, 150.0, 400.0])
def test_the_arterial_voxel_peak_arises_from_partial_volume_in_drawn_vessels(peak):
    study = simulate_brain(replace(SMALL, frames=20, dt_s=2.0, aif_peak_hu=peak))
    assert study.numbers["aif_voxel_peak_hu"] == pytest.approx(peak, rel=0.2)
    assert study.aif[1].max() > peak
    arterial = study.mask("arterial_voxels")
    assert arterial.sum() > 20
    enhancement = (study.series.values.max(axis=0) - study.series.values[0])[arterial]
    assert np.sort(enhancement)[-5:].mean() == pytest.approx(peak, rel=0.25)


def test_veins_enhance_after_arteries_and_lie_in_the_posterior_midline(stroke):
    vein = stroke.truth["vein_fraction"].values
    k, j, i = np.unravel_index(np.argmax(vein[-3:]), vein[-3:].shape)
    x, y, _ = stroke.geometry.to_lps([i, j, vein.shape[0] - 3 + k])
    assert abs(x) < 6.0 and abs(y) > 50.0
    lag = stroke.vof[0][np.argmax(stroke.vof[1])] - stroke.aif[0][np.argmax(stroke.aif[1])]
    assert 4.0 <= lag <= 9.4
    assert not np.any(stroke.mask("arterial_voxels") & stroke.mask("venous_voxels"))


def test_carotid_stenosis_delays_a_hemisphere_without_ischemia():
    study = simulate_brain(replace(SMALL, occlusion="none", carotid_stenosis="right", stenosis_delay_s=2.0))
    delay, tissue, side = study.truth["delay"].values, study.mask("tissue"), study.truth["hemisphere"].values
    assert 1.0 < np.median(delay[tissue & (side == 2)]) - np.median(delay[tissue & (side == 1)]) < 2.2
    assert study.numbers["volumes_ml"]["core"] == 0.0
    assert study.numbers["lesion_side"] is None


def test_an_old_infarct_is_a_cavity_without_flow_opposite_to_the_lesion(stroke):
    study = simulate_brain(replace(SMALL, chronic_infarct=True))
    gone = stroke.mask("tissue") & ~study.mask("tissue")
    assert gone.sum() * study.geometry.voxel_volume_ml > 3.0
    assert np.mean(study.geometry.to_lps(np.argwhere(gone)[:, ::-1])[:, 0] < 0) > 0.95
    assert study.series.values[0][gone].mean() < 22.0


def test_a_truncated_scan_keeps_the_truth_of_the_whole_one(stroke):
    study = simulate_brain(replace(SMALL, truncate_s=30.0))
    assert study.series.values.shape[0] == 21 and study.series.times[-1] == 30.0
    assert np.array_equal(study.series.values, stroke.series.values[:21])
    assert np.array_equal(study.truth["tmax"].values, stroke.truth["tmax"].values)


def test_each_slice_is_sampled_at_its_own_times(stroke):
    times, slabs = shuttle_times(SMALL).times, shuttle_times(SMALL).slabs
    study = simulate_brain(replace(SMALL, times=times, slabs=slabs))
    assert study.series.times.shape == (40, 8) and set(slabs) == {0, 1}
    alone = simulate_brain(replace(SMALL, times=times[:, 6]))
    late = np.abs(study.series.values[:, 6].astype(int) - alone.series.values[:, 6])
    assert late.max() <= 1
    assert np.abs(study.series.values[:, 6].astype(int) - stroke.series.values[:, 6]).max() > 10


def test_a_head_that_moves_by_one_pixel_shows_the_still_image_one_pixel_further(stroke):
    motion = np.zeros((40, 6))
    pixel = SMALL.fov_mm / SMALL.size[0]
    motion[20, 0], motion[25, 1], motion[30, 2], motion[35, 5] = pixel, -pixel, SMALL.slice_mm, 90.0
    study = simulate_brain(replace(SMALL, motion=motion))
    moved = study.series.values.astype(float)
    still = stroke.series.values.astype(float)
    # Interpolation between fine voxels blurs bone a little; brain is compared.
    brain = stroke.mask("tissue")
    inner = brain.copy()
    for axis in (1, 2):
        for shift in (-2, -1, 1, 2):
            inner &= np.roll(brain, shift, axis)

    def error(frame, shift):
        there = np.roll(still[frame], shift, (0, 1, 2))
        where = np.roll(inner, shift, (0, 1, 2))
        where[[0, -1]] = False
        return np.abs(moved[frame] - there)[where].mean()

    assert error(20, (0, 0, 1)) < 1.0 < error(20, (0, 0, 0))
    assert error(25, (0, -1, 0)) < 1.0 < error(25, (0, 1, 0))
    assert error(30, (1, 0, 0)) < 1.5 < error(30, (-1, 0, 0))
    assert np.array_equal(moved[10], still[10])
    # The truth is that of the resting head.
    assert np.array_equal(study.truth["tmax"].values, stroke.truth["tmax"].values)


def test_drifts_spare_the_baseline_and_jolts_come_back():
    rng = np.random.default_rng(0)
    drift, jolt = head_motion(rng, 40, drift_mm=2.0), head_motion(rng, 40, jolts=3, jolt_mm=4.0)
    assert not drift[:5].any() and np.abs(drift).max() == pytest.approx(2.0)
    assert np.count_nonzero(jolt.any(axis=1)) == 3


def test_sixty_random_heads_cover_what_the_robustness_test_asks_for():
    cases = [random_case(seed) for seed in range(60)]
    peaks = np.array([case.options.aif_peak_hu for case in cases])
    assert peaks.min() < 25.0 and peaks.max() > 200.0 and np.all((peaks >= 15.9) & (peaks <= 400.1))
    assert {case.options.side for case in cases} == {"left", "right"}
    assert {case.style for case in cases} == set(RANDOM_STYLES)
    assert 10 < sum(case.options.motion is not None for case in cases) < 50
    assert any(case.gantry_tilt_deg for case in cases)
    for case in cases:
        times = case.options.slice_times
        assert np.all(np.diff(times, axis=0) > 0)
        assert times.max() > case.options.bolus.peak_time_s + 30.0
    assert random_case(7).options.aif_peak_hu == random_case(7).options.aif_peak_hu


def test_a_scan_that_ends_before_the_bolus_has_no_lesion_to_find():
    study = simulate_brain(replace(SMALL, frames=3))
    assert study.series.values.shape[0] == 3
    assert study.numbers["volumes_ml"] == {"hypoperfusion": 0.0, "core": 0.0, "penumbra": 0.0}
    with pytest.raises(ValueError, match="no enhancement"):
        reference_maps(np.zeros(20), np.zeros((2, 20)))


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="occlusion is 'M9'"):
        BrainOptions(occlusion="M9")
    with pytest.raises(ValueError, match="does not fit 40 frames"):
        BrainOptions(motion=np.zeros((3, 6)))


def _needs(folder):
    return pytest.mark.skipif(not (DATA / folder).is_dir(), reason=f"{folder} is not here")


@_needs("brain_label_maps_synthseg")
def test_real_label_maps_become_perfused_heads_with_their_own_sinuses():
    study = simulate_brain(replace(SMALL, anatomy=DATA / "brain_label_maps_synthseg", frames=20, dt_s=2.5, side="right"))
    assert study.numbers["anatomy"].startswith("training_seg_")
    x = study.geometry.to_lps(np.argwhere(study.mask("hypoperfusion"))[:, ::-1])[:, 0]
    assert study.numbers["volumes_ml"]["hypoperfusion"] > 20.0 and np.mean(x < 0) > 0.98
    assert study.mask("venous_voxels").sum() > 20
    assert study.numbers["tissue_ml"] > 300.0


@_needs("head_ncct_ge_gantry_tilt")
@_needs("arterial_territories_and_stroke_lesions")
def test_a_real_tilted_head_scan_serves_as_baseline_and_a_drawn_lesion_as_core():
    lesion = DATA / "arterial_territories_and_stroke_lesions" / "bwsrsub-346_lesion.nii.gz"
    options = replace(SMALL, anatomy=DATA / "head_ncct_ge_gantry_tilt", lesions=lesion, slices=12, frames=20, dt_s=2.5)
    study = simulate_brain(options)
    assert study.numbers["lesion_side"] == "left" and study.numbers["lesion_mask_ml"] > 100.0
    assert study.numbers["volumes_ml"]["core"] > 25.0
    assert study.numbers["tissue_ml"] > 500.0
    baseline = study.series.values[0]
    assert 25.0 < np.median(baseline[study.mask("tissue")]) < 45.0
    # The midline found is the midline of the head: brain on both sides in like amounts.
    sides = study.truth["hemisphere"].values[study.mask("brain")]
    assert 0.8 < np.mean(sides == 1) / np.mean(sides == 2) < 1.25


def test_the_command_writes_a_study_with_its_truth_beside_it(tmp_path, capsys):
    out = tmp_path / "study"
    arguments = ["phantom", "brain", "--out_dir", str(out), "--size", "64", "--frames", "12", "--dt", "3", "--seed", "3", "--nifti"]
    assert main([*arguments, "--progress", "none"]) == 0
    assert "hypoperfusion" in capsys.readouterr().out
    truth = json.loads((out / "truth" / "truth.json").read_text())
    assert truth["lesion_side"] == "left" and truth["volumes_ml"]["hypoperfusion"] > 5.0
    for name in ("cbf", "tmax", "core", "hemisphere", "arterial_voxels"):
        assert (out / "truth" / f"{name}.nii.gz").is_file()
    with open(out / "truth" / "aif.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["time_s", "hu"] and max(float(row["hu"]) for row in rows) > 200.0
    assert (out / "series.nii.gz").is_file() and (out / "times.csv").is_file()
    assert main([*arguments, "--progress", "none"]) == 2
    assert "already holds a result" in capsys.readouterr().err


def test_the_command_writes_dicom_of_the_tile_phantom(tmp_path):
    out = tmp_path / "kudo"
    command = ["phantom", "kudo", "--out_dir", str(out), "--tile", "4", "--frames", "15", "--style", "ge", "--progress", "none"]
    assert main(command) == 0
    assert any((out / "dicom").rglob("*")) and (out / "truth" / "cbf.nii.gz").is_file()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--anatomy", "nowhere"], "does not exist"),
        (["--frames", "2"], "at least 8"),
        (["--frames", "99999999999"], "at most 1000"),
        (["--size", "100000"], "at most 1024"),
        (["--size", "1024", "--slices", "400", "--frames", "1000"], "billion voxels"),
        (["--texture", "9"], "at most 0.4"),
        (["--texture", "nan"], "at most 0.4"),
        (["--aif_peak", "5000"], "at most 1000 HU"),
        (["--arterial_peak", "1e9"], "at most 2000 HU"),
        (["--tilt", "80"], "at most 30 degrees"),
        (["--tilt", "-80"], "at least -30"),
        (["--dispersion", "inf"], "at most 5"),
        (["--dt", "0.001"], "at least 0.2"),
        (["--slice-mm", "900"], "at most 20 mm"),
        (["--noise", "1e9"], "at most 500 HU"),
        (["--motion", "1e9"], "at most 50 mm"),
        (["--jolts", "9999999999999999"], "at most 1000"),
        (["--truncate", "3"], "fewer than 8 frames"),
        (["--head-rotation", "0,90,0"], "60 degrees"),
        (["--head-rotation", "0,nan,0"], "finite"),
        (["--size", "8"], "at least 32"),
        (["--occlusion", "M9"], "invalid choice"),
        (["--noise", "-3"], "at least 0"),
    ],
)
def test_bad_requests_end_with_one_sentence_and_nothing_written(tmp_path, capsys, arguments, sentence):
    out = tmp_path / "study"
    assert main(["phantom", "brain", "--out_dir", str(out), "--progress", "none", *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert not out.exists()
