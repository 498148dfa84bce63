"""Results as DICOM objects: another program reads the same numbers at the same places, in the patient's own study."""

import builtins
import logging
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from damaged_studies import HOSTILE, hostile_headers, perfusion_slices

from CTPerfusionSuiteLib.dicom.perfusion_series import read_perfusion_series
from CTPerfusionSuiteLib.dicom.write_maps import QUANTITY_CODES, write_maps
from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused
from CTPerfusionSuiteLib.phantoms.dicom_styles import write_dicom_study
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries

highdicom = pytest.importorskip("highdicom")

UNITS = {
    "cbf": ("cerebral blood flow", "mL/min/(100.g)", "mL/100 g/min"),
    "delay": ("arterial delay", "s", "s"),
    "tmax": ("time to maximum of the residue function", "s", "s"),
    "rcbf": ("relative cerebral blood flow", "1", "fraction of reference"),
}
OBLIQUE = ((1.0, 0.0, 0.0), (0.0, float(np.cos(0.3)), -float(np.sin(0.3))), (0.0, float(np.sin(0.3)), float(np.cos(0.3))))
LEFT_HANDED = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0))


def grid(direction=OBLIQUE) -> Geometry:
    return Geometry((20, 16, 5), (1.8, 2.1, 5.0), (-17.5, -40.25, 31.0), direction)


def results(geometry: Geometry):
    """Maps and masks with something different in every voxel."""
    rng = np.random.default_rng(2)
    maps = {name: rng.gamma(2, 8, geometry.shape).astype(np.float32) for name in (*UNITS, "cbf_sd", "cbf_p025", "cbf_p975")}
    hypoperfused = np.zeros(geometry.shape, np.uint8)
    hypoperfused[1:4, 3:12, 4:15] = 1
    core = np.zeros_like(hypoperfused)
    core[2, 5:9, 6:11] = 1
    masks = {"hypoperf_mask_tmax6": hypoperfused, "core_mask_rcbf30": core, "penumbra_mask": hypoperfused - core,
             "brain_mask": np.ones_like(core)}
    return maps, masks


