"""Peak memory of a whole analysis: large studies must fit beside what else a workstation does."""

import tracemalloc

import numpy as np

from CTPerfusionSuiteLib.phantoms.brain import BrainOptions, simulate_brain
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries
from PerfusionMapsLib.analysis_request import AnalysisRequest
from PerfusionMapsLib.perfusion_options import EngineOptions
from PerfusionMapsLib.pipeline import analyze

SLICES, PIXELS, FRAMES = 12, 320, 30


def moving_study() -> TimeSeries:
    """A head of 80 x 80 voxels a slice with each made into 4 x 4 noisy pixels, which jumps aside after 12 frames."""
    coarse = simulate_brain(BrainOptions(size=(PIXELS // 4, PIXELS // 4), slices=SLICES, frames=FRAMES, dt_s=2.0, seed=2)).series.values
    values = np.repeat(np.repeat(coarse, 4, axis=2), 4, axis=3)
    rng = np.random.default_rng(2)
    for frame in values:
        frame += rng.normal(0.0, 5.0, frame.shape).astype(np.int16)
    for frame in values[12:]:
        frame[:] = np.roll(frame, (4, 3), axis=(1, 2))
    return TimeSeries(values, Geometry((PIXELS, PIXELS, SLICES), (0.68, 0.68, 5.0)), 2.0 * np.arange(FRAMES))


def test_a_study_that_moved_is_analyzed_in_well_under_three_times_its_size():
    tracemalloc.start()
    try:
        waiting = [moving_study()]
        stored = waiting[0].values.nbytes
        tracemalloc.reset_peak()
        result = analyze(waiting.pop(), AnalysisRequest(engine=EngineOptions(threads=2)), overwrite=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result.motion.moved.max_mm > 1.0
    assert result.geometry.size[0] == PIXELS // 2
    # The interpreter, its libraries and what the system's allocator keeps come on top: about 0.5 x where the series is 1 GB.
    assert peak / stored < 2.1
