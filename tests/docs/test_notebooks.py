"""The notebooks run from the first cell to the last, on the checkpoints of the command line's tests."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from tests.cli.conftest import place, template  # noqa: F401 - fixtures

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")  # of the client and its sockets; the notebook has a process of its own
def test_it_runs(path, place):  # noqa: F811
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(place.root)}}
    ).execute()
    shown = {
        kind
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        for kind in output.get("data", {"text/plain": output.get("text")})
    }
    assert "image/png" in shown


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_outputs(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_there_are_two():
    assert [path.stem for path in NOTEBOOKS] == ["emotion", "latents"]
