"""The dynamic series a command works on: the arguments that name it, and how it is read."""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from CTPerfusionSuiteLib.argument_types import frame_numbers, positive
from CTPerfusionSuiteLib.errors import RequestRefused
from CTPerfusionSuiteLib.geometry import axial_slices
from CTPerfusionSuiteLib.progress import Progress, silent
from CTPerfusionSuiteLib.time_axis import enough_frames
from CTPerfusionSuiteLib.volumes import TimeSeries


def add_series_arguments(parser: argparse.ArgumentParser, files: bool = True) -> None:
    """Add ``--dicom_dir`` with what chooses in it and, with `files`, ``--input``, the times it may need and ``--exclude_frames``."""
    source = parser.add_argument_group("input (one of the first two)" if files else "input")
    source.add_argument("--dicom_dir", type=Path, required=not files, metavar="DIR", help="folder of DICOM files, any depth, any names")
    if files:
        source.add_argument("--input", type=Path, metavar="FILE", help="4-D .nii.gz or .seq.nrrd")
    source.add_argument("--series", metavar="UID", help="series instance UID, when the folder holds several")
    source.add_argument("--accept-content-time", action="store_true", help="use ContentTime when nothing better is there (flagged)")
    if files:
        source.add_argument("--times", type=Path, metavar="CSV", help="seconds of each frame, for files that carry no times")
        source.add_argument("--dt", type=positive, metavar="S", help="seconds between frames, for files that carry no times")
        source.add_argument("--exclude_frames", type=frame_numbers, metavar="N,N-N", help="frames to leave out, counted from 1, like 3,7-9")


def read_series(options: argparse.Namespace, progress: Progress = silent) -> TimeSeries:
    """The series that the arguments of `add_series_arguments` name, in axial slices and without the excluded frames.

    Raises
    ------
    RequestRefused
        No input or two, a file that is not there or of no known kind, a frame the series does not have.
    DataRefused
        As the reader says.
    """
    if (options.dicom_dir is None) == (options.input is None):
        raise RequestRefused("give either --dicom_dir DIR or --input FILE")
    times = None
    if options.times is not None:
        from CTPerfusionSuiteLib.time_axis import read_times

        if not options.times.is_file():
            raise RequestRefused(f"--times '{options.times}' is not a file; check the path")
        times = read_times(options.times)
    return without_frames(_read(options, times, progress), options.exclude_frames)


def _read(options: argparse.Namespace, times, progress: Progress) -> TimeSeries:
    if options.dicom_dir is not None:
        from CTPerfusionSuiteLib.dicom.perfusion_series import read_perfusion_series

        return read_perfusion_series(
            options.dicom_dir,
            series_uid=options.series,
            accept_content_time=options.accept_content_time,
            threads=getattr(options, "threads", None),
            progress=progress,
            times=times,
            dt=options.dt,
        )
    if options.series is not None:
        raise RequestRefused("--series chooses among the series of a DICOM folder; leave it out with --input")
    path: Path = options.input
    if not path.is_file():
        raise RequestRefused(f"the input '{path}' is not a file; check the path")
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        from CTPerfusionSuiteLib.nifti import read_nifti_series as read
    elif name.endswith((".nrrd", ".nhdr")):
        from CTPerfusionSuiteLib.sequence_nrrd import read_sequence as read
    else:
        raise RequestRefused(f"the input '{path.name}' is of no known kind; give a 4-D .nii.gz or .seq.nrrd, or a folder with --dicom_dir")
    return axial_slices(read(path, times=times, dt=options.dt))


def without_frames(series: TimeSeries, numbers: tuple[int, ...] | None) -> TimeSeries:
    """The series without the frames `numbers`, counted from 1; times stay those of the frames that are kept.

    Raises
    ------
    RequestRefused
        A frame the series does not have.
    DataRefused
        Too few frames are left.
    """
    if not numbers:
        return series
    frames = len(series.values)
    if max(numbers) > frames:
        raise RequestRefused(f"frame {max(numbers)} was to be left out of a series of {frames} frames; count the frames from 1")
    kept = np.setdiff1d(np.arange(frames), np.array(numbers) - 1)
    enough_frames(len(kept), "what is left of the series")
    note = ("excluded_frames", f"{frames - len(kept)} of {frames} frames were left out by the user: {', '.join(map(str, numbers))}")
    return replace(series, values=series.values[kept], times=series.times[kept], notes=(*series.notes, note))
