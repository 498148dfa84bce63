"""The panel of StrokeSegmentation: its sections, from the series and the model to the lesions."""

from slicer.i18n import tr as _

from CTPerfusionSuiteLib.panel.analysis_panel import AnalysisPanel, Sentences
from CTPerfusionSuiteLib.panel.folder_loading import FolderLoading
from CTPerfusionSuiteLib.panel.inputs_section import InputsSection
from CTPerfusionSuiteLib.panel.result_opening import ResultOpening

from .model_section import ModelSection
from .origin_notice import OriginNotice
from .results_section import ResultsSection
from .stroke_analysis import STROKE
from .torch_section import TorchSection


def strokePanel(widget):
    """The `AnalysisPanel` for the module's widget, which has `ui` and `logic`."""
    sentences = Sentences(
        ready=_("Segment penumbra and core in the background (about a minute); the window stays usable."),
        done=_("Done."),
        elsewhere=_("The segmentation of {study} is ready; choose its series to see it."),
    )
    return AnalysisPanel(widget, STROKE, sentences, _sections)


def _sections(panel):
    ui = panel.ui
    panel.models, panel.results = ModelSection(panel, ui), ResultsSection(panel, ui)
    first = [section(panel, ui) for section in (TorchSection, InputsSection, FolderLoading)]
    return [*first, panel.models, panel.results, OriginNotice(panel, ui), ResultOpening(panel, ui, ui.openingLabel)]
