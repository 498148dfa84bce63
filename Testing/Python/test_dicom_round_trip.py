"""What was scanned is what is read: every vendor's study comes back with its numbers, places, times and sides."""

from dataclasses import replace

import damaged_studies as damaged
import numpy as np
import pytest
from test_dicom_styles import ALL_STYLES, LEFT_LPS, for_style, head

from CTPerfusionSuiteLib.dicom.perfusion_series import read_perfusion_series
from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.phantoms.dicom_styles import write_dicom_study


def assert_same(read, series, tolerance_hu: float = 0.0):
    """Same voxels, numbers and times."""
    assert read.values.shape == series.values.shape
    assert read.geometry.close_to(series.geometry)
    assert np.abs(read.values - series.values.astype(np.float32)).max() <= tolerance_hu
    assert np.abs(read.slice_times - series.slice_times).max() < 1e-3


def brightest_place(series) -> np.ndarray:
    """LPS of the center of the bright spot in the mean of the first frames."""
    mean = series.values[:3].mean(axis=0)
    k, j, i = np.nonzero(mean > np.percentile(mean, 99.5))
    return series.geometry.to_lps(np.stack([i, j, k], axis=-1)).mean(axis=0)


@pytest.mark.parametrize("style", ALL_STYLES)
def test_every_vendor_s_study_comes_back_as_it_was_scanned(tmp_path, style):
    series = for_style(style)
    read = read_perfusion_series(write_dicom_study(series, tmp_path / style, style))
    assert_same(read, series)
    assert read.values.dtype == np.int16
    assert brightest_place(read)[0] > 0.5 * LEFT_LPS[0]
    if style.startswith("shuttle"):
        assert len(np.unique(read.slab_of_slice)) == 2
        assert np.array_equal(np.diff(read.slab_of_slice) != 0, np.diff(series.slabs) != 0)
    else:
        assert len(np.unique(read.slab_of_slice)) == 1


@pytest.mark.parametrize("style", ["siemens", "ge", "philips", "canon", "enhanced", "enhanced-split"])
def test_a_scan_over_midnight_is_one_continuous_scan(tmp_path, style):
    series = head(frames=12, slices=3)
    assert_same(read_perfusion_series(write_dicom_study(series, tmp_path / "m", style, start_time="235950")), series)


@pytest.mark.parametrize("style", ["siemens", "canon", "enhanced"])
def test_slices_with_their_own_rescale_slope_come_back_in_hounsfield_units(tmp_path, style):
    series = head(frames=10, slices=4)
    read = read_perfusion_series(write_dicom_study(series, tmp_path / "p", style, slopes="per-slice"))
    assert_same(read, series, 0.41)
    assert read.values.dtype == np.float32


@pytest.mark.parametrize("compress", ["jpeg2000", "jpegls", "rle"])
@pytest.mark.parametrize("style", ["siemens", "ge", "enhanced"])
def test_compressed_studies_come_back_unchanged(tmp_path, style, compress):
    series = head(frames=10, slices=2)
    assert_same(read_perfusion_series(write_dicom_study(series, tmp_path / "c", style, compress=compress)), series)


@pytest.mark.parametrize("style", ["siemens", "ge"])
def test_padding_outside_the_circle_is_read_as_air(tmp_path, style):
    series = head(frames=10, slices=3)
    read = read_perfusion_series(write_dicom_study(series, tmp_path / "pad", style, padding=True))
    assert read.values.min() >= -1100 and read.values.max() <= 3100
    assert np.array_equal(read.values[..., 8:-8, 8:-8], series.values[..., 8:-8, 8:-8])


