"""MDVAEs saved and loaded, with and without tokenizers."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_mdvae import make, mdvae_config, random_features, with_tokenizers
from small_models import (
    assert_same,
    audio_tokenizer_config,
    build,
    random_frames,
    random_spectra,
    visual_tokenizer_config,
)
from transformers import AutoModel, AutoModelForPreTraining

from vqmae_hf.modeling.modeling_audio_vqvae import AudioVQVAEModel
from vqmae_hf.modeling.modeling_mdvae import MDVAEForAudioVisualClassification, MDVAEModel

EVERY_CLASS = pytest.mark.parametrize("model_class", [MDVAEModel, MDVAEForAudioVisualClassification])


def values(clips: int = 2) -> dict[str, torch.Tensor]:
    return {"audio_values": random_spectra(clips, 4), "pixel_values_videos": random_frames(clips, 4)}


def full_config(**overrides):
    return mdvae_config(
        audio_tokenizer_config=audio_tokenizer_config(),
        visual_tokenizer_config=visual_tokenizer_config(),
        **overrides,
    )


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForPreTraining])
def test_saved_and_loaded_is_the_same_to_the_bit(auto, tmp_path):
    model = with_tokenizers()
    model.save_pretrained(tmp_path)
    loaded = auto.from_pretrained(tmp_path)
    assert type(loaded) is MDVAEModel
    assert_same(dict(loaded.state_dict()), dict(model.state_dict()))
    first, second = model(**values()), loaded(**values())
    assert torch.equal(first.loss, second.loss)
    assert_same(dict(first.encoding), dict(second.encoding))
    assert_same(dict(model.decode(first.encoding)), dict(loaded.decode(second.encoding)))


@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_a_model_of_one_modality_is_saved_and_loaded(modality, tmp_path):
    model = make(modalities=(modality,))
    model.save_pretrained(tmp_path)
    name = f"{modality}_features"
    features = {name: random_features()[name]}
    assert torch.equal(AutoModel.from_pretrained(tmp_path)(**features).loss, model(**features).loss)


@EVERY_CLASS
def test_what_a_checkpoint_lacks_is_initialised_as_in_a_new_model(model_class, tmp_path):
    """Models are loaded on the meta device: a tensor without a rule would be whatever the memory holds."""
    config = full_config()
    build(model_class, config).save_pretrained(tmp_path)
    kept_name = f"{'' if model_class is MDVAEModel else 'model.'}static_latent.posterior.mean.weight"
    kept = {kept_name: load_file(tmp_path / "model.safetensors")[kept_name]}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    state, fresh = model_class.from_pretrained(tmp_path).state_dict(), model_class(config).state_dict()
    assert state.keys() == fresh.keys()
    assert torch.equal(state[kept_name], kept[kept_name])
    for name, value in state.items():
        if name == kept_name:
            continue
        assert value.isfinite().all(), name
        assert value.float().abs().max() < 6, name
        if value.numel() >= 64:
            expected = fresh[name].float().std().item()
            assert value.float().std().item() == pytest.approx(expected, rel=0.5), name


def test_weights_start_as_torch_starts_them():
    torch.manual_seed(0)
    model = MDVAEModel(mdvae_config(static_history_size=100, w_posterior_sizes=(400,)))
    linear = model.static_latent.posterior.hidden.first_layer
    torch.manual_seed(1)
    reference = torch.nn.Linear(linear.in_features, linear.out_features)
    assert linear.weight.std().item() == pytest.approx(reference.weight.std().item(), rel=0.02)
    assert linear.bias.abs().max() <= reference.in_features**-0.5
    recurrence = model.static_latent.forward_history
    assert recurrence.weight_hh.abs().max() <= 0.1
    assert recurrence.weight_hh.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.02)


@EVERY_CLASS
@pytest.mark.parametrize("loaded", [False, True])
def test_frozen_tokenizers_stay_in_evaluation_mode_and_out_of_the_gradient(model_class, loaded, tmp_path):
    model = build(model_class, full_config())
    if loaded:
        model.save_pretrained(tmp_path)
        model = model_class.from_pretrained(tmp_path)
    model.train()
    tokenizers = (model.base_model.audio_tokenizer, model.base_model.visual_tokenizer)
    assert not any(module.training for tokenizer in tokenizers for module in tokenizer.modules())
    before = [{name: value.clone() for name, value in tokenizer.state_dict().items()} for tokenizer in tokenizers]
    labels = {"labels": torch.tensor([0, 1])} if model_class is MDVAEForAudioVisualClassification else {}
    model(**values(), **labels).loss.backward()
    for tokenizer, state in zip(tokenizers, before, strict=True):
        assert all(p.grad is None and not p.requires_grad for p in tokenizer.parameters())
        assert_same(dict(tokenizer.state_dict()), state)


def test_tokenizers_that_are_not_frozen_get_gradient():
    model = with_tokenizers(freeze_tokenizers=False).train()
    model(**values()).loss.backward()
    assert model.audio_tokenizer.encoder.projection.weight.grad.any()
    assert model.visual_tokenizer.encoder.projection.weight.grad.any()


def test_set_tokenizers_writes_the_configuration_and_refuses_others():
    model = with_tokenizers()
    assert model.config.audio_tokenizer_config is model.audio_tokenizer.config
    audio = model.audio_tokenizer
    for wrong in ({"codebook_dim": 4}, {"num_frequency_bins": 33}):
        with pytest.raises(ValueError, match="tokenizer sub-configuration has"):
            model.set_tokenizers(audio_tokenizer=build(AudioVQVAEModel, audio_tokenizer_config(**wrong)))
        assert model.audio_tokenizer is audio
        assert model.config.audio_tokenizer_config is audio.config


def test_a_gradient_reaches_the_pixels_through_the_quantizer():
    model = with_tokenizers()
    latents = {name: value.detach() for name, value in model.encode(**values()).items()}
    w = latents["w"].requires_grad_()
    model.decode(type(model.encode(**values()))(**latents)).pixel_values_videos.square().sum().backward()
    assert w.grad.any()


def test_loaded_in_half_precision_inference_stays_in_float32(tmp_path):
    model = with_tokenizers()
    model.save_pretrained(tmp_path)
    half = MDVAEModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.dynamic_latents["z_av"].history.weight_hh.dtype == torch.float32
    assert half.static_latent.posterior.mean.weight.dtype == torch.float32
    assert half.decoders["audio"].output.weight.dtype == torch.bfloat16
    output, expected = half(**values()), model(**values())
    assert output.encoding.w_logvar.dtype == output.audio_features.dtype == torch.float32
    torch.testing.assert_close(output.encoding.w, expected.encoding.w, rtol=0.1, atol=0.05)
    assert half.decode(output.encoding).pixel_values_videos.isfinite().all()


def test_no_gradient_checkpointing_is_promised():
    with pytest.raises(ValueError, match="does not support"):
        make().activation_checkpointing_enable()
