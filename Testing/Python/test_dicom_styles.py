"""Raw DICOM as five vendors write it: the study on disk says what the simulator meant, and validators accept every object."""

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import damaged_studies as damaged
import numpy as np
import pydicom
import pytest

from CTPerfusionSuiteLib.phantoms.acquisition_geometry import acquire, shuttle_timing
from CTPerfusionSuiteLib.phantoms.dicom_styles import COMPRESSIONS, SLICE_SLOPES, STYLES, VARIANTS, write_dicom_study
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries

ALL_STYLES = (*STYLES, *VARIANTS)
LEFT_LPS = (60.0, 0.0, 15.0)
"""Where the bright spot lies: on the patient's left."""


def head(frames: int = 12, slices: int = 6, matrix: int = 48, step: float = 2.0, shuttle: bool = False, spacing_z: float = 5.0,
         seed: int = 1) -> TimeSeries:
    """A smooth head with a bolus, noise, and a bright spot on the patient's left; irregular times."""
    geometry = Geometry((matrix, matrix, slices), (220 / matrix, 220 / matrix, spacing_z), (-108.0, -104.0, -7.5))
    k, j, i = np.indices(geometry.shape)
    x, y, z = np.moveaxis(geometry.to_lps(np.stack([i, j, k], axis=-1)), -1, 0)
    radius = np.hypot(x / 80, y / 95) + 0.001 * z
    anatomy = -1000 + 1035 / (1 + np.exp((radius - 1) * 20)) + 10 * np.sin(x / 30) * np.cos(y / 40)
    spot = 200 * np.exp(-((x - LEFT_LPS[0]) ** 2 + (y - LEFT_LPS[1]) ** 2 + (z - LEFT_LPS[2]) ** 2) / (2 * 12.0**2))
    times = np.cumsum(np.r_[0.0, np.tile([step, step, 1.5 * step], frames)[: frames - 1]]) + 0.0
    slabs = None
    if shuttle:
        times, slabs = shuttle_timing(times, slices)
    seconds = times if times.ndim == 2 else np.broadcast_to(times[:, None], (frames, slices))
    arrived = np.maximum(seconds - 6, 0)
    bolus = 40 * (arrived / 4) ** 3 * np.exp(3 - 3 * arrived / 4)
    noise = np.random.default_rng(seed).normal(0, 4, (frames, *geometry.shape))
    values = anatomy + spot + bolus[..., None, None] * (radius < 0.9) + noise
    return TimeSeries(np.rint(np.clip(values, -1024, 3071)).astype(np.int16), geometry, times, slabs=slabs)


def for_style(style: str, **options) -> TimeSeries:
    """The head as this style scans it."""
    return head(shuttle=style.startswith("shuttle"), **options)


def on_disk(folder) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(T, K, J, I) HU, (T, K) seconds and (K, 3) positions read plainly from the files, ordered by position and time."""
    groups = damaged._by_position(damaged.perfusion_slices(folder))
    keys = sorted(groups, key=lambda key: key[4])
    cache = {}

    def pixels(s):
        if s.path not in cache:
            cache.clear()
            cache[s.path] = pydicom.dcmread(s.path)
        image = cache[s.path]
        if s.frame is None:
            return image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
        transform = image.PerFrameFunctionalGroupsSequence[s.frame].PixelValueTransformationSequence[0]
        return image.pixel_array[s.frame] * float(transform.RescaleSlope) + float(transform.RescaleIntercept)

    values = np.stack([np.stack([pixels(s) for s in groups[key]]) for key in keys], axis=1)
    seconds = np.stack([[s.seconds for s in groups[key]] for key in keys], axis=1)
    return values, seconds - seconds.min(), np.array([key[2:] for key in keys])


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Every style written once, with everything else a real folder holds."""
    root = tmp_path_factory.mktemp("studies")
    return {style: write_dicom_study(for_style(style), root / style, style, seed=3) for style in ALL_STYLES}


