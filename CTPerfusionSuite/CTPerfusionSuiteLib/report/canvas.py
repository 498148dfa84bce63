"""A drawing surface in pixels, and its PNG.

matplotlib is imported here and nowhere else, and only when something is drawn: maps are written without it.  Only its
object-oriented Agg backend is used, so drawing works without a screen, in threads, and inside Slicer.
"""

import importlib.util
from io import BytesIO

import numpy as np

from CTPerfusionSuiteLib.errors import RequestRefused

DPI = 100
FONT = "DejaVu Sans"
"""Ships with matplotlib: the pictures look the same everywhere."""


class ReportUnavailable(RequestRefused):
    """A package the report needs is not installed; everything else can be written."""


def require_packages() -> None:
    """Refuse, before anything is drawn, where a package of the report is missing.

    Raises
    ------
    ReportUnavailable
        Naming the packages.
    """
    missing = [name for name in ("matplotlib", "jinja2") if importlib.util.find_spec(name) is None]
    if missing:
        names = " and ".join(missing)
        raise ReportUnavailable(f"the report needs {names}, not installed here; run 'pip install {' '.join(missing)}' or use --no-report")


def new_canvas(width: int, height: int, background: str = "white"):
    """A matplotlib Figure of exactly `width` x `height` pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=background)
    FigureCanvasAgg(figure)
    return figure


def points(pixels: float) -> float:
    """Font size or line width in points of a size in pixels."""
    return pixels * 72.0 / DPI


def paste(figure, pixels: np.ndarray, left: int, top: int) -> None:
    """Put an RGB image (H, W, 3) uint8 on the canvas, pixel by pixel, its upper left corner at (left, top)."""
    height = round(figure.get_size_inches()[1] * DPI)
    # No interpolation and the image's own resolution: every pixel stays exactly as colored.
    figure.figimage(pixels, xo=left, yo=height - top - pixels.shape[0], origin="upper", zorder=1)


def write_text(figure, left: float, top: float, text: str, size: float, color: str = "white", **style) -> None:
    """Text at (left, top) pixels from the upper left corner, `size` pixels high; never read as mathematics."""
    width, height = figure.get_size_inches() * DPI
    style = {"ha": "left", "va": "center"} | style
    place = (left / width, 1.0 - top / height)
    figure.text(*place, text, fontsize=points(size), color=color, family=FONT, parse_math=False, zorder=5, **style)


def pixel_axes(figure, left: float, top: float, width: float, height: float, **options):
    """Axes whose box is given in pixels from the upper left corner."""
    full_width, full_height = figure.get_size_inches() * DPI
    return figure.add_axes((left / full_width, 1.0 - (top + height) / full_height, width / full_width, height / full_height), **options)


def to_png(figure, palette: bool = False) -> bytes:
    """The canvas as a PNG; with `palette` its colors are rounded to the 256 that fit best, which halves the file.

    Pictures from one color table and gray lose at most three of 255 levels by it.
    """
    from PIL import Image

    figure.canvas.draw()
    image = Image.fromarray(np.ascontiguousarray(np.asarray(figure.canvas.buffer_rgba())[..., :3]))
    if palette:
        image = image.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    out = BytesIO()
    image.save(out, "PNG", compress_level=6)
    return out.getvalue()
