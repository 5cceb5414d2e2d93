"""
What MDVAE returns.

Letters: B clips, T frames, w the static latent, z_av, z_a, z_v the dynamic ones ("D" stands for the size of each), C
classes, F frequency bins.
"""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput


@dataclass
class MDVAELatents(ModelOutput):
    """
    The latents of clips: what [`MDVAEModel.decode`] takes. Those of a modality that the model does not have are None.

    Args:
        w (`torch.Tensor` of shape `(B, D)`): static, one vector per clip.
        z_av (`torch.Tensor` of shape `(B, T, D)`): what sound and face share in a frame.
        z_a (`torch.Tensor` of shape `(B, T, D)`): what is the sound's alone.
        z_v (`torch.Tensor` of shape `(B, T, D)`): what is the face's alone.
        frame_mask (`torch.BoolTensor` of shape `(B, T)`): frames that are no padding; None where all are real. What stands
            at padding means nothing.
    """

    w: torch.Tensor | None = None
    z_av: torch.Tensor | None = None
    z_a: torch.Tensor | None = None
    z_v: torch.Tensor | None = None
    frame_mask: torch.Tensor | None = None


@dataclass
class MDVAEEncoding(MDVAELatents):
    """
    [`MDVAELatents`] and the Gaussians they are of. Diagonal; log-variances, in float32.

    Args:
        w, z_av, z_a, z_v, frame_mask: means of the posteriors, or samples of them; see [`MDVAELatents`].
        w_mean, w_logvar (`torch.Tensor` of shape `(B, D)`): posterior of w, whose prior is standard normal.
        z_av_mean, z_av_logvar, z_a_mean, z_a_logvar, z_v_mean, z_v_logvar (`torch.Tensor` of shape `(B, T, D)`):
            posteriors.
        z_av_prior_mean, z_av_prior_logvar (`torch.Tensor` of shape `(B, T, D)`): prior, given the frames before.
        z_a_prior_mean, z_a_prior_logvar, z_v_prior_mean, z_v_prior_logvar (`torch.Tensor` of shape `(B, T, D)`): likewise.
    """

    w_mean: torch.Tensor | None = None
    w_logvar: torch.Tensor | None = None
    z_av_mean: torch.Tensor | None = None
    z_av_logvar: torch.Tensor | None = None
    z_av_prior_mean: torch.Tensor | None = None
    z_av_prior_logvar: torch.Tensor | None = None
    z_a_mean: torch.Tensor | None = None
    z_a_logvar: torch.Tensor | None = None
    z_a_prior_mean: torch.Tensor | None = None
    z_a_prior_logvar: torch.Tensor | None = None
    z_v_mean: torch.Tensor | None = None
    z_v_logvar: torch.Tensor | None = None
    z_v_prior_mean: torch.Tensor | None = None
    z_v_prior_logvar: torch.Tensor | None = None


@dataclass
class MDVAEDecoding(ModelOutput):
    """
    Output of [`MDVAEModel.decode`].

    Args:
        audio_features, visual_features (`torch.Tensor` of shape `(B, T, D)`): latents of the tokenizers before
            quantization, float32.
        audio_values (`torch.Tensor` of shape `(B, T, F)`): power spectra, for models with an audio tokenizer.
        pixel_values_videos (`torch.Tensor` of shape `(B, T, 3, H, H)`): pixels minus 0.5, for models with a visual
            tokenizer.
    """

    audio_features: torch.Tensor | None = None
    visual_features: torch.Tensor | None = None
    audio_values: torch.Tensor | None = None
    pixel_values_videos: torch.Tensor | None = None


@dataclass
class MDVAEOutput(ModelOutput):
    """
    Output of [`MDVAEModel`]. Losses are of shape `()`, in nats where they are divergences.

    Args:
        loss: `audio_loss + visual_loss + beta * (w_kl + z_av_kl + z_a_kl + z_v_kl)`, with free bits and weights where
            configured.
        audio_loss, visual_loss: reconstruction, sum over the features in units of their scale, mean over the frames, times
            the weight of the modality.
        w_kl: KL of the static latent, sum over its numbers, mean over the clips.
        z_av_kl, z_a_kl, z_v_kl: KL of the dynamic latents, sum over their numbers, mean over the frames.
        audio_features, visual_features (`torch.Tensor` of shape `(B, T, D)`): reconstructions.
        encoding ([`MDVAEEncoding`]): latents, posteriors and priors.
    """

    loss: torch.Tensor | None = None
    audio_loss: torch.Tensor | None = None
    visual_loss: torch.Tensor | None = None
    w_kl: torch.Tensor | None = None
    z_av_kl: torch.Tensor | None = None
    z_a_kl: torch.Tensor | None = None
    z_v_kl: torch.Tensor | None = None
    audio_features: torch.Tensor | None = None
    visual_features: torch.Tensor | None = None
    encoding: MDVAEEncoding | None = None


@dataclass
class MDVAEClassifierOutput(ModelOutput):
    """
    Output of [`MDVAEForAudioVisualClassification`].

    Args:
        loss (`torch.Tensor` of shape `()`): with `labels`.
        logits (`torch.Tensor` of shape `(B, C)`): before softmax.
        w (`torch.Tensor` of shape `(B, D)`): the static latent, mean of its posterior.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    w: torch.Tensor | None = None
