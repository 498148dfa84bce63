"""Which network segments: a chooser, its card as plain text, whether its files are what their author packed, and what is recommended."""

import json
from dataclasses import replace
from functools import lru_cache

from slicer.i18n import tr as _

from CTPerfusionSuiteLib.errors import RequestRefused, SuiteError
from CTPerfusionSuiteLib.models import METADATA, read_model
from CTPerfusionSuiteLib.panel.models_section import modelFolder
from CTPerfusionSuiteLib.panel.section import Section

from ..mrml_stroke_readiness import modelNamed
from ..recommendation import recommendation
from ..shipped_models import stroke_models

LARGEST_CHECKED = 64 * 1024**2
"""Larger models are compared with their checksums by the run only, so that the window does not wait; bytes."""


def modelsHere(chosen=None):
    """Models for this module on this computer, the shipped ones first; the files of the `chosen` one are compared with their checksums."""
    models = stroke_models(modelFolder())
    named = modelNamed(chosen, models) if chosen is not None else None
    return [examined(model) if model is named else model for model in models]


def chosenModel(name):
    """The model that the settings name.

    Raises
    ------
    RequestRefused
        It is not on this computer.
    """
    model = modelNamed(name, modelsHere())
    if model is None:
        raise RequestRefused(f"the model '{name}' is not on this computer; choose another one")
    return model


def examined(model):
    """The model with what is wrong with its files, unless they are too large; they are read again only after they changed."""
    if model.size_bytes > LARGEST_CHECKED:
        return model
    try:
        files = sorted(path for path in model.folder.rglob("*") if path.is_file())
        return _compared(model.folder, tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in files))
    except (SuiteError, OSError) as problem:
        return replace(model, faults=(*model.faults, str(problem)))


@lru_cache(maxsize=8)
def _compared(folder, _stamps):
    return read_model(folder)


def descriptionOf(model):
    """The metadata of a model; empty where they cannot be read, which recommends the maps."""
    try:
        description = json.loads((model.folder / METADATA).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return description if isinstance(description, dict) else {}


class ModelSection(Section):
    """Shows the chosen model.  A card is untrusted text: shown as it is, never as a page that could load something.

    Attributes
    ----------
    models : list of Model
        Those of this computer.
    description : dict or None
        Metadata of the chosen model; None where none is chosen.
    """

    def __init__(self, panel, ui):
        super().__init__(panel, ui)
        self.models, self.description, self._shown, self._updating = [], None, None, False
        # The models are listed when the panel is entered, not at every change.
        panel.whatIsMissing = lambda settings: panel.logic.whatIsMissing(settings, self.models)
        ui.modelCombo.currentIndexChanged.connect(self._onModel)

    def settingsChanged(self):
        """The panel was entered: list the models again."""
        if self._panel.settings is None:
            return
        self._shown, self._updating = None, True
        self.models = modelsHere(self._panel.settings.model)
        self._ui.modelCombo.clear()
        self._ui.modelCombo.addItems([f"{model.name} {model.version}".strip() for model in self.models])
        self._updating = False

    def update(self):
        settings = self._panel.settings
        if not settings.model and self.models:
            settings.model = self.models[0].name
            return  # comes back with the change
        if settings.model == self._shown:
            return
        self._shown = settings.model
        self.models = [examined(model) if model.name == settings.model else model for model in self.models]
        model = modelNamed(settings.model, self.models)
        self._ui.modelStateLabel.text = self._state(model)
        self._updating = True
        self._ui.modelCombo.currentIndex = self.models.index(model) if model is not None else -1
        self._updating = False
        self._ui.modelCombo.enabled = bool(self.models)
        self.description = descriptionOf(model) if model is not None else None
        self._ui.recommendationLabel.text = recommendation(self.description) if model is not None else ""
        self._ui.recommendationLabel.setVisible(model is not None)
        self._ui.modelCard.plainText = model.card.strip() if model is not None else ""
        self._ui.cardGroup.enabled = model is not None

    def _state(self, model):
        """Whether its files are what its author packed, in words."""
        if not self.models:
            return _("No model on this computer. Import one in CT Perfusion Suite, or train one with: ctperfusion stroke train")
        if model is None:
            return _("The model {name} is not on this computer.").format(name=self._panel.settings.model)
        if model.faults:
            return _("Damaged, will not run: {faults}.").format(faults="; ".join(model.faults))
        if model.size_bytes > LARGEST_CHECKED:
            return _("{size:.0f} MB; its checksums are compared when it runs.").format(size=model.size_bytes / 1e6)
        return _("Intact: every file has the checksum its author gave.")

    def _onModel(self, *arguments):
        if not self._updating and self._panel.settings is not None and self._ui.modelCombo.currentIndex >= 0:
            self._panel.settings.model = self.models[self._ui.modelCombo.currentIndex].name
