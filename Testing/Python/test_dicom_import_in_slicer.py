"""A user selects a CT perfusion study in Slicer's DICOM browser and gets one sequence with its true times."""

import time
from pathlib import Path

import numpy as np
import pytest
from dicom_module import CompetingPlugin, FolderDatabase, selected_loadables
from dicom_samples import truth, write_dynamic

from CTPerfusionSuiteLib.dicom.database_tags import TAGS
from CTPerfusionSuiteLib.dicom.perfusion_offers import find_perfusion
from CTPerfusionSuiteLib.dicom.perfusion_series import read_perfusion_series
from CTPerfusionSuiteLib.phantoms.brain_options import BrainOptions
from CTPerfusionSuiteLib.phantoms.dicom_styles import STYLES, VARIANTS, write_dicom_study

FRAMES, SLICES, STEP_S = 16, 4, 2.5


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Style -> folder of the same small study, among the clutter of a real one."""
    from CTPerfusionSuiteLib.phantoms.brain import simulate_brain

    study = simulate_brain(BrainOptions(size=(32, 32), slices=SLICES, frames=FRAMES, dt_s=STEP_S, seed=3))
    root = tmp_path_factory.mktemp("styles")
    for number, style in enumerate((*STYLES, *VARIANTS)):
        write_dicom_study(study.series, root / style, style=style, seed=number)
    return {style: root / style for style in (*STYLES, *VARIANTS)}


def offers(folder, only=None):
    """(what is found in a folder, its database); `only` selects series by their UIDs."""
    database = FolderDatabase(folder)
    lists = [list(database.filesForSeries(uid)) for uid in (only or database.allSeries())]
    database.asked = 0
    return find_perfusion(lists, database.fileValue), database


@pytest.mark.parametrize("style", (*STYLES, *VARIANTS))
def test_a_study_of_every_vendor_is_offered_once_with_its_seconds(studies, style):
    (offer,), _database = offers(studies[style])
    assert (offer.frames, offer.slices) == (FRAMES, SLICES)
    assert offer.span_s == pytest.approx((FRAMES - 1) * STEP_S, abs=1.1)  # the second table position of a shuttle is later
    assert not offer.content_time_only


def test_a_series_a_time_point_is_offered_only_when_all_are_selected_together(studies):
    together, database = offers(studies["canon"])
    assert len(together[0].files_of_series) == FRAMES
    alone, _ = offers(studies["canon"], only=list(together[0].files_of_series)[:1])
    assert alone == []


def test_studies_selected_together_are_offered_one_by_one(studies):
    found, _database = offers(studies["ge"].parent)
    assert len(found) == len(studies)
    files = [file for offer in found for file in offer.files]
    assert len(files) == len(set(files))


def test_the_first_file_belongs_to_the_first_series_of_the_acquisition(studies):
    (offer,), database = offers(studies["canon"])
    numbers = [int(database.fileValue(files[0], "0020,0011")) for files in offer.files_of_series.values()]
    assert numbers == sorted(numbers)
    assert offer.files[0] in next(iter(offer.files_of_series.values()))


def test_a_plain_head_scan_costs_two_look_ups_an_image_and_is_not_offered(tmp_path):
    folder = write_dynamic(tmp_path, truth(frames=1, slices=40), [0.0])
    found, database = offers(folder)
    assert found == []
    assert database.asked < 2 * 40


def test_four_thousand_images_are_examined_in_seconds():
    same = {
        "Modality": "CT",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "SeriesInstanceUID": "1.2",
        "PhotometricInterpretation": "MONOCHROME2",
        "ImageType": "ORIGINAL",
        "ImageOrientationPatient": "1\\0\\0\\0\\1\\0",
        "PixelSpacing": "0.4\\0.4",
        "Rows": "512",
        "Columns": "512",
    }
    images = {}
    for t in range(40):
        for k in range(100):
            own = {"ImagePositionPatient": f"0\\0\\{k}", "AcquisitionTime": f"1000{1.5 * t:05.2f}", "AcquisitionNumber": str(t + 1)}
            images[f"{t}-{k}"] = {TAGS[name]: value for name, value in {**same, **own}.items()}
    asked = []

    def file_value(file, tag):
        asked.append(tag)
        return images[file].get(tag, "")

    began = time.process_time()
    (offer,) = find_perfusion([list(images)], file_value)
    assert time.process_time() - began < 4.0
    assert (offer.frames, offer.slices) == (40, 100)
    assert len(asked) <= 6 * len(images)


def test_bolus_tracking_and_heart_phases_are_not_taken_for_perfusion(tmp_path):
    write_dynamic(tmp_path / "tracking", truth(frames=20, slices=1), np.arange(20.0), series_uid="1.1")
    phases = write_dynamic(tmp_path / "phases", truth(frames=10, slices=3), np.zeros(10), series_uid="1.2")
    assert phases.is_dir()
    found, _ = offers(tmp_path)
    assert found == []


def test_a_study_with_times_of_reconstruction_only_is_offered_with_doubt(tmp_path):
    write_dynamic(
        tmp_path, truth(frames=12, slices=3), np.zeros(12),
        change=lambda t, k: {"AcquisitionTime": None, "ContentTime": f"1000{2 * t:02d}.0", "AcquisitionNumber": t + 1},
    )
    (offer,), _ = offers(tmp_path)
    assert offer.content_time_only


# ---- in the application --------------------------------------------------------------------------------------------------------


@pytest.fixture
def dicom(slicer_host):
    """Open a folder as Slicer's DICOM database: (database, file lists of all its series)."""
    import slicer

    before = slicer.dicomDatabase

    def open_folder(folder):
        slicer.dicomDatabase = FolderDatabase(folder)
        return slicer.dicomDatabase, [list(slicer.dicomDatabase.filesForSeries(uid)) for uid in slicer.dicomDatabase.allSeries()]

    yield open_folder
    slicer.dicomDatabase = before


