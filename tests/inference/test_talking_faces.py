"""What the functions over an MDVAE do to real files: who keeps which latents, how long it gets, what is written."""

import numpy as np
import pytest
import torch
from small_talkers import build_mdvae

from vqmae_hf.data.media import read_media, write_clip
from vqmae_hf.data.synthetic import ClipKey, make_clip
from vqmae_hf.evaluation.face_corruptions import FaceCorruption
from vqmae_hf.inference import (
    continue_clip,
    denoise_clip,
    interpolate_clips,
    load_talking_face_model,
    resynthesize_clip,
    swap_clips,
)
from vqmae_hf.modeling.configuration_audio_vqvae import AudioVQVAEConfig
from vqmae_hf.modeling.modeling_audio_vqvae import AudioVQVAEModel
from vqmae_hf.modeling.modeling_mdvae import MDVAEModel
from vqmae_hf.modeling.processing_mdvae import MDVAEProcessor

WHOLE = {"crop_faces": False}
DYNAMIC = ("z_av", "z_a", "z_v")


@pytest.fixture(scope="module")
def encoded(talks, mdvae):
    return {name: resynthesize_clip(path, mdvae, **WHOLE) for name, path in talks.items()}


def test_a_resynthesized_clip_is_written_with_its_sound(encoded, tmp_path):
    clip = encoded["happy"]
    media = read_media(clip.write(tmp_path / "happy.mp4"), frames_per_second=30)
    assert clip.num_frames == len(clip.frames) == 24
    assert len(media.frames) == 24
    assert len(clip.waveform) == 24 * 533
    assert 0 <= len(media.waveform) - len(clip.waveform) < 533
    assert clip.spectra.shape == (24, 513)
    assert np.abs(media.frames.astype(float) - clip.frames).mean() < 6  # what H.264 costs


def test_a_folder_does_what_its_model_does(talks, mdvae, encoded, tmp_path):
    mdvae.save_pretrained(tmp_path)
    MDVAEProcessor.from_model_config(mdvae.config).save_pretrained(tmp_path)
    clip = resynthesize_clip(talks["happy"], tmp_path, **WHOLE)
    assert np.array_equal(clip.frames, encoded["happy"].frames)
    assert np.array_equal(clip.waveform, encoded["happy"].waveform)


@pytest.mark.parametrize("factors", [("w",), ("z_av",), ("w", "z_a"), ("z_v", "z_a", "z_av")])
def test_a_swap_takes_the_named_factors_and_no_other(talks, mdvae, encoded, factors):
    swapped = swap_clips(talks["happy"], talks["sad"], mdvae, factors=factors, **WHOLE)
    source, target = encoded["happy"].latents, encoded["sad"].latents
    num_frames = 36 if factors == ("w",) else 24
    assert swapped.num_frames == len(swapped.frames) == num_frames
    for name in ("w", *DYNAMIC):
        expected = (source if name in factors else target)[name]
        expected = expected if name == "w" else expected[:, :num_frames]
        assert torch.equal(swapped.latents[name], expected)


def test_swapping_everything_gives_the_source(talks, mdvae, encoded):
    swapped = swap_clips(talks["happy"], talks["sad"], mdvae, factors=("w", *DYNAMIC), **WHOLE)
    assert np.array_equal(swapped.frames, encoded["happy"].frames)
    assert np.allclose(swapped.waveform, encoded["happy"].waveform, atol=1e-5)


def test_clips_of_different_length_can_be_refused(talks, mdvae):
    with pytest.raises(
        ValueError, match=r"'source .*happy.mp4': 24, 'target .*sad.mp4': 36.*on_length_difference='shorter'"
    ):
        swap_clips(talks["happy"], talks["sad"], mdvae, factors="z_av", on_length_difference="error", **WHOLE)
    swap_clips(talks["happy"], talks["sad"], mdvae, factors="w", on_length_difference="error", **WHOLE)


def test_an_interpolation_goes_from_target_to_swap(talks, mdvae, encoded):
    path = interpolate_clips(talks["happy"], talks["sad"], mdvae, weights=3, **WHOLE)
    swapped = swap_clips(talks["happy"], talks["sad"], mdvae, **WHOLE)
    assert path.weights == (0.0, 0.5, 1.0)
    assert np.array_equal(path.steps[0].frames, encoded["sad"].frames)
    assert np.array_equal(path.steps[2].frames, swapped.frames)
    assert len(path.frames) == path.num_frames * 3 == 108
    assert len(path.waveform) == 3 * len(swapped.waveform)
    middle = (encoded["happy"].latents["w"] + encoded["sad"].latents["w"]) / 2
    assert torch.allclose(path.steps[1].latents["w"], middle, atol=1e-6)


