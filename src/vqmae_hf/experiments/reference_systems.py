"""The systems that a network has to beat: the most frequent class, and a logistic regression."""

from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from vqmae_hf.evaluation.metrics import classification_metrics

# Inverse strengths of the regularisation to choose from.
STRENGTHS = tuple(10.0**power for power in range(-5, 2))
# What chooses the epoch of a network (`metric_for_best_model`) chooses here too.
SELECTION = "macro_f1"
MAX_ITERATIONS = 5000


class Choice(NamedTuple):
    """A fitted regression, its C, and what the validation speakers said of it."""

    model: Pipeline
    strength: float
    best_validation: float


def majority_probabilities(labels: np.ndarray, num_classes: int, num_clips: int) -> np.ndarray:
    """(num_clips, num_classes): the shares of the classes among the training labels, whatever the clip."""
    shares = np.bincount(labels, minlength=num_classes) / len(labels)
    return np.tile(shares, (num_clips, 1))


def choose_regression(
    features: np.ndarray, labels: np.ndarray, validation_features: np.ndarray, validation_labels: np.ndarray
) -> Choice:
    """Logistic regressions on standardised features, one per C, and the one that is best on the validation speakers.

    Mean and variance of the features are those of the training clips; of equally good ones, the most regularised is
    taken. It is not fitted again with the validation speakers, whom networks do not train on either.

    Args:
        features, validation_features: (N, F), (M, F).
        labels, validation_labels: (N,), (M,) class numbers.
    """
    best = None
    for strength in STRENGTHS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=MAX_ITERATIONS))
        model.fit(features, labels)
        score = classification_metrics(validation_labels, model.predict(validation_features))[SELECTION]
        if best is None or score > best.best_validation:
            best = Choice(model, strength, score)
    return best


def regression_probabilities(choice: Choice, features: np.ndarray, num_classes: int) -> np.ndarray:
    """(N, num_classes); 0 for classes that no training clip had."""
    probabilities = np.zeros((len(features), num_classes))
    probabilities[:, choice.model[-1].classes_] = choice.model.predict_proba(features)
    return probabilities
