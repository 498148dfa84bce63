"""Run every benchmark, one after the other."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NOT_BENCHMARKS = {"run_all.py", "benchmark_seeds.py", "command_cost.py"}

if __name__ == "__main__":
    failed = []
    for path in sorted(HERE.glob("*.py")):
        if path.name not in NOT_BENCHMARKS:
            print(f"== {path.stem.replace('_', ' ')}", flush=True)
            if subprocess.run([sys.executable, str(path)], cwd=HERE).returncode:
                failed.append(path.name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
