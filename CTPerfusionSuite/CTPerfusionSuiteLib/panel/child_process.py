"""The command line in a child process of Slicer: its progress as it comes, and a Cancel that leaves nothing running.

The child ends by itself when its input closes, which also happens when Slicer ends or crashes; one that does not is killed.
"""

import json
import os
import shutil
import sys

import qt
import slicer

GRACE_MS = 1600
"""How long a canceled child may clean up by itself before it is killed."""
LAST_WORDS = 2000


class ChildProcess:
    """One run of ``ctperfusion`` in Slicer's own Python.

    Parameters
    ----------
    words : list of str
        Arguments of ``ctperfusion``, with ``--progress json``.
    onProgress : callable(title, fraction)
        For every line of progress.
    onEnd : callable(exitCode, document, message)
        Once, whatever happens: the document of the "done" line or None, and for a failure one sentence for the user.
        A canceled run gives 130 and no message.
    """

    def __init__(self, words, onProgress, onEnd, module="CTPerfusionSuiteLib.cli"):
        self._onProgress, self._onEnd = onProgress, onEnd
        self._document, self._refusal, self._errors = None, None, ""
        self._canceled = False
        # With a parent the child dies with the application; there is no main window in batch mode.
        window = slicer.util.mainWindow()
        self._process = qt.QProcess(window) if window is not None else qt.QProcess()
        variables = qt.QProcessEnvironment.systemEnvironment()
        for name, value in childEnvironment().items():
            variables.insert(name, value)
        self._process.setProcessEnvironment(variables)
        self._process.readyReadStandardOutput.connect(self._readLines)
        self._process.readyReadStandardError.connect(self._readErrors)
        self._process.finished.connect(self._finished)
        self._process.errorOccurred.connect(self._failed)
        self._killer = qt.QTimer()
        self._killer.setSingleShot(True)
        self._killer.interval = GRACE_MS
        self._killer.timeout.connect(self._kill)
        self._process.start(pythonProgram(), ["-m", module, *words])

    @property
    def running(self):
        return self._process is not None

    def cancel(self):
        """Ask the child to end; returns at once, `onEnd` follows within two seconds."""
        if self._process is None or self._canceled:
            return
        self._canceled = True
        self._process.closeWriteChannel()
        self._killer.start()

    def stopNow(self):
        """End the child before returning: for the end of the application."""
        process = self._process
        if process is not None:
            self._canceled = True
            process.closeWriteChannel()
            if not process.waitForFinished(GRACE_MS):
                process.kill()
                process.waitForFinished(GRACE_MS)

    def _kill(self):
        if self._process is not None:
            self._process.kill()

    def _readLines(self):
        while self._process is not None and self._process.canReadLine():
            line = self._process.readLine().data().decode("utf-8", "replace")
            try:
                message = json.loads(line)
                event = message["event"]
            except (ValueError, TypeError, KeyError):
                continue  # a library printed something
            if event == "progress" and not self._canceled:
                self._onProgress(message["title"], float(message["fraction"]))
            elif event == "refused":
                self._refusal = message["message"]
            elif event == "done":
                self._document = message

    def _readErrors(self):
        if self._process is not None:
            text = self._process.readAllStandardError().data().decode("utf-8", "replace")
            self._errors = (self._errors + text)[-LAST_WORDS:]

    def _finished(self, *arguments):
        process = self._process
        if process is None:
            return
        self._readLines()
        self._readErrors()
        code = int(process.exitCode())
        crashed = process.exitStatus() == qt.QProcess.CrashExit
        if self._canceled:
            self._end(130, None, "")
        elif code == 0 and not crashed and self._document is not None:
            self._end(0, self._document, "")
        else:
            self._end(code or 3, None, self._refusal or _lastSentence(self._errors, crashed))

    def _failed(self, error):
        # A program that is missing never finishes; all other errors do.
        if self._process is not None and error == qt.QProcess.FailedToStart:
            self._end(3, None, "the analysis could not be started because Slicer's Python interpreter was not found; reinstall Slicer")

    def _end(self, code, document, message):
        process, self._process = self._process, None
        self._killer.stop()
        # What they are connected to would live as long as they do.
        self._killer.deleteLater()
        process.deleteLater()
        onEnd, self._onEnd, self._onProgress = self._onEnd, None, None
        onEnd(code, document, message)


def pythonProgram() -> str:
    """Path of Slicer's Python interpreter."""
    return shutil.which("PythonSlicer") or sys.executable


def childEnvironment() -> dict[str, str]:
    """What the child's environment needs beside ours: the folders of the suite's libraries on PYTHONPATH."""
    folders = []
    for entry in sys.path:
        if entry and any(os.path.isdir(os.path.join(entry, name)) for name in _libraries()):
            folders.append(os.path.abspath(entry))
    folders += [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path not in folders]
    return {"PYTHONPATH": os.pathsep.join(folders), "PYTHONIOENCODING": "utf-8"}


def _libraries() -> list[str]:
    return ["CTPerfusionSuiteLib", *(name for name in sys.modules if name.endswith("Lib") and "." not in name)]


def _lastSentence(errors: str, crashed: bool) -> str:
    """The last line the child wrote, without the name of the program; traces stay in the log."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    if lines and lines[-1].startswith("ctperfusion: "):
        return lines[-1].removeprefix("ctperfusion: ")
    if crashed:
        return "the analysis ended abruptly, which happens when memory runs out; close other programs or use fewer frames"
    return "the analysis failed; the application log holds the details"
