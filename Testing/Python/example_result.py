"""A made-up `PerfusionResult` of a left middle cerebral artery stroke, drawn in patient millimeters on any grid.

Nothing here is deconvolved: maps, masks and curves are written down as functions of the position, so that the same head comes out
whichever way the grid's axes point.  Numbers and lesion masks come from the same functions that real studies use.
"""

import numpy as np

from CTPerfusionSuiteLib.rigid_motion import Motion
from CTPerfusionSuiteLib.volumes import Geometry
from PerfusionMapsLib.input_functions import InputFunction
from PerfusionMapsLib.lesions import LEFT, RIGHT, lesions
from PerfusionMapsLib.perfusion_metrics import VenousTransit, metrics_document
from PerfusionMapsLib.perfusion_options import Thresholds
from PerfusionMapsLib.perfusion_result import PerfusionResult
from PerfusionMapsLib.quality_flags import QualityFlag, Severity

AIF_LPS = np.array([[-27.0, -14.0, 8.0], [-26.0, -14.0, 8.0]])
VOF_LPS = np.array([[0.0, 79.0, 20.0], [0.0, 80.0, 20.0]])
LESION_LPS = (38.0, 5.0, 18.0)


def axial_geometry(size=(128, 128, 8), spacing=(1.72, 1.72, 5.0), signs=(1, 1, 1)) -> Geometry:
    """A grid around the head's center whose axes point along +-x, +-y, +-z."""
    signs, spacing, size = (np.asarray(a, float) for a in (signs, spacing, size))
    origin = np.array([0.0, 0.0, 18.0]) - signs * spacing * (size - 1) / 2
    return Geometry(tuple(size), tuple(spacing), tuple(origin), tuple(map(tuple, np.diag(signs))))


def gamma_bolus(times, arrival, peak_hu, shape=3.0, scale=1.6):
    """Gamma-variate enhancement with its recirculation, HU."""
    t = np.clip(np.asarray(times, float) - arrival, 0.0, None)
    first = (t / (shape * scale)) ** shape * np.exp(shape - t / scale)
    tail = 0.13 * (1.0 - np.exp(-np.clip(t - 8.0, 0, None) / 6.0))
    return peak_hu * (first + tail)


