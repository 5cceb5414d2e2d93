"""What a classifier said of every clip, and how right it was."""

from typing import Any

import numpy as np
from datasets import Dataset

from vqmae_hf.evaluation.metrics import class_confusions, classification_metrics


def clip_report(clips: Dataset, probabilities: np.ndarray) -> dict[str, Any]:
    """Metrics and answers of a classifier, however it came to them, as results files hold them.

    Args:
        clips: (N,) clips with `clip_id`, `speaker` and `emotion` (a `ClassLabel`).
        probabilities: (N, number of classes), in the order of the classes.

    Returns:
        `metrics` (`classification_metrics`), `confusion_matrix` (rows: true classes) and `predictions` of each clip:
        `clip_id`, `speaker`, `emotion`, `predicted`, `probabilities` rounded to 6 digits.

    Raises:
        ValueError: another number of clips than of rows, or none.
    """
    names = clips.features["emotion"].names
    labels, predicted = np.asarray(clips["emotion"][:]), probabilities.argmax(axis=1)
    described = clips.select_columns(["clip_id", "speaker"]).to_list()
    return {
        "metrics": classification_metrics(labels, predicted),
        "confusion_matrix": class_confusions(labels, predicted, len(names)).tolist(),
        "predictions": [
            {
                **clip,
                "emotion": names[label],
                "predicted": names[guess],
                "probabilities": [round(p, 6) for p in row],
            }
            for clip, label, guess, row in zip(described, labels, predicted, probabilities.tolist(), strict=True)
        ],
    }
