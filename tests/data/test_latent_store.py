"""Latents before quantization, kept once: what a store holds, when it is refused, how it goes on."""

import fsspec
import numpy as np
import pytest
import torch
from tests.fake_clips import fake_corpus, fake_load_clip

from vqmae_hf import AudioVQVAEConfig, AudioVQVAEModel, MDVAEProcessor, VisualVQVAEConfig, VisualVQVAEModel
from vqmae_hf.data import prepared_clips
from vqmae_hf.data.clip_shards import NoClipPreparedError, load_failures
from vqmae_hf.data.latent_store import load_latent_store, read_latent_store_info, write_latent_store
from vqmae_hf.data.prepared_clips import clip_arrays, prepare_clips
from vqmae_hf.data.shards import IncompleteStoreError, StaleStoreError
from vqmae_hf.modeling.mdvae_features import audio_features_to_latents, visual_features_to_latents
from vqmae_hf.training.assembly import processor_for_tokenizers


def prepared(folder, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepared_clips, "load_clip", fake_load_clip)
        return prepare_clips(fake_corpus(num_speakers=3), folder, face_size=64, **options)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("clips") / "clips", frames_per_second=30)


@pytest.fixture(scope="module")
def audio():
    torch.manual_seed(1)
    return AudioVQVAEModel(AudioVQVAEConfig.from_preset("tiny", codebook_dim=6)).eval()


@pytest.fixture(scope="module")
def visual():
    torch.manual_seed(2)
    return VisualVQVAEModel(VisualVQVAEConfig.from_preset("tiny", num_downsampling_layers=4, codebook_dim=5)).eval()


@pytest.fixture(scope="module")
def processor(audio, visual):
    return processor_for_tokenizers({"audio": audio, "visual": visual}, MDVAEProcessor)


def write(clips, audio, visual, folder, processor, **options):
    options = {"clips_per_shard": 2, "show_progress": False, **options}
    info = write_latent_store(clips, audio, visual, folder, processor=processor, **options)
    return None if info is None else load_latent_store(folder)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 0), ("float16", 2**-11)])
def test_a_row_holds_the_latents_of_its_clip(precision, tolerance, clips, audio, visual, processor, tmp_path):
    store = write(clips, audio, visual, tmp_path / "store", processor, precision=precision)
    assert store["clip_id"][:] == clips["clip_id"][:]
    assert store["speaker"][:] == clips["speaker"][:]
    assert store.features["emotion"] == clips.features["emotion"]
    assert store.features["audio_features"].feature.dtype == precision
    for i in (0, 4):
        arrays, row = clip_arrays(clips, i), store[i]
        inputs = processor(audio=arrays.waveform, videos=[arrays.frames], padding="longest")
        T = len(arrays.frames)
        assert (row["num_frames"], row["num_spectra"]) == (T, T)
        features = torch.tensor(row["audio_features"]).view(1, T, 64 * 6)
        with torch.no_grad():
            expected = audio.encode_latents(inputs["audio_values"])
        found = audio_features_to_latents(features, 6)
        np.testing.assert_allclose(found, expected, rtol=tolerance + 1e-6, atol=1e-6)
        features = torch.tensor(row["visual_features"]).view(1, T, 5 * 16)
        with torch.no_grad():
            expected = visual.encode_latents(inputs["pixel_values_videos"])
        found = visual_features_to_latents(features, 5, 4)
        np.testing.assert_allclose(found, expected, rtol=tolerance + 1e-4, atol=1e-5)
    info = read_latent_store_info(tmp_path / "store")
    assert (info.audio.feature_size, info.visual.feature_size) == (384, 80)
    assert (info.hop_length, info.frames_per_second, info.num_clips) == (533, 30, 9)
    assert info.num_frames == info.num_spectra == sum(store["num_frames"])
    assert info.speakers == ("s00", "s01", "s02")


