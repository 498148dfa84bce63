"""Stories of reading dynamic CT from DICOM, on small files that differ from a textbook series in one way each."""

import json
import os
import shutil
import subprocess
import sys
import textwrap

import dicom_samples as samples
import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless, SecondaryCaptureImageStorage, generate_uid

from CTPerfusionSuiteLib.dicom import pixels as pixels_module
from CTPerfusionSuiteLib.dicom.headers import read_header
from CTPerfusionSuiteLib.dicom.inventory import take_inventory
from CTPerfusionSuiteLib.dicom.perfusion_series import read_perfusion_series
from CTPerfusionSuiteLib.dicom.pixels import read_hounsfield
from CTPerfusionSuiteLib.errors import Canceled, DataRefused, RequestRefused

TIMES = 2.0 * np.arange(12)
VALUES = samples.truth()


def codes(series):
    return {code for code, _ in series.notes}


def refusal(folder, **options):
    with pytest.raises(DataRefused) as caught:
        read_perfusion_series(folder, **options)
    text = str(caught.value)
    assert "DOE" not in text and "JANE" not in text and len(text) < 380, text
    return text


# ------------------------------------------------------------------------------------------------------------- finding, placing


def test_a_scrambled_series_comes_back_voxel_by_voxel(tmp_path):
    series = read_perfusion_series(samples.write_dynamic(tmp_path, VALUES, TIMES))
    assert series.values.dtype == np.int16 and np.array_equal(series.values, VALUES)
    assert series.times.shape == (12,) and np.allclose(series.times, TIMES)
    assert series.geometry.origin == (-6, -5, 0) and series.geometry.spacing == (1, 1, 5)
    assert series.time_source == "DICOM AcquisitionTime" and series.slabs is None and not series.notes


def test_clutter_is_named_and_left_out(tmp_path):
    folder = samples.write_dynamic(tmp_path, VALUES, TIMES)
    plain = {"series_uid": "1.9", "SeriesNumber": 2, "seconds": 35000.0}
    for k in range(3):
        samples.save(samples.image(VALUES[0, k], (-6, -5, 5.0 * k), **plain, SeriesDescription="NCCT of Jane Doe"), tmp_path / f"plain{k}")
    samples.save(
        samples.image(VALUES[0, 0], (0, 0, 0), series_uid="1.8", SeriesNumber=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        tmp_path / "scout",
    )
    samples.save(samples.image(VALUES[0, 0], (0, 0, 0), series_uid="1.7", SOPClassUID=SecondaryCaptureImageStorage), tmp_path / "capture")
    samples.save(samples.image(VALUES[0, 0], (0, 0, 0), series_uid="1.6", Modality="MR"), tmp_path / "mr")
    for n in range(9):
        samples.save(
            samples.image(VALUES[0, 0], (0, 0, 0), series_uid="1.5", seconds=36000.0 + 2 * n, ImageType=["DERIVED", "SECONDARY", "CBF"]),
            tmp_path / f"map{n}",
        )
    (tmp_path / "Thumbs.db").write_bytes(b"\0\1\2" * 100)
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "DOE JANE.txt").write_text("hello")
    (tmp_path / "nothing").write_bytes(b"")
    series = read_perfusion_series(folder)
    assert np.array_equal(series.values, VALUES)
    text = "\n".join(message for _, message in series.notes)
    for what in (
        "localizer",
        "secondary capture",
        "not CT (modality MR)",
        "derived map, 9 files",
        "one time point, 3 files",
        "'Thumbs.db' skipped",
        "'nothing' skipped: empty file",
    ):
        assert what in text, what
    assert "DICOMDIR" not in text and "doe" not in text.lower() and "jane" not in text.lower()
    inventory = take_inventory(folder)
    assert len(inventory.candidates) == 1 and inventory.candidates[0].kind == "one series" and inventory.candidates[0].time_points == 12


