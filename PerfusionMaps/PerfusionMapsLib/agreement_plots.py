"""Scatter and Bland-Altman plots of lesion volumes over several cases."""

from pathlib import Path

import numpy as np

PLOTTED = {"hypoperfusion": "Hypoperfusion", "core": "Core"}


def draw_agreement(document: dict, path: Path) -> bool:
    """Draw comparison.png from a comparison document.

    Parameters
    ----------
    document : dict
        Of `comparison.compare`.
    path : Path
        PNG to write.

    Returns
    -------
    bool
        False, and nothing written, with fewer than two cases.
    """
    if len(document["cases"]) < 2:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 8.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    for row, (lesion, title) in enumerate(PLOTTED.items()):
        volumes = [case["volumes_ml"][lesion] for case in document["cases"]]
        pairs = np.array([(v["a"], v["b"]) for v in volumes if v["difference"] is not None], float).reshape(-1, 2)
        _scatter(axes[row, 0], pairs, title, document)
        _limits(axes[row, 1], pairs, title, document["summary"]["volumes_ml"][lesion]["bland_altman"])
    figure.savefig(path, dpi=110)
    return True


def _scatter(axis, pairs: np.ndarray, title: str, document: dict) -> None:
    largest = float(pairs.max(initial=1.0)) * 1.05
    axis.plot([0, largest], [0, largest], color="0.6", linewidth=1, label="identity")
    axis.scatter(pairs[:, 1], pairs[:, 0], s=24, color="#1f5fa8", alpha=0.8)
    axis.set(xlim=(0, largest), ylim=(0, largest), xlabel=f"B: {document['b']} (mL)", ylabel=f"A: {document['a']} (mL)", aspect="equal")
    icc = document["summary"]["volumes_ml"][title.lower()]["icc"]
    shown = "ICC(A,1) not assessable" if icc["icc"] is None else f"ICC(A,1) {icc['icc']:.3f} [{icc['low']:.3f}, {icc['high']:.3f}]"
    axis.set_title(f"{title}: {shown}, n = {len(pairs)}", fontsize=10)


def _limits(axis, pairs: np.ndarray, title: str, limits: dict) -> None:
    axis.scatter(pairs.mean(axis=1), pairs[:, 0] - pairs[:, 1], s=24, color="#1f5fa8", alpha=0.8)
    axis.axhline(0.0, color="0.8", linewidth=1)
    for name, style in (("bias", "-"), ("low", "--"), ("high", "--")):
        if limits[name] is not None:
            axis.axhline(limits[name], color="#b33a2b", linewidth=1, linestyle=style)
            axis.annotate(
                f"{limits[name]:+.1f}", (1.0, limits[name]), xycoords=("axes fraction", "data"), fontsize=8, ha="right", va="bottom"
            )
    axis.set(xlabel="mean of A and B (mL)", ylabel="A - B (mL)")
    axis.set_title(f"{title}: bias and 95 % limits of agreement", fontsize=10)
