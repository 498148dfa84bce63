"""How a command tells its user where it is: a bar for people, JSON lines for a panel, nothing for scripts.

With JSON lines the parent holds the other end of our stdin: when it closes (Cancel, or the parent died) the work stops.
"""

import json
import os
import shutil
import stat
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from .errors import Canceled, SuiteError

STYLES = ("bar", "json", "none")
GRACE_S = 1.2
"""How long canceled work may take to clean up by itself, seconds."""


class Console:
    """Announces steps and their progress, and carries the wish to stop.

    Parameters
    ----------
    style : {"bar", "json", "none"}
        ``bar`` draws on stderr, ``json`` prints one JSON line a step on stdout.
    """

    def __init__(self, style: str = "bar"):
        self.style = style
        self.partial_folders: list[Path] = []
        self.timings_s: dict[str, float] = {}
        self._canceled = threading.Event()
        self._finished = False
        self._drawing = threading.Lock()
        self._title, self._began, self._shown = "", 0.0, -1.0
        self._live = style == "bar" and sys.stderr.isatty()
        if style == "json":
            self._watch_stdin()

    def step(self, name: str, title: str) -> Callable[[float], None]:
        """Begin a step; the result is its `Progress`.

        Parameters
        ----------
        name : str
            Short and stable, for programs ("motion").
        title : str
            For people ("Correcting motion").
        """
        self._finish_step()
        self._name, self._title, self._began, self._shown = name, title, time.perf_counter(), -1.0

        def progress(fraction: float) -> None:
            if self._canceled.is_set():
                raise Canceled("canceled")
            with self._drawing:  # steps report from their worker threads
                self._show(min(max(float(fraction), 0.0), 1.0))

        progress(0.0)
        return progress

    def finish(self, **result) -> None:
        """End the last step; with JSON lines, hand `result` to the parent."""
        self._finish_step()
        self._finished = True
        if self.style == "json":
            self._emit({"event": "done", **result})

    @contextmanager
    def telling_refusals(self):
        """Around a command's work: a refusal is also told to the parent (people read it on stderr)."""
        try:
            yield
        except SuiteError as problem:
            if self.style == "json":
                self._emit({"event": "refused", "message": str(problem), "exit_code": problem.exit_code})
            elif self._live:
                print(file=sys.stderr)
            raise

    def _finish_step(self) -> None:
        if self._title:
            self._show(1.0)
            self.timings_s[self._name] = round(time.perf_counter() - self._began, 3)
            self._title = ""

    def _show(self, fraction: float) -> None:
        if fraction - self._shown < (0.02 if fraction < 1.0 else 1e-9) and self._shown >= 0:
            return
        if self.style == "json":
            self._emit({"event": "progress", "step": self._name, "title": self._title, "fraction": round(fraction, 3)})
        elif self._live:
            width = max(10, min(40, shutil.get_terminal_size().columns - 45))
            filled = int(width * fraction)
            end = f" {time.perf_counter() - self._began:5.1f} s\n" if fraction >= 1.0 else ""
            print(f"\r{self._title:32s} [{'#' * filled}{'.' * (width - filled)}] {fraction:4.0%}{end}", end="", file=sys.stderr, flush=True)
        elif self.style == "bar" and fraction >= 1.0:
            print(f"{self._title:32s} {time.perf_counter() - self._began:5.1f} s", file=sys.stderr, flush=True)
        self._shown = fraction

    def _emit(self, document: dict) -> None:
        try:
            sys.stdout.write(json.dumps(document) + "\n")
            sys.stdout.flush()
        except (BrokenPipeError, OSError, ValueError):
            self._canceled.set()

    def _watch_stdin(self) -> None:
        # Only a pipe has somebody at the other end; a terminal or the null device says nothing about a parent.
        try:
            watched = stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode)
        except (AttributeError, OSError, ValueError):
            return
        if watched:
            threading.Thread(target=self._wait_for_parent, args=(sys.stdin.fileno(),), daemon=True).start()

    def _wait_for_parent(self, descriptor: int) -> None:
        try:
            while os.read(descriptor, 4096):
                pass
        except OSError:
            pass
        self._canceled.set()
        time.sleep(GRACE_S)
        if self._finished:
            return
        # The main thread sits in a long call: clean up for it and go.
        for folder in self.partial_folders:
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(Canceled.exit_code)
