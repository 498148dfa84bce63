"""Names of patients stay out of what people read, whatever they are written in and wherever folders repeat them."""

import json
import os
import shutil
import subprocess
import sys

import dicom_samples as samples
import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEGLSLossless, RLELossless

from CTPerfusionSuiteLib.cli import main
from CTPerfusionSuiteLib.dicom.inventory import take_inventory
from CTPerfusionSuiteLib.dicom.perfusion_series import read_perfusion_series
from CTPerfusionSuiteLib.dicom.privacy import name_parts, without_names
from CTPerfusionSuiteLib.dicom.worklist import make_worklist
from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused, SuiteError

TIMES = 2.0 * np.arange(12)
VALUES = samples.truth()


def masked(text, *names):
    return without_names(text, name_parts({("", name, "") for name in names}))


def refused(folder, kind=DataRefused, **options):
    with pytest.raises(kind) as caught:
        read_perfusion_series(folder, **options)
    return str(caught.value)


def test_short_names_are_masked_as_words_and_leave_other_words_alone():
    assert masked("Li Na CTP", "Li^Na") == "*** *** CTP"
    assert masked("Li_Na/LiNa/lina2/NA-LI", "Li^Na") == "***_***/***/***2/***-***"
    assert masked("Nasal cavity, limited, 5 mm Linear", "Li^Na") == "Nasal cavity, limited, 5 mm Linear"
    assert masked("WU CTP/Wu1950", "WU^YIFAN") == "*** CTP/***1950"


def test_initials_are_masked_beside_a_name_only():
    assert masked("Doe_Jane_M CTP 5 M", "Doe^Jane^M") == "***_***_*** CTP 5 M"
    assert masked("O Jin, group O", "O^Jin") == "*** ***, group O"
    assert masked("H31s 5.0", "Doe^H") == "H31s 5.0"


def test_names_are_found_in_every_script_and_spelling():
    assert masked("山田太郎/王", "Yamada^Tarou=山田^太郎", "王^小东") == "***/***"
    assert masked("Muller_Hans, Mueller, Mu\u0308ller", "Müller^Hans") == "***_***, ***, ***"
    assert masked("ИВАН иван", "Иван^") == "*** ***"


