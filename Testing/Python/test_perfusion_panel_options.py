"""What the panel asks of the command line: frames and regions to leave out."""

import argparse
import json

import numpy as np
import pytest

from CTPerfusionSuiteLib.argument_types import frame_numbers
from CTPerfusionSuiteLib.cli import main
from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused
from CTPerfusionSuiteLib.nifti import read_volume, write_volume
from CTPerfusionSuiteLib.sequence_nrrd import write_sequence
from CTPerfusionSuiteLib.series_input import without_frames
from CTPerfusionSuiteLib.volumes import Volume


def test_frames_are_counted_from_one_and_ranges_are_understood():
    assert frame_numbers("3, 7-9,8") == (3, 7, 8, 9)
    for text in ("0", "9-7", "a", "3;4", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="like 3,7-9"):
            frame_numbers(text)


def test_the_other_frames_keep_their_times(small_study):
    series = small_study.series
    left = without_frames(series, (2, 32))
    assert len(left.values) == 30 and (left.values[1] == series.values[2]).all()
    assert left.times[1] == pytest.approx(series.times[2])
    assert "2 of 32 frames were left out" in left.notes[-1][1]
    # A given curve counts its seconds from the first frame of the scan, also when that frame is left out.
    assert without_frames(series, (1, 2, 3)).times[0] == pytest.approx(series.times[3])
    with pytest.raises(RequestRefused, match="frame 33"):
        without_frames(series, (33,))
    with pytest.raises(DataRefused, match="at least"):
        without_frames(series, tuple(range(1, 30)))


def test_regions_and_frames_to_leave_out_are_no_part_of_the_result(small_study, tmp_path):
    series = small_study.series
    write_sequence(tmp_path / "s.seq.nrrd", series)
    half = np.zeros(series.geometry.shape, np.uint8)
    half[:, :, : half.shape[2] // 2] = 1
    write_volume(tmp_path / "half.nii.gz", Volume(half, series.geometry))
    out = tmp_path / "out"
    words = ["maps", "--input", str(tmp_path / "s.seq.nrrd"), "--out_dir", str(out), "--exclude", str(tmp_path / "half.nii.gz")]
    words += ["--exclude_frames", "31-32", "--method", "bcsvd", "--no-motion-correction", "--no-report", "--progress", "none"]
    assert main(words) == 0
    tissue = read_volume(out / "tissue_mask.nii.gz").values
    assert tissue.any() and not tissue[half > 0].any()
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["input"]["frames"] == 30 and provenance["options"]["excluded_regions"]
    said = [flag["message"] for flag in json.loads((out / "metrics.json").read_text())["qc"]]
    assert any("were left out by the user and count in no volume" in text for text in said)
    write_volume(tmp_path / "all.nii.gz", Volume(np.ones_like(half), series.geometry))
    words[words.index("--exclude") + 1], words[words.index("--out_dir") + 1] = str(tmp_path / "all.nii.gz"), str(tmp_path / "none")
    assert main(words) == 2 and not (tmp_path / "none").exists()


@pytest.mark.parametrize(("scale", "shift"), [(1000.0, 0.0), (1.0, 100.0), (0.1, 0.0)])
def test_a_curve_of_another_scan_or_in_milliseconds_is_refused(small_study, tmp_path, capsys, scale, shift):
    write_sequence(tmp_path / "s.seq.nrrd", small_study.series)
    rows = [f"{scale * time + shift},{hu}" for time, hu in zip(*small_study.aif, strict=True)]
    (tmp_path / "aif.csv").write_text("time_s,hu\n" + "\n".join(rows))
    words = ["maps", "--input", str(tmp_path / "s.seq.nrrd"), "--out_dir", str(tmp_path / "out"), "--aif", str(tmp_path / "aif.csv")]
    assert main([*words, "--no-motion-correction", "--progress", "none"]) == 2
    assert "in seconds from the first frame" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_filter_wider_than_a_territory_is_refused(tmp_path, capsys):
    assert main(["maps", "--input", "x.nii.gz", "--out_dir", str(tmp_path / "out"), "--smoothing", "500"]) == 2
    assert "between 0 and 20 mm" in capsys.readouterr().err
