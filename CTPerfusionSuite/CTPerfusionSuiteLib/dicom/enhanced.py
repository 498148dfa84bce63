"""Enhanced and legacy-converted multi-frame CT: each frame of the object as a `Frame` of its own.

What frames share and what differs between them is spread over functional groups; a frame's own group comes before the shared one.
"""

import math
from dataclasses import replace

from pydicom import Dataset

from CTPerfusionSuiteLib.dicom.headers import Frame
from CTPerfusionSuiteLib.time_axis import seconds_of_datetime, seconds_of_day


def frames_of_enhanced(dataset: Dataset, common: Frame) -> list[Frame]:
    """All frames of one enhanced object.

    Parameters
    ----------
    dataset : Dataset
        Its header, with the functional group sequences.
    common : Frame
        What the top level says.
    """
    shared = _first(dataset, "SharedFunctionalGroupsSequence")
    own_groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if len(own_groups) != common.frames_in_file:
        return [replace(common, fault=f"is damaged: it announces {common.frames_in_file} frames and describes {len(own_groups)}")]
    return [_frame(common, index, own, shared) for index, own in enumerate(own_groups)]


def _first(dataset: Dataset | None, keyword: str) -> Dataset | None:
    """The first item of a sequence, None without one."""
    sequence = dataset.get(keyword) if dataset is not None else None
    return sequence[0] if sequence else None


def _frame(common: Frame, index: int, own: Dataset, shared: Dataset | None) -> Frame:
    """Frame `index` of the object."""

    def find(group: str, keyword: str):
        for groups in (own, shared):
            item = _first(groups, group)
            value = item.get(keyword) if item is not None else None
            if value is not None and value != "":
                return value
        return None

    def number(group: str, keyword: str, otherwise: float) -> float:
        value = find(group, keyword)
        return float(value) if value is not None else otherwise

    seconds = dict(common.seconds)
    # One date-time for the whole object says nothing about its frames unless there is an object a time point; the frame's own comes first.
    for keyword in ("FrameReferenceDateTime", "FrameAcquisitionDateTime"):
        value = seconds_of_datetime(str(find("FrameContentSequence", keyword) or ""))
        if math.isfinite(value):
            seconds[keyword] = value
    # Objects converted from single images keep what has no place of its own in a group of leftovers.
    leftovers = _first(own, "UnassignedPerFrameConvertedAttributesSequence") or Dataset()
    for keyword, seconds_of in (
        ("AcquisitionDateTime", seconds_of_datetime),
        ("AcquisitionTime", seconds_of_day),
        ("ContentTime", seconds_of_day),
    ):
        value = seconds_of(str(leftovers.get(keyword) or ""))
        if math.isfinite(value):
            seconds[keyword] = value
    if leftovers.get("TriggerTime") is not None:
        seconds["TriggerTime"] = float(leftovers.TriggerTime) / 1000.0
    leftover_index = float(leftovers.get("TemporalPositionIdentifier") or common.temporal_index)
    leftover_number = float(leftovers.get("AcquisitionNumber") or common.acquisition_number)
    offset = number("TemporalPositionSequence", "TemporalPositionTimeOffset", math.nan)
    if math.isfinite(offset):
        seconds["TemporalPositionTimeOffset"] = offset
    frame_type = find("CTImageFrameTypeSequence", "FrameType")
    slope = number("PixelValueTransformationSequence", "RescaleSlope", math.nan)
    intercept = number("PixelValueTransformationSequence", "RescaleIntercept", math.nan)
    rescale_given = math.isfinite(slope) and math.isfinite(intercept) and slope != 0
    return replace(
        common,
        index=index,
        seconds=seconds,
        image_type=tuple(str(part).upper() for part in frame_type) if frame_type is not None else common.image_type,
        position=_floats(find("PlanePositionSequence", "ImagePositionPatient")),
        orientation=_floats(find("PlaneOrientationSequence", "ImageOrientationPatient")),
        pixel_spacing=_floats(find("PixelMeasuresSequence", "PixelSpacing")),
        thickness=number("PixelMeasuresSequence", "SliceThickness", common.thickness),
        kernel=str(find("CTReconstructionSequence", "ConvolutionKernel") or common.kernel),
        slope=slope if rescale_given else common.slope,
        intercept=intercept if rescale_given else common.intercept,
        rescale_given=rescale_given or common.rescale_given,
        rescale_type=str(find("PixelValueTransformationSequence", "RescaleType") or "").upper(),
        temporal_index=number("FrameContentSequence", "TemporalPositionIndex", leftover_index),
        acquisition_number=number("FrameContentSequence", "FrameAcquisitionNumber", leftover_number),
        instance_number=common.instance_number if math.isnan(common.instance_number) else common.instance_number * 1e6 + index,
    )


def _floats(value) -> tuple[float, ...]:
    """Decimals of a multi-valued element."""
    return () if value is None else tuple(float(part) for part in value)
