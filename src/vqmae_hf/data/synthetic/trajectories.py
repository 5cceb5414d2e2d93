"""The generative factors that move within a clip: one value per video frame.

One syllable plan drives both modalities: the mouth opening that the renderer draws is the one that opens the formants
and the loudness of the voice. Head, gaze and lids move the picture alone; breath and pitch jitter the sound alone; none
of these depends on the emotion.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

from vqmae_hf.data.synthetic.factors import (
    FACTOR_DECIMALS,
    ClipFactors,
    ClipKey,
    SpeakerFactors,
    trajectory_generator,
)

FRAMES_PER_SECOND = 25
# The moving factors are averaged over this many instants of a frame, as a camera averages over its exposure.
_INSTANTS_PER_FRAME = 8
_MEAN_VOCAL_TRACT_CM = 17.0
_CLOSED_MOUTH_F1_HZ = 240.0


class Vowel(NamedTuple):
    """Mouth opening (0-1), lip spreading (-1 rounded, 1 spread) and formants in Hz of a 17 cm vocal tract."""

    opening: float
    spread: float
    formants_hz: tuple[float, float, float]


class Consonant(NamedTuple):
    """Mouth opening at the closure, whether the voice sounds through it, and how much the air hisses."""

    opening: float
    voiced: bool
    frication: float


# Formants: average adult values after Peterson and Barney (1952), rounded.
VOWELS = {
    "a": Vowel(1.0, 0.1, (730.0, 1120.0, 2450.0)),
    "e": Vowel(0.65, 0.6, (530.0, 1840.0, 2480.0)),
    "i": Vowel(0.45, 1.0, (290.0, 2290.0, 3010.0)),
    "o": Vowel(0.75, -0.7, (570.0, 840.0, 2410.0)),
    "u": Vowel(0.5, -1.0, (310.0, 870.0, 2240.0)),
}
CONSONANTS = {
    "b": Consonant(0.0, True, 0.0),
    "m": Consonant(0.0, True, 0.0),
    "d": Consonant(0.1, True, 0.0),
    "l": Consonant(0.18, True, 0.0),
    "s": Consonant(0.08, False, 1.0),
}
SYLLABLES = tuple(consonant + vowel for consonant in CONSONANTS for vowel in VOWELS)
"""The inventory that `FrameFactors.syllable` indexes; -1 is silence."""


@dataclass(frozen=True)
class FrameFactors:
    """Per-frame factors, each (T,): float32 but for `syllable` (int16).

    Picture and sound: `syllable` (index into `SYLLABLES`, -1 silence), `mouth_opening` (0-1), `mouth_spread`
    (-1 rounded, 1 spread). Sound: `voicing` (0-1), `loudness` (0-1), `frication` (0-1), `f1_hz` to `f3_hz` (formants of
    this speaker), `pitch_hz` (also where nothing is voiced), `jitter` (its random part, in semitones), `breath` (0-1).
    Picture: `eye_opening` (0 closed, 1 as the expression has it), `gaze_x`, `gaze_y` (-1 to 1), `head_x`, `head_y`
    (fractions of the image side), `head_roll` (degrees, clockwise); right and down are positive.
    """

    syllable: np.ndarray
    mouth_opening: np.ndarray
    mouth_spread: np.ndarray
    voicing: np.ndarray
    loudness: np.ndarray
    frication: np.ndarray
    f1_hz: np.ndarray
    f2_hz: np.ndarray
    f3_hz: np.ndarray
    pitch_hz: np.ndarray
    jitter: np.ndarray
    breath: np.ndarray
    eye_opening: np.ndarray
    gaze_x: np.ndarray
    gaze_y: np.ndarray
    head_x: np.ndarray
    head_y: np.ndarray
    head_roll: np.ndarray

    @property
    def num_frames(self) -> int:
        return len(self.mouth_opening)

    def as_dict(self) -> dict[str, np.ndarray]:
        return asdict(self)


class _Syllable(NamedTuple):
    onset: float  # seconds
    duration: float  # seconds
    index: int  # into SYLLABLES
    stress: float  # scales opening and loudness
    ends_phrase: bool


def sample_trajectories(
    key: ClipKey, speaker: SpeakerFactors, clip: ClipFactors, num_frames: int, seed: int = 0
) -> FrameFactors:
    """Draws the moving factors of one clip of `num_frames` frames at 25 per second."""
    rng = trajectory_generator(key, seed)
    seconds = num_frames / FRAMES_PER_SECOND
    plan = _plan_syllables(clip.tempo_hz, seconds, rng)
    tracks = _articulate(plan, speaker.vocal_tract_cm, num_frames)
    tracks |= _intone(plan, tracks, speaker, clip, rng)
    tracks["breath"] = _breathe(tracks["voicing"], tracks["frication"], clip.breath_level)
    tracks |= _move_head(num_frames, rng) | _move_eyes(num_frames, rng)
    rounded = {name: _rounded(track) for name, track in tracks.items() if name != "syllable"}
    return FrameFactors(syllable=tracks["syllable"].astype(np.int16), **rounded)


def _plan_syllables(tempo_hz: float, seconds: float, rng: np.random.Generator) -> list[_Syllable]:
    """Phrases of two to five syllables with pauses between, from a moment after the start to shortly before the end."""
    plan: list[_Syllable] = []
    time, end = rng.uniform(0.06, 0.2), seconds - 0.08
    while True:
        length = int(rng.integers(2, 6))
        for position in range(length):
            duration = rng.uniform(0.85, 1.15) / tempo_hz
            stress = rng.uniform(0.9, 1.0) if position % 2 == 0 else rng.uniform(0.65, 0.85)
            index = int(rng.integers(len(SYLLABLES)))
            if time + duration > end:
                return [*plan[:-1], plan[-1]._replace(ends_phrase=True)] if plan else plan
            plan.append(_Syllable(time, duration, index, stress, position == length - 1))
            time += duration
        time += rng.uniform(0.5, 1.1) / tempo_hz


def _articulate(plan: list[_Syllable], vocal_tract_cm: float, num_frames: int) -> dict[str, np.ndarray]:
    """Mouth, formants, voicing and loudness: (T,) each, all from the same opening."""
    time = (np.arange(num_frames * _INSTANTS_PER_FRAME) + 0.5) / (FRAMES_PER_SECOND * _INSTANTS_PER_FRAME)
    opening, spread, voicing, frication = (np.zeros_like(time) for _ in range(4))
    formants = np.tile(np.array([[500.0], [1500.0], [2500.0]]), len(time))  # the neutral tube, (3, instants)
    syllable = np.full(time.shape, -1)
    for position, spoken in enumerate(plan):
        here = (time >= spoken.onset) & (time < spoken.onset + spoken.duration)
        phase = (time[here] - spoken.onset) / spoken.duration
        consonant, vowel = (
            table[name] for table, name in zip((CONSONANTS, VOWELS), SYLLABLES[spoken.index], strict=True)
        )
        closing = 0.0 if spoken.ends_phrase else CONSONANTS[SYLLABLES[plan[position + 1].index][0]].opening
        opening[here] = _opening(phase, consonant.opening, spoken.stress * vowel.opening, closing)
        spread[here] = vowel.spread
        formants[:, here] = np.array(vowel.formants_hz)[:, None]
        voicing[here] = 1.0 if consonant.voiced else phase > 0.25
        frication[here] = consonant.frication * (phase <= 0.28)
        syllable[here] = spoken.index
    smooth = gaussian_filter1d(np.vstack([spread[None], formants]), 0.03 * FRAMES_PER_SECOND * _INSTANTS_PER_FRAME)
    spread, formants = smooth[0], smooth[1:]
    # A closed mouth has a low first formant, whatever the vowel that follows.
    openness = np.clip(opening / 0.3, 0.0, 1.0)
    formants[0] = _CLOSED_MOUTH_F1_HZ + (formants[0] - _CLOSED_MOUTH_F1_HZ) * openness
    formants *= _MEAN_VOCAL_TRACT_CM / vocal_tract_cm
    loudness = voicing * (0.1 + 0.9 * opening)
    frame = {
        name: track.reshape(num_frames, _INSTANTS_PER_FRAME).mean(axis=1)
        for name, track in {
            "mouth_opening": opening,
            "mouth_spread": spread,
            "voicing": voicing,
            "loudness": loudness,
            "frication": frication,
            "f1_hz": formants[0],
            "f2_hz": formants[1],
            "f3_hz": formants[2],
        }.items()
    }
    return frame | {"syllable": syllable[_INSTANTS_PER_FRAME // 2 :: _INSTANTS_PER_FRAME]}


def _opening(phase: np.ndarray, start: float, peak: float, end: float) -> np.ndarray:
    """Quick release from the consonant, slower closing towards the next; raised cosines, peak at 0.45 of the syllable."""
    rise = 0.5 - 0.5 * np.cos(np.pi * np.clip((phase - 0.08) / 0.37, 0.0, 1.0))
    fall = 0.5 - 0.5 * np.cos(np.pi * np.clip((1.0 - phase) / 0.45, 0.0, 1.0))
    return np.where(phase < 0.45, start + (peak - start) * rise, end + (peak - end) * fall)


def _intone(
    plan: list[_Syllable],
    tracks: dict[str, np.ndarray],
    speaker: SpeakerFactors,
    clip: ClipFactors,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Pitch: declination, accents on stressed syllables and the phrase-final movement, plus tremor and jitter."""
    num_frames = len(tracks["mouth_opening"])
    time = (np.arange(num_frames) + 0.5) / FRAMES_PER_SECOND
    contour = np.zeros(num_frames)
    final = np.zeros(num_frames)
    for spoken in plan:
        centre = spoken.onset + 0.5 * spoken.duration
        accent = (spoken.stress - 0.65) / 0.35 * rng.uniform(0.6, 1.0)
        contour += accent * np.exp(-0.5 * ((time - centre) / (0.35 * spoken.duration)) ** 2)
        if spoken.ends_phrase:
            phase = (time - spoken.onset) / spoken.duration
            final += np.where((phase >= 0.0) & (phase <= 1.0), phase, 0.0)
    contour = gaussian_filter1d(contour - 0.35 * time / time[-1], 0.8)
    tremor = clip.tremor_semitones * np.sin(2.0 * np.pi * (rng.uniform(5.5, 6.5) * time + rng.uniform()))
    jitter = clip.jitter_semitones * gaussian_filter1d(rng.standard_normal(num_frames), 0.6) / 0.67
    semitones = (
        clip.pitch_level_semitones
        + clip.pitch_range_semitones * contour
        + clip.final_rise_semitones * gaussian_filter1d(final, 1.0)
        + tremor
        + jitter
    )
    return {"pitch_hz": np.clip(speaker.base_pitch_hz * 2.0 ** (semitones / 12.0), 60.0, 480.0), "jitter": jitter}


