"""
Where a classifier looked: its attention over the tubes of face and voice.

Letters: B windows, H heads, V tubes of the sequence, C classes, T frames, S spectra.
"""

from typing import Any, NamedTuple

import torch

from vqmae_hf.inference.coded_clips import CodedClip
from vqmae_hf.modeling.modeling_outputs_vqmae import VQMAEClassifierOutput
from vqmae_hf.modeling.modeling_vqmae import VQMAEForAudioVisualClassification


class AttentionMaps(NamedTuple):
    """Attention, 1 being as much as if it were the same all over the window; None where the clip has no such part."""

    visual: torch.Tensor | None  # (T, rows, columns) of tubes
    audio: torch.Tensor | None  # (S, bands) of tubes, low frequencies first
    method: str  # "pooling queries", "class query" or "rollout"


@torch.no_grad()
def attention_over_clip(
    model: VQMAEForAudioVisualClassification, coded: CodedClip, label: int | None = None
) -> AttentionMaps:
    """
    Where the model looked in a clip, by the last attention before its answer, mean over the heads:

    - pooling by attention ([AV], global representations): the query of each modality over its tubes;
    - Query2Emo ([AV], Query2Emo): the query of the class `label` over all tubes, in the last decoder layer;
    - heads without a query over tubes (mean pooling, class token): attention rollout (Abnar and Zuidema, "Quantifying
      attention flow in transformers", 2020) through all encoder layers, half of each for the residual connection. What
      passes between the modalities in the first step of cross fusion is not part of it.

    Attention says where information was taken from, not what it was taken for.

    Args:
        model: loaded with `attn_implementation="eager"`, the only one that returns weights; in evaluation mode.
        label: class index, for Query2Emo; the most probable class of each window if None.

    Raises:
        ValueError: a model with another attention implementation.
    """
    if model.config._attn_implementation != "eager":
        raise ValueError(
            f"the model runs {model.config._attn_implementation!r} attention, which returns no weights; load it with "
            'from_pretrained(..., attn_implementation="eager").'
        )
    inputs = {name: tensor.to(model.device) for name, tensor in coded.windows(coded.side_by_side()).items()}
    method, weights = _last_attention(model, inputs, label)  # (B, V) of [visual; audio]
    maps: dict[str, torch.Tensor] = {}
    first = 0
    for modality in coded.codes:
        grid = getattr(model.config, f"{modality}_grid")
        count = torch.Size(grid).numel()
        part = weights[:, first : first + count]
        first += count
        steps = getattr(model.config, f"{modality}_tube_size")[0]
        times = inputs[f"{modality}_attention_mask"].view(len(part), -1, steps).any(2)  # those of real tubes
        num_real = count * times.float().mean(1, keepdim=True)
        level = part / part.sum(1, keepdim=True).clamp_min(1e-12) * num_real
        per_step = level.view(-1, *grid).repeat_interleave(steps, dim=1)
        maps[modality] = coded.join_windows(modality, per_step.float().cpu())
    return AttentionMaps(maps.get("visual"), maps.get("audio"), method)


def _last_attention(
    model: VQMAEForAudioVisualClassification, inputs: dict[str, torch.Tensor], label: int | None
) -> tuple[str, torch.Tensor]:
    """The method that fits the head, and its weights (B, V)."""
    config = model.config
    if config.classifier_pooling == "query2emo":
        return "class query", _class_query_attention(model, inputs, label)
    if config.classifier_pooling == "attention" and config.global_representation == "attention_pooling":
        output = model(**inputs, output_global_attentions=True)
        return "pooling queries", torch.cat([w.mean(1)[:, 0] for w in output.global_attentions], dim=1)
    return "rollout", _rollout(model, inputs)


def _class_query_attention(
    model: VQMAEForAudioVisualClassification, inputs: dict[str, torch.Tensor], label: int | None
) -> torch.Tensor:
    """Attention (B, V) of a class's query in the last decoder layer of Query2Emo."""
    caught: list[torch.Tensor] = []
    layer: Any = model.classifier
    attention = layer.decoder_layers[-1].cross_attention.attention
    handle = attention.register_forward_hook(lambda module, args, output: caught.append(output[1]))
    try:
        logits = model(**inputs).logits
    finally:
        handle.remove()
    weights = caught[0].mean(1)  # (B, C, V)
    chosen = logits.argmax(1) if label is None else torch.full_like(logits[:, 0], label, dtype=torch.long)
    return weights[torch.arange(len(weights), device=weights.device), chosen]


def _rollout(model: VQMAEForAudioVisualClassification, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Attention (B, V) rolled out over the encoder, read by the class tokens or by all real tubes alike."""
    output: VQMAEClassifierOutput = model(**inputs, output_attentions=True)
    assert output.attentions is not None
    flow: torch.Tensor | None = None
    for layer in output.attentions:
        weights = layer.mean(1)  # (B, V, V)
        weights = (weights + torch.eye(weights.shape[1], device=weights.device)) / 2
        flow = weights if flow is None else weights @ flow
    assert flow is not None
    counts = [
        torch.Size(getattr(model.config, f"{modality}_grid")).numel()
        for modality in ("visual", "audio")
        if f"{modality}_codes" in inputs
    ]
    if model.config.global_representation == "cls_token":
        ends = torch.tensor([count + 1 for count in counts]).cumsum(0)
        tokens = torch.cat([torch.zeros(1, dtype=torch.long), ends[:-1]])
        keep = torch.ones(flow.shape[1], dtype=torch.bool)
        keep[tokens] = False
        return flow[:, tokens].mean(1)[:, keep]
    tubes = model.model.prepare_tubes(**inputs)
    real = torch.cat([inputs.real for inputs in tubes.values() if inputs.real is not None], dim=1).to(flow.dtype)
    return (real / real.sum(1, keepdim=True)).unsqueeze(1).bmm(flow)[:, 0] * real
