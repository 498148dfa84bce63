"""Stored pixel values of an image, uncompressed or compressed, and what they are in HU.

Uncompressed pixels are read from their place in the file, without parsing its header again.
"""

import struct
from pathlib import Path

import numpy as np
import pydicom
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from CTPerfusionSuiteLib.dicom.headers import EXPLICIT_BIG, UNCOMPRESSED, Frame
from CTPerfusionSuiteLib.errors import DataRefused, RequestRefused
from CTPerfusionSuiteLib.geometry import AIR_HU

_ITEM, _END_OF_SEQUENCE = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_PLAUSIBLE_PADDING_HU = (-900.0, 3072.0)
"""A padding value inside this range cannot be told from anatomy and is taken as it is."""
_INT16 = np.iinfo(np.int16)


def check_decoders(frames: list[Frame]) -> None:
    """Make sure that every compression met can be undone.

    Raises
    ------
    RequestRefused
        A decoder is not installed.
    DataRefused
        A retired, private or unknown compression that nobody decodes.
    """
    for syntax in sorted({frame.transfer_syntax for frame in frames}):
        if syntax in UNCOMPRESSED:
            continue
        name = UID(syntax).name
        try:
            decoder = get_decoder(UID(syntax))
        except NotImplementedError as error:
            raise DataRefused(
                f"the images are compressed as '{name}', which cannot be decoded; convert them to an uncompressed transfer syntax"
            ) from error
        if not decoder.is_available:
            raise RequestRefused(
                f"the images are compressed as '{name}' and no decoder is installed; install the package ctperfusionsuite[dicom], "
                "in Slicer under Installed parts of the module CT Perfusion Suite"
            )


def whole_numbers(frames: list[Frame]) -> bool:
    """Whether all HU values are whole: every rescale slope and intercept is."""
    return all(float(value).is_integer() for frame in frames for value in (frame.slope, frame.intercept))


def read_hounsfield(root: Path, frame: Frame, out: np.ndarray, fragments: dict | None = None) -> tuple[float, float]:
    """Decode one image into `out`.

    Parameters
    ----------
    root : Path
        What `frame.path` is relative to.
    out : ndarray (J, I), int16 or float32
        Receives HU; padding becomes -1024 HU.
    fragments : dict, optional
        Filled with where the frames of compressed multi-frame files lie, by path.

    Returns
    -------
    (smallest, largest) HU.

    Raises
    ------
    DataRefused
        Truncated or undecodable pixel data.
    """
    stored = stored_values(root, frame, fragments)
    padded = _padded(stored, frame)
    if out.dtype == np.int16:
        _whole_hounsfield(stored, frame, out)
    else:
        np.multiply(stored, np.float32(frame.slope), out=out, casting="unsafe")
        out += np.float32(frame.intercept)
    if padded is not None:
        out[padded] = AIR_HU
    return float(out.min()), float(out.max())


def _whole_hounsfield(stored: np.ndarray, frame: Frame, out: np.ndarray) -> None:
    """slope * stored + intercept in int16; what does not fit is clipped."""
    slope, intercept = int(frame.slope), int(frame.intercept)
    low, high = sorted((slope * int(stored.min()) + intercept, slope * int(stored.max()) + intercept))
    if low >= _INT16.min and high <= _INT16.max and slope == 1:
        # Modular arithmetic: every result fits, so wrapping on the way does no harm.
        np.add(stored.view(np.int16) if stored.dtype == np.uint16 else stored, np.int16(_wrapped(intercept)), out=out, casting="unsafe")
    else:
        np.clip(stored.astype(np.int32) * slope + intercept, _INT16.min, _INT16.max, out=out, casting="unsafe")


def _wrapped(value: int) -> int:
    """`value` modulo 2**16 as a signed 16-bit number."""
    return (value + 32768) % 65536 - 32768


