"""
What the two tokenizers share: the rows they work on, how their weights start, and the protocol that the masked
autoencoder asks of any tokenizer.

Letters: B clips, N items (spectra or frames) per clip, R rows = the items that are no padding.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import nn
from transformers import initialization as init

from .vector_quantizer import VectorQuantizer


class Tokenizer(Protocol):
    """
    What [`VQMAEModel`] needs of a tokenizer; any module with these two methods and this table can take its place.

    `encode` maps `(B, N, ...)` values and an optional `(B, N)` mask (1 = real) to int64 codes `(B, N, codes...)` below
    `codebook_size`, deterministically and without changing a buffer; `decode` maps codes back to values;
    `get_codebook` returns the `(codebook_size, codebook_dim)` code vectors.
    """

    def encode(self, values: torch.Tensor, attention_mask: torch.Tensor | None = None, /) -> torch.Tensor: ...

    def decode(self, codes: torch.Tensor, attention_mask: torch.Tensor | None = None, /) -> torch.Tensor: ...

    def get_codebook(self) -> torch.Tensor: ...


class Rows(NamedTuple):
    """The real items of a padded batch, one after the other."""

    values: torch.Tensor  # (R, ...)
    clip_index: torch.Tensor  # (R,) the clip of each row
    num_clips: int
    keep: torch.Tensor | None  # (B * N,) bool, None where every item is real


def select_rows(values: torch.Tensor, attention_mask: torch.Tensor | None) -> Rows:
    """`values` (B, N, ...) and `attention_mask` (B, N), 1 = real -> [`Rows`]."""
    B, N = values.shape[:2]
    flat = values.flatten(0, 1)
    clip_index = torch.arange(B, device=values.device).repeat_interleave(N)
    if attention_mask is None:
        return Rows(flat, clip_index, B, None)
    check_attention_mask(attention_mask, values)
    keep = attention_mask.flatten().bool()
    rows = flat[keep]
    if len(rows) == 0:
        raise ValueError(f"the attention mask of {B} clips is 0 everywhere; at least one real item is needed.")
    return Rows(rows, clip_index[keep], B, keep)


def in_pieces(network: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor, size: int) -> torch.Tensor:
    """
    `network` of independent `rows` (R, ...); on a processor `size` of them at a time, so that what one layer leaves the next
    finds in the cache.
    """
    # A tracer would write down every piece, and takes a number of rows that it is asked for as the only one.
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or rows.device.type != "cpu" or len(rows) <= size:
        return network(rows)
    return torch.cat([network(piece) for piece in rows.split(size)])


def rapid_tanh(hidden: torch.Tensor) -> torch.Tensor:
    """
    tanh to 2e-7, for what is only compared in the end, such as latents with code vectors; without gradient. Where torch's is
    slow, in float32 on a processor, it goes by way of the logistic function, four times as fast.
    """
    fast = hidden.device.type == "cpu" and hidden.dtype == torch.float32
    if not fast or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return torch.tanh(hidden)
    return torch.mul(hidden, 2).sigmoid_().mul_(2).sub_(1)


def check_attention_mask(attention_mask: torch.Tensor, values: torch.Tensor) -> None:
    """Refuses a mask that has not one number for each item of `values` (B, N, ...)."""
    B, N = values.shape[:2]
    if attention_mask.shape != (B, N):
        raise ValueError(
            f"the attention mask has shape {tuple(attention_mask.shape)}; values of shape {tuple(values.shape)} need "
            f"({B}, {N}), 1 for real items and 0 for padding."
        )


def restore_rows(rows: torch.Tensor, keep: torch.Tensor | None, shape: tuple[int, ...]) -> torch.Tensor:
    """Rows (R, ...) back in their places of a tensor of `shape` (B, N, ...), zeros in those of the padding."""
    if keep is None:
        return rows.reshape(shape)
    flat = rows.new_zeros((keep.shape[0], *rows.shape[1:]))
    flat[keep] = rows
    return flat.reshape(shape)


def check_codes(codes: torch.Tensor, codebook_size: int, name: str) -> None:
    """Refuses anything but integer codes and, on the CPU, codes that the codebook does not have."""
    if codes.is_floating_point() or codes.dtype == torch.bool:
        raise ValueError(
            f"{name} has dtype {codes.dtype}; integer codes in [0, {codebook_size}) are accepted. `encode` makes them."
        )
    # On an accelerator the check would wait for the device, and a compiler cannot trace it.
    if codes.device.type == "cpu" and not torch.compiler.is_compiling() and codes.numel():
        lowest, highest = codes.long().aminmax()  # torch has no minimum of uint16
        if lowest < 0 or highest >= codebook_size:
            raise ValueError(
                f"{name} holds codes from {lowest} to {highest}; 0 to {codebook_size - 1} are accepted. Were they made by "
                "another tokenizer?"
            )


def init_tokenizer_weights(module: nn.Module) -> None:
    """
    Convolutions as torch starts them (uniform within 1 / sqrt(fan-in), which keeps the scale of tanh and ReLU stacks),
    the codebook standard normal, batch normalisation at the identity.
    """
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)):
        fan_in = module.weight.shape[1] * math.prod(module.kernel_size)
        bound = 1 / math.sqrt(fan_in)
        init.uniform_(module.weight, -bound, bound)
        if module.bias is not None:
            init.uniform_(module.bias, -bound, bound)
    elif isinstance(module, nn.BatchNorm1d):
        init.ones_(module.weight)
        init.zeros_(module.bias)
        init.zeros_(module.get_buffer("running_mean"))
        init.ones_(module.get_buffer("running_var"))
        init.zeros_(module.get_buffer("num_batches_tracked"))
    elif isinstance(module, VectorQuantizer):
        module.reset_parameters()
