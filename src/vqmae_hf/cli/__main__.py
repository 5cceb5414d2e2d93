"""`vqmae-hf`, also as `python -m vqmae_hf.cli` for launchers: `accelerate launch -m vqmae_hf.cli tokenize ...`."""

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from vqmae_hf.cli.evaluate import evaluate
from vqmae_hf.cli.factors import denoise, interpolate, swap
from vqmae_hf.cli.info import info
from vqmae_hf.cli.predict import predict
from vqmae_hf.cli.reconstruct import reconstruct
from vqmae_hf.cli.running import Verbs
from vqmae_hf.cli.sharing import convert, demo, push
from vqmae_hf.cli.synth import synth
from vqmae_hf.cli.tokenize import tokenize
from vqmae_hf.cli.train import FURTHER_ARGUMENTS, audio_tokenizer, finetune, mdvae, pretrain, visual_tokenizer
from vqmae_hf.version import __version__

# Of the libraries that draw bars of their own; read when they are imported, so before anything else.
BAR_SWITCHES = ("TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS")

OPTIONS_WITH_UNDERSCORES = {"token_normalize_func": lambda name: name.replace("_", "-")}

app = typer.Typer(
    name="vqmae-hf",
    cls=Verbs,
    help="Emotion from talking faces, voice and picture together: use models, look into them, train and publish them.",
    epilog="Exit codes: 0 done, 1 it could not be done (the message says why), 2 the command line makes no sense, 3 some of "
    "several clips could not be used, 4 a defect of vqmae-hf, 130 interrupted, 141 whoever read the output has gone.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings=OPTIONS_WITH_UNDERSCORES,
)


def _add(group: typer.Typer, panel: str, *functions: Callable[..., None], **settings: Any) -> None:
    for function in functions:
        group.command(rich_help_panel=panel, context_settings={**OPTIONS_WITH_UNDERSCORES, **settings})(function)


train = typer.Typer(
    help="Train a classifier on your own clips (finetune FOLDER), or one stage after the other.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
_add(app, "Use a model", predict, reconstruct, swap, interpolate, denoise, demo)
_add(app, "Data and training", synth, tokenize)
app.add_typer(train, name="train", rich_help_panel="Data and training")
_add(train, "All stages at once, or the last one", finetune, **FURTHER_ARGUMENTS)
_add(train, "Stage by stage", audio_tokenizer, visual_tokenizer, pretrain, mdvae, **FURTHER_ARGUMENTS)
_add(app, "Data and training", evaluate)
_add(app, "Around it", convert, push, info)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"vqmae-hf {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error; goes with every verb.")] = False,
) -> None:
    """What every verb takes."""


def main() -> None:
    """Run a verb; the exit code says how it went, see `vqmae-hf --help`."""
    if {"--quiet", "-q"} & set(sys.argv) or not sys.stderr.isatty():
        for switch in BAR_SWITCHES:
            os.environ.setdefault(switch, "1")
    app()


if __name__ == "__main__":
    main()
