"""
Which latent of an MDVAE tells which factor ([MD] shows it; here it is measured against known factors).

Probes read every factor from every latent, on unseen speakers (`latent_probes`). Two gaps say how exclusive a latent is,
number by number, after Chen et al., "Isolating sources of disentanglement in VAEs", 2018 (mutual-information gap) and Kumar
et al., "Variational inference of disentangled latent concepts from unlabeled observations", 2018 (SAP), with the best
number of *another latent* in place of the second best number: how many numbers of one latent share a factor is no fault.

Letters: N clips, T frames, D numbers, C columns of a factor.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from vqmae_hf.evaluation.known_factors import FACTORS, Factor, FactorValues
from vqmae_hf.evaluation.latent_probes import Samples, probe_factor

ALL_LATENTS = "all"
# Frames that probes are fitted to and scored on; more would be more of the same clips.
MOST_FRAMES = 4000
NUM_BINS = 10


class LatentArrays(NamedTuple):
    """Posterior means of clips: `static` "w" -> (N, D), `moving` "z_av", "z_a", "z_v" -> (N, T, D); of those that exist."""

    static: dict[str, np.ndarray]
    moving: dict[str, np.ndarray]

    def select(self, clips: np.ndarray) -> "LatentArrays":
        """Those of some clips: indices, or (N,) bool."""
        return LatentArrays(*({name: array[clips] for name, array in part.items()} for part in self))


def clip_blocks(latents: LatentArrays) -> dict[str, np.ndarray]:
    """Blocks (N, D) for what is the same all over a clip: w, and mean and standard deviation over time of the others."""
    pooled = {name: np.concatenate([z.mean(axis=1), z.std(axis=1)], axis=1) for name, z in latents.moving.items()}
    return _with_all({**latents.static, **pooled})


def frame_blocks(latents: LatentArrays) -> dict[str, np.ndarray]:
    """
    Blocks (N, T, D) that tell what moves within a clip: each latent of the frame, and its deviation from its mean over the
    clip, as the factors are such deviations; w is the same in every frame.
    """
    num_frames = next(iter(latents.moving.values())).shape[1]
    blocks = {name: np.repeat(w[:, None], num_frames, axis=1) for name, w in latents.static.items()}
    for name, z in latents.moving.items():
        blocks[name] = np.concatenate([z, z - z.mean(axis=1, keepdims=True)], axis=2)
    return _with_all(blocks)


def _with_all(blocks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {**blocks, ALL_LATENTS: np.concatenate(list(blocks.values()), axis=-1)}


def measure_disentanglement(
    train: tuple[LatentArrays, FactorValues], test: tuple[LatentArrays, FactorValues], seed: int = 0
) -> dict[str, dict[str, Any]]:
    """
    Probes and gaps of every factor.

    Args:
        train: latents and factors of speakers that probes are fitted to.
        test: those of other speakers.
        seed: of the choice of frames and of the probes.

    Returns:
        By factor: `home`; `scores` and, of classes, `accuracies` by latent ("all" for all together); `probes`, the kind that
        was chosen; `best`, the latent with the highest score; `information_gap` and `score_gap`, see `number_gaps`.
    """
    blocks = [{False: clip_blocks(latents), True: frame_blocks(latents)} for latents, _ in (train, test)]
    report = {}
    for factor in FACTORS:
        scores = {}
        for name in blocks[0][factor.moves]:
            samples = [
                factor_samples(factor, part[factor.moves][name], values, seed)
                for part, (_, values) in zip(blocks, (train, test), strict=True)
            ]
            scores[name] = probe_factor(*samples, seed=seed)
        alone = [name for name in scores if name != ALL_LATENTS]
        gaps = number_gaps(factor, *_together(factor, blocks, (train[1], test[1]), seed))
        report[factor.name] = {
            "home": factor.home,
            "scores": {name: score.score for name, score in scores.items()},
            "accuracies": {name: s.accuracy for name, s in scores.items() if s.accuracy is not None},
            "probes": {name: score.probe for name, score in scores.items()},
            "best": max(alone, key=lambda name: scores[name].score),
            **gaps,
        }
    return report


def factor_samples(factor: Factor, block: np.ndarray, values: FactorValues, seed: int) -> Samples:
    """
    A block (N, D) or (N, T, D) and a factor as samples, at most `MOST_FRAMES` of them.

    Pitch and its jitter count where the voice sounds.
    """
    targets = values.values[factor.name]
    if not factor.moves:
        return Samples(block, targets, values.speakers)
    counted = values.heard if factor.name.startswith("pitch") else np.ones_like(values.heard)
    clips, frames = np.nonzero(counted)
    if len(clips) > MOST_FRAMES:
        kept = np.sort(np.random.default_rng(seed).choice(len(clips), MOST_FRAMES, replace=False))
        clips, frames = clips[kept], frames[kept]
    return Samples(block[clips, frames], targets[clips, frames], values.speakers[clips])


def _together(factor: Factor, blocks, values, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Numbers of each latent, and the factor, of the samples of all speakers: nothing is fitted to them."""
    numbers: dict[str, np.ndarray] = {}
    for name in (name for name in blocks[0][factor.moves] if name != ALL_LATENTS):
        parts = [
            factor_samples(factor, part[factor.moves][name], v, seed) for part, v in zip(blocks, values, strict=True)
        ]
        numbers[name] = np.concatenate([part.inputs for part in parts])
        targets = np.concatenate([part.targets for part in parts])
    return numbers, targets