def test_a_continuation_knows_only_what_is_kept(talks, mdvae, tmp_path):
    longer = continue_clip(talks["sad"], mdvae, num_frames=7, kept_frames=12, **WHOLE)
    cut = resynthesize_clip(talks["sad"], mdvae, end_seconds=12 / 30, **WHOLE)
    assert longer.num_frames == len(read_media(longer.write(tmp_path / "c.mp4"), frames_per_second=30).frames) == 19
    assert np.abs(longer.frames[:12].astype(int) - cut.frames[:12]).max() <= 1
    again = continue_clip(talks["sad"], mdvae, num_frames=7, kept_frames=12, **WHOLE)
    other = continue_clip(
        talks["sad"], mdvae, num_frames=7, kept_frames=12, generator=torch.Generator().manual_seed(1), **WHOLE
    )
    assert torch.equal(longer.latents["z_v"], again.latents["z_v"])
    assert torch.equal(longer.latents["z_v"][:, :12], other.latents["z_v"][:, :12])
    assert not torch.equal(longer.latents["z_v"][:, 12:], other.latents["z_v"][:, 12:])


def test_what_is_known_to_be_damaged_is_not_looked_at(talks, mdvae):
    options = {"corruption": FaceCorruption("noise", "mouth"), **WHOLE}
    first, second = (denoise_clip(talks["happy"], mdvae, seed=seed, **options) for seed in (0, 1))
    assert first.damage.any()
    assert not np.array_equal(first.damaged_frames, second.damaged_frames)
    # The encoder of the tokenizer sees a little beyond the margin around the damage.
    assert torch.allclose(first.latents["w"], second.latents["w"], atol=0.1)
    unknown = [
        denoise_clip(talks["happy"], mdvae, with_sound=True, **WHOLE),
        resynthesize_clip(talks["happy"], mdvae, **WHOLE),
    ]
    assert np.array_equal(unknown[0].frames, unknown[1].frames)
    assert unknown[0].damage is None


def test_without_sound_the_sound_makes_no_difference(talks, mdvae, encoded, tmp_path):
    clip = make_clip(ClipKey(0, "happy", 0), num_frames=20, image_size=64)
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, len(clip.waveform)).astype(np.float32)
    other = write_clip(tmp_path / "other.mp4", clip.frames, noise)
    results = [denoise_clip(path, mdvae, with_sound=False, **WHOLE).latents for path in (talks["happy"], other)]
    for name in ("w", *DYNAMIC):
        assert torch.allclose(results[0][name], results[1][name], atol=1e-4)
    assert not torch.allclose(results[0]["w"], encoded["happy"].latents["w"], atol=1e-3)


@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_a_model_of_one_modality_needs_no_other(talks, modality, tmp_path):
    model = build_mdvae(modalities=(modality,))
    clip = swap_clips(talks["happy"], talks["sad"], model, **WHOLE)
    media = read_media(clip.write(tmp_path / "one.mp4"))
    assert (media.frames is None, media.waveform is None) == (modality == "audio", modality == "visual")
    assert clip.figure().height > 90


def test_every_result_has_a_figure(talks, mdvae, encoded):
    path = interpolate_clips(talks["happy"], talks["sad"], mdvae, weights=(0, 1), **WHOLE)
    denoised = denoise_clip(talks["happy"], mdvae, corruption=FaceCorruption(), **WHOLE)
    heights = [clip.figure().height // 100 for clip in (encoded["happy"], path, denoised)]
    assert heights == [2, 3, 3]  # rows: original, decoded, sound (3 x 100 - 4); two sources, two steps; ...


def test_wrong_requests_name_the_remedy(talks, mdvae, tmp_path):
    with pytest.raises(ValueError, match=r"factors='mouth'.*'w', 'z_av', 'z_a', 'z_v'"):
        swap_clips(talks["happy"], talks["sad"], mdvae, factors="mouth")
    with pytest.raises(ValueError, match=r"two or more finite numbers"):
        interpolate_clips(talks["happy"], talks["sad"], mdvae, weights=[0.5])
    with pytest.raises(ValueError, match=r"sad.mp4: found 36 frames and kept_frames=37; 1 to 36"):
        continue_clip(talks["sad"], mdvae, num_frames=1, kept_frames=37, **WHOLE)
    with pytest.raises(ValueError, match=r"happy.mp4: damage is bool of shape \(3, 3\).*\(24, 64, 64\)"):
        denoise_clip(talks["happy"], mdvae, damage=np.ones((3, 3), dtype=bool), **WHOLE)
    with pytest.raises(ValueError, match="set_tokenizers"):
        load_talking_face_model(MDVAEModel(mdvae.config.__class__.from_preset("tiny")))
    AudioVQVAEModel(AudioVQVAEConfig.from_preset("tiny")).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="model_type 'audio_vqvae'; accepted is 'mdvae'"):
        load_talking_face_model(tmp_path)


def test_a_silent_film_is_refused_by_name(talks, mdvae, tmp_path):
    film = write_clip(tmp_path / "film.mp4", read_media(talks["happy"]).frames, None)
    with pytest.raises(ValueError, match=r"film.mp4: found no audio part"):
        resynthesize_clip(film, mdvae, on_missing_audio="visual_only", **WHOLE)
