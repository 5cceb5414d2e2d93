"""Which numbers of a results file come into a card, and as what."""

import json

from vqmae_hf.hub.measurements import read_measurements
from vqmae_hf.training.stages import METRICS_NAME


def rows(**files):
    found = read_measurements({f"{name}.json": content for name, content in files.items()})
    return [(row.part, row.setting, row.metric, row.value, row.spread, row.is_of_checkpoint) for row in found]


def test_metrics_are_found_wherever_they_stand_and_nothing_else_is():
    report = {"part": "test", "clips": 7, "audio": {"metrics": {"sdr": {"mean": 3.0, "std": 0.5, "clips": 7}}}}
    assert rows(tokenizers=report) == [("test", "audio", "sdr", 3.0, 0.5, True)]
    tested = {
        "test": {"audio": {"metrics": {"accuracy": 1, "name": "x", "good": True}, "predictions": [{"metrics": 1}]}}
    }
    assert rows(results={**tested, "chance": 0.25}) == [
        ("test", "audio", "accuracy", 1.0, None, True),
        ("", "guessing", "accuracy", 0.25, None, False),
    ]
    assert rows(other={"metrics": {"loss": 2.5}}) == [("", "", "loss", 2.5, None, True)]
    assert rows(list=[{"metrics": {"loss": 2.5}}]) == []


def test_validation_is_called_so_and_speed_is_no_result():
    metrics = {
        "train": {"loss": 1.0},
        "validation": {"loss": 2.0, "runtime": 3.0, "samples_per_second": 9.0, "epoch": 1},
    }
    (row,) = read_measurements({METRICS_NAME: metrics})
    assert (row.part, row.metric, row.value) == ("validation", "loss", 2.0)


def test_baselines_of_masked_prediction_are_not_results_of_the_model():
    scores = {"cross_entropy": 1.5, "top1": 0.5, "top5": 0.75, "tokens": 10}
    found = rows(masked={"part": "test", "masked": {"audio": {"0.5": {"model": scores, "copy_nearest": scores}}}})
    assert [(setting, metric, own) for _, setting, metric, _, _, own in found] == [
        ("audio, 0.5 masked, model", "cross_entropy", True),
        ("audio, 0.5 masked, model", "top1", True),
        ("audio, 0.5 masked, model", "top5", True),
        ("audio, 0.5 masked, copy nearest", "cross_entropy", False),
        ("audio, 0.5 masked, copy nearest", "top1", False),
        ("audio, 0.5 masked, copy nearest", "top5", False),
    ]


def test_an_experiment_is_there_to_compare_with(request):
    page = request.config.rootpath / "docs/results/ravdess-speech.json"
    content = json.loads(page.read_text(encoding="utf-8"))
    found = read_measurements({page.name: content})
    assert {row.setting.partition(": ")[2] for row in found} == {row["title"] for row in content["rows"].values()}
    assert not any(row.is_of_checkpoint for row in found)
    (majority,) = [row for row in found if row.setting.endswith(": majority class") and row.metric == "accuracy"]
    assert majority.value == content["rows"]["majority"]["pooled"]["accuracy"]["mean"]
