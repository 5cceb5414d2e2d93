"""Factors read from pictures and sound, and whose they are after a swap."""

import numpy as np
import pytest

from vqmae_hf.evaluation.known_factors import FACTORS, FactorValues
from vqmae_hf.evaluation.swap_fidelity import Media, MediaProbes, agreement, swap_report

T, H, F = 8, 16, 24
FACTOR = {factor.name: factor for factor in FACTORS}


def random_truth(num_speakers, clips_per_speaker, seed):
    rng = np.random.default_rng(seed)
    N = num_speakers * clips_per_speaker
    values = {}
    for factor in FACTORS:
        shape = (N, T) if factor.moves else (N,)
        if factor.kind == "class":
            values[factor.name] = rng.integers(3, size=shape)
        else:
            values[factor.name] = rng.uniform(-1, 1, size=(*shape, len(factor.columns)))
    speakers = np.repeat([f"{seed}_{i}" for i in range(num_speakers)], clips_per_speaker)
    return FactorValues(speakers, values, np.ones((N, T), dtype=bool))


def show(static, moving):
    """Media on which identity and emotion are those of one clip, and everything that moves is that of another."""
    numbers = []
    for factor in FACTORS:
        value = (moving if factor.moves else static).values[factor.name]
        value = np.eye(3)[value] if factor.kind == "class" else value
        value = value if factor.moves else np.repeat(value[:, None], T, axis=1)
        numbers.append((factor.sense, value))
    seen, heard = (
        np.concatenate([value for told, value in numbers if told in (sense, "both")], axis=2)
        for sense in ("seen", "heard")
    )
    rng = np.random.default_rng(0)
    pixels = 128 + 20 * seen @ rng.normal(size=(seen.shape[2], (H // 2) ** 2 * 3))
    squares = pixels.clip(0, 255).astype(np.uint8).reshape(*seen.shape[:2], H // 2, H // 2, 3)
    spectra = 10 ** (heard @ rng.normal(size=(heard.shape[2], F)) / 4)
    return Media(squares.repeat(2, axis=2).repeat(2, axis=3), spectra)


def test_what_was_swapped_is_found_to_be_the_sources():
    train, source, target = (random_truth(*sizes) for sizes in ((20, 8, 0), (10, 4, 1), (10, 4, 2)))
    probes = MediaProbes(show(train, train), train)
    decoded = {"none": show(target, target), "w": show(source, target), "z_av": show(target, source)}
    report = swap_report(probes, decoded, source, target)
    for name, rows in report.items():
        swapped, kept = ("z_av", "w") if FACTOR[name].moves else ("w", "z_av")
        assert rows["none"]["target"] > 0.5, name
        assert rows[swapped]["source"] > 0.5, name
        assert rows[swapped]["moved"] > 0.75
        assert rows[kept]["moved"] < 0.25
        assert rows["none"]["moved"] < 0.25


def test_agreement_ignores_scale_and_frames_that_do_not_count():
    truth = np.random.default_rng(0).normal(size=(5, T, 1))
    counted = np.ones((5, T), dtype=bool)
    counted[:, 3:] = False
    told = 2 * truth + 1
    told[:, 3:] = 9
    assert agreement(FACTOR["eyelids"], told, truth, counted) == pytest.approx(1)
    assert agreement(FACTOR["eyelids"], -told, truth, counted) == pytest.approx(-1)


def test_guessing_the_most_frequent_class_is_no_agreement():
    truth = np.array([0, 0, 0, 1])
    everywhere = np.ones((4, T), dtype=bool)
    assert agreement(FACTOR["emotion"], np.zeros(4), truth, everywhere) == 0
    assert agreement(FACTOR["emotion"], truth, truth, everywhere) == 1
