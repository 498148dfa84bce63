"""A folder that appears whole or not at all, and never in the place of somebody else's.

Everything is written into a hidden sibling, which is renamed when it is complete.  An earlier result of ours is put aside by a
rename, replaced by a rename and only then deleted, so that a process killed at any moment leaves the old or the new result; what it
leaves lying about is cleared by the next run.  Only renames, directory listings and process numbers are used: it works on every
system, and without locks on network drives.
"""

import errno
import json
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import RequestRefused, SuiteError

MARKER = ".ctperfusion.json"
"""Hidden file that makes a folder ours and lists what we wrote into it."""
MARKER_SCHEMA = "ctperfusionsuite.folder/1"
MAPS = "perfusion maps"
"""The kind of folder that is meant unless another is named; one kind never replaces another."""
PHANTOMS = "phantoms"
"""The kind that is input for others: a simulated study is read as a scanned one."""
OWNER = ".ctperfusion-owner.json"
"""Hidden file that tells which process is writing a temporary folder."""
STALE_AFTER_S = 24 * 3600.0
"""No run takes a day: older leftovers are stale even if their process number is in use again or belongs to another computer."""
SYSTEM_FILES = {".DS_Store", "Thumbs.db", "desktop.ini"}
FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""Error numbers of a full disk, a file over the allowed size and an exceeded quota."""
FULL_WINDOWS = {39, 112}
LEAST_FREE_BYTES = 1 << 20

_living: set[str] = set()
"""Tokens of the folders this very process is writing."""


def refuse_foreign(out_dir: Path | str, kind: str = MAPS) -> None:
    """Refuse, before any work, an output folder that could never be written.

    Raises
    ------
    RequestRefused
        When `out_dir` is a file, a mount point, cannot be created, or holds files that we did not write or another `kind` of ours.
    """
    out = _resolved(out_dir)
    _recover(out)
    if (out.exists() or out.is_symlink()) and not out.is_dir():
        raise RequestRefused(f"the output folder '{out_dir}' is a file or a broken link; give another folder")
    if out.is_dir():
        if os.path.ismount(out):
            raise RequestRefused(
                f"the output folder '{out_dir}' is a mount point and cannot be replaced; give a folder inside it, as '{out / 'result'}'"
            )
        try:
            strangers = _strangers(out)
        except OSError as problem:
            raise RequestRefused(f"the output folder '{out_dir}' cannot be read ({problem.strerror}); choose another place") from problem
        if strangers:
            raise RequestRefused(
                f"the output folder '{out_dir}' holds files that are not a result of this program ('{strangers[0]}'"
                f"{f' and {len(strangers) - 1} more' if len(strangers) > 1 else ''}); it is left alone, give a new or empty folder"
            )
        found = _marker(out).get("kind", kind)
        if found != kind:
            raise RequestRefused(f"the output folder '{out_dir}' holds {found}, which {kind} do not replace; give a new or empty folder")
    parent = out.parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        raise RequestRefused(f"the output folder '{out_dir}' cannot be made because '{parent}' is a file; give another folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise RequestRefused(f"the output folder '{out_dir}' cannot be made because '{parent}' is not writable; choose another place")


def refuse_existing(out_dir: Path | str, overwrite: bool, kind: str = MAPS) -> None:
    """Refuse to replace an earlier result unless the user asked for it.

    Raises
    ------
    RequestRefused
        Also for everything `refuse_foreign` refuses.
    """
    refuse_foreign(out_dir, kind)
    if not overwrite and is_ours(_resolved(out_dir)):
        raise RequestRefused(f"the output folder '{out_dir}' already holds a result; add --overwrite to replace it, or give another folder")


@contextmanager
def new_result_folder(out_dir: Path | str, overwrite: bool = False, kind: str = MAPS) -> Iterator[Path]:
    """A temporary folder that becomes `out_dir` when the block ends well and vanishes when it does not.

    Parameters
    ----------
    out_dir : Path
    overwrite : bool
        Replace an earlier result of ours.
    kind : str
        What the folder will hold, in words (plural); only a folder of the same kind is ever replaced.

    Yields
    ------
    Path
        An empty folder beside `out_dir`.

    Raises
    ------
    RequestRefused
        As `refuse_existing`, and when nothing can be written there.
    SuiteError
        When the disk is full.  Whatever else the block raises is passed on.
    """
    refuse_existing(out_dir, overwrite, kind)
    out = _resolved(out_dir)
    _sweep(out)
    token = secrets.token_hex(4)
    partial = out.parent / f".{out.name}.partial-{token}"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
    except OSError as problem:
        if _is_full(problem, out.parent):
            raise SuiteError(_full_sentence(out_dir)) from problem
        raise RequestRefused(f"the output folder '{out_dir}' cannot be written ({problem.strerror}); choose another place") from problem
    _living.add(token)
    try:
        _claim(partial)
        yield partial
        _mark(partial, kind)
        _put_in_place(partial, out, token)
    except OSError as problem:
        full = _is_full(problem, partial)
        _remove(partial)
        if full:
            raise SuiteError(_full_sentence(out_dir)) from problem
        raise
    except RuntimeError as problem:
        # Image libraries report a full disk as a plain failure to write.
        full = _free_bytes(partial) < LEAST_FREE_BYTES
        _remove(partial)
        if full:
            raise SuiteError(_full_sentence(out_dir)) from problem
        raise
    finally:
        _living.discard(token)
        _remove(partial)


def is_ours(folder: Path) -> bool:
    """Whether a folder was completed by `new_result_folder`."""
    return bool(_marker(folder))


def kind_of(folder: Path) -> str:
    """What a folder completed by `new_result_folder` holds, "" if it is not one."""
    found = _marker(folder)
    return found.get("kind", MAPS) if found else ""


def restore_interrupted(out_dir: Path | str) -> None:
    """Bring back an earlier result whose replacement was killed between its two renames; does nothing otherwise."""
    _recover(_resolved(out_dir))


def _resolved(out_dir: Path | str) -> Path:
    try:
        return Path(out_dir).resolve() if Path(out_dir).exists() else Path(os.path.abspath(out_dir))
    except OSError as problem:
        raise RequestRefused(f"the output folder '{out_dir}' cannot be reached ({problem.strerror}); choose another place") from problem


def _marker(folder: Path) -> dict:
    """The marker of a folder of ours; empty when it is not ours."""
    try:
        document = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        return document if document["schema"] == MARKER_SCHEMA and isinstance(document["files"], list) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _files(folder: Path) -> list[str]:
    found = []
    for place, _, names in os.walk(folder):
        found += [(Path(place) / name).relative_to(folder).as_posix() for name in names]
    return sorted(found)


def _strangers(out: Path) -> list[str]:
    """What lies in `out` and was not written by us (files the desktop makes by itself do not count)."""
    names = sorted(entry.name for entry in os.scandir(out))
    marker = _marker(out)
    if marker:
        ours = {MARKER, OWNER, *marker["files"]}
        names = [name for name in _files(out) if name not in ours]
    return [name for name in names if Path(name).name not in SYSTEM_FILES]


def _claim(partial: Path) -> None:
    (partial / OWNER).write_text(json.dumps({"pid": os.getpid(), "computer": socket.gethostname()}), encoding="utf-8")


def _mark(partial: Path, kind: str) -> None:
    document = {"schema": MARKER_SCHEMA, "kind": kind, "files": [name for name in _files(partial) if name != OWNER]}
    (partial / MARKER).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _put_in_place(partial: Path, out: Path, token: str) -> None:
    aside = out.parent / f".{out.name}.replaced-{token}"
    if out.exists():
        if _strangers(out):
            raise RequestRefused(f"the output folder '{out}' was filled by somebody else in the meantime; give another folder")
        _rename(out, aside)
    try:
        _rename(partial, out)
    except OSError:
        if aside.exists():
            _rename(aside, out)
        raise
    (out / OWNER).unlink(missing_ok=True)
    _remove(aside)


def _rename(source: Path, target: Path) -> None:
    """Rename, patiently: on Windows a virus scanner or an indexer may hold a fresh file for a moment."""
    for attempt in range(6):
        try:
            os.rename(source, target)
            return
        except PermissionError:
            if sys.platform != "win32" or attempt == 5:
                raise
            time.sleep(0.1 * 2**attempt)


def _recover(out: Path) -> None:
    """If a killed run had put the earlier result aside and not yet put the new one in place, put the earlier one back."""
    if out.exists():
        return
    for aside, token in _siblings(out, "replaced"):
        if _being_written(out, token):
            continue
        try:
            os.rename(aside, out)
            return
        except OSError:
            continue


def _sweep(out: Path) -> None:
    """Remove what killed runs left beside `out`; folders of runs that still live, and a result that could not be put back, stay."""
    for kind in ("replaced", "partial"):
        for left, token in _siblings(out, kind):
            if not _being_written(out, token) and (kind == "partial" or out.exists()):
                _remove(left)


def _siblings(out: Path, kind: str) -> list[tuple[Path, str]]:
    """Hidden folders of ours beside `out`, with their tokens."""
    start = f".{out.name}.{kind}-"
    try:
        names = sorted(entry.name for entry in os.scandir(out.parent) if entry.name.startswith(start))
    except OSError:
        return []
    return [(out.parent / name, name[len(start) :]) for name in names]


def _being_written(out: Path, token: str) -> bool:
    """Whether the process behind a token is still at work, as far as one can tell."""
    if token in _living:
        return True
    partial = out.parent / f".{out.name}.partial-{token}"
    try:
        age_s = time.time() - partial.stat().st_mtime
    except OSError:
        return False
    try:
        owner = json.loads((partial / OWNER).read_text(encoding="utf-8"))
        process, computer = int(owner["pid"]), owner["computer"]
    except (OSError, ValueError, KeyError, TypeError):
        return age_s < 10.0  # made this very moment and not claimed yet
    if age_s > STALE_AFTER_S:
        return False
    return computer != socket.gethostname() or (process != os.getpid() and process_runs(process))


def process_runs(process: int) -> bool:
    """Whether a process of this number runs on this computer (one that has ended and was not yet collected does not)."""
    if sys.platform == "win32":
        import ctypes

        kernel = ctypes.windll.kernel32
        handle = kernel.OpenProcess(0x1000, False, process)  # PROCESS_QUERY_LIMITED_INFORMATION
        if not handle:
            return False
        code = ctypes.c_ulong()
        known = kernel.GetExitCodeProcess(handle, ctypes.byref(code))
        kernel.CloseHandle(handle)
        return bool(known) and code.value == 259  # STILL_ACTIVE
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return True


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _free_bytes(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder if folder.exists() else folder.parent).free
    except OSError:
        return sys.maxsize


def _is_full(problem: OSError, folder: Path) -> bool:
    return (
        problem.errno in FULL
        or getattr(problem, "winerror", None) in FULL_WINDOWS
        or (problem.errno is None and _free_bytes(folder) < LEAST_FREE_BYTES)
    )


def _full_sentence(out_dir) -> str:
    return f"the disk of '{out_dir}' is full, so nothing was written and an earlier result is unchanged; free some space and run again"
