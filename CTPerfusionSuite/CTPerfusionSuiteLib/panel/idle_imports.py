"""Libraries imported while the user reads the panel, one at a time, so that neither opening it nor the first run waits for them."""

import importlib
import sys

import qt

PAUSE_MS = 60
"""Between two libraries the window has this long for itself, milliseconds."""


class IdleImports:
    """Imports modules by name in the pauses of the event loop; one that is missing is told by whoever needs it.

    Parameters
    ----------
    names : sequence of str
    """

    def __init__(self, names):
        self._names = list(names)
        self._timer = qt.QTimer()
        self._timer.interval = PAUSE_MS
        self._timer.timeout.connect(self._next)

    def start(self):
        """Go on with what is not imported yet."""
        if self._names:
            self._timer.start()

    def stop(self):
        self._timer.stop()

    def _next(self):
        while self._names and self._names[0] in sys.modules:
            self._names.pop(0)
        if not self._names:
            self._timer.stop()
            return
        try:
            importlib.import_module(self._names.pop(0))
        except ImportError:
            self._names.clear()
