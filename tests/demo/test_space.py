"""The folder that becomes a Space: what it starts, needs, and says about itself."""

import re
import runpy
from pathlib import Path

import pytest
import yaml

import vqmae_hf.demo

ROOT = Path(__file__).resolve().parents[2]
SPACE = ROOT / "hub_cards" / "space"


@pytest.fixture
def launched(monkeypatch):
    """Starts app.py under these variables; returns what it asks the demo for."""
    calls = []
    monkeypatch.setattr(vqmae_hf.demo, "launch", lambda *arguments, **options: calls.append((arguments, options)))

    def start(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        runpy.run_path(str(SPACE / "app.py"))
        return calls[-1]

    return start


def test_the_variables_name_the_models(launched):
    arguments, options = launched(VQMAE_CHECKPOINT="someone/emotion", VQMAE_MDVAE=" ", VQMAE_MAX_SECONDS="8")
    assert arguments == ("someone/emotion",)
    assert options["pretraining"] is options["mdvae"] is None
    assert options["max_seconds"] == 8
    assert (options["host"], options["port"]) == ("0.0.0.0", 7860), "where a Space is listened to"


def test_the_space_runs_the_gradio_that_was_tested():
    head = yaml.safe_load((SPACE / "README.md").read_text(encoding="utf-8").split("---")[1])
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert head["sdk"] == "gradio"
    assert f"gradio=={head['sdk_version']}\n" in pins
    assert (SPACE / head["app_file"]).is_file()
    assert len(head["short_description"]) <= 60, "the Hub's limit"


def test_the_space_needs_the_package_with_its_extra():
    assert (SPACE / "requirements.txt").read_text(encoding="utf-8").split() == ["vqmae-hf[demo]"]


def test_every_variable_is_explained():
    used = set(re.findall(r"VQMAE_\w+", (SPACE / "app.py").read_text(encoding="utf-8")))
    assert used == set(re.findall(r"VQMAE_\w+", (SPACE / "README.md").read_text(encoding="utf-8")))
