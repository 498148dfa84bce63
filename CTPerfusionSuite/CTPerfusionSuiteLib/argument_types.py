"""Values on the command line, checked where they are read: each function is a ``type`` of argparse and explains what it wants."""

import argparse
import math
import re


def number(text: str) -> float:
    """Any number."""
    try:
        return float(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from problem


def positive(text: str) -> float:
    """A finite number above 0."""
    value = number(text)
    if not math.isfinite(value) or value <= 0:
        raise argparse.ArgumentTypeError(f"'{text}' must be a number above 0")
    return value


def not_negative(text: str) -> float:
    """A finite number of at least 0."""
    value = number(text)
    if not math.isfinite(value) or value < 0:
        raise argparse.ArgumentTypeError(f"'{text}' must be a number of at least 0")
    return value


def fraction(text: str) -> float:
    """A number between 0 and 1, both excluded."""
    value = number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' must lie between 0 and 1 (0.3 is 30 %)")
    return value


def filter_width(text: str) -> float:
    """Millimeters of a spatial filter: wider than a vascular territory is no filter any more, and its windows would fill the memory."""
    value = number(text)
    if not 0 <= value <= 20:
        raise argparse.ArgumentTypeError(f"'{text}' must lie between 0 and 20 mm")
    return value


def whole_number(text: str) -> int:
    """A whole number of at least 0."""
    if not re.fullmatch(r"\d+", text.strip()):
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number of at least 0")
    return int(text)


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not re.fullmatch(r"\d+", text.strip()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number of at least 1")
    return int(text)


def triple(text: str) -> tuple[float, float, float]:
    """Three numbers, as in ``X,Y,Z``."""
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"'{text}' must be three numbers X,Y,Z") from problem
    return x, y, z


def frame_numbers(text: str) -> tuple[int, ...]:
    """Frames counted from 1, as in ``3,7-9``, in order and each once."""
    numbers = set()
    for part in text.replace(" ", "").split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last:
            raise argparse.ArgumentTypeError(f"'{text}' must be frame numbers from 1 on, like 3,7-9")
        numbers.update(range(first, last + 1))
    return tuple(sorted(numbers))
