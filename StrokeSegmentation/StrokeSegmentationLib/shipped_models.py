"""Which models there are: those that come with the suite, and those in a folder of the user's."""

from pathlib import Path

from CTPerfusionSuiteLib.errors import RequestRefused
from CTPerfusionSuiteLib.models import METADATA, Model, list_models

SHIPPED = Path(__file__).parent / "models"
NEEDED = ("torch",)
"""What prediction needs beside the core; training of the maps network needs monai too."""


def stroke_models(folder=None) -> list[Model]:
    """Models for this module, the shipped ones first, without reading their weights.

    Parameters
    ----------
    folder : path, optional
        A folder of further models.
    """
    found = [*list_models(SHIPPED, compare=False), *(list_models(folder, compare=False) if folder else [])]
    return [model for model in found if "penumbra" in model.task.lower()]


def model_folder(wanted: str | None = None, folder=None) -> Path:
    """The folder of the model a user names: its name, its own path, or the first shipped one when nothing is named.

    Raises
    ------
    RequestRefused
        There is no such model.
    """
    if wanted is not None and (Path(wanted) / METADATA).is_file():
        return Path(wanted)
    models = stroke_models(folder)
    for model in models:
        if wanted in (None, model.name):
            return model.folder
    known = ", ".join(model.name for model in models) or "none"
    raise RequestRefused(f"there is no model '{wanted or 'for this module'}'; the models here are: {known}")


def require_torch() -> None:
    """Refuse in one sentence where PyTorch is missing.

    Raises
    ------
    RequestRefused
    """
    try:
        import torch  # noqa: F401
    except ImportError as problem:
        raise RequestRefused(
            "PyTorch is not installed; in Slicer install its extension PyTorch, elsewhere run pip install 'ctperfusionsuite[learn]'"
        ) from problem
