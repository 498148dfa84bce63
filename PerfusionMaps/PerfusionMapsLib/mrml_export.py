"""A result of the scene as files: what `ctperfusion report` makes a result folder of."""

import json
from collections.abc import Iterator
from pathlib import Path

from CTPerfusionSuiteLib.mrml import geometryOf, valuesOf
from CTPerfusionSuiteLib.volume_nrrd import writing_volume

from .mrml_result import resultFromNode


def writingResult(resultNode, folder) -> Iterator[float]:
    """Write a result of the scene into an existing folder in small steps, as a folder that `open_result` reads: yields the fraction done.

    Raises
    ------
    RequestRefused
        When the result is incomplete.
    """
    resultFromNode(resultNode)  # refuses one that has lost a volume
    folder, documents = Path(folder), json.loads(resultNode.GetText())
    for name in ("metrics", "provenance"):
        (folder / f"{name}.json").write_text(json.dumps(documents[name]), encoding="utf-8")
    contents = documents["provenance"]["contents"]
    items = [(f"{kind}.{item}", item) for kind in ("images", "maps", "masks") for item in contents[kind]]
    for done, (role, item) in enumerate(items):
        node = resultNode.GetNodeReference(role)
        for fraction in writing_volume(folder / f"{item}.nrrd", valuesOf(node), geometryOf(node)):
            yield (done + fraction) / len(items)


def folderFor(resultNode, folder) -> Path:
    """A folder for a result in `folder` that does not exist yet, named after it."""
    return freePath(folder, "".join(c if c.isalnum() or c in "-_" else "_" for c in resultNode.GetName()))


def freePath(folder, name: str, suffix: str = "") -> Path:
    """A path in `folder` that does not exist yet: nothing that was saved before is replaced."""
    path, n = Path(folder) / f"{name}{suffix}", 2
    while path.exists():
        path, n = Path(folder) / f"{name}_{n}{suffix}", n + 1
    return path
