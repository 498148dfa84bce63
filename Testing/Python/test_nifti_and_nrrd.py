"""Stories of files other programs write and read: NIfTI against nibabel, Slicer sequences as Slicer stores them."""

import gzip
import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused
from CTPerfusionSuiteLib.nifti import read_nifti_series, read_volume, volume_grid, write_series, write_volume
from CTPerfusionSuiteLib.sequence_nrrd import read_sequence, write_sequence
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries, Volume

VALUES = np.random.default_rng(0).integers(-1000, 2000, (16, 4, 5, 6)).astype(np.int16)
TIMES = 2.0 * np.arange(16)


def turned(*degrees):
    """Columns of a rotation about x, then y, then z."""
    result = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        c, s = np.cos(angle), np.sin(angle)
        one = np.eye(3)
        a, b = [n for n in range(3) if n != axis]
        one[a, a] = one[b, b] = c
        one[a, b], one[b, a] = -s, s
        result = one @ result
    return result


DIRECTIONS = {
    "plain": np.eye(3),
    "oblique": turned(10, -20, 35),
    "mirrored": turned(5, 8, -12) @ np.diag([1, 1, -1]),
    "sagittal": np.eye(3)[:, [1, 2, 0]],
}


def series_with(direction=((1, 0, 0), (0, 1, 0), (0, 0, 1)), **changes):
    geometry = Geometry((6, 5, 4), (1.0, 1.25, 5.0), (-20.5, 30.25, 7.75), tuple(map(tuple, direction)))
    return TimeSeries(**({"values": VALUES, "geometry": geometry, "times": TIMES} | changes))


def write_nifti(path, data, affine=None, unit="sec", step=2.0, **header):
    """By nibabel: `data` (T, K, J, I), RAS affine."""
    image = nib.Nifti1Image(np.ascontiguousarray(np.transpose(data)), np.diag([-1, -1, 5, 1.0]) if affine is None else affine)
    if data.ndim == 4:
        image.header["pixdim"][4] = step
    if unit:
        image.header.set_xyzt_units("mm", unit)
    for key, value in header.items():
        image.header[key] = value
    nib.save(image, path)
    return path


# ----------------------------------------------------------------------------------------------------------------------- NIfTI


@pytest.mark.parametrize("name", DIRECTIONS)
def test_written_volumes_lie_where_nibabel_finds_them(tmp_path, name):
    volume = Volume(VALUES[3].astype(np.float32), series_with(DIRECTIONS[name]).geometry, "cerebral blood flow", "mL/min/(100.g)")
    write_volume(tmp_path / "v.nii.gz", volume)
    image = nib.load(tmp_path / "v.nii.gz")
    for affine in (image.get_sform(), image.get_qform()):
        ras = affine @ [4, 3, 2, 1]
        assert np.allclose(ras[:3] * [-1, -1, 1], volume.geometry.to_lps([4, 3, 2]), atol=1e-4)
    assert image.header["sform_code"] == image.header["qform_code"] == 1
    assert np.array_equal(np.transpose(image.dataobj), VALUES[3]) and image.get_data_dtype() == np.float32
    assert image.header["descrip"].item().decode() == "cerebral blood flow; unit mL/min/(100.g)"
    back = read_volume(tmp_path / "v.nii.gz")
    assert np.array_equal(back.values, volume.values) and back.geometry.close_to(volume.geometry, 1e-3)
    assert (back.quantity, back.unit) == ("cerebral blood flow", "mL/min/(100.g)")


def test_masks_stay_small_and_long_descriptions_keep_their_unit(tmp_path):
    geometry = series_with().geometry
    write_volume(tmp_path / "m.nii.gz", Volume(VALUES[0] > 0, geometry))
    assert nib.load(tmp_path / "m.nii.gz").get_data_dtype() == np.uint8
    write_volume(tmp_path / "d.nii.gz", Volume(VALUES[0].astype(float), geometry, "x" * 200, "s"))
    image = nib.load(tmp_path / "d.nii.gz")
    assert image.get_data_dtype() == np.float32 and image.header["descrip"].item().decode().endswith("; unit s")
    assert read_volume(tmp_path / "d.nii.gz").unit == "s"


