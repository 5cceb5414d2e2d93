"""Models of the preset "tiny", with tokenizers, untrained but not indifferent: their weights are spread out."""

import torch

from vqmae_hf import (
    AudioVQVAEConfig,
    MDVAEConfig,
    MDVAEModel,
    MDVAEProcessor,
    VisualVQVAEConfig,
    VQMAEConfig,
    VQMAEForAudioVisualClassification,
    VQMAEForPreTraining,
    VQMAEProcessor,
)

EMOTIONS = ("angry", "happy", "sad")


def spread(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "quantizer" in name:
                parameter.normal_(std=0.3)
            elif parameter.requires_grad and parameter.dim() <= 2:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def tokenizer_configs():
    return {
        "audio_tokenizer_config": AudioVQVAEConfig.from_preset("tiny"),
        "visual_tokenizer_config": VisualVQVAEConfig.from_preset("tiny"),
    }


def vqmae_config(**overrides):
    configs = tokenizer_configs()
    sizes = {
        "audio_codebook_size": configs["audio_tokenizer_config"].codebook_size,
        "visual_codebook_size": configs["visual_tokenizer_config"].codebook_size,
    }
    layers = {"num_hidden_layers": 1, "decoder_num_hidden_layers": 1}
    return VQMAEConfig.from_preset("tiny", **layers, **configs, **sizes, **overrides)


def build_classifier(**overrides):
    torch.manual_seed(0)
    config = vqmae_config(id2label=dict(enumerate(EMOTIONS)), **overrides)
    return spread(VQMAEForAudioVisualClassification(config))


def build_masked():
    torch.manual_seed(0)
    return spread(VQMAEForPreTraining(vqmae_config()))


def build_talker():
    torch.manual_seed(0)
    return spread(MDVAEModel(MDVAEConfig.from_preset("tiny", **tokenizer_configs())))


def save(model, folder):
    """Model and processor, as the training programs leave them."""
    model.save_pretrained(folder)
    processor_class = MDVAEProcessor if isinstance(model, MDVAEModel) else VQMAEProcessor
    processor_class.from_model_config(model.config).save_pretrained(folder)
    return folder
