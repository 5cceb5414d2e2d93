"""What one does with a trained model and files: clips through tokens and latents, and back to pictures and sound."""

from vqmae_hf.inference.token_reconstruction import ReconstructedClip, reconstruct_clip

__all__ = ["ReconstructedClip", "reconstruct_clip"]
