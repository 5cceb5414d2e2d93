from collections import Counter

import pytest
from datasets import Audio, Dataset, DatasetDict, Video
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vqmae_hf.data.corpora import load_corpus
from vqmae_hf.data.fixed_folds import FIXED_FOLDS
from vqmae_hf.data.splits import (
    SplitLeakError,
    TooFewSpeakersError,
    check_split,
    corpus_folds,
    find_duplicates,
    fold_speakers,
    leave_one_speaker_out,
    select_speakers,
    speaker_folds,
    speaker_split,
    split_speakers,
)

speaker_lists = st.lists(st.text("abc0123456789", min_size=1, max_size=5), min_size=5, max_size=40, unique=True)
seeds = st.integers(0, 2**32)


@given(speaker_lists, seeds, st.tuples(*[st.integers(1, 20)] * 3))
@settings(max_examples=60, deadline=None)
def test_parts_are_disjoint_cover_everyone_and_have_the_asked_sizes(speakers, seed, weights):
    fractions = [weight / sum(weights) for weight in weights]
    parts = split_speakers(speakers * 2, fractions=fractions, seed=seed)
    assert Counter(speaker for part in parts.values() for speaker in part) == Counter(speakers)
    for part, share in zip(parts.values(), fractions, strict=True):
        assert part
        assert len(part) == 1 or abs(len(part) - share * len(speakers)) < 2
    assert parts == split_speakers(reversed(speakers), fractions=fractions, seed=seed)


