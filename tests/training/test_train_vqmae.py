import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.training.conftest import SMALL_VQMAE
from tests.training.test_train_tokenizers import interrupt_after
from transformers import AutoModelForPreTraining, AutoProcessor

from vqmae_hf import (
    AudioVQVAEModel,
    VisualVQVAEModel,
    VQMAEForAudioVisualClassification,
    VQMAEForPreTraining,
    VQMAEProcessor,
)
from vqmae_hf.data.prepared_clips import clip_arrays
from vqmae_hf.data.shards import StaleStoreError
from vqmae_hf.data.token_store import tokenizer_fingerprint
from vqmae_hf.evaluation.metrics import classification_metrics
from vqmae_hf.modeling.losses import asymmetric_single_label_loss
from vqmae_hf.modeling.vqmae_embeddings import standardize_codebook
from vqmae_hf.training import finetune, pretrain
from vqmae_hf.training.arguments import FinetuneArguments, PretrainArguments
from vqmae_hf.training.assembly import build_vqmae, load_tokenizers
from vqmae_hf.training.finetune import ClassWeightedLoss
from vqmae_hf.training.recipes import build_arguments


def pretrain_arguments(world, folder, **values):
    values = {**world.tokens, "output_dir": str(folder), "disable_tqdm": True, **values}
    return build_arguments(PretrainArguments, recipe="debug", **values)


def finetune_arguments(world, folder, **values):
    values = {
        **world.tokens,
        "output_dir": str(folder),
        "model_overrides": SMALL_VQMAE,
        "disable_tqdm": True,
        **values,
    }
    return build_arguments(FinetuneArguments, recipe="debug", **values)


@pytest.fixture(scope="module")
def pretrained(world, tmp_path_factory):
    return pretrain.run(pretrain_arguments(world, tmp_path_factory.mktemp("pretrained")))