@pytest.mark.parametrize("name", DIRECTIONS)
@pytest.mark.parametrize("form", ["sform", "qform"])
def test_affines_of_others_are_understood(tmp_path, name, form):
    geometry = series_with(DIRECTIONS[name]).geometry
    affine = np.diag([-1, -1, 1, 1]) @ geometry.matrix
    path = write_nifti(tmp_path / "s.nii.gz", VALUES, affine)
    image = nib.load(path)
    image.set_sform(affine, code=2 if form == "sform" else 0)
    image.set_qform(affine, code=1 if form == "qform" else 0)
    nib.save(image, path)
    series = read_nifti_series(path)
    assert series.geometry.close_to(geometry, 1e-3) and np.array_equal(series.values, VALUES)


SCANNED = np.array([[-2.29, 0, 0, 110], [0, -2.29, 0, 120], [0, 0, 5, -30], [0, 0, 0, 1.0]])


def placed(path, sform=(1, SCANNED), qform=(0, SCANNED), **header):
    """A series by nibabel whose codes, affines (RAS) and header fields contradict each other as asked."""
    image = nib.Nifti1Image(np.transpose(VALUES), None)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_sform(sform[1], code=sform[0])
    image.header.set_qform(qform[1], code=qform[0])
    image.header["pixdim"][4] = 2
    raw = bytearray(image.to_bytes())
    edited = nib.Nifti1Header(bytes(raw[:348]), check=False)
    for key, value in header.items():
        if key == "sizes":
            edited["pixdim"][1:4] = value
        else:
            edited[key] = value
    raw[:348] = edited.binaryblock
    path.write_bytes(bytes(raw))
    return path


@pytest.mark.parametrize("sizes", [(1, 1, 1), (0, 2.29, 5), (-2.29, 2.29, 5), (np.nan, np.inf, 5)])
@pytest.mark.parametrize("codes", [(1, 0), (1, 1), (2, 0), (2, 1), (4, 0)])
def test_voxels_are_as_large_as_the_sform_that_places_them_whatever_pixdim_says(tmp_path, capfd, sizes, codes):
    path = placed(tmp_path / "s.nii", (codes[0], SCANNED), (codes[1], SCANNED), sizes=sizes)
    series = read_nifti_series(path)
    assert series.geometry.spacing == pytest.approx((2.29, 2.29, 5.0), rel=1e-5)
    assert np.allclose(series.geometry.to_lps([2, 3, 1]), [-110 + 2 * 2.29, -120 + 3 * 2.29, -25], atol=1e-3)
    contradicted = not np.allclose(np.abs(sizes), (2.29, 2.29, 5))
    assert [code for code, _ in series.notes] == ["voxel_size_contradicted"] * contradicted
    assert capfd.readouterr().err == ""


