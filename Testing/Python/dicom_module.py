"""What Slicer's DICOM module does around an import plugin, written from its documentation.

A database that gives values of headers as text, plugins that claim the same files as ours, and the choice among the loadables of
several plugins: of each series the highest confidence is selected, equals together.
"""

import types
from collections import defaultdict
from pathlib import Path

import pydicom
from pydicom.multival import MultiValue


class FolderDatabase:
    """`slicer.dicomDatabase` for one folder; counts the values asked for."""

    isOpen = True

    def __init__(self, folder):
        self.asked, self._headers, self._series = 0, {}, defaultdict(list)
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and path.name != "DICOMDIR":
                try:
                    dataset = pydicom.dcmread(path, stop_before_pixels=True)
                except pydicom.errors.InvalidDicomError:
                    continue
                self._headers[str(path)] = dataset
                self._series[str(dataset.SeriesInstanceUID)].append(str(path))

    def fileValue(self, file, tag):
        """The value as text, as the application gives it: "" where there is none."""
        self.asked += 1
        group, element = (int(part, 16) for part in tag.split(","))
        found = self._headers[file].get((group, element)) if file in self._headers else None
        if found is None or found.value is None or found.VR == "SQ":
            return ""
        value = found.value
        if isinstance(value, bytes):
            return value.decode("ascii", "replace").strip(" \0")
        return "\\".join(map(str, value)) if isinstance(value, (list, MultiValue)) else str(value)

    def allSeries(self):
        return list(self._series)

    def filesForSeries(self, uid):
        return tuple(self._series[uid])


class CompetingPlugin:
    """What the bundled plugins claim: a volume a series with 0.5, and a multi-volume of all series with 1.0."""

    def examineForImport(self, fileLists):
        loadables = []
        for files, confidence in [*((list(files), 0.5) for files in fileLists), (sum(map(list, fileLists), []), 1.0)]:
            loadable = types.SimpleNamespace()
            loadable.files, loadable.selected, loadable.confidence = files, True, confidence
            loadable.name = "scalar volume" if confidence < 1 else "multi-volume"
            loadables.append(loadable)
        return loadables

    def load(self, loadable):
        raise AssertionError(f"{loadable.name} was loaded beside the sequence")


def selected_loadables(plugins, fileLists, database):
    """(plugin, loadable) of what the application would load: of each series, by its first file, the most confident ones."""
    of_series = defaultdict(list)
    for plugin in plugins:
        for loadable in plugin.examineForImport(fileLists):
            of_series[database.fileValue(loadable.files[0], "0020,000E")].append((plugin, loadable))
    chosen = []
    for pairs in of_series.values():
        highest = max(loadable.confidence for _plugin, loadable in pairs)
        chosen += [(plugin, loadable) for plugin, loadable in pairs if loadable.confidence == highest]
    return chosen
