"""Clips without media: arrays made from the name, in place of `load_clip`, for tests of what comes after decoding.

The emotion is seen (the colour of a square) and heard (the pitch of a tone), the speaker only lends the background.
"""

from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features, Value, Video

from vqmae_hf.data.clips import Clip, MissingFaceError

EMOTIONS = ("angry", "happy", "sad")
SAMPLING_RATE = 16000


def fake_corpus(num_speakers=6, clips_per_emotion=1, broken=()):
    """A corpus of names; those of the clips numbered in `broken` say that they have no face."""
    names, emotions, speakers = [], [], []
    for speaker in range(num_speakers):
        for emotion in range(len(EMOTIONS)):
            for take in range(clips_per_emotion):
                flaw = "_broken" if len(names) in broken else ""
                names.append(f"s{speaker:02d}_{EMOTIONS[emotion]}_{take}{flaw}")
                emotions.append(emotion)
                speakers.append(f"s{speaker:02d}")
    features = Features(
        {
            "clip_id": Value("string"),
            "video": Video(decode=False),
            "speaker": Value("string"),
            "emotion": ClassLabel(names=list(EMOTIONS)),
        }
    )
    videos = [{"path": f"/nowhere/{name}.mp4", "bytes": None} for name in names]
    columns = {"clip_id": names, "video": videos, "speaker": speakers, "emotion": emotions}
    return Dataset.from_dict(columns, features=features)


def fake_load_clip(source, *, audio_source=None, face_size=64, frames=50, frames_per_second=25, **options):
    """Stands in for `load_clip`; even speakers' clips have `frames` frames, odd ones' are longer."""
    name = Path(source["path"]).stem
    if "broken" in name:
        raise MissingFaceError(f"{name}: found no face; accepted is one. Use on_missing_face='center'.")
    speaker, emotion, take = name.split("_")[:3]
    number, kind = int(speaker[1:]), EMOTIONS.index(emotion)
    generator = np.random.default_rng([number, kind, int(take)])
    T = frames + 10 * (number % 2)
    pictures = np.full((T, face_size, face_size, 3), 60 + 10 * number, dtype=np.uint8)
    corner, side = generator.integers(4, face_size // 2, 2), face_size // 3
    for t in range(T):
        row, column = (corner + 2 * np.array([np.sin(t / 3), np.cos(t / 5)])).astype(int)
        pictures[t, row : row + side, column : column + side, kind] = 255
    time = np.arange(round(T * SAMPLING_RATE / frames_per_second)) / SAMPLING_RATE
    waveform = np.sin(2 * np.pi * (300 + 400 * kind + 10 * number) * time) + 0.05 * generator.standard_normal(
        len(time)
    )
    return Clip(pictures, waveform.astype(np.float32) * 0.3, frames_per_second, SAMPLING_RATE, np.zeros((T, 4)), name)
