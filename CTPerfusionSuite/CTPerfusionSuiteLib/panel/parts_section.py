"""What is installed and what is missing for each module, and its installation when the user asks for it."""

import qt
import slicer
from slicer.i18n import tr as _

from CTPerfusionSuiteLib.doctor import MODULE_PARTS, installed_version
from CTPerfusionSuiteLib.panel.install_box import ensurePackages, installTorch
from CTPerfusionSuiteLib.panel.suite_modules import moduleTitle

TORCH = "torch"


class PartsSection:
    """Lists every module's parts; installs Python packages through Slicer, PyTorch through its extension.

    Parameters
    ----------
    ui : widgets of the panel by name
    requirementsFile : str
        Packages that may be installed, with versions.
    """

    def __init__(self, ui, requirementsFile):
        self.ui, self._requirementsFile = ui, requirementsFile
        table = ui.partsTable
        table.setHorizontalHeaderLabels([_("Part"), _("Version"), _("For")])
        table.verticalHeader().hide()
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(1, qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setStretchLastSection(True)
        ui.installButton.clicked.connect(self.onInstall)
        ui.torchButton.clicked.connect(self.onInstallTorch)
        self.update()

    def parts(self):
        """(part, version or None, purpose, needed, [titles of modules]) of every part a module can use, needed ones first."""
        found = {}
        for title, parts in _partsOfModules():
            for name, purpose, needed in parts:
                entry = found.setdefault(name, [name, installed_version(name), purpose, needed, []])
                entry[3] = entry[3] or needed
                entry[4].append(title)
        return sorted(map(tuple, found.values()), key=lambda part: not part[3])

    def missing(self):
        """Requirements of missing parts that `slicer.packaging` may install: never what would replace Slicer's own, nor PyTorch."""
        wanted = {name.lower() for name, version, *_rest in self.parts() if not version}
        with open(self._requirementsFile, encoding="utf-8") as file:
            lines = [line.strip() for line in file if not line.startswith("#")]
        return [line for line in lines if line.partition(">")[0].lower() in wanted]

    def update(self):
        """Look again at what is there."""
        parts, table = self.parts(), self.ui.partsTable
        table.setRowCount(len(parts))
        for row, (name, version, purpose, needed, modules) in enumerate(parts):
            for column, text in enumerate((name, version or _("missing"), purpose)):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(f"{purpose}\n{_('Used by')}: {', '.join(modules)}")
                if not version:
                    item.setForeground(qt.QBrush(qt.QColor(200, 60, 40) if needed else qt.QColor(150, 110, 0)))
                table.setItem(row, column, item)
        self.ui.partsLabel.text = "\n".join(_stateOfModule(title, parts) for title, parts in _partsOfModules())
        missing = self.missing()
        self.ui.installButton.enabled = bool(missing)
        self.ui.installButton.toolTip = (
            _("Asks, then installs into Slicer's Python: {parts}").format(parts=", ".join(missing)) if missing
            else _("All Python packages that may be installed from here are there.")
        )
        torch = [version for name, version, *_rest in parts if name == TORCH]
        self.ui.torchButton.visible = bool(torch)
        self.ui.torchButton.enabled = torch == [None]
        self.ui.torchButton.toolTip = (
            _("Asks, then installs PyTorch through Slicer's PyTorch extension.") if torch == [None]
            else _("PyTorch is installed.")
        )

    def onInstall(self, *arguments):
        """Install what is missing; Slicer asks first."""
        try:
            complete = ensurePackages(self.missing(), "CT Perfusion Suite")
        except Exception as problem:  # whatever pip and the network do, the panel stays usable
            slicer.util.errorDisplay(_("The packages could not be installed. Check the network, or ask for help with the details."),
                                     detailedText=str(problem))
            complete = False
        self.update()
        if not complete:
            self.ui.partsLabel.text += "\n" + _("Not everything was installed; what is missing stays unavailable.")

    def onInstallTorch(self, *arguments):
        """Install PyTorch through Slicer's own extension for it."""
        first = installTorch()
        if first:
            self.ui.partsLabel.text = first
        else:
            self.update()


def _partsOfModules():
    """[(title, parts)] of the modules that are there."""
    return [(moduleTitle(name), parts) for name, parts in MODULE_PARTS.items() if moduleTitle(name)]


def _stateOfModule(title, parts):
    """One line: ready, and what it could do more; or what it cannot work without."""
    missing = [(name, purpose, needed) for name, purpose, needed in parts if not installed_version(name)]
    needed = [name for name, _purpose, isNeeded in missing if isNeeded]
    if needed:
        return _("{module}: not ready, {parts} missing.").format(module=title, parts=", ".join(needed))
    if missing:
        return _("{module}: ready, without {purposes}.").format(module=title, purposes="; ".join(purpose for _name, purpose, _n in missing))
    return _("{module}: ready, nothing is missing.").format(module=title)
