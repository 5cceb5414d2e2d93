import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import EvalPrediction

from vqmae_hf.evaluation.metrics import (
    class_confusions,
    classification_metrics,
    make_compute_metrics,
    pool_windows,
)

pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


@given(pairs)
@settings(max_examples=100, deadline=None)
def test_metrics_follow_from_the_confusion_matrix(pairs):
    labels, predictions = np.array(pairs).T
    confusions = class_confusions(labels, predictions, 5)
    support, predicted, right = confusions.sum(1), confusions.sum(0), confusions.diagonal()
    f1 = 2 * right / np.maximum(support + predicted, 1)
    metrics = classification_metrics(labels, predictions)
    assert metrics["accuracy"] == pytest.approx(right.sum() / len(labels))
    assert metrics["uar"] == pytest.approx(np.mean((right / np.maximum(support, 1))[support > 0]))
    assert metrics["macro_f1"] == pytest.approx(f1[(support + predicted) > 0].mean())
    assert metrics["weighted_f1"] == pytest.approx((f1 * support).sum() / support.sum())


def test_unbalanced_guessing_is_seen_by_uar_and_not_by_accuracy():
    metrics = classification_metrics(np.array([0] * 9 + [1]), np.zeros(10, dtype=int))
    assert metrics["accuracy"] == pytest.approx(0.9)
    assert metrics["uar"] == pytest.approx(0.5)


def test_rows_of_the_confusion_matrix_are_true_classes():
    assert class_confusions(np.array([0, 0, 2]), np.array([1, 1, 2]), 3).tolist() == [[0, 2, 0], [0, 0, 0], [0, 0, 1]]


def test_windows_are_pooled_by_probability():
    logits = np.log(np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6]]))
    pooled = pool_windows(logits, np.array([1, 0, 1, 1]))
    np.testing.assert_allclose(pooled, [[0.2, 0.8], [1.6 / 3, 1.4 / 3]])
    labels = np.array([0, 1, 0, 0])
    metrics = make_compute_metrics(np.array([1, 0, 1, 1]))(EvalPrediction((logits, None), labels))
    assert metrics["accuracy"] == 1.0
    assert make_compute_metrics()(EvalPrediction(logits, labels))["accuracy"] == 0.5


def test_what_cannot_be_evaluated_is_refused():
    with pytest.raises(ValueError, match="one length"):
        classification_metrics(np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match="nothing to evaluate"):
        classification_metrics(np.zeros(0), np.zeros(0))
    with pytest.raises(ValueError, match=r"clips \[0\] have no window"):
        pool_windows(np.zeros((2, 3)), np.array([1, 1]))
    with pytest.raises(ValueError, match="2 rows of logits"):
        pool_windows(np.zeros((2, 3)), np.array([0, 0, 0]))
