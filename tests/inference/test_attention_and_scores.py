"""Where a classifier looks, and what it says as a clip goes on."""

import pytest
import torch

from vqmae_hf import VQMAEConfig, VQMAEForAudioVisualClassification
from vqmae_hf.data.clips import Clip
from vqmae_hf.inference.attention_maps import attention_over_clip
from vqmae_hf.inference.coded_clips import CodedClip
from vqmae_hf.inference.running_scores import running_scores

HEADS = {
    "pooling queries": {"classifier_pooling": "attention"},
    "class query": {"classifier_pooling": "query2emo", "query2emo_intermediate_size": 32},
    "rollout": {"classifier_pooling": "mean"},
    "rollout of temporal means": {"classifier_pooling": "temporal_mean"},
    "rollout of class tokens": {"classifier_pooling": "attention", "global_representation": "cls_token"},
}


def build(implementation="eager", **overrides):
    torch.manual_seed(0)
    config = VQMAEConfig.from_preset("tiny", num_hidden_layers=2, num_labels=3, **overrides)
    model = VQMAEForAudioVisualClassification._from_config(config, attn_implementation=implementation).eval()
    with torch.no_grad():  # spread out, so that attention differs from place to place
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(3)
    return model


def random_clip(frames=50, modalities=("visual", "audio"), seed=0):
    generator = torch.Generator().manual_seed(seed)
    codes = {
        "visual": torch.randint(0, 128, (frames, 8, 8), generator=generator),
        "audio": torch.randint(0, 64, (2 * frames, 64), generator=generator),
    }
    clip = Clip(None, None, 25, 16000, None, "random")
    return CodedClip(clip, {name: codes[name] for name in modalities}, frames, 2, 50)


def joined(first, second, frames):
    """The beginning of the first clip, up to a frame, and the rest of the second."""
    codes = {
        name: torch.cat([first.codes[name][: frames * steps], second.codes[name][frames * steps :]])
        for name, steps in (("visual", 1), ("audio", 2))
    }
    return CodedClip(first.clip, codes, first.num_frames, 2, 50)


@pytest.mark.parametrize("head", HEADS)
def test_attention_is_1_on_average_and_not_the_same_everywhere(head):
    maps = attention_over_clip(build(**HEADS[head]), random_clip())
    assert maps.method == head.partition(" of ")[0]
    assert maps.visual.shape == (50, 4, 2)
    assert maps.audio.shape == (100, 16)
    for levels in (maps.visual, maps.audio):
        assert levels.min() >= 0
        assert levels.mean().item() == pytest.approx(1, abs=1e-4)
        assert levels.max() - levels.min() > 0.02


@pytest.mark.parametrize("head", HEADS)
def test_attention_to_padding_is_none_and_counts_for_nothing(head):
    maps = attention_over_clip(build(**HEADS[head]), random_clip(frames=20))
    assert maps.visual.shape[0] == 20
    assert maps.visual.mean().item() == pytest.approx(1, abs=1e-3)
    assert maps.audio.mean().item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("modality", ["visual", "audio"])
def test_one_modality_has_one_map(modality):
    maps = attention_over_clip(build(), random_clip(modalities=(modality,)))
    assert (maps.visual is None) == (modality == "audio")
    assert (maps.audio is None) == (modality == "visual")


def test_the_pooling_query_is_the_weight_that_the_model_reports():
    model, coded = build(), random_clip()
    output = model(**coded.windows([(0, 50)]), output_global_attentions=True)
    weights = output.global_attentions[0].mean(1)[0, 0].view(10, 4, 2)  # visual comes first
    assert torch.allclose(attention_over_clip(model, coded).visual[::5], weights * 80, atol=1e-5)


def test_query2emo_has_a_map_for_each_class():
    model, coded = build(**HEADS["class query"]), random_clip()
    first, second = (attention_over_clip(model, coded, label=label).visual for label in (0, 1))
    assert not torch.allclose(first, second)
    best = int(model(**coded.windows([(0, 50)])).logits.argmax())
    assert torch.equal(attention_over_clip(model, coded).visual, attention_over_clip(model, coded, label=best).visual)
    assert not model.classifier.decoder_layers[-1].cross_attention.attention._forward_hooks


def test_other_attention_implementations_are_refused():
    with pytest.raises(ValueError, match=r"'sdpa' attention.*attn_implementation=\"eager\""):
        attention_over_clip(build("sdpa"), random_clip())


def test_scores_use_the_past_alone():
    """Another future changes nothing before it."""
    model, coded, other = build(), random_clip(seed=0), random_clip(seed=1)
    mixed = joined(coded, other, 25)
    curve = running_scores(model, coded)
    changed = running_scores(model, mixed)
    early = curve.seconds <= 1
    assert early.sum() >= 4
    assert torch.allclose(curve.scores[early], changed.scores[early], atol=1e-6)
    assert not torch.allclose(curve.scores[~early], changed.scores[~early], atol=1e-4)


def test_the_last_score_of_a_short_clip_is_the_answer():
    model, coded = build(), random_clip(frames=37)
    curve = running_scores(model, coded)
    answer = model(**coded.windows([(0, 37)])).logits.softmax(-1)[0]
    assert torch.allclose(curve.scores[-1], answer, atol=1e-6)
    assert curve.seconds[-1].item() == pytest.approx(37 / 25)
    assert torch.allclose(curve.scores.sum(1), torch.ones(len(curve.scores)), atol=1e-5)


def test_later_scores_forget_what_is_older_than_a_window():
    model, coded, other = build(), random_clip(frames=100, seed=0), random_clip(frames=100, seed=1)
    mixed = joined(other, coded, 25)
    curve, changed = (running_scores(model, each, most_moments=4) for each in (coded, mixed))
    assert torch.allclose(curve.scores[-1], changed.scores[-1], atol=1e-6)
    assert not torch.allclose(curve.scores[0], changed.scores[0], atol=1e-4)


def test_no_more_moments_than_asked_for():
    assert len(running_scores(build(), random_clip(frames=100), most_moments=6).seconds) == 6
