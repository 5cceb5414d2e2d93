"""`python -m vqmae_hf.experiments.mdvae`: run the study of an MDVAE, list its cells, make pages from results.

python -m vqmae_hf.experiments.mdvae run mdvae-synthetic --work_dir runs/mdvae --results docs/results
python -m vqmae_hf.experiments.mdvae run mdvae-synthetic --only 'denoising/*'
python -m vqmae_hf.experiments.mdvae run mdvae-synthetic --size debug --work_dir /tmp/debug
python -m vqmae_hf.experiments.mdvae list mdvae-synthetic
python -m vqmae_hf.experiments.mdvae tables docs/results
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from vqmae_hf.data.shards import write_json
from vqmae_hf.experiments.__main__ import parse_overrides
from vqmae_hf.experiments.mdvae.figures import draw_clips, draw_results
from vqmae_hf.experiments.mdvae.page import update_page
from vqmae_hf.experiments.mdvae.results import cell_path, collect, read_cell, run_cells, study_cells
from vqmae_hf.experiments.mdvae.study import SIZES, StudyWorkspace, load_study, study_names

DESCRIPTION = __doc__


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vqmae_hf.experiments.mdvae",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"packaged studies: {', '.join(study_names())}",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="run the cells that are not done, then publish what is")
    list_ = verbs.add_parser("list", help="show the cells and which are done")
    for verb in (run, list_):
        verb.add_argument("study", help="packaged study, or a YAML file")
        verb.add_argument("--work_dir", default="runs/mdvae", help="folder of steps and cells")
        verb.add_argument("--size", choices=SIZES, default="full", help="debug: a few steps of tiny models")
        verb.add_argument("--only", action="append", default=[], help="pattern of measurement/seed; repeatable")
        verb.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. seeds=[0]; repeatable")
    run.add_argument("--results", help="folder to publish to; default: results in the work_dir")
    run.add_argument("--no_clips", action="store_true", help="leave out the pictures of a swap and a denoising")
    tables = verbs.add_parser("tables", help="make pages and pictures from published results")
    tables.add_argument("folder", nargs="?", default="docs/results", help="folder of results")
    return parser


def publish(workspace: StudyWorkspace, folder: Path, with_clips: bool = True) -> Path:
    """Write `<study>.json` to a folder, and page and pictures; returns the JSON's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{workspace.study.name}.json"
    write_json(path, collect(workspace))
    update_page(path)
    draw_results(path)
    if with_clips:
        draw_clips(workspace, folder)
    return path


def is_study_results(path: Path) -> bool:
    """Whether a JSON file is one of `results.collect`."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return isinstance(content, dict) and {"study", "measurements"} <= set(content)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    args = build_parser().parse_args(argv)
    if args.verb == "tables":
        paths = [path for path in sorted(Path(args.folder).glob("*.json")) if is_study_results(path)]
        if not paths:
            sys.exit(
                f"{args.folder} holds no results of studies (*.json); publish some with `run STUDY --results DIR`."
            )
        for path in paths:
            print(", ".join(str(made) for made in (update_page(path), *draw_results(path))))
        return
    study = load_study(args.study, size=args.size, overrides=parse_overrides(args.set))
    workspace = StudyWorkspace(study, args.work_dir)
    if args.verb == "list":
        for name, seed in study_cells(workspace, args.only):
            state = "done" if read_cell(workspace, name, seed) is not None else "-"
            print(f"{name}/{seed}  {state:4}  {cell_path(workspace, name, seed).parent}")
        return
    run_cells(workspace, args.only)
    print(publish(workspace, Path(args.results or Path(args.work_dir) / "results"), not args.no_clips))


if __name__ == "__main__":
    main()
