"""The authors' weights as models of this package, one function per kind."""

from typing import Any

from vqmae_hf.conversion.mdvae_names import MDVAE_KEYS
from vqmae_hf.conversion.renaming import StateDict, load_converted, make_config, map_keys, split_attention
from vqmae_hf.conversion.sizes import (
    audio_vqvae_sizes,
    autoencoder_sizes,
    classifier_sizes,
    mdvae_sizes,
    visual_vqvae_sizes,
)
from vqmae_hf.conversion.tokenizer_names import AUDIO_VQVAE_KEYS, visual_vqvae_keys
from vqmae_hf.conversion.vqmae_names import CLASSIFIER_KEYS, VQMAE_KEYS
from vqmae_hf.modeling.configuration_audio_vqvae import AudioVQVAEConfig
from vqmae_hf.modeling.configuration_mdvae import MDVAEConfig
from vqmae_hf.modeling.configuration_visual_vqvae import VisualVQVAEConfig
from vqmae_hf.modeling.configuration_vqmae import VQMAEConfig
from vqmae_hf.modeling.modeling_audio_vqvae import AudioVQVAEModel
from vqmae_hf.modeling.modeling_mdvae import MDVAEModel
from vqmae_hf.modeling.modeling_visual_vqvae import VisualVQVAEModel
from vqmae_hf.modeling.modeling_vqmae import VQMAEForAudioVisualClassification, VQMAEForPreTraining


def convert_audio_vqvae(state: StateDict, **overrides: Any) -> AudioVQVAEModel:
    """
    An authors' audio tokenizer ([AV], [S] or [MD]). The published ones were only ever used with the statistics of the clip
    at hand, so the configuration says `batch_norm_statistics="clip"`; `overrides` win over it and over what is inferred.
    """
    mapped = map_keys(state, AUDIO_VQVAE_KEYS)
    sizes = {**audio_vqvae_sizes(mapped), "batch_norm_statistics": "clip"}
    return load_converted(AudioVQVAEModel, make_config(AudioVQVAEConfig, sizes, overrides), mapped)


def convert_visual_vqvae(state: StateDict, **overrides: Any) -> VisualVQVAEModel:
    """An authors' visual tokenizer ([AV]: 96 x 96 pixels; [MD]: 64 x 64); `overrides` win over the inferred sizes."""
    downsampling = 3 if any("conv_2_add" in key for key in state) else 2
    mapped = map_keys(state, visual_vqvae_keys(downsampling))
    return load_converted(
        VisualVQVAEModel, make_config(VisualVQVAEConfig, visual_vqvae_sizes(mapped), overrides), mapped
    )


def convert_vqmae(state: StateDict, **overrides: Any) -> VQMAEForPreTraining:
    """
    An authors' masked autoencoder ([AV] or [S]); `overrides` win over the inferred sizes, and have to say the extents of
    tubes where they are not the papers'.

    In the authors' cross-attention decoder the audio branch runs through the weights of the visual one, and its own are
    dead; they are replaced here, so that our decoder computes what theirs does.
    """
    state = dict(state)
    for key in [key for key in state if key.startswith("decoder.cross_attention_a.")]:
        state[key] = state.get(key.replace("cross_attention_a", "cross_attention_v"), state[key])
    mapped = split_attention(map_keys(state, VQMAE_KEYS))
    config = make_config(VQMAEConfig, autoencoder_sizes(mapped, overrides), overrides)
    return load_converted(VQMAEForPreTraining, config, mapped)


def convert_classifier(state: StateDict, **overrides: Any) -> VQMAEForAudioVisualClassification:
    """
    An authors' classifier ([AV]) with mean pooling, attention pooling or Query2Emo; `overrides` as of `convert_vqmae`.

    Their Query2Emo checkpoints also carry the unused head and poolings of the base class; those are left behind.
    """
    state = {key: value for key, value in state.items() if key not in unused_by_query2emo(state)}
    mapped = split_attention(map_keys(state, CLASSIFIER_KEYS))
    config = make_config(VQMAEConfig, classifier_sizes(mapped, overrides), overrides)
    return load_converted(VQMAEForAudioVisualClassification, config, mapped)


def unused_by_query2emo(state: StateDict) -> list[str]:
    """Parameters of a Query2Emo classifier that its answer does not depend on; none of another classifier."""
    return [key for key in state if "label_emb" in state and key.startswith(("head.", "pooling_"))]


def convert_mdvae(state: StateDict, **overrides: Any) -> MDVAEModel:
    """An authors' MDVAE ([MD]); `overrides` win over the inferred sizes. Tokenizers come with `set_tokenizers`."""
    mapped = map_keys(state, MDVAE_KEYS)
    return load_converted(MDVAEModel, make_config(MDVAEConfig, mdvae_sizes(mapped), overrides), mapped)
