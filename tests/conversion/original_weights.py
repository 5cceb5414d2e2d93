"""Weights of random models under the authors' names, made by turning our key maps around."""

import re

import torch
from transformers import PreTrainedModel

from tests.modeling.small_models import build
from vqmae_hf.modeling.configuration_audio_vqvae import AudioVQVAEConfig
from vqmae_hf.modeling.configuration_vqmae import VQMAEConfig
from vqmae_hf.modeling.modeling_audio_vqvae import AudioVQVAEModel
from vqmae_hf.modeling.modeling_vqmae import VQMAEForAudioVisualClassification

AUDIO_NAMES = (
    (r"quantizer\.codebook", "_vq_vae._embedding.weight"),
    (r"quantizer\.cluster_size", "_vq_vae._ema_cluster_size"),
    (r"quantizer\.embedding_sum", "_vq_vae._ema_w"),
    (r"encoder\.projection\.(\w+)", r"_pre_vq_conv.\1"),
    (r"(encoder|decoder)\.residual_layers\.(\d)\.conv\.(\w+)", r"_\1._residual_stack._layers.\2._block.1.\3"),
    (r"(encoder|decoder)\.residual_layers\.(\d)\.projection\.(\w+)", r"_\1._residual_stack._layers.\2._block.3.\3"),
    (r"encoder\.convs\.0\.(\w+)", r"_encoder._conv_1.\1"),
    (r"encoder\.convs\.1\.(\w+)", r"_encoder._conv_2.\1"),
    (r"encoder\.convs\.2\.(\w+)", r"_encoder._conv_3.\1"),
    (r"decoder\.conv\.(\w+)", r"_decoder._conv_1.\1"),
    (r"decoder\.transposed_convs\.0\.(\w+)", r"_decoder._conv_trans_1.\1"),
    (r"decoder\.transposed_convs\.1\.(\w+)", r"_decoder._conv_trans_2_bis.\1"),
    (r"decoder\.output\.(\w+)", r"_decoder._conv_trans_2.\1"),
)
CLASSIFIER_NAMES = (
    (r"model\.embeddings\.codes\.(\w)\w+\.weight", r"proj_\1.weight"),
    (r"model\.embeddings\.positions\.learned\.(\w)\w+", r"pos_embedding_\1"),
    (r"model\.embeddings\.positions\.modality\.(\w)\w+", r"modality_emb_\1"),
    (r"model\.encoder\.layers\.(\d+)\.blocks\.joint\.attention_norm\.(\w+)", r"transformer.\1.norm1.\2"),
    (r"model\.encoder\.layers\.(\d+)\.blocks\.joint\.mlp_norm\.(\w+)", r"transformer.\1.norm2.\2"),
    (r"model\.encoder\.layers\.(\d+)\.blocks\.joint\.attention\.qkv\.(\w+)", r"transformer.\1.attn.qkv.\2"),
    (r"model\.encoder\.layers\.(\d+)\.blocks\.joint\.attention\.projection\.(\w+)", r"transformer.\1.attn.proj.\2"),
    (r"model\.encoder\.layers\.(\d+)\.blocks\.joint\.mlp\.(fc\d\.\w+)", r"transformer.\1.mlp.\2"),
    (r"model\.encoder\.norms\.joint\.(\w+)", r"layer_norm.\1"),
    (r"classifier\.(\w+)", r"head.\1"),
)


def original_names(model: PreTrainedModel, names: tuple[tuple[str, str], ...]) -> dict[str, torch.Tensor]:
    """The weights of `model` as the authors' code would have saved them."""
    state = {}
    for ours, value in model.state_dict().items():
        if ours.endswith(("average_started", "sinusoids")):
            continue
        theirs = [re.sub(pattern, name, ours) for pattern, name in names if re.fullmatch(pattern, ours)]
        assert len(theirs) == 1, ours
        state[theirs[0]] = value.clone()
    return state


def audio_tokenizer_weights(**sizes) -> dict[str, torch.Tensor]:
    """Of an audio tokenizer without batch normalisation, of the papers' 513 bins."""
    config = AudioVQVAEConfig(**{"batch_norm": False, "hidden_size": 8, "codebook_size": 16, **sizes})
    return original_names(build(AudioVQVAEModel, config), AUDIO_NAMES)


def classifier_model(**fields) -> VQMAEForAudioVisualClassification:
    """A classifier of the paper's tubes (360 and 160 of width 320), one layer deep, with mean pooling."""
    config = VQMAEConfig(
        num_hidden_layers=1,
        classifier_pooling="mean",
        global_representation=None,
        contrastive=False,
        num_labels=4,
        audio_codebook_size=16,
        visual_codebook_size=16,
        **fields,
    )
    return build(VQMAEForAudioVisualClassification, config)
