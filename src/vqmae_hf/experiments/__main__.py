"""`python -m vqmae_hf.experiments`: run experiment files, list their cells, study pre-training alone, make tables.

python -m vqmae_hf.experiments run ravdess-speech --work_dir runs/experiments --results docs/results
python -m vqmae_hf.experiments run ravdess-speech --only 'scratch/*/0'
python -m vqmae_hf.experiments run ravdess-speech --results docs/results --take_over docs/results/ravdess-speech.json
python -m vqmae_hf.experiments list ravdess-speech
python -m vqmae_hf.experiments masked grid-masked-prediction --results docs/results --set data.corpus_root=GRID
python -m vqmae_hf.experiments tables docs/results
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from vqmae_hf.experiments.cells import cell_folder, experiment_cells, read_cell
from vqmae_hf.experiments.experiment_file import SIZES, experiment_names, load_experiment
from vqmae_hf.experiments.masked_study import load_study, present_study, run_study, study_names
from vqmae_hf.experiments.masked_study_page import is_study
from vqmae_hf.experiments.nested_values import merge
from vqmae_hf.experiments.runner import present, publish, run_experiment
from vqmae_hf.experiments.tables import is_results
from vqmae_hf.experiments.workspace import Workspace

DESCRIPTION = __doc__


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vqmae_hf.experiments",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"packaged experiments: {', '.join(experiment_names())}; studies: {', '.join(study_names())}",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="run the cells that are not done, then publish what is complete")
    list_ = verbs.add_parser("list", help="show the cells and which are done")
    masked = verbs.add_parser(
        "masked", help="pre-train, and ask for masked codes of held-out clips (no labels needed)"
    )
    for verb in (run, list_, masked):
        verb.add_argument("experiment", help="packaged experiment or, for masked, study; or a YAML file")
        verb.add_argument("--work_dir", default="runs/experiments", help="folder of shared steps and cells")
        verb.add_argument("--size", choices=SIZES, default="full", help="debug: a few steps of tiny models")
        verb.add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. data.corpus_root=RAVDESS; repeatable"
        )
    for verb in (run, list_):
        verb.add_argument("--only", action="append", default=[], help="pattern of system/fold/seed; repeatable")
    for verb in (run, masked):
        verb.add_argument("--results", help="folder to publish to; default: results in the work_dir")
    run.add_argument("--take_over", metavar="JSON", help="published results whose finished cells are not run again")
    tables = verbs.add_parser("tables", help="make pages and pictures from published results")
    tables.add_argument("folder", nargs="?", default="docs/results", help="folder of results")
    return parser


def parse_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """`["a.b=1"]` to `{"a": {"b": 1}}`; values are read as YAML.

    Raises:
        ValueError: a text without "=".
    """
    overrides: dict[str, Any] = {}
    for text in texts:
        path, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"--set {text!r} has no '='; write --set data.corpus_root=FOLDER.")
        nested: Any = yaml.safe_load(value)
        for name in reversed(path.split(".")):
            nested = {name: nested}
        overrides = merge(overrides, nested)
    return overrides


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    args = build_parser().parse_args(argv)
    if args.verb == "tables":
        _make_tables(Path(args.folder))
        return
    if args.verb == "masked":
        study = load_study(args.experiment, size=args.size, overrides=parse_overrides(args.set))
        print(run_study(study, args.work_dir, args.results or Path(args.work_dir) / "results"))
        return
    experiment = load_experiment(args.experiment, size=args.size, overrides=parse_overrides(args.set))
    if args.verb == "list":
        workspace = Workspace(experiment, args.work_dir)
        for cell in experiment_cells(experiment, args.only):
            state = "done" if read_cell(workspace, cell) is not None else "-"
            print(f"{cell}  {state:4}  {cell_folder(workspace, cell)}")
        return
    workspace = run_experiment(experiment, args.work_dir, only=args.only, published=args.take_over)
    try:
        path = publish(workspace, args.results or Path(args.work_dir) / "results")
    except ValueError as error:  # no system is complete yet, which is no failure of the cells that ran
        print(error)
        return
    print(f"{path} and {path.with_suffix('.md').name}, {path.with_suffix('.png').name}")


def _make_tables(folder: Path) -> None:
    present_as = {present: is_results, present_study: is_study}
    found = [(show, path) for path in sorted(folder.glob("*.json")) for show, fits in present_as.items() if fits(path)]
    if not found:
        sys.exit(
            f"{folder} holds no results of experiments (*.json); publish some with `run EXPERIMENT --results {folder}`."
        )
    for show, path in found:
        print(", ".join(str(made) for made in show(path)))


if __name__ == "__main__":
    main()
