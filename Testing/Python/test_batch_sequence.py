"""A user turns a DICOM study into one file for Slicer, with its true times."""

import numpy as np
import pytest
from dicom_samples import truth, write_dynamic

from CTPerfusionSuiteLib.cli import main
from CTPerfusionSuiteLib.dicom.perfusion_series import read_perfusion_series
from CTPerfusionSuiteLib.sequence_nrrd import read_sequence


@pytest.fixture
def folder(tmp_path):
    """A shuttle-like study: the upper half is scanned 0.7 s later."""
    times = 2.0 * np.arange(12)[:, None] + np.array([0.0, 0.0, 0.7, 0.7])
    return write_dynamic(tmp_path / "dicom", truth(slices=4), times)


def run(*words):
    return main(["sequence", *map(str, words), "--progress", "none"])


def test_the_file_holds_the_values_and_every_slices_time(folder, tmp_path):
    assert run("--dicom_dir", folder, "--out_file", tmp_path / "study.seq.nrrd") == 0
    series, expected = read_sequence(tmp_path / "study.seq.nrrd"), read_perfusion_series(folder)
    assert np.array_equal(series.values, expected.values)
    assert np.allclose(series.slice_times, expected.slice_times)
    assert series.geometry.close_to(expected.geometry)


@pytest.mark.parametrize(
    ("name", "said"), [("study.nrrd", "not named"), ("missing/study.seq.nrrd", "does not exist"), ("there.seq.nrrd", "there already")]
)
def test_a_name_that_would_not_work_is_refused_before_anything_is_read(tmp_path, capsys, name, said):
    (tmp_path / "there.seq.nrrd").write_bytes(b"precious")
    assert run("--dicom_dir", tmp_path / "nowhere", "--out_file", tmp_path / name) == 2
    assert said in capsys.readouterr().err
    assert (tmp_path / "there.seq.nrrd").read_bytes() == b"precious"


def test_a_refused_study_leaves_no_file(tmp_path, capsys):
    folder = write_dynamic(tmp_path / "dicom", truth(), np.zeros(12))
    out = tmp_path / "out"
    out.mkdir()
    assert run("--dicom_dir", folder, "--out_file", out / "study.seq.nrrd") == 1
    assert "time axis" in capsys.readouterr().err
    assert list(out.iterdir()) == []
