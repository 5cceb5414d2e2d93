"""Emotion from the static latent: losses, frozen encoder, checkpoints of the autoencoder, the pipeline."""

import numpy as np
import pytest
import torch
from small_mdvae import make, mdvae_config, prefix_mask, random_features, with_tokenizers
from small_models import assert_same, gradients, random_frames, random_spectra
from torch.nn import functional as F
from transformers import AutoModelForAudioClassification, AutoModelForVideoClassification, pipeline

from vqmae_hf.modeling.losses import asymmetric_single_label_loss
from vqmae_hf.modeling.modeling_mdvae import MDVAEForAudioVisualClassification, MDVAEModel
from vqmae_hf.modeling.processing_mdvae import MDVAEProcessor

LABELS = torch.tensor([0, 2, 1])


def head(**overrides):
    return make(MDVAEForAudioVisualClassification, **overrides)


def test_the_mean_of_w_is_classified_linearly():
    model, features = head(), random_features()
    output = model(**features)
    w = model.model.encode(**features).w_mean
    torch.testing.assert_close(output.w, w)
    torch.testing.assert_close(output.logits, model.classifier(w))
    assert torch.equal(model.train()(**features).logits, output.logits), "means in training too"


def test_the_configured_loss_is_computed():
    features = random_features()
    for kind, loss in (("asymmetric", asymmetric_single_label_loss), ("cross_entropy", F.cross_entropy)):
        model = head(classifier_loss=kind)
        output = model(**features, labels=LABELS)
        torch.testing.assert_close(output.loss, loss(output.logits, LABELS))
    assert "loss" not in model(**features)
    model = head(problem_type="regression", num_labels=1)
    output = model(**features, labels=torch.rand(3))
    assert output.loss.isfinite()


def test_only_what_w_needs_is_trained():
    model = head().train()
    model(**random_features(), labels=LABELS).loss.backward()
    parts = {name.removeprefix("model.").split(".")[0] for name in gradients(model)}
    assert parts == {"classifier", "static_latent", "visual_embedding"}


@pytest.mark.parametrize("loaded", [False, True])
def test_a_frozen_encoder_leaves_the_layer_alone_to_train(loaded, tmp_path):
    model = head(freeze_encoder=True)
    if loaded:
        model.save_pretrained(tmp_path)
        model = MDVAEForAudioVisualClassification.from_pretrained(tmp_path)
    model.train()
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        "classifier.weight",
        "classifier.bias",
    }
    assert model.training
    assert not model.model.training
    model(**random_features(), labels=LABELS).loss.backward()
    assert set(gradients(model)) == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("freeze_encoder", [False, True])
def test_a_few_steps_of_training_learn_the_labels(freeze_encoder):
    model = head(freeze_encoder=freeze_encoder, classifier_loss="cross_entropy").train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        loss = model(**random_features(), labels=LABELS).loss
        loss.backward()
        optimizer.step()
    assert loss < 0.3
    assert torch.equal(model(**random_features()).logits.argmax(dim=1), LABELS)


def test_a_short_clip_in_a_batch_is_answered_as_it_is_alone():
    model, features = head(), random_features()
    mask = prefix_mask([6, 3, 1])
    together = model(**features, audio_attention_mask=mask, visual_attention_mask=mask).logits
    for clip, length in enumerate([6, 3, 1]):
        alone = model(**{name: value[[clip], :length] for name, value in features.items()}).logits
        torch.testing.assert_close(together[[clip]], alone, rtol=1e-5, atol=1e-6)


def test_a_checkpoint_of_the_autoencoder_brings_its_encoder_and_only_the_head_is_new(tmp_path):
    autoencoder = with_tokenizers()
    autoencoder.save_pretrained(tmp_path)
    model, info = MDVAEForAudioVisualClassification.from_pretrained(tmp_path, num_labels=4, output_loading_info=True)
    assert info["missing_keys"] == {"classifier.weight", "classifier.bias"}
    assert not info["unexpected_keys"]
    assert_same(dict(model.model.state_dict()), dict(autoencoder.state_dict()))
    model.save_pretrained(tmp_path / "head")
    assert_same(dict(MDVAEModel.from_pretrained(tmp_path / "head").state_dict()), dict(autoencoder.state_dict()))


@pytest.mark.parametrize("auto", [AutoModelForVideoClassification, AutoModelForAudioClassification])
def test_saved_and_loaded_answers_the_same_to_the_bit(auto, tmp_path):
    model = with_tokenizers(MDVAEForAudioVisualClassification)
    model.save_pretrained(tmp_path)
    inputs = {"audio_values": random_spectra(2, 4), "pixel_values_videos": random_frames(2, 4)}
    loaded = auto.from_pretrained(tmp_path)
    assert type(loaded) is MDVAEForAudioVisualClassification
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


def test_from_processed_clips_to_answers_in_one_pipeline(tmp_path):
    model = with_tokenizers(MDVAEForAudioVisualClassification)
    model.save_pretrained(tmp_path)
    MDVAEProcessor.from_model_config(model.config).save_pretrained(tmp_path)
    classify = pipeline("audiovisual-classification", model=str(tmp_path))
    assert type(classify.processor) is MDVAEProcessor
    generator = np.random.default_rng(0)
    clip = {
        "frames": generator.integers(256, size=(15, 16, 16, 3), dtype=np.uint8),
        "waveform": generator.standard_normal(8000).astype(np.float32),
        "frames_per_second": 30,
        "sampling_rate": 16000,
    }
    answers = classify(clip, top_k=None)
    windows = classify.processor.cut_windows(classify.processor(audio=clip["waveform"], videos=clip["frames"]))
    windows.pop("window_clip_index")
    assert len(windows["audio_values"]) == 3, "15 frames are three windows of 6, the last moved back"
    expected = model(**windows).logits.softmax(-1).mean(0).sort(descending=True).values
    torch.testing.assert_close(torch.tensor([answer["score"] for answer in answers]), expected.detach())


def test_a_missing_modality_is_refused():
    with pytest.raises(ValueError, match="neither of audio_features and audio_values"):
        head()(visual_features=random_features()["visual_features"])


def test_one_modality_alone_is_a_model_of_its_own():
    model = MDVAEForAudioVisualClassification(mdvae_config(modalities=("visual",)))
    assert model(visual_features=random_features()["visual_features"]).logits.shape == (3, 3)
