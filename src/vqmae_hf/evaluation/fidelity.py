"""How near a decoded clip is to its original: distances of sounds, spectra and pictures, and the use of a codebook.

Letters: N samples, S spectra, F bins, T frames, H x W pixels, K codes.
"""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import entr

# Levels below this share of the loudest bin count as equal to it: -80 dB.
QUIETEST_SHARE = 1e-8
# Power that stands for silence, as in the training loss of the audio tokenizer.
SILENCE = 1e-10
# Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 13, 2004.
SSIM_SIGMA = 1.5
SSIM_RADIUS = 5
SSIM_STABILIZERS = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def log_spectral_distance(spectra: torch.Tensor, decoded: torch.Tensor) -> float:
    """Distance of two spectrograms in dB: root mean square over bins of the difference in level, averaged over spectra.

    Args:
        spectra: (S, F) power. Levels more than 80 dB below its loudest bin count as -80 dB, in both.
        decoded: (S, F) power, at the same scale.

    Raises:
        ValueError: different shapes.
    """
    if spectra.shape != decoded.shape:
        raise ValueError(f"spectra {tuple(spectra.shape)} and decoded {tuple(decoded.shape)} must have one shape.")
    floor = max(QUIETEST_SHARE * float(spectra.max()), SILENCE)
    difference = 10 * torch.log10(spectra.clamp(min=floor) / decoded.clamp(min=floor))
    return float(difference.square().mean(dim=1).sqrt().mean())


def scale_invariant_sdr(waveform: np.ndarray, estimate: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al., "SDR - half-baked or well done?", 2019).

    It compares phases too: a sound that is heard as the same, with other phases, is far below 0 dB.

    Args:
        waveform: (N,) the reference, not silent.
        estimate: (N,) at any scale.

    Returns:
        dB; at most about 300 for equal waveforms.

    Raises:
        ValueError: different lengths, or a silent reference.
    """
    if waveform.shape != estimate.shape or waveform.ndim != 1:
        raise ValueError(f"waveform {waveform.shape} and estimate {estimate.shape} must be vectors of one length.")
    reference, heard = (np.asarray(x, dtype=np.float64) - np.mean(x, dtype=np.float64) for x in (waveform, estimate))
    energy = reference @ reference
    if energy == 0:
        raise ValueError("the reference waveform is silent; leave silent clips out.")
    target = (heard @ reference / energy) * reference
    signal, distortion = target @ target, np.square(heard - target).sum()
    tiny = 1e-30 * energy
    return float(10 * np.log10((signal + tiny) / (distortion + tiny)))


def peak_signal_to_noise(frames: np.ndarray, decoded: np.ndarray) -> float:
    """Peak signal-to-noise ratio of a clip in dB: `frames`, `decoded` (T, H, W, 3) uint8; 168 dB for equal ones."""
    error = np.square(frames.astype(np.float32) - decoded.astype(np.float32)).mean(dtype=np.float64)
    return float(10 * np.log10(255.0**2 / max(float(error), 1e-12)))


def structural_similarity(frames: np.ndarray, decoded: np.ndarray) -> float:
    """Structural similarity (Wang et al., 2004), mean over frames, channels and pixels at least 5 from the border.

    Args:
        frames, decoded: (T, H, W, 3) uint8, H and W at least 11. Windows are Gaussian, sigma 1.5, 11 pixels wide.

    Returns:
        At most 1, for equal frames.

    Raises:
        ValueError: different shapes, or pictures smaller than a window.
    """
    width = 2 * SSIM_RADIUS + 1
    if frames.shape != decoded.shape or frames.ndim != 4 or min(frames.shape[1:3]) < width:
        raise ValueError(
            f"frames {frames.shape} and decoded {decoded.shape} must have one shape (T, H, W, 3), with at least "
            f"{width} x {width} pixels."
        )
    x, y = frames.astype(np.float64), decoded.astype(np.float64)
    mean_x, mean_y = _blur(x), _blur(y)
    variances = _blur(x * x) - mean_x**2 + _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = SSIM_STABILIZERS
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (variances + c2)
    inner = slice(SSIM_RADIUS, -SSIM_RADIUS)
    return float(similarity[:, inner, inner].mean())


def _blur(values: np.ndarray) -> np.ndarray:
    """Weighted means over the windows around each pixel of (T, H, W, 3)."""
    return gaussian_filter(values, (0, SSIM_SIGMA, SSIM_SIGMA, 0), radius=(0, SSIM_RADIUS, SSIM_RADIUS, 0))


def code_perplexity(counts: np.ndarray) -> float:
    """exp(entropy) of how often each code occurs: `counts` (K,) -> between 1 and K."""
    usage = counts / max(counts.sum(), 1)
    return float(np.exp(entr(usage).sum()))
