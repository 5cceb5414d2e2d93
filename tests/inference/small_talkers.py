"""An MDVAE with tokenizers, small and untrained, for real files."""

import torch

from vqmae_hf.modeling.configuration_audio_vqvae import AudioVQVAEConfig
from vqmae_hf.modeling.configuration_mdvae import MDVAEConfig
from vqmae_hf.modeling.configuration_visual_vqvae import VisualVQVAEConfig
from vqmae_hf.modeling.modeling_mdvae import MDVAEModel


def build_mdvae(**overrides):
    """An MDVAE of the preset "tiny" whose latents matter: its weights are spread out."""
    torch.manual_seed(0)
    modalities = overrides.get("modalities", ("audio", "visual"))
    tokenizers = {
        "audio": AudioVQVAEConfig.from_preset("tiny"),
        "visual": VisualVQVAEConfig.from_preset("tiny"),
    }
    overrides |= {f"{name}_tokenizer_config": tokenizers[name] for name in modalities}
    model = MDVAEModel(MDVAEConfig.from_preset("tiny", **overrides)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "quantizer" in name:
                parameter.normal_(std=0.3)
            elif parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model
