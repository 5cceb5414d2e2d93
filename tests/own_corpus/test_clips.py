"""Whose clips they are: what is settled, and said, before anything long begins."""

import csv
from pathlib import Path

import pytest

from vqmae_hf.data.corpora import CorpusError
from vqmae_hf.own_corpus import folder_layout, open_own_clips
from vqmae_hf.own_corpus.chain import FEWEST_EPOCHS, MOST_EPOCHS, epochs_for

PATTERN = "([^/_]+)_[^/]*$"


def make_folder(root: Path, names: list[str], suffix: str = "mp4") -> Path:
    for name in names:
        path = root / f"{name}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def clips_of(speakers, emotions=("happy", "sad"), takes=2) -> list[str]:
    return [f"{emotion}/{who}_{take}" for emotion in emotions for who in speakers for take in range(takes)]


def test_known_speakers_are_kept(tmp_path):
    own = open_own_clips(
        make_folder(tmp_path, clips_of(["anna", "ben", "eva"])), corpus_options={"speaker_pattern": PATTERN}
    )
    assert own.split_by == "speakers"
    assert set(own.clips["speaker"]) == {"anna", "ben", "eva"}
    assert own.counts == {"happy": 6, "sad": 6}
    assert own.modalities == ("audio", "visual")
    assert [note.split(":")[0] for note in own.notes] == ["Few clips of happy (6), sad (6)"]


def test_without_speakers_clips_are_dealt_and_a_pattern_is_suggested(tmp_path):
    own = open_own_clips(make_folder(tmp_path, clips_of(["anna", "ben", "eva"])))
    assert own.split_by == "clips"
    assert own.clips["speaker"] == own.clips["clip_id"]
    assert "the same person may be trained on and tested" in own.notes[0]
    pattern = own.notes[0].split("--speaker-pattern '")[1].split("'")[0]
    named = open_own_clips(tmp_path, corpus_options={"speaker_pattern": pattern})
    assert set(named.clips["speaker"]) == {"anna", "ben", "eva"}
    assert named.split_by == "speakers"


@pytest.mark.parametrize(
    "names",
    [
        [f"{emotion}/{i}" for emotion in ("happy", "sad") for i in range(6)],  # nothing before a separator
        [f"{emotion}/{emotion}_{i}" for emotion in ("happy", "sad", "calm") for i in range(4)],  # the emotion is
        [f"{emotion}/clip_{i}" for emotion in ("happy", "sad") for i in range(6)],  # one "speaker"
    ],
)
def test_no_pattern_is_suggested_that_finds_no_speakers(tmp_path, names):
    own = open_own_clips(make_folder(tmp_path, names))
    assert own.split_by == "clips"
    assert "file names begin" not in own.notes[0]


def test_two_speakers_cannot_be_kept_apart(tmp_path):
    folder = make_folder(tmp_path, clips_of(["anna", "ben"], takes=3))
    own = open_own_clips(folder, corpus_options={"speaker_pattern": PATTERN})
    assert own.split_by == "clips"
    assert own.notes[0].startswith("There are 2 speakers")


def test_some_unknown_speakers_are_as_bad_as_all(tmp_path):
    folder = make_folder(tmp_path, clips_of(["anna", "ben", "eva"]))
    with (folder / "metadata.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file_name", "emotion", "speaker"])
        for name in clips_of(["anna", "ben", "eva"]):
            emotion, rest = name.split("/")
            table.writerow([f"{name}.mp4", emotion, "" if "eva" in rest else rest.split("_")[0]])
    own = open_own_clips(folder)
    assert own.split_by == "clips"
    assert own.notes[0].startswith("The speakers of 4 of 12 clips are not known")


def test_sound_alone(tmp_path):
    own = open_own_clips(make_folder(tmp_path, clips_of(["anna", "ben", "eva"]), "wav"))
    assert own.modalities == ("audio",)
    assert folder_layout(tmp_path) == "audiofolder"
    (tmp_path / "happy" / "film.MP4").write_bytes(b"")
    assert folder_layout(tmp_path) == "videofolder"


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["a", "b", "c"], "3 clips without emotions"),
        ([f"happy/{i}" for i in range(8)], "has the one emotion happy"),
        (["happy/1", "sad/1"], "has 2 clips; at least 6"),
    ],
)
def test_folders_that_teach_nothing_are_refused_with_the_remedy(tmp_path, names, reason):
    with pytest.raises(CorpusError, match=reason):
        open_own_clips(make_folder(tmp_path, names))


def test_few_clips_are_visited_more_often_within_bounds():
    epochs = [epochs_for(count) for count in (6, 100, 400, 1000, 100000)]
    assert epochs == sorted(epochs, reverse=True)
    assert (epochs[0], epochs[-1]) == (MOST_EPOCHS, FEWEST_EPOCHS)
    assert epochs_for(400) * 400 == 8000


def test_speakers_of_one_emotion_each_are_told_of(tmp_path):
    names = [
        f"{emotion}/{who}_{take}"
        for emotion, who in (("happy", "anna"), ("sad", "ben"), ("calm", "eva"))
        for take in range(10)
    ]
    own = open_own_clips(make_folder(tmp_path, names), corpus_options={"speaker_pattern": PATTERN})
    assert own.split_by == "speakers"
    assert "Every speaker shows one emotion alone" in own.notes[0]
