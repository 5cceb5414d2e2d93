"""What holds for every verb: where things are printed, how errors look, what the exit code says."""

import json
import logging
import math
import warnings

import pytest
import typer
from typer.testing import CliRunner

from vqmae_hf.cli.running import DEFECT, FAILED, INTERRUPTED, SOME_FAILED, Answer, Verbs, verb


def run(function, *args):
    """The result of a command line with this one verb."""
    app = typer.Typer(cls=Verbs, pretty_exceptions_enable=False)
    app.command(name="work")(verb(function))
    app.callback()(lambda: None)
    return CliRunner().invoke(app, ["work", *args])


def fail_with(error):
    def work(as_json: bool = typer.Option(False, "--json")) -> Answer:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("clip.mp4: found [no] face"), FAILED),
        (FileNotFoundError("nothing there"), FAILED),
        (KeyboardInterrupt(), INTERRUPTED),
        (KeyError("name"), DEFECT),
    ],
)
def test_errors_are_one_line_on_stderr_and_a_document_with_json(error, code):
    plain, machine = run(fail_with(error)), run(fail_with(error), "--json")
    assert (plain.exit_code, machine.exit_code) == (code, code)
    assert plain.stdout == ""
    assert len(plain.stderr.splitlines()) == 1
    assert plain.stderr.startswith("Error: ")
    if str(error) and code == FAILED:
        assert str(error) in plain.stderr, "square brackets are no markup"
    assert json.loads(machine.stdout)["error"]["type"] == type(error).__name__
    assert machine.stderr == plain.stderr


@pytest.mark.parametrize("args", [["--debug"], ["--json", "--debug"]])
def test_debug_shows_the_error_itself(args):
    result = run(fail_with(ValueError("reason")), *args)
    assert isinstance(result.exception, ValueError)


def test_stdout_holds_the_answer_alone():
    def work(as_json: bool = typer.Option(False, "--json")) -> Answer:
        warnings.simplefilter("default")  # errors, in tests
        print("progress")
        warnings.warn("take care", stacklevel=1)
        warnings.warn("take care", stacklevel=1)
        logging.getLogger("vqmae_hf.some.module").warning("logged")
        return Answer({"loss": math.nan, "list": [math.inf, 1.5], "name": "é"}, ["shown"], SOME_FAILED)

    result = run(work, "--json")
    assert json.loads(result.stdout) == {"loss": None, "list": [None, 1.5], "name": "é"}
    assert result.exit_code == SOME_FAILED
    assert [result.stderr.count(text) for text in ("progress", "Warning: take care", "logged")] == [1, 1, 1]
    assert run(work).stdout == "shown\n"


def test_help_flows_and_examples_keep_their_lines():
    def work() -> None:
        """One job.

        A paragraph that
        goes on.

          vqmae-hf one
          vqmae-hf two
        """

    assert verb(work).__doc__ == "One job.\n\nA paragraph that goes on.\n\n  vqmae-hf one\n  vqmae-hf two"


def test_names_of_options_may_have_underscores(place):
    assert place.run("synth small --speakers 1 --clips_per_emotion 1 --clip_seconds 1 --image_size 64").exit_code == 0
