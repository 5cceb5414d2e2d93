"""A pre-training step as a whole: where gradients go, memory, precision, values, saving."""

import pytest
import torch
from small_models import (
    VARIANTS,
    audio_tokenizer,
    build,
    gradients,
    random_codes,
    random_frames,
    random_spectra,
    seeded,
    speech_config,
    visual_tokenizer,
    vqmae_config,
)
from transformers import AutoModelForPreTraining

from vqmae_hf.modeling import vqmae_decoder
from vqmae_hf.modeling.losses import linear_cross_entropy
from vqmae_hf.modeling.modeling_vqmae import VQMAEForPreTraining

EVERY_VARIANT = pytest.mark.parametrize("variant", list(VARIANTS))


def make(variant: str = "self", **overrides) -> VQMAEForPreTraining:
    return build(VQMAEForPreTraining, vqmae_config(**{**VARIANTS[variant], **overrides}))


# ---- gradients ----


def parts_reached(model, output, *terms: str) -> set[str]:
    """The parts of the model that the sum of these terms sends a gradient to."""
    model.zero_grad()
    sum(output[term] for term in terms).backward(retain_graph=True)
    parts = {
        "model.encoder": "encoder",
        "model.global_pooling": "global",
        "model.embeddings.codes.visual": "visual codes",
        "model.embeddings.codes.audio": "audio codes",
        "decoder.transformer": "decoder",
        "decoder.mask_token": "mask token",
        "decoder.heads.visual": "visual head",
        "decoder.heads.audio": "audio head",
    }
    names = gradients(model)
    return {part for prefix, part in parts.items() if any(name.startswith(prefix) for name in names)}


@pytest.mark.parametrize("variant", ["self", "cross"])
def test_every_term_sends_gradient_to_what_it_should(variant):
    model = make(variant).train()
    output = model(**random_codes(model.config), mask_ratio=0.5, generator=seeded())
    seen = {"encoder", "visual codes", "audio codes"}
    predicted = {*seen, "decoder", "mask token"}
    assert parts_reached(model, output, "contrastive_loss") == {*seen, "global"}
    assert parts_reached(model, output, "visual_loss") == {*predicted, "visual head"}
    assert parts_reached(model, output, "audio_loss") == {*predicted, "audio head"}
    assert parts_reached(model, output, "visual_loss", "audio_loss", "contrastive_loss") == {
        *predicted,
        "visual head",
        "audio head",
        "global",
    }


@EVERY_VARIANT
def test_no_weight_is_left_without_a_gradient(variant):
    """What never gets one would be a mistake of the model, and breaks distributed training."""
    model = make(variant).train()
    model(**random_codes(model.config), mask_ratio=0.5, generator=seeded()).loss.backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert not without


@pytest.mark.parametrize("variant", ["self", "cross"])
def test_gradient_checkpointing_computes_twice_and_changes_neither_loss_nor_gradients(variant):
    results = []
    for checkpointing in (False, True):
        model = make(variant).train()
        if checkpointing:
            # The second is what earlier versions of transformers 5 call it.
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable({"use_reentrant": False})
        calls = []
        stream = {"self": "joint", "cross": "audio"}[variant]
        model.model.encoder.layers[0].blocks[stream].mlp.fc1.register_forward_hook(lambda *_, c=calls: c.append(1))
        output = model(**random_codes(model.config), generator=seeded())
        output.loss.backward()
        assert len(calls) == 1 + checkpointing
        results.append((output.loss.detach(), gradients(model)))
    torch.testing.assert_close(results[0][0], results[1][0])
    assert results[0][1].keys() == results[1][1].keys()
    for name, gradient in results[0][1].items():
        torch.testing.assert_close(results[1][1][name], gradient)


def test_a_few_steps_of_training_lower_the_loss():
    torch.manual_seed(0)
    model = VQMAEForPreTraining(vqmae_config()).train()
    codes = random_codes(model.config, clips=8)
    codes = {name: value.div(8, rounding_mode="floor") for name, value in codes.items()}  # two or three codes each
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for step in range(30):
        optimizer.zero_grad()
        losses.append(model(**codes, generator=seeded(step)).loss)
        losses[-1].backward()
        optimizer.step()
    assert torch.stack(losses[-5:]).mean() < 0.8 * torch.stack(losses[:5]).mean()


