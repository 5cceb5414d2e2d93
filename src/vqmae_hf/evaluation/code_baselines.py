"""What masked codes can be predicted from without a model: how often codes occur, and what is near and visible.

Letters: B windows, L tubes, P codes per tube, K codes, Q positions of a code within a spectrum or a frame.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from vqmae_hf.evaluation.reconstructions import codes_to_tubes
from vqmae_hf.modeling.configuration_vqmae import VQMAEConfig
from vqmae_hf.modeling.tube_inputs import TubeInputs

# How much farther a tube of another place is than one of another time; the best on training speakers is taken.
SPACE_WEIGHTS = (0.5, 1.0, 4.0)
TOP = 5


class CodeScores(NamedTuple):
    """How well the masked codes of windows were predicted: sums over the codes of each window, (B,) float64."""

    codes: torch.Tensor  # how many
    cross_entropy: torch.Tensor  # nats
    top1: torch.Tensor  # codes that were the first guess
    top5: torch.Tensor  # codes that were among the first five

    @classmethod
    def of(cls, log_probability: torch.Tensor, rank: torch.Tensor, counted: torch.Tensor) -> "CodeScores":
        """Sum over what is counted.

        Args:
            log_probability: (B, L, P) of the true codes, in nats.
            rank: (B, L, P) guesses before the true one.
            counted: (B, L, P) bool.
        """
        terms = (torch.ones_like(log_probability), -log_probability, rank < 1, rank < TOP)
        return cls(*(torch.where(counted, term, 0).double().sum(dim=(1, 2)).cpu() for term in terms))


def count_codes(clips: Iterable[np.ndarray], codes_per_step: int, codebook_size: int) -> np.ndarray:
    """How often each code stands at each position of a spectrum or frame.

    Args:
        clips: flat codes, spectrum after spectrum or frame after frame, as in a token store.
        codes_per_step: Q.
        codebook_size: K.

    Returns:
        (Q, K) int64.
    """
    counts = np.zeros(codes_per_step * codebook_size, dtype=np.int64)
    offsets = np.arange(codes_per_step, dtype=np.int64) * codebook_size
    for codes in clips:
        places = codes.astype(np.int64).reshape(-1, codes_per_step) + offsets
        counts += np.bincount(places.ravel(), minlength=len(counts))
    return counts.reshape(codes_per_step, codebook_size)


def tube_positions(config: VQMAEConfig, modality: str) -> torch.Tensor:
    """Position within its spectrum or frame of each code of a window's tubes: (L, P) int64, 0 to Q - 1."""
    if modality == "audio":
        steps, shape = config.audio_num_spectra, (config.audio_codes_per_spectrum,)
    else:
        steps, shape = config.visual_num_frames, (config.visual_codes_per_side,) * 2
    positions = torch.arange(int(np.prod(shape))).view(1, 1, *shape).expand(1, steps, *shape)
    return codes_to_tubes(config, modality, positions)[0]


