"""`vqmae-hf`, also as `python -m vqmae_hf.cli` for launchers: `accelerate launch -m vqmae_hf.cli tokenize ...`."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from vqmae_hf.cli.tokenize import tokenize
from vqmae_hf.version import __version__

# Exit codes: 0 done, 1 it could not be done (the message says why), 2 the command line makes no sense.
FAILURE = 1

app = typer.Typer(
    name="vqmae-hf",
    help="Audiovisual speech representation learning and emotion recognition.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(tokenize)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"vqmae-hf {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")] = False,
) -> None:
    """What every verb takes."""


def main() -> None:
    """Run a verb; what goes wrong is one readable message, unless `--debug` asks for the trace."""
    if "--debug" in sys.argv:
        sys.argv.remove("--debug")  # wherever it stands
        app()
        return
    try:
        app()
    except (ValueError, OSError, RuntimeError) as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]Error:[/] {escape(str(error))}")
        sys.exit(FAILURE)


if __name__ == "__main__":
    main()
