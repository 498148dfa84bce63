"""How far Tmax and relative flow may be off because the arterial input is not known exactly.

The fit of the arterial bolus leaves a range of boluses that explain the curves of the head about as well.  If one of them is true and
the chosen one is used, tissue of known flow comes out with another Tmax and flow on the threshold scale.  That covers timing and
width, and also the truncation of the operator, where a small change of width can let one harmonic more or less pass.
"""

from dataclasses import dataclass

import numpy as np

from .input_functions import InputFunction
from .residue_dictionary import CURVE_STEP_S, interpolate_input
from .shared_bolus import SharedBolus
from .threshold_scale import ThresholdOperator, read_residue, threshold_operator

NEAR_THRESHOLD = ((3.0, 7.0), (4.0, 10.0))
"""Delay and mean transit time, seconds, of tissue with a Tmax of about 6 s."""
NORMAL, CORE = (0.5, 4.0), (7.0, 16.0)


@dataclass(frozen=True)
class InputError:
    """Standard errors due to the arterial input: of Tmax in seconds, and of flow in a core relative to normal tissue (0-1)."""

    tmax_s: float
    flow: float


def input_error(used: InputFunction, shared: SharedBolus) -> InputError:
    """Errors if each of the alternatives of `shared` were true and `used` is taken."""
    times = np.arange(0.0, float(np.max(used.times)) + 1e-6, CURVE_STEP_S)
    operator = threshold_operator(times, interpolate_input(used.times, used.hu, times))
    tissue = (*NEAR_THRESHOLD, NORMAL, CORE)
    late, flow = [], []
    for values in shared.alternatives:
        true = np.interp(times, shared.times, values)
        if not true.max() > 0:
            continue
        curves = np.stack([_tissue_curve(times, true, *kind) for kind in tissue], axis=1)
        height, tmax = _read(operator, curves)
        true_height, true_tmax = _read(threshold_operator(times, true), curves)
        late.append(np.mean((tmax - true_tmax)[: len(NEAR_THRESHOLD)]))
        flow.append(height[-1] / max(height[-2], 1e-9) / max(true_height[-1] / max(true_height[-2], 1e-9), 1e-9) - 1.0)
    if not late:
        return InputError(0.0, 0.0)
    return InputError(*(float(np.sqrt(np.mean(np.square(errors)))) / shared.alternatives_at for errors in (late, flow)))


def _tissue_curve(times: np.ndarray, aif: np.ndarray, delay_s: float, transit_s: float) -> np.ndarray:
    """Tissue of flow 1 with an exponential residue."""
    residue = np.exp(-times / transit_s)
    residue[0] *= 0.5
    return np.interp(times - delay_s, times, CURVE_STEP_S * np.convolve(aif, residue)[: times.size], left=0.0)


def _read(operator: ThresholdOperator, curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return read_residue((operator.matrix @ curves).T, operator.step)
