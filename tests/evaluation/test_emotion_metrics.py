import evaluate
import numpy as np
import pytest

from vqmae_hf.evaluation.emotion_metrics import EMOTION_METRICS, EmotionMetrics
from vqmae_hf.evaluation.metrics import class_confusions, classification_metrics

LABELS = np.array([0, 0, 1, 1, 2, 2, 2, 3])
GUESSES = np.array([0, 1, 1, 1, 2, 0, 2, 3])


@pytest.fixture(params=["loaded", "constructed"])
def metric(request, tmp_path, monkeypatch):
    monkeypatch.setattr("evaluate.config.HF_MODULES_CACHE", tmp_path / "modules")
    if request.param == "constructed":
        return EmotionMetrics(cache_dir=str(tmp_path))
    return evaluate.load(EMOTION_METRICS, cache_dir=str(tmp_path))


def test_evaluate_computes_what_our_metrics_do_without_a_network(metric):
    assert metric.compute(predictions=GUESSES, references=LABELS) == classification_metrics(LABELS, GUESSES)


def test_batches_add_up_and_the_confusion_matrix_is_to_be_had(metric):
    for part in (slice(0, 3), slice(3, None)):
        metric.add_batch(predictions=GUESSES[part], references=LABELS[part])
    result = metric.compute(num_classes=4)
    assert result.pop("confusion_matrix") == class_confusions(LABELS, GUESSES, 4).tolist()
    assert result == classification_metrics(LABELS, GUESSES)


def test_it_combines_with_other_modules(tmp_path):
    both = evaluate.combine(
        {"a": EmotionMetrics(cache_dir=str(tmp_path)), "b": EmotionMetrics(cache_dir=str(tmp_path))}
    )
    result = both.compute(predictions=GUESSES, references=LABELS)
    assert result["a_accuracy"] == result["b_accuracy"] == classification_metrics(LABELS, GUESSES)["accuracy"]