@pytest.mark.parametrize(
    "orientation",
    [
        (1, 0, 0, 0, 1, 0),
        (-1, 0, 0, 0, 1, 0),
        (1, 0, 0, 0, -1, 0),
        (0.96, 0.28, 0, -0.28, 0.96, 0),
        (1, 0, 0, 0, 0.9483237, -0.3173047),
        (0, 1, 0, 0, 0, -1),
    ],
)
def test_every_voxel_lies_where_its_header_says(tmp_path, orientation):
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    normal = np.cross(row, column)
    # Slices are written from the far end of the normal, as in feet-first scans.
    place = [np.array([3.0, -20.0, 7.0]) - 5.0 * k * normal for k in range(3)]
    folder = samples.write_dynamic(
        tmp_path, VALUES, TIMES, lambda t, k: {"position": place[k]}, orientation=orientation, spacing=(1.5, 0.5)
    )
    series = read_perfusion_series(folder)
    t, k, j, i = 4, 0, 6, 9
    lps = place[k] + 0.5 * i * row + 1.5 * j * column
    found = np.rint(series.geometry.to_index(lps)).astype(int)
    assert np.abs(series.geometry.to_lps(found) - lps).max() < 1e-3
    assert series.values[t, found[2], found[1], found[0]] == VALUES[t, k, j, i]
    assert np.linalg.det(series.geometry.direction) == pytest.approx(1)


def test_a_series_per_time_point_is_joined_without_the_plain_scan_before(tmp_path):
    numbers = np.random.default_rng(2).permutation(12)
    samples.write_dynamic(
        tmp_path,
        VALUES,
        TIMES,
        lambda t, k: {
            "series_uid": f"1.{t + 1}",
            "SeriesNumber": 100 + t,
            "InstanceNumber": k + 1,
            "SeriesDescription": f"Vol {numbers[t]}",
        },
    )
    for k in range(3):
        samples.save(
            samples.image(VALUES[0, k], (-6, -5, 5.0 * k), series_uid="1.99", SeriesNumber=3, SeriesDescription="Vol", seconds=35000.0),
            tmp_path / f"plain{k}",
        )
    series = read_perfusion_series(tmp_path, series_uid="1.7")
    assert np.array_equal(series.values, VALUES) and np.allclose(series.times, TIMES)
    assert take_inventory(tmp_path).candidates[0].kind == "a series per time point"
    assert any("series 3" in message and "one time point" in message for _, message in series.notes)


def test_most_time_points_win_and_a_uid_overrides(tmp_path):
    samples.write_dynamic(tmp_path / "a", VALUES, TIMES, series_uid="1.1", SeriesNumber=7)
    longer = samples.truth(15, seed=1)
    samples.write_dynamic(tmp_path / "b", longer, 2.0 * np.arange(15), series_uid="1.2", SeriesNumber=8)
    tracking = samples.truth(30, 1, seed=2)
    samples.write_dynamic(
        tmp_path / "c", tracking, 1.0 * np.arange(30), series_uid="1.3", SeriesNumber=2, SeriesDescription="Bolus tracking"
    )
    series = read_perfusion_series(tmp_path)
    assert np.array_equal(series.values, longer)
    named = [message for code, message in series.notes if code == "other_series"]
    assert any("series 7" in message and "12 time points" in message for message in named) and any(
        "Bolus tracking" in message for message in named
    )
    assert np.array_equal(read_perfusion_series(tmp_path, series_uid="1.1").values, VALUES)
    with pytest.raises(RequestRefused, match="no series 9.9"):
        read_perfusion_series(tmp_path, series_uid="9.9")


def test_files_exported_twice_are_used_once_even_with_one_uid_for_all(tmp_path):
    folder = samples.write_dynamic(tmp_path / "a", VALUES, TIMES, SOPInstanceUID="1.2.3.4")
    shutil.copytree(folder, tmp_path / "b")
    series = read_perfusion_series(tmp_path)
    assert np.array_equal(series.values, VALUES) and "duplicate_files" in codes(series)


