"""Clips through their tokens and back: what comes out, how near it is to what went in, and samples of both.

Letters: N samples, S spectra, F bins, C codes per spectrum, T frames, H x H pixels, G x G codes per frame, K codes.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch
from transformers import PreTrainedModel, ProcessorMixin

from vqmae_hf.data.media import write_clip
from vqmae_hf.evaluation.fidelity import (
    code_perplexity,
    log_spectral_distance,
    peak_signal_to_noise,
    scale_invariant_sdr,
    structural_similarity,
)
from vqmae_hf.evaluation.pictures import frame_strip, named_rows, spectrogram
from vqmae_hf.evaluation.sounds import audible, retrieve_phases
from vqmae_hf.modeling.feature_extraction_audio_vqvae import power_spectrogram
from vqmae_hf.modeling.losses import itakura_saito_divergence


class RoundTrip(NamedTuple):
    """A clip and what its codes say; None for a modality that is not there."""

    pixels: torch.Tensor | None = None  # (T, 3, H, H) minus 0.5, as the tokenizer sees them
    visual_codes: torch.Tensor | None = None  # (T, G, G) int64
    decoded_pixels: torch.Tensor | None = None  # (T, 3, H, H)
    spectra: torch.Tensor | None = None  # (S, F) power of the peak-normalised waveform
    audio_codes: torch.Tensor | None = None  # (S, C) int64
    decoded_spectra: torch.Tensor | None = None  # (S, F)


class RetrievedSounds(NamedTuple):
    """Waveforms (N,) float32 whose phases are retrieved: from the decoded spectra, and from the true ones."""

    decoded: np.ndarray
    original: np.ndarray


@torch.no_grad()
def encode_and_decode(
    frames: np.ndarray | None,
    waveform: np.ndarray | None,
    processor: ProcessorMixin,
    tokenizers: Mapping[str, PreTrainedModel],
) -> RoundTrip:
    """A whole clip through its tokens and back.

    Args:
        frames: (T, size, size, 3) uint8 face crops, or None.
        waveform: (N,) float32, or None. A modality without a tokenizer is left out.
        processor: the `VQMAEProcessor` that fits the tokenizers.
        tokenizers: "audio", "visual" or both, in evaluation mode.

    Returns:
        `RoundTrip`, on the CPU.
    """
    trip = RoundTrip()
    # Each modality on its own: together, the spectra would be continued with silence up to the last frame.
    if frames is not None and "visual" in tokenizers:
        pixels = torch.as_tensor(processor(videos=frames, padding=False)["pixel_values_videos"][0])
        codes, decoded = _through(tokenizers["visual"], pixels)
        trip = trip._replace(pixels=pixels, visual_codes=codes, decoded_pixels=decoded)
    if waveform is not None and "audio" in tokenizers:
        spectra = torch.as_tensor(processor(audio=waveform, padding=False)["audio_values"][0])
        codes, decoded = _through(tokenizers["audio"], spectra)
        trip = trip._replace(spectra=spectra, audio_codes=codes, decoded_spectra=decoded)
    return trip


def _through(tokenizer: PreTrainedModel, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    codes = tokenizer.encode(values.to(tokenizer.device))
    return codes.cpu(), tokenizer.decode(codes).float().cpu()


def to_frames(pixels: torch.Tensor) -> np.ndarray:
    """Pixels (T, 3, H, W) minus 0.5 as pictures (T, H, W, 3) uint8."""
    return ((pixels + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def audio_quality(trip: RoundTrip) -> dict[str, float]:
    """Of one clip: `itakura_saito` (the training loss), `log_spectral_distance` (dB), `perplexity` of its codes."""
    return {
        "itakura_saito": float(itakura_saito_divergence(trip.spectra, trip.decoded_spectra)),
        "log_spectral_distance": log_spectral_distance(trip.spectra, trip.decoded_spectra),
        "perplexity": code_perplexity(np.bincount(trip.audio_codes.flatten().numpy())),
    }


def visual_quality(trip: RoundTrip) -> dict[str, float]:
    """Of one clip: `psnr` (dB), `ssim`, `perplexity` of its codes."""
    frames, decoded = to_frames(trip.pixels), to_frames(trip.decoded_pixels)
    return {
        "psnr": peak_signal_to_noise(frames, decoded),
        "ssim": structural_similarity(frames, decoded),
        "perplexity": code_perplexity(np.bincount(trip.visual_codes.flatten().numpy())),
    }


def retrieve_sounds(trip: RoundTrip, **stft: int) -> RetrievedSounds:
    """The sounds of a clip's decoded and true spectra, by Griffin-Lim; `stft`: options of `retrieve_phases`."""
    return RetrievedSounds(retrieve_phases(trip.decoded_spectra, **stft), retrieve_phases(trip.spectra, **stft))


