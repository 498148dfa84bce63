"""The stand-in Slicer draws its views: radiological slices, fused maps, segments, points, plots and the whole window."""

import time

import numpy as np
import pytest

IJK_TO_RAS = np.array([[-2.0, 0, 0, 63], [0, -2, 0, 63], [0, 0, 4, -18], [0, 0, 0, 1]])  # LPS rows and columns, centered


def head(slicer, name="CT", background=20):
    """A disk with one bright block at the patient's right (RAS x > 0), 64 x 64 x 10."""
    k, j, i = np.indices((10, 64, 64))
    x, y = 63 - 2 * i, 63 - 2 * j
    values = np.where(x**2 + y**2 < 55**2, background, -1000).astype(np.int16)
    values[(x > 25) & (x < 40) & (abs(y) < 8)] = 80
    volume = slicer.util.addVolumeFromArray(values, IJK_TO_RAS, name)
    volume.CreateDefaultDisplayNodes()
    display = volume.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0, 80)
    return volume


def slice_pixels(view="Red", size=(400, 400)):
    """RGB pixels (rows, columns, 3) uint8 of a slice view of a given size; slicer.util.resetSliceViews() fits it."""
    import slicer

    widget = slicer.app.layoutManager().sliceWidget(view).sliceView()
    widget.resize(*size)
    return widget._image()


def brightness(pixels, rows, columns):
    return float(pixels[rows, columns].mean())


@pytest.fixture
def scene(slicer_host):
    import slicer

    volume = head(slicer)
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    return volume


def test_the_patients_right_is_on_the_left_of_an_axial_picture(scene, slicer_host):
    import slicer

    slice_pixels()
    slicer.util.resetSliceViews()
    pixels = slice_pixels()
    center, left, right = slice(190, 210), slice(90, 110), slice(290, 310)
    assert brightness(pixels, center, left) > 230 and 40 < brightness(pixels, center, right) < 90


def test_anterior_is_on_top_of_an_axial_picture(slicer_host):
    import slicer

    values = np.zeros((10, 64, 64), np.int16)
    values[:, 5:15, 28:36] = 100  # small j is anterior
    volume = slicer.util.addVolumeFromArray(values, IJK_TO_RAS, "front")
    volume.CreateDefaultDisplayNodes()
    slicer.util.setSliceViewerLayers(background=volume)
    slice_pixels()
    slicer.util.resetSliceViews()
    pixels = slice_pixels()
    assert brightness(pixels, slice(40, 80), slice(190, 210)) > 150 > 20 > brightness(pixels, slice(320, 360), slice(190, 210))


def test_a_map_in_front_is_mixed_with_its_own_colors_and_opacity(scene, slicer_host):
    import slicer

    values = np.zeros((10, 64, 64), np.float32)
    values[:, 28:36, 10:20] = 8.0
    tmax = slicer.util.addVolumeFromArray(values, IJK_TO_RAS, "Tmax")
    tmax.CreateDefaultDisplayNodes()
    colors = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLProceduralColorNode", "Perfusion Tmax")
    colors.GetColorTransferFunction().AddRGBPoint(0, 0, 0, 1)
    colors.GetColorTransferFunction().AddRGBPoint(8, 1, 0, 0)
    display = tmax.GetDisplayNode()
    display.SetAndObserveColorNodeID(colors.GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0, 8)
    display.SetApplyThreshold(1)
    display.SetLowerThreshold(1)
    reds = []
    for opacity in (0.0, 0.5, 1.0):
        slicer.util.setSliceViewerLayers(foreground=tmax, foregroundOpacity=opacity)
        slice_pixels()
        slicer.util.resetSliceViews()
        pixels = slice_pixels()
        reds.append(pixels[200, 100].astype(int).tolist())
    assert reds[0][0] == reds[0][1] and reds[2][0] > 240 > 20 > reds[2][1] and reds[2][1] < reds[1][1] < reds[0][1]
    assert pixels[200, 300, 2] == pixels[200, 300, 0]  # below the threshold the map is transparent


def test_segments_and_points_are_drawn_where_they_are(scene, slicer_host):
    import slicer

    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Lesions")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(scene)
    core = segmentation.GetSegmentation().AddEmptySegment("core", "Core", [0, 1, 0])
    mask = np.zeros((10, 64, 64), np.uint8)
    mask[:, 28:36, 44:54] = 1  # patient's left
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, core, scene)
    points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "AIF")
    points.CreateDefaultDisplayNodes()
    points.AddControlPoint([0, 40, 0])
    slice_pixels()
    slicer.util.resetSliceViews()
    pixels = slice_pixels().astype(int)
    assert pixels[200, 305, 1] > pixels[200, 305, 0] + 50
    assert pixels[70:80, 195:205, 0].max() > 200 and pixels[320:330, 195:205, 0].max() < 100
    segmentation.GetDisplayNode().SetSegmentVisibility(core, False)
    hidden = slice_pixels().astype(int)
    assert abs(hidden[200, 305, 0] - hidden[200, 305, 1]) < 5


def test_a_chart_changes_the_layout_only_when_it_has_no_plot_and_follows_its_table(slicer_host):
    import slicer

    manager, nodes = slicer.app.layoutManager(), {}
    curve = np.column_stack([np.arange(0, 60, 2.0), np.exp(-((np.arange(0, 60, 2.0) - 20) ** 2) / 50)])
    chart = slicer.util.plot(curve, 0, ["time_s", "AIF"], "Curves", False, nodes)
    slicer.modules.plots.logic().ShowChartInLayout(chart)
    assert manager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpPlotView and manager.plotViewCount == 1
    view = manager.plotWidget(0).plotView()
    view.resize(300, 200)
    before = view._image()
    assert (before.min(axis=2) < 250).sum() > 300  # axes, text and the curve on white
    slicer.util.arrayFromTableColumn(nodes["table"], "AIF")[:] = 0.5
    slicer.util.arrayFromTableColumnModified(nodes["table"], "AIF")
    assert (view._image() != before).any()


