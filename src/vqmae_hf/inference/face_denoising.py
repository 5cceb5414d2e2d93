"""A damaged face made whole, with the help of its sound ([MD], audiovisual denoising)."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from vqmae_hf.data.clips import Clip
from vqmae_hf.evaluation.face_corruptions import DamagedFace, FaceCorruption
from vqmae_hf.evaluation.missing_features import NUM_ROUNDS, infer_damaged
from vqmae_hf.evaluation.pictures import named_rows
from vqmae_hf.inference.talking_faces import (
    GeneratedClip,
    Model,
    TalkingFaceModel,
    as_clip,
    clip_strip,
    load_for,
    load_talking_face_model,
    process_clip,
)
from vqmae_hf.modeling.processing_mdvae import MDVAEProcessor


@dataclass
class DenoisedClip(GeneratedClip):
    """
    A clip whose face was damaged.

    Args:
        damaged_frames: (T, H, H, 3) uint8, what the model was given.
        damage: (T, H, H) bool, where it was known to be damaged, or None.
    """

    damaged_frames: np.ndarray | None = None
    damage: np.ndarray | None = None

    def figure(self) -> Image.Image:
        """Frames of the file, of what the model was given, and of what it made of them, at the same times."""
        rows = [(name, clip_strip(clip.frames)) for name, clip in self.sources.items() if clip.frames is not None]
        if self.damaged_frames is not None:
            rows.append(("damaged", clip_strip(self.damaged_frames)))
        return named_rows([*rows, *self.picture_rows("denoised")])


def denoise_clip(
    source: Any,
    model: Model,
    processor: MDVAEProcessor | None = None,
    *,
    damage: np.ndarray | None = None,
    corruption: FaceCorruption | None = None,
    seed: int = 0,
    with_sound: bool = True,
    num_rounds: int = NUM_ROUNDS,
    **clip_options: Any,
) -> DenoisedClip:
    """
    The face of a clip as the model would have made it, given what is seen and heard.

    Where the damage is known, everything under it is inferred from the rest of the face and the sound
    ([`~vqmae_hf.evaluation.missing_features.infer_with_missing`]); otherwise the damaged face is encoded and decoded as
    it is ([MD]).

    Args:
        source: as for `resynthesize_clip`.
        damage: (T, H, H) bool at the model's frame rate and face size, True = damaged; or (H, H), of every frame.
        corruption: damage done to the clip first, to try; `damage` is then its own.
        seed: of the noise of `corruption`.
        with_sound: False takes all the sound for missing: what the model knows without hearing.
        num_rounds: of inference, where something is missing.

    Raises:
        ClipError, ValueError: as `resynthesize_clip`; a model without faces; `damage` of another shape, or both ways to
            say it; `with_sound=False` of a model that hears nothing.
    """
    talker = load_talking_face_model(model, processor)
    _check_request(talker, damage, corruption, with_sound)
    clip = load_for(talker, source, **clip_options)
    face = _damaged_face(clip, damage, corruption, seed)
    values = process_clip(talker, replace(clip, frames=face.frames))
    with torch.no_grad():
        features = talker.model.prepare_features(**values).features
        latents = infer_damaged(
            talker.model, features, face.damage[None], with_sound=with_sound, num_rounds=num_rounds
        )
        decoded = as_clip(talker, talker.model.decode(latents), latents, {"original": clip})
    known = face.damage if face.damage.any() else None
    return DenoisedClip(**vars(decoded), damaged_frames=face.frames, damage=known)


def _check_request(
    talker: TalkingFaceModel, damage: np.ndarray | None, corruption: FaceCorruption | None, with_sound: bool
) -> None:
    modalities = tuple(talker.model.config.modalities)
    if "visual" not in modalities:
        raise ValueError(
            f"the model has modalities={modalities}; accepted is one that sees faces, which are denoised."
        )
    if not with_sound and "audio" not in modalities:
        raise ValueError(
            f"with_sound=False, but the model has modalities={modalities} and hears nothing; leave it True."
        )
    if damage is not None and corruption is not None:
        raise ValueError(
            "damage and corruption are both given; accepted is one: a corruption says itself what it damages."
        )


def _damaged_face(clip: Clip, damage: np.ndarray | None, corruption: FaceCorruption | None, seed: int) -> DamagedFace:
    assert clip.frames is not None
    if corruption is not None:
        return corruption.apply(clip.frames, seed)
    shape = clip.frames.shape[:3]
    if damage is None:
        return DamagedFace(clip.frames, np.zeros(shape, dtype=bool))
    damage = np.asarray(damage)
    if damage.dtype != bool or damage.shape not in (shape, shape[1:]):
        raise ValueError(
            f"{clip.source}: damage is {damage.dtype} of shape {damage.shape}; bool of shape {shape} (frames, height, width "
            f"of the face crops) is accepted, or {shape[1:]} for every frame."
        )
    return DamagedFace(clip.frames, np.broadcast_to(damage, shape))
