"""
The audio tokenizer: a VQ-VAE over single power spectra ([AV] and [MD], audio VQ-VAE).

Letters: B clips, S spectra, R = B S rows, F frequency bins (513), C codes per spectrum (64), d numbers per code,
h hidden channels, K codebook size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import nn
from torch.nn import functional as F
from transformers.utils import ModelOutput

from .across_processes import batch_share, num_processes, sum_over_processes, sum_with_gradient
from .aligned_loading import AlignedPreTrainedModel
from .configuration_audio_vqvae import AudioVQVAEConfig
from .losses import itakura_saito_divergence
from .tokenizer_blocks import (
    check_attention_mask,
    check_codes,
    in_pieces,
    init_tokenizer_weights,
    rapid_tanh,
    restore_rows,
    select_rows,
)
from .vector_quantizer import QuantizerOutput, VectorQuantizer

# Which statistics batch normalisation uses; "batch" is training's, and the only one that moves the running ones.
Statistics = Literal["batch", "running", "clip"]
ROWS_IN_CACHE = 128  # see in_pieces


@dataclass
class AudioVQVAEOutput(ModelOutput):
    """
    Output of [`AudioVQVAEModel`].

    Args:
        loss (`torch.Tensor` of shape `()`): reconstruction loss plus commitment loss.
        reconstruction (`torch.Tensor` of shape `(B, S, F)`): positive power spectra; zero where the mask is.
        codes (`torch.LongTensor` of shape `(B, S, C)`): zero where the mask is.
        reconstruction_loss (`torch.Tensor` of shape `()`): Itakura-Saito divergence, mean over bins.
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


class ClipOfRow(NamedTuple):
    """Which clip each row belongs to, for statistics over clips."""

    clip_index: torch.Tensor  # (R,)
    num_clips: int

    def average(self, rows: torch.Tensor) -> torch.Tensor:
        """Mean over the rows of each clip: (R, h) -> (num_clips, h)."""
        counts = torch.zeros(self.num_clips, device=rows.device).index_add(
            0, self.clip_index, torch.ones_like(rows[:, 0]).float()
        )
        sums = rows.new_zeros(self.num_clips, rows.shape[1]).index_add(0, self.clip_index, rows)
        return sums / counts.clamp(min=1).unsqueeze(1).to(rows.dtype)


Convolution = nn.Conv1d | nn.ConvTranspose1d
Tanh = Callable[[torch.Tensor], torch.Tensor]


class SpectrumBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of rows (R, h, length), after a convolution, whose statistics the caller chooses."""

    def forward(  # type: ignore[override]
        self, hidden: torch.Tensor, conv: Convolution, statistics: Statistics, clips: ClipOfRow
    ) -> torch.Tensor:
        """The normalised output of `conv`."""
        if statistics == "running":
            return self.convolve_normalized(hidden, conv)
        hidden = conv(hidden)
        if statistics == "clip":
            return self.normalize_by_clip(hidden, clips)
        if self.training and num_processes() > 1:
            return self.normalize_over_processes(hidden)
        return super().forward(hidden)

    def convolve_normalized(self, hidden: torch.Tensor, conv: Convolution) -> torch.Tensor:
        """Running statistics are constants: their scale goes into the weight of `conv`, their shift into its bias."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert conv.bias is not None
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        bias = (conv.bias - self.running_mean) * scale + self.bias
        if isinstance(conv, nn.ConvTranspose1d):  # weight (in, out, kernel)
            padding = cast(tuple[int, ...], conv.padding)  # never the name of a rule
            return F.conv_transpose1d(hidden, conv.weight * scale[:, None], bias, conv.stride, padding)
        return F.conv1d(hidden, conv.weight * scale[:, None, None], bias, conv.stride, conv.padding)

    def normalize_over_processes(self, hidden: torch.Tensor) -> torch.Tensor:
        """Statistics of the rows of all processes, as one with the whole batch has them (torch's own works on GPUs only)."""
        count = sum_over_processes(hidden.new_tensor(hidden.shape[0] * hidden.shape[2], dtype=torch.float32))
        mean = sum_with_gradient(hidden.sum(dim=(0, 2), dtype=torch.float32)) / count  # (h,)
        centred = hidden - mean[:, None]
        variance = sum_with_gradient(centred.square().sum(dim=(0, 2), dtype=torch.float32)) / count
        with torch.no_grad():
            step = cast(float, self.momentum)
            cast(torch.Tensor, self.running_mean).lerp_(mean, step)
            cast(torch.Tensor, self.running_var).lerp_(variance * count / (count - 1), step)
            cast(torch.Tensor, self.num_batches_tracked).add_(1)
        normalized = centred * torch.rsqrt(variance + self.eps)[:, None]
        return (normalized * self.weight[:, None] + self.bias[:, None]).to(hidden.dtype)

    def normalize_by_clip(self, hidden: torch.Tensor, clips: ClipOfRow) -> torch.Tensor:
        """Mean and variance of each channel over all rows and positions of the row's clip, as in training."""
        mean = clips.average(hidden.mean(dim=2))[clips.clip_index].unsqueeze(2)  # (R, h, 1)
        variance = clips.average((hidden - mean).square().mean(dim=2))[clips.clip_index].unsqueeze(2)
        normalized = (hidden - mean) * torch.rsqrt(variance + self.eps)
        return normalized * self.weight[:, None] + self.bias[:, None]


