"""docs/PAPER_INDEX.md and the code agree: every name in it exists, and whatever cites a paper stands in it."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "vqmae_hf"
INDEX = (ROOT / "docs" / "PAPER_INDEX.md").read_text(encoding="utf-8")

REFERENCE = re.compile(r"`([\w/]+)\.py:([\w.]+)`")
CITATION = re.compile(r"\[(AV|MD|S)\]")
REFERENCES = sorted(set(REFERENCE.findall(INDEX)))
FILES = sorted([*PACKAGE.glob("modeling/*.py"), *PACKAGE.glob("evaluation/*.py")])


@pytest.mark.parametrize(("file", "name"), REFERENCES, ids=[f"{file}:{name}" for file, name in REFERENCES])
def test_every_name_exists(file, name):
    found = import_module("vqmae_hf." + file.replace("/", "."))
    for part in name.split("."):
        assert hasattr(found, part), f"docs/PAPER_INDEX.md lists {file}.py:{name}, but {found!r} has no {part}"
        found = getattr(found, part)


def test_every_row_names_its_place():
    rows = [line for line in INDEX.splitlines() if line.startswith("| ") and not line.endswith("| where |")]
    assert len(rows) > 30, "the tables of docs/PAPER_INDEX.md were not recognised"
    assert [row for row in rows if not REFERENCE.search(row)] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_cites_a_paper_is_listed(path):
    file = path.relative_to(PACKAGE).with_suffix("").as_posix()
    listed = {name.split(".")[0] for listed_file, name in REFERENCES if listed_file == file}
    definitions = [
        node
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef))
    ]
    citing = {node.name for node in definitions if CITATION.search(ast.get_docstring(node) or "")}
    assert citing <= listed, f"add {file}.py:{', '.join(sorted(citing - listed))} to docs/PAPER_INDEX.md"


def test_papers_are_cited_by_content_not_by_number():
    """Section and equation numbers could not be checked, so none may stand in the index or in the code."""
    numbered = re.compile(
        r"\[(AV|MD|S)\][^.;|]{0,40}\b(eq\.?|equation|section|sec\.?|fig\.?|figure|table)\s*\(?\d", re.I
    )
    texts = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    texts[ROOT / "docs" / "PAPER_INDEX.md"] = INDEX
    assert [str(path) for path, text in texts.items() if numbered.search(text)] == []
