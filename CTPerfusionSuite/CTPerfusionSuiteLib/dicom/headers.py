"""What the header of one file says, read without its pixels.

Only the elements below are decoded, straight from the bytes: a study has thousands of files, and most of what a header holds is not
needed to sort them.  Every image of an acquisition becomes one `Frame`, whether it is a file of its own or one of many in an
enhanced object.
"""

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import UID

from CTPerfusionSuiteLib.dicom.character_sets import decoded, encodings_of
from CTPerfusionSuiteLib.dicom.privacy import name_parts, without_names
from CTPerfusionSuiteLib.time_axis import seconds_of_datetime, seconds_of_day

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
DICOMDIR = "1.2.840.10008.1.3.10"
IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED, EXPLICIT_BIG = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
)
UNCOMPRESSED = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED, EXPLICIT_BIG)
LOSSY = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81")
GE_MID_SCAN_TIME = "GE mid-scan time (0019,1024)"
TIME_SOURCES = (
    "FrameReferenceDateTime",
    "FrameAcquisitionDateTime",
    "TemporalPositionTimeOffset",
    "AcquisitionDateTime",
    GE_MID_SCAN_TIME,
    "AcquisitionTime",
    "TriggerTime",
)
"""Elements that may say when an image was scanned, the most trustworthy first."""
CONTENT_TIME = "ContentTime"

