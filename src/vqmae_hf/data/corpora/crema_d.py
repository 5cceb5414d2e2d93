"""CREMA-D: 91 actors speak twelve sentences in six emotions (Cao et al. 2014)."""

import re
from pathlib import Path, PurePosixPath

from vqmae_hf.data.corpora.registry import CorpusCard, CorpusListing, register_corpus
from vqmae_hf.data.corpora.tree import Layout, MediaFile, NotAClip, list_tree, match_name, medium_of

EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}
INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified", "X": "unspecified"}
STATEMENTS = {
    "DFA": "Don't forget a jacket",
    "IEO": "It's eleven o'clock",
    "IOM": "I'm on my way to the meeting",
    "ITH": "I think I have a doctor's appointment",
    "ITS": "I think I've seen this before",
    "IWL": "I would like a new alarm clock",
    "IWW": "I wonder what this is about",
    "MTI": "Maybe tomorrow it will be cold",
    "TAI": "The airplane is almost full",
    "TIE": "That is exactly what happened",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
# Best first: sound as recorded before what was compressed. An unknown kind of video is as good as any.
SUFFIX_RANKS = {".wav": 0, ".flac": 0, ".mp3": 2, ".mp4": 0, ".flv": 2}

CARD = CorpusCard(
    name="crema_d",
    title="CREMA-D, the Crowd-sourced Emotional Multimodal Actors Dataset",
    classes=tuple(EMOTIONS.values()),
    num_speakers=91,
    licence="Open Database License (ODbL) 1.0; contents under the Database Contents License 1.0",
    source="https://github.com/CheyneyComputerScience/CREMA-D",
    citation="Cao H, Cooper DG, Keutmann MK, Gur RC, Nenkova A, Verma R (2014). CREMA-D: Crowd-sourced Emotional "
    "Multimodal Actors Dataset. IEEE Transactions on Affective Computing 5(4), 377-390.",
    modalities=("audio", "visual"),
    notes="7,442 clips of 48 male and 43 female actors, twelve sentences. The emotion is the one that was acted; what "
    "listeners perceived is in tables of the source. Most sentences have no stated intensity.",
)
LAYOUT = Layout(
    title="CREMA-D",
    tree="  ROOT/VideoFlash/1001_DFA_ANG_XX.flv     (or .mp4; any folder, or ROOT itself)\n"
    "  ROOT/AudioWAV/1001_DFA_ANG_XX.wav       (one or both)",
    top=re.compile(r"(Video|Audio)(Flash|MP4|WAV|MP3).*|\d{4}_[A-Z]{3}_[A-Z]{3}_[A-Z]{1,2}\.\w+", re.IGNORECASE),
    inner=re.compile(r"(?!)"),  # every folder that holds clips will do as a root
)
SCHEME = "actor_sentence_emotion_intensity, as 1001_DFA_ANG_XX"
NAME = re.compile(rf"(10(?:0[1-9]|[1-8]\d|9[01]))_({'|'.join(STATEMENTS)})_({'|'.join(EMOTIONS)})_(LO|MD|HI|XX?)")


@register_corpus("crema_d", card=CARD)
def list_crema_d(root: Path) -> CorpusListing:
    """List CREMA-D.

    Video and separate sound of a recording become one clip. Where a recording is there in several formats, mp4 is taken
    before flv and wav before mp3.

    Args:
        root: see `LAYOUT`.

    Returns:
        The columns of `load_corpus` with speakers "1001" to "1091", intensities "low", "medium", "high" and
        "unspecified", and `statement` (the sentence).
    """
    return list_tree(root, LAYOUT, read_path, CARD.classes)


def read_path(path: PurePosixPath) -> MediaFile:
    """What the path of one file says; raises `NotAClip`."""
    medium = medium_of(path)
    actor, statement, emotion, intensity = match_name(NAME, path.stem, SCHEME).groups()
    if len(path.parts) > 2:
        raise NotAClip("more than one folder below the root")
    if re.fullmatch(r"1\d{3}", path.parts[0]) and path.parts[0] != actor:
        raise NotAClip(f"the name says actor {actor}, the folder {path.parts[0]}")
    return MediaFile(
        path=str(path),
        medium=medium,
        clip_id=path.stem,
        recording=path.stem,
        labels={
            "speaker": actor,
            "emotion": EMOTIONS[emotion],
            "intensity": INTENSITIES[intensity],
            "statement": STATEMENTS[statement],
        },
        rank=SUFFIX_RANKS.get(path.suffix.lower(), 1),
    )
