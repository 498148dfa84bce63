"""The folder of a training run: which files are the run's, which studies it learns from, and that nobody else's folder is taken for it.

`RUN`, written before anything else, makes a folder a run's: ``{"train": [...], "val": [...], "digest": "...", "device": "...",
"torch": "..."}`` with the names of the studies, a checksum of what a network is given of them, and what it was trained on.  An empty
digest compares by the names alone.
"""

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from CTPerfusionSuiteLib.errors import RequestRefused
from CTPerfusionSuiteLib.output_folder import SYSTEM_FILES
from CTPerfusionSuiteLib.progress import Progress, silent

CHECKPOINT, BEST, HISTORY, CONFIG, RUN = "checkpoint.pt", "best.pt", "history.csv", "config.json", "run.json"
STUDIES = "studies"
"""Folder inside that of the run for studies that were prepared for it alone; it may be there before the run has begun."""
_STUDY_FILES = (".npz", ".npz.part")
_GIVEN = ("curves", "valid", "maps", "label", "tissue", "brain", "hemisphere")
"""What decides about a network among the arrays of a study; the labels of thresholds do not."""


@dataclass(frozen=True)
class RunFacts:
    """What a run learns from and on.

    Attributes
    ----------
    train, val : tuple of str
        Names of the studies, sorted.
    digest : str
        Checksum of what the networks are given of them; empty: not known.
    device : str
        In words.
    torch : str
        Version of PyTorch.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    digest: str = ""
    device: str = ""
    torch: str = ""

    def same_studies(self, other: "RunFacts") -> bool:
        """Whether both are about the same studies."""
        known = self.digest and other.digest
        return (self.train, self.val) == (other.train, other.val) and (not known or self.digest == other.digest)

    def also_on(self, device: str) -> "RunFacts":
        """The same run, gone on with on that device."""
        earlier = [word for word in self.device.split(", ") if word]
        return self if device in earlier else replace(self, device=", ".join([*earlier, device]))


def refuse_foreign_run(folder) -> None:
    """Refuse, before anything is written, a folder that is not that of a run and holds something.

    Raises
    ------
    RequestRefused
        Also where the folder, or one above it, is a file.
    """
    folder = Path(folder)
    above = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not above.is_dir():
        what = "is a file" if above == folder else f"cannot be made because '{above}' is a file"
        raise RequestRefused(f"the folder of the run '{folder}' {what}; give another folder")
    if above != folder or facts_of_run(folder) is not None:
        return
    strangers = sorted(path.name for path in folder.iterdir() if path.name not in SYSTEM_FILES and not _holds_studies(path))
    if CHECKPOINT in strangers:
        raise RequestRefused(f"'{folder}' holds a checkpoint, but no {RUN} that names the studies it learned from; give another folder")
    if strangers:
        more = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
        raise RequestRefused(
            f"the folder '{folder}' holds files that are not of a training run ('{strangers[0]}'{more}); it is left alone, "
            "give a new or empty folder"
        )


def facts_of_run(folder) -> RunFacts | None:
    """What a folder's run says of itself; None where there is no run."""
    try:
        stored = json.loads((Path(folder) / RUN).read_text(encoding="utf-8"))
        names = [stored["train"], stored["val"]]
        if not all(isinstance(some, list) and all(isinstance(name, str) for name in some) for some in names):
            return None
        words = {name: str(stored.get(name) or "") for name in ("digest", "device", "torch")}
        return RunFacts(tuple(sorted(names[0])), tuple(sorted(names[1])), **words)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_facts(folder, facts: RunFacts) -> None:
    """Make a folder that of a run."""
    path = Path(folder) / RUN
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(asdict(facts), indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)


def facts_of_studies(studies: Sequence, validation: Sequence, device: str = "", progress: Progress = silent) -> RunFacts:
    """Read all studies once, so that damaged ones are found before hours of training, and describe them.

    Parameters
    ----------
    studies, validation : sequence of Path or StudyCase
    device : str
        In words.
    progress : callable
        Called with 0 for every study.

    Raises
    ------
    RequestRefused
        A file is no prepared study or damaged.
    """
    digest, names = hashlib.sha256(), []
    for some in (studies, validation):
        named = sorted(_named(some), key=lambda pair: pair[0])
        names.append(tuple(name for name, _ in named))
        for name, study in named:
            progress(0.0)
            digest.update(json.dumps([len(names), name, _checksums(study)]).encode())
    return RunFacts(*names, digest.hexdigest(), device, str(torch.__version__))


def studies_of_run(facts: RunFacts, folder) -> tuple[list[Path], list[Path]]:
    """Paths of a run's training and validation studies in a folder of prepared ones.

    Raises
    ------
    RequestRefused
        One is not there.
    """
    found = [[Path(folder) / f"{name}.npz" for name in names] for names in (facts.train, facts.val)]
    missing = [path.stem for paths in found for path in paths if not path.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise RequestRefused(f"'{folder}' lacks studies the run learned from ('{missing[0]}'{more}); give the folder it was trained on")
    return found[0], found[1]


def _holds_studies(path: Path) -> bool:
    return path.name == STUDIES and path.is_dir() and all(inside.name.endswith(_STUDY_FILES) for inside in path.iterdir())


def _named(studies: Sequence) -> list[tuple[str, object]]:
    """Studies with their names: the file's, or the place of a study that has none."""
    return [(Path(study).stem if isinstance(study, (str, Path)) else f"study-{n:04d}", study) for n, study in enumerate(studies)]


def _checksums(study) -> dict[str, int]:
    """Of the arrays that decide about a network."""
    if not isinstance(study, (str, Path)):
        return {name: zlib.crc32(np.ascontiguousarray(getattr(study, name)).tobytes()) for name in _GIVEN}
    try:
        with zipfile.ZipFile(study) as stored:
            if stored.testzip() is not None:
                raise zipfile.BadZipFile
            return {name: stored.getinfo(f"{name}.npy").CRC for name in _GIVEN}
    except (OSError, EOFError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as problem:
        raise RequestRefused(f"the study '{Path(study).name}' is damaged or no prepared study; remove it or make it again") from problem
