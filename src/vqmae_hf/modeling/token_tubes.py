"""
Codes <-> tubes ([AV], space-time tubes of indices): pure functions that invert each other.

Letters: B clips, S spectra, T frames, C codes per spectrum, G x G codes per frame, L tubes, P codes per tube; lower-case
letters are the extents of one tube.
"""

from collections.abc import Sequence

import torch


def audio_codes_to_tubes(codes: torch.Tensor, tube_size: Sequence[int]) -> torch.Tensor:
    """
    `codes` (B, S, C), tubes of (spectra, codes) -> (B, L, P).

    Tubes are ordered in time, then frequency; inside a tube frequency comes first, then time.
    """
    B, S, C = codes.shape
    s, c = tube_size
    blocks = codes.reshape(B, S // s, s, C // c, c)
    return blocks.permute(0, 1, 3, 4, 2).reshape(B, -1, c * s)


def audio_tubes_to_codes(tubes: torch.Tensor, grid: Sequence[int], tube_size: Sequence[int]) -> torch.Tensor:
    """The inverse: `tubes` (B, L, P), `grid` of tubes (times, bands) -> (B, S, C)."""
    times, bands = grid
    s, c = tube_size
    blocks = tubes.reshape(-1, times, bands, c, s)
    return blocks.permute(0, 1, 4, 2, 3).reshape(-1, times * s, bands * c)


def visual_codes_to_tubes(codes: torch.Tensor, tube_size: Sequence[int]) -> torch.Tensor:
    """
    `codes` (B, T, G, G), tubes of (frames, rows, columns) -> (B, L, P).

    Tubes are ordered in time, then rows, then columns; inside a tube rows come first, then columns, then time.
    """
    B, T, rows, columns = codes.shape
    t, r, c = tube_size
    blocks = codes.reshape(B, T // t, t, rows // r, r, columns // c, c)
    return blocks.permute(0, 1, 3, 5, 4, 6, 2).reshape(B, -1, r * c * t)


def visual_tubes_to_codes(tubes: torch.Tensor, grid: Sequence[int], tube_size: Sequence[int]) -> torch.Tensor:
    """The inverse: `tubes` (B, L, P), `grid` of tubes (times, rows, columns) -> (B, T, G, G)."""
    times, rows, columns = grid
    t, r, c = tube_size
    blocks = tubes.reshape(-1, times, rows, columns, r, c, t)
    return blocks.permute(0, 1, 6, 2, 4, 3, 5).reshape(-1, times * t, rows * r, columns * c)
