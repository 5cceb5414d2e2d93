"""
What makes the batch of several processes one batch: sums over all of them, means that count every item once, and noise that
a clip gets in whichever process it is.

In one process, and outside of torch.distributed, all of it does nothing and costs nothing.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.distributed as dist


def num_processes() -> int:
    """Processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@torch.no_grad()
def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor of the same shape in every process, without gradient; itself in one process."""
    if num_processes() == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total


class _SumWithGradient(torch.autograd.Function):
    """What every process puts into the sum, the sum hands out to every process: its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        return sum_over_processes(values)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return sum_over_processes(gradient.contiguous())


def sum_with_gradient(values: torch.Tensor) -> torch.Tensor:
    """`sum_over_processes`, through which gradients come back from all processes."""
    return values if num_processes() == 1 else cast(torch.Tensor, _SumWithGradient.apply(values))


def counts_by_process(count: int, device: torch.device) -> torch.Tensor:
    """The counts (number of processes,) int64 of all processes, by rank."""
    counts = torch.zeros(num_processes(), dtype=torch.int64, device=device)
    counts[dist.get_rank() if len(counts) > 1 else 0] = count
    return sum_over_processes(counts)


def batch_share(count: torch.Tensor | int, device: torch.device) -> torch.Tensor | float:
    """
    What to multiply a mean over `count` items of this process with, so that the average over the processes, which is what
    DistributedDataParallel makes of their gradients, is the mean over the items of all processes: 1 where all have equally
    many. All processes must ask.

    Args:
        count: items of this process, or the sum of their weights; may be 0. Several counts of any shape are asked at once.
        device: where the sum over the processes is made.
    """
    if num_processes() == 1:
        return 1.0
    own = torch.as_tensor(count, dtype=torch.float32, device=device)
    return own * num_processes() / sum_over_processes(own).clamp(min=torch.finfo(torch.float32).tiny)


class BatchRowsGenerator(torch.Generator):
    """
    A generator, on the CPU, of a process that has some rows of a batch: it draws the numbers of the whole batch, as the
    other processes do, and yields its own. `draw_rows` does so.

    Args:
        start: number of the first row of this process.
        num_rows: rows of the whole batch.
    """

    def __new__(cls, start: int, num_rows: int) -> "BatchRowsGenerator":
        return super().__new__(cls)

    def __init__(self, start: int, num_rows: int):
        self.start = start
        self.num_rows = num_rows

    def __reduce__(self) -> tuple[Any, ...]:  # from the workers of a loader
        return _restore, (self.start, self.num_rows, self.get_state())


def _restore(start: int, num_rows: int, state: torch.Tensor) -> BatchRowsGenerator:
    generator = BatchRowsGenerator(start, num_rows)
    generator.set_state(state)
    return generator


def draw_rows(
    draw: Callable[..., torch.Tensor],
    shape: tuple[int, ...],
    generator: torch.Generator | None,
    device: torch.device | str,
) -> torch.Tensor:
    """`draw` (`torch.rand` or `torch.randn`) of a shape that begins with clips, the rows of this process alone."""
    if not isinstance(generator, BatchRowsGenerator):
        return draw(shape, generator=generator, device=device)
    whole = draw((generator.num_rows, *shape[1:]), generator=generator, device=device)
    return whole[generator.start : generator.start + shape[0]]
