"""The simulators' physics against closed forms and direct integration, and their truth against its definitions."""

import numpy as np
import pytest
from scipy.integrate import quad

from CTPerfusionSuiteLib.phantoms.bolus import ArterialBolus, sample_bolus
from CTPerfusionSuiteLib.phantoms.forward_model import (
    RESIDUES,
    CurveTable,
    DenseGrid,
    dispersed_bolus,
    residue,
    residue_integral,
    tissue_curve,
)
from CTPerfusionSuiteLib.phantoms.kudo import KUDO_BOLUS, KUDO_DELAY_S, KUDO_MTT_S, kudo_phantom
from CTPerfusionSuiteLib.phantoms.noise import KERNELS, ct_noise
from CTPerfusionSuiteLib.phantoms.reference_operator import OPERATOR_STEP_S, operator_times, reference_maps, resample
from CTPerfusionSuiteLib.phantoms.truth_lesions import truth_lesions
from CTPerfusionSuiteLib.tracer_kinetics import Hematocrit, flow_scale, volume_scale


@pytest.mark.parametrize("shape", RESIDUES)
def test_a_residue_starts_at_one_and_its_area_is_the_mean_transit_time(shape):
    times = np.linspace(0.0, 300.0, 600001)
    values = residue(shape, times, 6.0)
    assert values[0] == pytest.approx(1.0, abs=1e-6)
    assert np.all(np.diff(values) <= 1e-12)
    assert residue(shape, -0.1, 6.0) == 0.0
    assert np.trapezoid(values, times) == pytest.approx(6.0, rel=2e-4)
    running = np.concatenate([[0.0], np.cumsum((values[1:] + values[:-1]) / 2.0 * np.diff(times))])
    assert np.abs(running - residue_integral(shape, times, 6.0)).max() < 6e-4


@pytest.mark.parametrize("shape", RESIDUES)
def test_a_tissue_curve_is_the_convolution_integral_of_the_definition(shape):
    times, cbf, mtt, delay = np.array([14.0, 17.3, 20.0, 26.0, 41.0]), 37.0, 4.8, 0.7

    def integral(t):
        last = max(t - delay - KUDO_BOLUS.arrival, 1e-9)
        edge = [min(mtt, last)]
        return quad(lambda u: float(KUDO_BOLUS(t - delay - u)) * float(residue(shape, u, mtt)), 0, last, points=edge, limit=400)[0]

    kappa = 0.55 / 0.75
    expected = 1.05 * (cbf / 6000.0) / kappa * np.array([integral(t) for t in times])
    found = tissue_curve(KUDO_BOLUS, times, cbf, mtt, delay, shape)
    assert np.abs(found - expected).max() < 1e-4 * expected.max()


def test_blood_volume_comes_back_from_the_areas():
    times = np.arange(0.0, 400.0, 0.25)
    curve = tissue_curve(KUDO_BOLUS, times, 30.0, 8.0, 2.0, "gamma", dispersion=2.0)
    ratio = np.trapezoid(curve, times) / np.trapezoid(KUDO_BOLUS(times), times)
    assert volume_scale() * ratio == pytest.approx(30.0 * 8.0 / 60.0, rel=1e-3)
    assert volume_scale(Hematocrit(0.0, 0.0)) * ratio != pytest.approx(4.0, rel=0.05)


def test_dispersion_keeps_the_area_delays_the_mean_and_lowers_the_peak():
    grid = DenseGrid.covering(-25.0, 200.0)
    plain, dispersed = KUDO_BOLUS(grid.times), dispersed_bolus(KUDO_BOLUS, grid, 1.5, 3.0)
    assert dispersed.sum() == pytest.approx(plain.sum(), rel=1e-3)
    centers = [(grid.times * curve).sum() / curve.sum() for curve in (plain, dispersed)]
    assert centers[1] - centers[0] == pytest.approx(4.5, abs=0.03)
    assert dispersed.max() < 0.8 * plain.max()