@given(speaker_lists, seeds, st.integers(3, 5))
@settings(max_examples=60, deadline=None)
def test_over_all_folds_every_speaker_is_tested_once_and_validated_once(speakers, seed, num_folds):
    folds = fold_speakers(speakers, num_folds=num_folds, seed=seed)
    for part in ("test", "validation"):
        assert Counter(speaker for fold in folds for speaker in fold[part]) == Counter(speakers)
    for fold in folds:
        assert Counter(speaker for part in fold.values() for speaker in part) == Counter(speakers)
        assert min(map(len, fold.values())) >= 1
    sizes = [len(fold["test"]) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


def test_the_deal_is_the_same_on_every_machine():
    speakers = [f"{i:02d}" for i in range(1, 9)]
    assert split_speakers(speakers, fractions=(0.5, 0.25, 0.25), seed=0) == EXPECTED
    assert split_speakers(speakers, fractions=(0.5, 0.25, 0.25), seed=1) != EXPECTED


# The order of `printf 0/01 | sha256sum`, ..., `printf 0/08 | sha256sum`.
EXPECTED = {"train": ["01", "05", "06", "08"], "validation": ["02", "07"], "test": ["03", "04"]}


def test_rows_follow_their_speakers():
    dataset = Dataset.from_dict({"clip": list(range(30)), "speaker": [f"s{i % 6}" for i in range(30)]})
    parts = speaker_split(dataset, fractions=(0.5, 0.25, 0.25), seed=3)
    assert sorted(clip for part in parts.values() for clip in part["clip"]) == list(range(30))
    assert all(part["clip"][:] == sorted(part["clip"]) for part in parts.values())
    tested = [clip for fold in speaker_folds(dataset, num_folds=3) for clip in fold["test"]["clip"]]
    assert sorted(tested) == list(range(30))


def test_a_share_of_zero_gets_nobody():
    parts = split_speakers("abcd", fractions=(0.75, 0.25, 0))
    assert [len(part) for part in parts.values()] == [3, 1, 0]


def test_impossible_splits_are_refused():
    with pytest.raises(TooFewSpeakersError, match=r"2 speakers .* 3 parts"):
        split_speakers(["a", "b", "a"])
    with pytest.raises(TooFewSpeakersError, match="speaker_pattern"):
        split_speakers(["a", "b", "c", "unknown"])
    with pytest.raises(TooFewSpeakersError, match=r"4 speakers .* 5 parts"):
        fold_speakers("abcd", num_folds=5)
    with pytest.raises(ValueError, match="summing to 1"):
        split_speakers("abcd", fractions=(0.5, 0.6, 0.1))
    with pytest.raises(ValueError, match="at least 3"):
        fold_speakers("abcd", num_folds=2)


# ---- recordings that occur twice ----


few_speakers = st.integers(5, 16).map(lambda count: [f"s{i:02d}" for i in range(count)])


@st.composite
def clips_with_duplicates(draw, speakers=few_speakers):
    """A clip of its own for every speaker, and others of contents that may occur several times, across speakers too."""
    speakers = draw(speakers)
    spoken = speakers + draw(st.lists(st.sampled_from(speakers), max_size=20))
    contents = [20] * len(speakers)
    contents += draw(
        st.lists(st.integers(0, 60), min_size=len(spoken) - len(speakers), max_size=len(spoken) - len(speakers))
    )
    return Dataset.from_dict(
        {
            "clip_id": [f"c{i}" for i in range(len(spoken))],
            "speaker": spoken,
            # Contents of 20 and more are of one clip alone.
            "content_digest": [f"d{c}" if c < 20 else f"d{c}/{i}" for i, c in enumerate(contents)],
        }
    )


def assert_nothing_crosses(split):
    """By brute force, over all pairs of parts."""
    for name, part in split.items():
        for other, another in split.items():
            if name != other:
                assert not set(part["speaker"][:]) & set(another["speaker"][:])
                assert not set(part["content_digest"][:]) & set(another["content_digest"][:])
    check_split(split)


def speakers_tested(folds):
    return Counter(speaker for fold in folds for speaker in set(fold["test"]["speaker"][:]))


@given(clips_with_duplicates(), seeds, st.sampled_from(["together", "drop"]), st.integers(3, 5))
@settings(max_examples=30, deadline=None)
def test_no_speaker_and_no_duplicate_crosses_a_border(dataset, seed, duplicates, num_folds):
    try:
        folds = speaker_folds(dataset, num_folds=num_folds, seed=seed, duplicates=duplicates)
        split = speaker_split(dataset, seed=seed, duplicates=duplicates)
    except TooFewSpeakersError:
        assume(False)
    for each in [split, *folds]:
        assert_nothing_crosses(each)
        assert all(len(part) for part in each.values())
    kept = len(dataset) if duplicates == "together" else len(set(dataset["content_digest"][:]))
    assert sum(map(len, split.values())) == kept
    assert speakers_tested(folds) == Counter(set(dataset["speaker"][:]))


@given(clips_with_duplicates(), seeds, st.floats(0.05, 0.6))
@settings(max_examples=12, deadline=None)
def test_leave_one_speaker_out_tests_everyone_once(dataset, seed, share):
    try:
        folds = leave_one_speaker_out(dataset, validation_share=share, seed=seed)
    except TooFewSpeakersError:
        assume(False)
    for fold in folds:
        assert_nothing_crosses(fold)
        assert all(len(part) for part in fold.values())
    speakers = set(dataset["speaker"][:])
    assert speakers_tested(folds) == Counter(speakers)
    tied = [group for group in find_duplicates(dataset) if len({dataset["speaker"][i] for i in group}) > 1]
    assert tied or len(folds) == len(speakers)


@given(clips_with_duplicates(st.just([f"{i:02d}" for i in range(1, 25)])), seeds)
@settings(max_examples=12, deadline=None)
def test_fixed_folds_test_whom_they_name_whatever_the_seed(dataset, seed):
    folds = corpus_folds("ravdess", dataset, seed=seed, duplicates="drop")
    for fold, named in zip(folds, FIXED_FOLDS["ravdess"], strict=True):
        assert_nothing_crosses(fold)
        assert set(fold["test"]["speaker"][:]) == set(named)
        assert min(len(fold["train"]), len(fold["validation"])) > 0
    assert speakers_tested(folds) == Counter(set(dataset["speaker"][:]))


def test_validation_speakers_of_fixed_folds_follow_the_seed():
    dataset = Dataset.from_dict({"speaker": [f"{i:02d}" for i in range(1, 25)]})
    chosen = [
        [tuple(fold["validation"]["speaker"][:]) for fold in corpus_folds("ravdess", dataset, seed=seed)]
        for seed in (0, 0, 1)
    ]
    assert chosen[0] == chosen[1] != chosen[2]
    assert {len(part) for part in chosen[0]} == {4}
    drawn = {tuple(fold["validation"]["speaker"][:]) for fold in leave_one_speaker_out(dataset)}
    assert len(drawn) > 12, "anew in each of the 24 folds; one order for all would give four"


def test_the_fixed_folds_are_the_published_ones_and_cover_everyone():
    assert [list(map(int, fold)) for fold in FIXED_FOLDS["ravdess"]] == [
        [2, 5, 14, 15, 16],
        [3, 6, 7, 13, 18],
        [10, 11, 12, 19, 20],
        [8, 17, 21, 23, 24],
        [1, 4, 9, 22],
    ]
    everyone = {"ravdess": [f"{i:02d}" for i in range(1, 25)], "crema_d": [str(i) for i in range(1001, 1092)]}
    assert set(FIXED_FOLDS) == set(everyone)
    for name, speakers in everyone.items():
        assert sorted(speaker for fold in FIXED_FOLDS[name] for speaker in fold) == speakers
    ours = fold_speakers(everyone["crema_d"], num_folds=5, seed=0)
    assert [list(fold) for fold in FIXED_FOLDS["crema_d"]] == [fold["test"] for fold in ours]


def test_folds_of_a_corpus_without_fixed_ones_are_seeded():
    dataset = Dataset.from_dict({"speaker": [f"M{i:03d}" for i in range(10)]})
    tested = [fold["test"]["speaker"][:] for fold in corpus_folds("mead", dataset, num_folds=4, seed=3)]
    assert tested == [fold["test"]["speaker"][:] for fold in speaker_folds(dataset, num_folds=4, seed=3)]


def test_fixed_folds_that_do_not_fit_are_refused():
    some = Dataset.from_dict({"speaker": ["01", "02", "03"]})
    with pytest.raises(TooFewSpeakersError, match=r"fixed folds \[2, 3\] of ravdess"):
        corpus_folds("ravdess", some)
    with pytest.raises(ValueError, match=r"name the speakers 01, 02, 03, .*not \['Actor_01'\]"):
        corpus_folds("ravdess", Dataset.from_dict({"speaker": ["Actor_01", "02"]}))
    with pytest.raises(ValueError, match=r"num_folds=4, but ravdess has 5 fixed folds; speaker_folds"):
        corpus_folds("ravdess", some, num_folds=4)
    with pytest.raises(ValueError, match="unknown corpus 'ravdes'"):
        corpus_folds("ravdes", some)
    with pytest.raises(TooFewSpeakersError, match="unknown speaker"):
        corpus_folds("ravdess", Dataset.from_dict({"speaker": ["01", "unknown"]}))
    everyone = [f"{i:02d}" for i in range(1, 25)]
    shared = Dataset.from_dict({"speaker": everyone, "content_digest": ["same", "same", *everyone[2:]]})
    with pytest.raises(SplitLeakError, match=r"\['01', '02'\] share a recording.*duplicates=\"drop\""):
        corpus_folds("ravdess", shared)
    assert sum(len(part) for part in corpus_folds("ravdess", shared, duplicates="drop")[0].values()) == 23


def test_duplicates_are_what_holds_the_same_bytes(tmp_path):
    contents = {"a": b"x", "b": b"y", "c": b"x", "d": b"xx", "e": b"x", "f": b"x"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    sounds = [None, None, None, None, str(tmp_path / "b"), None]
    dataset = Dataset.from_dict({"video": [str(tmp_path / name) for name in contents], "audio": sounds})
    dataset = dataset.cast_column("video", Video()).cast_column("audio", Audio(decode=False))
    assert find_duplicates(dataset) == [[0, 2, 5]], "the sound of e is another"
    assert find_duplicates(dataset.select([5, 3, 1, 0])) == [[0, 3]]
    embedded = Dataset.from_dict({"video": [{"bytes": content, "path": None} for content in [b"x", b"y", b"x"]]})
    assert find_duplicates(embedded.cast_column("video", Video(decode=False))) == [[0, 2]]
    both = Dataset.from_dict({"video": [{"bytes": b"x", "path": None}, {"bytes": None, "path": str(tmp_path / "a")}]})
    assert find_duplicates(both.cast_column("video", Video(decode=False))) == [[0, 1]]
    empty = Dataset.from_dict({"video": [None, None]}).cast_column("video", Video(decode=False))
    assert find_duplicates(empty) == []
    with pytest.raises(ValueError, match="no column content_digest, video or audio"):
        find_duplicates(Dataset.from_dict({"speaker": ["a"]}))
    gone = Dataset.from_dict({"video": [str(tmp_path / "gone")]}).cast_column("video", Video(decode=False))
    with pytest.raises(FileNotFoundError, match="gone"):
        find_duplicates(gone)


def test_only_files_of_one_size_are_read(tmp_path, monkeypatch):
    for name, content in {"a": b"1", "b": b"2", "c": b"333"}.items():
        (tmp_path / name).write_bytes(content)
    dataset = Dataset.from_dict({"video": [str(tmp_path / name) for name in "abc"]})
    read = []

    def record(path, mode):
        read.append(path)
        return open(path, mode)

    monkeypatch.setattr("vqmae_hf.data.duplicates.open", record, raising=False)
    assert find_duplicates(dataset.cast_column("video", Video(decode=False))) == []
    assert read == [str(tmp_path / "a"), str(tmp_path / "b")]


def test_splits_look_at_the_media_unless_told_not_to(tmp_path):
    names = [f"s{i}" for i in range(6)]
    for name in names:
        (tmp_path / name).write_bytes(b"same" if name in ("s1", "s4") else name.encode())
    dataset = Dataset.from_dict({"speaker": names, "video": [str(tmp_path / name) for name in names]})
    dataset = dataset.cast_column("video", Video(decode=False))
    for seed in range(8):
        parts = speaker_split(dataset, seed=seed)
        assert len({name for name, part in parts.items() if {"s1", "s4"} & set(part["speaker"][:])}) == 1
        check_split(parts)
    s1, others = ["s1"], [name for name in names if name != "s1"]
    assert any(
        speaker_split(dataset, seed=seed, duplicates="ignore")["test"]["speaker"][:] == s1 for seed in range(30)
    ), "without looking, the two are parted sooner or later"
    with pytest.raises(SplitLeakError, match="one recording is in several parts"):
        check_split(select_speakers(dataset, {"train": others, "test": s1}))
    with pytest.raises(ValueError, match="'together', 'drop' and 'ignore'"):
        speaker_split(dataset, duplicates="keep")


def test_leaks_are_found_whoever_made_the_split():
    def part(speakers, digests):
        clips = [f"clip {digest} of {speaker}" for speaker, digest in zip(speakers, digests, strict=True)]
        return Dataset.from_dict({"clip_id": clips, "speaker": list(speakers), "content_digest": list(digests)})

    check_split(
        DatasetDict(train=part("aab", "123"), test=part("c", "4"), empty=part("", "").cast(part("a", "1").features))
    )
    with pytest.raises(SplitLeakError, match=r"1 speakers are in several parts: b in \['test', 'train'\]"):
        check_split({"train": part("aab", "123"), "test": part("bc", "45")})
    with pytest.raises(SplitLeakError, match="clip 2 of a in train, clip 2 of c in test"):
        check_split({"train": part("aab", "123"), "test": part("c", "2")})
    with pytest.raises(SplitLeakError, match="unknown speaker"):
        check_split({"train": part(["unknown"], "1"), "test": part("c", "2")})
    check_split({"train": part(["unknown"], "1")})
    without = Dataset.from_dict({"speaker": ["a"]})
    check_split({"train": without, "test": Dataset.from_dict({"speaker": ["b"]})})


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_leaving_one_out_needs_a_share_to_validate_on(share):
    with pytest.raises(ValueError, match="above 0 and below 1"):
        leave_one_speaker_out(Dataset.from_dict({"speaker": ["a", "b", "c"]}), validation_share=share)


def test_speakers_tied_by_a_recording_may_be_too_few():
    dataset = Dataset.from_dict({"speaker": ["a", "b", "c", "d"], "content_digest": ["1", "1", "2", "2"]})
    with pytest.raises(TooFewSpeakersError, match=r"4 speakers .*2 of whom must stay with another"):
        speaker_split(dataset)


@pytest.mark.shared
def test_the_recording_that_ravdess_has_twice_is_found(shared_dir):
    corpus = load_corpus("ravdess", shared_dir / "data/ravdess_speech_16k")
    groups = [[corpus["clip_id"][i] for i in group] for group in find_duplicates(corpus)]
    assert ["03-01-03-01-02-01-07", "03-01-03-01-02-02-07"] in groups
    assert len({speaker for group in groups for speaker in (name[-2:] for name in group)}) == len(groups)
    folds = corpus_folds("ravdess", corpus)
    assert [sorted(set(fold["test"]["speaker"][:])) for fold in folds] == [
        list(part) for part in FIXED_FOLDS["ravdess"]
    ]
    for fold in folds:
        check_split(fold)
    assert sum(len(fold["test"]) for fold in folds) == 1440
    dropped = corpus_folds("ravdess", corpus, duplicates="drop")
    assert sum(len(fold["test"]) for fold in dropped) == 1440 - sum(len(group) - 1 for group in groups)
