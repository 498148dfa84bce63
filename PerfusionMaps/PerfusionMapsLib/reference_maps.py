"""Maps of other software as a side of a comparison: folders and files named as ISLES, RAPID exports and others name them."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from CTPerfusionSuiteLib.errors import RequestRefused
from CTPerfusionSuiteLib.geometry import resample_to
from CTPerfusionSuiteLib.nifti import read_volume
from CTPerfusionSuiteLib.volumes import Geometry, Volume

from .lesions import LEFT, RIGHT, Lesions, lesions, mask_names
from .perfusion_options import Thresholds
from .perfusion_result import PerfusionResult

MAP_WORDS = {"tmax": {"tmax"}, "cbf": {"cbf"}, "cbv": {"cbv"}, "mtt": {"mtt"}, "rcbf": {"rcbf"}, "delay": {"delay"}, "ttp": {"ttp"}}
MASK_WORDS = {
    "hypoperfusion": {"hypoperf", "hypoperfusion", "tmax6", "hypo"},
    "core": {"core", "rcbf30", "cbf30"},
    "penumbra": {"penumbra"},
    "infarct": {"ot", "infarct", "lesion"},
}
"""Words of a file name that tell its content.  Mask words are looked for first: ``core_mask_rcbf30`` is a mask, not an rcbf map."""
ENDINGS = (".nii.gz", ".nii")


@dataclass(frozen=True)
class ComparedMaps:
    """One side of a comparison, on its own grid or on that of the other side.

    Attributes
    ----------
    name : str
    geometry : Geometry
    maps : dict of str -> ndarray (K, J, I)
        ``tmax, mtt, delay, ttp`` in s, ``cbf`` in mL/100 g/min, ``cbv`` in mL/100 g, ``rcbf``; whichever are there.
    masks : dict of str -> bool ndarray (K, J, I)
        ``hypoperfusion, core, penumbra, infarct, tissue_mask, hemisphere``; whichever are there.
    volumes_ml : dict of str -> float or None
        ``hypoperfusion, core, penumbra`` as their own software measured them, on their own grid.
    profiles : dict of str -> str
        Trial profile -> status.
    notes : tuple of str
        What had to be assumed, in words.
    """

    name: str
    geometry: Geometry
    maps: dict[str, np.ndarray]
    masks: dict[str, np.ndarray]
    volumes_ml: dict[str, float | None]
    profiles: dict[str, str]
    notes: tuple[str, ...] = ()


def of_result(name: str, result: PerfusionResult) -> ComparedMaps:
    """A result of ours as a side."""
    hypoperfusion, core = mask_names(result.thresholds)
    named = {"hypoperfusion": hypoperfusion, "core": core, "penumbra": "penumbra_mask"}
    masks = {word: result.masks[file] > 0 for word, file in named.items() if file in result.masks}
    masks |= {word: result.masks[word] for word in ("tissue_mask", "hemisphere") if word in result.masks}
    maps = {word: result.maps[word] for word in MAP_WORDS if word in result.maps}
    volumes = {word: result.metrics["volumes_ml"][word] for word in named}
    profiles = {word: profile["status"] for word, profile in result.metrics["profiles"].items()}
    return ComparedMaps(name, result.geometry, maps, masks, volumes, profiles)


def find_maps(path: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Map files and mask files below a folder (or the one file given), by content; the shortest name wins where several fit."""
    files = [path] if path.is_file() else sorted(path.rglob("*"), key=lambda file: (len(file.name), file.name))
    maps: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for file in files:
        if not file.name.lower().endswith(ENDINGS):
            continue
        words = set(re.split(r"[^a-z0-9]+", file.name.lower()))
        content = next((kind for kind, names in MASK_WORDS.items() if words & names), None)
        if content is not None:
            masks.setdefault(content, file)
            continue
        content = next((kind for kind, names in MAP_WORDS.items() if words & names and not words & {"sd", "p025", "p975"}), None)
        if content is not None:
            maps.setdefault(content, file)
    return maps, masks


def read_reference(name: str, path: Path) -> ComparedMaps:
    """Maps and masks of other software, on the grid of the first file found.

    Raises
    ------
    RequestRefused
        When nothing with a known name is there.
    """
    maps, masks = find_maps(path)
    if not maps and not masks:
        raise RequestRefused(
            f"'{path}' holds neither a result nor NIfTI maps of known names (tmax, cbf, cbv, mtt, core, penumbra ...); give such a folder"
        )
    notes, geometry = [], None
    read: dict[str, dict[str, np.ndarray]] = {"maps": {}, "masks": {}}
    for group, files in (("maps", maps), ("masks", masks)):
        for content, file in files.items():
            volume = _volume(file)
            geometry = geometry or volume.geometry
            if not volume.geometry.close_to(geometry):
                volume = resample_to(volume, geometry, "linear" if group == "maps" else "nearest")
                notes.append(f"'{file.name}' was resampled to the grid of the other files of {name}")
            read[group][content] = volume.values.astype(np.float32) if group == "maps" else volume.values > 0
    found = read["masks"]
    if "penumbra" in found and "core" in found and "hypoperfusion" not in found:
        found["hypoperfusion"] = found["penumbra"] | found["core"]
        notes.append(f"hypoperfusion of {name} is its penumbra and core together")
    return ComparedMaps(name, geometry, read["maps"], found, _volumes_ml(found, geometry), {}, tuple(notes))