_KEYWORDS = (
    "SpecificCharacterSet",
    "ImageType",
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "Manufacturer",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "ContentTime",
    "SeriesDescription",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "SliceThickness",
    "TriggerTime",
    "ConvolutionKernel",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "AcquisitionNumber",
    "InstanceNumber",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "TemporalPositionTimeOffset",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "FrameOfReferenceUID",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PixelSpacing",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "LossyImageCompression",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_TAG = {keyword: Tag(keyword) for keyword in _KEYWORDS}
_GE_CREATOR = "GEMS_ACQU_01"
# A private block may start anywhere; in practice the first few places are used.
_GE_BLOCKS = {Tag(0x0019, block): Tag(0x0019, block * 256 + 0x24) for block in range(0x10, 0x14)}
_SPECIFIC_TAGS = [*_TAG.values(), *_GE_BLOCKS, *_GE_BLOCKS.values()]


@dataclass(slots=True)
class Frame:
    """One slice at one time: what is needed to sort, decode and place it.

    `path` is relative to the folder searched; `index` counts frames of a multi-frame file from 0.  Positions are LPS mm.
    `pixel_offset` and `pixel_length` are where the pixel data of the file lie in bytes (length None: compressed fragments; offset
    None: only a full parse finds them).  `seconds` holds the times by source, `fault` what is wrong with the file, `names` the parts of
    names of patients that are kept out of `shown_path`.
    """

    path: str
    index: int = 0
    frames_in_file: int = 1
    sop_class: str = ""
    sop_uid: str = ""
    series_uid: str = ""
    study_uid: str = ""
    frame_of_reference: str = ""
    patient: tuple[str, str, str] = ("", "", "")
    manufacturer: str = ""
    series_number: float = math.nan
    description: str = ""
    image_type: tuple[str, ...] = ()
    kernel: str = ""
    thickness: float = math.nan
    position: tuple[float, ...] = ()
    orientation: tuple[float, ...] = ()
    pixel_spacing: tuple[float, ...] = ()
    rows: int = 0
    columns: int = 0
    samples: int = 1
    photometric: str = "MONOCHROME2"
    transfer_syntax: str = EXPLICIT_LITTLE
    bits_allocated: int = 16
    bits_stored: int = 16
    high_bit: int = 15
    signed: bool = False
    slope: float = 1.0
    intercept: float = 0.0
    rescale_given: bool = True
    rescale_type: str = ""
    padding: int | None = None
    padding_limit: int | None = None
    lossy: bool = False
    pixel_offset: int | None = None
    pixel_length: int | None = None
    temporal_index: float = math.nan
    acquisition_number: float = math.nan
    instance_number: float = math.nan
    seconds: dict[str, float] = field(default_factory=dict)
    fault: str = ""
    names: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def compressed(self) -> bool:
        """Whether the pixels need a decoder."""
        return self.transfer_syntax not in UNCOMPRESSED

    @property
    def known_transfer_syntax(self) -> bool:
        """Whether the standard says how the file is coded; private codings are told to nobody."""
        return UID(self.transfer_syntax).type == "Transfer Syntax"

    @property
    def shown_path(self) -> str:
        """`path` for people, without names of patients."""
        return without_names(self.path, self.names)


@dataclass(frozen=True, slots=True)
class NotAnImage:
    """A DICOM object without CT pixels, and what it is."""

    path: str
    series_uid: str
    series_number: float
    description: str
    patient: tuple[str, str, str]
    what: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is not (complete) DICOM, and why."""

    path: str
    why: str
    damaged: bool = False


class HeaderText:
    """Values of the top-level elements, by keyword or tag; a subclass says where `text` comes from."""

    transfer_syntax = ""

    def text(self, key) -> str:
        """The value as text without padding."""
        raise NotImplementedError

    def texts(self, key) -> tuple[str, ...]:
        """The parts of a multi-valued text."""
        value = self.text(key)
        return tuple(part.strip() for part in value.split("\\")) if value else ()

    def decimals(self, key) -> tuple[float, ...]:
        """Numbers written as text; empty if any is none."""
        try:
            return tuple(float(part) for part in self.texts(key))
        except ValueError:
            return ()

    def decimal(self, key) -> float:
        """The first number written as text, else NaN."""
        values = self.decimals(key)
        return values[0] if values else math.nan

    double = integer = decimal

    def word(self, key, otherwise: int | None = None) -> int | None:
        """A 16-bit number, unsigned."""
        value = self.decimal(key)
        return int(value) & 0xFFFF if math.isfinite(value) else otherwise


class RawHeader(HeaderText):
    """The same decoded from a file's bytes, only when asked for."""

    def __init__(self, dataset: pydicom.Dataset):
        self.dataset = dataset
        self._order = "<" if dataset.original_encoding[1] is not False else ">"
        # Never converted: the charset would be applied to every element.
        self._encodings = encodings_of(self._bytes("SpecificCharacterSet"))

    @property
    def transfer_syntax(self) -> str:
        """As the file says, else as it was found to be."""
        named = self.dataset.file_meta.get("TransferSyntaxUID", "") if hasattr(self.dataset, "file_meta") else ""
        if named:
            return str(named)
        implicit, little = self.dataset.original_encoding
        return IMPLICIT_LITTLE if implicit else EXPLICIT_LITTLE if little else EXPLICIT_BIG

    def _bytes(self, key) -> bytes:
        element = self.dataset.get_item(_TAG[key] if isinstance(key, str) else key)
        if element is None or element.value is None:
            return b""
        if isinstance(element, RawDataElement):
            return element.value
        value = element.value
        return "\\".join(map(str, value)).encode() if isinstance(value, (list, pydicom.multival.MultiValue)) else str(value).encode()

    def text(self, key) -> str:
        return decoded(self._bytes(key), self._encodings).strip(" \0")

    def double(self, key) -> float:
        """A binary float64 (VR FD), else NaN."""
        value = self._bytes(key)
        return struct.unpack(self._order + "d", value)[0] if len(value) == 8 else self.decimal(key)

    def word(self, key, otherwise: int | None = None) -> int | None:
        """A binary 16-bit number, unsigned."""
        element = self.dataset.get_item(_TAG[key])
        if element is not None and not isinstance(element, RawDataElement):
            return int(element.value) & 0xFFFF
        value = self._bytes(key)
        return struct.unpack(self._order + "H", value[:2])[0] if len(value) >= 2 else otherwise

    def integer(self, key) -> float:
        """A binary integer (VR UL or US) as float, else NaN."""
        if _TAG[key] not in self.dataset:
            return math.nan
        value = self.dataset[key].value
        return float(value) if value is not None else math.nan


def read_header(root: Path, relative: str) -> list[Frame] | NotAnImage | Skipped:
    """What one file holds: its image or images, another kind of object, or the reason to skip it.

    Raises
    ------
    PermissionError
        The file may not be read.
    """
    path = root / relative
    size = path.stat().st_size
    if size == 0:
        return Skipped(relative, "empty file")
    with open(path, "rb") as file:
        start = file.read(132)
        if start[128:132] != b"DICM" and not _looks_like_bare_dataset(start):
            return Skipped(relative, "not DICOM")
        file.seek(0)
        try:
            dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=_SPECIFIC_TAGS)
            position = file.tell()
            header = RawHeader(dataset)
            sop_class = header.text("SOPClassUID") or str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
            if sop_class == DICOMDIR or "MediaStorageDirectory" in path.name:
                return Skipped(relative, "DICOMDIR")
            if not sop_class and not header.text("Modality") and not header.word("Rows", 0):
                return Skipped(relative, "DICOM without content", damaged=True)
            frame = frame_of_header(header, relative, sop_class)
            kind = what_else(header, frame)
            if kind:
                return NotAnImage(relative, frame.series_uid, frame.series_number, frame.description, frame.patient, kind)
            _find_pixels(file, dataset, frame, position, size)
            if sop_class in ENHANCED_CT:
                from CTPerfusionSuiteLib.dicom.enhanced import frames_of_enhanced

                return frames_of_enhanced(dataset, frame)
        except PermissionError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a parser raises on a broken file, the file is broken
            return Skipped(relative, f"damaged header ({type(error).__name__})", damaged=start[128:132] == b"DICM")
    return [frame]


