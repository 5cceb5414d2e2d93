import csv
import json

import pytest
from datasets import ClassLabel

from vqmae_hf.data.corpora import CorpusError, corpus_names, load_corpus, register_corpus


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"never opened by a loader")


def write_csv(path, rows):
    with path.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_the_last_folder_names_the_emotion_at_any_depth(tmp_path):
    touch(tmp_path, "s1/sad/a.mp4", "s1/happy/b.MKV", "s2/deep/down/happy/a.mp4", ".cache/junk.mp4")
    corpus = load_corpus("videofolder", tmp_path)
    names = corpus.features["emotion"].names
    found = {row["clip_id"]: names[row["emotion"]] for row in corpus}
    assert found == {"s1/sad/a": "sad", "s1/happy/b": "happy", "s2/deep/down/happy/a": "happy"}
    assert names == ["happy", "sad"]
    assert corpus[0]["video"] == {"bytes": None, "path": str(tmp_path / corpus[0]["clip_id"]) + ".MKV"}
    assert set(corpus["speaker"]) == {"unknown"}


def test_clips_at_the_root_have_no_emotion(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4")
    assert set(load_corpus("videofolder", tmp_path).column_names) == {"clip_id", "video", "speaker"}


def test_speakers_are_read_from_the_path(tmp_path):
    touch(tmp_path, "sad/s01_take2.mp4", "happy/s14_take1.mp4")
    by_name = load_corpus("videofolder", tmp_path, speaker_pattern=r"/s(\d+)_")
    assert dict(zip(by_name["clip_id"], by_name["speaker"], strict=True)) == {
        "happy/s14_take1": "14",
        "sad/s01_take2": "01",
    }
    named = load_corpus("videofolder", tmp_path, speaker_pattern=r"(take)(?P<speaker>\d)")
    assert sorted(named["speaker"]) == ["1", "2"]
    with pytest.raises(CorpusError, match="matches 1 of 2"):
        load_corpus("videofolder", tmp_path, speaker_pattern=r"s(01)")
    with pytest.raises(CorpusError, match="no group"):
        load_corpus("videofolder", tmp_path, speaker_pattern=r"s\d+")
    with pytest.raises(CorpusError, match="no regular expression"):
        load_corpus("videofolder", tmp_path, speaker_pattern=r"s(\d+")


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_metadata_rows_are_the_corpus(tmp_path, kind):
    touch(tmp_path, "x/1.mp4", "x/2.mp4", "x/not_listed.mp4")
    rows = [
        {"path": "x/1.mp4", "label": "fear", "actor": "7", "intensity": "strong", "take": "1"},
        {"path": "x/2.mp4", "label": "calm", "actor": "8", "intensity": "normal", "take": "2"},
    ]
    if kind == "csv":
        write_csv(tmp_path / "metadata.csv", rows)
    else:
        (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    columns = {"file_name": "path", "emotion": "label", "speaker": "actor"}
    corpus = load_corpus("videofolder", tmp_path, columns=columns, class_names=["fear", "joy", "calm"])
    assert corpus.features["emotion"] == ClassLabel(names=["fear", "joy", "calm"])
    assert corpus["emotion"][:] == [0, 2]
    assert corpus["speaker"][:] == ["7", "8"]
    assert corpus["intensity"][:] == ["strong", "normal"]
    assert corpus["take"][:] == ["1", "2"]
    with pytest.raises(CorpusError, match=r"lacks the columns \['file_name'\].*columns="):
        load_corpus("videofolder", tmp_path)
    with pytest.raises(CorpusError, match="does not name"):
        load_corpus("videofolder", tmp_path, columns=columns, class_names=["fear"])
    with pytest.raises(CorpusError, match="names the parts"):
        load_corpus("videofolder", tmp_path, columns={"feeling": "label"})


def test_metadata_that_lists_absent_files_is_refused(tmp_path):
    touch(tmp_path, "1.mp4")
    write_csv(tmp_path / "metadata.csv", [{"file_name": "1.mp4"}, {"file_name": "gone.mp4"}])
    with pytest.raises(CorpusError, match=r"1 files that are not below .*gone\.mp4"):
        load_corpus("videofolder", tmp_path)


def test_a_clip_without_emotion_among_labelled_ones_is_refused(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    write_csv(
        tmp_path / "metadata.csv", [{"file_name": "1.mp4", "emotion": "sad"}, {"file_name": "2.mp4", "emotion": ""}]
    )
    with pytest.raises(CorpusError, match=r"1 of 2 clips have no emotion, e\.g\. 2\.mp4"):
        load_corpus("videofolder", tmp_path)
    touch(tmp_path / "mixed", "a.mp4", "sad/b.mp4")
    with pytest.raises(CorpusError, match=r"mixes clips.*a\.mp4"):
        load_corpus("videofolder", tmp_path / "mixed")


def test_wrong_roots_explain_the_expected_tree(tmp_path):
    with pytest.raises(CorpusError, match="is not a folder"):
        load_corpus("videofolder", tmp_path / "absent")
    with pytest.raises(CorpusError, match=r"no files.*<emotion>/<clip>\.mp4.*metadata\.csv"):
        load_corpus("videofolder", tmp_path)
    touch(tmp_path, "sad/sound.wav")
    with pytest.raises(CorpusError, match=r"1 other files, e\.g\. sad/sound\.wav"):
        load_corpus("videofolder", tmp_path)
    with pytest.raises(ValueError, match="unknown corpus 'ravdes'; known: "):
        load_corpus("ravdes", tmp_path)


def test_other_files_are_listed_and_left_out(tmp_path):
    touch(tmp_path, "sad/a.mp4", "sad/notes.txt")
    with pytest.warns(UserWarning, match=r"1 files that are no video were left out: sad/notes\.txt"):
        corpus = load_corpus("videofolder", tmp_path)
    assert corpus["clip_id"][:] == ["sad/a"]


def test_two_files_of_one_name_are_refused(tmp_path):
    touch(tmp_path, "sad/a.mp4", "sad/a.mov")
    with pytest.raises(CorpusError, match=r"share the clip name sad/a"):
        load_corpus("videofolder", tmp_path)


def test_sound_files_fill_the_audio_column(tmp_path):
    touch(tmp_path, "sad/a.wav", "happy/b.flac")
    corpus = load_corpus("audiofolder", tmp_path)
    assert "video" not in corpus.column_names
    assert corpus[0]["audio"]["path"] == str(tmp_path / "happy/b.flac")


def test_a_name_is_registered_once():
    assert {"audiofolder", "synthetic", "videofolder"} <= set(corpus_names())
    with pytest.raises(ValueError, match="already registered"):
        register_corpus("videofolder")(lambda root: None)
