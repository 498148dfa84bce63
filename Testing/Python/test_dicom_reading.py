"""Stories of finding a dynamic CT series in a folder and placing its images; what cannot be read is refused in words."""

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
from dicom_samples import TIMES, VALUES, codes, refusal
from pydicom.uid import SecondaryCaptureImageStorage

from CTPerfusionSuiteLib.dicom.inventory import take_inventory
from CTPerfusionSuiteLib.dicom.perfusion_series import read_perfusion_series
from CTPerfusionSuiteLib.errors import Canceled, RequestRefused


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
