"""`vqmae-hf tokenize`."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

# Imports of what only a run needs stand in the functions: `--help` and completion take long enough, since transformers is
# imported with the package.


def tokenize(
    root: Annotated[Path, typer.Argument(help="Folder of the corpus.", show_default=False)],
    store: Annotated[Path, typer.Argument(help="Folder of the token store to write, or to go on with.")],
    corpus: Annotated[
        str, typer.Option(help="Kind of corpus; 'videofolder' for any folder of clips.")
    ] = "videofolder",
    model: Annotated[
        str | None, typer.Option(help="VQ-MAE checkpoint (folder or Hub id) whose two tokenizers to use.")
    ] = None,
    audio_tokenizer: Annotated[str | None, typer.Option(help="Checkpoint of the audio tokenizer.")] = None,
    visual_tokenizer: Annotated[str | None, typer.Option(help="Checkpoint of the visual tokenizer.")] = None,
    num_proc: Annotated[
        int | None, typer.Option(help="Processes that decode and encode.", show_default="one per processor")
    ] = None,
    clips_per_shard: Annotated[int, typer.Option(help="Clips in a Parquet file.")] = 256,
    clip_option: Annotated[
        list[str] | None,
        typer.Option(help="Option of load_clip as NAME=VALUE, e.g. on_missing_face=center. Repeatable."),
    ] = None,
    corpus_option: Annotated[
        list[str] | None,
        typer.Option(help="Option of the corpus loader as NAME=VALUE, e.g. vocal_channel=song. Repeatable."),
    ] = None,
    seconds_per_clip: Annotated[
        float, typer.Option(help="A clip that takes longer is left out; 0 waits for ever.")
    ] = 600.0,
    cpu: Annotated[bool, typer.Option("--cpu", help="Encode on the CPU even where there is an accelerator.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Turn the clips of a corpus into codes, once.

    Decodes every clip, follows the face, encodes face and voice, and writes Parquet shards that `datasets` reads. Runs
    that are interrupted, even by kill -9, go on where they stopped. Files that cannot be used are left out and listed,
    with the reason, in STORE/failures.jsonl.

    [bold]Examples[/]

      vqmae-hf tokenize RAVDESS tokens --corpus ravdess --model runs/emotion

      vqmae-hf tokenize clips tokens --audio-tokenizer runs/audio --num-proc 8 --clip-option on_silence=keep

      accelerate launch -m vqmae_hf.cli tokenize VoxCeleb2 tokens --corpus voxceleb2 --model runs/cross-12
    """
    from vqmae_hf.training.arguments import TokenizeArguments
    from vqmae_hf.training.assembly import load_inner_tokenizers
    from vqmae_hf.training.recipes import build_arguments
    from vqmae_hf.training.tokenize_corpus import run

    if model is not None and (audio_tokenizer or visual_tokenizer):
        raise typer.BadParameter(
            "name either a model, which brings its tokenizers, or tokenizers", param_hint="--model"
        )
    arguments = build_arguments(
        TokenizeArguments,
        corpus=corpus,
        corpus_root=str(root),
        token_store=str(store),
        audio_tokenizer=audio_tokenizer or model,
        visual_tokenizer=visual_tokenizer or model,
        num_processes=num_proc or usable_processors(),
        clips_per_shard=clips_per_shard,
        clip_options=read_options("--clip-option", clip_option),
        corpus_options=read_options("--corpus-option", corpus_option),
        seconds_per_clip=seconds_per_clip or None,
        use_cpu=cpu,
    )
    if run(arguments, None if model is None else load_inner_tokenizers(model)) is not None:
        print_summary(store, as_json)


def usable_processors() -> int:
    """Processors that this process may use; fewer than the machine has in a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_options(flag: str, pairs: list[str] | None) -> dict[str, Any]:
    """`["name=value", ...]` with values as JSON where they are JSON, as text otherwise."""
    options = {}
    for pair in pairs or []:
        name, found, value = pair.partition("=")
        if not found or not name:
            raise typer.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint=flag)
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    return options


def print_summary(store: Path, as_json: bool) -> None:
    """What a finished store holds, what was left out and why."""
    from vqmae_hf.data.clip_shards import load_failures
    from vqmae_hf.data.token_store import read_token_store_info

    info, failures = read_token_store_info(store), load_failures(store)
    num_bytes = sum(path.stat().st_size for path in store.glob("*.parquet"))
    seconds = max(info.num_frames / info.frames_per_second, info.num_spectra * info.hop_length / info.sampling_rate)
    summary = {
        "store": str(store),
        "clips": info.num_clips,
        "left_out": len(failures),
        "reasons": dict(Counter(failure.error for failure in failures)),
        "hours": round(seconds / 3600, 4),
        "bytes": num_bytes,
        "bytes_per_second": round(num_bytes / seconds, 1) if seconds else None,
    }
    if as_json:
        print(json.dumps(summary))
        return
    table = Table(title=f"token store {store}", show_header=False)
    for name, value in summary.items():
        if name == "reasons":
            value = ", ".join(f"{count} {error}" for error, count in value.items()) or "none"
        table.add_row(name.replace("_", " "), str(value))
    Console().print(table)
    if failures:
        Console().print(f"What was left out, file by file, with the reason: {store / 'failures.jsonl'}")