def _looks_like_bare_dataset(start: bytes) -> bool:
    """Whether bytes begin like old DICOM without preamble: group 0002 or 0008 and a known beginning."""
    if len(start) < 8:
        return False
    little, big = struct.unpack("<HH", start[:4]), struct.unpack(">HH", start[:4])
    known = {(2, 0), (2, 1), (2, 2), (8, 0), (8, 1), (8, 5), (8, 8), (8, 0x16)}
    if big in known and little not in known:
        return start[4:6].isalpha()
    return little in known and (start[4:6].isalpha() or struct.unpack("<I", start[4:8])[0] < 1024)


def frame_of_header(header: HeaderText, relative: str, sop_class: str) -> Frame:
    """The top-level elements as a `Frame`."""
    transfer_syntax = header.transfer_syntax
    bits_allocated = header.word("BitsAllocated", 16)
    bits_stored = header.word("BitsStored", bits_allocated)
    slope, intercept = header.decimal("RescaleSlope"), header.decimal("RescaleIntercept")
    rescale_given = math.isfinite(slope) and math.isfinite(intercept) and slope != 0
    temporal = header.decimal("TemporalPositionIdentifier")
    if math.isnan(temporal):
        temporal = header.integer("TemporalPositionIndex")
    return Frame(
        path=relative,
        sop_class=sop_class,
        sop_uid=header.text("SOPInstanceUID"),
        series_uid=header.text("SeriesInstanceUID"),
        study_uid=header.text("StudyInstanceUID"),
        frame_of_reference=header.text("FrameOfReferenceUID"),
        patient=(header.text("PatientID"), header.text("PatientName"), header.text("PatientBirthDate")),
        manufacturer=header.text("Manufacturer"),
        series_number=header.decimal("SeriesNumber"),
        description=header.text("SeriesDescription"),
        image_type=tuple(part.upper() for part in header.texts("ImageType")),
        kernel=header.text("ConvolutionKernel"),
        thickness=header.decimal("SliceThickness"),
        position=header.decimals("ImagePositionPatient"),
        orientation=header.decimals("ImageOrientationPatient"),
        pixel_spacing=header.decimals("PixelSpacing"),
        rows=header.word("Rows", 0),
        columns=header.word("Columns", 0),
        samples=header.word("SamplesPerPixel", 1),
        photometric=header.text("PhotometricInterpretation"),
        transfer_syntax=transfer_syntax,
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        high_bit=header.word("HighBit", bits_stored - 1),
        signed=header.word("PixelRepresentation", 0) == 1,
        slope=slope if rescale_given else 1.0,
        intercept=intercept if rescale_given else 0.0,
        rescale_given=rescale_given,
        rescale_type=header.text("RescaleType").upper(),
        padding=header.word("PixelPaddingValue"),
        padding_limit=header.word("PixelPaddingRangeLimit"),
        lossy=header.text("LossyImageCompression") == "01" or transfer_syntax in LOSSY,
        temporal_index=temporal,
        acquisition_number=header.decimal("AcquisitionNumber"),
        instance_number=header.decimal("InstanceNumber"),
        seconds=_seconds(header),
    )


