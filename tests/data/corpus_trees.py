"""Small corpora written under their real names, and what tests ask of the rows that loaders make of them."""

import numpy as np
import soundfile
from tests.data.media_by_hand import numbered_frames, tone

from vqmae_hf.data.clips import load_clip
from vqmae_hf.data.media import write_clip


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"never opened by a loader")


def put_clip(root, name, *, frames=True, sound=True):
    """A real clip of one second under any name: FFmpeg looks at the content."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".wav":
        soundfile.write(path, tone(1.0), 16000)
        return
    made = write_clip(root / "made.mp4", numbered_frames(25) if frames else None, tone(1.0) if sound else None)
    made.rename(path)


def by_clip(corpus):
    return {row["clip_id"]: row for row in corpus}


def emotion_of(corpus, row):
    return corpus.features["emotion"].names[row["emotion"]]


def load_row(row):
    """As `prepare_clips` does: the sound beside the pictures, if there is one."""
    options = {"face_size": 16, "crop_faces": False}
    if row.get("video") is None:
        return load_clip(row["audio"], modalities=("audio",))
    return load_clip(row["video"], audio_source=row.get("audio"), **options)


def assert_seen_and_heard(row):
    clip = load_row(row)
    assert len(clip.frames) == 25
    assert clip.frames.std() > 1
    assert np.abs(clip.waveform).max() > 0.1


def reasons(listing):
    return {item.path: item.reason for item in listing.surprises}
