"""Speaker-independent splits: no voice, no face and no recording of the test set is ever trained or selected on."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

from datasets import Dataset, DatasetDict, concatenate_datasets

from vqmae_hf.data.corpora import UNKNOWN_SPEAKER, corpus_names
from vqmae_hf.data.duplicates import content_columns, find_duplicates
from vqmae_hf.data.fixed_folds import FIXED_FOLDS
from vqmae_hf.data.speaker_deals import (
    SPLIT_NAMES,
    TooFewSpeakersError,
    fold_speakers,
    hold_out_validation,
    known_speakers,
    shuffled_groups,
    split_speakers,
)

__all__ = [
    "SPLIT_NAMES",
    "DuplicatePolicy",
    "SplitLeakError",
    "TooFewSpeakersError",
    "check_split",
    "corpus_folds",
    "find_duplicates",
    "fold_speakers",
    "leave_one_speaker_out",
    "select_speakers",
    "speaker_folds",
    "speaker_split",
    "split_speakers",
]

# Of the speakers that a fixed fold does not test; about as many as it tests.
FIXED_FOLD_VALIDATION_SHARE = 0.2

DuplicatePolicy = Literal["together", "drop", "ignore"]


class SplitLeakError(ValueError):
    """A speaker or a recording is in more than one part of a split."""


def speaker_split(
    dataset: Dataset,
    *,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    duplicates: DuplicatePolicy = "together",
) -> DatasetDict:
    """`split_speakers` applied to a corpus, prepared clips or a token store; rows keep their order.

    Args:
        dataset: with the column `speaker`.
        fractions, seed: as for `split_speakers`.
        duplicates: what to do where the same recording stands under several speakers (see `find_duplicates`): keep these
            speakers "together" in one part, "drop" every occurrence of a recording but the first, or "ignore" it. The
            first two look at the media of a corpus that is not prepared.
    """
    dataset, together = _settle_duplicates(dataset, duplicates)
    split = split_speakers(dataset["speaker"][:], fractions=fractions, seed=seed, together=together)
    return select_speakers(dataset, split)


def speaker_folds(
    dataset: Dataset, *, num_folds: int = 5, seed: int = 0, duplicates: DuplicatePolicy = "together"
) -> list[DatasetDict]:
    """`fold_speakers` applied to a corpus, prepared clips or a token store; `duplicates` as for `speaker_split`."""
    dataset, together = _settle_duplicates(dataset, duplicates)
    folds = fold_speakers(dataset["speaker"][:], num_folds=num_folds, seed=seed, together=together)
    return [select_speakers(dataset, fold) for fold in folds]


def leave_one_speaker_out(
    dataset: Dataset,
    *,
    validation_share: float = 0.15,
    seed: int = 0,
    duplicates: DuplicatePolicy = "together",
) -> list[DatasetDict]:
    """One fold per speaker, who is tested alone, in the order of their names.

    Args:
        dataset: with the column `speaker`.
        validation_share: of the other speakers, dealt anew in every fold; one at least.
        seed: of that deal.
        duplicates: as for `speaker_split`; speakers kept together are tested together.

    Raises:
        TooFewSpeakersError: fewer than three speakers, or speakers unknown.
        ValueError: `validation_share` that is not above 0 and below 1.
    """
    if not 0 < validation_share < 1:
        raise ValueError(f"validation_share={validation_share} must be above 0 and below 1.")
    dataset, together = _settle_duplicates(dataset, duplicates)
    speakers = dataset["speaker"][:]
    parts = sorted(shuffled_groups(speakers, seed, at_least=3, together=together))
    folds = hold_out_validation(parts, speakers, validation_share, seed, together)
    return [select_speakers(dataset, fold) for fold in folds]


def corpus_folds(
    name: str, dataset: Dataset, *, num_folds: int = 5, seed: int = 0, duplicates: DuplicatePolicy = "together"
) -> list[DatasetDict]:
    """The cross-validation folds of a corpus: the fixed ones of `FIXED_FOLDS`, or `speaker_folds` where there are none.

    Every speaker is tested exactly once. With fixed folds a fifth of the other speakers is drawn for validation.

    Args:
        name: of the corpus, as in `corpus_names()`.
        dataset: the corpus, its prepared clips or its token store.
        num_folds: must be theirs where the folds are fixed.
        seed: of the deal; with fixed folds, of the validation speakers alone.
        duplicates: as for `speaker_split`.

    Raises:
        TooFewSpeakersError: no speaker to test in some fold, or too few in all.
        SplitLeakError: a recording crosses the border of a fixed fold, and shall not be dropped.
        ValueError: unknown corpus, another number of folds than the fixed one, speakers that are in no fixed fold.
    """
    if name not in corpus_names():
        raise ValueError(f"unknown corpus {name!r}; known: {corpus_names()}.")
    if name not in FIXED_FOLDS:
        return speaker_folds(dataset, num_folds=num_folds, seed=seed, duplicates=duplicates)
    if num_folds != len(FIXED_FOLDS[name]):
        raise ValueError(
            f"num_folds={num_folds}, but {name} has {len(FIXED_FOLDS[name])} fixed folds; speaker_folds deals others."
        )
    dataset, together = _settle_duplicates(dataset, duplicates)
    speakers = dataset["speaker"][:]
    parts = _fixed_parts(name, speakers, together)
    folds = hold_out_validation(parts, speakers, FIXED_FOLD_VALIDATION_SHARE, seed, together)
    return [select_speakers(dataset, fold) for fold in folds]


def select_speakers(dataset: Dataset, split: Mapping[str, Sequence[str]]) -> DatasetDict:
    """Rows of each part's speakers, as indices into `dataset` (nothing is copied)."""
    part_of = {speaker: name for name, members in split.items() for speaker in members}
    indices: dict[str, list[int]] = {name: [] for name in split}
    for i, speaker in enumerate(dataset["speaker"][:]):
        if speaker in part_of:
            indices[part_of[speaker]].append(i)
    return DatasetDict({name: dataset.select(rows) for name, rows in indices.items()})


