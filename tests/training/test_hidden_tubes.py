"""Tubes hidden in fine-tuning: as many of every clip, never all that is real, and the encoder does not see them."""

import numpy as np
import pytest
import torch
from tests.training.test_token_batches import make_store

from vqmae_hf import VQMAEConfig, VQMAEForAudioVisualClassification
from vqmae_hf.training.arguments import FinetuneArguments
from vqmae_hf.training.hidden_tubes import draw_hidden_tubes
from vqmae_hf.training.recipes import build_arguments
from vqmae_hf.training.token_batches import ClassificationCollator, TokenWindows

CONFIG = VQMAEConfig.from_preset("tiny", num_hidden_layers=1, num_labels=3)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75, 0.99])
def test_every_clip_hides_the_share_and_keeps_something_real(share):
    draw = np.random.default_rng(0)
    for num_tubes in (1, 2, 7, 160):
        real = np.arange(num_tubes) < np.arange(num_tubes + 1)[:, None]  # every number of real tubes, 0 among them
        real = draw.permuted(real, axis=1)
        hidden = draw_hidden_tubes(real, share, draw)
        assert set(hidden.sum(axis=1)) == {min(round(share * num_tubes), num_tubes - 1)}
        visible = (real & ~hidden).sum(axis=1)
        counts = np.arange(num_tubes + 1)
        assert (visible[1:] >= 1).all()
        assert (np.abs(visible[2:] - np.maximum(1, (1 - share) * counts[2:])) <= 1).all()


def test_every_tube_is_hidden_as_often():
    real = np.ones((4000, 10), bool)
    real[2000:, 6:] = False
    hidden = draw_hidden_tubes(real, 0.5, np.random.default_rng(1))
    assert hidden[:2000].mean(axis=0) == pytest.approx(0.5, abs=0.05)
    assert hidden[2000:, :6].mean(axis=0) == pytest.approx(0.5, abs=0.05)


def collate(lengths=(50, 50, 12), training=True, epoch=0, **options):
    windows = "random" if training else "all"
    data = TokenWindows(make_store(lengths), CONFIG, windows=windows)
    data.set_epoch(epoch)
    return ClassificationCollator(CONFIG, **{"tube_masking": 0.5, **options})(data.__getitems__(range(len(lengths))))


def spread(tubes, modality, tube):
    """(B, L) of tubes of this size over their codes, (B, steps, ...)."""
    sides = (100, 64) if modality == "audio" else (50, 8, 8)
    values = tubes.view(-1, *(side // part for side, part in zip(sides, tube, strict=True)))
    for axis, part in enumerate(tube, start=1):
        values = values.repeat_interleave(part, dim=axis)
    return values


def test_masks_are_drawn_for_training_alone_by_epoch_and_leave_the_other_draws_alone():
    batch, again = collate(time_masking=0.3), collate(time_masking=0.3)
    plain = collate(tube_masking=0.0, time_masking=0.3)
    assert batch["audio_mask"].shape == (3, 160)
    assert batch["visual_mask"].shape == (3, 80)
    assert batch["audio_mask"].sum(dim=1).tolist() == [80] * 3
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert all(torch.equal(batch[name], plain[name]) for name in plain)
    assert not torch.equal(batch["audio_mask"], collate(epoch=1, time_masking=0.3)["audio_mask"])
    assert "audio_mask" not in collate(training=False)


@pytest.mark.parametrize("pooling", ["mean", "temporal_mean", "attention", "query2emo"])
def test_what_is_hidden_changes_nothing_and_what_is_visible_and_real_does(pooling):
    torch.manual_seed(0)
    config = VQMAEConfig.from_preset("tiny", num_hidden_layers=1, num_labels=3, classifier_pooling=pooling)
    model = VQMAEForAudioVisualClassification(config).eval()
    batch = collate()
    before = model(**batch).logits
    for modality, step, tube in (("audio", 64, (10, 4)), ("visual", 128, (5, 2, 4))):
        assert tuple(getattr(config, f"{modality}_tube_size")) == tube
        codes, hidden = batch[f"{modality}_codes"], batch[f"{modality}_mask"]
        over = spread(hidden, modality, tube)
        padding = ~batch[f"{modality}_attention_mask"].bool().view(*codes.shape[:2], *[1] * (codes.dim() - 2))
        other = (codes + 7) % step
        unseen = {**batch, f"{modality}_codes": torch.where(over | padding, other, codes)}
        torch.testing.assert_close(model(**unseen).logits, before)
        seen = {**batch, f"{modality}_codes": torch.where(over | padding, codes, other)}
        assert ((model(**seen).logits - before).abs().amax(dim=1) > 1e-4).all()


def test_the_encoder_is_given_the_visible_tubes_alone():
    model = VQMAEForAudioVisualClassification(CONFIG)
    lengths = []
    model.model.encoder.layers[0].register_forward_pre_hook(lambda layer, inputs: lengths.append(inputs[0].shape[1]))
    model(**collate(tube_masking=0.0))
    model(**collate(tube_masking=0.75))
    assert lengths == [240, 60]


def test_mixed_labels_are_shares_of_what_is_visible():
    config = VQMAEConfig.from_preset("tiny", num_labels=6)
    items = TokenWindows(make_store([50, 50, 50, 12, 50, 30]), config).__getitems__(range(6))
    for i, item in enumerate(items):  # every code of a clip is its label
        codes = {name: np.full_like(item[name], i) for name in ("audio_codes", "visual_codes")}
        item.update({**codes, "label": i})
    batch = ClassificationCollator(config, tube_masking=0.5, mixup_alpha=1.0)(items)
    expected = torch.zeros(6, 6)
    for modality, tube in (("audio", (10, 4)), ("visual", (5, 2, 4))):
        codes, visible = batch[f"{modality}_codes"], spread(~batch[f"{modality}_mask"], modality, tube)
        steps = batch[f"{modality}_attention_mask"].bool()
        seen = visible & steps.view(*steps.shape, *[1] * (codes.dim() - 2))
        for i in range(6):
            expected[i] += torch.bincount(codes[i][seen[i]], minlength=6) / seen[i].sum() / 2
    torch.testing.assert_close(batch["labels"], expected)
    assert (batch["labels"] > 0).sum() > 6


def test_shares_out_of_range_are_refused(tmp_path):
    options = {"output_dir": str(tmp_path), "token_store": "store", "pretrained": "model", "report_to": "none"}
    for wrong in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"tube_masking=.* is a share, at least 0 and below 1"):
            build_arguments(FinetuneArguments, tube_masking=wrong, **options)
