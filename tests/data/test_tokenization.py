"""From the media of a corpus to a token store, without prepared clips between."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from vqmae_hf import AudioVQVAEConfig, AudioVQVAEModel, VisualVQVAEConfig, VisualVQVAEModel
from vqmae_hf.cli.__main__ import app
from vqmae_hf.data.clip_shards import NoClipPreparedError, load_failures
from vqmae_hf.data.corpora import load_corpus
from vqmae_hf.data.media import write_clip
from vqmae_hf.data.prepared_clips import prepare_clips
from vqmae_hf.data.token_store import load_speed_copies, load_token_store
from vqmae_hf.data.tokenization import write_token_store
from vqmae_hf.training.assembly import processor_for_tokenizers

CENTER = {"on_missing_face": "center"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A corpus of eight tiny mp4 files and one that is none, and two tokenizers on disk."""
    root = tmp_path_factory.mktemp("media")
    generator = np.random.default_rng(0)
    for i in range(8):
        path = root / "corpus" / ("happy" if i % 2 else "sad") / f"clip{i}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = generator.integers(0, 255, (15, 64, 64, 3), dtype=np.uint8)
        write_clip(path, frames, 0.2 * generator.standard_normal(9600).astype(np.float32))
    (root / "corpus/sad/broken.mp4").write_bytes(b"no film")
    torch.manual_seed(0)
    AudioVQVAEModel(AudioVQVAEConfig.from_preset("tiny")).save_pretrained(root / "audio")
    VisualVQVAEModel(VisualVQVAEConfig.from_preset("tiny")).save_pretrained(root / "visual")
    return root


@pytest.fixture(scope="module")
def tokenizers(world):
    return {
        "audio": AudioVQVAEModel.from_pretrained(world / "audio"),
        "visual": VisualVQVAEModel.from_pretrained(world / "visual"),
    }


def corpus_of(world):
    return load_corpus("videofolder", world / "corpus")


def write(corpus, tokenizers, folder, **options):
    options = {"clips_per_shard": 2, "show_progress": False, "clip_options": CENTER, **options}
    processor = processor_for_tokenizers(tokenizers)
    write_token_store(
        corpus, tokenizers.get("audio"), tokenizers.get("visual"), folder, processor=processor, **options
    )
    return load_token_store(folder)


def test_a_corpus_gives_the_codes_that_its_prepared_clips_give(world, tokenizers, tmp_path):
    store = write(corpus_of(world), tokenizers, tmp_path / "store")
    clips = prepare_clips(corpus_of(world), tmp_path / "clips", face_size=64, **CENTER)
    by_way_of_clips = write(clips, tokenizers, tmp_path / "from_clips", clip_options=None)
    assert store.to_dict() == by_way_of_clips.to_dict()
    assert len(set(store["content_digest"])) == len(store) == 8
    (failure,) = load_failures(tmp_path / "store")
    assert (failure.clip_id, failure.error) == ("sad/broken", "UnreadableMediaError")
    assert "broken.mp4" in failure.reason


def test_only_what_there_is_a_tokenizer_for_is_decoded(world, tokenizers, tmp_path):
    store = write(corpus_of(world), {"audio": tokenizers["audio"]}, tmp_path / "store", clip_options={})
    assert set(store["num_frames"]) == {0}  # and no face was missed
    assert set(store["num_spectra"]) == {30}


def test_options_for_clips_that_are_prepared_already_are_refused(world, tokenizers, tmp_path):
    clips = prepare_clips(corpus_of(world), tmp_path / "clips", face_size=64, **CENTER)
    with pytest.raises(ValueError, match="these clips are decoded already"):
        write(clips, tokenizers, tmp_path / "store")


def test_a_corpus_without_a_usable_clip_says_why_and_leaves_nothing(world, tokenizers, tmp_path):
    broken = corpus_of(world).filter(lambda row: row["clip_id"] == "sad/broken")
    with pytest.raises(NoClipPreparedError, match=r"none of the 1 clips.*broken\.mp4"):
        write(broken, tokenizers, tmp_path / "store")
    assert not list((tmp_path / "store").iterdir())


@pytest.mark.slow
def test_processes_write_the_store_that_one_writes(world, tokenizers, tmp_path):
    shared = write(corpus_of(world), tokenizers, tmp_path / "two", num_processes=2, seconds_per_clip=60)
    assert shared.to_dict() == write(corpus_of(world), tokenizers, tmp_path / "one").to_dict()
    assert load_failures(tmp_path / "two") == load_failures(tmp_path / "one")


def test_what_a_kill_left_behind_is_cleaned_up(world, tokenizers, tmp_path):
    write(corpus_of(world), tokenizers, tmp_path / "store")
    expected = sorted(path.name for path in (tmp_path / "store").iterdir())
    # Killed after the store was complete, before it was tidy.
    (tmp_path / "store" / "shard-00001-of-00005.failures.jsonl").write_text("")
    (tmp_path / "store" / ".shard-00002-of-00005.parquet.77.tmp").write_bytes(b"half")
    write(corpus_of(world), tokenizers, tmp_path / "store")
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == expected