def test_an_sform_into_an_atlas_gives_way_to_the_qform_and_one_into_another_scan_too(tmp_path):
    atlas = np.diag([3.0, 3.0, 7.0, 1.0])
    aligned = SCANNED + np.array([[0, 0, 0, 40.0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    for code, sform in ((4, atlas), (2, aligned)):
        series = read_nifti_series(placed(tmp_path / "s.nii", (code, sform), (1, SCANNED), sizes=(2.29, 2.29, 5)))
        assert np.allclose(series.geometry.to_lps([0, 0, 0]), [-110, -120, -30], atol=1e-3)
        assert series.geometry.spacing == pytest.approx((2.29, 2.29, 5.0), rel=1e-5)
    assert np.allclose(read_nifti_series(placed(tmp_path / "s.nii", (4, atlas))).geometry.spacing, (3, 3, 7))


def test_lengths_count_in_the_unit_of_the_header_and_a_missing_orientation_is_told(tmp_path):
    thousandth = np.diag([1e-3, 1e-3, 1e-3, 1.0]) @ SCANNED
    series = read_nifti_series(placed(tmp_path / "s.nii", (1, thousandth), sizes=(2.29e-3, 2.29e-3, 5e-3), xyzt_units=1 | 8))
    assert series.geometry.spacing == pytest.approx((2.29, 2.29, 5.0), rel=1e-5)
    assert np.allclose(series.geometry.origin, [-110, -120, -30], atol=1e-3) and not series.notes
    bare = read_nifti_series(placed(tmp_path / "s.nii", (0, SCANNED), sizes=(2.29, 2.29, 5)))
    assert bare.geometry.spacing == pytest.approx((2.29, 2.29, 5.0), rel=1e-5)
    assert [code for code, _ in bare.notes] == ["unknown_orientation"]


SHEARED = SCANNED + np.array([[0, 0, 1.5, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"sform": (0, SCANNED), "sizes": (-2.29, 2.29, 5)}, "voxel size"),
        ({"sform": (0, SCANNED), "qform": (1, SCANNED), "sizes": (2.29, 0, 5)}, "voxel size"),
        ({"sform": (0, SCANNED), "qform": (1, SCANNED), "quatern_b": np.inf}, "voxel size"),
        ({"sform": (1, 1e9 * SCANNED)}, "voxel size"),
        ({"sform": (1, np.full((4, 4), np.nan))}, "voxel size"),
        ({"sform": (1, np.diag([0.0, 0, 0, 1]))}, "voxel size"),
        ({"sform": (1, SHEARED)}, "right angles"),
        ({"vox_offset": np.nan}, "byte nan"),
        ({"vox_offset": -5}, "byte -5"),
        ({"vox_offset": 0}, "byte 0"),
        ({"vox_offset": 1e30}, "byte 1e"),
        ({"scl_slope": 1e30}, "scales by 1e"),
        ({"scl_slope": 1, "scl_inter": -1e20}, "scales by 1 and"),
        ({"scl_slope": 1e7 + 0.5}, "no HU"),
        ({"dim": [4, 32000, 32000, 32000, 16, 1, 1, 1]}, "truncated"),
    ],
)
def test_a_nonsensical_nifti_header_is_refused_in_one_sentence(tmp_path, capfd, changes, sentence):
    path = placed(tmp_path / "s.nii", **changes)
    with pytest.raises(DataRefused, match=sentence):
        read_nifti_series(path)
    assert capfd.readouterr().err == ""


def test_the_header_of_a_volume_tells_its_grid_and_what_cannot_be_read(tmp_path, capfd):
    volume = Volume(VALUES[0], series_with(DIRECTIONS["oblique"]).geometry)
    for name in ("v.nii.gz", "v.mha", "v.nrrd"):
        write_volume(tmp_path / name, volume)
        assert volume_grid(tmp_path / name).close_to(volume.geometry, 1e-3)
        assert read_volume(tmp_path / name).geometry.close_to(volume.geometry, 1e-3)
    write_series(tmp_path / "s.nii.gz", series_with())
    write_sequence(tmp_path / "s.seq.nrrd", series_with())
    (tmp_path / "text.mha").write_text("hello")
    (tmp_path / "nan.mha").write_bytes((tmp_path / "v.mha").read_bytes().replace(b"ElementSpacing = 1 ", b"ElementSpacing = nan "))
    capfd.readouterr()
    for name in ("s.nii.gz", "s.seq.nrrd", "text.mha", "nan.mha", "none.nii", "none.mha"):
        for read in (volume_grid, read_volume):
            with pytest.raises((RequestRefused, DataRefused)):
                read(tmp_path / name)
    assert capfd.readouterr().err == ""
    assert sitk.ProcessObject.GetGlobalWarningDisplay()


def test_big_endian_is_read_and_nifti_2_refused(tmp_path):
    big = nib.Nifti1Image(np.transpose(VALUES).astype(">i2"), np.diag([-1, -1, 5, 1.0]), header=nib.Nifti1Header(endianness=">"))
    big.header["pixdim"][4] = 2
    big.header.set_xyzt_units("mm", "sec")
    nib.save(big, tmp_path / "big.nii")
    series = read_nifti_series(tmp_path / "big.nii")
    assert np.array_equal(series.values, VALUES) and np.allclose(series.times, TIMES) and series.geometry.spacing == (1, 1, 5)
    nib.save(nib.Nifti2Image(np.transpose(VALUES), np.eye(4)), tmp_path / "two.nii.gz")
    with pytest.raises(RequestRefused, match="NIfTI-1"):
        read_nifti_series(tmp_path / "two.nii.gz")


@pytest.mark.parametrize("unit, step", [("sec", 2.0), ("msec", 2000.0), ("usec", 2e6)])
def test_the_time_step_counts_in_its_unit(tmp_path, unit, step):
    series = read_nifti_series(write_nifti(tmp_path / "s.nii.gz", VALUES, unit=unit, step=step))
    assert np.allclose(series.times, TIMES) and series.values.dtype == np.int16


@pytest.mark.parametrize("unit", [None, "hz", "ppm"])
def test_a_time_step_without_unit_is_not_believed(tmp_path, unit):
    path = write_nifti(tmp_path / "s.nii.gz", VALUES, unit=unit)
    with pytest.raises(DataRefused, match="--dt"):
        read_nifti_series(path)
    assert np.allclose(read_nifti_series(path, dt=1.75).times, 1.75 * np.arange(16))
    assert np.allclose(read_nifti_series(path, times=TIMES + 3).times, TIMES)
    assert read_nifti_series(path, times=TIMES[:, None] + np.arange(4)).times.shape == (16, 4)


@pytest.mark.parametrize("step", [0.0, 0.002, 60.0])
def test_an_implausible_step_is_not_believed_even_with_a_unit(tmp_path, step):
    with pytest.raises(DataRefused, match="no usable time axis"):
        read_nifti_series(write_nifti(tmp_path / "s.nii.gz", VALUES, step=step))


@pytest.mark.parametrize(
    "kind, slope, inter, dtype",
    [
        ("int16", 1, 0, "int16"),
        ("int16", 1, -1024, "int16"),
        ("uint16", 1, 0, "int16"),
        ("int32", 1, 0, "int16"),
        ("int16", 0.5, 0, "float32"),
        ("float32", 1, 0, "float32"),
        ("float64", 1, 0, "float32"),
    ],
)
def test_hu_are_whole_when_type_and_scaling_are(tmp_path, kind, slope, inter, dtype):
    stored = np.abs(VALUES).astype(kind)
    path = write_nifti(tmp_path / "s.nii", stored)
    image = nib.Nifti1Image(np.transpose(stored), np.eye(4))
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 2
    image.header.set_slope_inter(slope, inter)
    raw = image.to_bytes()
    # nibabel scales on writing; the header alone says slope and intercept here.
    header = bytearray(raw[:352])
    header[112:120] = np.array([slope, inter], "<f4").tobytes()
    path.write_bytes(bytes(header) + np.ascontiguousarray(stored).tobytes())
    series = read_nifti_series(path)
    assert series.values.dtype == dtype and np.allclose(series.values, stored.astype(float) * slope + inter)


def test_series_go_out_with_seconds(tmp_path):
    series = series_with(DIRECTIONS["oblique"])
    write_series(tmp_path / "s.nii.gz", series)
    image = nib.load(tmp_path / "s.nii.gz")
    assert image.header["pixdim"][4] == 2 and image.header.get_xyzt_units() == ("mm", "sec")
    back = read_nifti_series(tmp_path / "s.nii.gz")
    assert np.array_equal(back.values, VALUES) and back.geometry.close_to(series.geometry, 1e-3) and np.allclose(back.times, TIMES)


def test_bad_nifti_is_refused(tmp_path):
    bad = VALUES.astype(np.float32)
    bad[3, 1, 2, 2] = np.nan
    with pytest.raises(DataRefused, match="frame 4 .*NaN"):
        read_nifti_series(write_nifti(tmp_path / "nan.nii.gz", bad))
    with pytest.raises(DataRefused, match="one volume"):
        read_nifti_series(write_nifti(tmp_path / "one.nii.gz", VALUES[0]))
    with pytest.raises(DataRefused, match="6 time points"):
        read_nifti_series(write_nifti(tmp_path / "six.nii.gz", VALUES[:6]))
    with pytest.raises(DataRefused, match="empty"):
        read_nifti_series(write_nifti(tmp_path / "zero.nii.gz", 0 * VALUES))
    with pytest.raises(RequestRefused, match="does not exist"):
        read_nifti_series(tmp_path / "none.nii")
    (tmp_path / "text.nii").write_text("hello")
    with pytest.raises(RequestRefused, match="cannot be read"):
        read_nifti_series(tmp_path / "text.nii")
    with pytest.raises(RequestRefused, match="no 3-D volume"):
        read_volume(write_nifti(tmp_path / "4d.nii", VALUES))
    for name, rest in (("cut.nii", 0.5), ("cut.nii.gz", 0.5)):
        path = write_nifti(tmp_path / name, np.random.default_rng(1).integers(0, 999, (16, 9, 20, 20)).astype(np.int16))
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * rest)])
        with pytest.raises(DataRefused, match="cut.nii.* is truncated"):
            read_nifti_series(path)


