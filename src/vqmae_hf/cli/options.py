"""Options that several verbs share, with one wording each."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from vqmae_hf.cli.running import usage_error

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else to stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]
DeviceOption = Annotated[
    str, typer.Option(help="'auto' takes an accelerator where there is one; or 'cpu', 'cuda:1', 'mps', ...")
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        envvar="VQMAE_HF_MODEL",
        help="Checkpoint: a folder or a Hub id.",
        show_default="quickstart/model, if it is there",
    ),
]
ClipOption = Annotated[
    list[str] | None,
    typer.Option(
        "--clip-option",
        metavar="NAME=VALUE",
        help="Option of load_clip, e.g. on_missing_face=center or end_seconds=10. Repeatable.",
    ),
]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="File to write.")]


def read_pairs(flag: str, pairs: list[str] | None) -> dict[str, Any]:
    """`["name=value", ...]` with values as JSON where they are JSON, as text otherwise."""
    options = {}
    for pair in pairs or []:
        name, found, value = pair.partition("=")
        if not found or not name:
            usage_error(f"{pair!r} is not NAME=VALUE", flag)
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    return options


def read_clip_options(pairs: list[str] | None, allowed: set[str] | None = None) -> dict[str, Any]:
    """Options of `load_clip`; an unknown name is a usage error that lists the known ones.

    Args:
        pairs: "name=value".
        allowed: names that are accepted; default: those that say how a file is read.
    """
    options = read_pairs("--clip-option", pairs)
    known = CLIP_OPTIONS if allowed is None else allowed
    if unknown := sorted(set(options) - known):
        usage_error(f"unknown {', '.join(unknown)}; known: {', '.join(sorted(known))}", "--clip-option")
    return options


# Of load_clip's arguments, those that do not belong to the model: rates, sizes and modalities are the processor's.
CLIP_OPTIONS = {
    "crop_faces",
    "face_detector",
    "start_seconds",
    "end_seconds",
    "on_missing_face",
    "on_missing_audio",
    "on_missing_video",
    "on_silence",
    "trim_silence_db",
}


def usable_processors() -> int:
    """Processors that this process may use; fewer than the machine has in a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
