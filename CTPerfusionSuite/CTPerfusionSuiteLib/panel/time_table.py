"""The table of frame times: frame, seconds, interval and source; edited, pasted, and never nonsense."""

import re

import qt
from slicer.i18n import tr as _

from CTPerfusionSuiteLib.panel.tables import fillTable

SECONDS_COLUMN = 1


class TimeTable:
    """Shows and edits when each frame was scanned.

    Parameters
    ----------
    table : QTableWidget
    onTimes : callable(times, source)
        A complete, plausible list of seconds that the user entered, and where it comes from in words.
    say : callable(text)
        Why an entry was refused.
    """

    def __init__(self, table, onTimes, say):
        self._table, self._onTimes, self._say = table, onTimes, say
        self._times = []
        table.cellChanged.connect(self._edited)

    def show(self, times, source, frames=None):
        """Show times (seconds, a list; empty with `frames` unknown ones) and where they come from."""
        self._times = list(times) or [None] * (frames or 0)
        self._source = source
        self._fill()

    def paste(self, text):
        """Take one time a line (or separated by blanks, tabs or semicolons) for every frame."""
        words = [word for word in re.split(r"[\s;]+", text.strip()) if word]
        if len(words) == 1:
            words = [word for word in words[0].split(",") if word]
        try:
            times = [float(word.replace(",", ".")) for word in words]
        except ValueError:
            return self._refuse(_("what was pasted holds something that is no number; copy one time in seconds a frame"))
        if len(times) != len(self._times):
            text = _("{found} times were pasted for {frames} frames; copy one time in seconds a frame")
            return self._refuse(text.format(found=len(times), frames=len(self._times)))
        self._take(times, _("pasted by the user"))

    def setEvenSteps(self, seconds):
        """A constant step from frame to frame."""
        self._take([round(n * seconds, 6) for n in range(len(self._times))], _("even steps of {step:g} s").format(step=seconds))

    def _edited(self, row, column):
        if column != SECONDS_COLUMN or row >= len(self._times):
            return
        text = self._table.item(row, column).text().strip().replace(",", ".")
        try:
            seconds = float(text)
        except ValueError:
            return self._refuse(_("'{text}' is no number; enter the seconds of frame {frame}").format(text=text, frame=row + 1))
        times = [*self._times[:row], seconds, *self._times[row + 1 :]]
        if None in times:
            self._times = times
            missing = times.count(None)
            self._say(_("{missing} times are still missing; enter the seconds of every frame").format(missing=missing))
            return self._fill()
        self._take(times, _("edited by the user"))

    def _take(self, times, source):
        from CTPerfusionSuiteLib.time_axis import time_fault

        fault = time_fault(times) if times else _("there are no frames")
        if fault:
            return self._refuse(_("these times are no seconds of a bolus: {fault}").format(fault=fault))
        self._times, self._source = times, source
        self._fill()
        self._onTimes([float(time) for time in times], source)

    def _refuse(self, reason):
        self._say(reason)
        self._fill()

    def _fill(self):
        rows, last = [], None
        for frame, time in enumerate(self._times, start=1):
            interval = "" if time is None or last is None else f"{time - last:.2f}"
            rows.append((str(frame), "" if time is None else f"{time:.2f}", interval, self._source))
            last = time
        header = (_("Frame"), _("Seconds"), _("Interval (s)"), _("Source"))
        fillTable(self._table, header, rows, editable=(SECONDS_COLUMN,), tallest=220)
        self._table.setMinimumWidth(100)


def askStep():
    """The step in seconds a user types; 0 when there is none."""
    seconds = qt.QInputDialog.getDouble(None, _("Even steps"), _("Seconds from frame to frame:"), 0.0, 0.0, 30.0, 2)
    return float(seconds[0] if isinstance(seconds, tuple) else seconds)
