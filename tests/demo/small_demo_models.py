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
from vqmae_hf.data.synthetic import ClipKey, make_clip

PEOPLE = [ClipKey(speaker, "happy", 0) for speaker in range(3)]
EMOTIONS = ("angry", "happy", "sad")


@torch.no_grad()
def spread(model):
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.dim() <= 2 and "quantizer" not in name:
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.eval()
    frames = torch.cat([torch.as_tensor(make_clip(key, num_frames=2, image_size=64).frames.copy()) for key in PEOPLE])
    values = {
        "visual": frames.permute(0, 3, 1, 2)[None] / 255 - 0.5,
        "audio": torch.randn(1, 50, 513).mul(3).exp(),
    }
    for modality, seen in values.items():  # codes at what the encoders make of clips: other clips have other codes
        tokenizer = getattr(model.base_model, f"{modality}_tokenizer")
        latents = tokenizer.encode_latents(seen).flatten(0, -2)
        codebook = tokenizer.get_codebook()
        codebook.copy_(latents[torch.randint(len(latents), (len(codebook),))])
    return model


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