@pytest.mark.parametrize("style", ALL_STYLES)
def test_the_files_hold_the_simulated_numbers_times_and_places(studies, style):
    series = for_style(style)
    values, seconds, positions = on_disk(studies[style])
    assert np.array_equal(values, series.values)
    assert np.abs(seconds - series.slice_times).max() < 1e-5
    expected = series.geometry.to_lps([[0, 0, k] for k in range(series.values.shape[1])])
    assert np.abs(positions - expected).max() < 0.01


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
@pytest.mark.parametrize("style", ALL_STYLES)
def test_a_validator_finds_no_error_in_any_object(studies, style, tmp_path):
    files = [p for p in studies[style].rglob("*") if p.is_file() and p.name != "README"]
    if len(files) > 40:  # images of one series differ in numbers only
        files = files[::6]
    odd = write_dicom_study(for_style(style, frames=2, slices=3), tmp_path / "odd", style, tilt_deg=12, uneven=True, slopes="per-slice",
                            padding=True, compress="rle", start_time="235959")
    files += [p for p in odd.rglob("*") if p.is_file() and p.name != "README"]

    def complaints(path: Path) -> list[str]:
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, timeout=60)
        return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]

    with ThreadPoolExecutor(2) as pool:
        found = {line for lines in pool.map(complaints, files) for line in lines}
    assert not found


def test_the_validator_would_find_an_error(studies, tmp_path):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dicom3tools is not installed")
    image = pydicom.dcmread(damaged.perfusion_slices(studies["siemens"])[0].path)
    del image.Rows
    image.save_as(tmp_path / "broken")
    done = subprocess.run(["dciodvfy", str(tmp_path / "broken")], capture_output=True, text=True, timeout=60)
    assert "Error" in done.stdout + done.stderr


def test_each_vendor_hides_time_where_it_does_in_life(studies):
    def images(style):
        return [pydicom.dcmread(s.path, stop_before_pixels=True) for s in damaged.perfusion_slices(studies[style])]

    ge = images("ge")
    assert len({image.AcquisitionTime for image in ge}) == 1
    assert len({image[0x0019, 0x1024].value for image in ge}) == 12
    assert all(image.file_meta.TransferSyntaxUID == pydicom.uid.ImplicitVRLittleEndian and image.PixelRepresentation == 1 for image in ge)
    siemens = images("siemens")
    assert {image.AcquisitionNumber for image in siemens} == set(range(1, 13))
    assert all(image.PixelRepresentation == 0 and image.RescaleIntercept == -1024 for image in siemens)
    philips = images("philips")
    assert {(image.TemporalPositionIdentifier, image.NumberOfTemporalPositions) for image in philips} == {(t, 12) for t in range(1, 13)}
    assert len({image.SeriesInstanceUID for image in images("canon")}) == 12
    assert len({s.path for s in damaged.perfusion_slices(studies["enhanced"])}) == 1
    assert len({s.path for s in damaged.perfusion_slices(studies["enhanced-split"])}) == 12
    for style in ("siemens", "ge", "philips", "shuttle"):
        assert len({image.SeriesInstanceUID for image in images(style)}) == 1


def test_names_and_order_of_files_say_nothing_about_time(studies):
    slices = sorted(damaged.perfusion_slices(studies["siemens"]), key=lambda s: s.path.name)
    assert all("." not in s.path.name for s in slices)
    order = np.argsort([s.seconds for s in slices], kind="stable")
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.4


def test_a_shuttle_scan_interleaves_two_irregular_slabs():
    times, slabs = shuttle_timing(np.arange(10) * 3.0, 8)
    low, high = times[:, slabs == 0][:, 0], times[:, slabs == 1][:, 0]
    assert np.all(np.diff(low) > 0) and np.all(np.diff(high) > 0)
    assert np.ptp(np.diff(low)) > 1 and times.min() == 0
    assert np.array_equal(np.sign(high - low), np.where(np.arange(10) % 2 == 0, 1, -1))


def test_a_series_without_slice_times_is_resampled_onto_the_shuttle_consistently(tmp_path):
    plain = head(frames=20, step=1.5)
    wave = 1000 * np.exp(-((plain.times[:, None, None, None] - 15) / 8) ** 2) + np.zeros(plain.values.shape)
    smooth = TimeSeries(wave.astype(np.float32), plain.geometry, plain.times)
    values, seconds, _ = on_disk(write_dicom_study(smooth, tmp_path / "s", "shuttle", distractors=False))
    inside = seconds <= plain.times[-1]
    expected = 1000 * np.exp(-((seconds - 15) / 8) ** 2)
    assert np.abs(values[..., 0, 0] - expected)[inside].max() < 5
    assert np.abs(smooth.values[..., 0, 0] - expected).max() > 50  # untouched pixels would not have fitted


