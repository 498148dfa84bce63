"""The digital phantom after Kudo and the Acute Stroke Imaging Standardization Group: tiles of known flow, volume and delay.

Columns are MTT 24, 12, 8, 6, 4.8, 4 and 3.43 s, rows delay 0 to 3 s, slices CBV 1 to 5 mL/100 g.

References
----------
Kudo K et al., Radiology 2013;267:201 (layout and acceptance).  The arterial curve is the gamma variate A (t - t0)^a exp(-(t - t0)/b)
with t0 = 12 s, a = 3, b = 1.5 s and a peak of 464.9 HU.
"""

from dataclasses import dataclass

import numpy as np

from CTPerfusionSuiteLib.phantoms.bolus import GammaVariateBolus
from CTPerfusionSuiteLib.phantoms.forward_model import DenseGrid, dispersed_bolus, unit_curves
from CTPerfusionSuiteLib.phantoms.noise import ct_noise
from CTPerfusionSuiteLib.tracer_kinetics import Hematocrit, flow_scale
from CTPerfusionSuiteLib.volumes import Geometry, TimeSeries, Volume

KUDO_MTT_S = (24.0, 12.0, 8.0, 6.0, 4.8, 4.0, 24.0 / 7.0)
KUDO_DELAY_S = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
KUDO_BOLUS = GammaVariateBolus(12.0, 3.0, 1.5, 464.9)
BASELINE_HU = 40.0


@dataclass(frozen=True, eq=False)
class KudoPhantom:
    """The phantom with its truth.

    Attributes
    ----------
    series : TimeSeries
        (T, K, J, I) float32 HU over a baseline of 40, slices are CBV levels; times from 0.
    cbf, cbv, mtt, delay : ndarray (K, J, I) float32
        mL/100 g/min, mL/100 g, s, s; 0 outside the tiles.
    valid : ndarray (K, J, I) of bool
        The tiles.
    tile : ndarray (K, J, I) of int
        Number of the tile within its slice (7 row + column), -1 outside.
    aif, vof : tuple of (times (T,), HU (T,))
        At the frames; the venous curve has the arterial area.
    aif_mask, vof_mask : ndarray (K, J, I) of bool
        The squares in the margin that show them.
    """

    series: TimeSeries
    cbf: np.ndarray
    cbv: np.ndarray
    mtt: np.ndarray
    delay: np.ndarray
    valid: np.ndarray
    tile: np.ndarray
    aif: tuple[np.ndarray, np.ndarray]
    vof: tuple[np.ndarray, np.ndarray]
    aif_mask: np.ndarray
    vof_mask: np.ndarray

    @property
    def truth(self) -> dict[str, Volume]:
        """Truth maps and masks as volumes."""
        grid = self.series.geometry
        entries = {
            "cbf": (self.cbf, "cerebral blood flow", "mL/min/(100.g)"),
            "cbv": (self.cbv, "cerebral blood volume", "mL/(100.g)"),
            "mtt": (self.mtt, "mean transit time", "s"),
            "delay": (self.delay, "arterial delay", "s"),
            "tissue": (self.valid.astype(np.uint8), "tiles", "1"),
            "brain": (np.ones(grid.shape, np.uint8), "phantom", "1"),
            "arterial_voxels": (self.aif_mask.astype(np.uint8), "arterial square", "1"),
            "venous_voxels": (self.vof_mask.astype(np.uint8), "venous square", "1"),
        }
        return {name: Volume(values, grid, what, unit) for name, (values, what, unit) in entries.items()}

    def tile_means(self, values: np.ndarray) -> np.ndarray:
        """Mean of a map (K, J, I) over each tile: (K, 7, 7), delay along axis 1 and MTT along axis 2."""
        counts = int(self.tile.max()) + 1
        out = [
            np.bincount(number[number >= 0], weights=plane[number >= 0], minlength=counts) / np.bincount(number[number >= 0])
            for plane, number in zip(np.asarray(values, float), self.tile, strict=True)
        ]
        return np.stack(out).reshape(len(out), len(KUDO_DELAY_S), len(KUDO_MTT_S))