def test_the_header_carries_what_writers_need_and_no_name(tmp_path):
    series = read_perfusion_series(
        samples.write_dynamic(
            tmp_path, VALUES, TIMES, SeriesDescription="Perfusion JANE 1.5s", ConvolutionKernel="H20f", XRayTubeCurrent=250
        )
    )
    header = json.loads(json.dumps(series.header))
    assert header["kvp"] == 80 and header["kernel"] == "H20f" and header["manufacturer"] == "ACME" and header["tube_current_ma"] == 250
    assert header["StudyInstanceUID"] == samples.STUDY and header["SeriesInstanceUID"] == "1.2.3" and len(header["SOPInstanceUIDs"]) == 3
    first = {str(pydicom.dcmread(path).SOPInstanceUID): pydicom.dcmread(path) for path in tmp_path.rglob("IM*")}
    assert [float(first[uid].ImagePositionPatient[2]) for uid in header["SOPInstanceUIDs"]] == [0, 5, 10]
    assert os.path.isfile(header["source_file"])
    assert "JANE" not in header["series_description"] and "DOE" not in json.dumps({k: v for k, v in header.items() if k != "source_file"})


# ------------------------------------------------------------------------------------------------------------------------ times


def test_slices_scanned_at_two_table_positions_form_slabs(tmp_path):
    values = samples.truth(12, 6)
    upward = np.arange(12) % 2 == 0
    late = np.where(upward[:, None], np.arange(6)[None] >= 3, np.arange(6)[None] < 3)
    times = 3.0 * np.arange(12)[:, None] + 1.2 * late
    series = read_perfusion_series(samples.write_dynamic(tmp_path, values, times))
    assert series.times.shape == (12, 6) and np.allclose(series.times, times) and np.array_equal(series.values, values)
    assert series.slabs.tolist() == [0, 0, 0, 1, 1, 1]


def test_the_half_last_pass_of_a_shuttle_is_left_out(tmp_path):
    values = samples.truth(12, 6)
    times = 3.0 * np.arange(12)[:, None] + 1.5 * (np.arange(6)[None] >= 3)
    folder = samples.write_dynamic(tmp_path, values, times, lambda t, k: None if t == 11 and k >= 3 else {})
    series = read_perfusion_series(folder)
    assert np.array_equal(series.values, values[:11]) and "incomplete_last_pass" in codes(series)


def test_acquisition_times_cross_midnight(tmp_path):
    series = read_perfusion_series(samples.write_dynamic(tmp_path, VALUES, TIMES, start=86400 - 9.0))
    assert np.allclose(series.times, TIMES) and np.array_equal(series.values, VALUES)


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("scale", [1, 1000])
def test_ge_cine_keeps_its_times_in_a_private_element(tmp_path, implicit, scale):
    for n, (t, k) in enumerate(np.ndindex(12, 3)):
        ct = samples.image(
            VALUES[t, k],
            (-6, -5, 5.0 * k),
            seconds=36000.0,
            InstanceNumber=12 * k + t + 1,
            Manufacturer="GE MEDICAL SYSTEMS",
            AcquisitionNumber=1,
        )
        ct.private_block(0x0019, "GEMS_ACQU_01", create=True).add_new(0x24, "DS", f"{scale * (TIMES[t] + 31.2):.3f}")
        samples.save(ct, tmp_path / f"{n}", implicit)
    series = read_perfusion_series(tmp_path)
    assert "0019,1024" in series.time_source and np.allclose(series.times, TIMES) and np.array_equal(series.values, VALUES)


def test_better_sources_come_before_worse_ones(tmp_path):
    def change(t, k):
        return {
            "AcquisitionDateTime": f"20250314{samples.clock(36000 + 3 * t)}+0100",
            "TriggerTime": 1000.0 * 1.1 * t,
            "TemporalPositionIdentifier": t + 1,
        }

    series = read_perfusion_series(samples.write_dynamic(tmp_path, VALUES, TIMES, change))
    assert series.time_source == "DICOM AcquisitionDateTime" and np.allclose(series.times, 3.0 * np.arange(12))


