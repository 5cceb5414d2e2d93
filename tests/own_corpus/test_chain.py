"""From clips to a classifier: nobody who is tested was met before, and the numbers are of the predictions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForVideoClassification, pipeline

from tests.fake_clips import EMOTIONS, fake_corpus, fake_load_clip
from vqmae_hf import VQMAEForAudioVisualClassification
from vqmae_hf.data import prepared_clips
from vqmae_hf.own_corpus import OwnClips, chain, train_on_own_clips
from vqmae_hf.own_corpus.report import write_report
from vqmae_hf.training.finetune import load_pretrained

SPEAKERS = 4


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    """Clips without media, recipes of four steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepared_clips, "load_clip", fake_load_clip)
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        patch.setattr(chain, "RECIPE", "debug")
        yield


def own_clips(**options) -> OwnClips:
    return OwnClips(Path("clips"), fake_corpus(SPEAKERS, **options), ("audio", "visual"), "speakers", ["a note <b>"])


@pytest.fixture(scope="module")
def from_scratch(tmp_path_factory):
    return train_on_own_clips(own_clips(broken=(0,)), tmp_path_factory.mktemp("own") / "model")


@pytest.fixture(scope="module")
def from_checkpoint(tmp_path_factory, from_scratch):
    folder = tmp_path_factory.mktemp("again") / "model"
    return train_on_own_clips(own_clips(), folder, pretrained=str(from_scratch.output_dir))


def test_the_numbers_are_of_the_predictions(from_scratch):
    results = json.loads((from_scratch.output_dir / "results.json").read_text(encoding="utf-8"))
    assert results["num_clips"] == SPEAKERS * len(EMOTIONS) - 1
    assert (results["num_failures"], len(from_scratch.failures)) == (1, 1)
    for part in results["test"].values():
        right = [row["emotion"] == row["predicted"] for row in part["predictions"]]
        assert part["metrics"]["accuracy"] == pytest.approx(np.mean(right))
        assert np.sum(part["confusion_matrix"]) == len(right)
        assert np.trace(part["confusion_matrix"]) == sum(right)


def test_one_run_keeps_its_speakers_apart_in_every_stage(from_scratch):
    speakers = from_scratch.results["speakers"]
    assert sorted(name for part in speakers.values() for name in part) == [f"s{i:02d}" for i in range(SPEAKERS)]
    stages = [
        from_scratch.output_dir / "work/split" / name for name in ("audio_tokenizer", "visual_tokenizer", "emotion")
    ]
    deals = [json.loads((stage / "arguments.json").read_text(encoding="utf-8")) for stage in stages]
    shared = ("validation_share", "test_share", "split_seed", "num_folds", "fold")
    assert len({tuple(deal[name] for name in shared) for deal in deals}) == 1


def test_the_folder_is_a_model(from_scratch):
    classify = pipeline("audiovisual-classification", model=str(from_scratch.output_dir), device="cpu")
    answer = classify(fake_load_clip({"path": "s07_happy_0.mp4"}), top_k=None)
    assert {item["label"] for item in answer} == set(EMOTIONS)


def test_folds_test_every_speaker_once(from_checkpoint):
    results = from_checkpoint.results
    assert results["num_runs"] == SPEAKERS
    predictions = results["test"]["audio+visual"]["predictions"]
    clips = [row["clip_id"] for row in predictions]
    assert len(clips) == len(set(clips)) == SPEAKERS * len(EMOTIONS)
    best = max(range(SPEAKERS), key=lambda i: results["runs"][i]["best_validation"])
    kept = AutoModelForVideoClassification.from_pretrained(from_checkpoint.output_dir)
    chosen = AutoModelForVideoClassification.from_pretrained(from_checkpoint.output_dir / f"work/fold-{best}/emotion")
    assert all(torch.equal(a, b) for a, b in zip(kept.parameters(), chosen.parameters(), strict=True))


def test_codes_of_a_checkpoint_are_made_once(from_checkpoint):
    assert len(list(from_checkpoint.output_dir.rglob("token_store.json"))) == 1


def test_a_finished_run_is_not_run_again(from_scratch):
    folder = from_scratch.output_dir
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("checkpoint-*/model.safetensors")}
    again = train_on_own_clips(own_clips(broken=(0,)), folder)
    assert again.results == from_scratch.results
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("checkpoint-*/model.safetensors")}


def test_a_head_of_other_classes_is_replaced(from_scratch):
    folder = str(from_scratch.output_dir)
    before = VQMAEForAudioVisualClassification.from_pretrained(folder)
    same = load_pretrained(folder, id2label=before.config.id2label, label2id=before.config.label2id)
    assert torch.equal(same.classifier.weight, before.classifier.weight)
    for names in (["calm", "wild"], ["calm", "wild", "odd"]):
        other = load_pretrained(folder, id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)})
        assert other.classifier.out_features == len(names)
        assert not other.classifier.weight[0].equal(before.classifier.weight[0])
        encoders = zip(other.model.parameters(), before.model.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in encoders)


def test_more_folds_than_speakers_are_refused_before_anything_begins(tmp_path):
    with pytest.raises(ValueError, match="choose 3 to 4"):
        train_on_own_clips(own_clips(), tmp_path / "model", num_folds=9)
    assert not (tmp_path / "model").exists()


def test_the_report_shows_what_matters(from_scratch):
    page = write_report(from_scratch).read_text(encoding="utf-8")
    assert "a note &lt;b&gt;" in page
    assert from_scratch.failures[0].clip_id in page
    accuracy = from_scratch.results["test"]["audio+visual"]["metrics"]["accuracy"]
    assert f"{100 * accuracy:.1f} %" in page
    assert "data:image/png;base64," in page
    assert "http" not in page
