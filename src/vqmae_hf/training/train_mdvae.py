"""Train an MDVAE on a latent store: `python -m vqmae_hf.training.train_mdvae --recipe quickstart --latent_store ...`"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import TrainerState, set_seed

from vqmae_hf.data.latent_store import check_latent_store, load_latent_store, read_latent_store_info
from vqmae_hf.data.shards import write_json
from vqmae_hf.evaluation.latent_health import latent_health
from vqmae_hf.evaluation.pictures import frame_strip, named_rows, spectrogram
from vqmae_hf.modeling.configuration_mdvae import LATENTS
from vqmae_hf.modeling.modeling_mdvae import MDVAEModel
from vqmae_hf.modeling.processing_mdvae import MDVAEProcessor
from vqmae_hf.training.assembly import build_mdvae, inner_tokenizers, load_tokenizers, processor_for_store
from vqmae_hf.training.latent_batches import (
    FeatureCollator,
    LatentWindows,
    VariationalCollator,
    feature_statistics,
    start_from_statistics,
)
from vqmae_hf.training.mdvae_arguments import MDVAEArguments
from vqmae_hf.training.recipes import parse_arguments
from vqmae_hf.training.stages import StageResult, run_stage, split_speakers_of

RESULTS_NAME = "results.json"
# Of a latent that is held back: by how much more its divergence weighs, and over which share of the steps that ends.
HELD_WEIGHT = 1000.0
RELEASE_SHARE = 0.1
TERMS = ("audio_loss", "visual_loss", *(f"{name}_kl" for name in LATENTS))


@dataclass
class MDVAEResult(StageResult):
    """A `StageResult` with `health`, the content of `results.json`: `latent_health` on the validation speakers."""

    health: dict[str, dict[str, float]]


def run(args: MDVAEArguments) -> MDVAEResult:
    """Train an `MDVAEModel` on windows of a latent store and save it, with its tokenizers and processor."""
    set_seed(args.seed)
    model = build_model(args)
    expected = {f"{name}_tokenizer": tokenizer for name, tokenizer in inner_tokenizers(model).items()}
    check_latent_store(args.latent_store, **expected)
    parts = split_speakers_of(load_latent_store(args.latent_store), args)
    train_data = LatentWindows(parts["train"], model.config, seed=args.seed)
    validation_data = None
    if "validation" in parts:
        validation_data = LatentWindows(parts["validation"], model.config, windows="all")
    start_from_statistics(model, feature_statistics(train_data.store, model.config), scale=args.scale_features)
    collator = VariationalCollator(model.config.num_frames, seed=args.seed)
    trainer, result = run_stage(
        args,
        model,
        processor_for_store(model.config, read_latent_store_info(args.latent_store), MDVAEProcessor),
        train_data=train_data,
        validation_data=validation_data,
        collator=collator,
        terms=TERMS,
        paint=Reconstructions(validation_data or train_data, collator, args.picture_clips)
        if args.picture_clips
        else None,
        step_inputs=kl_schedule(args, model) if args.kl_warmup_steps or args.latent_starts else None,
    )
    health = report_health(model, validation_data or train_data, args.per_device_eval_batch_size)
    if trainer.is_world_process_zero():
        write_json(Path(args.output_dir) / RESULTS_NAME, health)
    return MDVAEResult(**vars(result), health=health)


def report_health(model: MDVAEModel, data: LatentWindows, batch_size: int) -> dict[str, dict[str, float]]:
    """What the latents explain of some windows, and which of them are in use; see `latent_health`."""
    collator = FeatureCollator(model.config.num_frames)
    starts = range(0, len(data), batch_size)
    batches = (collator(data.__getitems__(range(start, min(start + batch_size, len(data))))) for start in starts)
    return latent_health(model, batches)


def build_model(args: MDVAEArguments) -> MDVAEModel:
    """The untrained model around its tokenizers.

    Raises:
        ValueError: sizes that do not fit.
    """
    tokenizers = load_tokenizers(args.audio_tokenizer, args.visual_tokenizer)
    fields: dict[str, Any] = {
        "kl_weight": args.kl_weight,
        "free_bits": args.free_bits,
        **({} if args.num_frames is None else {"num_frames": args.num_frames}),
        **(args.model_overrides or {}),
        "modalities": args.modalities,
    }
    return build_mdvae(args.model_preset, tokenizers, **fields)


def kl_schedule(args: MDVAEArguments, model: MDVAEModel) -> Callable[[TrainerState], dict[str, Any]]:
    """The weight of the divergences at each step, of all or of each latent; see `kl_warmup_steps` and `latent_starts`."""
    starts = args.latent_starts if isinstance(args.latent_starts, dict) else {}

    def weights_at(state: TrainerState) -> dict[str, Any]:
        steps = args.kl_warmup_steps
        steps = steps if steps >= 1 else steps * state.max_steps
        weight = args.kl_weight * (min(1.0, state.global_step / steps) if steps else 1.0)
        if not starts:
            return {"kl_weight": weight}
        share = state.global_step / state.max_steps
        held = {name: held_back(share, at) for name, at in starts.items() if name in model.config.dynamic_latents}
        return {"kl_weight": {"w": weight, **{name: weight * factor for name, factor in held.items()}}}

    return weights_at


def held_back(share: float, start: float) -> float:
    """By how much a latent's divergence weighs more, `share` of the steps done: a factor that falls geometrically to 1."""
    return HELD_WEIGHT ** (1 - min(max((share - start) / RELEASE_SHARE, 0.0), 1.0))


class Reconstructions:
    """Paints windows as their tokenizers reconstruct them and as the model does, from the means of their latents."""

    def __init__(self, data: LatentWindows, collator: VariationalCollator, num_clips: int):
        shown = list(range(min(num_clips, len(data))))
        batch = collator(data.__getitems__(shown))
        self.inputs = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}

    def __call__(self, model: MDVAEModel) -> dict[str, Image.Image]:
        inputs = {name: value.to(model.device) for name, value in self.inputs.items()}
        decoded = model.decode(model.encode(**inputs))
        pictures = {}
        if "visual_features" in inputs:
            originals = model.decode_visual(inputs["visual_features"])
            pictures["frames"] = _rows(originals, decoded["pixel_values_videos"], frame_strip)
        if "audio_features" in inputs:
            originals = model.decode_audio(inputs["audio_features"], inputs.get("audio_attention_mask"))
            pictures["spectra"] = _rows(originals, decoded["audio_values"], spectrogram)
        return pictures


def _rows(originals: torch.Tensor, reconstructions: torch.Tensor, draw: Callable[..., Image.Image]) -> Image.Image:
    """Each clip as the tokenizer has it, above the model's version of it."""
    rows = []
    for original, reconstruction in zip(originals, reconstructions, strict=True):
        loudness = {"loudest": float(original.max())} if draw is spectrogram else {}
        rows += [
            ("tokenized", draw(original, **loudness)),
            ("reconstructed", draw(reconstruction, **loudness)),
        ]
    return named_rows(rows)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    result = run(parse_arguments(MDVAEArguments, argv))
    for name, values in result.health.items():
        print(name.replace("_", " "), "  ".join(f"{part} {value:.3g}" for part, value in values.items()))


if __name__ == "__main__":
    main()