def test_ranks_may_begin_in_the_same_moment(world, tokenizers, tmp_path, monkeypatch):
    """The other rank makes the folder just after this one has looked for it."""
    write(corpus_of(world), tokenizers, tmp_path / "store")
    exists, asked = type(tmp_path).exists, []

    def not_yet(path, **options):
        if path.name == "token_store.json" and not asked:
            asked.append(path)
            return False
        return exists(path, **options)

    monkeypatch.setattr(type(tmp_path), "exists", not_yet)
    assert len(write(corpus_of(world), tokenizers, tmp_path / "store")) == 8
    assert asked


# ---- the command ----


def flags_of(world, folder, *more):
    flags = ["tokenize", str(world / "corpus"), str(folder), "--cpu", "--clips-per-shard", "1", "--json"]
    flags += ["--audio-tokenizer", str(world / "audio"), "--visual-tokenizer", str(world / "visual")]
    return [*flags, "--clip-option", "on_missing_face=center", *more]


def contents(folder):
    """Everything in a store, to the byte, but for the order of keys."""
    shards = {path.name: pq.read_table(path).to_pydict() for path in sorted(folder.glob("*.parquet"))}
    others = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix != ".parquet"}
    return shards, others


def test_the_command_prints_what_was_done(world, tmp_path):
    result = CliRunner().invoke(app, flags_of(world, tmp_path / "store", "--num-proc", "1"))
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout.splitlines()[-1])
    assert (summary["clips"], summary["left_out"]) == (8, 1)
    assert summary["reasons"] == {"UnreadableMediaError": 1}
    assert summary["bytes"] == sum(path.stat().st_size for path in (tmp_path / "store").glob("*.parquet"))
    assert summary["hours"] == pytest.approx(8 * 0.6 / 3600, abs=1e-4)


def test_the_command_trims_sound_and_keeps_it_at_other_speeds(world, tmp_path):
    sound = 0.3 * np.sin(np.arange(9600) / 8).astype(np.float32)
    sound[:4000] = 0
    write_clip(tmp_path / "sounds" / "late.m4a", None, sound)
    flags = [
        "tokenize",
        str(tmp_path / "sounds"),
        str(tmp_path / "store"),
        "--corpus",
        "audiofolder",
        "--cpu",
        "--json",
    ]
    flags += ["--audio-tokenizer", str(world / "audio"), "--num-proc", "1", "--clip-option", "trim_silence_db=35"]
    result = CliRunner().invoke(app, [*flags, "--speed-factor", "0.8", "--speed-factor", "1.25"])
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout.splitlines()[-1])
    assert (summary["clips"], summary["speeds"]) == (1, [1.0, 0.8, 1.25])
    (kept,) = load_token_store(tmp_path / "store")["num_spectra"]
    assert kept == pytest.approx(30 - 12.5 + 4, abs=2)  # but for 0.25 s, of which 80 ms are kept
    steps = {row["speed"]: row["num_spectra"] for row in load_speed_copies(tmp_path / "store")}
    assert steps == {0.8: pytest.approx(kept / 0.8, abs=1), 1.25: pytest.approx(kept / 1.25, abs=1)}
    both = [*flags, "--visual-tokenizer", str(world / "visual"), "--speed-factor", "0.8"]
    refused = CliRunner().invoke(app, both)
    assert "pictures would fall out of step" in f"{refused.exception} {refused.output}"
    assert CliRunner().invoke(app, [*flags, "--latents", "--speed-factor", "0.8"]).exit_code == 2


def test_options_that_are_no_pairs_are_usage_errors(world, tmp_path):
    result = CliRunner().invoke(app, flags_of(world, tmp_path / "store", "--clip-option", "face_size"))
    assert result.exit_code == 2
    assert "NAME=VALUE" in result.output


@pytest.mark.slow
def test_errors_are_one_line_without_a_trace(world, tmp_path):
    command = [sys.executable, "-m", "vqmae_hf.cli", "tokenize", str(tmp_path / "nowhere"), str(tmp_path / "store")]
    done = subprocess.run(
        [*command, "--audio-tokenizer", str(world / "audio")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "is not a folder" in done.stderr


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_to_the_same_store(world, tmp_path):
    straight = CliRunner().invoke(app, flags_of(world, tmp_path / "straight", "--num-proc", "1"))
    assert straight.exit_code == 0, straight.output
    command = [sys.executable, "-m", "vqmae_hf.cli", *flags_of(world, tmp_path / "killed", "--num-proc", "2")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)  # in the middle of its work
    process.wait()
    assert not json.loads((tmp_path / "killed" / "token_store.json").read_text())["complete"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "killed") == contents(tmp_path / "straight")
