"""The home panel as tests meet it."""

import pytest


@pytest.fixture
def home(slicer_host):
    """The panel as a user finds it."""
    panel = slicer_host.open("CTPerfusionSuite")
    panel.worklist.setEntries([])
    panel.ui.studyFolder.currentPath = ""
    yield panel
    panel.stopChildren()
    assert slicer_host.wait(lambda: not panel.worklist.running and not panel.sample.running, 5)
