"""Artery and vein are found by themselves, in the places and at the times where blood really is."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from plain_head import PlainHead, plain_study
from scipy import ndimage

from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.phantoms.brain import BrainOptions, simulate_brain
from CTPerfusionSuiteLib.tracer_kinetics import gamma_variate
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries, Volume
from PerfusionMapsLib.arterial_input import find_arteries
from PerfusionMapsLib.bolus_arrival import baseline_mean, find_bolus, frame_mean, noise_floor
from PerfusionMapsLib.brain_mask import brain_mask, intracranial_space
from PerfusionMapsLib.input_functions import InputFunction
from PerfusionMapsLib.midsagittal_plane import estimate_midsagittal
from PerfusionMapsLib.venous_output import find_vein, first_pass_fit, vein_scaling
from PerfusionMapsLib.venous_sinuses import find_sinuses
from PerfusionMapsLib.vessel_candidates import vessel_candidates


def vessels(series):
    """Bolus, arteries and veins of a series, as the pipeline finds them."""
    bolus = find_bolus(series)
    baseline, mean = (Volume(image, series.geometry) for image in (baseline_mean(series, bolus), frame_mean(series.values)))
    inside = intracranial_space(brain_mask(baseline, mean), series.geometry)
    candidates = vessel_candidates(series, bolus, inside, threads=1)
    arteries = find_arteries(series, bolus, inside, threads=1, candidates=candidates)
    return bolus, arteries, find_vein(series, bolus, inside, arteries[0], threads=1, candidates=candidates)


def at(mask, curve):
    """Values of an array (K, J, I) at a curve's voxels."""
    return mask[tuple(curve.voxels[:, ::-1].T)]


@cache
def study(seed, peak, side="left", **options):
    return simulate_brain(BrainOptions(size=(88, 88), slices=6, frames=36, dt_s=1.5, seed=seed, side=side, aif_peak_hu=peak, **options))


@cache
def found(seed, peak, side="left", **options):
    return vessels(study(seed, peak, side, **options).series)


HEADS = [(1, 300.0, "left"), (2, 90.0, "right"), (4, 28.0, "right")]


@pytest.mark.parametrize(("seed", "peak", "side"), HEADS)
def test_every_voxel_of_the_artery_is_arterial_from_bright_to_hardly_visible(seed, peak, side):
    _, arteries, _ = found(seed, peak, side, noise_hu=4.0)
    assert at(study(seed, peak, side, noise_hu=4.0).mask("arterial_voxels"), arteries[0]).all()


@pytest.mark.parametrize(("seed", "peak", "side"), HEADS)
def test_every_voxel_of_the_vein_is_venous(seed, peak, side):
    _, _, veins = found(seed, peak, side, noise_hu=4.0)
    assert at(study(seed, peak, side, noise_hu=4.0).mask("venous_voxels"), veins[0]).all()


@pytest.mark.parametrize(("seed", "peak", "side"), HEADS)
def test_the_baseline_ends_before_the_contrast_arrives(seed, peak, side):
    truth = study(seed, peak, side, noise_hu=4.0)
    bolus = found(seed, peak, side, noise_hu=4.0)[0]
    last = truth.series.slice_times[bolus.baseline_frames[-1]].max()
    assert np.interp(last, *truth.aif) < 0.10 * truth.aif[1].max()
    assert len(bolus.baseline_frames) >= 2


def lag_s(curve, times, hu):
    """How much later than the blood (times, hu) a measured curve runs, by least squares over lags of a tenth of a second."""
    lags = np.arange(-4.0, 4.05, 0.1)
    shapes = np.stack([np.interp(curve.times - lag, times, hu) for lag in lags])
    scale = shapes @ curve.hu / np.einsum("lt,lt->l", shapes, shapes)
    return lags[np.argmin(((curve.hu - scale[:, None] * shapes) ** 2).sum(axis=1))]


@pytest.mark.parametrize(("seed", "peak", "side"), HEADS)
def test_the_artery_is_not_late_against_the_blood_that_enters_the_head(seed, peak, side):
    truth = study(seed, peak, side, noise_hu=4.0)
    artery = found(seed, peak, side, noise_hu=4.0)[1][0]
    assert abs(lag_s(artery, *truth.aif)) < 1.0
    assert abs(lag_s(replace(artery, times=artery.times + 1.5), *truth.aif)) > 0.75, "a curve one frame late must stand out"


