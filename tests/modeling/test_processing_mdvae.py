"""The processor of MDVAE: one spectrum for each of 30 frames per second."""

import numpy as np
import pytest
import torch
from small_mdvae import mdvae_config, with_tokenizers
from transformers import AutoFeatureExtractor, AutoProcessor
from transformers.models.auto.video_processing_auto import AutoVideoProcessor

from vqmae_hf.modeling.configuration_audio_vqvae import AudioVQVAEConfig
from vqmae_hf.modeling.configuration_mdvae import MDVAEConfig
from vqmae_hf.modeling.configuration_visual_vqvae import VisualVQVAEConfig
from vqmae_hf.modeling.configuration_vqmae import VQMAEConfig
from vqmae_hf.modeling.feature_extraction_audio_vqvae import AudioVQVAEFeatureExtractor, power_spectrogram
from vqmae_hf.modeling.processing_mdvae import MDVAEProcessor
from vqmae_hf.modeling.processing_vqmae import VQMAEProcessor
from vqmae_hf.modeling.video_processing_visual_vqvae import VisualVQVAEVideoProcessor


@pytest.fixture(scope="module")
def processor():
    return MDVAEProcessor.from_model_config(MDVAEConfig.from_preset("mdvae"))


def clip(frames: int, seconds: float | None = None):
    generator = np.random.default_rng(frames)
    samples = round((frames / 30 if seconds is None else seconds) * 16000)
    return {
        "videos": generator.integers(256, size=(frames, 8, 8, 3), dtype=np.uint8),
        "audio": generator.standard_normal(samples).astype(np.float32),
    }


def test_the_signals_are_the_papers(processor):
    extractor, video_processor = processor.feature_extractor, processor.video_processor
    assert (extractor.hop_length, extractor.n_fft, extractor.num_spectra) == (533, 1024, 30)
    assert (video_processor.frames_per_second, video_processor.num_frames) == (30, 30)
    assert dict(video_processor.size) == {"height": 64, "width": 64}
    assert processor.spectra_per_frame == 1


def test_the_processors_of_the_other_family_are_what_they_were():
    processor = VQMAEProcessor.from_model_config(VQMAEConfig())
    assert (processor.feature_extractor.hop_length, processor.video_processor.frames_per_second) == (320, 25)
    assert processor.video_processor.size["height"] == 96


@pytest.mark.parametrize("frames", [1, 29, 30, 31, 100])
@pytest.mark.parametrize("surplus_seconds", [-0.03, 0.0, 0.5])
def test_there_is_exactly_one_spectrum_for_each_frame(processor, frames, surplus_seconds):
    features = processor(**clip(frames, max(0.001, frames / 30 + surplus_seconds)))
    length = max(30, frames)
    assert features["pixel_values_videos"].shape == (1, length, 3, 64, 64)
    assert features["audio_values"].shape == (1, length, 513)
    assert features["visual_attention_mask"].sum() == frames
    assert frames - 2 <= features["audio_attention_mask"].sum() <= frames
    if surplus_seconds >= 0:
        assert features["audio_attention_mask"].sum() == frames


def test_spectra_lie_where_the_frames_do(processor):
    waveform = clip(30)["audio"]
    values = processor(audio=waveform)["audio_values"][0, :30]
    expected = power_spectrogram(waveform / np.abs(waveform).max(), hop_length=533)[:30]
    torch.testing.assert_close(values, expected)


def test_other_rates_are_refused(processor):
    with pytest.raises(ValueError, match=r"found 25, but this processor accepts 30"):
        processor(**clip(30), frames_per_second=25)
    with pytest.raises(ValueError, match=r"hop_length=320 does not give one spectrum .* set hop_length=533"):
        MDVAEProcessor(AudioVQVAEFeatureExtractor(), VisualVQVAEVideoProcessor(frames_per_second=30, num_frames=30))


@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_a_model_of_one_modality_has_the_same_rates(modality):
    processor = MDVAEProcessor.from_model_config(mdvae_config(modalities=(modality,)))
    assert processor.spectra_per_frame == 1
    assert processor.feature_extractor.num_spectra == processor.video_processor.num_frames == 6


def test_sizes_are_those_of_the_tokenizers():
    config = MDVAEConfig.from_preset(
        "tiny",
        audio_tokenizer_config=AudioVQVAEConfig.from_preset("tiny"),
        visual_tokenizer_config=VisualVQVAEConfig.from_preset("tiny", image_size=32, num_downsampling_layers=2),
    )
    assert MDVAEProcessor.from_model_config(config).video_processor.size["height"] == 32


def test_its_output_is_the_models_input():
    model = with_tokenizers()
    processor = MDVAEProcessor.from_model_config(model.config)
    first, second = clip(6), clip(4)
    inputs = processor(audio=[first["audio"], second["audio"]], videos=[first["videos"], second["videos"]])
    encoding = model.encode(**inputs)
    assert encoding.frame_mask.sum(dim=1).tolist() == [6, 4]
    alone = model.encode(**processor(**second, padding="longest"))
    torch.testing.assert_close(encoding.z_v[1, :4], alone.z_v[0], rtol=0, atol=1e-5)


def test_saved_in_one_file_and_loaded_by_every_auto_class(processor, tmp_path):
    MDVAEConfig.from_preset("mdvae").save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is MDVAEProcessor
    assert loaded.to_dict() == processor.to_dict()
    assert AutoFeatureExtractor.from_pretrained(tmp_path).hop_length == 533
    assert AutoVideoProcessor.from_pretrained(tmp_path).frames_per_second == 30
