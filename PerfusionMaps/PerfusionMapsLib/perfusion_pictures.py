"""The pictures of a perfusion study: each takes a `PerfusionResult` and gives a PNG that stands alone."""

import numpy as np
from scipy import ndimage

from CTPerfusionSuiteLib.report.canvas import new_canvas, to_png, write_text
from CTPerfusionSuiteLib.report.color_maps import ARTERY, CORE, PENUMBRA, VEIN, band_colors, flow_table, time_table
from CTPerfusionSuiteLib.report.curves_plot import Curve, draw_curves, message_picture, motion_plot
from CTPerfusionSuiteLib.report.orientation import RadiologicalView
from CTPerfusionSuiteLib.report.pictures import (
    EDGE,
    FULL_WIDTH,
    MOSAIC_WIDTH,
    MaskLayer,
    Place,
    Window,
    draw_place,
    map_mosaic,
    overlay_mosaic,
    projections,
)
from CTPerfusionSuiteLib.report.tiles import TileLayout, lay_out

from .input_functions import InputFunction
from .lesions import NORMAL_TMAX_S, Lesions, lesions, mask_names
from .perfusion_result import MAP_UNITS, RELATIVE_MAPS, PerfusionResult

CLINICAL_WINDOWS = {"cbf": 60.0, "cbv": 6.0, "mtt": 15.0, "delay": 10.0, "tmax": 12.0, "ttp": 20.0, "rcbf": 1.6, "rcbv": 1.6}
"""Map name -> value of the last color; every window begins at 0.  Fixed, so that studies can be compared by eye."""
SHORT_NAMES = {"cbf": "CBF", "cbv": "CBV", "mtt": "MTT", "delay": "Delay", "tmax": "Tmax", "ttp": "TTP", "rcbf": "rCBF", "rcbv": "rCBV"}


def brain_layout(result: PerfusionResult) -> TileLayout:
    """The slices of the brain as the map mosaics show them."""
    return lay_out(RadiologicalView(result.geometry), result.masks["brain_mask"], MOSAIC_WIDTH)


def head_layout(result: PerfusionResult, per_row: int = 8) -> TileLayout:
    """The same slices with more of the head around them, for masks over CT."""
    return lay_out(RadiologicalView(result.geometry), result.masks["brain_mask"], FULL_WIDTH - 2 * EDGE, per_row=per_row, widest_tile=410,
                   margin_mm=10.0)


def is_calibrated(result: PerfusionResult) -> bool:
    """Whether CBF and CBV are in absolute units."""
    return result.metrics.get("absolute_calibrated") is not False


def map_title(result: PerfusionResult, name: str) -> str:
    """Name of a map for people, marked where its scale is relative."""
    title = f"{SHORT_NAMES[name]}, {MAP_UNITS[name][0]}"
    return f"{title} (relative)" if name in RELATIVE_MAPS and not is_calibrated(result) else title


def map_window(result: PerfusionResult, name: str) -> Window:
    """The clinical window of a map; a relative map is scaled to the median of normally perfused tissue instead."""
    table = flow_table() if name in ("cbf", "cbv", "rcbf", "rcbv") else time_table()
    marks = {"tmax": (result.thresholds.tmax_s,), "rcbf": (result.thresholds.rcbf,)}.get(name, ())
    high, unit = CLINICAL_WINDOWS[name], MAP_UNITS[name][2]
    if name in ("rcbf", "rcbv"):
        unit = "of reference"
    if name in RELATIVE_MAPS and not is_calibrated(result):
        unit = "relative"
        normal = result.maps[name][normal_tissue(result)]
        middle = float(np.median(normal)) if normal.size else 0.0
        # Twice the median of mixed gray and white matter spans a calibrated map's window.
        high = float(f"{2.2 * middle:.1g}") if middle > 0 else high
    return Window(0.0, high, unit, table, marks)


def normal_tissue(result: PerfusionResult) -> np.ndarray:
    """Tissue with Tmax <= 4 s, bool (K, J, I)."""
    return (result.masks["tissue_mask"] > 0) & (result.maps["tmax"] <= NORMAL_TMAX_S)


def lesion_names(result: PerfusionResult) -> tuple[str, str]:
    """Hypoperfusion and core as they are called beside pictures, thresholds included."""
    return f"Tmax > {result.thresholds.tmax_s:g} s", f"rCBF < {100 * result.thresholds.rcbf:g} %"


