"""Tokenizers inside a model, and models saved and loaded."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import (
    VARIANTS,
    assert_same,
    audio_tokenizer,
    audio_tokenizer_config,
    build,
    random_codes,
    random_frames,
    random_spectra,
    visual_tokenizer,
    vqmae_config,
)
from transformers import AutoModel

from vqmae_hf.modeling.modeling_audio_vqvae import AudioVQVAEModel
from vqmae_hf.modeling.modeling_vqmae import VQMAEForAudioVisualClassification, VQMAEForPreTraining, VQMAEModel

EVERY_VARIANT = pytest.mark.parametrize("variant", list(VARIANTS))
EVERY_CLASS = pytest.mark.parametrize(
    "model_class", [VQMAEModel, VQMAEForPreTraining, VQMAEForAudioVisualClassification]
)


def with_tokenizers(model_class=VQMAEModel, **overrides):
    """A model whose tokenizers are not fresh ones, put there as a user would."""
    model = build(model_class, vqmae_config(**overrides))
    model.set_tokenizers(audio_tokenizer(), visual_tokenizer())
    return model


def values(clips: int = 2) -> dict[str, torch.Tensor]:
    return {"audio_values": random_spectra(clips), "pixel_values_videos": random_frames(clips)}


# ---- tokenizers inside ----


def test_values_give_what_the_codes_of_their_tokenizer_give():
    model = with_tokenizers()
    inputs = values()
    codes = {
        "audio_codes": model.audio_tokenizer.encode(inputs["audio_values"]),
        "visual_codes": model.visual_tokenizer.encode(inputs["pixel_values_videos"]),
    }
    assert all(value.unique().numel() > 3 for value in codes.values())
    assert torch.equal(model(**inputs).audio_global, model(**codes).audio_global)
    mixed = model(audio_values=inputs["audio_values"], visual_codes=codes["visual_codes"])
    assert torch.equal(mixed.visual_global, model(**codes).visual_global)


@EVERY_CLASS
@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("code_embedding", ["learned", "tokenizer"])
def test_frozen_tokenizers_stay_in_evaluation_mode_and_out_of_the_gradient(
    model_class, loaded, code_embedding, tmp_path
):
    config = vqmae_config(with_tokenizers=True, code_embedding=code_embedding)
    model = build(model_class, config)
    if loaded:
        model.save_pretrained(tmp_path)
        model = model_class.from_pretrained(tmp_path)
    model.train()
    assert model.training
    base = model.base_model
    tokenizers = (base.audio_tokenizer, base.visual_tokenizer)
    assert not any(module.training for tokenizer in tokenizers for module in tokenizer.modules())
    assert base.encoder.training
    assert not any(parameter.requires_grad for tokenizer in tokenizers for parameter in tokenizer.parameters())
    before = [{name: value.clone() for name, value in tokenizer.state_dict().items()} for tokenizer in tokenizers]
    output = model(**values())
    (output.visual_global.sum() if model_class is VQMAEModel else output[0].sum()).backward()
    for tokenizer, state in zip(tokenizers, before, strict=True):
        assert all(parameter.grad is None for parameter in tokenizer.parameters())
        assert_same(dict(tokenizer.state_dict()), state)


def test_tokenizers_that_are_not_frozen_train_with_the_model():
    model = with_tokenizers(freeze_tokenizers=False).train()
    assert model.audio_tokenizer.training
    assert model.audio_tokenizer.encoder.projection.weight.requires_grad
    assert not model.audio_tokenizer.quantizer.codebook.requires_grad, "the moving average's, never the gradient's"


def standardized(codebook: torch.Tensor) -> torch.Tensor:
    """As loud as positions are, whatever scale the tokenizer's latents have."""
    return (codebook - codebook.mean(dim=0)) / codebook.std(dim=0)


def test_the_codebook_of_the_tokenizers_can_embed_the_codes():
    model = build(VQMAEModel, vqmae_config(with_tokenizers=True, code_embedding="tokenizer"))
    assert not any("embeddings.codes" in name for name in model.state_dict())
    audio, visual = audio_tokenizer(), visual_tokenizer()
    model.set_tokenizers(audio, visual)
    tubes = model.prepare_tubes(**random_codes(model.config))
    embedded, _ = model.embeddings("audio", tubes["audio"], None, model.frozen_codebook("audio"))
    first = embedded[0, 0] - model.embeddings.positions("audio", 16)[0]
    codebook = standardized(audio.get_codebook())
    torch.testing.assert_close(first, torch.cat([codebook[code] for code in tubes["audio"].codes[0, 0]]))
    with pytest.raises(NotImplementedError, match="tokenizer"):
        model.get_input_embeddings()


def test_learned_code_embeddings_can_start_at_the_codebooks_and_learn_on():
    model = with_tokenizers(VQMAEForPreTraining)
    base = model.model
    base.start_from_codebooks()
    for modality, tokenizer in (("audio", base.audio_tokenizer), ("visual", base.visual_tokenizer)):
        torch.testing.assert_close(
            base.embeddings.codes[modality].weight.detach(), standardized(tokenizer.get_codebook())
        )
    assert model.train()(**values()).loss.requires_grad
    model(**values()).loss.backward()
    assert base.embeddings.codes["audio"].weight.grad.any()
    assert base.audio_tokenizer.get_codebook().grad is None


