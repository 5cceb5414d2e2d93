"""Baselines of masked codes: frequencies are those that were counted, copies come from the nearest visible tube."""

import numpy as np
import pytest
import torch

from vqmae_hf import VQMAEConfig, VQMAEModel
from vqmae_hf.evaluation.code_baselines import (
    CodeScores,
    CopyBaseline,
    CopyEvidence,
    FrequencyBaseline,
    best_copy_weight,
    count_codes,
    nearest_visible,
    tube_positions,
)

CONFIG = VQMAEConfig.from_preset("tiny", num_hidden_layers=1)
SHAPES = {"audio": (100, 64), "visual": (50, 8, 8)}
SIZES = {"audio": 64, "visual": 128}
MODALITIES = pytest.mark.parametrize("modality", ["audio", "visual"])


@pytest.fixture(scope="module")
def model():
    return VQMAEModel(CONFIG).eval()


def tubes_of(model, modality, codes, mask=None):
    inputs = {f"{modality}_codes": codes}
    if mask is not None:
        inputs[f"{modality}_attention_mask"] = mask
    return model.prepare_tubes(**inputs)[modality]


def skewed_codes(modality, windows=2):
    """Codes that differ in frequency, and from position to position."""
    shape = SHAPES[modality]
    draw = torch.rand(windows, *shape).pow(3) * SIZES[modality] / 2
    place = torch.arange(shape[1]).view(1, 1, -1, *[1] * (len(shape) - 2)) // 8
    return (draw.long() + place).clamp(max=SIZES[modality] - 1)


def counts_of(modality, codes):
    flat = [window.numpy().ravel().astype(np.uint16) for window in codes]
    return count_codes(flat, int(np.prod(SHAPES[modality][1:])), SIZES[modality])


def means(scores):
    total = scores.codes.sum()
    return [float(value.sum() / total) for value in scores[1:]]


@MODALITIES
def test_unigram_cross_entropy_is_the_entropy_of_the_training_codes(model, modality):
    codes = skewed_codes(modality)
    counts = counts_of(modality, codes)
    share = np.bincount(codes.flatten().numpy(), minlength=SIZES[modality]) / codes.numel()
    entropy = -sum(p * np.log(p) for p in share if p > 0)
    tubes = tubes_of(model, modality, codes)
    everything = torch.ones(tubes.codes.shape[:2], dtype=torch.bool)
    baseline = FrequencyBaseline.unigram(counts, tube_positions(CONFIG, modality), pseudo_count=0.0)
    cross_entropy, top1, top5 = means(baseline.score(tubes, everything))
    assert cross_entropy == pytest.approx(entropy, rel=1e-9)
    assert top1 == pytest.approx(share.max())
    assert top5 == pytest.approx(np.sort(share)[-5:].sum())


@MODALITIES
def test_positional_cross_entropy_is_the_mean_entropy_of_the_positions(model, modality):
    codes = skewed_codes(modality)
    counts = counts_of(modality, codes)
    share = counts / counts.sum(axis=1, keepdims=True)
    entropy = -np.where(share > 0, share * np.log(np.maximum(share, 1e-30)), 0).sum(axis=1).mean()
    tubes = tubes_of(model, modality, codes)
    everything = torch.ones(tubes.codes.shape[:2], dtype=torch.bool)
    baseline = FrequencyBaseline.positional(counts, tube_positions(CONFIG, modality), pseudo_count=0.0)
    cross_entropy, top1, _ = means(baseline.score(tubes, everything))
    assert cross_entropy == pytest.approx(entropy, rel=1e-9)
    assert top1 == pytest.approx(share.max(axis=1).mean())


def test_counts_are_those_of_each_position():
    clips = [np.array([0, 1, 2, 0, 1, 1], dtype=np.uint8), np.array([0, 2, 2], dtype=np.uint8)]
    assert count_codes(clips, 3, 4).tolist() == [[3, 0, 0, 0], [0, 2, 1, 0], [0, 1, 2, 0]]


def test_codes_that_training_never_showed_are_possible():
    counts = counts_of("audio", torch.zeros(1, 100, 64, dtype=torch.long))
    positions = tube_positions(CONFIG, "audio")
    for baseline in (FrequencyBaseline.unigram(counts, positions), FrequencyBaseline.positional(counts, positions)):
        probabilities = baseline.log_probabilities.exp()
        torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(len(probabilities), dtype=torch.float64))
        assert probabilities.min() > 0


@MODALITIES
def test_copying_is_perfect_on_constant_clips(model, modality):
    background = FrequencyBaseline.unigram(
        counts_of(modality, skewed_codes(modality)), tube_positions(CONFIG, modality)
    )
    codes = torch.full((3, *SHAPES[modality]), 7)
    codes[1] = 20
    tubes = tubes_of(model, modality, codes)
    mask = torch.rand(tubes.codes.shape[:2]) < 0.9
    mask[:, 5] = False
    baseline = CopyBaseline.fit(background, [(tubes, mask)])
    assert baseline.weight > 0.999
    cross_entropy, top1, top5 = means(baseline.score(tubes, mask))
    assert cross_entropy < 1e-4
    assert top1 == top5 == 1


