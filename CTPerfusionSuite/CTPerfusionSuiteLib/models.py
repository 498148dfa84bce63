"""Learned models on disk: what is there, whether it is what its author packed, import from a file, and removal.

A model is a folder in the form of a MONAI bundle: ``configs/metadata.json`` (name, version, task, and under "sha256" the checksum of
every other file), ``docs/README.md``, the card that says what it was trained and measured on, and weights under ``models/``.  Nothing
here reads weights: they are moved and compared byte by byte.
"""

import hashlib
import json
import re
import shutil
import stat
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused

METADATA, CARD = "configs/metadata.json", "docs/README.md"
MAX_FILES, MAX_BYTES = 200, 2 * 1024**3
"""More than this is no model of ours, or an archive made to fill the disk."""
_KINDS = {".json", ".yaml", ".yml", ".md", ".txt", ".pt", ".safetensors", ".onnx", ".csv", ".png"}
"""Suffixes of what a model may hold: text, weights, pictures; no programs."""
_LICENSE = "LICENSE"
"""A text without a suffix, as MONAI's bundles have it."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Model:
    """A model folder whose metadata could be read.

    Attributes
    ----------
    folder : Path
    name, version, task : str
        As its author wrote them; untrusted text.
    card : str
        The model card (Markdown); untrusted text.
    size_bytes : int
    faults : tuple of str
        What is missing, changed or not announced, empty when every file has the checksum its author gave.
    """

    folder: Path
    name: str
    version: str
    task: str
    card: str
    size_bytes: int
    faults: tuple[str, ...] = ()

    @property
    def intact(self) -> bool:
        """Whether it may be used."""
        return not self.faults


def list_models(folder, compare: bool = True) -> list[Model]:
    """The models in a folder, by name; folders that are no models are left out, damaged models are listed with their faults.

    With `compare` False checksums are not computed, which is quick whatever the weights' size.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return []
    found = []
    for place in sorted(folder.iterdir()):
        if place.is_dir() and not place.is_symlink() and (place / METADATA).is_file():
            try:
                found.append(read_model(place, compare))
            except DataRefused as refusal:
                found.append(Model(place, place.name, "", "", "", 0, (str(refusal),)))
    return found


def read_model(folder, compare: bool = True) -> Model:
    """One model folder; with `compare` every file is compared with its checksum.

    Raises
    ------
    DataRefused
        No readable metadata.
    """
    folder = Path(folder)
    try:
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        name, version = str(metadata["name"]), str(metadata["version"])
        sums = {str(path): str(digest).lower() for path, digest in metadata["sha256"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise DataRefused(f"the model '{folder.name}' has no valid {METADATA} with name, version and sha256; get it again") from problem
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}
    card = files[CARD].read_text(encoding="utf-8", errors="replace") if CARD in files and not files[CARD].is_symlink() else ""
    faults = [f"{path} is a link" for path, place in files.items() if place.is_symlink()]
    strange = [path for path in sorted(files) if Path(path).suffix.lower() not in _KINDS and path != _LICENSE]
    faults += [f"{path} is of a kind models do not hold" for path in strange]
    if not card.strip():
        faults.append(f"the model card {CARD} is missing or empty")
    if not any(PurePosixPath(path).parts[:1] == ("models",) for path in sums):
        faults.append("no weights are announced under models/")
    faults += [f"{path} is missing" for path in sums if path not in files]
    faults += [f"{path} is not announced" for path in sorted(files) if path not in sums and path != METADATA]
    if compare:
        plain = [path for path in sums if path in files and not files[path].is_symlink()]
        faults += [f"{path} was changed" for path in plain if sha256(files[path]) != sums[path]]
    size = sum(place.stat().st_size for place in files.values() if not place.is_symlink())
    return Model(folder, name, version, str(metadata.get("task", "")), card, size, tuple(faults))


def sha256(path) -> str:
    """Checksum of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def import_model(archive, folder, replace: bool = False) -> Model:
    """Unpack a model from a .zip file into the models folder; it appears whole or not at all.

    Raises
    ------
    DataRefused
        No zip file, entries that would leave the folder, links, too much data, no metadata, a wrong checksum.
    RequestRefused
        No such file, or a model of that name is there and `replace` is False.
    """
    archive, folder = Path(archive), Path(folder)
    if not archive.is_file():
        raise RequestRefused(f"the file '{archive.name}' does not exist; choose the .zip file of a model")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".importing-", dir=folder) as temporary:
        _unpack(archive, Path(temporary))
        roots = [path.parent.parent for path in Path(temporary).rglob(METADATA)]
        if len(roots) != 1:
            raise DataRefused(f"'{archive.name}' holds {len(roots) or 'no'} models ({METADATA}); choose the .zip file of one model")
        model = read_model(roots[0])
        if not model.intact:
            raise DataRefused(f"the model in '{archive.name}' is not what its author packed ({model.faults[0]}); get it again")
        if not _NAME.fullmatch(model.name):
            raise DataRefused(f"the model in '{archive.name}' has no plain name (letters, digits, . _ -); ask its author")
        target = folder / model.name
        if target.exists():
            if not replace:
                raise RequestRefused(f"a model named {model.name} is there already; remove it first, or replace it")
            remove_model(target, folder)
        roots[0].rename(target)
    return read_model(target)


def remove_model(model_folder, folder) -> None:
    """Delete one model from the models folder.

    Raises
    ------
    RequestRefused
        The folder is not a model directly inside the models folder.
    """
    place, folder = Path(model_folder), Path(folder)
    if place.is_symlink() or place.parent.resolve() != folder.resolve() or not (place / METADATA).is_file():
        raise RequestRefused(f"'{place.name}' is no model of the models folder; delete it yourself if you want to")
    shutil.rmtree(place)


def _unpack(archive: Path, target: Path) -> None:
    """Extract a .zip file whose entries all stay inside `target`."""
    try:
        with zipfile.ZipFile(archive) as packed:
            entries = [entry for entry in packed.infolist() if not entry.is_dir()]
            if len(entries) > MAX_FILES or sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise DataRefused(f"'{archive.name}' holds more than {MAX_FILES} files or {MAX_BYTES >> 30} GiB; it is no model of ours")
            for entry in entries:
                path = PurePosixPath(entry.filename.replace("\\", "/"))
                if path.is_absolute() or ".." in path.parts or ":" in entry.filename or stat.S_ISLNK(entry.external_attr >> 16):
                    raise DataRefused(f"'{archive.name}' holds an entry that leaves its folder; it is no model of ours")
            for entry in entries:
                packed.extract(entry, target)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as problem:
        raise DataRefused(f"'{archive.name}' is no readable .zip file; get the model again") from problem
