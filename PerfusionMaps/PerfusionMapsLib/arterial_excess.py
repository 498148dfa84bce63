"""How much of the earliest bolus of the head each voxel holds beyond what tissue and veins explain.

A voxel's curve is taken as a constant plus shares of three known curves: the arterial shape, the mean tissue curve and the mean
venous curve.  The arterial share is large in arteries even where partial volume leaves them a peak hardly above gray matter's, and
it is a weighted sum over time, so that it can be mapped over the whole head and filtered along vessels like any image.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from CTPerfusionSuiteLib.volumes import TimeSeries

from .bolus_arrival import Bolus, unique_time_columns
from .bolus_shapes import TAILS, WIDTHS_S, bolus_curve, bolus_timing
from .vessel_candidates import VesselCandidates, bounding_window

EVIDENCE_VOXELS = 20
LINE_MM = 8.0
CLEAR_Z = 8.0
EARLY_SPAN_S = 1.25
EARLY_EVIDENCE_Z = 4.0


@dataclass(frozen=True)
class ArterialShape:
    """The common shape of the earliest vessels of this head (see `bolus_shapes.bolus_curve`), with its timing in seconds."""

    onset_s: float
    fwhm_s: float
    tail: float

    @property
    def half_rise_s(self) -> float:
        return bolus_timing(self.onset_s, self.fwhm_s, self.tail)[0]

    @property
    def peak_s(self) -> float:
        return bolus_timing(self.onset_s, self.fwhm_s, self.tail)[1]

    def at(self, times_s) -> np.ndarray:
        """Values at `times_s`, peak 1."""
        return bolus_curve(times_s, self.onset_s, self.fwhm_s, self.tail)


@dataclass(frozen=True)
class ExcessMap:
    """Arterial excess over the whole head.

    Attributes
    ----------
    height_hu : ndarray (K, J, I)
        Height of the arterial shape in each voxel beyond tissue and vein, HU; nan outside the searched mask.
    filtered_hu : ndarray (K, J, I)
        The same averaged over the voxel's neighborhood or along the line through it, whichever stands out most.
    z : ndarray (K, J, I)
        `filtered_hu` less its median over the head, over its spread there.
    spread_hu : float
        Spread of `height_hu` over the head (1.48 x median absolute deviation), HU.
    """

    height_hu: np.ndarray
    filtered_hu: np.ndarray
    z: np.ndarray
    spread_hu: float


def venous_curves(candidates: VesselCandidates) -> np.ndarray:
    """Mean curve of the clearest late vessels on each time axis, (U, T), its mean taken off; zeros where none is seen."""
    rise, peak = float(candidates.tissue.half_rise_s[0]), float(candidates.tissue.peak_s[0])
    late = np.flatnonzero(
        candidates.believable & (candidates.half_rise_s > rise + 0.25) & (candidates.peak_s > peak - 1.5) & (candidates.z > 8.0)
    )
    curves = np.zeros(candidates.columns.shape)
    if late.size < 5:
        return curves
    top = late[np.argsort(-candidates.area[late])][: max(5, min(60, late.size // 4))]
    for column, shapes in enumerate(candidates.shapes):
        mine = top[candidates.column[top] == column]
        parts = candidates.parts[:, mine].mean(axis=1) if mine.size >= 3 else None
        if parts is None:
            shape = bolus_curve(
                candidates.columns[column],
                float(np.median(candidates.half_rise_s[top])) - 0.55 * float(np.median(candidates.fwhm_s[top])),
                float(np.median(candidates.fwhm_s[top])),
                0.2,
            )
            curves[column] = shape - shape.mean()
        else:
            curves[column] = shapes.basis.T @ parts
    return curves


def arterial_shape(
    candidates: VesselCandidates, bolus: Bolus, plain: np.ndarray, likely: np.ndarray, lead_s: float
) -> tuple[ArterialShape, float] | None:
    """The early bolus shape that some voxels hold most clearly beyond tissue and vein, and the mean z of those voxels.

    Parameters
    ----------
    candidates : VesselCandidates
    bolus : Bolus
    plain : ndarray of bool (N,)
        Candidates that may vote.
    likely : ndarray (N,)
        0...1, weight of each vote by its place.
    lead_s : float
        How long before the tissue the shape must reach half of its peak and its peak, seconds.
    """
    # A bright vein fits an early shape better than noise fits anything, unless its own timing bars it.
    plain = plain & (candidates.half_rise_s <= float(candidates.tissue.half_rise_s[0]) - 0.3)
    if not plain.any():
        return None
    latest_rise, latest_peak = float(candidates.tissue.half_rise_s[0]) - lead_s, float(candidates.tissue.peak_s[0]) - lead_s
    family = [
        ArterialShape(float(onset), fwhm, tail)
        for tail in TAILS[:2]
        for fwhm in WIDTHS_S
        for onset in bolus.arrival_s + np.arange(-6.0, 3.1, 0.75)
    ]
    family = [shape for shape in family if shape.half_rise_s <= latest_rise and shape.peak_s <= latest_peak]
    if not family:
        return None
    z = np.zeros((len(family), np.count_nonzero(plain)), dtype=np.float32)
    veins = venous_curves(candidates)
    for column in range(len(candidates.shapes)):
        mine = plain & (candidates.column == column)
        if not mine.any():
            continue
        weights, deviation = _weights(candidates, column, family, veins)
        calm = float(np.median(candidates.neighborhood_noise_hu[mine]) / max(np.median(candidates.noise_hu[mine]), 1e-6))
        own = weights @ candidates.parts[:, mine] / deviation[:, None]
        around = weights @ candidates.neighborhood_parts[:, mine] / (deviation[:, None] * calm)
        z[:, mine[plain]] = np.minimum(around, 2.0 * own)
    z *= likely[plain]
    # The clearest few voxels decide; their number is a vessel's, not the brain's.
    top = min(EVIDENCE_VOXELS, z.shape[1])
    evidence = np.maximum(np.partition(z, -top, axis=1)[:, -top:], 0.0).mean(axis=1)
    # Where bright arteries and veins pull one shape in between, the earliest clear vessels limit it, if they have a case of their own.
    early = np.array([shape.half_rise_s for shape in family]) <= _earliest_clear_rise(candidates, plain & (likely > 0.5)) + EARLY_SPAN_S
    if early.any() and evidence[early].max() >= EARLY_EVIDENCE_Z:
        evidence = np.where(early, evidence, 0.0)
    best = int(np.argmax(evidence))
    return family[best], float(evidence[best])


def _earliest_clear_rise(candidates: VesselCandidates, plain: np.ndarray) -> float:
    """Half rise, seconds, of the earliest vessels clear enough for their own timing; infinite where none is.

    The fifth voxel counts, because a few may be early by chance.
    """
    clear = np.sort(candidates.half_rise_s[plain & (candidates.z >= CLEAR_Z) & (candidates.explained > 0.6)])
    return float(clear[4]) if clear.size >= 5 else np.inf


def excess_map(
    series: TimeSeries, candidates: VesselCandidates, shape: ArterialShape, inside: np.ndarray, threads: int | None = None
) -> ExcessMap:
    """Map the arterial excess over `inside` (bool (K, J, I))."""
    column_of_slice = unique_time_columns(series.slice_times)[1]
    veins = venous_curves(candidates)
    weights = [
        (_weights(candidates, column, [shape], veins)[0] @ shapes.basis)[0].astype(np.float32)
        for column, shapes in enumerate(candidates.shapes)
    ]
    window = bounding_window(inside)
    height = np.full(inside.shape, np.nan, dtype=np.float32)

    def one_slice(k: int) -> None:
        plane = series.values[:, k][(slice(None), *window[1:])].astype(np.float32)
        sums = weights[column_of_slice[k]] @ plane.reshape(plane.shape[0], -1)
        height[k][window[1:]] = np.where(inside[k][window[1:]], sums.reshape(plane.shape[1:]), np.nan)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one_slice, np.arange(inside.shape[0])[window[0]]))
    filtered, z, spread = _along_vessels(height[window], series)
    full_filtered, full_z = np.full(inside.shape, np.nan, dtype=np.float32), np.full(inside.shape, -np.inf, dtype=np.float32)
    full_filtered[window], full_z[window] = filtered, z
    return ExcessMap(height, full_filtered, full_z, spread)


def _weights(candidates: VesselCandidates, column: int, family: list[ArterialShape], veins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Generalized least squares of each shape against tissue, vein and noise on one time axis.

    Returns
    -------
    ndarray (F, m), ndarray (F,)
        Weights of the components whose sum is the shape's height in HU, and that sum's standard deviation in ordinary tissue.

    References
    ----------
    Robey FC et al., IEEE Trans Aerosp Electron Syst 1992;28:208-216 (adaptive matched filter).
    """
    basis = candidates.shapes[column].basis.astype(float)
    curves = np.stack([shape.at(candidates.columns[column]) for shape in family], axis=1)
    signal = basis @ (curves - curves.mean(axis=0))
    vein = basis @ veins[column]
    length = float(np.linalg.norm(vein))
    scatter = candidates.covariances[column]
    if length > 0:
        # A venous share is rare but can be large: a prior of a few noise lengths keeps its rising flank from passing for an artery.
        scatter = scatter + 9.0 * np.trace(scatter) / len(scatter) * np.outer(vein, vein) / length**2
    solved = np.linalg.solve(scatter, signal)
    information = np.maximum(np.einsum("mf,mf->f", signal, solved), 1e-12)
    return (solved / information).T, 1.0 / np.sqrt(information)