def test_candidates_lie_in_different_places_with_the_best_first():
    arteries = found(1, 300.0, "left", noise_hu=4.0)[1]
    assert len(arteries) >= 2
    assert all(first.score >= second.score for first, second in zip(arteries, arteries[1:], strict=False))
    places = np.array([curve.lps.mean(axis=0) for curve in arteries])
    gaps = np.linalg.norm(places[:, None] - places[None], axis=-1)[np.triu_indices(len(places), 1)]
    assert gaps.min() > 5.0


def test_curves_are_in_hu_above_baseline_with_their_voxels_and_positions():
    truth = study(1, 300.0, noise_hu=4.0)
    bolus, arteries, _ = found(1, 300.0, "left", noise_hu=4.0)
    curve = arteries[0]
    own = truth.series.values[:, curve.voxels[:, 2], curve.voxels[:, 1], curve.voxels[:, 0]].mean(axis=1)
    level = own[list(bolus.baseline_frames)].mean()
    assert np.allclose(curve.hu, own - level, atol=2.5)
    assert np.allclose(truth.geometry.to_lps(curve.voxels), curve.lps)


PLAIN = {
    "strong": PlainHead(seed=1),
    "thin vessels": PlainHead(seed=2, dilution=0.25, noise_hu=6.0),
    "zero outside": PlainHead(seed=3, background_hu=0.0, scalp=False, dilution=0.5),
    "shuttle": PlainHead(seed=4, shuttle=True, dt_s=2.6, frames=24, dilution=0.6),
    "slow and noisy": PlainHead(seed=5, dt_s=2.8, frames=22, noise_hu=9.0, dilution=0.5, lesion_side=-1),
    "fast sampling": PlainHead(seed=6, dt_s=0.8, frames=66, noise_hu=8.0, slices=4, dilution=0.6),
    "weak injection": PlainHead(seed=7, artery_hu=150.0, dilution=0.5, lesion_side=-1),
    "narrow bolus": PlainHead(seed=8, width_s=5.0, dilution=0.4),
    "wide bolus": PlainHead(seed=9, width_s=14.0, dilution=0.4, frames=46),
}


@cache
def plain(name):
    drawn = plain_study(PLAIN[name])
    return drawn, vessels(drawn.series)


@pytest.mark.parametrize("name", PLAIN)
def test_a_head_of_plain_ellipses_gives_a_healthy_artery_and_the_sagittal_sinus(name):
    drawn, (_, arteries, veins) = plain(name)
    assert (at(drawn.artery, arteries[0]) > 0.05).all()
    assert (at(drawn.healthy_artery, arteries[0]) > 0.05).all(), "the delayed artery of the lesion's side was taken"
    assert (at(drawn.vein, veins[0]) > 0.2).all()


def test_the_artery_keeps_the_times_of_its_own_slice_in_a_shuttle_scan():
    drawn, (_, arteries, _) = plain("shuttle")
    for curve in arteries:
        for k in np.unique(curve.voxels[:, 2]):
            assert np.allclose(curve.times, drawn.series.slice_times[:, k])


def test_the_array_may_run_in_any_direction():
    drawn, (_, arteries, _) = plain("strong")
    series = drawn.series
    g = series.geometry
    flipped = Geometry(g.size, g.spacing, g.to_lps([g.size[0] - 1, g.size[1] - 1, 0]), ((-1, 0, 0), (0, -1, 0), (0, 0, 1)))
    turned = TimeSeries(series.values[:, :, ::-1, ::-1].copy(), flipped, series.times)
    _, again, veins = vessels(turned)
    assert np.linalg.norm(again[0].lps.mean(axis=0) - arteries[0].lps.mean(axis=0)) < 6.0
    assert (at(drawn.vein[:, ::-1, ::-1], veins[0]) > 0.2).all()


def test_edges_of_bone_that_move_are_no_artery():
    drawn = plain_study(PlainHead(seed=11, dilution=0.4))
    drift = 0.5 * np.clip((np.arange(40) - 8) / 6.0, 0.0, 1.0)
    values = np.stack(
        [
            ndimage.shift(frame.astype(np.float32), (0, by, -by), order=1, mode="nearest")
            for frame, by in zip(drawn.series.values, drift, strict=True)
        ]
    )
    _, arteries, veins = vessels(drawn.series.with_values(np.rint(values).astype(np.int16)))
    assert (at(drawn.artery, arteries[0]) > 0.05).all()
    assert (at(drawn.vein, veins[0]) > 0.2).all()


