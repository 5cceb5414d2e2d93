"""The classifier: three poolings, two losses, missing and padded modalities, checkpoints of pre-training."""

import pytest
import torch
from small_models import (
    VARIANTS,
    assert_same,
    audio_tokenizer,
    build,
    gradients,
    random_codes,
    random_frames,
    random_spectra,
    speech_config,
    visual_tokenizer,
    vqmae_config,
)
from torch.nn import functional as F
from transformers import AutoModelForAudioClassification, AutoModelForVideoClassification

from vqmae_hf.modeling.losses import asymmetric_single_label_loss
from vqmae_hf.modeling.modeling_vqmae import VQMAEForAudioVisualClassification, VQMAEForPreTraining

POOLINGS = ["mean", "temporal_mean", "attention", "query2emo"]
EVERY_VARIANT = pytest.mark.parametrize("variant", ["self", "cross", "class token"])
EVERY_POOLING = pytest.mark.parametrize("pooling", POOLINGS)
BOTH_IMPLEMENTATIONS = pytest.mark.parametrize("implementation", ["eager", "sdpa"])


def make(variant="self", pooling="attention", implementation="sdpa", **overrides):
    choices = {**VARIANTS[variant], "classifier_pooling": pooling, **overrides}
    model = build(VQMAEForAudioVisualClassification, vqmae_config(**choices))
    model.set_attn_implementation(implementation)
    return model


def close(first: torch.Tensor, second: torch.Tensor) -> None:
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)


# ---- heads ----


def test_mean_and_attention_classify_audio_beside_visual():
    codes = random_codes(vqmae_config())
    for pooling in ("mean", "attention"):
        model = make(pooling=pooling)
        encoded = model.model(**codes)
        if pooling == "mean":
            vectors = [encoded.audio_last_hidden_state.mean(dim=1), encoded.visual_last_hidden_state.mean(dim=1)]
        else:
            vectors = [encoded.audio_global, encoded.visual_global]
        close(model(**codes).logits, model.classifier(torch.cat(vectors, dim=1)))


def test_temporal_mean_keeps_places_apart():
    model = make(pooling="temporal_mean")
    codes = random_codes(model.config)
    encoded = model.model(**codes)
    vectors = []
    for modality in ("audio", "visual"):
        grid = getattr(model.config, f"{modality}_grid")
        local = encoded[f"{modality}_last_hidden_state"].unflatten(1, grid)  # (B, times, places..., D)
        assert local[0, 0].numel() == model.pooled_width(modality)
        vectors.append(local.mean(dim=1).flatten(1))
    close(model(**codes).logits, model.classifier(torch.cat(vectors, dim=1)))


def test_temporal_mean_of_some_tubes_is_over_those_of_each_place():
    model = make(pooling="temporal_mean")
    config, codes = model.config, random_codes(model.config)
    draw = torch.Generator().manual_seed(0)
    # As many tubes hidden of every clip and, in the audio, different numbers; of the first clip's first band all of them.
    visual_mask = torch.rand(3, config.num_visual_tubes, generator=draw).argsort(dim=1) < config.num_visual_tubes // 2
    audio_mask = torch.rand(3, config.num_audio_tubes, generator=draw) < 0.4
    audio_mask[0, :: config.num_audio_places] = True
    encoded = model.model(**codes, audio_mask=audio_mask, visual_mask=visual_mask)
    vectors = []
    for modality, mask in (("audio", audio_mask), ("visual", visual_mask)):
        num_places = getattr(config, f"num_{modality}_places")
        means = torch.zeros(3, num_places, config.hidden_size)
        for clip in range(3):
            # Without padding, visible tubes stand in the order of the clip.
            tubes = (~mask[clip]).nonzero().flatten()
            local = encoded[f"{modality}_last_hidden_state"][clip, : len(tubes)]
            for place in range(num_places):
                at_place = tubes % num_places == place
                if at_place.any():
                    means[clip, place] = local[at_place].mean(dim=0)
        vectors.append(means.flatten(1))
    assert (vectors[0][0, : config.hidden_size] == 0).all()
    logits = model(**codes, audio_mask=audio_mask, visual_mask=visual_mask).logits
    close(logits, model.classifier(torch.cat(vectors, dim=1)))


