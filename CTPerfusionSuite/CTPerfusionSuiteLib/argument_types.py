"""Values on the command line, checked where they are read: each function is a ``type`` of argparse and explains what it wants."""

import argparse
import math
import re
from collections.abc import Callable

LAST_FRAME = 10_000
"""Far beyond any dynamic CT."""


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


def between(low: float, high: float, unit: str = "", whole: bool = False) -> Callable[[str], float]:
    """A type for numbers, or whole numbers, from `low` to `high`, both included; the refusal names the limits with their unit."""
    kind = "a whole number" if whole else "a number"

    def limited(text: str) -> float:
        refused = argparse.ArgumentTypeError(f"'{text}' must be {kind} of at least {low:g} and at most {high:g} {unit}".rstrip())
        if whole and not re.fullmatch(r"[0-9]{1,9}", text.strip()):
            raise refused
        value = int(text) if whole else number(text)
        if not low <= value <= high:
            raise refused
        return value

    return limited


def triple(text: str) -> tuple[float, float, float]:
    """Three finite numbers, as in ``X,Y,Z``."""
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"'{text}' must be three numbers X,Y,Z") from problem
    if not all(math.isfinite(value) for value in (x, y, z)):
        raise argparse.ArgumentTypeError(f"'{text}' must be three finite numbers X,Y,Z")
    return x, y, z


def frame_numbers(text: str) -> tuple[int, ...]:
    """Frames counted from 1, as in ``3,7-9``, in order and each once."""
    numbers = set()
    for part in text.replace(" ", "").split(","):
        match = re.fullmatch(r"([0-9]{1,99})(?:-([0-9]{1,99}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last:
            raise argparse.ArgumentTypeError(f"'{text}' must be frame numbers from 1 on, like 3,7-9")
        if last > LAST_FRAME:
            raise argparse.ArgumentTypeError(f"'{text}' names frame {last}; the largest frame number is {LAST_FRAME}")
        numbers.update(range(first, last + 1))
    return tuple(sorted(numbers))
