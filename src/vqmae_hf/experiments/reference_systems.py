"""The systems that a network has to beat: the most frequent class, and classifiers of statistics over time."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from vqmae_hf.evaluation.metrics import classification_metrics

# What chooses the epoch of a network (`metric_for_best_model`) chooses here too.
SELECTION = "macro_f1"
MAX_ITERATIONS = 5000
# By kind: the classifier of a C, and the values of C to choose from, the most regularised first.
CLASSIFIERS: dict[str, tuple[Callable[[float], ClassifierMixin], tuple[float, ...]]] = {
    "logistic_regression": (
        lambda strength: LogisticRegression(C=strength, max_iter=MAX_ITERATIONS),
        tuple(10.0**power for power in range(-5, 2)),
    ),
    "support_vector_machine": (lambda strength: SVC(C=strength), tuple(10.0 ** (power / 2) for power in range(-2, 5))),
}


class Choice(NamedTuple):
    """A fitted classifier, its C, and what the validation speakers said of it."""

    model: Pipeline
    strength: float
    best_validation: float


def majority_probabilities(labels: np.ndarray, num_classes: int, num_clips: int) -> np.ndarray:
    """(num_clips, num_classes): the shares of the classes among the training labels, whatever the clip."""
    shares = np.bincount(labels, minlength=num_classes) / len(labels)
    return np.tile(shares, (num_clips, 1))


def choose_classifier(
    kind: str,
    features: np.ndarray,
    labels: np.ndarray,
    validation_features: np.ndarray,
    validation_labels: np.ndarray,
    *,
    refit: bool = False,
) -> Choice:
    """Classifiers of standardised features, one per C, and the one that is best on the validation speakers.

    Mean and variance of the features are those of the training clips; of equally good ones, the most regularised is
    taken.

    Args:
        kind: a key of `CLASSIFIERS`.
        features, validation_features: (N, F), (M, F).
        labels, validation_labels: (N,), (M,) class numbers.
        refit: whether the chosen one, and mean and variance, are fitted again with the validation speakers; where networks
            train on them too.
    """
    make, strengths = CLASSIFIERS[kind]
    best = None
    for strength in strengths:
        model = make_pipeline(StandardScaler(), make(strength))
        model.fit(features, labels)
        score = classification_metrics(validation_labels, model.predict(validation_features))[SELECTION]
        if best is None or score > best.best_validation:
            best = Choice(model, strength, score)
    if refit:
        best.model.fit(np.concatenate([features, validation_features]), np.concatenate([labels, validation_labels]))
    return best


def class_scores(choice: Choice, features: np.ndarray, num_classes: int) -> np.ndarray:
    """(N, num_classes) that sum to 1; 0 for classes that no training clip had.

    Probabilities of a logistic regression. A support vector machine has none: its are the softmax of how far inside each
    class a clip lies, and only rank the classes.
    """
    scores, classifier = np.zeros((len(features), num_classes)), choice.model[-1]
    if hasattr(classifier, "predict_proba"):
        scores[:, classifier.classes_] = choice.model.predict_proba(features)
    else:
        margins = choice.model.decision_function(features)
        # Of two classes, one margin tells both.
        scores[:, classifier.classes_] = softmax(
            np.stack([-margins, margins], axis=1) if margins.ndim == 1 else margins, axis=1
        )
    return scores
