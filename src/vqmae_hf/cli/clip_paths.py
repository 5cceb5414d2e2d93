"""Which clips are meant: files, folders and patterns as the files they stand for."""

import glob
from collections.abc import Iterable
from pathlib import Path


def find_clips(inputs: Iterable[str]) -> list[Path]:
    """Media files that `inputs` name, each once, in their order; those of a folder sorted, all levels deep.

    A file that is named is taken whatever its name; of folders and patterns, what ends like video or sound.

    Args:
        inputs: files, folders or patterns (`clips/**/*.mp4`, quoted so that the shell does not expand them).

    Raises:
        ValueError: an input that does not exist or stands for no clip; all of them are named.
    """
    from vqmae_hf.data.corpora import AUDIO_SUFFIXES, VIDEO_SUFFIXES

    suffixes = VIDEO_SUFFIXES | AUDIO_SUFFIXES
    found: dict[Path, None] = {}
    problems = []
    for given in inputs:
        path = Path(given).expanduser()
        if path.is_file():
            found[path] = None
            continue
        candidates = path.rglob("*") if path.is_dir() else map(Path, glob.glob(str(path), recursive=True))
        clips = sorted(clip for clip in candidates if clip.suffix.lower() in suffixes and clip.is_file())
        if not clips:
            what = "holds no clip" if path.is_dir() else "is no file, no folder, and no pattern that matches a clip"
            problems.append(f"{given} {what}")
        found.update(dict.fromkeys(clips))
    if problems:
        raise ValueError(f"{'; '.join(problems)} (accepted are {', '.join(sorted(suffixes))}).")
    return list(found)
