"""What else lies in the folder of a real stroke study: localizer, dose report, color map, average image, thin non-contrast head, notes."""

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, XRayRadiationDoseSRStorage

from ..volumes import Geometry
from .acquisition_geometry import AcquiredSlices
from .dicom_headers import RESEARCH_NOTE, Study, Vendor, code_item, common_header, ct_header, da, decimal, dt, file_meta, stored_pixels, tm
from .dicom_storage import StudyFolder

README = "Exported by the archive. Synthetic study, not a patient.\nOne folder a hundred images.\n"


def write_distractors(study: Study, vendor: Vendor, slices: AcquiredSlices, target: StudyFolder) -> None:
    """Write everything in this file into `target`."""
    mean = slices.values.mean(axis=0, dtype=np.float32)
    target.write(localizer(study, vendor, slices, mean))
    for image in non_contrast_head(study, vendor, slices, mean):
        target.write(image)
    for image in average_images(study, vendor, slices, mean):
        target.write(image)
    target.write(color_map(study, vendor, mean))
    target.write(dose_report(study, vendor))
    target.write_text("README", README)


def _finish(image: Dataset, study: Study, vendor: Vendor, key: tuple, number: int, seconds: float) -> Dataset:
    """Instance identifier and times of an image scanned `seconds` after the first perfusion frame."""
    image.SOPInstanceUID = study.uid("image", *key)
    image.file_meta = file_meta(image.SOPClassUID, image.SOPInstanceUID, vendor.transfer_syntax)
    image.InstanceNumber = number
    image.AcquisitionNumber = 1
    moment = study.at(seconds)
    image.AcquisitionDate, image.AcquisitionTime = da(moment), tm(moment)
    image.ContentDate, image.ContentTime = da(moment), tm(moment)
    return image


def _add_pixels(image: Dataset, vendor: Vendor, hu: np.ndarray) -> None:
    """Store a slice in HU."""
    image.PixelData = stored_pixels(hu, vendor).tobytes()
    image["PixelData"].VR = "OW"


def localizer(study: Study, vendor: Vendor, slices: AcquiredSlices, mean: np.ndarray) -> Dataset:
    """A lateral scout: the mean over the patient's width, standing upright."""
    spacing = slices.geometry.spacing
    picture = np.repeat(mean.mean(axis=2)[::-1], max(1, round(spacing[2] / spacing[1])), axis=0)
    corner = slices.positions[-1]
    geometry = Geometry((picture.shape[1], picture.shape[0], 1), (spacing[1], spacing[1], 1.0), tuple(corner),
                        ((0.0, 0.0, -1.0), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0)))
    image = ct_header(study, vendor, "localizer", 1, "Topogram 0.6 Tr20", geometry, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"),
                      thickness=0.6, contrast=False)
    image.ImagePositionPatient = [decimal(c) for c in corner]
    _finish(image, study, vendor, ("localizer",), 1, -90.0)
    _add_pixels(image, vendor, picture)
    return image


