"""What a user sees when the input is bad: one sentence, the right exit code, nothing half-written, earlier results intact."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time

import damaged_studies
import numpy as np
import pytest

from CTPerfusionSuiteLib.cli import main
from CTPerfusionSuiteLib.nifti import write_series, write_volume
from CTPerfusionSuiteLib.volumes import Volume

REFUSED, ARGUMENTS, INTERNAL = 1, 2, 3


def run(arguments, capsys):
    """Exit code and stderr of a `ctperfusion` call in this process."""
    code = main([str(word) for word in arguments])
    return code, capsys.readouterr().err


def contents(folder):
    """Every file below `folder` with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_one_sentence(text):
    lines = [line for line in text.splitlines() if line.startswith("ctperfusion")]
    assert len(lines) == 1, text
    assert "Traceback" not in text
    assert len(lines[0]) < 400


def assert_nothing_left(out):
    assert not out.exists() or not any(out.iterdir())
    assert not [path.name for path in out.parent.iterdir() if path.name.startswith(f".{out.name}")]


@pytest.mark.parametrize(
    "damage",
    [
        damaged_studies.not_ct,
        damaged_studies.without_perfusion,
        damaged_studies.one_time_point,
        damaged_studies.six_frames,
        damaged_studies.identical_times,
        damaged_studies.backward_times,
        damaged_studies.clock_set_back,
        damaged_studies.slices_missing_from_a_frame,
        damaged_studies.truncated_files,
        damaged_studies.two_patients,
        damaged_studies.two_patients_in_one_series,
        damaged_studies.all_zero_pixels,
        damaged_studies.no_bolus,
        damaged_studies.no_time_axis,
    ],
    ids=lambda damage: damage.__name__,
)
def test_a_damaged_study_is_refused_in_one_sentence(damage, small_dicom, tmp_path, capsys):
    bad = damage(small_dicom, tmp_path / "bad")
    out = tmp_path / "out"
    code, text = run(["maps", "--dicom_dir", bad, "--out_dir", out, "--progress", "none"], capsys)
    assert code == REFUSED, text
    assert_one_sentence(text)
    assert "SECRET" not in text and "OTHER" not in text
    assert_nothing_left(out)


def test_a_study_without_a_scale_of_hu_is_told_apart_from_one_without_contrast(small_dicom, tmp_path, capsys):
    bad = damaged_studies.shifted_without_rescale(small_dicom, tmp_path / "bad")
    code, text = run(["maps", "--dicom_dir", bad, "--out_dir", tmp_path / "out", "--progress", "none"], capsys)
    assert code == REFUSED and "how stored values become HU" in text and "air" in text, text
    assert_one_sentence(text)


def test_not_a_number_in_a_nifti_series_is_refused(small_study, tmp_path, capsys):
    path = damaged_studies.nifti_with_nan(small_study.series, tmp_path / "series.nii.gz")
    code, text = run(["maps", "--input", path, "--dt", 1.6, "--out_dir", tmp_path / "out", "--progress", "none"], capsys)
    assert code == REFUSED, text
    assert_one_sentence(text)


def test_a_refusal_leaves_an_earlier_good_result_as_it_was(small_result, small_dicom, tmp_path, capsys):
    import shutil

    out = tmp_path / "out"
    shutil.copytree(small_result, out)
    before = contents(out)
    bad = damaged_studies.no_bolus(small_dicom, tmp_path / "bad")
    code, text = run(["maps", "--dicom_dir", bad, "--out_dir", out, "--overwrite", "--progress", "none"], capsys)
    assert code == REFUSED, text
    assert contents(out) == before


def test_a_result_is_not_replaced_unless_asked(small_result, small_dicom, tmp_path, capsys):
    import shutil

    out = tmp_path / "out"
    shutil.copytree(small_result, out)
    before = contents(out)
    code, text = run(["maps", "--dicom_dir", small_dicom, "--out_dir", out, "--progress", "none"], capsys)
    assert code == ARGUMENTS and "--overwrite" in text
    assert contents(out) == before


@pytest.mark.parametrize("kind", ["empty", "missing"])
def test_an_empty_or_missing_folder_is_an_argument_error(kind, tmp_path, capsys):
    folder = tmp_path / "study"
    if kind == "empty":
        folder.mkdir()
    code, text = run(["maps", "--dicom_dir", folder, "--out_dir", tmp_path / "out", "--progress", "none"], capsys)
    assert code == ARGUMENTS, text
    assert_one_sentence(text)