def test_a_source_that_fails_gives_way_to_the_next(tmp_path):
    series = read_perfusion_series(
        samples.write_dynamic(
            tmp_path, VALUES, TIMES, lambda t, k: {"seconds": 36000.0, "TriggerTime": 2000.0 * t, "AcquisitionNumber": t + 1}
        )
    )
    assert series.time_source == "DICOM TriggerTime" and np.allclose(series.times, TIMES)


def test_numbers_of_frames_are_never_taken_for_time(tmp_path):
    folder = samples.write_dynamic(
        tmp_path,
        VALUES,
        TIMES,
        lambda t, k: {
            "AcquisitionTime": None,
            "AcquisitionDate": None,
            "TemporalPositionIdentifier": 2 * t + 1,
            "AcquisitionNumber": t + 1,
        },
    )
    assert "no acquisition times" in refusal(folder)
    given = read_perfusion_series(folder, dt=2.5)
    assert np.allclose(given.times, 2.5 * np.arange(12)) and np.array_equal(given.values, VALUES) and "given" in given.time_source


def test_content_time_only_on_request_and_flagged(tmp_path):
    folder = samples.write_dynamic(
        tmp_path, VALUES, TIMES, lambda t, k: {"AcquisitionTime": None, "ContentTime": samples.clock(36100 + 2 * t)}
    )
    assert "--accept-content-time" in refusal(folder)
    series = read_perfusion_series(folder, accept_content_time=True)
    assert np.allclose(series.times, TIMES) and "content_time_used" in codes(series)


def test_renumbered_images_do_not_spoil_good_times(tmp_path):
    numbers = np.random.default_rng(8).permutation(36) + 1
    series = read_perfusion_series(samples.write_dynamic(tmp_path, VALUES, TIMES, lambda t, k: {"InstanceNumber": int(numbers[3 * t + k])}))
    assert np.array_equal(series.values, VALUES)


@pytest.mark.parametrize("numbered_by", ["InstanceNumber", "AcquisitionNumber", "TemporalPositionIdentifier", "SeriesNumber"])
def test_two_frames_with_swapped_times_are_refused(tmp_path, numbered_by):
    swapped = TIMES.copy()
    swapped[[5, 6]] = swapped[[6, 5]]
    change = {
        "InstanceNumber": lambda t, k: {},
        "SeriesNumber": lambda t, k: {"SeriesNumber": 10 + t, "series_uid": f"1.{t + 1}", "InstanceNumber": k + 1},
    }
    folder = samples.write_dynamic(
        tmp_path, VALUES, swapped, change.get(numbered_by, lambda t, k: {numbered_by: t + 1, "InstanceNumber": 1})
    )
    assert "backward" in refusal(folder)


@pytest.mark.parametrize(
    "times, words",
    [
        (np.zeros(12), "identical"),
        (np.where(np.arange(12) > 5, TIMES - 2, TIMES), "identical"),
        (0.05 * np.arange(12), "steps of 0.05 s"),
        (15.0 * np.arange(12), "steps of 15 s"),
        (0.5 * np.arange(12), "a scan of 5.5 s"),
    ],
)
def test_implausible_times_are_refused(tmp_path, times, words):
    text = refusal(samples.write_dynamic(tmp_path, VALUES, times))
    assert words in text and "AcquisitionTime" in text


# ----------------------------------------------------------------------------------------------------------------- enhanced


def enhanced_frames(order, times, **differences):
    return [
        {
            "FrameContentSequence": samples.group(
                FrameReferenceDateTime=f"20250314{samples.clock(36000 + times[t])}", TemporalPositionIndex=t + 1
            ),
            "PlanePositionSequence": samples.group(ImagePositionPatient=[-6.0, -5.0, 5.0 * k]),
            "PixelValueTransformationSequence": samples.group(RescaleSlope=1 + k, RescaleIntercept=-100 * k, RescaleType="HU"),
        }
        for t, k in order
    ]


