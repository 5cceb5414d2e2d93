"""
Waveforms to power spectra: the input of the audio tokenizer and of everything that stands on it.

Letters: B clips, N samples, S spectra, F frequency bins (513).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BatchFeature, SequenceFeatureExtractor
from transformers.utils import PaddingStrategy, TensorType

from .argument_checks import check_positive, check_whole
from .clip_windows import CLIP_LOADER, batch_feature, pad_clips


def power_spectrogram(waveform: Tensor | np.ndarray, *, n_fft: int = 1024, hop_length: int = 320) -> Tensor:
    """
    Squared magnitude of the short-time Fourier transform ([AV] and [MD], audio tokenizer).

    Periodic Hann window of `n_fft` samples, one spectrum every `hop_length` samples, spectrum t centred on sample
    `t * hop_length`, zeros before the beginning and after the end.

    Args:
        waveform: (N,), any real dtype.

    Returns:
        float32 (1 + N // hop_length, n_fft // 2 + 1). Computed in float64, because the Itakura-Saito divergence which
        judges these spectra compares *ratios*: a weak bin needs as many right digits as a strong one.
    """
    samples = torch.as_tensor(waveform, dtype=torch.float64)
    spectra = torch.stft(
        samples,
        n_fft,
        hop_length=hop_length,
        window=torch.hann_window(n_fft, dtype=samples.dtype, device=samples.device),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    return torch.view_as_real(spectra).square().sum(-1).T.float()  # (F, S, 2) -> (S, F)


class AudioVQVAEFeatureExtractor(SequenceFeatureExtractor):
    r"""
    Turns mono waveforms into the power spectra that [`AudioVQVAEModel`] encodes.

    The whole clip is divided by its peak magnitude, then [`power_spectrogram`] is taken, of which the
    `ceil(N / hop_length)` spectra centred inside the waveform are kept: 2 s at 16 kHz are exactly 100. A silent
    waveform (all zero) has no peak and stays as it is: its spectra are zero.

    Args:
        sampling_rate (`int`): samples per second of the waveforms, in Hz.
        n_fft (`int`): samples per spectrum (64 ms at 16 kHz); `n_fft // 2 + 1` bins.
        hop_length (`int`): samples from one spectrum to the next. 320 gives exactly two per frame at 25 frames per second.
        num_spectra (`int`): the model's window; shorter clips are padded to it.
        trim_silence_db (`float`, *optional*): how far below the loudest moment the ends of the clips lay that were cut off
            before training. Remembered here, and done by the clip loader, which has the whole sound.
    """

    model_input_names = ["audio_values", "audio_attention_mask"]  # noqa: RUF012 - transformers' convention

    def __init__(
        self,
        sampling_rate: int = 16000,
        n_fft: int = 1024,
        hop_length: int = 320,
        num_spectra: int = 100,
        trim_silence_db: float | None = None,
        **kwargs: Any,
    ) -> None:
        for name, value in (
            ("sampling_rate", sampling_rate),
            ("hop_length", hop_length),
            ("num_spectra", num_spectra),
            ("n_fft", n_fft),
        ):
            check_whole(name, value)
        if trim_silence_db is not None:
            check_positive("trim_silence_db", trim_silence_db)
        if n_fft % 2:
            raise ValueError(f"n_fft={n_fft} must be even and positive; 1024 samples give the 513 bins of the models.")
        # Fixed by the others or by the models, so that nothing can contradict them.
        for name in ("feature_size", "padding_value"):
            kwargs.pop(name, None)
        super().__init__(feature_size=n_fft // 2 + 1, sampling_rate=sampling_rate, padding_value=0.0, **kwargs)
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.num_spectra = num_spectra
        self.trim_silence_db = trim_silence_db

    def __call__(
        self,
        audio: np.ndarray | Tensor | Sequence[Any],
        sampling_rate: int | None = None,
        padding: bool | str | PaddingStrategy = "max_length",
        return_attention_mask: bool | None = None,
        return_tensors: str | TensorType | None = "pt",
    ) -> BatchFeature:
        """
        Spectra of one waveform or of a list of waveforms.

        Args:
            audio: one waveform (N,) of floating-point samples, at any scale, as array, tensor or list of numbers; or a
                list of such waveforms of any lengths.
            sampling_rate: of these waveforms, in Hz; checked if given, otherwise taken to be the extractor's.
            padding: `"max_length"` pads to the model's window (`num_spectra`), or to the longest clip where that is
                longer; `"longest"` to the longest clip; `False` returns lists. Nothing is cut off.
            return_attention_mask: leave the mask out when false.
            return_tensors: `"pt"` or `"np"`.

        Returns:
            `audio_values`: float32 (B, S, 513), power; `audio_attention_mask`: int64 (B, S), 1 real, 0 padding.

        Raises:
            ValueError: another sampling rate, more than one channel, integer samples, NaN or Inf, nothing at all.
        """
        if sampling_rate is not None and sampling_rate != self.sampling_rate:
            raise ValueError(
                f"sampling_rate: found {sampling_rate} Hz, but this extractor accepts {self.sampling_rate} Hz only. "
                f"{CLIP_LOADER} resamples a file."
            )
        waveforms = split_waveforms(audio)
        clips = [self.spectra(check_waveform(w, f"audio[{i}]")) for i, w in enumerate(waveforms)]
        values, mask = pad_clips(clips, window=self.num_spectra, padding=padding)
        features: dict[str, Any] = {"audio_values": values}
        if self.return_attention_mask if return_attention_mask is None else return_attention_mask:
            features["audio_attention_mask"] = mask
        return batch_feature(features, return_tensors)

    def spectra(self, waveform: Tensor) -> Tensor:
        """Waveform (N,) float32 -> its peak-normalised power spectra (ceil(N / hop_length), 513)."""
        peak = waveform.abs().max()
        if peak > 0:
            waveform = waveform / peak
        num_spectra = -(-len(waveform) // self.hop_length)
        return power_spectrogram(waveform, n_fft=self.n_fft, hop_length=self.hop_length)[:num_spectra]

    def to_dict(self) -> dict[str, Any]:
        """The constructor's arguments; `feature_size` and `padding_value` follow from them."""
        derived = ("feature_size", "padding_value")
        return {name: value for name, value in super().to_dict().items() if name not in derived}


def split_waveforms(audio: Any) -> list[Any]:
    """One waveform, or a list of them, as a list of waveforms."""
    if isinstance(audio, (np.ndarray, Tensor)):
        return [audio]
    if not isinstance(audio, (list, tuple)):
        raise ValueError(
            f"audio: found {type(audio).__name__}, accepted are a waveform (N,) as array, tensor or list of numbers, or "
            f"a list of waveforms. {CLIP_LOADER} opens a file; its result has a `waveform`."
        )
    if not audio:
        raise ValueError("audio: found an empty list, accepted are one waveform (N,) or a list of at least one.")
    if isinstance(audio[0], (int, float, np.number)):
        return [as_array(audio, "audio")]
    return list(audio)


def as_array(numbers: Any, name: str) -> np.ndarray:
    """A list of numbers as an array."""
    try:
        return np.asarray(numbers)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{name}: found a list of unlike things ({error}), accepted is a list of numbers (N,)."
        ) from error


