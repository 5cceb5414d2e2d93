"""Corpora as `datasets.Dataset`s: who says what, how, and in which file. Loaders list files, they never open media."""

import csv
import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from datasets import Audio, ClassLabel, Dataset, Features, Value, Video

from vqmae_hf.data.synthetic import load_synthetic_corpus

VIDEO_SUFFIXES = frozenset({".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
AUDIO_SUFFIXES = frozenset({".aac", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wav"})
METADATA_NAMES = ("metadata.csv", "metadata.jsonl")
METADATA_COLUMNS = ("file_name", "emotion", "speaker", "intensity")
UNKNOWN_SPEAKER = "unknown"

CorpusLoader = Callable[..., Dataset]
_LOADERS: dict[str, CorpusLoader] = {}


class CorpusError(ValueError):
    """A corpus folder that does not look as its loader expects; the message shows the expected tree."""


def register_corpus(name: str) -> Callable[[CorpusLoader], CorpusLoader]:
    """Decorator that makes `loader(root, **options) -> Dataset` available as `load_corpus(name, root, **options)`."""

    def register(loader: CorpusLoader) -> CorpusLoader:
        if name in _LOADERS:
            raise ValueError(
                f"corpus {name!r} is already registered by {_LOADERS[name].__module__}; choose another name."
            )
        _LOADERS[name] = loader
        return loader

    return register


def corpus_names() -> list[str]:
    """Names that `load_corpus` accepts."""
    return sorted(_LOADERS)


def load_corpus(name: str, root: str | Path, **options) -> Dataset:
    """List a corpus.

    Args:
        name: one of `corpus_names()`.
        root: folder of the corpus.
        **options: those of the loader, see `load_media_folder` for "videofolder" and "audiofolder".

    Returns:
        A dataset with one row per clip and the columns `clip_id` (string, unique), `video` (`Video(decode=False)`:
        `{"path", "bytes"}`), `speaker` (string), and, where the corpus has them, `emotion` (`ClassLabel`),
        `intensity` (string), `audio` (`Audio(decode=False)`; absent means that the video's own sound is meant).

    Raises:
        CorpusError: the folder is missing, empty or laid out otherwise.
        ValueError: unknown corpus name.
    """
    if name not in _LOADERS:
        raise ValueError(f"unknown corpus {name!r}; known: {corpus_names()}. Any folder of clips is a 'videofolder'.")
    root = Path(root).expanduser()
    if not root.is_dir():
        raise CorpusError(
            f"{root} is not a folder, so there is no {name} corpus in it; pass the folder that holds it."
        )
    return _LOADERS[name](root, **options)


@register_corpus("synthetic")
def load_synthetic(root: Path, **options) -> Dataset:
    """The embedded corpus of parametric talking faces, as `write_synthetic_corpus` left it."""
    return load_synthetic_corpus(root, **options)


@register_corpus("videofolder")
def load_video_folder(root: Path, **options) -> Dataset:
    """Any folder of video clips; options: `load_media_folder`."""
    return load_media_folder(root, "video", **options)


@register_corpus("audiofolder")
def load_audio_folder(root: Path, **options) -> Dataset:
    """Any folder of sound files, for the audio modality alone; options: `load_media_folder`."""
    return load_media_folder(root, "audio", **options)


def load_media_folder(
    root: Path,
    media: str,
    *,
    columns: Mapping[str, str] | None = None,
    speaker_pattern: str | None = None,
    class_names: Sequence[str] | None = None,
) -> Dataset:
    """List a folder in the `videofolder` / `audiofolder` layout of `datasets`.

    With `metadata.csv` or `metadata.jsonl` in `root`, its rows are the corpus. Without, every clip below `root` is,
    and its emotion is the name of the folder it lies in; clips directly in `root` have no emotion.

    Args:
        root: the folder.
        media: "video" or "audio", the kind of file and the column it goes to.
        columns: names of the metadata columns that play the parts `file_name`, `emotion`, `speaker`, `intensity`,
            e.g. `{"emotion": "label", "speaker": "actor"}`; a part that is not mentioned keeps its own name. Other
            columns are kept as they are.
        speaker_pattern: regular expression searched in each clip's path relative to `root` (with "/"); its group
            `speaker`, or else its first group, is the speaker: `r"(\\d+)\\.mp4$"`. It overrides the metadata column.
        class_names: emotions in the order of their class numbers; default: those found, sorted.

    Returns:
        The dataset described at `load_corpus`. Without pattern and column, every speaker is "unknown".

    Raises:
        CorpusError: no clip, clips with and without emotion mixed, a listed file that is missing, a pattern that
            does not match, an emotion outside `class_names`. Files of other kinds are listed in a warning.
    """
    metadata = next((root / name for name in METADATA_NAMES if (root / name).is_file()), None)
    if metadata is not None:
        rows = _rows_from_metadata(root, metadata, dict(columns or {}))
    else:
        if columns:
            raise CorpusError(f"columns={dict(columns)!r} was given, but {root} has neither of {METADATA_NAMES}.")
        rows = _rows_from_tree(root, media)
    if speaker_pattern is not None:
        _read_speakers(rows, speaker_pattern, root)
    return _to_dataset(root, rows, media, class_names)


def _expected_tree(root: Path, media: str) -> str:
    suffix = "mp4" if media == "video" else "wav"
    return (
        f"expected either {root}/<emotion>/<clip>.{suffix} (any depth; the last folder names the emotion), or "
        f"{root}/<clip>.{suffix} without labels, or {root}/metadata.csv (or .jsonl) with a column file_name"
    )


def _rows_from_tree(root: Path, media: str) -> list[dict]:
    suffixes = VIDEO_SUFFIXES if media == "video" else AUDIO_SUFFIXES
    hidden = [path for path in root.rglob("*") if path.is_file() and not _is_hidden(path.relative_to(root))]
    files = sorted(path.relative_to(root).as_posix() for path in hidden)
    clips = [name for name in files if Path(name).suffix.lower() in suffixes]
    others = [name for name in files if Path(name).suffix.lower() not in suffixes]
    if not clips:
        found = f"{len(others)} other files, e.g. {_sample(others)}" if others else "no files"
        raise CorpusError(f"{root} holds no {media} clip ({found}); {_expected_tree(root, media)}.")
    if others:
        warnings.warn(
            f"{root}: {len(others)} files that are no {media} were left out: {_sample(others)}", stacklevel=4
        )
    at_root = [name for name in clips if "/" not in name]
    if at_root and len(at_root) < len(clips):
        raise CorpusError(
            f"{root} mixes clips with an emotion folder and {len(at_root)} clips without, e.g. {_sample(at_root)}; "
            "move those into the folder of their emotion, or list all clips in metadata.csv."
        )
    if at_root:
        return [{"file_name": name} for name in clips]
    return [{"file_name": name, "emotion": name.split("/")[-2]} for name in clips]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "__")) for part in path.parts)


def _rows_from_metadata(root: Path, metadata: Path, columns: dict[str, str]) -> list[dict]:
    unknown = sorted(set(columns) - set(METADATA_COLUMNS))
    if unknown:
        raise CorpusError(f"columns names the parts {unknown}; accepted parts: {METADATA_COLUMNS}.")
    raw = _read_metadata(metadata)
    if not raw:
        raise CorpusError(f"{metadata} has no rows; {METADATA_COLUMNS[0]} and one line per clip are expected.")
    renames = {columns.get(part, part): part for part in METADATA_COLUMNS}
    required = {columns.get("file_name", "file_name"), *columns.values()}
    absent = sorted(required - set(raw[0]))
    if absent:
        raise CorpusError(
            f"{metadata} lacks the columns {absent}; it has {sorted(raw[0])}. Map its names with columns, "
            'e.g. columns={"file_name": "path", "emotion": "label"}.'
        )
    rows = [{renames.get(name, name): value for name, value in row.items()} for row in raw]
    missing = [row["file_name"] for row in rows if not (root / row["file_name"]).is_file()]
    if missing:
        raise CorpusError(
            f"{metadata} lists {len(missing)} files that are not below {root}, e.g. {_sample(missing)}; "
            "file_name is relative to the folder of the metadata."
        )
    return rows


def _read_metadata(metadata: Path) -> list[dict]:
    with metadata.open(encoding="utf-8-sig", newline="") as lines:
        if metadata.suffix == ".csv":
            return list(csv.DictReader(lines))
        return [json.loads(line) for line in lines if line.strip()]


def _read_speakers(rows: list[dict], pattern: str, root: Path) -> None:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise CorpusError(f"speaker_pattern={pattern!r} is no regular expression: {error}.") from error
    if not compiled.groups:
        raise CorpusError(f"speaker_pattern={pattern!r} has no group; put the speaker in parentheses.")
    group = "speaker" if "speaker" in compiled.groupindex else 1
    unmatched = []
    for row in rows:
        match = compiled.search(row["file_name"])
        if match is None:
            unmatched.append(row["file_name"])
        else:
            row["speaker"] = match[group]
    if unmatched:
        raise CorpusError(
            f"speaker_pattern={pattern!r} matches {len(rows) - len(unmatched)} of {len(rows)} clips below {root}; "
            f"not, for example, {_sample(unmatched)}."
        )


def _to_dataset(root: Path, rows: list[dict], media: str, class_names: Sequence[str] | None) -> Dataset:
    identifiers = [row["file_name"].rsplit(".", 1)[0] for row in rows]
    repeated = [name for name, count in Counter(identifiers).items() if count > 1]
    if repeated:
        raise CorpusError(
            f"{root}: several files share the clip name {_sample(repeated)}; rename or move all but one."
        )
    data = {
        "clip_id": identifiers,
        media: [str(root / row["file_name"]) for row in rows],
        "speaker": [str(row.get("speaker") or UNKNOWN_SPEAKER) for row in rows],
    }
    features = {"clip_id": Value("string"), "speaker": Value("string")}
    if any(row.get("emotion") not in (None, "") for row in rows):
        names = _class_names(root, rows, class_names)
        data["emotion"] = [row["emotion"] for row in rows]
        features["emotion"] = ClassLabel(names=names)
    extra = [name for name in rows[0] if name not in {"file_name", "speaker", "emotion", *data}]
    for name in extra:
        data[name] = [row.get(name) for row in rows]
    dataset = Dataset.from_dict(data)
    # Casting, not encoding: `Audio.encode_example` imports torchcodec even where nothing is decoded.
    column = Video(decode=False) if media == "video" else Audio(decode=False)
    return dataset.cast(Features({**dataset.features, **features, media: column}))


def _class_names(root: Path, rows: list[dict], class_names: Sequence[str] | None) -> list[str]:
    unlabelled = [row["file_name"] for row in rows if row.get("emotion") in (None, "")]
    if unlabelled:
        raise CorpusError(
            f"{root}: {len(unlabelled)} of {len(rows)} clips have no emotion, e.g. {_sample(unlabelled)}."
        )
    for row in rows:
        row["emotion"] = str(row["emotion"])
    found = sorted({row["emotion"] for row in rows})
    if class_names is None:
        return found
    outside = sorted(set(found) - set(class_names))
    if outside:
        raise CorpusError(f"{root} has the emotions {outside}, which class_names={list(class_names)} does not name.")
    return list(class_names)


def _sample(names: Sequence[str], count: int = 5) -> str:
    shown = ", ".join(map(str, names[:count]))
    return f"{shown}, ..." if len(names) > count else shown
