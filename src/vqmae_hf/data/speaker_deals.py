"""Dealing names of speakers to the parts of a split, by names and seed alone: the same on every machine."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from vqmae_hf.data.corpora import UNKNOWN_SPEAKER

SPLIT_NAMES = ("train", "validation", "test")

SpeakerSplit = dict[str, list[str]]


class TooFewSpeakersError(ValueError):
    """The corpus has not enough speakers (or does not know them) for the split that was asked for."""


def split_speakers(
    speakers: Iterable[str],
    *,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    together: Iterable[Iterable[str]] = (),
) -> SpeakerSplit:
    """Deal the speakers to train, validation and test.

    Args:
        speakers: speaker names, repeated or not, in any order.
        fractions: shares of the speakers (not of the clips) for train, validation and test, summing to 1. A share
            above 0 gets one speaker at least, a share of 0 none.
        seed: another seed, another deal. The deal depends on names and seed alone, on no library version.
        together: groups of speakers that must not be parted; each is dealt as if it were one speaker.

    Returns:
        `{"train": [...], "validation": [...], "test": [...]}`: disjoint, covering every speaker.

    Raises:
        TooFewSpeakersError: fewer speakers than shares above 0, or speakers unknown.
        ValueError: fractions that are not three non-negative numbers summing to 1.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(
            f"fractions={tuple(fractions)} must be three numbers >= 0 (train, validation, test) summing to 1."
        )
    order = shuffled_groups(speakers, seed, at_least=sum(share > 0 for share in fractions), together=together)
    sizes = _largest_remainders(fractions, len(order))
    ends = [sum(sizes[: i + 1]) for i in range(3)]
    return {name: _members(order[end - size : end]) for name, size, end in zip(SPLIT_NAMES, sizes, ends, strict=True)}


def fold_speakers(
    speakers: Iterable[str], *, num_folds: int = 5, seed: int = 0, together: Iterable[Iterable[str]] = ()
) -> list[SpeakerSplit]:
    """Deal the speakers to `num_folds` cross-validation splits.

    Fold i tests part i, validates on part i + 1 (cyclically) and trains on the rest, so that over all folds every
    speaker is tested exactly once and validated exactly once, never both in one fold.

    Args:
        speakers: speaker names, repeated or not, in any order.
        num_folds: number of parts, at least 3 (test, validation, train).
        seed, together: as for `split_speakers`.

    Returns:
        `num_folds` dictionaries as of `split_speakers`.

    Raises:
        TooFewSpeakersError: fewer speakers than folds, or speakers unknown.
        ValueError: `num_folds` below 3.
    """
    if num_folds < 3:
        raise ValueError(f"num_folds={num_folds} leaves no speakers for training; at least 3 are needed.")
    order = shuffled_groups(speakers, seed, at_least=num_folds, together=together)
    parts = [order[i::num_folds] for i in range(num_folds)]
    folds = []
    for i in range(num_folds):
        j = (i + 1) % num_folds
        train = [group for k, part in enumerate(parts) if k not in (i, j) for group in part]
        folds.append({"train": _members(train), "validation": _members(parts[j]), "test": _members(parts[i])})
    return folds


def hold_out_validation(
    parts: Sequence[Sequence[str]],
    speakers: Iterable[str],
    share: float,
    seed: int,
    together: Sequence[Sequence[str]],
) -> list[SpeakerSplit]:
    """A fold for each part to test, with validation speakers drawn from the others, anew in each fold.

    Args:
        parts: the speakers that each fold tests.
        speakers: all.
        share: of the others to validate on.
        seed, together: as for `split_speakers`.
    """
    folds = []
    for i, test in enumerate(parts):
        rest = sorted(set(speakers) - set(test))
        inner = split_speakers(rest, fractions=(1 - share, share, 0), seed=seed * len(parts) + i, together=together)
        folds.append({**inner, "test": sorted(test)})
    return folds


def labelled_speakers(speakers: Iterable[str], number: int, seed: int) -> list[str]:
    """The training speakers whose labels are known, where a corpus with labels is small and there is more without.

    Args:
        speakers: those to train on, repeated or not, in any order.
        number: how many of them have labels.
        seed: of the draw.

    Raises:
        ValueError: `number` below 1, or more than there are speakers.
    """
    distinct = sorted(set(speakers))
    if not 1 <= number <= len(distinct):
        raise ValueError(
            f"labelled_speakers={number}, and {len(distinct)} speakers are for training; 1 to {len(distinct)} are accepted."
        )
    return np.random.default_rng(seed).permutation(distinct)[:number].tolist()


def shuffled_groups(
    speakers: Iterable[str], seed: int, at_least: int, together: Iterable[Iterable[str]]
) -> list[list[str]]:
    """The speakers, alone or with those they must stay with, in an order that names and seed decide.

    Raises:
        TooFewSpeakersError: fewer groups than `at_least`, or speakers unknown.
    """
    distinct = known_speakers(speakers)
    groups = _connect(distinct, together)
    if len(groups) < at_least:
        tied = len(distinct) - len(groups)
        joined = f", {tied} of whom must stay with another," if tied else ""
        raise TooFewSpeakersError(
            f"{len(distinct)} speakers ({', '.join(distinct[:5])}){joined} cannot be dealt to {at_least} parts that "
            "share none; use more speakers, fewer folds, or set a share to 0."
        )
    return sorted(groups, key=lambda group: hashlib.sha256(f"{seed}/{group[0]}".encode()).digest())


def known_speakers(speakers: Iterable[str]) -> list[str]:
    """The distinct speakers, sorted.

    Raises:
        TooFewSpeakersError: the speaker of some clips is not known.
    """
    distinct = sorted(set(speakers))
    if UNKNOWN_SPEAKER in distinct:
        raise TooFewSpeakersError(
            "some clips have an unknown speaker, so no split can keep speakers apart; name them with a metadata "
            'column or with load_corpus("videofolder", root, speaker_pattern=...).'
        )
    return distinct


def _connect(speakers: Sequence[str], together: Iterable[Iterable[str]]) -> list[list[str]]:
    """The groups that result when all who must stay together do; speakers that are not asked for do not count."""
    group_of = {speaker: [speaker] for speaker in speakers}
    for tie in together:
        tied = [speaker for speaker in tie if speaker in group_of]
        for speaker in tied[1:]:
            first, second = group_of[tied[0]], group_of[speaker]
            if first is not second:
                first += second
                group_of |= dict.fromkeys(second, first)
    distinct = {id(group): group for group in group_of.values()}
    return [sorted(group) for group in distinct.values()]


def _members(groups: Iterable[Iterable[str]]) -> list[str]:
    return sorted(speaker for group in groups for speaker in group)


def _largest_remainders(fractions: Sequence[float], total: int) -> list[int]:
    """Integers that sum to `total`, follow the fractions, and are at least 1 where a fraction is above 0."""
    sizes = [max(int(share * total + 1e-9), int(share > 0)) for share in fractions]
    while sum(sizes) != total:
        step = 1 if sum(sizes) < total else -1
        movable = [i for i in range(len(sizes)) if fractions[i] > 0 and sizes[i] + step >= 1]
        i = max(movable, key=lambda i: step * (fractions[i] * total - sizes[i]))
        sizes[i] += step
    return sizes
