"""Any value in any field: a configuration that builds its model and survives json, or an error that names the field."""

import dataclasses
import json

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from hypothesis import given, settings
from hypothesis import strategies as st
from small_mdvae import MDVAE
from small_models import AUDIO_TOKENIZER, VISUAL_TOKENIZER, VQMAE
from transformers import PreTrainedConfig

from vqmae_hf.modeling.configuration_audio_vqvae import AudioVQVAEConfig
from vqmae_hf.modeling.configuration_mdvae import MDVAEConfig
from vqmae_hf.modeling.configuration_visual_vqvae import VisualVQVAEConfig
from vqmae_hf.modeling.configuration_vqmae import VQMAEConfig
from vqmae_hf.modeling.modeling_audio_vqvae import AudioVQVAEModel
from vqmae_hf.modeling.modeling_mdvae import MDVAEForAudioVisualClassification
from vqmae_hf.modeling.modeling_visual_vqvae import VisualVQVAEModel
from vqmae_hf.modeling.modeling_vqmae import VQMAEForAudioVisualClassification, VQMAEForPreTraining

KINDS = {
    "audio tokenizer": (AudioVQVAEConfig, AUDIO_TOKENIZER, [AudioVQVAEModel]),
    "visual tokenizer": (VisualVQVAEConfig, VISUAL_TOKENIZER, [VisualVQVAEModel]),
    "VQ-MAE": (VQMAEConfig, VQMAE, [VQMAEForPreTraining, VQMAEForAudioVisualClassification]),
    "MDVAE": (MDVAEConfig, MDVAE, [MDVAEForAudioVisualClassification]),
}
WORDS = [
    "audio",
    "visual",
    "self",
    "cross",
    "mean",
    "query2emo",
    "log",
    "clip",
    "relu",
    "learned",
    "tokenizer",
    "frame",
]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 40), st.floats(), st.sampled_from(WORDS), st.text(max_size=3)
)
VALUES = st.one_of(
    SCALARS,
    st.floats(0, 1),
    st.lists(SCALARS, max_size=3),
    st.lists(st.integers(0, 8), min_size=1, max_size=3).map(tuple),
    st.dictionaries(st.sampled_from(["codebook_size", "image_size", "unknown"]), st.integers(-1, 70), max_size=2),
)


def own_fields(config_class):
    inherited = {field.name for field in dataclasses.fields(PreTrainedConfig)}
    return sorted(field.name for field in dataclasses.fields(config_class) if field.name not in inherited)


def build(config_class, fields):
    """The configuration, or None and why not."""
    try:
        return config_class(**fields), ""
    except StrictDataclassError as error:
        return None, str(error)


def finite_numbers(value):
    """Whether a value holds no NaN or infinity, which json does not know."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("kind", list(KINDS))
@settings(max_examples=250, derandomize=True, deadline=None, database=None)
@given(data=st.data())
def test_a_field_of_any_value_makes_a_model_or_is_named(kind, data):
    config_class, base, model_classes = KINDS[kind]
    field = data.draw(st.sampled_from(own_fields(config_class)))
    value = data.draw(VALUES)
    config, refusal = build(config_class, {**base, field: value})
    if config is None:
        assert field in refusal
        return
    with torch.device("meta"):
        for model_class in model_classes:
            model_class(config)
    fields = config.to_dict()
    assert finite_numbers({name: fields[name] for name in own_fields(config_class)})
    again = config_class.from_dict(json.loads(config.to_json_string(use_diff=False)))
    assert json.loads(again.to_json_string(use_diff=False)) == json.loads(config.to_json_string(use_diff=False))
    assert config_class.from_dict(fields).to_dict() == fields


@pytest.mark.parametrize("kind", ["VQ-MAE", "MDVAE"])
def test_what_a_tokenizer_refuses_is_refused_in_the_name_of_its_field(kind):
    config_class, base, _ = KINDS[kind]
    config, refusal = build(config_class, {**base, "visual_tokenizer_config": {"codebook_size": 0}})
    assert config is None
    assert "visual_tokenizer_config: VisualVQVAEConfig cannot be built: codebook_size=0" in refusal
