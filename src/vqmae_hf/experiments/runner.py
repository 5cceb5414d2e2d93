"""Running an experiment cell by cell, and publishing what has been run."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vqmae_hf.data.shards import write_json
from vqmae_hf.experiments.aggregation import aggregate
from vqmae_hf.experiments.cells import experiment_cells, read_cell, run_cell
from vqmae_hf.experiments.experiment_file import Experiment
from vqmae_hf.experiments.figures import draw_results
from vqmae_hf.experiments.tables import update_page
from vqmae_hf.experiments.unfinished import take_over
from vqmae_hf.experiments.workspace import Workspace


def run_experiment(
    experiment: Experiment,
    work_dir: str | Path,
    *,
    only: Sequence[str] = (),
    published: str | Path | None = None,
    announce: Callable[[str], Any] = print,
) -> Workspace:
    """Run the cells of an experiment, in order; those that are done are skipped.

    Args:
        experiment: as of `load_experiment`.
        work_dir: folder of shared steps and cells; several experiments may share one.
        only: patterns of `system/fold/seed`; none: all cells.
        published: results whose finished cells, of systems that were not run to the end, are not run again; see `take_over`.
        announce: is told each cell and its WAR.
    """
    workspace = Workspace(experiment, work_dir)
    cells = experiment_cells(experiment, only)
    if published is not None:
        taken = take_over(workspace, published)
        announce(f"{len(taken)} cells of {published} are taken over{': ' if taken else ''}{', '.join(taken)}")
    for place, cell in enumerate(cells, start=1):
        state = "done before" if read_cell(workspace, cell) is not None else "runs"
        start = time.perf_counter()
        if state == "runs":
            announce(f"[{place}/{len(cells)}] {cell} ...")
        result = run_cell(workspace, cell)
        wars = ", ".join(
            f"{view} {100 * report['metrics']['accuracy']:.1f}" for view, report in result["test"].items()
        )
        took = "done before" if state != "runs" else f"{time.perf_counter() - start:.0f} s"
        announce(f"[{place}/{len(cells)}] {cell}: WAR {wars} ({took})")
    return workspace


def publish(workspace: Workspace, folder: str | Path) -> Path:
    """Write `<experiment>.json` to a folder, and the tables and the picture made from it; returns the JSON's path.

    Finished cells of unfinished systems that the folder has from other machines stay in it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{workspace.experiment.name}.json"
    if path.exists():
        take_over(workspace, path)
    write_json(path, aggregate(workspace))
    present(path)
    return path


def present(results_path: Path) -> list[Path]:
    """Bring the page and the picture of published results up to date."""
    return [update_page(results_path), draw_results(results_path)]
