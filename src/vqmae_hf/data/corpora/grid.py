"""GRID: 34 speakers say commands of six words, without emotion (Cooke et al. 2006). The file name spells the sentence."""

import re
from pathlib import Path, PurePosixPath

from vqmae_hf.data.corpora.registry import UNKNOWN_SPEAKER, CorpusCard, CorpusListing, register_corpus
from vqmae_hf.data.corpora.tree import Layout, MediaFile, NotAClip, list_tree, match_name, medium_of

COMMANDS = {"b": "bin", "l": "lay", "p": "place", "s": "set"}
COLOURS = {"b": "blue", "g": "green", "r": "red", "w": "white"}
PREPOSITIONS = {"a": "at", "b": "by", "i": "in", "w": "with"}
LETTERS = {letter: letter for letter in "abcdefghijklmnopqrstuvxyz"}  # without w, whose name is long
DIGITS = {
    "z": "zero",
    "1": "one",
    "2": "two",
    "3": "three",
    "4": "four",
    "5": "five",
    "6": "six",
    "7": "seven",
    "8": "eight",
    "9": "nine",
}
ADVERBS = {"a": "again", "n": "now", "p": "please", "s": "soon"}
WORDS = {
    "command": COMMANDS,
    "colour": COLOURS,
    "preposition": PREPOSITIONS,
    "letter": LETTERS,
    "digit": DIGITS,
    "adverb": ADVERBS,
}
CODE = "".join(f"[{''.join(words)}]" for words in WORDS.values())

CARD = CorpusCard(
    name="grid",
    title="GRID audiovisual sentence corpus",
    classes=(),
    num_speakers=34,
    licence="CC BY 4.0",
    source="https://zenodo.org/records/3625687",
    citation="Cooke M, Barker J, Cunningham S, Shao X (2006). An audio-visual corpus for speech perception and automatic "
    "speech recognition. The Journal of the Acoustical Society of America 120(5), 2421-2424.",
    modalities=("audio", "visual"),
    notes="1,000 sentences of three seconds by each speaker; there are no pictures of speaker 21. No emotion.",
)
LAYOUT = Layout(
    title="GRID",
    tree="  ROOT/s1/bbaf2n.mpg                     (also .../s1/video/mpg_6000/bbaf2n.mpg, at any depth below s1)\n"
    "  ROOT/s1_bbaf2n.mpg                     (all in one folder; any prefix before the last underscore)",
    top=re.compile(rf"s\d{{1,2}}|\w+_{CODE}\.\w+"),
    inner=re.compile(r"s\d{1,2}"),
)
NAME = re.compile(rf"(?:(?P<prefix>\w+)_)?(?P<code>{CODE})")
SPEAKER = re.compile(r"s(?:[1-9]|[12]\d|3[0-4])")
SCHEME = "bbaf2n (command, colour, preposition, letter, digit, adverb), with or without a prefix"


@register_corpus("grid", card=CARD)
def list_grid(root: Path) -> CorpusListing:
    """List the videos of GRID, whose own sound is used.

    The speaker is the folder `sN` below the root, or else the prefix `sN_` of the name. Files with another prefix, such as
    the `lipnet_...` clips that circulate in demonstrations of lip reading, are of speakers that no name tells:
    their speaker is "unknown", and they cannot be split. Separate sound is left out, because the published files of
    25 kHz are cut to the speech and would be out of step with the pictures.

    Args:
        root: see `LAYOUT`.

    Returns:
        The columns of `load_corpus` without emotion and intensity; `sentence`, and its words `command`, `colour`,
        `preposition`, `letter`, `digit` and `adverb`.
    """
    return list_tree(root, LAYOUT, read_path)


def read_path(path: PurePosixPath) -> MediaFile:
    """What the path of one file says; raises `NotAClip`."""
    if path.suffix.lower() == ".align":
        raise NotAClip("word boundaries", is_expected=True)
    if medium_of(path) == "audio":
        raise NotAClip("separate sound; the video's own is used", is_expected=True)
    match = match_name(NAME, path.stem.lower(), SCHEME)
    speaker = _read_speaker(path, match["prefix"])
    words = {part: spoken[letter] for (part, spoken), letter in zip(WORDS.items(), match["code"], strict=True)}
    known = speaker != UNKNOWN_SPEAKER
    clip_id = f"{speaker}/{match['code']}" if known else str(path.with_suffix(""))
    return MediaFile(
        path=str(path),
        medium="video",
        clip_id=clip_id,
        recording=clip_id,
        labels={"speaker": speaker, "sentence": " ".join(words.values()), **words},
        # mpg_6000 is the larger one of the two published picture sizes.
        rank=0 if "mpg_6000" in path.parts else 1,
    )


def _read_speaker(path: PurePosixPath, prefix: str | None) -> str:
    folders = path.parts[:-1]
    in_name = prefix if prefix and SPEAKER.fullmatch(prefix) else None
    if folders and not SPEAKER.fullmatch(folders[0]):
        raise NotAClip("neither in the root nor in a speaker's folder s1 to s34")
    in_folder = folders[0] if folders else None
    if None not in (in_name, in_folder) and in_name != in_folder:
        raise NotAClip(f"the name says speaker {in_name}, the folder {in_folder}")
    return in_folder or in_name or UNKNOWN_SPEAKER
