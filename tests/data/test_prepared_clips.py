import json

import numpy as np
import pytest
from datasets import Dataset
from tests.fake_clips import EMOTIONS, fake_corpus, fake_load_clip

from vqmae_hf.data import prepared_clips
from vqmae_hf.data.corpora import load_corpus
from vqmae_hf.data.media import write_clip
from vqmae_hf.data.prepared_clips import (
    NoClipPreparedError,
    clip_arrays,
    load_failures,
    load_prepared_clips,
    prepare_clips,
)
from vqmae_hf.data.shards import IncompleteStoreError, StaleStoreError


class CountingLoader:
    """`fake_load_clip` that counts, and that can be made to die as a killed process would."""

    def __init__(self, dies_at=None):
        self.calls = 0
        self.dies_at = dies_at

    def __call__(self, source, **options):
        if self.calls == self.dies_at:
            raise KeyboardInterrupt
        self.calls += 1
        return fake_load_clip(source, **options)


@pytest.fixture
def loader(monkeypatch):
    loader = CountingLoader()
    monkeypatch.setattr(prepared_clips, "load_clip", loader)
    return loader


def test_arrays_come_back_as_they_were_with_the_labels(tmp_path, loader):
    corpus = fake_corpus()
    clips = prepare_clips(corpus, tmp_path / "clips", clips_per_shard=4, face_size=32)
    assert clips["clip_id"][:] == corpus["clip_id"][:]
    assert clips.features["emotion"].names == list(EMOTIONS)
    for i in (0, 5, 17):
        expected = fake_load_clip(corpus[i]["video"], face_size=32)
        arrays = clip_arrays(clips, i)
        np.testing.assert_array_equal(arrays.frames, expected.frames)
        np.testing.assert_array_equal(arrays.waveform, expected.waveform)
        assert clips[i]["num_frames"] == len(expected.frames)
    selected = clips.select([7, 2]).with_format("arrow")
    np.testing.assert_array_equal(clip_arrays(selected, 1).frames, clip_arrays(clips, 2).frames)


def test_a_second_call_opens_nothing(tmp_path, loader):
    first = prepare_clips(fake_corpus(), tmp_path, face_size=32)
    assert loader.calls == len(first)
    again = prepare_clips(fake_corpus(), tmp_path, face_size=32)
    assert loader.calls == len(first)
    assert again["content_digest"][:] == first["content_digest"][:]


def test_another_corpus_or_other_options_are_refused(tmp_path, loader):
    prepare_clips(fake_corpus(), tmp_path, face_size=32)
    with pytest.raises(StaleStoreError, match=r"parameters\.face_size is 32 there and 48 now"):
        prepare_clips(fake_corpus(), tmp_path, face_size=48)
    with pytest.raises(StaleStoreError, match="num_rows is 18 there and 21 now"):
        prepare_clips(fake_corpus(num_speakers=7), tmp_path, face_size=32)
    (tmp_path / "prepared_clips.json").unlink()
    with pytest.raises(StaleStoreError, match="is not empty"):
        prepare_clips(fake_corpus(), tmp_path, face_size=32)


def test_a_killed_run_continues_where_it_stopped(tmp_path, monkeypatch):
    corpus = fake_corpus()
    monkeypatch.setattr(prepared_clips, "load_clip", CountingLoader(dies_at=10))
    with pytest.raises(KeyboardInterrupt):
        prepare_clips(corpus, tmp_path / "killed", clips_per_shard=4, face_size=32)
    with pytest.raises(IncompleteStoreError, match="Run the same command again"):
        load_prepared_clips(tmp_path / "killed")
    assert not list((tmp_path / "killed").glob("*.tmp"))
    loader = CountingLoader()
    monkeypatch.setattr(prepared_clips, "load_clip", loader)
    resumed = prepare_clips(corpus, tmp_path / "killed", clips_per_shard=4, face_size=32)
    assert loader.calls == len(corpus) - 8
    straight = prepare_clips(corpus, tmp_path / "straight", clips_per_shard=4, face_size=32)
    assert resumed.to_dict() == straight.to_dict()


def test_bad_files_are_left_out_with_their_reason(tmp_path, loader):
    corpus = fake_corpus(broken=(0, 1, 2, 3, 9))
    clips = prepare_clips(corpus, tmp_path, clips_per_shard=4, face_size=32)
    failures = load_failures(tmp_path)
    assert [failure.clip_id for failure in failures] == [corpus[i]["clip_id"] for i in (0, 1, 2, 3, 9)]
    assert {failure.error for failure in failures} == {"MissingFaceError"}
    assert "on_missing_face='center'" in failures[0].reason
    assert sorted(clips["clip_id"]) == sorted(set(corpus["clip_id"]) - {failure.clip_id for failure in failures})
    assert json.loads((tmp_path / "prepared_clips.json").read_text())["num_failures"] == 5


def test_a_corpus_without_any_good_file_says_why_and_can_be_tried_again(tmp_path, loader):
    with pytest.raises(NoClipPreparedError, match=r"none of the 18 clips.*s00_angry_0_broken: found no face"):
        prepare_clips(fake_corpus(broken=range(18)), tmp_path / "clips", face_size=32)
    assert len(prepare_clips(fake_corpus(), tmp_path / "clips", face_size=32)) == 18


@pytest.mark.slow
def test_media_are_decoded_by_processes_of_their_own(tmp_path):
    generator = np.random.default_rng(0)
    for name in ("happy/a", "happy/b", "sad/c", "sad/d"):
        path = tmp_path / "corpus" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = generator.integers(0, 255, (25, 64, 64, 3), dtype=np.uint8)
        write_clip(path, frames, 0.2 * generator.standard_normal(16000).astype(np.float32))
    (tmp_path / "corpus/sad/e.mp4").write_bytes(b"no film")
    corpus = load_corpus("videofolder", tmp_path / "corpus")
    clips = prepare_clips(corpus, tmp_path / "clips", num_processes=2, face_size=32, on_missing_face="center")
    assert clips["clip_id"][:] == ["happy/a", "happy/b", "sad/c", "sad/d"]
    arrays = clip_arrays(clips, 3)
    assert arrays.frames.shape == (25, 32, 32, 3)
    assert len(arrays.waveform) == 16000
    (failure,) = load_failures(tmp_path / "clips")
    assert failure.clip_id == "sad/e"
    alone = prepare_clips(corpus, tmp_path / "alone", face_size=32, on_missing_face="center")
    assert alone["content_digest"][:] == clips["content_digest"][:]


def test_a_folder_without_clips_says_how_to_make_them(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"prepare_clips\(corpus, folder\)"):
        load_prepared_clips(tmp_path)


def test_a_clip_may_lack_a_modality(tmp_path, monkeypatch):
    def deaf(source, **options):
        clip = fake_load_clip(source, **options)
        return type(clip)(clip.frames, None, 25, 16000, clip.face_boxes, clip.source)

    monkeypatch.setattr(prepared_clips, "load_clip", deaf)
    clips = prepare_clips(fake_corpus().select([0]), tmp_path, face_size=32)
    assert isinstance(clips, Dataset)
    assert clip_arrays(clips, 0).waveform is None
    assert clips[0]["num_samples"] == 0
