"""`predict` against the pipeline it stands on."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from transformers import pipeline

import vqmae_hf
from vqmae_hf.data.clips import load_clip
from vqmae_hf.data.media import write_clip
from vqmae_hf.inference.emotion_over_time import score_windows

RATE = 25


@pytest.fixture
def long_clip(place) -> Path:
    """Five seconds: two windows of 50 frames and one that is moved back."""
    frames = np.concatenate([load_clip(f"my_clips/happy/s{i}_happy.mp4", face_size=64).frames for i in range(4)])
    frames = np.concatenate([frames, frames[:25]])
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, len(frames) * 640).astype(np.float32)
    return write_clip(place.root / "long.mp4", frames, sound)


def test_answers_are_the_pipelines(place):
    answers = json.loads(place.run("predict clip.mp4 my_clips/sad --model my_model --json").stdout)
    classify = pipeline("audiovisual-classification", model="my_model", device="cpu")
    assert len(answers["predictions"]) == 5
    for answer in answers["predictions"]:
        expected = {item["label"]: item["score"] for item in classify(answer["path"], top_k=None)}
        assert answer["scores"] == pytest.approx(expected, abs=1e-5)
        assert answer["label"] == max(expected, key=expected.get)


def test_windows_are_of_their_time_and_pool_to_the_answer(place, long_clip):
    (answer,) = json.loads(place.run(f"predict {long_clip} --model my_model --windows --json").stdout)["predictions"]
    spans = [(window["start_seconds"], window["end_seconds"]) for window in answer["windows"]]
    assert spans == [(0, 2), (2, 4), (3, 5)]
    for label, score in answer["scores"].items():
        assert np.mean([window["scores"][label] for window in answer["windows"]]) == pytest.approx(score, abs=1e-5)


def test_a_window_says_what_its_part_of_the_clip_says(place, long_clip):
    classify = pipeline("audiovisual-classification", model="my_model", device="cpu")
    clip = load_clip(long_clip, face_size=64)
    windows = score_windows(clip, classify, hop_seconds=0.52, batch_size=2)
    assert [window.start_seconds for window in windows] == pytest.approx([0, 0.52, 1.04, 1.56, 2.08, 2.6, 3.0])
    silent = vqmae_hf.load_clip(long_clip, face_size=64, modalities=("visual",))
    alone = score_windows(silent, classify, hop_seconds=0.52)[2]
    part = {"frames": silent.frames[26 : 26 + 50], "frames_per_second": RATE}
    expected = {item["label"]: item["score"] for item in classify(part, top_k=None)}
    assert alone.scores == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("hop", [0, -1, 2.5])
def test_windows_must_not_leave_gaps(place, hop):
    result = place.run(f"predict clip.mp4 --model my_model --hop-seconds {hop}")
    assert result.exit_code == 1
    assert f"hop_seconds={float(hop)}" in result.stderr


def test_bad_files_are_reported_and_the_others_go_on(place):
    Path("interviews/broken.mp4").write_bytes(b"no video")
    wall = np.full((25, 64, 64, 3), 90, np.uint8)
    write_clip(Path("interviews/wall.mp4"), wall, np.random.default_rng(0).uniform(-1, 1, 16000).astype(np.float32))
    result = place.run("predict interviews --model my_model --json")
    assert result.exit_code == 3
    answers = json.loads(result.stdout)
    assert [Path(item["path"]).stem for item in answers["predictions"]] == ["monday", "tuesday"]
    assert {Path(item["path"]).stem: item["error"] for item in answers["failures"]} == {
        "broken": "UnreadableMediaError",
        "wall": "MissingFaceError",
    }
    assert "2 of 4 clips could not be used" in result.stderr
    assert place.run("predict interviews/broken.mp4 --model my_model").exit_code == 1


def test_a_missing_modality_is_done_without_and_said(place):
    clip = load_clip("clip.mp4", face_size=64)
    write_clip(Path("silent.mp4"), clip.frames, None)
    write_clip(Path("voice.mp4"), None, clip.waveform)
    answers = json.loads(place.run("predict silent.mp4 voice.mp4 --model my_model --json").stdout)
    assert [item["used"] for item in answers["predictions"]] == [["visual"], ["audio"]]


def test_the_table_has_a_column_for_every_label(place):
    lines = place.run("predict interviews --model my_model --csv -").stdout
    rows = list(csv.DictReader(io.StringIO(lines)))
    assert [Path(row["path"]).stem for row in rows] == ["monday", "tuesday"]
    for row in rows:
        scores = {label: float(row[label]) for label in ("angry", "happy", "sad")}
        assert sum(scores.values()) == pytest.approx(1, abs=1e-4)
        assert row["emotion"] == max(scores, key=scores.get)


def test_people_see_clip_label_and_what_was_used(place):
    shown = place.run("predict clip.mp4 --model my_model").stdout
    assert "clip.mp4" in shown
    assert "audio+visual" in shown
    assert any(label in shown for label in ("angry", "happy", "sad"))


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("predict nothing.mp4 --model my_model", 1, "nothing.mp4 is no file"),
        ("predict tokens --model my_model", 1, "tokens holds no clip"),
        ("predict clip.mp4 --model my_clips", 1, "without config.json"),
        ("predict clip.mp4 --model runs/pre", 1, "VQMAEForPreTraining, which knows no emotions"),
        ("predict clip.mp4 --model no/such/folder", 1, "no folder, and no Hub id"),
        ("predict clip.mp4 --model my_model --device toaster", 1, "--device toaster"),
        ("predict clip.mp4 --model my_model --clip-option face=big", 2, "unknown face"),
        ("predict clip.mp4 --model my_model --json --csv -", 2, "one of --json and --csv"),
        ("predict", 2, "Missing argument"),
    ],
)
def test_what_is_wrong_is_said(place, line, code, message):
    result = place.run(line)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())


def test_the_quickstarts_model_is_the_default(place, monkeypatch):
    monkeypatch.delenv("VQMAE_HF_MODEL", raising=False)
    result = place.run("predict clip.mp4 --json")
    assert json.loads(result.stdout)["model"] == "quickstart/model"
    monkeypatch.setenv("VQMAE_HF_MODEL", "my_model")
    assert json.loads(place.run("predict clip.mp4 --json").stdout)["model"] == "my_model"
    monkeypatch.delenv("VQMAE_HF_MODEL")
    monkeypatch.chdir(place.root / "more")
    missing = place.run("predict one.mp4")
    assert missing.exit_code == 1
    assert "pass --model" in missing.stderr
