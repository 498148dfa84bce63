"""Dynamic series in Slicer's scene: volume sequences and multi-volumes to a `TimeSeries` and back, with seconds or refused.

What Slicer's own import leaves in a sequence's index are frame numbers; they never become times here.
"""

import json
from collections.abc import Generator

import numpy as np
import slicer
from vtk.util.numpy_support import vtk_to_numpy

from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused, SuiteError
from CTPerfusionSuiteLib.mrml import HOUNSFIELD, geometryOf, imageOf, setGeometry, setUnits, valuesOf
from CTPerfusionSuiteLib.progress import part_of_steps, to_the_end
from CTPerfusionSuiteLib.sequence_nrrd import SLABS, SLICE_TIMES, TIME_SOURCE, sequence_times
from CTPerfusionSuiteLib.time_axis import (
    SECONDS_IN,
    enough_frames,
    from_first_frame,
    given_times,
    sampling_note,
    seconds_of_datetime,
    time_fault,
)
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries

REMEDY = "enter the seconds of each frame in the time table, or load the DICOM files with this extension"
BRAIN_WINDOW_HU = (0.0, 100.0)


def sequenceOf(node):
    """The vtkMRMLSequenceNode behind a node: itself, or the sequence a proxy volume shows; None if there is none."""
    if node is None or node.IsA("vtkMRMLSequenceNode"):
        return node
    browser = slicer.modules.sequences.logic().GetFirstBrowserNodeForProxyNode(node)
    return browser.GetSequenceNode(node) if browser else None


def shownVolume(node):
    """The volume of the scene that shows a series: its proxy, or the multi-volume; the node itself where no volume shows it."""
    if node is None or isMultiVolume(node):
        return node
    sequence = sequenceOf(node)
    browser = slicer.modules.sequences.logic().GetFirstBrowserNodeForSequenceNode(sequence) if sequence is not None else None
    return (browser.GetProxyNode(sequence) if browser is not None else None) or node


def isMultiVolume(node) -> bool:
    """Whether a volume node keeps its frames as components of each voxel, as the bundled multi-volume importer makes them."""
    image = node.GetImageData() if node is not None and node.IsA("vtkMRMLVolumeNode") else None
    return image is not None and image.GetNumberOfScalarComponents() > 1 and bool(node.GetAttribute("MultiVolume.FrameLabels"))


def isOfSeries(geometry: Geometry, node) -> bool:
    """Whether a grid, perhaps of larger pixels, fills the same box in space as a series of the scene: another scan's does not."""
    try:
        grid = _frameGrids(node, firstOnly=True)[0]
    except SuiteError:
        return False
    boxes = [np.array([g.to_lps((-0.5, -0.5, -0.5)), g.to_lps(np.array(g.size) - 0.5)]) for g in (geometry, grid)]
    return bool(np.abs(boxes[0] - boxes[1]).max() <= max(*geometry.spacing[:2], 1.0))


def frameCount(node) -> int:
    """Number of frames of a sequence, proxy volume or multi-volume; 0 for anything else."""
    if isMultiVolume(node):
        return node.GetImageData().GetNumberOfScalarComponents()
    sequence = sequenceOf(node)
    return sequence.GetNumberOfDataNodes() if sequence is not None else 0


def timesOf(node) -> tuple[np.ndarray, str]:
    """((T,) or (T, K) seconds from the first frame, where they come from) of a sequence, proxy volume or multi-volume.

    Raises
    ------
    DataRefused
        When nothing says when the frames were scanned; frame numbers are no times.
    RequestRefused
        When the node holds no frames.
    """
    frames, (geometry, *_rest) = frameCount(node), _frameGrids(node, firstOnly=True)
    enough_frames(frames, f"'{node.GetName()}'")
    times, source = _storedTimes(node, frames, geometry.shape[0])
    return from_first_frame(times), source


def seriesFromNode(node, times=None, source: str = "given by the user") -> TimeSeries:
    """A dynamic series of the scene as arrays; the voxels are copied once.

    Parameters
    ----------
    node : vtkMRMLSequenceNode, its proxy volume, or vtkMRMLMultiVolumeNode
    times : array (T,) or (T, K), optional
        Seconds of the frames, instead of what the node says.
    source : str
        Where given times come from, in words.

    Raises
    ------
    DataRefused
        Frames on different grids, too few of them, or no time axis (the message names the remedy).
    RequestRefused
        A node without frames, or given times that do not fit.
    """
    described = describeSeries(node, times, source)
    values = np.empty(described.values.shape, described.values.dtype)
    for frame, view in zip(values, frameViews(node), strict=True):
        frame[:] = view
    return described.with_values(values)


