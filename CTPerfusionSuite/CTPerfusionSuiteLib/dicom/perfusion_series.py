"""Read a dynamic CT acquisition from a folder of DICOM files: pixels in HU, true times, a regular grid.

Headers decide everything before the first pixel is read; then images are decoded in parallel straight into one array, tilt and
uneven spacing undone on the way, so that hardly more memory is needed than the series takes.
"""

import os
from concurrent.futures import ThreadPoolExecutor, as_completed

import numpy as np

from CTPerfusionSuiteLib.dicom.acquisition_header import acquisition_header
from CTPerfusionSuiteLib.dicom.headers import CONTENT_TIME
from CTPerfusionSuiteLib.dicom.inventory import Acquisition, Inventory, take_inventory
from CTPerfusionSuiteLib.dicom.pixels import check_decoders, read_hounsfield, whole_numbers
from CTPerfusionSuiteLib.dicom.privacy import same_patient
from CTPerfusionSuiteLib.dicom.slice_stack import TimedStack, arrange_in_time
from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused
from CTPerfusionSuiteLib.geometry import AIR_HU, SliceLayout, lay_out_slices, resample_uneven_slices, shifted_slice
from CTPerfusionSuiteLib.progress import Progress, part, silent
from CTPerfusionSuiteLib.time_axis import contradiction_note, enough_frames, from_first_frame, given_times, sampling_note, table_positions
from CTPerfusionSuiteLib.volumes import TimeSeries

_HEADERS_SHARE = 0.3
"""Part of the progress bar for reading headers."""
_SIDEWAYS_MM = 0.5
"""Images of one slice position may be off by this in the slice plane."""
_BRIGHTEST_AIR_HU = -500.0
"""Between air and the lightest soft tissue: images without any darker pixel are hardly in HU."""


def read_perfusion_series(
    folder,
    series_uid: str | None = None,
    accept_content_time: bool = False,
    threads: int | None = None,
    progress: Progress = silent,
    times=None,
    dt: float | None = None,
) -> TimeSeries:
    """The dynamic CT series in `folder`.

    Parameters
    ----------
    folder : path or list of paths
        Any tree of DICOM files, one enhanced multi-frame file, or the files themselves.
    series_uid : str, optional
        SeriesInstanceUID to read (any one of an acquisition with a series per time point).  By default the acquisition with most
        time points; the others are named in the notes.
    accept_content_time : bool
        Believe ContentTime when nothing better is there; noted as ``content_time_used``.
    threads : int, optional
        Images decoded at a time; by default one a processor, at most 8.
    times : array (T,) or (T, K), optional
    dt : float, optional
        The user's time axis or time step in seconds, instead of the headers'.

    Returns
    -------
    TimeSeries
        int16 when every rescale slope (and intercept) is whole, else float32.

    Raises
    ------
    DataRefused
        No dynamic CT, two patients, missing slices, truncated files, constant pixels, no usable time axis.
    RequestRefused
        Missing or empty folder, unknown series, missing decoder.
    """
    inventory = take_inventory(folder, part(progress, 0.0, _HEADERS_SHARE), threads)
    acquisition = choose_acquisition(inventory, series_uid)
    what = acquisition.description
    enough_frames(acquisition.time_points, what)
    for frame in acquisition.stack.frames:
        if frame.fault:
            raise DataRefused(f"the file '{frame.shown_path}' of {what} {frame.fault}; copy or export it again")
    timed = _arranged(inventory, acquisition, accept_content_time, times is not None or dt is not None)
    enough_frames(len(timed.frames), what)
    _check_sideways(acquisition, timed, what)
    layout = _layout(acquisition, timed, what)
    slice_times, source, notes = _time_axis(timed, times, dt)
    slabs = table_positions(slice_times, timed.numbers("acquisition_number"))
    values = _read_pixels(inventory, timed, layout, threads, part(progress, _HEADERS_SHARE, 1.0), what)
    if layout.weights is not None:
        slice_times = slice_times @ layout.weights.T
        slabs = None if slabs is None else slabs[layout.weights.argmax(axis=1)]
    notes += _layout_notes(layout) + _image_notes(timed, values)
    if timed.dropped:
        notes.append(("incomplete_last_pass", "the last pass of the table covered one position only and is left out"))
    header = acquisition_header(inventory.folder, timed.frames[0], inventory.names)
    return TimeSeries(
        values,
        layout.geometry,
        from_first_frame(slice_times),
        source,
        slabs,
        tuple(notes + _inventory_notes(inventory, acquisition)),
        header,
    )


