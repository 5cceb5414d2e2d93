"""`vqmae-hf info`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vqmae_hf.cli.options import JsonOption
from vqmae_hf.cli.running import Answer, verb


@verb
def info(
    path: Annotated[
        Path | None,
        typer.Argument(
            help="Checkpoint, clip, token store, corpus or training run.", show_default="this installation"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> Answer:
    """Say what a path holds, or, without one, which versions and devices are there.

    [bold]Examples[/]

      vqmae-hf info
      vqmae-hf info clip.mp4
      vqmae-hf info my_model
      vqmae-hf info interviews --json
    """
    from vqmae_hf.cli.descriptions import describe_installation, describe_path

    document = describe_installation() if path is None else describe_path(path)
    return Answer(document, [as_table(document)])


def as_table(document: dict[str, Any]) -> Any:
    """A description as a table of two columns."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=box.SIMPLE)
    for name, value in document.items():
        table.add_row(f"[bold]{name.replace('_', ' ')}[/]", escape(_in_words(value)))
    return table


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_words(item)}" for name, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_in_words, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "unknown" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