@pytest.mark.parametrize("compression", [None, JPEG2000Lossless, RLELossless])
def test_an_enhanced_object_holds_all_frames(tmp_path, compression):
    values = samples.truth(rows=36, columns=40) // 4
    order = [(t, k) for k in (2, 0, 1) for t in range(12)]
    ct = samples.enhanced([values[t, k] for t, k in order], enhanced_frames(order, TIMES))
    path = samples.save(ct, tmp_path / "object")
    if compression:
        ct = pydicom.dcmread(path)
        ct.compress(compression, generate_instance_uid=False)
        ct.save_as(path)
    series = read_perfusion_series(tmp_path / "object")
    expected = values.astype(int) * np.array([1, 2, 3])[:, None, None] - 100 * np.arange(3)[:, None, None]
    assert series.values.dtype == np.int16 and np.array_equal(series.values, expected)
    assert series.time_source == "DICOM FrameReferenceDateTime" and np.allclose(series.times, TIMES)
    assert series.header["frame_numbers"] == [13, 25, 1]


def test_an_enhanced_object_a_time_point(tmp_path):
    for t in range(12):
        ct = samples.enhanced(
            VALUES[t],
            [{"PlanePositionSequence": samples.group(ImagePositionPatient=[0.0, 0.0, 5.0 * k])} for k in range(3)],
            AcquisitionDateTime=f"20250314{samples.clock(36000 + TIMES[t])}",
            InstanceNumber=t + 1,
        )
        samples.save(ct, tmp_path / f"{t}")
    series = read_perfusion_series(tmp_path)
    assert np.array_equal(series.values, VALUES) and np.allclose(series.times, TIMES)


# ------------------------------------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize(
    "signed, bits, intercept", [(True, 16, 0), (False, 16, -1024), (False, 12, -1024), (True, 12, 0), (True, 16, -1024)]
)
def test_stored_values_become_hu_whatever_their_bits(tmp_path, signed, bits, intercept):
    values = np.clip(VALUES, -1000, 1900)
    stored = values.astype(int) - intercept
    if signed and bits == 12:
        # Sign bits beyond the stored ones need not be there.
        stored = stored & 0x0FFF
    series = read_perfusion_series(samples.write_dynamic(tmp_path, stored, TIMES, signed=signed, bits=bits, intercept=intercept))
    assert series.values.dtype == np.int16 and np.array_equal(series.values, values)


def test_each_slice_has_its_own_rescale(tmp_path):
    series = read_perfusion_series(samples.write_dynamic(tmp_path, VALUES, TIMES, lambda t, k: {"slope": k + 1, "intercept": -10 * k}))
    whole = VALUES.astype(int) * np.array([1, 2, 3])[:, None, None] - 10 * np.arange(3)[:, None, None]
    assert series.values.dtype == np.int16 and np.array_equal(series.values, whole)
    shutil.rmtree(tmp_path)
    series = read_perfusion_series(samples.write_dynamic(tmp_path, VALUES, TIMES, lambda t, k: {"slope": 0.5 if k == 1 else 1}))
    assert series.values.dtype == np.float32 and np.array_equal(series.values, VALUES * np.array([1, 0.5, 1])[:, None, None])


@pytest.mark.parametrize("signed, bits, padding", [(True, 16, -2000), (False, 16, 63536), (False, 12, 63536), (True, 16, -32768)])
def test_padding_is_air_and_never_overflows(tmp_path, signed, bits, padding):
    intercept = -1024
    stored = np.clip(VALUES, -900, 1900).astype(int) - intercept
    stored[..., :2, :] = padding
    folder = samples.write_dynamic(tmp_path, stored, TIMES, signed=signed, bits=bits, intercept=intercept, PixelPaddingValue=None)
    for path in folder.rglob("IM*"):
        ct = pydicom.dcmread(path)
        ct.add_new(0x00280120, "SS" if signed else "US", padding)
        ct.save_as(path)
    series = read_perfusion_series(folder)
    assert (series.values[..., :2, :] == -1024).all() and np.array_equal(series.values[..., 2:, :], np.clip(VALUES, -900, 1900)[..., 2:, :])


