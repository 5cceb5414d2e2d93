"""Each published corpus in its own naming scheme: what a path says, what contradicts itself, wrong roots."""

import sys
import tempfile
from collections import Counter
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.corpus_trees import assert_seen_and_heard, by_clip, emotion_of, load_row, put_clip, reasons, touch

from vqmae_hf.data.corpora import CorpusError, corpus_card, list_corpus, load_corpus

# ---- CREMA-D ----


def test_crema_d_joins_video_and_sound(tmp_path):
    put_clip(tmp_path, "VideoFlash/1001_DFA_ANG_XX.flv")
    put_clip(tmp_path, "AudioWAV/1001_DFA_ANG_XX.wav")
    touch(tmp_path, "AudioMP3/1001_DFA_ANG_XX.mp3", "AudioWAV/1091_IEO_SAD_HI.wav", "AudioWAV/1040_ITH_SAD_X.wav")
    touch(tmp_path, "VideoDemographics.csv", "1002_WSI_NEU_XX.mp4")
    listing = list_corpus("crema_d", tmp_path)
    corpus = listing.dataset
    rows = by_clip(corpus)
    assert set(rows) == {"1001_DFA_ANG_XX", "1091_IEO_SAD_HI", "1040_ITH_SAD_X", "1002_WSI_NEU_XX"}
    row = rows["1001_DFA_ANG_XX"]
    assert row["video"]["path"].endswith(".flv")
    assert row["audio"]["path"].endswith("AudioWAV/1001_DFA_ANG_XX.wav")
    assert_seen_and_heard(row)
    assert (row["speaker"], emotion_of(corpus, row), row["intensity"]) == ("1001", "anger", "unspecified")
    assert row["statement"] == "Don't forget a jacket"
    assert rows["1091_IEO_SAD_HI"]["video"] is None
    assert rows["1091_IEO_SAD_HI"]["intensity"] == "high"
    assert rows["1040_ITH_SAD_X"]["intensity"] == "unspecified"
    assert rows["1002_WSI_NEU_XX"]["audio"] is None
    assert listing.surprises == []
    assert {item.path for item in listing.left_out} == {"AudioMP3/1001_DFA_ANG_XX.mp3", "VideoDemographics.csv"}


def test_crema_d_lists_what_does_not_belong(tmp_path):
    touch(tmp_path, "1001_DFA_ANG_XX.mp4", "1092_DFA_ANG_XX.mp4", "1001_XYZ_ANG_XX.mp4", "1001_DFA_JOY_XX.mp4")
    touch(tmp_path, "1002/1001_TAI_SAD_XX.mp4", "a/b/1001_TIE_SAD_XX.mp4", "copy/1001_DFA_ANG_XX.mp4")
    listing = list_corpus("crema_d", tmp_path)
    assert listing.dataset["clip_id"][:] == ["1001_DFA_ANG_XX"]
    scheme = "name is not of the form actor_sentence_emotion_intensity, as 1001_DFA_ANG_XX"
    assert reasons(listing) == {
        "1092_DFA_ANG_XX.mp4": scheme,
        "1001_XYZ_ANG_XX.mp4": scheme,
        "1001_DFA_JOY_XX.mp4": scheme,
        "1002/1001_TAI_SAD_XX.mp4": "the name says actor 1001, the folder 1002",
        "a/b/1001_TIE_SAD_XX.mp4": "more than one folder below the root",
        "copy/1001_DFA_ANG_XX.mp4": "second copy of a recording that is listed",
    }
    assert len(load_corpus("crema_d", tmp_path / "1002")) == 1
    (tmp_path / "above").mkdir()
    (tmp_path / "1002").rename(tmp_path / "above/AudioWAV")
    (tmp_path / "further").mkdir()
    (tmp_path / "above").rename(tmp_path / "further/above")
    with pytest.raises(CorpusError, match=rf"one level lower; pass {tmp_path}/further/above"):
        load_corpus("crema_d", tmp_path / "further")


# ---- eNTERFACE'05 ----


