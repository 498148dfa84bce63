"""A series of a DICOM folder brought into the scene: read by a child process, then shown frame by frame while the window lives."""

from CTPerfusionSuiteLib.panel.background_work import BackgroundWork


class SeriesReading(BackgroundWork):
    """Its value is the sequence node.

    Parameters
    ----------
    dicomFolder : path
    name : str
        Of the sequence in the scene.
    onProgress, onEnd : callable
        As in `BackgroundWork`.
    seriesUid : str
        When the folder holds several series.
    """

    loadingTitle = "Loading the frames"
    prepared, computed = 0.0, 0.7
    steps = (("Reading the series", 0.8), ("Writing the sequence", 0.2))

    def __init__(self, dicomFolder, name, onProgress, onEnd, seriesUid=""):
        self._words = ["sequence", "--dicom_dir", str(dicomFolder), "--progress", "json"]
        self._words += ["--series", seriesUid] if seriesUid else []
        self._name = name
        super().__init__(onProgress, onEnd)

    def prepare(self, folder):
        yield 0.0
        return [*self._words, "--out_file", str(_file(folder))]

    def load(self, folder):
        from CTPerfusionSuiteLib.mrml_sequences import showingSequence

        return showingSequence(_file(folder), self._name)


def _file(folder):
    return folder / "series.seq.nrrd"