def kudo_phantom(
    residue: str = "exponential",
    *,
    tile: int = 32,
    noise_hu: float = 0.0,
    seed: int = 0,
    dt: float = 2.0,
    frames: int = 30,
    cbv=(1.0, 2.0, 3.0, 4.0, 5.0),
    correlated: bool = False,
    times=None,
    pixel_mm: float = 1.0,
    dispersion: float = 0.0,
    bolus=KUDO_BOLUS,
    hematocrit: Hematocrit = Hematocrit(),
) -> KudoPhantom:
    """Make the phantom.

    Parameters
    ----------
    residue : str
        "exponential", "linear", "box" or another of `forward_model.RESIDUES`.
    tile : int
        Pixels along the side of a tile (32 in the original).
    noise_hu : float
        Standard deviation in every pixel, white or, with `correlated`, of a soft reconstruction kernel.
    dt, frames : float, int
        Seconds between frames and their number; `times` (T,) replaces both.
    cbv : sequence
        mL/100 g of each slice.
    dispersion : float
        Mean of an exponential transport kernel on the arterial side, seconds.
    bolus : callable
        Arterial enhancement in HU as a function of seconds.
    """
    times = dt * np.arange(frames) if times is None else np.asarray(times, dtype=float)
    times = times - times[0]
    grid = DenseGrid.covering(-25.0, float(times[-1]) + 1.0)
    units = unit_curves(bolus, grid, KUDO_MTT_S, residue, dispersion)
    # (delay, MTT, T) for a flow of 1/s.
    patterns = np.stack([grid.sample(units, times - delay) for delay in KUDO_DELAY_S])

    margin = max(6, tile // 2)
    rows, columns = len(KUDO_DELAY_S), len(KUDO_MTT_S)
    height, width = rows * tile + 2 * margin, columns * tile + 2 * margin
    shape = (len(cbv), height, width)
    inner = (slice(margin, margin + rows * tile), slice(margin, margin + columns * tile))

    def spread(table):
        return np.repeat(np.repeat(table, tile, axis=-2), tile, axis=-1)

    maps = {name: np.zeros(shape, np.float32) for name in ("cbf", "cbv", "mtt", "delay")}
    number = np.full(shape, -1, np.int32)
    values = np.full((times.size, *shape), BASELINE_HU, np.float32)
    mtt, delay = np.meshgrid(KUDO_MTT_S, KUDO_DELAY_S)
    for k, volume in enumerate(cbv):
        cbf = 60.0 * volume / mtt
        for name, table in (("cbf", cbf), ("cbv", np.full_like(mtt, volume)), ("mtt", mtt), ("delay", delay)):
            maps[name][k][inner] = spread(table)
        number[k][inner] = spread(np.arange(rows * columns).reshape(rows, columns))
        enhancement = np.moveaxis(patterns, -1, 0) * (cbf / flow_scale(hematocrit))
        values[:, k][(slice(None), *inner)] += spread(enhancement)

    arterial = bolus(times)
    venous = grid.sample(dispersed_bolus(bolus, grid, 3.0, 3.0, 3.0), times)
    aif_mask, vof_mask = np.zeros(shape, bool), np.zeros(shape, bool)
    square = max(4, margin - 2)
    middle = width // 2 - square // 2
    aif_mask[:, 1 : 1 + square, middle : middle + square] = True
    vof_mask[:, height - 1 - square : height - 1, middle : middle + square] = True
    values[:, aif_mask] += arterial[:, None].astype(np.float32)
    values[:, vof_mask] += venous[:, None].astype(np.float32)
    if noise_hu > 0:
        rng = np.random.default_rng(seed)
        kernel = "soft" if correlated else "white"
        for frame in values:
            frame += ct_noise(rng, shape, noise_hu, kernel, (pixel_mm, pixel_mm))
    geometry = Geometry((width, height, len(cbv)), (pixel_mm, pixel_mm, 5.0))
    series = TimeSeries(values, geometry, times, "simulated", header={"Manufacturer": "Simulated"})
    return KudoPhantom(
        series, **maps, valid=number >= 0, tile=number, aif=(times, arterial), vof=(times, venous), aif_mask=aif_mask, vof_mask=vof_mask
    )