def choose_acquisition(inventory: Inventory, series_uid: str | None = None) -> Acquisition:
    """The acquisition to read.

    Raises
    ------
    DataRefused
        There is none, or the choice is between two patients.
    RequestRefused
        `series_uid` is not in the folder.
    """
    candidates = list(inventory.candidates)
    if series_uid is not None:
        candidates = [candidate for candidate in candidates if series_uid in candidate.series_uids]
        if not candidates:
            known = next((other for other in inventory.others if other.series_uid == series_uid), None)
            if known is None:
                raise RequestRefused(f"the folder holds no series {series_uid}; check the UID or leave it out")
            raise DataRefused(f"the {known.description} cannot be analyzed ({known.reason}); choose a dynamic CT series")
    if not candidates:
        raise DataRefused(_why_none(inventory))
    patients = [frame.patient for frame in candidates[0].stack.frames]
    if not all(same_patient(patients[0], other) for other in set(patients)):
        raise DataRefused(f"{candidates[0].description} mixes images of two patients; separate them into folders of their own")
    if series_uid is None and not all(same_patient(patients[0], other.stack.frames[0].patient) for other in candidates[1:]):
        raise DataRefused("the folder holds dynamic CT of two patients; give a folder with one patient, or choose a series by its UID")
    return candidates[0]


def _why_none(inventory: Inventory) -> str:
    """The refusal when nothing dynamic was found."""
    kinds = ", ".join(sorted({other.reason for other in inventory.others}))
    damaged = f"; damaged: {', '.join(inventory.damaged[:3])}" if inventory.damaged else ""
    remedy = "give the folder with the dynamic (4-D) series"
    if inventory.ct_images:
        return f"no series of the folder is a dynamic CT acquisition ({kinds}{damaged}); {remedy}"
    if inventory.others:
        return f"the folder holds no CT images ({kinds}{damaged}); {remedy}"
    if inventory.damaged:
        # None of them tells the name of its patient, so that it could not be kept out of the names of folders.
        return f"the folder holds damaged DICOM files only ({len(inventory.damaged)}); copy or export them again"
    return f"the folder holds no DICOM files; {remedy}"


def _arranged(inventory: Inventory, acquisition: Acquisition, accept_content_time: bool, times_given: bool) -> TimedStack:
    """Frames x slices; a refusal for missing slices names damaged files, which are the likely reason."""
    try:
        return arrange_in_time(acquisition.stack, acquisition.description, accept_content_time, times_given)
    except DataRefused as refusal:
        if inventory.damaged:
            raise DataRefused(f"{refusal} (damaged: {', '.join(inventory.damaged[:3])})") from refusal
        raise


def _check_sideways(acquisition: Acquisition, timed: TimedStack, what: str) -> None:
    """Refuse images of one slice position that do not lie on each other.

    Raises
    ------
    DataRefused
    """
    places = np.array([[frame.position for frame in row] for row in timed.frames])
    apart = np.abs(places - acquisition.stack.positions[None]).max(axis=2)
    t, k = np.unravel_index(np.argmax(apart), apart.shape)
    if apart[t, k] > _SIDEWAYS_MM:
        raise DataRefused(
            f"in frame {t + 1} of {what} the slice {k + 1} lies {apart[t, k]:.1f} mm beside that of other frames, so the field of view "
            "changed; reconstruct all frames with one field of view"
        )


def _layout(acquisition: Acquisition, timed: TimedStack, what: str) -> SliceLayout:
    """The regular grid of the acquisition."""
    first = timed.frames[0, 0]
    thickness = first.thickness if np.isfinite(first.thickness) and first.thickness > 0 else 1.0
    try:
        return lay_out_slices(
            acquisition.stack.positions,
            first.orientation[:3],
            first.orientation[3:],
            first.pixel_spacing,
            (first.rows, first.columns),
            thickness,
        )
    except DataRefused as refusal:
        raise DataRefused(f"slices are missing from {what}: {refusal}") from refusal


def _time_axis(timed: TimedStack, times, dt: float | None) -> tuple[np.ndarray, str, list[tuple[str, str]]]:
    """((T, K) seconds, where they come from, notes)."""
    frames, slices = timed.frames.shape
    given = given_times(frames, slices, times, dt)
    if given is not None:
        table = given if given.ndim == 2 else np.repeat(given[:, None], slices, axis=1)
        note = None if timed.source == CONTENT_TIME else contradiction_note(table, timed.times, timed.source)
        return table, "given by the user", [note] if note else []
    notes = []
    if timed.source == CONTENT_TIME:
        notes.append(("content_time_used", "the time axis comes from ContentTime, which may be the time of reconstruction; check it"))
    note = sampling_note(timed.times)
    return timed.times, f"DICOM {timed.source}", notes + ([note] if note else [])


