"""Distances agree with what can be worked out by hand, and with scikit-image where that is not practical."""

import numpy as np
import pytest
import torch

from vqmae_hf.evaluation.fidelity import (
    code_perplexity,
    log_spectral_distance,
    peak_signal_to_noise,
    scale_invariant_sdr,
    structural_similarity,
)


def test_log_spectral_distance_is_the_difference_in_decibels():
    spectra = torch.rand(20, 513) + 0.1
    assert log_spectral_distance(spectra, spectra) == 0
    assert log_spectral_distance(spectra, 10 * spectra) == pytest.approx(10, rel=1e-5)
    half = spectra.clone()
    half[::2] *= 100  # every other spectrum is 20 dB off
    assert log_spectral_distance(spectra, half) == pytest.approx(10, rel=1e-5)


def test_what_is_too_quiet_to_hear_does_not_count():
    spectra = torch.ones(4, 513)
    spectra[:, 100:] = 1e-9
    decoded = spectra.clone()
    decoded[:, 100:] = 1e-12
    assert log_spectral_distance(spectra, decoded) == 0
    assert log_spectral_distance(torch.zeros(4, 513), torch.zeros(4, 513)) == 0
    with pytest.raises(ValueError, match="one shape"):
        log_spectral_distance(spectra, decoded[:3])


def test_sdr_ignores_scale_and_measures_added_noise():
    generator = np.random.default_rng(0)
    waveform = generator.standard_normal(16000)
    noise = generator.standard_normal(16000)
    noise -= noise.mean()
    noise -= (noise @ (waveform - waveform.mean())) / np.square(waveform - waveform.mean()).sum() * waveform
    noise -= noise.mean()
    assert scale_invariant_sdr(waveform, 2 * waveform) > 200
    assert scale_invariant_sdr(waveform, -0.5 * waveform + 3) > 200
    centred = waveform - waveform.mean()
    noisy = waveform + noise * np.sqrt(np.square(centred).sum() / np.square(noise).sum() / 10)
    assert scale_invariant_sdr(waveform, noisy) == pytest.approx(10, abs=0.01)
    assert scale_invariant_sdr(waveform, 7 * noisy) == pytest.approx(scale_invariant_sdr(waveform, noisy))
    assert scale_invariant_sdr(waveform, np.zeros(16000)) <= 0
    with pytest.raises(ValueError, match="silent"):
        scale_invariant_sdr(np.zeros(10), np.ones(10))
    with pytest.raises(ValueError, match="one length"):
        scale_invariant_sdr(waveform, waveform[:-1])


def test_peak_signal_to_noise_of_a_known_error():
    frames = np.full((2, 16, 16, 3), 100, dtype=np.uint8)
    assert peak_signal_to_noise(frames, frames + 5) == pytest.approx(20 * np.log10(255 / 5))
    assert peak_signal_to_noise(frames, frames - 5) == pytest.approx(20 * np.log10(255 / 5))
    assert peak_signal_to_noise(frames, frames) > 100


def two_pictures():
    y, x = np.mgrid[:32, :48]
    picture = np.stack([(5 * x) % 256, (7 * y + 3 * x) % 256, (x * y) % 256], -1).astype(np.uint8)
    other = np.clip(picture.astype(int) + ((x * 7 + y * 13) % 41 - 20)[..., None], 0, 255).astype(np.uint8)
    return picture[None], other[None]


def test_structural_similarity_is_that_of_scikit_image():
    # skimage.metrics.structural_similarity 0.26.0, channel_axis=2, gaussian_weights=True, sigma=1.5,
    # use_sample_covariance=False, data_range=255.
    picture, other = two_pictures()
    assert structural_similarity(picture, other) == pytest.approx(0.7552034171513945, abs=1e-9)
    assert structural_similarity(picture, 255 - picture) == pytest.approx(-0.5138243994267148, abs=1e-9)


def test_structural_similarity_of_equal_and_of_flat_pictures():
    picture, other = two_pictures()
    assert structural_similarity(picture, picture) == pytest.approx(1)
    both = structural_similarity(np.concatenate([picture, picture]), np.concatenate([picture, other]))
    assert both == pytest.approx((1 + structural_similarity(picture, other)) / 2)
    dark, light = np.full((1, 20, 20, 3), 50, np.uint8), np.full((1, 20, 20, 3), 200, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert structural_similarity(dark, light) == pytest.approx((2 * 50 * 200 + c1) / (50**2 + 200**2 + c1))
    with pytest.raises(ValueError, match="at least 11 x 11 pixels"):
        structural_similarity(dark[:, :8], light[:, :8])


def test_perplexity_counts_codes_that_are_used_alike():
    assert code_perplexity(np.array([3, 3, 0, 3, 0])) == pytest.approx(3)
    assert code_perplexity(np.array([7, 0])) == pytest.approx(1)
