"""What a classifier says of each moment of a clip."""

from dataclasses import dataclass
from typing import Any

import torch

from vqmae_hf.data.clips import Clip
from vqmae_hf.modeling.clip_windows import plan_windows
from vqmae_hf.modeling.pipeline_audiovisual_classification import (
    SCORE_FUNCTIONS,
    AudioVisualClassificationPipeline,
    score_function_of,
)


@dataclass(frozen=True)
class WindowScores:
    """What a classifier says of a part of a clip.

    Attributes:
        start_seconds, end_seconds: of the part, from the start of the clip.
        scores: by label, in the order of the classes; they sum to 1.
    """

    start_seconds: float
    end_seconds: float
    scores: dict[str, float]

    @property
    def label(self) -> str:
        """The label with the highest score."""
        return max(self.scores, key=lambda name: self.scores[name])


@torch.no_grad()
def score_windows(
    clip: Clip,
    classify: AudioVisualClassificationPipeline,
    *,
    hop_seconds: float | None = None,
    batch_size: int = 8,
) -> list[WindowScores]:
    """Scores of each window of a clip, in the order of time.

    The windows are those of the pipeline, as long as the model's; the last one ends with the clip. The means of their scores
    over windows side by side (`hop_seconds=None`) are the pipeline's answer.

    Args:
        clip: at the rates and the size of the pipeline's processor.
        classify: a pipeline "audiovisual-classification".
        hop_seconds: from the start of one window to that of the next; None: the length of a window. Rounded to whole
            frames.
        batch_size: windows that pass the model together.

    Returns:
        One entry per window; a clip shorter than a window gives one.

    Raises:
        ValueError: `hop_seconds` that is not above 0, or longer than a window; a clip without any modality of the model.
    """
    processor, config = classify.processor, classify.model.config
    rate, window = processor.video_processor.frames_per_second, processor.video_processor.num_frames
    hop = window if hop_seconds is None else max(1, round(hop_seconds * rate))
    if (hop_seconds is not None and hop_seconds <= 0) or hop > window:
        raise ValueError(f"hop_seconds={hop_seconds}: accepted is above 0 and up to the window's {window / rate:g} s.")
    modalities = getattr(config, "modalities", ("audio", "visual"))
    arrays = {"audio": ("audio", clip.waveform), "visual": ("videos", clip.frames)}
    given = dict(arrays[name] for name in modalities if arrays[name][1] is not None)
    if not given:
        raise ValueError(f"{clip.source} has nothing that this model takes: {' or '.join(modalities)}.")
    inputs = processor(**given, return_tensors="pt")
    windows = processor.cut_windows(inputs, hop)
    windows.pop("window_clip_index")
    logits = _window_logits(classify.model, dict(windows), batch_size)
    scores = SCORE_FUNCTIONS[score_function_of(config)](logits)  # (W, C)
    num_frames = _num_frames(inputs, processor.spectra_per_frame)
    starts = plan_windows([num_frames], window, hop).starts.tolist()
    return [
        WindowScores(
            start_seconds=start / rate,
            end_seconds=min(start + window, num_frames) / rate,
            scores={config.id2label[i]: value for i, value in enumerate(row)},
        )
        for start, row in zip(starts, scores.tolist(), strict=True)
    ]


def _window_logits(model: Any, windows: dict[str, torch.Tensor], batch_size: int) -> torch.Tensor:
    """(W, C) float32 on the host."""
    pieces = zip(*(values.split(batch_size) for values in windows.values()), strict=True)
    outputs = [
        model(**{name: part.to(model.device) for name, part in zip(windows, piece, strict=True)}) for piece in pieces
    ]
    return torch.cat([output.logits.float().cpu() for output in outputs])


def _num_frames(inputs: Any, spectra_per_frame: int) -> int:
    """Frames of the one clip in `inputs`; begun ones, where there is only sound."""
    if "visual_attention_mask" in inputs:
        return int(inputs["visual_attention_mask"].sum())
    return -(-int(inputs["audio_attention_mask"].sum()) // spectra_per_frame)
