import pytest
import torch
from tests.fake_clips import fake_corpus, fake_load_clip

from vqmae_hf import AudioVQVAEConfig, AudioVQVAEModel
from vqmae_hf.data import prepared_clips
from vqmae_hf.data.prepared_clips import prepare_clips
from vqmae_hf.data.shards import StaleStoreError
from vqmae_hf.data.token_store import load_token_store, read_token_store_info
from vqmae_hf.data.token_subsets import write_token_subset
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
