"""A file that appears whole or not at all, and never in the place of another unless that is asked for."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import RequestRefused


def refuse_file(out: Path, suffix: str, why: str, overwrite: bool = False) -> None:
    """Check a name before any work is done.

    Parameters
    ----------
    out : Path
    suffix : str
        What the name has to end with, with its dot.
    why : str
        Said after "the file is not named so".
    overwrite : bool
        A file of that name may be replaced.

    Raises
    ------
    RequestRefused
        Another ending, a missing folder, a file that is there.
    """
    if not out.name.endswith(suffix):
        raise RequestRefused(f"the file '{out.name}' is not named *{suffix}; {why}")
    if not out.parent.is_dir():
        raise RequestRefused(f"the folder '{out.parent}' does not exist; make it first")
    if out.exists() and not overwrite:
        raise RequestRefused(f"the file '{out.name}' is there already; add --overwrite to replace it, or give another name")


@contextmanager
def whole_file(out: Path, suffix: str) -> Iterator[Path]:
    """A hidden name beside `out` to write to; it gets the name `out` when the block ends well, and is removed otherwise."""
    partial = out.with_name(f".{out.name.removesuffix(suffix)}.partial-{secrets.token_hex(4)}{suffix}")
    try:
        yield partial
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
