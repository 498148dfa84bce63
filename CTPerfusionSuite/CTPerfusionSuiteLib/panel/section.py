"""One section of a module's panel."""


class Section:
    """What an `AnalysisPanel` tells its sections; each overrides what concerns it.

    Parameters
    ----------
    panel : AnalysisPanel
    ui : widgets of the panel by name
    """

    def __init__(self, panel, ui):
        self._panel, self._ui = panel, ui

    def settingsChanged(self):
        """Another scene or none: `panel.settings` is another parameter node, or None while the module is left."""

    def update(self):
        """A setting changed: show what the parameter node says."""

    def flush(self):
        """The scene is about to be saved: finish what was put off."""

    def cleanup(self):
        """The panel is going."""
