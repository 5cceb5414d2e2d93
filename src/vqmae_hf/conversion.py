"""
The authors' checkpoints as ours: their parameter names are mapped here, where weights are read, and nowhere else.

Configurations are inferred from the shapes of the tensors. Foreign pickles are opened with `weights_only=True`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from vqmae_hf.modeling.configuration_audio_vqvae import AudioVQVAEConfig
from vqmae_hf.modeling.configuration_visual_vqvae import VisualVQVAEConfig
from vqmae_hf.modeling.modeling_audio_vqvae import AudioVQVAEModel
from vqmae_hf.modeling.modeling_visual_vqvae import VisualVQVAEModel

StateDict = Mapping[str, torch.Tensor]
KeyMap = tuple[tuple[str, str], ...]  # (pattern of the authors' name, our name), the first full match wins
ModelT = TypeVar("ModelT", bound=PreTrainedModel)

QUANTIZER_KEYS: KeyMap = (
    (r"_?vq_vae\._embedding\.weight", "quantizer.codebook"),
    (r"_?vq_vae\._ema_cluster_size", "quantizer.cluster_size"),
    (r"_?vq_vae\._ema_w", "quantizer.embedding_sum"),
    (r"_?pre_vq_conv\.(\w+)", r"encoder.projection.\1"),
)
RESIDUAL_KEYS: KeyMap = (
    (r"_?(encoder|decoder)\._?residual_stack\._?layers\.(\d+)\._?block\.1\.(\w+)", r"\1.residual_layers.\2.conv.\3"),
    (
        r"_?(encoder|decoder)\._?residual_stack\._?layers\.(\d+)\._?block\.3\.(\w+)",
        r"\1.residual_layers.\2.projection.\3",
    ),
)
AUDIO_VQVAE_KEYS: KeyMap = (
    *QUANTIZER_KEYS,
    *RESIDUAL_KEYS,
    (r"_encoder\._conv_1\.(\w+)", r"encoder.convs.0.\1"),
    (r"_encoder\._conv_2\.(\w+)", r"encoder.convs.1.\1"),
    (r"_encoder\._conv_3\.(\w+)", r"encoder.convs.2.\1"),
    (r"_encoder\.norm1\.(\w+)", r"encoder.norms.0.\1"),
    (r"_encoder\.norm2\.(\w+)", r"encoder.norms.1.\1"),
    (r"_encoder\.norm3\.(\w+)", r"encoder.norms.2.\1"),
    (r"_decoder\._conv_1\.(\w+)", r"decoder.conv.\1"),
    (r"_decoder\._conv_trans_1\.(\w+)", r"decoder.transposed_convs.0.\1"),
    (r"_decoder\._conv_trans_2_bis\.(\w+)", r"decoder.transposed_convs.1.\1"),
    (r"_decoder\._conv_trans_2\.(\w+)", r"decoder.output.\1"),
    (r"_decoder\.norm1_dec\.(\w+)", r"decoder.norms.0.\1"),
    (r"_decoder\.norm2_dec\.(\w+)", r"decoder.norms.1.\1"),
)


def visual_vqvae_keys(num_downsampling_layers: int) -> KeyMap:
    """The key map of a visual tokenizer with 2 ([AV]) or 3 ([MD]: the layers called `_add`) down-sampling layers."""
    last = num_downsampling_layers - 1
    return (
        *QUANTIZER_KEYS,
        *RESIDUAL_KEYS,
        (r"_?encoder\._?conv_1\.(\w+)", r"encoder.downsampling.0.\1"),
        (r"_?encoder\._?conv_2\.(\w+)", r"encoder.downsampling.1.\1"),
        (r"_?encoder\._?conv_2_add\.(\w+)", r"encoder.downsampling.2.\1"),
        (r"_?encoder\._?conv_3\.(\w+)", r"encoder.conv.\1"),
        (r"_?decoder\._?conv_1\.(\w+)", r"decoder.conv.\1"),
        (r"_?decoder\._?conv_trans_1\.(\w+)", r"decoder.upsampling.0.\1"),
        (r"_?decoder\._?conv_trans_2_add\.(\w+)", r"decoder.upsampling.1.\1"),
        (r"_?decoder\._?conv_trans_2\.(\w+)", rf"decoder.upsampling.{last}.\1"),
    )


class ConversionError(ValueError):
    """A checkpoint that is not what the converter was asked to read; nothing was written."""


def read_original_checkpoint(path: str | Path) -> dict[str, torch.Tensor]:
    """
    The weights of an authors' checkpoint: a pickle of a state dict, or of a dict that holds one under `"model"`.

    Raises:
        ConversionError: for a file that torch cannot open without running code from it, or that holds no weights.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ConversionError(
            f"{path} could not be opened as weights ({type(error).__name__}); a torch file of tensors is accepted. Files "
            "that need to run code when opened are refused: ask their author for a state dict."
        ) from error
    state = content.get("model", content) if isinstance(content, dict) else content
    if (
        not isinstance(state, dict)
        or not state
        or not all(isinstance(value, torch.Tensor) for value in state.values())
    ):
        raise ConversionError(f"{path} holds no weights; a state dict, or a dict with one under 'model', is accepted.")
    return dict(state)


