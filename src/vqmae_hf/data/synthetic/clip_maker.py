"""One clip of the synthetic corpus, from its key to frames and waveform; and the parameters that name a whole corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np

from vqmae_hf.data.synthetic.face_renderer import image_size_problems, render_face
from vqmae_hf.data.synthetic.factors import (
    DEFAULT_EMOTIONS,
    ClipFactors,
    ClipKey,
    SpeakerFactors,
    noise_generator,
    sample_clip,
    sample_speaker,
)
from vqmae_hf.data.synthetic.trajectories import FRAMES_PER_SECOND, FrameFactors, sample_trajectories
from vqmae_hf.data.synthetic.voice_synthesizer import synthesize_voice

MIN_CLIP_SECONDS = 1.0  # always room for a syllable
MAX_JITTER_SCALE, MAX_JITTER_TILT_DB = 10.0, 12.0  # beyond, no voice is left
_UNSTEADINESS = ("jitter_scale", "jitter_tilt_db")


@dataclass(frozen=True)
class SyntheticCorpusParameters:
    """Everything that the content of a synthetic corpus depends on; arguments as `write_synthetic_corpus`."""

    num_speakers: int = 24
    emotions: tuple[str, ...] = DEFAULT_EMOTIONS
    clips_per_emotion: int = 4
    clip_seconds: float = 2.0
    image_size: int = 128
    seed: int = 0
    jitter_scale: float = 1.0
    jitter_tilt_db: float = 0.0

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {getattr(self, name)!r}; choose a whole number of at least {least}"
            for name, least in (("num_speakers", 1), ("clips_per_emotion", 1), ("seed", 0))
            if not isinstance(getattr(self, name), Integral) or getattr(self, name) < least
        ]
        problems += _emotion_problems(self.emotions)
        if not isinstance(self.clip_seconds, Real) or not MIN_CLIP_SECONDS <= self.clip_seconds <= 600:
            problems.append(f"clip_seconds is {self.clip_seconds!r}; choose {MIN_CLIP_SECONDS} to 600 seconds")
        problems += image_size_problems(self.image_size)
        problems += [
            f"{name} is {getattr(self, name)!r}; choose a number from 0 to {most}"
            for name, most in (("jitter_scale", MAX_JITTER_SCALE), ("jitter_tilt_db", MAX_JITTER_TILT_DB))
            if not isinstance(getattr(self, name), Real) or not 0 <= getattr(self, name) <= most
        ]
        if problems:
            raise ValueError("the synthetic corpus cannot be made so: " + "; ".join(problems))
        object.__setattr__(self, "emotions", tuple(self.emotions))

    @property
    def num_frames(self) -> int:
        return round(self.clip_seconds * FRAMES_PER_SECOND)

    def clip_keys(self) -> list[ClipKey]:
        """All clips, by speaker, then emotion, then number."""
        return [
            ClipKey(speaker, emotion, number)
            for speaker in range(self.num_speakers)
            for emotion in self.emotions
            for number in range(self.clips_per_emotion)
        ]

    def as_dict(self) -> dict:
        """
        JSON-ready; `SyntheticCorpusParameters(**d)` restores it.

        An unsteadiness of the voice that was not asked for is not named: corpora from before there was a choice stay valid.
        """
        values = asdict(self) | {"emotions": list(self.emotions), "clip_seconds": float(self.clip_seconds)}
        usual = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in values.items() if name not in _UNSTEADINESS or value != usual[name]}


class ClipDescription(NamedTuple):
    """The true factors of one clip, at all three levels."""

    speaker: SpeakerFactors
    clip: ClipFactors
    frames: FrameFactors


class SyntheticClip(NamedTuple):
    """frames (T, H, W, 3) uint8 RGB at 25 per second, waveform (T * 640,) float32 at 16 kHz, and their true factors."""

    frames: np.ndarray
    waveform: np.ndarray
    factors: ClipDescription


def describe_clip(key: ClipKey, *, num_frames: int = 50, seed: int = 0, jitter_scale: float = 1.0) -> ClipDescription:
    """Draws the factors of a clip; the same ones whichever corpus of that seed it belongs to."""
    speaker = sample_speaker(key.speaker_index, seed)
    clip = sample_clip(key, speaker, seed, jitter_scale)
    return ClipDescription(speaker, clip, sample_trajectories(key, speaker, clip, num_frames, seed))


def make_clip(
    key: ClipKey,
    *,
    num_frames: int = 50,
    image_size: int = 128,
    seed: int = 0,
    jitter_scale: float = 1.0,
    jitter_tilt_db: float = 0.0,
) -> SyntheticClip:
    """Makes the pictures and the sound of a clip from its factors; arguments as `write_synthetic_corpus`."""
    factors = describe_clip(key, num_frames=num_frames, seed=seed, jitter_scale=jitter_scale)
    frames = render_face(*factors, image_size)
    waveform = synthesize_voice(*factors, noise_generator(key, seed), jitter_tilt_db=jitter_tilt_db)
    return SyntheticClip(frames, waveform, factors)


def _emotion_problems(emotions: Sequence[str]) -> list[str]:
    accepted = f"choose some of {', '.join(DEFAULT_EMOTIONS)}"
    if isinstance(emotions, str) or not emotions:
        return [f"emotions is {emotions!r}; it must be a list: {accepted}"]
    if unknown := [emotion for emotion in emotions if emotion not in DEFAULT_EMOTIONS]:
        return [f"emotions has {unknown}; {accepted}"]
    if len(set(emotions)) < len(emotions):
        return [f"emotions repeats a name: {list(emotions)}; name each one once"]
    return []