def test_a_foreign_output_folder_is_never_touched(small_dicom, tmp_path, capsys):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter1.txt").write_text("years of work")
    for extra in ([], ["--overwrite"]):
        code, text = run(["maps", "--dicom_dir", small_dicom, "--out_dir", out, "--progress", "none", *extra], capsys)
        assert code == ARGUMENTS, text
        assert_one_sentence(text)
    assert contents(out) == {"chapter1.txt": b"years of work"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_output_is_an_argument_error(small_dicom, tmp_path, capsys):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    code, text = run(["maps", "--dicom_dir", small_dicom, "--out_dir", locked / "out", "--progress", "none"], capsys)
    assert code == ARGUMENTS, text
    assert_one_sentence(text)


def test_an_output_below_a_file_is_an_argument_error(small_dicom, tmp_path, capsys):
    (tmp_path / "file").write_text("a file")
    code, text = run(["maps", "--dicom_dir", small_dicom, "--out_dir", tmp_path / "file" / "out", "--progress", "none"], capsys)
    assert code == ARGUMENTS, text
    assert_one_sentence(text)


@pytest.mark.parametrize("place", ["--aif=-3,4,2", "--aif=999,4,2", "--aif=0,0,0", "--aif_lps=0,0,900"])
def test_an_artery_outside_the_head_is_an_argument_error(place, small_nifti, tmp_path, capsys):
    code, text = run(["maps", "--input", small_nifti, place, "--out_dir", tmp_path / "out", "--progress", "none"], capsys)
    assert code == ARGUMENTS, text
    assert_one_sentence(text)
    assert_nothing_left(tmp_path / "out")


@pytest.mark.parametrize("option", ["--mask", "--tissue_mask"])
def test_a_mask_that_does_not_overlap_is_an_argument_error(option, small_study, small_nifti, tmp_path, capsys):
    from dataclasses import replace

    geometry = small_study.series.geometry
    far = replace(geometry, origin=tuple(o + 5000.0 for o in geometry.origin))
    write_volume(tmp_path / "mask.nii.gz", Volume(np.ones(geometry.shape, np.uint8), far))
    code, text = run(
        ["maps", "--input", small_nifti, option, tmp_path / "mask.nii.gz", "--out_dir", tmp_path / "out", "--progress", "none"], capsys
    )
    assert code == ARGUMENTS, text
    assert_one_sentence(text)


@pytest.mark.parametrize(
    "words", [[], ["--dicom_dir", "a", "--input", "b"], ["--input", "nothing.nii.gz"], ["--dicom_dir", ".", "--rcbf", "30"], ["--nonsense"]]
)
def test_impossible_arguments_are_explained(words, tmp_path, capsys):
    code, text = run(["maps", *words, "--out_dir", tmp_path / "out"], capsys)
    assert code == ARGUMENTS, text
    assert_one_sentence(text)


def test_a_nifti_without_times_is_refused_and_says_how_to_give_them(small_study, tmp_path, capsys):
    import SimpleITK as sitk

    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(f) for f in small_study.series.values]), tmp_path / "series.nii.gz")
    image = sitk.ReadImage(tmp_path / "series.nii.gz")
    header = bytearray(__import__("gzip").open(tmp_path / "series.nii.gz").read())
    header[123] = 2  # xyzt_units: millimeters, no time unit
    (tmp_path / "series.nii").write_bytes(bytes(header))
    assert image.GetDimension() == 4
    code, text = run(["maps", "--input", tmp_path / "series.nii", "--out_dir", tmp_path / "out", "--progress", "none"], capsys)
    assert code == REFUSED, text
    assert "--dt" in text or "--times" in text


def test_a_full_disk_is_told_and_leaves_nothing(small_nifti, tmp_path, capsys, monkeypatch):
    import PerfusionMapsLib.result_folder as result_folder

    def full(path, volume):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(result_folder, "write_volume", full)
    code, text = run(["maps", "--input", small_nifti, "--out_dir", tmp_path / "out", "--no-report", "--progress", "none"], capsys)
    assert code == INTERNAL, text
    assert "full" in text
    assert_one_sentence(text)
    assert_nothing_left(tmp_path / "out")


def test_a_stray_file_is_skipped_and_named(small_dicom, tmp_path, capsys):
    folder = damaged_studies.stray_files(small_dicom, tmp_path / "study")
    out = tmp_path / "out"
    code, text = run(["maps", "--dicom_dir", folder, "--out_dir", out, "--no-report", "--progress", "none"], capsys)
    assert code == 0, text
    notes = [str(note) for note in json.loads((out / "provenance.json").read_text(encoding="utf-8"))["notes"]]
    expected = {"notes.txt": "not DICOM", "empty": "empty file", "noise.bin": "not DICOM", "preamble_only": "DICOM without content"}
    for name, why in expected.items():
        assert any(f"{name}' skipped: {why}" in note for note in notes), (name, notes)


