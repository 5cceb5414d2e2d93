"""MEAD: actors talk in eight emotions at three intensities, filmed from seven sides (Wang et al. 2020)."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from vqmae_hf.data.corpora.registry import CorpusCard, CorpusListing, register_corpus
from vqmae_hf.data.corpora.tree import Layout, MediaFile, NotAClip, list_tree, match_name, medium_of

EMOTIONS = ("angry", "contempt", "disgusted", "fear", "happy", "neutral", "sad", "surprised")
VIEWS = ("down", "front", "left_30", "left_60", "right_30", "right_60", "top")

CARD = CorpusCard(
    name="mead",
    title="MEAD, Multi-view Emotional Audio-visual Dataset",
    classes=EMOTIONS,
    num_speakers=60,
    licence="see the source",
    source="https://wywu.github.io/projects/MEAD/MEAD.html",
    citation="Wang K, Wu Q, Song L, Yang Z, Wu W, Qian C, He R, Qiao Y, Loy CC (2020). MEAD: A Large-scale Audio-visual "
    "Dataset for Emotional Talking-face Generation. European Conference on Computer Vision.",
    modalities=("audio", "visual"),
    notes="60 actors in the paper; see the source for those that are released. Neutral has one intensity, the other "
    "emotions three. Each recording exists from seven sides, which are clips of one speaker and of one sound.",
)
LAYOUT = Layout(
    title="MEAD",
    tree="  ROOT/M003/video/front/angry/level_1/001.mp4\n"
    "  ROOT/M003/audio/angry/level_1/001.m4a      (the archives of each speaker, unpacked where they are)",
    top=re.compile(r"[MW]\d{3}"),
)
NAME = re.compile(r"\d{3}")
LEVEL_FOLDER = re.compile(r"level_([123])")


@register_corpus("mead", card=CARD)
def list_mead(root: Path, *, views: Sequence[str] = ("front",)) -> CorpusListing:
    """List MEAD.

    Every view of a recording is a clip, with the recording's sound beside it; a recording that has none of these views
    is listed with its sound alone.

    Args:
        root: see `LAYOUT`.
        views: some of `VIEWS`; turned faces need another detector than the default of `load_clip`.

    Returns:
        The columns of `load_corpus` with speakers such as "M003" (male) and "W009" (female), intensities "level_1" to
        "level_3", `sex`, and `view` (None for sound alone).

    Raises:
        ValueError: a view that does not exist.
    """
    if isinstance(views, str) or not views or set(views) - set(VIEWS):
        raise ValueError(f"views={views!r} must be a list of some of {VIEWS}.")

    def read(path: PurePosixPath) -> MediaFile:
        file = read_path(path)
        if file.medium == "video" and file.labels["view"] not in views:
            raise NotAClip(f"view {file.labels['view']}, which was not asked for", is_expected=True)
        return file

    return list_tree(root, LAYOUT, read, EMOTIONS)


def read_path(path: PurePosixPath) -> MediaFile:
    """What the path of one file says; raises `NotAClip`."""
    medium = medium_of(path)
    speaker, *branch, emotion, level = _folders(path, medium)
    if emotion not in EMOTIONS:
        raise NotAClip(f"folder {emotion!r} is none of the emotions")
    match_name(LEVEL_FOLDER, level, "level_1 to level_3 (its folder)")
    match_name(NAME, path.stem, "three digits")
    view = branch[1] if medium == "video" else None
    return MediaFile(
        path=str(path),
        medium=medium,
        clip_id="/".join([speaker, view or "audio", emotion, level, path.stem]),
        recording="/".join([speaker, emotion, level, path.stem]),
        labels={
            "speaker": speaker,
            "emotion": emotion,
            "intensity": level,
            "sex": "male" if speaker.startswith("M") else "female",
            "view": view,
        },
        version=view or "",
    )


def _folders(path: PurePosixPath, medium: str) -> tuple[str, ...]:
    folders = path.parts[:-1]
    expected = 5 if medium == "video" else 4
    if len(folders) != expected or not LAYOUT.top.fullmatch(folders[0]) or folders[1] != medium:
        raise NotAClip(f"{medium} outside of SPEAKER/{medium}/{'view/' if medium == 'video' else ''}emotion/level_N")
    if medium == "video" and folders[2] not in VIEWS:
        raise NotAClip(f"folder {folders[2]!r} is none of the views")
    return folders
