from collections import Counter

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from vqmae_hf.data.splits import (
    TooFewSpeakersError,
    fold_speakers,
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