@pytest.mark.parametrize("compress", COMPRESSIONS)
@pytest.mark.parametrize("style", ["siemens", "ge", "enhanced"])
def test_lossless_compression_keeps_every_number(tmp_path, style, compress):
    series = head(frames=3, slices=2)
    folder = write_dicom_study(series, tmp_path / "c", style, compress=compress, distractors=False)
    path = damaged.perfusion_slices(folder)[0].path
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == COMPRESSIONS[compress]
    assert np.array_equal(on_disk(folder)[0], series.values)


@pytest.mark.parametrize("style", ["siemens", "canon", "enhanced"])
def test_each_slice_may_have_a_rescale_slope_of_its_own(tmp_path, style):
    series = head(frames=3, slices=4)
    values, _, _ = on_disk(write_dicom_study(series, tmp_path / "p", style, slopes="per-slice", distractors=False))
    error = np.abs(values - series.values).max(axis=(0, 2, 3))
    assert np.all(error <= np.array(SLICE_SLOPES) / 2 + 1e-3)
    assert error[0] == error[1] == error[2] == 0 < error[3]


def test_padding_marks_the_corners_and_leaves_the_head_alone(tmp_path):
    series = head(frames=3, slices=2)
    for style in ("ge", "siemens"):
        folder = write_dicom_study(series, tmp_path / style, style, padding=True, distractors=False)
        image = pydicom.dcmread(damaged.perfusion_slices(folder)[0].path)
        assert image.pixel_array[0, 0] == image.PixelPaddingValue
        values, _, _ = on_disk(folder)
        assert np.array_equal(values[..., 8:-8, 8:-8], series.values[..., 8:-8, 8:-8])


