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
from vqmae_hf.modeling.configuration_vqmae import VQMAEConfig
from vqmae_hf.modeling.modeling_audio_vqvae import AudioVQVAEModel
from vqmae_hf.modeling.modeling_visual_vqvae import VisualVQVAEModel
from vqmae_hf.modeling.modeling_vqmae import VQMAEForAudioVisualClassification, VQMAEForPreTraining

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


# Their attention is torch's, with one matrix for queries, keys and values; `split_attention` takes it apart.
BLOCK_KEYS: KeyMap = (
    (r"norm1\.(\w+)", r"attention_norm.\1"),
    (r"norm2\.(\w+)", r"mlp_norm.\1"),
    (r"attn\.qkv\.(\w+)", r"attention.qkv.\1"),
    (r"attn\.proj\.(\w+)", r"attention.projection.\1"),
    (r"mlp\.(fc\d)\.(\w+)", r"mlp.\1.\2"),
)
MIXER_KEYS: KeyMap = (
    (r"cross_attention\.(in_proj_\w+)", r"attention.\1"),
    (r"cross_attention\.out_proj\.(\w+)", r"attention.projection.\1"),
    (r"layer_norm\.(\w+)", r"norm.\1"),
    (r"mlp\.(fc\d)\.(\w+)", r"mlp.\1.\2"),
)
STREAMS = {"": "joint", "_v": "visual", "_a": "audio"}


def nested_keys(prefix: str, ours: str, keys: KeyMap) -> KeyMap:
    """A key map of a part, below a literal prefix of theirs (`#` stands for a layer's number) and of ours."""
    pattern = re.escape(prefix).replace(r"\#", r"(?P<layer>\d+)")
    target = ours.replace("#", r"\g<layer>")
    if "#" in prefix:  # the layer's number is the first group, the part's own groups follow
        keys = tuple((theirs, re.sub(r"\\([12])", _next_group, name)) for theirs, name in keys)
    return tuple((pattern + theirs, target + name) for theirs, name in keys)


def _next_group(reference: re.Match[str]) -> str:
    return f"\\{int(reference[1]) + 1}"


def stack_keys(prefix: str, ours: str) -> KeyMap:
    """The key map of an encoder's or decoder's stack, with self or cross fusion."""
    keys: list[tuple[str, str]] = []
    for suffix, stream in STREAMS.items():
        keys += nested_keys(f"{prefix}transformer{suffix}.#.", f"{ours}layers.#.blocks.{stream}.", BLOCK_KEYS)
        keys += nested_keys(f"{prefix}cross_attention{suffix}.", f"{ours}modality_fusion.{stream}.", MIXER_KEYS)
        keys.append((re.escape(f"{prefix}layer_norm{suffix}.") + r"(\w+)", rf"{ours}norms.{stream}.\1"))
    return tuple(keys)


def embedding_keys(prefix: str, embeddings: str, positions: str) -> KeyMap:
    """The key map of code, position and modality embeddings; without a suffix the modality is audio ([S])."""
    keys: list[tuple[str, str]] = []
    for suffix, modality in {"_v": "visual", "_a": "audio", "": "audio"}.items():
        escaped = re.escape(prefix)
        keys += [
            (rf"{escaped}modality_emb{suffix}", f"{positions}modality.{modality}"),
            (rf"{escaped}pos_embedding{suffix}", f"{positions}learned.{modality}"),
            (rf"{escaped}proj{suffix}\.weight", f"{embeddings}codes.{modality}.weight"),
        ]
    return (*keys, (rf"{re.escape(prefix)}cls_token", f"{embeddings}class_tokens.audio"))


