"""Where a publication comes from: a checkpoint's folder, opened and checked, or a model at hand."""

import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.utils import CONFIG_NAME

from vqmae_hf.hub.kinds import CheckpointKind, kind_of_class
from vqmae_hf.modeling.feature_extraction_audio_vqvae import AudioVQVAEFeatureExtractor
from vqmae_hf.modeling.processing_mdvae import MDVAEProcessor
from vqmae_hf.modeling.processing_vqmae import VQMAEProcessor
from vqmae_hf.modeling.video_processing_visual_vqvae import VisualVQVAEVideoProcessor
from vqmae_hf.training.assembly import processor_for_tokenizers

PROCESSOR_CLASSES: dict[str, Any] = {
    "audio_vqvae": AudioVQVAEFeatureExtractor,
    "visual_vqvae": VisualVQVAEVideoProcessor,
    "vqmae": VQMAEProcessor,
    "mdvae": MDVAEProcessor,
}
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")


@dataclass(frozen=True)
class CheckpointSource:
    """
    Args:
        model: with its weights.
        kind: what it is.
        processor: what makes its inputs.
        folder: that of the checkpoint, with the records of its training; None for a model at hand.
        notes: what whoever publishes should know.
    """

    model: PreTrainedModel
    kind: CheckpointKind
    processor: Any
    folder: Path | None = None
    notes: tuple[str, ...] = ()


def open_source(source: str | PathLike | PreTrainedModel, processor: Any = None) -> CheckpointSource:
    """
    A checkpoint's folder, or a model.

    Args:
        source: folder that `save_pretrained` or a training program wrote, or a model of this package.
        processor: what makes the model's inputs; None is that of the folder, or else one made from the configuration.

    Raises:
        ValueError: no checkpoint there, one of another package, or one whose weights are missing, superfluous, of another
            size, or not in safetensors.
    """
    folder = None
    if isinstance(source, PreTrainedModel):
        model, where = source, type(source).__name__
        if getattr(model, "_hf_peft_config_loaded", False):
            raise ValueError(f"the {where} has a LoRA adapter: merge it first (`merge_and_unload`).")
        came_from = Path(str(model.name_or_path or ""))
        processor_folder = came_from if model.name_or_path and came_from.is_dir() else None
    else:
        folder = processor_folder = Path(source)
        model, where = load_checked(folder), str(folder)
    kind = kind_of_class(type(model).__name__, where)
    notes: tuple[str, ...] = ()
    if processor is None:
        processor, notes = find_processor(model, processor_folder)
    return CheckpointSource(model, kind, processor, folder, notes)


def load_checked(folder: Path) -> PreTrainedModel:
    """The model of a folder, every weight of which was in the file."""
    path = folder / CONFIG_NAME
    if not path.is_file():
        hint = "pass a folder that `save_pretrained` or a training program wrote"
        if (folder / "adapter_config.json").is_file():
            hint = "it holds a LoRA adapter: merge it first (`merge_and_unload`)"
        raise ValueError(f"{folder} has no {CONFIG_NAME}; {hint}.")
    architectures = json.loads(path.read_text(encoding="utf-8")).get("architectures") or ["configuration alone"]
    kind = kind_of_class(architectures[0], str(path))
    try:
        model, report = kind.model_class.from_pretrained(
            folder, dtype="auto", use_safetensors=True, output_loading_info=True
        )
    except OSError as error:
        raise ValueError(
            f"{folder} has no weights in safetensors ({error}); load it and save it again with `save_pretrained`."
        ) from error
    problems = [f"{name.replace('_', ' ')}: {sorted(map(str, found))[:5]}" for name, found in report.items() if found]
    if problems:
        raise ValueError(
            f"{folder}: the weights are not those of a {architectures[0]} of this configuration ({'; '.join(problems)}); "
            "save the whole model with `save_pretrained`."
        )
    return model


def find_processor(model: PreTrainedModel, folder: Path | None) -> tuple[Any, tuple[str, ...]]:
    """The processor saved beside the model, or else the one that its configuration says, with a note that says so."""
    model_type = model.config.model_type
    if folder is not None and any((folder / name).is_file() for name in PROCESSOR_FILES):
        return PROCESSOR_CLASSES[model_type].from_pretrained(folder), ()
    note = "there was no processor beside the model; the one published is made from its configuration, at the default rates"
    if model_type == "audio_vqvae":
        return processor_for_tokenizers({"audio": model}).feature_extractor, (note,)
    if model_type == "visual_vqvae":
        return processor_for_tokenizers({"visual": model}).video_processor, (note,)
    return PROCESSOR_CLASSES[model_type].from_model_config(model.config), (note,)
