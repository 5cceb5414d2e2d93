"""
How tubes enter the transformer ([AV], embedding of tubes and positions).

Letters: B clips, L tubes of a modality, V of them visible, P codes per tube, d numbers per code, D = P d width.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init

from .configuration_vqmae import VQMAEConfig
from .masking import TubeMasking, gather_tubes
from .tube_inputs import TubeInputs, prepend_class_token


def sinusoids(coordinates: torch.Tensor, width: int) -> torch.Tensor:
    """(N,) coordinates as the original transformer writes them, (N, width): sine in even places, cosine in odd ones."""
    frequency = torch.pow(10000.0, -torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = coordinates.unsqueeze(1) * frequency
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1).float()


def space_time_sinusoids(config: VQMAEConfig, modality: str) -> torch.Tensor:
    """
    Fixed positions (L, D) of the tubes of a modality, an axis at a time as in masked autoencoders of pictures: half of the
    width tells the time, counted in frames of the picture for both modalities, so that what is heard and seen at once has
    this half in common; the other half tells the frequency band, or row and column.
    """
    grid = getattr(config, f"{modality}_grid")
    scales = [config.tube_duration(modality), *[1.0] * (len(grid) - 1)]
    axes = [scale * torch.arange(size, dtype=torch.float64) for scale, size in zip(scales, grid, strict=True)]
    half = config.hidden_size // 2
    widths = [half, *[half // (len(grid) - 1)] * (len(grid) - 1)]
    places = torch.meshgrid(*axes, indexing="ij")  # each (grid), time running slowest
    return torch.cat([sinusoids(place.flatten(), width) for place, width in zip(places, widths, strict=True)], dim=1)


def fixed_positions(config: VQMAEConfig, modality: str, with_class_token: bool) -> torch.Tensor:
    """The positions (L or 1 + L, D) that a modality has without learning them."""
    if config.position_embedding == "space_time":
        table = space_time_sinusoids(config, modality)
        # The class token is nowhere in time and space.
        return F.pad(table, (0, 0, 1, 0)) if with_class_token else table
    length = getattr(config, f"num_{modality}_tubes") + int(with_class_token)
    return sinusoids(torch.arange(length, dtype=torch.float64), config.hidden_size)


def standardize_codebook(codebook: torch.Tensor) -> torch.Tensor:
    """
    Code vectors (K, d) with zero mean and unit variance in each dimension, as embeddings: whatever scale a tokenizer's
    latents have, codes and positions are equally loud.
    """
    codebook = codebook.detach().float()
    return (codebook - codebook.mean(dim=0)) / codebook.std(dim=0).clamp(min=1e-6)


class TubePositions(nn.Module):
    """
    One vector per tube and one per modality; those of tubes are learned or fixed, see [`VQMAEConfig`].

    With `with_class_token` there is one more position, the first, for the class token.
    """

    def __init__(self, config: VQMAEConfig, modalities: Sequence[str], with_class_token: bool = False):
        super().__init__()
        self.config = config
        self.with_class_token = with_class_token
        self.lengths = {m: getattr(config, f"num_{m}_tubes") + int(with_class_token) for m in modalities}
        D = config.hidden_size
        if config.position_embedding == "learned":
            self.learned = nn.ParameterDict({m: nn.Parameter(torch.empty(n, D)) for m, n in self.lengths.items()})
        else:
            for modality in self.lengths:
                self.register_buffer(f"{modality}_sinusoids", fixed_positions(config, modality, with_class_token))
        # With one modality there is nothing to tell apart.
        several = len(modalities) > 1
        self.modality = nn.ParameterDict({m: nn.Parameter(torch.empty(D)) for m in modalities} if several else {})

    def fill_sinusoids(self) -> None:
        """Compute the sinusoidal tables, which building on the meta device leaves empty."""
        if self.config.position_embedding != "learned":
            for modality in self.lengths:
                table = fixed_positions(self.config, modality, self.with_class_token)
                init.copy_(getattr(self, f"{modality}_sinusoids"), table)

    def forward(self, modality: str, length: int) -> torch.Tensor:
        """The first `length` positions of a modality, with its modality embedding: (length, D)."""
        learned = self.config.position_embedding == "learned"
        positions = self.learned[modality] if learned else getattr(self, f"{modality}_sinusoids")
        positions = positions[:length]
        return positions + self.modality[modality] if self.modality else positions


class TubeEmbeddings(nn.Module):
    """A tube is the concatenation of the vectors of its P codes, plus its position, plus its modality ([AV])."""

    def __init__(self, config: VQMAEConfig, modalities: Sequence[str]):
        super().__init__()
        self.config = config
        self.positions = TubePositions(config, modalities)
        self.codes = nn.ModuleDict(
            {
                m: nn.Embedding(getattr(config, f"{m}_codebook_size"), getattr(config, f"{m}_code_dim"))
                for m in modalities
            }
            if config.code_embedding == "learned"
            else {}
        )
        self.class_tokens = nn.ParameterDict(
            {m: nn.Parameter(torch.empty(config.hidden_size)) for m in modalities}
            if config.global_representation == "cls_token"
            else {}
        )

    def code_table(self, modality: str) -> nn.Embedding:
        """The learned vectors (K, d) of a modality's codes."""
        return cast(nn.Embedding, self.codes[modality])  # torch does not know what a ModuleDict holds

    def forward(
        self,
        modality: str,
        inputs: TubeInputs,
        masking: TubeMasking | None = None,
        codebook: torch.Tensor | None = None,
        dtype: torch.dtype | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Embeds what is visible, behind the class token where the model has one.

        Args:
            modality (`str`): `"audio"` or `"visual"`.
            inputs ([`TubeInputs`]): tubes (B, L, P).
            masking ([`TubeMasking`]): which of them are visible; all of them without.
            codebook (`torch.Tensor` of shape `(K, d)`): the tokenizer's, for models without a table of their own.
            dtype (`torch.dtype`): of the sequence; sinusoids and codebooks stay in float32 in a model of half precision.

        Returns:
            The sequence (B, V, D), and which places are real, (B, V) or None where all are.
        """
        codes, code_real, real = inputs.codes, inputs.code_real, inputs.real
        positions = self.positions(modality, codes.shape[1])  # (L, D)
        if masking is not None:
            codes = gather_tubes(codes, masking.visible_ids)
            code_real = gather_tubes(code_real, masking.visible_ids) if code_real is not None else None
            real = visible_real(real, masking)
            positions = positions[masking.visible_ids]  # (B, V, D)
        # Through the module, where FSDP puts its parts together.
        vectors = (
            self.code_table(modality)(codes) if codebook is None else F.embedding(codes, codebook)
        )  # (B, V, P, d)
        if code_real is not None:  # a code of padding stands for nothing
            vectors = vectors.masked_fill(~code_real.unsqueeze(3), 0.0)
        hidden = vectors.flatten(2) + positions
        if dtype is not None:
            hidden = hidden.to(dtype)
        if self.class_tokens:
            token = self.class_tokens[modality].expand(hidden.shape[0], 1, -1)
            hidden, real = torch.cat([token, hidden], dim=1), prepend_class_token(real, inputs.real)
        return hidden, real


def visible_real(real: torch.Tensor | None, masking: TubeMasking) -> torch.Tensor | None:
    """Which places of the visible sequence are real: neither a padded tube nor the padding of the visible list."""
    if real is not None:
        real = real.gather(1, masking.visible_ids)
    if masking.visible_real is None:
        return real
    return masking.visible_real if real is None else real & masking.visible_real