@pytest.mark.parametrize("style", ["siemens", "ge", "enhanced", "shuttle"])
@pytest.mark.parametrize("tilt", [18.5, -11.0])
def test_gantry_tilt_is_undone_without_moving_anatomy_or_mixing_slices(tmp_path, style, tilt):
    series = for_style(style, frames=10, slices=8)
    read = read_perfusion_series(write_dicom_study(series, tmp_path / "t", style, tilt_deg=tilt))
    assert np.abs(read.slice_times - series.slice_times).max() < 1e-3
    assert read.values.shape[1] == 8
    # The grid may be larger than the original or shifted in its plane: compare at the same places in space.
    inside = [(i, j, k) for k in range(8) for j in range(14, 34, 4) for i in range(14, 34, 4)]
    index = read.geometry.to_index(series.geometry.to_lps(inside))
    assert np.abs(index[:, 2] - [k for _, _, k in inside]).max() < 0.02
    found = _sampled(read.values.mean(axis=0), index)
    expected = np.array([series.values[:, k, j, i].mean() for i, j, k in inside])
    assert np.abs(found - expected).mean() < 2.5
    assert np.abs(brightest_place(read) - brightest_place(series)).max() < 4


def test_a_turned_gantry_gives_the_same_stack_at_turned_places(tmp_path):
    series = head(frames=10, slices=8)
    read = read_perfusion_series(write_dicom_study(series, tmp_path / "r", "ge", tilt_deg=18.5, rotate_with_gantry=True))
    normal = np.array(read.geometry.direction)[:, 2]
    assert normal[2] == pytest.approx(np.cos(np.deg2rad(18.5)), abs=1e-3)
    assert read.geometry.spacing[2] == pytest.approx(5.0, abs=0.01)
    assert np.allclose(np.array(read.geometry.direction).T @ np.array(read.geometry.direction), np.eye(3), atol=1e-5)


@pytest.mark.parametrize("style", ["siemens", "philips", "shuttle"])
def test_uneven_slices_are_resampled_along_the_stack_with_their_times(tmp_path, style):
    series = for_style(style, frames=10, slices=8)
    read = read_perfusion_series(write_dicom_study(series, tmp_path / "u", style, uneven=True))
    spot = brightest_place(series)
    assert np.abs(brightest_place(read) - spot).max() < 5
    lowest, highest = (series.geometry.to_lps([0, 0, k])[2] for k in (0, 7))
    assert read.geometry.to_lps([0, 0, 0])[2] == pytest.approx(lowest, abs=2.5)
    assert read.geometry.to_lps([0, 0, read.values.shape[1] - 1])[2] == pytest.approx(highest, abs=2.5)
    if style != "shuttle":
        assert np.abs(read.slice_times - series.slice_times[:, :1]).max() < 1e-3


def test_the_time_of_reconstruction_is_never_taken_for_the_time_of_the_scan(tmp_path):
    good = write_dicom_study(head(), tmp_path / "good", "siemens")
    with pytest.raises(DataRefused):
        read_perfusion_series(damaged.no_time_axis(good, tmp_path / "bad"))


@pytest.mark.parametrize("shift", [0, 1024])
def test_images_without_a_scale_are_taken_as_hu_and_doubted_where_no_air_is_seen(tmp_path, shift):
    good = write_dicom_study(for_style("siemens"), tmp_path / "good", "siemens")
    read = read_perfusion_series(damaged.shifted_without_rescale(good, tmp_path / "shifted", shift))
    told = dict(read.notes)["rescale_missing"]
    assert "taken as HU" in told and ("no" in told and "air" in told) == bool(shift)
    assert_same(replace(read, values=read.values - shift), for_style("siemens"))


def _sampled(volume: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Trilinear samples of a (K, J, I) volume at (N, 3) continuous (i, j, k)."""
    low = np.clip(np.floor(index).astype(int), 0, np.array(volume.shape[::-1]) - 2)
    weight = np.clip(index - low, 0, 1)
    total = np.zeros(len(index))
    for corner in np.ndindex(2, 2, 2):
        i, j, k = (low + corner).T
        total += np.prod(np.where(corner, weight, 1 - weight), axis=1) * volume[k, j, i]
    return total
