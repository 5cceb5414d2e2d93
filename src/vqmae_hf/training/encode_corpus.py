"""Write the latent store of a corpus, what MDVAE is trained on: `python -m vqmae_hf.training.encode_corpus --corpus ...`

Under `accelerate launch` or `torchrun` every rank takes its share of the shards.
"""

from collections.abc import Sequence

from transformers import PreTrainedModel

from vqmae_hf.data.latent_store import LatentStoreInfo, write_latent_store
from vqmae_hf.modeling.processing_mdvae import MDVAEProcessor
from vqmae_hf.training.mdvae_arguments import EncodeArguments
from vqmae_hf.training.recipes import parse_arguments
from vqmae_hf.training.tokenize_corpus import encode_clips


def run(args: EncodeArguments, tokenizers: dict[str, PreTrainedModel] | None = None) -> LatentStoreInfo | None:
    """Encode the clips of a corpus, or clips that are prepared at `frames_per_second`.

    Args:
        args: see `EncodeArguments`.
        tokenizers: by modality, in place of those that `args` names.

    Returns:
        The head of the store; None on ranks that other ranks have outlasted.
    """
    return encode_clips(
        args, write_latent_store, args.latent_store, MDVAEProcessor, tokenizers, precision=args.precision
    )


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    info = run(parse_arguments(EncodeArguments, argv))
    if info is not None:
        print(f"{info.num_clips} clips encoded")


if __name__ == "__main__":
    main()