def stored_values(root: Path, frame: Frame, fragments: dict | None = None) -> np.ndarray:
    """(J, I) stored values: sign extended, without overlay bits; signed or unsigned integers in native byte order."""
    if frame.fault:
        raise DataRefused(f"the file '{frame.shown_path}' {frame.fault}; copy or export it again")
    try:
        if frame.compressed:
            return _decoded(root, frame, {} if fragments is None else fragments)
        raw = _native(root, frame)
    except (PermissionError, FileNotFoundError) as error:
        raise RequestRefused(
            f"the file '{frame.shown_path}' cannot be read ({type(error).__name__}); check the folder and its permissions"
        ) from error
    return _significant(raw, frame)


def _native(root: Path, frame: Frame) -> np.ndarray:
    """(J, I) uncompressed values, unsigned, in native byte order."""
    if frame.bits_allocated not in (8, 16, 32):
        raise DataRefused(f"the file '{frame.shown_path}' has {frame.bits_allocated} bits a pixel, which no CT image has; export it again")
    kind = np.dtype(f"{'>' if frame.transfer_syntax == EXPLICIT_BIG else '<'}u{frame.bits_allocated // 8}")
    count = frame.rows * frame.columns
    values = np.empty((frame.rows, frame.columns), kind)
    skip = frame.index * count * kind.itemsize
    if frame.pixel_offset is None:
        data = pydicom.dcmread(root / frame.path, force=True).get("PixelData") or b""
        data = data[skip : skip + values.nbytes]
        got = len(data)
        if got == values.nbytes:
            values = np.frombuffer(data, kind).reshape(values.shape)
    else:
        with open(root / frame.path, "rb", buffering=0) as file:
            file.seek(frame.pixel_offset + skip)
            buffer, got = memoryview(values).cast("B"), 0
            while got < values.nbytes:
                more = file.readinto(buffer[got:])
                if not more:
                    break
                got += more
    if got < values.nbytes:
        raise DataRefused(
            f"the file '{frame.shown_path}' is truncated: it holds {got} of {values.nbytes} bytes of an image; copy or export it again"
        )
    if frame.bits_allocated == 8 and frame.transfer_syntax == EXPLICIT_BIG:
        # Eight-bit pixels are stored as 16-bit words there, so neighbors are swapped.
        values = values.reshape(-1, 2)[:, ::-1].reshape(values.shape)
    return values if kind.isnative else values.astype(kind.newbyteorder("="))


def _significant(raw: np.ndarray, frame: Frame) -> np.ndarray:
    """The stored bits of unsigned `raw`, sign extended if signed."""
    allocated = raw.dtype.itemsize * 8
    stored = min(frame.bits_stored or allocated, allocated)
    below = max(0, frame.high_bit + 1 - stored)
    signed = raw.dtype.str.replace("u", "i")
    if stored == allocated and not below:
        return raw.view(signed) if frame.signed else raw
    above, kind = allocated - stored - below, raw.dtype.type
    if frame.signed:
        values = (raw << kind(above)).view(signed) >> np.int8(above + below)
        padding = raw.view(signed)
    else:
        values = (raw >> kind(below)) & kind((1 << stored) - 1)
        padding = raw
    # Padding that does not fit the stored bits (63536 in 12-bit pixels) is left as it is: `_padded` finds it.
    if frame.padding is not None and allocated == 16 and not -(1 << stored >> 1) <= frame.padding < 1 << stored:
        return np.where(raw == frame.padding, padding, values)
    return values


