import numpy as np
import pytest
import torch
from tests.fake_clips import fake_corpus, fake_load_clip

from vqmae_hf import AudioVQVAEConfig, AudioVQVAEModel
from vqmae_hf.data import prepared_clips
from vqmae_hf.data.prepared_clips import prepare_clips
from vqmae_hf.data.shards import StaleStoreError
from vqmae_hf.data.splits import fold_speakers
from vqmae_hf.data.token_store import load_token_store, read_token_store_info
from vqmae_hf.data.token_subsets import draw_clips, write_token_subset
from vqmae_hf.data.tokenization import write_token_store
from vqmae_hf.training.assembly import processor_for_tokenizers


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("subsets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepared_clips, "load_clip", fake_load_clip)
        clips = prepare_clips(fake_corpus(num_speakers=4), root / "clips", face_size=64)
    torch.manual_seed(0)
    tokenizer = AudioVQVAEModel(AudioVQVAEConfig.from_preset("tiny")).eval()
    processor = processor_for_tokenizers({"audio": tokenizer})
    write_token_store(
        clips, tokenizer, None, root / "store", processor=processor, clips_per_shard=3, show_progress=False
    )
    return root / "store"


def rows_of(folder, tmp_path):
    return load_token_store(folder, cache_dir=tmp_path / "cache").to_list()


def test_a_subset_holds_the_very_rows_and_knows_its_speakers(store, tmp_path):
    every = rows_of(store, tmp_path)
    # The middle shard keeps nothing, the last one clip.
    kept = [every[1], every[2], every[9]]
    info = write_token_subset(store, tmp_path / "some", [row["clip_id"] for row in kept])
    assert rows_of(tmp_path / "some", tmp_path) == kept
    assert info.speakers == ("s00", "s03")
    assert info.num_clips == 3
    assert info.num_spectra == sum(row["num_spectra"] for row in kept)
    assert info.audio == read_token_store_info(store).audio
    assert load_token_store(tmp_path / "some", cache_dir=tmp_path / "cache").features["emotion"].names


def test_it_is_made_once_and_refuses_other_clips(store, tmp_path):
    clip_ids = [row["clip_id"] for row in rows_of(store, tmp_path)]
    write_token_subset(store, tmp_path / "some", clip_ids[:4])
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "some").iterdir()}
    write_token_subset(store, tmp_path / "some", clip_ids[:4])
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "some").iterdir()} == stamps
    with pytest.raises(StaleStoreError, match="another origin"):
        write_token_subset(store, tmp_path / "some", clip_ids[:5])


def test_clips_that_are_not_there_are_named_before_anything_is_written(store, tmp_path):
    with pytest.raises(ValueError, match="nobody"):
        write_token_subset(store, tmp_path / "none", ["nobody"])
    assert not (tmp_path / "none").exists()


def test_a_draw_keeps_every_speaker_and_is_even():
    speakers = np.repeat([f"s{i:02d}" for i in range(10)], 24)
    classes = np.tile(np.arange(8), 30)
    for share in (1 / 24, 0.1, 0.25, 1):
        rows = draw_clips(speakers, classes, share, seed=3)
        assert len(rows) == round(share * len(speakers))
        assert rows == sorted(set(rows))
        assert set(speakers[rows]) == set(speakers)
        per_class = np.bincount(classes[rows], minlength=8)
        per_speaker = np.unique(speakers[rows], return_counts=True)[1]
        assert np.ptp(per_class) <= 1
        assert np.ptp(per_speaker) <= 1
        assert fold_speakers(speakers[rows]) == fold_speakers(speakers)


def test_a_draw_depends_on_its_seed_alone():
    speakers, classes = np.repeat(["a", "b"], 20), np.tile(np.arange(4), 10)
    first, again, other = (draw_clips(speakers, classes, 0.3, seed=seed) for seed in (0, 0, 1))
    assert first == again != other


def test_a_share_too_small_for_the_speakers_is_refused():
    with pytest.raises(ValueError, match=r"take 0\.050 or more"):
        draw_clips(np.repeat(["a", "b"], 20), np.zeros(40, int), 0.025)
    with pytest.raises(ValueError, match="above 0"):
        draw_clips(["a"], [0], 0)
