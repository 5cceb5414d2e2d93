"""
Whether a swap of latents changes what it should and nothing else: read from decoded pictures and sound, not from latents.

Independent probes learn every factor from media of the training speakers (pictures and spectra, reduced by principal
components), as decoded by the model, so that what they know is neither the model's latents nor how real media differ from
decoded ones. They then read clips of unseen speakers in which one latent was swapped. What they read is compared with the
truth about the clip that the latent came from and with that about the clip that everything else came from.

Letters: N clips, T frames, H pixels of a side, F bins, D numbers, C columns of a factor.
"""

from typing import Any, NamedTuple

import numpy as np
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline

from vqmae_hf.evaluation.disentanglement import LatentArrays, clip_blocks, factor_samples, frame_blocks
from vqmae_hf.evaluation.known_factors import FACTORS, Factor, FactorValues
from vqmae_hf.evaluation.latent_probes import TargetScale, fit_probe

NUM_PICTURE_NUMBERS = 60
NUM_SOUND_NUMBERS = 40
# Pictures are seen at half their resolution.
SHRINKING = 2
MOST_FRAMES_FOR_COMPONENTS = 4000
SILENCE = 1e-6


class Media(NamedTuple):
    """Clips as pictures, (N, T, H, H, 3) uint8, and power spectra, (N, T, F)."""

    frames: np.ndarray
    spectra: np.ndarray


class MediaProbes:
    """
    Probes of every factor in pictures and sound.

    Args:
        media, values: clips to learn from, and the truth about them.
        seed: of the probes and the frames they learn from.
    """

    def __init__(self, media: Media, values: FactorValues, seed: int = 0):
        self.seed = seed
        pictures, sounds = _picture_numbers(media.frames), _sound_numbers(media.spectra)
        self.components = {
            "seen": _fit_components(pictures, NUM_PICTURE_NUMBERS, seed),
            "heard": _fit_components(sounds, NUM_SOUND_NUMBERS, seed),
        }
        latents = self.describe(media)
        self.probes: dict[str, tuple[Pipeline, TargetScale]] = {
            factor.name: fit_probe(factor_samples(factor, self.block(factor, latents), values, seed), seed)
            for factor in FACTORS
        }

    def describe(self, media: Media) -> LatentArrays:
        """Principal components of each frame and spectrum, "seen" and "heard": (N, T, D)."""
        numbers = {"seen": _picture_numbers(media.frames), "heard": _sound_numbers(media.spectra)}
        return LatentArrays({}, {sense: _project(self.components[sense], x) for sense, x in numbers.items()})

    @staticmethod
    def block(factor: Factor, described: LatentArrays) -> np.ndarray:
        """What the probe of a factor looks at: the modality that shows it, or both."""
        blocks = (frame_blocks if factor.moves else clip_blocks)(described)
        return blocks["all" if factor.sense == "both" else factor.sense]

    def read(self, factor: Factor, described: LatentArrays) -> np.ndarray:
        """What is read of each clip (N, C) or (N,), or frame (N, T, C) or (N, T)."""
        block = self.block(factor, described)
        probe, scale = self.probes[factor.name]
        told = scale.restore(probe.predict(block.reshape(-1, block.shape[-1])))
        return told.reshape(*block.shape[:-1], *told.shape[1:])


def agreement(factor: Factor, told: np.ndarray, truth: np.ndarray, counted: np.ndarray) -> float:
    """
    How far what was read follows the truth: mean correlation of the columns (over clips, or over all counted frames), or, of
    classes, (accuracy - chance) / (1 - chance), chance being the share of the most frequent class.

    Args:
        told, truth: (N, ...) as of `MediaProbes.read` and `FactorValues.values`.
        counted: (N, T) bool, frames that count, of factors that move.
    """
    if factor.moves:
        told, truth = told[counted], truth[counted]
    if factor.kind == "class":
        chance = np.unique(truth, return_counts=True)[1].max() / len(truth)
        return float(((told == truth).mean() - chance) / max(1 - chance, 1e-12))
    pairs = zip(told.T, truth.T, strict=True)
    return float(np.mean([_correlation(a, b) for a, b in pairs]))


def swap_report(
    probes: MediaProbes, decoded: dict[str, Media], source: FactorValues, target: FactorValues
) -> dict[str, dict[str, Any]]:
    """
    What swapped clips show of their two parents.

    Args:
        probes: of media that the same model decoded.
        decoded: by latent, `target` with that latent of `source`; and "none", `target` decoded as it is.
        source, target: the truth about the parents, N clips each; emotions and speakers of a pair differ.

    Returns:
        By factor: `home`, and by latent that was swapped ("none" included) `source` and `target`, the agreements with each
        parent, and `moved`, the share of the two that is the source's: 1 where the factor came along, 0 where it stayed.
    """
    described = {name: probes.describe(media) for name, media in decoded.items()}
    report: dict[str, dict[str, Any]] = {}
    for factor in FACTORS:
        counted = source.heard & target.heard if factor.name.startswith("pitch") else np.ones_like(source.heard)
        rows: dict[str, Any] = {"home": factor.home}
        for name, latents in described.items():
            told = probes.read(factor, latents)
            both = [agreement(factor, told, v.values[factor.name], counted) for v in (source, target)]
            came, stayed = (max(value, 0.0) for value in both)
            rows[name] = {"source": both[0], "target": both[1], "moved": came / max(came + stayed, 1e-12)}
        report[factor.name] = rows
    return report


def _picture_numbers(frames: np.ndarray) -> np.ndarray:
    """(N, T, H, H, 3) uint8 to (N, T, numbers), means of squares of pixels."""
    N, T, H, W, C = frames.shape
    squares = frames.reshape(N, T, H // SHRINKING, SHRINKING, W // SHRINKING, SHRINKING, C)
    return squares.mean(axis=(3, 5), dtype=np.float32).reshape(N, T, -1) / 255


def _sound_numbers(spectra: np.ndarray) -> np.ndarray:
    """(N, T, F) power to its logarithm."""
    return np.log10(np.maximum(spectra, SILENCE)).astype(np.float32)


def _fit_components(numbers: np.ndarray, count: int, seed: int) -> PCA:
    rows = numbers.reshape(-1, numbers.shape[-1])
    chosen = np.random.default_rng(seed).permutation(len(rows))[:MOST_FRAMES_FOR_COMPONENTS]
    return PCA(min(count, len(chosen), rows.shape[1]), random_state=seed, svd_solver="randomized").fit(rows[chosen])


def _project(components: PCA, numbers: np.ndarray) -> np.ndarray:
    return components.transform(numbers.reshape(-1, numbers.shape[-1])).reshape(*numbers.shape[:2], -1)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    spread = a.std() * b.std()
    return float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread > 1e-12 else 0.0
