import csv
import json

import pytest
from datasets import ClassLabel

from vqmae_hf.data.corpora import (
    CorpusCard,
    CorpusError,
    CorpusListing,
    LeftOut,
    corpus_card,
    corpus_names,
    list_corpus,
    load_corpus,
    load_media_folder,
    register_corpus,
    registry,
)


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
    touch(tmp_path, "x/1.mp4", "x/2.mp4")
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


def test_rows_that_cannot_be_read_are_named_by_their_line(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    (tmp_path / "metadata.csv").write_text("file_name,speaker\n1.mp4,a\n2.mp4\n")
    with pytest.raises(CorpusError, match=r"metadata\.csv, line 3: not as many fields"):
        load_corpus("videofolder", tmp_path)
    (tmp_path / "metadata.csv").unlink()
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "1.mp4"}\n{"file_name": \n')
    with pytest.raises(CorpusError, match=r"metadata\.jsonl, line 2 is not JSON"):
        load_corpus("videofolder", tmp_path)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "1.mp4"}\n{"name": "2.mp4"}\n')
    with pytest.raises(CorpusError, match=r"lacks the columns \['file_name'\], or some of its rows do"):
        load_corpus("videofolder", tmp_path)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "1.mp4", "x": 1}\n{"file_name": "2.mp4", "x": "b"}\n')
    with pytest.raises(CorpusError, match=r"column 'x' mixes values of the types \['int', 'str'\]"):
        load_corpus("videofolder", tmp_path)


def test_columns_of_json_keep_their_types_and_speaker_0_is_a_speaker(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4")
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name": "./1.mp4", "speaker": 0, "words": ["a", "b"], "level": 0.5}\n'
        '{"file_name": "2.mp4", "speaker": null, "words": [], "late": "x"}\n'
    )
    corpus = load_corpus("videofolder", tmp_path)
    assert corpus["speaker"][:] == ["0", "unknown"]
    assert corpus["words"][:] == [["a", "b"], []]
    assert corpus["level"][:] == [0.5, None]
    assert corpus["late"][:] == [None, "x"]


def test_other_files_are_listed_and_left_out(tmp_path):
    touch(tmp_path, "sad/a.mp4", "sad/notes.txt", "sad/Thumbs.db", "__MACOSX/sad/b.mp4")
    with pytest.warns(UserWarning, match=r"1 left out, 1 clips listed\. no video: 1 \(sad/notes\.txt\)"):
        corpus = load_corpus("videofolder", tmp_path)
    assert corpus["clip_id"][:] == ["sad/a"]
    with pytest.warns(UserWarning, match="1 left out"):
        assert load_media_folder(tmp_path, "video")["clip_id"][:] == ["sad/a"]
    assert list_corpus("videofolder", tmp_path).left_out == [LeftOut("sad/notes.txt", "no video")]


def test_clips_that_the_metadata_does_not_name_are_listed_as_left_out(tmp_path):
    touch(tmp_path, "a.mp4", "deep/forgotten.mp4")
    write_csv(tmp_path / "metadata.csv", [{"file_name": "a.mp4"}])
    assert list_corpus("videofolder", tmp_path).left_out == [LeftOut("deep/forgotten.mp4", "not in metadata.csv")]
    with pytest.warns(UserWarning, match=r"not in metadata\.csv: 1 \(deep/forgotten\.mp4\)"):
        load_corpus("videofolder", tmp_path)


def test_links_to_folders_are_followed_but_never_in_a_circle(tmp_path):
    touch(tmp_path, "elsewhere/sad/a.mp4")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere/sad/back").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert load_corpus("videofolder", corpus)["clip_id"][:] == ["linked/sad/a"]


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
    assert {"audiofolder", "hub", "synthetic", "videofolder", "ravdess", "voxceleb2"} <= set(corpus_names())
    with pytest.raises(ValueError, match="already registered"):
        register_corpus("videofolder")(lambda root: None)


def test_a_card_goes_into_the_datasets_info(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    card = CorpusCard("mine", "My corpus", (), 1, "CC0", "https://example.org", "Me (2024)", ("visual",), "Small.")

    @register_corpus("mine", card=card)
    def list_mine(root):
        return CorpusListing(load_media_folder(root, "video"), [LeftOut("cover.png", "picture", is_expected=True)])

    touch(tmp_path, "a.mp4")
    listing = list_corpus("mine", tmp_path)
    assert corpus_card("mine") is card
    assert listing.left_out[0].path == "cover.png"
    info = load_corpus("mine", tmp_path).info  # without a warning: the file is expected
    assert (info.license, info.homepage, info.citation) == ("CC0", "https://example.org", "Me (2024)")
    assert info.description == "My corpus. Small."


def test_layouts_have_no_card_and_published_corpora_do():
    for name in set(corpus_names()) - {"audiofolder", "hub", "videofolder"}:
        card = corpus_card(name)
        assert card.name == name
        assert all((card.title, card.licence, card.source, card.citation, card.notes))
        assert set(card.modalities) == {"audio", "visual"}
    with pytest.raises(ValueError, match=r"'videofolder' is a layout.*'ravdess'"):
        corpus_card("videofolder")
    with pytest.raises(ValueError, match="unknown corpus 'nothing'"):
        corpus_card("nothing")
