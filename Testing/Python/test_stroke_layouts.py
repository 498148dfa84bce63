"""People with patient data train with the same command: ISLES 2018, ISLES 2024 and plain folders become cases."""

import gzip
import shutil
import struct
from dataclasses import replace

import numpy as np
import pytest

from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused
from CTPerfusionSuiteLib.geometry import binned_geometry
from CTPerfusionSuiteLib.nifti import read_nifti_series, write_series, write_volume
from CTPerfusionSuiteLib.volumes import Geometry, Volume
from StrokeSegmentationLib.study_layouts import case_of_files, find_studies, read_groups, read_label, write_patient_cases
from StrokeSegmentationLib.training_cases import load_case, save_case


def written(path, values, geometry):
    """A volume at a path, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(path, Volume(values, geometry))
    return path


@pytest.fixture(scope="module")
def source(small_study, tmp_path_factory):
    """The series as one file, with its masks."""
    folder = tmp_path_factory.mktemp("source")
    write_series(folder / "ctp.nii", small_study.series)
    return folder / "ctp.nii"


def plain_case(folder, source, study, name="p1"):
    case = folder / name
    case.mkdir(parents=True)
    shutil.copy(source, case / "ctp.nii")
    label = np.where(study.mask("core"), 2, study.mask("penumbra")).astype(np.uint8)
    written(case / "label.nii.gz", label, study.geometry)
    return case


def isles_2018_case(folder, study, number=1):
    case, core = folder / "TRAINING" / f"case_{number}", study.mask("core").astype(np.uint8)
    for kind, values in (("CT_Tmax", study.truth["tmax"].values), ("OT", core)):
        name = f"SMIR.Brain.XX.O.{kind}.34556{number}"
        written(case / name / f"{name}.nii", values, study.geometry)
    name = f"SMIR.Brain.XX.O.CT_4DPWI.34557{number}"
    (case / name).mkdir(parents=True)
    write_series(case / name / f"{name}.nii", study.series)
    return case


def isles_2024_case(folder, source, study, subject="sub-stroke0001"):
    session = folder / "derivatives" / subject / "ses-01"
    session.mkdir(parents=True)
    with open(source, "rb") as plain, gzip.open(session / f"{subject}_ses-01_space-ncct_ctp.nii.gz", "wb", compresslevel=1) as packed:
        shutil.copyfileobj(plain, packed)
    written(session / "perfusion-maps" / f"{subject}_ses-01_space-ncct_tmax.nii.gz", study.truth["tmax"].values, study.geometry)
    core = study.mask("core").astype(np.uint8)
    written(folder / "derivatives" / subject / "ses-02" / f"{subject}_ses-02_lesion-msk.nii.gz", core, study.geometry)


def test_a_plain_folder_becomes_a_case_with_the_label_as_it_was_drawn(tmp_path, source, small_study):
    plain_case(tmp_path, source, small_study)
    (study,) = find_studies(tmp_path)
    assert (study.name, study.layout) == ("p1", "plain")
    case = case_of_files(study, threads=1)
    np.testing.assert_array_equal(case.label == 2, small_study.mask("core"))
    np.testing.assert_array_equal(case.label > 0, small_study.mask("hypoperfusion"))
    assert case.about["patient"] and case.about["group"] == "lvo" and case.baselines["maps"].shape == case.label.shape
    overlap = np.count_nonzero((case.baselines["maps"] > 0) & (case.label > 0))
    assert 2 * overlap / (np.count_nonzero(case.baselines["maps"]) + np.count_nonzero(case.label)) > 0.85


def test_isles_2018_is_understood_with_its_second_a_frame(tmp_path, small_study):
    isles_2018_case(tmp_path, small_study)
    (study,) = find_studies(tmp_path)
    assert (study.name, study.layout, study.step_s) == ("TRAINING_case_1", "isles-2018", 1.0)
    tissue = small_study.mask("tissue")
    label, words = read_label(study, small_study.geometry, tissue)
    assert "Tmax" in words
    np.testing.assert_array_equal(label == 2, small_study.mask("core"))
    truth = small_study.mask("hypoperfusion")
    assert np.count_nonzero((label > 0) & truth) > 0.97 * np.count_nonzero(truth | (label > 0))


def test_isles_2024_is_understood(tmp_path, source, small_study):
    isles_2024_case(tmp_path, source, small_study)
    (study,) = find_studies(tmp_path)
    assert (study.name, study.layout) == ("sub-stroke0001", "isles-2024")
    assert study.core.name.endswith("lesion-msk.nii.gz") and study.tmax.name.endswith("tmax.nii.gz")
    label, _ = read_label(study, small_study.geometry, small_study.mask("tissue"))
    np.testing.assert_array_equal(label == 2, small_study.mask("core"))


def case_of_the_only_study(folder, **options):
    (study,) = find_studies(folder)
    return case_of_files(study, threads=1, **options)


def overlap(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def test_a_case_is_made_of_isles_2018_at_its_second_a_frame_whatever_the_header_or_the_user_say(tmp_path, small_study):
    isles_2018_case(tmp_path, small_study)
    case = case_of_the_only_study(tmp_path, step_s=2.5)
    assert case.about["layout"] == "isles-2018" and "Tmax" in case.about["label_source"] and case.about["patient"]
    assert case.about["step_s"] == pytest.approx(1.0), "the header says 1.6 s"
    np.testing.assert_array_equal(case.label == 2, small_study.mask("core"))
    assert overlap(case.label > 0, small_study.mask("hypoperfusion")) > 0.95
    assert case.curves.shape[1:] == case.label.shape and case.curves[:, case.tissue > 0].max() > 0.8


def test_a_case_is_made_of_isles_2024_with_the_infarct_in_the_space_of_the_series(tmp_path, source, small_study):
    isles_2024_case(tmp_path, source, small_study)
    session = tmp_path / "derivatives" / "sub-stroke0001" / "ses-02"
    right = session / "sub-stroke0001_ses-02_space-ncct_lesion-msk.nii.gz"
    (session / "sub-stroke0001_ses-02_lesion-msk.nii.gz").rename(right)
    # The public release holds masks in the space of the MR scan beside those that were brought over.
    astray = written(session / "sub-stroke0001_ses-02_lesion-msk.nii", np.ones((3, 4, 5), np.uint8), Geometry((5, 4, 3)))
    assert find_studies(tmp_path)[0].core == right
    case = case_of_the_only_study(tmp_path)
    assert case.about["layout"] == "isles-2024" and case.about["step_s"] == pytest.approx(1.6)
    np.testing.assert_array_equal(case.label == 2, small_study.mask("core"))
    assert overlap(case.label > 0, small_study.mask("hypoperfusion")) > 0.95 and "maps" in case.baselines
    right.unlink()
    assert find_studies(tmp_path)[0].core == astray


def test_studies_of_several_folders_keep_apart_whatever_their_files_are_called(tmp_path, source, small_study):
    core = small_study.mask("core").astype(np.uint8)
    for case in ("case0", "case1"):
        written(tmp_path / case / "scan_core.nii.gz", core, small_study.geometry)
        shutil.copy(source, tmp_path / case / "scan_ctp.nii")
    written(tmp_path / "sub-01" / "ses-1" / "sub-01_ses-1_core.nii.gz", core, small_study.geometry)
    shutil.copy(source, tmp_path / "sub-01" / "ses-1" / "sub-01_ses-1_ctp.nii")
    assert [study.name for study in find_studies(tmp_path)] == ["case0_scan", "case1_scan", "sub-01_ses-1"]


@pytest.mark.parametrize("other", ["a/b", "A_b"])
def test_two_studies_of_one_name_are_refused_before_one_overwrites_the_other(other, tmp_path, source, small_study):
    plain_case(tmp_path, source, small_study, "a_b")
    if not (tmp_path / other).exists():
        plain_case(tmp_path, source, small_study, other)
        with pytest.raises(RequestRefused, match="would both be called (?i:a_b); rename") as refusal:
            find_studies(tmp_path)
        assert "a_b/ctp.nii" in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_time_step_of_the_user_fills_in_only_where_nothing_else_tells(tmp_path, source, small_study):
    case = plain_case(tmp_path, source, small_study)
    assert case_of_the_only_study(tmp_path, step_s=2.5).about["step_s"] == pytest.approx(1.6), "the header tells"
    header = bytearray((case / "ctp.nii").read_bytes())
    header[123] &= 0x07  # no unit of time
    (case / "ctp.nii").write_bytes(header)
    assert case_of_the_only_study(tmp_path, step_s=2.5).about["step_s"] == pytest.approx(2.5)
    with pytest.raises(DataRefused, match="no unit"):
        case_of_the_only_study(tmp_path)
    (case / "times.csv").write_text("\n".join(f"{1.2 * n:.3f}" for n in range(32)))
    assert case_of_the_only_study(tmp_path, step_s=2.5).about["step_s"] == pytest.approx(1.2)


def with_time_on_the_fifth_axis(path):
    """The same bytes under a header that puts time where NIfTI has the values of a vector."""
    raw = bytearray(path.read_bytes())
    size = list(struct.unpack("<8h", raw[40:56]))
    size[0], size[4], size[5] = 5, 1, size[4]
    raw[40:56] = struct.pack("<8h", *size)
    raw[76 + 20 : 76 + 24] = struct.pack("<f", 1.6)
    path.write_bytes(raw)


def test_time_on_the_fifth_axis_is_read_with_times_from_elsewhere_and_refused_without(tmp_path, source, small_study):
    path = plain_case(tmp_path, source, small_study) / "ctp.nii"
    with_time_on_the_fifth_axis(path)
    series = read_nifti_series(path, dt=1.6)
    np.testing.assert_array_equal(series.values, small_study.series.values)
    assert series.geometry.close_to(small_study.geometry) and series.times[-1] == pytest.approx(31 * 1.6)
    with pytest.raises(DataRefused, match="fifth axis.*--times.*--dt") as refusal:
        read_nifti_series(path)
    assert "\n" not in str(refusal.value)
    assert case_of_the_only_study(tmp_path, step_s=1.6).about["step_s"] == pytest.approx(1.6)


def test_several_values_a_voxel_are_still_refused(tmp_path, source):
    raw = bytearray(source.read_bytes())
    size = list(struct.unpack("<8h", raw[40:56]))
    for rank, last in ((5, (16, 2)), (6, (16, 2, 1))):
        other = [rank, *size[1:4], *last, *([1] * (4 - len(last)))]
        raw[40:56] = struct.pack("<8h", *other[:8])
        (tmp_path / "vector.nii").write_bytes(raw)
        with pytest.raises(DataRefused, match="several values a voxel"):
            read_nifti_series(tmp_path / "vector.nii", dt=1.0)


def test_a_study_stored_from_back_to_front_and_from_head_to_foot_is_the_same_to_a_network(tmp_path, source, small_study):
    from StrokeSegmentationLib.brain_box import cut_to_brain

    plain_case(tmp_path / "plain", source, small_study)
    plain = case_of_the_only_study(tmp_path / "plain")
    grid = small_study.geometry
    turned = replace(grid, origin=tuple(grid.to_lps((0, 95, 5))), direction=((1, 0, 0), (0, -1, 0), (0, 0, -1)))
    case = tmp_path / "turned" / "p1"
    label = np.where(small_study.mask("core"), 2, small_study.mask("penumbra")).astype(np.uint8)
    written(case / "label.nii.gz", label[::-1, ::-1].copy(), turned)
    series = small_study.series
    write_series(case / "ctp.nii", replace(series, values=series.values[:, ::-1, ::-1].copy(), geometry=turned))
    save_case(tmp_path / "turned.npz", case_of_the_only_study(tmp_path / "turned"))
    other = load_case(tmp_path / "turned.npz")
    np.testing.assert_array_equal(other.label[::-1, ::-1], plain.label)
    first, second = (cut_to_brain(one, True, True, one.label) for one in (plain, other))
    np.testing.assert_array_equal(first.label, second.label)
    assert first.curves.shape == second.curves.shape and np.abs(first.curves - second.curves).mean() < 0.02


@pytest.mark.parametrize(("missing", "words"), [("artery", "No artery"), ("normal tissue", "normally perfused")])
def test_a_study_without_an_artery_or_normal_tissue_is_said_to_be_without_maps(missing, words, tmp_path, source, small_study, monkeypatch):
    from StrokeSegmentationLib import study_layouts

    analyze = study_layouts.analyze_prepared

    def refuse(*_):
        raise DataRefused("No artery was found.")

    def without_reference(*given):
        result = analyze(*given)
        return replace(result, maps={**result.maps, "rcbf": 0.0 * result.maps["rcbf"], "rcbv": 0.0 * result.maps["rcbv"]})

    monkeypatch.setattr(study_layouts, "analyze_prepared", refuse if missing == "artery" else without_reference)
    plain_case(tmp_path / "in", source, small_study, "p7")
    said: list[str] = []
    assert write_patient_cases(tmp_path / "in", tmp_path / "out", threads=1, say=said.append) == 1
    assert len(said) == 1 and said[0].startswith("p7: ") and "without maps" in said[0] and words in said[0]


def test_files_side_by_side_and_masks_instead_of_a_label_will_do(tmp_path, source, small_study):
    for name in ("anna", "bert"):
        shutil.copy(source, tmp_path / f"{name}_ctp.nii")
        for kind in ("core", "penumbra"):
            written(tmp_path / f"{name}_{kind}.nii.gz", small_study.mask(kind).astype(np.uint8), small_study.geometry)
    studies = find_studies(tmp_path)
    assert [study.name for study in studies] == ["anna", "bert"]
    label, words = read_label(studies[1], small_study.geometry, small_study.mask("tissue"))
    assert words == "masks of core and penumbra"
    np.testing.assert_array_equal(label == 1, small_study.mask("penumbra"))


def test_a_label_on_another_grid_is_brought_over(tmp_path, source, small_study):
    case = plain_case(tmp_path, source, small_study)
    coarse = binned_geometry(small_study.geometry, 2)
    values = small_study.mask("hypoperfusion").reshape(6, 48, 2, 48, 2).mean(axis=(2, 4)) >= 0.5
    written(case / "label.nii.gz", values.astype(np.uint8), coarse)
    label, _ = read_label(find_studies(tmp_path)[0], small_study.geometry, small_study.mask("tissue"))
    truth = small_study.mask("hypoperfusion")
    assert 2 * np.count_nonzero((label > 0) & truth) / (np.count_nonzero(label) + np.count_nonzero(truth)) > 0.9


def test_a_core_alone_leaves_no_penumbra_and_says_so(tmp_path, source, small_study):
    case = plain_case(tmp_path, source, small_study)
    (case / "label.nii.gz").unlink()
    written(case / "core.nii.gz", small_study.mask("core").astype(np.uint8), small_study.geometry)
    label, words = read_label(find_studies(tmp_path)[0], small_study.geometry, small_study.mask("tissue"))
    assert words == "mask of core alone" and not (label == 1).any() and (label == 2).any()


def test_a_label_with_other_numbers_is_refused(tmp_path, source, small_study):
    case = plain_case(tmp_path, source, small_study)
    written(case / "label.nii.gz", np.full(small_study.geometry.shape, 7, np.uint8), small_study.geometry)
    with pytest.raises(DataRefused, match="other numbers"):
        read_label(find_studies(tmp_path)[0], small_study.geometry, small_study.mask("tissue"))


def test_the_given_times_of_a_plain_case_count(tmp_path, source, small_study):
    case = plain_case(tmp_path, source, small_study)
    slow = 2.0 * small_study.series.times
    (case / "times.csv").write_text("time_s\n" + "\n".join(f"{time:.3f}" for time in slow))
    (study,) = find_studies(tmp_path)
    assert study.times is not None
    first = case_of_files(study, threads=1).about["arrival_s"]
    (case / "times.csv").unlink()
    assert first > 1.6 * case_of_files(find_studies(tmp_path)[0], threads=1).about["arrival_s"]


def test_a_whole_folder_is_prepared_and_what_cannot_be_used_is_said(tmp_path, source, small_study):
    plain_case(tmp_path / "in", source, small_study, "good")
    bad = plain_case(tmp_path / "in", source, small_study, "bad")
    (bad / "ctp.nii").write_bytes((bad / "ctp.nii").read_bytes()[:5000])
    said: list[str] = []
    assert write_patient_cases(tmp_path / "in", tmp_path / "out", groups={"good": "non-lvo"}, threads=1, say=said.append) == 1
    assert load_case(tmp_path / "out" / "patient_good.npz").about["group"] == "non-lvo"
    assert len(said) == 1 and said[0].startswith("bad: ")
    assert write_patient_cases(tmp_path / "in", tmp_path / "out", threads=1) == 1


def test_a_folder_without_labeled_studies_is_refused(tmp_path, source):
    with pytest.raises(RequestRefused, match="no perfusion series with a label"):
        find_studies(tmp_path)
    shutil.copy(source, tmp_path / "ctp.nii")
    with pytest.raises(RequestRefused, match="no perfusion series with a label"):
        find_studies(tmp_path)
    with pytest.raises(RequestRefused, match="does not exist"):
        find_studies(tmp_path / "nowhere")


def test_a_table_of_groups_is_read_and_checked(tmp_path):
    table = tmp_path / "groups.csv"
    table.write_text("name,group\np1,LVO\np2,none\n")
    assert read_groups(table) == {"p1": "lvo", "p2": "none"}
    table.write_text("name,group\np1,huge\n")
    with pytest.raises(RequestRefused, match="huge"):
        read_groups(table)
    table.write_text("a,b\n1,2\n")
    with pytest.raises(RequestRefused, match="columns name and group"):
        read_groups(table)
