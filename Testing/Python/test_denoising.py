"""What the filters keep, what they remove, and whether they know how much noise they left."""

import numpy as np
import pytest
from engine_truth import PerfusionField

from CTPerfusionSuiteLib.phantoms.bolus import ArterialBolus
from CTPerfusionSuiteLib.phantoms.forward_model import tissue_curve
from CTPerfusionSuiteLib.phantoms.noise import ct_noise
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries
from PerfusionMapsLib.denoising import BLUR_VARIANCE, SliceCurves, first_pass, second_pass, single_pass, slabs
from PerfusionMapsLib.input_functions import InputFunction
from PerfusionMapsLib.perfusion_model import PerfusionModel
from PerfusionMapsLib.perfusion_options import Denoising, EngineOptions
from PerfusionMapsLib.similarity_filter import REACH, neighbors, similarity_filter
from PerfusionMapsLib.tissue_maps import estimate_maps

TIMES = 1.5 * np.arange(36)
BOLUS = ArterialBolus()
FILTERS = (Denoising.BILATERAL, Denoising.TIPS, Denoising.GAUSSIAN)


def slice_of(cbf, delay, noise_hu=5.0, kernel="white", spacing=(1.5, 1.5), static=35.0, tissue=None, seed=0):
    """A slice in component space and its noise-free twin, for maps (J, I) of flow and delay with an MTT of 5 s."""
    model = PerfusionModel(TIMES, TIMES, BOLUS(TIMES))
    values = np.zeros((TIMES.size, *cbf.shape))
    for flow, late in {(float(f), float(d)) for f, d in zip(cbf.ravel(), delay.ravel(), strict=True)}:
        where = (cbf == flow) & (delay == late)
        values[:, where] = tissue_curve(BOLUS, TIMES, flow, 5.0, late)[:, None]
    values += static
    tissue = np.ones(cbf.shape, bool) if tissue is None else tissue

    def of(data):
        channels = model.project(data.reshape(TIMES.size, -1)).reshape(-1, *cbf.shape)
        return SliceCurves(channels, model.dictionary.components, data.mean(axis=0), TIMES.size, np.ones(cbf.shape, bool), tissue, spacing)

    return of(values + ct_noise(np.random.default_rng(seed), values.shape, noise_hu, kernel, spacing[::-1])), of(values)


def filtered(curves: SliceCurves, denoising=Denoising.BILATERAL):
    if denoising != Denoising.BILATERAL:
        return single_pass(curves, EngineOptions(denoising=denoising))
    first = first_pass(curves, 5.0)
    return second_pass(curves, first, [(first.layer, 0.0)], 5.0)


@pytest.mark.parametrize("kernel", ["white", "soft"])
@pytest.mark.parametrize("denoising", FILTERS)
def test_the_noise_it_reports_is_the_noise_it_left(denoising, kernel):
    noisy, clean = slice_of(np.full((72, 72), 50.0), np.zeros((72, 72)), kernel=kernel)
    result = filtered(noisy, denoising)
    left = (result.components - clean.channels[: clean.count])[:, 8:-8, 8:-8]
    reported = np.sqrt(result.variance[8:-8, 8:-8].mean() / BLUR_VARIANCE)
    assert left.std() < 2.5
    assert reported == pytest.approx(left.std(), rel=0.3)


def test_an_ischemic_border_stays_where_a_gaussian_of_the_same_noise_blurs_it():
    delay = np.zeros((64, 64))
    delay[:, 32:] = 8.0
    noisy, clean = slice_of(np.where(delay > 0, 20.0, 50.0), delay)
    truth = clean.channels[: clean.count]
    border = (slice(None), slice(8, -8), slice(30, 34))
    error = {kind: np.sqrt(np.mean((filtered(noisy, kind).components - truth)[border] ** 2)) for kind in FILTERS}
    assert error[Denoising.BILATERAL] < 0.5 * error[Denoising.GAUSSIAN]
    assert error[Denoising.TIPS] < error[Denoising.GAUSSIAN]


