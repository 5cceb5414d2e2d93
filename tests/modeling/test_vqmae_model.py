"""The encoder: embedding, visibility, padding, missing modalities, outputs, tokenizers inside, saving."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from small_models import (
    VARIANTS,
    build,
    random_codes,
    speech_config,
    vqmae_config,
)

from vqmae_hf.modeling.masking import explicit_masking
from vqmae_hf.modeling.modeling_vqmae import VQMAEModel
from vqmae_hf.modeling.token_tubes import (
    audio_codes_to_tubes,
    audio_tubes_to_codes,
    visual_codes_to_tubes,
    visual_tubes_to_codes,
)
from vqmae_hf.modeling.vqmae_embeddings import TubePositions

EVERY_VARIANT = pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "no global"])
BOTH_IMPLEMENTATIONS = pytest.mark.parametrize("implementation", ["eager", "sdpa"])


def make(variant: str = "self", **overrides) -> VQMAEModel:
    return build(VQMAEModel, vqmae_config(**{**VARIANTS[variant], **overrides}))


# ---- embedding ----


@pytest.mark.parametrize("position_embedding", ["learned", "sinusoidal"])
def test_a_tube_is_its_code_vectors_side_by_side_plus_position_plus_modality(position_embedding):
    model = make(position_embedding=position_embedding)
    codes = random_codes(model.config)
    tubes = model.prepare_tubes(**codes)
    expected_tubes = {
        "audio": audio_codes_to_tubes(codes["audio_codes"], (2, 2)),
        "visual": visual_codes_to_tubes(codes["visual_codes"], (2, 2, 2)),
    }
    for modality, expected in expected_tubes.items():
        embedded, real = model.embeddings(modality, tubes[modality])
        assert real is None
        positions = model.embeddings.positions
        if position_embedding == "learned":
            position = positions.learned[modality]
        else:
            place, pair = torch.arange(expected.shape[1])[:, None], torch.arange(16)[None]
            angle = place / 10000 ** (2 * pair / 32)
            position = torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)
        table = model.embeddings.codes[modality].weight
        for clip in range(3):
            for index, tube in enumerate(expected[clip]):
                vector = torch.cat([table[code] for code in tube])
                torch.testing.assert_close(
                    embedded[clip, index], vector + position[index] + positions.modality[modality]
                )


@pytest.mark.parametrize("with_class_token", [False, True])
def test_positions_in_space_and_time_tell_both_apart_and_share_the_time(with_class_token):
    config = vqmae_config(position_embedding="space_time")
    positions = TubePositions(config, ["visual", "audio"], with_class_token)

    def wave(place, width):
        angle = place / 10000 ** (2 * torch.arange(width // 2) / width)
        return torch.stack([angle.sin(), angle.cos()], dim=1).flatten()

    first = int(with_class_token)
    audio, visual = positions.audio_sinusoids[first:], positions.visual_sinusoids[first:]
    assert (audio.shape, visual.shape) == ((16, 32), (8, 32))
    for i in range(16):  # 4 times of 2 spectra, which are one frame; 4 bands
        time, band = divmod(i, 4)
        torch.testing.assert_close(audio[i], torch.cat([wave(time * 1.0, 16), wave(band, 16)]))
    for i in range(8):  # 2 times of 2 frames, 2 rows, 2 columns
        time, row, column = i // 4, i // 2 % 2, i % 2
        torch.testing.assert_close(visual[i], torch.cat([wave(time * 2.0, 16), wave(row, 8), wave(column, 8)]))
    # Tubes begin at frame 0 and 2 in the face, at 0, 1, 2 and 3 in the voice.
    torch.testing.assert_close(visual[4:, :16], audio[8:12, :16])
    assert (visual[4, :16] - audio[4, :16]).abs().max() > 0.1
    if with_class_token:
        assert not positions.audio_sinusoids[0].any()


def test_a_model_of_one_modality_counts_its_time_in_steps_of_its_own():
    config = speech_config(position_embedding="space_time")
    assert config.tube_duration("audio") == config.audio_tube_size[0]


def test_a_width_that_cannot_be_halved_for_space_and_time_is_refused():
    sizes = {
        "audio_tube_size": (2, 2),
        "audio_code_dim": 5,
        "num_attention_heads": 4,
        "decoder_num_attention_heads": 4,
    }
    with pytest.raises(
        StrictDataclassClassValidationError,
        match=r"position_embedding='space_time' needs a width .* multiple of 8, found 20",
    ):
        speech_config(position_embedding="space_time", **sizes)


@pytest.mark.parametrize("position_embedding", ["learned", "sinusoidal", "space_time"])
def test_visible_tubes_keep_the_positions_of_their_places(position_embedding):
    model = make(position_embedding=position_embedding)
    tubes = model.prepare_tubes(**random_codes(model.config))
    mask = torch.rand(3, 16) < torch.tensor([0.2, 0.5, 0.9])[:, None]
    everything, _ = model.embeddings("audio", tubes["audio"])
    visible, real = model.embeddings("audio", tubes["audio"], explicit_masking(mask))
    for clip in range(3):
        assert torch.equal(visible[clip, real[clip]], everything[clip, ~mask[clip]])


def test_a_model_of_one_modality_has_no_modality_embedding():
    model = build(VQMAEModel, speech_config())
    assert not any("positions.modality" in name for name, _ in model.named_parameters())


def test_a_class_token_comes_first_without_a_position():
    model = make("class token")
    tubes = model.prepare_tubes(**random_codes(model.config))
    embedded, _ = model.embeddings("audio", tubes["audio"])
    assert embedded.shape[1] == model.config.num_audio_tubes + 1
    assert torch.equal(embedded[0, 0], model.embeddings.class_tokens["audio"])


# ---- what the encoder sees ----


@EVERY_VARIANT
def test_masked_codes_are_never_seen(variant):
    model = make(variant)
    codes = random_codes(model.config)
    masks = {
        "visual_mask": torch.arange(8).expand(3, -1) % 3 == torch.arange(3)[:, None],
        "audio_mask": torch.arange(16).expand(3, -1) < torch.tensor([4, 4, 9])[:, None],
    }
    output = model(**codes, **masks, output_hidden_states=True)
    class_tokens = 2 if variant == "class token" else 0
    visible_audio = 12  # of the clips that show most
    visible_visual = int((~masks["visual_mask"]).sum(dim=1).amax())
    assert output.visual_last_hidden_state.shape == (3, visible_visual, 32)
    assert output.audio_last_hidden_state.shape == (3, visible_audio, 32)
    assert output.hidden_states[0].shape[1] == visible_visual + visible_audio + class_tokens

    changed = {}
    for modality in ("visual", "audio"):
        tubes = model.prepare_tubes(**codes)[modality]
        masked = masks[f"{modality}_mask"].unsqueeze(2)
        changed[modality] = torch.where(masked, (tubes.codes + 1) % 16, tubes.codes)
    other = {
        "audio_codes": audio_tubes_to_codes(changed["audio"], model.config.audio_grid, (2, 2)),
        "visual_codes": visual_tubes_to_codes(changed["visual"], model.config.visual_grid, (2, 2, 2)),
    }
    assert not torch.equal(other["audio_codes"], codes["audio_codes"])
    repeated = model(**other, **masks)
    for modality in ("visual", "audio"):
        real = output[f"{modality}_tube_mask"]  # places that clips with fewer visible tubes leave free mean nothing
        name = f"{modality}_last_hidden_state"
        assert torch.equal(repeated[name][real], output[name][real])
        assert torch.equal(repeated[f"{modality}_global"], output[f"{modality}_global"])
    # ... and the visible ones are: without masks the change shows.
    assert not torch.equal(model(**other).visual_global, model(**codes).visual_global)


@EVERY_VARIANT
def test_a_mask_is_the_same_as_tubes_that_are_not_there(variant):
    """Clips that hide different numbers in one batch give what each gives alone."""
    model = make(variant)
    codes = random_codes(model.config)
    mask = torch.arange(16).expand(3, -1) < torch.tensor([0, 5, 16])[:, None]
    together = model(**codes, audio_mask=mask)
    for clip, visible in enumerate([16, 11, 0]):
        alone = model(**{name: value[[clip]] for name, value in codes.items()}, audio_mask=mask[[clip]])
        assert alone.audio_last_hidden_state.shape[1] == visible
        torch.testing.assert_close(
            together.audio_last_hidden_state[clip, :visible], alone.audio_last_hidden_state[0], rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(together.visual_global[clip], alone.visual_global[0], rtol=1e-4, atol=1e-5)
        if visible or variant != "class token":
            torch.testing.assert_close(together.audio_global[clip], alone.audio_global[0], rtol=1e-4, atol=1e-5)
    assert together.audio_tube_mask.sum(dim=1).tolist() == [16, 11, 0]


# ---- padding and missing modalities ----


@EVERY_VARIANT
@BOTH_IMPLEMENTATIONS
def test_a_short_clip_in_a_batch_is_as_it_is_alone(variant, implementation):
    model = make(variant)
    model.set_attn_implementation(implementation)
    codes = random_codes(model.config)
    lengths = torch.tensor([4, 2, 2])
    masks = {
        "audio_attention_mask": torch.arange(8) < 2 * lengths[:, None],
        "visual_attention_mask": torch.arange(4) < lengths[:, None],
    }
    together = model(**codes, **{name: mask.long() for name, mask in masks.items()})
    alone = model(audio_codes=codes["audio_codes"][1:, :4], visual_codes=codes["visual_codes"][1:, :2])
    for name, places in (("audio_last_hidden_state", 8), ("visual_last_hidden_state", 4)):
        assert alone[name].shape[1] == places
        torch.testing.assert_close(together[name][1:, :places], alone[name], rtol=1e-4, atol=1e-5)
    for name in ("audio_global", "visual_global"):
        torch.testing.assert_close(together[name][1:], alone[name], rtol=1e-4, atol=1e-5)
    full = model(**{name: value[:1] for name, value in codes.items()})
    torch.testing.assert_close(together.audio_global[:1], full.audio_global, rtol=1e-4, atol=1e-5)


@EVERY_VARIANT
@BOTH_IMPLEMENTATIONS
def test_codes_of_padding_change_nothing_not_even_inside_a_tube(variant, implementation):
    model = make(variant)
    model.set_attn_implementation(implementation)
    codes = random_codes(model.config)
    masks = {
        "audio_attention_mask": torch.arange(8) < torch.tensor([8, 5, 1])[:, None],
        "visual_attention_mask": torch.arange(4) < torch.tensor([3, 4, 0])[:, None],
    }
    garbage = {name: value.clone() for name, value in codes.items()}
    garbage["audio_codes"][~masks["audio_attention_mask"]] = 15
    garbage["visual_codes"][~masks["visual_attention_mask"]] = 23
    first, second = model(**codes, **masks), model(**garbage, **masks)
    for modality in ("audio", "visual"):
        real = first[f"{modality}_tube_mask"]
        expected = masks[f"{modality}_attention_mask"].view(3, -1, 2).any(dim=2)  # time steps with anything real
        assert torch.equal(real.view(3, *expected.shape[1:], -1).all(dim=2), expected)
        name = f"{modality}_last_hidden_state"
        assert torch.equal(first[name][real], second[name][real])
        assert torch.equal(first[f"{modality}_global"][:2], second[f"{modality}_global"][:2])
        assert first[name].isfinite().all()


@EVERY_VARIANT
@BOTH_IMPLEMENTATIONS
@pytest.mark.parametrize("missing", ["audio", "visual"])
def test_a_missing_modality_is_the_same_as_one_that_is_all_padding(variant, implementation, missing):
    model = make(variant)
    model.set_attn_implementation(implementation)
    codes = random_codes(model.config)
    present = "visual" if missing == "audio" else "audio"
    absent = model(**{f"{present}_codes": codes[f"{present}_codes"]})
    zeros = torch.zeros(codes[f"{missing}_codes"].shape[:2])
    padded = model(**codes, **{f"{missing}_attention_mask": zeros})
    assert f"{missing}_global" not in absent
    for name in (f"{present}_last_hidden_state", f"{present}_global"):
        torch.testing.assert_close(padded[name], absent[name], rtol=1e-4, atol=1e-5)
    assert padded[f"{missing}_last_hidden_state"].isfinite().all()


@EVERY_VARIANT
def test_clips_of_a_batch_do_not_hear_each_other(variant):
    model = make(variant)
    codes = random_codes(model.config)
    together = model(**codes)
    alone = model(**{name: value[1:2] for name, value in codes.items()})
    torch.testing.assert_close(together.audio_global[1:2], alone.audio_global, rtol=1e-4, atol=1e-5)


# ---- outputs ----


@pytest.mark.parametrize("variant", ["self", "cross", "class token"])
def test_hidden_states_and_attentions_come_when_asked_for(variant):
    model = make(variant)
    model.set_attn_implementation("eager")
    codes = random_codes(model.config)
    assert model(**codes).hidden_states is None
    output = model(**codes, output_hidden_states=True, output_attentions=True)
    L = 24 + (2 if variant == "class token" else 0)
    assert [tuple(state.shape) for state in output.hidden_states] == [(3, L, 32)] * 3
    assert [tuple(weights.shape) for weights in output.attentions] == [(3, 4, L, L)] * 2
    for weights in output.attentions:
        torch.testing.assert_close(weights.sum(dim=3), torch.ones(3, 4, L))
    closing = model.encoder.norms
    last = output.hidden_states[-1]
    if variant == "self":
        normed = closing["joint"](last)
        torch.testing.assert_close(normed[:, :8], output.visual_last_hidden_state)
        torch.testing.assert_close(normed[:, 8:], output.audio_last_hidden_state)
    if variant == "cross":
        torch.testing.assert_close(closing["visual"](last[:, :8]), output.visual_last_hidden_state)
        assert all(not weights[:, :, :8, 8:].any() for weights in output.attentions)


def test_attentions_of_the_global_queries_come_when_asked_for():
    model = make()
    model.set_attn_implementation("eager")
    output = model(**random_codes(model.config), output_global_attentions=True)
    assert [tuple(weights.shape) for weights in output.global_attentions] == [(3, 4, 1, 8), (3, 4, 1, 16)]
    for weights in output.global_attentions:
        torch.testing.assert_close(weights.sum(dim=3), torch.ones(3, 4, 1))


def test_the_configuration_and_return_dict_are_heeded():
    model = make(output_hidden_states=True)
    codes = random_codes(model.config)
    assert len(model(**codes).hidden_states) == 3
    assert model(**codes, output_hidden_states=False).hidden_states is None
    assert isinstance(model(**codes, return_dict=False), tuple)


@EVERY_VARIANT
def test_implementations_agree_and_can_be_switched_on_a_live_model(variant):
    model = make(variant)
    codes = random_codes(model.config)
    mask = torch.arange(8).expand(3, -1) < torch.tensor([8, 5, 2])[:, None]
    outputs = []
    for implementation in ("eager", "sdpa"):
        model.set_attn_implementation(implementation)
        outputs.append(model(**codes, audio_attention_mask=mask))
    for name in ("visual_last_hidden_state", "visual_global", "audio_global"):
        torch.testing.assert_close(outputs[0][name], outputs[1][name], rtol=1e-4, atol=1e-5)


# ---- precision ----


@EVERY_VARIANT
def test_half_precision_and_autocast_stay_finite_and_close(variant):
    model = make(variant)
    codes = random_codes(model.config)
    mask = torch.arange(8).expand(3, -1) < torch.tensor([8, 5, 0])[:, None]
    expected = model(**codes, audio_attention_mask=mask).visual_global
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(**codes, audio_attention_mask=mask)
    half = model.bfloat16()(**codes, audio_attention_mask=mask)
    assert half.visual_global.dtype == torch.bfloat16
    for output in (mixed, half):
        assert output.audio_last_hidden_state.isfinite().all()
        difference = (output.visual_global.float() - expected).norm() / expected.norm()
        assert difference < 0.1
