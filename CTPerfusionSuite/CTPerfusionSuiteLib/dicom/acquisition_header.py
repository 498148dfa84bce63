"""The few header fields that a result carries along: how it was scanned, and the identifiers that derived objects refer to."""

import math
from pathlib import Path

import numpy as np
import pydicom

from CTPerfusionSuiteLib.dicom.headers import Frame
from CTPerfusionSuiteLib.dicom.privacy import without_names

_FIELDS = {
    "manufacturer": ("Manufacturer", None),
    "model": ("ManufacturerModelName", None),
    "kvp": ("KVP", "CTXRayDetailsSequence"),
    "tube_current_ma": ("XRayTubeCurrent", None),
    "exposure_mas": ("Exposure", None),
    "kernel": ("ConvolutionKernel", "CTReconstructionSequence"),
    "slice_thickness": ("SliceThickness", "PixelMeasuresSequence"),
    "gantry_tilt_deg": ("GantryDetectorTilt", "CTAcquisitionDetailsSequence"),
    "body_part": ("BodyPartExamined", None),
    "software": ("SoftwareVersions", None),
}
"""Key of the header, keyword in DICOM, functional group that holds it in enhanced objects."""
_ENHANCED_FIELDS = {
    "tube_current_ma": ("XRayTubeCurrentInmA", "CTExposureSequence"),
    "exposure_mas": ("ExposureInmAs", "CTExposureSequence"),
}
_NUMBERS = {"kvp", "tube_current_ma", "exposure_mas", "slice_thickness", "gantry_tilt_deg"}


def acquisition_header(root: Path, first: np.ndarray, names=frozenset()) -> dict:
    """Header fields of an acquisition; JSON-serializable.

    Parameters
    ----------
    root : Path
        What the frames' paths are relative to.
    first : object array (K,) of Frame
        The slices of the first frame, ascending along the normal.
    names : set of str
        Parts of names of patients, to be kept out of the description.

    Returns
    -------
    dict
        `manufacturer, model, kvp, tube_current_ma, exposure_mas, kernel, slice_thickness, ...` where known; `series_description`
        (untrusted text); `StudyInstanceUID, SeriesInstanceUID, FrameOfReferenceUID`; `SOPClassUID` and `SOPInstanceUIDs`, one a
        slice of the first frame, with `frame_numbers` (from 1) where they are frames of an enhanced object; `source_file`, the
        path of one file, for writers only.
    """
    frame: Frame = first[0]
    source = root / frame.path
    dataset = pydicom.dcmread(source, stop_before_pixels=True, force=True)
    header = {"modality": "CT"}
    for key, choices in {
        key: [choice, *([_ENHANCED_FIELDS[key]] if key in _ENHANCED_FIELDS else [])] for key, choice in _FIELDS.items()
    }.items():
        for keyword, group in choices:
            value = _value(dataset, keyword, group)
            if value is not None:
                header[key] = value if key not in _NUMBERS else _number(value)
                break
    header = {
        key: without_names(value, set(names)) if isinstance(value, str) else value for key, value in header.items() if value is not None
    }
    header["series_description"] = without_names(frame.description, set(names))
    header["StudyInstanceUID"] = frame.study_uid
    header["SeriesInstanceUID"] = frame.series_uid
    header["FrameOfReferenceUID"] = frame.frame_of_reference
    header["SOPClassUID"] = frame.sop_class
    header["SOPInstanceUIDs"] = [image.sop_uid for image in first]
    if frame.frames_in_file > 1:
        header["frame_numbers"] = [image.index + 1 for image in first]
    header["source_file"] = str(source)
    return header


def _value(dataset: pydicom.Dataset, keyword: str, group: str | None) -> str | None:
    """A value as text from the top level or, in enhanced objects, from the shared or the first frame's functional groups."""
    places = [dataset]
    if group is not None:
        for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
            item = dataset[groups][0] if dataset.get(groups) else None
            if item is not None and item.get(group):
                places.append(item[group][0])
    for place in places:
        value = place.get(keyword)
        if value is not None and str(value).strip():
            return "\\".join(map(str, value)) if isinstance(value, pydicom.multival.MultiValue) else str(value).strip()
    return None


def _number(text: str) -> float | None:
    """The first number of a text, None if it is none."""
    try:
        value = float(text.split("\\")[0])
    except ValueError:
        return None
    return value if math.isfinite(value) else None
