"""Probes and gaps on latents that are made to tell exactly what they should."""

import numpy as np
import pytest

from vqmae_hf.evaluation.disentanglement import LatentArrays, measure_disentanglement, number_gaps
from vqmae_hf.evaluation.known_factors import FACTORS, FactorValues
from vqmae_hf.evaluation.latent_probes import Samples, probe_factor

FACTOR = {factor.name: factor for factor in FACTORS}


def random_truth(num_speakers=15, clips_per_speaker=4, num_frames=6, seed=0):
    """Independent factors: every speaker in every emotion."""
    rng = np.random.default_rng(seed)
    N = num_speakers * clips_per_speaker
    speakers = np.repeat([f"speaker_{seed}_{i}" for i in range(num_speakers)], clips_per_speaker)
    values = {}
    for factor in FACTORS:
        C = len(factor.columns)
        if factor.name == "emotion":
            values[factor.name] = np.tile(np.arange(clips_per_speaker), num_speakers)
        elif factor.kind == "class":
            values[factor.name] = rng.integers(4, size=(N, num_frames))
        elif factor.moves:
            moved = rng.normal(size=(N, num_frames, C))
            values[factor.name] = moved - moved.mean(axis=1, keepdims=True)
        else:
            values[factor.name] = np.repeat(rng.normal(size=(num_speakers, C)), clips_per_speaker, axis=0)
    return FactorValues(speakers, values, np.ones((N, num_frames), dtype=bool))


def telling_latents(truth, seed=0):
    """Each latent is a mixture of the factors at home in it, and a little noise."""
    rng = np.random.default_rng(seed)

    def told(home):
        columns = []
        for factor in (f for f in FACTORS if f.home == home):
            value = truth.values[factor.name]
            columns.append(np.eye(value.max() + 1)[value] if factor.kind == "class" else value)
        told = np.concatenate(columns, axis=-1)
        return told + 0.05 * rng.normal(size=told.shape)

    return LatentArrays({"w": told("w")}, {name: told(name) for name in ("z_av", "z_a", "z_v")})


def test_every_factor_is_found_in_its_home_and_nowhere_else():
    truths = [random_truth(seed=seed) for seed in (0, 1)]
    report = measure_disentanglement(*((telling_latents(truth), truth) for truth in truths))
    assert set(report) == set(FACTOR)
    for name, row in report.items():
        assert row["best"] == FACTOR[name].home
        assert row["scores"][row["home"]] > 0.8, name
        others = [score for latent, score in row["scores"].items() if latent not in (row["home"], "all")]
        assert max(others) < 0.2, name
        assert row["scores"]["all"] > 0.6
        assert row["information_gap"] > 0.02
        assert row["score_gap"] > 0.02
    assert report["emotion"]["accuracies"]["w"] > 0.95


def test_a_large_block_of_noise_does_not_beat_a_small_one_that_tells():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 30)
    truth = rng.normal(size=(300, 1))
    small, large = truth + 0.1 * rng.normal(size=(300, 1)), rng.normal(size=(300, 80))
    scores = [
        probe_factor(Samples(b[:210], truth[:210], groups[:210]), Samples(b[210:], truth[210:], groups[210:])).score
        for b in (small, large)
    ]
    assert scores[0] > 0.9
    assert scores[1] < 0.05


def test_a_probe_finds_what_is_not_linear():
    x = np.random.default_rng(0).normal(size=(600, 2))
    ring = (np.square(x).sum(axis=1) > 1.4).astype(int)
    groups = np.repeat(np.arange(12), 50)
    train, test = (Samples(x[part], ring[part], groups[part]) for part in (slice(400), slice(400, 600)))
    score = probe_factor(train, test)
    assert score.probe.startswith("kernel")
    assert score.accuracy > 0.9


def test_speakers_of_both_parts_are_refused():
    samples = Samples(np.ones((4, 2)), np.ones((4, 1)), np.array(["a", "a", "b", "b"]))
    with pytest.raises(ValueError, match=r"'a', 'b'.*train and in test"):
        probe_factor(samples, samples)


def test_gaps_are_between_latents_and_not_within_one():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(3000, 1))
    noise = rng.normal(size=(3000, 2))
    shared = {"w": noise, "z_av": np.repeat(truth, 2, axis=1), "z_a": noise, "z_v": noise}
    gaps = number_gaps(FACTOR["mouth opening"], shared, truth)
    assert gaps["information_gap"] == pytest.approx(1, abs=0.02)
    assert gaps["score_gap"] == pytest.approx(1, abs=0.02)
    twice = number_gaps(FACTOR["mouth opening"], {**shared, "z_v": -truth}, truth)
    assert twice == pytest.approx({"information_gap": 0, "score_gap": 0}, abs=1e-9)
    wrong = number_gaps(FACTOR["head motion"], shared, truth)
    assert wrong["score_gap"] == pytest.approx(-1, abs=0.02)
