"""A local hub for the tests of this folder, and a client that talks to it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "modeling"))

from local_hub import LocalHub, use_hub


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[LocalHub]:
    """An empty hub; retries of the client do not wait."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    with LocalHub() as local:
        use_hub(monkeypatch, local, tmp_path / "cache")
        yield local
