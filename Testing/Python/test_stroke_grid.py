"""What a network sees of a study: curves on one grid in time, voxels of one size, one yardstick."""

from dataclasses import replace

import numpy as np
import pytest

from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.phantoms.acquisition_geometry import shuttle_timing
from CTPerfusionSuiteLib.volumes import Geometry
from PerfusionMapsLib.analysis_request import AnalysisRequest
from PerfusionMapsLib.pipeline import analyze_prepared, prepare
from StrokeSegmentationLib.bolus_grid import GRID_S, enhancement_weights, grid_weights, slice_weights
from StrokeSegmentationLib.lesion_labels import label_from_probabilities
from StrokeSegmentationLib.study_input import MAP_SCALES, network_input, with_result
from StrokeSegmentationLib.training_range import QUANTITIES, outside_training, quantities
from StrokeSegmentationLib.voxel_blocks import VoxelBlocks


def bolus(times) -> np.ndarray:
    """A smooth tissue curve, peak 10 HU, of which 15 s are rise and fall."""
    u = np.maximum(np.asarray(times, float) - 9.0, 0.0) / 2.5
    return 10.0 * (u / 4.0) ** 4 * np.exp(4.0 - u)


def prepare_study(series, with_maps=False):
    """What a network sees of a series."""
    study = prepare(series, AnalysisRequest())
    found = network_input(study)
    return with_result(found, analyze_prepared(study, AnalysisRequest())) if with_maps else found


def label_of_study(study, probabilities):
    """The label on the scan's grid of probabilities on the network's, by the standard rule."""
    fine = study.to_analysis_grid(probabilities)
    return label_from_probabilities(fine, study.analysis_tissue, study.analysis_geometry.voxel_volume_ml)


@pytest.fixture(scope="module")
def prepared(small_study):
    return prepare_study(small_study.series)


def test_a_straight_line_stays_straight_whatever_the_sampling():
    rng = np.random.default_rng(0)
    for _ in range(20):
        times = np.cumsum(rng.uniform(0.4, 4.0, 25))
        grid = np.arange(-4.0, times[-1] + 10.0, 2.0)
        weights, valid = grid_weights(times, grid)
        np.testing.assert_allclose(weights[valid] @ (3.0 - 0.7 * times), 3.0 - 0.7 * grid[valid], atol=1e-9)


def test_the_first_and_last_frames_are_read_exactly_at_their_own_times():
    times = np.array([0.0, 1.1, 3.0, 4.0, 8.0])
    weights, valid = grid_weights(times, [0.0, 8.0])
    assert valid.all()
    np.testing.assert_allclose(weights, [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1]], atol=1e-12)


def test_nothing_is_invented_beyond_the_scan():
    times = np.arange(0.0, 30.0, 1.5)
    weights, valid = enhancement_weights(times, (0, 1, 2), arrival_s=5.0)
    covered = (5.0 + GRID_S >= 0.0) & (5.0 + GRID_S <= times[-1])
    assert (valid == covered).all() and not covered.all()
    assert (weights[~covered] == 0).all()


def test_the_unknown_level_of_a_voxel_drops_out():
    weights, valid = enhancement_weights(np.arange(0.0, 60.0, 2.0), (0, 1, 2), arrival_s=6.0)
    assert np.abs(weights @ np.full(30, 37.0)).max() < 1e-4


def test_slices_scanned_at_other_times_tell_the_same_curve():
    shuttle, _ = shuttle_timing(np.arange(0.0, 60.0, 1.5), 2)
    late = np.stack([np.arange(0.0, 60.0, 1.5), np.arange(0.0, 60.0, 1.5) + 1.2], axis=1)
    for times in (shuttle, late):
        matrices, valid = slice_weights(times, (0, 1, 2), arrival_s=9.0)
        first, second = (matrix @ bolus(times[:, k]) for k, matrix in enumerate(matrices))
        both = valid.min(axis=1) > 0
        assert np.abs(first - second)[both].max() < 0.25
    # One time axis for all slices would put the upper ones 1.2 s off, on the steepest slope by more than 1 HU.
    assert np.abs(first - matrices[0] @ bolus(times[:, 1]))[both].max() > 1.0