def assert_unknown(words, out, text):
    """None of `words` is in anything that was written, neither in names of files nor on the console."""
    written = contents(out)
    assert written
    for name, data in written.items():
        for word in words:
            assert word.encode() not in data and word not in name, (word, name)
    assert not [word for word in words if word in text]


def test_hostile_header_text_stays_out_of_everything_we_write(small_dicom, tmp_path, capsys):
    folder = damaged_studies.hostile_headers(small_dicom, tmp_path / "study")
    out = tmp_path / "out"
    code, text = run(["maps", "--dicom_dir", folder, "--out_dir", out, "--progress", "json"], capsys)
    assert code == 0, text
    assert_unknown(["MALICIOUS", "alert('name')", "../../../outside"], out, text)
    for name, data in contents(out).items():
        assert b"<script>alert" not in data.lower(), name
    assert set(path.name for path in tmp_path.iterdir()) == {"study", "out"}


def test_patient_names_stay_out_of_everything_we_write(small_dicom, tmp_path, capsys):
    folder, out = tmp_path / "study", tmp_path / "out"
    named = damaged_studies.described(small_dicom, folder / "SECRET_NAME_1950", "CTP of SECRET NAME")
    (named / "letter to SECRET.txt").write_text("Dear Ms. SECRET")
    code = main(["maps", "--dicom_dir", str(folder), "--out_dir", str(out), "--progress", "json"])
    told = capsys.readouterr()
    assert code == 0, told.err
    assert_unknown(["SECRET"], out, told.out + told.err)
    provenance = (out / "provenance.json").read_text(encoding="utf-8")
    assert "CTP of *** ***" in provenance and "***_***_1950" in provenance


def wait_for(condition, seconds=60.0):
    """Wait until `condition()` is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.02)


def start(nifti, out, **options):
    words = [sys.executable, "-m", "CTPerfusionSuiteLib.cli", "maps", "--input", str(nifti), "--out_dir", str(out), "--progress", "json"]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)


def step_reached(process, step):
    """Read the child's progress until it begins `step`."""
    for line in process.stdout:
        message = json.loads(line)
        if message.get("step") == step:
            return
    raise AssertionError(f"the step {step} never came")


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
@pytest.mark.parametrize("step", ["maps", "write"])
def test_a_killed_run_leaves_no_result_and_the_next_run_works(step, small_nifti, tmp_path):
    out = tmp_path / "out"
    process = start(small_nifti, out)
    step_reached(process, step)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    again = subprocess.run(
        [sys.executable, "-m", "CTPerfusionSuiteLib.cli", "maps", "--input", str(small_nifti), "--out_dir", str(out), "--progress", "none"]
    )
    assert again.returncode == 0
    assert (out / "metrics.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
@pytest.mark.parametrize("sent", ["SIGTERM", "SIGINT"])
def test_a_run_that_is_told_to_stop_says_so_and_leaves_nothing(sent, small_nifti, tmp_path):
    process = start(small_nifti, tmp_path / "out", stderr=subprocess.PIPE)
    step_reached(process, "maps")
    process.send_signal(getattr(signal, sent))
    _progress, told = process.communicate(timeout=10)
    assert process.returncode == 130
    assert_one_sentence(told)
    assert_nothing_left(tmp_path / "out")


def test_closing_stdin_cancels_and_leaves_nothing(small_nifti, tmp_path):
    out = tmp_path / "out"
    process = start(small_nifti, out)
    step_reached(process, "maps")
    began = time.monotonic()
    process.stdin.close()
    process.stdout.read()
    assert process.wait(timeout=10) == 130
    assert time.monotonic() - began < 3.0
    assert_nothing_left(out)


def test_an_internal_error_names_its_log_and_shows_no_trace(small_nifti, tmp_path, capsys, monkeypatch):
    import PerfusionMapsLib.pipeline as pipeline

    monkeypatch.setattr(pipeline, "estimate_maps", lambda *arguments: 1 / 0)
    code, text = run(["maps", "--input", small_nifti, "--out_dir", tmp_path / "out", "--progress", "none"], capsys)
    assert code == INTERNAL
    assert_one_sentence(text)
    log = re.search(r"details are in (\S+)\.$", text.strip()).group(1)
    assert "ZeroDivisionError" in open(log).read()
    os.unlink(log)


@pytest.fixture(scope="module")
def small_nifti(small_study, tmp_path_factory):
    path = tmp_path_factory.mktemp("nifti") / "series.nii.gz"
    write_series(path, small_study.series)
    return path


@pytest.fixture(scope="module")
def small_result(small_dicom, tmp_path_factory):
    out = tmp_path_factory.mktemp("result") / "out"
    assert main(["maps", "--dicom_dir", str(small_dicom), "--out_dir", str(out), "--no-report", "--progress", "none"]) == 0
    return out