def _read_pixels(
    inventory: Inventory, timed: TimedStack, layout: SliceLayout, threads: int | None, progress: Progress, what: str
) -> np.ndarray:
    """All images in HU on the regular grid, (T, K', J', I')."""
    everything = list(timed.frames.ravel())
    check_decoders(everything)
    size_t, size_k = timed.frames.shape
    values = np.empty((size_t, *layout.geometry.shape), np.int16 if whole_numbers(everything) else np.float32)
    constant = np.zeros((size_t, size_k), bool)
    fragments: dict = {}

    def read_frame(t: int) -> None:
        # Uneven slices need a frame of their own to be mixed from; all others go where they belong.
        stored = values[t] if layout.weights is None else np.empty((size_k, *values.shape[2:]), values.dtype)
        for k, frame in enumerate(timed.frames[t]):
            if layout.shifts is None:
                low, high = read_hounsfield(inventory.folder, frame, stored[k], fragments)
            else:
                image = np.empty((frame.rows, frame.columns), values.dtype)
                low, high = read_hounsfield(inventory.folder, frame, image, fragments)
                stored[k] = shifted_slice(image, layout.shifts[k], stored.shape[1:])
            constant[t, k] = low == high
        if layout.weights is not None:
            resample_uneven_slices(stored, layout.weights, out=values[t])

    with ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
        try:
            for n, done in enumerate(as_completed([pool.submit(read_frame, t) for t in range(size_t)]), start=1):
                done.result()
                progress(n / size_t)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    _check_not_constant(constant, what)
    return values


def _check_not_constant(constant: np.ndarray, what: str) -> None:
    """Refuse empty images: `constant` (T, K) tells where all pixels of an image are the same.

    Raises
    ------
    DataRefused
    """
    if constant.all():
        raise DataRefused(f"all images of {what} are empty (every pixel has one value); export it again")
    # A slice beyond the head may be empty throughout, but not in some frames only.
    sometimes = constant & ~constant.all(axis=0)
    if sometimes.any():
        frames = np.flatnonzero(sometimes.any(axis=1)) + 1
        named = ", ".join(map(str, frames[:5])) + (" ..." if len(frames) > 5 else "")
        raise DataRefused(f"frames {named} of {what} have empty images (every pixel has one value); export the series again")


def _layout_notes(layout: SliceLayout) -> list[tuple[str, str]]:
    """What was done to bring slices onto the grid."""
    notes = []
    if layout.shifts is not None:
        notes.append(
            ("gantry_tilt_undone", f"slices were tilted by {layout.tilt_deg:.1f} degrees and shifted within their planes to undo it")
        )
    if layout.weights is not None:
        notes.append(
            (
                "uneven_spacing_resampled",
                f"slices were {layout.gaps_mm[0]:.2f}-{layout.gaps_mm[1]:.2f} mm apart and are interpolated to "
                f"{layout.geometry.spacing[2]:.2f} mm",
            )
        )
    return notes


def _image_notes(timed: TimedStack, values: np.ndarray) -> list[tuple[str, str]]:
    """What the headers say of the images (T, K, J, I) that a user should know."""
    frames, notes = timed.frames.ravel(), []
    if any(frame.lossy for frame in frames):
        notes.append(("lossy_compression", "the images were compressed with loss, which changes small enhancement"))
    if not all(frame.rescale_given for frame in frames):
        unlike = ", although none shows air near -1000 HU" if _air_is_missing(values[0], frames[0].padding is not None) else ""
        notes.append(("rescale_missing", f"some images do not say how stored values become HU; they are taken as HU{unlike}"))
    if "DERIVED" in frames[0].image_type[:1]:
        notes.append(("derived_images", "the images are marked as derived: another program has processed them"))
    return notes


def _air_is_missing(volume: np.ndarray, padded: bool) -> bool:
    """Whether nothing in a volume, padding aside, is as dark as the air around a patient."""
    seen = volume[volume > AIR_HU] if padded else volume
    return bool(seen.size) and float(seen.min()) > _BRIGHTEST_AIR_HU


def _inventory_notes(inventory: Inventory, acquisition: Acquisition) -> list[tuple[str, str]]:
    """What else lies in the folder."""
    notes = [
        ("other_series", f"{other.description}: dynamic, {other.time_points} time points, not used (UID {other.series_uids[0]})")
        for other in inventory.candidates
        if other is not acquisition
    ]
    notes += [
        ("other_series", f"{other.description}: {other.reason}, {other.files} file{'s' if other.files != 1 else ''}")
        for other in inventory.others
        if other.series_uid not in acquisition.series_uids or other.reason != "one time point"
    ]
    notes += [("skipped_file", f"'{name}' skipped: {why}") for name, why in inventory.skipped[:10]]
    if len(inventory.skipped) > 10:
        notes.append(("skipped_file", f"{len(inventory.skipped) - 10} more files skipped"))
    if inventory.duplicates:
        notes.append(("duplicate_files", f"{inventory.duplicates} images are there more than once and were used once"))
    return notes