def test_query2emo_asks_all_local_representations():
    model = make(pooling="query2emo")
    codes = random_codes(model.config)
    encoded = model.model(**codes)
    local = torch.cat([encoded.visual_last_hidden_state, encoded.audio_last_hidden_state], dim=1)
    close(model(**codes).logits, model.classifier(local))
    assert model.classifier.class_queries.shape == (3, 32)


@EVERY_VARIANT
@EVERY_POOLING
def test_both_modalities_and_every_part_in_use_matter_to_the_answer(variant, pooling):
    model = make(variant, pooling).train()
    codes = random_codes(model.config)
    model(**codes, labels=torch.tensor([0, 1, 2])).loss.backward()
    reached = gradients(model)
    used = {"model.embeddings", "model.encoder", "classifier"}
    if pooling == "attention" and variant != "class token":
        used.add("model.global_pooling")
    assert {prefix for prefix in used if any(name.startswith(prefix) for name in reached)} == used
    model.eval()
    logits = model(**codes).logits
    for name in codes:
        assert not torch.equal(model(**{**codes, name: codes[name].flip(1)}).logits, logits), name


# ---- losses ----


def test_the_configured_loss_is_computed():
    labels = torch.tensor([0, 2, 1])
    for name, expected in (("asymmetric", asymmetric_single_label_loss), ("cross_entropy", F.cross_entropy)):
        model = make(classifier_loss=name)
        codes = random_codes(model.config)
        assert model(**codes).loss is None
        output = model(**codes, labels=labels)
        torch.testing.assert_close(output.loss, expected(output.logits, labels))


def test_other_problem_types_take_their_usual_losses():
    for problem, labels, num_labels in (
        ("regression", torch.randn(3), 1),
        ("multi_label_classification", torch.randint(2, (3, 4)).float(), 4),
    ):
        model = make(problem_type=problem, num_labels=num_labels)
        output = model(**random_codes(model.config), labels=labels)
        if problem == "regression":
            expected = F.mse_loss(output.logits.squeeze(), labels)
        else:
            expected = F.binary_cross_entropy_with_logits(output.logits, labels)
        torch.testing.assert_close(output.loss, expected)


@EVERY_POOLING
def test_a_few_steps_of_training_learn_the_labels(pooling):
    torch.manual_seed(0)
    model = VQMAEForAudioVisualClassification(vqmae_config(classifier_pooling=pooling)).train()
    codes, labels = random_codes(model.config, clips=6), torch.arange(6) % 3
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(25):
        optimizer.zero_grad()
        model(**codes, labels=labels).loss.backward()
        optimizer.step()
    assert torch.equal(model.eval()(**codes).logits.argmax(dim=1), labels)


# ---- padding and missing modalities ----


@EVERY_VARIANT
@EVERY_POOLING
@BOTH_IMPLEMENTATIONS
def test_a_short_clip_in_a_batch_is_answered_as_it_is_alone(variant, pooling, implementation):
    model = make(variant, pooling, implementation)
    codes = random_codes(model.config)
    lengths = torch.tensor([4, 2, 2])
    together = model(
        **codes,
        audio_attention_mask=(torch.arange(8) < 2 * lengths[:, None]).long(),
        visual_attention_mask=(torch.arange(4) < lengths[:, None]).long(),
    )
    close(together.logits[:1], model(**{name: value[:1] for name, value in codes.items()}).logits)
    alone = model(audio_codes=codes["audio_codes"][1:, :4], visual_codes=codes["visual_codes"][1:, :2])
    close(together.logits[1:], alone.logits)


