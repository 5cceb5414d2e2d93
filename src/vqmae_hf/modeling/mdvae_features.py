"""
What MDVAE sees and yields per frame: the latents of the tokenizers before quantization, in one row of numbers.

Letters: B clips, T frames (and spectra: one per frame), C codes per spectrum, G x G codes per frame, d numbers per code, D
numbers of the features, D = d C or d G G.
"""

from typing import Any, NamedTuple

import torch

from .configuration_mdvae import MDVAEConfig


class FrameFeatures(NamedTuple):
    """The features of clips and which frames are real."""

    features: dict[str, torch.Tensor]  # modality -> (B, T, D)
    frame_mask: torch.Tensor | None  # (B, T) bool, True = real, padding at the end; None where all are real


def audio_latents_to_features(latents: torch.Tensor) -> torch.Tensor:
    """`(B, T, C, d) -> (B, T, d C)`, number by number of the code vectors, as the networks of [MD] have them."""
    return latents.transpose(2, 3).flatten(2)


def audio_features_to_latents(features: torch.Tensor, code_dim: int) -> torch.Tensor:
    """`(B, T, d C) -> (B, T, C, d)`."""
    return features.unflatten(2, (code_dim, -1)).transpose(2, 3)


def visual_latents_to_features(latents: torch.Tensor) -> torch.Tensor:
    """`(B, T, G, G, d) -> (B, T, d G G)`, number by number of the code vectors, as the networks of [MD] have them."""
    return latents.permute(0, 1, 4, 2, 3).flatten(2)


def visual_features_to_latents(features: torch.Tensor, code_dim: int, codes_per_side: int) -> torch.Tensor:
    """`(B, T, d G G) -> (B, T, G, G, d)`."""
    return features.unflatten(2, (code_dim, codes_per_side, codes_per_side)).permute(0, 1, 3, 4, 2)


def in_units(values: torch.Tensor, scale: float) -> torch.Tensor:
    """`values / scale`; the values themselves where the scale is 1, which saves a pass over the largest tensors."""
    return values if scale == 1 else values / scale


def tokenizer_features(
    modality: str,
    values: torch.Tensor,
    attention_mask: torch.Tensor | None,
    tokenizer: Any,
) -> torch.Tensor:
    """Features (B, T, D) of processed values, by the encoder of the tokenizer; its gradient only where it trains."""
    if tokenizer is None:
        raise ValueError(
            f"{VALUES[modality]} needs the {modality} tokenizer, and the model has none; pass {modality}_features, or put "
            "one in with `set_tokenizers`."
        )
    if values.dim() != (3 if modality == "audio" else 5):
        raise ValueError(
            f"{VALUES[modality]} has shape {tuple(values.shape)}; a batch of clips is accepted, (clips, spectra, bins) or "
            "(clips, frames, 3, height, width). MDVAEProcessor makes it."
        )
    trains = any(parameter.requires_grad for parameter in tokenizer.parameters())
    with torch.set_grad_enabled(trains and torch.is_grad_enabled()):
        if modality == "audio":
            return audio_latents_to_features(tokenizer.encode_latents(values, attention_mask))
        return visual_latents_to_features(tokenizer.encode_latents(values))


VALUES = {"audio": "audio_values", "visual": "pixel_values_videos"}


def prepare_features(
    config: MDVAEConfig,
    modality: str,
    features: torch.Tensor | None,
    values: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    tokenizer: Any,
) -> torch.Tensor:
    """
    The features (B, T, D) of one modality, given as such or as values.

    Raises:
        ValueError: neither or both, a modality the model does not have, a shape that the configuration does not allow.
    """
    if (features is None) == (values is None):
        found = "neither" if features is None else "both"
        raise ValueError(
            f"found {found} of {modality}_features and {VALUES[modality]}; exactly one is accepted, by a model of "
            f"modalities={tuple(config.modalities)}."
        )
    if features is None and values is not None:
        features = tokenizer_features(modality, values, attention_mask, tokenizer)
    assert features is not None
    size = getattr(config, f"{modality}_feature_size")
    if features.dim() != 3 or features.shape[2] != size or features.shape[1] < 1:
        raise ValueError(
            f"{modality}_features has shape {tuple(features.shape)}; (clips, frames, {size}) with at least one frame is "
            "accepted: latents of the tokenizer before quantization, see audio_latents_to_features and "
            "visual_latents_to_features."
        )
    return features


def join_frame_masks(features: dict[str, torch.Tensor], masks: dict[str, torch.Tensor | None]) -> torch.Tensor | None:
    """
    Frames that are real in every modality: masks (B, T), 1 = real -> (B, T) bool; None without any mask.

    Raises:
        ValueError: modalities of different numbers of clips or frames, masks of another shape, or (looked for on the CPU
            only) padding that is not at the end.
    """
    shapes = {modality: tuple(tensor.shape[:2]) for modality, tensor in features.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(
            f"the modalities have different (clips, frames): {shapes}; one spectrum per frame is accepted. MDVAEProcessor "
            "keeps them in step."
        )
    given = {modality: mask for modality, mask in masks.items() if mask is not None and modality in features}
    for modality, mask in given.items():
        if tuple(mask.shape) != shapes[modality]:
            raise ValueError(
                f"{modality}_attention_mask has shape {tuple(mask.shape)}; {shapes[modality]} is accepted, one number per "
                "frame: 1 for real ones, 0 for padding at the end."
            )
    if not given:
        return None
    frame_mask = torch.stack([mask.bool() for mask in given.values()]).all(dim=0)
    if frame_mask.device.type == "cpu" and not torch.compiler.is_compiling():
        returns = frame_mask[:, 1:] & ~frame_mask[:, :-1]
        if returns.any():
            raise ValueError(
                "an attention mask has real frames after padding; padding at the end of a clip is accepted, as "
                "MDVAEProcessor makes it. Frames that are damaged are marked in `denoise`."
            )
    return frame_mask
