"""One table of masked prediction from those of several folds, each of which asked about other clips."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vqmae_hf.evaluation.masked_prediction import GAIN_CONTEXTS, paired_gain

MEANS = ("cross_entropy", "top1", "top5")
COUNTS = ("codes", "clips")


def pool_predictions(folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What `evaluate_pretraining.run` says of each fold, as if all held-out clips had been asked about at once.

    Args:
        folds: its results, of disjoint clips and the same masked shares, each with its `environment`.

    Returns:
        `part`, `mask_seed`; `speakers` of all folds; `masked`: by modality, masked share and predictor, means over all
        masked codes; `gain` where the folds have it, as of `gain_of_other_modality`, with intervals over the clips of all;
        `by_fold`: `fold`, `clips` and, by modality, `gain_over` of each, without the intervals of clips so few;
        `environments`: each once.
    """
    first = folds[0]
    pooled: dict[str, Any] = {
        "part": first["part"],
        "mask_seed": first["mask_seed"],
        "environments": [],
        "speakers": sorted(speaker for fold in folds for speaker in fold["speakers"]),
        "masked": {
            modality: {
                ratio: {
                    name: _mean_scores([fold["masked"][modality][ratio][name] for fold in folds]) for name in scores
                }
                for ratio, scores in by_ratio.items()
            }
            for modality, by_ratio in first["masked"].items()
        },
    }
    for fold in folds:
        if fold["environment"] not in pooled["environments"]:
            pooled["environments"].append(fold["environment"])
    if "gain" in first:
        seed = first["mask_seed"]
        pooled["gain"] = {name: _pool_gain([fold["gain"][name] for fold in folds], seed) for name in first["gain"]}
        pooled["by_fold"] = [_fold_gains(fold) for fold in folds]
    return pooled


def _mean_scores(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over the masked codes of all folds, from the means of each; and how many codes and clips."""
    counts = {name: sum(int(score[name]) for score in scores) for name in COUNTS}
    codes = [score["codes"] for score in scores]
    return {**{name: float(np.average([score[name] for score in scores], weights=codes)) for name in MEANS}, **counts}


def _pool_gain(gains: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    clips = [clip for gain in gains for clip in gain["clips"]]
    by_context = {context: np.array([clip[context] for clip in clips]) for context in GAIN_CONTEXTS}
    speakers = [clip["speaker"] for clip in clips]
    return {
        "masked_share": gains[0]["masked_share"],
        "contexts": {
            context: _mean_scores([gain["contexts"][context] for gain in gains]) for context in GAIN_CONTEXTS
        },
        "gain_over": {
            context: paired_gain(by_context[context], by_context["visible"], speakers, seed=seed)
            for context in GAIN_CONTEXTS[1:]
        },
        "clips": clips,
    }


def _fold_gains(fold: Mapping[str, Any]) -> dict[str, Any]:
    gains = {
        modality: {context: values["mean"] for context, values in gain["gain_over"].items()}
        for modality, gain in fold["gain"].items()
    }
    clips = max(len(gain["clips"]) for gain in fold["gain"].values())
    return {"fold": fold["split"]["fold"], "clips": clips, "gain_over": gains}
