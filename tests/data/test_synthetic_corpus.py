"""The synthetic corpus on disk: complete or resumable, the same for any number of workers, loadable."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Video

from vqmae_hf.data.corpora import load_corpus
from vqmae_hf.data.media import read_media
from vqmae_hf.data.synthetic import (
    ClipKey,
    corpus,
    describe_clip,
    load_synthetic_corpus,
    load_synthetic_factors,
    read_synthetic_parameters,
    write_synthetic_corpus,
)

SMALL = {"num_speakers": 2, "emotions": ("happy", "sad"), "clips_per_emotion": 2, "clip_seconds": 1.0}
SMALL |= {"image_size": 64, "show_progress": False}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_synthetic_corpus(tmp_path_factory.mktemp("synthetic") / "corpus", num_workers=2, **SMALL)


@pytest.fixture
def copy(root, tmp_path):
    return Path(shutil.copytree(root, tmp_path / "copy"))


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_corpus_is_balanced_and_labelled(root):
    dataset = load_synthetic_corpus(root)
    assert dataset.column_names[:6] == ["clip_id", "video", "speaker", "emotion", "intensity", "num_frames"]
    assert dataset.features["video"] == Video(decode=False)
    assert dataset.features["emotion"] == ClassLabel(names=["happy", "sad"])
    assert set(Counter(zip(dataset["speaker"], dataset["emotion"], strict=True)).values()) == {2}
    assert len(set(dataset["clip_id"])) == len(dataset) == 8
    assert set(dataset["intensity"]) == {"normal", "strong"}
    assert all(Path(video["path"]).is_file() and video["bytes"] is None for video in dataset["video"])


def test_tables_hold_the_factors_of_the_clips(root):
    dataset, tracks = load_synthetic_corpus(root), load_synthetic_factors(root)
    assert dataset["clip_id"] == tracks["clip_id"]
    row = dataset["clip_id"].index(ClipKey(1, "sad", 1).clip_id)
    truth = describe_clip(ClipKey(1, "sad", 1), num_frames=25)
    assert dataset[row]["mouth_corner"] == truth.clip.mouth_corner
    assert dataset[row]["base_pitch_hz"] == truth.speaker.base_pitch_hz
    for name, track in truth.frames.as_dict().items():
        assert np.array_equal(tracks[row][name], track), name


def test_a_corpus_of_steady_voices_is_named_as_before_and_a_shaken_one_is_another(root, tmp_path):
    assert not {"jitter_scale", "jitter_tilt_db"} & set(json.loads((root / "corpus.json").read_text())["parameters"])
    with pytest.raises(ValueError, match=r"jitter_scale is None there, 2\.0 was asked for"):
        write_synthetic_corpus(root, **SMALL, jitter_scale=2.0)
    shaken = {**SMALL, "num_speakers": 1, "clips_per_emotion": 1, "jitter_scale": 2.0, "jitter_tilt_db": 3.0}
    other = write_synthetic_corpus(tmp_path / "shaken", **shaken)
    assert read_synthetic_parameters(other).jitter_scale == 2.0
    levels = {c: load_synthetic_corpus(c)[0]["jitter_semitones"] for c in (root, other)}
    assert levels[other] == pytest.approx(2 * levels[root], abs=1e-4)
    with pytest.raises(
        ValueError, match=r"jitter_scale is -1\.0; choose a number from 0 to 10.*jitter_tilt_db is nan"
    ):
        write_synthetic_corpus(tmp_path / "none", jitter_scale=-1.0, jitter_tilt_db=float("nan"))


def test_files_are_clips_in_step_with_their_factors(root):
    dataset, tracks = load_synthetic_corpus(root), load_synthetic_factors(root)
    for row in range(len(dataset)):
        media = read_media(dataset[row]["video"])
        assert media.frames.shape == (dataset[row]["num_frames"], 64, 64, 3)
        assert media.waveform.shape == (25 * 640,)
        energy = (media.waveform.reshape(25, 640) ** 2).mean(1) ** 0.25
        assert np.corrcoef(energy, tracks[row]["mouth_opening"])[0, 1] > 0.7


def test_any_number_of_workers_gives_the_same_files(root, tmp_path):
    assert contents(write_synthetic_corpus(tmp_path / "one", num_workers=1, **SMALL)) == contents(root)


def test_a_complete_corpus_is_kept(copy, monkeypatch):
    monkeypatch.setattr(corpus, "make_clip", lambda *args, **kwargs: pytest.fail("a clip was made again"))
    assert write_synthetic_corpus(copy, **SMALL) == copy


def test_missing_clips_are_made_again_and_the_others_kept(root, copy):
    lost, kept = sorted(copy.rglob("*.mp4"))[:2]
    lost.unlink()
    time = kept.stat().st_mtime_ns
    write_synthetic_corpus(copy, **SMALL)
    assert kept.stat().st_mtime_ns == time
    assert contents(copy) == contents(root)


def test_interrupted_corpus_is_refused_by_the_loaders_and_then_finished(root, tmp_path, monkeypatch):
    make, made = corpus.make_clip, []

    def make_three(key, **options):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(key)
        return make(key, **options)

    monkeypatch.setattr(corpus, "make_clip", make_three)
    unfinished = tmp_path / "unfinished"
    with pytest.raises(KeyboardInterrupt):
        write_synthetic_corpus(unfinished, num_workers=1, **SMALL)
    assert len(list(unfinished.rglob("*.mp4"))) == 3
    assert not list(unfinished.rglob("*.part"))
    for load in (load_synthetic_corpus, load_synthetic_factors):
        with pytest.raises(ValueError, match="is not complete; make it with write_synthetic_corpus"):
            load(unfinished)
    made.clear()
    monkeypatch.setattr(corpus, "make_clip", lambda key, **options: made.append(key) or make(key, **options))
    write_synthetic_corpus(unfinished, **SMALL)
    assert len(made) == 5
    assert contents(unfinished) == contents(root)


def test_other_parameters_are_refused_with_both_values(copy):
    before = contents(copy)
    with pytest.raises(ValueError, match="seed is 0 there, 1 was asked for"):
        write_synthetic_corpus(copy, **SMALL, seed=1)
    assert contents(copy) == before


def test_a_corpus_of_another_generator_is_refused(copy):
    manifest = json.loads((copy / "corpus.json").read_text())
    (copy / "corpus.json").write_text(json.dumps(manifest | {"version": 0}))
    with pytest.raises(ValueError, match="version is 0 there"):
        write_synthetic_corpus(copy, **SMALL)
    with pytest.raises(ValueError, match="was made by another version"):
        load_synthetic_corpus(copy)


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="is no synthetic corpus"):
        write_synthetic_corpus(tmp_path, **SMALL)
    (tmp_path / "corpus.json").write_text("{}")
    with pytest.raises(ValueError, match="does not describe a synthetic corpus"):
        write_synthetic_corpus(tmp_path, **SMALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.json", "thesis.txt"]


def test_bad_arguments_leave_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="num_speakers is 0"):
        write_synthetic_corpus(tmp_path / "new", num_speakers=0)
    with pytest.raises(ValueError, match="num_workers is 0"):
        write_synthetic_corpus(tmp_path / "new", num_workers=0, **SMALL)
    assert not (tmp_path / "new").exists()


def test_a_missing_corpus_is_named(tmp_path):
    with pytest.raises(ValueError, match="write_synthetic_corpus"):
        load_synthetic_corpus(tmp_path / "nowhere")


def test_corpus_is_found_by_name_and_readable_as_a_folder_of_clips(root):
    named = load_corpus("synthetic", root)
    folder = load_corpus("videofolder", root / "clips")
    assert named["clip_id"] == [clip_id.split("/")[-1] for clip_id in folder["clip_id"]]
    assert named["emotion"] == folder["emotion"]
    assert named["speaker"] == folder["speaker"]
