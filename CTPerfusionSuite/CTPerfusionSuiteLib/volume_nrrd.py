"""A volume as a raw .nrrd file, written in small pieces by a panel that must stay responsive; any reader of images knows the format."""

from collections.abc import Iterator

import numpy as np

from CTPerfusionSuiteLib.volumes import Geometry

_TYPES = {"i1": "int8", "u1": "uint8", "i2": "int16", "u2": "uint16", "i4": "int32", "u4": "uint32", "f4": "float", "f8": "double"}
_PIECE_BYTES = 8 << 20


def writing_volume(path, values: np.ndarray, geometry: Geometry) -> Iterator[float]:
    """Write values (K, J, I) of a plain numeric type, little endian; yields the fraction done after each piece."""
    stored = values.dtype.newbyteorder("<")
    columns = (np.asarray(geometry.direction) * np.asarray(geometry.spacing)).T
    lines = [
        "NRRD0004",
        f"type: {_TYPES[stored.str[1:]]}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, geometry.size))}",
        f"space directions: {' '.join(_vector(column) for column in columns)}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: raw",
        f"space origin: {_vector(geometry.origin)}",
    ]
    with open(path, "wb") as file:
        file.write(("\n".join(lines) + "\n\n").encode("ascii"))
        slices = max(1, _PIECE_BYTES // max(1, values[0].nbytes))
        for k in range(0, len(values), slices):
            file.write(np.ascontiguousarray(values[k : k + slices], dtype=stored))
            yield min(1.0, (k + slices) / len(values))


def _vector(numbers) -> str:
    return "(" + ",".join(repr(float(n)) for n in numbers) + ")"
