"""Text of DICOM elements in the character set that the file names (PS3.5 6.1, PS3.3 C.12.1.1.2)."""

from functools import lru_cache

from pydicom.charset import convert_encodings, decode_bytes

_ESCAPE = b"\x1b"
_DELIMITERS = {ord(character) for character in "\t\n\f\r\\^="}
"""A switch of character sets within a value ends at these."""


@lru_cache(maxsize=64)
def encodings_of(charset: bytes) -> tuple[str, ...]:
    """Python's encodings of the value of SpecificCharacterSet; empty where text is Latin-1 or UTF-8, which need no switching."""
    names = [name.strip(" \0") for name in charset.decode("ascii", "replace").split("\\")]
    found = tuple(convert_encodings(names))
    return () if len(found) == 1 and found[0] in ("iso8859", "iso8859_1", "latin_1", "utf8") else found


def decoded(value: bytes, encodings: tuple[str, ...]) -> str:
    """The text of an element's bytes; what cannot be decoded is replaced.

    Much software writes UTF-8 and names Latin-1, or nothing; Latin-1 text is never valid UTF-8 by accident.
    """
    if value.isascii() and _ESCAPE not in value:
        return value.decode("ascii")
    if encodings:
        return decode_bytes(value, encodings, _DELIMITERS)
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
