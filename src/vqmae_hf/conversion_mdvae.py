"""The authors' MDVAE checkpoints as ours: their parameter names are mapped here, where weights are read."""

from typing import Any

import torch

from vqmae_hf.conversion import ConversionError, KeyMap, StateDict, load_converted, map_keys
from vqmae_hf.modeling.configuration_mdvae import MDVAEConfig
from vqmae_hf.modeling.modeling_mdvae import MDVAEModel

RECURRENCE = r"(weight|bias)_(ih|hh)_l0"
# Our latent, the part of their layers' names that says which, their recurrence, and how they order "prior" and "mean".
LATENTS = (
    ("z_av", "zds", "rnn_zds", r"inf_zds_(mean|logvar)_prior"),
    ("z_a", "zaudio", "rnn_z_audio", r"inf_zaudio_prior_(mean|logvar)"),
    ("z_v", "zvisual", "rnn_z_visual", r"inf_zvisual_prior_(mean|logvar)"),
)


def dynamic_latent_keys() -> KeyMap:
    """The key map of recurrence, posterior and prior of the three dynamic latents."""
    keys: list[tuple[str, str]] = []
    for ours, theirs, recurrence, prior_head in LATENTS:
        prefix = f"dynamic_latents.{ours}."
        keys += [
            (rf"{recurrence}\.{RECURRENCE}", rf"{prefix}history.\1_\2"),
            (rf"mlp_{theirs}\.Linear1_{theirs}\.(\w+)", rf"{prefix}posterior.hidden.layers.0.\1"),
            (rf"mlp_{theirs}\.Linear2_{theirs}\.(\w+)", rf"{prefix}posterior.hidden.layers.1.\1"),
            (rf"mlp_{theirs}_prior\.Linear1_{theirs}_prior\.(\w+)", rf"{prefix}prior.hidden.layers.0.\1"),
            (rf"inf_{theirs}_(mean|logvar)\.(\w+)", rf"{prefix}posterior.\1.\2"),
            (rf"{prior_head}\.(\w+)", rf"{prefix}prior.\1.\2"),
        ]
    return tuple(keys)


MDVAE_KEYS: KeyMap = (
    (r"visual_features\.Layer1_V_en\.(\w+)", r"visual_embedding.layers.0.\1"),
    (r"visual_features\.Layer2_V_en\.(\w+)", r"visual_embedding.layers.1.\1"),
    (rf"bi_rnn_zss\.{RECURRENCE}_reverse", r"static_latent.backward_history.\1_\2"),
    (rf"bi_rnn_zss\.{RECURRENCE}", r"static_latent.forward_history.\1_\2"),
    (r"mlp_zss\.Linear1_zss\.(\w+)", r"static_latent.posterior.hidden.layers.0.\1"),
    (r"inf_zss_(mean|logvar)\.(\w+)", r"static_latent.posterior.\1.\2"),
    *dynamic_latent_keys(),
    (r"de_mlp\.Linear1_DecA\.(\w+)", r"decoders.audio.hidden.layers.0.\1"),
    (r"de_mlp\.Linear2_DecA\.(\w+)", r"decoders.audio.hidden.layers.1.\1"),
    (r"de_mlp\.Linear3_DecA\.(\w+)", r"decoders.audio.output.\1"),
    (r"cnn_transpose\.Layer1_V_dec\.(\w+)", r"decoders.visual.hidden.layers.0.\1"),
    (r"cnn_transpose\.Layer2_V_dec\.(\w+)", r"decoders.visual.hidden.layers.1.\1"),
    (r"cnn_transpose\.Linear3_DecA\.(\w+)", r"decoders.visual.output.\1"),
)


def convert_mdvae(state: StateDict, **overrides: Any) -> MDVAEModel:
    """
    An authors' MDVAE ([MD]); sizes are read off the tensors, `overrides` win. Tokenizers come with `set_tokenizers`.

    Raises:
        ConversionError: parameters that are unknown or missing.
    """
    mapped = map_keys(state, MDVAE_KEYS)
    try:
        sizes = mdvae_sizes(mapped)
    except KeyError as error:
        raise ConversionError(f"the checkpoint has no {error}; it is not one of an MDVAE.") from error
    return load_converted(MDVAEModel, MDVAEConfig(**{**sizes, **overrides}), mapped)


def mdvae_sizes(mapped: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The sizes of an MDVAE whose features are as the paper's, codes of 8 (audio) and 8 x 8 codes (visual)."""

    def rows(name: str) -> int:
        return mapped[f"{name}.weight"].shape[0]

    def layers(name: str, count: int) -> tuple[int, ...]:
        return tuple(rows(f"{name}.{index}") for index in range(count))

    sizes: dict[str, Any] = {
        "audio_codes_per_spectrum": rows("decoders.audio.output") // 8,
        "visual_code_dim": rows("decoders.visual.output") // 64,
        "w_size": rows("static_latent.posterior.mean"),
        "visual_embedding_sizes": layers("visual_embedding.layers", 2),
        "static_history_size": mapped["static_latent.forward_history.weight_hh"].shape[1],
        "history_size": mapped["dynamic_latents.z_av.history.weight_hh"].shape[1],
        "w_posterior_sizes": layers("static_latent.posterior.hidden.layers", 1),
        "audio_decoder_sizes": layers("decoders.audio.hidden.layers", 2),
        "visual_decoder_sizes": layers("decoders.visual.hidden.layers", 2),
    }
    for latent, *_ in LATENTS:
        prefix = f"dynamic_latents.{latent}"
        sizes[f"{latent}_size"] = rows(f"{prefix}.posterior.mean")
        sizes[f"{latent}_posterior_sizes"] = layers(f"{prefix}.posterior.hidden.layers", 2)
        sizes[f"{latent}_prior_sizes"] = layers(f"{prefix}.prior.hidden.layers", 1)
    return sizes
