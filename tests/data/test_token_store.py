import json
import shutil

import fsspec
import numpy as np
import pytest
import torch
from tests.fake_clips import fake_corpus, fake_load_clip

from vqmae_hf import (
    AudioVQVAEModel,
    VisualVQVAEConfig,
    VisualVQVAEModel,
    VQMAEConfig,
    VQMAEForPreTraining,
    VQMAEProcessor,
)
from vqmae_hf.data import prepared_clips
from vqmae_hf.data.prepared_clips import clip_arrays, prepare_clips
from vqmae_hf.data.shards import IncompleteStoreError, StaleStoreError
from vqmae_hf.data.token_store import (
    load_token_store,
    read_token_store_info,
    tokenizer_fingerprint,
)
from vqmae_hf.data.tokenization import write_token_store

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def visual():
    torch.manual_seed(2)
    return VisualVQVAEModel(VisualVQVAEConfig.from_preset("tiny", codebook_size=300)).eval()


@pytest.fixture(scope="module")
def processor(audio, visual):
    config = VQMAEConfig.from_preset(
        "tiny",
        visual_codebook_size=300,
        audio_tokenizer_config=audio.config.to_dict(),
        visual_tokenizer_config=visual.config.to_dict(),
    )
    return VQMAEProcessor.from_model_config(config)


def write(clips, audio, visual, folder, processor, **options):
    options = {"clips_per_shard": 2, "show_progress": False, **options}
    info = write_token_store(clips, audio, visual, folder, processor=processor, **options)
    return None if info is None else load_token_store(folder)


def test_a_row_holds_the_codes_of_its_clip(clips, audio, visual, processor, tmp_path):
    store = write(clips, audio, visual, tmp_path / "store", processor)
    assert store["clip_id"][:] == clips["clip_id"][:]
    assert store.features["emotion"] == clips.features["emotion"]
    assert store.features["audio_codes"].feature.dtype == "uint8"
    assert store.features["visual_codes"].feature.dtype == "uint16"
    for i in (0, 4):
        arrays, row = clip_arrays(clips, i), store[i]
        spectra = processor.feature_extractor(arrays.waveform, padding=False)["audio_values"][0]
        pixels = processor.video_processor([arrays.frames], padding="longest")["pixel_values_videos"]
        T = len(arrays.frames)
        assert (row["num_frames"], row["num_spectra"]) == (T, 2 * T)
        expected = audio.encode(spectra.unsqueeze(0))[0]
        np.testing.assert_array_equal(np.reshape(row["audio_codes"], (2 * T, 64)), expected.numpy())
        np.testing.assert_array_equal(np.reshape(row["visual_codes"], (T, 8, 8)), visual.encode(pixels)[0].numpy())
    info = read_token_store_info(tmp_path / "store")
    assert (info.num_clips, info.num_frames, info.num_spectra) == (
        9,
        sum(store["num_frames"]),
        sum(store["num_spectra"]),
    )
    assert info.visual.codes_per_step == (8, 8)
    assert info.audio.codebook_size == 64


def test_the_fingerprint_is_that_of_weights_and_configuration(audio, visual, tmp_path):
    fingerprint = tokenizer_fingerprint(audio)
    audio.save_pretrained(tmp_path)
    assert tokenizer_fingerprint(AudioVQVAEModel.from_pretrained(tmp_path)) == fingerprint
    configs = {"audio_tokenizer_config": audio.config.to_dict(), "visual_tokenizer_config": visual.config.to_dict()}
    model = VQMAEForPreTraining(VQMAEConfig.from_preset("tiny", visual_codebook_size=300, **configs))
    model.model.audio_tokenizer.load_state_dict(audio.state_dict())
    assert tokenizer_fingerprint(model.model.audio_tokenizer) == fingerprint
    model.save_pretrained(tmp_path / "composite")
    inner = VQMAEForPreTraining.from_pretrained(tmp_path / "composite").model.audio_tokenizer
    assert tokenizer_fingerprint(inner) == fingerprint
    inner.config.batch_norm_statistics = "clip"
    assert tokenizer_fingerprint(inner) != fingerprint
    inner.config.batch_norm_statistics = "running"
    with torch.no_grad():
        inner.quantizer.codebook[3, 1] += 1e-6
    assert tokenizer_fingerprint(inner) != fingerprint


