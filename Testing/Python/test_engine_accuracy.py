"""The engine on phantoms of known perfusion, given the true artery; and proof that these checks fail when something is wrong."""

from dataclasses import replace

import numpy as np
import pytest
from engine_truth import PerfusionField, agreement, coverage, kudo, kudo_maps, noise_free_shortcomings, noisy_shortcomings

from CTPerfusionSuiteLib.errors import Canceled, DataRefused, RequestRefused
from CTPerfusionSuiteLib.phantoms.bolus import ArterialBolus, GammaVariateBolus
from CTPerfusionSuiteLib.phantoms.forward_model import tissue_curve
from CTPerfusionSuiteLib.phantoms.reference_operator import operator_times, reference_maps
from CTPerfusionSuiteLib.tracer_kinetics import Hematocrit
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries
from PerfusionMapsLib.input_functions import InputFunction
from PerfusionMapsLib.perfusion_model import PerfusionModel
from PerfusionMapsLib.perfusion_options import Denoising, EngineOptions, Method
from PerfusionMapsLib.residue_dictionary import interpolate_input
from PerfusionMapsLib.tissue_maps import estimate_maps

BOLUS = ArterialBolus()
EXACT = EngineOptions(denoising=Denoising.NONE)


@pytest.fixture(scope="module")
def clean():
    return kudo(tile=2)


def curves_of(times, mtt, delay, residue="exponential", cbv=4.0, bolus=BOLUS):
    """Noise-free tissue curves (T, N) for all pairs of `mtt` and `delay`."""
    return np.stack([tissue_curve(bolus, times, 60 * cbv / m, m, d, residue) for m in mtt for d in delay], axis=1)


def test_without_noise_every_map_equals_the_truth(clean):
    assert noise_free_shortcomings(clean, kudo_maps(clean, EXACT)) == []


MISTAKES = (
    "seconds half too long",
    "artery one frame late",
    "no hematocrit and density",
    "rows and columns swapped",
    "left and right swapped",
)


def maps_with(mistake: str, phantom, options: EngineOptions):
    """What the engine makes of a phantom when something is wrong."""
    times = None
    if mistake == "seconds half too long":
        series, (at, hu) = phantom.series, phantom.aif
        phantom = replace(phantom, series=replace(series, times=1.5 * series.times), aif=(1.5 * at, hu))
    if mistake == "artery one frame late":
        times = phantom.aif[0] + 2.0
    if mistake == "no hematocrit and density":
        options = replace(options, hematocrit=Hematocrit(0.0, 0.0))
    maps = kudo_maps(phantom, options, times)
    if mistake == "rows and columns swapped":
        # The tiles form a rectangle: what was swapped is cut and padded to its shape.
        rows, columns = phantom.valid.shape[1:]
        turned = {name: values.transpose(0, 2, 1)[:, :rows, :columns] for name, values in maps.items()}
        return {name: np.pad(v, [(0, 0), (0, rows - v.shape[1]), (0, columns - v.shape[2])], mode="wrap") for name, v in turned.items()}
    return {name: values[:, :, ::-1] for name, values in maps.items()} if mistake == "left and right swapped" else maps


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_noise_free_check_notices_a_mistake(clean, mistake):
    assert noise_free_shortcomings(clean, maps_with(mistake, clean, EXACT))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_check_at_five_hu_notices_a_mistake(mistake):
    phantom = kudo(noise_hu=5.0, seed=5, tile=12)
    assert noisy_shortcomings(phantom, maps_with(mistake, phantom, EngineOptions()), "exponential")


@pytest.mark.parametrize("residue", ["exponential", "linear", "box"])
def test_at_five_hu_tiles_keep_their_flow_volume_transit_time_and_delay(residue):
    phantom = kudo(residue, noise_hu=5.0, seed=5)
    assert noisy_shortcomings(phantom, kudo_maps(phantom), residue) == []


def test_classical_deconvolution_does_worse_than_the_default_at_five_hu():
    phantom = kudo(noise_hu=5.0, seed=6)
    found = {method: agreement(phantom, kudo_maps(phantom, EngineOptions(method=method))) for method in Method}
    for method in (Method.BCSVD, Method.OSVD):
        assert found[method]["cbv"]["r"] > 0.98
        assert found[Method.BAYES]["cbf"]["mape"] < 0.5 * found[method]["cbf"]["mape"]
    assert found[Method.OSVD]["cbf"]["r"] > 0.9


