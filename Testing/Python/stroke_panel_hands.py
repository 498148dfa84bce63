"""What tests of the StrokeSegmentation panel do and read again and again."""

import numpy as np

RUN_S = 60


def run(host, panel):
    panel.ui.applyButton.click()
    work = panel.run
    assert work is not None, panel.ui.applyButton.toolTip
    assert host.wait(lambda: not work.running, RUN_S), "the run did not end"
    assert panel.run is None


def open_result(panel, folder, name="Study stroke"):
    node = panel.logic.openResult(folder, name)
    panel.settings.result = node
    return node


def cells(table):
    return [[table.item(row, column).text() for column in range(table.columnCount)] for row in range(table.rowCount)]


def lesion_ml(slicer, node, segment):
    volume = node.GetNodeReference("images.mean_ct")
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(node.GetNodeReference("segmentation"), segment, volume)
    return float(mask.sum() * np.prod(volume.GetSpacing()) / 1000)