def check_split(split: Mapping[str, Dataset]) -> None:
    """Check, whoever made the split, that its parts share no speaker and no recording.

    Args:
        split: parts with the column `speaker` and, for recordings, those of `find_duplicates`.

    Raises:
        SplitLeakError: names the speakers or clips, and their parts.
    """
    parts_of: dict[str, set[str]] = defaultdict(set)
    for name, part in split.items():
        for speaker in set(part["speaker"][:]):
            parts_of[speaker].add(name)
    if UNKNOWN_SPEAKER in parts_of and sum(len(part) > 0 for part in split.values()) > 1:
        raise SplitLeakError(
            "some clips have an unknown speaker, who may be in any part; leave them out or name them."
        )
    crossing = {speaker: sorted(parts) for speaker, parts in sorted(parts_of.items()) if len(parts) > 1}
    if crossing:
        raise SplitLeakError(f"{len(crossing)} speakers are in several parts: {_quote(crossing)}.")
    parts = [part for part in split.values() if content_columns(part)]
    if not parts:
        return
    place = [(name, i) for name, part in split.items() if content_columns(part) for i in range(len(part))]
    together = concatenate_datasets([part.select_columns(content_columns(part)) for part in parts])
    for group in find_duplicates(together):
        if len({place[row][0] for row in group}) > 1:
            clips = {_clip_name(split[name], i): name for name, i in (place[row] for row in group)}
            raise SplitLeakError(f"one recording is in several parts: {_quote(clips)}.")


def _clip_name(part: Dataset, i: int) -> str:
    return part["clip_id"][i] if "clip_id" in part.column_names else f"row {i}"


def _quote(found: Mapping[str, object], count: int = 5) -> str:
    shown = ", ".join(f"{name} in {parts}" for name, parts in list(found.items())[:count])
    return f"{shown}, ..." if len(found) > count else shown


def _settle_duplicates(dataset: Dataset, policy: DuplicatePolicy) -> tuple[Dataset, list[list[str]]]:
    """The dataset, without repeated recordings if they are to be dropped, and speakers that must stay together."""
    if policy not in ("together", "drop", "ignore"):
        raise ValueError(f"duplicates={policy!r}; accepted are 'together', 'drop' and 'ignore'.")
    if policy == "ignore" or not content_columns(dataset):
        return dataset, []
    groups = find_duplicates(dataset)
    if policy == "drop":
        repeated = {row for group in groups for row in group[1:]}
        return dataset.select([row for row in range(len(dataset)) if row not in repeated]), []
    speakers = dataset["speaker"][:]
    return dataset, [sorted({speakers[row] for row in group}) for group in groups]


def _fixed_parts(name: str, speakers: Sequence[str], together: Sequence[Sequence[str]]) -> list[list[str]]:
    """Those of the fixed folds' speakers that are there."""
    present = set(known_speakers(speakers))
    fold_of = {speaker: i for i, fold in enumerate(FIXED_FOLDS[name]) for speaker in fold}
    strangers = sorted(present - set(fold_of))
    if strangers:
        raise ValueError(
            f"the fixed folds of {name} name the speakers {', '.join(sorted(fold_of)[:3])}, ..., and not {strangers[:5]}; "
            "use speaker_folds, or give the speakers their names of the corpus."
        )
    for group in together:
        if len({fold_of[speaker] for speaker in group}) > 1:
            raise SplitLeakError(
                f"the speakers {group} share a recording and are in different fixed folds of {name}; "
                'pass duplicates="drop".'
            )
    parts = [sorted(present & set(fold)) for fold in FIXED_FOLDS[name]]
    empty = [i for i, part in enumerate(parts) if not part]
    if empty:
        raise TooFewSpeakersError(f"no speaker of the fixed folds {empty} of {name} is in the dataset.")
    return parts
