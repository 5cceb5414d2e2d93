"""What is done to the waveform of a clip before it is encoded: silence cut off at its ends, another speed."""

import numpy as np

# Of the frames whose loudness is compared: as long as the windows of the spectra, and as far apart.
FRAME_SECONDS = 0.064
HOP_SECONDS = 0.02
# Kept before the first and after the last loud moment, for consonants, which are quieter than the vowels after them.
MARGIN_SECONDS = 0.08


def trim_silence(waveform: np.ndarray, sampling_rate: int, threshold_db: float) -> np.ndarray:
    """Cut off what lies before the first and after the last moment that is nearly as loud as the loudest.

    Args:
        waveform: (N,), N >= 1.
        sampling_rate: in Hz.
        threshold_db: a moment counts whose loudness (root mean square over 64 ms) is less than this below the loudest.

    Returns:
        A view of at least one sample, with up to 80 ms more on either side; all of a waveform of zeros.
    """
    from librosa.effects import trim  # brings numba, which costs a second to import

    frame_length, hop_length = (round(seconds * sampling_rate) for seconds in (FRAME_SECONDS, HOP_SECONDS))
    _, (start, end) = trim(waveform, top_db=threshold_db, frame_length=frame_length, hop_length=hop_length)
    margin = round(MARGIN_SECONDS * sampling_rate)
    return waveform[max(0, start - margin) : end + margin]


def change_speed(waveform: np.ndarray, sampling_rate: int, factor: float) -> np.ndarray:
    """Play a waveform faster (`factor` above 1) or slower, pitch and formants moving along, as a tape does: the speed
    perturbation of Ko et al. 2015, "Audio augmentation for speech recognition".

    Args:
        waveform: (N,).
        sampling_rate: in Hz, before and afterwards.
        factor: 1 returns the waveform itself.

    Returns:
        (ceil(N / factor),) in the same precision.
    """
    if factor == 1:
        return waveform
    from librosa import resample  # likewise

    return resample(waveform, orig_sr=factor * sampling_rate, target_sr=sampling_rate)