@pytest.mark.parametrize(
    ("residue", "bolus", "kernel"),
    [
        ("exponential", BOLUS, "white"),
        ("linear", GammaVariateBolus(12.0, 3.0, 1.5, 465.0), "soft"),
        ("gamma", BOLUS, "soft"),
        ("lognormal", GammaVariateBolus(8.0, 4.0, 2.2, 300.0), "white"),
    ],
)
def test_intervals_hold_the_truth_as_often_as_they_say(residue, bolus, kernel):
    field = PerfusionField(residue, bolus, kernel=kernel, seed=3)
    maps = field.maps()
    for quantity in ("delay", "mtt", "cbf"):
        share, strata, width = coverage(maps, field.truth, quantity)
        assert 0.88 <= share <= 0.99, (quantity, share)
        assert min(strata) > 0.75, (quantity, strata)
        assert width > 0


@pytest.mark.parametrize("mistake", ["artery one frame late", "seconds half too long", "no hematocrit and density"])
def test_the_check_of_intervals_notices_a_mistake(mistake):
    field, options = PerfusionField("exponential", BOLUS, seed=3), EngineOptions()
    aif, times = field.aif, field.series.times
    if mistake == "artery one frame late":
        field.aif = InputFunction(times + 1.5, aif.hu, source="csv")
    if mistake == "seconds half too long":
        field.aif, field.series = InputFunction(1.5 * times, aif.hu, source="csv"), replace(field.series, times=1.5 * times)
    if mistake == "no hematocrit and density":
        options = EngineOptions(hematocrit=Hematocrit(0.0, 0.0))
    maps = field.maps(options)
    assert min(coverage(maps, field.truth, quantity)[0] for quantity in ("delay", "mtt", "cbf")) < 0.8


def test_a_map_lies_within_its_own_interval():
    maps = PerfusionField("exponential", BOLUS, seed=4).maps()
    for quantity in ("cbf", "mtt", "delay"):
        inside = (maps[f"{quantity}_p025"] <= maps[quantity]) & (maps[quantity] <= maps[f"{quantity}_p975"])
        assert inside.mean() > 0.99
        assert (maps[f"{quantity}_sd"] > 0).all()


def test_transit_time_is_always_volume_over_flow():
    maps = PerfusionField("linear", BOLUS, seed=4).maps()
    assert np.allclose(maps["mtt"] * maps["cbf"], 60 * maps["cbv"], rtol=1e-4)


@pytest.mark.parametrize("step", [1.0, 2.5])
@pytest.mark.parametrize("residue", ["exponential", "gamma", "lognormal", "linear"])
def test_threshold_maps_do_not_depend_on_the_engine(residue, step):
    times = np.arange(0.0, 60.0, step)
    curves = curves_of(times, (3.0, 5.0, 9.0, 18.0), (0.0, 0.7, 3.3, 10.0), residue)
    grid = operator_times(times[-1])
    reference = reference_maps(BOLUS(grid), curves_of(grid, (3.0, 5.0, 9.0, 18.0), (0.0, 0.7, 3.3, 10.0), residue).T)
    normal = np.median(reference.cbf)
    fits = {m: PerfusionModel(times, times, BOLUS(times), EngineOptions(method=m)).fit(35 + curves, noise=0.02) for m in Method}
    for fit in fits.values():
        assert np.abs(fit.tmax - reference.tmax).max() < 0.3
        assert np.abs(fit.operator_cbf - reference.cbf).max() / normal < 0.03
    a, b = fits[Method.BAYES], fits[Method.BCSVD]
    assert np.abs(a.tmax - b.tmax).max() < 0.3
    assert np.abs(a.operator_cbf - b.operator_cbf).max() / normal < 0.03


@pytest.mark.parametrize("mistake", ["artery one frame late", "seconds half too long"])
def test_the_check_of_the_threshold_scale_notices_a_mistake(mistake):
    times = 1.5 * np.arange(40)
    curves, grid = curves_of(times, (3.0, 9.0), (0.7, 3.3)), operator_times(times[-1])
    reference = reference_maps(BOLUS(grid), curves_of(grid, (3.0, 9.0), (0.7, 3.3)).T)
    late = times + 1.5 if mistake == "artery one frame late" else 1.5 * times
    scanned = 1.5 * times if mistake == "seconds half too long" else times
    assert np.abs(PerfusionModel(scanned, late, BOLUS(times)).fit(35 + curves, noise=0.02).tmax - reference.tmax).max() > 0.3


def test_any_constant_baseline_gives_the_same_maps():
    times = 1.5 * np.arange(40)
    curves = curves_of(times, (4.0, 9.0), (0.0, 5.0))
    model = PerfusionModel(times, times, BOLUS(times))
    here, there = model.fit(curves + 20, noise=0.5), model.fit(curves + np.array([-200.0, 35.0, 60.0, 1000.0]), noise=0.5)
    for name, values in here.maps().items():
        assert np.allclose(values, there.maps()[name], rtol=2e-3, atol=2e-3), name


