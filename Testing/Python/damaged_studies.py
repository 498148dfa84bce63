"""Bad input made from a good study: each function copies a folder of perfusion DICOM and spoils the copy in one way.

They work on every style `write_dicom_study` writes, single-frame or enhanced, and leave the other series of the folder alone.
"""

import shutil
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, MRImageStorage, generate_uid

GE_TIME = (0x0019, 0x1024)
EPOCH = datetime(2025, 3, 14, 14, 22, 37)
TIME_KEYWORDS = ("AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "TriggerTime", "TemporalPositionTimeOffset")
FRAME_TIME_KEYWORDS = ("FrameReferenceDateTime", "FrameAcquisitionDateTime")


@dataclass(frozen=True)
class Slice:
    """One image of the perfusion series: where it is stored, where it lies, when it was scanned."""

    path: Path
    frame: int | None
    position: tuple
    seconds: float


# ---------------------------------------------------------------------------------------------------------------- bad input


def one_time_point(good, to) -> Path:
    """Only the first image at each position."""
    return _keep(good, to, 1)


def six_frames(good, to) -> Path:
    """Only the first six images at each position."""
    return _keep(good, to, 6)


def identical_times(good, to) -> Path:
    """Every image carries the time of the first."""
    folder = _copy(good, to)
    slices = perfusion_slices(folder)
    first = min(s.seconds for s in slices)
    _retime(slices, {s: first for s in slices})
    return folder


def backward_times(good, to) -> Path:
    """Times run backward while every other ordinal (acquisition, instance, temporal position, series number) runs forward."""
    folder = _copy(good, to)
    slices = perfusion_slices(folder)
    new = {}
    for series in _by_position(slices).values():
        for s, mirrored in zip(series, reversed(series), strict=True):
            new[s] = mirrored.seconds
    _retime(slices, new)
    return folder


def clock_set_back(good, to) -> Path:
    """Halfway through the scan the clock jumps back to its start: two images at each position and time."""
    folder = _copy(good, to)
    slices = perfusion_slices(folder)
    new = {}
    for series in _by_position(slices).values():
        half = len(series) // 2
        new |= {s: series[n % half].seconds if n < 2 * half else s.seconds for n, s in enumerate(series)}
    _retime(slices, new)
    return folder


def slices_missing_from_a_frame(good, to) -> Path:
    """The middle time point lacks its second slice."""
    folder = _copy(good, to)
    positions = _by_position(perfusion_slices(folder))
    second = positions[sorted(positions, key=lambda key: key[-1])[1]]
    _drop([second[len(second) // 2]])
    return folder


def truncated_files(good, to, share: float = 0.1) -> Path:
    """The files of a tenth of the images (at least one) end in the middle of their pixels."""
    folder = _copy(good, to)
    paths = sorted({s.path for s in perfusion_slices(folder)})
    for path in paths[:: max(1, round(1 / share))]:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 6 // 10])
    return folder


def two_patients(good, to) -> Path:
    """A second patient's whole study beside the first, with identifiers of its own."""
    folder = _copy(good, to)
    uids = defaultdict(generate_uid)
    for path in [p for p in sorted(folder.rglob("*")) if p.is_file()]:
        image = _read(path)
        if image is None:
            continue
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            if keyword in image:
                setattr(image, keyword, uids[image.get(keyword)])
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.PatientName, image.PatientID = "OTHER^PATIENT", "OTHER"
        second = folder / "second" / path.relative_to(folder)
        second.parent.mkdir(parents=True, exist_ok=True)
        image.save_as(second)
    return folder


def two_patients_in_one_series(good, to) -> Path:
    """Later images of the series belong to another patient (an enhanced object, one file, gets a second file of another patient)."""
    folder = _copy(good, to)
    slices = perfusion_slices(folder)
    paths = sorted({s.path for s in slices}, key=lambda p: min(s.seconds for s in slices if s.path == p))
    for path in paths[len(paths) // 2:]:
        image = pydicom.dcmread(path)
        image.PatientName, image.PatientID = "OTHER^PATIENT", "OTHER"
        if len(paths) == 1:
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            path = path.with_name(path.name + "9")
        image.save_as(path)
    return folder


def all_zero_pixels(good, to) -> Path:
    """Every stored pixel is zero."""
    folder = _copy(good, to)
    _repixel(perfusion_slices(folder), lambda pixels, s: np.zeros_like(pixels))
    return folder


def no_bolus(good, to, noise_hu: float = 3.0) -> Path:
    """Every frame is the first one with fresh noise: nothing ever arrives."""
    folder = _copy(good, to)
    slices = perfusion_slices(folder)
    first = {series[0].position: series[0] for series in _by_position(slices).values()}
    stored = {key: _pixels_of(s) for key, s in first.items()}
    rng = np.random.default_rng(7)

    def flat(pixels, s):
        info = np.iinfo(pixels.dtype)
        noisy = stored[s.position] + np.rint(rng.normal(0, noise_hu, pixels.shape))
        return np.clip(noisy, info.min, info.max).astype(pixels.dtype)

    _repixel(slices, flat)
    return folder


def shifted_without_rescale(good, to, shift: int = 1024) -> Path:
    """Stored values are HU + `shift`, and nothing in the header says so."""
    folder = _copy(good, to)
    for path in {s.path for s in perfusion_slices(folder)}:
        image = pydicom.dcmread(path)
        _decompress(image)
        values = np.rint(_stored(image) * float(image.RescaleSlope) + float(image.RescaleIntercept) + shift)
        image.PixelRepresentation, image.BitsStored, image.HighBit = 1, 16, 15
        image.PixelData = values.astype("<i2").tobytes()
        del image.RescaleSlope, image.RescaleIntercept
        image.save_as(path)
    return folder


def no_time_axis(good, to) -> Path:
    """No element that says when an image was acquired; the time of reconstruction (ContentTime) stays."""
    folder = _copy(good, to)
    for path in {s.path for s in perfusion_slices(folder)}:
        image = pydicom.dcmread(path)
        for keyword in TIME_KEYWORDS:
            image.pop(keyword, None)
        image.pop(GE_TIME, None)
        # With one series a time point the series' time would do as well.
        image.pop("SeriesTime", None)
        for item in image.get("PerFrameFunctionalGroupsSequence", []):
            for keyword in FRAME_TIME_KEYWORDS:
                item.FrameContentSequence[0].pop(keyword, None)
        image.save_as(path)
    return folder


def stray_files(good, to) -> Path:
    """A text file, an empty file, random bytes and a DICOM preamble without content among the images."""
    folder = _copy(good, to)
    place = sorted(s.path for s in perfusion_slices(folder))[0].parent
    (place / "notes.txt").write_text("call the ward about this one\n", encoding="utf-8")
    (place / "empty").write_bytes(b"")
    (place / "noise.bin").write_bytes(np.random.default_rng(3).bytes(3000))
    (place / "preamble_only").write_bytes(b"\0" * 128 + b"DICM")
    return folder


HOSTILE = {
    "PatientName": "<script>alert('name')</script>^MALICIOUS",
    "PatientID": "../../../outside",
    "SeriesDescription": "../../<img src=x onerror=alert(1)>",
    "StudyDescription": "</title><script>alert('study')</script>",
    "ProtocolName": "C:/Windows/<b>protocol</b>",
    "Manufacturer": "ACME & Sons <i>\"CT\"</i>",
    "ManufacturerModelName": "model'); DROP TABLE--",
    "InstitutionName": "{{ 7*7 }} {% raw %}",
}


def hostile_headers(good, to) -> Path:
    """Script, markup, template and path-like text in the free-text elements of every object (`HOSTILE`)."""
    folder = _copy(good, to)
    for path in [p for p in sorted(folder.rglob("*")) if p.is_file()]:
        image = _read(path)
        if image is None:
            continue
        for keyword, text in HOSTILE.items():
            setattr(image, keyword, text)
        image.save_as(path)
    return folder


def described(good, to, text) -> Path:
    """Every series is called `text`."""
    folder = _copy(good, to)
    for path in [p for p in sorted(folder.rglob("*")) if p.is_file()]:
        image = _read(path)
        if image is not None:
            image.SeriesDescription = text
            image.save_as(path)
    return folder


def without_perfusion(good, to) -> Path:
    """Only what lies beside the perfusion series: localizer, dose report, derived images, non-contrast head."""
    folder = _copy(good, to)
    for path in {s.path for s in perfusion_slices(folder)}:
        path.unlink()
    return folder


def not_ct(good, to) -> Path:
    """The same images said to be MR."""
    folder = _copy(good, to)
    for path in [p for p in sorted(folder.rglob("*")) if p.is_file()]:
        image = _read(path)
        if image is None:
            continue
        image.Modality = "MR"
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = MRImageStorage
        image.save_as(path)
    return folder


def nifti_with_nan(series, path) -> Path:
    """`series` as a float 4-D NIfTI (time unit in the header) with NaN in one voxel of one frame."""
    values = series.values.astype(np.float32)
    values[len(values) // 2, values.shape[1] // 2, values.shape[2] // 2, values.shape[3] // 2] = np.nan
    step = float(np.median(np.diff(series.slice_times[:, 0])))
    geometry = series.geometry
    image = sitk.GetImageFromArray(values, isVector=False)
    image.SetSpacing((*geometry.spacing, step))
    image.SetOrigin((*geometry.origin, 0.0))
    direction = np.eye(4)
    direction[:3, :3] = geometry.direction
    image.SetDirection(direction.ravel().tolist())
    sitk.WriteImage(image, str(path))
    return Path(path)


# ------------------------------------------------------------------------------------------------- finding and editing slices


def perfusion_slices(folder) -> list[Slice]:
    """The images of the dynamic series in `folder`: those at a position that was imaged more than once."""
    found = []
    for path in sorted(Path(folder).rglob("*")):
        image = _read(path, pixels=False) if path.is_file() else None
        if image is None or image.SOPClassUID not in (CTImageStorage, EnhancedCTImageStorage) or image.ImageType[0] != "ORIGINAL":
            continue
        size = (int(image.Rows), int(image.Columns))
        if "PerFrameFunctionalGroupsSequence" in image:
            for n, item in enumerate(image.PerFrameFunctionalGroupsSequence):
                place = tuple(round(float(c), 2) for c in item.PlanePositionSequence[0].ImagePositionPatient)
                found.append(Slice(path, n, size + place, _moment(item.FrameContentSequence[0].FrameReferenceDateTime)))
        else:
            place = tuple(round(float(c), 2) for c in image.ImagePositionPatient)
            found.append(Slice(path, None, size + place, _seconds(image)))
    repeated = {key for key, members in _by_position(found).items() if len(members) > 1}
    return [s for s in found if s.position in repeated]


def _by_position(slices) -> dict[tuple, list[Slice]]:
    """Images at each position in the order of time."""
    groups = defaultdict(list)
    for s in sorted(slices, key=lambda s: s.seconds):
        groups[s.position].append(s)
    return groups


def _seconds(image: Dataset) -> float:
    """When a single-frame image was scanned, wherever its style keeps it."""
    if GE_TIME in image:
        value = image[GE_TIME].value
        return float(value.decode() if isinstance(value, bytes) else value)
    if "TriggerTime" in image:
        return float(image.TriggerTime) / 1000
    if "TemporalPositionTimeOffset" in image:
        return float(image.TemporalPositionTimeOffset)
    return _moment(str(image.AcquisitionDate) + str(image.AcquisitionTime))


def _moment(text) -> float:
    """Seconds from `EPOCH` of a DICOM date-time."""
    return (datetime.strptime(str(text), "%Y%m%d%H%M%S.%f") - EPOCH).total_seconds()


def _copy(good, to) -> Path:
    """Copy of the study."""
    return Path(shutil.copytree(good, to))


def _read(path: Path, pixels: bool = True) -> Dataset | None:
    """The DICOM object in a file, or None."""
    try:
        return pydicom.dcmread(path, stop_before_pixels=not pixels)
    except (pydicom.errors.InvalidDicomError, EOFError):
        return None


def _keep(good, to, frames: int) -> Path:
    """Only the first `frames` images at each position."""
    folder = _copy(good, to)
    _drop([s for series in _by_position(perfusion_slices(folder)).values() for s in series[frames:]])
    return folder


def _drop(slices) -> None:
    """Remove images: their file, or their frame of an enhanced object."""
    frames = defaultdict(set)
    for s in slices:
        if s.frame is None:
            s.path.unlink()
        else:
            frames[s.path].add(s.frame)
    for path, gone in frames.items():
        image = pydicom.dcmread(path)
        kept = [n for n in range(image.NumberOfFrames) if n not in gone]
        if not kept:
            path.unlink()
            continue
        _decompress(image)
        pixels = _stored(image)[kept]
        image.PerFrameFunctionalGroupsSequence = [image.PerFrameFunctionalGroupsSequence[n] for n in kept]
        image.NumberOfFrames = len(kept)
        image.PixelData = pixels.tobytes()
        image.save_as(path)


def _retime(slices, new: dict[Slice, float]) -> None:
    """Write other times where each style keeps them."""
    files = defaultdict(list)
    for s in slices:
        files[s.path].append(s)
    for path, members in files.items():
        image = pydicom.dcmread(path)
        for s in members:
            seconds = new[s]
            if s.frame is not None:
                moment = (EPOCH + timedelta(seconds=seconds)).strftime("%Y%m%d%H%M%S.%f")
                content = image.PerFrameFunctionalGroupsSequence[s.frame].FrameContentSequence[0]
                content.FrameReferenceDateTime = content.FrameAcquisitionDateTime = moment
            elif GE_TIME in image:
                image[GE_TIME].value = f"{seconds:.6f}"
            elif "TriggerTime" in image:
                image.TriggerTime = f"{1000 * seconds:.3f}"
            elif "TemporalPositionTimeOffset" in image:
                image.TemporalPositionTimeOffset = seconds
            else:
                moment = EPOCH + timedelta(seconds=seconds)
                image.AcquisitionDate, image.AcquisitionTime = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S.%f")
                if "AcquisitionDateTime" in image:
                    image.AcquisitionDateTime = moment.strftime("%Y%m%d%H%M%S.%f")
        if members[0].frame is not None:
            image.AcquisitionDateTime = (EPOCH + timedelta(seconds=min(new[s] for s in members))).strftime("%Y%m%d%H%M%S.%f")
        image.save_as(path)


def _decompress(image: Dataset) -> None:
    """Native pixels."""
    if image.file_meta.TransferSyntaxUID.is_compressed:
        image.decompress(generate_instance_uid=False)


def _stored(image: Dataset) -> np.ndarray:
    """Stored pixels (frames, J, I) of an uncompressed image; writable."""
    dtype = "<i2" if image.PixelRepresentation else "<u2"
    return np.frombuffer(image.PixelData, dtype).reshape(-1, image.Rows, image.Columns).copy()


def _pixels_of(s: Slice) -> np.ndarray:
    """Stored pixels (J, I) of one slice."""
    image = pydicom.dcmread(s.path)
    _decompress(image)
    return _stored(image)[s.frame or 0]


def _repixel(slices, change) -> None:
    """Replace the stored pixels of each slice by ``change(pixels, slice)``."""
    files = defaultdict(list)
    for s in slices:
        files[s.path].append(s)
    for path, members in files.items():
        image = pydicom.dcmread(path)
        _decompress(image)
        pixels = _stored(image)
        for s in members:
            pixels[s.frame or 0] = change(pixels[s.frame or 0], s)
        image.PixelData = pixels.tobytes()
        image.save_as(path)