@pytest.mark.parametrize(
    ("charset", "name", "folder"),
    [
        ("ISO_IR 144", "Иванов^Пётр", "Иванов"),
        ("ISO_IR 192", "Müller^Jörg", "Müller"),
        ("ISO_IR 100", "Müller^Jörg", "Müller"),
        ("ISO_IR 101", "Škoda^Łukasz", "Łukasz"),
        ("GB18030", "王^小东", "王小东"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "山田太郎"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동", "홍길동"),
    ],
)
def test_names_in_any_character_set_are_read_and_masked_in_paths(tmp_path, charset, name, folder):
    samples.write_dynamic(
        tmp_path / folder, VALUES, TIMES, SpecificCharacterSet=charset, PatientName=name, SeriesDescription=f"CTP {folder}"
    )
    assert str(pydicom.dcmread(next(tmp_path.rglob("IM*"))).PatientName) == name
    (tmp_path / folder / "notes.txt").write_text("hello")
    inventory = take_inventory(tmp_path)
    assert inventory.candidates[0].stack.frames[0].patient[1] == name
    series = read_perfusion_series(tmp_path)
    told = json.dumps([series.header["series_description"], *series.notes], ensure_ascii=False)
    assert folder not in told and "notes.txt" in told and "CTP ***" in told


def test_text_without_a_character_set_is_taken_for_what_it_is(tmp_path):
    for encoding in ("utf-8", "latin-1"):
        folder = samples.write_dynamic(tmp_path / encoding, VALUES, TIMES, PatientName="Mxller^Hans")
        for path in folder.rglob("IM*"):
            data = path.read_bytes()
            written = "Müller^Hans".encode(encoding)
            # An element's length is even; the given name is cut to fit.
            path.write_bytes(data.replace(b"Mxller^Hans ", (written + b" ")[:12]))
        name = take_inventory(folder).candidates[0].stack.frames[0].patient[1]
        assert name.startswith("Müller^Ha")


def test_an_unknown_character_set_does_not_hide_a_study(tmp_path):
    folder = samples.write_dynamic(tmp_path, VALUES, TIMES)
    for path in folder.rglob("IM*"):
        ct = pydicom.dcmread(path)
        ct.SpecificCharacterSet = "ISO_IR 100"
        ct.save_as(path)
        path.write_bytes(path.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 999"))
    assert np.array_equal(read_perfusion_series(folder).values, VALUES)


def compressed(folder, syntax=RLELossless):
    """A compressed study in folders named after its patient, and its files."""
    values = samples.truth(rows=36, columns=40)
    samples.write_dynamic(folder / "Doe_Jane_1950" / "DICOM", values, TIMES, PatientName="Doe^Jane")
    files = sorted(folder.rglob("IM*"))
    for path in files:
        ct = pydicom.dcmread(path)
        ct.compress(syntax, generate_instance_uid=False)
        ct.save_as(path)
    return files


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_a_damaged_compressed_file_is_named_without_the_patient(tmp_path, syntax, capsys):
    broken = compressed(tmp_path / "study", syntax)[4]
    whole = broken.read_bytes()
    place = whole.index(b"\xe0\x7f\x10\x00")
    for spoiled in (whole[:-60], whole[: place + 40] + bytes(len(whole) - place - 48) + whole[-8:]):
        broken.write_bytes(spoiled)
        code = main(["maps", "--dicom_dir", str(tmp_path / "study"), "--out_dir", str(tmp_path / "out"), "--progress", "none"])
        told = capsys.readouterr().err
        assert code == 1 and broken.name in told and "Doe" not in told and "Jane" not in told, told


def test_a_file_lost_while_reading_is_named_without_the_patient(tmp_path):
    files = compressed(tmp_path)

    def lose(fraction):
        if fraction >= 0.3 and files[4].exists():
            files[4].unlink()

    told = refused(tmp_path, RequestRefused, progress=lose)
    assert files[4].name in told and "cannot be read" in told and "Doe" not in told and "Jane" not in told


@pytest.mark.parametrize("readable", [True, False])
def test_a_file_that_may_not_be_read_is_refused_without_the_patient(tmp_path, monkeypatch, readable):
    import CTPerfusionSuiteLib.dicom.inventory as inventory

    files, read = compressed(tmp_path), inventory.read_header

    def locked(root, name):
        if not readable or name.endswith(files[4].name):
            raise PermissionError(13, "Permission denied", str(root / name))
        return read(root, name)

    monkeypatch.setattr(inventory, "read_header", locked)
    told = refused(tmp_path, RequestRefused)
    assert "check the permissions" in told and "Doe" not in told and "Jane" not in told
    assert (files[4].name in told) == readable


def test_damaged_files_alone_do_not_give_their_folders_away(tmp_path):
    for path in compressed(tmp_path):
        path.write_bytes(path.read_bytes()[:132] + b"\xff" * 50)
    told = refused(tmp_path)
    assert "damaged" in told and "Doe" not in told and "Jane" not in told


def test_a_lost_file_of_a_list_is_told_without_its_name(tmp_path):
    files = samples.write_dynamic(tmp_path, VALUES, TIMES).rglob("IM*")
    files = [path.rename(path.with_name(f"Doe_Jane_{n}")) for n, path in enumerate(sorted(files))]
    files[3].unlink()
    told = refused(files, RequestRefused)
    assert "not there any more" in told and "Doe" not in told


@pytest.mark.parametrize("style", ["none", "json"])
def test_the_worklist_shows_folders_without_names_and_still_opens_them(tmp_path, style):
    folder = samples.write_dynamic(tmp_path / "Doe_Jane_1950" / "Li_Na", VALUES, TIMES, PatientName="Doe^Jane", BodyPartExamined="HEAD")
    samples.write_dynamic(tmp_path / "second", VALUES, TIMES, series_uid="1.8", PatientName="Li^Na", PatientID="P2")
    words = [sys.executable, "-m", "CTPerfusionSuiteLib.cli", "worklist", "--dicom_dir", str(tmp_path), "--progress", style]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(words, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL, env=environment)
    if style == "none":
        assert "Doe" not in done.stdout and "Jane" not in done.stdout and "Li_Na" not in done.stdout and "***_***_1950" in done.stdout
        return
    entries = json.loads(done.stdout.splitlines()[-1])["entries"]
    first = next(entry for entry in entries if entry["series_uid"] == "1.2.3")
    assert first.pop("folder") == str(folder)
    assert "Doe" not in json.dumps(first) and "Li_Na" not in json.dumps(first) and first["shown_folder"].endswith("***_***_1950/***_***")


def test_what_a_series_is_not_is_told_in_our_words_without_the_patient(tmp_path):
    """Odd elements may hold a name; the words of our own sentences stay, whatever a patient is called."""
    person = {"PatientName": "Is^Not", "SeriesDescription": "Not Is"}
    samples.write_dynamic(tmp_path / "a", VALUES, TIMES, series_uid="1.1", PatientName="Doe^Jane", RescaleType="DOE")
    samples.write_dynamic(tmp_path / "b", VALUES[:1], TIMES[:1], series_uid="1.2", PatientName="Doe^Jane", Modality="JANE", PatientID="P2")
    samples.write_dynamic(tmp_path / "c", VALUES[:1], TIMES[:1], series_uid="1.3", Modality="MR", **person)
    found = {entry.series_uid: entry for entry in make_worklist(tmp_path)}
    assert found["1.1"].reason == "not in HU (rescale type ***)" and found["1.2"].reason == "not CT (modality ***)"
    assert found["1.3"].reason == "not CT (modality MR)" and found["1.3"].description.endswith("*** ***")


def test_a_file_that_has_gone_names_no_patient(tmp_path):
    compressed(tmp_path / "study")
    inventory = take_inventory(tmp_path / "study")
    shutil.rmtree(tmp_path / "study" / "Doe_Jane_1950")
    from CTPerfusionSuiteLib.dicom.pixels import stored_values

    for frame in inventory.candidates[0].stack.frames[:2]:
        with pytest.raises(SuiteError) as caught:
            stored_values(inventory.folder, frame)
        assert "Doe" not in str(caught.value) and "Jane" not in str(caught.value)
