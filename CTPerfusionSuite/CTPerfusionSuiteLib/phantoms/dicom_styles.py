"""Write a dynamic CT series as raw DICOM, the way five vendors and the enhanced object do.

What differs between vendors is where the time of a frame is kept, and that is what a reader stumbles over:

=================  =====================================================================================================
siemens            one series; AcquisitionTime and AcquisitionDateTime of each image; AcquisitionNumber counts the frames
ge                 one series, cine; AcquisitionTime is the same everywhere, the time is private (0019,1024); implicit VR, signed
philips            one series; TemporalPositionIdentifier and AcquisitionTime
canon              one series a time point, signed pixels
shuttle            one Siemens series, two table positions, interleaved and irregular, each slice with a time of its own
enhanced           one Enhanced CT object with all frames, frame date-times, temporal position indices and per-frame rescale
=================  =====================================================================================================

Variants: ``philips-offset`` (no acquisition times; TemporalPositionTimeOffset), ``ge-trigger`` (TriggerTime instead of the private
element), ``shuttle-acquisitions`` (AcquisitionNumber counts the stops of the table, not the passes) and ``enhanced-split`` (one
enhanced object a time point).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage, JPEG2000Lossless, JPEGLSLossless, RLELossless

from ..progress import Progress, silent
from ..volumes import TimeSeries
from .acquisition_geometry import AcquiredSlices, acquire, as_shuttle
from .dicom_distractors import write_distractors
from .dicom_enhanced import enhanced_objects
from .dicom_headers import (
    CANON,
    ENHANCED,
    GE,
    PHILIPS,
    SIEMENS,
    Study,
    Vendor,
    bits_stored,
    ct_header,
    da,
    decimal,
    dt,
    file_meta,
    start_moment,
    stored_pixels,
    tm,
)
from .dicom_storage import StudyFolder

STYLES = ("siemens", "ge", "philips", "canon", "shuttle", "enhanced")
VARIANTS = ("philips-offset", "ge-trigger", "shuttle-acquisitions", "enhanced-split")
VENDORS = {"siemens": SIEMENS, "ge": GE, "philips": PHILIPS, "canon": CANON, "shuttle": SIEMENS, "enhanced": ENHANCED,
           "philips-offset": PHILIPS, "ge-trigger": GE, "shuttle-acquisitions": SIEMENS, "enhanced-split": ENHANCED}
COMPRESSIONS = {"jpeg2000": JPEG2000Lossless, "jpegls": JPEGLSLossless, "rle": RLELossless}
SLICE_SLOPES = (1.0, 0.5, 0.25, 0.8)
"""Rescale slopes taken in turn with ``slopes="per-slice"``."""


def write_dicom_study(series: TimeSeries, folder, style: str = "siemens", *, seed: int = 0, patient_name: str = "PHANTOM^BRAIN",
                      patient_id: str = "PHANTOM", tilt_deg: float = 0.0, rotate_with_gantry: bool = False, uneven: bool = False,
                      compress: str | None = None, slopes: str = "one", padding: bool = False, distractors: bool = True,
                      split_folders: bool = True, start_date: str = "20250314", start_time: str = "142237.125",
                      progress: Progress = silent) -> Path:
    """Write `series` as the raw DICOM of one study.

    Parameters
    ----------
    series : TimeSeries
        HU on a regular grid; with (T, K) times each slice carries its own.  Values are clipped to -1024...3071 HU and rounded to
        whole stored values.
    folder : path
        Made if missing; files have no suffix and their names say nothing.
    style : str
        One of `STYLES` or `VARIANTS`.  ``shuttle`` resamples a series without per-slice times (see `as_shuttle`).
    seed : int
        Every identifier and the scatter of file names depend on it, and on nothing else but `patient_id` and the style.
    patient_name, patient_id : str
        A synthetic patient.
    tilt_deg, rotate_with_gantry, uneven
        Gantry tilt in degrees and uneven slice spacing; see `acquisition_geometry`.
    compress : None, "jpeg2000", "jpegls" or "rle"
        Lossless transfer syntax of the perfusion images.
    slopes : "one" or "per-slice"
        Rescale slope 1 everywhere, or 1, 0.5, 0.25, 0.8 in turn along the slices.
    padding : bool
        Write PixelPaddingValue (far below air) outside the circle of reconstruction, as GE does (single-frame styles).
    distractors : bool
        Add a localizer, a dose report, a color map, an average image, a thin non-contrast series and a text file.
    split_folders : bool
        Scatter the files over sub-folders; False: all in `folder`.
    start_date, start_time : str
        DICOM date and time of the first frame ("235950" crosses midnight).

    Returns
    -------
    Path
        `folder`.
    """
    if style not in VENDORS:
        raise ValueError(f"style is one of {', '.join((*STYLES, *VARIANTS))}, not {style!r}")
    if compress is not None and compress not in COMPRESSIONS:
        raise ValueError(f"compress is None or one of {', '.join(COMPRESSIONS)}, not {compress!r}")
    if slopes not in ("one", "per-slice"):
        raise ValueError(f"slopes is 'one' or 'per-slice', not {slopes!r}")
    vendor = VENDORS[style]
    if style.startswith("shuttle"):
        series = as_shuttle(series)
    slices = acquire(series, tilt_deg=tilt_deg, uneven=uneven, rotate_with_gantry=rotate_with_gantry)
    study = Study(int(seed), patient_name, patient_id, start_moment(start_date, start_time))
    slope_of_slice = np.resize(SLICE_SLOPES, len(slices.positions)) if slopes == "per-slice" else np.ones(len(slices.positions))
    target = StudyFolder(Path(folder), np.random.default_rng(seed), split_folders)
    frames, count = slices.values.shape[:2]
    if vendor is ENHANCED:
        objects = enhanced_objects(study, vendor, slices, slope_of_slice, split=style == "enhanced-split")
        total = frames if style == "enhanced-split" else 1
    else:
        objects = _single_frame_images(study, vendor, style, slices, slope_of_slice, padding)
        total = frames * count
    target.expect(total)
    for n, image in enumerate(objects):
        if compress is not None:
            image = compressed(image, COMPRESSIONS[compress])
        target.write(image)
        progress((n + 1) / total)
    if distractors:
        write_distractors(study, vendor, slices, target)
    return Path(folder)


def _single_frame_images(study: Study, vendor: Vendor, style: str, slices: AcquiredSlices, slopes: np.ndarray,
                         padding: bool) -> Iterator[Dataset]:
    """Each image of a style that stores one slice an object.  One `Dataset` is used over and over: write it before asking for the next."""
    frames, count = slices.values.shape[:2]
    whole_scan = float(slices.times.max())
    outside = _outside_circle(slices.values.shape[2:]) if padding else None
    image = None
    for t in range(frames):
        if image is None or style == "canon":
            key, number = (f"perfusion {t}", 501 + t) if style == "canon" else ("perfusion", 5)
            image = ct_header(study, vendor, key, number, vendor.protocol, slices.geometry, tilt_deg=slices.tilt_deg)
        for k in range(count):
            instance = k * frames + t + 1 if vendor is GE else t * count + k + 1
            _place(image, slices, k)
            image.SOPInstanceUID = study.uid("image", style, t, k)
            image.file_meta = file_meta(CTImageStorage, image.SOPInstanceUID, vendor.transfer_syntax)
            image.InstanceNumber = k + 1 if style == "canon" else instance
            _stamp(image, study, style, slices, t, k, whole_scan + 20 + 0.05 * instance)
            image.RescaleSlope = decimal(slopes[k])
            image.BitsStored = bits_stored(vendor, slopes[k])
            image.HighBit = image.BitsStored - 1
            pixels = stored_pixels(slices.values[t, k], vendor, slopes[k])
            if outside is not None:
                _pad(image, pixels, outside, vendor)
            image.PixelData = pixels.tobytes()
            image["PixelData"].VR = "OW"
            yield image


def _place(image: Dataset, slices: AcquiredSlices, k: int) -> None:
    """Position of slice `k`."""
    position = slices.positions[k]
    image.ImagePositionPatient = [decimal(c) for c in position]
    image.SliceLocation = decimal(position[2])


def _stamp(image: Dataset, study: Study, style: str, slices: AcquiredSlices, t: int, k: int, reconstructed: float) -> None:
    """Times of frame `t` of slice `k` where the style keeps them.  ContentTime is the time of reconstruction: no use as a time axis."""
    seconds = float(slices.times[t, k])
    moment, content = study.at(seconds), study.at(reconstructed)
    image.ContentDate, image.ContentTime = da(content), tm(content)
    if style in ("ge", "ge-trigger"):
        moment = study.at(0)
        image.AcquisitionNumber = 1
        if style == "ge":
            # Mid-scan time counts from the start of the exposure, half a rotation before the first image.
            image.private_block(0x0019, "GEMS_ACQU_01", create=True).add_new(0x24, "DS", f"{seconds + 0.25:.6f}")
        else:
            image.TriggerTime = f"{1000 * seconds:.3f}"
    elif style in ("philips", "philips-offset"):
        image.AcquisitionNumber = 1
        image.TemporalPositionIdentifier = t + 1
        image.NumberOfTemporalPositions = len(slices.times)
        if style == "philips-offset":
            image.TemporalPositionTimeOffset = seconds
            moment = study.at(0)
    elif style == "canon":
        image.AcquisitionNumber = 1
        begun = study.at(float(slices.times[t].min()))
        image.SeriesDate, image.SeriesTime = da(begun), tm(begun)
    else:
        image.AcquisitionNumber = _table_stop(slices, t, k) if style == "shuttle-acquisitions" else t + 1
        image.AcquisitionDateTime = dt(moment)
    image.AcquisitionDate, image.AcquisitionTime = da(moment), tm(moment)


def _table_stop(slices: AcquiredSlices, t: int, k: int) -> int:
    """Number of the stop of the table at which slice `k` was scanned for the (t+1)-th time, from 1."""
    firsts = [int(np.flatnonzero(slices.slabs == slab)[0]) for slab in np.unique(slices.slabs)]
    own = int(np.flatnonzero(slices.slabs == slices.slabs[k])[0])
    return int((slices.times[:, firsts] <= slices.times[t, own]).sum())


def _outside_circle(shape: tuple[int, int]) -> np.ndarray:
    """Mask (J, I) of the corners outside the circle of reconstruction."""
    j, i = np.indices(shape)
    return ((j - (shape[0] - 1) / 2) / (shape[0] / 2)) ** 2 + ((i - (shape[1] - 1) / 2) / (shape[1] / 2)) ** 2 > 1


def _pad(image: Dataset, pixels: np.ndarray, outside: np.ndarray, vendor: Vendor) -> None:
    """Mark the corners with -2000 or, unsigned, with the same sixteen bits read as 63536."""
    value = -2000 if vendor.signed else 63536
    image.BitsStored, image.HighBit = 16, 15
    pixels[outside] = value
    image.add_new(0x00280120, "SS" if vendor.signed else "US", value)


def compressed(image: Dataset, transfer_syntax: UID) -> Dataset:
    """A copy of `image` with its pixels in the given lossless transfer syntax."""
    copy = Dataset()
    copy.update({tag: image.get_item(tag) for tag in image.keys() if tag != 0x7FE00010})
    # A pixel element of its own: compressing changes it in place, and the caller's image is used again.
    copy.add_new(0x7FE00010, "OW", image.PixelData)
    copy.file_meta = file_meta(image.SOPClassUID, image.SOPInstanceUID, image.file_meta.TransferSyntaxUID)
    copy.compress(transfer_syntax, generate_instance_uid=False)
    return copy
