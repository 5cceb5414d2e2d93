"""Speaker-independent splits: no voice and no face of the test set is ever trained or selected on."""

import hashlib
from collections.abc import Iterable, Sequence

from datasets import Dataset, DatasetDict

from vqmae_hf.data.corpora import UNKNOWN_SPEAKER

SPLIT_NAMES = ("train", "validation", "test")


class TooFewSpeakersError(ValueError):
    """The corpus has not enough speakers (or does not know them) for the split that was asked for."""


def split_speakers(
    speakers: Iterable[str], *, fractions: Sequence[float] = (0.7, 0.15, 0.15), seed: int = 0
) -> dict[str, list[str]]:
    """Deal the speakers to train, validation and test.

    Args:
        speakers: speaker names, repeated or not, in any order.
        fractions: shares of the speakers (not of the clips) for train, validation and test, summing to 1. A share
            above 0 gets one speaker at least, a share of 0 none.
        seed: another seed, another deal. The deal depends on names and seed alone, on no library version.

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
    order = _shuffled_speakers(speakers, seed, at_least=sum(share > 0 for share in fractions))
    sizes = _largest_remainders(fractions, len(order))
    ends = [sum(sizes[: i + 1]) for i in range(3)]
    return {name: sorted(order[end - size : end]) for name, size, end in zip(SPLIT_NAMES, sizes, ends, strict=True)}


def fold_speakers(speakers: Iterable[str], *, num_folds: int = 5, seed: int = 0) -> list[dict[str, list[str]]]:
    """Deal the speakers to `num_folds` cross-validation splits.

    Fold i tests part i, validates on part i + 1 (cyclically) and trains on the rest, so that over all folds every
    speaker is tested exactly once and validated exactly once, never both in one fold.

    Args:
        speakers: speaker names, repeated or not, in any order.
        num_folds: number of parts, at least 3 (test, validation, train).
        seed: as for `split_speakers`.

    Returns:
        `num_folds` dictionaries as of `split_speakers`.

    Raises:
        TooFewSpeakersError: fewer speakers than folds, or speakers unknown.
        ValueError: `num_folds` below 3.
    """
    if num_folds < 3:
        raise ValueError(f"num_folds={num_folds} leaves no speakers for training; at least 3 are needed.")
    order = _shuffled_speakers(speakers, seed, at_least=num_folds)
    parts = [order[i::num_folds] for i in range(num_folds)]
    folds = []
    for i in range(num_folds):
        test, validation = parts[i], parts[(i + 1) % num_folds]
        train = [speaker for speaker in order if speaker not in test and speaker not in validation]
        folds.append({"train": sorted(train), "validation": sorted(validation), "test": sorted(test)})
    return folds


def speaker_split(dataset: Dataset, *, fractions: Sequence[float] = (0.7, 0.15, 0.15), seed: int = 0) -> DatasetDict:
    """`split_speakers` applied to the column `speaker` of a corpus or a token store; rows keep their order."""
    return select_speakers(dataset, split_speakers(dataset["speaker"], fractions=fractions, seed=seed))


def speaker_folds(dataset: Dataset, *, num_folds: int = 5, seed: int = 0) -> list[DatasetDict]:
    """`fold_speakers` applied to the column `speaker` of a corpus or a token store; rows keep their order."""
    folds = fold_speakers(dataset["speaker"], num_folds=num_folds, seed=seed)
    return [select_speakers(dataset, fold) for fold in folds]


def select_speakers(dataset: Dataset, split: dict[str, list[str]]) -> DatasetDict:
    """Rows of each part's speakers, as indices into `dataset` (nothing is copied)."""
    part_of = {speaker: name for name, members in split.items() for speaker in members}
    indices: dict[str, list[int]] = {name: [] for name in split}
    for i, speaker in enumerate(dataset["speaker"]):
        if speaker in part_of:
            indices[part_of[speaker]].append(i)
    return DatasetDict({name: dataset.select(rows) for name, rows in indices.items()})


def _shuffled_speakers(speakers: Iterable[str], seed: int, at_least: int) -> list[str]:
    distinct = sorted(set(speakers))
    if UNKNOWN_SPEAKER in distinct:
        raise TooFewSpeakersError(
            "some clips have an unknown speaker, so no split can keep speakers apart; name them with a metadata "
            'column or with load_corpus("videofolder", root, speaker_pattern=...).'
        )
    if len(distinct) < at_least:
        raise TooFewSpeakersError(
            f"{len(distinct)} speakers ({', '.join(distinct[:5])}) cannot be dealt to {at_least} parts that share "
            "none; use more speakers, fewer folds, or set a share to 0."
        )
    return sorted(distinct, key=lambda speaker: hashlib.sha256(f"{seed}/{speaker}".encode()).digest())


def _largest_remainders(fractions: Sequence[float], total: int) -> list[int]:
    """Integers that sum to `total`, follow the fractions, and are at least 1 where a fraction is above 0."""
    sizes = [max(int(share * total + 1e-9), int(share > 0)) for share in fractions]
    while sum(sizes) != total:
        step = 1 if sum(sizes) < total else -1
        movable = [i for i in range(len(sizes)) if fractions[i] > 0 and sizes[i] + step >= 1]
        i = max(movable, key=lambda i: step * (fractions[i] * total - sizes[i]))
        sizes[i] += step
    return sizes
