"""
The losses of both papers, as functions of tensors.

Letters: B clips, N rows, K codes (classes of the code heads), d numbers per code, C emotion classes.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from .across_processes import batch_share, counts_by_process, num_processes, sum_over_processes, sum_with_gradient

IGNORED = -100  # a target that takes no part in a loss, as everywhere in torch


def itakura_saito(target: torch.Tensor, prediction: torch.Tensor, epsilon: float = 1e-10) -> torch.Tensor:
    """
    Itakura-Saito divergence of power spectra, number by number ([AV] and [MD]): `x / y - log(x / y) - 1` with `epsilon`
    added to both. `target`, `prediction`: same shape, non-negative -> that shape, float32.
    """
    ratio = (target.float() + epsilon) / (prediction.float() + epsilon)
    return ratio - torch.log(ratio) - 1


def itakura_saito_divergence(target: torch.Tensor, prediction: torch.Tensor, epsilon: float = 1e-10) -> torch.Tensor:
    """Mean of [`itakura_saito`] over all elements ([AV] and [MD], audio VQ-VAE loss) -> ()."""
    return itakura_saito(target, prediction, epsilon).mean()


class _LinearCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of a linear head that never holds more than one chunk of its logits.

    The gradients are made in the forward pass, chunk by chunk, while the logits are in the cache; the backward pass only
    scales them. Half of the arithmetic of recomputing, and a K/d-th of the memory of keeping. Whatever can be done to the
    rows of d numbers is done to them, not to the logits: the bias is one more column, which meets a one, and rows that do
    not count are left out of the gradients after their logits have met the weight.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, targets: torch.Tensor, rows: int
    ) -> torch.Tensor:
        needs_gradient = any(ctx.needs_input_grad[:3])
        real = (targets != IGNORED).unsqueeze(1)  # (N, 1)
        counted = real.sum().clamp(min=1)
        labels = targets.clamp(min=0).unsqueeze(1)
        inputs = F.pad(hidden, (0, 1), value=1.0)  # (N, d + 1)
        weights = torch.cat([weight, bias.unsqueeze(1)], dim=1).t().contiguous()  # (d + 1, K)
        total = hidden.new_zeros(())
        grad_inputs, grad_weights = inputs.new_empty(inputs.shape if needs_gradient else 0), torch.zeros_like(weights)
        for start in range(0, len(inputs), rows):
            chunk = slice(start, start + rows)
            logits = inputs[chunk] @ weights
            probabilities = torch.softmax(logits, dim=1)
            # The softmax has added up the exponentials already; its largest is at least 1 / K.
            log_sum = logits.amax(dim=1, keepdim=True) - probabilities.amax(dim=1, keepdim=True).log()
            losses = log_sum - logits.gather(1, labels[chunk])
            total = total + torch.where(real[chunk], losses, 0).sum()
            if needs_gradient:
                gradient = probabilities.scatter_add_(1, labels[chunk], losses.new_full((), -1.0).expand_as(losses))
                grad_inputs[chunk] = gradient @ weights.t()
                grad_weights += torch.where(real[chunk], inputs[chunk], 0).t() @ gradient
        if needs_gradient:
            grad_inputs = torch.where(real, grad_inputs, 0) / counted
            grad_weights = (grad_weights / counted).t()
        ctx.save_for_backward(grad_inputs, grad_weights)
        return total / counted

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[Any, ...]:
        grad_inputs, grad_weights = (grad_output * gradient for gradient in ctx.saved_tensors)
        return grad_inputs[:, :-1], grad_weights[:, :-1], grad_weights[:, -1], None, None


def linear_cross_entropy(
    hidden: torch.Tensor, head: nn.Linear, targets: torch.Tensor, max_logits: int | None = None
) -> torch.Tensor:
    """
    Mean cross-entropy of `head(hidden)` without its logits ever being held at once ([AV], code losses).

    Args:
        hidden (`torch.Tensor` of shape `(N, d)`): inputs of the head.
        head (`nn.Linear`): d -> K, with bias.
        targets (`torch.LongTensor` of shape `(N,)`): codes; -100 for rows that do not count.
        max_logits (`int`): logits held at a time; by default as many as the cache of a processor core holds, or enough to
            keep an accelerator busy. Arithmetic is in float32 whatever the autocast.

    Returns:
        `()`; 0 where no row counts.
    """
    if max_logits is None:
        max_logits = 2**18 if hidden.device.type == "cpu" else 2**25
    with torch.autocast(hidden.device.type, enabled=False):
        rows = max(1, max_logits // head.out_features)
        return _LinearCrossEntropy.apply(hidden.float(), head.weight.float(), head.bias.float(), targets, rows)


def info_nce(
    visual_global: torch.Tensor,
    audio_global: torch.Tensor,
    temperature: float,
    real: torch.Tensor | None = None,
    gather: bool = True,
) -> torch.Tensor:
    """
    Symmetric NT-Xent between the two modalities of a clip ([AV], contrastive loss).

    Each of the 2B vectors looks for the other modality of its own clip among all other vectors, by cosine similarity over
    `temperature`; mean over the 2B. Under torch.distributed the vectors of all processes are the candidates, and the average
    over the processes, however many clips each has, is the loss of all clips in one.

    Args:
        visual_global, audio_global (`torch.Tensor` of shape `(B, D)`).
        real (`torch.BoolTensor` of shape `(B,)`): clips that have both modalities; the others are neither asked nor
            candidates.
        gather (`bool`): whether the processes exchange their vectors; then all of them must be here.

    Returns:
        `()`; 0 where no clip has both.
    """
    B = visual_global.shape[0]
    with torch.autocast(visual_global.device.type, enabled=False):
        vectors = F.normalize(torch.cat([visual_global, audio_global]).float(), dim=1)  # (2B, D)
        real = torch.ones(B, dtype=torch.bool, device=vectors.device) if real is None else real
        real = torch.cat([real, real])
        gather = gather and num_processes() > 1
        candidates, real_candidates, offset = _gather_candidates(vectors, real) if gather else (vectors, real, 0)
        similarity = vectors @ candidates.T / temperature  # (2B, W 2B)
        own = torch.arange(2 * B, device=vectors.device)
        itself = F.one_hot(own + offset, candidates.shape[0]).bool()
        similarity = similarity.masked_fill(itself | ~real_candidates, torch.finfo(similarity.dtype).min)
        positive = (own + B) % (2 * B) + offset
        losses = F.cross_entropy(similarity, positive, reduction="none")
        loss = torch.where(real, losses, 0).sum() / real.sum().clamp(min=1)
        return loss * batch_share(real.sum(), vectors.device) if gather else loss


def _gather_candidates(vectors: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Vectors of all processes, with gradient, which of them are real, and where this process's own begin."""
    most = int(counts_by_process(len(vectors), vectors.device).max())  # waits for the device: shapes must agree
    rank, missing = dist.get_rank(), most - len(vectors)
    # Each process has a place in a sum of zeros, through which gradients come back.
    places = F.one_hot(torch.tensor(rank, device=vectors.device), num_processes())
    padded = places[:, None, None] * F.pad(vectors, (0, 0, 0, missing))  # (W, most, D)
    padded_real = places[:, None] * F.pad(real, (0, missing))  # (W, most)
    candidates, real_candidates = sum_with_gradient(padded), sum_over_processes(padded_real)
    return candidates.flatten(0, 1), real_candidates.flatten().bool(), rank * most