def describeSeries(node, times=None, source: str = "given by the user") -> TimeSeries:
    """`seriesFromNode` without its voxels: ``values`` has the series' shape and type, takes no memory, and is zero."""
    grids = _frameGrids(node)
    frames, geometry = len(grids), grids[0]
    enough_frames(frames, f"'{node.GetName()}'")
    for number, grid in enumerate(grids[1:], start=2):
        if not grid.close_to(geometry):
            raise DataRefused(
                f"frame {number} of '{node.GetName()}' lies on another grid than frame 1; resample the frames to one grid, or load the "
                "DICOM files with this extension"
            )
    found = given_times(frames, geometry.shape[0], times)
    if found is None:
        found, source = _storedTimes(node, frames, geometry.shape[0])
    note = sampling_note(found)
    kind = np.int16 if all(view.dtype.kind in "iu" for view in frameViews(node)) else np.float32
    values = np.broadcast_to(np.zeros((), kind), (frames, *geometry.shape))
    return TimeSeries(values, geometry, from_first_frame(found), source, _slabs(node, geometry.shape[0]), (note,) if note else ())


def frameViews(node) -> list[np.ndarray]:
    """The voxels (K, J, I) of every frame where they lie: nothing is copied."""
    if isMultiVolume(node):
        image = node.GetImageData()
        scalars = vtk_to_numpy(image.GetPointData().GetScalars()).T
        return [frame.reshape(image.GetDimensions()[::-1]) for frame in scalars]
    sequence = sequenceOf(node)
    return [valuesOf(sequence.GetNthDataNode(n)) for n in range(sequence.GetNumberOfDataNodes())]


def sequenceFromSeries(series: TimeSeries, name: str):
    """Show a series as a volume sequence: (sequence node, browser node, proxy volume node).

    The index is "time" in "s"; where slices are scanned at different times, each item keeps its own in an attribute.  Every item
    says that its values are CT numbers in HU.  The voxels are copied once.
    """
    return to_the_end(makingSequence(series, name))


def makingSequence(series: TimeSeries, name: str) -> Generator[float, None, tuple]:
    """`sequenceFromSeries`, one frame a step: yields the fraction done; closed before its end, it leaves nothing in the scene."""
    scene = slicer.mrmlScene
    name = scene.GetUniqueNameByString(name)
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    with slicer.util.NodeModify(sequence):
        sequence.SetIndexName("time")
        sequence.SetIndexUnit("s")
        sequence.SetIndexType(slicer.vtkMRMLSequenceNode.NumericIndex)
        sequence.SetAttribute(TIME_SOURCE, " ".join(series.time_source.split()))
        if series.slabs is not None:
            sequence.SetAttribute(SLABS, json.dumps(np.asarray(series.slabs).tolist()))
        if series.times.ndim == 2:
            # Beside the items' own: a saved .seq.nrrd then gives them to programs that read its header only.
            sequence.SetAttribute(SLICE_TIMES, json.dumps(np.round(series.times, 6).tolist(), separators=(",", ":")))
    try:
        for n, (values, sliceTimes) in enumerate(zip(series.values, series.slice_times, strict=True), start=1):
            with slicer.util.NodeModify(sequence):
                _addFrame(sequence, values, series.geometry, sliceTimes, series.times.ndim == 2)
            yield n / len(series.values)
    except BaseException:
        scene.RemoveNode(sequence)
        raise
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{name} browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.SetSelectedItemNumber(0)
    proxy = browser.GetProxyNode(sequence)
    if proxy is not None:
        setUnits(proxy, "CT number", HOUNSFIELD)  # what a proxy copies from its item leaves these out
        proxy.CreateDefaultDisplayNodes()
        display = proxy.GetDisplayNode()
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(*BRAIN_WINDOW_HU)
    return sequence, browser, proxy


def _addFrame(sequence, values: np.ndarray, geometry: Geometry, sliceTimes: np.ndarray, keepSliceTimes: bool) -> None:
    frame = slicer.vtkMRMLScalarVolumeNode()
    frame.SetName(sequence.GetName())
    setGeometry(frame, geometry)
    if keepSliceTimes:
        frame.SetAttribute(SLICE_TIMES, json.dumps(np.round(sliceTimes, 6).tolist(), separators=(",", ":")))
    index = repr(round(float(sliceTimes.min()), 4))
    # An empty item first: adding copies voxels deeply, updating can share them.
    sequence.SetDataNodeAtValue(frame, index)
    frame.SetAndObserveImageData(imageOf(values))
    sequence.UpdateDataNodeAtValue(frame, index, True)
    setUnits(sequence.GetDataNodeAtValue(index), "CT number", HOUNSFIELD)  # an item's copy leaves them out


