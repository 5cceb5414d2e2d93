"""What a masked autoencoder makes of the parts of a clip that it cannot see.

Letters: B clips, T frames, S spectra, G x G codes per frame, L tubes, P codes per tube.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn.functional import interpolate

from vqmae_hf.modeling.configuration_vqmae import VQMAEConfig
from vqmae_hf.modeling.token_tubes import (
    audio_codes_to_tubes,
    audio_tubes_to_codes,
    visual_codes_to_tubes,
    visual_tubes_to_codes,
)

# Power of what is hidden in a masked spectrogram: far below any sound.
HIDDEN_POWER = 1e-10


class MaskedCodes(NamedTuple):
    """Codes of one modality, (B, S, C) or (B, T, G, G), and which of them are hidden, of the same shape."""

    original: torch.Tensor
    reconstructed: torch.Tensor
    hidden: torch.Tensor


class MaskedValues(NamedTuple):
    """Pixels (B, T, 3, H, W) or power spectra (B, S, 513): of the original codes, of what is seen, of the prediction."""

    original: torch.Tensor
    masked: torch.Tensor
    reconstructed: torch.Tensor


@torch.no_grad()
def predict_masked_codes(
    model: torch.nn.Module,
    codes: Mapping[str, torch.Tensor],
    *,
    mask_ratio: float | Sequence[float] | None = None,
    generator: torch.Generator | None = None,
    **inputs: Any,
) -> dict[str, MaskedCodes]:
    """Hide tubes and put the most probable codes in their place ([AV], masked code prediction).

    Args:
        model: a `VQMAEForPreTraining` in evaluation mode.
        codes: "audio" (B, S, C), "visual" (B, T, G, G), or one of them; whole windows.
        mask_ratio: (visual, audio) or one number for both; None: as in training.
        generator: of the masks.
        **inputs: further arguments of the model, e.g. attention masks.

    Returns:
        `MaskedCodes` by modality.
    """
    named = {f"{modality}_codes": values for modality, values in codes.items()}
    output = model(
        **named, mask_ratio=mask_ratio, generator=generator, output_logits=True, return_loss=False, **inputs
    )
    results = {}
    for modality, original in codes.items():
        mask, predicted = output[f"{modality}_mask"], output[f"{modality}_logits"].argmax(-1)  # (B, L), (B, L, P)
        tubes = codes_to_tubes(model.config, modality, original)
        hidden = mask.unsqueeze(2).expand_as(tubes)
        filled = torch.where(hidden, predicted, tubes)
        results[modality] = MaskedCodes(
            original, tubes_to_codes(model.config, modality, filled), tubes_to_codes(model.config, modality, hidden)
        )
    return results


@torch.no_grad()
def decode_masked_codes(
    codes: Mapping[str, MaskedCodes], tokenizers: Mapping[str, torch.nn.Module]
) -> dict[str, MaskedValues]:
    """Pictures and spectra of `predict_masked_codes`, for the modalities that have a tokenizer.

    Hidden pixels are 0 (medium grey), hidden spectra `HIDDEN_POWER`. "Original" is what the tokenizer makes of the
    original codes: the best that a prediction of codes can be.
    """
    results = {}
    for modality, parts in codes.items():
        if modality in tokenizers:
            decode = tokenizers[modality].decode
            original, reconstructed = decode(parts.original), decode(parts.reconstructed)
            hide = _hide_pixels if modality == "visual" else _hide_bins
            results[modality] = MaskedValues(original, hide(original, parts.hidden), reconstructed)
    return results


def _hide_pixels(pixels: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """(B, T, 3, H, W), (B, T, G, G): each code stands for a square of pixels."""
    B, T, _, H, W = pixels.shape
    grown = interpolate(hidden.flatten(0, 1).unsqueeze(1).float(), (H, W), mode="nearest").view(B, T, 1, H, W)
    return pixels.masked_fill(grown.bool(), 0.0)


def _hide_bins(spectra: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """(B, S, 513), (B, S, C): each code stands for a band of bins."""
    grown = interpolate(hidden.float(), spectra.shape[2], mode="nearest")
    return spectra.masked_fill(grown.bool(), HIDDEN_POWER)


def codes_to_tubes(config: VQMAEConfig, modality: str, codes: torch.Tensor) -> torch.Tensor:
    """Codes (B, S, C) or (B, T, G, G) of whole windows as the tubes (B, L, P) of a model."""
    if modality == "audio":
        return audio_codes_to_tubes(codes, config.audio_tube_size)
    return visual_codes_to_tubes(codes, config.visual_tube_size)


def tubes_to_codes(config: VQMAEConfig, modality: str, tubes: torch.Tensor) -> torch.Tensor:
    """The inverse of `codes_to_tubes`."""
    if modality == "audio":
        return audio_tubes_to_codes(tubes, config.audio_grid, config.audio_tube_size)
    return visual_tubes_to_codes(tubes, config.visual_grid, config.visual_tube_size)