def test_enterface_with_its_irregularities(tmp_path):
    put_clip(tmp_path, "subject 1/anger/sentence 1/s1_an_1.avi")
    touch(
        tmp_path,
        "subject 6/anger/s6_an_1.avi",
        "subject 6/disgust/s6_di.avi",
        "subject 16/Surprise/sentence 3/s16_su_3avi.avi",
        "subject 20/fear/sentence 2/s_20_fe_2.avi",
        "subject 1/anger/sentence 1/Thumbs.db",
    )
    corpus = load_corpus("enterface", tmp_path)
    rows = by_clip(corpus)
    labels = {name: (row["speaker"], emotion_of(corpus, row), row["sentence"]) for name, row in rows.items()}
    assert labels == {
        "s1_an_1": ("1", "anger", 1),
        "s6_an_1": ("6", "anger", 1),
        "s6_di": ("6", "disgust", None),
        "s16_su_3": ("16", "surprise", 3),
        "s20_fe_2": ("20", "fear", 2),
    }
    assert corpus.features["emotion"].names == list(corpus_card("enterface").classes)
    assert_seen_and_heard(rows["s1_an_1"])


def test_enterface_lists_contradictions(tmp_path):
    touch(
        tmp_path,
        "subject 1/anger/sentence 1/s1_an_1.avi",
        "subject 1/anger/sentence 2/s2_an_2.avi",
        "subject 1/anger/sentence 3/s1_sa_3.avi",
        "subject 1/anger/sentence 4/s1_an_5.avi",
        "subject 1/boredom/sentence 1/s1_an_1.avi",
        "subject 1/anger/sentence 5/holiday.avi",
        "subject 1/s1_an_1.avi",
        "subject 1/anger/takes/s1_an_2.avi",
    )
    listing = list_corpus("enterface", tmp_path)
    assert listing.dataset["clip_id"][:] == ["s1_an_1"]
    assert reasons(listing) == {
        "subject 1/anger/sentence 2/s2_an_2.avi": "the name says subject 2, the folder 1",
        "subject 1/anger/sentence 3/s1_sa_3.avi": "the name says emotion sadness, the folder anger",
        "subject 1/anger/sentence 4/s1_an_5.avi": "the name says sentence 5, the folder 4",
        "subject 1/boredom/sentence 1/s1_an_1.avi": "folder 'boredom' is none of the emotions",
        "subject 1/anger/sentence 5/holiday.avi": "name is not of the form "
        "s<subject>_<two letters of the emotion>_<sentence>, as s1_an_1",
        "subject 1/s1_an_1.avi": "not in subject N/emotion/sentence M, nor in subject N/emotion",
        "subject 1/anger/takes/s1_an_2.avi": "not in subject N/emotion/sentence M, nor in subject N/emotion",
    }
    with pytest.raises(CorpusError, match=rf"pass {tmp_path}, the folder that holds all"):
        load_corpus("enterface", tmp_path / "subject 1/anger")


# ---- MEAD ----


def test_mead_gives_every_view_the_sound_of_its_recording(tmp_path):
    put_clip(tmp_path, "M003/video/front/angry/level_1/001.mp4", sound=False)
    put_clip(tmp_path, "M003/audio/angry/level_1/001.m4a", frames=False)
    touch(tmp_path, "M003/video/left_30/angry/level_1/001.mp4", "W009/audio/neutral/level_1/002.m4a")
    front = load_corpus("mead", tmp_path)
    rows = by_clip(front)
    assert set(rows) == {"M003/front/angry/level_1/001", "W009/audio/neutral/level_1/002"}
    row = rows["M003/front/angry/level_1/001"]
    assert (row["speaker"], row["sex"], row["view"], row["intensity"]) == ("M003", "male", "front", "level_1")
    assert_seen_and_heard(row)
    sound = rows["W009/audio/neutral/level_1/002"]
    assert (sound["video"], sound["view"], emotion_of(front, sound)) == (None, None, "neutral")
    both = by_clip(load_corpus("mead", tmp_path, views=["front", "left_30"]))
    assert both["M003/left_30/angry/level_1/001"]["audio"] == row["audio"]
    assert len(both) == 3
    with pytest.raises(ValueError, match="must be a list of some of"):
        load_corpus("mead", tmp_path, views="front")
    with pytest.raises(ValueError, match="'behind'"):
        load_corpus("mead", tmp_path, views=["behind"])


