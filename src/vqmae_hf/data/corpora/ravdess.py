"""RAVDESS: 24 actors speak and sing two sentences in eight emotions (Livingstone & Russo 2018)."""

import re
from pathlib import Path, PurePosixPath

from vqmae_hf.data.corpora.registry import CorpusCard, CorpusListing, register_corpus
from vqmae_hf.data.corpora.tree import Layout, MediaFile, NotAClip, list_tree, match_name, medium_of

# In the order of their numbers in the file names, 01 to 08.
EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
INTENSITIES = ("normal", "strong")
STATEMENTS = ("Kids are talking by the door", "Dogs are sitting by the door")
VOCAL_CHANNELS = ("speech", "song")
FULL_AV, VIDEO_ONLY, AUDIO_ONLY = 1, 2, 3

CARD = CorpusCard(
    name="ravdess",
    title="RAVDESS, the Ryerson Audio-Visual Database of Emotional Speech and Song",
    classes=EMOTIONS,
    num_speakers=24,
    licence="CC BY-NC-SA 4.0",
    source="https://zenodo.org/records/1188976",
    citation="Livingstone SR, Russo FA (2018). The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS): "
    "A dynamic, multimodal set of facial and vocal expressions in North American English. PLoS ONE 13(5): e0196391.",
    modalities=("audio", "visual"),
    notes="12 male (odd numbers) and 12 female (even numbers) professional actors, two sentences, two intensities (neutral "
    "has only the normal one). Speech has eight emotions; song lacks disgust and surprise, and actor 18.",
)
LAYOUT = Layout(
    title="RAVDESS",
    tree="  ROOT/Actor_01/01-01-01-01-01-01-01.mp4               (03-....wav or .flac for sound alone)\n"
    "  ROOT/Video_Speech_Actor_01/Actor_01/01-01-....mp4    (the zips of the publishers, each unpacked\n"
    "  ROOT/Audio_Speech_Actors_01-24/Actor_01/03-01-....wav  into a folder of its name)",
    top=re.compile(r"Actor_\d\d|(Audio|Video)_(Speech|Song)_Actors?_.*", re.IGNORECASE),
)
SCHEME = "modality-channel-emotion-intensity-statement-repetition-actor, two digits each"
NAME = re.compile(r"(0[1-3])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4])")
ACTOR_FOLDER = re.compile(r"actor_(\d\d)", re.IGNORECASE)


@register_corpus("ravdess", card=CARD)
def list_ravdess(root: Path, *, vocal_channel: str = "speech") -> CorpusListing:
    """List RAVDESS.

    A recording is published as pictures with sound (01), pictures (02) and sound (03). The first is taken where it is
    there, or else the pictures with the sound beside them, or either alone.

    Args:
        root: see `LAYOUT`.
        vocal_channel: "speech", "song" or "both".

    Returns:
        The columns of `load_corpus` with speakers "01" to "24", `sex`, `vocal_channel`, `statement` (the sentence) and
        `repetition` (1 or 2).

    Raises:
        ValueError: another `vocal_channel`.
    """
    if vocal_channel not in (*VOCAL_CHANNELS, "both"):
        raise ValueError(f"vocal_channel={vocal_channel!r}; accepted are 'speech', 'song' and 'both'.")

    def read(path: PurePosixPath) -> MediaFile:
        file = read_path(path)
        if vocal_channel not in (file.labels["vocal_channel"], "both"):
            raise NotAClip(f"{file.labels['vocal_channel']}; {vocal_channel} was asked for", is_expected=True)
        return file

    return list_tree(root, LAYOUT, read, EMOTIONS)


def read_path(path: PurePosixPath) -> MediaFile:
    """What the path of one file says; raises `NotAClip`."""
    medium = medium_of(path)
    fields = match_name(NAME, path.stem, SCHEME).groups()
    modality, channel, emotion, intensity, statement, repetition, actor = map(int, fields)
    _check_folder(path, actor)
    if (modality == AUDIO_ONLY) != (medium == "audio"):
        raise NotAClip(f"{medium} under the name of modality {modality:02d}")
    return MediaFile(
        path=str(path),
        medium=medium,
        clip_id=path.stem,
        recording=path.stem.split("-", 1)[1],
        labels={
            "speaker": f"{actor:02d}",
            "emotion": EMOTIONS[emotion - 1],
            "intensity": INTENSITIES[intensity - 1],
            "sex": "male" if actor % 2 else "female",
            "vocal_channel": VOCAL_CHANNELS[channel - 1],
            "statement": STATEMENTS[statement - 1],
            "repetition": repetition,
        },
        rank=modality,
        has_own_sound=modality == FULL_AV,
    )


def _check_folder(path: PurePosixPath, actor: int) -> None:
    folders = path.parts[:-1]
    match = ACTOR_FOLDER.fullmatch(folders[-1]) if folders else None
    if match is None or len(folders) > 2 or not LAYOUT.top.fullmatch(folders[0]):
        raise NotAClip("not in a folder Actor_NN, of the root or of an unpacked zip")
    if int(match[1]) != actor:
        raise NotAClip(f"the name says actor {actor:02d}, the folder {folders[-1]}")