@pytest.fixture(scope="module")
def finetuned(world, pretrained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetuned")
    values = {"pretrained": str(pretrained.output_dir), "modality_dropout": 0.3, "time_masking": 0.2}
    return finetune.run(finetune_arguments(world, folder, class_weights="balanced", **values))


def test_every_term_of_the_loss_is_logged(pretrained):
    training = [entry for entry in pretrained.log_history if "loss" in entry]
    for entry in training:
        terms = [entry[f"{name}_loss"] for name in ("visual", "audio", "contrastive")]
        assert entry["loss"] == pytest.approx(sum(terms), rel=1e-4)
    assert {"loss", "visual_loss", "audio_loss", "contrastive_loss"} <= set(pretrained.metrics["validation"])
    evaluations = [entry for entry in pretrained.log_history if "eval_loss" in entry]
    assert [entry["step"] for entry in evaluations] == [2, 4, 4]
    assert evaluations[1]["eval_loss"] == evaluations[2]["eval_loss"]  # the masks of validation are fixed


def test_masked_and_completed_clips_are_drawn(pretrained):
    names = sorted(path.name for path in (pretrained.output_dir / "pictures").iterdir())
    assert names == [f"{m}_masked-step000000{s}.png" for m in ("audio", "visual") for s in (2, 4)]


def test_the_checkpoint_holds_its_tokenizers_and_its_processor(pretrained, world):
    loaded = AutoModelForPreTraining.from_pretrained(pretrained.output_dir)
    assert type(loaded) is VQMAEForPreTraining
    for name, tensor in pretrained.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    for name, model_class in (("audio", AudioVQVAEModel), ("visual", VisualVQVAEModel)):
        alone = model_class.from_pretrained(world.tokens[f"{name}_tokenizer"])
        assert tokenizer_fingerprint(getattr(loaded.model, f"{name}_tokenizer")) == tokenizer_fingerprint(alone)
    for folder in ("", "checkpoint-4"):
        processor = AutoProcessor.from_pretrained(pretrained.output_dir / folder)
        assert isinstance(processor, VQMAEProcessor)
        assert processor.video_processor.size["height"] == 64


@pytest.mark.parametrize("accumulation", [1, 2])
def test_an_interrupted_pretraining_ends_as_an_uninterrupted_one(accumulation, world, tmp_path, monkeypatch):
    # Two epochs of 6 steps (12 clips of 4 speakers): the checkpoint at step 8 lies within the second.
    values = {"max_steps": 10, "save_steps": 4, "eval_steps": 4, "gradient_accumulation_steps": accumulation}
    straight = pretrain.run(pretrain_arguments(world, tmp_path / "straight", **values))
    interrupt_after(monkeypatch, 9 * accumulation)
    with pytest.raises(KeyboardInterrupt):
        pretrain.run(pretrain_arguments(world, tmp_path / "killed", **values))
    monkeypatch.undo()
    resumed = pretrain.run(pretrain_arguments(world, tmp_path / "killed", **values))
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("straight", "killed")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    last = [[entry for entry in run.log_history if "loss" in entry][-1] for run in (straight, resumed)]
    assert last[0] == last[1]


def test_each_epoch_draws_other_windows_and_masks(world, tmp_path, monkeypatch):
    visits = []
    forward = VQMAEForPreTraining.forward

    def record(self, *args, **kwargs):
        if self.training:
            visits.append((kwargs["visual_codes"].sum().item(), kwargs["generator"].initial_seed()))
        return forward(self, *args, **kwargs)

    record.__signature__ = __import__("inspect").signature(forward)
    monkeypatch.setattr(VQMAEForPreTraining, "forward", record)
    pretrain.run(pretrain_arguments(world, tmp_path, max_steps=12, eval_strategy="no", save_strategy="no"))
    assert len({seed for _, seed in visits}) == 12


def test_codes_of_other_tokenizers_are_refused(world, tmp_path):
    other = AudioVQVAEModel.from_pretrained(world.tokens["audio_tokenizer"])
    with torch.no_grad():
        other.quantizer.codebook += 1
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(StaleStoreError, match="another audio tokenizer"):
        pretrain.run(pretrain_arguments(world, tmp_path / "run", audio_tokenizer=str(tmp_path / "other")))


def test_a_modality_without_tokenizer_is_named(world, tmp_path):
    with pytest.raises(ValueError, match="there is no audio tokenizer"):
        pretrain.run(pretrain_arguments(world, tmp_path, audio_tokenizer=None))


def test_visual_pretraining_needs_the_visual_tokenizer_alone(world, tmp_path):
    overrides = {**SMALL_VQMAE, "modalities": ["visual"]}
    arguments = pretrain_arguments(world, tmp_path, audio_tokenizer=None, model_overrides=overrides, max_steps=2)
    result = pretrain.run(arguments)
    assert "visual_loss" in result.metrics["validation"]
    assert "audio_loss" not in result.metrics["validation"]


@pytest.mark.parametrize("code_embedding", ["learned", "tokenizer"])
def test_heads_that_start_at_the_codebooks_name_the_nearest_code(world, code_embedding):
    tokenizers = load_tokenizers(world.tokens["audio_tokenizer"], world.tokens["visual_tokenizer"])
    model = build_vqmae(VQMAEForPreTraining, "tiny", tokenizers, code_embedding=code_embedding, **SMALL_VQMAE)
    pretrain.start_heads_from_codebooks(model)
    for modality in ("audio", "visual"):
        vectors = standardize_codebook(tokenizers[modality].get_codebook())
        said = vectors + 0.01 * torch.randn(vectors.shape, generator=torch.Generator().manual_seed(0))
        nearest = torch.cdist(said, vectors).argmin(dim=1)
        assert torch.equal(model.decoder.code_head(modality)(said).argmax(dim=1), nearest)


def test_the_start_of_the_heads_is_an_argument(world, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(pretrain, "start_heads_from_codebooks", started.append)
    pretrain.run(pretrain_arguments(world, tmp_path / "random", max_steps=1))
    assert not started
    pretrain.run(pretrain_arguments(world, tmp_path / "codebook", max_steps=1, code_head_start="codebook"))
    assert len(started) == 1


def test_the_report_is_of_speakers_that_were_never_seen(finetuned, world):
    speakers = finetuned.results["speakers"]
    parts = [set(speakers[name]) for name in ("train", "validation", "test")]
    assert set.union(*parts) == set(world.clips["speaker"])
    assert sum(map(len, parts)) == len(set(world.clips["speaker"]))
    for report in finetuned.results["test"].values():
        assert {row["speaker"] for row in report["predictions"]} == parts[2]
    assert json.loads((finetuned.output_dir / "results.json").read_text()) == finetuned.results


def test_metrics_follow_from_the_predictions(finetuned):
    classes = finetuned.results["classes"]
    assert set(finetuned.results["test"]) == {"audio+visual", "audio", "visual"}
    for report in finetuned.results["test"].values():
        labels = np.array([classes.index(row["emotion"]) for row in report["predictions"]])
        guesses = np.array([int(np.argmax(row["probabilities"])) for row in report["predictions"]])
        assert [classes[guess] for guess in guesses] == [row["predicted"] for row in report["predictions"]]
        assert report["metrics"] == classification_metrics(labels, guesses)
        assert np.asarray(report["confusion_matrix"]).sum() == len(labels)
        assert np.asarray(report["confusion_matrix"]).diagonal().sum() == (labels == guesses).sum()
    scores = [entry["eval_macro_f1"] for entry in finetuned.log_history if "eval_macro_f1" in entry]
    assert finetuned.results["best_validation"] == max(scores[:2])


def test_predictions_are_those_of_the_saved_model_from_raw_clips(finetuned, world):
    model = VQMAEForAudioVisualClassification.from_pretrained(finetuned.output_dir).eval()
    processor = AutoProcessor.from_pretrained(finetuned.output_dir)
    assert model.config.id2label == {0: "angry", 1: "happy", 2: "sad"}
    rows = {row["clip_id"]: row for row in finetuned.results["test"]["audio+visual"]["predictions"]}
    for i, clip_id in enumerate(world.clips["clip_id"]):
        if clip_id in rows:
            arrays = clip_arrays(world.clips, i)
            windows = processor.cut_windows(processor(audio=arrays.waveform, videos=[arrays.frames]))
            index = windows.pop("window_clip_index")
            with torch.no_grad():
                probabilities = processor.pool_windows(model(**windows).logits.softmax(-1), index)[0]
            np.testing.assert_allclose(rows[clip_id]["probabilities"], probabilities.numpy(), atol=1e-5)


def test_training_starts_from_the_pretrained_encoder(finetuned, pretrained, world, tmp_path, monkeypatch):
    arguments = finetune_arguments(world, tmp_path, pretrained=str(pretrained.output_dir), classifier_pooling="mean")
    model = finetune.build_classifier(arguments, ["a", "b", "c"])
    assert model.config.classifier_pooling == "mean"
    expected = pretrained.model.model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.model.state_dict().items())
    scratch = finetune.build_classifier(replace(arguments, pretrained=None), ["a", "b", "c"])
    name = "encoder.layers.0.blocks.joint.mlp.fc1.weight"
    assert not torch.equal(scratch.model.state_dict()[name], expected[name])


def test_a_finished_finetuning_called_again_reports_the_same(finetuned, world, pretrained):
    values = {"pretrained": str(pretrained.output_dir), "modality_dropout": 0.3, "time_masking": 0.2}
    arguments = finetune_arguments(world, finetuned.output_dir, class_weights="balanced", **values)
    assert finetune.run(arguments).results == finetuned.results


def test_one_modality_is_enough(world, tmp_path):
    result = finetune.run(finetune_arguments(world, tmp_path, modalities=["audio"], max_steps=2))
    assert set(result.results["test"]) == {"audio"}


def test_class_weights_of_one_change_nothing_and_others_weight_clips():
    logits, labels = torch.randn(6, 4), torch.tensor([0, 1, 1, 3, 2, 0])
    ones = ClassWeightedLoss("asymmetric", torch.ones(4))({"logits": logits}, {"labels": labels})
    torch.testing.assert_close(ones, asymmetric_single_label_loss(logits, labels))
    weights = torch.tensor([0.0, 2.0, 0.0, 1.0])
    weighted = ClassWeightedLoss("asymmetric", weights)({"logits": logits}, {"labels": labels})
    each = [asymmetric_single_label_loss(logits[i : i + 1], labels[i : i + 1]) for i in (1, 2, 3)]
    torch.testing.assert_close(weighted, (2 * each[0] + 2 * each[1] + each[2]) / 5)


def test_tubes_may_be_embedded_by_the_tokenizers_codebooks(world, tmp_path):
    result = pretrain.run(
        pretrain_arguments(world, tmp_path, model_overrides={**SMALL_VQMAE, "code_embedding": "tokenizer"})
    )
    assert result.model.config.code_embedding == "tokenizer"
    assert not [name for name, _ in result.model.named_parameters() if "embeddings.codes" in name]
