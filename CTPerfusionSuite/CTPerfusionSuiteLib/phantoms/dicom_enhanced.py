"""Enhanced multi-frame CT (PS3.3 A.38): many slices in one object, what differs between them in functional groups."""

from collections.abc import Iterator

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage

from .acquisition_geometry import AcquiredSlices
from .dicom_headers import (
    RESEARCH_NOTE,
    Study,
    Vendor,
    bits_stored,
    code_item,
    common_header,
    da,
    decimal,
    dt,
    file_meta,
    stored_pixels,
    tm,
)

FRAME_TYPE = ["ORIGINAL", "PRIMARY", "DYNAMIC", "NONE"]


def enhanced_objects(study: Study, vendor: Vendor, slices: AcquiredSlices, slopes: np.ndarray, *, split: bool) -> Iterator[Dataset]:
    """The series as one enhanced object with all frames or, with `split`, as one object a time point.

    Within the single object frames are ordered position by position, all times of one slice together, and only the dimension
    indices say which is which.
    """
    frames, count = slices.values.shape[:2]
    if split:
        for t in range(frames):
            yield _enhanced_object(study, vendor, slices, slopes, f"enhanced {t}", t + 1, [(t, k) for k in range(count)])
    else:
        yield _enhanced_object(study, vendor, slices, slopes, "enhanced", 1, [(t, k) for k in range(count) for t in range(frames)])


def _enhanced_object(study: Study, vendor: Vendor, slices: AcquiredSlices, slopes: np.ndarray, key: str, number: int,
                     order: list[tuple[int, int]]) -> Dataset:
    """One object with the frames (t, k) of `order`."""
    image = common_header(study, vendor, "perfusion", 7, vendor.protocol, EnhancedCTImageStorage)
    image.SOPInstanceUID = study.uid("image", key)
    image.file_meta = file_meta(EnhancedCTImageStorage, image.SOPInstanceUID, vendor.transfer_syntax)
    image.InstanceNumber = number
    image.BodyPartExamined = "HEAD"
    image.PatientPosition = "HFS"
    image.FrameOfReferenceUID = study.uid("frame of reference")
    image.PositionReferenceIndicator = ""
    seconds = np.array([slices.times[t, k] for t, k in order])
    first = study.at(seconds.min())
    image.AcquisitionNumber = number
    image.AcquisitionDateTime = dt(first)
    image.AcquisitionDuration = 1000.0 * (float(np.ptp(seconds)) + 0.5)
    content = study.at(float(slices.times.max()) + 20 + 0.5 * number)
    image.ContentDate, image.ContentTime = da(content), tm(content)
    image.ImageType = FRAME_TYPE
    image.PixelPresentation, image.VolumetricProperties, image.VolumeBasedCalculationTechnique = "MONOCHROME", "VOLUME", "NONE"
    image.ContentQualification = "RESEARCH"
    image.ImageComments = RESEARCH_NOTE
    image.BurnedInAnnotation, image.LossyImageCompression, image.PresentationLUTShape = "NO", "00", "IDENTITY"
    image.AcquisitionContextSequence = Sequence()
    image.ContrastBolusAgentSequence = Sequence([_contrast_agent()])
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = slices.values.shape[2:]
    image.BitsAllocated, image.PixelRepresentation = 16, int(vendor.signed)
    image.BitsStored = max(bits_stored(vendor, slope) for slope in slopes)
    image.HighBit = image.BitsStored - 1
    image.NumberOfFrames = len(order)
    _add_dimensions(image, study)
    image.SharedFunctionalGroupsSequence = Sequence([_shared_groups(study, vendor, slices)])
    image.PerFrameFunctionalGroupsSequence = Sequence([_frame_groups(study, vendor, slices, slopes, t, k) for t, k in order])
    pixels = np.empty((len(order), *slices.values.shape[2:]), "<i2" if vendor.signed else "<u2")
    for n, (t, k) in enumerate(order):
        pixels[n] = stored_pixels(slices.values[t, k], vendor, slopes[k])
    image.PixelData = pixels.tobytes()
    image["PixelData"].VR = "OW"
    return image


def _add_dimensions(image: Dataset, study: Study) -> None:
    """Dimensions: position in the stack, then time."""
    organization = study.uid("dimensions")
    item = Dataset()
    item.DimensionOrganizationUID = organization
    image.DimensionOrganizationSequence = Sequence([item])
    dimensions = []
    for pointer, label in ((0x00209056, "Stack"), (0x00209057, "Slice"), (0x00209128, "Time point")):
        dimension = Dataset()
        dimension.DimensionOrganizationUID = organization
        dimension.DimensionIndexPointer = pointer
        dimension.FunctionalGroupPointer = 0x00209111
        dimension.DimensionDescriptionLabel = label
        dimensions.append(dimension)
    image.DimensionIndexSequence = Sequence(dimensions)


