"""
Clips of unequal length as one tensor, and long clips as windows: what the processors share.

Letters: B clips, W windows, L steps of a clip (frames or spectra). A mask is 1 where a step is real, 0 where it is padding.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import BatchFeature
from transformers.utils import PaddingStrategy, TensorType

# What error messages tell people to call: nothing in this folder opens a media file.
CLIP_LOADER = "vqmae_hf.data.clips.load_clip(path)"


class PaddedClips(NamedTuple):
    """`values` (B, L, ...) and `mask` (B, L) int64; lists of (L_b, ...) and (L_b,) when nothing was padded."""

    values: Tensor | list[Tensor]
    mask: Tensor | list[Tensor]


class WindowPlan(NamedTuple):
    """Where windows lie: `clip_index` (W,) int64, `starts` (W,) int64 in steps from the beginning of that clip."""

    clip_index: Tensor
    starts: Tensor


def pad_clips(
    clips: Sequence[Tensor],
    *,
    window: int,
    padding: bool | str | PaddingStrategy = "max_length",
) -> PaddedClips:
    """
    Stack clips, tensors (L_b, ...), on a new first axis, continued with zeros where they are short.

    `padding="max_length"` pads to `window` steps, or to the longest clip where that is longer; `True` or `"longest"`
    to the longest clip; `False` or `"do_not_pad"` leaves a list. Nothing is ever cut off.
    """
    strategy = padding_strategy(padding)
    if strategy is PaddingStrategy.DO_NOT_PAD:
        return PaddedClips(list(clips), [torch.ones(len(clip), dtype=torch.long) for clip in clips])
    length = max(len(clip) for clip in clips)
    if strategy is PaddingStrategy.MAX_LENGTH:
        length = max(length, window)
    values = clips[0].new_zeros(len(clips), length, *clips[0].shape[1:])
    mask = torch.zeros(len(clips), length, dtype=torch.long)
    for row, clip in enumerate(clips):
        values[row, : len(clip)] = clip
        mask[row, : len(clip)] = 1
    return PaddedClips(values, mask)


def padding_strategy(padding: bool | str | PaddingStrategy | None) -> PaddingStrategy:
    """The strategy that `padding` names, as everywhere in transformers."""
    if isinstance(padding, bool) or padding is None:
        return PaddingStrategy.LONGEST if padding else PaddingStrategy.DO_NOT_PAD
    try:
        return PaddingStrategy(padding)
    except ValueError as error:
        accepted = ", ".join(repr(strategy.value) for strategy in PaddingStrategy)
        raise ValueError(f"padding={padding!r}: accepted are True, False, {accepted}.") from error


def tensor_type(return_tensors: str | TensorType | None) -> TensorType | None:
    """The kind of tensors that `return_tensors` names, as everywhere in transformers."""
    try:
        return None if return_tensors is None else TensorType(return_tensors)
    except ValueError as error:
        raise ValueError(f"return_tensors={return_tensors!r}: accepted are 'pt', 'np' and None.") from error


def batch_feature(features: dict[str, Any], return_tensors: str | TensorType | None) -> BatchFeature:
    """The result of a processor. Lists of unequal clips cannot be one tensor: each clip is converted on its own."""
    if all(isinstance(values, Tensor) for values in features.values()):
        return BatchFeature(features, tensor_type=tensor_type(return_tensors))
    if tensor_type(return_tensors) is TensorType.NUMPY:
        features = {name: [clip.numpy() for clip in clips] for name, clips in features.items()}
    return BatchFeature(features)


def fit_length(values: Tensor, length: int) -> Tensor:
    """`values` (B, L, ...) trimmed, or continued with zeros, to (B, length, ...)."""
    B, L = values.shape[:2]
    if length <= L:
        return values[:, :length]
    return torch.cat([values, values.new_zeros(B, length - L, *values.shape[2:])], dim=1)


def plan_windows(lengths: Sequence[int], window: int, stride: int) -> WindowPlan:
    """
    Windows of `window` steps that cover every step of every clip; `lengths` are the clips' steps.

    They start `stride` steps apart; the last one is moved back so that it ends with the clip, since a window that is
    mostly padding would count as much as a full one when outputs are pooled. A clip shorter than a window gets one.
    """
    if isinstance(stride, bool) or not isinstance(stride, int) or not 1 <= stride <= window:
        raise ValueError(
            f"stride={stride!r} leaves frames uncovered or does not advance; give 1 to {window} (the window's length) "
            "frames, or None for windows side by side."
        )
    starts = [[*range(0, length - window, stride), length - window] if length > window else [0] for length in lengths]
    counts = torch.tensor([len(row) for row in starts])
    return WindowPlan(
        clip_index=torch.repeat_interleave(torch.arange(len(lengths)), counts),
        starts=torch.tensor([start for row in starts for start in row], dtype=torch.long),
    )


def gather_windows(values: Tensor, plan: WindowPlan, window: int, steps_per_unit: int = 1) -> Tensor:
    """
    Windows (W, window * steps_per_unit, ...) of `values` (B, L, ...); zeros where a window reaches beyond L.

    `plan` and `window` count in units (frames) of `steps_per_unit` steps (spectra).
    """
    starts = plan.starts * steps_per_unit
    length = window * steps_per_unit
    values = fit_length(values, max(values.shape[1], int(starts.max()) + length))
    positions = starts[:, None] + torch.arange(length)  # (W, length)
    return values[plan.clip_index[:, None], positions]


def pool_windows(outputs: Tensor, window_clip_index: Tensor) -> Tensor:
    """
    Mean over the windows of each clip.

    Args:
        outputs: (W, ...), one row for each window: probabilities, representations.
        window_clip_index: (W,), the clip each window was cut from, as `VQMAEProcessor.cut_windows` returns it.

    Returns:
        (B, ...), in the order of the clips.

    Raises:
        ValueError: no tensors, another number of windows, or a clip without any.
    """
    if not isinstance(outputs, Tensor) or outputs.ndim < 1 or not len(outputs):
        raise ValueError(
            f"outputs: found {_describe(outputs)}, accepted is a tensor (W, ...), one row for each window."
        )
    index = window_clip_index
    if (
        not isinstance(index, Tensor)
        or index.shape != outputs.shape[:1]
        or index.dtype not in (torch.int64, torch.int32)
    ):
        raise ValueError(
            f"window_clip_index: found {_describe(index)}, accepted is an integer tensor ({len(outputs)},), the clip of "
            "each row of outputs, as cut_windows returns it."
        )
    index = index.to(outputs.device)
    if (index < 0).any() or not (counts := torch.bincount(index)).all():
        raise ValueError("window_clip_index: every clip from 0 to the last one needs at least one window.")
    pooled = outputs.new_zeros(len(counts), *outputs.shape[1:]).index_add_(0, index, outputs)
    return pooled / counts.view(-1, *[1] * (outputs.ndim - 1))


def _describe(value: Any) -> str:
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
