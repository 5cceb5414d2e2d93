"""
Which tubes the encoder sees ([AV], coupled masking; [S], masking strategies).

Everywhere True means masked: hidden from the encoder, predicted by the decoder.
Letters: B clips, L tubes of one modality, V visible tubes, M masked tubes.
"""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import torch

from .across_processes import draw_rows

MASK_STRATEGIES = ("random", "frame", "frequency")


class TubeMasking(NamedTuple):
    """
    One modality's masking. Rows of the two index lists may be padded where clips hide different numbers of tubes; the
    `_real` tensors say where, and are None where every entry counts.
    """

    mask: torch.Tensor  # (B, L) bool, True = masked
    visible_ids: torch.Tensor  # (B, V) int64
    masked_ids: torch.Tensor  # (B, M) int64
    visible_real: torch.Tensor | None = None  # (B, V) bool
    masked_real: torch.Tensor | None = None  # (B, M) bool


def draw_ratios(
    dirichlet_alpha: Sequence[float], coupled: bool = True, generator: torch.Generator | None = None
) -> tuple[float, float]:
    """
    Masking ratios (visual, audio) ~ Dirichlet(alpha), which sum to 1: what one modality hides, the other shows ([AV],
    coupled masking). If not `coupled`, both have the same distributions, Beta(alpha), and nothing to do with each other.

    Drawn on the CPU, once for a batch, from `generator` or the default one.
    """
    device = generator.device if generator is not None else torch.device("cpu")
    alpha = torch.tensor([list(dirichlet_alpha)] * (1 if coupled else 2), dtype=torch.float64, device=device)
    # What torch.distributions.Dirichlet samples with; that class takes no generator.
    draws = torch._sample_dirichlet(alpha, generator=generator)
    return float(draws[0, 0]), float(draws[-1, 1])


def count_visible(num_tubes: int, ratio: float, at_least: int = 1) -> int:
    """Tubes that stay visible: `num_tubes * (1 - ratio)`, rounded half to even, and `at_least` 1."""
    return min(num_tubes, max(at_least, round(num_tubes * (1 - ratio))))


def random_masking(
    batch_size: int,
    grid: Sequence[int],
    ratio: float,
    strategy: str = "random",
    real: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> TubeMasking:
    """
    A random permutation per clip, of which the first part stays visible ([AV], random masking).

    Args:
        batch_size (`int`): B.
        grid (`Sequence[int]`): tubes along time, then along the other axes; L is their product.
        ratio (`float`): masked fraction.
        strategy (`str`): `"random"` hides single tubes, `"frame"` all tubes of a time step, `"frequency"` one frequency
            band (audio) or image position (visual) at all times.
        real (`torch.BoolTensor` of shape `(B, L)`, *optional*): tubes that are no padding. The ratio applies to all L,
            and at least one visible tube of a clip is a real one.
        generator (`torch.Generator`, *optional*): drawn from on its own device.
        device: of the result.

    Returns:
        [`TubeMasking`].
    """
    if strategy not in MASK_STRATEGIES:
        raise ValueError(f"mask strategy {strategy!r} is unknown; {MASK_STRATEGIES} are accepted.")
    times, positions = grid[0], prod(grid[1:])
    # Tubes laid out as two axes; those along the axis `shared` are hidden together.
    layout, shared = {
        "random": ((times * positions, 1), 1),
        "frame": ((times, positions), 1),
        "frequency": ((times, positions), 0),
    }[strategy]
    groups = layout[1 - shared]
    noise_device = generator.device if generator is not None else device
    noise = draw_rows(torch.rand, (batch_size, groups), generator, noise_device).to(device)
    if real is not None:
        real_group = real.view(-1, *layout).any(dim=1 + shared)  # (B, groups)
        first = noise.masked_fill(~real_group, 2.0).argmin(dim=1, keepdim=True)
        noise = noise.scatter(1, first, -1.0)

    keep = count_visible(groups, ratio)
    visible = noise.argsort(dim=1, stable=True)[:, :keep]
    mask = torch.ones_like(noise, dtype=torch.bool).scatter(1, visible, False)  # (B, groups)
    mask = mask.unsqueeze(1 + shared).expand(-1, *layout).flatten(1)  # (B, L)
    order = mask.long().argsort(dim=1, stable=True)  # visible tubes first, each part in the order of the clip
    num_visible = keep * layout[shared]
    return TubeMasking(mask, order[:, :num_visible], order[:, num_visible:])


def explicit_masking(mask: torch.Tensor) -> TubeMasking:
    """
    The masking of a boolean `mask` (B, L), True = masked. Clips may hide different numbers of tubes, and even all.

    The widths of the index lists are read off the mask, which waits for the device once.
    """
    visible_counts = (~mask).sum(dim=1, keepdim=True)  # (B, 1)
    most, fewest = torch.stack([visible_counts.amax(), visible_counts.amin()]).tolist()
    order = mask.long().argsort(dim=1, stable=True)  # visible tubes first, each part in the order of the clip
    visible_ids, masked_ids = order[:, :most], order[:, fewest:]
    if most == fewest:
        return TubeMasking(mask, visible_ids, masked_ids)
    place = torch.arange(mask.shape[1], device=mask.device)
    return TubeMasking(mask, visible_ids, masked_ids, place[:most] < visible_counts, place[fewest:] >= visible_counts)


def gather_tubes(tubes: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """The tubes of `ids`: (B, L, ...), (B, V) -> (B, V, ...)."""
    index = ids.reshape(*ids.shape, *[1] * (tubes.dim() - 2)).expand(*ids.shape, *tubes.shape[2:])
    return tubes.gather(1, index)
