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


def sinusoidal_positions(length: int, width: int) -> torch.Tensor:
    """The fixed positions of the original transformer, (length, width): sine in even places, cosine in odd ones."""
    position = torch.arange(length, dtype=torch.float64).unsqueeze(1)
    frequency = torch.pow(10000.0, -torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = position * frequency
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1).float()


def standardize_codebook(codebook: torch.Tensor) -> torch.Tensor:
    """
    Code vectors (K, d) with zero mean and unit variance in each dimension, as embeddings: whatever scale a tokenizer's
    latents have, codes and positions are equally loud.
    """
    codebook = codebook.detach().float()
    return (codebook - codebook.mean(dim=0)) / codebook.std(dim=0).clamp(min=1e-6)


class TubePositions(nn.Module):
    """
    One vector per tube and one per modality, learned or (positions alone) sinusoidal.

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
            for modality, length in self.lengths.items():
                self.register_buffer(f"{modality}_sinusoids", sinusoidal_positions(length, D))
        # With one modality there is nothing to tell apart.
        several = len(modalities) > 1
        self.modality = nn.ParameterDict({m: nn.Parameter(torch.empty(D)) for m in modalities} if several else {})

    def fill_sinusoids(self) -> None:
        """Compute the sinusoidal tables, which building on the meta device leaves empty."""
        if self.config.position_embedding == "sinusoidal":
            for modality, length in self.lengths.items():
                table = sinusoidal_positions(length, self.config.hidden_size)
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
