"""`import vqmae_hf` is all that transformers' Auto classes and pipelines need to find the models."""

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForPreTraining,
    AutoModelForVideoClassification,
    AutoProcessor,
    pipeline,
)
from transformers.models.auto.video_processing_auto import AutoVideoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

import vqmae_hf
from vqmae_hf.registration import register_auto_classes

MODELS = [
    (AutoModel, "AudioVQVAEConfig", "AudioVQVAEModel"),
    (AutoModel, "VisualVQVAEConfig", "VisualVQVAEModel"),
    (AutoModel, "VQMAEConfig", "VQMAEModel"),
    (AutoModel, "MDVAEConfig", "MDVAEModel"),
    (AutoModelForPreTraining, "VQMAEConfig", "VQMAEForPreTraining"),
    (AutoModelForPreTraining, "MDVAEConfig", "MDVAEModel"),
    (AutoModelForVideoClassification, "VQMAEConfig", "VQMAEForAudioVisualClassification"),
    (AutoModelForAudioClassification, "VQMAEConfig", "VQMAEForAudioVisualClassification"),
    (AutoModelForVideoClassification, "MDVAEConfig", "MDVAEForAudioVisualClassification"),
    (AutoModelForAudioClassification, "MDVAEConfig", "MDVAEForAudioVisualClassification"),
]
MODEL_TYPES = {
    "audio_vqvae": "AudioVQVAEConfig",
    "visual_vqvae": "VisualVQVAEConfig",
    "vqmae": "VQMAEConfig",
    "mdvae": "MDVAEConfig",
}


def tiny_vqmae() -> vqmae_hf.VQMAEConfig:
    return vqmae_hf.VQMAEConfig.from_preset(
        "tiny",
        num_hidden_layers=1,
        audio_tokenizer_config=vqmae_hf.AudioVQVAEConfig.from_preset("tiny"),
        visual_tokenizer_config=vqmae_hf.VisualVQVAEConfig.from_preset("tiny"),
    )


@pytest.mark.parametrize(("model_type", "config"), MODEL_TYPES.items())
def test_a_model_type_is_its_configuration(model_type, config):
    config_class = getattr(vqmae_hf, config)
    assert config_class.model_type == model_type
    assert type(AutoConfig.for_model(model_type)) is config_class


@pytest.mark.parametrize(("auto", "config", "model"), MODELS)
def test_a_configuration_is_its_model(auto, config, model):
    with torch.device("meta"):
        built = auto.from_config(getattr(vqmae_hf, config).from_preset("tiny"))
    assert type(built) is getattr(vqmae_hf, model)
    assert built.config_class is getattr(vqmae_hf, config)


def test_registering_twice_changes_nothing():
    register_auto_classes()
    assert type(AutoConfig.for_model("vqmae")) is vqmae_hf.VQMAEConfig


def test_processors_of_a_checkpoint_are_found(tmp_path):
    config = tiny_vqmae()
    config.save_pretrained(tmp_path)
    vqmae_hf.VQMAEProcessor.from_model_config(config).save_pretrained(tmp_path)
    assert type(AutoProcessor.from_pretrained(tmp_path)) is vqmae_hf.VQMAEProcessor
    assert type(AutoFeatureExtractor.from_pretrained(tmp_path)) is vqmae_hf.AudioVQVAEFeatureExtractor
    assert type(AutoVideoProcessor.from_pretrained(tmp_path)) is vqmae_hf.VisualVQVAEVideoProcessor


@pytest.mark.parametrize("part", ["AudioVQVAE", "VisualVQVAE"])
def test_a_tokenizer_alone_is_found_with_its_processor(part, tmp_path):
    getattr(vqmae_hf, f"{part}Config").from_preset("tiny").save_pretrained(tmp_path)
    name = {"AudioVQVAE": "AudioVQVAEFeatureExtractor", "VisualVQVAE": "VisualVQVAEVideoProcessor"}[part]
    auto = {"AudioVQVAE": AutoFeatureExtractor, "VisualVQVAE": AutoVideoProcessor}[part]
    getattr(vqmae_hf, name)().save_pretrained(tmp_path)
    assert type(auto.from_pretrained(tmp_path)) is getattr(vqmae_hf, name)


def test_the_pipeline_is_known_by_its_task_and_loads_a_checkpoint(tmp_path):
    assert "audiovisual-classification" in PIPELINE_REGISTRY.get_supported_tasks()
    config = tiny_vqmae()
    model = vqmae_hf.VQMAEForAudioVisualClassification(config)
    model.save_pretrained(tmp_path)
    vqmae_hf.VQMAEProcessor.from_model_config(config).save_pretrained(tmp_path)
    classify = pipeline("audiovisual-classification", model=str(tmp_path))
    assert type(classify) is vqmae_hf.AudioVisualClassificationPipeline
    assert type(classify.model) is vqmae_hf.VQMAEForAudioVisualClassification
    assert type(classify.processor) is vqmae_hf.VQMAEProcessor
