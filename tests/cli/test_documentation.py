"""Every command that is printed in the documentation runs; what help texts print is run by `test_help.py`."""

import json
from pathlib import Path

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