def voxels_by_place(path) -> dict:
    """{(x, y, z) LPS rounded: value} of every voxel of a Parametric Map, from its own positions, pixel by pixel."""
    image = highdicom.imread(path)
    shared, found = image.SharedFunctionalGroupsSequence[0], {}
    row, column = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    spacing = [float(s) for s in shared.PixelMeasuresSequence[0].PixelSpacing]
    pixels = image.get_frames(apply_real_world_transform=True)
    for n, frame in enumerate(image.PerFrameFunctionalGroupsSequence):
        corner = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        for j in range(image.Rows):
            for i in range(image.Columns):
                found[tuple(np.round(corner + i * spacing[1] * row + j * spacing[0] * column, 2) + 0.0)] = float(pixels[n, j, i])
    return found


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A small perfusion study whose header the results join."""
    values = np.random.default_rng(0).integers(0, 80, (12, 5, 16, 20)).astype(np.int16)
    series = TimeSeries(values, grid(), np.arange(12) * 2.0)
    root = tmp_path_factory.mktemp("source")
    return {style: write_dicom_study(series, root / style, style, seed=4) for style in ("siemens", "ge", "enhanced")}


def header_of(folder) -> dict:
    """What the reader keeps for writing."""
    return read_perfusion_series(folder).header


@pytest.mark.parametrize("direction", [OBLIQUE, LEFT_HANDED], ids=["oblique", "left-handed"])
def test_another_program_finds_every_value_at_its_place(tmp_path, direction):
    geometry = grid(direction)
    maps, masks = results(geometry)
    write_maps(tmp_path, geometry, maps, masks, UNITS, {})
    found = voxels_by_place(tmp_path / "tmax.dcm")
    k, j, i = (n.ravel() for n in np.indices(geometry.shape))
    places = np.round(geometry.to_lps(np.stack([i, j, k], axis=-1)), 2) + 0.0
    for place, value in zip(places, maps["tmax"].ravel(), strict=True):
        near = found.get(tuple(place))
        if near is None:  # rounding of the last digit
            near = min(((np.abs(np.array(p) - place).max(), v) for p, v in found.items()), key=lambda pair: pair[0])[1]
        assert near == pytest.approx(value, rel=1e-6)
    assert len(found) == maps["tmax"].size


def test_segments_overlap_as_the_masks_do(tmp_path):
    geometry = grid()
    maps, masks = results(geometry)
    write_maps(tmp_path, geometry, maps, masks, UNITS, {})
    segmentation = highdicom.seg.segread(tmp_path / "lesions_seg.dcm")
    labels = {n: segmentation.get_segment_description(n).SegmentLabel for n in segmentation.segment_numbers}
    assert [label.split()[0] for label in labels.values()] == ["Core", "Penumbra", "Hypoperfusion"]
    volume = segmentation.get_volume(combine_segments=False, allow_missing_positions=True)
    for number, label in labels.items():
        mask = masks[label[label.index("(") + 1:-1]]
        k, j, i = np.nonzero(volume.array[..., number - 1])
        there = volume.map_indices_to_reference(np.stack([k, j, i], axis=-1))
        k, j, i = np.nonzero(mask)
        expected = geometry.to_lps(np.stack([i, j, k], axis=-1))
        assert len(there) == len(expected)
        assert np.abs(there[np.lexsort(there.round(2).T)] - expected[np.lexsort(expected.round(2).T)]).max() < 0.01


@pytest.mark.parametrize("style", ["siemens", "ge", "enhanced"])
def test_the_objects_join_the_patient_s_study(study, tmp_path, style):
    maps, masks = results(grid())
    header = header_of(study[style])
    source = pydicom.dcmread(header["source_file"], stop_before_pixels=True)
    written = write_maps(tmp_path / "out", grid(), maps, masks, UNITS, header)
    series, places = set(), {}
    for s in perfusion_slices(study[style]):
        uid = pydicom.dcmread(s.path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID
        places[uid, None if s.frame is None else s.frame + 1] = s.position[2:]
    for path in written:
        image = pydicom.dcmread(path)
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber",
                        "FrameOfReferenceUID"):
            assert image.get(keyword) == source.get(keyword), keyword
        assert image.SeriesInstanceUID != source.SeriesInstanceUID
        assert image.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
        for frame in image.PerFrameFunctionalGroupsSequence:
            reference = frame.DerivationImageSequence[0].SourceImageSequence[0]
            assert reference.ReferencedSOPClassUID == source.SOPClassUID
            place = tuple(round(float(c), 2) for c in frame.PlanePositionSequence[0].ImagePositionPatient)
            assert place == places[reference.ReferencedSOPInstanceUID, reference.get("ReferencedFrameNumber")]
        assert image.SeriesDescription.startswith("Research use only")
        assert image.get("ContentQualification", "RESEARCH") == "RESEARCH"
        series.add(image.SeriesInstanceUID)
    assert len(series) == len(written) == len(maps) + 1


def test_without_dicom_input_the_objects_share_a_new_anonymous_study(tmp_path):
    maps, masks = results(grid())
    images = [pydicom.dcmread(path) for path in write_maps(tmp_path, grid(), maps, masks, UNITS, {})]
    assert len({image.StudyInstanceUID for image in images}) == len({image.FrameOfReferenceUID for image in images}) == 1
    assert all(image.PatientID == "ANONYMOUS" and "ReferencedSeriesSequence" not in image for image in images)


def test_quantities_and_units_are_coded(tmp_path):
    maps, masks = results(grid())
    write_maps(tmp_path, grid(), maps, masks, UNITS, {})
    for name, code, unit in (("cbf", "126390", "mL/min/(100.g)"), ("tmax", "113084", "s"), ("rcbf", "126397", "1"),
                             ("cbf_sd", "126390", "mL/min/(100.g)")):
        mapping = pydicom.dcmread(tmp_path / f"{name}.dcm").SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
        quantity = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0]
        assert (quantity.CodeValue, quantity.CodingSchemeDesignator) == (code, "DCM")
        units = mapping.MeasurementUnitsCodeSequence[0]
        assert (units.CodeValue, units.CodingSchemeDesignator) == (unit, "UCUM")
        assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1.0, 0.0)
    spread = pydicom.dcmread(tmp_path / "cbf_sd.dcm").SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert spread.QuantityDefinitionSequence[1].ConceptCodeSequence[0].CodeMeaning.lower() == "standard deviation"
    assert all(code.scheme_designator == "DCM" for code in QUANTITY_CODES.values())


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
@pytest.mark.parametrize("style", ["siemens", "enhanced", None])
def test_a_validator_finds_no_error(study, tmp_path, style):
    maps, masks = results(grid())
    maps["flat"] = np.zeros(grid().shape)
    masks = {name: np.zeros_like(mask) if name.startswith("core") else mask for name, mask in masks.items()}
    for path in write_maps(tmp_path / "out", grid(), maps, masks, UNITS, header_of(study[style]) if style else {}):
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, timeout=60)
        assert not [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")], path.name


def test_no_lesion_at_all_is_written_as_empty_segments(tmp_path):
    maps, masks = results(grid())
    masks = {name: np.zeros_like(mask) for name, mask in masks.items()}
    write_maps(tmp_path, grid(), {"cbf": maps["cbf"]}, masks, UNITS, {})
    segmentation = highdicom.seg.segread(tmp_path / "lesions_seg.dcm")
    assert segmentation.number_of_segments == 3 and not segmentation.pixel_array.any()


def test_a_faulty_header_neither_stops_the_writing_nor_reaches_the_log(study, tmp_path, caplog, capfd, recwarn):
    bad = hostile_headers(study["siemens"], tmp_path / "bad")
    path = perfusion_slices(bad)[0].path
    image = pydicom.dcmread(path)
    with pydicom.config.disable_value_validation():
        image.PatientName = "Secret Name Without Carets Which Is Long"
        image.PatientSex = "unknown"
        image.PatientBirthDate = "1950"
        image.StudyTime = "25:61"
        image.pop("StudyID", None)
        image.save_as(path)
    maps, masks = results(grid())
    with caplog.at_level(logging.DEBUG):
        written = write_maps(tmp_path / "out", grid(), maps, masks, UNITS, {"source_file": str(path)})
    assert all("Secret" not in p.name and ".." not in p.name and p.parent == tmp_path / "out" for p in written)
    said = caplog.text + "".join(capfd.readouterr()) + "".join(str(w.message) for w in recwarn)
    assert "Secret" not in said and "script" not in said and HOSTILE["PatientID"] not in said
    assert pydicom.dcmread(written[0]).PatientSex == ""


def test_a_missing_library_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "highdicom":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RequestRefused, match=r"pip install ctperfusionsuite\[dicom\]"):
        write_maps(tmp_path, grid(), {}, {}, UNITS, {})


def test_a_source_that_has_gone_is_refused_in_one_sentence(tmp_path):
    maps, masks = results(grid())
    with pytest.raises(DataRefused, match="can no longer be read") as refused:
        write_maps(tmp_path, grid(), maps, masks, UNITS, {"source_file": str(tmp_path / "Doe_Jane" / "gone")})
    assert "Doe" not in str(refused.value)
    with pytest.raises(RequestRefused, match="cannot make the folder"):
        (tmp_path / "file").write_text("x")
        write_maps(tmp_path / "file" / "out", grid(), maps, masks, UNITS, {})