@pytest.mark.parametrize(("shape", "ratio"), [("exponential", 0.0), ("box", 0.0), ("lognormal", 0.25)])
def test_tabulated_curves_stay_within_a_tenth_of_a_hounsfield_unit_of_direct_convolution(shape, ratio):
    rng = np.random.default_rng(1)
    bolus = ArterialBolus(peak=420.0)
    table = CurveTable.build(bolus, 60.0, shape, ratio)
    mtt, delay, cbf = np.exp(rng.uniform(np.log(2.5), np.log(40.0), 60)), rng.uniform(0.0, 14.0, 60), rng.uniform(2.0, 70.0, 60)
    cbf = np.minimum(cbf, 60.0 * 5.0 / mtt)
    times = np.arange(0.0, 60.0, 1.37)
    found = table.project(cbf / flow_scale(), mtt, delay) @ table.at(times)
    for n in range(60):
        dispersion = ratio * max(delay[n] - 1.0, 0.0)
        assert np.abs(found[n] - tissue_curve(bolus, times, cbf[n], mtt[n], delay[n], shape, dispersion)).max() < 0.1


def test_boluses_drawn_from_measured_percentiles_have_a_baseline_and_the_peak_asked_for():
    rng = np.random.default_rng(2)
    times = np.arange(0.0, 80.0, 0.05)
    widths = []
    for _ in range(60):
        bolus = sample_bolus(rng, 250.0)
        curve = bolus(times)
        assert curve.max() == pytest.approx(250.0, rel=0.01)
        assert np.all(curve[times < 4.0] == 0.0)
        widths.append(np.ptp(times[curve > 125.0]))
    assert 9.0 < np.median(widths) < 14.0


def test_the_reference_operator_is_the_truncated_circulant_inverse():
    times = operator_times(60.0)
    aif = KUDO_BOLUS(times)
    curve = tissue_curve(KUDO_BOLUS, times, 40.0, 6.0, 1.3)
    # The singular values of a circulant matrix are the magnitudes of its spectrum.
    length = 2 * times.size
    spectrum = np.fft.fft(aif, length) * OPERATOR_STEP_S
    kept = np.abs(spectrum) >= 0.1 * np.abs(spectrum).max()
    k = np.fft.ifft(np.where(kept, np.fft.fft(curve, length) / np.where(kept, spectrum, 1.0), 0.0)).real
    maps = reference_maps(aif, curve[None])
    assert maps.cbf[0] == pytest.approx(flow_scale() * k.max(), rel=2e-3)
    assert abs(maps.tmax[0] - OPERATOR_STEP_S * np.argmax(k)) <= OPERATOR_STEP_S / 2 + 1e-6


def test_tmax_follows_the_delay_second_by_second_and_goes_negative_for_early_tissue():
    times = operator_times(70.0)
    delays = np.array([-2.0, 0.0, 0.37, 1.0, 3.3, 6.0, 10.0])
    curves = np.stack([tissue_curve(KUDO_BOLUS, times, 30.0, 4.0, d) for d in delays])
    maps = reference_maps(KUDO_BOLUS(times), curves)
    assert np.allclose(maps.tmax - delays, 1.89, atol=0.05)
    assert maps.tmax[0] < 0
    assert np.ptp(maps.cbf) < 0.01 * maps.cbf.mean()
    # A wrong clock is noticed: the same curves with the artery one second late.
    late = reference_maps(KUDO_BOLUS(times - 1.0), curves)
    assert np.allclose(late.tmax - maps.tmax, -1.0, atol=0.05)


def test_sampled_curves_give_the_same_operator_maps_after_resampling():
    frames = np.arange(0.0, 60.0, 1.0)
    grid = operator_times(59.0)
    bolus = ArterialBolus()
    exact = np.stack([tissue_curve(bolus, grid, 30.0, m, d) for m, d in ((4.0, 1.0), (9.0, 5.0))])
    sampled = np.stack([tissue_curve(bolus, frames, 30.0, m, d) for m, d in ((4.0, 1.0), (9.0, 5.0))])
    a, b = reference_maps(bolus(grid), exact), reference_maps(bolus(grid), resample(frames, sampled))
    assert np.abs(a.tmax - b.tmax).max() < 0.1
    assert np.abs(a.cbf / b.cbf - 1.0).max() < 0.02


def _maps_with_lesion():
    shape = (4, 40, 40)
    tissue = np.ones(shape, bool)
    hemisphere = np.where(np.arange(40) < 20, 2, 1) * np.ones(shape, int)
    tmax, cbf = np.full(shape, 2.0), np.full(shape, 40.0)
    cbf[hemisphere == 1] = 30.0
    tmax[:, 5:20, 22:36], cbf[:, 5:20, 22:36] = 8.0, 20.0
    cbf[:, 8:14, 25:32] = 11.0
    tmax[0, 38, 3] = 9.0
    return tmax, cbf, tissue, hemisphere