# ---- memory ----


def test_logits_are_computed_when_asked_for_and_never_otherwise(monkeypatch):
    model = make()
    codes = random_codes(model.config)
    calls = []
    for head in model.decoder.heads.values():
        head.register_forward_hook(lambda *_: calls.append(1))
    rows = []

    def counting(hidden, *args, **kwargs):
        rows.append(hidden.shape[0])
        return linear_cross_entropy(hidden, *args, **kwargs, max_logits=48)

    monkeypatch.setattr(vqmae_decoder, "linear_cross_entropy", counting)
    chunked = model(**codes, mask_ratio=(0.25, 0.5), generator=seeded())
    assert calls == []
    assert rows == [3 * 2 * 8, 3 * 8 * 4], "codes of visible tubes were predicted"
    assert chunked.visual_logits is None
    monkeypatch.undo()
    whole = model(**codes, mask_ratio=(0.25, 0.5), generator=seeded(), output_logits=True)
    assert len(calls) == 2
    torch.testing.assert_close(chunked.loss, whole.loss)


def test_without_return_loss_there_is_none():
    model = make()
    output = model(**random_codes(model.config), return_loss=False, output_logits=True)
    assert output.loss is None
    assert output.visual_loss is None
    assert output.visual_logits is not None


# ---- the whole model ----


def test_values_are_tokenized_once_and_give_what_codes_give():
    model = make()
    audio, visual = audio_tokenizer(), visual_tokenizer()
    model.set_tokenizers(audio, visual)
    values = {"audio_values": random_spectra(), "pixel_values_videos": random_frames()}
    codes = {
        "audio_codes": audio.encode(values["audio_values"]),
        "visual_codes": visual.encode(values["pixel_values_videos"]),
    }
    calls = []
    visual.encoder.register_forward_hook(lambda *_: calls.append(1))
    output = model(**values, generator=seeded())
    assert len(calls) == 1
    assert output.loss == model(**codes, generator=seeded()).loss


@EVERY_VARIANT
def test_saved_and_loaded_gives_the_same_loss_to_the_bit(variant, tmp_path):
    model = make(variant)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForPreTraining.from_pretrained(tmp_path)
    assert type(loaded) is VQMAEForPreTraining
    codes = random_codes(model.config)
    first, second = (m(**codes, generator=seeded(), output_logits=True) for m in (model, loaded))
    for name in first:
        assert torch.equal(first[name], second[name]), name


@EVERY_VARIANT
def test_implementations_agree(variant):
    model = make(variant)
    mask = torch.arange(8) < torch.tensor([8, 5, 2])[:, None]
    losses = []
    for implementation in ("eager", "sdpa"):
        model.set_attn_implementation(implementation)
        output = model(**random_codes(model.config), audio_attention_mask=mask, generator=seeded())
        losses.append(output.loss)
    torch.testing.assert_close(*losses)


@EVERY_VARIANT
@pytest.mark.parametrize("precision", ["autocast", "bfloat16"])
def test_half_precision_trains(variant, precision):
    model, reference = make(variant).train(), make(variant).train()
    codes = random_codes(model.config)
    expected = reference(**codes, generator=seeded()).loss
    if precision == "bfloat16":
        output = model.bfloat16()(**codes, generator=seeded())
    else:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(**codes, generator=seeded())
    assert output.loss.dtype == torch.float32
    torch.testing.assert_close(output.loss, expected, rtol=0.05, atol=0)
    output.loss.backward()
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())


def test_hidden_states_and_attentions_are_the_encoders():
    model = make()
    model.set_attn_implementation("eager")
    output = model(
        **random_codes(model.config), mask_ratio=(0.5, 0.25), output_hidden_states=True, output_attentions=True
    )
    visible = 4 + 12
    assert [tuple(state.shape) for state in output.hidden_states] == [(3, visible, 32)] * 3
    assert [tuple(weights.shape) for weights in output.attentions] == [(3, 4, visible, visible)] * 2


def test_speech_alone_hides_half_and_has_no_contrast():
    model = build(VQMAEForPreTraining, speech_config())
    output = model(**random_codes(model.config), generator=seeded())
    assert output.audio_mask.sum(dim=1).tolist() == [8, 8, 8]
    assert output.loss == output.audio_loss
    assert output.visual_loss is None