def test_mead_lists_what_does_not_belong(tmp_path):
    touch(
        tmp_path,
        "M003/video/front/angry/level_1/001.mp4",
        "M003/video/front/bored/level_1/001.mp4",
        "M003/video/front/angry/level_4/001.mp4",
        "M003/video/behind/angry/level_1/001.mp4",
        "M003/video/front/angry/001.mp4",
        "M003/video/front/angry/level_1/one.mp4",
        "M003/audio.tar",
        "X003/video/front/angry/level_1/001.mp4",
    )
    listing = list_corpus("mead", tmp_path)
    assert listing.dataset["clip_id"][:] == ["M003/front/angry/level_1/001"]
    misplaced = "video outside of SPEAKER/video/view/emotion/level_N"
    assert reasons(listing) == {
        "M003/video/front/bored/level_1/001.mp4": "folder 'bored' is none of the emotions",
        "M003/video/front/angry/level_4/001.mp4": "name is not of the form level_1 to level_3 (its folder)",
        "M003/video/behind/angry/level_1/001.mp4": "folder 'behind' is none of the views",
        "M003/video/front/angry/001.mp4": misplaced,
        "M003/video/front/angry/level_1/one.mp4": "name is not of the form three digits",
        "M003/audio.tar": "archive that is not unpacked",
        "X003/video/front/angry/level_1/001.mp4": misplaced,
    }


# ---- VoxCeleb2 ----


def test_voxceleb2_joins_pictures_and_sound(tmp_path):
    put_clip(tmp_path, "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4", sound=False)
    put_clip(tmp_path, "dev/aac/id00012/21Uxsk56VDQ/00001.m4a", frames=False)
    touch(tmp_path, "dev/mp4/id00012/__Uxsk56VD-/00002.mp4", "test/aac/id00017/01dfn2spqyE/00001.m4a")
    touch(tmp_path, "dev/txt/id00012/21Uxsk56VDQ/00001.txt", "vox2_meta.csv")
    listing = list_corpus("voxceleb2", tmp_path)
    rows = by_clip(listing.dataset)
    assert "emotion" not in listing.dataset.column_names
    assert set(rows) == {"id00012/21Uxsk56VDQ/00001", "id00012/__Uxsk56VD-/00002", "id00017/01dfn2spqyE/00001"}
    joined = rows["id00012/21Uxsk56VDQ/00001"]
    assert (joined["speaker"], joined["source_video"], joined["partition"]) == ("id00012", "21Uxsk56VDQ", "dev")
    assert_seen_and_heard(joined)
    assert rows["id00012/__Uxsk56VD-/00002"]["audio"] is None
    assert rows["id00017/01dfn2spqyE/00001"]["video"] is None
    assert rows["id00017/01dfn2spqyE/00001"]["partition"] == "test"
    assert listing.surprises == []
    assert {item.path for item in listing.left_out} == {"dev/txt/", "vox2_meta.csv"}


def test_voxceleb2_lists_what_does_not_belong_and_finds_its_root(tmp_path):
    touch(tmp_path, "vox/mp4/id00012/21Uxsk56VDQ/00001.mp4", "vox/dev/mp4/id00012/21Uxsk56VDQ/00001.mp4")
    touch(tmp_path, "vox/mp4/id12/21Uxsk56VDQ/00001.mp4", "vox/mp4/id00012/21Uxsk56VDQ/00001.wav")
    listing = list_corpus("voxceleb2", tmp_path / "vox")
    assert listing.dataset["partition"][:] == ["dev"]
    misplaced = "not at [dev|test]/mp4/idNNNNN/<video>/NNNNN.mp4 or [dev|test]/aac/idNNNNN/<video>/NNNNN.m4a"
    assert reasons(listing) == {
        "mp4/id00012/21Uxsk56VDQ/00001.mp4": "second copy of a recording that is listed",
        "mp4/id12/21Uxsk56VDQ/00001.mp4": misplaced,
        "mp4/id00012/21Uxsk56VDQ/00001.wav": misplaced,
    }
    with pytest.raises(CorpusError, match=rf"one level lower; pass {tmp_path}/vox"):
        load_corpus("voxceleb2", tmp_path)
    with pytest.raises(CorpusError, match=rf"lies within .*; pass {tmp_path}/vox/dev"):
        load_corpus("voxceleb2", tmp_path / "vox/dev/mp4/id00012")


