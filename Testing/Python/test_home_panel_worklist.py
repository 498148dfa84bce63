"""A user points at a folder of all kinds of CT and is told which series a module can analyze."""

import json
import subprocess
import sys

import numpy as np
import pytest
from dicom_samples import truth, write_dynamic

from CTPerfusionSuiteLib.dicom.worklist import Kind, make_worklist


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A folder with one series of every kind."""
    root = tmp_path_factory.mktemp("archive")
    still, moving, times = truth(frames=1, slices=24), truth(frames=12, slices=4), 2.0 * np.arange(12)

    def series(name, values, seconds, number, **elements):
        change = elements.pop("change", None)
        write_dynamic(root / name, values, seconds, change, series_uid=f"1.2.{number}", SeriesNumber=number, **elements)

    series("brain", moving, times, 1, BodyPartExamined="HEAD")
    series("heart", moving, times, 2, BodyPartExamined="HEART", SeriesDescription="Dynamic stress")
    series("phases", moving, np.zeros(12), 3, BodyPartExamined="HEART", SeriesDescription="Cor CTA 0-90 %")
    series("plain head", still, [0.0], 4, BodyPartExamined="HEAD", SeriesDescription="Head 5.0 H31s")
    series("angiography", still, [0.0], 5, BodyPartExamined="HEAD", SeriesDescription="CTA head", ContrastBolusAgent="Iodine 350")
    series("plain chest", still, [0.0], 6, BodyPartExamined="CHEST", SeriesDescription="Low dose chest")
    series("described", still, [0.0], 7, SeriesDescription="Stroke NCCT 5 mm")
    series("abdomen", moving, times, 8, BodyPartExamined="LIVER", SeriesDescription="Tumor perfusion")
    series("tracking", truth(frames=12, slices=1), times, 9, BodyPartExamined="HEAD")
    (root / "notes.txt").write_text("not DICOM")
    return root


def test_every_kind_of_series_is_recognized_from_its_header(archive):
    kinds = {int(entry.series_uid.split(".")[-1]): entry.kind for entry in make_worklist(archive)}
    assert kinds == {
        1: Kind.BRAIN_PERFUSION,
        2: Kind.HEART_PERFUSION,
        3: Kind.HEART_PHASES,
        4: Kind.PLAIN_HEAD,
        5: Kind.CONTRAST,
        6: Kind.PLAIN_CHEST,
        7: Kind.PLAIN_HEAD,
        8: Kind.OTHER,
        9: Kind.OTHER,
    }


@pytest.mark.parametrize(
    ("elements", "kind"),
    [
        ({"SeriesDescription": "Posterior fossa 2.5", "BodyPartExamined": "HEAD"}, Kind.PLAIN_HEAD),
        ({"SeriesDescription": "Head 5.0", "StudyDescription": "CTA head and neck", "BodyPartExamined": "HEAD"}, Kind.PLAIN_HEAD),
        ({"SeriesDescription": "Head without contrast", "BodyPartExamined": ""}, Kind.PLAIN_HEAD),
        ({"SeriesDescription": "Head post", "BodyPartExamined": "HEAD"}, Kind.CONTRAST),
        ({"SeriesDescription": "Head 5.0", "BodyPartExamined": "HEAD", "ContrastBolusAgent": "NONE"}, Kind.PLAIN_HEAD),
        ({"SeriesDescription": "Chest", "BodyPartExamined": "CHEST", "ContrastBolusStartTime": "101500"}, Kind.CONTRAST),
        ({"SeriesDescription": "Knee", "BodyPartExamined": "EXTREMITY"}, Kind.OTHER),
    ],
)
def test_plain_scans_are_told_from_those_with_contrast(tmp_path, elements, kind):
    write_dynamic(tmp_path, truth(frames=1, slices=12), [0.0], **elements)
    (entry,) = make_worklist(tmp_path)
    assert entry.kind is kind, entry.reason


def test_a_stroke_study_after_a_cardiac_arrest_is_of_the_brain(tmp_path):
    write_dynamic(tmp_path, truth(frames=12, slices=4), 2.0 * np.arange(12), BodyPartExamined="HEAD", StudyDescription="Cardiac arrest")
    assert make_worklist(tmp_path)[0].kind is Kind.BRAIN_PERFUSION


def test_perfusion_comes_first_and_every_series_says_why(archive):
    entries = make_worklist(archive)
    assert entries[0].kind is Kind.BRAIN_PERFUSION and entries[0].kind.modules == ("PerfusionMaps", "StrokeSegmentation")
    assert all(entry.reason for entry in entries)
    assert (entries[0].folder, entries[0].place) == (str(archive / "brain"), "brain")
    assert entries[0].size == "12 x 4 slices, 22 s"


def test_the_name_of_the_patient_is_nowhere_in_the_worklist(archive):
    shown = json.dumps([entry.as_dict() for entry in make_worklist(archive)])
    assert "DOE" not in shown and "JANE" not in shown


def test_a_panel_gets_the_worklist_as_json(archive):
    words = [sys.executable, "-m", "CTPerfusionSuiteLib.cli", "worklist", "--dicom_dir", str(archive), "--progress", "json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["event"] == "done" and last["entries"][0]["modules"] == ["PerfusionMaps", "StrokeSegmentation"]


def test_a_folder_without_files_is_refused_in_one_sentence(tmp_path):
    words = [sys.executable, "-m", "CTPerfusionSuiteLib.cli", "worklist", "--dicom_dir", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2 and "is empty" in done.stderr
