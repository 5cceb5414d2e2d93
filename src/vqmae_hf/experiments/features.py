"""What a logistic regression or a support vector machine is given in place of a clip: statistics over its time.

Letters: N clips, S spectra of a clip, C codes per spectrum, K codes in a codebook.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel

from vqmae_hf.data.prepared_clips import clip_arrays
from vqmae_hf.data.token_store import TokenStoreInfo
from vqmae_hf.modeling.feature_extraction_audio_vqvae import AudioVQVAEFeatureExtractor

SAMPLING_RATE = 16000
NUM_MELS = 80
N_FFT = 1024
HOP_LENGTH = 320
NUM_CEPSTRA = 20
LOWEST_PITCH, HIGHEST_PITCH = 60.0, 600.0  # Hz
NUM_PARTS = 10  # of a clip, whose course of pitch and loudness is looked at
# Power that silence is taken for, 100 dB below that of a full-scale sine.
SILENT_POWER = 1e-10


def log_mel_statistics(waveform: np.ndarray) -> np.ndarray:
    """Mean and variance over time of the log-mel spectrum (librosa's), its level included.

    Args:
        waveform: (samples,) at 16 kHz.

    Returns:
        (2 * 80,): means in decibels, then variances.
    """
    return statistics_over_time(mel_spectra(waveform))


def log_mel_dynamics(waveform: np.ndarray) -> np.ndarray:
    """How the log-mel spectrum is distributed over time, how it changes, and how long it lasts.

    Args:
        waveform: (samples,) at 16 kHz.

    Returns:
        (6 * 80 + 1,): `functionals` of the decibels, and the logarithm of the number of spectra.
    """
    decibels = in_decibels(mel_spectra(waveform))
    return np.concatenate([functionals(decibels), [np.log(len(decibels))]])


def voice_functionals(waveform: np.ndarray) -> np.ndarray:
    """Pitch, loudness and timbre over a clip, in the manner of hand-made sets for emotion (Eyben et al. 2016, "The Geneva
    minimalistic acoustic parameter set").

    Args:
        waveform: (samples,) at 16 kHz.

    Returns:
        (6 * 23 + 3 * 10 + 9,): `functionals` of the pitch (in octaves, see `pitch_track`), of how surely there is one, of
        the loudness (dB) and of 20 cepstral coefficients; the means of the first three in ten equal parts of the clip;
        share of voiced spectra, logarithm of the number of spectra, and of the pitch where there is one the mean step, the
        deviation and five percentiles.
    """
    from librosa.feature import mfcc, rms  # see mel_spectra

    # At least a spectrum in each part.
    waveform = np.pad(waveform, (0, max(0, NUM_PARTS * HOP_LENGTH - len(waveform))))
    pitch, voiced, probability = pitch_track(waveform)
    loudness = in_decibels(rms(y=waveform, frame_length=N_FFT, hop_length=HOP_LENGTH)[0] ** 2)
    prosody = np.stack([pitch, probability, loudness], axis=1)  # (S, 3)
    cepstra = mfcc(S=in_decibels(mel_spectra(waveform)).T, n_mfcc=NUM_CEPSTRA).T  # (S, 20)
    course = [part.mean(axis=0) for part in np.array_split(prosody, NUM_PARTS)]
    heard = pitch[voiced] if voiced.any() else pitch[:1]
    steps = np.abs(np.diff(heard)).mean() if len(heard) > 1 else 0.0
    rest = [voiced.mean(), np.log(len(pitch)), steps, heard.std(), *np.percentile(heard, (5, 25, 50, 75, 95))]
    return np.concatenate([functionals(np.concatenate([prosody, cepstra], axis=1)), *course, rest])


def pitch_track(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pitch every 20 ms by probabilistic YIN (librosa's; Mauch and Dixon 2014), between 60 and 600 Hz.

    Args:
        waveform: (samples,) at 16 kHz, at least 1024.

    Returns:
        Octaves above 60 Hz, straight lines where no pitch is heard and 0 if there is none at all; whether it is heard;
        with which probability. (S,) each.
    """
    from librosa import pyin  # see mel_spectra

    hertz, voiced, probability = pyin(
        waveform, sr=SAMPLING_RATE, fmin=LOWEST_PITCH, fmax=HIGHEST_PITCH, frame_length=N_FFT, hop_length=HOP_LENGTH
    )
    if not voiced.any():
        return np.zeros(len(hertz)), voiced, probability
    octaves = np.log2(hertz[voiced] / LOWEST_PITCH)
    return np.interp(np.arange(len(hertz)), np.flatnonzero(voiced), octaves), voiced, probability


def functionals(tracks: np.ndarray) -> np.ndarray:
    """(S, F) to (6 F,): mean, deviation, that of the differences between neighbours, and 10th, 50th and 90th percentile."""
    change = np.diff(tracks, axis=0, prepend=tracks[:1])
    parts = [tracks.mean(axis=0), tracks.std(axis=0), change.std(axis=0)]
    return np.concatenate([*parts, *np.percentile(tracks, (10, 50, 90), axis=0)])


def mel_spectra(waveform: np.ndarray) -> np.ndarray:
    """(S, 80) power at 16 kHz, every 20 ms."""
    from librosa.feature import melspectrogram  # brings numba, which costs a second to import

    padded = np.pad(waveform, (0, max(0, N_FFT - len(waveform))))
    return melspectrogram(y=padded, sr=SAMPLING_RATE, n_fft=N_FFT, hop_length=HOP_LENGTH, n_mels=NUM_MELS).T


def log_spectrum_statistics(waveform: np.ndarray) -> np.ndarray:
    """The same, (2 * 513,), of the power spectra that the audio tokenizer is given."""
    extract = AudioVQVAEFeatureExtractor(sampling_rate=SAMPLING_RATE)
    inputs = extract(waveform, sampling_rate=SAMPLING_RATE, return_tensors="np")
    return statistics_over_time(inputs["audio_values"][0][inputs["audio_attention_mask"][0].astype(bool)])


def statistics_over_time(power: np.ndarray) -> np.ndarray:
    """(S, F) power to (2 F,): mean and variance of its decibels."""
    decibels = in_decibels(power)
    return np.concatenate([decibels.mean(axis=0), decibels.var(axis=0)])


def in_decibels(power: np.ndarray) -> np.ndarray:
    """Power relative to that of a full-scale sine, silence at -100 dB."""
    return 10 * np.log10(np.maximum(np.asarray(power, dtype=np.float64), SILENT_POWER))


SOUND_FEATURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "log_mel": log_mel_statistics,
    "log_mel_dynamics": log_mel_dynamics,
    "log_spectrum": log_spectrum_statistics,
    "voice_functionals": voice_functionals,
}
CODE_FEATURES = ("code_histogram", "code_histogram_by_position", "mean_code_vectors", "decoded_spectrum")
# What is made of the tokenizers, not of the numbers of the codes alone.
TOKENIZER_FEATURES = ("mean_code_vectors", "decoded_spectrum")
FEATURES = (*SOUND_FEATURES, *CODE_FEATURES)


def sound_features(name: str, clips: Dataset) -> np.ndarray:
    """(N, F) features of the waveforms of prepared clips; `name` is a key of `SOUND_FEATURES`.

    Raises:
        ValueError: a clip without sound.
    """
    rows = []
    for i in range(len(clips)):
        waveform = clip_arrays(clips, i).waveform
        if waveform is None:
            raise ValueError(
                f"clip {clips['clip_id'][i]!r} has no sound, of which {name!r} is made; take features of codes, or prepare "
                'the clips with on_missing_audio="error".'
            )
        rows.append(SOUND_FEATURES[name](waveform))
    return np.stack(rows)


def code_features(
    name: str,
    store: Dataset,
    info: TokenStoreInfo,
    modalities: Sequence[str],
    tokenizers: Mapping[str, PreTrainedModel] | None = None,
) -> np.ndarray:
    """(N, F) features of the codes of a token store.

    Args:
        name: one of `CODE_FEATURES`. "code_histogram": how often each code occurs in a clip, over all positions, as a share,
            for each modality; "code_histogram_by_position": for the voice, of each of the C positions on its own;
            "mean_code_vectors": the mean over time of the code vectors at each position of a spectrum and each place of a
            frame; "decoded_spectrum": `statistics_over_time` of what the tokenizer makes of the audio codes.
        store, info: the rows and the head of the store.
        modalities: to look at, of "audio" and "visual".
        tokenizers: by modality, for `TOKENIZER_FEATURES`.
    """
    if name == "decoded_spectrum":
        tokenizer = (tokenizers or {})["audio"]
        return np.stack([_decoded_statistics(codes, info, tokenizer) for codes in _codes(store, "audio")])
    parts = []
    for modality in modalities:
        if name == "mean_code_vectors":
            codebook = (tokenizers or {})[modality].get_codebook().detach().cpu().numpy()
            places = math.prod(getattr(info, modality).codes_per_step)
            parts.append(np.stack([mean_code_vectors(codes, codebook, places) for codes in _codes(store, modality)]))
            continue
        record = getattr(info, modality)
        apart = name == "code_histogram_by_position" and modality == "audio"
        positions = record.codes_per_step[0] if apart else 1
        parts.append(code_histograms(list(_codes(store, modality)), record.codebook_size, positions))
    return np.concatenate(parts, axis=1)


def code_histograms(clips: Sequence[np.ndarray], num_codes: int, positions: int = 1) -> np.ndarray:
    """How often each code occurs in each clip.

    Args:
        clips: N flat arrays of codes, position running fastest.
        num_codes: K.
        positions: to count apart.

    Returns:
        (N, positions * K) float64 shares of the steps; all 0 for a clip without codes.
    """
    rows = np.zeros((len(clips), positions * num_codes))
    for row, codes in zip(rows, clips, strict=True):
        steps = codes.astype(np.int64).reshape(-1, positions)
        places = (steps + num_codes * np.arange(positions)).ravel()
        row[:] = np.bincount(places, minlength=len(row)) / max(1, len(steps))
    return rows


def mean_code_vectors(codes: np.ndarray, codebook: np.ndarray, places: int) -> np.ndarray:
    """What a clip looks or sounds like on average, in the terms of its tokenizer.

    Args:
        codes: flat codes of a clip, place running fastest.
        codebook: (K, d).
        places: codes of a step.

    Returns:
        (places * d,); all 0 for a clip without codes.
    """
    vectors = codebook[codes.astype(np.int64).reshape(-1, places)]  # (steps, places, d)
    return vectors.sum(axis=0).ravel() / max(1, len(vectors))


def _codes(store: Dataset, modality: str):
    for row in store.select_columns([f"{modality}_codes"]).with_format("numpy"):
        yield np.asarray(row[f"{modality}_codes"])


@torch.no_grad()
def _decoded_statistics(codes: np.ndarray, info: TokenStoreInfo, tokenizer: PreTrainedModel) -> np.ndarray:
    steps = torch.from_numpy(codes.astype(np.int64)).reshape(1, -1, *info.audio.codes_per_step)
    return statistics_over_time(tokenizer.decode(steps)[0].cpu().numpy())
