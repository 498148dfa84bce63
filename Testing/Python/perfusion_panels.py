"""The panel of PerfusionMaps as tests meet it: fresh, with a series in the scene, or with an opened result."""

import pytest


@pytest.fixture
def panel(slicer_host):
    panel = slicer_host.open("PerfusionMaps").panel
    panel.settings.motionCorrection = False  # quicker
    yield panel
    panel.stopRun()
    slicer_host.wait(lambda: panel.run is None, 5)
    assert [repr(error) for error in slicer_host.slot_errors] == []


@pytest.fixture(scope="session")
def result_folder(small_study, tmp_path_factory):
    """A result folder of the small study."""
    from PerfusionMapsLib.pipeline import analyze
    from PerfusionMapsLib.result_folder import write_result

    folder = tmp_path_factory.mktemp("panel") / "result"
    write_result(folder, analyze(small_study.series))
    return folder


@pytest.fixture
def opened(panel, result_folder):
    """The panel with an opened result: (panel, result node)."""
    node = panel.logic.openResult(result_folder, "CTP perfusion")
    panel.settings.result = node
    panel.results.flush()
    return panel, node
