"""Write the token store of a corpus: `python -m vqmae_hf.training.tokenize_corpus --clips_dir ... --token_store ...`

Under `accelerate launch` or `torchrun` every process takes its share of the shards.
"""

from collections.abc import Sequence

import torch
from accelerate import PartialState
from datasets import Dataset

from vqmae_hf.data.token_store import load_token_store, write_token_store
from vqmae_hf.training.arguments import TokenizeArguments
from vqmae_hf.training.assembly import load_tokenizers, processor_for_tokenizers
from vqmae_hf.training.recipes import parse_arguments
from vqmae_hf.training.stages import open_clips


def run(args: TokenizeArguments) -> Dataset:
    """Encode the prepared clips with the tokenizers of two checkpoints; returns the store."""
    state = PartialState(cpu=args.use_cpu)
    device = torch.device("cpu") if args.use_cpu else state.device
    tokenizers = load_tokenizers(args.audio_tokenizer, args.visual_tokenizer)
    for tokenizer in tokenizers.values():
        tokenizer.to(device)
    write_token_store(
        open_clips(args),
        tokenizers.get("audio"),
        tokenizers.get("visual"),
        args.token_store,
        processor=processor_for_tokenizers(tokenizers),
        clips_per_shard=args.clips_per_shard,
        process_index=state.process_index,
        num_processes=state.num_processes,
        show_progress=state.is_main_process,
    )
    state.wait_for_everyone()
    return load_token_store(args.token_store)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    store = run(parse_arguments(TokenizeArguments, argv))
    print(f"{len(store)} clips tokenized")


if __name__ == "__main__":
    main()
