"""Finished cells of systems that were not run to the end: published with the results, and taken over by a later run.

The networks of all folds and seeds may take longer than a machine is there for. What it has finished is not lost: the next
one, with an empty `work_dir`, runs what is missing.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vqmae_hf.data.shards import write_json
from vqmae_hf.experiments.cells import (
    CELL_NAME,
    Cell,
    cell_folder,
    check_speakers,
    experiment_cells,
    read_cell,
)
from vqmae_hf.experiments.workspace import Workspace, held_by_one


def finished_cells(workspace: Workspace, pairs: Sequence[tuple[Cell, dict[str, Any] | None]]) -> dict[str, Any]:
    """What `run_cell` returned for the cells that are done, without probabilities, by the name of their folder, which stands
    for all that they are made from. Systems are called as in this experiment, whichever ran the cell."""
    return {
        cell_folder(workspace, cell).name: {**_without_probabilities(found), "system": asdict(cell.system)}
        for cell, found in pairs
        if found is not None
    }


def take_over(workspace: Workspace, results_path: str | Path) -> list[str]:
    """Put the finished cells of published results where `run_experiment` takes them for done.

    Taken are cells of the same corpus, folds and arguments, whatever the experiment or the system that published them was
    called. Cells that are there already stay.

    Returns:
        The cells that were taken over, by their names in this experiment.

    Raises:
        FileNotFoundError: no such file.
        ForeignSpeakersError: a cell was trained or tested on other speakers than those of its fold.
        ValueError: a file that is no published results.
    """
    published = _read_unfinished(Path(results_path))
    taken = []
    for cell in experiment_cells(workspace.experiment):
        folder = cell_folder(workspace, cell)
        if folder.name not in published or read_cell(workspace, cell) is not None:
            continue
        result = published[folder.name]
        check_speakers(result, workspace.classifier_fold(cell.fold), str(cell))
        with held_by_one(folder):
            write_json(folder / CELL_NAME, result)
        taken.append(str(cell))
    return taken


def _read_unfinished(path: Path) -> dict[str, dict[str, Any]]:
    """The published cells of all systems, by folder."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}); accepted are results that `run` has published.") from error
    if not isinstance(results, dict) or "incomplete" not in results:
        raise ValueError(
            f"{path} is not what `run` publishes (docs/results/NAME.json); give a file of results of an experiment."
        )
    return {name: cell for cells in results.get("unfinished", {}).values() for name, cell in cells.items()}


def _without_probabilities(result: dict[str, Any]) -> dict[str, Any]:
    test = {
        view: {
            **report,
            "predictions": [
                {name: value for name, value in row.items() if name != "probabilities"}
                for row in report["predictions"]
            ],
        }
        for view, report in result["test"].items()
    }
    return {**result, "test": test}