@EVERY_VARIANT
@EVERY_POOLING
@BOTH_IMPLEMENTATIONS
@pytest.mark.parametrize("missing", ["audio", "visual"])
def test_a_missing_modality_is_one_of_padding_alone_in_a_batch_and_by_itself(
    variant, pooling, implementation, missing
):
    model = make(variant, pooling, implementation)
    codes = random_codes(model.config)
    present = "visual" if missing == "audio" else "audio"
    absent = model(**{f"{present}_codes": codes[f"{present}_codes"]})
    real = torch.ones(codes[f"{missing}_codes"].shape[:2])
    close(model(**codes, **{f"{missing}_attention_mask": 0 * real}).logits, absent.logits)
    # One clip lacks it, its neighbours do not.
    real[1] = 0
    mixed = model(**codes, **{f"{missing}_attention_mask": real}).logits
    close(mixed[1], absent.logits[1])
    close(mixed[[0, 2]], model(**codes).logits[[0, 2]])
    assert not torch.allclose(absent.logits, model(**codes).logits, atol=1e-3)


@EVERY_VARIANT
@EVERY_POOLING
@BOTH_IMPLEMENTATIONS
def test_codes_of_padding_change_nothing(variant, pooling, implementation):
    model = make(variant, pooling, implementation)
    codes = random_codes(model.config)
    masks = {
        "audio_attention_mask": torch.arange(8) < torch.tensor([8, 5, 0])[:, None],
        "visual_attention_mask": torch.arange(4) < torch.tensor([0, 3, 4])[:, None],
    }
    garbage = {name: value.clone() for name, value in codes.items()}
    for modality in ("audio", "visual"):
        garbage[f"{modality}_codes"][~masks[f"{modality}_attention_mask"]] = 0
    first, second = model(**codes, **masks).logits, model(**garbage, **masks).logits
    assert first.isfinite().all()
    assert torch.equal(first, second)


@EVERY_VARIANT
@EVERY_POOLING
def test_a_modality_whose_tubes_are_all_hidden_is_missing(variant, pooling):
    """Alone, in a batch whose other clips show something, and with no tube at all."""
    model = make(variant, pooling)
    codes = random_codes(model.config)
    hidden = torch.ones(3, 16, dtype=torch.bool)
    logits = model(**codes, audio_mask=hidden).logits
    assert logits.isfinite().all()
    hidden[0] = False
    close(model(**codes, audio_mask=hidden).logits[1:], logits[1:])
    if variant != "class token":  # which is still there, and heard by the others
        close(logits, model(visual_codes=codes["visual_codes"]).logits)
    nothing = model(**codes, audio_mask=torch.ones(3, 16).bool(), visual_mask=torch.ones(3, 8).bool())
    assert nothing.logits.isfinite().all()


@EVERY_VARIANT
@EVERY_POOLING
def test_padding_sends_no_gradient(variant, pooling):
    model = make(variant, pooling).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    codes = random_codes(model.config)
    mask = torch.ones(3, 8)
    mask[:, 4:] = 0
    labels = torch.tensor([0, 1, 2])
    codes["audio_codes"][:, :4] = codes["audio_codes"][:, :4] % 15  # code 15 stands in the padding alone
    codes["audio_codes"][:, 4:] = 15
    model(**codes, audio_attention_mask=mask, labels=labels).loss.backward()
    gradient = model.model.embeddings.codes["audio"].weight.grad
    assert not gradient[15].any()
    assert gradient[:15].any()
    assert all(value.isfinite().all() for value in gradients(model).values())


# ---- checkpoints ----


@EVERY_VARIANT
@EVERY_POOLING
def test_a_checkpoint_of_pre_training_brings_its_encoder_and_only_the_head_is_new(variant, pooling, tmp_path):
    pretrained = build(VQMAEForPreTraining, vqmae_config(with_tokenizers=True, **VARIANTS[variant]))
    pretrained.save_pretrained(tmp_path)
    model, info = VQMAEForAudioVisualClassification.from_pretrained(
        tmp_path, classifier_pooling=pooling, num_labels=5, output_loading_info=True
    )
    assert_same(dict(model.model.state_dict()), dict(pretrained.model.state_dict()))
    assert info["missing_keys"]
    assert all(name.startswith("classifier.") for name in info["missing_keys"])
    assert all(name.startswith("decoder.") for name in info["unexpected_keys"])
    assert not info["mismatched_keys"]
    output = model(**random_codes(model.config))
    assert output.logits.shape == (3, 5)
    assert output.logits.isfinite().all()


