"""Time of 256 x 256 x 16 x 60 in memory, and peak memory and linearity of 512 x 512 from DICOM."""

import gc
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from command_cost import command_cost

from CTPerfusionSuiteLib.phantoms.brain import BrainOptions, simulate_brain
from CTPerfusionSuiteLib.phantoms.dicom_styles import write_dicom_study
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries
from PerfusionMapsLib.analysis_request import AnalysisRequest
from PerfusionMapsLib.pipeline import analyze


def in_memory(repeats: int = 5) -> None:
    """Best of `repeats` runs without and with motion correction, seconds."""
    study = simulate_brain(BrainOptions(size=(256, 256), slices=16, slice_mm=5.0, frames=60, dt_s=1.0, seed=5))
    for motion, limit in ((False, 5.0), (True, 20.0)):
        best = np.inf
        for _ in range(repeats):
            series = study.series.with_values(study.series.values.copy())
            gc.collect()
            began = time.perf_counter()
            analyze(series, AnalysisRequest(motion_correction=motion))
            best = min(best, time.perf_counter() - began)
        print(f"  256x256x16x60, motion correction {'on' if motion else 'off'}: {best:.1f} s (at most {limit:g})", flush=True)


def from_dicom(slices: int, frames: int = 30, moved: bool = False) -> tuple[float, float, float]:
    """(seconds, peak bytes, stored bytes) of a 512 x 512 study of `slices` slices from DICOM, in a process of its own.

    The head lies still, or moves by a few pixels after 40 % of the scan, so that all later frames are resampled.
    """
    small = simulate_brain(BrainOptions(size=(128, 128), slices=8, frames=frames, dt_s=2.0, seed=6)).series
    values = np.repeat(np.repeat(np.repeat(small.values, 4, axis=2), 4, axis=3), slices // 8, axis=1)
    rng = np.random.default_rng(6)
    for frame in values:
        frame += rng.normal(0.0, 5.0, frame.shape).astype(np.int16)
    if moved:
        values[2 * frames // 5 :] = np.roll(values[2 * frames // 5 :], (3, 2), axis=(2, 3))
    g = small.geometry
    geometry = Geometry((512, 512, slices), (g.spacing[0] / 4, g.spacing[1] / 4, 40.0 / slices), g.origin, g.direction)
    with tempfile.TemporaryDirectory() as folder:
        write_dicom_study(TimeSeries(values, geometry, small.times), Path(folder) / "dicom", style="siemens", seed=6)
        stored = values.nbytes
        del values
        seconds, peak = command_cost("maps", "--dicom_dir", Path(folder) / "dicom", "--out_dir", Path(folder) / "out")
    return seconds, peak, stored


def main() -> None:
    """Print both parts."""
    print(f"Large studies on {os.cpu_count()} cores")
    in_memory()
    previous = None
    for slices, moved in ((16, False), (32, False), (64, False), (64, True)):
        seconds, peak, stored = from_dicom(slices, moved=moved)
        growth = "" if previous is None or moved else f", {seconds / previous:.2f} x the time of half the slices"
        print(
            f"  512x512x{slices}x30{', moved,' if moved else ''} from DICOM to report: {seconds:.0f} s, "
            f"peak memory {peak / stored:.2f} x the stored series (at most 3){growth}",
            flush=True,
        )
        previous = seconds


if __name__ == "__main__":
    main()
