"""
Probes: how well simple regressions read a factor from a block of numbers, on speakers that neither has seen.

**Blocks of different size.** A probe of a number reads out one direction of its block however many numbers it has; more
numbers only give it more to fit by chance. So every probe chooses its regularisation, and whether it is linear, by
cross-validation over training speakers, and is scored on other speakers: a large block has no advantage that is not
information. Numbers of a block keep their relative scale: in a variational autoencoder a number that says nothing has a
posterior mean near 0, which standardisation would blow up.

Letters: N samples (clips or frames), D numbers of a block, C columns of a factor, K classes.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

LINEAR_STRENGTHS = (1.0, 30.0, 1000.0)
KERNEL_STRENGTHS = (1.0, 30.0)
# Of a radial basis function kernel: width over that of a standardised block, and how many training samples stand for all.
KERNEL_GAMMA = 0.5
KERNEL_SAMPLES = 150
NUM_FOLDS = 3


class ProbeScore(NamedTuple):
    """
    What a probe said on unseen speakers.

    Attributes:
        score: 0 is what can be said without the block, 1 is the truth. Numbers: share of variance explained (R², mean over
            columns). Classes: (accuracy - chance) / (1 - chance), chance the share of the most frequent class.
        accuracy: of classes, else None.
        probe: which one cross-validation chose, e.g. "linear 10".
    """

    score: float
    accuracy: float | None
    probe: str


class BlockScaler(BaseEstimator, TransformerMixin):
    """Centres every number of a block and divides all of them by one number: variances sum to 1."""

    def fit(self, X: np.ndarray, y: Any = None) -> "BlockScaler":
        self.mean_ = X.mean(axis=0)
        self.scale_ = float(np.sqrt(X.var(axis=0).sum())) or 1.0
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        return (X - self.mean_) / self.scale_


class Samples(NamedTuple):
    """`inputs` (N, D) of a block, `targets` (N, C) float or (N,) int, `groups` (N,) the speaker of each."""

    inputs: np.ndarray
    targets: np.ndarray
    groups: np.ndarray


def probe_factor(train: Samples, test: Samples, seed: int = 0) -> ProbeScore:
    """
    Choose a probe by cross-validation over the speakers of `train`, fit it to all of them, and score it on `test`.

    Args:
        train, test: of different speakers.
        seed: of the samples that a kernel is made of.

    Raises:
        ValueError: speakers in both.
    """
    common = set(train.groups) & set(test.groups)
    if common:
        raise ValueError(
            f"speakers {sorted(map(str, common))[:3]} are in train and in test; a probe is scored on unseen ones."
        )
    chosen = choose_probe(train, seed)
    probe = dict(_candidates(train, seed))[chosen].fit(train.inputs, _targets(train, train))
    return score_predictions(probe.predict(test.inputs), train, test, chosen)


def fit_probe(train: Samples, seed: int = 0) -> tuple[Pipeline, "TargetScale"]:
    """A probe chosen as in `probe_factor`, fitted, with the scale of its targets: `scale.restore(probe.predict(inputs))`."""
    chosen = choose_probe(train, seed)
    return dict(_candidates(train, seed))[chosen].fit(train.inputs, _targets(train, train)), TargetScale.of(
        train.targets
    )


class TargetScale(NamedTuple):
    """Mean and standard deviation of the columns of a factor, None for classes."""

    mean: np.ndarray | None
    std: np.ndarray | None

    @classmethod
    def of(cls, targets: np.ndarray) -> "TargetScale":
        if targets.ndim == 1:
            return cls(None, None)
        return cls(targets.mean(axis=0), np.maximum(targets.std(axis=0), 1e-12))

    def apply(self, targets: np.ndarray) -> np.ndarray:
        return targets if self.mean is None else (targets - self.mean) / self.std

    def restore(self, predictions: np.ndarray) -> np.ndarray:
        return predictions if self.mean is None else predictions.reshape(-1, len(self.mean)) * self.std + self.mean


def choose_probe(train: Samples, seed: int = 0) -> str:
    """The name of the candidate that predicts best for speakers left out of the fit, on average."""
    folds = list(GroupKFold(min(NUM_FOLDS, len(set(train.groups)))).split(train.inputs, groups=train.groups))
    totals: dict[str, float] = {}
    for name, probe in _candidates(train, seed):
        for fitted, held_out in folds:
            inner, outer = (Samples(*(part[rows] for part in train)) for rows in (fitted, held_out))
            predictions = probe.fit(inner.inputs, _targets(inner, inner)).predict(outer.inputs)
            totals[name] = totals.get(name, 0.0) + score_predictions(predictions, inner, outer, name).score
    return max(totals, key=lambda name: totals[name])


def score_predictions(predictions: np.ndarray, train: Samples, test: Samples, name: str) -> ProbeScore:
    """`ProbeScore` of predictions for `test`, of standardised numbers or of classes, against what `train` says alone."""
    if test.targets.ndim == 1:
        accuracy = float((predictions == test.targets).mean())
        names, counts = np.unique(train.targets, return_counts=True)
        chance = float((test.targets == names[counts.argmax()]).mean())
        return ProbeScore((accuracy - chance) / max(1 - chance, 1e-12), accuracy, name)
    truth = _targets(train, test)
    errors = np.square(predictions.reshape(truth.shape) - truth).mean(axis=0)
    spread = np.maximum(truth.var(axis=0), 1e-12)
    return ProbeScore(float((1 - errors / spread).mean()), None, name)


def _targets(train: Samples, samples: Samples) -> np.ndarray:
    """Targets in the units of the training ones."""
    return TargetScale.of(train.targets).apply(samples.targets)


def _candidates(train: Samples, seed: int) -> Iterator[tuple[str, Pipeline]]:
    """Least squares, linear and after a kernel, each with every strength: names and untrained pipelines."""
    head = RidgeClassifier if train.targets.ndim == 1 else Ridge
    num_samples, num_inputs = train.inputs.shape
    for strength in LINEAR_STRENGTHS:
        # The numbers of a scaled block have variance 1 / D on average; standardised ones, after the kernel, have 1.
        yield f"linear {strength:g}", make_pipeline(BlockScaler(), head(alpha=strength / num_inputs))
    for strength in KERNEL_STRENGTHS:
        kernel = Nystroem(gamma=KERNEL_GAMMA, n_components=min(KERNEL_SAMPLES, num_samples // 2), random_state=seed)
        parts = (BlockScaler(), kernel, StandardScaler(), head(alpha=strength))
        yield f"kernel {strength:g}", make_pipeline(*parts)