def asymmetric_single_label_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    gamma_positive: float = 0.0,
    gamma_negative: float = 4.0,
    label_smoothing: float = 0.1,
) -> torch.Tensor:
    """
    Asymmetric loss for one label per clip ([AV], fine-tuning loss): cross-entropy whose log-probabilities are weighted by
    `(1 - p)^gamma_positive` for the true class and `p^gamma_negative` for the others, with smoothed targets.

    Args:
        logits (`torch.Tensor` of shape `(B, C)`).
        labels (`torch.LongTensor` of shape `(B,)`, or `torch.FloatTensor` of shape `(B, C)`): class indices, or, for mixed
            clips, the share of each class, which then counts by its share.

    Returns:
        `()`, mean over the batch.
    """
    classes = logits.shape[1]
    log_probabilities = F.log_softmax(logits.float(), dim=1)
    probabilities = log_probabilities.exp()
    as_label = log_probabilities * (1 - probabilities).pow(gamma_positive)  # (B, C)
    as_other = log_probabilities * probabilities.pow(gamma_negative)
    others = as_other.sum(dim=1, keepdim=True) - as_other
    smoothing = label_smoothing / classes
    losses = -((1 - label_smoothing + smoothing) * as_label + smoothing * others)  # (B, C) if that class is the label
    shares = labels if labels.is_floating_point() else F.one_hot(labels, classes)
    return (shares * losses).sum(dim=1).mean()
