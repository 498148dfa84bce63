"""Small DICOM files for the tests of reading: one function writes one image, the tests say what is odd about it."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from CTPerfusionSuiteLib.dicom.perfusion_series import read_perfusion_series
from CTPerfusionSuiteLib.errors import DataRefused

STUDY, FRAME_OF_REFERENCE = generate_uid(), generate_uid()


def clock(seconds: float) -> str:
    """A DICOM time, wrapping at midnight."""
    seconds = round(seconds % 86400, 6)
    return f"{int(seconds // 3600):02d}{int(seconds // 60 % 60):02d}{seconds % 60:09.6f}"


def image(
    pixels,
    position,
    *,
    seconds=None,
    series_uid="1.2.3",
    signed=True,
    slope=1,
    intercept=0,
    orientation=(1, 0, 0, 0, 1, 0),
    spacing=(1.0, 1.0),
    bits=16,
    **elements,
) -> Dataset:
    """One CT image object: `pixels` (J, I) are stored values; `elements` are set as they are, None removes them."""
    ct = Dataset()
    ct.SOPClassUID, ct.SOPInstanceUID = CTImageStorage, generate_uid()
    ct.StudyInstanceUID, ct.SeriesInstanceUID, ct.FrameOfReferenceUID = STUDY, series_uid, FRAME_OF_REFERENCE
    ct.Modality, ct.Manufacturer, ct.ImageType = "CT", "ACME", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ct.PatientID, ct.PatientName, ct.PatientBirthDate = "P1", "DOE^JANE", "19500101"
    ct.SeriesNumber, ct.SeriesDescription, ct.KVP = 4, "Brain perfusion", "80"
    ct.ImagePositionPatient, ct.ImageOrientationPatient = [float(c) for c in position], [float(c) for c in orientation]
    ct.PixelSpacing, ct.SliceThickness = list(spacing), 5.0
    ct.SamplesPerPixel, ct.PhotometricInterpretation = 1, "MONOCHROME2"
    ct.Rows, ct.Columns = pixels.shape
    ct.BitsAllocated, ct.BitsStored, ct.HighBit, ct.PixelRepresentation = 16, bits, bits - 1, int(signed)
    ct.RescaleSlope, ct.RescaleIntercept = slope, intercept
    if seconds is not None:
        ct.AcquisitionDate, ct.AcquisitionTime = "20250314", clock(seconds)
    for keyword, value in elements.items():
        if value is None:
            ct.pop(keyword, None)
        else:
            setattr(ct, keyword, value)
    ct.PixelData = np.asarray(pixels).astype("<i2" if signed else "<u2").tobytes()
    ct["PixelData"].VR = "OW"
    return ct


def save(ct: Dataset, path, implicit=False) -> Path:
    """Write a file with meta header."""
    ct.file_meta = FileMetaDataset()
    ct.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    ct.file_meta.MediaStorageSOPClassUID, ct.file_meta.MediaStorageSOPInstanceUID = ct.SOPClassUID, ct.SOPInstanceUID
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    ct.save_as(path, enforce_file_format=True)
    return path


def truth(frames=12, slices=3, rows=10, columns=12, seed=0) -> np.ndarray:
    """(T, K, J, I) int16 HU that differ in every voxel, slice and frame."""
    rng = np.random.default_rng(seed)
    return (rng.integers(-900, 1500, (slices, rows, columns))[None] + 7 * np.arange(frames)[:, None, None, None]).astype(np.int16)


def write_dynamic(folder, values, times, change=None, height=lambda k: 5.0 * k, start=36000.0, **common) -> Path:
    """A dynamic series, a file an image, in scrambled order.

    times : (T,) or (T, K).  ``change(t, k)`` returns further arguments of `image` for one image, or None to leave it out.
    """
    values, times = np.asarray(values), np.asarray(times, dtype=float)
    order = np.random.default_rng(5).permutation(values.shape[0] * values.shape[1])
    for n, place in enumerate(order):
        t, k = divmod(int(place), values.shape[1])
        extra = change(t, k) if change else {}
        if extra is None:
            continue
        arguments = (
            {
                "position": (-6.0, -5.0, height(k)),
                "seconds": start + float(times[t] if times.ndim == 1 else times[t, k]),
                "InstanceNumber": t * values.shape[1] + k + 1,
            }
            | common
            | extra
        )
        implicit = arguments.pop("implicit", False)
        save(image(values[t, k], **arguments), Path(folder) / f"{n % 3}" / f"IM{n:04d}", implicit)
    return Path(folder)


def group(**elements) -> Sequence:
    """A functional group of one item."""
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return Sequence([item])


def enhanced(values, frames, *, orientation=(1, 0, 0, 0, 1, 0), **elements) -> Dataset:
    """An enhanced CT object of `values` (N, J, I); `frames` is one dict of functional groups a frame."""
    ct = image(np.asarray(values)[0], (0, 0, 0), **elements)
    ct.SOPClassUID = EnhancedCTImageStorage
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        ct.pop(keyword, None)
    shared, per_frame = Dataset(), []
    shared.PixelMeasuresSequence = group(PixelSpacing=[1.0, 1.0], SliceThickness=5.0)
    shared.PlaneOrientationSequence = group(ImageOrientationPatient=[float(c) for c in orientation])
    for groups in frames:
        item = Dataset()
        for keyword, value in groups.items():
            setattr(item, keyword, value)
        per_frame.append(item)
    ct.SharedFunctionalGroupsSequence, ct.PerFrameFunctionalGroupsSequence = Sequence([shared]), Sequence(per_frame)
    ct.NumberOfFrames = len(frames)
    ct.PixelData = np.asarray(values).astype("<i2").tobytes()
    ct["PixelData"].VR = "OW"
    return ct


TIMES = 2.0 * np.arange(12)
VALUES = truth()


def codes(series):
    """Codes of the notes about a series that was read."""
    return {code for code, _ in series.notes}


def refusal(folder, **options):
    """The sentence with which a folder is refused; it names no patient and is short."""
    with pytest.raises(DataRefused) as caught:
        read_perfusion_series(folder, **options)
    text = str(caught.value)
    assert "DOE" not in text and "JANE" not in text and len(text) < 380, text
    return text
