"""What every corpus has in common: its name, its card, what a listing is, and how files that do not belong are reported."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from datasets import Dataset

UNKNOWN_SPEAKER = "unknown"
REASONS_IN_WARNING = 5


class CorpusError(ValueError):
    """A corpus that does not look as its loader expects; the message shows what was found and the expected tree."""


@dataclass(frozen=True)
class CorpusCard:
    """What is known about a published corpus.

    Attributes:
        name: what `load_corpus` calls it.
        title: its full name.
        classes: emotions in the order of their class numbers; empty for a corpus without.
        num_speakers: as published; None if that depends.
        licence: of the recordings, in short; the source has the binding text.
        source: address where the corpus is described and obtained.
        citation: the publication that its authors ask to cite.
        modalities: of "audio" and "visual".
        notes: what a user should know before training on it.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    num_speakers: int | None
    licence: str
    source: str
    citation: str
    modalities: tuple[str, ...]
    notes: str


class LeftOut(NamedTuple):
    """A file (or folder, with a "/" at its end) of the corpus' folder that is no clip of the dataset.

    Attributes:
        path: relative to the root of the corpus.
        reason: why.
        is_expected: the published corpus has such files beside the clips that were asked for (its tables, the other
            vocal channel, a second format of the same recording); `load_corpus` does not warn of them.
    """

    path: str
    reason: str
    is_expected: bool = False


@dataclass(frozen=True)
class CorpusListing:
    """A corpus and what its folder holds besides: together, every file that was seen."""

    dataset: Dataset
    left_out: Sequence[LeftOut] = ()

    @property
    def surprises(self) -> list[LeftOut]:
        """Files that were left out and that the published corpus does not have."""
        return [item for item in self.left_out if not item.is_expected]


CorpusLoader = Callable[..., Dataset | CorpusListing]


class _Entry(NamedTuple):
    loader: CorpusLoader
    card: CorpusCard | None
    is_folder: bool


_ENTRIES: dict[str, _Entry] = {}


def register_corpus(
    name: str, *, card: CorpusCard | None = None, is_folder: bool = True
) -> Callable[[CorpusLoader], CorpusLoader]:
    """Decorator that makes `loader(root, **options)` available as `load_corpus(name, root, **options)`.

    Args:
        name: new name.
        card: what `corpus_card(name)` returns and what the dataset's `info` is filled from.
        is_folder: whether `root` must be a folder; the loader is then given it as a `Path`.

    The loader returns a dataset, or a `CorpusListing` if it knows of files that it left out.
    """

    def register(loader: CorpusLoader) -> CorpusLoader:
        if name in _ENTRIES:
            raise ValueError(
                f"corpus {name!r} is already registered by {_ENTRIES[name].loader.__module__}; choose another name."
            )
        _ENTRIES[name] = _Entry(loader, card, is_folder)
        return loader

    return register


def corpus_names() -> list[str]:
    """Names that `load_corpus` accepts."""
    return sorted(_ENTRIES)


def corpus_card(name: str) -> CorpusCard:
    """The card of a published corpus.

    Raises:
        ValueError: unknown name, or a name of a layout ("videofolder") that any corpus can have.
    """
    card = _entry(name).card
    if card is None:
        carded = sorted(known for known, entry in _ENTRIES.items() if entry.card is not None)
        raise ValueError(f"{name!r} is a layout, not a corpus, and has no card; those with one: {carded}.")
    return card


def list_corpus(name: str, root: str | Path, **options) -> CorpusListing:
    """List a corpus and everything in its folder that is not part of it.

    Args, Raises: as `load_corpus`.

    Returns:
        The dataset that `load_corpus` returns, and `left_out`: path and reason of every other file.
    """
    entry = _entry(name)
    if entry.is_folder:
        root = Path(root).expanduser()
        if not root.is_dir():
            raise CorpusError(
                f"{root} is not a folder, so there is no {name} corpus in it; pass the folder that holds it."
            )
    result = entry.loader(root, **options)
    listing = result if isinstance(result, CorpusListing) else CorpusListing(result)
    if entry.card is not None:
        info = listing.dataset.info
        info.description = f"{entry.card.title}. {entry.card.notes}"
        info.citation, info.homepage, info.license = entry.card.citation, entry.card.source, entry.card.licence
    return listing


def load_corpus(name: str, root: str | Path, **options) -> Dataset:
    """List a corpus; warn of files in its folder that do not belong to it.

    Args:
        name: one of `corpus_names()`.
        root: folder of the corpus; for "hub", an address on the Hub or a folder.
        **options: those of the loader, such as `vocal_channel` of "ravdess"; see `docs/CORPORA.md`.

    Returns:
        A dataset with one row per clip and the columns `clip_id` (string, unique), `video` (`Video(decode=False)`:
        `{"path", "bytes"}`), `speaker` (string), and, where the corpus has them, `emotion` (`ClassLabel`),
        `intensity` (string), `audio` (`Audio(decode=False)`; absent or None means that the video's own sound is
        meant) and columns of its own. A recording without pictures has None for `video`, a corpus without any has no
        such column. `info` carries the card's description, citation, address and licence.

    Raises:
        CorpusError: the folder is missing, empty or laid out otherwise.
        ValueError: unknown corpus name, or an option out of its range.
    """
    listing = list_corpus(name, root, **options)
    warn_left_out(listing, f"{root}", f"list_corpus({name!r}, root).left_out", stacklevel=3)
    return listing.dataset


def warn_left_out(listing: CorpusListing, root: str, where: str, *, stacklevel: int = 2) -> None:
    """Warn, once for all, of the files that the published corpus does not have; `where` says how to get the full list."""
    if not listing.surprises:
        return
    by_reason: dict[str, list[str]] = {}
    for item in listing.surprises:
        by_reason.setdefault(item.reason, []).append(item.path)
    shown = [f"{reason}: {len(by_reason[reason])} ({sample(by_reason[reason])})" for reason in by_reason]
    hidden = len(shown) - REASONS_IN_WARNING
    more = f"; and {hidden} other reasons" if hidden > 0 else ""
    warnings.warn(
        f"{root}: {len(listing.surprises)} left out, {len(listing.dataset)} clips listed. "
        f"{'; '.join(shown[:REASONS_IN_WARNING])}{more}. All of them: {where}.",
        stacklevel=stacklevel,
    )


def sample(names: Sequence[str], count: int = 5) -> str:
    """The first few names, for a message."""
    shown = ", ".join(map(str, names[:count]))
    return f"{shown}, ..." if len(names) > count else shown


def _entry(name: str) -> _Entry:
    if name not in _ENTRIES:
        raise ValueError(f"unknown corpus {name!r}; known: {corpus_names()}. Any folder of clips is a 'videofolder'.")
    return _ENTRIES[name]
