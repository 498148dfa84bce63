"""Dynamic series in Slicer's scene: seconds are found or refused, slices keep their times, and nothing is lost on the way to a file."""

import numpy as np
import pytest

from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries

FRAMES, SHAPE = 18, (4, 12, 16)


def a_series(times=None, kind=np.int16):
    rng = np.random.default_rng(5)
    values = rng.integers(-1000, 1200, (FRAMES, *SHAPE)).astype(kind)
    turned = ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, -1.0))
    geometry = Geometry(SHAPE[::-1], (0.9, 0.8, 5.0), (-10.0, 20.0, 30.0), turned)
    return TimeSeries(values, geometry, 1.5 * np.arange(FRAMES) if times is None else times, "header")


def same(found, series):
    assert (found.values == series.values).all() and found.values.dtype == series.values.dtype
    assert found.geometry.close_to(series.geometry) and found.times == pytest.approx(series.times)


def multi_volume(slicer, series, labels, unit, tag="AcquisitionTime"):
    """What the bundled multi-volume importer leaves: frames as components, times in attributes."""
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    from CTPerfusionSuiteLib.mrml import setGeometry

    image = vtk.vtkImageData()
    image.SetDimensions(series.geometry.size)
    frames = len(series.values)
    image.AllocateScalars(vtk.VTK_SHORT, frames)
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = series.values.reshape(frames, -1).T
    node = slicer.mrmlScene.AddNode(slicer.vtkMRMLMultiVolumeNode())
    node.SetName("multi-volume")
    node.SetAndObserveImageData(image)
    setGeometry(node, series.geometry)
    node.SetAttribute("MultiVolume.FrameLabels", ",".join(map(str, labels)))
    node.SetAttribute("MultiVolume.FrameIdentifyingDICOMTagUnits", unit)
    node.SetAttribute("MultiVolume.FrameIdentifyingDICOMTagName", tag)
    return node


@pytest.mark.parametrize("shuttle", [False, True])
def test_a_series_comes_back_from_its_sequence_and_from_the_volume_that_shows_it(slicer, shuttle):
    from CTPerfusionSuiteLib.mrml_sequences import sequenceFromSeries, seriesFromNode

    times = 1.5 * np.arange(FRAMES)[:, None] + np.array([0, 0, 0.7, 0.7]) if shuttle else None
    series = a_series(times)
    sequence, _browser, proxy = sequenceFromSeries(series, "CTP")
    assert (sequence.GetIndexName(), sequence.GetIndexUnit(), sequence.GetNthIndexValue(2)) == ("time", "s", "3.0")
    assert sequence.GetNthDataNode(3).GetVoxelValueUnits().GetCodeValue() == "[hnsf'U]"
    for node in (sequence, proxy):
        same(seriesFromNode(node), series)


def test_a_sequence_saved_by_slicer_and_read_by_the_command_line_is_the_same(slicer, tmp_path):
    from CTPerfusionSuiteLib.mrml_sequences import sequenceFromSeries, seriesFromNode
    from CTPerfusionSuiteLib.sequence_nrrd import read_sequence

    series = a_series(1.5 * np.arange(FRAMES)[:, None] + np.array([0, 0, 0.7, 0.7]))
    sequence = sequenceFromSeries(series, "CTP")[0]
    path = tmp_path / "saved.seq.nrrd"
    assert slicer.util.saveNode(sequence, str(path))
    same(read_sequence(path), series)
    slicer.mrmlScene.Clear()
    same(seriesFromNode(slicer.util.loadSequence(str(path))), series)


def test_frame_numbers_are_no_seconds_and_the_refusal_names_the_time_table(slicer):
    from CTPerfusionSuiteLib.mrml_sequences import sequenceFromSeries, seriesFromNode

    series = a_series()
    sequence = sequenceFromSeries(series, "CTP")[0]
    sequence.SetIndexName("")
    sequence.SetIndexUnit("")
    with pytest.raises(DataRefused, match="'CTP' has no usable time axis .* time table"):
        seriesFromNode(sequence)
    same(seriesFromNode(sequence, times=series.times), series)
    sequence.SetAttribute("MultiVolume.FrameLabels", ",".join(str(1000 * t) for t in series.times))
    sequence.SetAttribute("MultiVolume.FrameIdentifyingDICOMTagUnits", "ms")
    same(seriesFromNode(sequence), series)


def test_milliseconds_in_the_index_are_milliseconds(slicer):
    from CTPerfusionSuiteLib.mrml_sequences import sequenceFromSeries, timesOf

    sequence = sequenceFromSeries(a_series(1500.0 * np.arange(FRAMES)), "CTP")[0]
    sequence.SetIndexUnit("ms")
    times, _source = timesOf(sequence)
    assert times == pytest.approx(1.5 * np.arange(FRAMES))


