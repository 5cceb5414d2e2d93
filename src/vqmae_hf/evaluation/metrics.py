"""Classification metrics of emotion recognition, on numpy arrays."""

from collections.abc import Callable

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score
from transformers import EvalPrediction


def classification_metrics(labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Metrics of single-label classification.

    Args:
        labels: (N,) true class numbers.
        predictions: (N,) predicted class numbers.

    Returns:
        `accuracy` (= WAR, weighted average recall: the share of clips that are right), `uar` (unweighted average
        recall over the classes that occur in `labels`), `macro_f1` and `weighted_f1` (over the classes that occur in
        either; a class that is never predicted right has F1 0).

    Raises:
        ValueError: lengths differ or nothing to evaluate.
    """
    labels, predictions = _check_pair(labels, predictions)
    present = np.unique(labels)
    return {
        "accuracy": float(accuracy_score(labels, predictions)),
        "uar": float(recall_score(labels, predictions, labels=present, average="macro", zero_division=0)),
        "macro_f1": float(f1_score(labels, predictions, average="macro", zero_division=0)),
        "weighted_f1": float(f1_score(labels, predictions, average="weighted", zero_division=0)),
    }


def class_confusions(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Confusion matrix (num_classes, num_classes), int64: rows are true classes, columns predicted ones."""
    labels, predictions = _check_pair(labels, predictions)
    return confusion_matrix(labels, predictions, labels=np.arange(num_classes)).astype(np.int64)


def pool_windows(logits: np.ndarray, clip_index: np.ndarray) -> np.ndarray:
    """Mean of the class probabilities over the windows of each clip.

    Args:
        logits: (N, C) of N windows.
        clip_index: (N,) number of the clip that each window was cut from, 0 to M - 1, each at least once.

    Returns:
        (M, C) float64 probabilities; each row sums to 1.

    Raises:
        ValueError: lengths differ, or a clip without a window.
    """
    logits, clip_index = np.asarray(logits, dtype=np.float64), np.asarray(clip_index)
    if len(logits) != len(clip_index):
        raise ValueError(f"{len(logits)} rows of logits but clip_index names {len(clip_index)} windows.")
    counts = np.bincount(clip_index)
    if (counts == 0).any():
        raise ValueError(f"clips {np.flatnonzero(counts == 0)[:5].tolist()} have no window; number clips from 0 on.")
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    pooled = np.zeros((len(counts), logits.shape[1]))
    np.add.at(pooled, clip_index, probabilities)
    return pooled / counts[:, None]


def make_compute_metrics(clip_index: np.ndarray | None = None) -> Callable[[EvalPrediction], dict[str, float]]:
    """`compute_metrics` for `Trainer`: `classification_metrics` of the highest class, per clip.

    Args:
        clip_index: (N,) for datasets of windows: probabilities are pooled over each clip first, and all windows of
            a clip carry its label.

    Returns:
        A function of an `EvalPrediction` whose predictions are logits (N, C) or a tuple that starts with them.
    """

    def compute_metrics(evaluated: EvalPrediction) -> dict[str, float]:
        logits = evaluated.predictions
        logits = logits[0] if isinstance(logits, tuple) else logits
        labels = np.asarray(evaluated.label_ids)
        if clip_index is not None:
            logits = pool_windows(logits, clip_index)
            labels = labels[np.unique(clip_index, return_index=True)[1]]
        return classification_metrics(labels, np.argmax(logits, axis=1))

    return compute_metrics


def _check_pair(labels: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape or labels.ndim != 1:
        raise ValueError(
            f"labels {labels.shape} and predictions {predictions.shape} must be two vectors of one length."
        )
    if not len(labels):
        raise ValueError("there is nothing to evaluate: labels is empty.")
    return labels, predictions