def test_views_redraw_by_themselves_one_event_each(scene, slicer_host):
    import qt
    import slicer

    red = slicer.app.layoutManager().sliceWidget("Red").sliceView()
    slicer_host.wait(lambda: False, 0.3)
    before, longest, last = red._picture.copy(), [0.0], [time.perf_counter()]
    timer = qt.QTimer()

    def tick():
        longest[0], last[0] = max(longest[0], time.perf_counter() - last[0]), time.perf_counter()

    timer.timeout.connect(tick)
    timer.start(1)
    scene.GetDisplayNode().SetWindowLevelMinMax(0, 400)
    assert slicer_host.wait(lambda: red._picture.shape == before.shape and (red._picture != before).any(), 2)
    chart = slicer.util.plot(np.eye(3), 0, ["x", "a", "b"], "Curves", True, nodes := {})
    plot = slicer.app.layoutManager().plotWidget(0).plotView()
    assert not slicer_host.wait(lambda: False, 0.3)
    shown = plot._picture.copy()
    slicer.util.arrayFromTableColumn(nodes["table"], "a")[:] = 0.5
    slicer.util.arrayFromTableColumnModified(nodes["table"], "a")
    assert slicer_host.wait(lambda: plot._picture.shape == shown.shape and (plot._picture != shown).any(), 2)
    assert chart.GetNumberOfPlotSeriesNodes() == 2 and longest[0] < 0.5


def test_a_custom_layout_is_laid_out_from_its_description(slicer_host):
    import slicer

    view = '<view class="vtkMRMLSliceNode" singletontag="{0}"><property name="orientation" action="default">Axial</property></view>'
    items = "".join(f"<item>{view.format(name)}</item>" for name in ("CBF", "CBV", "MTT", "Tmax"))
    manager = slicer.app.layoutManager()
    node = manager.layoutLogic().GetLayoutNode()
    node.AddLayoutDescription(501, f'<layout type="horizontal">{items}</layout>')
    manager.setLayout(501)
    slicer.app.processEvents()
    assert {"CBF", "CBV", "MTT", "Tmax"} <= set(manager.sliceViewNames()) and manager.sliceWidget("Tmax").visible
    assert manager.sliceWidget("CBF").mrmlSliceCompositeNode() is not manager.sliceWidget("CBV").mrmlSliceCompositeNode()


def test_the_crosshair_tells_where_the_mouse_is(slicer_host):
    import slicer

    crosshair, seen = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode"), []

    def moved(caller, event):
        position = [0.0] * 3
        if caller.GetCursorPositionRAS(position):
            seen.append(tuple(position))

    tag = crosshair.AddObserver(slicer.vtkMRMLCrosshairNode.CursorPositionModifiedEvent, moved)
    slicer_host.hover([10, -20, 4])
    slicer_host.hover([10, -20, 4], "LeaveEvent")
    crosshair.RemoveObserver(tag)
    assert seen[-1] == pytest.approx((10, -20, 4), abs=0.5) and not crosshair.GetCursorPositionRAS([0.0] * 3)


def test_a_point_is_placed_with_a_click_and_sends_events_while_dragged(scene, slicer_host):
    import slicer

    slice_pixels()
    slicer.util.resetSliceViews()
    points, events = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "AIF"), []
    points.CreateDefaultDisplayNodes()
    place = slicer.qSlicerMarkupsPlaceWidget()
    place.setMRMLScene(slicer.mrmlScene)
    place.setCurrentNode(points)
    slicer_host.click([1, 2, 3])
    assert points.GetNumberOfControlPoints() == 0  # nothing is being placed
    place.setPlaceModeEnabled(True)
    slicer_host.hover([1, 2, 3])
    assert (points.GetNumberOfControlPoints(), points.GetNumberOfDefinedControlPoints()) == (1, 0)  # the preview under the mouse
    slicer_host.click([1, 2, 3])
    assert points.GetNumberOfDefinedControlPoints() == 1 and not place.placeModeEnabled
    for name in ("PointStartInteractionEvent", "PointModifiedEvent", "PointEndInteractionEvent"):
        points.AddObserver(getattr(points, name), lambda *_a, name=name: events.append(name))
    slicer_host.drag([(1, 2, 3), (5, 2, 3), (16, 2, 3)])
    assert points.GetNthControlPointPosition(0) == pytest.approx((16, 2, 3), abs=0.5)
    assert (events[0], events[-1]) == ("PointStartInteractionEvent", "PointEndInteractionEvent") and len(events) >= 4


def test_the_whole_window_is_one_picture_of_panel_and_views(scene, slicer_host, tmp_path):
    import ctk
    import slicer

    slicer_host.open("CTPerfusionSuite")
    slicer.app.processEvents()
    slicer.util.resetSliceViews()
    picture = ctk.ctkWidgetsUtils.grabWidget(slicer.util.mainWindow())
    picture.save(str(tmp_path / "window.png"))
    assert (tmp_path / "window.png").stat().st_size > 10000 and picture.width() == slicer.util.mainWindow().width
    red = slicer.app.layoutManager().sliceWidget("Red")
    corner = red.mapTo(slicer.util.mainWindow(), red.rect.center())
    assert picture.pixelColor(corner).lightness() > 20
