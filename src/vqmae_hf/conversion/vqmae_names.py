"""What the authors call the parameters of their masked autoencoders and classifiers ([AV], [S]), and what we call them."""

import re

from vqmae_hf.conversion.renaming import KeyMap

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
