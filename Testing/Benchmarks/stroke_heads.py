"""Dice of hypoperfusion and core on stroke heads 128 x 128 x 8 x 40, 1.5 s, 15 % CBF texture, automatic AIF and masks."""

import sys
from pathlib import Path

from benchmark_seeds import seeds, spread

from CTPerfusionSuiteLib.phantoms.brain import BrainOptions, simulate_brain
from PerfusionMapsLib.analysis_request import AnalysisRequest
from PerfusionMapsLib.perfusion_options import EngineOptions, Method

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Python"))
from lesion_overlap import analyzed, overlaps  # noqa: E402

ROWS = (
    ("5 HU", {"noise_hu": 5.0}, (0.98, 0.95)),
    ("8 HU", {"noise_hu": 8.0}, (0.97, 0.90)),
    ("5 HU, AIF peak 150 HU", {"noise_hu": 5.0, "aif_peak_hu": 150.0}, (0.96, 0.82)),
)


def main(count: int = 8) -> None:
    """Print a line a row and method."""
    print("Stroke heads: Dice of hypoperfusion / core")
    for name, options, wanted in ROWS:
        found = {method: [] for method in (Method.BAYES, Method.BCSVD)}
        for n, seed in enumerate(seeds(count, "stroke heads")):
            study = simulate_brain(BrainOptions(seed=seed, side="left" if n % 2 else "right", **options))
            for method, values in found.items():
                values.append(overlaps(analyzed(study, AnalysisRequest(engine=EngineOptions(method=method))), study))
        for method, values in found.items():
            print(f"  {name:24s} {method.value:6s} hypoperfusion {spread([v[0] for v in values])} (at least {wanted[0]})")
            print(f"  {'':24s} {'':6s} core          {spread([v[1] for v in values])} (at least {wanted[1]})", flush=True)


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