def test_voxceleb2_is_listed_without_a_call_per_file(tmp_path, monkeypatch):
    for speaker in range(20):
        folder = tmp_path / f"dev/mp4/id{speaker:05d}/21Uxsk56VDQ"
        folder.mkdir(parents=True)
        for i in range(100):
            (folder / f"{i:05d}.mp4").touch()
    asked = []

    def record(call):
        def recorded(path, *args, **kwargs):
            asked.append(str(path))
            return call(path, *args, **kwargs)

        return recorded

    for name in ("os.stat", "os.lstat", "builtins.open", "io.open"):
        monkeypatch.setattr(name, record(getattr(sys.modules[name.split(".")[0]], name.split(".")[1])))
    corpus = load_corpus("voxceleb2", tmp_path)
    assert Counter(corpus["speaker"][:]) == {f"id{speaker:05d}": 100 for speaker in range(20)}
    assert str(tmp_path) in asked, "the recording works"
    assert not [path for path in asked if path.endswith(".mp4")]


# ---- GRID ----


def test_grid_names_spell_the_sentence(tmp_path):
    put_clip(tmp_path, "s1/video/mpg_6000/bbaf2n.mpg")
    touch(tmp_path, "s1/bbaf2n.mpg", "s1/align/bbaf2n.align", "s1/lwwzza.mpg", "s34/sgix9s.mpg", "s1/bbaf2n.wav")
    listing = list_corpus("grid", tmp_path)
    rows = by_clip(listing.dataset)
    sentences = {name: row["sentence"] for name, row in rows.items()}
    assert sentences == {
        "s1/bbaf2n": "bin blue at f two now",
        "s1/lwwzza": "lay white with z zero again",
        "s34/sgix9s": "set green in x nine soon",
    }
    row = rows["s1/bbaf2n"]
    assert row["video"]["path"].endswith("mpg_6000/bbaf2n.mpg")
    words = ("command", "colour", "preposition", "letter", "digit", "adverb")
    assert " ".join(row[word] for word in words) == row["sentence"]
    assert_seen_and_heard(row)
    assert set(listing.dataset["speaker"]) == {"s1", "s34"}
    assert listing.surprises == []
    assert {item.path for item in listing.left_out} == {"s1/bbaf2n.mpg", "s1/align/bbaf2n.align", "s1/bbaf2n.wav"}


def test_grid_knows_no_speaker_where_no_name_tells_one(tmp_path):
    touch(
        tmp_path,
        "s1_bbal6n.mpg",
        "lipnet_id2_vcd_swwp2s.mpg",
        "video_20251208.mpg",
        "s1_bbaw6n.mpg",
        "s2/s1_bbal6n.mpg",
        "takes/bbal6n.mpg",
        "s2/s2_pwij3p.mpg",
    )
    listing = list_corpus("grid", tmp_path)
    speakers = {row["clip_id"]: row["speaker"] for row in listing.dataset}
    assert speakers == {"s1/bbal6n": "s1", "lipnet_id2_vcd_swwp2s": "unknown", "s2/pwij3p": "s2"}
    scheme = "bbaf2n (command, colour, preposition, letter, digit, adverb), with or without a prefix"
    assert reasons(listing) == {
        "video_20251208.mpg": f"name is not of the form {scheme}",
        "s1_bbaw6n.mpg": f"name is not of the form {scheme}",  # nobody says the letter w
        "s2/s1_bbal6n.mpg": "the name says speaker s1, the folder s2",
        "takes/bbal6n.mpg": "neither in the root nor in a speaker's folder s1 to s34",
    }
    touch(tmp_path, "real/s3/bbal6n.mpg")
    with pytest.raises(CorpusError, match=rf"lies within .*; pass {tmp_path}/real,"):
        load_corpus("grid", tmp_path / "real/s3")


@pytest.mark.shared
def test_grid_as_shared(shared_dir):
    root = shared_dir / "data/grid"
    listing = list_corpus("grid", root)
    assert len(listing.dataset) + len(listing.left_out) == len(list(root.iterdir()))
    assert Counter(listing.dataset["speaker"][:]) == {"s1": 100, "unknown": 11}
    assert all(item.path.startswith("video_") for item in listing.left_out)
    assert len(listing.surprises) == 5
    row = by_clip(listing.dataset)["lipnet_bbaf2n"]
    assert row["sentence"] == "bin blue at f two now"
    clip = load_row(row)
    assert len(clip.frames) == 75
    assert np.abs(clip.waveform).max() > 0.01


# ---- all of them ----


