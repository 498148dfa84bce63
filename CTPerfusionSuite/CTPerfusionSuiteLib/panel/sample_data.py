"""The sample study of Slicer's Sample Data module: a simulated stroke, made on this computer, no network needed.

It is made once by the command line in a child process and kept in Slicer's cache, with its truth beside it.  Slicer imports this file
when it starts, so what takes time is imported where it is used.
"""

import json
import time
from pathlib import Path

import slicer

from CTPerfusionSuiteLib.errors import SuiteError
from CTPerfusionSuiteLib.version import VERSION

CATEGORY = "CTPerfusionSuite"
NAME = "CTPBrainSimulated"
FILE_NAME = f"{NAME}.seq.nrrd"
TITLE = "Brain CT perfusion (simulated)"
_SEED, _NOISE_HU = 7, 5


def sampleFolder() -> Path:
    """Where the sample is kept; a new version of the suite makes its own."""
    return Path(slicer.app.cachePath) / f"{NAME}-{VERSION}"


def sampleIsMade() -> bool:
    """Whether the sample lies in the cache."""
    return (sampleFolder() / "series.seq.nrrd").is_file() and (sampleFolder() / "truth" / "truth.json").is_file()


def sampleWords() -> list[str]:
    """Arguments of ``ctperfusion`` that make the sample."""
    words = ["phantom", "brain", "--out_dir", str(sampleFolder()), "--sequence", "--overwrite", "--progress", "json"]
    return [*words, "--seed", str(_SEED), "--noise", str(_NOISE_HU)]


def sampleTruth() -> dict[str, float]:
    """The true volumes of the sample in mL: hypoperfusion, core, penumbra ..."""
    return json.loads((sampleFolder() / "truth" / "truth.json").read_text(encoding="utf-8"))["volumes_ml"]


def loadSample():
    """The sample as a volume sequence with seconds, shown in the slice views: its sequence node.

    Raises
    ------
    SuiteError
        The file in the cache cannot be read; it is deleted, so that the next try makes it again.
    """
    from CTPerfusionSuiteLib.mrml import HOUNSFIELD, setUnits
    from CTPerfusionSuiteLib.mrml_sequences import BRAIN_WINDOW_HU

    path = sampleFolder() / "series.seq.nrrd"
    try:
        sequence = slicer.util.loadSequence(str(path))
    except RuntimeError as problem:
        path.unlink(missing_ok=True)
        raise SuiteError("the sample in the cache was damaged; load the sample again to make it anew") from problem
    browser = slicer.modules.sequences.logic().GetFirstBrowserNodeForSequenceNode(sequence)
    proxy = browser.GetProxyNode(sequence)
    for node, name in ((sequence, NAME), (browser, f"{NAME} browser"), (proxy, NAME)):
        node.SetName(slicer.mrmlScene.GenerateUniqueName(name))
    for item in [*(sequence.GetNthDataNode(n) for n in range(sequence.GetNumberOfDataNodes())), proxy]:
        setUnits(item, "CT number", HOUNSFIELD)  # the file format does not keep units
    proxy.CreateDefaultDisplayNodes()
    proxy.GetDisplayNode().AutoWindowLevelOff()
    proxy.GetDisplayNode().SetWindowLevelMinMax(*BRAIN_WINDOW_HU)
    if slicer.app.layoutManager() is not None:
        slicer.util.setSliceViewerLayers(background=proxy, fit=True)
    return sequence


def makeAndLoadSample():
    """Make the sample where it is missing, wait for it with the window alive, and load it: its sequence node.

    Raises
    ------
    SuiteError
    """
    if not sampleIsMade():
        _makeAndWait()
    return loadSample()


def onSampleButton(source=None):
    """What the button of the Sample Data module calls: a list of the loaded node, empty after a failure, which is shown."""
    try:
        return [makeAndLoadSample()]
    except SuiteError as problem:
        slicer.util.errorDisplay(f"The sample was not loaded: {problem}.")
        return []


def _makeAndWait() -> None:
    """Make the sample in a child process while the window stays alive.

    Raises
    ------
    SuiteError
    """
    from CTPerfusionSuiteLib.panel.child_process import ChildProcess

    outcome = []
    child = ChildProcess(sampleWords(), _showProgress, lambda code, document, message: outcome.append((code, message)))
    while not outcome:
        slicer.app.processEvents()
        time.sleep(0.01)
    slicer.util.showStatusMessage("")
    del child
    code, message = outcome[0]
    if code:
        raise SuiteError(message or "the sample was not made; try again")


def _showProgress(title: str, fraction: float) -> None:
    slicer.util.showStatusMessage(f"{title} ({fraction:.0%})")


def registerSampleData(resourcePath) -> None:
    """Put the sample into the Sample Data module; `resourcePath(name)` finds files of the module's Resources."""
    from SampleData import SampleDataLogic

    if hasattr(SampleDataLogic, "registerCustomSampleDataCategory"):
        SampleDataLogic.registerCustomSampleDataCategory(CATEGORY, "CT Perfusion Suite")
    SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=TITLE,
        uris="",
        fileNames=FILE_NAME,
        nodeNames=NAME,
        thumbnailFileName=resourcePath(f"Icons/{NAME}.png"),
        loadFileTypes="SequenceFile",
        customDownloader=onSampleButton,
    )
