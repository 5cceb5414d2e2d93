"""Every command that is printed in the documentation runs; what help texts print is run by `test_help.py`."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.cli.printed_commands import help_examples, printed_commands
from tests.cli.test_help import replace_what_leaves_this_machine
from vqmae_hf.cli.__main__ import app
from vqmae_hf.own_corpus import chain

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
IN_HELP = {line for lines in help_examples(app).values() for line in lines}


def commands_of_pages() -> dict[str, str]:
    """Each command once, with the page that prints it first."""
    found: dict[str, str] = {}
    for page in PAGES:
        for line in printed_commands(page.read_text(encoding="utf-8")):
            if line not in IN_HELP:
                found.setdefault(line, str(page.relative_to(ROOT)))
    return found


COMMANDS = commands_of_pages()
PROGRAMS = {
    f"{page.name} {place}": program
    for page in sorted((ROOT / "docs" / "tutorials").glob("*.md"))
    for place, program in enumerate(
        re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    )
}


def test_pages_are_found():
    pages = set(COMMANDS.values())
    assert {"docs/howto/predict.md", "docs/howto/train-stages.md"} <= pages
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("line", COMMANDS, ids=[f"{page}: {line}" for line, page in COMMANDS.items()])
def test_it_runs(line, place, monkeypatch):
    monkeypatch.setattr(chain, "RECIPE", "debug")
    replace_what_leaves_this_machine(line, monkeypatch)
    result = place.run(line, shorten=True)
    assert result.exit_code == 0, result.stderr[-3000:]
    if "--json" in line:
        json.loads(result.stdout)


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_of_tutorials_run(name, place):
    exec(compile(PROGRAMS[name], name, "exec"), {})


def test_the_tutorial_on_features_describes_each_clip_by_other_numbers(place):
    exec(compile(PROGRAMS["features.md 0"], "features.md", "exec"), {})
    table = pd.read_csv("features.csv", index_col="clip")
    assert list(table.index) == ["interviews/monday.mp4", "interviews/tuesday.mp4"]
    assert np.isfinite(table).all(axis=None)
    assert (table.iloc[0] != table.iloc[1]).any()
