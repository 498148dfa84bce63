"""Voxels from a raw or gzip stream, straight into the array where they belong.

Image libraries hold a whole file, and a copy of it; some turn NaN into zero or fill what a truncated file lacks with zeros on the way.
"""

import gzip
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np

_INT16 = np.iinfo(np.int16)
_CHUNK = 1 << 24
_DEFLATE_RATIO = 1032
"""No gzip stream unpacks to more than this many times its size (zlib's technical notes)."""


class EndedEarly(Exception):
    """The stream holds fewer voxels than its header says."""


def may_hold(path: Path, size: int, compressed: bool) -> bool:
    """Whether a file is long enough to hold `size` bytes: a header may claim more than any memory has."""
    return size <= path.stat().st_size * (_DEFLATE_RATIO if compressed else 1)


@contextmanager
def voxel_stream(path: Path, offset: int, compressed: bool, header_compressed: bool = False):
    """A file opened at its voxels, `offset` bytes from its start; decompressed if they are.

    header_compressed : bool
        The header counted in `offset` is compressed together with the voxels, as in .nii.gz.

    Raises
    ------
    EndedEarly
        From the body too: damaged compression.
    """
    with open(path, "rb") as file:
        try:
            if compressed and header_compressed:
                with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
                    if len(unpacked.read(offset)) < offset:
                        raise EndedEarly
                    yield unpacked
            elif compressed:
                file.seek(offset)
                with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
                    yield unpacked
            else:
                file.seek(offset)
                yield file
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise EndedEarly from error


def read_voxels(stream, target: np.ndarray, stored: np.dtype, slope: float = 1.0, intercept: float = 0.0) -> None:
    """Fill `target` (contiguous) with slope * stored + intercept.

    Parameters
    ----------
    target : ndarray, int16 or float32
        In int16 what does not fit is clipped.
    stored : dtype
        Type and byte order in the stream.

    Raises
    ------
    EndedEarly
    """
    plain = slope == 1 and intercept == 0
    direct = plain and stored.newbyteorder("=") == target.dtype
    block = target if direct else np.empty(target.shape, stored)
    buffer, got = memoryview(block).cast("B"), 0
    while got < block.nbytes:
        more = stream.readinto(buffer[got : got + _CHUNK])
        if not more:
            raise EndedEarly
        got += more
    if direct:
        if not stored.isnative:
            target.byteswap(inplace=True)
        return
    if target.dtype == np.int16:
        # Wide enough that nothing wraps before it is clipped.
        wide = block.astype(np.int64) if stored.kind in "iu" else block.astype(np.float64)
        target[...] = np.clip(wide if plain else wide * int(slope) + int(intercept), _INT16.min, _INT16.max)
    elif plain:
        target[...] = block
    else:
        target[...] = block.astype(np.float64) * slope + intercept
