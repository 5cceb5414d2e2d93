"""From cells to one JSON per experiment: everything that its tables and pictures show, and the answers to check them by.

Metrics are those of `classification_metrics`. "Pooled" ones are of the answers on the test speakers of all folds taken
together, one number per seed; mean and standard deviation (n - 1) are over seeds.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vqmae_hf.evaluation.metrics import class_confusions, classification_metrics
from vqmae_hf.experiments.cells import Cell, experiment_cells, read_cell
from vqmae_hf.experiments.experiment_file import Experiment
from vqmae_hf.experiments.significance import compare_clips, compare_runs
from vqmae_hf.experiments.unfinished import finished_cells
from vqmae_hf.experiments.workspace import Workspace

METRICS = ("accuracy", "uar", "macro_f1", "weighted_f1")

CellResults = list[tuple[Cell, dict[str, Any] | None]]
Answers = dict[tuple[int, int], dict[str, Any]]  # by (fold, seed): the report of one cell on one view


class UnequalClipsError(RuntimeError):
    """Two systems were tested on different clips."""


def aggregate(workspace: Workspace) -> dict[str, Any]:
    """Everything that has been run of an experiment.

    Returns:
        `experiment`, `title`, `size`, `classes`, `chance`, `folds` (test speakers of each that is run),
        `folds_dealt` (how many there are), `train_speakers` (how many, by fold), `labelled_speakers` (of these, or None for
        all), `train_on_validation` (whether validation speakers are among them), `seeds`, `tokenizers` (checkpoints, or
        "of each fold": trained without its validation and test speakers);
        `clips`: `clip_id` of every test clip, and its `speaker`, `fold` and `label` (class number);
        `rows`: see `_row`, by system, or `system@view` for what a system of both modalities says of one;
        `comparisons`: see `_compare`;
        `incomplete`: systems of which cells are missing, and how many; `unfinished`: of these the cells that are done, see
        `finished_cells`, by system;
        `environments`: of the cells, each once; `seconds`: of all cells.

    Raises:
        UnequalClipsError: systems were tested on different clips.
        ValueError: not a single system has been run on all folds and seeds.
    """
    experiment = workspace.experiment
    complete, begun = _systems(workspace)
    results = [found for pairs in complete.values() for _, found in pairs]
    clips, classes = _test_clips(results), results[0]["classes"]
    rows = {
        name: row for system in complete for name, row in _rows(experiment, system, complete[system], clips, classes)
    }
    return {
        "experiment": experiment.name,
        "title": experiment.title,
        "size": experiment.size,
        "classes": classes,
        "chance": 1 / len(classes),
        "folds": [fold["test"] for fold in workspace.folds[: experiment.num_folds_run]],
        "folds_dealt": experiment.num_folds,
        "train_speakers": [len(workspace.classifier_fold(fold)["train"]) for fold in range(experiment.num_folds_run)],
        "labelled_speakers": experiment.labelled_speakers,
        "train_on_validation": experiment.train_on_validation,
        "tokenizers": {
            name: value if isinstance(value, str) else "of each fold" for name, value in experiment.tokenizers.items()
        },
        "seeds": list(experiment.seeds),
        "rows": rows,
        "comparisons": _comparisons(experiment, rows, clips),
        "incomplete": {system: sum(found is None for _, found in pairs) for system, pairs in begun.items()},
        "unfinished": {
            system: cells for system, pairs in begun.items() if (cells := finished_cells(workspace, pairs))
        },
        "seconds": round(sum(result["seconds"] for result in results), 1),
        "environments": _distinct([result["environment"] for result in results]),
        "clips": _clip_columns(clips),
    }


def answers_of(results: dict[str, Any], row: str) -> list[np.ndarray]:
    """(N,) predicted class numbers of a row of the aggregated results, one array per seed, in the order of `clips`."""
    return [np.array(text.split(), dtype=int) for text in results["rows"][row]["predicted"]]


def labels_of(results: dict[str, Any]) -> np.ndarray:
    """(N,) true class numbers, in the order of `clips`."""
    return np.array(results["clips"]["label"].split(), dtype=int)


def _systems(workspace: Workspace) -> tuple[dict[str, CellResults], dict[str, CellResults]]:
    """Cells and results of the systems that have been run on all folds and seeds, and those of the others."""
    complete, begun = {}, {}
    for system in workspace.experiment.systems:
        pairs = _cells_of(workspace, system)
        (complete if all(found is not None for _, found in pairs) else begun)[system] = pairs
    if not complete:
        missing = {system: sum(found is None for _, found in pairs) for system, pairs in begun.items()}
        raise ValueError(
            f"{workspace.experiment.name}: no system has been run on all folds and seeds; missing are {missing}."
        )
    return complete, begun


def _clip_columns(clips: Sequence[tuple[str, str, int, int]]) -> dict[str, Any]:
    clip_ids, speakers, folds, labels = zip(*clips, strict=True)
    return {"clip_id": list(clip_ids), "speaker": _text(speakers), "fold": _text(folds), "label": _text(labels)}


def _cells_of(workspace: Workspace, system: str) -> CellResults:
    return [(cell, read_cell(workspace, cell)) for cell in experiment_cells(workspace.experiment, [f"{system}/*/*"])]


def _test_clips(results: Sequence[dict[str, Any]]) -> list[tuple[str, str, int, int]]:
    """(clip, speaker, fold, label) of every test clip, which all cells of a fold must agree on."""
    known: dict[int, list[tuple[str, str, int, int]]] = {}
    for result in results:
        for report in result["test"].values():
            fold, classes = result["fold"], result["classes"]
            clips = sorted(
                (row["clip_id"], row["speaker"], fold, classes.index(row["emotion"])) for row in report["predictions"]
            )
            if known.setdefault(fold, clips) != clips:
                raise UnequalClipsError(
                    f"{result['system']['name']} was tested on other clips of fold {fold} than the systems before it; clips "
                    "that could not be tokenized, or a corpus that has changed? Start with an empty work_dir."
                )
    return [clip for fold in sorted(known) for clip in known[fold]]


def _rows(experiment: Experiment, system: str, pairs: Sequence, clips: Sequence, classes: Sequence[str]):
    """The rows of a system: all that it was given first, then each modality alone."""
    first = pairs[0][1]
    for place, view in enumerate(first["test"]):
        answers = {(cell.fold, cell.seed): found["test"][view] for cell, found in pairs}
        title = experiment.systems[system].title
        yield (
            system if place == 0 else f"{system}@{view}",
            {
                "title": title if place == 0 else f"{title}, {view} alone",
                "system": first["system"],
                "view": view,
                "is_main": place == 0,
                **_row(answers, clips, classes, experiment.num_folds_run),
                "seconds": round(sum(found["seconds"] for _, found in pairs), 1),
            },
        )


def _row(answers: Answers, clips: Sequence, classes: Sequence[str], num_folds: int) -> dict[str, Any]:
    """What is reported of a row.

    Returns:
        `seeds`; `pooled`: by metric mean, std (None for one seed) and the value of every seed; `folds`: the same for each
        fold alone; `over_folds`: mean and std over folds of their means; `confusion_matrix` (rows: true classes), summed
        over seeds; `predicted`: class numbers for `clips`, one text per seed.
    """
    seeds = sorted({seed for _, seed in answers})
    labels = np.array([label for *_, label in clips])
    fold_of = np.array([fold for _, _, fold, _ in clips])
    predicted = []
    for seed in seeds:
        guesses = {
            (fold, row["clip_id"]): classes.index(row["predicted"])
            for fold in range(num_folds)
            for row in answers[fold, seed]["predictions"]
        }
        predicted.append(np.array([guesses[fold, clip] for clip, _, fold, _ in clips]))
    per_fold = []
    for fold in range(num_folds):
        chosen = fold_of == fold
        per_fold.append(_over_seeds([classification_metrics(labels[chosen], guess[chosen]) for guess in predicted]))
    return {
        "seeds": seeds,
        "pooled": _over_seeds([classification_metrics(labels, guess) for guess in predicted]),
        "folds": per_fold,
        "over_folds": {name: _spread([fold[name]["mean"] for fold in per_fold]) for name in METRICS},
        "confusion_matrix": sum(class_confusions(labels, guess, len(classes)) for guess in predicted).tolist(),
        "predicted": [_text(guess) for guess in predicted],
    }


def _over_seeds(metrics: Sequence[dict[str, float]]) -> dict[str, Any]:
    return {
        name: {**_spread([each[name] for each in metrics]), "values": [_round(each[name]) for each in metrics]}
        for name in METRICS
    }


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    return {"mean": _round(np.mean(values)), "std": _round(np.std(values, ddof=1)) if len(values) > 1 else None}


def _comparisons(experiment: Experiment, rows: dict[str, Any], clips: Sequence) -> list[dict[str, Any]]:
    return [
        {"first": first, "second": second, **_compare(rows[first], rows[second], clips)}
        for first, second in experiment.comparisons
        if first in rows and second in rows
    ]


def _compare(first: dict[str, Any], second: dict[str, Any], clips: Sequence) -> dict[str, Any]:
    """`compare_clips` of the shares of seeds that are right, and `compare_runs` of the WARs of folds and seeds.

    A system with a single seed, because another would change nothing, is paired with every seed of the other.
    """
    labels, speakers = np.array([label for *_, label in clips]), [speaker for _, speaker, *_ in clips]
    right = [_right(row, labels).mean(axis=0) for row in (first, second)]
    num_seeds = max(len(first["seeds"]), len(second["seeds"]))
    runs = [
        [value for fold in row["folds"] for value in _repeat(fold["accuracy"]["values"], num_seeds)]
        for row in (first, second)
    ]
    tests = {**compare_clips(right[0], right[1], speakers), **compare_runs(*runs)}
    return {name: _rounded(value) for name, value in tests.items()}


def _right(row: dict[str, Any], labels: np.ndarray) -> np.ndarray:
    """(seeds, N) 1 where the answer is right."""
    return np.stack([np.array(text.split(), dtype=int) == labels for text in row["predicted"]]).astype(float)


def _repeat(values: Sequence[float], count: int) -> list[float]:
    return list(values) * count if len(values) == 1 else list(values)


def _distinct(values: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [value for place, value in enumerate(values) if value not in values[:place]]


def _text(values: Sequence[Any]) -> str:
    """Values as one line, which JSON would spread over as many."""
    return " ".join(map(str, values))


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_round(each) for each in value]
    return _round(value) if isinstance(value, float) else value


def _round(value: float) -> float:
    return round(float(value), 6)