def number_gaps(factor: Factor, numbers: Mapping[str, np.ndarray], targets: np.ndarray) -> dict[str, float]:
    """
    How much more the best single number of one latent tells than the best one of any other latent.

    Args:
        numbers: (N, D) of each latent.
        targets: (N,) classes, or (N, C) numbers; gaps are means over the columns.

    Returns:
        `information_gap`: of mutual information, as a share of the entropy of the factor (both from 10 bins of equal
        frequency, corrected for their number after Miller and Madow); `score_gap`: of the squared correlation, for classes
        of the correlation ratio. Positive: the home of the factor leads; negative: by how much it lags behind.
    """
    columns = targets[:, None] if targets.ndim == 1 else targets
    information, scores = [], []
    for column in columns.T:
        labels = column if factor.kind == "class" else _binned(column)
        entropy = _entropy(np.unique(labels, return_counts=True)[1])
        information.append(
            _lead(
                factor.home, {n: max(_mutual_information(_binned(x), labels) for x in b.T) for n, b in numbers.items()}
            )
            / max(entropy, 1e-12)
        )
        told = _correlation_ratio if factor.kind == "class" else _squared_correlation
        scores.append(_lead(factor.home, {n: max(told(x, column) for x in b.T) for n, b in numbers.items()}))
    return {"information_gap": float(np.mean(information)), "score_gap": float(np.mean(scores))}


def _lead(home: str, best: Mapping[str, float]) -> float:
    return best[home] - max(value for name, value in best.items() if name != home)


def _binned(values: np.ndarray) -> np.ndarray:
    """Bin numbers of (N,) values, bins of about equal frequency; equal values share a bin."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, NUM_BINS + 1)[1:-1]))
    return np.searchsorted(edges, values, side="right")


def _entropy(counts: np.ndarray) -> float:
    """Nats, with Miller and Madow's correction."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum() + (len(shares) - 1) / (2 * counts.sum()))


def _mutual_information(first: np.ndarray, second: np.ndarray) -> float:
    """Nats between two arrays (N,) of labels."""
    _, a = np.unique(first, return_inverse=True)
    _, b = np.unique(second, return_inverse=True)
    table = np.bincount(a * (b.max() + 1) + b, minlength=(a.max() + 1) * (b.max() + 1)).reshape(a.max() + 1, -1)
    return _entropy(table.sum(axis=1)) + _entropy(table.sum(axis=0)) - _entropy(table.ravel())


def _squared_correlation(x: np.ndarray, y: np.ndarray) -> float:
    spread = x.std() * y.std()
    return float(((x - x.mean()) * (y - y.mean())).mean() / spread) ** 2 if spread > 0 else 0.0


def _correlation_ratio(x: np.ndarray, labels: np.ndarray) -> float:
    """Share of the variance of x that lies between the classes."""
    _, index = np.unique(labels, return_inverse=True)
    counts = np.bincount(index)
    means = np.bincount(index, x) / counts
    between = (counts * np.square(means - x.mean())).sum()
    return float(between / max(np.square(x - x.mean()).sum(), 1e-12))
