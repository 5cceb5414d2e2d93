"""
The known factors of the synthetic corpus, as what an MDVAE's latents should tell.

Every factor has a home: the latent that the model of [MD] means for it, because of what it changes. What stays the same
over a clip belongs to w; what moves and is both seen and heard to z_av; what is only heard to z_a, only seen to z_v. Of the
head's motion that is the roll: crops follow its place.

Letters: N clips, T frames of the model, C columns of a factor.
"""

import os
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from vqmae_hf.data.synthetic import load_synthetic_corpus, load_synthetic_factors
from vqmae_hf.data.synthetic.trajectories import FRAMES_PER_SECOND


class Factor(NamedTuple):
    """
    Something known of clips or frames.

    Attributes:
        name: in tables.
        home: the latent it belongs to, "w", "z_av", "z_a" or "z_v".
        kind: "class", or "numbers".
        columns: of the corpus; several numbers count alike.
        sense: which modality shows it: "seen", "heard", or "both"; moving factors are aligned with frames or spectra by it.
    """

    name: str
    home: Literal["w", "z_av", "z_a", "z_v"]
    kind: Literal["class", "numbers"]
    columns: tuple[str, ...]
    sense: Literal["seen", "heard", "both"]

    @property
    def moves(self) -> bool:
        """Whether it has a value per frame."""
        return self.home != "w"


FACE_IDENTITY = (
    *("face_width", "jaw_width", "eye_spacing", "brow_thickness", "nose_length", "nose_width", "mouth_width"),
    *("lip_fullness", "skin_tone", "hair_tone", "clothing_tone", "background_tone"),
)
VOICE_IDENTITY = ("vocal_tract_cm", "base_pitch_hz")
FACTORS = (
    Factor("identity", "w", "numbers", FACE_IDENTITY + VOICE_IDENTITY, "both"),
    Factor("emotion", "w", "class", ("emotion",), "both"),
    Factor("mouth opening", "z_av", "numbers", ("mouth_opening",), "both"),
    Factor("syllable", "z_av", "class", ("syllable",), "both"),
    Factor("head motion", "z_v", "numbers", ("head_roll",), "seen"),
    Factor("eyelids", "z_v", "numbers", ("eye_opening",), "seen"),
    Factor("pitch jitter", "z_a", "numbers", ("jitter",), "heard"),
    Factor("pitch movement", "z_a", "numbers", ("pitch_semitones",), "heard"),
    Factor("breath", "z_a", "numbers", ("breath",), "heard"),
)


class FactorValues(NamedTuple):
    """
    The truth about some clips.

    Attributes:
        speakers: (N,) names.
        values: by factor; numbers (N, C) or (N, T, C) float64, classes (N,) or (N, T) int64.
        heard: (N, T) bool, frames whose voice sounds: where nothing is voiced, there is no pitch to tell.
    """

    speakers: np.ndarray
    values: dict[str, np.ndarray]
    heard: np.ndarray

    def select(self, clips: np.ndarray) -> "FactorValues":
        """Those of some clips: indices, or (N,) bool."""
        values = {name: array[clips] for name, array in self.values.items()}
        return FactorValues(self.speakers[clips], values, self.heard[clips])


def read_factors(
    root: str | os.PathLike, clip_ids: Sequence[str], num_frames: int, frames_per_second: float = 30
) -> FactorValues:
    """
    The factors of clips of a synthetic corpus at the frames of a model.

    What is seen in a frame is what a player shows in its middle; spectrum t is centred at t / `frames_per_second`. Factors
    that move count as deviations from their mean over the clip, which is static; `pitch_semitones` is 12 log2 of the pitch.

    Args:
        root: of the corpus.
        clip_ids: N names, in the order wanted.
        num_frames: T; the clips have at least as many.

    Raises:
        ValueError: a clip that the corpus does not have, or too short clips.
    """
    clips, tracks = load_synthetic_corpus(root), load_synthetic_factors(root)
    rows = {name: place for place, name in enumerate(clips["clip_id"])}
    unknown = [name for name in clip_ids if name not in rows]
    if unknown:
        raise ValueError(
            f"clip_ids: {unknown[:3]} are not in the corpus {root}, which has {len(rows)}, e.g. {next(iter(rows))}."
        )
    chosen = [rows[name] for name in clip_ids]
    seconds = min(clips[i]["num_frames"] for i in chosen) / FRAMES_PER_SECOND
    if num_frames > seconds * frames_per_second:
        raise ValueError(
            f"num_frames={num_frames}, but the clips last {seconds} s, {int(seconds * frames_per_second)} frames."
        )
    table = clips.select(chosen).remove_columns("video").to_dict()
    moving = tracks.select(chosen)
    values = {factor.name: _factor_values(factor, table, moving, num_frames, frames_per_second) for factor in FACTORS}
    heard = _track(moving, "voicing", "heard", num_frames, frames_per_second) > 0.5
    return FactorValues(np.array(table["speaker"]), values, heard)


def _factor_values(factor: Factor, table: dict, moving, num_frames: int, rate: float) -> np.ndarray:
    if not factor.moves:
        columns = np.array([table[name] for name in factor.columns])
        return columns[0].astype(np.int64) if factor.kind == "class" else columns.T.astype(np.float64)
    tracks = [_track(moving, name, factor.sense, num_frames, rate) for name in factor.columns]
    if factor.kind == "class":
        return tracks[0].round().astype(np.int64)
    stacked = np.stack(tracks, axis=-1)
    return stacked - stacked.mean(axis=1, keepdims=True)


def _track(moving, name: str, sense: str, num_frames: int, rate: float) -> np.ndarray:
    """(N, T) of one track: of the picture shown in the middle of each frame, or between pictures for what is only heard."""
    if name == "pitch_semitones":
        return 12 * np.log2(_track(moving, "pitch_hz", sense, num_frames, rate))
    times = np.arange(num_frames) / rate * FRAMES_PER_SECOND
    rows = [np.asarray(row[name], dtype=np.float64) for row in moving]
    if sense == "heard":
        return np.stack([np.interp(times, np.arange(len(row)) + 0.5, row) for row in rows])
    shown = np.floor(times + 0.5 * FRAMES_PER_SECOND / rate + 1e-6).astype(int)
    return np.stack([row[np.minimum(shown, len(row) - 1)] for row in rows])
