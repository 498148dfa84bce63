"""Time and memory of `ctperfusion stroke predict` at 256 x 256 x 16 x 30, and the 4-D convolution against its parts."""

import tempfile
import time
from pathlib import Path

import torch
from command_cost import command_cost
from torch.nn import functional

from CTPerfusionSuiteLib.phantoms.brain import BrainOptions, simulate_brain
from CTPerfusionSuiteLib.sequence_nrrd import write_sequence
from CTPerfusionSuiteLib.volumes import TimeSeries
from PerfusionMapsLib.analysis_request import AnalysisRequest
from PerfusionMapsLib.perfusion_options import EngineOptions
from PerfusionMapsLib.pipeline import analyze_prepared, prepare
from StrokeSegmentationLib.convolution4d import convolution4d
from StrokeSegmentationLib.model_bundle import read_bundle
from StrokeSegmentationLib.prediction import predict
from StrokeSegmentationLib.shipped_models import model_folder
from StrokeSegmentationLib.study_input import network_input, with_result

LIMIT_S, LIMIT_GPU_S, LIMIT_GB, LIMIT_RATIO, THREADS = 60.0, 3.0, 4.0, 3.0, 2


def example() -> TimeSeries:
    """The study that the limits are for."""
    return simulate_brain(BrainOptions(size=(256, 256), slices=16, frames=30, dt_s=1.8, seed=5)).series


def prediction(series: TimeSeries) -> None:
    """Whole command with the shipped model, as a user waits for it; with and without dropout passes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.seq.nrrd"
        write_sequence(path, series)
        runs = [("two cores", LIMIT_S, ()), ("two cores, 10 dropout passes", LIMIT_S, ("--passes", 10))]
        if torch.cuda.is_available():
            runs.append((torch.cuda.get_device_name(), LIMIT_GPU_S, ("--device", "cuda")))
        for number, (name, limit, words) in enumerate(runs):
            out = Path(folder) / f"result{number}"
            seconds, peak = command_cost(
                "stroke", "predict", "--input", path, "--out_dir", out, "--no-report", "--threads", THREADS, *words
            )
            print(
                f"  256x256x16x30, {name}: {seconds:.1f} s with all preparation and maps (at most {limit:g}), peak memory "
                f"{peak / 1e9:.2f} GB (at most {LIMIT_GB:g})",
                flush=True,
            )
    if not torch.cuda.is_available():
        print("  no GPU here: not measured on one", flush=True)


def network_alone(series: TimeSeries, repeats: int = 3) -> None:
    """Best of `repeats` once the study is prepared and its maps are made: the part that a GPU takes over."""
    torch.set_num_threads(THREADS)
    request = AnalysisRequest(engine=EngineOptions(threads=THREADS))
    prepared = prepare(series, request)
    found = with_result(network_input(prepared), analyze_prepared(prepared, request))
    network = read_bundle(model_folder()).network
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        taken = []
        for _ in range(repeats):
            began = time.perf_counter()
            predict(network, found, device=device)
            taken.append(time.perf_counter() - began)
        print(f"  of that the network alone, {device}: {min(taken):.2f} s", flush=True)


def convolution(repeats: int = 5) -> None:
    """Best of `repeats`: forward and backward of the 4-D convolution over that of the 3-D convolutions it is the sum of."""
    x = torch.randn(1, 8, 8, 24, 48, 48, requires_grad=True)
    weight = torch.randn(8, 8, 3, 3, 3, 3, requires_grad=True)

    def four() -> None:
        convolution4d(x, weight).sum().backward()

    def sum_of_three() -> None:
        padded = functional.pad(x, (0, 0, 0, 0, 0, 0, 1, 1))
        total = 0
        for shift in range(3):
            slab = padded[:, :, shift : shift + 8].transpose(1, 2).flatten(0, 1)
            total = total + functional.conv3d(slab, weight[:, :, shift], padding=1)
        total.sum().backward()

    times = {}
    for name, work in (("4-D", four), ("sum of 3-D", sum_of_three)):
        taken = []
        for _ in range(repeats):
            began = time.perf_counter()
            work()
            taken.append(time.perf_counter() - began)
        times[name] = min(taken)
    ratio = times["4-D"] / times["sum of 3-D"]
    print(f"  4-D convolution: {ratio:.2f} times the sum of its 3-D convolutions (at most {LIMIT_RATIO:g})", flush=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    convolution()
    study = example()
    prediction(study)
    network_alone(study)
