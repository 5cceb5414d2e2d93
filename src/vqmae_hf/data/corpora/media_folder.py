"""Any folder of clips: the emotion as the name of the folder, or everything in a table of metadata."""

import csv
import json
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from datasets import Dataset

from vqmae_hf.data.corpora.registry import (
    UNKNOWN_SPEAKER,
    CorpusError,
    CorpusListing,
    LeftOut,
    register_corpus,
    sample,
    warn_left_out,
)
from vqmae_hf.data.corpora.tables import to_dataset
from vqmae_hf.data.corpora.tree import AUDIO_SUFFIXES, VIDEO_SUFFIXES, walk_files

METADATA_NAMES = ("metadata.csv", "metadata.jsonl")
METADATA_COLUMNS = ("file_name", "emotion", "speaker", "intensity")
SUFFIXES = {"video": VIDEO_SUFFIXES, "audio": AUDIO_SUFFIXES}


@register_corpus("videofolder")
def list_video_folder(root: Path, **options) -> CorpusListing:
    """Any folder of video clips; options: `load_media_folder`."""
    return list_media_folder(root, "video", **options)


@register_corpus("audiofolder")
def list_audio_folder(root: Path, **options) -> CorpusListing:
    """Any folder of sound files, for the audio modality alone; options: `load_media_folder`."""
    return list_media_folder(root, "audio", **options)


def load_media_folder(root: str | Path, media: str, **options) -> Dataset:
    """The dataset of `list_media_folder`; warns of the files that it left out."""
    listing = list_media_folder(Path(root), media, **options)
    warn_left_out(listing, f"{root}", f"list_media_folder(root, {media!r}).left_out", stacklevel=3)
    return listing.dataset


def list_media_folder(
    root: Path,
    media: str,
    *,
    columns: Mapping[str, str] | None = None,
    speaker_pattern: str | None = None,
    class_names: Sequence[str] | None = None,
) -> CorpusListing:
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
        The dataset described at `load_corpus`, where without pattern and column every speaker is "unknown", and the
        files that are of another kind or not in the table.

    Raises:
        CorpusError: no clip, clips with and without emotion mixed, a listed file that is missing, a pattern that
            does not match, an emotion outside `class_names`.
    """
    if media not in SUFFIXES:
        raise ValueError(f"media={media!r}; accepted are 'video' and 'audio'.")
    metadata = next((root / name for name in METADATA_NAMES if (root / name).is_file()), None)
    files = sorted(set(walk_files(root)) - set(METADATA_NAMES))
    if metadata is not None:
        rows, left_out = _rows_from_metadata(root, metadata, dict(columns or {}), files)
    else:
        if columns:
            raise CorpusError(f"columns={dict(columns)!r} was given, but {root} has neither of {METADATA_NAMES}.")
        rows, left_out = _rows_from_tree(root, media, files)
    if speaker_pattern is not None:
        found = read_speakers([row["file_name"] for row in rows], speaker_pattern, f"{root}")
        for row, speaker in zip(rows, found, strict=True):
            row["speaker"] = speaker
    return CorpusListing(_to_dataset(root, rows, media, class_names), left_out)


def _expected_tree(root: Path, media: str) -> str:
    suffix = "mp4" if media == "video" else "wav"
    return (
        f"expected either {root}/<emotion>/<clip>.{suffix} (any depth; the last folder names the emotion), or "
        f"{root}/<clip>.{suffix} without labels, or {root}/metadata.csv (or .jsonl) with a column file_name"
    )


def _rows_from_tree(root: Path, media: str, files: Sequence[str]) -> tuple[list[dict], list[LeftOut]]:
    clips = [name for name in files if Path(name).suffix.lower() in SUFFIXES[media]]
    others = [name for name in files if Path(name).suffix.lower() not in SUFFIXES[media]]
    if not clips:
        found = f"{len(others)} other files, e.g. {sample(others)}" if others else "no files"
        raise CorpusError(f"{root} holds no {media} clip ({found}); {_expected_tree(root, media)}.")
    left_out = [LeftOut(name, f"no {media}") for name in others]
    at_root = [name for name in clips if "/" not in name]
    if at_root and len(at_root) < len(clips):
        raise CorpusError(
            f"{root} mixes clips with an emotion folder and {len(at_root)} clips without, e.g. {sample(at_root)}; "
            "move those into the folder of their emotion, or list all clips in metadata.csv."
        )
    if at_root:
        return [{"file_name": name} for name in clips], left_out
    return [{"file_name": name, "emotion": name.split("/")[-2]} for name in clips], left_out


def _rows_from_metadata(
    root: Path, metadata: Path, columns: dict[str, str], files: Sequence[str]
) -> tuple[list[dict], list[LeftOut]]:
    unknown = sorted(set(columns) - set(METADATA_COLUMNS))
    if unknown:
        raise CorpusError(f"columns names the parts {unknown}; accepted parts: {METADATA_COLUMNS}.")
    raw = list(_read_metadata(metadata))
    if not raw:
        raise CorpusError(f"{metadata} has no rows; {METADATA_COLUMNS[0]} and one line per clip are expected.")
    renames = {columns.get(part, part): part for part in METADATA_COLUMNS}
    required = {columns.get("file_name", "file_name"), *columns.values()}
    absent = sorted({name for row in raw for name in required if name not in row})
    if absent:
        raise CorpusError(
            f"{metadata} lacks the columns {absent}, or some of its rows do; it has {sorted(raw[0])}. Map its names "
            'with columns, e.g. columns={"file_name": "path", "emotion": "label"}.'
        )
    rows = [{renames.get(name, name): value for name, value in row.items()} for row in raw]
    there, listed = set(files), {posixpath.normpath(row["file_name"]) for row in rows}
    missing = sorted(name for name in listed - there if not (root / name).is_file())
    if missing:
        raise CorpusError(
            f"{metadata} lists {len(missing)} files that are not below {root}, e.g. {sample(missing)}; "
            "file_name is relative to the folder of the metadata."
        )
    return rows, [LeftOut(name, f"not in {metadata.name}") for name in sorted(there - listed)]


def _read_metadata(metadata: Path) -> Iterator[dict]:
    """Rows of the table.

    Raises:
        CorpusError: a line that cannot be read; the message has its number.
    """
    with metadata.open(encoding="utf-8-sig", newline="") as lines:
        if metadata.suffix == ".csv":
            table = csv.DictReader(lines)
            for row in table:
                if None in row or None in row.values():
                    raise CorpusError(
                        f"{metadata}, line {table.line_num}: not as many fields as the header has ({table.fieldnames})."
                    )
                yield row
            return
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line) if line.strip() else None
            except json.JSONDecodeError as error:
                raise CorpusError(f"{metadata}, line {number} is not JSON: {error}.") from error
            if row is not None:
                yield row


def read_speakers(names: Sequence[str], pattern: str, where: str) -> list[str]:
    """The speaker that each name tells.

    Args:
        names: of clips.
        pattern: regular expression to search for; its group `speaker`, or else its first group, is the speaker.
        where: for messages.

    Raises:
        CorpusError: no regular expression, one without a group, or one that does not match every name.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise CorpusError(f"speaker_pattern={pattern!r} is no regular expression: {error}.") from error
    if not compiled.groups:
        raise CorpusError(f"speaker_pattern={pattern!r} has no group; put the speaker in parentheses.")
    group = "speaker" if "speaker" in compiled.groupindex else 1
    matches = [compiled.search(name) for name in names]
    unmatched = [name for name, match in zip(names, matches, strict=True) if match is None or match[group] is None]
    if unmatched:
        raise CorpusError(
            f"speaker_pattern={pattern!r} matches {len(names) - len(unmatched)} of {len(names)} clips below {where}; "
            f"not, for example, {sample(unmatched)}."
        )
    return [match[group] for match in matches]