def on_grid(side: ComparedMaps, geometry: Geometry) -> ComparedMaps:
    """A side resampled to another grid (maps linear, masks nearest), which its notes then say; unchanged on the same grid."""
    if side.geometry.close_to(geometry):
        return replace(side, geometry=geometry)

    def moved(values: np.ndarray, how: str) -> np.ndarray:
        return resample_to(Volume(values, side.geometry), geometry, how).values

    maps = {name: moved(np.nan_to_num(values), "linear") for name, values in side.maps.items()}
    masks = {name: moved(np.asarray(mask, np.uint8), "nearest") for name, mask in side.masks.items()}
    masks = {name: mask if name == "hemisphere" else mask > 0 for name, mask in masks.items()}
    size = " x ".join(str(n) for n in side.geometry.size)
    note = f"{side.name} ({size} voxels) was resampled to the grid of the other side: maps linearly, masks to the nearest voxel"
    return replace(side, geometry=geometry, maps=maps, masks=masks, notes=(*side.notes, note))


def with_lesions(side: ComparedMaps, thresholds: Thresholds, other: ComparedMaps | None = None) -> ComparedMaps:
    """A side whose missing masks are made from its own maps with our thresholds, so that both sides are judged by the same code.

    Parameters
    ----------
    side : ComparedMaps
        Its volumes are taken from the masks it has, or from those made here.
    thresholds : Thresholds
    other : ComparedMaps, optional
        On the same grid; lends its tissue and hemispheres, which maps of other software seldom bring.
    """
    masks, notes = dict(side.masks), list(side.notes)
    made: Lesions | None = None
    flow = next((side.maps[name] for name in ("rcbf", "cbf") if name in side.maps), None)
    if "tmax" in side.maps and flow is not None and not {"hypoperfusion", "core"} <= set(masks):
        made = _lesions_of(side, flow, thresholds, other)
        for word, mask in (("hypoperfusion", made.hypoperfusion), ("core", made.core), ("penumbra", made.penumbra)):
            if word not in masks and mask is not None:
                masks[word] = mask
                cut = f"Tmax > {thresholds.tmax_s:g} s, rCBF < {thresholds.rcbf:g}"
                notes.append(f"{word} of {side.name} was made here from its maps ({cut})")
    if "penumbra" not in masks and {"hypoperfusion", "core"} <= set(masks):
        masks["penumbra"] = masks["hypoperfusion"] & ~masks["core"]
    volumes = {**_volumes_ml(masks, side.geometry), **side.volumes_ml}
    return replace(side, masks=masks, volumes_ml=volumes, notes=tuple(notes))


def _volumes_ml(masks: dict[str, np.ndarray], geometry: Geometry) -> dict[str, float | None]:
    return {word: float(np.count_nonzero(masks[word])) * geometry.voxel_volume_ml for word in MASK_WORDS if word in masks}


def _lesions_of(side: ComparedMaps, flow: np.ndarray, thresholds: Thresholds, other: ComparedMaps | None) -> Lesions:
    inside = (side.maps["tmax"] > 0) | (flow > 0)
    if other is not None and "tissue_mask" in other.masks and other.geometry.close_to(side.geometry):
        tissue, hemisphere = (np.asarray(other.masks["tissue_mask"]) > 0) & inside, other.masks.get("hemisphere")
    else:
        tissue, hemisphere = inside & (flow > 0), None
    if hemisphere is None:
        hemisphere = _halves(inside, side.geometry)
    maps = {"tmax": side.maps["tmax"], "operator_cbf": flow}
    return lesions(maps, {"tissue_mask": tissue, "hemisphere": hemisphere}, thresholds, side.geometry)


def _halves(inside: np.ndarray, geometry: Geometry) -> np.ndarray:
    """1 left, 2 right of the middle of what a map covers; good enough where nothing better is known."""
    k, j, i = np.nonzero(inside)
    halves = np.zeros(inside.shape, np.uint8)
    if k.size:
        x = geometry.to_lps(np.column_stack([i, j, k]))[:, 0]
        halves[k, j, i] = np.where(x > 0.5 * (x.min() + x.max()), LEFT, RIGHT)
    return halves


def _volume(file: Path) -> Volume:
    try:
        return read_volume(file)
    except (OSError, ValueError, RuntimeError) as problem:
        raise RequestRefused(f"'{file}' cannot be read as a NIfTI volume; check the file") from problem
