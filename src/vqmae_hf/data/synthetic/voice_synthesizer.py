"""Source-filter speech from the factors: glottal pulses and noise through moving formants.

A cascade of resonators, as in Klatt's formant synthesizer (1980). Source and filter meet in overlapping blocks in the
frequency domain, so nothing loops over samples.
"""

from __future__ import annotations

import numpy as np

from vqmae_hf.data.synthetic.factors import ClipFactors, SpeakerFactors
from vqmae_hf.data.synthetic.trajectories import FRAMES_PER_SECOND, FrameFactors

SAMPLING_RATE = 16000
_BLOCK = 320  # samples: 20 ms, in steps of 10 ms
_HOP = 160
_FFT_SIZE = 1024  # a block and 44 ms of ringing
_FORMANT_BANDWIDTHS_HZ = (70.0, 90.0, 130.0, 200.0, 250.0)
_UPPER_FORMANTS_HZ = (3500.0, 4500.0)  # of a 17 cm vocal tract
_MEAN_VOCAL_TRACT_CM = 17.0
_TILT_CORNER_HZ = 250.0
_CALM_LEVEL = 0.045  # so that the loudest anger stays below full scale
_ROOM_NOISE = 1.5e-4  # constant, so that a soft voice stays recognisably soft when its waveform is divided by the peak


def synthesize_voice(
    speaker: SpeakerFactors,
    clip: ClipFactors,
    frames: FrameFactors,
    rng: np.random.Generator,
    *,
    jitter_tilt_db: float = 0.0,
) -> np.ndarray:
    """Makes the voice of a clip.

    Args:
        speaker, clip, frames: the factors.
        rng: draws the noise samples, all that the factors leave open.
        jitter_tilt_db: by how many dB per octave a semitone of jitter brightens the voice: pressure below the glottis drives
            both.

    Returns:
        waveform (T * 640,) float32 at 16 kHz within [-1, 1]; frame t covers samples 640 t to 640 (t + 1).
    """
    num_samples = frames.num_frames * SAMPLING_RATE // FRAMES_PER_SECOND
    loudness = _to_samples(frames.loudness, num_samples)
    pulses = _glottal_pulses(_to_samples(frames.pitch_hz, num_samples)) * loudness
    aspiration = rng.standard_normal(num_samples) * loudness * clip.breathiness
    aspiration += rng.standard_normal(num_samples) * _to_samples(frames.breath, num_samples) * 0.03
    hiss = rng.standard_normal(num_samples) * _to_samples(frames.frication, num_samples) * 0.08

    frequencies = np.fft.rfftfreq(_FFT_SIZE, 1.0 / SAMPLING_RATE)
    tract = _vocal_tract(speaker, clip, frames, num_samples)
    octaves = np.log2(np.maximum(frequencies, _TILT_CORNER_HZ) / _TILT_CORNER_HZ)
    brightness = clip.tilt_db + 6.0  # radiation from the lips gives 6 dB per octave back
    if jitter_tilt_db:
        shaken = _to_samples(frames.jitter, num_samples)[::_HOP]
        brightness = brightness + jitter_tilt_db * np.append(shaken, shaken[-1])[:, None]
    tilt = 10.0 ** (brightness * octaves / 20.0)
    # The voice is as loud as `loudness_db` says, however steep its spectrum: the tilt must not change its power.
    tilt /= np.sqrt(np.mean(tilt[..., frequencies < 4000.0] ** 2, axis=-1, keepdims=True))
    hiss_band = np.exp(-0.5 * ((frequencies - 5500.0) / 1300.0) ** 2)
    spectrum = (_block_spectra(pulses) * tilt + _block_spectra(aspiration)) * tract
    spectrum += _block_spectra(hiss) * hiss_band
    voice = _overlap_add(spectrum, num_samples)
    voice *= _CALM_LEVEL * 10.0 ** (clip.loudness_db / 20.0)
    voice += _ROOM_NOISE * rng.standard_normal(num_samples)
    # Soft clipping keeps the rare loudest instants of strong anger within full scale.
    return np.tanh(voice).astype(np.float32)


