"""A local hub for the tests of this folder, and a client that talks to it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "modeling"))

from huggingface_hub import constants
from local_hub import LocalHub


def use_hub(monkeypatch: pytest.MonkeyPatch, hub: LocalHub, cache: Path, token: str = "tester-token") -> None:
    """Everything in this process that talks to the Hub talks to this one, as "tester"."""
    for name, value in {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_CACHE": str(cache),
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", token)


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[LocalHub]:
    """An empty hub; retries of the client do not wait."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    with LocalHub() as local:
        use_hub(monkeypatch, local, tmp_path / "cache")
        yield local