def test_latents_of_another_tokenizer_are_refused(clips, audio, visual, processor, tmp_path):
    write(clips, audio, None, tmp_path / "store", processor)
    other = AudioVQVAEModel(audio.config).eval()
    assert len(load_latent_store(tmp_path / "store", audio_tokenizer=audio)) == 9
    with pytest.raises(StaleStoreError, match=r"latents of another audio tokenizer .*Tokenize the corpus again"):
        load_latent_store(tmp_path / "store", audio_tokenizer=other)
    with pytest.raises(StaleStoreError, match="no visual latents"):
        load_latent_store(tmp_path / "store", visual_tokenizer=visual)
    with pytest.raises(StaleStoreError, match=r"parameters\.tokenizers\.audio\.fingerprint"):
        write(clips, other, None, tmp_path / "store", processor)
    with pytest.raises(StaleStoreError, match=r"precision is 'float16' there and 'float32' now"):
        write(clips, audio, None, tmp_path / "store", processor, precision="float32")


def test_a_folder_of_anything_else_is_no_latent_store(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no latent store: it has no latent_store\.json\. Make one with"):
        load_latent_store(tmp_path)


def test_unknown_precisions_are_refused(clips, audio, processor, tmp_path):
    with pytest.raises(ValueError, match="precision='int8' is unknown"):
        write(clips, audio, None, tmp_path / "store", processor, precision="int8")


def test_clips_of_another_frame_rate_are_refused(audio, visual, processor, tmp_path):
    """The processor would take the surplus of spectra for padding, and sound and face would drift apart."""
    slow = prepared(tmp_path / "clips")
    with pytest.raises(NoClipPreparedError, match=r"are 25 frames per second at 16000 Hz; the processor takes 30"):
        write(slow, audio, visual, tmp_path / "store", processor)


def test_a_killed_run_continues_with_the_missing_shards(clips, audio, visual, processor, tmp_path, monkeypatch):
    encode_latents, calls = audio.encode_latents, []

    def dying_encode(*args):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return encode_latents(*args)

    monkeypatch.setattr(audio, "encode_latents", dying_encode)
    with pytest.raises(KeyboardInterrupt):
        write(clips, audio, visual, tmp_path / "killed", processor)
    with pytest.raises(IncompleteStoreError, match="continues with the shards that are missing"):
        load_latent_store(tmp_path / "killed")
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").glob("*.arrow")}
    assert len(done) == 2
    monkeypatch.undo()
    resumed = write(clips, audio, visual, tmp_path / "killed", processor)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    straight = write(clips, audio, visual, tmp_path / "straight", processor)
    assert resumed.to_dict() == straight.to_dict()
    assert not list((tmp_path / "killed").glob(".*"))
    assert load_failures(tmp_path / "killed") == []


def test_ranks_share_the_shards(clips, audio, visual, processor, tmp_path):
    shares = {"folder": tmp_path / "shared", "processor": processor, "num_ranks": 2}
    assert write(clips, audio, visual, rank=1, **shares) is None
    together = write(clips, audio, visual, rank=0, **shares)
    assert together.to_dict() == write(clips, audio, visual, tmp_path / "alone", processor).to_dict()


@pytest.mark.slow
def test_processes_write_the_store_that_one_writes(clips, audio, visual, processor, tmp_path):
    shared = write(clips, audio, visual, tmp_path / "two", processor, num_processes=2, seconds_per_clip=60)
    assert shared.to_dict() == write(clips, audio, visual, tmp_path / "one", processor).to_dict()


def test_a_store_is_read_from_any_file_system(clips, audio, processor, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)  # offline, datasets opens local files only
    local = write(clips, audio, None, tmp_path / "store", processor)
    files = fsspec.filesystem("memory")
    for path in (tmp_path / "store").iterdir():
        files.pipe(f"/bucket/latents/{path.name}", path.read_bytes())
    remote = load_latent_store("memory://bucket/latents", audio_tokenizer=audio, cache_dir=tmp_path / "remote")
    assert remote.to_dict() == local.to_dict()
    files.rm("/bucket", recursive=True)
