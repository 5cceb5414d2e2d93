"""Cells of a study (one measurement of one seed), one JSON of all of them, and numbers over seeds."""

import json
import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from vqmae_hf.data.shards import write_json
from vqmae_hf.experiments.environment import describe_environment
from vqmae_hf.experiments.mdvae.measurements import MEASUREMENTS
from vqmae_hf.experiments.mdvae.study import StudyWorkspace
from vqmae_hf.experiments.workspace import digest, held_by_one

CELL_NAME = "cell.json"
# What every measurement depends on, and what each does besides.
SHARED_KEYS = ("data", "split", "labelled_speakers", "tokenizers", "model")
OWN_KEYS = {
    "disentanglement": (),
    "swaps": ("swapped_pairs",),
    "denoising": ("regions", "denoising_clips"),
    "few-labels": ("label_shares", "label_draws", "supervised_draws"),
}

Spread = tuple[float, float | None]


def study_cells(workspace: StudyWorkspace, only: Sequence[str] = ()) -> list[tuple[str, int]]:
    """
    (measurement, seed) in the order in which they are run.

    Args:
        only: patterns of `measurement/seed`, as of a shell; none: all.

    Raises:
        ValueError: a pattern that no cell matches.
    """
    cells = [(name, seed) for seed in workspace.study.seeds for name in MEASUREMENTS]
    for pattern in only:
        if not any(fnmatch(f"{name}/{seed}", pattern) for name, seed in cells):
            raise ValueError(
                f"only={pattern!r} matches no cell; they are called measurement/seed, with the measurements "
                f"{list(MEASUREMENTS)} and the seeds {workspace.study.seeds}."
            )
    return [(n, s) for n, s in cells if not only or any(fnmatch(f"{n}/{s}", pattern) for pattern in only)]


def cell_path(workspace: StudyWorkspace, name: str, seed: int) -> Path:
    study = workspace.study
    spec = {key: getattr(study, key) for key in (*SHARED_KEYS, *OWN_KEYS[name])}
    return workspace.folder / "cells" / f"{name}-seed{seed}-{digest(spec)}" / CELL_NAME


def read_cell(workspace: StudyWorkspace, name: str, seed: int) -> dict[str, Any] | None:
    """What `run_cells` has left, None before it has run."""
    path = cell_path(workspace, name, seed)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def run_cells(workspace: StudyWorkspace, only: Sequence[str] = (), announce: Callable[[str], Any] = print) -> None:
    """Run the cells that have not been run, with the steps that they need; what another process is running is waited for."""
    for name, seed in study_cells(workspace, only):
        path = cell_path(workspace, name, seed)
        took = "done before" if path.exists() else _run_cell(workspace, name, seed, path)
        announce(f"{name}/{seed}: {took}")


def _run_cell(workspace: StudyWorkspace, name: str, seed: int, path: Path) -> str:
    with held_by_one(path.parent):
        if path.exists():
            return "done by another process"
        start = time.perf_counter()
        measured = MEASUREMENTS[name](workspace, seed)
        seconds = round(time.perf_counter() - start, 1)
        write_json(path, {**measured, "seconds": seconds, "environment": describe_environment()})
    return f"{seconds} s"


def collect(workspace: StudyWorkspace) -> dict[str, Any]:
    """
    Everything that has been run of a study.

    Returns:
        `study`, `title`, `size`, `seeds`; `measurements`: by name and seed, what the functions of `measurements` returned;
        `incomplete`: cells that have not been run; `seconds`, `environments`.

    Raises:
        ValueError: nothing has been run.
    """
    study = workspace.study
    found = {cell: read_cell(workspace, *cell) for cell in study_cells(workspace)}
    done = {cell: result for cell, result in found.items() if result is not None}
    if not done:
        raise ValueError(f"{study.name}: no cell has been run; run some first.")
    measurements: dict[str, dict[str, Any]] = {}
    for (name, seed), result in done.items():
        content = {key: value for key, value in result.items() if key not in ("environment", "seconds")}
        measurements.setdefault(name, {})[str(seed)] = content
    environments = [result["environment"] for result in done.values()]
    return {
        "study": study.name,
        "title": study.title,
        "size": study.size,
        "seeds": study.seeds,
        "measurements": measurements,
        "incomplete": [f"{name}/{seed}" for (name, seed), result in found.items() if result is None],
        "seconds": round(sum(result["seconds"] for result in done.values()), 1),
        "environments": [each for place, each in enumerate(environments) if each not in environments[:place]],
    }


def spread(values: Sequence[float]) -> Spread:
    """Mean and standard deviation (n - 1; None of one value)."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def over_seeds(results: dict[str, Any], measurement: str, pick: Callable[[dict[str, Any]], float]) -> Spread:
    """`spread` of a number that `pick` takes from the measurement of each seed."""
    return spread([pick(content) for content in results["measurements"][measurement].values()])


def first_seed(results: dict[str, Any], measurement: str) -> dict[str, Any]:
    """A measurement of one seed, for names of rows and columns."""
    return next(iter(results["measurements"][measurement].values()))