def _to_samples(track: np.ndarray, num_samples: int) -> np.ndarray:
    """(T,) values at the centres of the frames -> (num_samples,), linear between."""
    centres = (np.arange(len(track)) + 0.5) * (num_samples / len(track))
    return np.interp(np.arange(num_samples), centres, track)


def _glottal_pulses(pitch_hz: np.ndarray) -> np.ndarray:
    """Unit-power pulse train: one pulse wherever the phase passes an integer, placed between samples."""
    phase = np.cumsum(pitch_hz) / SAMPLING_RATE
    position = np.interp(np.arange(1, int(phase[-1]) + 1), phase, np.arange(len(phase)))
    left = np.minimum(position.astype(int), len(phase) - 2)
    share = position - left
    height = np.sqrt(SAMPLING_RATE / pitch_hz[left])
    pulses = np.bincount(left, (1.0 - share) * height, minlength=len(phase))
    return pulses + np.bincount(left + 1, share * height, minlength=len(phase))


def _vocal_tract(speaker: SpeakerFactors, clip: ClipFactors, frames: FrameFactors, num_samples: int) -> np.ndarray:
    """(blocks, bins) complex response of five resonators in cascade, gain 1 at 0 Hz."""
    num_blocks = num_samples // _HOP + 1
    frame_of_block = np.arange(num_blocks) * _HOP * frames.num_frames / num_samples - 0.5
    denominator = np.ones((num_blocks, 1))
    gain = np.ones(num_blocks)
    scale = _MEAN_VOCAL_TRACT_CM / speaker.vocal_tract_cm
    tracks = [
        frames.f1_hz,
        frames.f2_hz,
        frames.f3_hz,
        *(np.full(frames.num_frames, f * scale) for f in _UPPER_FORMANTS_HZ),
    ]
    for track, bandwidth in zip(tracks, _FORMANT_BANDWIDTHS_HZ, strict=True):
        formant = np.interp(frame_of_block, np.arange(frames.num_frames), track) * clip.formant_scale
        radius = np.exp(-np.pi * bandwidth / SAMPLING_RATE)
        first = -2.0 * radius * np.cos(2.0 * np.pi * np.minimum(formant, 7600.0) / SAMPLING_RATE)
        gain *= 1.0 + first + radius**2
        denominator = _multiply_by_resonator(denominator, first, radius**2)
    return gain[:, None] / np.fft.rfft(denominator, _FFT_SIZE)


def _multiply_by_resonator(polynomial: np.ndarray, first: np.ndarray, second: float) -> np.ndarray:
    """(blocks, n) coefficients times 1 + first z^-1 + second z^-2 -> (blocks, n + 2)."""
    product = np.pad(polynomial, ((0, 0), (0, 2)))
    product[:, 1:-1] += first[:, None] * polynomial
    product[:, 2:] += second * polynomial
    return product


def _block_spectra(signal: np.ndarray) -> np.ndarray:
    """(samples,) -> (blocks, bins): Hann blocks centred at every `_HOP` samples; they sum to the signal."""
    padded = np.pad(signal, (_BLOCK // 2, _BLOCK // 2 + _HOP))
    blocks = np.lib.stride_tricks.sliding_window_view(padded, _BLOCK)[::_HOP][: len(signal) // _HOP + 1]
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(_BLOCK) / _BLOCK)
    return np.fft.rfft(blocks * window, _FFT_SIZE)


def _overlap_add(spectra: np.ndarray, num_samples: int) -> np.ndarray:
    """(blocks, bins) -> (num_samples,), the inverse of `_block_spectra` for a response that rings after each block."""
    blocks = np.fft.irfft(spectra, _FFT_SIZE)
    num_blocks = len(blocks)
    hops_per_block = -(-_FFT_SIZE // _HOP)
    blocks = np.pad(blocks, ((0, 0), (0, hops_per_block * _HOP - _FFT_SIZE)))
    output = np.zeros((num_blocks + hops_per_block, _HOP))
    for hop in range(hops_per_block):
        output[hop : hop + num_blocks] += blocks[:, hop * _HOP : (hop + 1) * _HOP]
    return output.ravel()[_BLOCK // 2 : _BLOCK // 2 + num_samples]