def test_codes_of_another_tokenizer_are_refused(clips, audio, visual, processor, tmp_path):
    write(clips, audio, None, tmp_path / "store", processor)
    other = AudioVQVAEModel(audio.config).eval()
    assert len(load_token_store(tmp_path / "store", audio_tokenizer=audio)) == 9
    with pytest.raises(StaleStoreError, match=r"another audio tokenizer .*Tokenize the corpus again"):
        load_token_store(tmp_path / "store", audio_tokenizer=other)
    with pytest.raises(StaleStoreError, match="no visual codes"):
        load_token_store(tmp_path / "store", visual_tokenizer=visual)
    with pytest.raises(StaleStoreError, match=r"parameters\.tokenizers\.audio\.fingerprint"):
        write(clips, other, None, tmp_path / "store", processor)
    with pytest.raises(StaleStoreError, match=r"num_rows is 9 there and 8 now"):
        write(clips.select(range(8)), audio, None, tmp_path / "store", processor)


def test_a_killed_run_continues_with_the_missing_shards(clips, audio, visual, processor, tmp_path, monkeypatch):
    encode, calls = audio.encode, []

    def dying_encode(values):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return encode(values)

    monkeypatch.setattr(audio, "encode", dying_encode)
    with pytest.raises(KeyboardInterrupt):
        write(clips, audio, visual, tmp_path / "killed", processor)
    with pytest.raises(IncompleteStoreError, match="continues with the shards that are missing"):
        load_token_store(tmp_path / "killed")
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").glob("*.parquet")}
    assert len(done) == 2
    monkeypatch.undo()
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    resumed = write(clips, audio, visual, tmp_path / "killed", processor)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    straight = write(clips, audio, visual, tmp_path / "straight", processor)
    assert resumed.to_dict() == straight.to_dict()
    assert not list((tmp_path / "killed").glob(".*"))


def test_ranks_share_the_shards(clips, audio, visual, processor, tmp_path):
    shares = {"folder": tmp_path / "shared", "processor": processor, "num_ranks": 2}
    assert write(clips, audio, visual, rank=1, **shares) is None
    assert len(list((tmp_path / "shared").glob("*.parquet"))) == 2
    together = write(clips, audio, visual, rank=0, **shares)
    assert together.to_dict() == write(clips, audio, visual, tmp_path / "alone", processor).to_dict()


def test_a_store_is_read_from_any_file_system(clips, audio, processor, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)  # offline, datasets opens local files only
    local = write(clips, audio, None, tmp_path / "store", processor)
    files = fsspec.filesystem("memory")
    for path in (tmp_path / "store").iterdir():
        files.pipe(f"/bucket/store/{path.name}", path.read_bytes())
    remote = load_token_store("memory://bucket/store", audio_tokenizer=audio, cache_dir=tmp_path / "remote")
    assert remote.to_dict() == local.to_dict()
    files.rm("/bucket", recursive=True)


def test_what_cannot_be_tokenized_is_refused(clips, audio, processor, tmp_path):
    with pytest.raises(ValueError, match="both None"):
        write(clips, None, None, tmp_path / "a", processor)
    with pytest.raises(ValueError, match=r"audio_tokenizer is in training mode.*\.eval\(\)"):
        write(clips, AudioVQVAEModel(audio.config).train(), None, tmp_path / "a", processor)
    with pytest.raises(FileNotFoundError, match="is no token store"):
        load_token_store(tmp_path)


def test_a_clip_without_sound_has_no_audio_codes(clips, audio, visual, processor, tmp_path, monkeypatch):
    def deaf(source, **options):
        clip = fake_load_clip(source, **options)
        return type(clip)(clip.frames, None, 25, 16000, clip.face_boxes, clip.source)

    monkeypatch.setattr(prepared_clips, "load_clip", deaf)
    silent = prepare_clips(fake_corpus(num_speakers=1), tmp_path / "clips", face_size=64)
    store = write(silent, audio, visual, tmp_path / "store", processor)
    assert store["num_spectra"][:] == [0, 0, 0]
    assert store["audio_codes"][:] == [[], [], []]
    assert store["num_frames"][:] == [50, 50, 50]


def test_a_manifest_names_every_shard(clips, audio, processor, tmp_path):
    write(clips, audio, None, tmp_path / "store", processor)
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    manifest = json.loads((tmp_path / "copy" / "token_store.json").read_text())
    assert manifest["complete"]
    next((tmp_path / "copy").glob("shard-00003*")).unlink()
    with pytest.raises(FileNotFoundError, match="shard-00003-of-00005"):
        load_token_store(tmp_path / "copy", cache_dir=tmp_path / "copy_cache")