def test_a_head_without_any_artery_in_view_is_refused_rather_than_given_a_vein():
    drawn = plain_study(PlainHead(seed=12))
    series = drawn.series
    top = slice(6, 8)
    bare = drawn.artery[top].max() > 0.02
    geometry = Geometry((128, 128, 2), series.geometry.spacing, series.geometry.to_lps([0, 0, 6]), series.geometry.direction)
    values = series.values[:, top].copy()
    if bare:
        values[:, drawn.artery[top] > 0.01] = 30
    with pytest.raises(DataRefused, match="artery"):
        vessels(TimeSeries(values, geometry, series.times))


def test_noise_alone_is_no_bolus():
    drawn, _ = plain("strong")
    still = np.repeat(drawn.series.values[:1].astype(np.float32), 40, axis=0)
    still += np.random.default_rng(0).normal(0, 5, still.shape)
    with pytest.raises(DataRefused, match="No contrast bolus"):
        find_bolus(TimeSeries(np.rint(still).astype(np.int16), drawn.series.geometry, drawn.series.times))


def test_a_drift_of_the_whole_image_is_no_bolus():
    drawn, _ = plain("strong")
    still = np.repeat(drawn.series.values[:1].astype(np.float32), 40, axis=0)
    still += np.random.default_rng(0).normal(0, 5, still.shape) + np.linspace(0, 6, 40)[:, None, None, None]
    with pytest.raises(DataRefused, match="No contrast bolus"):
        find_bolus(TimeSeries(np.rint(still).astype(np.int16), drawn.series.geometry, drawn.series.times))


@pytest.mark.parametrize("frames", [8, 9, 10])
def test_a_scan_that_ends_before_the_arteries_peak_is_refused(frames):
    drawn, _ = plain("strong")
    with pytest.raises(DataRefused):
        find_bolus(TimeSeries(drawn.series.values[:frames], drawn.series.geometry, drawn.series.times[:frames]))


def test_a_scan_that_begins_after_the_bolus_is_refused():
    drawn, _ = plain("strong")
    with pytest.raises(DataRefused):
        find_bolus(TimeSeries(drawn.series.values[14:], drawn.series.geometry, drawn.series.times[14:] - drawn.series.times[14]))


def test_the_noise_floor_is_the_noise_of_one_frame():
    drawn, (bolus, _, _) = plain("slow and noisy")
    floor = noise_floor(drawn.series, bolus)
    assert floor.shape == drawn.series.geometry.shape
    assert np.median(floor[drawn.brain]) == pytest.approx(9.0, rel=0.1)


def curve(peak, arrival, width=9.0, end=60.0, noise=0.0, seed=0):
    times = np.arange(0.0, end, 1.5)
    hu = gamma_variate(times, arrival, 4.0, width / 4.7, peak) + np.random.default_rng(seed).normal(0, 1, times.size) * noise
    return InputFunction(times, hu)


def test_the_artery_is_scaled_up_to_the_area_of_the_vein():
    scaling = vein_scaling(curve(60.0, 8.0), curve(200.0, 13.0), 60.0)
    assert scaling.factor == pytest.approx(200 / 60, rel=0.02)
    assert scaling.used and scaling.absolute_calibrated and not scaling.truncated


def test_a_large_dilution_is_not_capped():
    assert vein_scaling(curve(20.0, 8.0), curve(200.0, 13.0), 60.0).factor == pytest.approx(10.0, rel=0.02)


def test_the_artery_is_never_scaled_down():
    scaling = vein_scaling(curve(300.0, 8.0), curve(200.0, 13.0), 60.0)
    assert scaling.factor == 1.0 and scaling.absolute_calibrated


def test_a_truncated_vein_is_used_through_its_first_pass_when_half_a_width_of_its_fall_is_seen():
    end = 29.5
    scaling = vein_scaling(curve(60.0, 8.0, end=end), curve(200.0, 13.0, width=11.0, end=end), end)
    assert scaling.truncated and scaling.used and scaling.absolute_calibrated
    assert scaling.factor == pytest.approx(200 * 11 / (60 * 9), rel=0.1)


def test_a_vein_that_is_cut_at_its_peak_leaves_absolute_values_uncalibrated():
    end = 22.0
    scaling = vein_scaling(curve(60.0, 8.0, end=end), curve(200.0, 13.0, end=end), end)
    assert scaling.factor == 1.0 and not scaling.used and not scaling.absolute_calibrated and scaling.truncated


