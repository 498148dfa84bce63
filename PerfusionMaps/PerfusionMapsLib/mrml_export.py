"""A result of the scene as a result folder, the same that `ctperfusion maps` writes."""

from pathlib import Path

from CTPerfusionSuiteLib.report.canvas import ReportUnavailable

from .mrml_result import resultFromNode
from .perfusion_report import write_report
from .result_folder import recompute, write_result


def saveResult(resultNode, folder, report: bool = True) -> tuple[Path, bool]:
    """Write a result folder, named after the result, into `folder`: (its path, whether it has a report).

    Raises
    ------
    RequestRefused
        When the result is incomplete, or `folder` cannot be written.
    """
    result = resultFromNode(resultNode)
    result = recompute(result, result.thresholds)
    out = freePath(folder, "".join(c if c.isalnum() or c in "-_" else "_" for c in resultNode.GetName()))
    written = []

    def page(path, whole):
        try:
            write_report(path, whole)
            written.append(path)
        except ReportUnavailable:
            pass  # the maps stand alone

    write_result(out, result, extra=(page,) if report else ())
    return out, bool(written)


def freePath(folder, name: str, suffix: str = "") -> Path:
    """A path in `folder` that does not exist yet: nothing that was saved before is replaced."""
    path, n = Path(folder) / f"{name}{suffix}", 2
    while path.exists():
        path, n = Path(folder) / f"{name}_{n}{suffix}", n + 1
    return path
