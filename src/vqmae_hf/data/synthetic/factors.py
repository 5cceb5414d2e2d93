"""The generative factors of the synthetic corpus that stay fixed for a speaker or for a clip.

**Why two modalities tell more than one.** An emotion is a target in the pleasure-arousal-dominance space of Mehrabian
and Russell. As with people, the channels carry different parts of it: the *face* shows mostly pleasure (mouth corners)
and dominance (brows), the *voice* mostly arousal (loudness, pitch, spectral tilt, tempo). Each channel expresses

    expressed = gain * intensity * target + spread * noise

with its own gains, spreads and noise (`FACE_CHANNEL`, `VOICE_CHANNEL`). So anger and disgust, or fear and sadness, wear
nearly the same face, while anger, fear and joy have nearly the same voice: either channel alone narrows an emotion
down to a family, both together to one.

Every draw comes from a numpy Generator whose seed sequence is derived from (corpus seed, speaker, emotion, clip), so
that any clip can be made alone. Values are rounded to `FACTOR_DECIMALS`, far coarser than the last-bit differences
between the mathematics libraries of two machines.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

DEFAULT_EMOTIONS = ("angry", "disgust", "fearful", "happy", "neutral", "sad")
"""The six emotions of CREMA-D, in alphabetical order: the order of the class labels."""

INTENSITIES = ("normal", "strong")
FACTOR_DECIMALS = 5
HAIR_STYLES = 4

_SPEAKER_STREAM, _EXPRESSION_STREAM, _TRAJECTORY_STREAM, _NOISE_STREAM = range(4)


class Affect(NamedTuple):
    """A point of the pleasure-arousal-dominance space; each axis reaches from -1 to 1 for the prototypes."""

    pleasure: float
    arousal: float
    dominance: float


EMOTION_TARGETS = {
    "angry": Affect(-1.0, 1.0, 1.0),
    "disgust": Affect(-1.0, 0.0, 1.0),
    "fearful": Affect(-1.0, 1.0, -1.0),
    "happy": Affect(1.0, 1.0, 0.0),
    "neutral": Affect(0.0, 0.0, 0.0),
    "sad": Affect(-1.0, -1.0, -1.0),
}
"""Prototypes, stylised to three levels per axis so that the families seen by each channel are easy to name."""


class ExpressiveChannel(NamedTuple):
    """How faithfully one modality carries each axis: gain on the felt value, spread of the clip-to-clip variation."""

    gain: Affect
    spread: Affect


FACE_CHANNEL = ExpressiveChannel(gain=Affect(1.0, 0.15, 1.0), spread=Affect(0.2, 0.5, 0.2))
VOICE_CHANNEL = ExpressiveChannel(gain=Affect(0.35, 1.0, 0.35), spread=Affect(0.5, 0.2, 0.5))


@dataclass(frozen=True)
class SpeakerFactors:
    """Identity. Geometry is relative to the mean face (1.0), tones are positions in a palette (0 to 1).

    `vocal_tract_cm` scales all formants; of calm speech, `base_pitch_hz` is the pitch, `base_tempo_hz` the syllables
    per second, `base_tilt_db` the slope of the spectrum in dB per octave.
    """

    face_width: float
    face_height: float
    jaw_width: float
    eye_spacing: float
    eye_size: float
    brow_height: float
    brow_thickness: float
    nose_length: float
    nose_width: float
    mouth_width: float
    lip_fullness: float
    skin_tone: float
    hair_tone: float
    eye_tone: float
    clothing_tone: float
    background_tone: float
    hair_style: int
    vocal_tract_cm: float
    base_pitch_hz: float
    base_tempo_hz: float
    base_tilt_db: float


@dataclass(frozen=True)
class ClipFactors:
    """What a clip expresses, in the affect space and as the actions of face and voice that follow from it.

    Affect: `felt_*` is the emotion's target times `intensity_level`, `face_*` and `voice_*` what each channel shows.
    Face: `mouth_corner` (1 a full smile, -1 corners down), `brow_inner` (1 raised, -1 lowered and knit),
    `eye_aperture` (1 at rest). Voice: level, range and final movement of the pitch in semitones, syllables per second,
    spectral slope in dB per octave, `breathiness` (noise to voice, amplitude), `loudness_db` against calm speech,
    `formant_scale`, `tremor_semitones`. Sound only and free of emotion: `breath_level` (of the breath noise in pauses),
    `jitter_semitones` (random pitch perturbation).
    """

    intensity_level: float
    felt_pleasure: float
    felt_arousal: float
    felt_dominance: float
    face_pleasure: float
    face_arousal: float
    face_dominance: float
    voice_pleasure: float
    voice_arousal: float
    voice_dominance: float
    mouth_corner: float
    brow_inner: float
    eye_aperture: float
    pitch_level_semitones: float
    pitch_range_semitones: float
    final_rise_semitones: float
    tempo_hz: float
    tilt_db: float
    breathiness: float
    loudness_db: float
    formant_scale: float
    tremor_semitones: float
    breath_level: float
    jitter_semitones: float


@dataclass(frozen=True)
class ClipKey:
    """Names one clip of a corpus: enough, with the corpus seed, to make it."""

    speaker_index: int
    emotion: str
    clip_index: int

    @property
    def speaker(self) -> str:
        return f"speaker_{self.speaker_index:03d}"

    @property
    def clip_id(self) -> str:
        return f"{self.speaker}_{self.emotion}_{self.clip_index:02d}"

    @property
    def intensity(self) -> str:
        """Clips alternate between the intensities; neutral has only the normal one, as in the acted corpora."""
        return INTENSITIES[0] if self.emotion == "neutral" else INTENSITIES[self.clip_index % len(INTENSITIES)]

    def generator(self, seed: int, stream: int) -> np.random.Generator:
        emotion_index = DEFAULT_EMOTIONS.index(self.emotion)
        key = (stream, self.speaker_index, emotion_index, self.clip_index)
        return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def trajectory_generator(key: ClipKey, seed: int) -> np.random.Generator:
    """The Generator of a clip's per-frame factors."""
    return key.generator(seed, _TRAJECTORY_STREAM)


