"""The authors' files become folders that `from_pretrained` opens, with the numbers of the tensors recorded from them."""

import json

import numpy as np
import pytest
import soundfile
import torch
from transformers import (
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForPreTraining,
    AutoModelForVideoClassification,
    AutoProcessor,
)
from transformers.models.auto.video_processing_auto import AutoVideoProcessor

from vqmae_hf.conversion import ConversionError, convert_checkpoint
from vqmae_hf.data.token_store import tokenizer_fingerprint
from vqmae_hf.evaluation.fidelity import log_spectral_distance
from vqmae_hf.modeling.configuration_vqmae import VQMAEConfig
from vqmae_hf.modeling.losses import itakura_saito_divergence
from vqmae_hf.modeling.token_tubes import audio_tubes_to_codes, visual_tubes_to_codes

from .original_weights import CLASSIFIER_NAMES, audio_tokenizer_weights, classifier_model, original_names

EXTENTS = {
    "audio_num_spectra": 8,
    "audio_codes_per_spectrum": 8,
    "audio_tube_size": (2, 2),
    "visual_num_frames": 12,
    "visual_codes_per_side": 4,
    "visual_tube_size": (2, 2, 2),
}


def random_codes(config: VQMAEConfig) -> dict[str, torch.Tensor]:
    side = config.visual_codes_per_side
    return {
        "audio_codes": torch.randint(16, (2, config.audio_num_spectra, config.audio_codes_per_spectrum)),
        "visual_codes": torch.randint(16, (2, config.visual_num_frames, side, side)),
    }


def test_a_classifier_of_the_papers_tubes_needs_no_help(tmp_path):
    original = classifier_model()
    torch.save({"model": original_names(original, CLASSIFIER_NAMES), "epoch": 3}, tmp_path / "emotions.pt")
    labels = ["calm", "happy", "sad", "angry"]
    report = convert_checkpoint(tmp_path / "emotions.pt", tmp_path / "new", labels=labels)
    assert (report.kind, report.processor_class) == ("classifier", "VQMAEProcessor")
    assert report.assumed["num_attention_heads"] == 4
    assert report.assumed["visual_tube_size"] == (5, 4, 4)
    converted = AutoModelForVideoClassification.from_pretrained(tmp_path / "new")
    assert list(converted.config.id2label.values()) == labels
    codes = random_codes(converted.config)
    with torch.no_grad():
        assert torch.equal(converted(**codes).logits, original(**codes).logits)
    processor = AutoProcessor.from_pretrained(tmp_path / "new")
    assert (processor.video_processor.num_frames, processor.feature_extractor.num_spectra) == (50, 100)
    assert json.loads((tmp_path / "new" / "conversion.json").read_text())["source"] == "emotions.pt"


def test_heads_and_windows_can_be_said(tmp_path):
    original = classifier_model(num_attention_heads=8, audio_num_spectra=200, visual_num_frames=100)
    torch.save(original_names(original, CLASSIFIER_NAMES), tmp_path / "long.pt")
    overrides = {"num_attention_heads": 8}
    report = convert_checkpoint(tmp_path / "long.pt", tmp_path / "new", config_overrides=overrides)
    assert "num_attention_heads" not in report.assumed
    converted = AutoModelForVideoClassification.from_pretrained(tmp_path / "new")
    codes = random_codes(original.config)
    with torch.no_grad():
        assert torch.equal(converted(**codes).logits, original(**codes).logits)


def test_weights_saved_by_data_parallel_are_the_same(tmp_path):
    state = audio_tokenizer_weights()
    torch.save(state, tmp_path / "plain.pt")
    torch.save({f"module.{name}": value.double() for name, value in state.items()}, tmp_path / "parallel.pt")
    for name in ("plain", "parallel"):
        convert_checkpoint(tmp_path / f"{name}.pt", tmp_path / name)
    plain, parallel = (AutoModel.from_pretrained(tmp_path / name) for name in ("plain", "parallel"))
    assert tokenizer_fingerprint(plain) == tokenizer_fingerprint(parallel)


