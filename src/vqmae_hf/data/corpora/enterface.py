"""eNTERFACE'05: subjects react to stories in six emotions (Martin et al. 2006)."""

import re
from pathlib import Path, PurePosixPath

from vqmae_hf.data.corpora.registry import CorpusCard, CorpusListing, register_corpus
from vqmae_hf.data.corpora.tree import Layout, MediaFile, NotAClip, list_tree, match_name, medium_of

EMOTIONS = {
    "an": "anger",
    "di": "disgust",
    "fe": "fear",
    "ha": "happiness",
    "sa": "sadness",
    "su": "surprise",
}

CARD = CorpusCard(
    name="enterface",
    title="eNTERFACE'05 Audio-Visual Emotion Database",
    classes=tuple(EMOTIONS.values()),
    num_speakers=42,
    licence="see the source",
    source="http://www.enterface.net/enterface05/",
    citation="Martin O, Kotsia I, Macq B, Pitas I (2006). The eNTERFACE'05 Audio-Visual Emotion Database. 22nd "
    "International Conference on Data Engineering Workshops.",
    modalities=("audio", "visual"),
    notes="English sentences, five per emotion, by non-professional speakers; the number of speakers is that of the paper, "
    "the archive may hold folders of more. The recordings of subject 6 are not cut into sentences.",
)
LAYOUT = Layout(
    title="eNTERFACE'05",
    tree="  ROOT/subject 1/anger/sentence 1/s1_an_1.avi\n"
    "  ROOT/subject 6/anger/s6_an_1.avi             (a subject without folders of sentences)",
    top=re.compile(r"subject[ _]?\d+", re.IGNORECASE),
)
SUBJECT_FOLDER = re.compile(r"subject[ _]?(\d+)", re.IGNORECASE)
SENTENCE_FOLDER = re.compile(r"sentence[ _]?(\d)", re.IGNORECASE)
# The archive has names with a second ".avi", a blank or an underscore too many.
NAME = re.compile(rf"s_?(\d+)[ _]?({'|'.join(EMOTIONS)})(?:[ _]?(\d))?[ _.]*(?:avi)?", re.IGNORECASE)
SCHEME = "s<subject>_<two letters of the emotion>_<sentence>, as s1_an_1"


@register_corpus("enterface", card=CARD)
def list_enterface(root: Path) -> CorpusListing:
    """List eNTERFACE'05.

    Args:
        root: see `LAYOUT`.

    Returns:
        The columns of `load_corpus` with speakers "1", "2", ... and `sentence` (1 to 5, None for a recording of all).
    """
    return list_tree(root, LAYOUT, read_path, CARD.classes)


def read_path(path: PurePosixPath) -> MediaFile:
    """What the path of one file says; raises `NotAClip` where folders and name contradict each other."""
    medium = medium_of(path)
    in_folders = _read_folders(path)
    subject, emotion, sentence = match_name(NAME, path.stem, SCHEME).groups()
    in_name = (int(subject), EMOTIONS[emotion.lower()], sentence and int(sentence))
    for what, said, meant in zip(("subject", "emotion", "sentence"), in_name, in_folders, strict=True):
        if None not in (said, meant) and said != meant:
            raise NotAClip(f"the name says {what} {said}, the folder {meant}")
    number = in_folders[2] or in_name[2]
    clip_id = f"s{in_name[0]}_{emotion.lower()}" + (f"_{number}" if number else "")
    return MediaFile(
        path=str(path),
        medium=medium,
        clip_id=clip_id,
        recording=clip_id,
        labels={"speaker": str(in_name[0]), "emotion": in_name[1], "sentence": number},
    )


def _read_folders(path: PurePosixPath) -> tuple[int, str, int | None]:
    """Subject, emotion and, if there is a folder for it, sentence."""
    folders = path.parts[:-1]
    subject = SUBJECT_FOLDER.fullmatch(folders[0]) if folders else None
    sentence = SENTENCE_FOLDER.fullmatch(folders[2]) if len(folders) == 3 else None
    if subject is None or len(folders) not in (2, 3) or (len(folders) == 3 and sentence is None):
        raise NotAClip("not in subject N/emotion/sentence M, nor in subject N/emotion")
    if folders[1].lower() not in EMOTIONS.values():
        raise NotAClip(f"folder {folders[1]!r} is none of the emotions")
    return int(subject[1]), folders[1].lower(), int(sentence[1]) if sentence else None