def test_copies_come_from_the_same_place_at_another_time_where_the_face_stands_still(model):
    codes = torch.randint(0, 128, (4, 1, 8, 8)).expand(-1, 50, -1, -1)
    tubes = tubes_of(model, "visual", codes)
    mask = torch.rand(tubes.codes.shape[:2]) < 0.5
    background = FrequencyBaseline.unigram(counts_of("visual", codes), tube_positions(CONFIG, "visual"))
    baseline = CopyBaseline.fit(background, [(tubes, mask)])
    assert baseline.space_weight == 4.0
    assert means(baseline.score(tubes, mask))[1] > 0.9
    shifted = CopyBaseline(background, baseline.weight, 0.5)
    assert means(shifted.score(tubes, mask))[0] > means(baseline.score(tubes, mask))[0]


def test_probabilities_and_guesses_agree_with_a_list_of_all_codes(model):
    codes = skewed_codes("audio", windows=1)
    tubes = tubes_of(model, "audio", codes)
    counts = counts_of("audio", skewed_codes("audio"))
    background = FrequencyBaseline.unigram(counts, tube_positions(CONFIG, "audio"))
    mask = torch.rand(tubes.codes.shape[:2]) < 0.7
    baseline = CopyBaseline(background, 0.3, 1.0)
    scores = baseline.score(tubes, mask)
    copied = baseline.copied(tubes, mask)
    unigram = background.log_probabilities[0].exp()
    order = background.ranks[0].argsort().tolist()
    cross_entropy, first, five = 0.0, 0, 0
    for tube in mask[0].nonzero().flatten().tolist():
        for true, copy in zip(tubes.codes[0, tube].tolist(), copied[0, tube].tolist(), strict=True):
            cross_entropy -= np.log(0.3 * (true == copy) + 0.7 * unigram[true].item())
            guesses = [copy, *(code for code in order if code != copy)]
            first += guesses.index(true) < 1
            five += guesses.index(true) < 5
    assert scores.codes.item() == mask.sum() * 40
    assert scores.cross_entropy.item() == pytest.approx(cross_entropy)
    assert (scores.top1.item(), scores.top5.item()) == (first, five)


def test_the_nearest_visible_tube_is_found():
    grid = (3, 2, 2)
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[0, [0, 11]] = False  # (0, 0, 0) and (2, 1, 1)
    mask[1, [3, 8]] = False  # (0, 1, 1) and (2, 0, 0)
    nearest = nearest_visible(mask, None, grid)
    for window in range(2):
        visible = (~mask[window]).nonzero().flatten().tolist()
        for tube in range(12):
            places = {k: np.array([k // 4, k // 2 % 2, k % 2]) for k in (tube, *visible)}
            distances = [np.linalg.norm(places[tube] - places[k]) for k in visible]
            assert nearest[window, tube] == visible[int(np.argmin(distances))]
    far = nearest_visible(mask, None, grid, space_weight=10.0)
    assert far[1, 4] == 8  # (1, 0, 0): the same place, one step later
    assert far[1, 7] == 3
    real = torch.ones(2, 12, dtype=torch.bool)
    real[1, 3] = False
    assert set(nearest_visible(mask, real, grid)[1].tolist()) == {8}


def test_padding_is_neither_asked_nor_copied(model):
    codes = torch.full((1, 100, 64), 9)
    attention = torch.zeros(1, 100, dtype=torch.long)
    attention[:, :33] = 1
    codes[:, 33:] = 0
    tubes = tubes_of(model, "audio", codes, attention)
    mask = torch.ones(1, 160, dtype=torch.bool)
    mask[0, 3 * 16 :] = False  # what is visible lies in the tubes that are partly or wholly padding
    background = FrequencyBaseline.unigram(np.ones((64, 64)), tube_positions(CONFIG, "audio"))
    scores = CopyBaseline(background, 0.5, 1.0).score(tubes, mask)
    assert scores.codes.item() == 30 * 64
    assert (
        FrequencyBaseline.unigram(np.ones((64, 64)), tube_positions(CONFIG, "audio")).score(tubes, ~mask).codes.item()
        == 3 * 64
    )
    # Three of the ten spectra of the nearest tubes are real: these places are copied, the others are left to the background.
    assert scores.top1.item() / scores.codes.item() == pytest.approx(0.3)


def test_the_weight_is_the_excess_of_matches():
    generator = np.random.default_rng(0)
    matches = generator.random(200000) < 0.4
    log_background = np.full(200000, -np.log(64))
    weight, cross_entropy = best_copy_weight(CopyEvidence(matches, log_background))
    share = matches.mean()
    assert weight == pytest.approx((share - 1 / 64) / (1 - 1 / 64), abs=1e-4)
    expected = -share * np.log(share) - (1 - share) * np.log((1 - share) / 63)
    assert cross_entropy == pytest.approx(expected, rel=1e-6)


def test_sums_count_what_is_asked_only():
    log_probability, rank = torch.full((2, 3, 4), -0.5), torch.arange(4).expand(2, 3, 4) * 2
    counted = torch.zeros(2, 3, 4, dtype=torch.bool)
    counted[0, 1] = True
    scores = CodeScores.of(log_probability, rank, counted)
    assert [value.tolist() for value in scores] == [[4, 0], [2, 0], [1, 0], [3, 0]]
