"""How often 95 % intervals of delay, MTT and CBF hold the truth: row 3 of the accuracy table, stratified by transit time.

Each line is followed by the median and the 5th percentile of the share over seeds, and over strata and seeds; the end sums up all cases.
"""

import sys
from pathlib import Path

import numpy as np
from benchmark_seeds import seeds, spread

from CTPerfusionSuiteLib.phantoms.bolus import ArterialBolus, GammaVariateBolus
from PerfusionMapsLib.perfusion_options import Denoising, EngineOptions

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Python"))
from engine_truth import MTT_STRATA, PerfusionField, coverage  # noqa: E402

BOLUSES = {"recirculating bolus": ArterialBolus(), "narrow gamma variate": GammaVariateBolus(12.0, 3.0, 1.5, 465.0)}
SETTINGS = {
    "5 HU white": ({"noise_hu": 5.0}, EngineOptions()),
    "5 HU correlated": ({"noise_hu": 5.0, "kernel": "soft"}, EngineOptions()),
    "8 HU correlated": ({"noise_hu": 8.0, "kernel": "soft"}, EngineOptions()),
    "1 HU, no filter": ({"noise_hu": 1.0}, EngineOptions(denoising=Denoising.NONE)),
}


def main(count: int = 3) -> None:
    """Print two lines a bolus, residue, noise and quantity, and the spread over everything a quantity."""
    strata = ", ".join(f"{a:g}-{b:.0f} s" for a, b in MTT_STRATA)
    print(f"Share of voxels whose 95 % interval holds the truth (90-97 %), mean of {count} seeds; by MTT [{strata}]; median width")
    every: dict[str, tuple[list, list]] = {}
    for bolus_name, bolus in BOLUSES.items():
        for residue in ("exponential", "linear", "near-box", "gamma", "lognormal", "box"):
            for noise_name, (noise, options) in SETTINGS.items():
                found: dict[str, list] = {}
                for seed in seeds(count, "coverage"):
                    field = PerfusionField(residue, bolus, seed=seed, **noise)
                    maps = field.maps(options)
                    for quantity in ("delay", "mtt", "cbf"):
                        found.setdefault(quantity, []).append(coverage(maps, field.truth, quantity))
                for quantity, values in found.items():
                    parts = " ".join(f"{v:.2f}" for v in np.mean([v[1] for v in values], axis=0))
                    share, width = np.mean([v[0] for v in values]), np.mean([v[2] for v in values])
                    case = f"{bolus_name}, {residue:11s}, {noise_name:16s}"
                    print(f"  {case} {quantity:5s} {share:.3f} [{parts}] width {width:.2f}")
                    shares, in_strata = [v[0] for v in values], [part for v in values for part in v[1]]
                    print(f"    over seeds: {spread(shares)}; over strata and seeds: {spread(in_strata)}", flush=True)
                    for kept, new in zip(every.setdefault(quantity, ([], [])), (shares, in_strata), strict=True):
                        kept.extend(new)
    for quantity, (shares, in_strata) in every.items():
        print(f"  all cases, {quantity:5s} over cases and seeds: {spread(shares)}; over strata too: {spread(in_strata)}")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
