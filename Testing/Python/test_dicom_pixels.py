"""Stored values become HU: enhanced objects, bits, rescale, padding and compression."""

import shutil

import dicom_samples as samples
import numpy as np
import pydicom
import pytest
from dicom_samples import TIMES, VALUES, refusal
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from CTPerfusionSuiteLib.dicom import pixels as pixels_module
from CTPerfusionSuiteLib.dicom.headers import read_header
from CTPerfusionSuiteLib.dicom.perfusion_series import read_perfusion_series
from CTPerfusionSuiteLib.dicom.pixels import read_hounsfield
from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused


def enhanced_frames(order, times, **differences):
    return [
        {
            "FrameContentSequence": samples.group(
                FrameReferenceDateTime=f"20250314{samples.clock(36000 + times[t])}", TemporalPositionIndex=t + 1
            ),
            "PlanePositionSequence": samples.group(ImagePositionPatient=[-6.0, -5.0, 5.0 * k]),
            "PixelValueTransformationSequence": samples.group(RescaleSlope=1 + k, RescaleIntercept=-100 * k, RescaleType="HU"),
        }
        for t, k in order
    ]


@pytest.mark.parametrize("compression", [None, JPEG2000Lossless, RLELossless])
def test_an_enhanced_object_holds_all_frames(tmp_path, compression):
    values = samples.truth(rows=36, columns=40) // 4
    order = [(t, k) for k in (2, 0, 1) for t in range(12)]
    ct = samples.enhanced([values[t, k] for t, k in order], enhanced_frames(order, TIMES))
    path = samples.save(ct, tmp_path / "object")
    if compression:
        ct = pydicom.dcmread(path)
        ct.compress(compression, generate_instance_uid=False)
        ct.save_as(path)
    series = read_perfusion_series(tmp_path / "object")
    expected = values.astype(int) * np.array([1, 2, 3])[:, None, None] - 100 * np.arange(3)[:, None, None]
    assert series.values.dtype == np.int16 and np.array_equal(series.values, expected)
    assert series.time_source == "DICOM FrameReferenceDateTime" and np.allclose(series.times, TIMES)
    assert series.header["frame_numbers"] == [13, 25, 1]


def test_an_enhanced_object_a_time_point(tmp_path):
    for t in range(12):
        ct = samples.enhanced(
            VALUES[t],
            [{"PlanePositionSequence": samples.group(ImagePositionPatient=[0.0, 0.0, 5.0 * k])} for k in range(3)],
            AcquisitionDateTime=f"20250314{samples.clock(36000 + TIMES[t])}",
            InstanceNumber=t + 1,
        )
        samples.save(ct, tmp_path / f"{t}")
    series = read_perfusion_series(tmp_path)
    assert np.array_equal(series.values, VALUES) and np.allclose(series.times, TIMES)


@pytest.mark.parametrize(
    "signed, bits, intercept", [(True, 16, 0), (False, 16, -1024), (False, 12, -1024), (True, 12, 0), (True, 16, -1024)]
)
def test_stored_values_become_hu_whatever_their_bits(tmp_path, signed, bits, intercept):
    values = np.clip(VALUES, -1000, 1900)
    stored = values.astype(int) - intercept
    if signed and bits == 12:
        # Sign bits beyond the stored ones need not be there.
        stored = stored & 0x0FFF
    series = read_perfusion_series(samples.write_dynamic(tmp_path, stored, TIMES, signed=signed, bits=bits, intercept=intercept))
    assert series.values.dtype == np.int16 and np.array_equal(series.values, values)


def test_each_slice_has_its_own_rescale(tmp_path):
    series = read_perfusion_series(samples.write_dynamic(tmp_path, VALUES, TIMES, lambda t, k: {"slope": k + 1, "intercept": -10 * k}))
    whole = VALUES.astype(int) * np.array([1, 2, 3])[:, None, None] - 10 * np.arange(3)[:, None, None]
    assert series.values.dtype == np.int16 and np.array_equal(series.values, whole)
    shutil.rmtree(tmp_path)
    series = read_perfusion_series(samples.write_dynamic(tmp_path, VALUES, TIMES, lambda t, k: {"slope": 0.5 if k == 1 else 1}))
    assert series.values.dtype == np.float32 and np.array_equal(series.values, VALUES * np.array([1, 0.5, 1])[:, None, None])