def example_result(geometry: Geometry | None = None, *, lesion: bool = True, calibrated: bool = True, motion: bool = True,
                   bayes: bool = True, flags=None, seed: int = 7) -> PerfusionResult:
    """The study on `geometry` (default 128 x 128 x 8)."""
    geometry = geometry or axial_geometry()
    random = np.random.default_rng(seed)
    k, j, i = np.indices(geometry.shape, dtype=np.float32)
    x, y, z = np.moveaxis(geometry.to_lps(np.stack([i, j, k], axis=-1)), -1, 0).astype(np.float32)

    radius = np.sqrt((x / 66) ** 2 + (y / 82) ** 2 + ((z - 10) / 75) ** 2)
    skull = np.sqrt((x / 74) ** 2 + (y / 91) ** 2 + ((z - 10) / 84) ** 2)
    brain = radius < 1.0
    # A folded ribbon of gray matter, deep nuclei, ventricles.
    fold = 0.05 * np.sin(0.23 * x + 1.1 * np.sin(0.11 * y + 0.1 * z)) + 0.04 * np.sin(0.31 * y + 0.9 * np.cos(0.17 * x))
    nuclei = (((np.abs(x) - 20) / 9) ** 2 + ((y + 2) / 20) ** 2 + ((z - 16) / 16) ** 2) < 1
    gray = brain & ((radius + fold > 0.82) | nuclei)
    ventricle = (((np.abs(x) - 8 - 0.10 * np.abs(y - 2)) / 5) ** 2 + ((y - 6) / 34) ** 2 + ((z - 24) / 17) ** 2) < 1
    fissure = brain & (np.abs(x) < 1.6) & (np.abs(y) > 38)
    csf = brain & (ventricle | fissure | (radius > 0.985))
    tissue = brain & ~csf

    cbf = np.where(gray, 58.0, 25.0).astype(np.float32)
    cbv = np.where(gray, 4.1, 2.3).astype(np.float32)
    texture = _texture(random, geometry)
    cbf *= 1 + 0.10 * texture
    cbv *= 1 + 0.08 * np.roll(texture, 3, axis=2)
    delay = (0.6 + 0.35 * np.roll(texture, 5, axis=1)).astype(np.float32)
    if lesion:
        offsets = [(a - c) / extent for a, c, extent in zip((x, y, z), LESION_LPS, (36, 44, 40), strict=True)]
        distance = np.sqrt(sum(a**2 for a in offsets)) + 0.05 * texture
        depth = np.clip(1.25 - distance, 0.0, 1.0) * (x > 3)
        delay += 10.5 * depth
        cbf *= np.clip(1.0 - 1.02 * depth, 0.06, 1.0)
        cbv *= np.where(depth > 0.7, 0.45, 1.0 + 0.25 * depth)
    cbf, cbv = np.where(csf, 4.0, cbf), np.where(csf, 0.5, cbv)
    cbf, cbv, delay = (np.where(brain, m, 0.0).astype(np.float32) for m in (np.maximum(cbf, 1.0), cbv, delay))
    mtt = np.where(brain, np.clip(60 * cbv / np.maximum(cbf, 1.0), 0, 40), 0).astype(np.float32)
    tmax = np.where(brain, np.maximum(delay + 1.6 + 0.12 * mtt, 0), 0).astype(np.float32)
    scale = 1.0 if calibrated else 0.31
    maps = {"cbf": scale * cbf, "cbv": scale * cbv, "mtt": mtt, "delay": delay, "tmax": tmax,
            "ttp": np.where(brain, delay + 6.0 + 0.4 * mtt, 0).astype(np.float32)}
    hemisphere = np.where(brain, np.where(x > 0, LEFT, RIGHT), 0).astype(np.uint8)
    masks = {"brain_mask": brain.astype(np.uint8), "tissue_mask": tissue.astype(np.uint8), "hemisphere": hemisphere}

    thresholds = Thresholds()
    found = lesions({**maps, "operator_cbf": maps["cbf"] * 0.85}, masks, thresholds, geometry)
    normal = found.reference.flow or 1.0
    maps["rcbf"] = np.where(brain, 0.85 * maps["cbf"] / normal, 0).astype(np.float32)
    maps["rcbv"] = np.where(brain, maps["cbv"] / (found.reference.cbv or 1.0), 0).astype(np.float32)
    if bayes:
        for name, share, least in (("cbf", 0.16, 1.5), ("mtt", 0.2, 0.4), ("delay", 0.06, 0.3)):
            sd = np.where(brain, share * maps[name] + least * (1 + 0.3 * texture), 0).astype(np.float32)
            maps[f"{name}_sd"] = sd
            maps[f"{name}_p025"] = np.where(brain, np.maximum(maps[name] - 1.96 * sd, -2), 0).astype(np.float32)
            maps[f"{name}_p975"] = np.where(brain, maps[name] + 1.96 * sd, 0).astype(np.float32)
    masks |= found.masks()

    noise = random.normal(0, 2.0, geometry.shape).astype(np.float32)
    baseline = np.where(brain, np.where(csf, 8.0, np.where(gray, 39.0, 31.0)), np.where(skull < 1, 900.0, -1000.0)).astype(np.float32)
    baseline = np.where((skull >= 1) & (skull < 1.08), 25.0, baseline) + noise
    vessels = np.zeros(geometry.shape, np.float32)
    for center, size, hu in _vessels():
        vessels += hu * np.exp(-0.5 * sum(((a - c) / s) ** 2 for a, c, s in zip((x, y, z), center, size, strict=True)))
    mean_ct = baseline + vessels + np.where(tissue, 0.06 * cbf + 0.4 * cbv, 0) + 0.3 * random.normal(0, 2.0, geometry.shape)

    times = np.arange(40) * 1.5
    aif = _curve(times, 9.0, 310.0, AIF_LPS, geometry, 8.2)
    vof = _curve(times, 15.5, 370.0, VOF_LPS, geometry, 7.4, scale=1.9)
    candidates = (_curve(times, 9.0, 232.0, AIF_LPS, geometry, 8.2), _curve(times, 9.4, 205.0, AIF_LPS * (-1, 1, 1), geometry, 6.9),
                  _curve(times, 9.2, 180.0, AIF_LPS * (0.1, 2.6, 1) + (0, 0, 6), geometry, 6.1))
    if flags is None:
        flags = (QualityFlag("motion", Severity.WARNING, "The head moved by up to 3.4 mm and 2.1 degrees; 2 of 40 frames were dropped."),
                 QualityFlag("series_skipped", Severity.INFO, "Two other series were in the folder; the longest was read."))
    metrics = metrics_document(found, maps, masks, geometry, method="bayes" if bayes else "bcsvd", absolute_calibrated=calibrated,
                               venous=VenousTransit(7.4, 6.9, vof.peak_time_s - aif.peak_time_s), flags=flags)
    return PerfusionResult(
        geometry=geometry, maps=maps, masks=masks, images={"mean_ct": mean_ct.astype(np.float32), "baseline": baseline},
        aif=aif, vof=vof, metrics=metrics, thresholds=thresholds, aif_candidates=candidates, vof_candidates=(vof,),
        motion=example_motion(times) if motion else None,
        provenance={
            "software": {"ctperfusionsuite": "0.1.0", "python": "3.12.3", "numpy": "2.4.0"}, "created": "2026-01-01T12:00:00+00:00",
            "options": {"method": "bayes", "denoising": "bilateral", "smoothing_mm": None, "hematocrit": {"large": 0.45, "small": 0.25}},
            "input": {"frames": 40, "time_source": "AcquisitionDateTime", "notes": ["one file skipped: not DICOM"],
                      "times_s": [float(t) for t in times]},
        },
        source_header={"series_description": "CTP Head 5.0 H31s", "manufacturer": "SIEMENS", "PatientName": "DOE^JANE"},
    )


