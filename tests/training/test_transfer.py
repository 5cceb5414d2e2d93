"""What fine-tuning may change: nothing of what is frozen, little near the input, and the same results when resumed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.training.test_train_tokenizers import interrupt_after
from tests.training.test_train_vqmae import finetune_arguments, pretrain_arguments
from torch.nn import functional as F

from vqmae_hf import VQMAEConfig, VQMAEForAudioVisualClassification
from vqmae_hf.data.speaker_deals import labelled_speakers
from vqmae_hf.modeling.losses import asymmetric_single_label_loss
from vqmae_hf.training import finetune, pretrain
from vqmae_hf.training.finetune import keep_labels, keep_speakers
from vqmae_hf.training.token_batches import ClassificationCollator, TokenWindows
from vqmae_hf.training.transfer import freeze_layers, parameter_depth

ENCODER = "model.encoder.layers.0."


@pytest.fixture(scope="module")
def start(world, tmp_path_factory):
    return str(pretrain.run(pretrain_arguments(world, tmp_path_factory.mktemp("start"))).output_dir)


def run(world, folder, start, **values):
    return finetune.run(finetune_arguments(world, folder, pretrained=start, model_overrides=None, **values))


def change_of(result, start):
    """How far each parameter that both have has moved."""
    before, after = load_file(f"{start}/model.safetensors"), load_file(result.output_dir / "model.safetensors")
    return {name: (after[name].float() - before[name].float()).abs().max().item() for name in before if name in after}


def test_depths_rise_from_the_input_to_the_head():
    model = VQMAEForAudioVisualClassification(VQMAEConfig.from_preset("tiny", encoder_fusion="cross"))
    num_layers = model.config.num_hidden_layers
    depths = {name: parameter_depth(name, num_layers) for name, _ in model.named_parameters()}
    assert {depth for name, depth in depths.items() if "embeddings" in name} == {0}
    assert {depth for name, depth in depths.items() if "modality_fusion" in name} == {1}
    assert {depth for name, depth in depths.items() if f"layers.{num_layers - 1}." in name} == {num_layers + 1}
    assert depths["classifier.weight"] == num_layers + 2


def test_frozen_layers_stay_and_the_rest_moves(world, start, tmp_path):
    change = change_of(run(world, tmp_path, start, frozen_layers=1), start)
    frozen = [name for name in change if name.startswith((ENCODER, "model.embeddings."))]
    assert frozen
    assert max(change[name] for name in frozen) == 0
    assert change["model.encoder.norms.joint.weight"] > 0


def test_more_frozen_layers_than_there_are_is_an_error():
    model = VQMAEForAudioVisualClassification(VQMAEConfig.from_preset("tiny"))
    with pytest.raises(ValueError, match="frozen_layers=99, but the encoder has"):
        freeze_layers(model, 99)


def test_lora_leaves_a_plain_checkpoint_in_which_the_encoder_has_moved(world, start, tmp_path):
    result = run(world, tmp_path, start, lora_rank=2, learning_rate=0.01)
    saved = load_file(result.output_dir / "model.safetensors")
    assert not [name for name in saved if "lora" in name or "base_layer" in name]
    change = change_of(result, start)
    assert change[f"{ENCODER}blocks.joint.attention.qkv.weight"] > 0
    assert change[f"{ENCODER}blocks.joint.attention_norm.weight"] == 0
    # Rank 2: the update is that of two vectors.
    before = load_file(f"{start}/model.safetensors")
    name = f"{ENCODER}blocks.joint.attention.qkv.weight"
    singular = torch.linalg.svdvals(saved[name].float() - before[name].float())
    assert singular[2] < 1e-4 * singular[0]
    loaded = VQMAEForAudioVisualClassification.from_pretrained(result.output_dir)
    for name, tensor in result.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    "options",
    [{"lora_rank": 2}, {"layer_decay": 0.7, "mixup_alpha": 0.4}, {"muon": True}, {"train_on_validation": True}],
)
def test_interrupted_and_resumed_equals_uninterrupted(options, world, start, tmp_path, monkeypatch):
    straight = run(world, tmp_path / "straight", start, **options)
    arguments = finetune_arguments(world, tmp_path / "killed", pretrained=start, model_overrides=None, **options)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            finetune.run(arguments)
    for _ in range(2):  # the second time, the run is finished already
        resumed = finetune.run(replace(arguments))
        for name, tensor in load_file(straight.output_dir / "model.safetensors").items():
            assert tensor.equal(load_file(resumed.output_dir / "model.safetensors")[name]), name
        assert resumed.results == straight.results


def test_training_stops_when_validation_no_longer_improves(world, start, tmp_path):
    result = run(
        world,
        tmp_path,
        start,
        early_stopping_patience=2,
        max_steps=40,
        learning_rate=1e-12,
        eval_steps=2,
        save_steps=2,
    )
    steps = [entry["step"] for entry in result.log_history if "eval_loss" in entry]
    assert max(steps) == 6


def test_trained_on_validation_speakers_too_the_last_epoch_is_reported(world, start, tmp_path):
    usual = run(world, tmp_path / "usual", start)
    result = run(world, tmp_path / "all", start, train_on_validation=True, save_strategy="best")
    parts, usual_parts = result.results["speakers"], usual.results["speakers"]
    assert parts["train"] == sorted([*usual_parts["train"], *usual_parts["validation"]])
    assert parts["validation"] == []
    assert parts["test"] == usual_parts["test"]
    assert result.results["best_validation"] is None
    assert "validation" not in result.metrics
    assert not [entry for entry in result.log_history if "eval_loss" in entry]
    saved = VQMAEForAudioVisualClassification.from_pretrained(result.output_dir).state_dict()
    assert all(torch.equal(saved[name], tensor) for name, tensor in result.model.state_dict().items())
    assert not all(torch.equal(saved[name], tensor) for name, tensor in usual.model.state_dict().items())


@pytest.mark.parametrize("values", [{"early_stopping_patience": 1}, {"label_share": 0.5}, {"labelled_speakers": 2}])
def test_what_training_on_validation_speakers_does_not_go_with_is_refused(world, tmp_path, values):
    with pytest.raises(ValueError, match="train_on_validation") as error:
        finetune_arguments(world, tmp_path, train_on_validation=True, **values)
    assert next(iter(values)) in str(error.value)


def test_some_speakers_have_labels_and_a_seed_says_which(world):
    clips = world.store
    everyone = sorted(set(clips["speaker"]))
    some = keep_speakers(clips, 2, seed=0)
    assert set(some["speaker"]) == set(labelled_speakers(everyone, 2, seed=0))
    assert list(some["clip_id"]) == [row["clip_id"] for row in clips if row["speaker"] in set(some["speaker"])]
    draws = {tuple(labelled_speakers(everyone, 1, seed=seed)) for seed in range(20)}
    assert draws == {(speaker,) for speaker in everyone}
    with pytest.raises(ValueError, match=rf"labelled_speakers=9, .* 1 to {len(everyone)} are accepted"):
        keep_speakers(clips, 9, seed=0)


def test_a_share_of_the_labels_is_drawn_from_every_class(world):
    clips = world.store
    some = keep_labels(clips, 0.5, seed=0)
    assert sorted(some["emotion"]) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert keep_labels(clips, 0.01, seed=0)["emotion"][:].count(0) == 1
    assert keep_labels(clips, 0.5, seed=0)["clip_id"] == some["clip_id"]
    assert keep_labels(clips, 0.5, seed=1)["clip_id"] != some["clip_id"]


# ---- mixing of tubes ----


def mixed_batch(world, **options):
    config = VQMAEConfig.from_preset("tiny", id2label=dict(enumerate("abc")))
    windows = TokenWindows(world.store, config)
    items = windows.__getitems__(list(range(12)))
    draw = np.random.default_rng(0)  # the codes of untrained tokenizers hardly differ
    for item in items:
        for name in ("audio_codes", "visual_codes"):
            item[name] = draw.integers(0, 64, item[name].shape)
    collator = ClassificationCollator(config, mixup_alpha=1.0, **options)
    return config, items, collator(items), ClassificationCollator(config, **options)(items)


def test_mixed_clips_are_made_of_whole_tubes_of_two_clips(world):
    config, _, mixed, plain = mixed_batch(world)
    codes, original = mixed["visual_codes"], plain["visual_codes"]
    t, h, w = config.visual_tube_size
    B, T, G, _ = codes.shape
    changed = (codes != original).view(B, T // t, t, G // h, h, G // w, w).any(dim=(2, 4, 6))
    assert changed.any()
    assert not changed.all()
    whole = changed.repeat_interleave(t, 1).repeat_interleave(h, 2).repeat_interleave(w, 3)
    for i in range(B):
        # What changed is, tube by tube, another clip's; one and the same clip's.
        assert any(torch.equal(codes[i][whole[i]], original[j][whole[i]]) for j in range(B))


def test_labels_of_mixed_clips_are_shares(world):
    _, items, mixed, _ = mixed_batch(world)
    labels = mixed["labels"]
    assert labels.shape == (12, 3)
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(12))
    assert ((labels > 0.01).sum(dim=1) > 1).any()
    assert labels.shape[0] == len(items)


def test_validation_is_never_mixed(world):
    config = VQMAEConfig.from_preset("tiny", id2label=dict(enumerate("abc")))
    items = TokenWindows(world.store, config, windows="all").__getitems__([0, 1, 2])
    batch = ClassificationCollator(config, mixup_alpha=1.0)(items)
    assert batch["labels"].dtype == torch.int64


@pytest.mark.parametrize("loss", [asymmetric_single_label_loss, F.cross_entropy])
def test_shares_of_labels_weigh_the_losses_of_labels(loss):
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    first, second = torch.tensor([0, 1, 2, 3, 0]), torch.tensor([1, 1, 0, 2, 3])
    mixed = 0.3 * F.one_hot(first, 4).float() + 0.7 * F.one_hot(second, 4).float()
    torch.testing.assert_close(loss(logits, mixed), 0.3 * loss(logits, first) + 0.7 * loss(logits, second))
