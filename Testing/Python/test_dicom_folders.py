"""Folders as people have them: links, our own results among the images, files in a coding nobody knows."""

import os
import shutil
import struct

import dicom_samples as samples
import numpy as np
import pytest

from CTPerfusionSuiteLib.cli import main
from CTPerfusionSuiteLib.dicom.inventory import take_inventory
from CTPerfusionSuiteLib.dicom.perfusion_series import read_perfusion_series
from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused
from CTPerfusionSuiteLib.output_folder import new_result_folder

TIMES = 2.0 * np.arange(12)
VALUES = samples.truth()


def linked(link, target, directory=True):
    """A symbolic link, where the system lets a user make one."""
    try:
        os.symlink(target, link, target_is_directory=directory)
    except OSError:
        pytest.skip("links cannot be made here")


# ---------------------------------------------------------------------------------------------------------------- links


def test_a_folder_of_links_to_folders_is_read(tmp_path):
    real = samples.write_dynamic(tmp_path / "archive" / "study", VALUES, TIMES)
    (tmp_path / "chosen").mkdir()
    linked(tmp_path / "chosen" / "study", real)
    series = read_perfusion_series(tmp_path / "chosen")
    assert np.array_equal(series.values, VALUES) and not series.notes


def test_links_in_a_circle_and_links_beside_their_folder_are_read_once(tmp_path):
    folder = samples.write_dynamic(tmp_path / "all" / "study", VALUES, TIMES)
    samples.save(samples.image(VALUES[0, 0], (0, 0, 0), series_uid="1.9", PatientName="ROE^RICHARD", PatientID="P2"), tmp_path / "other")
    linked(folder / "0" / "round", folder)
    linked(folder / "again", folder / "1")
    linked(folder / "above", tmp_path)
    series = read_perfusion_series(folder)
    assert np.array_equal(series.values, VALUES) and not series.notes
    inventory = take_inventory(folder)
    assert inventory.ct_images == VALUES.shape[0] * VALUES.shape[1] and not inventory.skipped


def test_a_broken_link_is_no_damaged_image(tmp_path):
    linked(tmp_path / "gone", tmp_path / "nowhere", directory=False)
    linked(tmp_path / "itself", tmp_path / "itself", directory=False)
    with pytest.raises(DataRefused, match="no DICOM files"):
        read_perfusion_series(tmp_path)
    samples.write_dynamic(tmp_path / "study", VALUES, TIMES)
    notes = read_perfusion_series(tmp_path).notes
    assert sorted(message for _, message in notes) == ["'gone' skipped: broken link", "'itself' skipped: broken link"]


# ---------------------------------------------------------------------------------------------------- our own results


def test_a_result_inside_the_study_is_no_input_of_the_next_run(tmp_path):
    folder = samples.write_dynamic(tmp_path / "study", VALUES, TIMES)
    with new_result_folder(folder / "result") as place:
        (place / "report.html").write_text("<p>")
        samples.save(samples.image(VALUES[0, 0], (0, 0, 0), series_uid="1.9"), place / "dicom" / "map")
    assert not read_perfusion_series(folder).notes
    with new_result_folder(folder / "other") as place:  # another run at work
        (place / "metrics.json").write_text("{}")
        assert not read_perfusion_series(folder).notes


def test_a_phantom_and_a_folder_of_ours_that_is_asked_for_are_read(tmp_path):
    for kind in ("phantoms", "perfusion maps"):
        with new_result_folder(tmp_path / kind / "study", kind=kind) as place:
            samples.write_dynamic(place, VALUES, TIMES)
    assert np.array_equal(read_perfusion_series(tmp_path / "phantoms").values, VALUES)
    assert np.array_equal(read_perfusion_series(tmp_path / "perfusion maps" / "study").values, VALUES)
    with pytest.raises(RequestRefused, match="results of this program"):
        read_perfusion_series(tmp_path / "perfusion maps")


# -------------------------------------------------------------------------------------------------- unknown transfer syntaxes


def said_to_be(path, syntax):
    """Write another transfer syntax UID into a file, as libraries would refuse to."""
    data = path.read_bytes()
    start = data.index(b"\x02\x00\x10\x00UI")
    (length,) = struct.unpack("<H", data[start + 6 : start + 8])
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    # The length of the whole group is the value of its first element.
    (group,) = struct.unpack("<I", data[140:144])
    data = data[: start + 6] + struct.pack("<H", len(value)) + value + data[start + 8 + length :]
    path.write_bytes(data[:140] + struct.pack("<I", group + len(value) - length) + data[144:])


@pytest.mark.parametrize("syntax", ["1.2.840.113619.5.2", "1.2.840.10008.9.9.9", "1.2.840.10008.5.1.4.1.1.2", "1.2.3", "nonsense"])
def test_an_unknown_transfer_syntax_is_refused_in_one_sentence(tmp_path, syntax, capsys):
    folder = samples.write_dynamic(tmp_path / "study", VALUES, TIMES)
    for path in folder.rglob("IM*"):
        said_to_be(path, syntax)
    code = main(["maps", "--dicom_dir", str(folder), "--out_dir", str(tmp_path / "out"), "--progress", "none"])
    told = capsys.readouterr().err
    assert code == 1 and told.count("\n") == 1 and syntax in told and "transfer syntax" in told, told


def test_one_file_in_an_unknown_transfer_syntax_gives_way_to_its_good_copy(tmp_path):
    folder = samples.write_dynamic(tmp_path / "a", VALUES, TIMES)
    copy = tmp_path / "b"
    shutil.copytree(folder, copy)
    for path in copy.rglob("IM*"):
        said_to_be(path, "1.2.840.10008.9.9.9")
    assert np.array_equal(read_perfusion_series(tmp_path).values, VALUES)
