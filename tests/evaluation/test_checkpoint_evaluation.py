"""One call from a checkpoint and clips to metrics: whatever stands for either, and whatever is wrong with it."""

import json

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from tests.fake_clips import EMOTIONS, fake_corpus, fake_load_clip
from tests.modeling.small_models import build, random_codes, vqmae_config

from vqmae_hf import VQMAEConfig, VQMAEForAudioVisualClassification, VQMAEForPreTraining, VQMAEProcessor, write_clip
from vqmae_hf.evaluation.checkpoint_evaluation import LabelMismatchError, code_windows, evaluate_checkpoint
from vqmae_hf.modeling.configuration_audio_vqvae import AudioVQVAEConfig
from vqmae_hf.modeling.configuration_visual_vqvae import VisualVQVAEConfig
from vqmae_hf.modeling.pipeline_audiovisual_classification import AudioVisualClassificationPipeline


def labelled(names) -> dict:
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A classifier with tokenizers and its processor, on disk; its labels are in another order than the clips'."""
    config = VQMAEConfig.from_preset(
        "tiny",
        num_hidden_layers=1,
        audio_tokenizer_config=AudioVQVAEConfig.from_preset("tiny"),
        visual_tokenizer_config=VisualVQVAEConfig.from_preset("tiny"),
        **labelled(["Sad", "neutral", "Happy", "Angry"]),
    )
    folder = tmp_path_factory.mktemp("checkpoint")
    build(VQMAEForAudioVisualClassification, config).save_pretrained(folder)
    VQMAEProcessor.from_model_config(config).save_pretrained(folder)
    return folder


@pytest.fixture
def arrays(monkeypatch):
    """Files are not opened: names become clips."""
    monkeypatch.setattr(AudioVisualClassificationPipeline, "default_clip_loader", staticmethod(fake_load_clip))


