"""Phase retrieval: the sound that comes back has the spectrogram that went in."""

import numpy as np
import pytest
import torch

from vqmae_hf.evaluation.sounds import retrieve_phases, waveform_from_power
from vqmae_hf.modeling.feature_extraction_audio_vqvae import AudioVQVAEFeatureExtractor, power_spectrogram

SAMPLING_RATE = 16000


def vowel(seconds: float = 1.0) -> np.ndarray:
    """Ten harmonics of a gliding 120 Hz voice."""
    time = np.arange(int(seconds * SAMPLING_RATE)) / SAMPLING_RATE
    phase = 2 * np.pi * np.cumsum(120 + 20 * time) / SAMPLING_RATE
    return sum(np.sin(k * phase) / k for k in range(1, 11)).astype(np.float32)


def test_spectrogram_of_the_sound_is_the_given_one():
    extractor = AudioVQVAEFeatureExtractor()
    spectra = extractor(vowel(), sampling_rate=SAMPLING_RATE, padding=False)["audio_values"][0]
    waveform = waveform_from_power(spectra)
    assert waveform.shape == (SAMPLING_RATE,)
    again = extractor(waveform, sampling_rate=SAMPLING_RATE, padding=False)["audio_values"][0]
    given, found = (torch.as_tensor(np.asarray(s)).sqrt().flatten() for s in (spectra, again))
    assert torch.corrcoef(torch.stack([given, found]))[0, 1] > 0.95


def test_same_spectra_same_sound():
    spectra = torch.rand(20, 513)
    assert np.array_equal(waveform_from_power(spectra), waveform_from_power(spectra))


def test_silence_stays_silent():
    assert waveform_from_power(torch.zeros(10, 513)) == pytest.approx(np.zeros(3200))


def test_phases_are_retrieved_at_the_scale_of_the_spectra():
    spectra = AudioVQVAEFeatureExtractor()(vowel(), sampling_rate=SAMPLING_RATE, padding=False)["audio_values"][0]
    quiet, loud = retrieve_phases(spectra), retrieve_phases(100 * torch.as_tensor(np.asarray(spectra)))
    np.testing.assert_allclose(loud, 10 * quiet, atol=0.01 * np.abs(loud).max())
    again = power_spectrogram(quiet, n_fft=1024, hop_length=320)[: len(spectra)]
    assert again.sum() == pytest.approx(float(spectra.sum()), rel=0.1)
    assert np.abs(waveform_from_power(spectra)).max() == pytest.approx(0.95)