def map_picture(result: PerfusionResult, name: str, layout: TileLayout | None = None) -> bytes:
    """PNG mosaic of one of the maps of `MAP_UNITS`."""
    layout = layout or brain_layout(result)
    return map_mosaic(layout, result.maps[name], result.masks["brain_mask"], map_window(result, name), map_title(result, name))


def core_penumbra_picture(result: PerfusionResult) -> bytes:
    """PNG mosaic of core and penumbra over the mean CT (``qa_core_penumbra.png``)."""
    hypoperfusion, core = lesion_names(result)
    volumes = result.metrics.get("volumes_ml", {})
    masks = result.masks
    whole_mask, core_mask = (masks.get(name) for name in mask_names(result.thresholds))
    layers = []
    if masks.get("penumbra_mask") is not None:
        layers.append(MaskLayer(f"penumbra {_ml(volumes.get('penumbra'))}", masks["penumbra_mask"], PENUMBRA, 0.38))
    elif whole_mask is not None:  # without reference tissue there is no core to take away
        layers.append(MaskLayer(f"hypoperfusion {_ml(volumes.get('hypoperfusion'))}", whole_mask, PENUMBRA, 0.38))
    if core_mask is not None:
        layers.append(MaskLayer(f"core {_ml(volumes.get('core'))}", core_mask, CORE, 0.55))
    title = f"Core ({core}) and penumbra ({hypoperfusion}) on mean CT"
    return overlay_mosaic(head_layout(result, per_row=6), result.images["mean_ct"], layers, title)


def tmax_bands_picture(result: PerfusionResult, found: Lesions | None = None) -> bytes:
    """PNG mosaic of Tmax > 4, 6, 8, 10 s over the mean CT."""
    found = found or lesions(result.maps, result.masks, result.thresholds, result.geometry)
    volumes = result.metrics.get("volumes_ml", {}).get("tmax_gt", {})
    names = {key: f"> {key} s  {_ml(volumes.get(key))}" for key in ("4", "6", "8", "10")}
    return _bands(result, found.tmax_gt, names, "Tmax thresholds")


def rcbf_bands_picture(result: PerfusionResult, found: Lesions | None = None) -> bytes | None:
    """PNG mosaic of rCBF < 38, 34, 30, 20 % within the hypoperfusion, over the mean CT; None without reference tissue."""
    found = found or lesions(result.maps, result.masks, result.thresholds, result.geometry)
    volumes = result.metrics.get("volumes_ml", {}).get("rcbf_lt", {})
    keys = ("0.38", "0.34", "0.30", "0.20")
    if any(found.rcbf_lt.get(key) is None for key in keys):
        return None
    names = {key: f"< {100 * float(key):.0f} %  {_ml(volumes.get(key))}" for key in keys}
    return _bands(result, found.rcbf_lt, names, f"rCBF thresholds within Tmax > {result.thresholds.tmax_s:g} s")


def interval_pictures(result: PerfusionResult, layout: TileLayout | None = None) -> list[tuple[str, bytes]]:
    """(map name, PNG) of half the width of the 95 % interval of delay (s) and of CBF (percent of its value); empty without intervals."""
    layout = layout or brain_layout(result)
    tissue, out = result.masks["tissue_mask"], []
    for name, high, unit in (("delay", 4.0, "s"), ("cbf", 100.0, "% of CBF")):
        if f"{name}_p025" not in result.maps or f"{name}_p975" not in result.maps:
            continue
        half = (result.maps[f"{name}_p975"] - result.maps[f"{name}_p025"]) / 2.0
        if name == "cbf":
            normal = result.maps["cbf"][normal_tissue(result)]
            least = 0.03 * float(np.median(normal)) if normal.size else 1.0  # where nothing flows a percentage means nothing
            half = 100.0 * half / np.maximum(result.maps["cbf"], max(least, 1e-6))
        title = f"{SHORT_NAMES[name]}, half width of the 95 % interval"
        out.append((name, map_mosaic(layout, half, tissue, Window(0.0, high, unit, time_table()), title)))
    return out


def tmax_projection_picture(result: PerfusionResult) -> bytes:
    """PNG of the largest Tmax along the three axes (``qa_tmax_mip.png``)."""
    return projections(RadiologicalView(result.geometry), result.maps["tmax"], result.masks["tissue_mask"], map_window(result, "tmax"),
                       "Tmax, largest value through the tissue", result.masks["brain_mask"])