# -------------------------------------------------------------------------------------------------------------------- sequences


def slicer_file(
    path,
    values=VALUES,
    axis=3,
    space="left-posterior-superior",
    kind="<i2",
    encoding="raw",
    unit="s",
    index="numeric",
    stamps=TIMES,
    attributes=(),
    directions=None,
):
    """A sequence as Slicer writes it, put together by hand."""
    geometry = series_with(DIRECTIONS["oblique"]).geometry
    columns = (np.array(geometry.direction) * geometry.spacing).T
    origin = np.array(geometry.origin)
    if space == "right-anterior-superior":
        columns, origin = columns * [-1, -1, 1], origin * [-1, -1, 1]
    vectors = [f"({','.join(map(str, column))})" for column in columns]
    place = [*map(str, geometry.size)]
    kinds, labels, units = ["domain"] * 3, ['""'] * 3, ['""'] * 3
    for parts, own in ((vectors, "none"), (place, str(len(values))), (kinds, "list"), (labels, '"time"'), (units, f'"{unit}"')):
        parts.insert(axis, own)
    names = {"<i2": "short", ">i2": "short", "<i4": "int", "<f4": "float", "<u2": "unsigned short", "<f8": "double"}
    lines = [
        "NRRD0005",
        "# Complete NRRD file format specification at:",
        f"type: {names[kind]}",
        "dimension: 4",
        f"space: {space}",
        f"sizes: {' '.join(place)}",
        f"space directions: {' '.join(vectors)}",
        f"kinds: {' '.join(kinds)}",
        f"labels: {' '.join(labels)}",
        f"units: {' '.join(units)}",
        f"endian: {'big' if kind[0] == '>' else 'little'}",
        f"encoding: {encoding}",
        f"space origin: ({','.join(map(str, origin))})",
        "DataNodeClassName:=vtkMRMLScalarVolumeNode",
        *attributes,
    ]
    if index:
        lines += [f"axis {axis} index type:={index}", f"axis {axis} index values:={' '.join(f'{t:g}' for t in stamps)}"]
    data = np.ascontiguousarray(values if axis == 3 else np.moveaxis(values, 0, -1)).astype(kind).tobytes()
    path.write_bytes(("\n".join(lines) + "\n\n").encode() + (gzip.compress(data) if encoding == "gzip" else data))
    return path


