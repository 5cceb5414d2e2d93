"""Corpora whose directory layout and file names say everything: walking the tree, joining the files of a recording.

A loader gives a `Layout` and a function that reads one path; what that function refuses is listed with the reason.
"""

import os
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from vqmae_hf.data.corpora.registry import CorpusError, CorpusListing, LeftOut, sample
from vqmae_hf.data.corpora.tables import to_dataset

VIDEO_SUFFIXES = frozenset({".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
AUDIO_SUFFIXES = frozenset({".aac", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wav"})
ARCHIVE_SUFFIXES = frozenset({".7z", ".gz", ".rar", ".tar", ".tgz", ".zip"})
# What corpora bring along to describe themselves.
DOCUMENT_SUFFIXES = frozenset(
    {".csv", ".doc", ".docx", ".htm", ".html", ".md", ".pdf", ".rtf", ".txt", ".xls", ".xlsx"}
)
LEVELS_LOOKED_UP = 4
SYSTEM_NAMES = frozenset({"__macosx", "__pycache__", "desktop.ini", "thumbs.db"})


class NotAClip(Exception):
    """Raised by the reader of a path for a file that is not to be listed as a clip, with the reason."""

    def __init__(self, reason: str, *, is_expected: bool = False):
        super().__init__(reason)
        self.reason, self.is_expected = reason, is_expected


@dataclass(frozen=True)
class Layout:
    """How the folder of a corpus looks.

    Attributes:
        title: of the corpus, for messages.
        tree: the expected tree, one line per example, as shown to users.
        top: what the names of things directly in the root look like; tells a root that is too high.
        inner: what the names of folders inside of the corpus look like, where not as `top`; tells one that is too low.
    """

    title: str
    tree: str
    top: re.Pattern[str]
    inner: re.Pattern[str] | None = None


@dataclass(frozen=True)
class MediaFile:
    """What a path says.

    Attributes:
        path: relative to the root.
        medium: "video" or "audio".
        clip_id: name of the clip, should this file be the one that gives it: the video, or the sound without video.
        recording: names what was recorded; the sound of a recording goes beside its videos.
        labels: `speaker`, `emotion`, ... of the recording.
        version: videos of one recording with several versions (views) are clips of their own.
        rank: of several files of one recording, medium and version, the one of the lowest rank is taken.
        has_own_sound: a video that is heard by itself, so that the sound of the recording is left out.
    """

    path: str
    medium: str
    clip_id: str
    recording: str
    labels: Mapping[str, Any] = field(hash=False)
    version: str = ""
    rank: int = 0
    has_own_sound: bool = False


def walk_files(root: Path, skip: Container[str] = ()) -> Iterator[str]:
    """Paths of the files below `root`, relative, with "/", in no particular order; hidden and system files are not given.

    Folders are read with `scandir`, which tells files from folders without a call per file: a million files take seconds.
    Links to folders are followed unless they lead back to where they lie in.

    Args:
        root: where to start.
        skip: names of folders that are not entered; they are given themselves, with a "/" at the end.

    Raises:
        OSError: a folder that may not be read.
    """
    pending = [""]
    while pending:
        folder = pending.pop()
        with os.scandir(os.path.join(root, folder)) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.lower() in SYSTEM_NAMES:
                    continue
                if not entry.is_dir():
                    yield folder + entry.name
                elif entry.name in skip:
                    yield f"{folder}{entry.name}/"
                elif not (entry.is_symlink() and _leads_back(entry.path)):
                    pending.append(f"{folder}{entry.name}/")


def medium_of(path: PurePosixPath) -> str:
    """ "video" or "audio", by the suffix.

    Raises:
        NotAClip: neither.
    """
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return "video"
    if suffix in AUDIO_SUFFIXES:
        return "audio"
    if suffix in ARCHIVE_SUFFIXES:
        raise NotAClip("archive that is not unpacked")
    if suffix in DOCUMENT_SUFFIXES:
        raise NotAClip("document", is_expected=True)
    raise NotAClip("neither video nor sound")


def match_name(pattern: re.Pattern[str], name: str, scheme: str) -> re.Match[str]:
    """The full match of a name.

    Raises:
        NotAClip: the name is not of this scheme.
    """
    match = pattern.fullmatch(name)
    if match is None:
        raise NotAClip(f"name is not of the form {scheme}")
    return match


def list_tree(
    root: Path, layout: Layout, read: Callable[[PurePosixPath], MediaFile], class_names: Sequence[str] = ()
) -> CorpusListing:
    """List a corpus from the names of its files.

    Args:
        root: its folder.
        layout: how that should look.
        read: relative path -> what it says; raises `NotAClip` for a file that is no clip of the corpus.
        class_names: emotions in the order of their class numbers.

    Raises:
        CorpusError: no clip, or `root` lies inside of the corpus; says what was found and what is expected.
    """
    check_not_too_low(root, layout)
    files, left_out = [], []
    for path in sorted(walk_files(root)):
        try:
            files.append(read(PurePosixPath(path)))
        except NotAClip as refusal:
            left_out.append(LeftOut(path, refusal.reason, refusal.is_expected))
    clips, redundant = join_recordings(files)
    if not clips:
        raise CorpusError(explain_root(root, layout, left_out))
    clips.sort(key=lambda clip: clip["clip_id"])
    columns = {name: [clip[name] for clip in clips] for name in clips[0]}
    for medium in ("video", "audio"):
        columns[medium] = [path and f"{root}/{path}" for path in columns[medium]]
    return CorpusListing(to_dataset(root, columns, class_names), sorted([*left_out, *redundant]))


def join_recordings(files: Sequence[MediaFile]) -> tuple[list[dict[str, Any]], list[LeftOut]]:
    """Clips, each with its video and its sound, from the files of all recordings, and the files that are not needed."""
    by_recording: dict[str, list[MediaFile]] = {}
    for file in files:
        by_recording.setdefault(file.recording, []).append(file)
    clips, left_out = [], []
    for group in by_recording.values():
        chosen, others = _choose(group)
        left_out += others
        videos = [file for file in chosen if file.medium == "video"]
        sounds = [file for file in chosen if file.medium == "audio"]
        sound = sounds[0] if sounds else None
        for video in videos:
            clips.append(_clip(video, video, None if video.has_own_sound else sound))
        if not videos:
            clips.append(_clip(sound, None, sound))
        elif sound is not None and all(video.has_own_sound for video in videos):
            left_out.append(LeftOut(sound.path, "sound of a recording whose video is heard by itself", True))
    return clips, left_out


def check_not_too_low(root: Path, layout: Layout) -> None:
    """Refuse a root that is a part of the corpus.

    Raises:
        CorpusError: names the folder to pass instead.
    """
    pattern = layout.inner or layout.top
    above = [root.absolute(), *root.absolute().parents][:LEVELS_LOOKED_UP]
    inside = [folder for folder in above if pattern.fullmatch(folder.name)]
    if inside and not any(layout.top.fullmatch(name) for name in os.listdir(root)):
        raise CorpusError(
            f"{root} lies within what looks like {layout.title}; pass {inside[-1].parent}, the folder that holds all of "
            f"it. Expected:\n{layout.tree}"
        )


def explain_root(root: Path, layout: Layout, left_out: Sequence[LeftOut]) -> str:
    """Why no clip was found in `root`, and what to do."""
    with os.scandir(root) as entries:
        folders = sorted(entry.name for entry in entries if entry.is_dir())
    lower = [name for name in folders if any(layout.top.fullmatch(inner) for inner in os.listdir(root / name))]
    archives = [item.path for item in left_out if PurePosixPath(item.path).suffix.lower() in ARCHIVE_SUFFIXES]
    reasons = dict.fromkeys(f"{item.path}: {item.reason}" for item in left_out)
    if lower and not any(layout.top.fullmatch(name) for name in folders):
        found = f"The corpus seems to lie one level lower; pass {root / lower[0]}"
    elif archives:
        found = f"Found {len(archives)} archives ({sample(archives)}); unpack them where they are"
    elif left_out:
        found = f"Found {len(left_out)} other files ({sample(list(reasons), 3)})"
    else:
        found = f"Found no files, and the folders {sample(folders)}" if folders else "It is empty"
    return f"{root} holds no clip of {layout.title}. {found}. Expected:\n{layout.tree}"


def _choose(group: Sequence[MediaFile]) -> tuple[list[MediaFile], list[LeftOut]]:
    """One file per medium and version, the first of the lowest rank, and the others."""
    best: dict[tuple[str, str], MediaFile] = {}
    for file in sorted(group, key=lambda file: (file.rank, file.path)):
        best.setdefault((file.medium, file.version), file)
    left_out = []
    for file in group:
        taken = best[file.medium, file.version]
        if file is not taken and file.rank == taken.rank:
            left_out.append(LeftOut(file.path, "second copy of a recording that is listed"))
        elif file is not taken:
            left_out.append(LeftOut(file.path, f"{file.medium} of a recording listed in a better form", True))
    return list(best.values()), left_out


def _clip(named_by: MediaFile, video: MediaFile | None, sound: MediaFile | None) -> dict[str, Any]:
    return {
        "clip_id": named_by.clip_id,
        "video": video and video.path,
        "audio": sound and sound.path,
        **named_by.labels,
    }


def _leads_back(link: str) -> bool:
    target, place = os.path.realpath(link), os.path.realpath(os.path.dirname(link))
    return os.path.commonpath([target, place]) == target
