"""Pictures of a volume: map mosaics with color bars, masks over CT, projections, and places marked in the head."""

from dataclasses import dataclass

import numpy as np

from .canvas import DPI, new_canvas, paste, pixel_axes, points, to_png, write_text
from .color_maps import blended, colored, gray_table, hex_color
from .orientation import RadiologicalView
from .tiles import TileLayout, bounds, outline, resampled

FULL_WIDTH = 1680
BAR_WIDTH = 116
HEAD_HEIGHT = 52
EDGE = 12
BACKGROUND = "#000000"
_LETTER = 11.6
"""Pixels of a letter of the legend, on average."""
INK, FAINT = "#f2f4f7", "#aab4c0"
CT_WINDOW = (-5.0, 90.0)
"""HU shown black to white: brain tissue with the contrast agent of the mean over time."""
MOSAIC_WIDTH = FULL_WIDTH - BAR_WIDTH - 2 * EDGE
"""Pixels there are for tiles in a picture of full width."""


@dataclass(frozen=True)
class Window:
    """How a quantity is colored.

    Attributes
    ----------
    low, high : float
        Values shown in the first and last color.
    unit : str
        As people write it.
    table : ndarray (256, 3) uint8
    marks : tuple of float
        Values to mark on the color bar, such as a threshold.
    """

    low: float
    high: float
    unit: str
    table: np.ndarray
    marks: tuple[float, ...] = ()


@dataclass(frozen=True)
class MaskLayer:
    """A mask drawn over CT: its name in the legend, RGB color 0-255, and opacity of its filling (0-1)."""

    name: str
    mask: np.ndarray
    color: tuple[int, int, int]
    opacity: float = 0.4


@dataclass(frozen=True)
class Place:
    """Something with a position in the head: a ring of `color` around `lps` (V, 3) mm; `weak` draws it thin."""

    name: str
    lps: np.ndarray
    color: str
    weak: bool = False


def map_mosaic(layout: TileLayout, values: np.ndarray, mask: np.ndarray, window: Window, title: str) -> bytes:
    """PNG of a map (K, J, I), black outside `mask`, with its color bar."""
    pixels, inside = layout.sample_within(values, mask)
    tiles = colored(pixels, window.table, window.low, window.high)
    tiles[~inside] = 0
    figure, top = _mosaic_canvas(layout, tiles, title, bar=True)
    _color_bar(figure, window, EDGE + layout.width + 18, top + EDGE, min(layout.height - layout.label_height - 2 * EDGE, 420))
    return to_png(figure, palette=True)


def overlay_mosaic(layout: TileLayout, ct: np.ndarray, layers: list[MaskLayer], title: str, outlines: bool = True) -> bytes:
    """PNG of masks over CT (K, J, I), in the order given, with a legend."""
    tiles = colored(layout.sample(ct), gray_table(), *CT_WINDOW)
    for layer in layers:
        inside = layout.sample(np.asarray(layer.mask) > 0) >= 0.5
        tiles = blended(tiles, layer.color, layer.opacity * inside)
        if outlines:
            tiles[outline(inside)] = layer.color
    legend = tuple((layer.name, hex_color(layer.color)) for layer in layers)
    figure, _ = _mosaic_canvas(layout, tiles, title, bar=False, legend=legend)
    return to_png(figure, palette=True)


