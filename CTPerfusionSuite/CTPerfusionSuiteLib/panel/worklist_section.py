"""The worklist: what lies in a folder of DICOM files, and the module that analyzes it."""

import qt
from slicer.i18n import tr as _

from CTPerfusionSuiteLib.panel.child_process import ChildProcess
from CTPerfusionSuiteLib.panel.series_reading import SeriesReading
from CTPerfusionSuiteLib.panel.suite_modules import ModuleChoice, openIn, plainTitle


class WorklistSection:
    """Searches a folder in a child process (headers only), lists the series, opens the chosen one in its module.

    Parameters
    ----------
    ui : widgets of the panel by name
    showsAll : callable() -> bool
        Whether series that no module takes are listed too.
    """

    def __init__(self, ui, showsAll):
        self.ui, self._showsAll = ui, showsAll
        self._work = None
        self.entries, self._shown = [], []
        table = ui.worklistTable
        table.setHorizontalHeaderLabels([_("Kind"), _("Series"), _("Study")])
        table.verticalHeader().hide()
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header = table.horizontalHeader()
        header.setSectionResizeMode(0, qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(1, qt.QHeaderView.Stretch)
        header.setSectionResizeMode(2, qt.QHeaderView.ResizeToContents)
        ui.searchButton.clicked.connect(self.onSearch)
        self.modules = ModuleChoice(ui.openButton, ui.openModule, self.onOpen)
        ui.studyFolder.currentPathChanged.connect(self.onFolderChanged)
        table.itemSelectionChanged.connect(self.updateChoice)
        table.itemDoubleClicked.connect(self.onOpen)
        self.updateSearch()
        self.updateChoice()

    @property
    def running(self):
        return self._work is not None

    def cleanup(self):
        if self._work is not None:
            self._work.stopNow()

    def sceneCloses(self):
        """A series that is being read was meant for the scene that closes."""
        if isinstance(self._work, SeriesReading):
            self._work.cancel()

    def onFolderChanged(self, *arguments):
        self.updateSearch()

    def updateSearch(self):
        chosen = bool(self.ui.studyFolder.currentPath)
        self.ui.searchButton.enabled = self.running or chosen
        self.ui.searchButton.text = _("Cancel") if self.running else _("Search")
        self.ui.searchButton.toolTip = (
            _("Stop reading.") if self.running
            else _("Read the headers of all DICOM files below the folder; no image is loaded.") if chosen
            else _("Choose a folder with DICOM files first.")
        )
        self.ui.worklistProgress.visible = self.running

    def onSearch(self, *arguments):
        if self.running:
            self._work.cancel()
            return
        self.ui.studyFolder.addCurrentPathToHistory()
        self.setEntries([])
        words = ["worklist", "--dicom_dir", self.ui.studyFolder.currentPath, "--progress", "json"]
        self._begin(_("Reading headers..."), ChildProcess(words, self._onProgress, self._onFound))

    def _begin(self, doing, work):
        self.ui.worklistProgress.value = 0
        self._work = work
        self.updateSearch()
        self.updateChoice()
        self.ui.worklistLabel.text = doing

    def _onProgress(self, title, fraction):
        self.ui.worklistProgress.value = int(100 * fraction)

    def _onFound(self, code, document, message):
        if code == 0:
            self.setEntries(document["entries"])
        self._ended(None if code == 0 else "" if code == 130 else message or _("the folder could not be read"))

    def _ended(self, refusal):
        """Nothing is under way any more; after a cancel ("") or a refusal say so."""
        self._work = None
        self.updateSearch()
        self.updateChoice()
        if refusal is not None:
            self.ui.worklistLabel.text = _sentence(refusal) if refusal else _("Canceled.")

    def setEntries(self, entries):
        """List what was found, as `WorklistEntry.as_dict` gives it."""
        self.entries = list(entries)
        self.updateTable()

    def updateTable(self):
        """Fill the table with the series to be shown."""
        table = self.ui.worklistTable
        self._shown = [entry for entry in self.entries if entry["modules"] or self._showsAll()]
        table.setRowCount(0)
        table.setRowCount(len(self._shown))
        for row, entry in enumerate(self._shown):
            kind = entry["kind"].capitalize().replace(" ", "\n", 1)
            where = "\n".join(filter(None, (entry["study"], entry["place"])))
            texts = (kind, f"{entry['description']}\n{entry['size']}", where)
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(f"{entry['reason'].capitalize()}.\n{entry['shown_folder']}")
                table.setItem(row, column, item)
        if self._shown:
            table.selectRow(0)
        self.updateChoice()

    def chosen(self):
        """The entry of the selected row, or None."""
        row = self.ui.worklistTable.currentRow()
        return self._shown[row] if 0 <= row < len(self._shown) else None

    def updateChoice(self, *arguments):
        entry = self.chosen()
        self.modules.offer(entry["modules"] if entry else (), not self.running)
        if entry is not None:
            self.ui.worklistLabel.text = f"{_sentence(entry['reason'])} {self._whoReads(entry)}".strip()
        elif self.entries:
            self.ui.worklistLabel.text = _("{count} series, none that a module analyzes; show all to see why.").format(
                count=len(self.entries)
            )
        elif not self.running:
            self.ui.worklistLabel.text = _("Perfusion, non-contrast and heart series are recognized from their headers.")

    def _whoReads(self, entry):
        """A sentence about the modules for a series that none of those here can open."""
        if self.modules.chosen():
            return ""
        if not entry["modules"]:
            return _("No module of the suite analyzes series of this kind.")
        names = _(" or ").join(map(plainTitle, entry["modules"]))
        return _("The module for such series, {names}, is not part of this installation yet.").format(names=names)

    def onOpen(self, *arguments):
        """Read the chosen series into the scene, then show it in the chosen module."""
        entry, module = self.chosen(), self.modules.chosen()
        if self.running or entry is None or not module:
            return

        def onEnd(sequence, message):
            self._ended(message if sequence is None else None)
            if sequence is not None:
                openIn(module, sequence)

        name = f"{entry['description']} - CT perfusion sequence"
        reading = SeriesReading(entry["folder"], name, self._onProgress, onEnd, entry["series_uid"])
        self._begin(_("Reading the series..."), reading)


def _sentence(message):
    return message[:1].upper() + message[1:] + "."
