"""How long a window waits for its turn, and an application of its own in which that is measured as a user meets it: cold."""

import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START = f"""
import sys
sys.path[:0] = [{str(ROOT / "Testing")!r}, {str(Path(__file__).parent)!r}]
from SlicerHost import launch
host = launch.start([{", ".join(repr(str(ROOT / name)) for name in ("CTPerfusionSuite", "PerfusionMaps", "StrokeSegmentation"))}])
"""
"""Code that begins a fresh application with every module; `host` is its stand-in for Slicer."""


def own_time():
    """Seconds on the clock, less those in which this thread was ready but other programs had the processors (Linux tells)."""
    try:
        waited = int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        waited = 0.0
    return time.perf_counter() - waited


@contextmanager
def waits(label):
    """Within the block, a list of (seconds without a turn, `label()` after them) of a timer of 5 ms."""
    import qt

    found, last = [], [own_time()]

    def tick():
        now = own_time()
        found.append((now - last[0], label()))
        last[0] = now

    timer = qt.QTimer()
    timer.interval = 5
    timer.timeout.connect(tick)
    timer.start()
    yield found
    timer.stop()


def printed_by(code, *arguments):
    """What code prints in a fresh interpreter; it fails with the code's own words."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