def our_plugins():
    import slicer

    names = ("CTPerfusionSequencePlugin", "CTPerfusionTimePointsPlugin")
    return [slicer.modules.dicomPlugins[name]() for name in names]


@pytest.mark.parametrize("style", STYLES)
def test_the_study_becomes_one_sequence_with_seconds_and_hounsfield_units(dicom, studies, style):
    import slicer

    _database, lists = dicom(studies[style])
    plugin, _points = our_plugins()
    (loadable,) = plugin.examineForImport(lists)
    assert loadable.selected and loadable.confidence > 1.0 and "CT perfusion sequence" in loadable.name
    assert plugin.load(loadable)
    (sequence,) = slicer.util.getNodesByClass("vtkMRMLSequenceNode")
    expected = read_perfusion_series(studies[style])
    assert (sequence.GetIndexName(), sequence.GetIndexUnit(), sequence.GetNumberOfDataNodes()) == ("time", "s", FRAMES)
    index = [float(sequence.GetNthIndexValue(n)) for n in range(FRAMES)]
    assert index == pytest.approx(expected.slice_times.min(axis=1), abs=1e-3)
    for n in range(FRAMES):
        item = sequence.GetNthDataNode(n)
        assert item.GetVoxelValueUnits().GetCodeValue() == "[hnsf'U]"
        assert np.array_equal(slicer.util.arrayFromVolume(item), expected.values[n])


def test_both_plugins_share_one_look_at_the_headers(dicom, studies):
    database, lists = dicom(studies["canon"])
    sequence, points = our_plugins()
    database.asked = 0
    assert len(sequence.examineForImport(lists)) == 1
    asked = database.asked
    assert len(points.examineForImport(lists)) == FRAMES - 1
    assert database.asked == asked > 0


def test_slices_of_a_shuttle_scan_keep_their_own_times(dicom, studies):
    import json

    import slicer

    _database, lists = dicom(studies["shuttle"])
    plugin, _points = our_plugins()
    plugin.load(plugin.examineForImport(lists)[0])
    (sequence,) = slicer.util.getNodesByClass("vtkMRMLSequenceNode")
    own = json.loads(sequence.GetNthDataNode(3).GetAttribute("CTPerfusionSuite.SliceTimes"))
    assert own == pytest.approx(read_perfusion_series(studies["shuttle"]).slice_times[3].tolist(), abs=1e-5)
    assert max(own) - min(own) > 0.3


@pytest.mark.parametrize("style", ("siemens", "canon"))
def test_only_our_sequence_is_selected_where_other_plugins_claim_the_same_files(dicom, studies, style):
    database, lists = dicom(studies[style])
    ours = our_plugins()
    (offer,) = find_perfusion(lists, database.fileValue)
    lists = [list(files) for files in offer.files_of_series.values()]
    chosen = selected_loadables([CompetingPlugin(), *ours], lists, database)
    assert {type(plugin).__name__ for plugin, _loadable in chosen} <= {type(plugin).__name__ for plugin in ours}
    assert sum(plugin is ours[0] for plugin, _loadable in chosen) == 1
    assert all(plugin.load(loadable) for plugin, loadable in chosen)
    import slicer

    assert len(slicer.util.getNodesByClass("vtkMRMLSequenceNode")) == 1
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == 1  # what the sequence shows


def test_the_sequence_lies_under_its_study_in_the_subject_hierarchy(dicom, studies):
    import slicer

    database, lists = dicom(studies["ge"])
    plugin, _points = our_plugins()
    (loadable,) = plugin.examineForImport(lists)
    plugin.load(loadable)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    uid = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMUIDName()
    study = hierarchy.GetItemByUID(uid, database.fileValue(loadable.files[0], "0020,000D"))
    assert study
    for kind in ("vtkMRMLSequenceNode", "vtkMRMLScalarVolumeNode"):
        (node,) = slicer.util.getNodesByClass(kind)
        assert hierarchy.GetItemAncestorAtLevel(hierarchy.GetItemByDataNode(node), "Study") == study, kind


def test_a_study_whose_files_are_gone_is_refused_in_words_and_leaves_nothing(dicom, tmp_path, monkeypatch):
    import slicer

    folder = write_dynamic(tmp_path, truth(), 2.0 * np.arange(12))
    _database, lists = dicom(folder)
    plugin, _points = our_plugins()
    (loadable,) = plugin.examineForImport(lists)
    Path(loadable.files[5]).unlink()
    said = []
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text, *arguments, **options: said.append(text))
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    assert plugin.load(loadable) is False
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes
    assert "not there any more" in said[0] and "DOE" not in said[0]


def test_the_database_is_asked_to_keep_the_values_the_plugin_needs(slicer_host):
    plugin, _points = our_plugins()
    assert {"0020,0032", "0008,0032", "0019,1024"} <= set(plugin.tags.values())


def test_the_tags_are_those_of_the_dictionary():
    from pydicom.datadict import tag_for_keyword

    for name, tag in TAGS.items():
        if not name.startswith("GE"):
            assert tag == f"{tag_for_keyword(name) >> 16:04X},{tag_for_keyword(name) & 0xFFFF:04X}", name