def input_functions_picture(result: PerfusionResult, tissue: tuple[Curve, ...] = ()) -> bytes:
    """PNG of AIF, VOF and other curves, and where the vessels lie (``qa_aif_vof.png``).

    Parameters
    ----------
    result : PerfusionResult
    tissue : tuple of Curve
        Further curves to show, such as mean tissue curves.
    """
    aif, vof = result.aif, result.vof
    curves = [Curve("candidate", c.times, c.hu, ARTERY, weak=True) for c in result.aif_candidates[1:6]]
    curves += [Curve("candidate", c.times, c.hu, VEIN, weak=True) for c in result.vof_candidates[1:4]]
    curves.append(Curve("AIF", aif.times, aif.hu, ARTERY))
    if vof is not None:
        curves.append(Curve("VOF", vof.times, vof.hu, VEIN, line="--"))
    curves += list(tissue)
    places = _places(result)
    plot_height, tile_height = 420, 500
    figure = new_canvas(1680, 46 + plot_height + (tile_height if places else 40))
    write_text(figure, 24, 24, "Arterial input (AIF) and venous output (VOF)", 25, "#1d2530", weight="bold")
    draw_curves(figure, (0, 46, 1660, plot_height), curves)
    if not places:
        write_text(figure, 84, 46 + plot_height + 18, "The curves were given, without a place in the head.", 20, "#5b6675")
        return to_png(figure)
    view, brain, ct = RadiologicalView(result.geometry), result.masks["brain_mask"], result.images["mean_ct"]
    boxes = [(24 + n * 414, 46 + plot_height + 6, 396, tile_height - 12) for n in range(4)]
    strong = [place for place in places if not place.weak]
    for place in strong:
        near = [p for p in places if p.color == place.color and p is not place]
        draw_place(figure, boxes.pop(0), view, ct, brain, [place, *near], None, f"{place.name}, mean CT")
    enhanced = _enhancement(result)
    last = [place for place in places if place.weak] + strong
    draw_place(figure, boxes.pop(0), view, enhanced, brain, last, 0, "enhancement, axial maximum")
    draw_place(figure, boxes.pop(0), view, enhanced, brain, last, 2, "enhancement, sagittal maximum")
    return to_png(figure)


def motion_picture(result: PerfusionResult) -> bytes:
    """PNG of the motion of every frame (``qa_motion.png``); says so when motion was not corrected."""
    motion = result.motion
    if motion is None:
        return message_picture("Motion of the head", "Motion was not corrected: the frames were taken as they are.")
    return motion_plot(motion.times, motion.translations_mm, motion.rotations_deg, motion.bad)


def _bands(result: PerfusionResult, masks: dict[str, np.ndarray], names: dict[str, str], title: str) -> bytes:
    """Nested masks, mildest first, each drawn over the last."""
    layers = [MaskLayer(names[key], masks[key], tuple(int(c) for c in color), 0.8)
              for key, color in zip(names, band_colors(), strict=True)]
    return overlay_mosaic(head_layout(result), result.images["mean_ct"], layers, title, outlines=False)


def _places(result: PerfusionResult) -> list[Place]:
    """AIF and VOF first, then the other candidates, those with a position only."""
    chosen = [("AIF", result.aif, ARTERY_RING, False), ("VOF", result.vof, VEIN_RING, False)]
    chosen += [("AIF candidate", c, ARTERY_RING, True) for c in result.aif_candidates[1:6]]
    chosen += [("VOF candidate", c, VEIN_RING, True) for c in result.vof_candidates[1:4]]
    return [Place(name, curve.lps, color, weak) for name, curve, color, weak in chosen if has_place(curve)]


ARTERY_RING, VEIN_RING = "#ff4f9a", "#4fa8ff"
"""The curves' colors, lighter, to be seen on CT."""


def has_place(curve: InputFunction | None) -> bool:
    """Whether a curve was read from voxels."""
    return curve is not None and len(curve.lps) > 0


def _enhancement(result: PerfusionResult) -> np.ndarray:
    """Mean over time minus baseline, HU, slightly smoothed in the slice: the vessels, without the skull."""
    if "baseline" not in result.images:
        return np.where(result.masks["brain_mask"] > 0, result.images["mean_ct"], 0.0)
    difference = np.asarray(result.images["mean_ct"], np.float32) - result.images["baseline"]
    sigma = [0.0 if spacing > 2.5 else 1.0 / spacing for spacing in result.geometry.spacing[::-1]]
    return ndimage.gaussian_filter(difference, sigma)


def _ml(volume: float | None) -> str:
    return "not determined" if volume is None else f"{volume:.1f} mL" if volume < 100 else f"{volume:.0f} mL"