def _frameGrids(node, firstOnly: bool = False) -> list[Geometry]:
    """The grid of every frame."""
    if node is None:
        raise RequestRefused("no dynamic series was chosen; choose a sequence, its volume, or a multi-volume")
    if isMultiVolume(node):
        return [geometryOf(node)] * (1 if firstOnly else frameCount(node))
    sequence = sequenceOf(node)
    if sequence is None or not sequence.GetNumberOfDataNodes():
        raise RequestRefused(f"'{node.GetName()}' holds one volume and no frames; choose the dynamic series (a sequence or a multi-volume)")
    count = 1 if firstOnly else sequence.GetNumberOfDataNodes()
    items = [sequence.GetNthDataNode(n) for n in range(count)]
    if not all(item.IsA("vtkMRMLVolumeNode") for item in items):
        raise RequestRefused(f"the sequence '{node.GetName()}' does not hold volumes; choose the dynamic CT series")
    return [geometryOf(item) for item in items]


def _storedTimes(node, frames: int, slices: int) -> tuple[np.ndarray, str]:
    carrier = node if isMultiVolume(node) else sequenceOf(node)
    attributes = {name: carrier.GetAttribute(name) for name in carrier.GetAttributeNames()}
    index, unit = "", ""
    if carrier is not node or node.IsA("vtkMRMLSequenceNode"):
        unit = carrier.GetIndexUnit() or ""
        if carrier.GetIndexType() == slicer.vtkMRMLSequenceNode.NumericIndex:
            index = " ".join(carrier.GetNthIndexValue(n) for n in range(frames))
        items = [carrier.GetNthDataNode(n).GetAttribute(SLICE_TIMES) for n in range(frames)]
        if all(items):
            # Seconds, and they belong to an index that says so.
            attributes[SLICE_TIMES] = f"[{','.join(items)}]"
        if unit.strip().lower() not in SECONDS_IN:
            times = _databaseTimes(carrier, slices)
            if times is not None:
                return times, "acquisition times of the DICOM files"
    return sequence_times(index, unit, attributes, frames, slices, f"'{node.GetName()}'", REMEDY)


def _databaseTimes(sequence, slices: int) -> np.ndarray | None:
    """(T, K) seconds from the headers of the files a sequence was loaded from; None where Slicer's database does not know them.

    Slicer's own import keeps one time a frame at best; a shuttle scan needs one a slice.
    """
    database = getattr(slicer, "dicomDatabase", None)
    if database is None or not database.isOpen:
        return None
    times = []
    for n in range(sequence.GetNumberOfDataNodes()):
        instances = (sequence.GetNthDataNode(n).GetAttribute("DICOM.instanceUIDs") or "").split()
        if len(instances) != slices:
            return None
        files = [database.fileForInstance(instance) for instance in instances]
        seconds = [seconds_of_datetime(database.fileValue(file, "0008,002A")) for file in files]
        if not np.isfinite(seconds).all():
            stamps = ["".join(database.fileValue(file, tag).strip() for tag in ("0008,0022", "0008,0032")) for file in files]
            seconds = [seconds_of_datetime(stamp) for stamp in stamps]
        times.append(seconds)
    times = np.array(times)
    return None if time_fault(times) else from_first_frame(times)


def _slabs(node, slices: int) -> np.ndarray | None:
    carrier = node if isMultiVolume(node) else sequenceOf(node)
    try:
        slabs = np.array(json.loads(carrier.GetAttribute(SLABS) or ""), dtype=int)
    except ValueError:
        return None
    return slabs if slabs.shape == (slices,) else None


def voxelCurve(node, voxel) -> np.ndarray | None:
    """HU (T,) of one voxel (i, j, k) over time, read where it lies and quick enough to follow the mouse; None outside the grid."""
    if isMultiVolume(node):
        image = node.GetImageData()
        images, components = [image], range(image.GetNumberOfScalarComponents())
    else:
        sequence = sequenceOf(node)
        count = sequence.GetNumberOfDataNodes() if sequence is not None else 0
        images, components = [sequence.GetNthDataNode(n).GetImageData() for n in range(count)], (0,)
    i, j, k = (int(round(float(index))) for index in voxel)
    if not images or not all(0 <= index < size for index, size in zip((i, j, k), images[0].GetDimensions(), strict=True)):
        return None
    return np.array([image.GetScalarComponentAsDouble(i, j, k, component) for image in images for component in components])


def showSequence(path, name):
    """A .seq.nrrd file as a volume sequence, shown in the slice views: its sequence node.

    Raises
    ------
    SuiteError
        The file cannot be read.
    """
    return to_the_end(showingSequence(path, name))


def showingSequence(path, name) -> Generator:
    """`showSequence` in small steps: yields the fraction done."""
    from CTPerfusionSuiteLib.sequence_nrrd import reading_sequence

    reading = part_of_steps(reading_sequence(path), 0.0, 0.6)
    sequence, _browser, proxy = yield from part_of_steps(makingSequence((yield from reading), name), 0.6, 1.0)
    if slicer.app.layoutManager() is not None:
        slicer.util.setSliceViewerLayers(background=proxy, fit=True)
    return sequence
