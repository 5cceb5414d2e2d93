"""Datasets with a video or audio column, in memory, on disk and by a name of the Hub, as corpora."""

import io

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from datasets import Audio, ClassLabel, Dataset, DatasetDict, DatasetInfo, Features, Value, Video
from tests.data.media_by_hand import numbered_frames, tone

from vqmae_hf.data.clips import load_clip
from vqmae_hf.data.corpora import CorpusError, load_corpus, load_hub_corpus
from vqmae_hf.data.media import write_clip
from vqmae_hf.data.splits import TooFewSpeakersError, speaker_folds

EMOTIONS = ("neutral", "calm", "happy")


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Bytes of a video and of a sound at 16 kHz."""
    path = write_clip(tmp_path_factory.mktemp("media") / "clip.mp4", numbered_frames(25), tone(1.0))
    sound = io.BytesIO()
    soundfile.write(sound, tone(1.0), 16000, format="WAV")
    return path.read_bytes(), sound.getvalue()


def ravdess_av(media, actors=range(1, 6), **columns):
    """A dataset shaped like mteb/RAVDESS_AV: media as bytes, decoded on access, no column of speakers."""
    names = [f"01-01-{e:02d}-01-01-01-{actor:02d}" for actor in actors for e in (1, 2, 3)]
    data = {
        "video": pa.array([{"bytes": media[0], "path": f"{name}.mp4"} for name in names]),
        "audio": pa.array([{"bytes": media[1], "path": f"{name}.wav"} for name in names]),
        "emotion": pa.array([i % 3 for i in range(len(names))]),
        "duration": pa.array([1.0] * len(names)),
        **columns,
    }
    features = {
        "video": Video(),
        "audio": Audio(sampling_rate=16000),
        "emotion": ClassLabel(names=list(EMOTIONS)),
        "duration": Value("float64"),
    }
    features |= {name: Value(str(column.type)) for name, column in columns.items()}
    return Dataset(pa.table(data), info=DatasetInfo(features=Features(features)))


def test_a_dataset_becomes_a_corpus_without_decoding(media):
    corpus = load_hub_corpus(ravdess_av(media), speaker_pattern=r"-(\d\d)\.mp4$")
    assert corpus.column_names == ["clip_id", "video", "audio", "speaker", "emotion", "duration"]
    assert corpus["clip_id"][0] == "01-01-01-01-01-01-01"
    assert corpus["speaker"][:] == [f"{actor:02d}" for actor in range(1, 6) for _ in range(3)]
    assert corpus.features["emotion"] == ClassLabel(names=list(EMOTIONS))
    assert corpus["emotion"][:] == [0, 1, 2] * 5
    row = corpus[4]
    assert row["video"] == {"bytes": media[0], "path": "01-01-02-01-01-01-02.mp4"}
    clip = load_clip(row["video"], audio_source=row["audio"], face_size=16, crop_faces=False)
    assert len(clip.frames) == 25
    assert np.abs(clip.waveform).max() > 0.1
    with pytest.raises(TooFewSpeakersError, match="4 of whom must stay with another"):
        speaker_folds(corpus)  # all clips of this test hold the same bytes
    folds = speaker_folds(corpus, num_folds=5, duplicates="ignore")
    tested = [speaker for fold in folds for speaker in set(fold["test"]["speaker"])]
    assert sorted(tested) == ["01", "02", "03", "04", "05"]


def test_rows_that_were_selected_keep_their_names(media):
    data = ravdess_av(media).select([7, 0, 3])
    corpus = load_hub_corpus(data, speaker_pattern=r"-(\d\d)\.mp4$")
    assert corpus["speaker"][:] == ["03", "01", "02"]
    assert [row["video"]["path"].split(".")[0] for row in corpus] == corpus["clip_id"][:]


@pytest.mark.parametrize("form", ["parquet", "arrow", "saved", "saved_dict"])
def test_a_folder_is_a_corpus_in_every_form_of_datasets(media, tmp_path, form):
    data, folder = ravdess_av(media), tmp_path / "data"
    if form == "parquet":
        folder.mkdir()
        data.to_parquet(folder / "train-00000-of-00001.parquet")
    elif form == "arrow":
        data.save_to_disk(tmp_path / "saved")
        folder.mkdir()
        (tmp_path / "saved/data-00000-of-00001.arrow").rename(folder / "train.arrow")
    else:
        (data if form == "saved" else DatasetDict(train=data)).save_to_disk(folder)
    corpus = load_corpus("hub", folder, speaker_pattern=r"-(\d\d)\.mp4$")
    expected = load_hub_corpus(data, speaker_pattern=r"-(\d\d)\.mp4$")
    assert corpus[:] == expected[:]
    assert corpus.features == expected.features


def test_splits_are_named_and_joined(media, tmp_path):
    parts = DatasetDict(train=ravdess_av(media, [1, 2]), test=ravdess_av(media, [3]))
    (tmp_path / "parquet").mkdir()
    for name, part in parts.items():
        part.to_parquet(tmp_path / f"parquet/{name}.parquet")
    parts.save_to_disk(tmp_path / "saved")
    for source in (parts, tmp_path / "saved", str(tmp_path / "parquet")):
        assert len(load_hub_corpus(source, split="train+test")) == 9
        assert len(load_hub_corpus(source, split="test")) == 3
        with pytest.raises(CorpusError, match=r"\['train', 'test'\].*split='train\+test'"):
            load_hub_corpus(source)
        with pytest.raises(CorpusError, match="holdout"):
            load_hub_corpus(source, split="holdout")


def test_columns_of_other_names_play_their_parts(media):
    data = ravdess_av(media, [1], actor=pa.array([7, 7, 8]), word=pa.array(["x", "y", "x"]))
    data = data.rename_columns({"video": "clip", "emotion": "label"})
    corpus = load_hub_corpus(data, columns={"speaker": "actor", "emotion": "word"})
    assert corpus["speaker"][:] == ["7", "7", "8"]
    assert corpus.features["emotion"].names == ["x", "y"]
    assert corpus["emotion"][:] == [0, 1, 0]
    assert corpus[0]["video"]["bytes"] == media[0], "found by its type"
    named = load_hub_corpus(data, columns={"emotion": "label"}, class_names=["happy", "calm", "neutral", "angry"])
    assert named["emotion"][:] == [2, 1, 0]
    assert set(named["speaker"]) == {"unknown"}
    with pytest.raises(CorpusError, match=r"parts \['feeling'\] and the columns \['mood'\]"):
        load_hub_corpus(data, columns={"feeling": "mood"})


def test_bare_numbers_need_names_and_unlabelled_rows_are_refused(media):
    data = ravdess_av(media, [1]).cast_column("emotion", Value("int64"))
    with pytest.raises(CorpusError, match=r"the numbers 0, 1, 2.*class_names"):
        load_hub_corpus(data)
    assert load_hub_corpus(data, class_names=EMOTIONS)["emotion"][:] == [0, 1, 2]
    with pytest.raises(CorpusError, match=r"emotions \[2\]; class_names has 2 names"):
        load_hub_corpus(data, class_names=EMOTIONS[:2])
    unlabelled = ravdess_av(media, [1]).remove_columns("emotion")
    unlabelled = unlabelled.add_column("emotion", [0, -1, 2], feature=ClassLabel(names=list(EMOTIONS)))
    with pytest.raises(CorpusError, match=r"1 of 3 clips have no emotion, e\.g\. 01-01-02-01-01-01-01"):
        load_hub_corpus(unlabelled)


def test_clips_without_names_of_their_own_are_numbered(media):
    bare = Dataset.from_dict({"video": [media[0]] * 2}).cast_column("video", Video(decode=False))
    assert load_hub_corpus(bare)["clip_id"][:] == ["000000", "000001"]
    with pytest.raises(CorpusError, match="matches 0 of 2"):
        load_hub_corpus(bare, speaker_pattern=r"(s\d)")
    alike = Dataset.from_dict({"audio": ["x/a.wav", "x/a.wav"]}).cast_column("audio", Audio(decode=False))
    assert load_hub_corpus(alike)["clip_id"][:] == ["000000", "000001"]
    folders = Dataset.from_dict({"video": ["/data/s1/a.mp4", "/data/s2/a.mp4"]})
    corpus = load_hub_corpus(folders, speaker_pattern=r"^(s\d)/")
    assert corpus["clip_id"][:] == ["s1/a", "s2/a"]
    assert corpus["speaker"][:] == ["s1", "s2"]
    assert corpus[0]["video"] == {"bytes": None, "path": "/data/s1/a.mp4"}
    with pytest.raises(CorpusError, match="share the clip_id a"):
        load_hub_corpus(folders.add_column("clip_id", ["a", "a"]))


def test_what_is_no_corpus_is_refused(media, tmp_path):
    data = ravdess_av(media, [1])
    with pytest.raises(CorpusError, match=r"no video or audio column.*duration"):
        load_hub_corpus(data.select_columns(["emotion", "duration"]))
    with pytest.raises(CorpusError, match="IterableDataset"):
        load_hub_corpus(data.to_iterable_dataset())
    with pytest.raises(CorpusError, match="has no rows"):
        load_hub_corpus(data.select([]))
    with pytest.raises(CorpusError, match=r"absent is not a folder"):
        load_corpus("hub", tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="doesn't contain any data files"):
        load_corpus("hub", tmp_path / "empty")


def test_without_network_the_way_out_is_named():
    with pytest.raises(CorpusError, match=r"hf download nobody/nothing --repo-type dataset --local-dir FOLDER"):
        load_corpus("hub", "nobody/nothing")
