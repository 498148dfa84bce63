"""Tiny prepared studies with a lesion whose curves are late (penumbra) or late and low (core): a problem any network can learn."""

from dataclasses import replace

import numpy as np

from StrokeSegmentationLib.training_cases import StudyCase, save_case


def toy_case(seed: int, shape=(4, 32, 32), frames: int = 12, noise: float = 0.3, lesion: bool = True) -> StudyCase:
    """An elliptic brain, bolus curves of peak 1, and in one hemisphere a ball of penumbra with a core in it."""
    rng = np.random.default_rng(seed)
    k, j, i = np.indices(shape)
    rows, columns = shape[1:]
    place = np.stack([(j - (rows - 1) / 2) / (rows * 0.42), (i - (columns - 1) / 2) / (columns * 0.36)])
    brain = (place**2).sum(axis=0) < 1
    # Columns grow towards the patient's left.
    hemisphere = np.where(brain, np.where(i > (columns - 1) / 2, 1, 2), 0).astype(np.uint8)
    side = rng.choice([-1, 1])
    center = ((rows - 1) / 2 + rng.uniform(-0.15, 0.15) * rows, (columns - 1) / 2 + side * columns * 0.18)
    distance = np.sqrt((j - center[0]) ** 2 + (i - center[1]) ** 2 + (2 * (k - shape[0] / 2)) ** 2) / columns
    late = brain & (distance < 0.2) & lesion
    low = late & (distance < 0.11)
    time = np.arange(frames)[:, None, None, None] - 3.0 - 3.0 * late
    bolus = np.where(time > 0, np.maximum(time, 0) * np.exp(1 - np.maximum(time, 0) / 2) / 2, 0.0)
    curves = bolus * np.where(low, 0.3, 1.0) * rng.uniform(0.9, 1.1) + rng.normal(0, noise, (frames, *shape))
    valid = np.ones((frames, shape[0]), np.float32)
    valid[frames - int(rng.integers(0, 2)) :] = 0
    curves *= brain * valid[:, :, None, None]
    label = np.where(low, 2, np.where(late, 1, 0)).astype(np.uint8)
    delayed = np.where(late, 1.5, 0.3) + rng.normal(0, 0.3, shape)
    flow = np.where(low, 0.25, 1.0) + rng.normal(0, 0.2, shape)
    maps = np.stack([delayed, flow]) * brain
    about = {"split": "train", "group": "lvo" if lesion else "none", "voxel_mm": [5.0, 5.0, 8.0], "side": "left" if side > 0 else "right"}
    whole = brain.astype(np.uint8)
    return StudyCase(
        curves.astype(np.float16), valid, bolus.mean(axis=(1, 2, 3)).astype(np.float32), maps.astype(np.float16), label,
        whole, whole, hemisphere, {}, about,
    )


def toy_cases(number: int, first: int = 0, **options) -> list[StudyCase]:
    """Several, each another; every fifth without a lesion."""
    return [toy_case(seed, lesion=seed % 5 != 4, **options) for seed in range(first, first + number)]


def save_toys(folder, first: int = 0, frames: int = 24, **splits: int):
    """Write so many toy studies of each split as files ``<split>_<number>.npz`` into a folder; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, number in splits.items():
        for n in range(number):
            case = toy_case(first + n + 100 * len(split), frames=frames)
            measured = {"noise_hu": 8.0 + n, "measured_noise_hu": 8.0 + n, "scale_hu": 5.0, "anatomy": f"toy-{n}"}
            save_case(folder / f"{split}_{n}.npz", replace(case, about={**case.about, "split": split, **measured}))
    return folder
