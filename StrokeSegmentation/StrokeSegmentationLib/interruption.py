"""The wish to stop, kept until work is at a point where it can be stopped without loss."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from CTPerfusionSuiteLib.errors import Canceled

SIGNALS = ("SIGINT", "SIGTERM", "SIGBREAK")
"""Ctrl-C, a scheduler's wish, and Ctrl-Break on Windows."""
INSISTENT_S = 2.0
"""Who asks again after so long does not want to wait for the end of a step."""


@contextmanager
def stopping_between_steps() -> Iterator[Callable[[], None]]:
    """Hold back Ctrl-C and SIGTERM within the block.

    Outside the main thread, where Python handles no signals, nothing is held back.

    Yields
    ------
    callable
        To be called between steps; raises `Canceled` once somebody wished to stop.
    """
    asked: list[float] = []

    def note(number, frame):
        if asked and time.monotonic() - asked[0] > INSISTENT_S:
            raise KeyboardInterrupt
        asked.append(time.monotonic())

    def check() -> None:
        if asked:
            raise Canceled("canceled")

    earlier = {}
    if threading.current_thread() is threading.main_thread():
        for number in (getattr(signal, name) for name in SIGNALS if hasattr(signal, name)):
            if signal.getsignal(number) not in (None, signal.SIG_IGN):
                earlier[number] = signal.signal(number, note)
    try:
        yield check
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
