"""
What of a damaged face comes back, with and without the sound ([MD], audiovisual denoising), where the damage was.

Letters: B clips, T frames, H pixels of a side.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from vqmae_hf.evaluation.face_corruptions import FaceCorruption
from vqmae_hf.evaluation.fidelity import peak_signal_to_noise, structural_similarity
from vqmae_hf.evaluation.missing_features import infer_damaged
from vqmae_hf.evaluation.pictures import pixels_to_frames
from vqmae_hf.modeling.modeling_mdvae import MDVAEModel


class RegionFidelity(NamedTuple):
    """Of each clip, (B,): peak signal-to-noise ratio in dB and structural similarity, inside the damaged region only."""

    psnr: np.ndarray
    ssim: np.ndarray


class DamagedClips(NamedTuple):
    """
    Clips and their damage.

    Attributes:
        frames, damaged: (B, T, H, H, 3) uint8 as they were and as they are.
        damage: (B, T, H, H) bool.
        spectra: (B, T, F) power, undamaged.
    """

    frames: np.ndarray
    damaged: np.ndarray
    damage: np.ndarray
    spectra: torch.Tensor


# Frames as a method believes they were, (B, T, H, H, 3) uint8.
Method = Callable[[DamagedClips], np.ndarray]


def damage_clips(frames: np.ndarray, spectra: torch.Tensor, corruption: FaceCorruption, seed: int = 0) -> DamagedClips:
    """Damage every clip of (B, T, H, H, 3) uint8, each with noise of its own."""
    faces = [corruption.apply(clip, seed + place) for place, clip in enumerate(frames)]
    return DamagedClips(frames, np.stack([f.frames for f in faces]), np.stack([f.damage for f in faces]), spectra)


def region_fidelity(clips: DamagedClips, restored: np.ndarray) -> RegionFidelity:
    """
    How near restored frames (B, T, H, H, 3) uint8 are to the true ones in the box and the frames that were damaged.

    Raises:
        ValueError: a box smaller than the 11 x 11 pixels that structural similarity looks at.
    """
    scores = []
    for true, made, damage in zip(clips.frames, restored, clips.damage, strict=True):
        times, rows, columns = (np.flatnonzero(damage.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
        box = np.ix_(times, rows, columns)
        scores.append((peak_signal_to_noise(true[box], made[box]), structural_similarity(true[box], made[box])))
    return RegionFidelity(*(np.array(column) for column in zip(*scores, strict=True)))


def model_method(model: MDVAEModel, *, with_sound: bool = True, knows_damage: bool = True) -> Method:
    """
    Denoising by an MDVAE with tokenizers.

    Args:
        with_sound: False takes the sound for missing.
        knows_damage: infer what is under the damage; False encodes the damaged face as it is.
    """

    @torch.no_grad()
    def restore(clips: DamagedClips) -> np.ndarray:
        values = {"pixel_values_videos": torch.from_numpy(clips.damaged).permute(0, 1, 4, 2, 3).float() / 255 - 0.5}
        if "audio" in model.config.modalities:
            values["audio_values"] = clips.spectra
        features = model.prepare_features(
            **{name: tensor.to(model.device) for name, tensor in values.items()}
        ).features
        latents = infer_damaged(model, features, clips.damage if knows_damage else None, with_sound=with_sound)
        pixels = model.decode_visual(model.decode_features(latents)["visual"])
        return np.stack([pixels_to_frames(clip) for clip in pixels])

    return restore


def as_undamaged(clips: DamagedClips) -> DamagedClips:
    """The same clips with nothing done to them: what a method makes of these is as near as it can come."""
    return clips._replace(damaged=clips.frames, damage=np.zeros_like(clips.damage))


def moved_mean(clips: DamagedClips, restored: np.ndarray) -> np.ndarray:
    """
    `held_frames` that move as a method says: what a person looks like is taken from the undamaged frames, and from the
    restored ones, (B, T, H, H, 3) uint8, how each differs from their mean over the undamaged times.
    """
    moved = held_frames(clips)
    for clip, made, damage in zip(moved, restored, clips.damage, strict=True):
        whole = ~damage.any(axis=(1, 2))
        if whole.any():
            movement = made - made[whole].mean(axis=0)
            clip[damage] = (clip + movement).clip(0, 255).round().astype(np.uint8)[damage]
    return moved


def tokenizer_method(model: MDVAEModel) -> Method:
    """The undamaged frames through the tokenizer alone: as good as any model that decodes with it can be."""

    @torch.no_grad()
    def restore(clips: DamagedClips) -> np.ndarray:
        pixels = torch.from_numpy(clips.frames).permute(0, 1, 4, 2, 3).float() / 255 - 0.5
        tokenizer = model.visual_tokenizer
        return np.stack([pixels_to_frames(tokenizer.decode(tokenizer.encode(p.to(model.device)))) for p in pixels])

    return restore


def as_damaged(clips: DamagedClips) -> np.ndarray:
    """Nothing is done."""
    return clips.damaged


def held_frames(clips: DamagedClips) -> np.ndarray:
    """The region of the mean of the undamaged frames in place of every damaged one: no model at all."""
    restored = clips.damaged.copy()
    for clip, frames, damage in zip(restored, clips.damaged, clips.damage, strict=True):
        whole = ~damage.any(axis=(1, 2))
        if whole.any():
            mean = frames[whole].mean(axis=0).round().astype(np.uint8)
            clip[damage] = np.broadcast_to(mean, frames.shape)[damage]
    return restored
