"""What an MDVAE makes of latents: decoding, swapping, interpolating, continuing, sampling, denoising."""

import pytest
import torch
from small_mdvae import LATENTS, make, prefix_mask, random_features, random_noise, with_tokenizers
from small_models import random_frames, random_spectra, seeded

from vqmae_hf.modeling.mdvae_features import (
    audio_features_to_latents,
    audio_latents_to_features,
    visual_features_to_latents,
    visual_latents_to_features,
)


def encode(model, clips=3, frames=6, seed=0, **options):
    with torch.no_grad():
        return model.encode(**random_features(clips, frames, seed), **options)


def values(clips=2, frames=5):
    return {"audio_values": random_spectra(clips, frames), "pixel_values_videos": random_frames(clips, frames)}


# ---- decoding ----


def test_features_are_the_numbers_of_the_code_vectors_one_after_the_other():
    audio = torch.randn(2, 3, 8, 4)
    features = audio_latents_to_features(audio)
    assert torch.equal(features[1, 2], audio[1, 2].T.reshape(-1))
    assert torch.equal(audio_features_to_latents(features, 4), audio)
    visual = torch.randn(2, 3, 5, 5, 4)
    features = visual_latents_to_features(visual)
    assert torch.equal(features[1, 2, :25], visual[1, 2, ..., 0].reshape(-1))
    assert torch.equal(visual_features_to_latents(features, 4, 5), visual)


def test_values_give_what_the_latents_of_their_tokenizers_give():
    model, inputs = with_tokenizers(), values()
    features = {
        "audio_features": audio_latents_to_features(model.audio_tokenizer.encode_latents(inputs["audio_values"])),
        "visual_features": visual_latents_to_features(
            model.visual_tokenizer.encode_latents(inputs["pixel_values_videos"])
        ),
    }
    first, second = model.encode(**inputs), model.encode(**features)
    for name in first:
        assert torch.equal(first[name], second[name])
    assert torch.equal(model(**inputs).loss, model(**features).loss)


def test_decoded_features_pass_the_quantizer_before_the_tokenizers_decoders():
    model = with_tokenizers()
    decoded = model.decode(model.encode(**values()))
    audio, visual = model.audio_tokenizer, model.visual_tokenizer
    latents = audio_features_to_latents(decoded.audio_features, 8)
    codes = audio.quantizer.nearest_codes(latents.flatten(0, -2)).view(latents.shape[:-1])
    torch.testing.assert_close(decoded.audio_values, audio.decode(codes))
    latents = visual_features_to_latents(decoded.visual_features, 4, 4)
    codes = visual.quantizer.nearest_codes(latents.flatten(0, -2)).view(latents.shape[:-1])
    torch.testing.assert_close(decoded.pixel_values_videos, visual.decode(codes))
    assert decoded.audio_values.shape == (2, 5, 65)
    assert decoded.pixel_values_videos.shape == (2, 5, 3, 16, 16)


def test_values_come_where_there_is_a_tokenizer_and_where_they_are_wanted():
    model = with_tokenizers()
    latents = model.encode(**values())
    assert set(model.decode(latents, output_values=False)) == {"audio_features", "visual_features"}
    without = make()
    assert set(without.decode(encode(without))) == {"audio_features", "visual_features"}
    with pytest.raises(ValueError, match=r"needs the audio tokenizer.*set_tokenizers"):
        without.decode(encode(without), output_values=True)


def test_each_decoder_reads_what_it_should():
    model = make()
    latents = encode(model)
    before = model.decode(latents)
    reads = {"audio_features": {"w", "z_av", "z_a"}, "visual_features": {"w", "z_av", "z_v"}}
    for name in LATENTS:
        changed = type(latents)(**{**latents, name: latents[name] + 1})
        after = model.decode(changed)
        for features, factors in reads.items():
            assert torch.equal(before[features], after[features]) == (name not in factors)


# ---- swapping and interpolating ----


