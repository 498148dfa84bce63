"""Curves over time: enhancement in vessels and tissue, and the motion of the head."""

from dataclasses import dataclass

import numpy as np

from .canvas import FONT, new_canvas, pixel_axes, points, to_png, write_text
from .color_maps import TISSUE

INK, FAINT, GRID = "#1d2530", "#5b6675", "#e3e7ec"
AXIS_COLORS = ("#c44e00", "#00795a", "#0062a3")
MARKERS = ("o", "s", "^")
LINES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Curve:
    """An enhancement curve: seconds, HU above baseline, and how it is drawn (`weak`: thin, in the background)."""

    name: str
    times: np.ndarray
    hu: np.ndarray
    color: str = TISSUE
    line: str = "-"
    weak: bool = False


def draw_curves(figure, box: tuple[int, int, int, int], curves: list[Curve], x_label: str = "time from the first frame (s)") -> None:
    """Curves with their peaks marked, inside `box` (left, top, width, height) pixels of a canvas.

    A curve far below the highest (tissue beside vessels) is drawn magnified, and its name says how much.
    """
    highest = max((float(np.max(curve.hu)) for curve in curves), default=1.0)
    axes = _axes(figure, box, x_label, "enhancement (HU)")
    axes.axhline(0.0, color="#9aa4b1", linewidth=points(1.5), zorder=1)
    for curve in curves:
        width, drawn = points(1.5) if curve.weak else points(3.5), np.asarray(curve.hu) * _magnified(curve, highest)
        axes.plot(curve.times, drawn, curve.line, color=curve.color, linewidth=width, alpha=0.5 if curve.weak else 1.0,
                  zorder=2 if curve.weak else 3)
        if curve.weak:
            continue
        axes.plot(curve.times, drawn, "o", color=curve.color, markersize=points(6), zorder=4)
    strong = [curve for curve in curves if not curve.weak]
    axes.margins(x=0.02, y=0.05)
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top + 0.14 * (top - bottom))
    for number, curve in enumerate(strong):
        peak = int(np.argmax(curve.hu))
        axes.axvline(curve.times[peak], color=curve.color, linewidth=points(1.2), linestyle=":", zorder=1)
        # Names stand above the plot, one beside the other, so that near peaks never overlap.
        left = box[0] + 92 + number * (box[2] - 92) / max(len(strong), 2)
        words, times = f"{curve.name}: peak {curve.hu[peak]:.0f} HU at {curve.times[peak]:.1f} s", _magnified(curve, highest)
        words += f", drawn × {times}" if times > 1 else ""
        write_text(figure, left, box[1] + 14, words, 20 if len(strong) < 4 else 16, curve.color, weight="bold")


def _magnified(curve: Curve, highest: float) -> int:
    """A round factor that lifts a low curve to at most half of the highest; 1 for all others."""
    peak = float(np.max(curve.hu))
    if curve.weak or peak <= 0 or peak > 0.1 * highest:
        return 1
    return max((factor for factor in (2, 5, 10, 20, 50) if factor * peak <= 0.5 * highest), default=1)


def motion_plot(times: np.ndarray, translations_mm: np.ndarray, rotations_deg: np.ndarray, bad: np.ndarray, width: int = 1680) -> bytes:
    """PNG of the rigid motion of every frame.

    Parameters
    ----------
    times : ndarray (T,)
        Seconds.
    translations_mm, rotations_deg : ndarray (T, S, 3)
        Along and about the patient's x (left), y (posterior), z (superior) axes, for S slabs.
    bad : ndarray (T, S) of bool
        Frames left out.
    """
    times, bad = np.asarray(times, float), np.asarray(bad, bool)
    translations_mm, rotations_deg = (np.asarray(a, float) for a in (translations_mm, rotations_deg))
    half, height = 270, 680
    figure = new_canvas(width, height)
    write_text(figure, 24, 24, "Motion of the head against the reference", 25, INK, weight="bold")
    names = (("left (x)", "posterior (y)", "superior (z)"), ("pitch (about x)", "roll (about y)", "yaw (about z)"))
    dropped = bad.any(axis=1)
    gap = np.median(np.diff(times)) if len(times) > 1 else 1.0
    for row, (values, unit, least) in enumerate(((translations_mm, "translation (mm)", 1.0), (rotations_deg, "rotation (degrees)", 1.0))):
        top = 52 + row * (half + 12)
        label, room, bottom = ("time from the first frame (s)", 30, 66) if row else ("", 0, 32)
        axes = _axes(figure, (0, top, width - 20, half + room), label, unit, bottom)
        for time in times[dropped]:
            axes.axvspan(time - 0.5 * gap, time + 0.5 * gap, color="#f6c9c4", linewidth=0, zorder=0)
        for axis in range(3):
            for slab in range(values.shape[1]):
                axes.plot(times, np.where(bad[:, slab], np.nan, values[:, slab, axis]), LINES[slab % len(LINES)], color=AXIS_COLORS[axis],
                          linewidth=points(2.6), marker=MARKERS[axis], markersize=points(6), zorder=3)
                axes.plot(times[bad[:, slab]], np.zeros(bad[:, slab].sum()), "x", color="#a11d16", markersize=points(9), zorder=4)
        kept = np.abs(values[~bad]).max(initial=0.0)
        reach = 1.15 * max(least, kept)
        axes.set_ylim(-reach, reach)
        axes.set_xlim(times[0] - gap, times[-1] + gap)
        for axis in range(3):
            write_text(figure, width - 610 + axis * 205, top + 12, names[row][axis], 19, AXIS_COLORS[axis], weight="bold")
        if row == 0 and values.shape[1] > 1:
            lines = ("solid", "dashed", "dotted", "dash-dotted")
            slabs = ", ".join(f"slab {s + 1} {lines[s % 4]}" for s in range(values.shape[1]))
            write_text(figure, width - 26, 24, slabs, 19, FAINT, ha="right")
    note = f"{int(dropped.sum())} of {len(times)} frames dropped (red bands)" if dropped.any() else f"all {len(times)} frames kept"
    write_text(figure, 90, height - 20, note, 19, FAINT)
    return to_png(figure)


def message_picture(title: str, message: str, width: int = 1680, height: int = 150) -> bytes:
    """PNG with a sentence, where there is nothing to draw."""
    figure = new_canvas(width, height)
    write_text(figure, 24, 30, title, 25, INK, weight="bold")
    write_text(figure, 24, height / 2 + 16, message, 22, FAINT)
    return to_png(figure)


def _axes(figure, box: tuple[int, int, int, int], x_label: str, y_label: str, bottom: int = 66):
    """Quiet axes with a light grid inside `box` pixels, room for labels included."""
    left, top, width, height = box
    axes = pixel_axes(figure, left + 92, top + 32, width - 92, height - 32 - bottom)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#8a94a1")
    axes.grid(True, color=GRID, linewidth=points(1.3))
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=points(18), colors=FAINT, length=points(5), width=points(1.2))
    for label in axes.get_xticklabels() + axes.get_yticklabels():
        label.set_family(FONT)
    axes.set_xlabel(x_label, fontsize=points(19), color=INK, family=FONT)
    axes.set_ylabel(y_label, fontsize=points(19), color=INK, family=FONT)
    # Numbers of one or of four digits leave the label where it is.
    axes.yaxis.set_label_coords(-70 / (width - 92), 0.5)
    return axes
