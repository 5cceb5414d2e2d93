"""MDVAEs small enough to be built in every test, and features for them."""

from typing import Any

import torch
from small_models import audio_tokenizer, build, seeded, visual_tokenizer

from vqmae_hf.modeling.configuration_mdvae import MDVAEConfig
from vqmae_hf.modeling.modeling_mdvae import MDVAEModel

# Fits the tokenizers of small_models: 8 codes of 8 per spectrum, 4 x 4 codes of 4 per frame, hence 64 features of either.
MDVAE: dict[str, Any] = {
    "num_frames": 6,
    "audio_codes_per_spectrum": 8,
    "audio_code_dim": 8,
    "visual_codes_per_side": 4,
    "visual_code_dim": 4,
    "w_size": 7,
    "z_av_size": 5,
    "z_a_size": 3,
    "z_v_size": 2,
    "visual_embedding_sizes": (24, 12),
    "static_history_size": 10,
    "history_size": 9,
    "w_posterior_sizes": (11,),
    "z_av_posterior_sizes": (16, 12),
    "z_a_posterior_sizes": (14, 8),
    "z_v_posterior_sizes": (16, 6),
    "z_av_prior_sizes": (6,),
    "z_a_prior_sizes": (5,),
    "z_v_prior_sizes": (6,),
    "audio_decoder_sizes": (12, 20),
    "visual_decoder_sizes": (20, 30),
    "num_labels": 3,
}
LATENTS = ("w", "z_av", "z_a", "z_v")


def mdvae_config(**overrides: Any) -> MDVAEConfig:
    return MDVAEConfig(**{**MDVAE, **overrides})


def make(model_class: Any = MDVAEModel, seed: int = 0, **overrides: Any) -> Any:
    return build(model_class, mdvae_config(**overrides), seed)


def with_tokenizers(model_class: Any = MDVAEModel, **overrides: Any) -> Any:
    """A model whose tokenizers are not fresh ones, put there as a user would."""
    model = make(model_class, **overrides)
    model.set_tokenizers(audio_tokenizer(), visual_tokenizer())
    return model


def random_features(clips: int = 3, frames: int = 6, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = seeded(seed)
    return {
        name: torch.randn(clips, frames, 64, generator=generator) for name in ("audio_features", "visual_features")
    }


def random_noise(model: MDVAEModel, clips: int = 3, frames: int = 6, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = seeded(seed)
    shapes = model.noise_shapes(clips, frames)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def prefix_mask(lengths: list[int], frames: int = 6) -> torch.Tensor:
    """1 for the first frames of each clip, 0 for the padding after."""
    return (torch.arange(frames) < torch.tensor(lengths)[:, None]).long()
