"""Stores that are read while training: every clip once an epoch, by any number of readers, and on from any place."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from safetensors.torch import load_file
from tests.training.test_train_tokenizers import interrupt_after
from tests.training.test_train_vqmae import pretrain_arguments
from torch.utils.data import DataLoader

from vqmae_hf import VQMAEConfig
from vqmae_hf.data.token_store import load_token_store, read_token_store_info
from vqmae_hf.data.tokenization import write_token_store
from vqmae_hf.training import pretrain
from vqmae_hf.training.assembly import load_tokenizers, processor_for_tokenizers
from vqmae_hf.training.token_stream import StreamedTokenWindows, read_some_clips

CONFIG = VQMAEConfig.from_preset("tiny")


@pytest.fixture(scope="module")
def folder(world):
    """The world's clips in nine shards of two."""
    tokenizers = load_tokenizers(world.tokens["audio_tokenizer"], world.tokens["visual_tokenizer"])
    folder = world.root / "small_shards"
    processor = processor_for_tokenizers(tokenizers)
    options = {"processor": processor, "clips_per_shard": 2, "show_progress": False}
    write_token_store(world.clips, tokenizers["audio"], tokenizers["visual"], folder, **options)
    return str(folder)


def visits(items):
    return [item["visit"] for item in items]


def test_an_epoch_visits_every_clip_once_and_the_next_in_another_order(folder):
    stream = iter(StreamedTokenWindows(folder, CONFIG, shards_at_once=3))
    first, second = visits(islice(stream, 18)), visits(islice(stream, 18))
    every_clip = {(shard, row) for shard in range(9) for row in range(2)}
    assert {visit[1:] for visit in first} == {visit[1:] for visit in second} == every_clip
    assert {visit[0] for visit in first} == {0}
    assert [visit[1:] for visit in first] != [visit[1:] for visit in second]
    assert first != sorted(first)


def test_items_are_windows_of_the_store(folder):
    store = load_token_store(folder)
    for item in islice(StreamedTokenWindows(folder, CONFIG), 18):
        row = store[2 * item["visit"][1] + item["visit"][2]]
        frames = np.reshape(row["visual_codes"], (-1, 8, 8))
        starts = [t for t in range(len(frames) - 49) if np.array_equal(frames[t : t + 50], item["visual_codes"])]
        spectra = np.reshape(row["audio_codes"], (-1, *item["audio_codes"].shape[1:]))
        assert any(np.array_equal(spectra[2 * t : 2 * t + 100], item["audio_codes"]) for t in starts)
        assert item["label"] == row["emotion"]


@pytest.mark.parametrize("workers", [0, 2])
def test_readers_share_the_shards(folder, workers):
    seen = []
    for rank in range(2):
        stream = StreamedTokenWindows(folder, CONFIG, rank=rank, num_ranks=2)
        loader = DataLoader(stream, batch_size=4, num_workers=workers, collate_fn=visits)
        own = [visit for batch in islice(loader, 10) for visit in batch]
        seen.append({visit[1] for visit in own if visit[0] == 0})
    assert seen[0] & seen[1] == set()
    assert seen[0] | seen[1] == set(range(9))


def test_more_readers_than_shards_are_refused(folder):
    with pytest.raises(ValueError, match=r"9 shards cannot be dealt to 10 readers.*clips_per_shard"):
        next(iter(StreamedTokenWindows(folder, CONFIG, num_ranks=10)))


@pytest.mark.parametrize("read", [0, 1, 7, 18, 23])
def test_a_stream_goes_on_from_its_state(folder, read):
    straight = StreamedTokenWindows(folder, CONFIG, shards_at_once=2)
    stream = iter(straight)
    list(islice(stream, read))
    resumed = StreamedTokenWindows(folder, CONFIG, shards_at_once=2)
    resumed.load_state_dict(straight.state_dict())
    for expected, item in zip(islice(stream, 20), resumed, strict=False):
        assert item["visit"] == expected["visit"]
        np.testing.assert_array_equal(item["audio_codes"], expected["audio_codes"])


def test_only_the_speakers_that_are_asked_for_are_read(folder):
    assert read_token_store_info(folder).speakers == tuple(f"s{i:02d}" for i in range(6))
    stream = StreamedTokenWindows(folder, CONFIG, speakers=["s01", "s04"])
    rows = {2 * visit[1] + visit[2] for visit in visits(islice(stream, 6))}
    assert {load_token_store(folder)[row]["speaker"] for row in rows} == {"s01", "s04"}
    some = read_some_clips(folder, ["s01", "s04"], ("audio", "visual"), at_most=4)
    assert some["speaker"] == ["s01", "s01", "s01", "s04"]


def stream_arguments(world, folder, output_dir, **values):
    values = {"token_store": folder, "stream": True, "max_steps": 6, "eval_steps": 6, "save_steps": 2, **values}
    return pretrain_arguments(world, output_dir, **values)


def test_an_interrupted_streaming_run_ends_as_an_uninterrupted_one(world, folder, tmp_path, monkeypatch):
    straight = pretrain.run(stream_arguments(world, folder, tmp_path / "straight"))
    arguments = stream_arguments(world, folder, tmp_path / "interrupted")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            pretrain.run(arguments)
    resumed = pretrain.run(replace(arguments))
    expected, found = (load_file(result.output_dir / "model.safetensors") for result in (straight, resumed))
    for name, tensor in expected.items():
        assert tensor.equal(found[name]), name
    assert straight.metrics["validation"]["loss"] == resumed.metrics["validation"]["loss"]


def test_a_stream_without_an_end_is_refused(world, folder, tmp_path):
    with pytest.raises(ValueError, match="max_steps is needed with stream"):
        stream_arguments(world, folder, tmp_path, max_steps=-1)
