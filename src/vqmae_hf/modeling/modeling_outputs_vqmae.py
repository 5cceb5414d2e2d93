"""
What the models of the VQ-MAE family return.

Letters: B clips, L tubes of a modality, V of them visible to the encoder, P codes per tube, D width, K codebook size,
C classes, H heads.
"""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput


@dataclass
class VQMAEModelOutput(ModelOutput):
    """
    Output of [`VQMAEModel`]; what belongs to a modality that was not given is None.

    Args:
        visual_last_hidden_state, audio_last_hidden_state (`torch.Tensor` of shape `(B, V, D)`): local representations, one
            per visible tube (all tubes, without a mask).
        visual_global, audio_global (`torch.Tensor` of shape `(B, D)`): global representations.
        visual_tube_mask, audio_tube_mask (`torch.BoolTensor` of shape `(B, V)`): tubes that are no padding; None where
            every tube counts.
        hidden_states (`tuple[torch.Tensor]`): the input of the first layer and the output of each,
            `(B, visual V + audio V, D)` (with a class token before each modality where the model has them).
        attentions (`tuple[torch.Tensor]`): one `(B, H, visual V + audio V, visual V + audio V)` per layer, eager attention
            only; zero between the modalities of cross fusion.
        global_attentions (`tuple[torch.Tensor]`): `(B, H, 1, V)` of the attention poolings, visual before audio; with
            `output_global_attentions=True`, eager attention only.
        visual_tube_ids, audio_tube_ids (`torch.LongTensor` of shape `(B, V)`): which tube of the window each local
            representation is of, numbered with places running fastest; None where they are all there, in order.
    """

    visual_last_hidden_state: torch.Tensor | None = None
    audio_last_hidden_state: torch.Tensor | None = None
    visual_global: torch.Tensor | None = None
    audio_global: torch.Tensor | None = None
    visual_tube_mask: torch.Tensor | None = None
    audio_tube_mask: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    global_attentions: tuple[torch.Tensor, ...] | None = None
    visual_tube_ids: torch.Tensor | None = None
    audio_tube_ids: torch.Tensor | None = None


@dataclass
class VQMAEForPreTrainingOutput(ModelOutput):
    """
    Output of [`VQMAEForPreTraining`].

    Args:
        loss (`torch.Tensor` of shape `()`): weighted sum of the three terms.
        visual_loss, audio_loss (`torch.Tensor` of shape `()`): mean cross-entropy over the codes of masked tubes, in nats.
        contrastive_loss (`torch.Tensor` of shape `()`): InfoNCE between the global representations.
        visual_logits, audio_logits (`torch.Tensor` of shape `(B, L, P, K)`): with `output_logits=True`, all tubes.
        visual_mask, audio_mask (`torch.BoolTensor` of shape `(B, L)`): True = masked.
        visual_global, audio_global (`torch.Tensor` of shape `(B, D)`): global representations.
        hidden_states, attentions: of the encoder, see [`VQMAEModelOutput`].
    """

    loss: torch.Tensor | None = None
    visual_loss: torch.Tensor | None = None
    audio_loss: torch.Tensor | None = None
    contrastive_loss: torch.Tensor | None = None
    visual_logits: torch.Tensor | None = None
    audio_logits: torch.Tensor | None = None
    visual_mask: torch.Tensor | None = None
    audio_mask: torch.Tensor | None = None
    visual_global: torch.Tensor | None = None
    audio_global: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class VQMAEClassifierOutput(ModelOutput):
    """
    Output of [`VQMAEForAudioVisualClassification`].

    Args:
        loss (`torch.Tensor` of shape `()`): with `labels`.
        logits (`torch.Tensor` of shape `(B, C)`): before softmax.
        hidden_states, attentions, global_attentions: see [`VQMAEModelOutput`].
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    global_attentions: tuple[torch.Tensor, ...] | None = None
