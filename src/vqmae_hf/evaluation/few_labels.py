"""
Emotion from frozen features with few labels ([MD], emotion recognition): regressions and small networks on shares of the
training clips, drawn several times, tested on speakers that nobody has seen.

Letters: N clips, D numbers, K classes.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from vqmae_hf.evaluation.latent_probes import BlockScaler

SHARES = (0.01, 0.03, 0.1, 0.3, 1.0)
NUM_DRAWS = 10
LOGISTIC_STRENGTH = 1.0  # of the penalty, for numbers of unit variance
HIDDEN_SIZE = 64
WEIGHT_DECAY = 1e-2
NETWORK_ITERATIONS = 200


class LabelledClips(NamedTuple):
    """`inputs` (N, ...) of clips, whatever a classifier takes, and `labels` (N,)."""

    inputs: np.ndarray
    labels: np.ndarray


# Training clips, inputs of test clips, seed -> predicted classes of the test clips.
Classifier = Callable[[LabelledClips, np.ndarray, int], np.ndarray]


def draw_labelled(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """
    Which clips keep their label: a share of each class, at least one clip of each.

    Args:
        labels: (N,) of all training clips.
        share: above 0, at most 1.

    Returns:
        Sorted indices.

    Raises:
        ValueError: a share out of its range.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share={share} must be above 0 and at most 1.")
    generator = np.random.default_rng((seed, round(1e6 * share)))
    chosen = []
    for name in np.unique(labels):
        members = np.flatnonzero(labels == name)
        chosen.append(generator.permutation(members)[: max(1, round(share * len(members)))])
    return np.sort(np.concatenate(chosen))


def label_curve(
    classifier: Classifier,
    train: LabelledClips,
    test: LabelledClips,
    *,
    shares: tuple[float, ...] = SHARES,
    num_draws: int | Sequence[int] = NUM_DRAWS,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """
    Accuracy over the share of labels.

    Args:
        classifier: trained anew for every share and draw.
        train, test: clips of different speakers.
        shares: of the training clips.
        num_draws: of every share, or of each one; where all labels are taken, seeds of the classifier.
        seed: of the first draw.

    Returns:
        For each share: `share`, `labels` (how many), `accuracies` of the draws, `mean`, `std` (n - 1; None of one draw),
        and `right` of each test clip, the share of draws in which it was.

    Raises:
        ValueError: numbers of draws that are not as many as the shares, or below 1.
    """
    draws = [num_draws] * len(shares) if isinstance(num_draws, int) else list(num_draws)
    if len(draws) != len(shares) or min(draws, default=1) < 1:
        raise ValueError(
            f"num_draws={num_draws} for shares={shares}; accepted is one number from 1, or one per share."
        )
    curve = []
    for share, count in zip(shares, draws, strict=True):
        right = []
        for draw in range(count):
            chosen = draw_labelled(train.labels, share, seed + draw)
            labelled = LabelledClips(train.inputs[chosen], train.labels[chosen])
            right.append(classifier(labelled, test.inputs, seed + draw) == test.labels)
        accuracies = [float(each.mean()) for each in right]
        curve.append(
            {
                "share": share,
                "labels": len(chosen),
                "accuracies": accuracies,
                "mean": float(np.mean(accuracies)),
                "std": float(np.std(accuracies, ddof=1)) if count > 1 else None,
                "right": np.mean(right, axis=0).round(4).tolist(),
            }
        )
    return curve


def logistic_regression(train: LabelledClips, inputs: np.ndarray, seed: int) -> np.ndarray:
    """Classes of `inputs` (M, D) by a logistic regression on (N, D), its penalty fixed: nothing is chosen on few labels."""
    scaler = BlockScaler().fit(train.inputs)
    regression = LogisticRegression(C=train.inputs.shape[1] / LOGISTIC_STRENGTH, max_iter=2000)
    regression.fit(scaler.transform(train.inputs), train.labels)
    return regression.predict(scaler.transform(inputs))


def small_network(train: LabelledClips, inputs: np.ndarray, seed: int) -> np.ndarray:
    """Classes of `inputs` (M, D) by one hidden layer of 64, trained for 200 iterations."""
    scaler = BlockScaler().fit(train.inputs)
    scale = np.sqrt(train.inputs.shape[1])
    network = MLPClassifier(
        HIDDEN_SIZE, alpha=WEIGHT_DECAY, solver="lbfgs", max_iter=NETWORK_ITERATIONS, max_fun=10**6, random_state=seed
    )
    with warnings.catch_warnings():  # it is stopped on purpose
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(scale * scaler.transform(train.inputs), train.labels)
    return network.predict(scale * scaler.transform(inputs))
