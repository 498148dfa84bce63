"""Work of the panel in small steps between the events of the window, so that nothing freezes."""

import time

import qt

SLICE_S = 0.01
"""How long steps run before the window gets its turn, seconds."""


class Stepwise:
    """Runs a generator that yields fractions of its work.

    Parameters
    ----------
    steps : generator
        Yields 0...1; its return value is the result.
    onProgress : callable(fraction)
    onEnd : callable(result, error)
        Once: the return value and None, or None and the exception.
    """

    def __init__(self, steps, onProgress, onEnd):
        self._steps, self._onProgress, self._onEnd = steps, onProgress, onEnd
        self._timer = qt.QTimer()
        self._timer.interval = 0
        self._timer.timeout.connect(self._advance)
        self._timer.start()

    def cancel(self):
        """Stop between two steps; the generator is closed and `onEnd` is not called."""
        self._release()
        if self._steps is not None:
            steps, self._steps = self._steps, None
            steps.close()

    def finish(self):
        """Do the rest at once; `onEnd` is called before this returns."""
        while self._steps is not None:
            self._advance()

    def _advance(self):
        began = time.perf_counter()
        while self._steps is not None and time.perf_counter() - began < SLICE_S:
            try:
                fraction = next(self._steps)
            except StopIteration as end:
                return self._end(end.value, None)
            except Exception as problem:
                return self._end(None, problem)
            if self._steps is not None:
                self._onProgress(fraction)

    def _end(self, result, error):
        self._steps = None
        onEnd = self._onEnd
        self._release()
        onEnd(result, error)

    def _release(self):
        """Let go of all that was called: a timer holds what it is connected to, beyond the reach of Python's collector."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.stop()
            timer.deleteLater()
        self._onProgress = self._onEnd = None