def test_a_multi_volume_is_read_with_the_times_of_its_labels(slicer):
    from CTPerfusionSuiteLib.mrml_sequences import frameCount, seriesFromNode, voxelCurve

    series = a_series()
    node = multi_volume(slicer, series, 1000 * series.times, "ms")
    assert frameCount(node) == FRAMES
    same(seriesFromNode(node), series)
    assert voxelCurve(node, (5, 4, 2)) == pytest.approx(series.values[:, 2, 4, 5])
    assert voxelCurve(node, (5, 40, 2)) is None
    counted = multi_volume(slicer, series, range(FRAMES), "count", "TemporalPositionIdentifier")
    with pytest.raises(DataRefused, match="no usable time axis"):
        seriesFromNode(counted)


def test_a_multi_volume_chosen_in_the_panel_is_analyzed(slicer_host, slicer, small_study):
    from perfusion_panel_hands import run, settle, volumes

    node = multi_volume(slicer, small_study.series, 1000 * small_study.series.times, "ms")
    panel = slicer_host.open("PerfusionMaps").panel
    panel.settings.motionCorrection = False  # quicker
    panel.ui.inputSelector.setCurrentNode(node)
    assert panel.settings.inputNode is node
    run(slicer_host, panel)
    settle(slicer_host, panel)
    assert panel.settings.result is not None, panel.ui.statusLabel.text
    assert float(volumes(panel)[0]) > 10


def test_a_frame_on_another_grid_and_a_plain_volume_are_refused_by_name(slicer):
    from CTPerfusionSuiteLib.mrml import fillVolumeNode
    from CTPerfusionSuiteLib.mrml_sequences import sequenceFromSeries, seriesFromNode
    from CTPerfusionSuiteLib.volumes import Volume

    series = a_series()
    sequence = sequenceFromSeries(series, "CTP")[0]
    sequence.GetNthDataNode(4).SetSpacing(1.0, 1.0, 5.0)
    with pytest.raises(DataRefused, match="frame 5 of 'CTP' lies on another grid"):
        seriesFromNode(sequence)
    plain = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "NCCT")
    fillVolumeNode(plain, Volume(series.values[0], series.geometry))
    with pytest.raises(RequestRefused, match="'NCCT' holds one volume and no frames"):
        seriesFromNode(plain)


def test_the_file_for_the_child_process_is_written_from_the_scene_without_a_copy_of_the_series(slicer, tmp_path):
    import tracemalloc

    from CTPerfusionSuiteLib.mrml_sequences import describeSeries, frameViews, sequenceFromSeries
    from CTPerfusionSuiteLib.sequence_nrrd import read_sequence, writing_sequence

    geometry = Geometry((128, 128, 16), (1.0, 1.0, 5.0))
    series = TimeSeries(np.ones((20, *geometry.shape), np.int16), geometry, 2.0 * np.arange(20))
    series.values[:, 5, 5, 5] = 7
    series.values[:, 3] = np.arange(20)[:, None, None]
    sequence = sequenceFromSeries(series, "CTP")[0]
    tracemalloc.start()
    fractions = list(writing_sequence(tmp_path / "s.seq.nrrd", describeSeries(sequence), frames=frameViews(sequence)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert peak < series.values.nbytes / 4
    same(read_sequence(tmp_path / "s.seq.nrrd"), series)


def test_slices_of_an_imported_shuttle_scan_get_their_own_times_from_the_database(slicer, monkeypatch):
    from types import SimpleNamespace

    from CTPerfusionSuiteLib.mrml_sequences import sequenceFromSeries, timesOf

    sequence = sequenceFromSeries(a_series(), "CTP")[0]
    sequence.SetIndexName("")
    sequence.SetIndexUnit("")
    sequence.SetAttribute("MultiVolume.FrameLabels", ",".join(str(3000.0 * n) for n in range(FRAMES)))
    sequence.SetAttribute("MultiVolume.FrameIdentifyingDICOMTagUnits", "ms")
    for n in range(FRAMES):
        sequence.GetNthDataNode(n).SetAttribute("DICOM.instanceUIDs", " ".join(f"1.{n}.{k}" for k in range(SHAPE[0])))

    def value(file, tag):
        frame, k = (int(part) for part in file.split(".")[1:])
        seconds = 59.0 + 3.0 * frame + (0.7 if k > 1 else 0.0)
        clock = f"2359{seconds:09.6f}" if seconds < 60 else f"00{int(seconds - 60) // 60:02d}{(seconds - 60) % 60:09.6f}"
        return {"0008,0022": "20260101" if seconds < 60 else "20260102", "0008,0032": clock}.get(tag, "")

    monkeypatch.setattr(slicer, "dicomDatabase", SimpleNamespace(isOpen=True, fileForInstance=lambda uid: uid, fileValue=value))
    times, source = timesOf(sequence)
    assert "DICOM" in source and times.shape == (FRAMES, SHAPE[0])
    assert times[:, 0] == pytest.approx(3.0 * np.arange(FRAMES)) and times[:, 3] - times[:, 0] == pytest.approx(0.7, abs=1e-3)
    monkeypatch.setattr(slicer, "dicomDatabase", SimpleNamespace(isOpen=False))
    assert timesOf(sequence)[0] == pytest.approx(3.0 * np.arange(FRAMES))
