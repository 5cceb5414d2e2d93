"""Help texts: quick, complete, and their examples run."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from tests.cli.printed_commands import help_examples, verbs_of
from vqmae_hf import demo, hub
from vqmae_hf.cli.__main__ import app
from vqmae_hf.demo.server import launch_demo
from vqmae_hf.own_corpus import chain

EXAMPLES = help_examples(app)
VERBS = dict(verbs_of(get_command(app)))
EXPECTED = {
    *("predict", "reconstruct", "swap", "interpolate", "denoise", "demo"),
    *("synth", "tokenize", "evaluate", "convert", "push", "info"),
    *("train finetune", "train audio-tokenizer", "train visual-tokenizer", "train pretrain", "train mdvae"),
}


def test_every_job_has_a_verb_with_examples():
    assert set(VERBS) == EXPECTED
    assert not [name for name, examples in EXAMPLES.items() if not examples]


@pytest.mark.parametrize("name", sorted(VERBS))
def test_examples_are_of_their_verb_and_every_option_is_explained(name):
    assert all(line.startswith(name) for line in EXAMPLES[name])
    unexplained = [parameter.name for parameter in VERBS[name].params if not getattr(parameter, "help", None)]
    assert not unexplained


@pytest.mark.parametrize("name", sorted(VERBS))
def test_help_is_shown(name):
    result = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "160", "NO_COLOR": "1"})
    assert result.exit_code == 0
    for line in EXAMPLES[name]:
        assert line in result.output, "markup has eaten a part of an example"


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_every_example_runs(line, place, monkeypatch):
    monkeypatch.setattr(chain, "RECIPE", "debug")
    replace_what_leaves_this_machine(line, monkeypatch)
    result = place.run(line, shorten=True)
    assert result.exit_code == 0, result.stderr[-3000:]
    if "--json" in line:
        json.loads(result.stdout)


def replace_what_leaves_this_machine(line: str, monkeypatch) -> None:
    """Uploads and servers are tested elsewhere; here, that they are called as they are to be called."""
    if line.startswith("demo"):
        monkeypatch.setattr(demo, "launch", lambda **options: inspect.signature(launch_demo).bind(**options))
    if line.startswith("push") and "--dry-run" not in line:
        real = hub.push_checkpoint
        monkeypatch.setattr(
            hub, "push_checkpoint", lambda *args, **options: real(*args, **{**options, "dry_run": True})
        )


QUICK = """
import sys
from vqmae_hf_command import main
sys.argv = ["vqmae-hf", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    heavy = [name for name in ("torch", "transformers", "datasets", "av", "numpy") if name in sys.modules]
    print("imported:", heavy, "code:", end.code)
"""


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], ["train", "finetune", "--help"], ["predict", "--top-k", "x", "clip"]]
)
def test_nothing_heavy_is_imported_before_a_verb_runs(args):
    done = subprocess.run([sys.executable, "-c", QUICK, *args], capture_output=True, text=True, check=False)
    assert "imported: []" in done.stdout, done.stderr
    assert f"code: {2 if 'x' in args else 0}" in done.stdout


def test_completion_knows_verbs_and_options():
    environment = {
        **os.environ,
        "_VQMAE_HF_COMPLETE": "complete_bash",
        "COMP_WORDS": "vqmae-hf tra",
        "COMP_CWORD": "1",
    }
    command = Path(sys.executable).with_name("vqmae-hf")
    done = subprocess.run([command], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.split() == ["train"], done.stderr
