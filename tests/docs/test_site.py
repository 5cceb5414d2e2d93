"""The documentation builds without a warning, and every page of it can be found."""

from pathlib import Path

import pytest
import yaml
from mkdocs.commands.build import build
from mkdocs.config import load_config

ROOT = Path(__file__).parents[2]


@pytest.mark.filterwarnings("ignore")  # of mkdocs' plugins; warnings about the pages are errors of `strict`
def test_it_builds_and_no_link_is_broken(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    monkeypatch.chdir(ROOT)  # where docs/hf_docstrings.py is looked for
    build(load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(tmp_path)))
    page = (tmp_path / "reference" / "models" / "index.html").read_text(encoding="utf-8")
    assert "VQMAEForAudioVisualClassification" in page
    assert "Letters" in page


def test_every_page_is_in_the_navigation():
    listed = set(pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    there = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert listed == there


def pages_of(entries):
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        else:
            for value in entry.values():
                yield from pages_of([value] if isinstance(value, str) else value)


def test_docstrings_lose_the_marks_of_transformers_alone():
    from docs.hf_docstrings import plain_marks

    text = "See [`VQMAEConfig`] and [`x`](y).\n\nArgs:\n    size (`int` or `None`): of `x`, see [`Y`]."
    assert plain_marks(text) == "See `VQMAEConfig` and [`x`](y).\n\nArgs:\n    size (int or None): of `x`, see `Y`."