POOLING_KEYS: KeyMap = tuple(
    pair
    for modality in ("visual", "audio")
    for pair in (
        (rf"pooling_{modality}\.cls_token", f"model.global_pooling.{modality}.query"),
        *nested_keys(f"pooling_{modality}.cross_attention.", f"model.global_pooling.{modality}.", MIXER_KEYS),
    )
)
VQMAE_KEYS: KeyMap = (
    *embedding_keys("encoder.", "model.embeddings.", "model.embeddings.positions."),
    *stack_keys("encoder.", "model.encoder."),
    *embedding_keys("decoder.", "unused.", "decoder.positions."),
    *stack_keys("decoder.", "decoder.transformer."),
    *POOLING_KEYS,
    (r"decoder\.mask_token", "decoder.mask_token"),
    (r"decoder\.head_v\.(\w+)", r"decoder.heads.visual.\1"),
    (r"decoder\.head(?:_a)?\.(\w+)", r"decoder.heads.audio.\1"),
)
QUERY2EMO_ATTENTION: KeyMap = (
    (r"(in_proj_\w+)", r"\1"),
    (r"out_proj\.(\w+)", r"projection.\1"),
)
QUERY2EMO_KEYS: KeyMap = (
    (r"label_emb", "classifier.class_queries"),
    (r"classifier\.(\w+)", r"classifier.output.\1"),
    *nested_keys(
        "transformer_.encoder.layers.0.self_attn.",
        "classifier.encoder_layer.self_attention.attention.",
        QUERY2EMO_ATTENTION,
    ),
    *nested_keys(
        "transformer_.encoder.layers.0.",
        "classifier.encoder_layer.",
        (
            (r"linear(\d)\.(\w+)", r"feed_forward.fc\1.\2"),
            (r"norm1\.(\w+)", r"self_attention.norm.\1"),
            (r"norm2\.(\w+)", r"feed_forward.norm.\1"),
        ),
    ),
    *nested_keys(
        "transformer_.decoder.layers.#.self_attn.",
        "classifier.decoder_layers.#.self_attention.attention.",
        QUERY2EMO_ATTENTION,
    ),
    *nested_keys(
        "transformer_.decoder.layers.#.multihead_attn.",
        "classifier.decoder_layers.#.cross_attention.attention.",
        QUERY2EMO_ATTENTION,
    ),
    *nested_keys(
        "transformer_.decoder.layers.#.",
        "classifier.decoder_layers.#.",
        (
            (r"linear(\d)\.(\w+)", r"feed_forward.fc\1.\2"),
            (r"norm1\.(\w+)", r"self_attention.norm.\1"),
            (r"norm2\.(\w+)", r"cross_attention.norm.\1"),
            (r"norm3\.(\w+)", r"feed_forward.norm.\1"),
        ),
    ),
    (r"transformer_\.(encoder|decoder)\.norm\.(\w+)", r"classifier.\1_norm.\2"),
)
CLASSIFIER_KEYS: KeyMap = (
    *embedding_keys("", "model.embeddings.", "model.embeddings.positions."),
    *QUERY2EMO_KEYS,
    *stack_keys("", "model.encoder."),
    *POOLING_KEYS,
    (r"head\.(\w+)", r"classifier.\1"),
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


def convert_vqmae(state: StateDict, config: VQMAEConfig) -> VQMAEForPreTraining:
    """
    An authors' masked autoencoder ([AV] or [S]). Tube extents cannot be read off tensors, so the caller says `config`.

    In the authors' cross-attention decoder the audio branch runs through the weights of the visual one, and its own are
    dead; they are replaced here, so that our decoder computes what theirs does.
    """
    state = dict(state)
    for key in [key for key in state if key.startswith("decoder.cross_attention_a.")]:
        state[key] = state[key.replace("cross_attention_a", "cross_attention_v")]
    return load_converted(VQMAEForPreTraining, config, split_attention(map_keys(state, VQMAE_KEYS)))


def convert_classifier(state: StateDict, config: VQMAEConfig) -> VQMAEForAudioVisualClassification:
    """
    An authors' classifier ([AV]) with mean pooling, attention pooling or Query2Emo, as `config` says.

    Their Query2Emo checkpoints also carry the unused head and poolings of the base class; those are left behind.
    """
    if config.classifier_pooling == "query2emo":
        state = {key: value for key, value in state.items() if not key.startswith(("head.", "pooling_"))}
    return load_converted(VQMAEForAudioVisualClassification, config, split_attention(map_keys(state, CLASSIFIER_KEYS)))


def split_attention(mapped: StateDict) -> dict[str, torch.Tensor]:
    """torch's joint input projections of attention, as one projection each for query, key and value."""
    split: dict[str, torch.Tensor] = {}
    for name, value in mapped.items():
        if match := re.fullmatch(r"(.*)\.in_proj_(weight|bias)", name):
            for part, tensor in zip(("query", "key", "value"), value.chunk(3), strict=True):
                split[f"{match[1]}.{part}.{match[2]}"] = tensor
        else:
            split[name] = value
    return split


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
    own = model.state_dict()
    # Their tokens and positions carry axes of length one that ours do without.
    mapped = {
        name: value.reshape(own[name].shape) if name in own and value.numel() == own[name].numel() else value
        for name, value in mapped.items()
    }
    missing, unexpected = model.load_state_dict(mapped, strict=False)
    computed = ("quantizer.average_started", "_sinusoids")
    missing = [name for name in missing if not name.endswith(computed)]
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
