"""What a network sees of a study: the one preparation of training and of inference.

The steps before deconvolution are those of PerfusionMaps.  Then every voxel's enhancement is brought to a fixed time grid, pixels and
slices finer than the network's are averaged, and all curves are divided by one number: the peak of the mean curve of the less
affected hemisphere, which neither noise nor partial volume in an artery moves.  Its half rise sets the clock too.
"""

from dataclasses import dataclass, replace

import numpy as np

from CTPerfusionSuiteLib.errors import DataRefused
from CTPerfusionSuiteLib.progress import Progress, silent
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries
from PerfusionMapsLib.perfusion_result import PerfusionResult
from PerfusionMapsLib.pipeline import PreparedStudy, Steps, no_steps

from .bolus_grid import GRID_S, slice_weights
from .normal_tissue import LEAST_PEAK_HU, mean_curve, normal_side, tissue_means
from .voxel_blocks import VoxelBlocks

MAP_SCALES = {"tmax": 6.0, "rcbf": 1.0, "rcbv": 1.0, "mtt": 8.0, "delay": 6.0}
"""Maps in the order of their channels, each divided by a fixed number (seconds; ratios as they are) so that disease lies about 1."""
LARGEST_MAP_VALUE = 3.0
NO_REFERENCE = "There is too little normally perfused tissue to relate flow and volume to."
"""Why a study with an artery may have no relative maps."""


@dataclass(frozen=True, eq=False)
class StudyInput:
    """A study as networks take it, on the network's grid.

    Attributes
    ----------
    curves : float32 ndarray (F, K, J, I)
        Enhancement at `GRID_S` after arterial arrival divided by `scale_hu`; 0 outside the brain and where the scan has no frames.
    valid : float32 ndarray (F, K)
        1 where the scan of a slice covers the grid time, else 0.
    maps : float32 ndarray (C, K, J, I) or None
        `MAP_SCALES` in its order, 0 outside the brain.
    brain, tissue : bool ndarray (K, J, I)
    hemisphere : uint8 ndarray (K, J, I)
        1 left, 2 right, 0 outside the brain.
    geometry : Geometry
        Of the arrays above.
    reference : float32 ndarray (F,)
        Mean tissue curve of the less affected hemisphere, peak about 1: how the bolus arrives in normal tissue.
    scale_hu : float
        HU of 1 in `curves`.
    arrival_s : float
        Arterial arrival as normal tissue tells it (`normal_tissue`), seconds from the first frame.
    noise_hu : float
        Noise of one voxel of the scan in one frame, HU.
    blocks : VoxelBlocks
        How voxels of the analysis grid make up those of the network.
    analysis_geometry : Geometry
        Of the analysis grid of PerfusionMaps.
    analysis_tissue : bool ndarray
        Tissue on that grid.
    step_s : float
        Typical time between frames, seconds.
    notes : tuple of (code, message)
    """

    curves: np.ndarray
    valid: np.ndarray
    maps: np.ndarray | None
    brain: np.ndarray
    tissue: np.ndarray
    hemisphere: np.ndarray
    geometry: Geometry
    reference: np.ndarray
    scale_hu: float
    arrival_s: float
    noise_hu: float
    blocks: VoxelBlocks
    analysis_geometry: Geometry
    analysis_tissue: np.ndarray
    step_s: float = float("nan")
    notes: tuple[tuple[str, str], ...] = ()

    def to_analysis_grid(self, values: np.ndarray) -> np.ndarray:
        """Values (..., K, J, I) of the network's grid on the analysis grid.

        Masks and labels are repeated.  Numbers with a fraction (probabilities) are interpolated between tissue voxels only, so that they
        do not fall off toward its edge; they are 0 outside `analysis_tissue`.
        """
        if np.asarray(values).dtype.kind != "f":
            return self.blocks.spread(values)
        weight = self.blocks.interpolated(self.tissue)
        inside = self.analysis_tissue & (weight > 0)
        mean = self.blocks.interpolated(values * self.tissue) / np.where(inside, weight, 1.0)
        return (mean * inside).astype(np.float32)