def test_slices_scanned_at_different_times_agree_though_no_curve_is_interpolated():
    times = 1.6 * np.arange(36)[:, None] + np.array([0.0, 0.5, 0.8, 1.3])
    values = np.stack([35 + curves_of(t, (4.0, 9.0), (1.0, 6.0)) for t in times.T], axis=1).reshape(36, 4, 2, 2)
    series = TimeSeries(values.astype(np.float32), Geometry((2, 2, 4)), times)
    everywhere = np.ones((4, 2, 2), bool)
    aif_times = 1.5 * np.arange(40)
    maps = estimate_maps(series, everywhere, everywhere, InputFunction(aif_times, BOLUS(aif_times)), EXACT)
    for name, tolerance in (("cbf", 0.03), ("cbv", 0.03), ("tmax", 0.02), ("operator_cbf", 0.02)):
        assert np.ptp(maps[name], axis=0).max() < tolerance * max(1.0, float(maps[name].max())), name
    assert np.allclose(maps["delay"].reshape(4, 4), [1.0, 6.0, 1.0, 6.0], atol=0.1)


def test_results_do_not_depend_on_the_number_of_threads():
    field = PerfusionField("exponential", BOLUS, seed=9, pixels=48)
    one, two = (field.maps(EngineOptions(threads=n)) for n in (1, 2))
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_a_stop_of_the_scan_widens_the_intervals_but_keeps_the_estimates():
    whole = 1.5 * np.arange(40)
    short = whole[:22]
    fits = [PerfusionModel(t, t, BOLUS(t)).fit(35 + curves_of(t, (4.0, 10.0), (3.0,)), noise=0.7) for t in (whole, short)]
    assert np.allclose(fits[1].cbf, fits[0].cbf, rtol=0.3)
    assert (fits[1].mtt_p975 - fits[1].mtt_p025 > fits[0].mtt_p975 - fits[0].mtt_p025).all()


def test_time_to_peak_counts_from_the_arrival_in_the_artery():
    times = 1.5 * np.arange(40)
    fit = PerfusionModel(times, times, BOLUS(times)).fit(35 + curves_of(times, (4.0,), (0.0, 6.0)), noise=0.1)
    assert fit.ttp[1] - fit.ttp[0] == pytest.approx(6.0, abs=0.3)
    assert 3.0 < fit.ttp[0] < 20.0


@pytest.mark.parametrize("method", Method)
def test_voxels_without_a_bolus_give_finite_numbers(method):
    times = 1.5 * np.arange(30)
    strange = np.zeros((30, 5))
    strange[:, 1] = -500.0
    strange[:, 2] = -BOLUS(times)
    strange[:, 3] = BOLUS(times)
    strange[:, 4] = 3000.0 * (times > 20)
    for name, values in PerfusionModel(times, times, BOLUS(times), EngineOptions(method=method)).fit(strange).maps().items():
        assert values.dtype == np.float32 and np.isfinite(values).all(), name


def test_a_narrow_bolus_is_interpolated_far_better_than_by_lines():
    bolus = GammaVariateBolus(12.0, 3.0, 1.5, 465.0)
    fine = np.arange(0.0, 58.0, 0.1)
    for start in (0.0, 0.7, 1.4):
        times = np.arange(start, 59.0, 2.0)
        error = np.abs(interpolate_input(times, bolus(times), fine) - bolus(fine)).max()
        assert error < 0.2 * np.abs(np.interp(fine, times, bolus(times)) - bolus(fine)).max()


def test_too_few_frames_a_flat_artery_and_foreign_masks_are_refused():
    times = 1.5 * np.arange(40)
    with pytest.raises(DataRefused, match="6 time points"):
        PerfusionModel(times[:6], times, BOLUS(times))
    with pytest.raises(DataRefused, match="never rises"):
        PerfusionModel(times, times, np.zeros(40))
    with pytest.raises(DataRefused, match="do not increase"):
        PerfusionModel(times[::-1], times, BOLUS(times))
    field = PerfusionField("exponential", BOLUS, pixels=16)
    with pytest.raises(RequestRefused, match="do not fit"):
        estimate_maps(field.series, np.ones((1, 4, 4), bool), np.ones((1, 4, 4), bool), field.aif)


def test_canceling_stops_the_work():
    field = PerfusionField("exponential", BOLUS, pixels=32)

    def stop(fraction):
        raise Canceled("stopped")

    everywhere = np.ones(field.series.geometry.shape, bool)
    with pytest.raises(Canceled):
        estimate_maps(field.series, everywhere, everywhere, field.aif, EngineOptions(), stop)