def _contrast_agent() -> Dataset:
    """The item of the enhanced contrast module."""
    agent = code_item("44588005", "SCT", "Iodine")
    agent.ContrastBolusAgentNumber = 1
    agent.ContrastBolusAdministrationRouteSequence = Sequence([code_item("47625008", "SCT", "Intravenous route")])
    agent.ContrastBolusIngredientCodeSequence = Sequence([code_item("44588005", "SCT", "Iodine")])
    agent.ContrastBolusVolume = "40"
    agent.ContrastBolusIngredientConcentration = "370"
    return agent


def _group(**attributes) -> Sequence:
    """A functional group: a sequence of one item with these attributes."""
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return Sequence([item])


def _shared_groups(study: Study, vendor: Vendor, slices: AcquiredSlices) -> Dataset:
    """What all frames have in common."""
    geometry = slices.geometry
    direction = np.asarray(geometry.direction)
    shared = Dataset()
    spacing = [decimal(geometry.spacing[1]), decimal(geometry.spacing[0])]
    shared.PixelMeasuresSequence = _group(SliceThickness=decimal(geometry.spacing[2]), PixelSpacing=spacing)
    shared.PlaneOrientationSequence = _group(ImageOrientationPatient=[decimal(c) for c in (*direction[:, 0], *direction[:, 1])])
    shared.CTImageFrameTypeSequence = _group(FrameType=FRAME_TYPE, PixelPresentation="MONOCHROME", VolumetricProperties="VOLUME",
                                             VolumeBasedCalculationTechnique="NONE")
    shared.FrameAnatomySequence = _group(FrameLaterality="U", AnatomicRegionSequence=Sequence([code_item("12738006", "SCT", "Brain")]))
    shared.FrameVOILUTSequence = _group(WindowCenter="40", WindowWidth="80")
    shared.CTAcquisitionTypeSequence = _group(AcquisitionType="STATIONARY", ConstantVolumeFlag="YES", FluoroscopyFlag="NO")
    shared.CTAcquisitionDetailsSequence = _group(
        RotationDirection="CW", RevolutionTime=0.5, SingleCollimationWidth=0.625, TotalCollimationWidth=80.0, TableHeight=150.0,
        GantryDetectorTilt=float(slices.tilt_deg), DataCollectionDiameter="500")
    shared.CTGeometrySequence = _group(DistanceSourceToDetector="1085.6", DistanceSourceToDataCollectionCenter=595.0)
    shared.CTReconstructionSequence = _group(
        ReconstructionAlgorithm="ITERATIVE", ConvolutionKernel=vendor.kernel, ConvolutionKernelGroup="BRAIN",
        ReconstructionDiameter=decimal(geometry.size[0] * geometry.spacing[0]), ReconstructionPixelSpacing=[float(s) for s in spacing],
        ReconstructionAngle=360.0, ImageFilter="NONE")
    shared.CTExposureSequence = _group(ExposureTimeInms=500.0, XRayTubeCurrentInmA=200.0, ExposureInmAs=100.0,
                                       ExposureModulationType="NONE", CTDIvol=5.0)
    shared.CTXRayDetailsSequence = _group(KVP="80", FocalSpots="1.2", FilterType="FLAT", FilterMaterial="ALUMINUM",
                                          CalciumScoringMassFactorDevice=[0.7, 0.7, 0.7])
    shared.IrradiationEventIdentificationSequence = _group(IrradiationEventUID=study.uid("irradiation"))
    return shared


def _frame_groups(study: Study, vendor: Vendor, slices: AcquiredSlices, slopes: np.ndarray, t: int, k: int) -> Dataset:
    """What belongs to frame `t` of slice `k` alone."""
    seconds = float(slices.times[t, k])
    position = slices.positions[k]
    frame = Dataset()
    frame.FrameContentSequence = _group(
        FrameAcquisitionNumber=t + 1, FrameReferenceDateTime=dt(study.at(seconds)), FrameAcquisitionDateTime=dt(study.at(seconds - 0.25)),
        FrameAcquisitionDuration=500.0, DimensionIndexValues=[1, k + 1, t + 1], StackID="1", InStackPositionNumber=k + 1,
        TemporalPositionIndex=t + 1)
    frame.PlanePositionSequence = _group(ImagePositionPatient=[decimal(c) for c in position])
    frame.PixelValueTransformationSequence = _group(RescaleIntercept=str(vendor.intercept), RescaleSlope=decimal(slopes[k]),
                                                    RescaleType="HU")
    frame.CTPositionSequence = _group(TablePosition=float(position[2]), DataCollectionCenterPatient=[0.0, 0.0, float(position[2])],
                                      ReconstructionTargetCenterPatient=[0.0, 0.0, float(position[2])])
    frame.CTTableDynamicsSequence = _group()
    frame.ContrastBolusUsageSequence = _group(ContrastBolusAgentNumber=1, ContrastBolusAgentAdministered="YES",
                                              ContrastBolusAgentDetected="", ContrastBolusAgentPhase="DYNAMIC")
    return frame