def test_dense_sampling_lowers_the_noise_and_sparse_sampling_never_raises_it():
    noise = {}
    for step in (0.8, 1.5, 3.0):
        weights, valid = grid_weights(np.arange(0.0, 60.0, step), 6.0 + np.arange(0.0, 42.0, 2.0))
        noise[step] = np.sqrt((weights[valid] ** 2).sum(axis=1))
    assert noise[0.8].mean() < 0.55 < noise[1.5].mean() < noise[3.0].mean() and noise[3.0].max() <= 1.0 + 1e-9


def test_times_that_run_backward_are_an_error():
    with pytest.raises(ValueError, match="increase"):
        grid_weights([0.0, 2.0, 1.0], [0.0, 1.0])


def test_fine_voxels_are_averaged_and_predictions_come_back_to_them():
    geometry = Geometry((101, 100, 11), (0.86, 0.86, 2.5), (-40.0, -50.0, 3.0))
    blocks = VoxelBlocks.of(geometry)
    assert (blocks.pixels, blocks.slices) == (3, 2)
    assert blocks.geometry.size == (34, 34, 6)
    np.testing.assert_allclose(blocks.geometry.to_lps((0, 0, 0)), geometry.to_lps((1.0, 1.0, 0.5)))
    x = np.broadcast_to(np.arange(101.0), geometry.shape)
    coarse = blocks.mean(x)
    np.testing.assert_allclose(coarse[:, :, :33], np.broadcast_to(1.0 + 3.0 * np.arange(33), (6, 34, 33)))
    # The last block holds what is left: voxels 99 and 100.
    assert coarse[0, 0, 33] == pytest.approx(99.5)
    fine = blocks.spread(coarse)
    assert fine.shape == geometry.shape and np.abs(fine - x).max() <= 1.0
    smooth = blocks.interpolated(coarse[None])[0]
    assert smooth.shape == geometry.shape
    np.testing.assert_allclose(smooth[:, :, 1:98], x[:, :, 1:98], atol=1e-4)


def test_slices_of_two_table_positions_are_never_mixed():
    geometry = Geometry((8, 8, 9), (2.0, 2.0, 1.7))
    assert VoxelBlocks.of(geometry, np.zeros(9, int)).slices == 3
    assert VoxelBlocks.of(geometry, np.array([0] * 6 + [1] * 3)).slices == 3
    assert VoxelBlocks.of(geometry, np.array([0] * 4 + [1] * 5)).slices in (1, 2)
    assert VoxelBlocks.of(geometry, np.array([0] * 5 + [1] * 4)).slices == 1


def test_the_input_of_a_study_is_what_the_card_says(prepared, small_study):
    frames, shape = len(GRID_S), small_study.geometry.shape
    assert prepared.curves.shape == (frames, *shape) and prepared.curves.dtype == np.float32
    assert prepared.maps is None and prepared.geometry == small_study.geometry
    assert not prepared.curves[:, ~prepared.brain].any()
    assert not (prepared.tissue & ~prepared.brain).any()
    assert ((prepared.hemisphere > 0) == prepared.brain).all()
    assert prepared.valid.shape == (frames, shape[0])
    assert prepared.reference.max() == pytest.approx(1.0)
    healthy = prepared.tissue & (prepared.hemisphere == 2)
    assert prepared.curves[:, healthy].mean(axis=1).max() == pytest.approx(1.0, abs=0.02)


def test_the_clock_follows_the_true_artery_and_not_the_dose(prepared, small_study):
    times, curve = small_study.aif
    rise = float(times[np.argmax(curve >= 0.5 * curve.max())])
    assert abs(prepared.arrival_s + 2.0 - rise) < 1.2
    rng = np.random.default_rng(1)
    values = small_study.series.values + rng.normal(0.0, 15.0, small_study.series.values.shape)
    noisy = prepare_study(small_study.series.with_values(np.rint(values).astype(np.int16)))
    assert abs(noisy.arrival_s - prepared.arrival_s) < 0.35
    assert noisy.scale_hu == pytest.approx(prepared.scale_hu, rel=0.05)


