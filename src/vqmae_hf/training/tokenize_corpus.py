"""Write the token store of a corpus: `vqmae-hf tokenize`, or `python -m vqmae_hf.training.tokenize_corpus` with recipes.

Under `accelerate launch` or `torchrun` every rank takes its share of the shards.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from vqmae_hf.data.corpora import load_corpus
from vqmae_hf.data.token_store import TokenStoreInfo
from vqmae_hf.data.tokenization import write_token_store
from vqmae_hf.data.worker_pool import prepare_to_start
from vqmae_hf.modeling.processing_vqmae import VQMAEProcessor
from vqmae_hf.training.arguments import EncodingArguments, TokenizeArguments
from vqmae_hf.training.assembly import load_tokenizers, processor_for_tokenizers
from vqmae_hf.training.recipes import parse_arguments
from vqmae_hf.training.stages import open_clips


def run(args: TokenizeArguments, tokenizers: dict[str, PreTrainedModel] | None = None) -> TokenStoreInfo | None:
    """Encode the clips of a corpus, or clips that are prepared.

    Args:
        args: see `TokenizeArguments`.
        tokenizers: by modality, in place of those that `args` names.

    Returns:
        The head of the store; None on ranks that other ranks have outlasted.
    """
    return encode_clips(
        args, write_token_store, args.token_store, VQMAEProcessor, tokenizers, speed_factors=args.speed_factors
    )


def encode_clips(
    args: EncodingArguments,
    write_store: Callable[..., Any],
    folder: str | None,
    processor_class: type[VQMAEProcessor],
    tokenizers: dict[str, PreTrainedModel] | None = None,
    **options: Any,
) -> Any:
    """What the programs share that encode a corpus: tokenizers, clips and this rank's part of the work.

    Args:
        args: of the program.
        write_store: `write_token_store` or what takes the same arguments.
        folder: of the store.
        processor_class: of the processor that fits the tokenizers.
        tokenizers: by modality, in place of those that `args` names.
        **options: further arguments of `write_store`.

    Returns:
        What `write_store` returns.
    """
    # The ranks never exchange anything, so no process group is opened: one that works an hour longer than the others would
    # run into its time limit.
    rank, num_ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = encoding_device(args.use_cpu)
    prepare_to_start(args.num_processes)
    if tokenizers is None:
        tokenizers = load_tokenizers(args.audio_tokenizer, args.visual_tokenizer)
    for tokenizer in tokenizers.values():
        tokenizer.to(device)
    clip_options: dict[str, Any] | None = None
    if args.clips_dir is None:
        clips = load_corpus(args.corpus, args.corpus_root, **(args.corpus_options or {}))
        clip_options = args.clip_options or {}
    else:
        clips = open_clips(args)
    return write_store(
        clips,
        tokenizers.get("audio"),
        tokenizers.get("visual"),
        folder,
        processor=processor_for_tokenizers(tokenizers, processor_class, args.frames_per_second),
        clip_options=clip_options,
        clips_per_shard=args.clips_per_shard,
        num_processes=args.num_processes,
        seconds_per_clip=args.seconds_per_clip,
        rank=rank,
        num_ranks=num_ranks,
        show_progress=rank == 0,
        **options,
    )


def encoding_device(use_cpu: bool) -> torch.device:
    """The accelerator of this rank, or the CPU."""
    if use_cpu or not torch.accelerator.is_available():
        return torch.device("cpu")
    kind = torch.accelerator.current_accelerator().type
    return torch.device(kind, int(os.environ.get("LOCAL_RANK", 0)) % torch.accelerator.device_count())


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    info = run(parse_arguments(TokenizeArguments, argv))
    if info is not None:
        print(f"{info.num_clips} clips tokenized")


if __name__ == "__main__":
    main()
