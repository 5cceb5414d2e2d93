"""From a file of the papers' authors to a folder that `from_pretrained` opens."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel

from vqmae_hf.conversion.mdvae_names import MDVAE_KEYS
from vqmae_hf.conversion.models import (
    convert_audio_vqvae,
    convert_classifier,
    convert_mdvae,
    convert_visual_vqvae,
    convert_vqmae,
    unused_by_query2emo,
)
from vqmae_hf.conversion.original_files import LARGEST_FILE_BYTES, read_original_checkpoint
from vqmae_hf.conversion.renaming import ConversionError, KeyMap, StateDict, rename, some
from vqmae_hf.conversion.tokenizer_names import AUDIO_VQVAE_KEYS, visual_vqvae_keys
from vqmae_hf.conversion.vqmae_names import CLASSIFIER_KEYS, VQMAE_KEYS
from vqmae_hf.data.shards import atomic_folder, write_json
from vqmae_hf.modeling.feature_extraction_audio_vqvae import AudioVQVAEFeatureExtractor
from vqmae_hf.modeling.modeling_audio_vqvae import AudioVQVAEModel
from vqmae_hf.modeling.modeling_visual_vqvae import VisualVQVAEModel
from vqmae_hf.modeling.processing_mdvae import MDVAEProcessor
from vqmae_hf.modeling.processing_vqmae import VQMAEProcessor
from vqmae_hf.modeling.tokenized_model import TokenizedPreTrainedModel
from vqmae_hf.modeling.video_processing_visual_vqvae import VisualVQVAEVideoProcessor
from vqmae_hf.version import __version__

REPORT_NAME = "conversion.json"
# A file is of the kind whose names it shares, if it shares this many.
LEAST_SHARE_OF_KNOWN_NAMES = 0.5


class Kind(NamedTuple):
    """One kind of checkpoint that the authors have: how it is told and converted, and what no tensor shows."""

    title: str
    telling_names: str  # for messages
    keys: KeyMap
    convert: Callable[..., PreTrainedModel]
    assumed: tuple[str, ...]  # fields of the configuration
    verified: str  # what the conversion was compared with


HEADS = ("num_attention_heads",)
GEOMETRY = ("audio_tube_size", "audio_codes_per_spectrum", "visual_tube_size", "visual_codes_per_side")
KINDS: dict[str, Kind] = {
    "audio_tokenizer": Kind(
        "audio tokenizer ([AV], [S], [MD])",
        "_encoder._conv_1.weight, _vq_vae._embedding.weight",
        AUDIO_VQVAE_KEYS,
        convert_audio_vqvae,
        ("batch_norm_statistics", "commitment_cost", "ema_decay"),
        "recordings of the authors' code with random weights, with and without batch normalisation, and one with the file "
        "published for MDVAE",
    ),
    "visual_tokenizer": Kind(
        "visual tokenizer ([AV], [MD])",
        "encoder.conv_1.weight or _encoder._conv_1.weight of 4 axes, vq_vae._embedding.weight",
        visual_vqvae_keys(3),
        convert_visual_vqvae,
        ("image_size", "commitment_cost", "ema_decay"),
        "recordings of the authors' code with random weights, with two and three down-sampling layers",
    ),
    "masked_autoencoder": Kind(
        "VQ-MAE-AV or VQ-MAE-S",
        "encoder.proj_v.weight and encoder.proj_a.weight, or encoder.proj.weight; decoder.mask_token",
        VQMAE_KEYS,
        convert_vqmae,
        (*HEADS, "decoder_num_attention_heads", *GEOMETRY),
        "recordings of the authors' code with random weights: self and cross attention, learned and sinusoidal positions, "
        "with and without the contrastive term, and the speech-only model with its class token",
    ),
    "classifier": Kind(
        "classifier on VQ-MAE-AV",
        "proj_v.weight, proj_a.weight, head.weight or label_emb",
        CLASSIFIER_KEYS,
        convert_classifier,
        (*HEADS, "query2emo_num_attention_heads", *GEOMETRY),
        "recordings of the authors' code with random weights: mean and attention pooling, Query2Emo, self and cross "
        "attention",
    ),
    "mdvae": Kind(
        "MDVAE",
        "inf_zss_mean.weight, rnn_zds.weight_ih_l0, de_mlp.Linear1_DecA.weight",
        MDVAE_KEYS,
        convert_mdvae,
        ("audio_code_dim", "visual_codes_per_side", "num_frames"),
        "a recording of the authors' code with random weights",
    ),
}


@dataclass(frozen=True)
class ConversionReport:
    """
    What was converted into what; `conversion.json` of the new folder holds the same.

    Attributes:
        source, source_sha256: name of the file and its digest.
        output_dir: folder of the new checkpoint.
        kind: a key of `KINDS`; `title` says it in words.
        model_class, processor_class: of the new checkpoint; no processor fits some unusual sizes, `notes` then says why.
        num_parameters: of the model, tokenizers included.
        assumed: fields of the configuration that cannot be read off tensors, at the papers' values.
        left_behind: parameters of the file that the model has no use for.
        verified: what conversions of this kind were compared with.
        notes: what a user should know besides.
        package_version: of the converter.
    """

    source: str
    source_sha256: str
    output_dir: str
    kind: str
    title: str
    model_class: str
    processor_class: str | None
    num_parameters: int
    assumed: dict[str, Any]
    left_behind: list[str]
    verified: str
    notes: list[str] = field(default_factory=list)
    package_version: str = __version__


def convert_checkpoint(
    source: str | os.PathLike,
    output_dir: str | os.PathLike,
    *,
    labels: Sequence[str] | None = None,
    audio_tokenizer: str | os.PathLike | AudioVQVAEModel | None = None,
    visual_tokenizer: str | os.PathLike | VisualVQVAEModel | None = None,
    config_overrides: Mapping[str, Any] | None = None,
    largest_bytes: int = LARGEST_FILE_BYTES,
) -> ConversionReport:
    """
    Convert a checkpoint of the papers' authors into a folder with configuration, weights (safetensors) and processor.

    The kind and the configuration are read off the names and sizes of the tensors. The file is opened with
    `weights_only=True` always. The folder appears when it is complete, or not at all.

    Args:
        source: a file of `torch.save` that holds a state dict, or a dict with one under "model".
        output_dir: a new or empty folder.
        labels: names of a classifier's classes, in the order of their numbers; files of the authors hold none.
        audio_tokenizer, visual_tokenizer: to put into a VQ-MAE, classifier or MDVAE, so that it takes spectra and frames
            and not codes only: a file of the authors, a folder of this package, or a model.
        config_overrides: fields of the configuration that win over what is inferred: numbers of attention heads, or the
            extents of tubes and the length of the window where they are not the papers'.
        largest_bytes: of the file and of its tensors.

    Raises:
        ConversionError: the file is missing, empty, damaged, too large or would run code; its names are of no known kind;
            parameters are missing, too many, of another size or not finite; labels or tokenizers do not fit. The message
            says what was found and what is accepted.
        FileExistsError: `output_dir` is not empty.
    """
    path, folder = Path(source), Path(output_dir)
    state = read_original_checkpoint(path, largest_bytes=largest_bytes)
    name = identify_kind(state)
    kind, overrides = KINDS[name], dict(config_overrides or {})
    try:
        model = kind.convert(state, **overrides)
        put_labels(model, labels)
        put_tokenizers(model, audio_tokenizer, visual_tokenizer, largest_bytes)
    except ConversionError as error:
        raise ConversionError(f"{path}, which looks like {kind.title}: {error}") from error
    processor, notes = fitting_processor(name, model)
    report = ConversionReport(
        source=path.name,
        source_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        output_dir=str(folder),
        kind=name,
        title=kind.title,
        model_class=type(model).__name__,
        processor_class=None if processor is None else type(processor).__name__,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        assumed={f: getattr(model.config, f) for f in kind.assumed if f not in overrides},
        left_behind=unused_by_query2emo(state),
        verified=kind.verified,
        notes=notes,
    )
    with atomic_folder(folder) as unfinished:
        model.save_pretrained(unfinished)
        if processor is not None:
            processor.save_pretrained(unfinished)
        write_json(unfinished / REPORT_NAME, asdict(report))
    return report


def identify_kind(state: StateDict) -> str:
    """
    The key of `KINDS` whose names a state dict shares most.

    Raises:
        ConversionError: it shares few names with any of them.
    """
    # The tokenizers of [MD] share their names; convolutions over images have an axis more.
    pictured = any(value.dim() == 4 for value in state.values())
    shares = {
        name: sum(rename(key, kind.keys) is not None for key in state) / len(state)
        for name, kind in KINDS.items()
        if not (name == "audio_tokenizer" and pictured) and not (name == "visual_tokenizer" and not pictured)
    }
    best = max(shares, key=lambda name: shares[name])
    if shares[best] < LEAST_SHARE_OF_KNOWN_NAMES:
        accepted = "; ".join(f"{kind.title} (with {kind.telling_names})" for kind in KINDS.values())
        raise ConversionError(
            f"found {len(state)} tensors of no known kind: {some(list(state))}. Accepted are the authors' checkpoints of: "
            f"{accepted}. A folder of this package needs no conversion: open it with from_pretrained."
        )
    return best


def put_labels(model: PreTrainedModel, labels: Sequence[str] | None) -> None:
    """Names of the classes into the configuration of a classifier."""
    if labels is None:
        return
    if not hasattr(model, "classifier"):
        raise ConversionError("labels were given, but it is no classifier; leave them out.")
    if len(set(labels)) != model.config.num_labels or len(labels) != model.config.num_labels:
        raise ConversionError(f"found {list(labels)}; accepted are {model.config.num_labels} different labels.")
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: number for number, label in enumerate(labels)}


def put_tokenizers(
    model: PreTrainedModel,
    audio: str | os.PathLike | AudioVQVAEModel | None,
    visual: str | os.PathLike | VisualVQVAEModel | None,
    largest_bytes: int,
) -> None:
    """Tokenizers into a model that can carry them."""
    if audio is None and visual is None:
        return
    if not isinstance(model, TokenizedPreTrainedModel):
        raise ConversionError("tokenizers were given, but it is one itself; leave them out.")
    try:
        model.set_tokenizers(
            _tokenizer(audio, AudioVQVAEModel, convert_audio_vqvae, largest_bytes),
            _tokenizer(visual, VisualVQVAEModel, convert_visual_vqvae, largest_bytes),
        )
    except (ValueError, OSError) as error:
        raise ConversionError(f"the tokenizers do not fit: {error}") from error


def _tokenizer(source: Any, model_class: type[Any], convert: Callable[..., Any], largest_bytes: int) -> Any:
    """A tokenizer of whatever stands for it: a model, a folder of this package, a file of the authors."""
    if source is None or isinstance(source, torch.nn.Module):
        return source
    if Path(source).is_dir():
        return model_class.from_pretrained(source)
    return convert(read_original_checkpoint(source, largest_bytes=largest_bytes))


def fitting_processor(kind: str, model: PreTrainedModel) -> tuple[Any, list[str]]:
    """The processor at the rates of the paper that the model is of, or None; and notes about it."""
    config: Any = model.config
    if kind == "audio_tokenizer":
        # [MD] is without batch normalisation, [S] has two residual layers.
        hop_length, window = (320, 200 if config.num_residual_layers == 2 else 100) if config.batch_norm else (533, 30)
        n_fft = 2 * (config.num_frequency_bins - 1)
        extractor = AudioVQVAEFeatureExtractor(n_fft=n_fft, hop_length=hop_length, num_spectra=window)
        return extractor, [f"a hop of {hop_length} samples at 16 kHz, as in the paper with such a tokenizer"]
    if kind == "visual_tokenizer":
        side, rate, window = config.image_size, *((30, 30) if config.image_size == 64 else (25, 50))
        video_processor = VisualVQVAEVideoProcessor(
            size={"height": side, "width": side}, frames_per_second=rate, num_frames=window
        )
        return video_processor, [f"{rate} frames per second, as in the paper with such a tokenizer"]
    processor_class = MDVAEProcessor if kind == "mdvae" else VQMAEProcessor
    try:
        return processor_class.from_model_config(config), []
    except ValueError as error:
        return None, [f"no processor fits these sizes: {error}"]
