"""Damage done on purpose, what is inferred under it, and how that is scored."""

import numpy as np
import pytest
import torch

from vqmae_hf.evaluation.denoising import (
    as_damaged,
    as_undamaged,
    damage_clips,
    held_frames,
    model_method,
    moved_mean,
    region_fidelity,
    tokenizer_method,
)
from vqmae_hf.evaluation.face_corruptions import FaceCorruption, region_pixels
from vqmae_hf.evaluation.missing_features import infer_damaged, infer_with_missing, missing_visual_features
from vqmae_hf.modeling.configuration_mdvae import MDVAEConfig
from vqmae_hf.modeling.configuration_visual_vqvae import VisualVQVAEConfig
from vqmae_hf.modeling.modeling_mdvae import MDVAEModel

T, H = 10, 64


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(256, size=(2, T, H, H, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = MDVAEModel(MDVAEConfig.from_preset("tiny")).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def random_features(model, clips=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = {"audio": model.config.audio_feature_size, "visual": model.config.visual_feature_size}
    return {name: torch.randn(clips, T, size, generator=generator) for name, size in sizes.items()}


@pytest.mark.parametrize("kind", ["noise", "occlusion"])
def test_only_the_region_in_its_span_is_damaged(frames, kind):
    damaged, damage = FaceCorruption(kind, (0.5, 0.75, 0.25, 0.5), span=(0.2, 0.5)).apply(frames[0])
    assert damage.any(axis=(1, 2)).nonzero()[0].tolist() == [2, 3, 4]
    assert np.array_equal(damage[2], region_pixels((0.5, 0.75, 0.25, 0.5), H, H))
    assert damage[2].sum() == 16 * 16
    assert np.array_equal(damaged[~damage], frames[0][~damage])
    assert (damaged[damage] != frames[0][damage]).mean() > 0.9


def test_noise_is_that_of_its_seed(frames):
    corruption = FaceCorruption("noise", "eyes", noise_level=0.1)
    first, again, other = (corruption.apply(frames[0], seed).frames for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "blur"}, r"kind='blur'.*'noise', 'occlusion'"),
        ({"region": "nose"}, r"region='nose'.*'mouth', 'eyes'.*box"),
        ({"region": (0.5, 0.4, 0, 1)}, r"top, bottom, left, right"),
        ({"noise_level": 0}, "noise_level=0 must be above 0"),
        ({"span": (0.8, 0.2)}, "span"),
    ],
)
def test_impossible_corruptions_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FaceCorruption(**arguments)


def test_damage_spoils_the_features_over_it_and_their_neighbours(model):
    damage = np.zeros((1, 2, H, H), dtype=bool)
    damage[0, 1, 17:20, 30:34] = True  # cells 2 and 3 to 4 of 8 x 8
    d = model.config.visual_code_dim
    for margin, rows, columns in ((0, [2], [3, 4]), (1, [1, 2, 3], [2, 3, 4, 5])):
        spoiled = missing_visual_features(damage, model, margin).view(1, 2, d, 8, 8)
        assert not spoiled[:, 0].any()
        expected = torch.zeros(8, 8, dtype=torch.bool)
        expected[np.ix_(rows, columns)] = True
        assert torch.equal(spoiled[0, 1], expected.expand(d, 8, 8))


def test_what_stands_at_missing_places_is_never_looked_at(model):
    features = random_features(model)
    missing = {"visual": torch.zeros(2, T, model.config.visual_feature_size, dtype=torch.bool)}
    missing["visual"][:, 3:7, :100] = True
    missing["audio"] = torch.ones(2, T, model.config.audio_feature_size, dtype=torch.bool)
    other = random_features(model, seed=1)
    mixed = {name: torch.where(missing[name], other[name], features[name]) for name in features}
    mixed["visual"][:, 4, 0] = torch.nan
    first, second = (infer_with_missing(model, values, missing, 3) for values in (features, mixed))
    for name in ("w", "z_av", "z_a", "z_v"):
        assert torch.equal(first[name], second[name])


def test_nothing_missing_is_plain_encoding(model):
    features = random_features(model)
    plain = model.encode(audio_features=features["audio"], visual_features=features["visual"])
    nothing = {"visual": torch.zeros(1, dtype=torch.bool)}
    for latents in (infer_with_missing(model, features, nothing, 2), infer_damaged(model, features, None)):
        assert torch.equal(latents["z_v"], plain["z_v"])


def test_inference_settles_where_the_missing_agrees_with_what_is_decoded(model):
    """A fixed point: more rounds change less."""
    features, missing = random_features(model), {"audio": torch.ones(1, dtype=torch.bool)}
    latents = [infer_with_missing(model, features, missing, rounds)["w"] for rounds in (1, 2, 20, 21)]
    assert (latents[3] - latents[2]).abs().max() < (latents[1] - latents[0]).abs().max()


def test_only_the_damaged_part_is_scored(frames):
    clips = damage_clips(frames, torch.zeros(0), FaceCorruption(region=(0.5, 0.75, 0.25, 0.5)))
    elsewhere = np.where(clips.damage[..., None], frames, 0).astype(np.uint8)
    assert (region_fidelity(clips, elsewhere).psnr > 150).all()
    assert (region_fidelity(clips, elsewhere).ssim > 0.999).all()
    assert (region_fidelity(clips, as_damaged(clips)).psnr < 15).all()


def test_a_still_face_is_restored_by_its_undamaged_frames(frames):
    still = np.repeat(frames[:, :1], T, axis=1)
    clips = damage_clips(still, torch.zeros(0), FaceCorruption())
    assert np.array_equal(held_frames(clips), still)


def test_the_mean_moves_by_how_a_method_moves_whatever_that_believes_of_the_person():
    rng = np.random.default_rng(0)
    person = rng.integers(80, 120, size=(2, 1, H, H, 3))
    movement = rng.integers(0, 40, size=(2, T, 1, 1, 3))
    movement[:, [0, 1, 8, 9]] = 0
    frames = (person + movement).astype(np.uint8)
    clips = damage_clips(frames, torch.zeros(0), FaceCorruption(span=(0.2, 0.8)))
    of_another = (40 + movement + np.zeros_like(person)).astype(np.uint8)
    assert np.array_equal(moved_mean(clips, of_another), frames)
    assert not np.array_equal(held_frames(clips), frames)


def test_undamaged_clips_are_what_they_were(frames):
    clips = as_undamaged(damage_clips(frames, torch.zeros(0), FaceCorruption()))
    assert np.array_equal(clips.damaged, frames)
    assert not clips.damage.any()


def test_methods_know_what_they_may(frames):
    """Known damage of another kind gives the same answer, damage that is not known another one."""
    torch.manual_seed(0)
    config = MDVAEConfig.from_preset(
        "tiny", modalities=("visual",), visual_tokenizer_config=VisualVQVAEConfig.from_preset("tiny")
    )
    visual = MDVAEModel(config).eval()
    torch.nn.init.normal_(visual.visual_tokenizer.quantizer.codebook)
    box = (0.375, 0.625, 0.375, 0.625)
    clips = [damage_clips(frames, torch.zeros(0), FaceCorruption(kind, box)) for kind in ("noise", "occlusion")]
    restored = [model_method(visual, knows_damage=knows)(c) for knows in (True, False) for c in clips]
    assert all(r.shape == frames.shape and r.dtype == np.uint8 for r in restored)
    distances = [np.abs(a.astype(int) - b).mean() for a, b in (restored[:2], restored[2:])]
    assert distances[0] <= distances[1]
    assert np.array_equal(*(tokenizer_method(visual)(c) for c in clips))
