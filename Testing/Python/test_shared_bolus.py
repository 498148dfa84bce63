"""Artery, tissue and vein of one head tell of one bolus, and of how well it is known."""

from dataclasses import replace

import numpy as np
import pytest

from CTPerfusionSuiteLib.tracer_kinetics import gamma_variate
from CTPerfusionSuiteLib.volumes import Geometry
from PerfusionMapsLib.input_error import input_error
from PerfusionMapsLib.input_functions import InputFunction
from PerfusionMapsLib.lesions import lesions
from PerfusionMapsLib.observations import Observations
from PerfusionMapsLib.perfusion_options import Thresholds
from PerfusionMapsLib.quality_flags import quality_flags
from PerfusionMapsLib.shared_bolus import Seen, shared_bolus

FINE = np.arange(0.0, 60.0, 0.05)
TIMES = np.arange(0.0, 58.0, 1.5)


def passed(curve, transport, delay_s):
    """A fine curve after a transport function and a delay, at the scan's times."""
    spread = np.convolve(curve, transport / transport.sum())[: FINE.size]
    return np.interp(TIMES - delay_s, FINE, spread)


def head(noise_hu, late_s=0.0, seed=1):
    """True bolus (fine), and what artery, tissue (near-box residue) and vein show of it."""
    rng = np.random.default_rng(seed)
    blood = gamma_variate(FINE, 9.0, 5.0, 2.0, 1.0) + 0.12 * gamma_variate(FINE, 22.0, 5.0, 3.2, 1.0)
    blood += 0.12 / (1.0 + np.exp(-(FINE - 22.0) / 4.0))
    tissue = 8.0 * passed(blood, 1.0 / (1.0 + np.exp((FINE - 4.0) / 0.6)), 0.9)
    vein = 200.0 * passed(blood, FINE**2 * np.exp(-FINE / 1.7), 3.0)
    artery = 30.0 * np.interp(TIMES - late_s, FINE, blood) + rng.normal(0.0, noise_hu, TIMES.size)
    return blood, Seen(TIMES, artery), Seen(TIMES, tissue + rng.normal(0.0, 0.03, TIMES.size)), Seen(TIMES, vein)


def center_s(values, times):
    """Center of gravity of a first pass, down to a third of its peak, seconds."""
    high = np.maximum(values - values.max() / 3.0, 0.0)
    return float((high * times).sum() / high.sum())


@pytest.mark.parametrize(("noise_hu", "worst"), [(0.5, 0.08), (3.0, 0.13)])
def test_a_noisy_artery_is_completed_by_what_tissue_and_vein_show(noise_hu, worst):
    for seed in range(4):
        blood, artery, tissue, vein = head(noise_hu, seed=seed)
        found = shared_bolus(tissue, vein, artery, noise_hu)
        values = found.at(FINE)
        values *= blood.max() / values.max()
        assert abs(center_s(values, FINE) - center_s(blood, FINE)) < 0.6
        lag = center_s(values, FINE) - center_s(blood, FINE)
        assert np.abs(np.interp(FINE + lag, FINE, values) - blood).max() < worst


def test_an_artery_that_comes_a_frame_late_is_believed_when_it_is_clear():
    at = [center_s(shared_bolus(tissue, vein, artery, 0.5).at(FINE), FINE) for _, artery, tissue, vein in (head(0.5), head(0.5, 1.5))]
    assert at[1] - at[0] > 0.9


def test_without_an_artery_tissue_and_vein_alone_place_the_bolus_within_a_second():
    blood, _, tissue, vein = head(0.5)
    assert abs(center_s(shared_bolus(tissue, vein).at(FINE), FINE) - center_s(blood, FINE)) < 1.0


def test_nothing_that_rises_is_no_bolus():
    assert shared_bolus(None, None) is None
    assert shared_bolus(Seen(TIMES, np.zeros(TIMES.size)), None) is None
    assert shared_bolus(Seen(TIMES[:4], np.arange(4.0)), None) is None


def test_the_noisier_the_artery_the_less_sure_tmax_is():
    errors = []
    for noise_hu in (0.3, 3.0, 9.0):
        _, artery, tissue, vein = head(noise_hu)
        shared = shared_bolus(tissue, vein, artery, noise_hu)
        errors.append(input_error(InputFunction(TIMES, 30.0 * shared.at(TIMES)), shared).tmax_s)
    assert 0.0 < errors[0] < 0.5 and errors[0] < errors[1] and errors[0] < errors[2]


def test_volumes_whose_error_exceeds_what_is_wanted_are_called_uncertain():
    grid = Geometry((40, 40, 4), (4.0, 4.0, 5.0))
    tmax = np.full(grid.shape, 2.0, np.float32)
    tmax[:, 10:30, 25:35] = 9.0
    hemisphere = np.broadcast_to(np.where(np.arange(40) >= 20, 1, 2), grid.shape)
    maps = {"tmax": tmax, "operator_cbf": np.where(tmax > 6, 20.0, 50.0), "cbf": np.full(grid.shape, 50.0)}
    found = lesions(maps, {"tissue_mask": np.ones(grid.shape), "hemisphere": hemisphere}, Thresholds(), grid)
    seen = Observations(hypoperfusion_error_ml=2.0, core_error_ml=0.0, lasting_motion_mm=0.0)
    assert quality_flags(seen, found) == ()
    for worse in (replace(seen, hypoperfusion_error_ml=15.0), replace(seen, lasting_motion_mm=4.0)):
        assert [(flag.code, flag.severity) for flag in quality_flags(worse, found)] == [("uncertain_volume", "warning")]
