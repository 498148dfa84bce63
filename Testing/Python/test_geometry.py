"""Stories of grids: slices that lie obliquely or unevenly, binning, and moving volumes between grids."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.geometry import (
    AIR_HU,
    axial_slices,
    bin_in_plane,
    from_sitk,
    lay_out_slices,
    resample_to,
    resample_uneven_slices,
    shifted_slice,
    sitk_image,
    undo_tilt,
)
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries, Volume

X, Y, Z = np.eye(3)
OBLIQUE = ((0.8, -0.6, 0.0), (0.6, 0.8, 0.0), (0.0, 0.0, 1.0))


def positions_along(line, count, origin=(-10.0, -20.0, 5.0)):
    return np.asarray(origin) + np.arange(count)[:, None] * np.asarray(line, float)


def test_plain_slices_are_stored_as_they_come():
    layout = lay_out_slices(positions_along(5 * Z, 6), X, Y, (1.2, 1.0), (20, 30))
    assert layout.is_plain and layout.geometry.size == (30, 20, 6) and layout.geometry.spacing == (1.0, 1.2, 5.0)
    assert layout.geometry.origin == (-10, -20, 5)


def test_rounding_of_text_headers_is_no_tilt_and_no_uneven_spacing():
    places = positions_along(5 * Z, 40) + 0.005 * np.sin(np.arange(120)).reshape(40, 3)
    assert lay_out_slices(places, X + 1e-6, Y, (0.5, 0.5), (512, 512)).is_plain


def test_one_slice_takes_its_thickness_as_spacing():
    assert lay_out_slices([[0, 0, 3.0]], X, Y, (1, 1), (8, 9), thickness=7.5).geometry.spacing == (1, 1, 7.5)


@settings(max_examples=30, deadline=None)
@given(st.floats(-25, 25), st.floats(-10, 10), st.integers(2, 12))
def test_a_marked_pixel_stays_at_its_position_whatever_the_tilt(tilt, swing, count):
    line = 4 * Z + 4 * np.tan(np.deg2rad(tilt)) * Y + 4 * np.tan(np.deg2rad(swing)) * X
    places = positions_along(line, count)
    layout = lay_out_slices(places, X, Y, (0.9, 1.1), (40, 44))
    assert np.allclose(np.array(layout.geometry.direction)[:, 2], Z)
    stored = np.zeros((count, 40, 44), np.float32)
    j, i = np.indices((40, 44))
    # A smooth bump at the same pixel of every slice: in space it moves along the tilted line.
    stored[:] = 900 * np.exp(-((j - 18) ** 2 + (i - 25) ** 2) / 18) + AIR_HU
    moved = stored if layout.shifts is None else undo_tilt(stored, layout.shifts, layout.geometry.shape[1:])
    for k in range(count):
        image = moved[k] - AIR_HU
        rows, columns = np.indices(image.shape)
        center = layout.geometry.to_lps([(image * columns).sum() / image.sum(), (image * rows).sum() / image.sum(), k])
        assert np.abs(center - (places[k] + 18 * 0.9 * Y + 25 * 1.1 * X)).max() < (0.12 if layout.shifts is None else 0.03)


def test_whole_shifts_copy_and_fractions_keep_smooth_images():
    rng = np.random.default_rng(0)
    image = rng.integers(-1000, 2000, (12, 15)).astype(np.int16)
    moved = shifted_slice(image, (3, 0), (16, 15))
    assert moved.dtype == np.int16 and np.array_equal(moved[3:15], image) and (moved[:3] == AIR_HU).all() and (moved[15:] == AIR_HU).all()
    ramp = (10.0 * np.arange(20))[:, None] + np.zeros((20, 6))
    moved = shifted_slice(ramp.astype(np.float32), (2.3, 0), (24, 6))
    rows = np.arange(6, 18)
    assert np.abs(moved[rows, 2] - 10 * (rows - 2.3)).max() < 1e-2


def test_shifts_keep_noise_better_than_linear_interpolation_would():
    noise = np.random.default_rng(1).normal(0, 10, (200, 200)).astype(np.float32)
    inner = shifted_slice(noise, (0.5, 0), (201, 200))[5:-5]
    assert 7.5 < inner.std() < 9.2  # linear: 7.1


def test_a_missing_slice_is_bridged_and_all_others_stay_as_they_are():
    heights = np.array([0, 5, 10, 20, 25, 30.0])
    layout = lay_out_slices(heights[:, None] * Z, X, Y, (1, 1), (3, 4))
    assert layout.geometry.size[2] == 7 and layout.geometry.spacing[2] == pytest.approx(5)
    stored = (10 * heights[:, None, None] + np.arange(12).reshape(3, 4)).astype(np.int16)
    even = resample_uneven_slices(stored, layout.weights)
    assert even.dtype == np.int16 and np.array_equal(even, 50 * np.arange(7)[:, None, None] + np.arange(12).reshape(3, 4))
    assert np.count_nonzero(layout.weights == 1) == 6


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(1.0, 4.0), min_size=3, max_size=25))
def test_uneven_slices_give_back_what_is_linear_in_height(gaps):
    heights = np.concatenate([[3.0], 3.0 + np.cumsum(gaps)])
    layout = lay_out_slices(heights[:, None] * Z, X, Y, (1, 1), (2, 2))
    if layout.weights is None:
        return
    assert np.allclose(layout.weights.sum(axis=1), 1) and len(layout.weights) <= 2 * len(heights)
    even = layout.geometry.origin[2] + layout.geometry.spacing[2] * np.arange(layout.geometry.size[2])
    assert np.abs(layout.weights @ heights - even).max() <= 0.03 * layout.geometry.spacing[2]


def test_a_wide_gap_is_refused():
    with pytest.raises(DataRefused, match="gap of 40.0 mm"):
        lay_out_slices(np.array([0, 5, 10, 50, 55.0])[:, None] * Z, X, Y, (1, 1), (2, 2))


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (0, 2, 1), (2, 0, 1), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1)])
def test_slices_become_axial_and_every_voxel_stays_in_its_place(order, signs):
    values = np.arange(2 * 2 * 3 * 4).reshape(2, 2, 3, 4).astype(np.int16)
    direction = (np.asarray(OBLIQUE) * signs)[:, order]
    stored = TimeSeries(values, Geometry((4, 3, 2), (0.5, 0.75, 5.0), (1, 2, 3), direction), np.arange(2.0))
    places = {int(values[1, k, j, i]): stored.geometry.to_lps([i, j, k]) for k, j, i in np.ndindex(values.shape[1:])}
    series = axial_slices(replace(stored, values=values.copy()))
    for k, j, i in np.ndindex(series.values.shape[1:]):
        assert np.allclose(places[int(series.values[1, k, j, i])], series.geometry.to_lps([i, j, k]))
    upward = np.abs(np.asarray(series.geometry.direction)[2])
    assert upward[2] == upward.max() and (order[2] == 2 or np.abs(np.asarray(series.geometry.direction)[0]).argmax() == 0)
    assert bool(series.notes) == (order[2] != 2)


def test_slices_with_times_of_their_own_are_never_cut_anew():
    direction = np.asarray(OBLIQUE)[:, [0, 2, 1]]
    series = TimeSeries(np.zeros((2, 2, 3, 4), np.int16), Geometry((4, 3, 2), direction=direction), np.zeros((2, 2)) + [[0], [1]])
    with pytest.raises(DataRefused, match="not axial"):
        axial_slices(series)


def test_binning_takes_means_and_centers_the_grid():
    values = np.random.default_rng(2).integers(-100, 900, (3, 2, 7, 9)).astype(np.int16)
    series = TimeSeries(values, Geometry((9, 7, 2), (0.5, 0.6, 5), (1, 2, 3), OBLIQUE), np.arange(3.0))
    binned = bin_in_plane(series, 2)
    assert binned.values.shape == (3, 2, 3, 4) and binned.values.dtype == np.float32
    assert np.allclose(binned.values[1, 1, 2, 3], values[1, 1, 4:6, 6:8].mean())
    assert np.allclose(binned.geometry.to_lps([2, 1, 1]), series.geometry.to_lps([4.5, 2.5, 1]))
    assert np.array_equal(bin_in_plane(values[0], 2), binned.values[0]) and np.array_equal(bin_in_plane(values, 1), values)


def test_simpleitk_and_back_keeps_every_number():
    values = np.random.default_rng(3).normal(size=(3, 4, 5)).astype(np.float32)
    volume = Volume(values, Geometry((5, 4, 3), (1.0, 2.0, 3.0), (-7, 8, 9), OBLIQUE), "flow", "mL/min")
    back = from_sitk(sitk_image(volume), "flow", "mL/min")
    assert np.array_equal(back.values, values) and back.geometry.close_to(volume.geometry, 1e-6)
    image = sitk_image(volume)
    assert np.allclose(image.TransformIndexToPhysicalPoint((1, 2, 2)), volume.geometry.to_lps([1, 2, 2]))


def test_resampling_goes_through_patient_space():
    k, j, i = np.indices((10, 20, 24))
    fine = Geometry((24, 20, 10), (1, 1, 2), (5, -4, 3), OBLIQUE)
    lps = fine.to_lps(np.stack([i, j, k], -1))
    volume = Volume((lps @ [2.0, -3.0, 1.0]).astype(np.float32), fine)
    coarse = Geometry((6, 5, 4), (2, 2, 3), tuple(fine.to_lps([9, 9, 2])))
    moved = resample_to(volume, coarse, outside=np.nan)
    k, j, i = np.indices(coarse.shape)
    expected = coarse.to_lps(np.stack([i, j, k], -1)) @ [2.0, -3.0, 1.0]
    inside = np.isfinite(moved.values)
    assert inside.mean() > 0.5 and np.abs(moved.values - expected)[inside].max() < 1e-3
    labels = resample_to(Volume(np.arange(4800).reshape(10, 20, 24) % 7 > 3, fine), coarse, "nearest")
    assert labels.values.dtype == np.uint8 and set(np.unique(labels.values)) <= {0, 1}
