"""Pre-training: what the loss is computed over, masks and ratios, terms without elements, missing modalities."""

import pytest
import torch
from small_models import (
    VARIANTS,
    build,
    gradients,
    random_codes,
    seeded,
    vqmae_config,
)
from torch.nn import functional as F

from vqmae_hf.modeling.losses import info_nce
from vqmae_hf.modeling.modeling_vqmae import VQMAEForPreTraining

EVERY_VARIANT = pytest.mark.parametrize("variant", list(VARIANTS))


def make(variant: str = "self", **overrides) -> VQMAEForPreTraining:
    return build(VQMAEForPreTraining, vqmae_config(**{**VARIANTS[variant], **overrides}))


def unequal_masks() -> dict[str, torch.Tensor]:
    """Clips hide 0, 5 and all 8 visual, and 16, 3 and 3 audio tubes."""
    places = {
        "visual_mask": torch.rand(3, 8, generator=seeded(1)),
        "audio_mask": torch.rand(3, 16, generator=seeded(2)),
    }
    counts = {"visual_mask": [0, 5, 8], "audio_mask": [16, 3, 3]}
    return {
        name: noise.argsort(dim=1).argsort(dim=1) < torch.tensor(counts[name])[:, None]
        for name, noise in places.items()
    }


MASKINGS = {
    "drawn": {},
    "fixed ratio": {"mask_ratio": (0.75, 0.5)},
    "explicit": unequal_masks(),
}


# ---- what the loss is ----


@EVERY_VARIANT
@pytest.mark.parametrize("masking", list(MASKINGS))
@pytest.mark.parametrize("padded", [False, True])
def test_code_losses_are_the_cross_entropy_over_real_codes_of_masked_tubes(variant, masking, padded):
    model = make(variant)
    codes = random_codes(model.config)
    attention_masks = {}
    if padded:
        attention_masks = {
            "audio_attention_mask": torch.arange(8) < torch.tensor([8, 5, 4])[:, None],
            "visual_attention_mask": torch.arange(4) < torch.tensor([3, 4, 2])[:, None],
        }
    output = model(**codes, **attention_masks, **MASKINGS[masking], output_logits=True, generator=seeded())
    tubes = model.model.prepare_tubes(**codes, **attention_masks)
    for modality, places in (("visual", 8), ("audio", 4)):
        mask, logits = output[f"{modality}_mask"], output[f"{modality}_logits"]
        assert logits.shape[2:] == (places, {"visual": 24, "audio": 16}[modality])
        counted = mask.unsqueeze(2).expand_as(tubes[modality].codes)
        if padded:
            counted = counted & tubes[modality].code_real
        expected = F.cross_entropy(logits[counted], tubes[modality].codes[counted])
        torch.testing.assert_close(output[f"{modality}_loss"], expected)
    for name in ("visual_mask", "audio_mask"):
        if masking == "explicit":
            assert torch.equal(output[name], MASKINGS["explicit"][name])


@EVERY_VARIANT
def test_the_loss_is_the_weighted_sum_of_its_terms(variant):
    weights = {"visual_loss_weight": 2.0, "audio_loss_weight": 0.5, "contrastive_loss_weight": 3}
    model = make(variant, **weights)
    output = model(**random_codes(model.config), generator=seeded())
    expected = 2 * output.visual_loss + 0.5 * output.audio_loss
    if variant == "no global":
        assert output.contrastive_loss is None
    else:
        expected = expected + 3 * output.contrastive_loss
        found = info_nce(output.visual_global, output.audio_global, model.config.contrastive_temperature)
        torch.testing.assert_close(output.contrastive_loss, found)
    torch.testing.assert_close(output.loss, expected)


def test_targets_of_visible_codes_do_not_matter_and_those_of_masked_ones_do():
    model = make()
    tubes = model.model.prepare_tubes(**random_codes(model.config))
    maskings = model.mask_tubes(tubes, {"audio": None, "visual": None}, (0.5, 0.5), seeded())
    for modality in ("visual", "audio"):
        inputs, masking = tubes[modality], maskings[modality]
        decoded = torch.randn(*masking.masked_ids.shape, 32)
        loss = model.decoder.code_loss(modality, decoded, inputs, masking)
        for hidden, matters in ((masking.mask, True), (~masking.mask, False)):
            changed = torch.where(hidden.unsqueeze(2), (inputs.codes + 1) % 16, inputs.codes)
            other = model.decoder.code_loss(modality, decoded, inputs._replace(codes=changed), masking)
            assert (other != loss) == matters
        assert model.decoder.code_loss(modality, torch.randn_like(decoded), inputs, masking) != loss