def test_truth_lesions_use_the_unaffected_side_and_drop_clusters_under_one_milliliter():
    tmax, cbf, tissue, hemisphere = _maps_with_lesion()
    found = truth_lesions(tmax, cbf, tissue, hemisphere, 0.05)
    assert found.reference_side == "right"
    assert found.reference_cbf == 40.0
    assert found.volumes_ml["hypoperfusion"] == pytest.approx(4 * 15 * 14 * 0.05)
    assert found.volumes_ml["core"] == pytest.approx(4 * 6 * 7 * 0.05)
    assert not found.hypoperfusion[0, 38, 3]
    # With the sides swapped the reference would come from the lesion side, and the core would be gone.
    assert truth_lesions(tmax, cbf, tissue, 3 - hemisphere, 0.05).reference_side == "left"
    cbf[hemisphere == 2] = 30.0
    assert truth_lesions(tmax, cbf, tissue, hemisphere, 0.05).volumes_ml["core"] == 0.0


def test_clusters_that_touch_at_a_corner_count_as_one():
    tmax, cbf, tissue, hemisphere = (np.array(a) for a in _maps_with_lesion())
    tmax[:] = 2.0
    tmax[1, 10:12, 30:32] = tmax[2, 12:14, 32:34] = 7.0
    assert truth_lesions(tmax, cbf, tissue, hemisphere, 0.2).volumes_ml["hypoperfusion"] == pytest.approx(1.6)
    tmax[2, 12:14, 32:34] = 2.0
    assert truth_lesions(tmax, cbf, tissue, hemisphere, 0.2).volumes_ml["hypoperfusion"] == 0.0


@pytest.mark.parametrize("kernel", KERNELS)
def test_noise_has_the_standard_deviation_asked_for_and_the_correlation_of_its_kernel(kernel):
    noise = ct_noise(np.random.default_rng(3), (6, 128, 128), 7.0, kernel, (0.86, 0.86))
    assert noise.std() == pytest.approx(7.0, rel=0.02)
    neighbor = np.corrcoef(noise[:, :, 1:].ravel(), noise[:, :, :-1].ravel())[0, 1]
    assert (abs(neighbor) < 0.02) if kernel == "white" else (neighbor > 0.3 if kernel == "soft" else abs(neighbor) < 0.3)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05


def test_the_tile_phantom_has_delay_along_rows_transit_along_columns_and_volume_along_slices():
    phantom = kudo_phantom("exponential", tile=4, frames=200)
    values, times = phantom.series.values.astype(float) - 40.0, phantom.series.times
    area = values.sum(axis=0) / KUDO_BOLUS(times).sum()
    assert np.allclose(phantom.tile_means(volume_scale() * area), np.arange(1, 6)[:, None, None], rtol=0.01)
    assert np.allclose(phantom.tile_means(phantom.mtt), KUDO_MTT_S)
    assert np.allclose(phantom.tile_means(phantom.delay), np.array(KUDO_DELAY_S)[:, None])
    assert np.allclose(phantom.cbf * phantom.mtt, 60.0 * phantom.cbv)
    early, late = phantom.tile_means(values[9])[2, [0, 6], 3]
    assert early > late
    assert phantom.aif[1].max() == pytest.approx(464.9, rel=0.03)
    assert phantom.aif[1].sum() == pytest.approx(phantom.vof[1].sum(), rel=0.01)
    assert np.allclose(values[:, phantom.aif_mask].mean(axis=1), phantom.aif[1], atol=0.01)


def test_tile_noise_is_white_or_correlated_as_asked():
    white, correlated = (kudo_phantom(tile=8, noise_hu=5.0, seed=1, correlated=c).series.values for c in (False, True))
    still = kudo_phantom(tile=8).series.values
    assert (white - still).std() == pytest.approx(5.0, rel=0.02)
    assert (correlated - still).std() == pytest.approx(5.0, rel=0.02)
    residual = (correlated - still)[:, :, :, 1:] * (correlated - still)[:, :, :, :-1]
    assert residual.mean() > 5.0
