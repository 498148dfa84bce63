"""Everything one analysis found, on one grid: what the result folder stores and the report and the panel show."""

from dataclasses import dataclass, field

import numpy as np

from CTPerfusionSuiteLib.volumes import Geometry

from .input_functions import InputFunction
from .perfusion_options import Thresholds

MAP_UNITS = {
    "cbf": ("cerebral blood flow", "mL/min/(100.g)", "mL/100 g/min"),
    "cbv": ("cerebral blood volume", "mL/(100.g)", "mL/100 g"),
    "mtt": ("mean transit time", "s", "s"),
    "delay": ("arterial delay", "s", "s"),
    "tmax": ("time to maximum of the residue function", "s", "s"),
    "ttp": ("time to peak from arterial arrival", "s", "s"),
    "rcbf": ("relative cerebral blood flow", "1", "fraction of reference"),
    "rcbv": ("relative cerebral blood volume", "1", "fraction of reference"),
}
"""Map name -> (quantity, UCUM unit, unit as people write it).  ``*_sd``, ``*_p025`` and ``*_p975`` share their map's unit."""
RELATIVE_MAPS = ("cbf", "cbv")
"""Maps that scale with the arterial curve: relative where it is not calibrated (MTT is their ratio, times do not depend on it)."""


@dataclass(frozen=True)
class PerfusionResult:
    """Maps, masks, curves and numbers of one study.

    Attributes
    ----------
    geometry : Geometry
        The analysis grid; every array below is (K, J, I) on it.
    maps : dict of str -> float32 ndarray
        Keys of `MAP_UNITS` and, with the Bayesian engine, ``{cbf,mtt,delay}_{sd,p025,p975}``; 0 outside the brain mask.
    masks : dict of str -> uint8 ndarray
        ``brain_mask, tissue_mask, hemisphere`` (1 left, 2 right), and the lesion masks under the names they are written with
        (``hypoperf_mask_tmax6``, ``core_mask_rcbf30``, ``penumbra_mask``).
    images : dict of str -> ndarray
        ``mean_ct`` and ``baseline``, HU.
    aif, vof : InputFunction
        `aif` is as used by the engine (after venous scaling); `vof` may be None.
    aif_candidates, vof_candidates : tuple of InputFunction
        Ranked automatic candidates, best first.
    thresholds : Thresholds
    metrics : dict
        The document of metrics.json.
    motion : object or None
        `CTPerfusionSuiteLib.registration.Motion` with times, or None when not corrected.
    provenance : dict
        Versions, options, input description; JSON types only.
    tissue_curve : InputFunction or None
        Mean enhancement of all tissue; not stored in the result folder.
    source_header : dict
        `TimeSeries.header`, for writing DICOM beside the source; never stored in the result folder.
    """

    geometry: Geometry
    maps: dict[str, np.ndarray]
    masks: dict[str, np.ndarray]
    images: dict[str, np.ndarray]
    aif: InputFunction
    vof: InputFunction | None
    metrics: dict
    thresholds: Thresholds = field(default_factory=Thresholds)
    aif_candidates: tuple[InputFunction, ...] = ()
    vof_candidates: tuple[InputFunction, ...] = ()
    motion: object | None = None
    provenance: dict = field(default_factory=dict)
    tissue_curve: InputFunction | None = None
    source_header: dict = field(default_factory=dict)

    def unit_of(self, name: str) -> tuple[str, str, str]:
        """(quantity, UCUM unit, unit as people write it) of a map; CBF and CBV have none where the artery is not calibrated."""
        base = name.partition("_")[0]
        quantity, unit, words = MAP_UNITS[base]
        if base in RELATIVE_MAPS and self.metrics.get("absolute_calibrated") is False:
            return f"{quantity} on a relative scale", "1", "relative"
        return quantity, unit, words
