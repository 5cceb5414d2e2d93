"""
Linear layers whose larger float32 products go to oneDNN on processors.

torch gives them to the BLAS it was built with. On AMD EPYC (2 threads, torch 2.13, MKL) oneDNN was 1.2 to 1.4 times as fast
at the sizes of these models, 1.8 times at the 60 frames of one clip; gradients of weights were not, and stay there. Results
differ by rounding only.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

PLAIN = (torch.Tensor, nn.Parameter)
SMALLEST = 2**22  # multiplications; below, calling oneDNN costs more than it saves


class Linear(nn.Linear):
    """`nn.Linear`, by [`linear`]."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return linear([input], self.weight, self.bias)


def linear(parts: Sequence[torch.Tensor], weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`F.linear` of the concatenation of `parts`, each (..., D_i): weight (D', D), bias (D',) -> (..., D')."""
    if not goes_to_onednn(parts, weight):
        return F.linear(joined(parts), weight, bias)
    if torch.is_grad_enabled():
        return _Product.apply(_Gradients.apply(weight, bias, *parts), weight, bias, *parts)
    return onednn_product(joined(parts), weight, bias)


def joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """The concatenation along the last axis."""
    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts), dim=-1)


def goes_to_onednn(parts: Sequence[torch.Tensor], weight: torch.Tensor) -> bool:
    """Whether oneDNN is there for these plain float32 tensors, and worth it. Compilers and exports choose for themselves."""
    return (
        weight.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch.is_autocast_enabled("cpu")
        and parts[0].shape[:-1].numel() * weight.numel() >= SMALLEST
        # neither sharded nor quantized
        and all(type(tensor) in PLAIN and tensor.dtype == torch.float32 for tensor in (weight, *parts))
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def onednn_product(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`F.linear` by the operation that torch's compiler takes for it on processors; it has no gradient."""
    if not (weight.is_contiguous() or weight.t().is_contiguous()):  # other strides would take a thousand times as long
        weight = weight.contiguous()
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")


class _Gradients(torch.autograd.Function):
    """
    The way back of the product, without the product: what stands for it has its shape and no memory.

    Two steps, because a checkpoint that makes activations again stops at the last one that is kept, and a single function
    keeps its own when it is done: each product would be repeated.
    """

    @staticmethod
    def forward(weight: torch.Tensor, bias: torch.Tensor | None, *parts: torch.Tensor) -> torch.Tensor:
        return weight.new_empty(()).expand(*parts[0].shape[:-1], weight.shape[0])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        weight, _, *parts = inputs
        ctx.save_for_backward(weight, *parts)

    @staticmethod
    def backward(ctx: Any, *d_outputs: torch.Tensor) -> Any:
        (d_output,), (weight, *parts) = d_outputs, ctx.saved_tensors
        for_weight, for_bias, *for_parts = ctx.needs_input_grad
        rows = d_output.flatten(0, -2)
        with torch.autocast("cpu", enabled=False):  # as the product was
            d_weight = rows.t() @ joined(parts).flatten(0, -2) if for_weight else None
            blocks = weight.split([part.shape[-1] for part in parts], dim=1)
            d_parts = [
                linear([d_output], block.t()) if wanted else None
                for block, wanted in zip(blocks, for_parts, strict=True)
            ]
        return d_weight, rows.sum(dim=0) if for_bias else None, *d_parts


class _Product(torch.autograd.Function):
    """The product, whose gradient goes back to what stands for it."""

    @staticmethod
    def forward(
        stand_in: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *parts: torch.Tensor
    ) -> torch.Tensor:
        return onednn_product(joined(parts), weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.num_others = len(inputs) - 1

    @staticmethod
    def backward(ctx: Any, *d_outputs: torch.Tensor) -> Any:
        return d_outputs[0], *[None] * ctx.num_others
