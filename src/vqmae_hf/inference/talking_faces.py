"""Files through the latents of an MDVAE and back: what the functions of this package that take such a model share."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig

from vqmae_hf.data.clips import Clip, load_clip
from vqmae_hf.data.media import write_clip
from vqmae_hf.evaluation.pictures import frame_strip, named_rows, pixels_to_frames, spectrogram
from vqmae_hf.evaluation.sounds import waveform_from_power
from vqmae_hf.modeling.configuration_mdvae import MDVAEConfig
from vqmae_hf.modeling.modeling_mdvae import MDVAEModel, MDVAEPreTrainedModel
from vqmae_hf.modeling.modeling_outputs_mdvae import MDVAEDecoding, MDVAELatents
from vqmae_hf.modeling.processing_mdvae import MDVAEProcessor

Model = MDVAEPreTrainedModel | str | os.PathLike


class TalkingFaceModel(NamedTuple):
    """An MDVAE with its tokenizers, in evaluation mode, and the processor that fits it."""

    model: MDVAEModel
    processor: MDVAEProcessor


class EncodedClip(NamedTuple):
    """A clip as loaded, what the processor made of it (batches of one), and its latents (means)."""

    clip: Clip
    values: dict[str, torch.Tensor]
    latents: MDVAELatents


@dataclass
class GeneratedClip:
    """
    A clip that an MDVAE decoded.

    Args:
        latents: what it was decoded from; a batch of one.
        frames: (T, H, H, 3) uint8, or None of a model without faces.
        waveform: (N,) float32, phases retrieved by Griffin-Lim, or None of a model without sound.
        spectra: (T, bins) power spectra that the waveform was made from, or None.
        frames_per_second, sampling_rate: in Hz.
        sources: the clips it was made of, by their part in it, as loaded.
    """

    latents: MDVAELatents
    frames: np.ndarray | None
    waveform: np.ndarray | None
    spectra: torch.Tensor | None
    frames_per_second: float
    sampling_rate: int
    sources: dict[str, Clip] = field(default_factory=dict)

    @property
    def num_frames(self) -> int:
        """T."""
        return self.latents[next(name for name in ("z_av", "z_a", "z_v") if self.latents.get(name) is not None)].shape[
            1
        ]

    def write(self, path: str | os.PathLike) -> Path:
        """Write the clip as an mp4 with its sound."""
        return write_clip(
            path,
            self.frames,
            self.waveform,
            frames_per_second=self.frames_per_second,
            sampling_rate=self.sampling_rate,
        )

    def figure(self) -> Image.Image:
        """Frames of the sources and of this clip, at the same times, and the spectrogram of its sound."""
        rows = [(name, clip_strip(clip.frames)) for name, clip in self.sources.items() if clip.frames is not None]
        return named_rows([*rows, *self.picture_rows()])

    def picture_rows(self, name: str = "decoded") -> list[tuple[str, np.ndarray]]:
        """Rows of `named_rows`: frames and spectrogram of what was decoded."""
        rows = [] if self.frames is None else [(name, clip_strip(self.frames))]
        return rows if self.spectra is None else [*rows, (f"{name}\nsound", spectrogram(self.spectra))]


def clip_strip(frames: np.ndarray) -> np.ndarray:
    """`frame_strip` of (T, H, W, 3) uint8."""
    return frame_strip(frames.transpose(0, 3, 1, 2) / 255 - 0.5)


def load_talking_face_model(checkpoint: Model, processor: MDVAEProcessor | None = None) -> TalkingFaceModel:
    """
    The model and the processor of a checkpoint.

    Args:
        checkpoint: folder or Hub id of an `MDVAEModel` or `MDVAEForAudioVisualClassification`, or such a model.
        processor: in place of the checkpoint's own; of a model that is given as such, made from its configuration.

    Raises:
        ValueError: a checkpoint of another kind, or a model without a tokenizer for each of its modalities.
    """
    if isinstance(checkpoint, MDVAEPreTrainedModel):
        model, name = checkpoint.base_model, "the model"
        processor = MDVAEProcessor.from_model_config(model.config) if processor is None else processor
    else:
        name = os.fspath(checkpoint)
        config = AutoConfig.from_pretrained(name)
        if not isinstance(config, MDVAEConfig):
            raise ValueError(
                f"{name}: found a checkpoint of model_type {config.model_type!r}; accepted is 'mdvae'. For tokenizers "
                "there is `reconstruct_clip`."
            )
        model = MDVAEModel.from_pretrained(name)
        processor = MDVAEProcessor.from_pretrained(name) if processor is None else processor
    lacking = [m for m in model.config.modalities if getattr(model, f"{m}_tokenizer") is None]
    if lacking:
        raise ValueError(
            f"{name}: found no tokenizer for {lacking}; accepted is an MDVAE with one for each modality. Put trained ones "
            "in with `model.set_tokenizers(audio_tokenizer, visual_tokenizer)`."
        )
    return TalkingFaceModel(model.eval(), processor)


def load_for(talker: TalkingFaceModel, source: Any, **clip_options: Any) -> Clip:
    """
    `load_clip` at the rates and the face size of a model.

    Raises:
        ClipError: what `load_clip` raises about the file.
        ValueError: a clip that lacks a modality which the model needs.
    """
    processor, modalities = talker.processor, tuple(talker.model.config.modalities)
    clip = load_clip(source, **{**processor.clip_options(modalities), **clip_options})
    found = {"audio": clip.waveform is not None, "visual": clip.frames is not None}
    lacking = [modality for modality in modalities if not found[modality]]
    if lacking:
        raise ValueError(
            f"{clip.source}: found no {' and no '.join(lacking)} part; accepted are clips with {modalities}, from all of "
            "which the model infers. Take another clip, or a model of one modality (MDVAEConfig(modalities=...))."
        )
    return clip


def process_clip(talker: TalkingFaceModel, clip: Clip) -> dict[str, torch.Tensor]:
    """The values of a clip, a batch of one on the model's device, without masks: nothing is padded."""
    lists = talker.processor(
        videos=clip.frames,
        audio=clip.waveform,
        sampling_rate=clip.sampling_rate if clip.waveform is not None else None,
        frames_per_second=clip.frames_per_second if clip.frames is not None else None,
        padding=False,
    )
    names = [name for name in ("audio_values", "pixel_values_videos") if name in lists]
    return {name: torch.as_tensor(np.asarray(lists[name][0]))[None].to(talker.model.device) for name in names}