@pytest.mark.parametrize("factors", [("w",), ("z_av",), ("z_a", "z_v"), LATENTS])
def test_swapping_replaces_the_named_factors_and_no_other(factors):
    model = make()
    source, target = encode(model, seed=1), encode(model, seed=2)
    swapped = model.swap(source, target, factors)
    for name in LATENTS:
        assert torch.equal(swapped[name], (source if name in factors else target)[name])
    back = model.swap(target, swapped, factors)
    for name in LATENTS:
        assert torch.equal(back[name], target[name])


def test_dynamic_factors_go_as_far_as_both_clips_do_and_w_as_far_as_the_target():
    model = make()
    short, long = encode(model, frames=4), encode(model, frames=9)
    assert model.swap(short, long).z_av.shape[1] == 9
    assert model.swap(long, short).z_av.shape[1] == 4
    both = model.swap(short, long, ("z_v",))
    assert {both[name].shape[1] for name in LATENTS[1:]} == {4}


def test_padding_of_the_clips_that_frames_come_from_is_kept():
    model = make()
    masked = encode(model, visual_attention_mask=prefix_mask([6, 4, 1]))
    free = encode(model, seed=1)
    assert model.swap(masked, free).get("frame_mask") is None
    assert torch.equal(model.swap(free, masked).frame_mask, masked.frame_mask)
    assert torch.equal(model.swap(masked, free, ("z_a",)).frame_mask, masked.frame_mask)


def test_interpolation_is_a_straight_path_whose_end_is_the_swap():
    model = make()
    source, target = encode(model, clips=1, seed=1), encode(model, clips=1, seed=2)
    path = model.interpolate(source, target, torch.linspace(0, 1, 5))
    assert path.w.shape == (5, 7)
    assert path.z_av.shape == (5, 6, 5)
    assert torch.equal(path.w[0], target.w[0])
    assert torch.equal(path.w[4], model.swap(source, target).w[0])
    torch.testing.assert_close(path.w[1:] - path.w[:-1], ((source.w - target.w) / 4).expand(4, -1))
    assert torch.equal(path.z_v[3], target.z_v[0])
    middle = model.interpolate(source, target, 0.5, ("z_a",))
    torch.testing.assert_close(middle.z_a, (source.z_a + target.z_a) / 2)


@pytest.mark.parametrize("factors", [("identity",), (), "w", ("w", "z")])
def test_unknown_factors_are_refused(factors):
    model = make()
    with pytest.raises(ValueError, match=r"factors=.*'w', 'z_av', 'z_a', 'z_v'"):
        model.swap(encode(model), encode(model), factors)


def test_clips_that_do_not_pair_up_are_refused():
    model = make()
    with pytest.raises(ValueError, match=r"\(2, 3, 1\) clips"):
        model.swap(encode(model, clips=2), encode(model, clips=3))


# ---- continuing and sampling ----


def test_a_continued_clip_begins_as_it_did():
    model = make()
    latents = encode(model, frames=4)
    longer = model.continue_sequence(latents, 5)
    assert torch.equal(longer.w, latents.w)
    for name in LATENTS[1:]:
        assert longer[name].shape[1] == 9
        assert torch.equal(longer[name][:, :4], latents[name])
    assert set(model.decode(longer)) == {"audio_features", "visual_features"}


def test_each_new_frame_is_its_prior_given_the_frames_before():
    model = make()
    longer = model.continue_sequence(encode(model, frames=4), 5)
    sampled = model.continue_sequence(encode(model, frames=4), 5, noise=random_noise(model, frames=5))
    noise = random_noise(model, frames=5)
    for name in LATENTS[1:]:
        prior = model.dynamic_latents[name].prior_of(longer[name])
        torch.testing.assert_close(longer[name][:, 4:], prior.mean[:, 4:], rtol=0, atol=1e-6)
        prior = model.dynamic_latents[name].prior_of(sampled[name])
        expected = prior.mean[:, 4:] + prior.logvar[:, 4:].mul(0.5).exp() * noise[name]
        torch.testing.assert_close(sampled[name][:, 4:], expected, rtol=0, atol=1e-6)