def test_without_a_vein_absolute_values_are_uncalibrated():
    scaling = vein_scaling(curve(60.0, 8.0), None, 60.0)
    assert scaling.factor == 1.0 and not scaling.used and not scaling.absolute_calibrated


def test_the_scaling_of_a_noisy_artery_is_steady():
    factors = [
        vein_scaling(curve(30.0, 8.0, noise=4.0, seed=seed), curve(200.0, 13.0, noise=3.0, seed=90 + seed), 60.0).factor
        for seed in range(12)
    ]
    assert np.median(factors) == pytest.approx(200 / 30, rel=0.12)
    assert np.std(np.log(factors)) < 0.25


def test_a_first_pass_is_fitted_under_recirculation():
    times = np.arange(0.0, 60.0, 1.0)
    first = gamma_variate(times, 8.0, 4.0, 2.0, 200.0)
    fit = first_pass_fit(InputFunction(times, first + gamma_variate(times, 24.0, 4.0, 4.0, 25.0)))
    assert fit.area == pytest.approx(np.trapezoid(first, times), rel=0.05)
    assert fit.peak_s == pytest.approx(16.0, abs=0.5)


def test_the_sagittal_sinus_is_grown_from_the_vein_and_a_torcula_below_the_scan_is_not_invented():
    truth = study(1, 300.0, noise_hu=4.0)
    bolus, _, veins = found(1, 300.0, "left", noise_hu=4.0)
    mean = Volume(frame_mean(truth.series.values), truth.geometry)
    brain = brain_mask(Volume(baseline_mean(truth.series, bolus), truth.geometry), mean)
    plane, space = estimate_midsagittal(mean, brain), intracranial_space(brain, truth.geometry)
    sinuses = find_sinuses(truth.series, bolus, veins[0], plane, space)
    share = truth.truth["vein_fraction"].values
    assert sinuses.superior_sagittal_status == "found"
    assert (share[sinuses.superior_sagittal] > 0.2).mean() > 0.9
    cut = find_sinuses(truth.series, bolus, veins[0], plane, space, truncated=True)
    assert cut.superior_sagittal is None and cut.torcula is None and cut.torcula_status == "truncated"
    assert find_sinuses(truth.series, bolus, None, plane, space).superior_sagittal_status == "not covered"


def test_a_scan_reaching_down_to_the_torcula_finds_it():
    truth = simulate_brain(BrainOptions(size=(88, 88), slices=12, frames=34, dt_s=1.5, seed=5, bottom_mm=-42.0, noise_hu=4.0))
    bolus, _, veins = vessels(truth.series)
    mean = Volume(frame_mean(truth.series.values), truth.geometry)
    brain = brain_mask(Volume(baseline_mean(truth.series, bolus), truth.geometry), mean)
    sinuses = find_sinuses(truth.series, bolus, veins[0], estimate_midsagittal(mean, brain), intracranial_space(brain, truth.geometry))
    assert sinuses.torcula_status == "found" and sinuses.superior_sagittal_status == "found"
    share, z = truth.truth["vein_fraction"].values, truth.geometry.to_lps(np.argwhere(sinuses.torcula)[:, ::-1])[:, 2]
    assert (share[sinuses.torcula] > 0.2).mean() > 0.8
    above = truth.geometry.to_lps(np.argwhere(sinuses.superior_sagittal)[:, ::-1])[:, 2]
    assert z.mean() < above.mean() - 15.0


def test_swapping_early_and_late_would_be_noticed():
    drawn, (bolus, _, _) = plain("strong")
    backwards = replace(drawn.series, values=drawn.series.values[::-1].copy())
    try:
        _, arteries, _ = vessels(backwards)
    except DataRefused:
        return
    assert not (at(drawn.artery, arteries[0]) > 0.05).all()


def test_a_frame_that_is_brighter_as_a_whole_is_named_and_a_steady_scan_names_none():
    series = simulate_brain(BrainOptions(size=(96, 96), slices=4, frames=36, noise_hu=6.0, seed=4)).series
    assert not [note for note in find_bolus(series).notes if note[0] == "frame_offset"]
    flash = series.values.copy()
    flash[17] += 3
    (note,) = [note for note in find_bolus(replace(series, values=flash)).notes if note[0] == "frame_offset"]
    assert "Frame 18 as a whole differs by +3" in note[1] and "--exclude_frames 18" in note[1]