def _breathe(voicing: np.ndarray, frication: np.ndarray, level: float) -> np.ndarray:
    """Breath noise fills the pauses and is gone while the speaker speaks."""
    silent = ((voicing < 0.05) & (frication < 0.05)).astype(float)
    return level * gaussian_filter1d(silent, 1.0) * silent


def _move_head(num_frames: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Slow wandering around a resting position that differs from clip to clip."""
    wander = gaussian_filter1d(rng.standard_normal((3, num_frames + 50)), 9.0, axis=1)[:, 25:-25]
    wander /= 0.18  # about unit variance after the smoothing
    x, y, roll = wander + 0.6 * rng.standard_normal((3, 1))
    return {
        "head_x": np.clip(0.012 * x, -0.04, 0.04),
        "head_y": np.clip(0.008 * y, -0.03, 0.03),
        "head_roll": np.clip(2.2 * roll, -7.0, 7.0),
    }


def _move_eyes(num_frames: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Fixations of 0.3 to 1.2 s joined by saccades, and a blink every few seconds."""
    gaze = np.empty((2, num_frames))
    start = 0
    while start < num_frames:
        target = np.clip(rng.normal(0.0, (0.4, 0.2)), -1.0, 1.0)
        length = int(rng.integers(8, 30))
        gaze[:, start : start + length] = target[:, None]
        start += length
    gaze = gaussian_filter1d(gaze, 0.7, axis=1)
    lids = np.ones(num_frames)
    blink = int(rng.integers(5, 60))
    while blink < num_frames:
        distance = np.abs(np.arange(num_frames) - blink)
        lids = np.minimum(lids, np.clip(distance / 2.5, 0.05, 1.0))
        blink += int(rng.integers(40, 90))
    return {"gaze_x": gaze[0], "gaze_y": gaze[1], "eye_opening": lids}


def _rounded(track: np.ndarray) -> np.ndarray:
    return np.round(track, FACTOR_DECIMALS).astype(np.float32)
