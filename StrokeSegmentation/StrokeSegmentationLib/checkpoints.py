"""Weights and the state of a training run on disk: tensors and plain values only, written whole, read without running anything."""

import os
import pickle
import zipfile
from pathlib import Path

import torch

from CTPerfusionSuiteLib.errors import DataRefused

UNREADABLE = (
    pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, ValueError, EOFError, OSError, LookupError, AttributeError, TypeError,
)
"""What reading something else than tensors may raise."""


def save_state(path, state: dict) -> None:
    """Write tensors and plain values; the file appears under its name only when it is complete."""
    path = Path(path)
    partial = path.with_name(path.name + ".part")
    torch.save(state, partial)
    os.replace(partial, path)


def load_state(path, what: str) -> dict:
    """Read what `save_state` wrote; nothing in the file is ever executed.

    Parameters
    ----------
    path : Path
    what : str
        What the file is called in the refusal.

    Raises
    ------
    DataRefused
        Not such a file.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as problem:
        raise DataRefused(f"{what} holds something else than weights and was not opened; get the file again from its author") from problem
    if not isinstance(state, dict):
        raise DataRefused(f"{what} holds something else than weights; get the file again from its author")
    return state


def load_weights(network: torch.nn.Module, path, what: str) -> None:
    """Put weights from a file into a network.

    Raises
    ------
    DataRefused
        Not weights, not those of this network, or not finite.
    """
    put_weights(network, load_state(path, what), what)


def put_weights(network: torch.nn.Module, state: dict, what: str) -> None:
    """As `load_weights`, from a dictionary of name -> tensor."""
    wanted = network.state_dict()
    if not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise DataRefused(f"{what} holds something else than weights; get the file again from its author")
    if set(state) != set(wanted) or any(state[name].shape != wanted[name].shape for name in wanted):
        raise DataRefused(
            f"{what} holds the weights of another network than its description says, or of an earlier version; train it again or get it "
            "from its author"
        )
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise DataRefused(f"{what} holds weights that are not finite; train it again or get the file again from its author")
    network.load_state_dict({name: value.to(wanted[name].dtype) for name, value in state.items()})