class FrequencyBaseline:
    """Predicts each masked code by how often codes occur, whatever the window.

    Args:
        probabilities: (Q, K), rows sum to 1; one row for all positions alike.
        positions: (L, P) row of each code of a window's tubes.
    """

    def __init__(self, probabilities: np.ndarray, positions: torch.Tensor):
        self.log_probabilities = torch.from_numpy(np.log(np.maximum(probabilities, 1e-300)))
        order = np.argsort(-probabilities, axis=1, kind="stable")
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(order.shape[1])[None], axis=1)
        self.ranks = torch.from_numpy(ranks)
        self.positions = positions

    @classmethod
    def unigram(cls, counts: np.ndarray, positions: torch.Tensor, pseudo_count: float = 1.0) -> "FrequencyBaseline":
        """Of all positions alike: `counts` (Q, K), to each of which `pseudo_count` is added."""
        return cls(unigram_probabilities(counts, pseudo_count)[None], torch.zeros_like(positions))

    @classmethod
    def positional(cls, counts: np.ndarray, positions: torch.Tensor, pseudo_count: float = 1.0) -> "FrequencyBaseline":
        """Of each position on its own: `counts` (Q, K), to which `pseudo_count` * K codes of the unigram are added."""
        added = pseudo_count * counts.shape[1]
        smoothed = counts + added * unigram_probabilities(counts, pseudo_count)
        return cls(smoothed / (counts.sum(axis=1, keepdims=True) + added), positions)

    def look_up(self, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probability (float64) and rank of `codes` (B, L, P), on their device; those of padding are 0's."""
        rows, codes = self.positions.to(codes.device).expand_as(codes), codes.clamp(min=0)
        return self.log_probabilities.to(codes.device)[rows, codes], self.ranks.to(codes.device)[rows, codes]

    def score(self, tubes: TubeInputs, mask: torch.Tensor) -> CodeScores:
        """Scores of the masked codes: `mask` (B, L) bool, True = masked."""
        return CodeScores.of(*self.look_up(tubes.targets), masked_codes(tubes, mask))


def unigram_probabilities(counts: np.ndarray, pseudo_count: float = 1.0) -> np.ndarray:
    """Share of each code at any position: `counts` (Q, K) -> (K,), after adding `pseudo_count` to each."""
    total = counts.sum(axis=0) + pseudo_count
    return total / total.sum()


def masked_codes(tubes: TubeInputs, mask: torch.Tensor) -> torch.Tensor:
    """Which codes (B, L, P) are masked and no padding."""
    return mask.unsqueeze(2) & (tubes.targets >= 0)


class CopyEvidence(NamedTuple):
    """Of masked codes (N,): whether the nearest visible tube has the same one, and the log-probability without it."""

    matches: np.ndarray
    log_background: np.ndarray


class CopyBaseline:
    """Predicts each masked code to be the one at its place in the nearest visible tube.

    Its probabilities are `weight` on that code and `1 - weight` spread as the background says; its guesses are that code
    first, then the most frequent others.

    Args:
        background: where the rest of the probability goes.
        weight: between 0 and 1.
        space_weight: how much farther a tube of another place is than one of another time.
    """

    def __init__(self, background: FrequencyBaseline, weight: float, space_weight: float):
        self.background = background
        self.weight = weight
        self.space_weight = space_weight

    @classmethod
    def fit(cls, background: FrequencyBaseline, windows: Iterable[tuple[TubeInputs, torch.Tensor]]) -> "CopyBaseline":
        """The `weight` and the `space_weight` under which masked windows are most probable.

        Args:
            background: see above.
            windows: tubes and masks (B, L) of training speakers.
        """
        evidence: dict[float, list[CopyEvidence]] = {weight: [] for weight in SPACE_WEIGHTS}
        for tubes, mask in windows:
            for space_weight, found in evidence.items():
                found.append(cls(background, 0.0, space_weight).weigh(tubes, mask))
        fitted = {}
        for space_weight, found in evidence.items():
            joined = CopyEvidence(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
            fitted[space_weight] = best_copy_weight(joined)
        space_weight = min(fitted, key=lambda tried: fitted[tried][1])
        return cls(background, fitted[space_weight][0], space_weight)

    def weigh(self, tubes: TubeInputs, mask: torch.Tensor) -> CopyEvidence:
        """What the masked codes of windows say for copying."""
        counted = masked_codes(tubes, mask)
        matches = self.copied(tubes, mask) == tubes.targets
        log_background = self.background.look_up(tubes.targets)[0]
        return CopyEvidence(matches[counted].cpu().numpy(), log_background[counted].cpu().numpy())

    def copied(self, tubes: TubeInputs, mask: torch.Tensor) -> torch.Tensor:
        """Codes (B, L, P) of the nearest visible tubes, negative where these are padding."""
        nearest = nearest_visible(mask, tubes.real, tubes.grid, self.space_weight)  # (B, L)
        return tubes.targets.gather(1, nearest.unsqueeze(2).expand_as(tubes.targets))

    def score(self, tubes: TubeInputs, mask: torch.Tensor) -> CodeScores:
        """Scores of the masked codes: `mask` (B, L) bool, True = masked."""
        copied = self.copied(tubes, mask)
        matches, known = copied == tubes.targets, copied >= 0
        log_background, rank = self.background.look_up(tubes.targets)
        _, copied_rank = self.background.look_up(copied)
        probability = self.weight * matches.double() + (1 - self.weight) * log_background.exp()
        # The copied code stands before all others, and is missing where it stood among them.
        pushed = rank + (known & (copied_rank > rank)).long()
        return CodeScores.of(probability.log(), torch.where(matches, 0, pushed), masked_codes(tubes, mask))


def nearest_visible(
    mask: torch.Tensor, real: torch.Tensor | None, grid: tuple[int, ...], space_weight: float = 1.0
) -> torch.Tensor:
    """The visible tube nearest to each tube; of several, the first in time.

    Args:
        mask: (B, L) bool, True = masked.
        real: (B, L) bool, tubes that are no padding; None: all.
        grid: tubes along time, then along the other axes.
        space_weight: factor on distances along the other axes; distances are Euclidean, in tubes.

    Returns:
        (B, L) int64; 0 throughout a window without a visible tube.
    """
    places = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float64) for n in grid)).view(mask.shape[1], -1)
    places[:, 1:] *= space_weight
    distances = torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist").to(mask.device)  # (L, L)
    available = ~mask if real is None else ~mask & real
    return distances.masked_fill(~available.unsqueeze(1), torch.inf).argmin(dim=2)


def best_copy_weight(evidence: CopyEvidence) -> tuple[float, float]:
    """The weight on the copied code that makes the evidence most probable, and its cross-entropy in nats per code."""
    background = np.exp(evidence.log_background[evidence.matches])
    missed = evidence.log_background[~evidence.matches]
    total = max(len(evidence.matches), 1)

    def cross_entropy(weight: float) -> float:
        found = np.log(weight + (1 - weight) * background).sum()
        return float(-(found + missed.sum() + len(missed) * np.log1p(-weight)) / total)

    best = minimize_scalar(cross_entropy, bounds=(1e-9, 1 - 1e-9), method="bounded", options={"xatol": 1e-7})
    return float(best.x), float(best.fun)