def test_tokenizers_come_along(tmp_path):
    torch.save(audio_tokenizer_weights(codebook_size=16), tmp_path / "audio.pt")
    torch.save(original_names(classifier_model(), CLASSIFIER_NAMES), tmp_path / "emotions.pt")
    report = convert_checkpoint(tmp_path / "emotions.pt", tmp_path / "new", audio_tokenizer=tmp_path / "audio.pt")
    converted = AutoModelForVideoClassification.from_pretrained(tmp_path / "new")
    assert converted.config.audio_tokenizer_config.batch_norm_statistics == "clip"
    with torch.no_grad():
        logits = converted(audio_values=torch.rand(1, 100, 513)).logits
    assert logits.shape == (1, 4)
    assert report.num_parameters == sum(p.numel() for p in converted.parameters())
    torch.save(audio_tokenizer_weights(codebook_size=32), tmp_path / "other.pt")
    with pytest.raises(ConversionError, match=r"tokenizers do not fit.*codebook_size=16.*has 32"):
        convert_checkpoint(tmp_path / "emotions.pt", tmp_path / "other", audio_tokenizer=tmp_path / "other.pt")
    assert not (tmp_path / "other").exists()


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "auto"),
    [
        ("classifier_tiny_enc-self_mean", AutoModelForVideoClassification),
        ("classifier_tiny_enc-cross_con_attention", AutoModelForVideoClassification),
        ("query2label_tiny_enc-self", AutoModelForVideoClassification),
        ("cmdmae_tiny_enc-cross_dec-cross_con", AutoModelForPreTraining),
        ("cmdmae_tiny_enc-self_dec-self_sinpos", AutoModelForPreTraining),
    ],
)
def test_recorded_models_answer_as_theirs(shared_dir, tmp_path, name, auto):
    recording = torch.load(shared_dir / "parity" / f"{name}.pt", weights_only=True)
    torch.save({"model": recording["state_dict"]}, tmp_path / "theirs.pt")
    with pytest.raises(ConversionError, match=r"tubes of \d codes.*config_overrides"):
        convert_checkpoint(tmp_path / "theirs.pt", tmp_path / "new")
    convert_checkpoint(tmp_path / "theirs.pt", tmp_path / "new", config_overrides=EXTENTS)
    model = auto.from_pretrained(tmp_path / "new")
    codes = {
        "audio_codes": audio_tubes_to_codes(recording["x_a"], model.config.audio_grid, (2, 2)),
        "visual_codes": visual_tubes_to_codes(recording["x_v"], model.config.visual_grid, (2, 2, 2)),
    }
    with torch.no_grad():
        if auto is AutoModelForVideoClassification:
            torch.testing.assert_close(model(**codes).logits, recording["logits"], rtol=1e-4, atol=1e-5)
        else:
            run = recording["runs"][0]
            masks = {"visual_mask": run["mask_v"][..., 0].bool(), "audio_mask": run["mask_a"][..., 0].bool()}
            torch.testing.assert_close(model(**codes, **masks).loss, run["loss_total"], rtol=1e-5, atol=1e-5)


@pytest.mark.shared
def test_the_recorded_mdvae_and_visual_tokenizer(shared_dir, tmp_path):
    for name, kind in (("mdvae_B2_T6_zero", "mdvae"), ("visual_vqvae_mdvae_random_tiny", "visual_tokenizer")):
        recording = torch.load(shared_dir / "parity" / f"{name}.pt", weights_only=True)
        torch.save(recording["state_dict"], tmp_path / f"{name}.pt")
        assert convert_checkpoint(tmp_path / f"{name}.pt", tmp_path / name).kind == kind
    mdvae = AutoModel.from_pretrained(tmp_path / "mdvae_B2_T6_zero")
    recording = torch.load(shared_dir / "parity" / "mdvae_B2_T6_zero.pt", weights_only=True)
    with torch.no_grad():
        encoding = mdvae.encode(audio_features=recording["x_audio"], visual_features=recording["x_visual"])
    torch.testing.assert_close(encoding.w_mean, recording["latents"]["w"]["mean"], rtol=1e-4, atol=1e-5)
    assert AutoVideoProcessor.from_pretrained(tmp_path / "visual_vqvae_mdvae_random_tiny").frames_per_second == 30


# Mean over recordings of RAVDESS, measured: 2.10 and 2.8 dB; 2.24 and 8.7 dB. Random codes are 25 dB away, and the
# second with its running statistics 6.7 and 28 dB.
REAL = {"mdvae_speech_vqvae": (533, 2.5, 4.0), "vqmae_s_speech_vqvae": (320, 2.7, 10.0)}


@pytest.mark.shared
@pytest.mark.parametrize("name", REAL)
def test_the_published_files_reconstruct_real_speech(shared_dir, tmp_path, name):
    hop_length, most_itakura_saito, most_decibels = REAL[name]
    report = convert_checkpoint(shared_dir / "data/original_checkpoints" / f"{name}.pt", tmp_path / "new")
    assert report.kind == "audio_tokenizer"
    model, extractor = (
        AutoModel.from_pretrained(tmp_path / "new"),
        AutoFeatureExtractor.from_pretrained(tmp_path / "new"),
    )
    assert (extractor.hop_length, model.config.batch_norm_statistics) == (hop_length, "clip")
    divergences, decibels = [], []
    for path in sorted((shared_dir / "data/ravdess_speech_16k").rglob("*.flac"))[::200]:
        waveform, rate = soundfile.read(path, dtype="float32")
        values = extractor(waveform, sampling_rate=rate, padding=False)["audio_values"][0]
        spectra = torch.as_tensor(np.asarray(values))
        decoded = model.decode(model.encode(spectra))
        divergences.append(float(itakura_saito_divergence(spectra, decoded)))
        decibels.append(log_spectral_distance(spectra, decoded))
    assert np.mean(divergences) < most_itakura_saito
    assert np.mean(decibels) < most_decibels
