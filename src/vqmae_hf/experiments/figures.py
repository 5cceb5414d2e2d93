"""The picture of an experiment, from its aggregated results alone."""

import json
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vqmae_hf.evaluation.confusion_chart import draw_confusions
from vqmae_hf.experiments.tables import best_row

LINE_LENGTH = 32  # of titles
FEWEST_BARS = 4  # that there is room for, so that one is no wall
ALONE = {"audio": ("^", "#55a868"), "visual": ("s", "#c44e52")}  # what a system of both says of one: marker, color


def draw_results(results_path: Path) -> Path:
    """Write `<name>.png` beside `<name>.json`: WAR of every system, with its folds and what it says when one modality is
    missing, and the confusions of the best one."""
    results = json.loads(results_path.read_text(encoding="utf-8"))
    rows = [row for row in results["rows"].values() if row["is_main"]]
    figure = Figure(figsize=(12, max(4.0, 1.2 + 0.5 * len(rows))), layout="constrained")
    FigureCanvasAgg(figure)
    bars, matrix = figure.subplots(1, 2, width_ratios=(1.3, 1))
    _draw_systems(bars, rows, results["chance"])
    _draw_alone(bars, results["rows"])
    best = results["rows"][best_row(results)]
    title = fill(f"{best['title']}, % of the true class", 1.5 * LINE_LENGTH)
    draw_confusions(matrix, best["confusion_matrix"], results["classes"], title=title)
    figure.suptitle(results["title"])
    picture = results_path.with_suffix(".png")
    figure.savefig(picture, dpi=110, metadata={"Software": None})
    return picture


def _draw_systems(axes: Axes, rows: list[dict[str, Any]], chance: float) -> None:
    places = np.arange(len(rows))[::-1]
    pooled = [row["pooled"]["accuracy"] for row in rows]
    axes.barh(places, [100 * value["mean"] for value in pooled], color="#4c72b0", height=0.6)
    axes.errorbar(
        [100 * value["mean"] for value in pooled],
        places,
        xerr=[100 * (value["std"] or 0) for value in pooled],
        fmt="none",
        ecolor="black",
        capsize=3,
    )
    for place, row in zip(places, rows, strict=True):
        folds = [100 * fold["accuracy"]["mean"] for fold in row["folds"]]
        axes.plot(folds, [place] * len(folds), "o", color="#dd8452", markersize=4)
    axes.axvline(100 * chance, color="grey", linestyle="--", linewidth=1)
    axes.set_yticks(places, [fill(row["title"], LINE_LENGTH) for row in rows])
    axes.set_ylim(-0.7, max(len(rows), FEWEST_BARS) - 0.3)
    axes.set_xlim(0, 100)
    axes.set_xlabel("WAR in %: all folds, ± over seeds; dots: folds; dashed: guessing")


def _draw_alone(axes: Axes, rows: dict[str, dict[str, Any]]) -> None:
    """Mark, on the bar of each system of both modalities, the WAR of what it says given one of them."""
    systems = [name for name, row in rows.items() if row["is_main"]]
    for view, (marker, color) in ALONE.items():
        marked = [
            (rows[f"{name}@{view}"], place) for place, name in enumerate(reversed(systems)) if f"{name}@{view}" in rows
        ]
        if marked:
            means = [100 * row["pooled"]["accuracy"]["mean"] for row, _ in marked]
            places = [place for _, place in marked]
            axes.plot(means, places, marker, color=color, markeredgecolor="white", label=f"{view} alone")
    if len(rows) > len(systems):
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(ALONE), frameon=False)
