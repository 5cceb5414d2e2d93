"""`vqmae-hf tokenize`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vqmae_hf.cli.options import ClipOption, JsonOption, QuietOption, read_pairs, usable_processors
from vqmae_hf.cli.running import Answer, usage_error, verb

# Imports of what only a run needs stand in the functions: `--help` and completion shall not wait for them.


@verb
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
    latents: Annotated[
        bool,
        typer.Option("--latents", help="Keep what comes before quantization, at 30 Hz: what `train mdvae` takes."),
    ] = False,
    clips_per_shard: Annotated[int, typer.Option(help="Clips in a file of the store.")] = 256,
    clip_option: ClipOption = None,
    corpus_option: Annotated[
        list[str] | None,
        typer.Option(help="Option of the corpus loader as NAME=VALUE, e.g. vocal_channel=song. Repeatable."),
    ] = None,
    speed_factor: Annotated[
        list[float] | None,
        typer.Option(help="Keep each clip, of sound alone, at this speed too, for training, e.g. 0.9. Repeatable."),
    ] = None,
    seconds_per_clip: Annotated[
        float, typer.Option(help="A clip that takes longer is left out; 0 waits for ever.")
    ] = 600.0,
    cpu: Annotated[bool, typer.Option("--cpu", help="Encode on the CPU even where there is an accelerator.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> Answer | None:
    """Turn the clips of a corpus into codes, once.

    Decodes every clip, follows the face, encodes face and voice, and writes Parquet shards that `datasets` reads. Runs
    that are interrupted, even by kill -9, go on where they stopped. Files that cannot be used are left out and listed,
    with the reason, in STORE/failures.jsonl.

    [bold]Examples[/]

      vqmae-hf tokenize RAVDESS tokens --corpus ravdess --model runs/emotion
      vqmae-hf tokenize clips tokens --audio-tokenizer runs/audio --num-proc 8 --clip-option on_silence=keep
      vqmae-hf tokenize clips voices --audio-tokenizer runs/audio --clip-option trim_silence_db=35 --speed-factor 0.9
      vqmae-hf tokenize clips latents --latents --audio-tokenizer runs/audio --visual-tokenizer runs/visual
      accelerate launch -m vqmae_hf.cli tokenize VoxCeleb2 tokens --corpus voxceleb2 --model runs/cross-12
    """
    if model is not None and (audio_tokenizer or visual_tokenizer):
        usage_error("name either a model, which brings its tokenizers, or tokenizers", "--model")
    if model is not None and latents:
        usage_error("with --latents name the tokenizers themselves", "--model")
    if latents and speed_factor:
        usage_error("latents are kept at one speed", "--speed-factor")

    from vqmae_hf.cli.checkpoints import quieten_transformers
    from vqmae_hf.cli.descriptions import describe_path
    from vqmae_hf.cli.info import as_table
    from vqmae_hf.training import encode_corpus, tokenize_corpus
    from vqmae_hf.training.arguments import TokenizeArguments
    from vqmae_hf.training.assembly import load_inner_tokenizers
    from vqmae_hf.training.mdvae_arguments import EncodeArguments
    from vqmae_hf.training.recipes import build_arguments

    quieten_transformers()
    shared: dict[str, Any] = {
        "corpus": corpus,
        "corpus_root": str(root),
        "audio_tokenizer": audio_tokenizer or model,
        "visual_tokenizer": visual_tokenizer or model,
        "num_processes": num_proc or usable_processors(),
        "clips_per_shard": clips_per_shard,
        "clip_options": read_pairs("--clip-option", clip_option),
        "corpus_options": read_pairs("--corpus-option", corpus_option),
        "seconds_per_clip": seconds_per_clip or None,
        "use_cpu": cpu,
    }
    if latents:
        info: Any = encode_corpus.run(build_arguments(EncodeArguments, latent_store=str(store), **shared))
    else:
        tokenizers = None if model is None else load_inner_tokenizers(model)
        speeds = sorted({1.0, *speed_factor}) if speed_factor else None
        arguments = build_arguments(TokenizeArguments, token_store=str(store), speed_factors=speeds, **shared)
        info = tokenize_corpus.run(arguments, tokenizers)
    if info is None:
        return None  # another rank finishes the store, and reports
    described = describe_path(store)
    shown = [as_table(described)]
    if described["left_out"]:
        shown.append(f"What was left out, file by file, with the reason: {store / 'failures.jsonl'}")
    return Answer(described, shown)
