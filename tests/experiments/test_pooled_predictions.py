"""Predictions of several folds in one table."""

import numpy as np
import pytest

from vqmae_hf.experiments.pooled_predictions import pool_predictions

CONTEXTS = ("visible", "stranger", "hidden", "absent")


def a_fold(number, clips, codes_per_clip, value):
    """Results of a fold whose network gains `value` nats from the other modality on every clip."""
    score = {"cross_entropy": 3 + value, "top1": 0.1, "top5": 0.3, "codes": clips * codes_per_clip, "clips": clips}
    names = [f"{number}-{clip}" for clip in range(clips)]
    rows = [
        {"clip_id": name, "speaker": name, **{c: 3 + value * (c != "visible") for c in CONTEXTS}} for name in names
    ]
    gain_over = {context: {"mean": value} for context in CONTEXTS[1:]}
    gain = {"masked_share": 0.9, "contexts": dict.fromkeys(CONTEXTS, score), "gain_over": gain_over, "clips": rows}
    return {
        "part": "test",
        "mask_seed": 0,
        "speakers": names,
        "split": {"fold": number},
        "masked": {"audio": {"0.9": {"model": {**score, "weight": 1.0}}}},
        "gain": {"audio": gain},
        "environment": {"commit": "abc"},
    }


def test_every_masked_code_and_every_clip_counts_alike():
    folds = [a_fold(0, clips=2, codes_per_clip=30, value=1.0), a_fold(1, clips=6, codes_per_clip=10, value=0.2)]
    pooled = pool_predictions(folds)
    assert pooled["masked"]["audio"]["0.9"]["model"] == pytest.approx(
        {"cross_entropy": 3.6, "top1": 0.1, "top5": 0.3, "codes": 120, "clips": 8}
    )
    gain = pooled["gain"]["audio"]
    assert gain["gain_over"]["hidden"]["mean"] == pytest.approx((2 * 1.0 + 6 * 0.2) / 8)
    assert gain["gain_over"]["hidden"]["clips"] == len(gain["clips"]) == 8
    low, high = gain["gain_over"]["hidden"]["interval"]
    assert 0.2 <= low < high <= 1
    assert [fold["gain_over"]["audio"]["hidden"] for fold in pooled["by_fold"]] == [1.0, 0.2]
    assert pooled["environments"] == [{"commit": "abc"}]
    assert np.unique(pooled["speakers"]).size == 8


def test_without_gains_there_are_none():
    fold = a_fold(0, clips=2, codes_per_clip=30, value=1.0)
    del fold["gain"]
    assert not {"gain", "by_fold"} & set(pool_predictions([fold]))