def test_gray_matter_keeps_its_height_beside_white_matter_of_the_same_timing():
    gray = (np.add.outer(np.arange(64) // 4, np.arange(64) // 4) % 2).astype(bool)
    noisy, clean = slice_of(np.where(gray, 60.0, 25.0), np.zeros((64, 64)), static=np.where(gray, 37.0, 30.0))
    truth = clean.channels[: clean.count]
    height = np.linalg.norm(filtered(noisy).components, axis=0) / np.linalg.norm(truth, axis=0)
    assert 0.9 < np.median(height[gray]) < 1.08
    assert 0.9 < np.median(height[~gray]) < 1.12


def test_noise_does_not_raise_the_height_of_a_poorly_perfused_core():
    # Along the true curve, so that noise beside it does not count; 10 HU in curves that peak near 2 HU.
    heights = []
    for seed in range(8):
        noisy, clean = slice_of(np.full((56, 56), 8.0), np.full((56, 56), 4.0), noise_hu=10.0, seed=seed)
        truth, found = clean.channels[: clean.count], filtered(noisy).components
        heights.append(np.sum(found * truth, axis=0) / np.sum(truth * truth, axis=0))
    assert np.mean(heights) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("denoising", FILTERS)
def test_vessels_are_neither_changed_nor_mixed_into_tissue(denoising):
    cbf, tissue = np.full((40, 40), 50.0), np.ones((40, 40), bool)
    cbf[18:22, 18:22] = 2000.0
    tissue[18:22, 18:22] = False
    noisy, clean = slice_of(cbf, np.zeros((40, 40)), tissue=tissue)
    result = filtered(noisy, denoising)
    assert np.array_equal(result.components[:, ~tissue], noisy.channels[: noisy.count][:, ~tissue])
    rim = np.zeros_like(tissue)
    rim[16:24, 16:24] = True
    error = (result.components - clean.channels[: clean.count])[:, rim & tissue]
    assert np.abs(error.mean(axis=1)).max() < 2.0


def test_without_a_filter_curves_stay_as_they_are():
    noisy, _ = slice_of(np.full((16, 16), 50.0), np.zeros((16, 16)))
    assert np.array_equal(filtered(noisy, Denoising.NONE).components, noisy.channels[: noisy.count])


def test_the_filter_by_matrix_products_equals_the_filter_written_out():
    rng = np.random.default_rng(2)
    channels, like = rng.normal(size=(3, 13, 19)).astype(np.float32), rng.normal(size=(2, 13, 19)).astype(np.float32)
    tissue = rng.random((13, 19)) > 0.2
    spacing, sigma = (2.0, 2.5), 4.0
    got = similarity_filter(like, tissue, [(neighbors(channels, like, tissue, (1, 1)), 0.0)], spacing, sigma, np.ones(2))
    for j, i in np.argwhere(tissue)[::7]:
        # The window of a tile reaches a little further for some of its voxels than for others, where weights are small.
        total, amount = np.zeros(3), 0.0
        for y, x in np.argwhere(tissue):
            near = ((y - j) * spacing[0] / sigma) ** 2 + ((x - i) * spacing[1] / sigma) ** 2
            weight = np.exp(-0.5 * near - 0.5 * np.sum((like[:, y, x] - like[:, j, i]) ** 2))
            total, amount = total + weight * channels[:, y, x], amount + weight
        assert REACH >= 1.5
        assert np.allclose(got[:, j, i], total / amount, atol=0.2)
    correlation = np.corrcoef(got[:, tissue].ravel(), channels[:, tissue].ravel())[0, 1]
    assert 0 < correlation < 1


def test_binning_small_pixels_changes_little():
    cbf, delay = np.full((96, 96), 45.0), np.zeros((96, 96))
    delay[:, 48:] = 5.0
    fine, clean = slice_of(cbf, delay, spacing=(0.85, 0.85), noise_hu=5.0)
    error = (filtered(fine).components - clean.channels[: clean.count])[:, 8:-8, 8:-8]
    assert error.std() < 0.6


def test_thin_slices_are_added_up_and_table_positions_kept_apart():
    positions = 1.0 * np.arange(12)
    runs = slabs(positions, np.array([0] * 7 + [1] * 5))
    assert sorted(sum(runs, [])) == list(range(12))
    assert all(len({int(k >= 7) for k in run}) == 1 for run in runs)
    assert max(len(run) for run in runs) == 5
    assert slabs(5.0 * np.arange(4), np.zeros(4, int)) == [[0], [1], [2], [3]]


def test_neighboring_slices_lower_the_noise_of_delay_but_not_across_a_table_position():
    field = PerfusionField("exponential", BOLUS, seed=6, pixels=48, noise_hu=0.0)
    clean = np.repeat(field.series.values, 3, axis=1)
    values = clean + ct_noise(np.random.default_rng(1), clean.shape, 6.0)
    everywhere = np.ones((3, 48, 48), bool)

    def error(slabs_of_slices):
        series = TimeSeries(values, Geometry((48, 48, 3), (1.5, 1.5, 5.0)), field.series.times, slabs=slabs_of_slices)
        maps = estimate_maps(series, everywhere, everywhere, InputFunction(field.aif.times, field.aif.hu))
        return np.sqrt(np.mean((maps["delay"][1] - field.truth["delay"][0]) ** 2))

    assert error(None) < 0.9 * error(np.array([0, 1, 2]))