@pytest.mark.parametrize("rotate", [False, True])
def test_a_tilted_gantry_shears_the_stack_and_leaves_anatomy_in_place(tmp_path, rotate):
    series = head(frames=3, slices=8, matrix=64)
    folder = write_dicom_study(series, tmp_path / "t", "ge", tilt_deg=18.5, rotate_with_gantry=rotate, distractors=False)
    groups = damaged._by_position(damaged.perfusion_slices(folder))
    images = [pydicom.dcmread(groups[key][0].path) for key in sorted(groups, key=lambda key: key[4])]
    assert float(images[0].GantryDetectorTilt) == 18.5
    row, column = np.array(images[0].ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(row, column)
    steps = np.diff([np.array(image.ImagePositionPatient, float) for image in images], axis=0)
    assert np.allclose(steps @ normal, 5.0, atol=1e-3) and np.allclose(steps @ row, 0, atol=1e-3)
    assert np.allclose(np.degrees(np.arctan(steps @ column / 5.0)), -18.5, atol=0.01)
    if rotate:  # the table runs along z and GE writes orientations of this sign for a positive tilt
        assert np.allclose(steps[:, :2], 0, atol=1e-3)
        assert column[2] == pytest.approx(-np.sin(np.deg2rad(18.5)), abs=1e-4)
    else:  # at one place in space the resampled pixels show what the series shows there
        inner = series.geometry.to_lps([[24, 30, k] for k in range(8)])
        for k, image in enumerate(images):
            at = (inner[k] - np.array(image.ImagePositionPatient, float)) @ column / series.geometry.spacing[1]
            column_values = image.pixel_array[:, 24].astype(float)
            assert np.interp(at, np.arange(64), column_values) == pytest.approx(series.values[0, k, 28:33, 24].mean(), abs=15)


def test_uneven_spacing_keeps_the_extent_and_the_content():
    slices = acquire(head(frames=2, slices=9), uneven=True)
    heights = slices.positions[:, 2]
    assert heights[0] == -7.5 and heights[-1] == pytest.approx(32.5)
    assert np.ptp(np.diff(heights)) > 2
    plain = head(frames=2, slices=9)
    expected = np.array([[np.interp(z, -7.5 + 5 * np.arange(9), plain.values[t, :, 24, 24]) for z in heights] for t in range(2)])
    assert np.abs(slices.values[:, :, 24, 24] - expected).max() <= 0.51


def test_a_scan_over_midnight_changes_the_date(tmp_path):
    series = head(frames=12, slices=2)
    folder = write_dicom_study(series, tmp_path / "m", "siemens", start_date="20240229", start_time="235950", distractors=False)
    images = [pydicom.dcmread(s.path, stop_before_pixels=True) for s in damaged.perfusion_slices(folder)]
    assert {image.AcquisitionDate for image in images} == {"20240229", "20240301"}
    assert min(image.AcquisitionTime for image in images) < "000100" and max(image.AcquisitionTime for image in images) >= "235950"
    assert np.abs(on_disk(folder)[1] - series.slice_times).max() < 1e-5


def test_the_same_seed_writes_the_same_study_and_another_seed_another(tmp_path):
    series = head(frames=2, slices=2)
    contents = {}
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        folder = write_dicom_study(series, tmp_path / name, "siemens", seed=seed)
        contents[name] = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert contents["a"] == contents["b"]
    assert contents["a"] != contents["c"]


def test_a_real_folder_holds_more_than_the_perfusion_series(studies):
    images = [damaged._read(p, pixels=False) for p in studies["ge"].rglob("*") if p.is_file()]
    kinds = {(i.SOPClassUID.name, i.SeriesDescription) for i in images if i is not None}
    assert {name for name, _ in kinds} == {"CT Image Storage", "Secondary Capture Image Storage", "X-Ray Radiation Dose SR Storage"}
    assert len({i.SeriesInstanceUID for i in images if i is not None}) == 6
    assert images.count(None) == 1  # the text file
    assert {str(i.PatientID) for i in images if i is not None} == {"PHANTOM"}


def test_a_wrong_style_or_compression_is_named():
    with pytest.raises(ValueError, match="siemens"):
        write_dicom_study(head(frames=2, slices=2), "unused", "toshiba")
    with pytest.raises(ValueError, match="jpeg2000"):
        write_dicom_study(head(frames=2, slices=2), "unused", compress="zip")


SPOILERS = {name: getattr(damaged, name) for name in (
    "one_time_point", "six_frames", "identical_times", "backward_times", "clock_set_back", "slices_missing_from_a_frame", "truncated_files",
    "two_patients", "two_patients_in_one_series", "all_zero_pixels", "no_bolus", "no_time_axis", "stray_files", "hostile_headers",
    "without_perfusion", "not_ct")}


@pytest.mark.parametrize("style", ["ge", "shuttle", "enhanced"])
@pytest.mark.parametrize("spoil", SPOILERS)
def test_bad_input_is_bad_in_the_way_it_says(studies, tmp_path, style, spoil):
    good = studies[style]
    before = {p.relative_to(good): p.stat().st_mtime_ns for p in good.rglob("*")}
    bad = SPOILERS[spoil](good, tmp_path / "bad")
    assert {p.relative_to(good): p.stat().st_mtime_ns for p in good.rglob("*")} == before  # the good study is not touched
    if spoil in ("truncated_files", "no_time_axis", "two_patients", "two_patients_in_one_series", "stray_files", "hostile_headers",
                 "not_ct", "without_perfusion", "one_time_point", "slices_missing_from_a_frame"):
        ids = [damaged._read(p, pixels=False) for p in bad.rglob("*") if p.is_file()]
        patients = {str(i.PatientID) for i in ids if i is not None and "PatientID" in i}
        counts = {"two_patients": 2, "two_patients_in_one_series": 2}
        assert len(patients) == counts.get(spoil, 1)
        if spoil == "one_time_point" or spoil in ("without_perfusion", "not_ct"):
            assert not damaged.perfusion_slices(bad)
        if spoil == "slices_missing_from_a_frame":
            assert len(damaged.perfusion_slices(bad)) == 12 * 6 - 1
        return
    values, seconds, _ = on_disk(bad) if spoil not in ("identical_times",) else (None, None, None)
    if spoil == "six_frames":
        assert len(values) == 6
    elif spoil == "identical_times":
        assert len({s.seconds for s in damaged.perfusion_slices(bad)}) == 1
    elif spoil == "clock_set_back":
        assert (np.diff(seconds, axis=0) == 0).any()
    elif spoil == "backward_times":
        assert np.array_equal(values, on_disk(good)[0][::-1])
    elif spoil == "all_zero_pixels":
        assert len(np.unique(values)) == 1
    elif spoil == "no_bolus":
        inside = (slice(None), slice(None), slice(8, -8), slice(8, -8))
        assert np.ptp(values[inside].mean(axis=(2, 3)), axis=0).max() < 1
        assert np.ptp(on_disk(good)[0][inside].mean(axis=(2, 3)), axis=0).max() > 5


def test_a_nifti_with_nan_has_a_time_unit_and_one_bad_number(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.load(damaged.nifti_with_nan(head(frames=8, slices=2), tmp_path / "nan.nii.gz"))
    assert image.shape == (48, 48, 2, 8) and image.header.get_xyzt_units()[1] == "sec"
    assert np.isnan(image.get_fdata()).sum() == 1