def noise_generator(key: ClipKey, seed: int) -> np.random.Generator:
    """The Generator of what is no factor at all: the noise samples of a clip's voice."""
    return key.generator(seed, _NOISE_STREAM)


def sample_speaker(speaker_index: int, seed: int = 0) -> SpeakerFactors:
    """Draws the identity of a speaker; the same for every number of speakers in the corpus.

    Even indices have long vocal tracts and low voices, odd ones short tracts and high voices: any few speakers cover
    both.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_SPEAKER_STREAM, speaker_index)))
    high_voice = speaker_index % 2 == 1
    values = {
        "face_width": rng.uniform(0.93, 1.07) * (0.97 if high_voice else 1.0),
        "face_height": rng.uniform(0.95, 1.05),
        "jaw_width": rng.uniform(0.70, 0.80) + (0.0 if high_voice else 0.08),
        "eye_spacing": rng.uniform(0.94, 1.06),
        "eye_size": rng.uniform(0.92, 1.1),
        "brow_height": rng.uniform(0.95, 1.05),
        "brow_thickness": rng.uniform(0.85, 1.1) * (0.85 if high_voice else 1.15),
        "nose_length": rng.uniform(0.92, 1.08),
        "nose_width": rng.uniform(0.88, 1.12),
        "mouth_width": rng.uniform(0.93, 1.07),
        "lip_fullness": rng.uniform(0.85, 1.05) * (1.15 if high_voice else 1.0),
        "skin_tone": rng.uniform(0.0, 1.0),
        "hair_tone": rng.uniform(0.0, 1.0),
        "eye_tone": rng.uniform(0.0, 1.0),
        "clothing_tone": rng.uniform(0.0, 1.0),
        "background_tone": rng.uniform(0.0, 1.0),
        "vocal_tract_cm": rng.uniform(14.2, 15.4) if high_voice else rng.uniform(16.4, 17.8),
        "base_pitch_hz": rng.uniform(175.0, 215.0) if high_voice else rng.uniform(98.0, 128.0),
        "base_tempo_hz": rng.uniform(3.5, 4.1),
        "base_tilt_db": rng.uniform(-12.5, -11.0),
    }
    # Styles 0 and 1 are short, 2 and 3 long: the usual association, with exceptions.
    long_hair = rng.uniform() < (0.85 if high_voice else 0.15)
    hair_style = int(rng.integers(HAIR_STYLES // 2)) + (HAIR_STYLES // 2 if long_hair else 0)
    return SpeakerFactors(**_rounded(values), hair_style=hair_style)


def sample_clip(key: ClipKey, speaker: SpeakerFactors, seed: int = 0, jitter_scale: float = 1.0) -> ClipFactors:
    """Draws how a speaker expresses the emotion of one clip; `jitter_scale` multiplies the jitter and nothing else.

    Raises:
        ValueError: if the emotion of `key` is not one of `DEFAULT_EMOTIONS`.
    """
    if key.emotion not in EMOTION_TARGETS:
        raise ValueError(f"emotion is {key.emotion!r}; the synthetic faces know {', '.join(DEFAULT_EMOTIONS)}")
    rng = key.generator(seed, _EXPRESSION_STREAM)
    level = rng.uniform(0.8, 0.95) if key.intensity == "normal" else rng.uniform(1.05, 1.2)
    felt = Affect(*(level * axis for axis in EMOTION_TARGETS[key.emotion]))
    face = _express(felt, FACE_CHANNEL, rng)
    voice = _express(felt, VOICE_CHANNEL, rng)
    values = {"intensity_level": level}
    for name, affect in (("felt", felt), ("face", face), ("voice", voice)):
        values |= {f"{name}_{axis}": value for axis, value in affect._asdict().items()}
    values |= _face_actions(face) | _voice_actions(voice, speaker, rng)
    values |= {"breath_level": rng.uniform(0.2, 1.0), "jitter_semitones": jitter_scale * rng.uniform(0.05, 0.35)}
    return ClipFactors(**_rounded(values))


def as_columns(speaker: SpeakerFactors, clip: ClipFactors) -> dict[str, float | int]:
    """All factors of a clip as one flat row; the names of the two classes do not overlap."""
    return {**asdict(speaker), **asdict(clip)}


def _express(felt: Affect, channel: ExpressiveChannel, rng: np.random.Generator) -> Affect:
    noise = np.clip(rng.standard_normal(3), -2.0, 2.0)
    return Affect(*(g * f + s * n for g, f, s, n in zip(channel.gain, felt, channel.spread, noise, strict=True)))


def _face_actions(face: Affect) -> dict[str, float]:
    return {
        "mouth_corner": float(np.clip(face.pleasure, -1.3, 1.3)),
        "brow_inner": float(np.clip(-face.dominance, -1.3, 1.3)),
        "eye_aperture": float(np.clip(1.0 + 0.22 * face.arousal, 0.65, 1.35)),
    }


def _voice_actions(voice: Affect, speaker: SpeakerFactors, rng: np.random.Generator) -> dict[str, float]:
    arousal = voice.arousal
    return {
        "pitch_level_semitones": 4.0 * arousal,
        "pitch_range_semitones": 3.0 * 2.0 ** (0.8 * arousal),
        "final_rise_semitones": 3.0 * voice.pleasure,
        "tempo_hz": speaker.base_tempo_hz * 2.0 ** (0.22 * arousal + 0.1 * rng.uniform(-1.0, 1.0)),
        "tilt_db": float(np.clip(speaker.base_tilt_db + 5.0 * arousal, -19.0, -4.0)),
        "breathiness": 0.1 * 2.0 ** (-1.6 * arousal - 1.0 * voice.dominance),
        "loudness_db": 7.0 * arousal,
        "formant_scale": 1.0 + 0.045 * voice.pleasure,
        "tremor_semitones": float(np.clip(0.35 - 0.35 * voice.dominance, 0.0, 1.0)),
    }


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(float(value), FACTOR_DECIMALS) for name, value in values.items()}