def _seconds(header: HeaderText) -> dict[str, float]:
    """Times by source, in seconds; what is missing is left out."""
    trigger = header.decimal("TriggerTime")
    found = {
        "TemporalPositionTimeOffset": header.double("TemporalPositionTimeOffset"),
        "AcquisitionDateTime": seconds_of_datetime(header.text("AcquisitionDateTime")),
        GE_MID_SCAN_TIME: _ge_mid_scan_time(header),
        "AcquisitionTime": seconds_of_day(header.text("AcquisitionTime")),
        "TriggerTime": trigger / 1000.0,
        CONTENT_TIME: seconds_of_day(header.text("ContentTime")),
    }
    return {source: value for source, value in found.items() if math.isfinite(value)}


def _ge_mid_scan_time(header: HeaderText) -> float:
    """GE's private (0019,xx24): seconds from the start of the exposure; NaN without it."""
    for creator, element in _GE_BLOCKS.items():
        named = header.text(creator)
        # De-identified files may have lost the name of the block but kept its values.
        if named == _GE_CREATOR or (not named and element == 0x00191024 and header.text("Manufacturer").upper().startswith("GE")):
            return header.decimal(element)
    return math.nan


def what_else(header: HeaderText, frame: Frame) -> str:
    """What an object is if not an original CT image with a place in space; empty if it is one."""
    modality = header.text("Modality")
    if frame.sop_class and frame.sop_class != CT_IMAGE and frame.sop_class not in ENHANCED_CT:
        name = UID(frame.sop_class).name
        if "Secondary Capture" in name:
            return "secondary capture"
        if "Dose" in name:
            return "dose report"
        if name.endswith("SR") or "SR Storage" in name or modality == "SR":
            return "structured report"
        return f"not a CT image ({name if not name[0].isdigit() else _shown_modality(modality, frame) or 'unknown object'})"
    if modality and modality != "CT":
        return f"not CT (modality {_shown_modality(modality, frame)})"
    if "LOCALIZER" in frame.image_type:
        return "localizer"
    if frame.samples != 1 or not frame.photometric.startswith("MONOCHROME"):
        return "color map"
    return ""


def _shown_modality(modality: str, frame: Frame) -> str:
    """A modality for people, whatever was written there."""
    return without_names(modality[:16], name_parts({frame.patient}))


def _find_pixels(file, dataset: pydicom.Dataset, frame: Frame, position: int, size: int) -> None:
    """Set where the pixel data lie, or the fault if they are not all there."""
    frames = header_count(dataset)
    frame.frames_in_file = frames
    if not frame.known_transfer_syntax:
        frame.fault = f"is coded in the transfer syntax {frame.transfer_syntax}, which is not known"
        return
    if frame.transfer_syntax == DEFLATED:
        return
    file.seek(position)
    little = frame.transfer_syntax != EXPLICIT_BIG
    order = "<" if little else ">"
    element = file.read(12)
    if len(element) < 8 or struct.unpack(order + "HH", element[:4]) != (0x7FE0, 0x0010):
        frame.fault = "is truncated: it ends before its pixel data"
        return
    if dataset.original_encoding[0]:
        length, offset = struct.unpack(order + "I", element[4:8])[0], position + 8
    elif len(element) == 12:
        length, offset = struct.unpack(order + "I", element[8:12])[0], position + 12
    else:
        length, offset = 0, size
    frame.pixel_offset = offset
    if length == 0xFFFFFFFF:
        return
    needed = frame.rows * frame.columns * frame.samples * frames * frame.bits_allocated // 8
    frame.pixel_length = length
    if min(length, size - offset) < needed:
        frame.fault = f"is truncated: it holds {max(0, min(length, size - offset))} of {needed} bytes of pixel data"


def header_count(dataset: pydicom.Dataset) -> int:
    """NumberOfFrames, at least 1."""
    try:
        return max(1, int(dataset.get("NumberOfFrames") or 1))
    except (TypeError, ValueError):
        return 1
