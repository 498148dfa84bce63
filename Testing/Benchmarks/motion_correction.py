"""Benchmark of motion correction: residual displacement, false motion, dropped frames, time.

    python Testing/Benchmarks/motion_correction.py [--seeds N] [--quick]

The head is a formula sampled in each pose (`moving_analytic_head`), so nothing is interpolated but what is measured.  Times are the
best of three runs, wall clock and processor seconds; the latter over the cores is what an idle machine needs.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "Python"))

from moving_analytic_head import Scan, head_points, pose, series

from CTPerfusionSuiteLib.registration import correct_motion, estimate_motion

SCANS = {
    "8 x 5 mm": Scan(),
    "8 x 5 mm, vertex": Scan(level_mm=50.0),
    "8 x 5 mm, base": Scan(level_mm=-20.0),
    "16 x 5 mm": Scan(slices=16, level_mm=5.0),
    "4 x 5 mm": Scan(slices=4, level_mm=20.0),
    "4 x 10 mm": Scan(slices=4, slice_mm=10.0, level_mm=15.0),
    "32 x 2.5 mm": Scan(slices=32, slice_mm=2.5, level_mm=5.0),
}


def drawn(rng, scan, most_mm, most_deg, least=0.2):
    """A pose in a random direction, up to `most_mm` and `most_deg`."""
    shift, turn = rng.standard_normal((2, 3))
    shift *= most_mm * rng.uniform(least, 1.0) / np.linalg.norm(shift)
    turn *= most_deg * rng.uniform(least, 1.0) / np.linalg.norm(turn)
    return pose(shift, turn, scan)


def accuracy(name, scan, seeds, most_mm=8.0, most_deg=5.0, noise_hu=8.0, artery_hu=400.0, moved=8):
    """Print one row: errors of moved frames over the head, false motion of still ones, frames dropped rightly and wrongly."""
    errors, false_mm, false_deg, wrongly, caught, blurred = [], [], [], 0, 0, 0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        rest = pose(scan=scan)
        poses = [rest] * 6
        for _ in range(moved):
            poses += [drawn(rng, scan, most_mm, most_deg), rest]
        jolt = drawn(rng, scan, 7.0, 4.0, least=0.7)
        poses += [(rest, jolt), rest]
        motion = estimate_motion(series(scan, poses, artery_hu, noise_hu, 60.0 / len(poses), seed))
        points = head_points(scan, seed=seed)
        for t, true in enumerate(poses):
            if isinstance(true, tuple):
                caught, blurred = caught + bool(motion.bad[t, 0]), blurred + 1
            elif true is rest:
                false_mm.append(motion.max_displacement_mm[t, 0])
                false_deg.append(np.abs(motion.rotations_deg[t, 0]).max())
                wrongly += int(motion.bad[t, 0])
            else:
                errors.append(np.linalg.norm(motion.pose(t, 0)(points) - true(points), axis=1))
                wrongly += int(motion.bad[t, 0])
    errors = np.concatenate(errors)
    print(f"{name:28s} median {np.median(errors):5.2f}  p95 {np.percentile(errors, 95):5.2f}  max {errors.max():5.2f} mm | "
          f"still: max {max(false_mm):.2f} mm {max(false_deg):.2f} deg | "
          f"blurred frames caught {caught}/{blurred}, good ones dropped {wrongly}", flush=True)


def speed(name, scan, frames):
    """Print the time of a series in which two thirds of the frames moved."""
    rng = np.random.default_rng(0)
    places = [drawn(rng, scan, 8.0, 5.0) for _ in range(3)]
    poses = [pose(scan=scan)] * (frames // 3) + [places[n % 3] for n in range(frames - frames // 3)]
    scanned = series(scan, poses, 300.0, 6.0, 60.0 / frames)
    motion = estimate_motion(scanned)
    best = {}
    for _ in range(3):
        for step, run in (("estimate", lambda: estimate_motion(scanned)), ("correct", lambda: correct_motion(scanned, motion))):
            wall, busy = time.perf_counter(), time.process_time()
            run()
            wall, busy = time.perf_counter() - wall, time.process_time() - busy
            best[step] = min(best.get(step, (np.inf, np.inf)), (wall, busy))
    told = "  ".join(f"{step} {wall:.2f} s (processor {busy:.2f} s)" for step, (wall, busy) in best.items())
    print(f"{name:28s} {told}  together {sum(wall for wall, _ in best.values()):.2f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one seed, two scans")
    options = parser.parse_args()
    print("Up to 8 mm and 5 degrees, noise 8 HU, artery 400 HU")
    for name, scan in list(SCANS.items())[: 2 if options.quick else None]:
        accuracy(name, scan, 1 if options.quick else options.seeds)
    if not options.quick:
        accuracy("8 x 5 mm, 15 mm 10 degrees", Scan(), options.seeds, 15.0, 10.0)
        accuracy("8 x 5 mm, noise 20 HU", Scan(), options.seeds, noise_hu=20.0)
        accuracy("8 x 5 mm, artery 600 HU", Scan(), options.seeds, artery_hu=600.0)
    print("Time, two thirds of the frames moved")
    speed("128 x 128 x 8 x 40", Scan(), 40)
    speed("256 x 256 x 16 x 60", Scan(matrix=256, pixel_mm=0.9, slices=16, level_mm=5.0), 60)


if __name__ == "__main__":
    main()
