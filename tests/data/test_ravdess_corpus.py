"""RAVDESS in its own naming scheme: what a path says, what contradicts itself, wrong roots, real recordings."""

from collections import Counter

import pytest
from tests.data.corpus_trees import assert_seen_and_heard, by_clip, emotion_of, load_row, put_clip, reasons, touch

from vqmae_hf.data.corpora import CorpusError, LeftOut, corpus_card, list_corpus, load_corpus


def test_ravdess_names_say_everything(tmp_path):
    touch(
        tmp_path,
        "Actor_01/01-01-06-02-01-02-01.mp4",
        "Video_Speech_Actor_24/Actor_24/01-01-01-01-02-01-24.mp4",
        "Audio_Speech_Actors_01-24/Actor_02/03-01-08-01-01-01-02.wav",
    )
    corpus = load_corpus("ravdess", tmp_path)
    assert corpus.features["emotion"].names == list(corpus_card("ravdess").classes)
    assert corpus.info.license == "CC BY-NC-SA 4.0"
    row = by_clip(corpus)["01-01-06-02-01-02-01"]
    assert row["video"] == {"bytes": None, "path": str(tmp_path / "Actor_01/01-01-06-02-01-02-01.mp4")}
    assert (row["audio"], row["speaker"], row["sex"]) == (None, "01", "male")
    assert (emotion_of(corpus, row), row["intensity"], row["repetition"]) == ("fearful", "strong", 2)
    assert (row["vocal_channel"], row["statement"]) == ("speech", "Kids are talking by the door")
    sound = by_clip(corpus)["03-01-08-01-01-01-02"]
    assert sound["video"] is None
    assert sound["audio"]["path"].endswith("Actor_02/03-01-08-01-01-01-02.wav")
    assert (emotion_of(corpus, sound), sound["sex"]) == ("surprised", "female")
    assert by_clip(corpus)["01-01-01-01-02-01-24"]["statement"] == "Dogs are sitting by the door"


def test_ravdess_takes_each_recording_once_and_joins_silent_pictures_with_their_sound(tmp_path):
    put_clip(tmp_path, "Actor_01/01-01-03-01-01-01-01.mp4")
    touch(tmp_path, "Actor_01/02-01-03-01-01-01-01.mp4", "Actor_01/03-01-03-01-01-01-01.wav")
    put_clip(tmp_path, "Actor_02/02-01-03-01-01-01-02.mp4", sound=False)
    put_clip(tmp_path, "Actor_02/03-01-03-01-01-01-02.wav")
    listing = list_corpus("ravdess", tmp_path)
    rows = by_clip(listing.dataset)
    assert set(rows) == {"01-01-03-01-01-01-01", "02-01-03-01-01-01-02"}
    assert rows["01-01-03-01-01-01-01"]["audio"] is None
    assert rows["02-01-03-01-01-01-02"]["audio"]["path"].endswith("03-01-03-01-01-01-02.wav")
    for row in rows.values():
        assert_seen_and_heard(row)
    left_out = {item.path for item in listing.left_out}
    assert left_out == {"Actor_01/02-01-03-01-01-01-01.mp4", "Actor_01/03-01-03-01-01-01-01.wav"}
    assert listing.surprises == []


def test_ravdess_songs_are_asked_for(tmp_path):
    touch(tmp_path, "Actor_01/01-01-03-01-01-01-01.mp4", "Actor_01/01-02-03-01-01-01-01.mp4", "Actor_01/README.txt")
    for channel, expected in (("speech", 1), ("song", 1), ("both", 2)):
        corpus = load_corpus("ravdess", tmp_path, vocal_channel=channel)
        assert len(corpus) == expected
        assert channel == "both" or set(corpus["vocal_channel"]) == {channel}
    left_out = list_corpus("ravdess", tmp_path).left_out
    assert left_out[0] == LeftOut("Actor_01/01-02-03-01-01-01-01.mp4", "song; speech was asked for", True)
    with pytest.raises(ValueError, match="'speech', 'song' and 'both'"):
        load_corpus("ravdess", tmp_path, vocal_channel="whisper")


