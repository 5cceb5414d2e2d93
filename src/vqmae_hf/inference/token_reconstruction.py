"""A clip through its tokens and back."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqmae_hf.data.clips import Clip, load_clip
from vqmae_hf.data.media import write_clip
from vqmae_hf.evaluation.pictures import pixels_to_frames
from vqmae_hf.evaluation.sounds import waveform_from_power
from vqmae_hf.modeling.modeling_audio_vqvae import AudioVQVAEModel
from vqmae_hf.modeling.modeling_visual_vqvae import VisualVQVAEModel
from vqmae_hf.modeling.processing_vqmae import VQMAEProcessor


@dataclass
class ReconstructedClip:
    """
    A clip, its tokens, and what the tokens say.

    Args:
        clip: as loaded: face crops and waveform.
        visual_codes: (T, G, G) int64, or None without pictures.
        audio_codes: (S, C) int64, or None without sound.
        spectra, decoded_spectra: (S, bins) power spectra before and after, or None.
        frames: (T, H, H, 3) uint8 decoded face crops, or None.
        waveform: (N,) float32 decoded sound, phases retrieved by Griffin-Lim, or None.
    """

    clip: Clip
    visual_codes: torch.Tensor | None = None
    audio_codes: torch.Tensor | None = None
    spectra: torch.Tensor | None = None
    decoded_spectra: torch.Tensor | None = None
    frames: np.ndarray | None = None
    waveform: np.ndarray | None = None

    def write(self, path: str | os.PathLike) -> Path:
        """Write the decoded clip as an mp4 with its sound."""
        return write_clip(
            path,
            self.frames,
            self.waveform,
            frames_per_second=self.clip.frames_per_second,
            sampling_rate=self.clip.sampling_rate,
        )


@torch.no_grad()
def reconstruct_clip(
    source: Any,
    *,
    processor: VQMAEProcessor,
    audio_tokenizer: AudioVQVAEModel | None = None,
    visual_tokenizer: VisualVQVAEModel | None = None,
    **clip_options: Any,
) -> ReconstructedClip:
    """
    File -> face crops and spectra -> tokens -> face crops and sound, at whatever length the clip has.

    Args:
        source: a path, bytes, a file object, or `{"path", "bytes"}`.
        processor: at the sizes of the tokenizers.
        audio_tokenizer, visual_tokenizer: one or both; a modality without one is left out.
        **clip_options: further arguments of [`~vqmae_hf.data.clips.load_clip`], such as its policies.

    Raises:
        ClipError: what `load_clip` raises about the file.
        ValueError: no tokenizer at all.
    """
    tokenizers = {"audio": audio_tokenizer, "visual": visual_tokenizer}
    modalities = tuple(name for name, tokenizer in tokenizers.items() if tokenizer is not None)
    if not modalities:
        raise ValueError("neither audio_tokenizer nor visual_tokenizer was given; give at least one of them.")
    extractor = processor.feature_extractor
    clip = load_clip(source, **{**processor.clip_options(modalities), **clip_options})
    inputs = processor(videos=clip.frames, audio=clip.waveform, padding=False, return_tensors="pt")

    result = ReconstructedClip(clip)
    if visual_tokenizer is not None and clip.frames is not None:
        pixels = torch.as_tensor(np.asarray(inputs["pixel_values_videos"][0]))
        result.visual_codes = visual_tokenizer.encode(pixels.to(visual_tokenizer.device))
        result.frames = pixels_to_frames(visual_tokenizer.decode(result.visual_codes))
    if audio_tokenizer is not None and clip.waveform is not None:
        result.spectra = torch.as_tensor(np.asarray(inputs["audio_values"][0]))
        result.audio_codes = audio_tokenizer.encode(result.spectra.to(audio_tokenizer.device))
        result.decoded_spectra = audio_tokenizer.decode(result.audio_codes).cpu()
        result.waveform = waveform_from_power(
            result.decoded_spectra, n_fft=extractor.n_fft, hop_length=extractor.hop_length
        )
    return result
