"""Results as DICOM: a Parametric Map a map and one Segmentation with the lesions, for archives and viewers.

The objects join the study the series came from: they copy its patient and study and share its frame of reference, so that a viewer
can lay them over the source images.  Everything is marked as research.
"""

import logging
import re
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.sr.codedict import Code, codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from ..errors import DataRefused, RequestRefused
from ..version import VERSION
from ..volumes import Geometry

RESEARCH = "Research use only"
QUANTITY_CODES = {
    "cbf": codes.DCM.AbsoluteRegionalBloodFlow,
    "cbv": codes.DCM.AbsoluteRegionalBloodVolume,
    "mtt": codes.DCM.MeanTransitTime,
    "delay": codes.DCM.BolusArrivalTime,
    "tmax": codes.DCM.Tmax,
    "ttp": codes.DCM.TimeToPeak,
    "rcbf": codes.DCM.RelativeRegionalBloodFlow,
    "rcbv": codes.DCM.RelativeRegionalBloodVolume,
}
"""What each map measures, from CID 7180 and CID 4109 of PS3.16.  There is no code for the arterial delay; it is coded as the bolus arrival
time it is (counted from the arrival in the arterial input), and the text says so."""
STATISTICS = {"_sd": "standard deviation", "_p025": "2.5th percentile", "_p975": "97.5th percentile"}
WINDOWS = {"cbf": (0, 80), "cbv": (0, 6), "mtt": (0, 16), "delay": (-2, 12), "tmax": (0, 12), "ttp": (0, 25), "rcbf": (0, 2),
           "rcbv": (0, 2)}
"""Lower and upper end of the display window, in the map's unit."""
SEGMENTS = (("core", "core_mask", "Core", (227, 26, 28)), ("penumbra", "penumbra_mask", "Penumbra", (51, 160, 44)),
            ("hypoperfusion", "hypoperf_mask", "Hypoperfusion", (255, 217, 47)))
"""Name, prefix of the mask's name, label and RGB color of each segment."""
_PATIENT_AND_STUDY = (
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize",
    "PatientWeight", "PatientIdentityRemoved", "DeidentificationMethod", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID",
    "StudyDescription", "AccessionNumber", "ReferringPhysicianName")


def write_maps(folder, result_geometry: Geometry, maps: dict[str, np.ndarray], masks: dict[str, np.ndarray],
               units: dict[str, tuple[str, str, str]], source_header: dict, *, software: str = "CTPerfusionSuite",
               version: str = VERSION) -> list[Path]:
    """Write every map as a float32 Parametric Map and the lesion masks as one binary Segmentation.

    Parameters
    ----------
    folder : path
        Made if missing; receives ``<map>.dcm`` and ``lesions_seg.dcm``.
    result_geometry : Geometry
        Grid of all arrays.
    maps : dict of str -> ndarray (K, J, I)
        Names as in `units`, with ``_sd``, ``_p025`` and ``_p975`` for statistics of the map they begin with.
    masks : dict of str -> ndarray (K, J, I)
        Those whose names begin with ``core_mask``, ``penumbra_mask`` and ``hypoperf_mask`` become segments; others are left out.
    units : dict of str -> (quantity, UCUM unit, unit as people write it)
    source_header : dict
        Header of the series (`TimeSeries.header`).  With ``source_file`` the patient and study are copied from it, and
        ``SOPInstanceUIDs`` (one a slice; ``frame_numbers`` where they are frames of one object) are referenced; without it the objects
        make a study of their own with an anonymous patient.
    software, version : str
        Written as the manufacturer's model and software version.

    Returns
    -------
    list of Path
        The files written, maps first.

    Raises
    ------
    RequestRefused
        highdicom is not installed, or the folder cannot be written.
    DataRefused
        The source file is no longer a readable DICOM file.
    """
    try:
        import highdicom
    except ImportError as error:
        raise RequestRefused("DICOM output needs highdicom, which is not installed; install it with: "
                             "pip install ctperfusionsuite[dicom]") from error
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestRefused(f"cannot make the folder for DICOM output {folder}: {error.strerror}") from error
    with _nothing_logged():
        source = _Source(source_header, result_geometry)
    affine = result_geometry.matrix[:, [2, 1, 0, 3]]
    # Frames are stored in the order that makes rows, columns and frames right-handed, which viewers expect.
    flip = np.linalg.det(result_geometry.matrix[:3, :3]) < 0
    if flip:
        affine = affine.copy()
        affine[:3, 3] += affine[:3, 0] * (result_geometry.size[2] - 1)
        affine[:3, 0] *= -1

    def volume(array, channels=None):
        array = np.ascontiguousarray(array[::-1] if flip else array)
        return highdicom.Volume(array, affine, "PATIENT", frame_of_reference_uid=source.stub.FrameOfReferenceUID, channels=channels)

    written = []
    equipment = {"manufacturer": software, "manufacturer_model_name": software, "software_versions": version, "device_serial_number": "0"}
    with _nothing_logged():
        for number, (name, values) in enumerate(maps.items(), start=1):
            pixels = volume(np.nan_to_num(np.asarray(values, dtype=np.float32)))
            image = _parametric_map(highdicom, pixels, name, units, source, 9000 + number, equipment)
            written.append(_save(image, folder / f"{_file_stem(name)}.dcm"))
        image = _segmentation(highdicom, volume, masks, source, 9000 + len(maps) + 1, equipment)
        if image is not None:
            written.append(_save(image, folder / "lesions_seg.dcm"))
    return written


