"""The panel of PerfusionMaps as tests meet it: fresh, with a series in the scene, or with an opened result."""

import pytest


@pytest.fixture
def slicer(slicer_host):
    import slicer

    return slicer


@pytest.fixture
def sequence(slicer_host, small_study):
    """The small study as a sequence in the scene, with its proxy volume: (sequence, proxy)."""
    from CTPerfusionSuiteLib.mrml_sequences import sequenceFromSeries

    nodes = sequenceFromSeries(small_study.series, "CTP")
    return nodes[0], nodes[2]


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
