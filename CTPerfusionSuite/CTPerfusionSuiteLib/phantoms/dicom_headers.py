"""What a CT header says, vendor by vendor: patient, study, equipment, pixel description, dates and identifiers.

Every identifier is a function of the seed, so that the same call writes the same study twice.  The patient is synthetic.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.valuerep import DSfloat

from ..volumes import Geometry

RESEARCH_NOTE = "Synthetic phantom for research use only, not a patient"
AIR_HU, TOP_HU = -1024, 3071
"""What twelve bits hold; real reconstructions clip to it too."""


@dataclass(frozen=True)
class Vendor:
    """How one manufacturer stores a CT slice.

    Attributes
    ----------
    manufacturer, model, software, kernel : str
    signed : bool
        Two's complement pixels (intercept 0) instead of unsigned ones (intercept -1024).
    implicit : bool
        Implicit VR little endian instead of explicit.
    protocol : str
        SeriesDescription and ProtocolName of the perfusion series.
    """

    manufacturer: str
    model: str
    software: str
    kernel: str
    signed: bool
    implicit: bool
    protocol: str

    @property
    def intercept(self) -> int:
        """Rescale intercept in HU."""
        return 0 if self.signed else AIR_HU

    @property
    def transfer_syntax(self) -> str:
        """Transfer syntax of uncompressed objects."""
        return ImplicitVRLittleEndian if self.implicit else ExplicitVRLittleEndian


SIEMENS = Vendor("SIEMENS", "SOMATOM Force", "syngo CT VA50A", "Hr36f", False, False, "CTP VPCT 1.5 Hr36")
GE = Vendor("GE MEDICAL SYSTEMS", "Revolution CT", "revo_ct_22bc.50", "STANDARD", True, True, "Brain Perfusion Cine")
PHILIPS = Vendor("Philips", "iCT 256", "4.1.10", "UB", False, False, "Brain Perfusion JOG")
CANON = Vendor("Canon Medical Systems", "Aquilion ONE", "V10.10ER005", "FC41", True, False, "Neuro Perfusion Dynamic Volume")
ENHANCED = Vendor("Philips", "Spectral CT 7500", "5.1.7", "UB", True, False, "Enhanced Brain Perfusion")


@dataclass
class Study:
    """Identity of the study being written: seed, patient, and when the first frame was scanned.

    Attributes
    ----------
    seed : int
        Root of every identifier.
    patient_name, patient_id : str
    start : datetime
        Mid-scan time of the first slice of the first frame.
    """

    seed: int
    patient_name: str
    patient_id: str
    start: datetime

    def uid(self, *parts) -> str:
        """A DICOM identifier ("2.25." and a 128-bit number) that depends on the seed and `parts` only."""
        digest = hashlib.sha256(repr((self.seed, self.patient_id, *parts)).encode()).digest()[:16]
        return f"2.25.{int.from_bytes(digest)}"

    def at(self, seconds: float) -> datetime:
        """Moment `seconds` after the first frame."""
        return self.start + timedelta(microseconds=round(float(seconds) * 1e6))


def start_moment(date: str, time: str) -> datetime:
    """Datetime of a DICOM DA and TM value ("20250314", "142237.125" or "235950")."""
    return datetime.strptime(date + (time if "." in time else time + ".0"), "%Y%m%d%H%M%S.%f")


def da(moment: datetime) -> str:
    """DICOM date."""
    return moment.strftime("%Y%m%d")


def tm(moment: datetime) -> str:
    """DICOM time with microseconds."""
    return moment.strftime("%H%M%S.%f")


def dt(moment: datetime) -> str:
    """DICOM date-time with microseconds."""
    return moment.strftime("%Y%m%d%H%M%S.%f")


def decimal(value: float) -> DSfloat:
    """Decimal string of at most 16 characters."""
    return DSfloat(float(value), auto_format=True)


def code_item(value: str, scheme: str, meaning: str) -> Dataset:
    """One item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def file_meta(sop_class: str, sop_instance: str, transfer_syntax: str) -> FileMetaDataset:
    """File meta information of one object."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = sop_instance
    meta.TransferSyntaxUID = transfer_syntax
    return meta


def common_header(study: Study, vendor: Vendor, series_key: str, series_number: int, description: str, sop_class: str,
                  modality: str = "CT") -> Dataset:
    """Patient, study, series and equipment modules of an object in the series `series_key` (no instance yet)."""
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 100"
    header.SOPClassUID = sop_class
    begun = study.at(-120)
    header.StudyDate, header.StudyTime = da(begun), tm(begun)
    header.SeriesDate, header.SeriesTime = da(study.at(-2)), tm(study.at(-2))
    header.AccessionNumber = f"SYN{study.seed % 10**8:08d}"
    header.Modality = modality
    header.Manufacturer = vendor.manufacturer
    header.InstitutionName = "Phantom Laboratory"
    header.ReferringPhysicianName = ""
    header.StationName = "CTPHANTOM1"
    header.StudyDescription = "CT Stroke Protocol"
    header.SeriesDescription = description
    header.ManufacturerModelName = vendor.model
    header.PatientName = study.patient_name
    header.PatientID = study.patient_id
    header.PatientBirthDate = "19500101"
    header.PatientSex = "O"
    header.PatientAge = "075Y"
    header.DeviceSerialNumber = "000001"
    header.SoftwareVersions = vendor.software
    header.StudyInstanceUID = study.uid("study")
    header.SeriesInstanceUID = study.uid("series", series_key)
    header.StudyID = "1"
    header.SeriesNumber = series_number
    return header


def ct_header(study: Study, vendor: Vendor, series_key: str, series_number: int, description: str, geometry: Geometry, *,
              image_type=("ORIGINAL", "PRIMARY", "AXIAL"), thickness: float | None = None, tilt_deg: float = 0.0,
              contrast: bool = True) -> Dataset:
    """Header of a single-frame CT image without what differs from slice to slice (instance, position, times, pixels).

    Parameters
    ----------
    geometry : Geometry
        Its size, in-plane spacing and direction are written; positions are added a slice at a time.
    thickness : float
        Slice thickness in mm (default: the slice spacing).
    tilt_deg : float
        Written as GantryDetectorTilt.
    contrast : bool
        Whether the contrast module is present.
    """
    header = common_header(study, vendor, series_key, series_number, description, CTImageStorage)
    header.ImageType = list(image_type)
    header.BodyPartExamined = "HEAD"
    if contrast:
        header.ContrastBolusAgent = "IOPROMIDE 370"
        header.ContrastBolusRoute = "IV"
        header.ContrastBolusVolume = "40"
        header.ContrastFlowRate = "6"
    header.ScanOptions = "SEQUENCE" if vendor is not GE else "CINE MODE"
    header.SliceThickness = decimal(geometry.spacing[2] if thickness is None else thickness)
    header.KVP = "80"
    header.DataCollectionDiameter = "500"
    header.ProtocolName = vendor.protocol
    header.ReconstructionDiameter = decimal(geometry.size[0] * geometry.spacing[0])
    header.DistanceSourceToDetector = "1085.6"
    header.DistanceSourceToPatient = "595"
    header.GantryDetectorTilt = decimal(tilt_deg)
    header.TableHeight = "150"
    header.RotationDirection = "CW"
    header.ExposureTime = "500"
    header.XRayTubeCurrent = "200"
    header.Exposure = "100"
    header.FilterType = "0"
    header.GeneratorPower = "16"
    header.FocalSpots = "1.2"
    header.ConvolutionKernel = vendor.kernel
    header.PatientPosition = "HFS"
    direction = np.asarray(geometry.direction)
    header.ImageOrientationPatient = [decimal(c) for c in (*direction[:, 0], *direction[:, 1])]
    header.FrameOfReferenceUID = study.uid("frame of reference")
    header.PositionReferenceIndicator = ""
    header.ImageComments = RESEARCH_NOTE
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.Rows, header.Columns = geometry.size[1], geometry.size[0]
    header.PixelSpacing = [decimal(geometry.spacing[1]), decimal(geometry.spacing[0])]
    header.BitsAllocated = 16
    # Signed values need the sign beside the twelve bits; both kinds are found in the field.
    header.BitsStored, header.HighBit = (16, 15) if vendor.signed else (12, 11)
    header.PixelRepresentation = int(vendor.signed)
    header.WindowCenter, header.WindowWidth = "40", "80"
    header.RescaleIntercept, header.RescaleSlope, header.RescaleType = str(vendor.intercept), "1", "HU"
    return header


def stored_pixels(values: np.ndarray, vendor: Vendor, slope: float = 1.0) -> np.ndarray:
    """HU as a scanner stores them: clipped to -1024...3071 HU, divided by the slope, rounded to 16-bit integers."""
    hu = np.clip(values, AIR_HU, TOP_HU)
    if slope == 1.0 and np.issubdtype(values.dtype, np.integer):
        stored = hu.astype(np.int32) - vendor.intercept
    else:
        stored = np.rint((hu.astype(np.float32) - vendor.intercept) / np.float32(slope))
    return stored.astype("<i2" if vendor.signed else "<u2")


def bits_stored(vendor: Vendor, slope: float) -> int:
    """Bits that hold -1024...3071 HU at this slope."""
    return 16 if vendor.signed else max(12, int(np.ceil(np.log2((TOP_HU - AIR_HU) / slope + 1))))