def non_contrast_head(study: Study, vendor: Vendor, slices: AcquiredSlices, mean: np.ndarray):
    """A thin non-contrast series with twice as many slices as the perfusion one and half the matrix."""
    plane = slices.geometry
    rows, columns = plane.size[1] // 2, plane.size[0] // 2
    step = (slices.positions[-1] - slices.positions[0]) / max(1, len(mean) - 1)
    thin = float(np.linalg.norm(step)) / 2 or plane.spacing[2] / 2
    geometry = Geometry((columns, rows, 2 * len(mean)), (2 * plane.spacing[0], 2 * plane.spacing[1], thin), direction=plane.direction)
    image = ct_header(study, vendor, "non-contrast", 3, "Head Thin 1.0 Hr38", geometry, thickness=thin, tilt_deg=slices.tilt_deg,
                      contrast=False)
    for n in range(2 * len(mean)):
        position = slices.positions[0] + (n / 2) * step
        image.ImagePositionPatient = [decimal(c) for c in position]
        image.SliceLocation = decimal(position[2])
        _finish(image, study, vendor, ("non-contrast", n), n + 1, -60.0 + 0.1 * n)
        _add_pixels(image, vendor, mean[n // 2][: 2 * rows : 2, : 2 * columns : 2])
        yield image


def average_images(study: Study, vendor: Vendor, slices: AcquiredSlices, mean: np.ndarray):
    """The temporal average a console derives: a derived CT series on the perfusion grid."""
    image = ct_header(study, vendor, "average", 601, "CTP temporal average", slices.geometry,
                      image_type=("DERIVED", "SECONDARY", "AXIAL", "AVERAGE"), tilt_deg=slices.tilt_deg)
    for k, position in enumerate(slices.positions):
        image.ImagePositionPatient = [decimal(c) for c in position]
        image.SliceLocation = decimal(position[2])
        _finish(image, study, vendor, ("average", k), k + 1, 0.0)
        _add_pixels(image, vendor, mean[k])
        yield image


def color_map(study: Study, vendor: Vendor, mean: np.ndarray) -> Dataset:
    """A console's color map of the middle slice with its color bar burned in: an RGB secondary capture."""
    scale = np.clip(mean[len(mean) // 2] / 80.0, 0, 1)
    scale[:, -max(1, scale.shape[1] // 32):] = np.linspace(1, 0, scale.shape[0])[:, None]
    rgb = np.stack([np.clip(1.5 - abs(4 * scale - c), 0, 1) for c in (3, 2, 1)], axis=-1)
    image = common_header(study, vendor, "color map", 700, "TMAX color map", SecondaryCaptureImageStorage)
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.BodyPartExamined = "HEAD"
    image.ConversionType = "WSD"
    image.SOPInstanceUID = study.uid("image", "color map")
    image.file_meta = file_meta(SecondaryCaptureImageStorage, image.SOPInstanceUID, ExplicitVRLittleEndian)
    image.InstanceNumber = 1
    image.PatientOrientation = ""
    moment = study.at(300)
    image.ContentDate, image.ContentTime = da(moment), tm(moment)
    image.BurnedInAnnotation = "NO"
    image.ImageComments = RESEARCH_NOTE
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PlanarConfiguration = 3, "RGB", 0
    image.Rows, image.Columns = rgb.shape[:2]
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 8, 8, 7, 0
    pixels = np.rint(255 * rgb).astype(np.uint8).tobytes()
    image.PixelData = pixels + b"\0" * (len(pixels) % 2)
    image["PixelData"].VR = "OB"
    return image


def _content(relationship: str | None, value_type: str, name: Dataset, **attributes) -> Dataset:
    """One content item of a structured report."""
    item = Dataset()
    if relationship:
        item.RelationshipType = relationship
    item.ValueType = value_type
    item.ConceptNameCodeSequence = Sequence([name])
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def _number(name: Dataset, value: str, unit: Dataset) -> Dataset:
    """A NUM content item."""
    measured = Dataset()
    measured.MeasurementUnitsCodeSequence = Sequence([unit])
    measured.NumericValue = value
    return _content("CONTAINS", "NUM", name, MeasuredValueSequence=Sequence([measured]))


def dose_report(study: Study, vendor: Vendor) -> Dataset:
    """A CT radiation dose report (after PS3.16 TID 10011) with its accumulated dose."""
    def dcm(value, meaning):
        return code_item(value, "DCM", meaning)

    report = common_header(study, vendor, "dose", 999, "Dose Report", XRayRadiationDoseSRStorage, modality="SR")
    report.SOPInstanceUID = study.uid("image", "dose")
    report.file_meta = file_meta(XRayRadiationDoseSRStorage, report.SOPInstanceUID, ExplicitVRLittleEndian)
    report.InstanceNumber = 1
    moment = study.at(310)
    report.ContentDate, report.ContentTime = da(moment), tm(moment)
    report.ReferencedPerformedProcedureStepSequence = Sequence()
    report.PerformedProcedureCodeSequence = Sequence()
    report.CompletionFlag, report.VerificationFlag = "COMPLETE", "UNVERIFIED"
    report.ValueType, report.ContinuityOfContent = "CONTAINER", "SEPARATE"
    report.ConceptNameCodeSequence = Sequence([dcm("113701", "X-Ray Radiation Dose Report")])
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "10011"
    report.ContentTemplateSequence = Sequence([template])
    dose = [_number(dcm("113812", "Total Number of Irradiation Events"), "3", code_item("{events}", "UCUM", "events")),
            _number(dcm("113813", "CT Dose Length Product Total"), "1850.5", code_item("mGy.cm", "UCUM", "mGy.cm"))]
    report.ContentSequence = Sequence([
        _content("HAS CONCEPT MOD", "CODE", code_item("121058", "DCM", "Procedure reported"),
                 ConceptCodeSequence=Sequence([code_item("77477000", "SCT", "Computed Tomography X-Ray")])),
        _content("HAS OBS CONTEXT", "CODE", dcm("121005", "Observer Type"), ConceptCodeSequence=Sequence([dcm("121007", "Device")])),
        _content("HAS OBS CONTEXT", "UIDREF", dcm("121012", "Device Observer UID"), UID=study.uid("device")),
        _content("HAS OBS CONTEXT", "DATETIME", dcm("113809", "Start of X-Ray Irradiation"), DateTime=dt(study.at(-90))),
        _content("HAS OBS CONTEXT", "DATETIME", dcm("113810", "End of X-Ray Irradiation"), DateTime=dt(study.at(60))),
        _content("CONTAINS", "CONTAINER", dcm("113811", "CT Accumulated Dose Data"), ContinuityOfContent="SEPARATE",
                 ContentSequence=Sequence(dose)),
    ])
    return report