@pytest.mark.parametrize("axis", [0, 3])
@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize("space", ["left-posterior-superior", "right-anterior-superior"])
@pytest.mark.parametrize("kind", ["<i2", ">i2", "<i4", "<f4", "<u2"])
def test_slicer_sequences_are_read_in_every_dress(tmp_path, axis, encoding, space, kind):
    values = np.abs(VALUES) if "u" in kind else VALUES
    series = read_sequence(slicer_file(tmp_path / "a.seq.nrrd", values, axis, space, kind, encoding))
    assert np.array_equal(series.values, values) and series.values.dtype == ("float32" if "f" in kind else "int16")
    assert series.geometry.close_to(series_with(DIRECTIONS["oblique"]).geometry, 1e-6)
    assert np.allclose(series.times, TIMES) and "index" in series.time_source


@pytest.mark.parametrize("unit, scale", [("s", 1), ("ms", 1000), ("min", 1 / 60)])
def test_index_units_are_honored(tmp_path, unit, scale):
    assert np.allclose(read_sequence(slicer_file(tmp_path / "a.seq.nrrd", unit=unit, stamps=TIMES * scale)).times, TIMES, atol=0.01)


def test_frame_numbers_give_way_to_the_labels_of_the_dicom_import(tmp_path):
    labels = "MultiVolume.FrameLabels:=" + ",".join(f"{1000 * t:.1f}" for t in TIMES)
    tag = ["MultiVolume.FrameIdentifyingDICOMTagName:=AcquisitionTime", "MultiVolume.FrameIdentifyingDICOMTagUnits:=ms"]
    path = slicer_file(tmp_path / "a.seq.nrrd", unit="", stamps=np.arange(16), attributes=[labels, *tag])
    series = read_sequence(path)
    assert np.allclose(series.times, TIMES) and "FrameLabels" in series.time_source
    for wrong in (
        [labels],
        [labels, tag[0]],
        [labels, tag[0], tag[1].replace("ms", "count")],
        [labels, tag[0].replace("Acquisition", "Content"), tag[1]],
    ):
        path = slicer_file(tmp_path / "b.seq.nrrd", unit="", stamps=np.arange(16), attributes=wrong)
        with pytest.raises(DataRefused, match="no usable time axis"):
            read_sequence(path)
        assert np.allclose(read_sequence(path, dt=2.0).times, TIMES)