def network_input(study: PreparedStudy, steps: Steps = no_steps) -> StudyInput:
    """Curves of a prepared study on the network's grid in space and time.

    Raises
    ------
    DataRefused
        The scan does not show how the bolus passes the brain.
    """
    grid, bolus = study.grid, study.bolus
    progress = steps("curves", "Aligning curves to the bolus")
    hemisphere = study.plane.hemisphere(grid.geometry, study.brain)
    blocks = VoxelBlocks.of(grid.geometry, grid.slab_of_slice)
    side, arrival = normal_side(grid, bolus.baseline_frames, study.tissue, hemisphere)
    matrices, valid = slice_weights(grid.slice_times, bolus.baseline_frames, arrival)
    reference = mean_curve(*tissue_means(grid, study.tissue & (hemisphere == side)), matrices, valid)
    scale = float(reference.max())
    if scale < LEAST_PEAK_HU:
        raise DataRefused("The scan does not show how the bolus passes the brain tissue; a longer scan is needed.")
    curves, covered = aligned_curves(grid, matrices, valid, study.brain, blocks, progress)
    brain, tissue = blocks.majority(study.brain), blocks.majority(study.tissue)
    tissue &= brain
    sides = np.where(brain, np.where(blocks.mean(hemisphere == 1) >= blocks.mean(hemisphere == 2), 1, 2), 0).astype(np.uint8)
    curves *= brain / np.float32(scale)
    return StudyInput(
        curves, covered, None, brain, tissue, sides, blocks.geometry, (reference / scale).astype(np.float32), scale, arrival,
        bolus.noise_hu, blocks, grid.geometry, study.tissue, float(np.median(np.diff(grid.slice_times, axis=0))),
        (*study.notes, *bolus.notes),
    )


def aligned_curves(
    grid: TimeSeries, matrices: list[np.ndarray], valid: np.ndarray, brain: np.ndarray, blocks: VoxelBlocks, progress: Progress = silent
) -> tuple[np.ndarray, np.ndarray]:
    """Enhancement in HU on the network's grid, float32 (F, K, J, I), and validity (F, K); averages are over brain only.

    `matrices` and `valid` are those of `bolus_grid.slice_weights`.
    """
    frames = grid.values.shape[0]
    out = np.zeros((len(GRID_S), *blocks.geometry.shape), np.float32)
    amount = np.zeros((len(GRID_S), *blocks.geometry.shape), np.float32)
    for k, matrix in enumerate(matrices):
        inside = np.flatnonzero(brain[k])
        enhanced = np.zeros((len(GRID_S), brain[k].size), np.float32)
        enhanced[:, inside] = matrix @ grid.values[:, k].reshape(frames, -1)[:, inside].astype(np.float32)
        target = k // blocks.slices
        share = blocks.in_plane(brain[k].astype(np.float32))
        out[:, target] += blocks.in_plane(enhanced.reshape(-1, *brain[k].shape))
        amount[:, target] += valid[:, k, None, None] * share
        progress((k + 1) / len(matrices))
    np.divide(out, amount, out=out, where=amount > 0)
    # A thick slice made of thin ones is covered where any of them is.
    covered = np.stack([valid[:, blocks.members(k)].max(axis=1) for k in range(out.shape[1])], axis=1)
    return out, covered


def scaled_maps(result: PerfusionResult, blocks: VoxelBlocks, brain: np.ndarray) -> np.ndarray:
    """Channels of a network that takes maps, float32 (C, K, J, I), on the network's grid."""
    channels = [blocks.mean(result.maps[name]) / np.float32(scale) for name, scale in MAP_SCALES.items()]
    return np.clip(np.stack(channels) * brain, -LARGEST_MAP_VALUE, LARGEST_MAP_VALUE).astype(np.float32)


def with_result(found: StudyInput, result: PerfusionResult) -> StudyInput:
    """The same input with the maps of `result`, which was made of the same prepared study.

    Without reference tissue relative flow is 0 everywhere, which a network would read as core everywhere: such maps are withheld.
    """
    if not (np.any(result.maps["rcbf"]) and np.any(result.maps["rcbv"])):
        return found
    return replace(found, maps=scaled_maps(result, found.blocks, found.brain))
