"""Ischemia as a continuous field: from 1 in the center of the lesion to 0 in healthy tissue, within an arterial territory."""

from dataclasses import dataclass

import numpy as np

from CTPerfusionSuiteLib.phantoms.head_anatomy import sample_field, smooth_field

OCCLUSIONS = ("none", "M1", "M2", "ACA", "PCA", "ICA-T")
COLLATERALS = ("good", "moderate", "poor")

_CENTER = {
    "M1": (34.0, -2.0, 8.0),
    "M2": (54.0, 14.0, 20.0),
    "ACA": (8.0, -38.0, 30.0),
    "PCA": (14.0, 70.0, 6.0),
    "ICA-T": (30.0, -8.0, 8.0),
}
_REACH_MM = {"M1": 62.0, "M2": 40.0, "ACA": 56.0, "PCA": 44.0, "ICA-T": 78.0}
_DOWNSTREAM = {
    "M1": ("M1", "M2", "M3", "M4"),
    "M2": ("M2", "M3", "M4"),
    "ACA": ("A2", "A3"),
    "PCA": ("P2", "P3"),
    "ICA-T": ("M1", "M2", "M3", "M4", "A1", "A2", "A3"),
    "none": (),
}


@dataclass(frozen=True)
class Collaterals:
    """How well the territory is fed from its borders.

    Attributes
    ----------
    longest_delay_s : float
        Extra delay where the ischemia is deepest.
    lowest_flow : float
        Flow there, as a fraction of normal.
    lowest_volume : float
        Blood volume there, as a fraction of normal.
    half_flow_at : float
        Severity at which the flow is half way between normal and lowest.
    """

    longest_delay_s: float
    lowest_flow: float
    lowest_volume: float
    half_flow_at: float


GRADES = {
    "good": Collaterals(8.5, 0.12, 0.45, 0.86),
    "moderate": Collaterals(10.5, 0.08, 0.30, 0.70),
    "poor": Collaterals(12.0, 0.05, 0.20, 0.52),
}


@dataclass(frozen=True, eq=False)
class Ischemia:
    """Where and how deep a head is ischemic.

    Attributes
    ----------
    depth : ndarray (Z, Y, X) float32
        Severity 0-1 on the fine grid.
    side : int
        1 left, 2 right.
    occlusion : str
        One of `OCCLUSIONS`.
    """

    depth: np.ndarray
    side: int
    occlusion: str


def sigmoid(value):
    """Logistic function, safe for large arguments."""
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(value)))


def territory(name: str, x, y, z):
    """Soft membership 0-1 (border zones about 8 mm wide) of a territory on the left (+x) side; standard mm, any shape."""
    # The medial strip of the anterior cerebral artery narrows backwards and ends behind the vertex.
    strip = 19.0 + 0.05 * np.maximum(z - 20.0, 0.0) - 0.12 * np.maximum(y + 30.0, 0.0)
    anterior = sigmoid((strip - x) / 2.5) * sigmoid((52.0 - y) / 4.0) * sigmoid((z - 4.0 + 0.75 * (-y - 22.0).clip(0)) / 3.0)
    anterior = np.maximum(anterior, sigmoid((-26.0 - y - 1.1 * x) / 4.0) * sigmoid((z + 22.0) / 3.0))
    posterior = sigmoid((y - 58.0 - 0.20 * np.abs(z - 4.0) - 0.30 * (x - 20.0)) / 4.0)
    inferior = sigmoid((y - 6.0) / 5.0) * sigmoid((-8.0 - z + 0.25 * (y - 20.0) - 0.5 * (x - 36.0).clip(0)) / 4.0)
    thalamic = sigmoid((1.0 - ((x - 9.0) / 11.0) ** 2 - ((y - 20.0) / 17.0) ** 2 - ((z - 4.0) / 14.0) ** 2) * 4.0)
    posterior = np.maximum(np.maximum(posterior, inferior), thalamic) * (1.0 - anterior)
    middle = (1.0 - anterior) * (1.0 - posterior)
    shares = {"ACA": anterior, "PCA": posterior, "M1": middle, "M2": middle, "ICA-T": np.maximum(middle, 0.85 * anterior)}
    return (shares[name] * sigmoid((x - 1.0) / 1.0)).astype(np.float32)


def severity(rng: np.random.Generator, occlusion: str, side: int, x, y, z) -> np.ndarray:
    """Depth of ischemia 0-1 at standard positions (any shape) float32: 1 in the center, 0 at the border of the territory.

    `side` is 1 for left, 2 for right; `rng` shapes the outline.
    """
    if occlusion == "none":
        return np.zeros(x.shape, np.float32)
    outline, fine = rng.spawn(2)
    s = np.float32(1.0 if side == 1 else -1.0)
    inside = territory(occlusion, s * x, y, z)
    center = np.asarray(_CENTER[occlusion]) + outline.normal(0.0, 3.0, 3)
    distance = np.sqrt((s * x - center[0]) ** 2 + (y - center[1]) ** 2 + (0.9 * (z - center[2])) ** 2)
    reach = _REACH_MM[occlusion] * outline.uniform(0.9, 1.1)
    values, step = smooth_field(fine, 80.0, 13.0)
    bumps = 0.10 * sample_field(values, step, x, y, z)
    radial = np.clip(1.15 - distance / reach + bumps, 0.0, 1.0)
    return (radial * inside * (inside > 0.02)).astype(np.float32)


def extra_delay(depth, grade: Collaterals):
    """Seconds of delay added at a severity 0-1: rises continuously from 0."""
    s = np.clip(depth, 0.0, 1.0)
    return grade.longest_delay_s * s * (0.55 + 0.45 * s)


def flow_fraction(depth, grade: Collaterals):
    """Flow over normal flow at a severity 0-1: 1 in healthy tissue, `lowest_flow` in the center."""
    s = np.clip(depth, 0.0, 1.0)
    fall = sigmoid((s - grade.half_flow_at) / 0.075) / sigmoid((1.0 - grade.half_flow_at) / 0.075)
    moderate = 0.30 * np.minimum(s / grade.half_flow_at, 1.0)
    return 1.0 - moderate * (1.0 - fall) - (1.0 - grade.lowest_flow) * fall


def volume_fraction(depth, grade: Collaterals):
    """Blood volume over normal at a severity 0-1: autoregulation raises it in penumbra, it collapses in the core."""
    s = np.clip(depth, 0.0, 1.0)
    fall = sigmoid((s - grade.half_flow_at - 0.05) / 0.06) / sigmoid((0.95 - grade.half_flow_at) / 0.06)
    return (1.0 + 0.15 * np.minimum(2.0 * s, 1.0)) * (1.0 - fall) + grade.lowest_volume * fall


def downstream_of(occlusion: str) -> tuple[str, ...]:
    """Names of the arteries that lie beyond an occlusion."""
    return _DOWNSTREAM[occlusion]
