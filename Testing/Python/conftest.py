"""Studies that several stories start from: simulated once a session, written as DICOM."""

import gc
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real sample CT beside the repository; tests that need it are skipped without it."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no sample data beside the repository")
    return folder


@pytest.fixture(scope="session")
def small_study():
    """A left M1 stroke on a coarse grid, quick to analyze: `BrainStudy`."""
    from CTPerfusionSuiteLib.phantoms.brain import BrainOptions, simulate_brain

    return simulate_brain(BrainOptions(size=(96, 96), slices=6, frames=32, dt_s=1.6, noise_hu=4.0, seed=11, side="left"))


@pytest.fixture(scope="session")
def small_dicom(small_study, tmp_path_factory) -> Path:
    """`small_study` as a Siemens-style DICOM folder among the clutter of a real study."""
    from CTPerfusionSuiteLib.phantoms.dicom_styles import write_dicom_study

    folder = tmp_path_factory.mktemp("study") / "dicom"
    write_dicom_study(small_study.series, folder, style="siemens", seed=11, patient_name="SECRET^NAME", patient_id="SECRET-ID")
    return folder


@pytest.fixture
def alone():
    """What hundreds of other tests left in memory is not walked through by the garbage collector while a window is timed."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def slicer(slicer_host):
    """The application's Python package, in the host."""
    import slicer

    return slicer


@pytest.fixture
def sequence(slicer_host, small_study):
    """The small study as a sequence in the scene, with its proxy volume: (sequence, proxy)."""
    from CTPerfusionSuiteLib.mrml_sequences import sequenceFromSeries

    nodes = sequenceFromSeries(small_study.series, "CTP")
    return nodes[0], nodes[2]
