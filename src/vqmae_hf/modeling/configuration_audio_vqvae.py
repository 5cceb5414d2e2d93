"""Configuration of the audio tokenizer (a VQ-VAE over single power spectra)."""

from collections.abc import Iterable
from math import isfinite
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .configuration_base import CheckpointConfig

AUDIO_VQVAE_PRESETS: dict[str, dict[str, Any]] = {
    # [AV], audio tokenizer.
    "vqmae": {},
    # [MD], audio tokenizer: no batch norm, a smaller codebook and residual width.
    "mdvae": {"codebook_size": 64, "residual_hidden_size": 16, "batch_norm": False},
    # For tests and the quickstart: the network of [AV] is already small, so only its codebook shrinks.
    # It has to learn in seconds and to hold on unseen speakers, hence the logarithm (docs/LOG.md has the comparison).
    "tiny": {
        "hidden_size": 16,
        "residual_hidden_size": 16,
        "codebook_dim": 4,
        "codebook_size": 64,
        "input_scale": "log",
        "dead_code_threshold": 0.1,
    },
}


@strict
class AudioVQVAEConfig(CheckpointConfig):
    r"""
    Sizes of an [`AudioVQVAEModel`] ([AV] and [MD], audio VQ-VAE). The defaults are those of VQ-MAE-AV.

    Args:
        num_frequency_bins (`int`): bins of a power spectrum; 513 for an STFT of 1024 samples. Must be `8 n + 1`, so that
            three stride-2 convolutions down and up again arrive at the same number.
        hidden_size (`int`): channels h of the convolutions; even.
        num_residual_layers (`int`): R, in the encoder and in the decoder.
        residual_hidden_size (`int`): inner channels r of a residual layer.
        codebook_dim (`int`): d, numbers per code vector.
        codebook_size (`int`): K, codes.
        input_scale (`"power"` or `"log"`): what the encoder sees. The papers' networks see the power spectrum itself, whose
            few loud bins rule the statistics of batch normalisation; the logarithm learns faster and keeps evaluation
            mode as good as training mode. Inputs and outputs of the model are power spectra either way.
        batch_norm (`bool`): normalise after each strided convolution.
        batch_norm_statistics (`"running"` or `"clip"`): which statistics encoding and decoding use. Tokenizers trained
            here use the running ones; the published ones were only ever used with those of the clip at hand.
        commitment_cost (`float`): beta of the quantizer's loss.
        ema_decay (`float`): decay of the codebook's moving average; 0 learns the codebook by gradient instead.
        ema_epsilon (`float`): Laplace smoothing of the usage counts.
        dead_code_threshold (`float`): in training, a code whose average usage falls below this fraction of uniform
            usage is moved onto an input of the current batch; 0 never does.
    """

    model_type = "audio_vqvae"
    base_config_key = "audio_tokenizer_config"

    num_frequency_bins: int = 513
    hidden_size: int = 32
    num_residual_layers: int = 1
    residual_hidden_size: int = 32
    codebook_dim: int = 8
    codebook_size: int = 256
    input_scale: Literal["power", "log"] = "power"
    batch_norm: bool = True
    batch_norm_statistics: Literal["running", "clip"] = "running"
    commitment_cost: float | int = 0.25
    ema_decay: float | int = 0.99
    ema_epsilon: float | int = 1e-5
    dead_code_threshold: float | int = 0.0

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "AudioVQVAEConfig":
        """The configuration of the paper's model `"vqmae"` or `"mdvae"`, or of the small `"tiny"`; `overrides` win."""
        if name not in AUDIO_VQVAE_PRESETS:
            raise ValueError(f"preset {name!r} is unknown; AudioVQVAEConfig has {sorted(AUDIO_VQVAE_PRESETS)}.")
        return cls(**{**AUDIO_VQVAE_PRESETS[name], **overrides})

    @property
    def codes_per_spectrum(self) -> int:
        """Codes that stand for one spectrum: 64 for 513 bins."""
        return (self.num_frequency_bins - 1) // 8

    def validate_architecture(self) -> None:
        super().validate_architecture()
        problems = quantizer_problems(self)
        if self.num_frequency_bins < 9 or (self.num_frequency_bins - 1) % 8:
            problems.append(f"num_frequency_bins={self.num_frequency_bins} is not 8 n + 1; use 513 (an STFT of 1024)")
        if self.hidden_size < 2 or self.hidden_size % 2:
            problems.append(
                f"hidden_size={self.hidden_size} must be even and positive; the first layer has half of it"
            )
        raise_problems(self, problems)


def quantizer_problems(config: PreTrainedConfig) -> list[str]:
    """What is wrong with the fields that both tokenizers share, one sentence each."""
    problems = [
        f"{name}={getattr(config, name)} must be positive"
        for name in ("codebook_dim", "residual_hidden_size")
        if getattr(config, name) < 1
    ]
    if config.codebook_size < 2:
        problems.append(f"codebook_size={config.codebook_size} must be at least 2")
    if config.num_residual_layers < 0:
        problems.append(f"num_residual_layers={config.num_residual_layers} cannot be negative")
    problems += number_problems(config, ["commitment_cost"])
    if not 0 < config.ema_epsilon < 1:
        problems.append(f"ema_epsilon={config.ema_epsilon} must lie in (0, 1), such as 1e-5")
    if not 0 <= config.ema_decay < 1:
        problems.append(f"ema_decay={config.ema_decay} must lie in [0, 1); 0 learns the codebook by gradient")
    if not 0 <= config.dead_code_threshold < 1:
        problems.append(f"dead_code_threshold={config.dead_code_threshold} is a fraction of uniform usage in [0, 1)")
    return problems


def number_problems(config: PreTrainedConfig, names: Iterable[str], *, positive: bool = False) -> list[str]:
    """A sentence for each of these numbers that is NaN, infinite, negative or, with `positive`, 0."""
    return [
        f"{name}={value} {'must be positive and finite' if positive else 'cannot be negative, NaN or infinite'}"
        for name in names
        if not isfinite(value := getattr(config, name)) or value < 0 or (positive and value == 0)
    ]


def raise_problems(config: PreTrainedConfig, problems: list[str]) -> None:
    """One ValueError that names every problem of a configuration at once; silence when there is none."""
    if problems:
        raise ValueError(f"{type(config).__name__} cannot be built: " + "; ".join(problems) + ".")
