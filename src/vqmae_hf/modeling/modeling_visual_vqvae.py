"""
The visual tokenizer: a VQ-VAE over single face images ([AV] and [MD], visual VQ-VAE).

Letters: B clips, T frames, R rows = the frames that are no padding, H x H pixels, c channels, G x G codes per frame,
d numbers per code, h hidden channels, K codebook size.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.utils import ModelOutput

from .across_processes import batch_share
from .aligned_loading import AlignedPreTrainedModel
from .configuration_visual_vqvae import VisualVQVAEConfig
from .tokenizer_blocks import check_codes, in_pieces, init_tokenizer_weights, restore_rows, select_rows
from .vector_quantizer import QuantizerOutput, VectorQuantizer

FRAMES_IN_CACHE = 8  # see in_pieces


@dataclass
class VisualVQVAEOutput(ModelOutput):
    """
    Output of [`VisualVQVAEModel`].

    Args:
        loss (`torch.Tensor` of shape `()`): reconstruction loss plus commitment loss.
        reconstruction (`torch.Tensor` of shape `(B, T, c, H, H)`): pixels minus 0.5; zero where the mask is.
        codes (`torch.LongTensor` of shape `(B, T, G, G)`): zero where the mask is.
        reconstruction_loss (`torch.Tensor` of shape `()`): mean squared error.
        commitment_loss (`torch.Tensor` of shape `()`): the quantizer's loss.
        perplexity (`torch.Tensor` of shape `()`): exp(entropy of the batch's codes), between 1 and K.
        code_usage (`torch.Tensor` of shape `()`): share of the K codes that the batch used.
    """

    loss: torch.Tensor | None = None
    reconstruction: torch.Tensor | None = None
    codes: torch.Tensor | None = None
    reconstruction_loss: torch.Tensor | None = None
    commitment_loss: torch.Tensor | None = None
    perplexity: torch.Tensor | None = None
    code_usage: torch.Tensor | None = None


class VisualResidualLayer(nn.Module):
    """
    `ReLU(x) + Conv1x1(ReLU(Conv3(ReLU(x))))`, both convolutions without bias: (R, h, G, G) -> the same. The skip carries
    the rectified input, an oddity of the reference that its weights depend on.
    """

    def __init__(self, config: VisualVQVAEConfig):
        super().__init__()
        self.conv = nn.Conv2d(config.hidden_size, config.residual_hidden_size, 3, padding=1, bias=False)
        self.projection = nn.Conv2d(config.residual_hidden_size, config.hidden_size, 1, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(hidden)
        return hidden + self.projection(F.relu(self.conv(hidden)))


class VisualEncoder(nn.Module):
    """Frames (R, c, H, H) -> latents (R, d, G, G)."""

    def __init__(self, config: VisualVQVAEConfig):
        super().__init__()
        h = config.hidden_size
        widths = [config.num_channels, h // 2, *[h] * (config.num_downsampling_layers - 1)]
        if config.num_downsampling_layers == 1:
            widths = [config.num_channels, h]
        self.downsampling = nn.ModuleList([nn.Conv2d(i, o, 4, stride=2, padding=1) for i, o in pairwise(widths)])
        self.conv = nn.Conv2d(h, h, 3, padding=1)
        self.residual_layers = nn.ModuleList([VisualResidualLayer(config) for _ in range(config.num_residual_layers)])
        self.projection = nn.Conv2d(h, config.codebook_dim, 1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        for conv in self.downsampling:
            hidden = F.relu(conv(hidden))
        hidden = self.conv(hidden)
        for layer in self.residual_layers:
            hidden = layer(hidden)
        return self.projection(F.relu(hidden))


class VisualDecoder(nn.Module):
    """Code vectors (R, d, G, G) -> frames (R, c, H, H); no output non-linearity."""

    def __init__(self, config: VisualVQVAEConfig):
        super().__init__()
        h = config.hidden_size
        self.conv = nn.Conv2d(config.codebook_dim, h, 3, padding=1)
        self.residual_layers = nn.ModuleList([VisualResidualLayer(config) for _ in range(config.num_residual_layers)])
        widths = [h, *[h // 2] * (config.num_downsampling_layers - 1), config.num_channels]
        self.upsampling = nn.ModuleList(
            [nn.ConvTranspose2d(i, o, 4, stride=2, padding=1) for i, o in pairwise(widths)]
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = self.conv(hidden)
        for layer in self.residual_layers:
            hidden = layer(hidden)
        for conv in self.upsampling:
            hidden = conv(F.relu(hidden))
        return hidden


class VisualVQVAEModel(AlignedPreTrainedModel):
    r"""
    Visual tokenizer: a face image becomes G x G codes, and codes an image ([AV], visual VQ-VAE).

    Weights start as torch starts convolutions (uniform, +-1/sqrt(fan-in)), the codebook standard normal.
    """

    config: VisualVQVAEConfig
    base_model_prefix = "visual_vqvae"
    main_input_name = "pixel_values_videos"
    input_modalities = "video"
    supports_gradient_checkpointing = False
    accepts_loss_kwargs = False
    _keep_in_fp32_modules_strict = ["quantizer"]  # noqa: RUF012

    def __init__(self, config: VisualVQVAEConfig):
        super().__init__(config)
        self.encoder = VisualEncoder(config)
        self.quantizer = VectorQuantizer(
            config.codebook_size,
            config.codebook_dim,
            config.commitment_cost,
            config.ema_decay,
            config.ema_epsilon,
            config.dead_code_threshold,
        )
        self.decoder = VisualDecoder(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        init_tokenizer_weights(module)

    def forward(
        self, pixel_values_videos: torch.Tensor, visual_attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> VisualVQVAEOutput:
        r"""
        Reconstruct frames and measure how well ([AV], visual VQ-VAE loss).

        Args:
            pixel_values_videos (`torch.Tensor` of shape `(B, T, c, H, H)`, or `(T, c, H, H)` for one clip): pixels minus
                0.5.
            visual_attention_mask (`torch.Tensor` of shape `(B, T)`): 1 for real frames, 0 for padding, which takes no
                part in anything.

        Returns:
            [`VisualVQVAEOutput`], with the shape of the input kept. In training mode the codebook moves as a side effect.

        Raises:
            ValueError: for another number of dimensions, channels or pixels, or a mask of another shape.
        """
        rows = select_rows(self._as_clips(pixel_values_videos), visual_attention_mask)
        frames = rows.values.to(self.dtype)
        latents = self.encoder(frames)  # (R, d, G, G)
        quantizer = self._quantize_rows(latents)
        reconstruction = self.decoder(quantizer.quantized.to(latents.dtype)).float()  # (R, c, H, H)

        share = batch_share(len(frames), frames.device) if self.training else 1.0
        reconstruction_loss = share * F.mse_loss(reconstruction, frames.float())
        commitment_loss = share * quantizer.loss
        shape = pixel_values_videos.shape
        return VisualVQVAEOutput(
            loss=reconstruction_loss + commitment_loss,
            reconstruction=restore_rows(reconstruction, rows.keep, shape),
            codes=restore_rows(quantizer.codes, rows.keep, (*shape[:-3], *latents.shape[2:])),
            reconstruction_loss=reconstruction_loss,
            commitment_loss=commitment_loss,
            perplexity=quantizer.perplexity,
            code_usage=quantizer.code_usage,
        )

    @torch.no_grad()
    def encode(
        self, pixel_values_videos: torch.Tensor, visual_attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Codes of frames: `pixel_values_videos` (B, T, c, H, H) or (T, c, H, H) -> (B, T, G, G) or (T, G, G) int64.

        Changes no buffer, in any mode. Frames are independent: the codes of padding mean nothing, with or without mask.
        """
        latents = self.encode_latents(pixel_values_videos)
        return self.quantizer.nearest_codes(latents.flatten(0, -2)).view(latents.shape[:-1])

    def encode_latents(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        """Latents before quantization: `pixel_values_videos` (B, T, c, H, H) -> (B, T, G, G, d); likewise without B."""
        frames = self._as_clips(pixel_values_videos).flatten(0, 1).to(self.dtype)
        latents = in_pieces(self.encoder, frames, FRAMES_IN_CACHE).permute(0, 2, 3, 1)  # (R, d, G, G) -> (R, G, G, d)
        return latents.reshape(*pixel_values_videos.shape[:-3], *latents.shape[1:])

    def quantize(self, latents: torch.Tensor) -> torch.Tensor:
        """The nearest code vectors: `latents` (..., d) -> (..., d), with the straight-through gradient."""
        return self.quantizer.straight_through(latents)

    @torch.no_grad()
    def decode(self, visual_codes: torch.Tensor, visual_attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Frames of codes: `visual_codes` (B, T, G, G) or (T, G, G) -> (B, T, c, H, H) or (T, c, H, H)."""
        check_codes(visual_codes, self.config.codebook_size, "visual_codes")
        if visual_codes.dim() not in (3, 4):
            raise ValueError(
                f"visual_codes has shape {tuple(visual_codes.shape)}; (clips, frames, rows, columns) or (frames, rows, "
                "columns) is accepted."
            )
        return self.decode_latents(self.quantizer.embed(visual_codes.long()))

    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Frames of (quantized) latents: (B, T, G, G, d) or (T, G, G, d) -> (B, T, c, H, H) or (T, c, H, H)."""
        rows = latents.flatten(0, -4).permute(0, 3, 1, 2).to(self.dtype)  # (R, d, G, G)
        frames = in_pieces(self.decoder, rows, FRAMES_IN_CACHE).float()
        return frames.reshape(*latents.shape[:-3], *frames.shape[1:])

    def get_codebook(self) -> torch.Tensor:
        """The code vectors (K, d)."""
        return self.quantizer.codebook

    def _quantize_rows(self, latents: torch.Tensor) -> QuantizerOutput:
        """`latents` (R, d, G, G) -> the quantizer's output with `quantized` (R, d, G, G) and `codes` (R, G, G)."""
        R, d, G, _ = latents.shape
        output = self.quantizer(latents.permute(0, 2, 3, 1).reshape(-1, d))
        return output._replace(
            quantized=output.quantized.view(R, G, -1, d).permute(0, 3, 1, 2), codes=output.codes.view(R, G, -1)
        )

    def _as_clips(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        side, channels = 2**self.config.num_downsampling_layers, self.config.num_channels
        shape = tuple(pixel_values_videos.shape)
        if len(shape) not in (4, 5) or shape[-3] != channels or shape[-1] % side or shape[-2] % side:
            raise ValueError(
                f"pixel_values_videos has shape {shape}; frames of shape (clips, frames, {channels}, height, width) or "
                f"(frames, {channels}, height, width) with sides a multiple of {side} are accepted. "
                "VisualVQVAEVideoProcessor makes them from images."
            )
        return pixel_values_videos if len(shape) == 5 else pixel_values_videos.unsqueeze(0)