@pytest.mark.parametrize("signed, bits, padding", [(True, 16, -2000), (False, 16, 63536), (False, 12, 63536), (True, 16, -32768)])
def test_padding_is_air_and_never_overflows(tmp_path, signed, bits, padding):
    intercept = -1024
    stored = np.clip(VALUES, -900, 1900).astype(int) - intercept
    stored[..., :2, :] = padding
    folder = samples.write_dynamic(tmp_path, stored, TIMES, signed=signed, bits=bits, intercept=intercept, PixelPaddingValue=None)
    for path in folder.rglob("IM*"):
        ct = pydicom.dcmread(path)
        ct.add_new(0x00280120, "SS" if signed else "US", padding)
        ct.save_as(path)
    series = read_perfusion_series(folder)
    assert (series.values[..., :2, :] == -1024).all() and np.array_equal(series.values[..., 2:, :], np.clip(VALUES, -900, 1900)[..., 2:, :])


def test_padding_inside_the_range_of_tissue_is_left_alone(tmp_path):
    values = VALUES.copy()
    values[..., 0, 0] = 30
    series = read_perfusion_series(samples.write_dynamic(tmp_path, values, TIMES, PixelPaddingValue=30))
    assert np.array_equal(series.values, values)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_compressed_images_come_back_exactly(tmp_path, syntax):
    values = samples.truth(rows=36, columns=40)
    folder = samples.write_dynamic(tmp_path, values, TIMES)
    for path in folder.rglob("IM*"):
        ct = pydicom.dcmread(path)
        ct.compress(syntax, generate_instance_uid=False)
        ct.save_as(path)
    assert np.array_equal(read_perfusion_series(folder).values, values)
    broken = sorted(folder.rglob("IM*"))[4]
    broken.write_bytes(broken.read_bytes()[:-60])
    assert broken.name in refusal(folder) and "truncated" in refusal(folder)


def test_a_missing_decoder_names_the_package_to_install(tmp_path, monkeypatch):
    folder = samples.write_dynamic(tmp_path, VALUES, TIMES)
    for path in folder.rglob("IM*"):
        ct = pydicom.dcmread(path)
        ct.compress(RLELossless, generate_instance_uid=False)
        ct.save_as(path)
    monkeypatch.setattr(pixels_module, "get_decoder", lambda uid: type("Decoder", (), {"is_available": False})())
    with pytest.raises(RequestRefused, match=r"ctperfusionsuite\[dicom\]"):
        read_perfusion_series(folder)


def test_one_real_slice_in_sixteen_transfer_syntaxes(shared_data):
    folder = shared_data / "dicom_ct_oddities" / "transfer_syntaxes"
    if not folder.is_dir():
        pytest.skip("no such sample data")
    found = {}
    for path in sorted(folder.glob("CTImage*")):
        frame = read_header(folder, path.name)[0]
        out = np.empty((frame.rows, frame.columns), np.float32)
        try:
            read_hounsfield(folder, frame, out)
        except DataRefused as refused:
            assert "cannot be decoded" in str(refused) and frame.transfer_syntax[-2:] in ("53", "55")
            continue
        found[path.name] = out
    reference = found.pop("CTImage.dcm")
    exact = [name for name, out in found.items() if np.array_equal(out, reference)]
    assert len(exact) == 9, exact
    # Lossy and 8- or 12-bit versions agree as well as they can; outside the circle they have no padding value.
    inside = reference > -1024
    for name in set(found) - set(exact):
        error = np.abs(found[name] - reference)[inside]
        assert error.mean() < (40 if "JPEGProcess1T" in name else 16), (name, error.mean())
