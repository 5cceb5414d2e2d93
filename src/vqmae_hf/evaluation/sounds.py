"""Power spectra made audible again."""

import numpy as np
import torch

PHASE_SEED = 0


def retrieve_phases(
    power: torch.Tensor | np.ndarray, *, n_fft: int = 1024, hop_length: int = 320, num_iterations: int = 64
) -> np.ndarray:
    """
    A waveform whose spectrogram is the given one, its phases found by Griffin and Lim's iteration (librosa's).

    Args:
        power: (S, n_fft / 2 + 1) power spectra, as of `AudioVQVAEFeatureExtractor` or an `AudioVQVAEModel`.
        n_fft, hop_length: of the STFT, in samples.
        num_iterations: of the phase retrieval; 64 take about half a second per second of speech on one core.

    Returns:
        (S * hop_length,) float32, at the scale of the spectra.
    """
    from librosa import griffinlim  # brings numba, which costs a second to import

    magnitude = np.sqrt(np.asarray(torch.as_tensor(power).float().cpu()))
    num_samples = len(magnitude) * hop_length
    # The column centred on the very end of the waveform, which the feature extractor leaves out.
    magnitude = np.concatenate([magnitude, magnitude[-1:]])
    waveform = griffinlim(
        magnitude.T,
        n_iter=num_iterations,
        hop_length=hop_length,
        n_fft=n_fft,
        length=num_samples,
        random_state=PHASE_SEED,
        pad_mode="constant",
    )
    return waveform.astype(np.float32)


def waveform_from_power(power: torch.Tensor | np.ndarray, **options: int) -> np.ndarray:
    """`retrieve_phases` with its arguments, made `audible`."""
    return audible(retrieve_phases(power, **options))


def audible(waveform: np.ndarray) -> np.ndarray:
    """A waveform (N,) scaled to a largest magnitude of 0.95, float32; a silent one stays silent."""
    peak = np.abs(waveform).max()
    return (0.95 * waveform / peak if peak > 0 else waveform).astype(np.float32)
