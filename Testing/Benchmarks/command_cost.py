"""What a command costs a user: its time and its peak memory, in a process of its own."""

import json
import subprocess
import sys

MEASURE = """
import json, sys, time
from CTPerfusionSuiteLib.cli import main
began = time.perf_counter()
code = main(sys.argv[1:])
seconds = time.perf_counter() - began
try:
    # The high-water mark of this process alone; ru_maxrss would also count its parent before exec.
    peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
except OSError:
    import psutil
    peak = getattr(psutil.Process().memory_info(), "peak_wset", psutil.Process().memory_info().rss)
print(json.dumps([code, seconds, peak]))
"""


def command_cost(*words) -> tuple[float, float]:
    """Seconds and peak bytes of `ctperfusion` with some arguments.

    Raises
    ------
    SystemExit
        The command failed.
    """
    command = [sys.executable, "-c", MEASURE, *map(str, words), "--progress", "none"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    code, seconds, peak = json.loads(done.stdout.strip().splitlines()[-1])
    if code:
        raise SystemExit(f"ctperfusion {words[0]} ended with exit code {code}: {done.stderr.strip()}")
    return seconds, peak
