"""What one does with a trained model and files: clips through tokens and latents, and back to pictures and sound."""

from vqmae_hf.inference.face_denoising import DenoisedClip, denoise_clip
from vqmae_hf.inference.latent_factors import (
    InterpolatedClip,
    continue_clip,
    interpolate_clips,
    resynthesize_clip,
    swap_clips,
)
from vqmae_hf.inference.talking_faces import GeneratedClip, TalkingFaceModel, load_talking_face_model
from vqmae_hf.inference.token_reconstruction import ReconstructedClip, reconstruct_clip

__all__ = [
    "DenoisedClip",
    "GeneratedClip",
    "InterpolatedClip",
    "ReconstructedClip",
    "TalkingFaceModel",
    "continue_clip",
    "denoise_clip",
    "interpolate_clips",
    "load_talking_face_model",
    "reconstruct_clip",
    "resynthesize_clip",
    "swap_clips",
]
