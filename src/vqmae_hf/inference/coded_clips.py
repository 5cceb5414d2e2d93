"""
A clip as the codes of a model, and the windows of it that the model takes.

Letters: T frames, S spectra, G x G codes per frame, C codes per spectrum, W windows, N frames or spectra of a window.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vqmae_hf.data.clips import Clip
from vqmae_hf.modeling.clip_windows import WindowPlan, gather_windows, plan_windows
from vqmae_hf.modeling.processing_vqmae import VQMAEProcessor

MODALITIES = ("visual", "audio")  # their order in everything that follows


@dataclass(frozen=True)
class CodedClip:
    """
    A whole clip, tokenized once, so that any window of it can be asked about.

    Args:
        clip: as loaded: face crops and waveform.
        codes: "visual" (T, G, G), "audio" (S, C) int64, or one of them.
        num_frames: T; begun ones, where there is only sound.
        spectra_per_frame: S / T.
        window_frames: length of the model's window, in frames.
    """

    clip: Clip
    codes: dict[str, torch.Tensor]
    num_frames: int
    spectra_per_frame: int
    window_frames: int

    def steps_per_frame(self, modality: str) -> int:
        """Frames or spectra of a modality in the time of one frame."""
        return 1 if modality == "visual" else self.spectra_per_frame

    def side_by_side(self) -> list[tuple[int, int]]:
        """Windows (start, end), in frames, that cover the clip; the last one is moved back to end with it."""
        starts = plan_windows([self.num_frames], self.window_frames, self.window_frames).starts.tolist()
        return [(start, min(start + self.window_frames, self.num_frames)) for start in starts]

    def windows(self, spans: Sequence[tuple[int, int]]) -> dict[str, torch.Tensor]:
        """
        Model inputs `visual_codes` (W, T, G, G), `audio_codes` (W, S, C) and their attention masks, of the frames from
        `start` up to `end` of each span, which is at most a window long; padded to full windows.
        """
        starts, ends = torch.tensor(spans).T
        plan = WindowPlan(torch.zeros_like(starts), starts)
        inputs = {}
        for modality, codes in self.codes.items():
            steps = self.steps_per_frame(modality)
            place = starts[:, None] * steps + torch.arange(self.window_frames * steps)  # (W, N)
            real = place < (ends[:, None] * steps).clamp(max=len(codes))
            windows = gather_windows(codes[None], plan, self.window_frames, steps)
            inputs[f"{modality}_codes"] = windows.masked_fill(~real.view(*real.shape, *[1] * (codes.dim() - 1)), 0)
            inputs[f"{modality}_attention_mask"] = real.long()
        return inputs

    def join_windows(self, modality: str, values: torch.Tensor) -> torch.Tensor:
        """What was found for `side_by_side` windows, (W, N, ...), as one clip (T or S, ...); the later one has its way."""
        steps = self.steps_per_frame(modality)
        joined = values.new_zeros(len(self.codes[modality]), *values.shape[2:])
        for (start, _), window in zip(self.side_by_side(), values, strict=True):
            part = joined[start * steps : start * steps + values.shape[1]]
            part.copy_(window[: len(part)])
        return joined


@torch.no_grad()
def tokenize_clip(clip: Clip, processor: VQMAEProcessor, tokenizers: Mapping[str, torch.nn.Module]) -> CodedClip:
    """
    The codes of a clip, of the modalities that it has and that there is a tokenizer for.

    Args:
        clip: at the rates and the face size of `processor`, see `VQMAEProcessor.clip_options`.
        tokenizers: "visual" ([`VisualVQVAEModel`]), "audio" ([`AudioVQVAEModel`]), or one of them.

    Raises:
        ValueError: the clip has nothing that the tokenizers take.
    """
    frames = clip.frames if "visual" in tokenizers else None
    waveform = clip.waveform if "audio" in tokenizers else None
    if frames is None and waveform is None:
        raise ValueError(
            f"{clip.source}: found {'pictures' if clip.frames is not None else 'sound'} only, but the model takes "
            f"{' and '.join(tokenizers)} input; give it a clip with that."
        )
    inputs = processor(videos=frames, audio=waveform, padding=False, return_tensors="pt")
    codes = {}
    for modality, name in (("visual", "pixel_values_videos"), ("audio", "audio_values")):
        if name in inputs:
            values = torch.as_tensor(np.asarray(inputs[name][0]))
            tokenizer = tokenizers[modality]
            codes[modality] = tokenizer.encode(values.to(next(tokenizer.parameters()).device)).cpu()
    spectra = processor.spectra_per_frame
    num_frames = len(codes["visual"]) if "visual" in codes else -(-len(codes["audio"]) // spectra)
    return CodedClip(clip, codes, num_frames, spectra, processor.video_processor.num_frames)
