"""Configuration of the visual tokenizer (a VQ-VAE over single face images)."""

from typing import Any

from huggingface_hub.dataclasses import strict

from .configuration_audio_vqvae import quantizer_problems, raise_problems
from .configuration_base import CheckpointConfig

VISUAL_VQVAE_PRESETS: dict[str, dict[str, Any]] = {
    # [AV], visual tokenizer: 96 x 96 pixels -> 24 x 24 codes.
    "vqmae": {},
    # [MD], visual tokenizer: 64 x 64 pixels -> 8 x 8 codes.
    "mdvae": {"image_size": 64, "num_downsampling_layers": 3, "residual_hidden_size": 32, "codebook_dim": 32},
    # For tests and the quickstart: 64 x 64 pixels -> 8 x 8 codes.
    "tiny": {
        "image_size": 64,
        "num_downsampling_layers": 3,
        "hidden_size": 32,
        "num_residual_layers": 1,
        "residual_hidden_size": 16,
        "codebook_dim": 4,
        "codebook_size": 128,
        "dead_code_threshold": 0.1,
    },
}


@strict
class VisualVQVAEConfig(CheckpointConfig):
    r"""
    Sizes of a [`VisualVQVAEModel`] ([AV] and [MD], visual VQ-VAE). The defaults are those of VQ-MAE-AV.

    Args:
        image_size (`int`): side of the square face crop in pixels; a multiple of `2 ** num_downsampling_layers`.
        num_channels (`int`): 3, for RGB.
        num_downsampling_layers (`int`): n, stride-2 convolutions of the encoder.
        hidden_size (`int`): channels h of the convolutions; even.
        num_residual_layers (`int`): R, in the encoder and in the decoder.
        residual_hidden_size (`int`): inner channels r of a residual layer.
        codebook_dim (`int`): d, numbers per code vector.
        codebook_size (`int`): K, codes.
        commitment_cost (`float`): beta of the quantizer's loss.
        ema_decay (`float`): decay of the codebook's moving average; 0 learns the codebook by gradient instead.
        ema_epsilon (`float`): Laplace smoothing of the usage counts.
        dead_code_threshold (`float`): in training, a code whose average usage falls below this fraction of uniform
            usage is moved onto an input of the current batch; 0 never does.
    """

    model_type = "visual_vqvae"
    base_config_key = "visual_tokenizer_config"

    image_size: int = 96
    num_channels: int = 3
    num_downsampling_layers: int = 2
    hidden_size: int = 128
    num_residual_layers: int = 2
    residual_hidden_size: int = 64
    codebook_dim: int = 4
    codebook_size: int = 512
    commitment_cost: float | int = 0.25
    ema_decay: float | int = 0.99
    ema_epsilon: float | int = 1e-5
    dead_code_threshold: float | int = 0.0

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "VisualVQVAEConfig":
        """The configuration of the paper's model `"vqmae"` or `"mdvae"`, or of the small `"tiny"`; `overrides` win."""
        if name not in VISUAL_VQVAE_PRESETS:
            raise ValueError(f"preset {name!r} is unknown; VisualVQVAEConfig has {sorted(VISUAL_VQVAE_PRESETS)}.")
        return cls(**{**VISUAL_VQVAE_PRESETS[name], **overrides})

    @property
    def codes_per_side(self) -> int:
        """Rows, and columns, of codes that stand for one frame: 24 for 96 pixels."""
        return self.image_size // 2**self.num_downsampling_layers

    def validate_architecture(self) -> None:
        super().validate_architecture()
        problems = quantizer_problems(self)
        if self.num_downsampling_layers < 1:
            problems.append(f"num_downsampling_layers={self.num_downsampling_layers} must be at least 1")
        elif self.image_size < 1 or self.image_size % 2**self.num_downsampling_layers:
            problems.append(
                f"image_size={self.image_size} is not a multiple of 2 ** num_downsampling_layers = "
                f"{2**self.num_downsampling_layers}"
            )
        if self.hidden_size < 2 or self.hidden_size % 2:
            problems.append(
                f"hidden_size={self.hidden_size} must be even and positive; the first layer has half of it"
            )
        if self.num_channels < 1:
            problems.append(f"num_channels={self.num_channels} must be positive")
        raise_problems(self, problems)
