"""VoxCeleb2: a million utterances of celebrities in interviews, without emotion (Chung et al. 2018)."""

import re
from pathlib import Path

from vqmae_hf.data.corpora.registry import CorpusCard, CorpusError, CorpusListing, LeftOut, register_corpus
from vqmae_hf.data.corpora.tables import to_dataset
from vqmae_hf.data.corpora.tree import Layout, check_not_too_low, explain_root, walk_files

CARD = CorpusCard(
    name="voxceleb2",
    title="VoxCeleb2",
    classes=(),
    num_speakers=6112,
    licence="CC BY 4.0 for the metadata; the recordings belong to their owners, see the source",
    source="https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox2.html",
    citation="Chung JS, Nagrani A, Zisserman A (2018). VoxCeleb2: Deep Speaker Recognition. Interspeech, 1086-1090.",
    modalities=("audio", "visual"),
    notes="More than a million utterances cut out of videos from YouTube, 5,994 speakers in dev and 118 in test. Access to "
    "the recordings is subject to the terms of the source. No emotion: for tokenizers and pre-training.",
)
LAYOUT = Layout(
    title="VoxCeleb2",
    tree="  ROOT/dev/mp4/id00012/21Uxsk56VDQ/00001.mp4\n"
    "  ROOT/dev/aac/id00012/21Uxsk56VDQ/00001.m4a     (one or both; likewise ROOT/test/..., or ROOT/mp4/...)",
    top=re.compile(r"dev|test|mp4|aac"),
    inner=re.compile(r"id\d{5}|mp4|aac"),
)
CLIP = r"id\d{5}/[\w-]{11}/\d{5}"
PATH = re.compile(rf"(?:(?:dev|test)/)?(?:mp4/(?P<video>{CLIP})\.mp4|aac/(?P<audio>{CLIP})\.m4a)", re.ASCII)
DESCRIPTIONS = "txt"


@register_corpus("voxceleb2", card=CARD)
def list_voxceleb2(root: Path) -> CorpusListing:
    """List VoxCeleb2: 1.1 million clips in well under a minute, since no file is opened or asked for its size.

    Utterances that are there as pictures (mp4) and sound (aac) become one clip; the others are what they are.

    Args:
        root: see `LAYOUT`.

    Returns:
        The columns of `load_corpus` without emotion and intensity; speakers such as "id00012", `source_video` (the
        address on YouTube that several clips share) and `partition` ("dev", "test", or None).

    Raises:
        CorpusError: no clip, or `root` is too high or too low.
    """
    check_not_too_low(root, LAYOUT)
    found, left_out = _sort_files(root)
    clip_ids = sorted(found["video"].keys() | found["audio"].keys())
    if not clip_ids:
        raise CorpusError(explain_root(root, LAYOUT, left_out))
    parts = [clip_id.split("/") for clip_id in clip_ids]
    paths = {medium: [clips.get(clip_id) for clip_id in clip_ids] for medium, clips in found.items()}
    columns = {
        "clip_id": clip_ids,
        **{medium: [path and f"{root}/{path}" for path in paths[medium]] for medium in paths},
        "speaker": [speaker for speaker, _, _ in parts],
        "source_video": [source for _, source, _ in parts],
        "partition": [_partition(video or audio) for video, audio in zip(*paths.values(), strict=True)],
    }
    return CorpusListing(to_dataset(root, columns), left_out)


def _sort_files(root: Path) -> tuple[dict[str, dict[str, str]], list[LeftOut]]:
    """Paths of pictures and of sound by the name of their clip, and what is neither."""
    found: dict[str, dict[str, str]] = {"video": {}, "audio": {}}
    left_out = []
    for path in sorted(walk_files(root, skip=(DESCRIPTIONS,))):
        match = PATH.fullmatch(path)
        if match is None:
            left_out.append(_misplaced(path))
            continue
        medium = "video" if match["video"] else "audio"
        taken = found[medium].setdefault(match[medium], path)
        if taken is not path:
            left_out.append(LeftOut(path, "second copy of a recording that is listed"))
    return found, left_out


def _misplaced(path: str) -> LeftOut:
    if path.endswith((f"{DESCRIPTIONS}/", "vox2_meta.csv")):
        return LeftOut(path, "descriptions", is_expected=True)
    return LeftOut(path, "not at [dev|test]/mp4/idNNNNN/<video>/NNNNN.mp4 or [dev|test]/aac/idNNNNN/<video>/NNNNN.m4a")


def _partition(path: str) -> str | None:
    first = path.split("/", 1)[0]
    return first if first in ("dev", "test") else None