def test_code_embeddings_without_a_codebook_of_their_size_stay_as_they_are():
    model = build(VQMAEModel, vqmae_config())
    model.set_tokenizers(visual_tokenizer=visual_tokenizer(codebook_dim=3))
    before = {modality: table.weight.detach().clone() for modality, table in model.embeddings.codes.items()}
    model.start_from_codebooks()
    assert_same({modality: table.weight.detach() for modality, table in model.embeddings.codes.items()}, before)


def test_set_tokenizers_writes_the_configuration_and_refuses_others():
    model = build(VQMAEForPreTraining, vqmae_config())
    assert model.model.audio_tokenizer is None
    audio = audio_tokenizer()
    model.set_tokenizers(audio_tokenizer=audio)
    assert model.model.audio_tokenizer is audio
    assert model.config.audio_tokenizer_config is audio.config
    assert model.config.visual_tokenizer_config is None
    for wrong in ({"codebook_size": 8}, {"num_frequency_bins": 33}):
        with pytest.raises(ValueError, match="tokenizer sub-configuration has"):
            model.set_tokenizers(audio_tokenizer=build(AudioVQVAEModel, audio_tokenizer_config(**wrong)))
        assert model.model.audio_tokenizer is audio
        assert model.config.audio_tokenizer_config is audio.config, "a refused tokenizer changed the configuration"


# ---- saving and loading ----


@EVERY_VARIANT
def test_saved_and_loaded_is_the_same_to_the_bit(variant, tmp_path):
    model = build(VQMAEModel, vqmae_config(with_tokenizers=True, **VARIANTS[variant]))
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is VQMAEModel
    assert_same(dict(loaded.state_dict()), dict(model.state_dict()))
    first, second = model(**values()), loaded(**values())
    for name in first:
        assert torch.equal(first[name], second[name]), name
    trainable = [{n for n, p in m.named_parameters() if p.requires_grad} for m in (model, loaded)]
    assert trainable[0] == trainable[1]


@EVERY_VARIANT
@EVERY_CLASS
def test_what_a_checkpoint_lacks_is_initialised_as_in_a_new_model(variant, model_class, tmp_path):
    """Models are loaded on the meta device: a tensor without a rule would be whatever the memory holds."""
    config = vqmae_config(with_tokenizers=True, **VARIANTS[variant])
    model = build(model_class, config)
    model.save_pretrained(tmp_path)
    prefix = "" if model_class is VQMAEModel else "model."
    kept_name = f"{prefix}encoder.layers.1.blocks.{'audio' if variant == 'cross' else 'joint'}.attention.qkv.weight"
    kept = {kept_name: load_file(tmp_path / "model.safetensors")[kept_name]}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    state = model_class.from_pretrained(tmp_path).state_dict()
    fresh = model_class(config).state_dict()
    assert state.keys() == fresh.keys()
    assert torch.equal(state[kept_name], kept[kept_name])
    buffers = {name for name, _ in model.named_buffers()}
    for name, value in state.items():
        expected = fresh[name]
        if name in buffers:
            assert torch.equal(value, expected), f"{name} does not start where a new model's does"
        elif expected.numel() > 1 and expected.unique().numel() == 1:  # zero biases, norms at the identity
            assert torch.equal(value, expected), name
        elif name != kept_name:
            assert value.isfinite().all(), name
            assert value.abs().max() < 6, name
            if value.numel() >= 64:
                assert value.std().item() == pytest.approx(expected.std().item(), rel=0.5), name


def test_loaded_in_half_precision_the_tokenizers_still_make_the_same_codes(tmp_path):
    with_tokenizers(VQMAEForPreTraining).save_pretrained(tmp_path)
    model = VQMAEForPreTraining.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert model.model.encoder.layers[0].blocks["joint"].mlp.fc1.weight.dtype == torch.bfloat16
    assert model.model.audio_tokenizer.quantizer.codebook.dtype == torch.float32
    assert model(**values()).loss.isfinite()


@pytest.mark.parametrize("variant", ["self", "cross"])
def test_matched_attention_starts_with_keys_like_queries_and_is_loaded_as_it_was_left(variant, tmp_path):
    sizes = {} if variant == "self" else VARIANTS[variant]
    models = []
    for flag in (False, True):
        torch.manual_seed(0)
        models.append(VQMAEForPreTraining(vqmae_config(matched_attention_init=flag, **sizes)))
    usual, matched = models
    expected = dict(usual.state_dict())
    attentions = [name for name in expected if name.endswith("qkv.weight")]
    assert len(attentions) >= 2
    for name in attentions:
        queries, _, values = expected[name].chunk(3)
        expected[name] = torch.cat([queries, queries, values])
    assert all(torch.equal(value, expected[name]) for name, value in matched.state_dict().items())

    with torch.no_grad():
        matched.get_parameter(attentions[0]).normal_()
    matched.save_pretrained(tmp_path)
    loaded = VQMAEForPreTraining.from_pretrained(tmp_path)
    assert torch.equal(loaded.get_parameter(attentions[0]), matched.get_parameter(attentions[0]))
