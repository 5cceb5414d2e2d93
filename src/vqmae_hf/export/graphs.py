"""Models as functions of tensors alone, with the inputs that trace them and the axes that stay free.

Letters: B clips, S spectra, T frames, F bins, C codes per spectrum, H x H pixels, G x G codes per frame.
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel

from vqmae_hf.modeling.modeling_audio_vqvae import AudioVQVAEModel
from vqmae_hf.modeling.modeling_visual_vqvae import VisualVQVAEModel
from vqmae_hf.modeling.modeling_vqmae import VQMAEForAudioVisualClassification
from vqmae_hf.modeling.vector_quantizer import VectorQuantizer

BATCH, TIME = "batch", "time"
MODALITIES = ("audio", "visual")


class Graph(NamedTuple):
    """One function of a model: what is traced, under which names, and which axes are free."""

    module: nn.Module  # takes the inputs by position, returns one tensor
    input_names: tuple[str, ...]
    output_name: str
    free_axes: tuple[str, ...]  # of every input, from the first on: BATCH, or BATCH and TIME
    make_inputs: Callable[[int, int], tuple[torch.Tensor, ...]]  # (clips, time; used where it is free) -> inputs


class Encode(nn.Module):
    """Values (B, S, F) or (B, T, 3, H, H) -> codes (B, S, C) or (B, T, G, G) int64."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.model.encode(values)


class Decode(nn.Module):
    """Codes (B, S, C) or (B, T, G, G) int64 -> values (B, S, F) or (B, T, 3, H, H)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        return self.model.decode(codes)


class Classify(nn.Module):
    """Inputs of full windows, by the names given, with their masks -> logits (B, number of classes)."""

    def __init__(self, model: nn.Module, input_names: tuple[str, ...]):
        super().__init__()
        self.model = model
        self.input_names = input_names

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.model(**dict(zip(self.input_names, inputs, strict=True))).logits


def graphs_of(model: PreTrainedModel) -> dict[str, Graph]:
    """
    What can be exported of a model, by name: `encode` and `decode` of a tokenizer; `codes` of a classifier, and `values`
    where it carries the tokenizers of all its modalities.

    Raises:
        TypeError: another model.
    """
    if isinstance(model, AudioVQVAEModel | VisualVQVAEModel):
        return tokenizer_graphs(prepared(model))
    if isinstance(model, VQMAEForAudioVisualClassification):
        return classifier_graphs(prepared(model))
    raise TypeError(
        f"found {type(model).__name__}; AudioVQVAEModel, VisualVQVAEModel and VQMAEForAudioVisualClassification can be "
        "exported."
    )


def prepared(model: PreTrainedModel) -> PreTrainedModel:
    """A copy in evaluation mode on the CPU, in float32, whose quantizers look for all codes at once: a loop over pieces
    would be traced for the number of pieces of the example."""
    model = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, VectorQuantizer):
            module.nearest_codes = module.nearest_codes_at_once  # type: ignore[method-assign]
    return model


def tokenizer_graphs(model: Any) -> dict[str, Graph]:
    """Encoding and decoding of any number of clips of any length."""
    generator = torch.Generator().manual_seed(0)
    config = model.config
    if isinstance(model, AudioVQVAEModel):
        modality, names = "audio", ("audio_values", "audio_codes")
        per_step: tuple[int, ...] = (config.codes_per_spectrum,)
    else:
        modality, names = "visual", ("pixel_values_videos", "visual_codes")
        per_step = (config.codes_per_side,) * 2

    def make_values(clips: int, time: int) -> tuple[torch.Tensor, ...]:
        return (random_values(modality, config, clips, time, generator),)

    def make_codes(clips: int, time: int) -> tuple[torch.Tensor, ...]:
        return (torch.randint(config.codebook_size, (clips, time, *per_step), generator=generator),)

    free = (BATCH, TIME)
    return {
        "encode": Graph(Encode(model), names[:1], names[1], free, make_values),
        "decode": Graph(Decode(model), names[1:], names[0], free, make_codes),
    }


def classifier_graphs(model: Any) -> dict[str, Graph]:
    """Classification of windows, of any number; a modality whose mask is 0 everywhere is missing."""
    config, generator = model.config, torch.Generator().manual_seed(0)
    modalities = [m for m in MODALITIES if m in config.modalities]
    steps = {"audio": config.audio_num_spectra, "visual": config.visual_num_frames}
    per_step = {"audio": (config.audio_codes_per_spectrum,), "visual": (config.visual_codes_per_side,) * 2}
    masks = tuple(f"{m}_attention_mask" for m in modalities)

    def make_masks(clips: int) -> tuple[torch.Tensor, ...]:
        lengths = [torch.randint(steps[m] // 2, steps[m] + 1, (clips, 1), generator=generator) for m in modalities]
        return tuple((torch.arange(steps[m]) < n).long() for m, n in zip(modalities, lengths, strict=True))

    def make_codes(clips: int, time: int) -> tuple[torch.Tensor, ...]:
        sizes = {m: getattr(config, f"{m}_codebook_size") for m in modalities}
        codes = [torch.randint(sizes[m], (clips, steps[m], *per_step[m]), generator=generator) for m in modalities]
        return (*codes, *make_masks(clips))

    def make_values(clips: int, time: int) -> tuple[torch.Tensor, ...]:
        tokenizers = {m: getattr(config, f"{m}_tokenizer_config") for m in modalities}
        values = [random_values(m, tokenizers[m], clips, steps[m], generator) for m in modalities]
        return (*values, *make_masks(clips))

    code_names = (*(f"{m}_codes" for m in modalities), *masks)
    graphs = {"codes": Graph(Classify(model, code_names), code_names, "logits", (BATCH,), make_codes)}
    if all(getattr(config, f"{m}_tokenizer_config") is not None for m in modalities):
        value_of = {"audio": "audio_values", "visual": "pixel_values_videos"}
        names = (*(value_of[m] for m in modalities), *masks)
        graphs["values"] = Graph(Classify(model, names), names, "logits", (BATCH,), make_values)
    return graphs


def random_values(modality: str, config: Any, clips: int, time: int, generator: torch.Generator) -> torch.Tensor:
    """Power spectra over some orders of magnitude, or pixels minus 0.5."""
    if modality == "audio":
        return torch.randn(clips, time, config.num_frequency_bins, generator=generator).mul(2).exp()
    side = config.image_size
    return torch.rand(clips, time, config.num_channels, side, side, generator=generator) - 0.5