def _to_dataset(root: Path, rows: list[dict], media: str, class_names: Sequence[str] | None) -> Dataset:
    columns = {
        "clip_id": [row["file_name"].rsplit(".", 1)[0] for row in rows],
        media: [str(root / row["file_name"]) for row in rows],
        "speaker": [speaker_name(row.get("speaker")) for row in rows],
    }
    if any(row.get("emotion") not in (None, "") for row in rows):
        files = [row["file_name"] for row in rows]
        class_names = read_class_names([row.get("emotion") for row in rows], files, root, class_names)
        columns["emotion"] = [str(row["emotion"]) for row in rows]
    for name in dict.fromkeys(name for row in rows for name in row):
        if name not in {"file_name", "emotion", *columns}:
            columns[name] = [row.get(name) for row in rows]
    return to_dataset(root, columns, class_names)


def speaker_name(value: object) -> str:
    """A speaker as the column holds it: text, or "unknown" for nothing."""
    return UNKNOWN_SPEAKER if value in (None, "") else str(value)


def read_class_names(
    emotions: Sequence, names: Sequence[str], root: object, class_names: Sequence[str] | None
) -> list[str]:
    """The names of the classes, in the order of their numbers: those given, or those found, sorted.

    Args:
        emotions: of the clips.
        names: of the clips, for messages, as `root`.
        class_names: None, or what the classes shall be.

    Raises:
        CorpusError: a clip without emotion, or with one that is not among the given.
    """
    unlabelled = [name for name, emotion in zip(names, emotions, strict=True) if emotion in (None, "")]
    if unlabelled:
        raise CorpusError(
            f"{root}: {len(unlabelled)} of {len(emotions)} clips have no emotion, e.g. {sample(unlabelled)}."
        )
    found = sorted({str(emotion) for emotion in emotions})
    if class_names is None:
        return found
    outside = sorted(set(found) - set(class_names))
    if outside:
        raise CorpusError(f"{root} has the emotions {outside}, which class_names={list(class_names)} does not name.")
    return list(class_names)
