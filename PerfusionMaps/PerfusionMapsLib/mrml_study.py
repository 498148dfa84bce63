"""What the panel's settings ask of `ctperfusion maps`: the files the child process reads, and its arguments.

Settings are a parameter node of the module (or anything with the same attributes); nothing here needs a window.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from CTPerfusionSuiteLib.argument_types import frame_numbers
from CTPerfusionSuiteLib.errors import RequestRefused, SuiteError
from CTPerfusionSuiteLib.mrml import geometryBeside, geometryOf, localPosition, segmentMask, valuesOf
from CTPerfusionSuiteLib.mrml_sequences import describeSeries, frameViews, shownVolume, timesOf
from CTPerfusionSuiteLib.nifti import write_volume
from CTPerfusionSuiteLib.sequence_nrrd import writing_sequence
from CTPerfusionSuiteLib.volume_nrrd import writing_volume
from CTPerfusionSuiteLib.volumes import Volume

from .mrml_readiness import isResult, placedPoint
from .mrml_result import resultFromNode


def preparing(settings, folder: Path) -> Iterator[float]:
    """Write the files a run needs into `folder`, in small steps: yields the fraction done; returns the arguments of ``ctperfusion``.

    Raises
    ------
    RequestRefused, DataRefused
        In one sentence, naming the input and the remedy.
    """
    folder = Path(folder)
    words = ["maps", "--out_dir", str(folder / "result"), "--progress", "json", "--no-report"]
    words += optionWords(settings)
    reference = referenceVolume(settings)
    words += _maskWords(settings, folder, reference)
    for vessel in ("aif", "vof"):
        words += _vesselWords(settings, vessel, folder, reference)
    yield 0.02
    if settings.anatomy is not None:
        for fraction in writingAnatomy(settings.anatomy, folder / "anatomy.nrrd", reference):
            yield 0.02 + 0.03 * fraction
        words += ["--anatomy", str(folder / "anatomy.nrrd")]
    yield 0.05
    return [*words, *(yield from writingSeries(settings, folder))]


def writingAnatomy(node, path: Path, reference=None) -> Iterator[float]:
    """Write an anatomical image in small steps, where it lies beside the volume `reference`: yields the fraction done.

    Raises
    ------
    RequestRefused, DataRefused
        It is empty or no single volume.
    """
    geometry = geometryBeside(node, reference) if reference is not None else geometryOf(node)
    if node.GetImageData().GetNumberOfScalarComponents() != 1:
        raise RequestRefused(f"the anatomy '{node.GetName()}' is no single volume; choose a non-contrast CT, a CT angiography or an MR")
    return writing_volume(path, valuesOf(node), geometry)


def writingSeries(settings, folder: Path) -> Iterator[float]:
    """Write the chosen series into `folder` in small steps: yields the fraction done; returns the arguments that name it.

    Raises
    ------
    RequestRefused, DataRefused
    """
    node = settings.inputNode
    if node is None:
        return ["--dicom_dir", str(settings.dicomFolder)]
    times = withSliceOffsets(np.array(settings.times, float), node) if settings.times else None
    series = describeSeries(node, times, settings.timesSource or "given by the user")
    yield 0.1
    for fraction in writing_sequence(folder / "series.seq.nrrd", series, frames=frameViews(node)):
        yield 0.1 + 0.9 * fraction
    return ["--input", str(folder / "series.seq.nrrd")]


def optionWords(settings) -> list[str]:
    """Arguments for everything that is a number or a choice."""
    words = ["--method", settings.method.value, "--denoise", settings.denoising.value]
    if settings.smoothing > 0:
        words += ["--smoothing", f"{settings.smoothing:g}"]
    words += ["--hematocrit", f"{settings.hematocritLarge:g},{settings.hematocritSmall:g}"]
    words += ["--tmax", f"{settings.tmaxThreshold:g}", "--rcbf", f"{settings.rcbfThreshold / 100.0:g}"]
    if not settings.motionCorrection:
        words.append("--no-motion-correction")
    if settings.fullResolution:
        words.append("--full-resolution")
    if settings.age > 0:
        words += ["--age", f"{settings.age}"]
    if settings.nihss >= 0:
        words += ["--nihss", f"{settings.nihss}"]
    frames = numbersOf(settings.excludedFrames, "excluded frames")
    if frames:
        words += ["--exclude_frames", ",".join(map(str, frames))]
    return words


def numbersOf(text: str, what: str) -> tuple[int, ...]:
    """Numbers counted from 1, as a user types them ("3, 7-9"); empty text gives none.

    Raises
    ------
    RequestRefused
    """
    import argparse

    if not text.strip():
        return ()
    try:
        return frame_numbers(text)
    except argparse.ArgumentTypeError as problem:
        raise RequestRefused(f"the {what} '{text}' are not understood; give numbers from 1 on, like 3, 7-9") from problem


def referenceVolume(settings):
    """A volume node on whose grid regions are drawn: of the series, else the mean CT of the result; None when there is neither."""
    node = settings.inputNode
    if node is not None:
        shown = shownVolume(node)
        if not shown.IsA("vtkMRMLSequenceNode"):
            return shown
        return shown.GetNthDataNode(0) if shown.GetNumberOfDataNodes() else None
    return settings.result.GetNodeReference("images.mean_ct") if isResult(settings.result) else None


def withSliceOffsets(times: np.ndarray, node) -> np.ndarray:
    """Edited times of frames (T,) with what the series knows of when each slice was scanned within its frame: (T,) or (T, K)."""
    try:
        known, _source = timesOf(node)
    except SuiteError:
        return times
    if known.ndim == 1 or len(known) != len(times):
        return times
    return times[:, None] + known - known.min(axis=1, keepdims=True)


def _maskWords(settings, folder: Path, reference) -> list[str]:
    words = []
    if settings.brainMask is not None and settings.brainMaskSegment:
        mask = segmentMask(settings.brainMask, settings.brainMaskSegment, _needed(reference, "the brain mask"))
        words += ["--mask", _writeMask(folder / "brain.nii.gz", mask, reference)]
    slices = numbersOf(settings.excludedSlices, "excluded slices")
    if settings.excludedRegions is None and not slices:
        return words
    shape = geometryOf(_needed(reference, "excluded regions or slices")).shape
    excluded = np.zeros(shape, bool)
    if settings.excludedRegions is not None:
        segmentation = settings.excludedRegions.GetSegmentation()
        for n in range(segmentation.GetNumberOfSegments()):
            excluded |= segmentMask(settings.excludedRegions, segmentation.GetNthSegmentID(n), reference)
    if slices and max(slices) > shape[0]:
        raise RequestRefused(f"slice {max(slices)} was to be left out of a series of {shape[0]} slices; count them from the lowest, 1")
    excluded[np.array(slices, int) - 1] = True
    if excluded.any():
        words += ["--exclude", _writeMask(folder / "excluded.nii.gz", excluded, reference)]
    return words


def _vesselWords(settings, vessel: str, folder: Path, reference) -> list[str]:
    """Arguments for where the curve of "aif" or "vof" is read."""
    source = getattr(settings, f"{vessel}Source").value
    if source == "point":
        position = localPosition(reference, placedPoint(getattr(settings, f"{vessel}Point")))
        return [f"--{vessel}_lps={','.join(f'{c:.3f}' for c in position)}"]
    if source == "segment":
        node, segment = getattr(settings, f"{vessel}Segmentation"), getattr(settings, f"{vessel}Segment")
        mask = segmentMask(node, segment, _needed(reference, f"the {vessel.upper()}"))
        return [f"--{vessel}", _writeMask(folder / f"{vessel}.nii.gz", mask, reference)]
    if source == "candidate":
        return [f"--{vessel}", _writeCandidate(settings, vessel, folder)]
    if source == "file":
        return [f"--{vessel}", str(getattr(settings, f"{vessel}File"))]
    return []


def _writeCandidate(settings, vessel: str, folder: Path) -> str:
    """The voxels of an automatic candidate of the shown result, as a mask."""
    result = resultFromNode(settings.result)
    candidates = getattr(result, f"{vessel}_candidates")
    rank = getattr(settings, f"{vessel}Candidate")
    if not 1 <= rank <= len(candidates):
        raise RequestRefused(f"the result has {len(candidates)} candidates of the {vessel.upper()}; choose one of them")
    mask = np.zeros(result.geometry.shape, np.uint8)
    i, j, k = candidates[rank - 1].voxels.T
    mask[k, j, i] = 1
    path = folder / f"{vessel}_candidate.nii.gz"
    write_volume(path, Volume(mask, result.geometry))
    return str(path)


def _writeMask(path: Path, mask: np.ndarray, reference) -> str:
    write_volume(path, Volume(mask.astype(np.uint8), geometryOf(reference)))
    return str(path)


def _needed(reference, what: str):
    if reference is None:
        raise RequestRefused(f"{what} can be drawn on a series in the scene only; load the DICOM folder, or run once and edit then")
    return reference
