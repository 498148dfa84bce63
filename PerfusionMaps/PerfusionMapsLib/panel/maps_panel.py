"""The panel of PerfusionMaps: its sections, from the series to the saved result."""

from slicer.i18n import tr as _

from CTPerfusionSuiteLib.panel.analysis_panel import AnalysisPanel, Sentences
from CTPerfusionSuiteLib.panel.folder_loading import FolderLoading
from CTPerfusionSuiteLib.panel.inputs_section import InputsSection

from .anatomy_section import AnatomySection
from .edit_section import EditSection
from .export_section import ExportSection
from .maps_analysis import MAPS
from .metrics_section import MetricsSection
from .results_section import ResultsSection
from .vessels_section import VesselsSection


def mapsPanel(widget):
    """The `AnalysisPanel` for the module's widget, which has `ui` and `logic`."""
    sentences = Sentences(
        ready=_("Compute the maps in the background (about a minute); the window stays usable."),
        done=_("Done. Research use only."),
        elsewhere=_("The maps of {study} are ready; choose its series to see them."),
    )
    return AnalysisPanel(widget, MAPS, sentences, _sections)


def _sections(panel):
    ui = panel.ui
    panel.results, panel.metrics, panel.vessels = ResultsSection(panel, ui), MetricsSection(panel, ui), VesselsSection(panel, ui)
    first = [section(panel, ui) for section in (InputsSection, FolderLoading, AnatomySection, EditSection, ExportSection)]
    return [*first, panel.vessels, panel.results, panel.metrics]