def _parametric_map(highdicom, volume, name: str, units: dict, source: "_Source", number: int, equipment: dict) -> Dataset:
    """One map as a Parametric Map object."""
    base, statistic = _split_name(name)
    quantity, ucum, unit_text = units.get(name) or units.get(base) or (name, "1", "")
    words = quantity + (f", {STATISTICS[statistic]}" if statistic else "")
    finite = volume.array
    low, high = float(finite.min()), float(finite.max())
    mapping = highdicom.pm.RealWorldValueMapping(
        lut_label=name.upper()[:16], lut_explanation=words[:64], unit=Code(ucum, "UCUM", (unit_text or ucum)[:64]),
        value_range=(low, high), slope=1.0, intercept=0.0, quantity_definition=QUANTITY_CODES.get(base))
    if statistic and base in QUANTITY_CODES:
        mapping.QuantityDefinitionSequence.append(_statistic_item(highdicom, statistic))
    window = WINDOWS.get(base if not statistic.startswith("_sd") else "", (low, high if high > low else low + 1.0))
    image = highdicom.pm.ParametricMap(
        [source.stub], volume, series_instance_uid=generate_uid(), series_number=number, sop_instance_uid=generate_uid(),
        instance_number=1, contains_recognizable_visual_features=False, real_world_value_mappings=[mapping],
        window_center=(window[0] + window[1]) / 2, window_width=float(window[1] - window[0]), transfer_syntax_uid=ExplicitVRLittleEndian,
        content_label=re.sub(r"[^A-Z0-9_ ]", "_", name.upper())[:16], content_description=words[:64], image_flavor="PERFUSION",
        derived_pixel_contrast="QUANTITY", derivation=codes.DCM.PerfusionImageAnalysis,
        series_description=f"{RESEARCH}: {name} [{unit_text or ucum}]"[:64], **equipment)
    return source.settle(image)


def _statistic_item(highdicom, statistic: str) -> Dataset:
    """Content item that says which statistic of the quantity is stored."""
    if statistic == "_sd":
        return highdicom.sr.CodeContentItem(name=codes.DCM.Derivation, value=codes.SCT.StandardDeviation)
    return highdicom.sr.TextContentItem(name=codes.DCM.Derivation, value=f"{STATISTICS[statistic]} of the posterior")


def _segmentation(highdicom, volume, masks: dict, source: "_Source", number: int, equipment: dict) -> Dataset | None:
    """Core, penumbra and hypoperfusion as overlapping binary segments; None when there is no such mask."""
    found = [(label, name, np.asarray(masks[name]) > 0, color) for _, prefix, label, color in SEGMENTS
             for name in sorted(masks) if name.startswith(prefix)]
    if not found:
        return None
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=equipment["manufacturer_model_name"], family=codes.DCM.PerfusionImageAnalysis, version=equipment["software_versions"])
    descriptions = [
        highdicom.seg.SegmentDescription(
            segment_number=n, segment_label=f"{label} ({name})"[:64], segmented_property_category=codes.SCT.Function,
            segmented_property_type=Code("371863001", "SCT", "Perfusion"), algorithm_type="AUTOMATIC", algorithm_identification=algorithm,
            anatomic_regions=[codes.SCT.Brain], display_color=highdicom.color.CIELabColor.from_rgb(*color))
        for n, (label, name, _, color) in enumerate(found, start=1)]
    stack = np.stack([mask for _, _, mask, _ in found], axis=-1).astype(np.uint8)
    pixels = volume(stack, channels={"SegmentNumber": list(range(1, len(found) + 1))})
    image = highdicom.seg.Segmentation(
        [source.stub], pixels, segmentation_type="BINARY", segment_descriptions=descriptions, series_instance_uid=generate_uid(),
        series_number=number, sop_instance_uid=generate_uid(), instance_number=1, content_label="LESIONS",
        content_description="Perfusion lesions by threshold", series_description=f"{RESEARCH}: core, penumbra, hypoperfusion", **equipment)
    return source.settle(image)


