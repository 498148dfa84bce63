"""The stand-in Slicer for the tests below: the fixture `slicer_host`."""

import pathlib
import sys

import pytest

TESTING = pathlib.Path(__file__).parent
sys.path.insert(0, str(TESTING))


@pytest.fixture(scope="session")
def running_slicer_host():
    from SlicerHost import launch

    if launch.missing():
        pytest.skip(f"the stand-in Slicer needs {' and '.join(launch.missing())}: pip install slicer-core 'PySide6-Essentials<6.12'")
    return launch.start([TESTING.parent / name for name in ("CTPerfusionSuite", "PerfusionMaps", "StrokeSegmentation")])


@pytest.fixture
def slicer_host(running_slicer_host):
    """The running host with an empty scene; fails the test if a slot raised an exception it did not expect."""
    host = running_slicer_host
    _reset(host)
    yield host
    errors = list(host.slot_errors)
    _reset(host)
    assert not errors, f"exceptions in slots: {errors}"


def _reset(host):
    """Empty scene, default layout, nothing pending."""
    import slicer

    slicer.mrmlScene.Clear()
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    slicer.util.setSliceViewerLayers(background=None, foreground=None, label=None)
    host.application._testing = True
    for left_over in (host.slot_errors, host.dialogs, host.answers):
        left_over.clear()