def test_padding_inside_the_range_of_tissue_is_left_alone(tmp_path):
    values = VALUES.copy()
    values[..., 0, 0] = 30
    series = read_perfusion_series(samples.write_dynamic(tmp_path, values, TIMES, PixelPaddingValue=30))
    assert np.array_equal(series.values, values)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_compressed_images_come_back_exactly(tmp_path, syntax):
    values = samples.truth(rows=36, columns=40)
    folder = samples.write_dynamic(tmp_path, values, TIMES)
    for path in folder.rglob("IM*"):
        ct = pydicom.dcmread(path)
        ct.compress(syntax, generate_instance_uid=False)
        ct.save_as(path)
    assert np.array_equal(read_perfusion_series(folder).values, values)
    broken = sorted(folder.rglob("IM*"))[4]
    broken.write_bytes(broken.read_bytes()[:-60])
    assert broken.name in refusal(folder) and "truncated" in refusal(folder)


def test_a_missing_decoder_names_the_package_to_install(tmp_path, monkeypatch):
    folder = samples.write_dynamic(tmp_path, VALUES, TIMES)
    for path in folder.rglob("IM*"):
        ct = pydicom.dcmread(path)
        ct.compress(RLELossless, generate_instance_uid=False)
        ct.save_as(path)
    monkeypatch.setattr(pixels_module, "get_decoder", lambda uid: type("Decoder", (), {"is_available": False})())
    with pytest.raises(RequestRefused, match=r"ctperfusionsuite\[dicom\]"):
        read_perfusion_series(folder)


def test_one_real_slice_in_sixteen_transfer_syntaxes(shared_data):
    folder = shared_data / "dicom_ct_oddities" / "transfer_syntaxes"
    if not folder.is_dir():
        pytest.skip("no such sample data")
    found = {}
    for path in sorted(folder.glob("CTImage*")):
        frame = read_header(folder, path.name)[0]
        out = np.empty((frame.rows, frame.columns), np.float32)
        try:
            read_hounsfield(folder, frame, out)
        except DataRefused as refused:
            assert "cannot be decoded" in str(refused) and frame.transfer_syntax[-2:] in ("53", "55")
            continue
        found[path.name] = out
    reference = found.pop("CTImage.dcm")
    exact = [name for name, out in found.items() if np.array_equal(out, reference)]
    assert len(exact) == 9, exact
    # Lossy and 8- or 12-bit versions agree as well as they can; outside the circle they have no padding value.
    inside = reference > -1024
    for name in set(found) - set(exact):
        error = np.abs(found[name] - reference)[inside]
        assert error.mean() < (40 if "JPEGProcess1T" in name else 16), (name, error.mean())


# ---------------------------------------------------------------------------------------------------------- tilt, uneven spacing


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


# ---------------------------------------------------------------------------------------------------------------- refusals


