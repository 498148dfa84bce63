"""Gantry tilt and uneven slices come onto a regular grid where the anatomy lies."""

import dicom_samples as samples
import numpy as np
import pydicom
import pytest
from dicom_samples import TIMES, codes, refusal
from pydicom.uid import generate_uid

from CTPerfusionSuiteLib.dicom.inventory import take_inventory
from CTPerfusionSuiteLib.dicom.perfusion_series import read_perfusion_series
from CTPerfusionSuiteLib.errors import DataRefused


def ball(x, y, z):
    """A smooth blob away from the middle, HU."""
    return 800 * np.exp(-((x - 4) ** 2 + (y + 3) ** 2 + (z - 12) ** 2) / 90) - 300 * np.exp(
        -((x + 9) ** 2 + (y - 8) ** 2 + (z - 20) ** 2) / 40
    )


def sampled(positions, row, column, spacing, shape):
    j, i = np.indices(shape)
    return np.stack(
        [
            np.rint(
                ball(
                    *(
                        np.asarray(p)[:, None, None]
                        + i * spacing[1] * np.asarray(row)[:, None, None]
                        + j * spacing[0] * np.asarray(column)[:, None, None]
                    )
                )
            )
            for p in positions
        ]
    )


@pytest.mark.parametrize("tilt", [12.0, -18.5])
def test_gantry_tilt_is_undone_where_the_anatomy_lies(tmp_path, tilt):
    angle = np.deg2rad(tilt)
    row, column = np.array([1.0, 0, 0]), np.array([0, np.cos(angle), np.sin(angle)])
    # The table runs along z while the slices are tilted.
    places = [np.array([-22.0, -25.0, 3.0 * k]) for k in range(10)]
    still = sampled(places, row, column, (0.9, 0.7), (60, 64))
    values = still[None] + 5 * np.arange(12)[:, None, None, None]
    folder = samples.write_dynamic(
        tmp_path, values, TIMES, lambda t, k: {"position": places[k]}, orientation=(*row, *column), spacing=(0.9, 0.7)
    )
    series = read_perfusion_series(folder)
    assert "gantry_tilt_undone" in codes(series) and f"{abs(tilt):.1f} degrees" in dict(series.notes)["gantry_tilt_undone"]
    assert np.allclose(np.array(series.geometry.direction)[:, 2], np.cross(row, column), atol=1e-6)
    assert series.geometry.spacing[2] == pytest.approx(3.0 * np.cos(angle))
    k, j, i = np.meshgrid(*(np.arange(n) for n in series.geometry.shape), indexing="ij")
    lps = series.geometry.to_lps(np.stack([i, j, k], axis=-1))
    truth = ball(lps[..., 0], lps[..., 1], lps[..., 2]) + 5 * 7
    outside = series.values[7] == -1024
    assert 0.02 < outside.mean() < 0.4
    inside = ~outside & (series.values[7] > -900)
    edge = np.zeros_like(inside)
    edge[:, 2:-2] = inside[:, :-4] & inside[:, 4:] & inside[:, 2:-2]
    assert np.abs(series.values[7] - truth)[edge].max() < 4
    # Nothing is lost: every stored slice is there in full.
    assert (series.values[7] > -900).sum() >= 0.97 * still.size


def test_uneven_slices_are_interpolated_along_k_with_their_times(tmp_path):
    heights = np.array([0.0, 4, 8, 12, 14, 20, 24])
    # HU and times are linear in height, so linear interpolation must be exact for both.
    values = np.rint(np.arange(60).reshape(6, 10)[None, None] + 3 * heights[None, :, None, None] + 6 * np.arange(12)[:, None, None, None])
    times = TIMES[:, None] + 0.05 * heights[None]
    series = read_perfusion_series(samples.write_dynamic(tmp_path, values, times, height=lambda k: heights[k]))
    even = 4.0 * np.arange(7)
    assert series.geometry.spacing[2] == pytest.approx(4) and series.geometry.size[2] == 7
    assert np.abs(series.times - (TIMES[:, None] + 0.05 * even[None])).max() < 1e-6
    expected = np.arange(60).reshape(6, 10)[None, None] + 3 * even[None, :, None, None] + 6 * np.arange(12)[:, None, None, None]
    assert np.abs(series.values - expected).max() <= 0.5 and "uneven_spacing_resampled" in codes(series)


def test_a_gap_between_slices_is_not_filled_with_invented_anatomy(tmp_path):
    values = samples.truth(12, 6)
    text = refusal(samples.write_dynamic(tmp_path, values, TIMES, height=lambda k: 5.0 * k + (25 if k > 2 else 0)))
    assert "gap of 30.0 mm" in text


def test_a_real_tilted_ge_head_becomes_a_regular_grid(shared_data, tmp_path):
    folder = shared_data / "head_ncct_ge_gantry_tilt"
    if not folder.is_dir():
        pytest.skip("no such sample data")
    with pytest.raises(DataRefused, match="one time point"):
        read_perfusion_series(folder)
    for n, path in enumerate(sorted(folder.glob("*.dcm"))[::3]):
        for t in range(8):
            ct = pydicom.dcmread(path)
            ct.SOPInstanceUID = ct.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            ct[0x0019, 0x1024].value = f"{36 + 3.0 * t:.3f}"
            ct.InstanceNumber = 100 * n + t
            ct.Rows = ct.Columns = 128
            ct.PixelSpacing = [4 * 0.4882812] * 2
            ct.PixelData = np.ascontiguousarray(np.frombuffer(ct.PixelData, "<i2").reshape(512, 512)[::4, ::4]).tobytes()
            ct.save_as(tmp_path / f"{n}_{t}")
    series = read_perfusion_series(tmp_path)
    assert {"gantry_tilt_undone", "uneven_spacing_resampled"} <= codes(series) and "18.5 degrees" in dict(series.notes)[
        "gantry_tilt_undone"
    ]
    assert np.allclose(series.times, 3.0 * np.arange(8))
    # The first slice keeps its place: its middle pixel is found at the position its header gives.
    first = pydicom.dcmread(sorted(folder.glob("*.dcm"))[0])
    row, column = np.array(first.ImageOrientationPatient[:3], float), np.array(first.ImageOrientationPatient[3:], float)
    lps = np.array(first.ImagePositionPatient, float) + 256 * 0.4882812 * row + 256 * 0.4882812 * column
    i, j, k = np.rint(series.geometry.to_index(lps)).astype(int)
    stored = np.frombuffer(first.PixelData, "<i2").reshape(512, 512)[::4, ::4]
    near = series.values[0, k, j - 12 : j + 13, i - 12 : i + 13].astype(float)
    assert np.corrcoef(near.ravel(), stored[52:77, 52:77].astype(float).ravel())[0, 1] > 0.95


def test_a_real_head_is_one_volume_and_no_perfusion(shared_data):
    folder = shared_data / "slicer_cthead_64"
    if not folder.is_dir():
        pytest.skip("no such sample data")
    inventory = take_inventory(folder)
    assert not inventory.candidates and inventory.ct_images == 93
    assert [(other.reason, other.files) for other in inventory.others] == [("one time point", 93)]
    with pytest.raises(DataRefused, match="not a dynamic|no series of the folder is a dynamic"):
        read_perfusion_series(folder)
