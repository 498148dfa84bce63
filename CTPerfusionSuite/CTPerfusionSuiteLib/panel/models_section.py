"""The folder of learned models: what is there, its card and checksums, import from a file, removal."""

import os

import qt
import slicer
from slicer.i18n import tr as _

from CTPerfusionSuiteLib.errors import SuiteError
from CTPerfusionSuiteLib.models import import_model, list_models, read_model, remove_model
from CTPerfusionSuiteLib.panel.suite_modules import broughtModels

SETTING = "CTPerfusionSuite/ModelFolder"


def modelFolder():
    """The models folder: a setting of this computer, by default beside Slicer's settings."""
    beside = os.path.join(os.path.dirname(slicer.app.userSettings().fileName()), "CTPerfusionSuite", "models")
    return slicer.util.settingsValue(SETTING, beside)


class ModelsSection:
    """Shows the models that came with the modules and those of the models folder; nothing is downloaded, no weights are opened here."""

    def __init__(self, ui):
        self.ui, self.models, self._broughtBy = ui, [], []
        table = ui.modelsTable
        table.setHorizontalHeaderLabels([_("Model"), _("Size"), _("Files"), _("From")])
        table.verticalHeader().hide()
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        for column in (1, 2):
            table.horizontalHeader().setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setStretchLastSection(True)
        ui.modelFolder.currentPath = modelFolder()
        ui.modelFolder.currentPathChanged.connect(self.onFolder)
        table.itemSelectionChanged.connect(self.updateChoice)
        ui.importModelButton.clicked.connect(self.onImport)
        ui.checkModelButton.clicked.connect(self.onCheck)
        ui.removeModelButton.clicked.connect(self.onRemove)
        self.update()

    def onFolder(self, path):
        qt.QSettings().setValue(SETTING, path)
        self.update()

    def update(self):
        """List the models again, without reading weights."""
        brought, folder = broughtModels(), self.ui.modelFolder.currentPath
        own = list_models(folder, compare=False) if folder else []
        self.models = [*(model for _title, model in brought), *own]
        self._broughtBy = [*(title for title, _model in brought), *("" for _model in own)]
        self._fill()

    def _fill(self, checked=()):
        table = self.ui.modelsTable
        table.setRowCount(len(self.models))
        for row, model in enumerate(self.models):
            state = _("damaged") if model.faults else _("intact") if model.folder in checked else _("not checked")
            origin = self._broughtBy[row] or _("imported")
            for column, text in enumerate((f"{model.name} {model.version}", f"{model.size_bytes / 1e6:.1f} MB", state, origin)):
                item = qt.QTableWidgetItem(text)
                item.setToolTip("; ".join(model.faults) or f"{model.task}\n{model.folder}")
                table.setItem(row, column, item)
        if self.models and table.currentRow() < 0:
            table.selectRow(0)
        self.updateChoice()

    def chosen(self):
        """The model of the selected row, or None."""
        row = self.ui.modelsTable.currentRow()
        return self.models[row] if 0 <= row < len(self.models) else None

    def updateChoice(self, *arguments):
        model, row = self.chosen(), self.ui.modelsTable.currentRow()
        title = self._broughtBy[row] if model is not None else ""
        self.ui.checkModelButton.enabled = model is not None
        self.ui.removeModelButton.enabled = model is not None and not title
        self.ui.removeModelButton.toolTip = (
            _("This model is a part of {module}; it goes when the extension is uninstalled.").format(module=title) if title
            else _("Delete the selected model from this computer.") if model is not None
            else _("Import and select a model first.")
        )
        # Untrusted text: shown as it is, never as a page that could load something.
        self.ui.modelCard.plainText = "" if model is None else "\n".join([*model.faults, model.card]).strip()
        self.ui.modelsLabel.text = (
            _("Models on this computer: {count}. The card of the selected one is below.").format(count=len(self.models)) if self.models
            else _("No models on this computer. Models trained elsewhere are imported as .zip files.")
        )

    def onImport(self, *arguments):
        path = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), _("Import a model"), "", _("Models") + " (*.zip)")
        if path:
            self.importFile(path)

    def importFile(self, path):
        """Unpack a model and select it; a refusal is shown."""
        try:
            with slicer.util.WaitCursor():
                model = import_model(path, self.ui.modelFolder.currentPath)
        except (SuiteError, OSError) as problem:
            slicer.util.errorDisplay(_("The model was not imported: {reason}.").format(reason=problem))
            return
        self.update()
        self.ui.modelsTable.selectRow([m.folder for m in self.models].index(model.folder))

    def onCheck(self, *arguments):
        """Compare every file of the chosen model with its checksum."""
        row, model = self.ui.modelsTable.currentRow(), self.chosen()
        try:
            with slicer.util.WaitCursor():
                self.models[row] = read_model(model.folder)
        except (SuiteError, OSError):
            self.update()
            return
        self._fill(checked=(model.folder,))

    def onRemove(self, *arguments):
        model = self.chosen()
        question = _("Delete the model {name} from this computer?").format(name=model.name)
        if slicer.util.confirmOkCancelDisplay(question, _("Remove model")):
            self.removeChosen()

    def removeChosen(self):
        """Delete the chosen model."""
        try:
            remove_model(self.chosen().folder, self.ui.modelFolder.currentPath)
        except (SuiteError, OSError) as problem:
            slicer.util.errorDisplay(_("The model was not removed: {reason}.").format(reason=problem))
        self.update()