@pytest.fixture
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def code_rows(config, num_clips=9) -> Dataset:
    """Rows as of a token store, one window and a half long."""
    features = {
        "clip_id": Value("string"),
        "speaker": Value("string"),
        "emotion": ClassLabel(names=["a", "b", "c"]),
        "audio_codes": Sequence(Value("uint8")),
        "visual_codes": Sequence(Value("uint8")),
    }
    codes = {name: values.flatten(1).tolist() for name, values in random_codes(config, num_clips).items()}
    codes = {name: [row + row[: len(row) // 2] for row in rows] for name, rows in codes.items()}
    rows = {"clip_id": [f"c{i}" for i in range(num_clips)], "speaker": ["s"] * num_clips}
    return Dataset.from_dict({**rows, "emotion": [i % 3 for i in range(num_clips)], **codes}, Features(features))


def test_a_folder_of_clips(checkpoint, tmp_path):
    draw = np.random.default_rng(0)
    for name in ("happy/one.mp4", "happy/two.mp4", "sad/three.mp4"):
        path = tmp_path / "clips" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = draw.integers(0, 255, (12, 64, 64, 3), dtype=np.uint8)
        write_clip(path, frames, 0.2 * draw.standard_normal(7680).astype(np.float32))
    (tmp_path / "clips/sad/broken.mp4").write_bytes(b"no film")
    evaluation = evaluate_checkpoint(
        checkpoint, tmp_path / "clips", output_dir=tmp_path / "out", on_missing_face="center", progress=False
    )
    results = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert results == json.loads(json.dumps(evaluation.results))
    assert (results["num_clips"], results["classes"]) == (3, ["Sad", "neutral", "Happy", "Angry"])
    assert [clip["clip_id"].endswith("broken") for clip in results["failed"]] == [True]
    assert "broken.mp4" in results["failed"][0]["reason"]
    assert {name: row["num_clips"] for name, row in results["per_class"].items()} == {"Sad": 1, "Happy": 2}
    assert results["majority_accuracy"] == pytest.approx(2 / 3)
    assert (tmp_path / "out/evaluation.png").stat().st_size > 5000


@pytest.mark.usefixtures("arrays")
def test_a_dataset_says_what_the_pipeline_says(checkpoint):
    corpus = fake_corpus(num_speakers=2, broken=(4,)).rename_column("emotion", "label")
    results = evaluate_checkpoint(checkpoint, corpus, progress=False).results
    assert [clip["clip_id"] for clip in results["failed"]] == ["s01_happy_0_broken"]
    classify = AudioVisualClassificationPipeline(
        model=VQMAEForAudioVisualClassification.from_pretrained(checkpoint),
        processor=VQMAEProcessor.from_pretrained(checkpoint),
    )
    by_id = {row["clip_id"]: row for row in results["predictions"]}
    for row in corpus:
        if row["clip_id"] in by_id:
            best = classify(row["video"])[0]
            assert by_id[row["clip_id"]]["predicted"] == best["label"]
            assert max(by_id[row["clip_id"]]["probabilities"]) == pytest.approx(best["score"], abs=1e-5)
            assert by_id[row["clip_id"]]["emotion"].casefold() == EMOTIONS[row["label"]]
    right = [row["predicted"] == row["emotion"] for row in results["predictions"]]
    assert results["metrics"]["accuracy"] == np.mean(right)


def test_codes_of_a_token_store_and_their_windows():
    config = vqmae_config(**labelled(["c", "b", "a"]))
    model = build(VQMAEForAudioVisualClassification, config)
    rows = code_rows(config)
    results = evaluate_checkpoint(model, rows, progress=False).results
    windows = code_windows(rows[0], config)
    assert windows["visual_codes"].shape == (2, 4, 4, 4)
    assert windows["audio_codes"].shape == (2, 8, 8)
    with torch.no_grad():
        expected = model(**windows).logits.softmax(-1).mean(0)
    np.testing.assert_allclose(results["predictions"][0]["probabilities"], expected, atol=1e-5)
    assert results["predictions"][0]["emotion"] == "a"
    assert np.sum(results["confusion_matrix"]) == 9
    assert [sum(row) for row in results["confusion_matrix"]] == [3, 3, 3]


def test_short_codes_are_padded_and_a_missing_modality_is_left_out():
    config = vqmae_config()
    clip = {"audio_codes": list(range(8)) * 3, "visual_codes": []}
    windows = code_windows(clip, config)
    assert set(windows) == {"audio_codes", "audio_attention_mask"}
    assert windows["audio_attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0, 0, 0]]
    with pytest.raises(ValueError, match="no codes of audio or visual"):
        code_windows({"audio_codes": [], "visual_codes": []}, config)


def test_labels_that_the_model_does_not_have():
    config = vqmae_config(**labelled(["alpha", "b", "c"]))
    model, rows = build(VQMAEForAudioVisualClassification, config), code_rows(config)
    with pytest.raises(LabelMismatchError, match=r"no label 'a' \(3 clips\).*label_map=\{'a': None\}"):
        evaluate_checkpoint(model, rows, progress=False)
    mapped = evaluate_checkpoint(model, rows, label_map={"A": "Alpha"}, progress=False).results
    assert mapped["per_class"].keys() == {"alpha", "b", "c"}
    without = evaluate_checkpoint(model, rows, label_map={"a": None}, progress=False).results
    assert (without["num_clips"], without["left_out"]) == (6, {"a": 3})
    with pytest.raises(LabelMismatchError, match=r"\{'a': 'alpha'\}"):
        evaluate_checkpoint(model, rows, label_map={"a": "alfa"}, progress=False)
    with pytest.raises(LabelMismatchError, match="set id2label"):
        evaluate_checkpoint(build(VQMAEForAudioVisualClassification, vqmae_config()), rows, progress=False)
    with pytest.raises(ValueError, match="all 9 clips are left out"):
        evaluate_checkpoint(model, rows, label_map=dict.fromkeys("abc"), progress=False)


def test_what_cannot_be_evaluated(checkpoint, tmp_path):
    config = vqmae_config(**labelled("abc"))
    model, rows = build(VQMAEForAudioVisualClassification, config), code_rows(config)
    build(VQMAEForPreTraining, config).save_pretrained(tmp_path / "pretrained")
    with pytest.raises(ValueError, match=r"is VQMAEForPreTraining; .* Fine-tune it first"):
        evaluate_checkpoint(tmp_path / "pretrained", rows)
    with pytest.raises(ValueError, match="have no labels"):
        evaluate_checkpoint(model, rows.remove_columns("emotion"))
    model.config.problem_type = "multi_label_classification"
    with pytest.raises(ValueError, match="problem_type='multi_label_classification'"):
        evaluate_checkpoint(model, rows)


@pytest.mark.usefixtures("arrays")
def test_when_every_clip_fails(checkpoint):
    with pytest.raises(ValueError, match=r"none of 3 clips could be evaluated.*found no face"):
        evaluate_checkpoint(checkpoint, fake_corpus(num_speakers=1, broken=(0, 1, 2)), progress=False)