def projections(view: RadiologicalView, values: np.ndarray, mask: np.ndarray, window: Window, title: str, mark_head: np.ndarray) -> bytes:
    """PNG of the largest value along z, y and x: axial, coronal and sagittal.

    Parameters
    ----------
    view : RadiologicalView
    values, mask : ndarray (K, J, I)
        Only voxels of `mask` count.
    window : Window
    title : str
    mark_head : ndarray (K, J, I)
        A larger mask whose outline shows where the brain is.
    """
    head = view.apply(np.asarray(mark_head)) > 0
    inside = view.apply(np.asarray(mask)) > 0
    if not head.any():
        head = np.ones(view.shape, bool)
    shown = np.where(inside, view.apply(values), -np.inf)
    box = [_extent(head, axis, 6.0 / view.spacing[axis]) for axis in range(3)]
    lengths = [(stop - start) * spacing for (start, stop), spacing in zip(box, view.spacing, strict=True)]
    # The coronal and sagittal views of a thin slab fit one above the other beside the axial view.
    stacked = lengths[0] < 0.5 * lengths[1]
    gap, label = 46, 34
    across_mm = lengths[2] + (max(lengths[2], lengths[1]) if stacked else lengths[2] + lengths[1])
    scale = min((FULL_WIDTH - BAR_WIDTH - 3 * gap) / across_mm, 560 / max(lengths[1], lengths[0]))
    # Pixels from inferior to superior, from anterior to posterior, from right to left.
    tall, deep, wide = (max(round(scale * length), 1) for length in lengths)
    height = max(deep, 2 * tall + gap + label) if stacked else max(deep, tall)
    left2 = EDGE + wide + gap
    left3 = left2 if stacked else left2 + wide + gap
    right = max(left2 + wide, left3 + deep)
    top2 = HEAD_HEIGHT + ((height - 2 * tall - gap - label) // 2 if stacked else (height - tall) // 2)
    top3 = top2 + tall + gap + label if stacked else top2
    figure = new_canvas(right + 40 + BAR_WIDTH, HEAD_HEIGHT + height + label + EDGE, BACKGROUND)
    write_text(figure, EDGE + 2, HEAD_HEIGHT / 2, title, 25, INK, weight="bold")
    views = (
        ("axial", 0, ("R", "L"), EDGE, HEAD_HEIGHT + (height - deep) // 2, deep, wide),
        ("coronal", 1, ("R", "L"), left2, top2, tall, wide),
        ("sagittal", 2, ("A", "P"), left3, top3, tall, deep),
    )
    for name, axis, sides, left, top, rows, columns in views:
        down, across = [a for a in range(3) if a != axis]
        plane = shown.max(axis=axis)
        seen = np.isfinite(plane)
        pixels, within = _plane_within(plane, seen, box[down], box[across], rows, columns)
        outer = resampled(head.any(axis=axis), box[down], box[across], rows, columns) >= 0.5
        picture = colored(pixels, window.table, window.low, window.high)
        picture[~within] = 0
        picture[outer & ~within] = 40
        if axis != 0:
            picture = picture[::-1]  # superior at the top
        paste(figure, np.ascontiguousarray(picture), left, top)
        write_text(figure, left + 4, top + 12, sides[0], 20, INK, weight="bold")
        write_text(figure, left + columns - 4, top + 12, sides[1], 20, INK, weight="bold", ha="right")
        write_text(figure, left + columns / 2, top + rows + label / 2, f"{name} maximum", 19, FAINT, ha="center")
    _color_bar(figure, window, right + 40, HEAD_HEIGHT + EDGE, min(height - 2 * EDGE, 420))
    return to_png(figure, palette=True)


def draw_place(figure, box: tuple[int, int, int, int], view: RadiologicalView, ct: np.ndarray, mask: np.ndarray, places: list[Place],
               along: int | None, caption: str) -> None:
    """One picture with rings around places, inside `box` (left, top, width, height) pixels of a canvas.

    Parameters
    ----------
    along : {None, 0, 2}
        None shows the axial slice of the first place and the places within 1.5 slices of it; 0 and 2 show the largest value of `ct`
        from above and from the side (vessels as in an angiogram), and every place.
    """
    from matplotlib.patches import Ellipse

    left, top, width, height = box
    axis = along or 0
    down, across = [a for a in range(3) if a != axis]
    inside = view.apply(np.asarray(mask)) > 0
    if not inside.any():
        inside = np.ones(view.shape, bool)
    crop = {a: _extent(inside, a, 14.0 / view.spacing[a]) for a in (down, across)}
    shown = view.apply(np.asarray(ct, np.float32))
    number = None
    if along is None:
        number = int(np.clip(np.rint(np.median(view.position(places[0].lps)[:, 0])), 0, view.shape[0] - 1))
        plane, (low, high) = shown[number], CT_WINDOW
    else:
        plane = shown.max(axis=axis)
        low, high = 0.0, max(float(np.percentile(plane, 99.3)), 20.0)
    length = {a: (stop - start) * view.spacing[a] for a, (start, stop) in crop.items()}
    scale = min((height - 34) / length[down], width / length[across])
    tall, wide = max(round(scale * length[down]), 1), max(round(scale * length[across]), 1)
    x0, y0 = left + (width - wide) // 2, top + (height - 34 - tall) // 2
    rows, columns = crop[down], crop[across]
    pixels = colored(resampled(plane, rows, columns, tall, wide), gray_table(), low, high)
    ends = (rows[1] - 0.5, rows[0] - 0.5)
    if axis:  # superior at the top
        pixels, ends = np.ascontiguousarray(pixels[::-1]), ends[::-1]
    paste(figure, pixels, x0, y0)
    axes = pixel_axes(figure, x0, y0, wide, tall, xlim=(columns[0] - 0.5, columns[1] - 0.5), ylim=ends)
    axes.set_axis_off()
    axes.set_zorder(3)
    for place in places:
        at = view.position(place.lps)
        if number is not None:
            at = at[np.abs(at[:, 0] - number) <= 1.5]
        if not len(at):
            continue
        plane_mm = at[:, (down, across)] * (view.spacing[down], view.spacing[across])
        center = plane_mm.mean(axis=0)
        radius = 5.0 if place.weak else max(7.0, 4.0 + float(np.linalg.norm(plane_mm - center, axis=1).max()))
        axes.add_patch(Ellipse((center[1] / view.spacing[across], center[0] / view.spacing[down]), 2 * radius / view.spacing[across],
                               2 * radius / view.spacing[down], fill=False, edgecolor=place.color,
                               linewidth=points(1.5 if place.weak else 3.0)))
    marks = ("A", "P") if axis == 2 else ("R", "L")
    write_text(figure, x0 + 6, y0 + 16, marks[0], 20, INK, weight="bold")
    write_text(figure, x0 + wide - 6, y0 + 16, marks[1], 20, INK, weight="bold", ha="right")
    if number is not None:
        caption = f"{caption}, {view.slice_positions_mm[number]:.1f} mm"
    write_text(figure, left + width / 2, y0 + tall + 19, caption, 18, "#333a44", ha="center")



def _extent(mask: np.ndarray, axis: int, margin: float) -> tuple[int, int]:
    """Half-open range of a 3-D mask along one axis, widened by `margin` voxels."""
    return bounds(mask.any(axis=tuple(a for a in range(3) if a != axis)), margin, mask.shape[axis])


def _mosaic_canvas(layout: TileLayout, tiles: np.ndarray, title: str, bar: bool, legend: tuple[tuple[str, str], ...] = ()):
    """A black canvas with title, tiles, and on every tile R, L and the slice position; the pixel row where tiles begin."""
    width = max(layout.width + 2 * EDGE + (BAR_WIDTH if bar else 0), 620)
    title_size = min(25.0, (width - 2 * EDGE) / (0.66 * len(title)))
    # The legend stands beside the title where both fit, else under it.
    under = bool(legend) and 0.66 * title_size * len(title) + _legend_width(legend) > width - 2 * EDGE - 30
    top = HEAD_HEIGHT + (36 if under else 0)
    figure = new_canvas(width, top + layout.height + EDGE, BACKGROUND)
    paste(figure, layout.mosaic(tiles), EDGE, top)
    write_text(figure, EDGE + 2, HEAD_HEIGHT / 2, title, title_size, INK, weight="bold")
    _legend(figure, legend, HEAD_HEIGHT + 14 if under else HEAD_HEIGHT / 2)
    for number, position in enumerate(layout.positions_mm):
        left, row = layout.corner(number)
        left, row = left + EDGE, row + top
        write_text(figure, left + 5, row + 14, "R", 20, INK, weight="bold")
        write_text(figure, left + layout.tile_width - 5, row + 14, "L", 20, INK, weight="bold", ha="right")
        middle, strip = left + layout.tile_width / 2, row + layout.tile_height + layout.label_height / 2
        write_text(figure, middle, strip, f"{position:.1f} mm".replace("-", "\u2212"), 19, FAINT, ha="center")
    return figure, top


def _color_bar(figure, window: Window, left: int, top: int, height: int) -> None:
    """A vertical color bar with round ticks, its unit, and lines at marked values."""
    from matplotlib.ticker import MaxNLocator

    lines = window.unit.replace(" g/min", " g\n/min").split("\n")
    height = max(int(height) - 22 * len(lines) - 8, 60)
    for line in lines:
        write_text(figure, left - 2, top + 8, line, 18, INK)
        top += 22
    top += 8
    rows = np.round(np.linspace(255, 0, height)).astype(int)
    paste(figure, np.repeat(window.table[rows][:, None], 20, axis=1), left, top)
    ticks = [t for t in MaxNLocator(nbins=6, steps=[1, 2, 3, 5, 10]).tick_values(window.low, window.high) if window.low <= t <= window.high]
    for value in ticks:
        y = top + height * (window.high - value) / (window.high - window.low)
        _line(figure, left + 20, y, 6, FAINT, 1.5)
        write_text(figure, left + 30, y, f"{value:g}", 18, INK)
    for value in window.marks:
        if window.low < value < window.high:
            _line(figure, left - 4, top + height * (window.high - value) / (window.high - window.low), 28, "white", 2.5)


def _line(figure, left: float, top: float, length: float, color: str, thickness: float) -> None:
    """A horizontal line, all in pixels."""
    from matplotlib.lines import Line2D

    width, height = figure.get_size_inches() * DPI
    x, y = (left / width, (left + length) / width), (1 - top / height,) * 2
    figure.add_artist(Line2D(x, y, color=color, linewidth=points(thickness), zorder=6))


def _legend_width(entries: tuple[tuple[str, str], ...]) -> float:
    """Pixels a legend needs."""
    return sum(_LETTER * len(name) + 50 for name, _ in entries)


def _legend(figure, entries: tuple[tuple[str, str], ...], middle: float) -> None:
    """Colored squares and names, right-aligned, `middle` pixels from the top."""
    from matplotlib.patches import Rectangle

    width, height = figure.get_size_inches() * DPI
    shrink = min(1.0, (width - 2 * EDGE) / max(_legend_width(entries), 1.0))
    right = width - EDGE - 4
    for name, color in reversed(entries):
        length = shrink * _LETTER * len(name)
        write_text(figure, right - length, middle, name, 20 * shrink, INK)
        box = Rectangle(((right - length - 26 * shrink) / width, 1 - (middle + 8) / height), 18 * shrink / width, 16 / height,
                        transform=figure.transFigure, facecolor=color, linewidth=0)
        figure.add_artist(box)
        right -= length + 50 * shrink


def _plane_within(values: np.ndarray, mask: np.ndarray, rows, columns, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of a plane averaged over its mask only, and where the mask is."""
    share = resampled(mask, rows, columns, height, width)
    return resampled(np.where(mask, values, 0.0), rows, columns, height, width) / np.maximum(share, 1e-6), share >= 0.5
