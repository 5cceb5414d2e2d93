"""Pre-train a VQ-MAE on a token store: `python -m vqmae_hf.training.pretrain --recipe cross-12 --token_store ...`"""

from collections.abc import Sequence

import torch
from PIL import Image
from transformers import set_seed

from vqmae_hf.data.token_store import load_token_store, read_token_store_info
from vqmae_hf.evaluation.pictures import frame_strip, named_rows, spectrogram
from vqmae_hf.evaluation.reconstructions import MaskedValues, decode_masked_codes, predict_masked_codes
from vqmae_hf.modeling.modeling_vqmae import VQMAEForPreTraining
from vqmae_hf.training.arguments import PretrainArguments
from vqmae_hf.training.assembly import build_vqmae, inner_tokenizers, load_tokenizers, processor_for_store
from vqmae_hf.training.recipes import parse_arguments
from vqmae_hf.training.stages import StageResult, run_stage, split_speakers_of
from vqmae_hf.training.token_batches import PretrainingCollator, TokenWindows

TERMS = ("visual_loss", "audio_loss", "contrastive_loss")
PICTURE_MASK_RATIO = 0.5
PICTURE_SEED = 0


def run(args: PretrainArguments) -> StageResult:
    """Train a `VQMAEForPreTraining` on windows of a token store and save it, with its tokenizers and processor."""
    set_seed(args.seed)
    tokenizers = load_tokenizers(args.audio_tokenizer, args.visual_tokenizer)
    model = build_vqmae(VQMAEForPreTraining, args.model_preset, tokenizers, **(args.model_overrides or {}))
    expected = {f"{name}_tokenizer": tokenizer for name, tokenizer in inner_tokenizers(model).items()}
    parts = split_speakers_of(load_token_store(args.token_store, **expected), args)
    train_data = TokenWindows(parts["train"], model.config, seed=args.seed)
    validation_data = None
    if "validation" in parts:
        validation_data = TokenWindows(parts["validation"], model.config, windows="all")
    collator = PretrainingCollator(model.config, seed=args.seed)
    _, result = run_stage(
        args,
        model,
        processor_for_store(model.config, read_token_store_info(args.token_store)),
        train_data=train_data,
        validation_data=validation_data,
        collator=collator,
        terms=TERMS,
        paint=MaskedPictures(validation_data or train_data, collator, args.picture_clips)
        if args.picture_clips
        else None,
    )
    return result


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