def _padded(stored: np.ndarray, frame: Frame) -> np.ndarray | None:
    """Mask (J, I) of padding pixels, None where there are none."""
    if frame.padding is None:
        return None
    bits = stored.dtype.itemsize * 8

    def as_stored(value: int) -> int:
        value &= (1 << bits) - 1
        return value - (1 << bits) if stored.dtype.kind == "i" and value >> (bits - 1) else value

    first = as_stored(frame.padding if bits == 16 or frame.padding < 0x8000 else frame.padding | ~0xFFFF)
    hounsfield = first * frame.slope + frame.intercept
    if _PLAUSIBLE_PADDING_HU[0] < hounsfield < _PLAUSIBLE_PADDING_HU[1]:
        return None
    if frame.padding_limit is None:
        mask = stored == first
    else:
        low, high = sorted((first, as_stored(frame.padding_limit)))
        limit_hounsfield = as_stored(frame.padding_limit) * frame.slope + frame.intercept
        if _PLAUSIBLE_PADDING_HU[0] < limit_hounsfield < _PLAUSIBLE_PADDING_HU[1]:
            low = high = first
        mask = (stored >= low) & (stored <= high)
    return mask if mask.any() else None


def _decoded(root: Path, frame: Frame, fragments: dict) -> np.ndarray:
    """(J, I) values of a compressed image."""
    where = fragments.get(frame.path)
    if where is None:
        where = fragments[frame.path] = _fragments_of_frames(root, frame)
    with open(root / frame.path, "rb") as file:
        parts = []
        for offset, length in where[frame.index]:
            file.seek(offset)
            parts.append(file.read(length))
    syntax = UID(frame.transfer_syntax)
    try:
        pixels, properties = get_decoder(syntax).as_array(
            encapsulate([b"".join(parts)], has_bot=False),
            raw=True,
            transfer_syntax_uid=syntax,
            rows=frame.rows,
            columns=frame.columns,
            number_of_frames=1,
            samples_per_pixel=1,
            photometric_interpretation="MONOCHROME2",
            bits_allocated=frame.bits_allocated,
            bits_stored=frame.bits_stored,
            pixel_representation=int(frame.signed),
            pixel_keyword="PixelData",
        )
    except Exception as error:  # noqa: BLE001 - each decoder raises its own kinds
        raise DataRefused(
            f"the pixels of the file '{frame.shown_path}' cannot be decoded as '{syntax.name}' ({type(error).__name__}); "
            "export it again, uncompressed"
        ) from error
    pixels = np.asarray(pixels).reshape(-1, frame.columns)
    if pixels.shape[0] != frame.rows:
        raise DataRefused(f"the file '{frame.shown_path}' holds {pixels.shape[0]} of {frame.rows} rows; export it again")
    return pixels if pixels.dtype.isnative else pixels.astype(pixels.dtype.newbyteorder("="))


def _fragments_of_frames(root: Path, frame: Frame) -> list[list[tuple[int, int]]]:
    """(offset, length) in bytes of the fragments of each frame of a compressed file."""
    path = root / frame.path
    truncated = DataRefused(f"the file '{frame.shown_path}' is truncated within its compressed pixel data; copy or export it again")
    size = path.stat().st_size
    items: list[tuple[int, int]] = []
    with open(path, "rb") as file:
        position = frame.pixel_offset
        while True:
            file.seek(position)
            head = file.read(8)
            if head[:4] == _END_OF_SEQUENCE:
                break
            length = struct.unpack("<I", head[4:])[0] if len(head) == 8 else 0
            if head[:4] != _ITEM or position + 8 + length > size:
                raise truncated
            items.append((position + 8, length))
            position += 8 + length
        if len(items) < 2:
            raise truncated
        (table_offset, table_length), items = items[0], items[1:]
        file.seek(table_offset)
        table = struct.unpack(f"<{table_length // 4}I", file.read(table_length // 4 * 4))
    if frame.frames_in_file == 1:
        return [items]
    if len(items) == frame.frames_in_file:
        return [[item] for item in items]
    if len(table) != frame.frames_in_file:
        raise DataRefused(
            f"the file '{frame.shown_path}' does not say which compressed fragments make which frame; export it again, uncompressed"
        )
    first = items[0][0] - 8
    ends = [*table[1:], 1 << 62]
    return [[item for item in items if start <= item[0] - 8 - first < end] for start, end in zip(table, ends, strict=True)]