def test_missing_and_empty_folders_are_wrong_arguments(tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(RequestRefused):
            read_perfusion_series(folder)
    (tmp_path / "note.txt").write_text("no images here")
    assert "no DICOM" in refusal(tmp_path)


def test_too_few_frames_are_refused(tmp_path):
    assert "6 time points" in refusal(samples.write_dynamic(tmp_path, VALUES[:6], TIMES[:6]))


@pytest.mark.parametrize(
    "gone, words",
    [
        ({(5, 1)}, "frame 6 has no slice at 5.0 mm"),
        ({(0, 0)}, "frame 1 has no slice at 0.0 mm"),
        ({(11, 2)}, "frame 12 has no slice at 10.0 mm"),
        ({(11, 1), (11, 2)}, "frame 12 has no slice at 5.0 mm"),
        ({(3, 0), (7, 1), (9, 2)}, "slices are missing"),
    ],
)
@pytest.mark.parametrize("numbers", [{}, {"AcquisitionNumber": 1}, {"TemporalPositionIdentifier": 1}])
def test_missing_slices_are_named(tmp_path, gone, words, numbers):
    folder = samples.write_dynamic(tmp_path, VALUES, TIMES, lambda t, k: None if (t, k) in gone else {name: t + 1 for name in numbers})
    assert words in refusal(folder)


def test_a_truncated_file_is_named(tmp_path):
    folder = samples.write_dynamic(tmp_path, VALUES, TIMES)
    path = sorted(folder.rglob("IM*"))[3]
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    text = refusal(folder)
    assert path.name in text and "truncated" in text and "140 of 240 bytes" in text
    path.write_bytes(whole[:500])
    text = refusal(folder)
    assert path.name in text or "missing" in text


def test_two_patients_are_refused(tmp_path):
    folder = samples.write_dynamic(
        tmp_path / "a", VALUES, TIMES, lambda t, k: {"PatientID": "P2", "PatientName": "ROE^RICHARD"} if t > 8 else {}
    )
    assert "two patients" in refusal(folder)
    good = samples.write_dynamic(tmp_path / "b", VALUES, TIMES, series_uid="1.4")
    samples.write_dynamic(good / "other", VALUES, TIMES, series_uid="1.5", StudyInstanceUID="1.77", PatientID="P2")
    assert "two patients" in refusal(good)
    assert np.array_equal(read_perfusion_series(good, series_uid="1.4").values, VALUES)


def test_empty_images_are_refused_but_not_slices_beyond_the_head(tmp_path):
    assert "empty" in refusal(samples.write_dynamic(tmp_path / "a", 0 * VALUES, TIMES))
    values = VALUES.copy()
    values[4] = 0
    assert "frames 5" in refusal(samples.write_dynamic(tmp_path / "b", values, TIMES))
    values = VALUES.copy()
    values[:, 2] = -1000
    assert np.array_equal(read_perfusion_series(samples.write_dynamic(tmp_path / "c", values, TIMES)).values, values)


def test_reading_can_be_canceled(tmp_path):
    folder = samples.write_dynamic(tmp_path, VALUES, TIMES)
    seen = []

    def stop(fraction):
        seen.append(fraction)
        if fraction > 0.5:
            raise Canceled("stopped")

    with pytest.raises(Canceled):
        read_perfusion_series(folder, progress=stop)
    assert seen == sorted(seen) and seen[-1] <= 1


# --------------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("tilted", [False, True])
def test_memory_stays_near_the_size_of_the_series(tmp_path, tilted):
    pytest.importorskip("resource")
    frames, slices, side = 10, 8, 384
    values = np.random.default_rng(0).integers(-50, 90, (1, slices, side, side)).astype(np.int16).repeat(frames, axis=0)
    values += np.arange(frames, dtype=np.int16)[:, None, None, None]
    place = (lambda t, k: {"position": (0, 2.0 * k, 5.0 * k + (1.0 if k > 5 else 0))}) if tilted else None
    folder = samples.write_dynamic(tmp_path, values, 3.0 * np.arange(frames), place)
    # VmHWM is the high-water mark of this process alone; ru_maxrss would also count the parent before exec.
    program = (
        textwrap.dedent("""
        import sys
        from CTPerfusionSuiteLib.dicom.perfusion_series import read_perfusion_series
        import pydicom.pixels, CTPerfusionSuiteLib.dicom.enhanced
        def peak():
            return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
        before = peak()
        series = read_perfusion_series(sys.argv[1], threads=2)
        print((peak() - before) / (%d * 2))
        """)
        % values.size
    )
    if not os.path.exists("/proc/self/status"):
        pytest.skip("peak memory is read from /proc")
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < (2.2 if tilted else 1.6)