def test_two_continuations_are_one_long_one():
    model = make()
    latents = encode(model, frames=3)
    once = model.continue_sequence(latents, 5)
    twice = model.continue_sequence(model.continue_sequence(latents, 2), 3)
    for name in LATENTS:
        torch.testing.assert_close(once[name], twice[name], rtol=0, atol=1e-6)


def test_continuations_are_those_of_the_generator():
    model = make()
    latents = encode(model)
    first, second, third = (
        model.continue_sequence(latents, 3, sample=True, generator=seeded(seed)).z_av for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_clips_that_never_were():
    model = make()
    first, second = (model.sample_prior(4, 7, generator=seeded(3)) for _ in range(2))
    assert {name: tuple(first[name].shape) for name in LATENTS} == {
        "w": (4, 7),
        "z_av": (4, 7, 5),
        "z_a": (4, 7, 3),
        "z_v": (4, 7, 2),
    }
    for name in LATENTS:
        assert torch.equal(first[name], second[name])
    many = model.sample_prior(2000, 1, generator=seeded())
    assert many.w.mean().abs() < 0.05
    assert (many.w.std() - 1).abs() < 0.05
    w = torch.randn(2, 7)
    assert torch.equal(model.sample_prior(2, 3, w=w).w, w)


def test_what_cannot_be_continued_is_refused():
    model = make()
    with pytest.raises(ValueError, match="num_frames=0"):
        model.continue_sequence(encode(model), 0)
    padded = encode(model, visual_attention_mask=prefix_mask([6, 4, 1]))
    with pytest.raises(ValueError, match="padding"):
        model.continue_sequence(padded, 2)
    with pytest.raises(ValueError, match=r"w has shape \(3, 7\); \(2, 7\)"):
        model.sample_prior(2, 3, w=torch.zeros(3, 7))


# ---- denoising ----


def test_denoising_is_analysis_and_synthesis_by_means():
    model, inputs = with_tokenizers(), values()
    model.train()
    denoised, expected = model.denoise(**inputs), model.decode(model.encode(**inputs))
    for name in expected:
        assert torch.equal(denoised[name], expected[name])


def test_the_visual_latent_of_damaged_frames_comes_from_its_prior():
    model, features = make(), random_features()
    damaged = torch.zeros(3, 6, dtype=torch.bool)
    damaged[0, 2:4], damaged[2, 0] = True, True
    inputs = model.prepare_features(**features)
    encoding = model.infer_latents(inputs, damaged_frames=damaged)
    prior = model.dynamic_latents["z_v"].prior_of(encoding.z_v).mean
    torch.testing.assert_close(encoding.z_v[damaged], prior[damaged], rtol=0, atol=1e-6)
    whole = ~damaged
    torch.testing.assert_close(encoding.z_v[whole], encoding.z_v_mean[whole])
    assert (encoding.z_v_mean[damaged] - prior[damaged]).abs().min() > 1e-4
    plain = model.encode(**features)
    assert torch.equal(encoding.z_av, plain.z_av)
    torch.testing.assert_close(encoding.z_v[1], plain.z_v[1], rtol=0, atol=1e-6)  # a clip without damage
    denoised = model.denoise(**features, damaged_frames=damaged)
    assert torch.equal(denoised.visual_features, model.decode(encoding).visual_features)
    assert not torch.equal(denoised.visual_features[0], model.decode(plain).visual_features[0])


def test_damage_of_another_shape_or_of_no_face_is_refused():
    with pytest.raises(ValueError, match=r"damaged_frames has shape \(3, 5\); \(3, 6\)"):
        make().denoise(**random_features(), damaged_frames=torch.zeros(3, 5, dtype=torch.bool))
    audio = {"audio_features": random_features()["audio_features"]}
    with pytest.raises(ValueError, match="model that sees faces"):
        make(modalities=("audio",)).denoise(**audio, damaged_frames=torch.zeros(3, 6, dtype=torch.bool))
