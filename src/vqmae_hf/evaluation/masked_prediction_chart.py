"""The results of masked prediction as one picture: cross-entropies beside those of the baselines, and gains."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by everyone; markers and dashes say the same without colour.
STYLES = {
    "model": ("#000000", "o", "-"),
    "unigram": ("#E69F00", "s", ":"),
    "position_unigram": ("#0072B2", "^", "--"),
    "copy_nearest": ("#009E73", "D", "-."),
}
GAIN_COLOURS = {"stranger": "#CC79A7", "hidden": "#0072B2", "absent": "#E69F00"}
CODE_NAMES = {"visual": "face codes", "audio": "voice codes"}
OTHER_NAMES = {"visual": "sound", "audio": "face"}


def draw_masked_prediction(results: Mapping[str, Any]) -> Figure:
    """One panel of cross-entropies per modality, and one of gains where they were measured.

    Args:
        results: `masked` and, for models of both modalities, `gain`, as of the program `evaluate_pretraining`.
    """
    masked, gains = results["masked"], results.get("gain", {})
    figure = Figure(figsize=(4 * (len(masked) + bool(gains)), 3.4), layout="constrained")
    panels = figure.subplots(1, len(masked) + bool(gains), squeeze=False)[0]
    for axes, (modality, by_ratio) in zip(panels, masked.items(), strict=False):
        _draw_cross_entropies(axes, modality, by_ratio)
    if gains:
        _draw_gains(panels[-1], gains)
    return figure


def _draw_cross_entropies(axes: Axes, modality: str, by_ratio: Mapping[str, Any]) -> None:
    ratios = sorted(by_ratio, key=float)
    for name, (colour, marker, line) in STYLES.items():
        values = [by_ratio[ratio][name]["cross_entropy"] for ratio in ratios]
        label = name.replace("_", " ")
        axes.plot([float(r) for r in ratios], values, color=colour, marker=marker, linestyle=line, label=label)
    axes.set_title(f"masked {CODE_NAMES[modality]}")
    axes.set_xlabel("masked share of the tubes")
    axes.set_ylabel("cross-entropy (nats per code)")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)


def _draw_gains(axes: Axes, gains: Mapping[str, Any]) -> None:
    width = 0.8 / len(GAIN_COLOURS)
    for place, (context, colour) in enumerate(GAIN_COLOURS.items()):
        for row, modality in enumerate(gains):
            gain = gains[modality]["gain_over"][context]
            low, high = gain["interval"] or (gain["mean"], gain["mean"])
            error = [[gain["mean"] - low], [high - gain["mean"]]]
            label = f"over {context}" if row == 0 else None
            axes.bar(row + (place - 1) * width, gain["mean"], width, yerr=error, color=colour, capsize=3, label=label)
    labels = [f"{CODE_NAMES[modality]}\nwith the {OTHER_NAMES[modality]}" for modality in gains]
    axes.set_xticks(range(len(gains)), labels)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_title("gain from the other modality")
    axes.set_ylabel("nats per masked code")
    axes.legend(fontsize=8)
