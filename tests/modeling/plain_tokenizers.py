"""
The encoders of both tokenizers as the equations stand: one layer after the other, every distance of every row held at once.
`tests/modeling/test_plain_tokenizers.py` holds the models to this form, and the benchmarks compare their speed.
"""

import torch
from torch.nn import functional as F

from vqmae_hf.modeling.modeling_audio_vqvae import AudioVQVAEModel
from vqmae_hf.modeling.modeling_visual_vqvae import VisualVQVAEModel


def plain_nearest(latents: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    """argmin_k ||z - e_k||^2: (N, d) -> (N,)."""
    distances = latents.square().sum(1, keepdim=True) + codebook.square().sum(1) - 2 * latents @ codebook.t()
    return distances.argmin(dim=1)


def plain_audio_codes(model: AudioVQVAEModel, spectra: torch.Tensor) -> torch.Tensor:
    """Codes (B, S, C) of spectra (B, S, F), with running statistics."""
    encoder, config = model.encoder, model.config
    hidden = spectra.flatten(0, 1).unsqueeze(1)
    if config.input_scale == "log":
        hidden = torch.log(hidden + 1e-8) / 5 + 1
    for index, conv in enumerate(encoder.convs):
        hidden = conv(hidden)
        if encoder.norms:
            norm = encoder.norms[index]
            hidden = F.batch_norm(
                hidden, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps
            )
        hidden = torch.tanh(hidden) if index < 2 else hidden
    for layer in encoder.residual_layers:
        hidden = hidden + layer.projection(torch.tanh(layer.conv(torch.tanh(hidden))))
    latents = encoder.projection(torch.tanh(hidden)).transpose(1, 2)  # (R, C, d)
    codes = plain_nearest(latents.reshape(-1, config.codebook_dim).float(), model.get_codebook())
    return codes.view(*spectra.shape[:2], -1)


def plain_visual_codes(model: VisualVQVAEModel, pixels: torch.Tensor) -> torch.Tensor:
    """Codes (B, T, G, G) of frames (B, T, c, H, H)."""
    encoder = model.encoder
    hidden = pixels.flatten(0, 1)
    for conv in encoder.downsampling:
        hidden = F.relu(conv(hidden))
    hidden = encoder.conv(hidden)
    for layer in encoder.residual_layers:
        hidden = F.relu(hidden)
        hidden = hidden + layer.projection(F.relu(layer.conv(hidden)))
    latents = encoder.projection(F.relu(hidden)).permute(0, 2, 3, 1)  # (R, G, G, d)
    codes = plain_nearest(latents.reshape(-1, latents.shape[3]).float(), model.get_codebook())
    return codes.view(*pixels.shape[:2], *latents.shape[1:3])
