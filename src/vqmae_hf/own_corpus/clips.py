"""Whose clips they are, what they show, and how they may be split: looked at before anything long begins."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from datasets import ClassLabel, Dataset

from vqmae_hf.data.corpora import AUDIO_SUFFIXES, UNKNOWN_SPEAKER, VIDEO_SUFFIXES, CorpusError, load_corpus
from vqmae_hf.data.corpora.tree import walk_files

# One speaker each to train on, to choose the epoch by, and to report on.
FEWEST_SPEAKERS = 3
FEWEST_CLIPS = 6
# Below, a class is too small for its recall to mean anything.
FEW_CLIPS_OF_A_CLASS = 10
# "anna_happy_01.mp4": what stands before the first separator may be who speaks.
NAME_PREFIX = r"([^/_\-. ]+)[_\-. ][^/]*$"


@dataclass
class OwnClips:
    """A folder of clips, ready to be split.

    Args:
        root: the folder.
        clips: as of `load_corpus`; where speakers are not known well enough, `speaker` is the clip itself.
        modalities: what the clips have.
        split_by: "speakers", or "clips" where the same person may be trained on and tested.
        notes: what a reader of the results has to know, one sentence each.
    """

    root: Path
    clips: Dataset
    modalities: tuple[str, ...]
    split_by: Literal["speakers", "clips"]
    notes: list[str] = field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        """Names of the emotions, in the order of their numbers."""
        return self.clips.features["emotion"].names

    @property
    def counts(self) -> dict[str, int]:
        """Clips of each emotion."""
        counted = Counter(self.clips["emotion"])
        return {name: counted[i] for i, name in enumerate(self.classes)}

    @property
    def num_groups(self) -> int:
        """Speakers (clips, if split by them) that can be dealt to the parts."""
        return len(set(self.clips["speaker"]))


def open_own_clips(
    root: str | Path,
    *,
    corpus: str | None = None,
    corpus_options: Mapping[str, Any] | None = None,
    modalities: Sequence[str] | None = None,
) -> OwnClips:
    """List a folder of labelled clips and settle how it can be split.

    With at least three known speakers, no speaker will be in two parts. Otherwise clips are dealt at random, and a note says
    what that means for the results.

    Args:
        root: folder of the clips, see `docs/CORPORA.md`: one sub-folder per emotion, or a `metadata.csv`.
        corpus: kind of corpus; None: "videofolder", or "audiofolder" where there is sound alone.
        corpus_options: of its loader, such as `speaker_pattern`.
        modalities: of "audio" and "visual"; None: what the clips have.

    Raises:
        CorpusError: the folder is laid out otherwise, has no emotions, fewer than two, or too few clips.
    """
    root = Path(root).expanduser()
    corpus = corpus or folder_layout(root)
    clips = load_corpus(corpus, root, **(corpus_options or {}))
    if not isinstance(clips.features.get("emotion"), ClassLabel):
        raise CorpusError(
            f"{root} holds {len(clips)} clips without emotions. Put each into a folder named for its emotion "
            f"({root}/happy/clip.mp4), or write {root}/metadata.csv with the columns file_name,emotion,speaker."
        )
    found = ("audio",) if "video" not in clips.column_names else ("audio", "visual")
    opened = OwnClips(root, clips, tuple(modalities or found), "speakers")
    _check_emotions(opened)
    _settle_speakers(opened)
    return opened


def folder_layout(root: Path) -> str:
    """The corpus loader for a folder: "audiofolder" where there is sound and no video, "videofolder" otherwise."""
    suffixes = {Path(name).suffix.lower() for name in walk_files(root)} if root.is_dir() else set()
    return "audiofolder" if suffixes & AUDIO_SUFFIXES and not suffixes & VIDEO_SUFFIXES else "videofolder"


def guess_speaker_pattern(clips: Dataset) -> tuple[str, int] | None:
    """A pattern that finds speakers in the names of the clips, and how many it finds; None where it finds no likely ones.

    A guess to be confirmed by a person: the names may as well begin with a place or a date.
    """
    names = clips["clip_id"]
    matches = [re.search(NAME_PREFIX, name) for name in names]
    if not all(matches):
        return None
    speakers = {match[1] for match in matches if match}
    emotions = {name.lower() for name in clips.features["emotion"].names}
    several_each = FEWEST_SPEAKERS <= len(speakers) <= len(names) / 2
    return (NAME_PREFIX, len(speakers)) if several_each and not {s.lower() for s in speakers} & emotions else None


def _check_emotions(own: OwnClips) -> None:
    present = {name: count for name, count in own.counts.items() if count}
    if len(present) < 2:
        raise CorpusError(
            f"{own.root} has the one emotion {', '.join(present)}; at least two are needed to tell apart. The last folder "
            "above a clip names its emotion."
        )
    if len(own.clips) < FEWEST_CLIPS:
        raise CorpusError(f"{own.root} has {len(own.clips)} clips; at least {FEWEST_CLIPS} are needed.")
    few = [f"{name} ({count})" for name, count in present.items() if count < FEW_CLIPS_OF_A_CLASS]
    if few:
        own.notes.append(f"Few clips of {', '.join(few)}: what is said about them is little more than chance.")


def _settle_speakers(own: OwnClips) -> None:
    speakers = own.clips["speaker"]
    distinct = set(speakers)
    if UNKNOWN_SPEAKER not in distinct and len(distinct) >= FEWEST_SPEAKERS:
        if len(set(zip(speakers, own.clips["emotion"], strict=True))) == len(distinct):
            own.notes.insert(
                0,
                "Every speaker shows one emotion alone, so that emotions cannot be told from people: the results mean "
                "nothing, unless these are not the speakers.",
            )
        return
    unknown = sum(speaker == UNKNOWN_SPEAKER for speaker in speakers)
    if unknown:
        why = f"The speakers of {unknown} of {len(speakers)} clips are not known"
    else:
        why = f"There are {len(distinct)} speakers, and {FEWEST_SPEAKERS} are the least for parts that share none"
    note = (
        f"{why}, so clips were dealt at random: the same person may be trained on and tested, and the results say little "
        "about people the model has never met; expect worse for them."
    )
    guess = guess_speaker_pattern(own.clips) if unknown else None
    if guess is not None:
        note += f" If file names begin with the speaker ({guess[1]} of them), add --speaker-pattern '{guess[0]}'."
    elif unknown:
        note += " A column speaker in metadata.csv, or --speaker-pattern, would name them."
    own.notes.insert(0, note)
    own.split_by = "clips"
    alone = own.clips.remove_columns("speaker").add_column("speaker", own.clips["clip_id"])
    own.clips = alone.select_columns(own.clips.column_names)