def test_a_weaker_injection_looks_the_same(prepared, small_study):
    values = small_study.series.values.astype(np.float32)
    before = values[:4].mean(axis=0)
    weaker = prepare_study(small_study.series.with_values(before + 0.6 * (values - before)))
    assert weaker.scale_hu == pytest.approx(0.6 * prepared.scale_hu, rel=0.03)
    both = weaker.tissue & prepared.tissue
    assert np.abs(weaker.curves - prepared.curves)[:, both].mean() < 0.08


def test_a_stroke_is_late_and_low_in_the_input(prepared, small_study):
    core = small_study.mask("core") & prepared.tissue
    healthy = prepared.tissue & (prepared.hemisphere == 2)
    early = (GRID_S >= 2.0) & (GRID_S <= 10.0)
    assert prepared.curves[early][:, core].mean() < 0.3 * prepared.curves[early][:, healthy].mean()


def test_maps_come_from_the_same_preparation(small_study, prepared):
    with_maps = prepare_study(small_study.series, with_maps=True)
    np.testing.assert_array_equal(with_maps.curves, prepared.curves)
    assert with_maps.maps.shape == (len(MAP_SCALES), *prepared.geometry.shape)
    tmax = with_maps.maps[0] * MAP_SCALES["tmax"]
    assert np.median(tmax[small_study.mask("hypoperfusion") & prepared.tissue]) > 6.0 > np.median(tmax[prepared.hemisphere == 2])


def test_a_label_comes_back_to_the_grid_of_the_maps_in_full(small_study):
    doubled = {"values": np.repeat(np.repeat(small_study.series.values, 2, axis=2), 2, axis=3)}
    coarse = small_study.geometry
    half = tuple(s / 2 for s in coarse.spacing[:2])
    geometry = Geometry((192, 192, 6), (*half, coarse.spacing[2]), tuple(coarse.to_lps((-0.25, -0.25, 0))))
    study = prepare_study(replace(small_study.series, geometry=geometry, **doubled))
    assert study.blocks.pixels == 2 and study.geometry.close_to(coarse)
    assert study.analysis_tissue.shape == (6, 192, 192)
    core = small_study.mask("core") & study.tissue
    probabilities = np.stack([~core, np.zeros_like(core), core]).astype(np.float32)
    label = label_of_study(study, probabilities)
    true = np.repeat(np.repeat(core, 2, axis=1), 2, axis=2) & study.analysis_tissue
    assert set(np.unique(label)) == {0, 2}
    assert 2 * np.count_nonzero((label == 2) & true) / (np.count_nonzero(label) + np.count_nonzero(true)) > 0.95
    everywhere = np.zeros_like(probabilities)
    everywhere[1] = study.tissue
    assert np.mean(label_of_study(study, everywhere)[study.analysis_tissue] == 1) > 0.98


def test_a_scan_without_contrast_is_refused(small_study):
    flat = small_study.series.with_values(np.repeat(small_study.series.values[:1], 32, axis=0))
    with pytest.raises(DataRefused):
        prepare_study(flat)


def test_a_longer_scan_is_covered_for_longer(small_study, prepared):
    short = replace(small_study.series, values=small_study.series.values[:22], times=small_study.series.times[:22])
    assert prepare_study(short).valid.sum() < prepared.valid.sum()


def test_a_study_unlike_the_training_is_said_to_be_one(prepared):
    known = {name: [0.5 * value, 2.0 * value] for name, value in quantities(prepared).items()}
    assert set(known) == set(QUANTITIES) and outside_training(prepared, known) == ()
    assert quantities(prepared)["step_s"] == pytest.approx(1.6) and 20.0 < quantities(prepared)["covered_s"] <= 42.0
    loud = outside_training(replace(prepared, noise_hu=40.0), known)
    assert len(loud) == 1 and "noise of 40.0 HU" in loud[0][1]
    assert outside_training(prepared, {}) == ()
