"""
From a modality's codes or values, with their attention mask, to the tubes that the masked autoencoder works on.

Letters: B clips, N items in time (spectra S or frames T), L tubes, P codes per tube, D width.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from .configuration_vqmae import VQMAEConfig
from .losses import IGNORED
from .token_tubes import audio_codes_to_tubes, visual_codes_to_tubes
from .tokenizer_blocks import Tokenizer, check_codes

VALUES_NAME = {"audio": "audio_values", "visual": "pixel_values_videos"}


class TubeInputs(NamedTuple):
    """One modality of a batch, cut into tubes. The `real` tensors are None where nothing is padding."""

    grid_codes: torch.Tensor  # (B, S, C) or (B, T, G, G) int64, as they came
    codes: torch.Tensor  # (B, L, P) int64
    grid: tuple[int, ...]  # tubes along time, then along the other axes
    code_real: torch.Tensor | None  # (B, L, P) bool, False for codes of padding
    real: torch.Tensor | None  # (B, L) bool, True where a tube has at least one real code

    @property
    def targets(self) -> torch.Tensor:
        """Codes to predict (B, L, P), with those of padding ignored."""
        return self.codes if self.code_real is None else self.codes.masked_fill(~self.code_real, IGNORED)


def prepare_tubes(
    config: VQMAEConfig,
    modality: str,
    codes: torch.Tensor | None,
    values: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    tokenizer: Tokenizer | None,
) -> TubeInputs:
    """
    Tokenize where values are given, check, and cut into tubes; arguments and errors as [`VQMAEModel.forward`] has them.
    """
    if modality not in config.modalities:
        raise ValueError(
            f"{modality} input was given to a model of modalities={tuple(config.modalities)}; leave it out, or load a "
            "model of both."
        )
    if codes is not None and values is not None:
        raise ValueError(f"{modality}_codes and {VALUES_NAME[modality]} were both given; they say the same, give one.")
    if codes is None:
        assert values is not None
        if tokenizer is None:
            raise ValueError(
                f"{VALUES_NAME[modality]} was given, but the configuration has no {modality}_tokenizer_config; pass "
                f"{modality}_codes, or load a checkpoint that contains its tokenizers."
            )
        codes = tokenizer.encode(values, attention_mask)
    _check_grid(config, modality, codes)
    if modality == "audio":
        tube_size = config.audio_tube_size
        window_grid: tuple[int, ...] = config.audio_grid
        tubes = audio_codes_to_tubes(codes.long(), tube_size)
    else:
        tube_size, window_grid = config.visual_tube_size, config.visual_grid
        tubes = visual_codes_to_tubes(codes.long(), tube_size)
    grid = (codes.shape[1] // tube_size[0], *window_grid[1:])
    code_real = _real_codes(modality, codes, attention_mask, tube_size)
    real = code_real.any(dim=2) if code_real is not None else None
    return TubeInputs(codes, tubes, grid, code_real, real)


def _check_grid(config: VQMAEConfig, modality: str, codes: torch.Tensor) -> None:
    """Refuses codes whose type, shape or range the configuration does not allow."""
    if modality == "audio":
        window, tube, unit = config.audio_num_spectra, config.audio_tube_size[0], "spectra"
        inner: tuple[int, ...] = (config.audio_codes_per_spectrum,)
    else:
        window, tube, unit = config.visual_num_frames, config.visual_tube_size[0], "frames"
        inner = (config.visual_codes_per_side,) * 2
    name, size = f"{modality}_codes", getattr(config, f"{modality}_codebook_size")
    check_codes(codes, size, name)
    if codes.dim() != 2 + len(inner) or tuple(codes.shape[2:]) != inner:
        raise ValueError(
            f"{name} has shape {tuple(codes.shape)}; (clips, {unit}, {', '.join(map(str, inner))}) is accepted."
        )
    length = codes.shape[1]
    if length > window or length < tube or length % tube:
        raise ValueError(
            f"{name} has {length} {unit}; up to {window} in multiples of {tube} are accepted. "
            "VQMAEProcessor pads shorter clips with an attention mask, and its `cut_windows` cuts longer ones; "
            'pipeline("audiovisual-classification") does both.'
        )


def _real_codes(
    modality: str, codes: torch.Tensor, attention_mask: torch.Tensor | None, tube_size: Sequence[int]
) -> torch.Tensor | None:
    """Which codes of each tube are real, from the mask over time: (B, N) -> (B, L, P)."""
    if attention_mask is None:
        return None
    if tuple(attention_mask.shape) != tuple(codes.shape[:2]):
        raise ValueError(
            f"{modality}_attention_mask has shape {tuple(attention_mask.shape)}; {tuple(codes.shape[:2])} is accepted, one "
            "number per spectrum or frame: 1 for real ones, 0 for padding."
        )
    real = attention_mask.bool().reshape(*codes.shape[:2], *[1] * (codes.dim() - 2)).expand(codes.shape)
    if modality == "audio":
        return audio_codes_to_tubes(real, tube_size)
    return visual_codes_to_tubes(real, tube_size)


def clips_with_both(tubes: Mapping[str, TubeInputs]) -> torch.Tensor | None:
    """Clips (B,) that have a real tube in every modality; None where nothing is padded."""
    present = [inputs.real.any(dim=1) for inputs in tubes.values() if inputs.real is not None]
    return torch.stack(present).all(dim=0) if present else None


def join_streams(
    streams: Sequence[tuple[torch.Tensor, torch.Tensor | None]],
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Sequences (B, L, D) and their real masks (B, L), or None where all is real, one after the other."""
    hidden = torch.cat([hidden for hidden, _ in streams], dim=1)
    if all(real is None for _, real in streams):
        return hidden, None
    masks = [
        real if real is not None else torch.ones(part.shape[:2], dtype=torch.bool, device=part.device)
        for part, real in streams
    ]
    return hidden, torch.cat(masks, dim=1)