def convert_audio_vqvae(state: StateDict, **overrides: Any) -> AudioVQVAEModel:
    """
    An authors' audio tokenizer ([AV], [S] or [MD]). The published ones were only ever used with the statistics of the clip
    at hand, so the configuration says `batch_norm_statistics="clip"`; `overrides` win.
    """
    mapped = map_keys(state, AUDIO_VQVAE_KEYS)
    settings = {
        **_quantizer_sizes(mapped),
        "hidden_size": mapped["encoder.convs.1.weight"].shape[0],
        "batch_norm": "encoder.norms.0.weight" in mapped,
        "batch_norm_statistics": "clip",
    }
    return load_converted(AudioVQVAEModel, AudioVQVAEConfig(**{**settings, **overrides}), mapped)


def convert_visual_vqvae(state: StateDict, **overrides: Any) -> VisualVQVAEModel:
    """An authors' visual tokenizer ([AV]: 96 x 96 pixels; [MD]: 64 x 64); `overrides` win over the inferred sizes."""
    downsampling = 3 if any("conv_2_add" in key for key in state) else 2
    mapped = map_keys(state, visual_vqvae_keys(downsampling))
    first = mapped["encoder.downsampling.0.weight"]
    settings = {
        **_quantizer_sizes(mapped),
        "hidden_size": 2 * first.shape[0],
        "num_channels": first.shape[1],
        "num_downsampling_layers": downsampling,
        "image_size": 64 if downsampling == 3 else 96,
    }
    return load_converted(VisualVQVAEModel, VisualVQVAEConfig(**{**settings, **overrides}), mapped)


def map_keys(state: StateDict, key_map: KeyMap) -> dict[str, torch.Tensor]:
    """
    `state` under our names.

    Raises:
        ConversionError: naming every parameter that no rule of the map knows.
    """
    mapped, unknown = {}, []
    for key, value in state.items():
        name = next((re.sub(pattern, ours, key) for pattern, ours in key_map if re.fullmatch(pattern, key)), None)
        if name is None:
            unknown.append(key)
        else:
            mapped[name] = value
    if unknown:
        raise ConversionError(
            f"{len(unknown)} of {len(state)} parameters are unknown, e.g. {unknown[:5]}; this is not a checkpoint of the "
            "kind that was asked for."
        )
    return mapped


def load_converted(model_class: type[ModelT], config: PreTrainedConfig, mapped: dict[str, torch.Tensor]) -> ModelT:
    """A model of `config` with exactly the `mapped` weights, in evaluation mode."""
    model = model_class(config)
    missing, unexpected = model.load_state_dict(mapped, strict=False)
    missing = [name for name in missing if not name.endswith("quantizer.average_started")]
    if missing or unexpected:
        raise ConversionError(f"the checkpoint does not fit: missing {missing[:5]}, not expected {unexpected[:5]}.")
    if hasattr(model, "quantizer"):
        model.quantizer.average_started.fill_(True)
    return model.eval()


def _quantizer_sizes(mapped: StateDict) -> dict[str, Any]:
    """The sizes that both kinds of tokenizer have in common, read off the tensors."""
    required = ("quantizer.codebook", "encoder.projection.weight")
    if absent := [name for name in required if name not in mapped]:
        raise ConversionError(f"the checkpoint has no {absent}; it is not one of a VQ-VAE.")
    codebook = mapped["quantizer.codebook"]
    layers = [re.match(r"encoder\.residual_layers\.(\d+)", key) for key in mapped]
    inner = mapped.get("encoder.residual_layers.0.conv.weight")
    return {
        "codebook_size": codebook.shape[0],
        "codebook_dim": codebook.shape[1],
        "num_residual_layers": 1 + max((int(match[1]) for match in layers if match), default=-1),
        "residual_hidden_size": inner.shape[0] if inner is not None else 1,
    }
