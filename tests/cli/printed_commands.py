"""Commands out of help texts and documentation, and a way to run them quickly without changing what they mean."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command
from typer.testing import CliRunner

LAUNCHER = "accelerate launch -m vqmae_hf.cli "
COMMAND = re.compile(r"^\s*(vqmae-hf |accelerate launch -m vqmae_hf\.cli )(.*)$")

# Where a verb writes, so that what the example makes is not there yet: a flag, or the place of an argument.
OUTPUTS = {
    "tokenize": 1,
    "convert": 1,
    "synth": 0,
    "train audio-tokenizer": "-o",
    "train visual-tokenizer": "-o",
    "train pretrain": "-o",
    "train finetune": "-o",
    "train mdvae": "-o",
    "push": "--output-dir",
}
# Recipes for tokenizers of the papers' sizes, and those for the small ones that tests have.
SMALLER = {"cross-12": "quickstart"}
# Trainings and corpora as small as they get.
SHORTCUTS = {
    "tokenize": ["--num-proc", "1"],
    "synth": ["--speakers", "2", "--clips-per-emotion", "1", "--clip-seconds", "1", "--image-size", "64"],
    "train audio-tokenizer": ["--max_steps", "2", "--picture_clips", "0"],
    "train visual-tokenizer": ["--max_steps", "2", "--picture_clips", "0"],
    "train pretrain": ["--max_steps", "2", "--picture_clips", "0"],
    "train finetune": ["--max_steps", "2"],
    "train mdvae": ["--max_steps", "2", "--picture_clips", "0"],
}


def help_examples(app: Any) -> dict[str, list[str]]:
    """The examples in the help text of every verb, by its name ("train finetune")."""
    return {name: printed_commands(command.help or "") for name, command in verbs_of(get_command(app))}


def verbs_of(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every verb with its command, those of groups included."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs_of(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def printed_commands(text: str) -> list[str]:
    """Lines that call the command, in the order of the text; lines that end in a backslash go on."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [match[2].split("  #")[0].strip() for line in joined.splitlines() if (match := COMMAND.match(line))]


def run_line(app: Any, line: str, *, shorten: bool = False) -> Any:
    """Run a command line, without the name of the command, in this process.

    Args:
        app: of the command line.
        line: as printed.
        shorten: remove what is in the way, take the `SMALLER` recipe, and add the verb's `SHORTCUTS`.
    """
    args = shlex.split(line.removeprefix("vqmae-hf ").removeprefix(LAUNCHER))
    if shorten:
        verb = " ".join(args[:2]) if args[0] == "train" else args[0]
        _make_room(args, verb)
        args = [SMALLER.get(arg, arg) for arg in args]
        if not {"--all-options", "--help"} & set(args):
            args += SHORTCUTS.get(verb, [])
        if verb == "train finetune" and "--token-store" not in args:
            args += ["--num-proc", "1", *(["--num-folds", "3"] if "--pretrained" in args else [])]
    return CliRunner().invoke(app, args)


def _make_room(args: list[str], verb: str) -> None:
    where = OUTPUTS.get(verb)
    if isinstance(where, int):
        target = args[1 + where]
    elif where in args:
        target = args[args.index(where) + 1]
    else:
        return
    if Path(target).is_dir():
        shutil.rmtree(target)
