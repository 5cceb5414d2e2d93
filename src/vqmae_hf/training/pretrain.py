"""Pre-train a VQ-MAE on a token store: `python -m vqmae_hf.training.pretrain --recipe cross-12 --token_store ...`"""

from collections.abc import Sequence

import torch
from PIL import Image
from transformers import set_seed

from vqmae_hf.data.splits import split_speakers
from vqmae_hf.data.token_store import check_token_store, load_speed_copies, load_token_store, read_token_store_info
from vqmae_hf.evaluation.pictures import frame_strip, named_rows, spectrogram
from vqmae_hf.evaluation.reconstructions import MaskedValues, decode_masked_codes, predict_masked_codes
from vqmae_hf.modeling.configuration_vqmae import VQMAEConfig
from vqmae_hf.modeling.modeling_vqmae import VQMAEForPreTraining
from vqmae_hf.training.arguments import PretrainArguments
from vqmae_hf.training.assembly import build_vqmae, inner_tokenizers, load_tokenizers, processor_for_store
from vqmae_hf.training.optimizers import make_optimizer
from vqmae_hf.training.recipes import parse_arguments
from vqmae_hf.training.stages import StageResult, run_stage, split_speakers_of
from vqmae_hf.training.token_batches import PretrainingCollator, TokenWindows
from vqmae_hf.training.token_stream import StreamedTokenWindows, read_some_clips

TERMS = ("visual_loss", "audio_loss", "contrastive_loss")
PICTURE_MASK_RATIO = 0.5
PICTURE_SEED = 0


def run(args: PretrainArguments) -> StageResult:
    """Train a `VQMAEForPreTraining` on windows of a token store and save it, with its tokenizers and processor."""
    set_seed(args.seed)
    tokenizers = load_tokenizers(args.audio_tokenizer, args.visual_tokenizer)
    model = build_vqmae(VQMAEForPreTraining, args.model_preset, tokenizers, **(args.model_overrides or {}))
    if args.code_head_start == "codebook":
        start_heads_from_codebooks(model)
    expected = {f"{name}_tokenizer": tokenizer for name, tokenizer in inner_tokenizers(model).items()}
    check_token_store(args.token_store, **expected)
    open_windows = stream_windows if args.stream else load_windows
    train_data, validation_data = open_windows(args, model.config)
    collator = PretrainingCollator(model.config, seed=args.seed)
    _, result = run_stage(
        args,
        model,
        processor_for_store(model.config, read_token_store_info(args.token_store)),
        train_data=train_data,
        validation_data=validation_data,
        collator=collator,
        terms=TERMS,
        optimizers=(make_optimizer(model, args, muon=args.muon), None),
        paint=_painter(args, validation_data or train_data, collator),
    )
    return result


@torch.no_grad()
def start_heads_from_codebooks(model: VQMAEForPreTraining) -> None:
    """Start each head at the vectors e_k that embed the codes: logit_k = e_k . h - |e_k|^2 / 2, so that the likeliest code
    is the one whose vector is nearest to what the decoder says.

    What it is worth depends on the learning rate and the modality (docs/LOG.md, "Code heads at the codebooks").
    """
    for modality in model.config.modalities:
        codebook = model.model.frozen_codebook(modality)
        codebook = model.model.embeddings.code_table(modality).weight if codebook is None else codebook
        head = model.decoder.code_head(modality)
        head.weight.copy_(codebook)
        head.bias.copy_(codebook.square().sum(dim=1) / -2)


def load_windows(args: PretrainArguments, config: VQMAEConfig) -> tuple[TokenWindows, TokenWindows | None]:
    """Windows of the training and of the validation speakers, from a copy of the store on this machine."""
    parts = split_speakers_of(load_token_store(args.token_store), args)
    train_data = TokenWindows(parts["train"], config, seed=args.seed, copies=load_speed_copies(args.token_store))
    if "validation" not in parts:
        return train_data, None
    return train_data, TokenWindows(parts["validation"], config, windows="all")


def stream_windows(args: PretrainArguments, config: VQMAEConfig) -> tuple[StreamedTokenWindows, TokenWindows | None]:
    """The same, read while training; of the validation speakers, the clips that memory is given for."""
    speakers, validation_data = {"train": None}, None
    if not args.trains_on_everyone:
        speakers = split_speakers(
            read_token_store_info(args.token_store).speakers, fractions=args.shares, seed=args.split_seed
        )
    if speakers.get("validation"):
        clips = read_some_clips(
            args.token_store, speakers["validation"], config.modalities, args.streamed_validation_clips
        )
        validation_data = TokenWindows(clips, config, windows="all")
    train_data = StreamedTokenWindows(
        args.token_store,
        config,
        speakers=speakers["train"],
        seed=args.seed,
        rank=args.process_index,
        num_ranks=args.world_size,
    )
    return train_data, validation_data


def _painter(
    args: PretrainArguments, data: TokenWindows | StreamedTokenWindows, collator: PretrainingCollator
) -> "MaskedPictures | None":
    if not args.picture_clips or isinstance(data, StreamedTokenWindows):
        return None
    return MaskedPictures(data, collator, args.picture_clips)


class MaskedPictures:
    """Paints clips as tokenized, as the model sees them, and as it completes them."""

    def __init__(self, data: TokenWindows, collator: PretrainingCollator, num_clips: int):
        shown = list(range(min(num_clips, len(data))))
        self.batch = collator(data.__getitems__(shown))

    def __call__(self, model: VQMAEForPreTraining) -> dict[str, Image.Image]:
        inputs = {
            name: value.to(model.device) for name, value in self.batch.items() if isinstance(value, torch.Tensor)
        }
        codes = {name: inputs.pop(f"{name}_codes") for name in model.config.modalities}
        generator = torch.Generator().manual_seed(PICTURE_SEED)
        predicted = predict_masked_codes(model, codes, mask_ratio=PICTURE_MASK_RATIO, generator=generator, **inputs)
        values = decode_masked_codes(predicted, inner_tokenizers(model))
        return {f"{name}_masked": named_rows(_rows(name, parts)) for name, parts in values.items()}


def _rows(modality: str, parts: MaskedValues) -> list:
    rows = []
    for original, masked, reconstructed in zip(*parts, strict=True):
        loudest = float(original.max())
        for name, values in (("tokenized", original), ("masked", masked), ("completed", reconstructed)):
            shown = frame_strip(values) if modality == "visual" else spectrogram(values, loudest=loudest)
            rows.append((name, shown))
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    run(parse_arguments(PretrainArguments, argv))


if __name__ == "__main__":
    main()