@pytest.mark.parametrize(
    "changes",
    [
        {"unit": ""},
        {"unit": "mm"},
        {"index": "text"},
        {"index": None},
        {"stamps": np.zeros(16)},
        {"stamps": TIMES[::-1]},
        {"stamps": TIMES / 100},
    ],
)
def test_an_index_that_is_no_time_is_refused(tmp_path, changes):
    path = slicer_file(tmp_path / "a.seq.nrrd", **changes)
    with pytest.raises(DataRefused, match="--times"):
        read_sequence(path)
    assert np.allclose(read_sequence(path, times=TIMES).times, TIMES)


@pytest.mark.parametrize("compress", [False, True])
def test_our_sequences_keep_per_slice_times_and_open_elsewhere(tmp_path, compress):
    times = TIMES[:, None] + np.array([0, 0, 0.7, 0.7])
    series = series_with(DIRECTIONS["mirrored"], times=times, slabs=np.array([0, 0, 1, 1]), time_source="DICOM AcquisitionTime")
    path = tmp_path / "a.seq.nrrd"
    write_sequence(path, series, compress)
    back = read_sequence(path)
    assert np.array_equal(back.values, VALUES) and np.allclose(back.times, times) and back.slabs.tolist() == [0, 0, 1, 1]
    assert back.time_source == "DICOM AcquisitionTime" and back.geometry.close_to(series.geometry, 1e-6)
    image = sitk.ReadImage(str(path))  # a list axis comes back as components
    assert np.array_equal(np.moveaxis(sitk.GetArrayFromImage(image), -1, 0), VALUES)
    assert np.allclose(image.GetOrigin()[:3], series.geometry.origin)
    header = path.read_bytes().split(b"\n\n")[0].decode()
    assert "axis 3 index type:=numeric" in header and "axis 3 index values:=0 2 4" in header and '"s"' in header
    # Somebody shifts the index in Slicer: the times of slices no longer belong to it.
    edited = path.read_bytes().replace(b"index values:=0 2 4", b"index values:=0 2 5", 1)
    path.write_bytes(edited)
    assert read_sequence(path).times.tolist()[:4] == [0, 2, 5, 6]


def test_float_series_and_uneven_times_survive(tmp_path):
    uneven = np.cumsum(np.r_[0, np.linspace(1, 3.3331, 15)])
    write_sequence(tmp_path / "a.seq.nrrd", series_with(values=VALUES / np.float32(3), times=uneven))
    back = read_sequence(tmp_path / "a.seq.nrrd")
    assert (
        back.values.dtype == np.float32 and np.array_equal(back.values, VALUES / np.float32(3)) and np.abs(back.times - uneven).max() < 1e-3
    )


