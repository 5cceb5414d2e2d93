"""An evaluation as one picture: which class is taken for which, and how many of each are found."""

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOUR = "#0072B2"  # of Okabe and Ito's palette
LONGEST_NAME = 18


def draw_evaluation(results: Mapping[str, Any]) -> Figure:
    """Confusions in % of each true class, with counts, and the recall of every class that occurs; see `Evaluation`."""
    side = 1.6 + 0.55 * len(results["classes"])
    figure = Figure(figsize=(2 * side + 1.6, max(3.4, side)), layout="constrained")
    matrix, bars = figure.subplots(1, 2, width_ratios=(1.2, 1))
    draw_confusions(matrix, results["confusion_matrix"], results["classes"])
    _draw_recalls(bars, results)
    scores = results["metrics"]
    figure.suptitle(
        f"{results['num_clips']} clips: WAR {scores['accuracy']:.1%}, UAR {scores['uar']:.1%}, macro-F1 "
        f"{scores['macro_f1']:.2f}",
        fontsize=11,
    )
    return figure


def draw_confusions(
    axes: Axes,
    confusion_matrix: Any,
    classes: Sequence[str],
    *,
    title: str = "% of the clips with a label",
    font_size: int = 9,
) -> None:
    """Rows: true classes; columns: the answers. Shades and numbers are % of the row; empty rows stay empty."""
    counts = np.asarray(confusion_matrix, dtype=float)
    totals = counts.sum(axis=1, keepdims=True)
    shares = 100 * counts / np.maximum(totals, 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for (row, column), share in np.ndenumerate(shares):
        if totals[row, 0]:
            colour = "white" if share > 55 else "black"
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=font_size, color=colour)
    names = [shorten(name, LONGEST_NAME, placeholder="…") for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=font_size)
    axes.set_yticks(range(len(names)), names, fontsize=font_size)
    axes.set_xlabel("answer", fontsize=font_size + 1)
    axes.set_ylabel("label", fontsize=font_size + 1)
    axes.set_title(title, fontsize=10)


def _draw_recalls(axes: Axes, results: Mapping[str, Any]) -> None:
    per_class = results["per_class"]
    places = np.arange(len(per_class))[::-1]
    axes.barh(places, [100 * scores["recall"] for scores in per_class.values()], color=COLOUR, height=0.6)
    for place, scores in zip(places, per_class.values(), strict=True):
        axes.text(101, place, f"of {scores['num_clips']}", va="center", fontsize=8, color="0.3")
    axes.axvline(100 / len(results["classes"]), color="0.4", linestyle="--", linewidth=1)
    axes.set_yticks(places, [shorten(name, LONGEST_NAME, placeholder="…") for name in per_class], fontsize=9)
    axes.set_xlim(0, 118)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("found, % (dashed: guessing)")
    axes.spines[["top", "right"]].set_visible(False)
