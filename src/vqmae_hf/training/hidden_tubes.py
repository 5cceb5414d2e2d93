"""Tubes hidden from the encoder in fine-tuning: augmentation, and a shorter sequence."""

import numpy as np


def draw_hidden_tubes(real: np.ndarray, share: float, draw: np.random.Generator) -> np.ndarray:
    """Which tubes of each clip to hide: as many of every clip, so that what is visible makes a batch without gaps.

    Of a clip's real tubes this share is hidden, rounded, and of padding what is missing to the common number. That always
    suffices: n - round(share n) does not fall when n grows.

    Args:
        real: (B, L) bool, False for padding.
        share: at least 0 and below 1.
        draw: of the choice.

    Returns:
        (B, L) bool, True = hidden; round(share L) of every row, but at most L - 1, and never all real ones.
    """
    L = real.shape[1]
    num_real = real.sum(axis=1, keepdims=True)
    hidden = min(round(share * L), L - 1)
    hidden_real = np.minimum(np.round(share * num_real), np.maximum(num_real - 1, 0))
    noise = draw.random(real.shape)
    return np.where(real, _rank(noise, real) < hidden_real, _rank(noise, ~real) < hidden - hidden_real)


def _rank(noise: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The place of each chosen entry in the order of its row's chosen entries, (B, L)."""
    return np.where(chosen, noise, np.inf).argsort(axis=1).argsort(axis=1)
