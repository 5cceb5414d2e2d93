"""Every `python -m vqmae_hf.experiments...` that the pages print is understood as printed, down to its files and patterns.

What takes hours is not trained here: `run` stops where its cells are known, and `masked` where its study is. The same
programs run to their end, in size debug, in test_runner, test_packaged_files, test_masked_study and test_mdvae_study.
"""

import re
import shlex
import shutil
from pathlib import Path

import pytest

import vqmae_hf.experiments.__main__ as experiments
import vqmae_hf.experiments.mdvae.__main__ as mdvae
from vqmae_hf.experiments.cells import experiment_cells
from vqmae_hf.experiments.mdvae.results import study_cells

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"python -m vqmae_hf\.experiments(\.mdvae)? ([a-z][^`#\n]*)")


def printed_lines() -> list[tuple[str, str]]:
    """(program, its arguments) of the pages, each once."""
    found = {
        match.groups(default="") for page in PAGES for match in COMMAND.finditer(page.read_text(encoding="utf-8"))
    }
    return sorted((program, arguments.strip()) for program, arguments in found if "NAME" not in arguments)


def test_lines_are_found():
    assert len(printed_lines()) > 8


@pytest.mark.parametrize(("program", "arguments"), printed_lines())
def test_it_is_understood(program, arguments, monkeypatch, tmp_path):
    done = []

    def cells_of_experiment(experiment, work_dir, only, published):
        assert published is None or Path(published).is_file()
        done.extend(experiment_cells(experiment, only))

    def published(*args, **kwargs):
        assert done
        return tmp_path / "results.json"

    monkeypatch.setattr(experiments, "run_experiment", cells_of_experiment)
    monkeypatch.setattr(experiments, "publish", published)
    monkeypatch.setattr(experiments, "run_study", lambda study, work_dir, results: done.append(study))
    monkeypatch.setattr(mdvae, "run_cells", lambda workspace, only: done.extend(study_cells(workspace, only)))
    monkeypatch.setattr(mdvae, "publish", published)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "docs" / "results", tmp_path / "docs" / "results")
    main = mdvae.main if program else experiments.main
    main(shlex.split(arguments))
    verb = arguments.split()[0]
    assert done or verb in ("list", "tables")