class AudioResidualLayer(nn.Module):
    """`x + Conv1x1(tanh(Conv3(tanh(x))))`, both convolutions without bias: (R, h, length) -> the same."""

    def __init__(self, config: AudioVQVAEConfig):
        super().__init__()
        self.conv = nn.Conv1d(config.hidden_size, config.residual_hidden_size, 3, padding=1, bias=False)
        self.projection = nn.Conv1d(config.residual_hidden_size, config.hidden_size, 1, bias=False)

    def forward(self, hidden: torch.Tensor, tanh: Tanh = torch.tanh) -> torch.Tensor:
        return hidden + self.projection(tanh(self.conv(tanh(hidden))))


class AudioEncoder(nn.Module):
    """Spectra (R, 1, F) -> latents (R, d, C)."""

    def __init__(self, config: AudioVQVAEConfig):
        super().__init__()
        self.input_scale = config.input_scale
        h = config.hidden_size
        self.convs = nn.ModuleList(
            [
                nn.Conv1d(1, h // 2, 4, stride=2, padding=1),
                nn.Conv1d(h // 2, h, 4, stride=2, padding=1),
                nn.Conv1d(h, h, 3, stride=2, padding=1),
            ]
        )
        self.norms = nn.ModuleList(
            [SpectrumBatchNorm(channels) for channels in (h // 2, h, h)] if config.batch_norm else []
        )
        self.residual_layers = nn.ModuleList([AudioResidualLayer(config) for _ in range(config.num_residual_layers)])
        self.projection = nn.Conv1d(h, config.codebook_dim, 1)

    def forward(
        self, hidden: torch.Tensor, statistics: Statistics, clips: ClipOfRow, tanh: Tanh = torch.tanh
    ) -> torch.Tensor:
        if self.input_scale == "log":
            hidden = scaled_logarithm(hidden)
        for index, conv in enumerate(self.convs):
            hidden = self.norms[index](hidden, conv, statistics, clips) if self.norms else conv(hidden)
            if index < 2:  # the third convolution hands its output to the residual layers as it is
                hidden = tanh(hidden)
        for layer in self.residual_layers:
            hidden = layer(hidden, tanh)
        return self.projection(tanh(hidden))


def scaled_logarithm(power: torch.Tensor) -> torch.Tensor:
    """Power (...) on a logarithmic scale: 1e-8, the floor of a quiet recording, becomes -2.5, 1e2, a loud bin, 1.9."""
    return torch.log(power.float() + 1e-8).to(power.dtype) / 5 + 1


class AudioDecoder(nn.Module):
    """Code vectors (R, d, C) -> positive power spectra (R, 1, F)."""

    def __init__(self, config: AudioVQVAEConfig):
        super().__init__()
        h = config.hidden_size
        self.conv = nn.Conv1d(config.codebook_dim, h, 3, padding=1)
        self.residual_layers = nn.ModuleList([AudioResidualLayer(config) for _ in range(config.num_residual_layers)])
        self.transposed_convs = nn.ModuleList(
            [
                nn.ConvTranspose1d(h, h, 4, stride=2, padding=1),
                nn.ConvTranspose1d(h, h // 2, 4, stride=2, padding=1),
            ]
        )
        self.norms = nn.ModuleList(
            [SpectrumBatchNorm(channels) for channels in (h, h // 2)] if config.batch_norm else []
        )
        self.output = nn.ConvTranspose1d(h // 2, 1, 3, stride=2)

    def forward(self, hidden: torch.Tensor, statistics: Statistics, clips: ClipOfRow) -> torch.Tensor:
        hidden = self.conv(hidden)
        for layer in self.residual_layers:
            hidden = layer(hidden)
        hidden = torch.tanh(hidden)
        for index, conv in enumerate(self.transposed_convs):
            hidden = self.norms[index](hidden, conv, statistics, clips) if self.norms else conv(hidden)
            hidden = torch.tanh(hidden)
        # In float32: exp of a half-precision number has three digits left.
        return torch.exp(self.output(hidden).float())


class AudioVQVAEModel(AlignedPreTrainedModel):
    r"""
    Audio tokenizer: a power spectrum becomes 64 codes, and 64 codes a power spectrum ([AV], audio VQ-VAE).

    Weights start as torch starts convolutions (uniform, +-1/sqrt(fan-in)), the codebook standard normal.
    """

    config: AudioVQVAEConfig
    base_model_prefix = "audio_vqvae"
    main_input_name = "audio_values"
    input_modalities = "audio"
    supports_gradient_checkpointing = False
    accepts_loss_kwargs = False
    _keep_in_fp32_modules_strict = ["quantizer"]  # noqa: RUF012

    def __init__(self, config: AudioVQVAEConfig):
        super().__init__(config)
        self.encoder = AudioEncoder(config)
        self.quantizer = VectorQuantizer(
            config.codebook_size,
            config.codebook_dim,
            config.commitment_cost,
            config.ema_decay,
            config.ema_epsilon,
            config.dead_code_threshold,
        )
        self.decoder = AudioDecoder(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        init_tokenizer_weights(module)

    def forward(
        self, audio_values: torch.Tensor, audio_attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> AudioVQVAEOutput:
        r"""
        Reconstruct spectra and measure how well ([AV], audio VQ-VAE loss).

        Args:
            audio_values (`torch.Tensor` of shape `(B, S, F)`, or `(S, F)` for one clip): power spectra.
            audio_attention_mask (`torch.Tensor` of shape `(B, S)`): 1 for real spectra, 0 for padding, which takes no
                part in anything.

        Returns:
            [`AudioVQVAEOutput`], with the shape of the input kept. In training mode the codebook and the running
            statistics move as a side effect.

        Raises:
            ValueError: for another number of dimensions or bins, or a mask of another shape.
        """
        clips = self._as_clips(audio_values)
        rows = select_rows(clips, audio_attention_mask)
        statistics: Statistics = "batch" if self.training else self.config.batch_norm_statistics
        clip_of_row = ClipOfRow(rows.clip_index, rows.num_clips)

        spectra = rows.values.to(self.dtype)
        latents = self.encoder(spectra.unsqueeze(1), statistics, clip_of_row)  # (R, d, C)
        quantizer = self._quantize_rows(latents)
        quantized = quantizer.quantized.to(latents.dtype)
        reconstruction = self.decoder(quantized, statistics, clip_of_row).squeeze(1)  # (R, F)

        share = batch_share(len(spectra), spectra.device) if self.training else 1.0
        reconstruction_loss = share * itakura_saito_divergence(spectra, reconstruction)
        commitment_loss = share * quantizer.loss
        shape = audio_values.shape
        return AudioVQVAEOutput(
            loss=reconstruction_loss + commitment_loss,
            reconstruction=restore_rows(reconstruction, rows.keep, shape),
            codes=restore_rows(quantizer.codes, rows.keep, (*shape[:-1], latents.shape[2])),
            reconstruction_loss=reconstruction_loss,
            commitment_loss=commitment_loss,
            perplexity=quantizer.perplexity,
            code_usage=quantizer.code_usage,
        )

    @torch.no_grad()
    def encode(self, audio_values: torch.Tensor, audio_attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """
        Codes of spectra: `audio_values` (B, S, F) or (S, F) -> (B, S, C) or (S, C) int64. Changes no buffer, in any mode.

        The mask (B, S) matters where statistics are those of the clip; the codes of its zeros mean nothing.
        """
        latents = self._latents(audio_values, audio_attention_mask, partial(self.encoder, tanh=rapid_tanh))
        return self.quantizer.nearest_codes(latents.flatten(0, -2)).view(latents.shape[:-1])

    def encode_latents(
        self, audio_values: torch.Tensor, audio_attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Latents before quantization: `audio_values` (B, S, F) or (S, F) -> (B, S, C, d) or (S, C, d)."""
        return self._latents(audio_values, audio_attention_mask, self.encoder)

    def _latents(
        self, audio_values: torch.Tensor, audio_attention_mask: torch.Tensor | None, encoder: Callable
    ) -> torch.Tensor:
        """`encode_latents` by a form of the encoder."""
        rows, clip_of_row = self._all_rows(self._as_clips(audio_values), audio_attention_mask)
        latents = self._through(encoder, rows.unsqueeze(1), clip_of_row)
        return latents.transpose(1, 2).reshape(*audio_values.shape[:-1], -1, self.config.codebook_dim)

    def quantize(self, latents: torch.Tensor) -> torch.Tensor:
        """The nearest code vectors: `latents` (..., d) -> (..., d), with the straight-through gradient."""
        return self.quantizer.straight_through(latents)

    @torch.no_grad()
    def decode(self, audio_codes: torch.Tensor, audio_attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Spectra of codes: `audio_codes` (B, S, C) or (S, C) -> (B, S, F) or (S, F) power spectra."""
        check_codes(audio_codes, self.config.codebook_size, "audio_codes")
        codes_per_spectrum = self.config.codes_per_spectrum
        if audio_codes.dim() not in (2, 3) or audio_codes.shape[-1] != codes_per_spectrum:
            raise ValueError(
                f"audio_codes has shape {tuple(audio_codes.shape)}; (clips, spectra, {codes_per_spectrum}) or (spectra, "
                f"{codes_per_spectrum}) is accepted."
            )
        return self.decode_latents(self.quantizer.embed(audio_codes.long()), audio_attention_mask)

    def decode_latents(self, latents: torch.Tensor, audio_attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Spectra of (quantized) latents: (B, S, C, d) or (S, C, d) -> (B, S, F) or (S, F) power spectra."""
        clips = latents if latents.dim() == 4 else latents.unsqueeze(0)
        rows, clip_of_row = self._all_rows(clips, audio_attention_mask)
        spectra = self._through(self.decoder, rows.transpose(1, 2), clip_of_row)
        return spectra.reshape(*latents.shape[:-2], self.config.num_frequency_bins)

    def get_codebook(self) -> torch.Tensor:
        """The code vectors (K, d)."""
        return self.quantizer.codebook

    @property
    def _fixed_statistics(self) -> Statistics:
        """Statistics of encoding and decoding, which never move a buffer, not even in training mode."""
        return self.config.batch_norm_statistics

    def _through(self, network: Callable, rows: torch.Tensor, clip_of_row: ClipOfRow) -> torch.Tensor:
        """Encoder or decoder over `rows` (R, ...), with the configured statistics."""
        rows, statistics = rows.to(self.dtype), self._fixed_statistics
        if statistics == "clip" and self.config.batch_norm:  # rows depend on each other
            return network(rows, statistics, clip_of_row)
        return in_pieces(lambda piece: network(piece, statistics, clip_of_row), rows, ROWS_IN_CACHE)

    def _quantize_rows(self, latents: torch.Tensor) -> QuantizerOutput:
        """`latents` (R, d, C) -> the quantizer's output with `quantized` (R, d, C) and `codes` (R, C)."""
        R, d, C = latents.shape
        output = self.quantizer(latents.transpose(1, 2).reshape(R * C, d))
        return output._replace(quantized=output.quantized.view(R, C, d).transpose(1, 2), codes=output.codes.view(R, C))

    def _all_rows(
        self, clips: torch.Tensor, audio_attention_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, ClipOfRow]:
        """
        Every item of `clips` (B, S, ...) as a row (B S, ...). Rows are independent of each other unless statistics are
        the clip's: there, padding is filed under a clip of its own.
        """
        B, S = clips.shape[:2]
        # Not `repeat_interleave`, whose translation to ONNX is wrong for a free S (onnxscript 0.7).
        index = torch.arange(B, device=clips.device).unsqueeze(1).expand(B, S).reshape(-1)
        if audio_attention_mask is not None:
            check_attention_mask(audio_attention_mask, clips)
            index = torch.where(audio_attention_mask.flatten().bool(), index, B)
        return clips.flatten(0, 1), ClipOfRow(index, B + 1)

    def _as_clips(self, audio_values: torch.Tensor) -> torch.Tensor:
        bins = self.config.num_frequency_bins
        if audio_values.dim() not in (2, 3) or audio_values.shape[-1] != bins:
            raise ValueError(
                f"audio_values has shape {tuple(audio_values.shape)}; power spectra of shape (clips, spectra, {bins}) or "
                f"(spectra, {bins}) are accepted. AudioVQVAEFeatureExtractor makes them from a waveform."
            )
        return audio_values if audio_values.dim() == 3 else audio_values.unsqueeze(0)
