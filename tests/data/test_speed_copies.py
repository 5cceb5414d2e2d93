"""Copies of clips at other speeds: in the store beside the clips, and seen by nobody who does not ask for them."""

import json
import pickle

import numpy as np
import pytest
from tests.fake_clips import SAMPLING_RATE, fake_corpus, fake_load_clip

from vqmae_hf import VisualVQVAEConfig, VisualVQVAEModel
from vqmae_hf.data import prepared_clips
from vqmae_hf.data.clip_shards import load_failures
from vqmae_hf.data.prepared_clips import clip_arrays, prepare_clips
from vqmae_hf.data.shards import DamagedStoreError, StaleStoreError
from vqmae_hf.data.speed_copies import SpeedCopies, sorted_speed_factors
from vqmae_hf.data.token_store import load_speed_copies, load_token_store, read_token_store_info
from vqmae_hf.data.token_subsets import write_token_subset
from vqmae_hf.data.tokenization import ClipEncoder, TokenFormat, write_token_store
from vqmae_hf.data.waveform_edits import change_speed
from vqmae_hf.modeling.configuration_vqmae import VQMAEConfig
from vqmae_hf.training.assembly import processor_for_tokenizers
from vqmae_hf.training.token_stream import StreamedTokenWindows, read_some_clips

FACTORS = [1.1, 1, 0.9]


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def folder(clips, audio, tmp_path_factory):
    """A store with copies."""
    folder = tmp_path_factory.mktemp("copies") / "store"
    write(clips, audio, folder, speed_factors=FACTORS)
    return folder


def write(clips, audio, folder, **options):
    options = {"clips_per_shard": 2, "show_progress": False, **options}
    return write_token_store(
        clips, audio, None, folder, processor=processor_for_tokenizers({"audio": audio}), **options
    )


def test_who_opens_the_store_sees_what_a_store_without_copies_holds(folder, clips, audio, tmp_path):
    plain = write(clips, audio, tmp_path / "plain")
    info = read_token_store_info(folder)
    assert info.speed_factors == (1.0, 0.9, 1.1)
    assert plain.speed_factors == (1.0,)
    for name in ("num_clips", "num_spectra", "num_frames", "speakers", "audio"):
        assert getattr(info, name) == getattr(plain, name), name
    seen = load_token_store(folder)
    assert set(seen["speed"]) == {1.0}
    assert seen.remove_columns("speed").to_dict() == load_token_store(tmp_path / "plain").to_dict()
    assert load_speed_copies(tmp_path / "plain") is None


def test_copies_are_the_codes_of_the_sound_at_other_speeds(folder, clips, audio):
    copies = load_speed_copies(folder)
    assert sorted(zip(copies["clip_id"], copies["speed"], strict=True)) == sorted(
        (clip, factor) for clip in clips["clip_id"] for factor in (0.9, 1.1)
    )
    extractor = processor_for_tokenizers({"audio": audio}).feature_extractor
    originals = {row["clip_id"]: row for row in load_token_store(folder)}
    for row in (copies[0], copies[5]):
        original = originals[row["clip_id"]]
        waveform = clip_arrays(clips, clips["clip_id"][:].index(row["clip_id"])).waveform
        spectra = extractor(change_speed(waveform, SAMPLING_RATE, row["speed"]), padding=False)["audio_values"][0]
        expected = audio.encode(spectra.unsqueeze(0))[0]
        np.testing.assert_array_equal(np.reshape(row["audio_codes"], (-1, 64)), expected.numpy())
        assert row["num_spectra"] == pytest.approx(original["num_spectra"] / row["speed"], abs=1)
        for name in ("speaker", "emotion", "content_digest", "num_frames"):
            assert row[name] == original[name]


def test_what_makes_copies_can_be_sent_to_another_process(clips, audio):
    encoder = ClipEncoder({"audio": audio}, processor_for_tokenizers({"audio": audio}), None, TokenFormat())
    make = SpeedCopies(encoder, (1.0, 1.25))
    here, there = make(clips[0]), pickle.loads(pickle.dumps(make))(clips[0])
    assert [row["speed"] for row in there] == [1.0, 1.25]
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one["audio_codes"], other["audio_codes"])


