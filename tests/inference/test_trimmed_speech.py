"""Who was trained on clips without the silence at their ends is given such clips, without being told."""

import numpy as np
import pytest
import torch
from transformers import pipeline

from vqmae_hf import (
    AudioVQVAEConfig,
    AudioVQVAEModel,
    VQMAEConfig,
    VQMAEForAudioVisualClassification,
    VQMAEProcessor,
    load_clip,
    load_corpus,
)
from vqmae_hf.data.media import write_clip
from vqmae_hf.data.prepared_clips import prepare_clips
from vqmae_hf.data.tokenization import write_token_store
from vqmae_hf.modeling.feature_extraction_audio_vqvae import AudioVQVAEFeatureExtractor
from vqmae_hf.training.assembly import processor_for_store, processor_for_tokenizers


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A folder of one clip, a tone after a second of silence."""
    folder = tmp_path_factory.mktemp("recordings")
    sound = 0.3 * np.sin(np.arange(32000) / 8).astype(np.float32)
    sound[:16000] = 0
    return write_clip(folder / "late.m4a", None, sound)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    tokenizer = AudioVQVAEModel(AudioVQVAEConfig.from_preset("tiny")).eval()
    config = VQMAEConfig.from_preset("tiny", modalities=["audio"], visual_tokenizer_config=None, num_labels=3)
    model = VQMAEForAudioVisualClassification(config)
    model.set_tokenizers(audio_tokenizer=tokenizer)
    return model.eval()


def store_of(recording, model, folder, prepared, threshold):
    """The head of a store of the recording, encoded from its file or from prepared clips."""
    corpus = load_corpus("audiofolder", recording.parent)
    options = {"modalities": ("audio",), "trim_silence_db": threshold}
    tokenizer = model.model.audio_tokenizer
    if prepared:
        corpus, options = prepare_clips(corpus, folder / "clips", **options), None
    processor = processor_for_tokenizers({"audio": tokenizer})
    return write_token_store(
        corpus, tokenizer, None, folder / "store", processor=processor, clip_options=options, show_progress=False
    )


@pytest.mark.parametrize("prepared", [False, True])
def test_a_classifier_opens_clips_as_those_of_its_training_were(recording, model, tmp_path, prepared):
    info = store_of(recording, model, tmp_path, prepared, 35)
    assert info.trim_silence_db == 35
    processor_for_store(model.config, info).save_pretrained(tmp_path / "model")
    processor = VQMAEProcessor.from_pretrained(tmp_path / "model")
    classify = pipeline("audiovisual-classification", model=model, processor=processor, top_k=None)
    whole, trimmed = (
        load_clip(recording, modalities=("audio",), trim_silence_db=threshold) for threshold in (None, 35)
    )
    assert classify(recording) == classify(trimmed) != classify(whole)
    assert classify(recording, clip_loader_options={"trim_silence_db": None}) == classify(whole)
    # Pictures would no longer be in step.
    assert "trim_silence_db" not in processor.clip_options(("audio", "visual"))


@pytest.mark.parametrize("prepared", [False, True])
def test_nothing_is_cut_off_where_nothing_was(recording, model, tmp_path, prepared):
    info = store_of(recording, model, tmp_path, prepared, None)
    assert info.trim_silence_db is None
    assert "trim_silence_db" not in processor_for_store(model.config, info).clip_options(("audio",))


@pytest.mark.parametrize("value", [0, -3, "35", True, float("nan")])
def test_thresholds_are_positive_numbers(value):
    with pytest.raises(ValueError, match=r"trim_silence_db=.*accepted is a positive, finite number"):
        AudioVQVAEFeatureExtractor(trim_silence_db=value)
