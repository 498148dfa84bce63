"""Where the files of a written study lie: names without suffix or order, scattered over sub-folders as an archive exports them."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

FILES_PER_FOLDER = 100


class StudyFolder:
    """Names and writes the objects of one study.

    Parameters
    ----------
    root : Path
        Made if missing.
    rng : numpy Generator
        Shuffles the names, so that neither their order nor their folder says what they hold.
    split : bool
        Scatter over sub-folders; False: all in `root`.
    """

    def __init__(self, root: Path, rng: np.random.Generator, split: bool):
        self.root, self.rng, self.split = root, rng, split
        self._names: list[int] = []
        self._used = 0
        self._made: set[Path] = set()
        root.mkdir(parents=True, exist_ok=True)

    def expect(self, count: int) -> None:
        """Draw names for `count` more objects."""
        self._names += [int(n) for n in self._used + self.rng.permutation(count)]
        self._used += count

    def write(self, image: Dataset) -> Path:
        """Write one object under the next name."""
        if not self._names:
            self.expect(1)
        number = self._names.pop()
        place = self.root / "DICOM" / f"S{number // FILES_PER_FOLDER:04d}" if self.split else self.root
        if place not in self._made:
            place.mkdir(parents=True, exist_ok=True)
            self._made.add(place)
        path = place / f"I{number:06d}"
        image.save_as(path, enforce_file_format=True)
        return path

    def write_text(self, name: str, text: str) -> Path:
        """Write a stray text file in the root."""
        path = self.root / name
        path.write_text(text, encoding="utf-8")
        return path