@EVERY_VARIANT
@pytest.mark.parametrize("ratio", [(0.5, 0.5), (0.25, 0.0), (1.0, 0.4)], ids=["half", "audio shown", "face hidden"])
def test_decoding_masked_tubes_alone_is_decoding_all_of_them(variant, ratio):
    """The same loss and gradients, whatever of the visible tubes the last layer leaves out."""
    model = make(variant)
    results = []
    for output_logits in (False, True):
        codes = random_codes(model.config)
        loss = model(**codes, mask_ratio=ratio, generator=seeded(), output_logits=output_logits).loss
        model.zero_grad()
        loss.backward()
        results.append((loss, gradients(model)))
    (alone, alone_gradients), (among_all, all_gradients) = results
    torch.testing.assert_close(alone, among_all, rtol=1e-6, atol=1e-6)
    assert alone_gradients.keys() == all_gradients.keys()
    for name, gradient in alone_gradients.items():
        torch.testing.assert_close(gradient, all_gradients[name], rtol=1e-4, atol=1e-6, msg=name)


@EVERY_VARIANT
def test_predictions_do_not_know_what_they_predict(variant):
    """Masked codes reach no logit, visible ones reach those of masked tubes, of the other modality too."""
    model = make(variant)
    codes = random_codes(model.config)
    masks = {"visual_mask": torch.arange(8).expand(3, -1) >= 4, "audio_mask": torch.arange(16).expand(3, -1) >= 8}
    output = model(**codes, **masks, output_logits=True)
    hidden_changed = {name: value.clone() for name, value in codes.items()}
    hidden_changed["visual_codes"][:, 2:] = 0  # the second time steps
    hidden_changed["audio_codes"][:, 4:] = 0
    same = model(**hidden_changed, **masks, output_logits=True)
    assert torch.equal(same.visual_logits, output.visual_logits)
    assert torch.equal(same.audio_logits, output.audio_logits)
    assert same.visual_loss != output.visual_loss
    visible_changed = {**codes, "audio_codes": codes["audio_codes"].clone()}
    visible_changed["audio_codes"][:, :4] = 0
    other = model(**visible_changed, **masks, output_logits=True)
    assert not torch.equal(other.visual_logits[:, 4:], output.visual_logits[:, 4:])
    assert not torch.equal(other.audio_logits[:, 8:], output.audio_logits[:, 8:])


def test_visible_outputs_go_back_to_their_places_and_the_mask_token_elsewhere():
    model = make()
    tubes = model.model.prepare_tubes(**random_codes(model.config))
    maskings = model.mask_tubes(tubes, {name.split("_")[0]: mask for name, mask in unequal_masks().items()})
    for modality, masking in maskings.items():
        visible = torch.randn(3, masking.visible_ids.shape[1], 32)
        restored = model.decoder.restore_tubes(visible, masking)
        for clip in range(3):
            shown = (~masking.mask[clip]).nonzero().flatten()
            assert torch.equal(restored[clip, shown], visible[clip, : len(shown)]), modality
            assert torch.equal(
                restored[clip, masking.mask[clip]],
                model.decoder.mask_token.expand(int(masking.mask[clip].sum()), -1),
            )


# ---- ratios and masks ----


def test_ratios_are_drawn_for_the_batch_and_sum_to_one():
    model = make()
    codes = random_codes(model.config)
    hidden = []
    for seed in range(30):
        output = model(**codes, generator=seeded(seed), return_loss=False)
        counts = [output.visual_mask.sum(dim=1), output.audio_mask.sum(dim=1)]
        assert all((count == count[0]).all() for count in counts), "clips of a batch hide differently many"
        visual, audio = counts[0][0] / 8, counts[1][0] / 16
        assert abs(visual + audio - 1) <= 0.5 / 8 + 0.5 / 16 + 1 / 8  # rounding, and at least one visible tube
        hidden.append(visual)
    assert torch.stack(hidden).std() > 0.15