def test_ravdess_lists_what_does_not_belong_or_contradicts_itself(tmp_path):
    touch(
        tmp_path,
        "Actor_05/01-01-03-01-01-01-05.mp4",
        "Video_Speech_Actor_05/Actor_05/01-01-03-01-01-01-05.mp4",
        "Actor_05/01-01-03-01-01-01-03.mp4",
        "Actor_05/01-01-09-01-01-01-05.mp4",
        "Actor_05/01-01-03-01-01-01-05 (1).mp4",
        "Actor_05/03-01-04-01-01-01-05.mp4",
        "Actor_05/portrait.png",
        "01-01-03-01-01-01-04.mp4",
        "Video_Speech_Actor_06.zip",
        "my takes/Actor_05/01-01-04-01-01-01-05.mp4",
    )
    listing = list_corpus("ravdess", tmp_path)
    assert listing.dataset["clip_id"][:] == ["01-01-03-01-01-01-05"]
    assert reasons(listing) == {
        "Video_Speech_Actor_05/Actor_05/01-01-03-01-01-01-05.mp4": "second copy of a recording that is listed",
        "Actor_05/01-01-03-01-01-01-03.mp4": "the name says actor 03, the folder Actor_05",
        "Actor_05/01-01-09-01-01-01-05.mp4": f"name is not of the form {RAVDESS_SCHEME}",
        "Actor_05/01-01-03-01-01-01-05 (1).mp4": f"name is not of the form {RAVDESS_SCHEME}",
        "Actor_05/03-01-04-01-01-01-05.mp4": "video under the name of modality 03",
        "Actor_05/portrait.png": "neither video nor sound",
        "01-01-03-01-01-01-04.mp4": "not in a folder Actor_NN, of the root or of an unpacked zip",
        "Video_Speech_Actor_06.zip": "archive that is not unpacked",
        "my takes/Actor_05/01-01-04-01-01-01-05.mp4": "not in a folder Actor_NN, of the root or of an unpacked zip",
    }
    with pytest.warns(
        UserWarning, match=r"9 left out, 1 clips listed.*and 2 other reasons.*list_corpus\('ravdess', root\)"
    ):
        load_corpus("ravdess", tmp_path)


RAVDESS_SCHEME = "modality-channel-emotion-intensity-statement-repetition-actor, two digits each"


def test_wrong_roots_are_told_what_they_are(tmp_path):
    touch(tmp_path, "corpora/ravdess/Actor_01/03-01-03-01-01-01-01.wav")
    ravdess = tmp_path / "corpora/ravdess"
    with pytest.raises(CorpusError, match=rf"(?s)lies within .* RAVDESS; pass {ravdess}, .*ROOT/Actor_01/01-01-"):
        load_corpus("ravdess", ravdess / "Actor_01")
    with pytest.raises(CorpusError, match=rf"one level lower; pass {ravdess}"):
        load_corpus("ravdess", tmp_path / "corpora")
    touch(tmp_path, "zips/Video_Speech_Actor_01.zip", "zips/Video_Speech_Actor_02.zip")
    with pytest.raises(CorpusError, match=r"Found 2 archives \(Video_Speech_Actor_01\.zip, .*unpack them"):
        load_corpus("ravdess", tmp_path / "zips")
    touch(tmp_path, "other/holidays.mp4")
    with pytest.raises(CorpusError, match=r"Found 1 other files \(holidays\.mp4: name is not of the form"):
        load_corpus("ravdess", tmp_path / "other")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"empty holds no clip of RAVDESS\. It is empty\. Expected:"):
        load_corpus("ravdess", tmp_path / "empty")
    (tmp_path / "empty/Actor_01").mkdir()
    with pytest.raises(CorpusError, match=r"Found no files, and the folders Actor_01"):
        load_corpus("ravdess", tmp_path / "empty")
    with pytest.raises(CorpusError, match="is not a folder, so there is no ravdess corpus"):
        load_corpus("ravdess", tmp_path / "absent")


@pytest.mark.shared
def test_ravdess_speech_as_published(shared_dir):
    corpus = load_corpus("ravdess", shared_dir / "data/ravdess_speech_16k")
    assert len(corpus) == 1440
    assert "video" not in corpus.column_names
    assert Counter(corpus["speaker"][:]) == {f"{actor:02d}": 60 for actor in range(1, 25)}
    names = corpus.features["emotion"].names
    assert Counter(names[i] for i in corpus["emotion"][:]) == dict.fromkeys(names, 192) | {"neutral": 96}
    assert set(corpus.filter(lambda row: row["emotion"] == 0)["intensity"]) == {"normal"}
    row = by_clip(corpus)["03-01-06-01-02-01-12"]
    assert (row["speaker"], emotion_of(corpus, row), row["sex"]) == ("12", "fearful", "female")
    assert 2 < load_row(row).duration_seconds < 6
