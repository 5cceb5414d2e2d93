"""
A clip of which parts are hidden, and what a masked autoencoder puts in their place ([AV], masked code prediction).

Letters: T frames, S spectra, H pixels of a side, W windows, L tubes of a modality.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqmae_hf.data.clips import Clip, load_clip
from vqmae_hf.data.media import write_clip
from vqmae_hf.evaluation.pictures import pixels_to_frames
from vqmae_hf.evaluation.reconstructions import MaskedCodes, MaskedValues, decode_masked_codes, predict_masked_codes
from vqmae_hf.evaluation.sounds import waveform_from_power
from vqmae_hf.inference.coded_clips import MODALITIES, CodedClip, tokenize_clip
from vqmae_hf.modeling.masking import random_masking
from vqmae_hf.modeling.modeling_vqmae import VQMAEForPreTraining
from vqmae_hf.modeling.processing_vqmae import VQMAEProcessor
from vqmae_hf.training.assembly import inner_tokenizers

MASK_STRATEGIES = ("random", "frame", "block")


@dataclass
class MaskedReconstruction:
    """
    A clip, its codes with parts hidden, and what the model put there.

    Args:
        coded: the clip and its codes.
        codes: by modality, `MaskedCodes` of the whole clip without batch axis: original, completed, and which were hidden.
        values: by modality, `MaskedValues` without batch axis: pixels (T, 3, H, H) or power spectra (S, 513) of the
            original codes, of what the model sees, of the completed codes.
        sampling_rate, n_fft, hop_length: of the spectra, in Hz and samples.
    """

    coded: CodedClip
    codes: dict[str, MaskedCodes]
    values: dict[str, MaskedValues]
    sampling_rate: int
    n_fft: int
    hop_length: int

    def hidden_share(self, modality: str) -> float:
        """Share of the codes that were hidden."""
        return float(self.codes[modality].hidden.float().mean())

    def right_share(self, modality: str) -> float | None:
        """Share of the hidden codes that the model guessed exactly; None where nothing was hidden."""
        original, completed, hidden = self.codes[modality]
        return float((original == completed)[hidden].float().mean()) if hidden.any() else None

    def frames(self, version: str = "reconstructed") -> np.ndarray | None:
        """(T, H, H, 3) uint8 pictures of the `original`, `masked` or `reconstructed` codes; None without pictures."""
        if "visual" not in self.values:
            return None
        return pixels_to_frames(getattr(self.values["visual"], version))

    def waveform(self, version: str = "reconstructed", num_iterations: int = 64) -> np.ndarray | None:
        """(N,) float32 sound of a version, phases retrieved by Griffin-Lim; None without sound."""
        if "audio" not in self.values:
            return None
        spectra = getattr(self.values["audio"], version)
        return waveform_from_power(
            spectra, n_fft=self.n_fft, hop_length=self.hop_length, num_iterations=num_iterations
        )

    def write(self, path: str | os.PathLike, version: str = "reconstructed") -> Path:
        """Write a version as an mp4 with its sound."""
        return write_clip(
            path,
            self.frames(version),
            self.waveform(version),
            frames_per_second=self.coded.clip.frames_per_second,
            sampling_rate=self.sampling_rate,
        )


def reconstruct_masked_clip(
    source: Any,
    *,
    model: VQMAEForPreTraining,
    processor: VQMAEProcessor,
    mask_ratio: float | Sequence[float] = 0.5,
    strategy: str = "random",
    seed: int = 0,
    **clip_options: Any,
) -> MaskedReconstruction:
    """
    Hide parts of a clip's face and voice, and let the model complete them.

    Args:
        source: a file as [`~vqmae_hf.data.clips.load_clip`] takes it, or a loaded `Clip`.
        model: with its tokenizers, in evaluation mode.
        processor: the model's.
        mask_ratio: hidden share, between 0 and 1, or (visual, audio). 1 hides a modality altogether.
        strategy: `"random"` hides single tubes, `"frame"` all tubes of some time steps, `"block"` one connected block of
            space and time, or of frequency and time.
        seed: of the masks. With the same seed, what a lower ratio hides, a higher one hides too, whatever the other
            modality's.
        **clip_options: further arguments of `load_clip`, such as its policies.

    Raises:
        ClipError: what `load_clip` raises about the file.
        ValueError: an unknown strategy, a ratio outside [0, 1], a model without tokenizers.
    """
    if not isinstance(source, Clip):
        modalities = clip_options.get("modalities", model.config.modalities)
        source = load_clip(source, **{**processor.clip_options(modalities), **clip_options})
    coded = tokenize_clip(source, processor, inner_tokenizers(model))
    return complete_masked_clip(
        coded, model=model, processor=processor, mask_ratio=mask_ratio, strategy=strategy, seed=seed
    )


def complete_masked_clip(
    coded: CodedClip,
    *,
    model: VQMAEForPreTraining,
    processor: VQMAEProcessor,
    mask_ratio: float | Sequence[float] = 0.5,
    strategy: str = "random",
    seed: int = 0,
) -> MaskedReconstruction:
    """[`reconstruct_masked_clip`] of a clip that is tokenized already."""
    ratios = dict(zip(MODALITIES, checked_ratios(mask_ratio), strict=True))
    inputs = coded.windows(coded.side_by_side())
    inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
    masks = {}
    for number, modality in enumerate(MODALITIES):
        if modality in coded.codes:
            state = np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)
            generator = torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
            grid = getattr(model.config, f"{modality}_grid")
            mask = draw_mask(len(inputs[f"{modality}_codes"]), grid, ratios[modality], strategy, generator)
            masks[f"{modality}_mask"] = mask.to(model.device)
    given = {modality: inputs.pop(f"{modality}_codes") for modality in coded.codes}
    predicted = predict_masked_codes(model, given, **inputs, **masks)
    codes = {
        modality: MaskedCodes(*(coded.join_windows(modality, values.cpu()) for values in windows))
        for modality, windows in predicted.items()
    }
    batches = {
        modality: MaskedCodes(*(part[None].to(model.device) for part in parts)) for modality, parts in codes.items()
    }
    decoded = decode_masked_codes(batches, inner_tokenizers(model))
    values = {
        modality: MaskedValues(*(version[0].float().cpu() for version in versions))
        for modality, versions in decoded.items()
    }
    extractor = processor.feature_extractor
    return MaskedReconstruction(coded, codes, values, extractor.sampling_rate, extractor.n_fft, extractor.hop_length)


def draw_mask(
    num_windows: int, grid: Sequence[int], ratio: float, strategy: str, generator: torch.Generator
) -> torch.Tensor:
    """
    A mask (W, L) of each window, True = hidden; unlike in training, a ratio of 1 leaves nothing visible.

    Args:
        grid: tubes along time, then along the other axes; L is their product.
        ratio, strategy: see [`reconstruct_masked_clip`].
        generator: on the CPU.

    Raises:
        ValueError: an unknown strategy.
    """
    if strategy not in MASK_STRATEGIES:
        raise ValueError(f"strategy={strategy!r} is unknown; {', '.join(MASK_STRATEGIES)} are accepted.")
    if ratio == 1:
        return torch.ones(num_windows, prod(grid), dtype=torch.bool)
    if strategy != "block":
        return random_masking(num_windows, grid, ratio, strategy, generator=generator).mask
    axes = [torch.arange(size, dtype=torch.float32) / size for size in grid]
    places = torch.cartesian_prod(*axes).view(-1, len(grid))  # (L, axes)
    centres = torch.rand(num_windows, 1, len(grid), generator=generator)
    # As far in the direction that is furthest: the nearest are a block whose sides are those of the grid in small.
    distances = (places - centres).abs().amax(dim=2)  # (W, L)
    hidden = round(prod(grid) * ratio)
    nearest = distances.argsort(dim=1, stable=True)[:, :hidden]
    return torch.zeros(num_windows, prod(grid), dtype=torch.bool).scatter(1, nearest, True)


def checked_ratios(mask_ratio: float | Sequence[float]) -> tuple[float, float]:
    """(visual, audio) of one number for both, or of two."""
    pair = tuple(mask_ratio) if isinstance(mask_ratio, Sequence) else (mask_ratio, mask_ratio)
    if len(pair) != 2 or not all(0 <= ratio <= 1 for ratio in pair):
        raise ValueError(f"mask_ratio={mask_ratio!r}: accepted is one number, or (visual, audio), between 0 and 1.")
    return pair