def prepend_class_token(real: torch.Tensor | None, tube_real: torch.Tensor | None) -> torch.Tensor | None:
    """
    A real mask (B, V) with the class token before it, (B, 1 + V): the token is there where the clip has the modality, that
    is any real tube in `tube_real` (B, L), even if all of them are masked; None for "all real", as everywhere.
    """
    if real is None:
        return None
    token = real.new_ones(real.shape[0], 1) if tube_real is None else tube_real.any(dim=1, keepdim=True)
    return torch.cat([token, real], dim=1)


def mean_over_time(
    local: torch.Tensor, real: torch.Tensor | None, tube_ids: torch.Tensor | None, num_places: int
) -> torch.Tensor:
    """
    Mean over the real tubes of each place, place after place: zeros for a place that has none.

    Args:
        local: (B, V, D).
        real: (B, V) bool, None where all are.
        tube_ids: (B, V), places running fastest; None for all tubes of every moment in their order.
        num_places: N, of a moment.

    Returns:
        (B, N D).
    """
    if tube_ids is None:
        tube_ids = torch.arange(local.shape[1], device=local.device).unsqueeze(0)
    places = torch.arange(num_places, device=local.device)
    chosen = (tube_ids % num_places).unsqueeze(2) == places  # (B or 1, V, N)
    if real is not None:
        chosen = chosen & real.unsqueeze(2)
        local = local.masked_fill(~real.unsqueeze(2), 0.0)
    counts = chosen.sum(dim=1).clamp(min=1).unsqueeze(2)  # (B or 1, N, 1)
    return (chosen.to(local.dtype).mT @ local / counts).flatten(1)


def mean_over_real(local: torch.Tensor, real: torch.Tensor | None) -> torch.Tensor:
    """Mean over the real tubes: (B, L, D), (B, L) -> (B, D); zeros where there is none."""
    if real is None:
        return local.mean(dim=1)
    total = local.masked_fill(~real.unsqueeze(2), 0.0).sum(dim=1)
    return total / real.sum(dim=1, keepdim=True).clamp(min=1)