def check_waveform(waveform: Any, name: str) -> Tensor:
    """One waveform as float32 (N,), or a ValueError that says what is wrong with it."""
    if isinstance(waveform, (str, bytes)) or not isinstance(waveform, (np.ndarray, Tensor, list, tuple)):
        raise ValueError(
            f"{name}: found {type(waveform).__name__}, accepted is a waveform (N,) as array, tensor or list of numbers. "
            f"{CLIP_LOADER} opens a file; its result has a `waveform`."
        )
    array = waveform if isinstance(waveform, (np.ndarray, Tensor)) else as_array(waveform, name)
    shape = tuple(array.shape)
    if array.ndim != 1:
        raise ValueError(
            f"{name}: found shape {shape}, accepted is one channel (N,). Average the channels of a recording, "
            f"`waveform.mean(axis)`, as {CLIP_LOADER} does; give a batch of clips as a list of waveforms."
        )
    if shape[0] == 0:
        raise ValueError(f"{name}: found no samples, accepted is a waveform (N,) with N >= 1; leave silent sound out.")
    floating = array.is_floating_point() if isinstance(array, Tensor) else array.dtype.kind == "f"
    if not floating:
        raise ValueError(
            f"{name}: found samples of dtype {array.dtype}, accepted are floating-point samples. Convert PCM by "
            f"`waveform.astype('float32') / 32768`, or let {CLIP_LOADER} read the file."
        )
    if isinstance(array, np.ndarray):
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
            array = torch.from_numpy(np.array(array, dtype=np.float32))  # a copy: strides and flags no longer matter
    samples = array.detach().to("cpu", torch.float32)
    if not torch.isfinite(samples).all():
        bad = int((~torch.isfinite(samples)).sum())
        raise ValueError(
            f"{name}: found {bad} NaN or infinite of {shape[0]} samples, accepted are finite samples. Read the file "
            f"again, with {CLIP_LOADER} for instance, or replace them: `numpy.nan_to_num(waveform)`."
        )
    return samples
