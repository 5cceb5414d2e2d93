"""Numbers for a card, read from the JSON that evaluations wrote; a card has no others."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vqmae_hf.training.stages import METRICS_NAME

PARTS = ("test", "validation", "train", "all")
# How fast a machine was says nothing about a model.
NOT_OF_THE_MODEL = ("runtime", "epoch", "seconds", "num_tokens")
# What people call a metric, and the type that the Hub knows it by.
METRIC_NAMES = {
    "accuracy": ("accuracy (WAR)", "accuracy"),
    "uar": ("unweighted average recall (UAR)", "recall"),
    "macro_f1": ("macro F1", "f1"),
    "weighted_f1": ("weighted F1", "f1"),
}


@dataclass(frozen=True)
class Measurement:
    """
    Args:
        metric: name in the JSON.
        value: the number; `spread` is its standard deviation, where there is one.
        part: what it was measured on, "test", "validation", ...; "" where the file does not say.
        setting: under which conditions, "audio+visual".
        file: where it stands.
        is_of_checkpoint: False for rows to compare with: guessing, baselines, means over several trained models.
    """

    metric: str
    value: float
    spread: float | None
    part: str
    setting: str
    file: str
    is_of_checkpoint: bool = True

    @property
    def text(self) -> str:
        spread = "" if self.spread is None else f" ± {self.spread:.4g}"
        return f"{self.value:.4g}{spread}"


def read_measurements(results: Mapping[str, Any]) -> list[Measurement]:
    """
    Every measurement in these files of results, by file name.

    Known are `metrics.json` of the training programs, what `training.evaluate_pretraining` and `experiments` write, and
    every file with metrics under the key "metrics": numbers, or {"mean", "std"}. Other numbers are not shown.
    """
    return [row for file, content in results.items() if isinstance(content, dict) for row in _read(file, content)]


def _read(file: str, content: dict[str, Any]) -> Iterator[Measurement]:
    if "experiment" in content and "rows" in content:
        for row in content["rows"].values():
            setting, part = f"{content['title']}: {row['title']}", "test, all folds"
            for metric, value, spread in _numbers(row["pooled"]):
                yield Measurement(metric, value, spread, part, setting, file, is_of_checkpoint=False)
    elif "masked" in content:
        for modality, by_ratio in content["masked"].items():
            for ratio, predictors in by_ratio.items():
                for predictor, scores in predictors.items():
                    setting = f"{modality}, {ratio} masked, {predictor.replace('_', ' ')}"
                    for metric, value, spread in _numbers(scores, ("cross_entropy", "top1", "top5")):
                        yield Measurement(
                            metric, value, spread, content.get("part", ""), setting, file, predictor == "model"
                        )
    elif file == METRICS_NAME:
        for metric, value, spread in _numbers(content.get("validation", {})):
            yield Measurement(metric, value, spread, "validation", "", file)
    else:
        yield from _metrics_below(content, (), file, content.get("part", ""))
        if isinstance(content.get("chance"), float):
            yield Measurement("accuracy", content["chance"], None, "", "guessing", file, is_of_checkpoint=False)


def _metrics_below(content: Any, path: tuple[str, ...], file: str, part: str) -> Iterator[Measurement]:
    """The numbers of every mapping called "metrics", at any depth of mappings."""
    if not isinstance(content, dict):
        return
    for name, value in content.items():
        if name != "metrics":
            yield from _metrics_below(value, (*path, name), file, part)
        elif isinstance(value, dict):
            named_part = next((step for step in path if step in PARTS), part)
            setting = ", ".join(step.replace("_", " ") for step in path if step not in PARTS)
            for metric, number, spread in _numbers(value):
                yield Measurement(metric, number, spread, named_part, setting, file)


def _numbers(
    values: Mapping[str, Any], names: tuple[str, ...] | None = None
) -> Iterator[tuple[str, float, float | None]]:
    """Name, value and spread of what is a number, or the mean of some."""
    for name, value in values.items():
        if (names is not None and name not in names) or name in NOT_OF_THE_MODEL or name.endswith("_per_second"):
            continue
        if isinstance(value, dict) and isinstance(value.get("mean"), int | float):
            yield name, float(value["mean"]), value.get("std")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, float(value), None