def _along_vessels(height: np.ndarray, series: TimeSeries) -> tuple[np.ndarray, np.ndarray, float]:
    """Best of the means over a small neighborhood, over in-plane lines in eight directions and across slices; z of it; spread."""
    valid = np.isfinite(height)
    image = np.where(valid, height, 0.0).astype(np.float32)
    weight = valid.astype(np.float32)
    spread = _spread(height[valid])[1] if valid.any() else 1.0
    spacing = float(np.mean(series.geometry.spacing[:2]))
    reach = int(np.clip(round(LINE_MM / 2 / spacing), 1, 8))
    steps = np.arange(-reach, reach + 1)
    filters = [[(0, 0, 0)], [(0, dj, di) for dj in (-1, 0, 1) for di in (-1, 0, 1)]]
    for angle in np.arange(8) * np.pi / 8:
        filters.append(sorted({(0, int(round(s * np.sin(angle))), int(round(s * np.cos(angle)))) for s in steps}))
    if height.shape[0] > 1 and series.geometry.spacing[2] < 10.0:
        filters.append([(dk, dj, di) for dk in (-1, 0, 1) for dj, di in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))])
    best, best_z = image.copy(), np.full(image.shape, -np.inf, dtype=np.float32)
    for offsets in filters:
        total, count = np.zeros_like(image), np.zeros_like(weight)
        for offset in offsets:
            total += _shifted(image, offset)
            count += _shifted(weight, offset)
        mean = total / np.maximum(count, 1.0)
        full = valid & (count >= 0.6 * len(offsets))
        if not full.any():
            continue
        middle, width = _spread(mean[full])
        z = np.where(full, (mean - middle) / max(width, 1e-6), -np.inf)
        better = z > best_z
        best[better], best_z[better] = mean[better], z[better]
    return best, best_z, spread


def _spread(values: np.ndarray) -> tuple[float, float]:
    """Median and 1.48 x median absolute deviation of a sample of the values."""
    sample = values[:: max(1, values.size // 50_000)]
    middle = float(np.median(sample))
    return middle, 1.4826 * float(np.median(np.abs(sample - middle)))


def _shifted(image: np.ndarray, offset: tuple[int, int, int]) -> np.ndarray:
    """The image moved by whole voxels, 0 where nothing moves in."""
    out = np.zeros_like(image)
    to, source = [], []
    for step, size in zip(offset, image.shape, strict=True):
        to.append(slice(max(0, -step), size - max(0, step)))
        source.append(slice(max(0, step), size - max(0, -step)))
    out[tuple(to)] = image[tuple(source)]
    return out