def test_stores_without_the_option_say_nothing_of_speeds(clips, audio, tmp_path):
    write(clips, audio, tmp_path / "plain")
    write(clips, audio, tmp_path / "one", speed_factors=[1.0])
    files = {path.name: path.read_bytes() for path in (tmp_path / "plain").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert b"speed" not in files["token_store.json"]
    assert "speed" not in load_token_store(tmp_path / "plain").column_names
    with pytest.raises(StaleStoreError, match="speed_factors is None there and"):
        write(clips, audio, tmp_path / "plain", speed_factors=FACTORS)


def test_a_killed_run_continues_with_the_missing_shards(folder, clips, audio, tmp_path, monkeypatch):
    encode, calls = audio.encode, []

    def dying_encode(values):
        calls.append(1)
        if len(calls) == 11:  # the second copy of the fourth clip
            raise KeyboardInterrupt
        return encode(values)

    monkeypatch.setattr(audio, "encode", dying_encode)
    with pytest.raises(KeyboardInterrupt):
        write(clips, audio, tmp_path / "killed", speed_factors=FACTORS)
    monkeypatch.setattr(audio, "encode", encode)
    assert len(list((tmp_path / "killed").glob("*.parquet"))) == 1
    write(clips, audio, tmp_path / "killed", speed_factors=[0.9, 1.0, 1.1])
    for path in folder.iterdir():
        assert (tmp_path / "killed" / path.name).read_bytes() == path.read_bytes()


def test_a_clip_without_sound_has_no_copies_and_one_that_fails_has_no_row(audio, tmp_path, monkeypatch):
    def deaf(source, **options):
        clip = fake_load_clip(source, **options)
        return type(clip)(clip.frames, None, 25, SAMPLING_RATE, clip.face_boxes, clip.source)

    monkeypatch.setattr(prepared_clips, "load_clip", deaf)
    silent = prepare_clips(fake_corpus(num_speakers=1), tmp_path / "clips", face_size=64)
    write(silent, audio, tmp_path / "silent", speed_factors=FACTORS)
    assert len(load_token_store(tmp_path / "silent")) == 3
    assert len(load_speed_copies(tmp_path / "silent")) == 0
    monkeypatch.setattr(prepared_clips, "load_clip", fake_load_clip)
    info = write(fake_corpus(num_speakers=1, broken=[1]), audio, tmp_path / "broken", speed_factors=FACTORS)
    assert info.num_clips == len(load_token_store(tmp_path / "broken")) == 2
    assert len(load_speed_copies(tmp_path / "broken")) == 4
    assert len(load_failures(tmp_path / "broken")) == 1


def test_a_column_speed_of_the_corpus_means_what_it_meant(clips, audio, tmp_path):
    running = clips.add_column("speed", [2.5] * len(clips))
    write(running, audio, tmp_path / "store")
    assert load_token_store(tmp_path / "store")["speed"][:] == [2.5] * len(clips)
    with pytest.raises(ValueError, match=r"column 'speed', which the clips have already; rename theirs"):
        write(running, audio, tmp_path / "copies", speed_factors=FACTORS)


def test_a_subset_takes_the_copies_along(folder, tmp_path):
    rows = load_token_store(folder)
    kept = [rows[1]["clip_id"], rows[6]["clip_id"]]
    info = write_token_subset(folder, tmp_path / "some", kept)
    assert (info.num_clips, info.num_spectra) == (2, rows[1]["num_spectra"] + rows[6]["num_spectra"])
    assert load_token_store(tmp_path / "some")["clip_id"][:] == kept
    assert sorted(load_speed_copies(tmp_path / "some")["clip_id"]) == sorted(2 * kept)


def test_streams_refuse_a_store_with_copies(folder):
    config = VQMAEConfig.from_preset("tiny", modalities=["audio"])
    with pytest.raises(ValueError, match=r"cannot be streamed; train without --stream"):
        StreamedTokenWindows(str(folder), config)
    with pytest.raises(ValueError, match="cannot be streamed"):
        read_some_clips(str(folder), ["s00"], ["audio"], 5)


def test_factors_that_are_none_and_pictures_are_refused(clips, audio, tmp_path):
    visual = VisualVQVAEModel(VisualVQVAEConfig.from_preset("tiny")).eval()
    processor = processor_for_tokenizers({"audio": audio, "visual": visual})
    with pytest.raises(ValueError, match=r"pictures would fall out of step"):
        write_token_store(clips, audio, visual, tmp_path / "store", processor=processor, speed_factors=FACTORS)
    for wrong in ([0.9, 1.1], [1, 1.0], [1, 0], [1, 3], [1, float("nan")], ["1"], 0.9, [True], []):
        with pytest.raises(ValueError, match=r"speed_factors=.* must be different numbers from 0\.5 to 2\.0, 1 among"):
            sorted_speed_factors(wrong)
    assert sorted_speed_factors([1.2, 0.8, 1]) == (1.0, 0.8, 1.2)
    assert sorted_speed_factors(None) == (1.0,)


def test_a_manifest_whose_factors_are_no_list_is_damaged(folder, tmp_path):
    manifest = json.loads((folder / "token_store.json").read_text())
    manifest["plan"]["parameters"]["speed_factors"] = 0.9
    (tmp_path / "token_store.json").write_text(json.dumps(manifest))
    with pytest.raises(DamagedStoreError, match=r"plan\.parameters\.speed_factors is 0\.9"):
        read_token_store_info(tmp_path)