@torch.no_grad()
def encode_clip(talker: TalkingFaceModel, source: Any, **clip_options: Any) -> EncodedClip:
    """Load a file and infer its latents; see `load_for`."""
    clip = load_for(talker, source, **clip_options)
    values = process_clip(talker, clip)
    return EncodedClip(clip, values, talker.model.encode(**values))


@torch.no_grad()
def decode_clip(
    talker: TalkingFaceModel, latents: MDVAELatents, sources: dict[str, Clip] | None = None
) -> GeneratedClip:
    """Decode latents, a batch of one, to pictures and sound."""
    decoding = talker.model.decode(latents, output_values=True)
    return as_clip(talker, decoding, latents, sources or {})


def as_clip(
    talker: TalkingFaceModel, decoding: MDVAEDecoding, latents: MDVAELatents, sources: dict[str, Clip]
) -> GeneratedClip:
    """What a model decoded, a batch of one, as frames and a waveform."""
    extractor = talker.processor.feature_extractor
    spectra, frames, waveform = decoding.get("audio_values"), None, None
    if decoding.get("pixel_values_videos") is not None:
        frames = pixels_to_frames(decoding["pixel_values_videos"][0])
    if spectra is not None:
        spectra = spectra[0].float().cpu()
        waveform = waveform_from_power(spectra, n_fft=extractor.n_fft, hop_length=extractor.hop_length)
    rate = talker.processor.video_processor.frames_per_second
    return GeneratedClip(latents, frames, waveform, spectra, rate, extractor.sampling_rate, sources)


def check_names(argument: str, found: Sequence[str], accepted: Sequence[str]) -> tuple[str, ...]:
    """`found` as a tuple, if it is one or more of `accepted`."""
    names = (found,) if isinstance(found, str) else tuple(found)
    if not names or not set(names) <= set(accepted):
        raise ValueError(f"{argument}={found!r}: accepted are one or more of {list(accepted)}.")
    return names