class _Source:
    """What the new objects take over from the series they are derived from.

    Attributes
    ----------
    stub : Dataset
        A single-frame CT image without pixels: cleaned patient and study of the source, on a plane of the result.  The library that
        makes the objects refuses headers with small faults (an unknown sex, a malformed date), so those are blanked here.
    instances, frame_numbers : list
        Identifiers of the instances (and numbers of their frames) that show the slices of the first frame, in the order of K.
    sop_class : str
        Their class.
    """

    def __init__(self, header: dict, geometry: Geometry):
        real = _read_header(header.get("source_file"))
        self.geometry = geometry
        self.sop_class = str(header.get("SOPClassUID") or (real.SOPClassUID if real is not None else CTImageStorage))
        self.instances = [str(uid) for uid in header.get("SOPInstanceUIDs") or ([real.SOPInstanceUID] if real is not None else [])]
        self.frame_numbers = list(header.get("frame_numbers") or ())
        stub = Dataset()
        for keyword in _PATIENT_AND_STUDY:
            value = real.get(keyword) if real is not None else None
            if value not in (None, ""):
                setattr(stub, keyword, value)
        stub.SOPClassUID = CTImageStorage
        stub.Modality = "CT"
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
            own = real.get(keyword) if real is not None else None
            setattr(stub, keyword, str(own or header.get(keyword) or generate_uid()))
        if real is None:
            stub.PatientName, stub.PatientID = "Anonymous^", "ANONYMOUS"
        for keyword in ("PatientName", "PatientID", "AccessionNumber", "StudyID", "ReferringPhysicianName"):
            if keyword not in stub:
                setattr(stub, keyword, "")
        stub.PatientSex = stub.get("PatientSex", "") if stub.get("PatientSex", "") in ("M", "F", "O") else ""
        for keyword, pattern in (("PatientBirthDate", r"\d{8}"), ("StudyDate", r"\d{8}"), ("StudyTime", r"\d{6}(\.\d{1,6})?")):
            value = str(stub.get(keyword, "") or "")
            setattr(stub, keyword, value if re.fullmatch(pattern, value) else None)
        direction = np.asarray(geometry.direction)
        stub.Rows, stub.Columns = geometry.size[1], geometry.size[0]
        stub.PixelSpacing = [geometry.spacing[1], geometry.spacing[0]]
        stub.SliceThickness = geometry.spacing[2]
        stub.ImageOrientationPatient = [float(c) for c in (*direction[:, 0], *direction[:, 1])]
        stub.ImagePositionPatient = [float(c) for c in geometry.origin]
        stub.PositionReferenceIndicator = ""
        self.stub = stub

    def settle(self, image: Dataset) -> Dataset:
        """Finish an object: its body part and true references to the source's own instances (or none) in place of the stub's."""
        image.BodyPartExamined = "BRAIN"
        for keyword in ("ReferencedSeriesSequence", "SourceImageSequence"):
            image.pop(keyword, None)
        frames = image.PerFrameFunctionalGroupsSequence
        for frame in frames:
            frame.pop("DerivationImageSequence", None)
        if not self.instances:
            return image
        series, seen = Dataset(), dict.fromkeys(self.instances)
        series.SeriesInstanceUID = self.stub.SeriesInstanceUID
        series.ReferencedInstanceSequence = [self._reference(uid) for uid in seen]
        image.ReferencedSeriesSequence = [series]
        if len(self.instances) != self.geometry.size[2]:
            return image  # resampled along the stack: no frame shows one source slice
        for frame in frames:
            k = round(float(self.geometry.to_index(np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float))[2]))
            source = self._reference(self.instances[k], self.frame_numbers[k] if self.frame_numbers else None)
            source.PurposeOfReferenceCodeSequence = [_code(codes.DCM.SourceImageForImageProcessingOperation)]
            derivation = Dataset()
            derivation.DerivationCodeSequence = [_code(codes.DCM.PerfusionImageAnalysis)]
            derivation.SourceImageSequence = [source]
            frame.DerivationImageSequence = [derivation]
        return image

    def _reference(self, uid: str, frame_number: int | None = None) -> Dataset:
        """Reference to one instance or one of its frames."""
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = self.sop_class, uid
        if frame_number is not None:
            item.ReferencedFrameNumber = int(frame_number)
        return item


def _code(code: Code) -> Dataset:
    """One item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def _read_header(path) -> Dataset | None:
    """Header of the source file, or None without one."""
    if not path:
        return None
    try:
        return pydicom.dcmread(path, stop_before_pixels=True)
    except (OSError, pydicom.errors.InvalidDicomError) as error:
        # The file is not named: its folders may be called after the patient.
        raise DataRefused("the DICOM files the series was read from can no longer be read: patient and study are needed for DICOM output; "
                          "leave out --dicom-output or restore the files") from error


def _split_name(name: str) -> tuple[str, str]:
    """("cbf", "_sd") of "cbf_sd"; ("cbf", "") of "cbf"."""
    for suffix in STATISTICS:
        if name.endswith(suffix):
            return name[: -len(suffix)], suffix
    return name, ""


def _file_stem(name: str) -> str:
    """A map's name as a file name."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def _save(image: Dataset, path: Path) -> Path:
    """Write one object."""
    image.save_as(path, enforce_file_format=True)
    return path


@contextmanager
def _nothing_logged():
    """Silence the libraries: their warnings quote header values, the patient's name among them."""
    logger = logging.getLogger("highdicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