@pytest.mark.parametrize("auto", [AutoModelForVideoClassification, AutoModelForAudioClassification])
@EVERY_POOLING
def test_saved_and_loaded_answers_the_same_to_the_bit(auto, pooling, tmp_path):
    model = make(pooling=pooling, id2label={0: "neutral", 1: "happy", 2: "sad"})
    model.save_pretrained(tmp_path)
    loaded = auto.from_pretrained(tmp_path)
    assert type(loaded) is VQMAEForAudioVisualClassification
    assert loaded.config.id2label == {0: "neutral", 1: "happy", 2: "sad"}
    codes = random_codes(model.config, clips=1)
    assert torch.equal(loaded(**codes).logits, model(**codes).logits)


def test_values_give_the_answer_of_their_codes_with_masks_too():
    model = make()
    audio, visual = audio_tokenizer(), visual_tokenizer()
    model.set_tokenizers(audio, visual)
    values = {"audio_values": random_spectra(), "pixel_values_videos": random_frames()}
    masks = {
        "audio_attention_mask": torch.arange(8) < torch.tensor([8, 6])[:, None],
        "visual_attention_mask": torch.arange(4) < torch.tensor([4, 3])[:, None],
    }
    codes = {
        "audio_codes": audio.encode(values["audio_values"]),
        "visual_codes": visual.encode(values["pixel_values_videos"]),
    }
    expected = model(**codes, **masks).logits
    assert torch.equal(model(**values, **masks).logits, expected)
    garbage = {name: value.clone() for name, value in values.items()}
    garbage["audio_values"][1, 6:] = float("nan")
    garbage["pixel_values_videos"][1, 3:] = float("nan")
    assert torch.equal(model(**garbage, **masks).logits, expected)


# ---- the whole model ----


@EVERY_VARIANT
@EVERY_POOLING
@pytest.mark.parametrize("precision", ["autocast", "bfloat16"])
def test_half_precision_answers_and_trains(variant, pooling, precision):
    model = make(variant, pooling)
    codes, mask = random_codes(model.config), torch.arange(8) < torch.tensor([8, 5, 0])[:, None]
    expected = model(**codes, audio_attention_mask=mask).logits
    if precision == "bfloat16":
        output = model.bfloat16()(**codes, audio_attention_mask=mask, labels=torch.tensor([0, 1, 2]))
    else:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(**codes, audio_attention_mask=mask, labels=torch.tensor([0, 1, 2]))
    assert (output.logits.float() - expected).norm() < 0.15 * expected.norm()
    output.loss.backward()
    assert output.loss.dtype == torch.float32
    assert all(value.isfinite().all() for value in gradients(model).values())


@EVERY_POOLING
def test_attentions_come_when_asked_for(pooling):
    model = make(pooling=pooling, implementation="eager")
    codes = random_codes(model.config)
    output = model(**codes, output_attentions=True, output_hidden_states=True, output_global_attentions=True)
    assert [tuple(weights.shape) for weights in output.attentions] == [(3, 4, 24, 24)] * 2
    assert [tuple(state.shape) for state in output.hidden_states] == [(3, 24, 32)] * 3
    assert [tuple(weights.shape) for weights in output.global_attentions] == [(3, 4, 1, 8), (3, 4, 1, 16)]
    assert model(**codes).attentions is None


@pytest.mark.parametrize("pooling", ["mean", "query2emo"])
def test_one_modality_alone_is_a_model_of_its_own(pooling):
    model = build(VQMAEForAudioVisualClassification, speech_config(classifier_pooling=pooling))
    assert model(**random_codes(model.config)).logits.shape == (3, 3)
    if pooling == "mean":
        assert model.classifier.in_features == 32


@pytest.mark.slow
def test_the_forward_pass_compiles_as_one_graph():
    model = make()
    codes = random_codes(model.config)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    close(compiled(**codes).logits, model(**codes).logits)
    mask = torch.arange(8) < torch.tensor([8, 5, 2])[:, None]
    close(compiled(**codes, audio_attention_mask=mask).logits, model(**codes, audio_attention_mask=mask).logits)
