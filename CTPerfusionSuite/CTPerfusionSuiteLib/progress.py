"""How long work tells where it is, and how it is stopped.

A step takes ``progress: Progress = silent`` and calls ``progress(fraction)`` with 0...1; a caller that wants the work to stop
raises `Canceled` from the call.  Nothing else is needed: no threads, no signals.
"""

from collections.abc import Callable, Generator

Progress = Callable[[float], None]


def silent(fraction: float) -> None:
    """Report nothing."""


def to_the_end(steps: Generator):
    """Run work that is written as a generator of small steps at once; its return value."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def part_of_steps(steps: Generator, start: float, stop: float) -> Generator:
    """The stretch ``start``...``stop`` of longer work that is done by `steps`; it is closed with the longer work, and its return value is
    passed on."""
    try:
        while True:
            try:
                fraction = next(steps)
            except StopIteration as end:
                return end.value
            yield start + (stop - start) * fraction
    finally:
        steps.close()


def part(progress: Progress, start: float, stop: float) -> Progress:
    """The stretch ``start``...``stop`` of `progress`, for a step within a step."""

    def report(fraction: float) -> None:
        progress(start + (stop - start) * fraction)

    return report
