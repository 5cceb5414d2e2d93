"""Train the visual tokenizer: `python -m vqmae_hf.training.train_visual_tokenizer --recipe vqmae --output_dir ...`"""

from collections.abc import Sequence

import torch
from PIL import Image
from transformers import set_seed

from vqmae_hf.evaluation.pictures import frame_strip, named_rows
from vqmae_hf.modeling.configuration_visual_vqvae import VisualVQVAEConfig
from vqmae_hf.modeling.modeling_visual_vqvae import VisualVQVAEModel
from vqmae_hf.modeling.video_processing_visual_vqvae import VisualVQVAEVideoProcessor
from vqmae_hf.training.arguments import VisualTokenizerArguments
from vqmae_hf.training.clip_batches import ClipFrames, first_batch
from vqmae_hf.training.codebook_start import start_codebook
from vqmae_hf.training.recipes import parse_arguments
from vqmae_hf.training.stages import StageResult, open_clips, run_stage, split_speakers_of

TERMS = ("reconstruction_loss", "commitment_loss", "perplexity", "code_usage")


def run(args: VisualTokenizerArguments) -> StageResult:
    """Train a `VisualVQVAEModel` on the frames of prepared clips and save it with its video processor."""
    set_seed(args.seed)
    config = VisualVQVAEConfig.from_preset(args.model_preset, **(args.model_overrides or {}))
    size = {"height": config.image_size, "width": config.image_size}
    video_processor = VisualVQVAEVideoProcessor(size=size, frames_per_second=args.frames_per_second)
    parts = split_speakers_of(open_clips(args), args)
    train_data = ClipFrames(parts["train"], video_processor, args.frames_per_clip, seed=args.seed)
    validation_data = None
    if "validation" in parts:
        validation_data = ClipFrames(parts["validation"], video_processor, args.frames_per_clip, draw=False)
    model = VisualVQVAEModel(config)
    start_codebook(model, first_batch(train_data), seed=args.seed, method=args.codebook_start)
    _, result = run_stage(
        args,
        model,
        video_processor,
        train_data=train_data,
        validation_data=validation_data,
        terms=TERMS,
        paint=FrameStrips(validation_data or train_data, args.picture_clips) if args.picture_clips else None,
    )
    return result


class FrameStrips:
    """Paints the chosen frames of some clips as they are and as the tokenizer reconstructs them."""

    def __init__(self, data: ClipFrames, num_clips: int):
        shown = list(range(min(num_clips, len(data))))
        self.pixels: list[torch.Tensor] = [item["pixel_values_videos"] for item in data.__getitems__(shown)]

    def __call__(self, model: VisualVQVAEModel) -> dict[str, Image.Image]:
        rows = []
        for pixels in self.pixels:
            reconstruction = model.decode(model.encode(pixels.unsqueeze(0).to(model.device)))[0]
            rows += [("original", frame_strip(pixels)), ("reconstructed", frame_strip(reconstruction))]
        return {"frames": named_rows(rows)}


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    run(parse_arguments(VisualTokenizerArguments, argv))


if __name__ == "__main__":
    main()