def sound_quality(
    trip: RoundTrip, waveform: np.ndarray, sounds: RetrievedSounds, *, n_fft: int = 1024, hop_length: int = 320
) -> dict[str, float]:
    """How near what one hears is to what was said.

    Args:
        trip: of a clip with sound.
        waveform: (N,) of that clip, at any scale.
        sounds: of that clip.
        n_fft, hop_length: of the spectra, in samples.

    Returns:
        `sound_log_spectral_distance` (dB) between the true spectra and those of the retrieved sound, and `sound_si_sdr`
        (dB; left out for a silent clip). The same with `phase_retrieval_` in place of `sound_` for the sound of the true
        spectra: what phase retrieval alone costs, which no tokenizer gets below.
    """
    results = {}
    for name, sound in (("sound", sounds.decoded), ("phase_retrieval", sounds.original)):
        again = power_spectrogram(sound, n_fft=n_fft, hop_length=hop_length)[: len(trip.spectra)]
        results[f"{name}_log_spectral_distance"] = log_spectral_distance(trip.spectra, again)
        shared = min(len(sound), len(waveform))
        if np.ptp(waveform[:shared]) > 0:
            results[f"{name}_si_sdr"] = scale_invariant_sdr(waveform[:shared], sound[:shared])
    return results


def average_clips(rows: Iterable[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Per metric: `mean` and `std` (of the sample; 0 for one clip) over the `clips` that have it."""
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            values.setdefault(name, []).append(value)
    return {
        name: {
            "mean": float(np.mean(found)),
            "std": float(np.std(found, ddof=1)) if len(found) > 1 else 0.0,
            "clips": len(found),
        }
        for name, found in values.items()
    }


def describe_usage(counts: np.ndarray) -> dict[str, Any]:
    """Codebook `size`, `share_used` and `perplexity` of all clips' `counts` (K,)."""
    return {
        "size": len(counts),
        "share_used": float((counts > 0).mean()),
        "perplexity": code_perplexity(counts),
    }


def write_samples(
    folder: Path,
    name: str,
    trip: RoundTrip,
    waveform: np.ndarray | None,
    sounds: RetrievedSounds | None,
    *,
    sampling_rate: int,
    frames_per_second: float,
) -> list[str]:
    """What there is to see and to hear of a clip.

    Args:
        folder: where to write; made if it is not there.
        name: of the clip; file names start with it.
        trip: of the clip.
        waveform: (N,) original sound, or None without sound.
        sounds: of the clip, or None without sound.
        sampling_rate, frames_per_second: of the clip.

    Returns:
        Names of the files: `-original.wav`, `-decoded.wav`, `-phase_retrieval.wav` and `-spectra.png` with sound,
        `-frames.png` with pictures, `-decoded.mp4` with both.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    if trip.spectra is not None:
        named = {"original": waveform, "decoded": sounds.decoded, "phase_retrieval": sounds.original}
        for kind, sound in named.items():
            files.append(f"{name}-{kind}.wav")
            soundfile.write(folder / files[-1], audible(sound), sampling_rate)
        files.append(f"{name}-spectra.png")
        loudest = float(trip.spectra.max())
        pair = (("original", trip.spectra), ("decoded", trip.decoded_spectra))
        named_rows([(kind, spectrogram(power, loudest=loudest)) for kind, power in pair]).save(folder / files[-1])
    if trip.pixels is not None:
        files.append(f"{name}-frames.png")
        shown = (("original", trip.pixels), ("decoded", trip.decoded_pixels))
        named_rows([(kind, frame_strip(pixels)) for kind, pixels in shown]).save(folder / files[-1])
    if trip.pixels is not None and trip.spectra is not None:
        files.append(f"{name}-decoded.mp4")
        rates = {"frames_per_second": frames_per_second, "sampling_rate": sampling_rate}
        write_clip(folder / files[-1], to_frames(trip.decoded_pixels), audible(sounds.decoded), **rates)
    return files