def test_the_generator_decides_everything_random():
    model = make()
    codes = random_codes(model.config)
    first, second, other = (model(**codes, generator=seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(first.visual_mask, second.visual_mask)
    assert first.loss == second.loss
    assert not torch.equal(first.visual_mask, other.visual_mask)
    torch.manual_seed(9)
    unseeded = model(**codes)
    torch.manual_seed(9)
    assert model(**codes).loss == unseeded.loss


def test_where_a_ratio_comes_from():
    codes = random_codes(vqmae_config())

    def hidden(model, **options):
        output = model(**codes, **options, return_loss=False, generator=seeded())
        return [int(output[f"{modality}_mask"][0].sum()) for modality in ("visual", "audio")]

    assert hidden(make(), mask_ratio=0.5) == [4, 8]
    assert hidden(make(), mask_ratio=(0.25, 0.75)) == [2, 12]
    assert hidden(make(mask_ratio=(0.75, 0.25))) == [6, 4]
    assert hidden(make(mask_ratio=(0.75, 0.25)), mask_ratio=0.5) == [4, 8], "the argument wins"
    explicit = torch.arange(16).expand(3, -1) < 3
    assert hidden(make(), mask_ratio=(0.25, 0.75), audio_mask=explicit) == [2, 3]


@pytest.mark.parametrize("strategy", ["frame", "frequency"])
def test_strategies_of_the_configuration_hide_whole_steps_or_positions(strategy):
    model = make(mask_strategy=strategy)
    output = model(**random_codes(model.config), mask_ratio=0.5, generator=seeded())
    axis = {"frame": 2, "frequency": 1}[strategy]
    for mask, grid in ((output.visual_mask, (2, 4)), (output.audio_mask, (4, 4))):
        mask = mask.view(3, *grid)
        assert torch.equal(mask.any(dim=axis), mask.all(dim=axis))
        assert mask.any()
        assert not mask.all()
    assert output.loss.isfinite()


@pytest.mark.parametrize("ratio", [-0.1, 1.5, (0.5, float("nan")), (0.1, 0.2, 0.3)])
def test_ratios_outside_their_range_are_refused(ratio):
    model = make()
    with pytest.raises(ValueError, match=r"mask_ratio=.* one number or \(visual, audio\), within \[0, 1\]"):
        model(**random_codes(model.config), mask_ratio=ratio)


# ---- terms without elements ----


@EVERY_VARIANT
@pytest.mark.parametrize("empty", ["visual", "audio", "both"])
def test_a_term_without_elements_is_zero_and_everything_stays_finite(variant, empty):
    model = make(variant).train()
    ratios = {"visual": (0.0, 0.5), "audio": (0.5, 0.0), "both": (0.0, 0.0)}[empty]
    output = model(**random_codes(model.config), mask_ratio=ratios, generator=seeded())
    for modality, ratio in zip(("visual", "audio"), ratios, strict=True):
        assert (output[f"{modality}_loss"] == 0) == (ratio == 0)
    assert output.loss.isfinite()
    output.loss.backward()
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())


@EVERY_VARIANT
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_everything_may_be_hidden(variant, implementation):
    model = make(variant).train()
    model.set_attn_implementation(implementation)
    codes = random_codes(model.config)
    masks = {"visual_mask": torch.ones(3, 8, dtype=torch.bool), "audio_mask": torch.ones(3, 16, dtype=torch.bool)}
    for hidden in (["visual_mask"], ["audio_mask"], ["visual_mask", "audio_mask"]):
        model.zero_grad()
        output = model(**codes, **{name: masks[name] for name in hidden}, mask_ratio=0.5, generator=seeded())
        output.loss.backward()
        assert output.loss.isfinite()
        assert all(gradient.isfinite().all() for gradient in gradients(model).values())
    masks["visual_mask"] = masks["visual_mask"].clone()
    masks["visual_mask"][0] = False  # one clip shows something, two nothing
    output = model(**codes, **masks)
    output.loss.backward()
    assert output.loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())


@EVERY_VARIANT
@pytest.mark.parametrize("missing", ["visual", "audio"])
def test_one_modality_alone_is_trained_alone(variant, missing):
    model = make(variant)
    codes = random_codes(model.config)
    del codes[f"{missing}_codes"]
    output = model(**codes, mask_ratio=0.5, generator=seeded())
    present = "audio" if missing == "visual" else "visual"
    assert output.loss == output[f"{present}_loss"]
    assert output.contrastive_loss is None
    assert f"{missing}_mask" not in output


def test_clips_with_one_modality_take_no_part_in_the_contrast():
    model = make()
    codes = random_codes(model.config)
    mask = torch.ones(3, 8)
    mask[1] = 0
    output = model(**codes, audio_attention_mask=mask, mask_ratio=0.5, generator=seeded())
    both = torch.tensor([0, 2])
    expected = info_nce(output.visual_global[both], output.audio_global[both], 0.5)
    torch.testing.assert_close(output.contrastive_loss, expected)
    one_clip = {name: value[:1] for name, value in codes.items()}
    alone = model(**one_clip, audio_attention_mask=torch.zeros(1, 8), mask_ratio=0.5, generator=seeded())
    assert alone.contrastive_loss == 0
    assert alone.audio_loss == 0
    assert alone.loss.isfinite()
