"""What Slicer's DICOM module offers for a dynamic CT acquisition: one volume sequence with seconds, read by the suite's own reader.

The bundled plugins load GE cine as one wrong volume, others as frames without or with two competing time axes.  A loadable belongs,
for Slicer, to the series of its first file only; so where every time point is a series of its own, a second plugin claims the
further series, or they would be loaded as volumes beside the sequence.
"""

import logging

import slicer
from DICOMLib import DICOMLoadable, DICOMPlugin

from CTPerfusionSuiteLib.dicom.database_tags import TAGS
from CTPerfusionSuiteLib.errors import SuiteError

CONFIDENCE = 1.1
"""Above 1, which the bundled multi-volume importer gives itself: of equals, Slicer would load both."""
WHEN_TIMES_ARE_DOUBTFUL = 0.2


class _PerfusionPlugin(DICOMPlugin):
    """Looks for dynamic CT acquisitions; `loadablesOf(offer)` says what is offered of one."""

    _lastOffers = (None, None, [])
    """(database, file lists, offers): both plugins are asked about the same files one after the other."""

    def __init__(self):
        super().__init__()
        self.tags.update(TAGS)  # the database keeps these at hand

    def examineForImport(self, fileLists):
        """Loadables of lists of files, a list a series; all lists are looked at together."""
        lists = [list(files) for files in fileLists]
        if _PerfusionPlugin._lastOffers[:2] != (slicer.dicomDatabase, lists):
            from CTPerfusionSuiteLib.dicom.perfusion_offers import find_perfusion

            _PerfusionPlugin._lastOffers = (slicer.dicomDatabase, lists, find_perfusion(lists, slicer.dicomDatabase.fileValue))
        return [loadable for offer in _PerfusionPlugin._lastOffers[2] for loadable in self.loadablesOf(offer)]

    def examine(self, fileLists):
        return self.examineForImport(fileLists)

    def newLoadable(self, offer, files, name, tooltip):
        loadable = DICOMLoadable()
        loadable.files = list(files)
        loadable.name = name
        loadable.tooltip = tooltip
        loadable.selected = not offer.content_time_only
        loadable.confidence = WHEN_TIMES_ARE_DOUBTFUL if offer.content_time_only else CONFIDENCE
        return loadable


class CTPerfusionSequencePlugin(_PerfusionPlugin):
    """One "CT perfusion sequence" an acquisition."""

    def __init__(self):
        super().__init__()
        self.loadType = "CT perfusion sequence"

    def loadablesOf(self, offer):
        from CTPerfusionSuiteLib.dicom.inventory import short_title

        name = f"{short_title(offer.description)} - CT perfusion sequence"
        tooltip = f"{offer.frames} frames of {offer.slices} slices over {offer.span_s:.1f} s; times from {offer.time_source}"
        loadable = self.newLoadable(offer, offer.files, name, tooltip)
        loadable.acceptContentTime = offer.content_time_only
        if offer.content_time_only:
            loadable.warning = (
                "The images carry no acquisition times. ContentTime, often the time of reconstruction, would be used: choose this only if "
                "you know that it is right."
            )
        return [loadable]

    def load(self, loadable):
        """The loadable as sequence, browser and proxy volume under its study; False, with the reason shown, where it is refused."""
        from CTPerfusionSuiteLib.dicom.perfusion_series import read_perfusion_series
        from CTPerfusionSuiteLib.mrml_sequences import sequenceFromSeries

        try:
            with slicer.util.WaitCursor():
                series = read_perfusion_series(loadable.files, accept_content_time=getattr(loadable, "acceptContentTime", False))
        except SuiteError as refusal:
            logging.error(f"CT perfusion sequence not loaded: {refusal}")
            slicer.util.errorDisplay(f"The CT perfusion sequence was not loaded: {refusal}.")
            return False
        sequence, browser, proxy = sequenceFromSeries(series, loadable.name)
        sequence.SetAttribute("DICOM.instanceUIDs", " ".join(series.header.get("SOPInstanceUIDs", ())))
        self.addSeriesInSubjectHierarchy(loadable, proxy)
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        study = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(proxy))
        for node in (sequence, browser):
            item = hierarchy.GetItemByDataNode(node)
            if item:
                hierarchy.SetItemParent(item, study)
        for code, message in series.notes:
            logging.info(f"CT perfusion sequence: {message} ({code})")
        if slicer.app.layoutManager() is not None:
            slicer.util.setSliceViewerLayers(background=proxy, fit=True)
        return True


class CTPerfusionTimePointsPlugin(_PerfusionPlugin):
    """The further series of an acquisition with a series a time point: nothing of their own to load."""

    def __init__(self):
        super().__init__()
        self.loadType = "CT perfusion time point"

    def loadablesOf(self, offer):
        from CTPerfusionSuiteLib.dicom.inventory import short_title

        further = list(offer.files_of_series.values())[1:]
        return [
            self.newLoadable(
                offer,
                files,
                f"time point of {short_title(offer.description)} - in the CT perfusion sequence",
                "Loaded with the CT perfusion sequence, not again as a volume of its own.",
            )
            for files in further
        ]

    def load(self, loadable):
        return True


def registerPlugins():
    """Make both plugins known to the DICOM module, which may be discovered later than this one."""
    if not hasattr(slicer.modules, "dicomPlugins"):
        slicer.modules.dicomPlugins = {}
    slicer.modules.dicomPlugins["CTPerfusionSequencePlugin"] = CTPerfusionSequencePlugin
    slicer.modules.dicomPlugins["CTPerfusionTimePointsPlugin"] = CTPerfusionTimePointsPlugin
