"""Seeds that nobody can tune to: drawn from the hash of the commit that is measured."""

import hashlib
import subprocess
from pathlib import Path

import numpy as np


def seeds(count: int, purpose: str) -> list[int]:
    """`count` seeds for a benchmark called `purpose`, another set after every commit."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "no commit"
    digest = hashlib.sha256(f"{commit} {purpose}".encode()).digest()
    return [int(n) for n in np.random.default_rng(int.from_bytes(digest[:8], "big")).integers(1, 2**31 - 1, count)]


def spread(values) -> str:
    """Median and 5th percentile in print."""
    values = np.asarray([v for v in values if v is not None and np.isfinite(v)], float)
    return (
        "none" if not values.size else f"median {np.median(values):.3f}, 5th percentile {np.percentile(values, 5):.3f} (n = {values.size})"
    )
