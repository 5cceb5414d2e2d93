"""
How the answer of a classifier comes about in time.

Letters: N moments, C classes.
"""

from typing import NamedTuple

import torch

from vqmae_hf.inference.coded_clips import CodedClip
from vqmae_hf.modeling.modeling_vqmae import VQMAEForAudioVisualClassification


class ScoreCurve(NamedTuple):
    """Scores of every class at some moments of a clip."""

    seconds: torch.Tensor  # (N,) from the start of the clip
    scores: torch.Tensor  # (N, C), each row sums to 1


@torch.no_grad()
def running_scores(
    model: VQMAEForAudioVisualClassification,
    coded: CodedClip,
    *,
    most_moments: int = 24,
    batch_size: int = 8,
) -> ScoreCurve:
    """
    What the model says at each moment, having heard and seen what came before: the last window (2 s in [AV]) that ends
    there, or, earlier in the clip, all of it so far. For a clip no longer than a window the last row is its answer.

    Args:
        model: a single-label classifier, in evaluation mode.
        most_moments: moments asked about, at most: evenly spread from one tube's length to the end.
        batch_size: windows that pass the model together.
    """
    shortest = model.config.visual_tube_size[0] if "visual" in coded.codes else 1
    most = max(1, min(most_moments, coded.num_frames // shortest))
    ends = torch.linspace(min(shortest, coded.num_frames), coded.num_frames, most).round().long().unique().tolist()
    spans = [(max(0, end - coded.window_frames), end) for end in ends]
    rows = []
    for first in range(0, len(spans), batch_size):
        inputs = coded.windows(spans[first : first + batch_size])
        rows.append(model(**{name: tensor.to(model.device) for name, tensor in inputs.items()}).logits.softmax(-1))
    seconds = torch.tensor(ends, dtype=torch.float32) / coded.clip.frames_per_second
    return ScoreCurve(seconds, torch.cat(rows).float().cpu())
