"""What the runs on one's own clips found, put together."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset

from vqmae_hf.evaluation.metrics import class_confusions, classification_metrics
from vqmae_hf.own_corpus.clips import OwnClips
from vqmae_hf.training.finetune import FinetuneResult


def summarise(
    own: OwnClips,
    outcomes: Sequence[FinetuneResult],
    clips: Dataset,
    *,
    num_failures: int,
    pretrained: str | None,
) -> dict[str, Any]:
    """Results over the test speakers of all runs.

    Returns:
        As `report_test` of fine-tuning, with the predictions of all runs together: `classes`, `chance`, `speakers` and
        `best_validation` of the run whose model is kept, and `test` by modalities; and `majority` (accuracy of always
        saying the most frequent emotion of the tested clips), `split_by`, `num_runs`, `num_clips`, `num_failures`,
        `num_tested_speakers`, `pretrained`, `notes`, and `runs` (metrics of each).
    """
    chosen = max(outcomes, key=lambda outcome: outcome.results["best_validation"]).results
    classes = chosen["classes"]
    names = list(chosen["test"])
    test = {name: _pool([outcome.results["test"][name] for outcome in outcomes], classes) for name in names}
    predictions = test[names[0]]["predictions"]
    frequent = Counter(row["emotion"] for row in predictions).most_common(1)[0][1]
    return {
        "classes": classes,
        "chance": chosen["chance"],
        "majority": frequent / len(predictions),
        "speakers": chosen["speakers"],
        "best_validation": chosen["best_validation"],
        "test": test,
        "split_by": own.split_by,
        "num_runs": len(outcomes),
        "num_clips": len(clips),
        "num_failures": num_failures,
        "num_tested_speakers": len({row["speaker"] for row in predictions}),
        "pretrained": pretrained,
        "notes": own.notes,
        "runs": [
            {
                "best_validation": outcome.results["best_validation"],
                "test": {name: outcome.results["test"][name]["metrics"] for name in names},
            }
            for outcome in outcomes
        ],
    }


def _pool(parts: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> dict[str, Any]:
    """The reports of several runs, no clip of which is in two, as one."""
    predictions = [row for part in parts for row in part["predictions"]]
    labels, predicted = (
        np.array([classes.index(row[column]) for row in predictions]) for column in ("emotion", "predicted")
    )
    return {
        "metrics": classification_metrics(labels, predicted),
        "confusion_matrix": class_confusions(labels, predicted, len(classes)).tolist(),
        "predictions": predictions,
    }
