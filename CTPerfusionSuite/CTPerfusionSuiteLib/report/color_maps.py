"""Color tables whose lightness grows evenly with the value, and the colors of lesions.

Perfusion is traditionally shown in rainbows.  These keep the expected order of colors (little flow blue, much flow yellow; early
dark, late red to yellow), but CIE L* rises linearly along each table: no false edges, still right in gray print, and no pair of
values is lost to a color-blind reader.
"""

from functools import cache

import numpy as np

CORE = (233, 30, 140)
"""Magenta; with green the pair that color-blind readers tell apart, and the lightness differs too."""
PENUMBRA = (62, 190, 90)
ARTERY = "#c2185b"
VEIN = "#1565c0"
TISSUE = "#00695c"

_FLOW = ((18, 6, 60), (44, 44, 170), (20, 110, 190), (16, 150, 150), (60, 180, 70), (190, 205, 40), (250, 235, 150))
_TIME = ((12, 10, 52), (60, 30, 140), (130, 35, 145), (200, 45, 85), (240, 100, 30), (250, 175, 45), (255, 245, 185))
_BAND = ((58, 110, 215), (36, 172, 140), (245, 196, 30), (240, 70, 70))


@cache
def flow_table() -> np.ndarray:
    """(256, 3) uint8 for quantities whose loss matters (CBF, CBV): indigo, blue, teal, green, yellow."""
    return _even_lightness(_FLOW, 10.0, 93.0)


@cache
def time_table() -> np.ndarray:
    """(256, 3) uint8 for times whose prolongation matters (MTT, delay, Tmax): navy, violet, red, orange, yellow."""
    return _even_lightness(_TIME, 8.0, 95.0)


@cache
def gray_table() -> np.ndarray:
    """(256, 3) uint8, black to white."""
    return np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


def band_colors() -> np.ndarray:
    """(4, 3) uint8, mild to severe, for four nested thresholds."""
    return np.array(_BAND, np.uint8)


def colored(values: np.ndarray, table: np.ndarray, low: float, high: float) -> np.ndarray:
    """RGB (..., 3) uint8 of values shown in the window low...high."""
    scaled = np.clip((np.nan_to_num(values) - low) / (high - low), 0.0, 1.0)
    return table[np.round(scaled * (len(table) - 1)).astype(np.uint8)]


def blended(under: np.ndarray, color, weight: np.ndarray) -> np.ndarray:
    """RGB uint8 of `under` (..., 3) with `color` laid over it, `weight` (...) being 0 clear to 1 opaque."""
    weight = np.asarray(weight, np.float32)[..., None]
    return np.round(under * (1.0 - weight) + np.asarray(color, np.float32) * weight).astype(np.uint8)


def hex_color(color) -> str:
    """``#rrggbb`` of an RGB triple 0-255."""
    return "#{:02x}{:02x}{:02x}".format(*(int(c) for c in color))


def lightness(rgb: np.ndarray) -> np.ndarray:
    """CIE L* (0-100) of sRGB colors (..., 3) 0-255 (IEC 61966-2-1, CIE 1976)."""
    return _to_lab(np.asarray(rgb, float) / 255.0)[..., 0]


def _even_lightness(anchors, darkest: float, lightest: float, size: int = 256) -> np.ndarray:
    """A table through the hues of `anchors` in CIELAB with L* rising linearly from `darkest` to `lightest`."""
    lab = _to_lab(np.array(anchors, float) / 255.0)
    place = np.linspace(0.0, 1.0, size)
    # Each anchor sits where its own lightness falls, so little has to be bent.
    at = np.clip((lab[:, 0] - darkest) / (lightest - darkest), 0.0, 1.0)
    at = np.maximum.accumulate(at + np.arange(len(at)) * 1e-6)
    light = darkest + (lightest - darkest) * place
    a, b = (np.interp(place, at, lab[:, channel]) for channel in (1, 2))
    chroma = np.ones(size)
    for _ in range(40):  # draw colors outside sRGB toward gray, keeping their lightness
        rgb = _from_lab(np.stack([light, a * chroma, b * chroma], axis=-1))
        outside = (rgb < -1e-3).any(axis=-1) | (rgb > 1 + 1e-3).any(axis=-1)
        if not outside.any():
            break
        chroma[outside] *= 0.96
    return np.round(255.0 * np.clip(rgb, 0.0, 1.0)).astype(np.uint8)


_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
_WHITE = np.array([0.95047, 1.0, 1.08883])


def _to_lab(rgb: np.ndarray) -> np.ndarray:
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    ratio = linear @ _XYZ.T / _WHITE
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def _from_lab(lab: np.ndarray) -> np.ndarray:
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    ratio = np.where(f > 6 / 29, f**3, (116 * f - 16) * 27 / 24389)
    linear = ratio * _WHITE @ np.linalg.inv(_XYZ).T
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.sign(linear) * np.abs(linear) ** (1 / 2.4) - 0.055)
