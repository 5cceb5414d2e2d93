"""
The vector quantizer of both tokenizers ([AV] and [MD], VQ-VAE), with a codebook learned by exponential moving average.

Letters: N rows, d numbers per row, K codes.
"""

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init

from .across_processes import counts_by_process, num_processes, sum_over_processes


class QuantizerOutput(NamedTuple):
    """What quantization yields; scalars are tensors, so that reading them is the caller's decision."""

    quantized: torch.Tensor  # (N, d) code vectors, with the straight-through gradient to the latents
    codes: torch.Tensor  # (N,) int64
    loss: torch.Tensor  # () commitment loss, plus the codebook loss where the codebook is learned by gradient
    # In training, this batch is that of all processes.
    perplexity: torch.Tensor  # () exp(entropy of the usage of the codes in this batch), between 1 and K
    code_usage: torch.Tensor  # () share of the codes that this batch used, between 0 and 1


class VectorQuantizer(nn.Module):
    r"""
    Replaces each row by the nearest of K code vectors.

    `code = argmin_k ||z - e_k||^2`; straight-through gradient `z_q = z + sg(e - z)`; loss
    `beta * mean((sg(e) - z)^2)`. In training mode the codebook follows its rows by exponential moving average
    (`N <- decay N + (1 - decay) counts`, Laplace-smoothed; `M <- decay M + (1 - decay) sum of assigned z`; `e = M / N`),
    with counts and sums added over all processes. It moves once per training *forward*, hence, under gradient
    accumulation, several times per optimizer step. With `ema_decay=0` it is learned by the gradient of
    `mean((e - sg(z))^2)` instead. All arithmetic is in float32 whatever the autocast.

    Args:
        codebook_size (`int`): K.
        codebook_dim (`int`): d.
        commitment_cost (`float`): beta.
        ema_decay, ema_epsilon (`float`): of the moving average.
        dead_code_threshold (`float`): codes used less than this fraction of uniform usage are moved onto rows of the
            current batch; 0 leaves them where they are.
        max_distances (`int`): numbers that the (rows x K) table of distances may hold at once; by default as many as the
            cache of a processor core holds, or enough to keep an accelerator busy.
    """

    cluster_size: torch.Tensor
    embedding_sum: torch.Tensor
    average_started: torch.Tensor

    def __init__(
        self,
        codebook_size: int,
        codebook_dim: int,
        commitment_cost: float = 0.25,
        ema_decay: float = 0.99,
        ema_epsilon: float = 1e-5,
        dead_code_threshold: float = 0.0,
        max_distances: int | None = None,
    ):
        super().__init__()
        self.codebook_size = codebook_size
        self.codebook_dim = codebook_dim
        self.commitment_cost = commitment_cost
        self.ema_decay = ema_decay
        self.ema_epsilon = ema_epsilon
        self.dead_code_threshold = dead_code_threshold
        self.max_distances = max_distances
        # A Parameter, so that its random initialisation survives building the model on the meta device.
        self.codebook = nn.Parameter(torch.empty(codebook_size, codebook_dim), requires_grad=ema_decay == 0)
        # N starts at 1 and M at the codebook: from N = 0 the first unused code would be thrown to a norm of 1e5. M takes
        # its start at the first step (buffers need a deterministic initial value, the codebook has none).
        self.register_buffer("cluster_size", torch.ones(codebook_size))
        self.register_buffer("embedding_sum", torch.zeros(codebook_size, codebook_dim))
        self.register_buffer("average_started", torch.tensor(False))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Standard normal code vectors; statistics at their start."""
        init.normal_(self.codebook)
        init.ones_(self.cluster_size)
        init.zeros_(self.embedding_sum)
        init.zeros_(self.average_started)

    def train(self, mode: bool = True) -> "VectorQuantizer":
        """Training mode, with a codebook of averages out of the gradient: `from_pretrained`, which ends in `eval`, makes
        every parameter it loads trainable."""
        if self.ema_decay > 0:
            self.codebook.requires_grad_(False)
        return super().train(mode)

    def forward(self, latents: torch.Tensor) -> QuantizerOutput:
        """`latents` (N, d) -> [`QuantizerOutput`]; in training mode the codebook moves as a side effect."""
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents.float()
            codes = self.nearest_codes(latents)
            embedded = self.embed(codes)
            loss = self.commitment_cost * F.mse_loss(latents, embedded.detach())
            if self.ema_decay == 0:
                loss = loss + F.mse_loss(embedded, latents.detach())
            counts = self.count_codes(codes)
            if self.training:
                counts = sum_over_processes(counts)
            if self.training and self.ema_decay > 0:
                self.update_codebook(latents.detach(), codes, counts)
            usage = counts / counts.sum().clamp(min=1)
            return QuantizerOutput(
                quantized=latents + (embedded - latents).detach(),
                codes=codes,
                loss=loss,
                perplexity=torch.exp(-torch.xlogy(usage, usage).sum()),
                code_usage=(counts > 0).float().mean(),
            )

    @torch.no_grad()
    def nearest_codes(self, latents: torch.Tensor) -> torch.Tensor:
        """Nearest code of each row: `latents` (N, d) -> (N,) int64. Holds at most `max_distances` distances at once."""
        with torch.autocast(latents.device.type, enabled=False):
            max_distances = self.max_distances or (2**18 if latents.device.type == "cpu" else 2**25)
            rows = max(1, max_distances // self.codebook_size)
            chunks = [self.nearest_codes_at_once(chunk) for chunk in latents.float().split(rows)]
        return torch.cat(chunks)

    @torch.no_grad()
    def nearest_codes_at_once(self, latents: torch.Tensor) -> torch.Tensor:
        """`nearest_codes` of float32 `latents` (N, d) from one table of (N, K) distances: nothing depends on how many."""
        codebook = self.codebook.float()
        # ||z - e||^2 without ||z||^2, which is the same for every code.
        return torch.addmm(codebook.square().sum(dim=1), latents, codebook.T, alpha=-2).argmin(dim=1)

    def embed(self, codes: torch.Tensor) -> torch.Tensor:
        """Code vectors: `codes` (...) int64 -> (..., d)."""
        return F.embedding(codes, self.codebook)

    def straight_through(self, latents: torch.Tensor) -> torch.Tensor:
        """The nearest code vectors of `latents` (..., d), same shape, with the gradient of the identity."""
        codes = self.nearest_codes(latents.reshape(-1, latents.shape[-1])).view(latents.shape[:-1])
        return latents + (self.embed(codes).to(latents.dtype) - latents).detach()

    def count_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """How often each code occurs: `codes` (N,) -> (K,) float32."""
        ones = torch.ones_like(codes, dtype=torch.float32)
        return torch.zeros(self.codebook_size, device=codes.device).index_add(0, codes, ones)

    @torch.no_grad()
    def update_codebook(self, latents: torch.Tensor, codes: torch.Tensor, counts: torch.Tensor) -> None:
        """One step of the moving average: `latents` (N, d) of this process, their `codes` (N,), `counts` (K,) over all."""
        sums = torch.zeros_like(self.embedding_sum, dtype=torch.float32).index_add_(0, codes, latents)
        sums = sum_over_processes(sums)
        # `.bool()`: loading in half precision turns all of a module kept in float32 into float32.
        start = torch.where(self.average_started.bool(), self.embedding_sum.float(), self.codebook.float())
        cluster_size = self.ema_decay * self.cluster_size + (1 - self.ema_decay) * counts
        total = cluster_size.sum()
        cluster_size = (cluster_size + self.ema_epsilon) / (total + self.codebook_size * self.ema_epsilon) * total
        embedding_sum = self.ema_decay * start + (1 - self.ema_decay) * sums
        if self.dead_code_threshold > 0:
            cluster_size, embedding_sum = self.revive_dead_codes(latents, cluster_size, embedding_sum)
        self.cluster_size.copy_(cluster_size)
        self.embedding_sum.copy_(embedding_sum)
        self.average_started.fill_(True)
        self.codebook.copy_(embedding_sum / cluster_size.unsqueeze(1))

    def revive_dead_codes(
        self, latents: torch.Tensor, cluster_size: torch.Tensor, embedding_sum: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Moves dead codes onto random rows of the batch of all processes, with uniform usage as their start.

        `latents` (N, d), `cluster_size` (K,), `embedding_sum` (K, d) -> the two statistics after the move.
        """
        uniform_usage = cluster_size.mean()
        dead = cluster_size < self.dead_code_threshold * uniform_usage  # (K,)
        replacements = draw_latents(latents, self.codebook_size)
        cluster_size = torch.where(dead, uniform_usage, cluster_size)
        embedding_sum = torch.where(dead.unsqueeze(1), replacements * uniform_usage, embedding_sum)
        return cluster_size, embedding_sum


def draw_latents(latents: torch.Tensor, count: int) -> torch.Tensor:
    """`count` random rows, with replacement, of the `latents` (N, d) of all processes, the same in each: (count, d)."""
    if num_processes() == 1:
        return latents[torch.randint(len(latents), (count,), device=latents.device)]
    sizes = counts_by_process(len(latents), latents.device)
    rows = torch.randint(int(sizes.sum()), (count,), device=latents.device)
    dist.broadcast(rows, src=0)  # the processes' own generators need not agree
    rows = rows - sizes[: dist.get_rank()].sum()
    here = (rows >= 0) & (rows < len(latents))
    return sum_over_processes(torch.where(here.unsqueeze(1), latents[rows.clamp(0, len(latents) - 1)], 0))