def test_every_published_corpus_shows_its_tree(tmp_path):
    for name in ("ravdess", "crema_d", "enterface", "mead", "voxceleb2", "grid"):
        with pytest.raises(CorpusError, match=r"Expected:\n  ROOT/"):
            load_corpus(name, tmp_path)


# A file that is a clip for certain, then files of which any may be there.
POOLS = {
    "ravdess": ["Actor_01/01-01-03-01-01-01-01.mp4", "Actor_01/02-01-03-01-01-01-01.mp4", "Actor_01/a.txt", "b.zip"]
    + [f"{folder}/{name}-01-04-01-01-01-02.{suffix}" for folder in ("Actor_02", "Audio_Speech_Actors_01-24/Actor_02")
       for name, suffix in (("01", "mp4"), ("02", "mp4"), ("03", "wav"), ("03", "flac"))]
    + ["Actor_02/01-02-04-01-01-01-02.mp4", "Actor_02/01-01-04-01-01-01-03.mp4"],
    "crema_d": ["AudioWAV/1001_DFA_ANG_XX.wav", "VideoFlash/1001_DFA_ANG_XX.flv", "VideoMP4/1001_DFA_ANG_XX.mp4",
                "1001_DFA_ANG_XX.mp3", "x/y/1002_DFA_ANG_XX.mp4", "AudioWAV/1002_DFA_ANG.wav", "SentenceFilenames.csv"],
    "enterface": ["subject 1/anger/sentence 1/s1_an_1.avi", "subject 1/anger/s1_an_1.avi", "subject 1/fear/s1_fe.avi",
                  "subject 2/anger/sentence 1/s1_an_1.avi", "subject 2/anger/sentence 1/x.avi", "license.pdf"],
    "mead": ["M003/video/front/sad/level_1/001.mp4", "M003/video/top/sad/level_1/001.mp4", "M003/video/x/sad/001.mp4",
             "M003/audio/sad/level_1/001.m4a", "M003/audio/sad/level_1/001.wav", "M003/audio/sad/level_2/001.m4a"],
    "voxceleb2": ["dev/mp4/id00012/21Uxsk56VDQ/00001.mp4", "dev/aac/id00012/21Uxsk56VDQ/00001.m4a", "vox2_meta.csv",
                  "mp4/id00012/21Uxsk56VDQ/00001.mp4", "test/aac/id00017/21Uxsk56VDQ/00001.m4a", "mp4/x.mp4"],
    "grid": ["s1/bbaf2n.mpg", "s1/video/mpg_6000/bbaf2n.mpg", "s1_bbaf2n.mpg", "bbaf2n.mpg", "lipnet_bbaf2n.mpg",
             "s1/align/bbaf2n.align", "s1/bbaf2n.wav", "s2/s1_bbaf2n.mpg", "x/bbaf2n.mpg", "holiday.mpg"],
}  # fmt: skip


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_every_file_is_listed_as_a_clip_or_as_left_out(data):
    name = data.draw(st.sampled_from(sorted(POOLS)))
    first, *others = POOLS[name]
    files = {first, *data.draw(st.lists(st.sampled_from(others), unique=True))}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        touch(root, *files)
        listing = list_corpus(name, root)
    used = {
        row[medium]["path"] for row in listing.dataset for medium in ("video", "audio") if row.get(medium) is not None
    }
    left_out = [item.path for item in listing.left_out]
    # The sound of a MEAD recording may stand beside several views; everything else is in one place alone.
    assert Counter([*(path.removeprefix(f"{root}/") for path in used), *left_out]) == Counter(files)


# ---- docs/CORPORA.md ----


@pytest.mark.parametrize("name", ["ravdess", "crema_d", "enterface", "mead", "voxceleb2", "grid"])
def test_the_page_on_corpora_says_what_the_loaders_say(name):
    page = (Path(__file__).parents[2] / "docs/CORPORA.md").read_text(encoding="utf-8")
    card, layout = corpus_card(name), import_module(f"vqmae_hf.data.corpora.{name}").LAYOUT
    assert f"\n```\n{layout.tree}\n```\n" in page
    assert f'load_corpus("{name}", "corpora/' in page
    prose = " ".join(page.split())
    assert f"<{card.source}>" in prose
    assert card.licence.split(";")[0] in prose
    assert not card.classes or f"Classes: {', '.join(card.classes)}." in prose
