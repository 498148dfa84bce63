"""What the errors of Tmax and of relative flow, and the motion of the head, mean for the volumes of a lesion."""

import numpy as np

from CTPerfusionSuiteLib.rigid_motion import Motion

from .lesions import STANDARD_TMAX_S, Lesions


def volume_errors_ml(
    maps: dict[str, np.ndarray], found: Lesions, tmax_error_s: float | None, flow_error: float | None
) -> tuple[float | None, float | None]:
    """Standard errors of hypoperfusion and of core in mL: the volumes at thresholds moved by the errors of what they are applied to.

    Voxels are counted without dropping small clusters anew, within the clusters of Tmax > 4 s as far as these reach.

    Parameters
    ----------
    maps : dict
        ``tmax`` (s) and ``rcbf`` (K, J, I).
    found : Lesions
        At the thresholds in question.
    tmax_error_s, flow_error : float or None
        Standard errors of Tmax, seconds, and of relative flow, as a part of it; None where they are not known.

    Returns
    -------
    tuple of (float or None, float or None)
        None where an error is not known, for the core also where there is none to tell.
    """
    if tmax_error_s is None or flow_error is None:
        return None, None
    tmax_s, rcbf = found.thresholds.tmax_s, found.thresholds.rcbf
    lowest = STANDARD_TMAX_S[0]
    near = found.tmax_gt[f"{lowest:g}"] if tmax_s - tmax_error_s >= lowest else found.tissue
    tmax, flow = np.asarray(maps["tmax"])[near], np.asarray(maps["rcbf"])[near]

    def volumes(later_s: float, lower: float) -> np.ndarray:
        hypoperfused = tmax > tmax_s + later_s
        low = hypoperfused & (flow < rcbf * (1.0 - lower))
        return found.voxel_volume_ml * np.array([np.count_nonzero(hypoperfused), np.count_nonzero(low)])

    by_time = 0.5 * np.abs(volumes(-tmax_error_s, 0.0) - volumes(tmax_error_s, 0.0))
    by_flow = 0.5 * np.abs(volumes(0.0, -flow_error) - volumes(0.0, flow_error))
    hypoperfusion, core = np.hypot(by_time, by_flow)
    return float(hypoperfusion), None if found.core is None else float(core)


def lasting_motion_mm(motion: Motion | None) -> float | None:
    """Mean over the kept frames of the largest displacement in the head, mm; None where motion was not looked for."""
    if motion is None:
        return None
    moved = np.asarray(motion.max_displacement_mm)[~np.asarray(motion.bad, bool)]
    return float(np.mean(moved)) if moved.size else 0.0