def example_motion(times, slabs: int = 1) -> Motion:
    """A drift with two sudden nods."""
    frames = len(times)
    drift = np.linspace(0, 1, frames)[:, None, None]
    translations = drift * np.array([0.4, -1.1, 0.8]) + 0.06 * np.sin(np.arange(frames))[:, None, None]
    rotations = drift * np.array([-1.2, 0.3, 0.5]) + 0.05 * np.cos(np.arange(frames))[:, None, None]
    translations, rotations = (np.repeat(a, slabs, axis=1) for a in (translations, rotations))
    bad = np.zeros((frames, slabs), bool)
    bad[[frames // 2, frames // 2 + 1]] = True
    translations[bad], rotations[bad] = (3.0, 5.0, 4.0), (6.0, 1.0, 2.0)
    return Motion(
        times=np.asarray(times, float),
        translations_mm=translations,
        rotations_deg=rotations,
        centers_lps=np.zeros((slabs, 3)),
        slabs=np.arange(slabs),
        max_displacement_mm=np.linalg.norm(translations, axis=2) + 80.0 * np.radians(np.linalg.norm(rotations, axis=2)),
        bad=bad,
        mismatch=np.zeros((frames, slabs)),
        estimated=np.ones(slabs, bool),
        reference_frames=((0, 1),) * slabs,
        reference="the mean of the frames before the bolus",
    )


def _texture(random, geometry) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(random.normal(size=geometry.shape), [max(0.3, 3.0 / s) for s in geometry.spacing[::-1]])
    return (field / field.std()).astype(np.float32)


def _curve(times, arrival, peak, lps, geometry, score, scale=1.6) -> InputFunction:
    voxels = np.rint(geometry.to_index(lps)).astype(int)
    return InputFunction(times, gamma_bolus(times, arrival, peak, scale=scale), voxels, np.asarray(lps, float), "automatic", score)


def _vessels():
    """Middle cerebral and anterior arteries and the superior sagittal sinus, as soft blobs (center, size in mm, HU)."""
    for side in (-1, 1):
        for n in range(8):
            yield (side * (8 + 4.0 * n), -14 - 0.3 * n, 8), (2.6, 1.6, 3.0), 45.0
    yield (0, -36, 14), (1.6, 3.0, 14.0), 45.0
    for n in range(9):
        angle = np.pi * (0.15 + 0.085 * n)
        yield (0, 80 * np.cos(angle), 10 + 73 * np.sin(angle)), (2.6, 3.2, 4.5), 80.0
    yield (0, 79, 15), (3.0, 3.2, 9.0), 80.0