def test_detached_data_and_bad_sequences(tmp_path):
    whole = slicer_file(tmp_path / "a.seq.nrrd").read_bytes()
    header, data = whole.split(b"\n\n", 1)
    (tmp_path / "d.raw").write_bytes(data)
    (tmp_path / "d.nhdr").write_bytes(header + b"\ndata file: d.raw\n")
    assert np.array_equal(read_sequence(tmp_path / "d.nhdr").values, VALUES)
    (tmp_path / "cut.seq.nrrd").write_bytes(whole[:-50])
    packed = slicer_file(tmp_path / "b.seq.nrrd", encoding="gzip").read_bytes()
    (tmp_path / "cutgz.seq.nrrd").write_bytes(packed[:-400])
    for name in ("cut.seq.nrrd", "cutgz.seq.nrrd"):
        with pytest.raises(DataRefused, match="truncated"):
            read_sequence(tmp_path / name)
    bad = VALUES.astype(np.float32)
    bad[5, 0, 0, 0] = np.inf
    with pytest.raises(DataRefused, match="frame 6"):
        read_sequence(slicer_file(tmp_path / "c.seq.nrrd", bad, kind="<f4"))
    with pytest.raises(DataRefused, match="6 time points"):
        read_sequence(slicer_file(tmp_path / "e.seq.nrrd", VALUES[:6], stamps=TIMES[:6]))
    (tmp_path / "f.nrrd").write_text("something else")
    for name in ("f.nrrd", "none.nrrd"):
        with pytest.raises(RequestRefused):
            read_sequence(tmp_path / name)
    sitk.WriteImage(sitk.GetImageFromArray(VALUES[0]), str(tmp_path / "g.nrrd"))
    with pytest.raises(DataRefused, match="3 axes"):
        read_sequence(tmp_path / "g.nrrd")


@pytest.mark.parametrize(
    "old, new",
    [
        (b"space directions: (", b"space directions: (nan,0,0) ("),
        (b"space directions: (", b"space directions: (x"),
        (b"space directions: (", b"space directions: (1e300"),
        (b"space origin: (", b"space origin: (nan"),
        (b"sizes: 6", b"sizes: six"),
        (b"sizes: 6", b"sizes: 0"),
        (b"sizes: 6", b"sizes: -6"),
        (b"sizes: 6 5 4", b"sizes: 90000000 90000000 90000"),
    ],
)
def test_a_nonsensical_sequence_header_is_refused(tmp_path, old, new):
    path = slicer_file(tmp_path / "a.seq.nrrd")
    whole = path.read_bytes()
    assert old in whole
    path.write_bytes(whole.replace(old, new, 1))
    with pytest.raises((DataRefused, RequestRefused)):
        read_sequence(path)


def test_a_sequence_whose_voxels_have_no_size_is_refused_as_data(tmp_path):
    write_sequence(tmp_path / "a.seq.nrrd", series_with())
    whole = (tmp_path / "a.seq.nrrd").read_bytes()
    (tmp_path / "a.seq.nrrd").write_bytes(whole.replace(b"(1.0,0.0,0.0)", b"(nan,0.0,0.0)", 1))
    with pytest.raises(DataRefused, match="voxel size"):
        read_sequence(tmp_path / "a.seq.nrrd")
    for place in ({"spacing": (1, np.nan, 1)}, {"origin": (0, 0, np.inf)}, {"direction": np.full((3, 3), np.nan)}):
        with pytest.raises(ValueError, match="finite|positive"):
            Geometry((2, 2, 2), **place)


def test_time_of_slices_is_plain_json_in_the_header(tmp_path):
    write_sequence(tmp_path / "a.seq.nrrd", series_with(times=TIMES[:, None] + 0.25 * np.arange(4)))
    line = next(line for line in (tmp_path / "a.seq.nrrd").read_bytes().split(b"\n") if line.startswith(b"CTPerfusionSuite.SliceTimes"))
    assert json.loads(line.split(b":=")[1])[1] == [2, 2.25, 2.5, 2.75]
