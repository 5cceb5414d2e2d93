"""Models small enough to be built in every test: 8 visual and 16 audio tubes of width 32, tokenizers to match."""

from typing import Any

import torch
from transformers import PreTrainedModel

from vqmae_hf.modeling.configuration_audio_vqvae import AudioVQVAEConfig
from vqmae_hf.modeling.configuration_visual_vqvae import VisualVQVAEConfig
from vqmae_hf.modeling.configuration_vqmae import VQMAEConfig
from vqmae_hf.modeling.modeling_audio_vqvae import AudioVQVAEModel
from vqmae_hf.modeling.modeling_visual_vqvae import VisualVQVAEModel

AUDIO_TOKENIZER: dict[str, Any] = {
    "num_frequency_bins": 65,
    "hidden_size": 8,
    "residual_hidden_size": 4,
    "codebook_dim": 8,
    "codebook_size": 16,
}
VISUAL_TOKENIZER: dict[str, Any] = {
    "image_size": 16,
    "hidden_size": 8,
    "num_residual_layers": 1,
    "residual_hidden_size": 4,
    "codebook_dim": 4,
    "codebook_size": 24,
}
VQMAE: dict[str, Any] = {
    "audio_num_spectra": 8,
    "audio_codes_per_spectrum": 8,
    "audio_tube_size": (2, 2),
    "audio_codebook_size": 16,
    "audio_code_dim": 8,
    "visual_num_frames": 4,
    "visual_codes_per_side": 4,
    "visual_tube_size": (2, 2, 2),
    "visual_codebook_size": 24,
    "visual_code_dim": 4,
    "num_hidden_layers": 2,
    "decoder_num_hidden_layers": 1,
    "query2emo_intermediate_size": 64,
    "num_labels": 3,
}

# Choices that change what is computed where; most properties have to hold for every one.
VARIANTS: dict[str, dict[str, Any]] = {
    "self": {},
    "cross": {"encoder_fusion": "cross", "decoder_fusion": "cross", "classifier_pooling": "query2emo"},
    "class token": {"global_representation": "cls_token"},
    "sinusoidal": {"position_embedding": "sinusoidal"},
    "space and time": {"position_embedding": "space_time"},
    "no global": {"global_representation": None, "contrastive": False, "classifier_pooling": "mean"},
}


def audio_tokenizer_config(**overrides: Any) -> AudioVQVAEConfig:
    return AudioVQVAEConfig(**{**AUDIO_TOKENIZER, **overrides})


def visual_tokenizer_config(**overrides: Any) -> VisualVQVAEConfig:
    return VisualVQVAEConfig(**{**VISUAL_TOKENIZER, **overrides})


def vqmae_config(with_tokenizers: bool = False, **overrides: Any) -> VQMAEConfig:
    tokenizers: dict[str, Any] = {}
    if with_tokenizers:
        tokenizers = {
            "audio_tokenizer_config": audio_tokenizer_config(),
            "visual_tokenizer_config": visual_tokenizer_config(),
        }
    return VQMAEConfig(**{**VQMAE, **tokenizers, **overrides})


def speech_config(**overrides: Any) -> VQMAEConfig:
    return vqmae_config(
        modalities=("audio",), **{"global_representation": "cls_token", "classifier_pooling": "mean", **overrides}
    )


def build(model_class: type[PreTrainedModel], config: Any, seed: int = 0) -> Any:
    """A model in evaluation mode whose small weights are spread out, so that every part of it matters to the output."""
    torch.manual_seed(seed)
    model = model_class(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and parameter.dim() <= 2 and "quantizer" not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_codes(config: VQMAEConfig, clips: int = 3, seed: int = 0) -> dict[str, torch.Tensor]:
    """Codes of full windows, for every modality of the configuration."""
    generator = seeded(seed)
    side = config.visual_codes_per_side
    shapes = {
        "audio": (clips, config.audio_num_spectra, config.audio_codes_per_spectrum),
        "visual": (clips, config.visual_num_frames, side, side),
    }
    return {
        f"{modality}_codes": torch.randint(
            getattr(config, f"{modality}_codebook_size"), shape, generator=generator, dtype=torch.long
        )
        for modality, shape in shapes.items()
        if modality in config.modalities
    }


def random_spectra(clips: int = 2, spectra: int = 8, bins: int = 65, seed: int = 0) -> torch.Tensor:
    """Power spectra (clips, spectra, bins): positive, over several orders of magnitude, each clip with its own loudness."""
    generator = seeded(seed)
    loudness = torch.arange(1, clips + 1).view(-1, 1, 1)
    return loudness * torch.randn(clips, spectra, bins, generator=generator).mul(2).exp()


def random_frames(clips: int = 2, frames: int = 4, side: int = 16, seed: int = 0) -> torch.Tensor:
    """Pixels minus 0.5 (clips, frames, 3, side, side)."""
    generator = seeded(seed)
    return torch.rand(clips, frames, 3, side, side, generator=generator) - 0.5


def audio_tokenizer(seed: int = 0, **overrides: Any) -> AudioVQVAEModel:
    model = build(AudioVQVAEModel, audio_tokenizer_config(**overrides), seed)
    return spread_codebook(model, random_spectra(seed=seed + 1))


def visual_tokenizer(seed: int = 0, **overrides: Any) -> VisualVQVAEModel:
    model = build(VisualVQVAEModel, visual_tokenizer_config(**overrides), seed)
    return spread_codebook(model, random_frames(seed=seed + 1))


def spread_codebook(tokenizer: Any, values: torch.Tensor) -> Any:
    """Code vectors at random latents of `values`, so that an untrained tokenizer already uses many of its codes."""
    with torch.no_grad():
        latents = tokenizer.encode_latents(values).flatten(0, -2)
        codebook = tokenizer.quantizer.codebook
        codebook.copy_(latents[torch.randint(len(latents), (len(codebook),))])
    return tokenizer


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The gradients that are there and not zero, by parameter name."""
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().max() > 0
    }


def buffers(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of everything that training may move without a gradient: buffers and the codebooks."""
    state = {name: value.clone() for name, value in model.named_buffers()}
    state |= {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    return state


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    """The same names, and the same bits under each."""
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different, f"changed: {different}"
