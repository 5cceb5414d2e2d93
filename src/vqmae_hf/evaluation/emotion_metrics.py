"""The metrics of emotion recognition as a module of `evaluate` that needs no network.

`evaluate.load(EMOTION_METRICS)` loads this very file, and `EmotionMetrics()` is the same without the detour; both take
batches (`add_batch`) and go into `evaluate.combine`.
"""

from typing import Any

import evaluate
import numpy as np
from datasets import Features, Value

from vqmae_hf.evaluation.metrics import class_confusions, classification_metrics

EMOTION_METRICS = __file__

DESCRIPTION = """\
accuracy (WAR: the share of clips that are right), uar (unweighted average recall over the classes that occur), macro_f1,
weighted_f1, and confusion_matrix (rows: true classes) where `num_classes` is given."""

CITATION = """\
@article{scikit-learn, title={Scikit-learn: Machine Learning in {P}ython}, author={Pedregosa, F. and others},
journal={Journal of Machine Learning Research}, volume={12}, pages={2825--2830}, year={2011}}"""


class EmotionMetrics(evaluate.Metric):
    """`classification_metrics` of predicted and true class numbers.

    `compute(predictions=(N,), references=(N,), num_classes=None)` returns the dictionary of
    [`~vqmae_hf.evaluation.metrics.classification_metrics`] and, with `num_classes`, `confusion_matrix`, a list of lists.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description="predictions, references: class numbers; num_classes: for the confusion matrix.",
            features=Features({"predictions": Value("int64"), "references": Value("int64")}),
        )

    def _compute(
        self, *, predictions: np.ndarray, references: np.ndarray, num_classes: int | None = None
    ) -> dict[str, Any]:
        labels, guesses = np.asarray(references), np.asarray(predictions)
        metrics: dict[str, Any] = classification_metrics(labels, guesses)
        if num_classes is not None:
            metrics["confusion_matrix"] = class_confusions(labels, guesses, num_classes).tolist()
        return metrics
