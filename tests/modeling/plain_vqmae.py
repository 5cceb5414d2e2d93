"""
VQ-MAE as the equations stand: attention weights written out, every tube through every layer, the logits of all tubes held
at once. The models leave out what no result needs; `tests/modeling/test_plain_vqmae.py` holds them to this form, and the
benchmarks compare their speed.

Weights are those of a model of ours. Clips are whole: nothing is padded.
"""

import torch
from torch.nn import functional as F

from vqmae_hf.modeling.losses import asymmetric_single_label_loss, info_nce
from vqmae_hf.modeling.modeling_vqmae import VQMAEForAudioVisualClassification, VQMAEForPreTraining, VQMAEModel

ORDER = ("visual", "audio")


def plain_attention(query, key, value, num_heads: int) -> torch.Tensor:
    """softmax(q k^T / sqrt(d)) v over heads: (B, Q, D), (B, L, D) twice -> (B, Q, D)."""
    query, key, value = (x.unflatten(2, (num_heads, -1)).transpose(1, 2) for x in (query, key, value))
    weights = torch.softmax(query @ key.transpose(2, 3) / query.shape[3] ** 0.5, dim=3)
    return (weights @ value).transpose(1, 2).flatten(2)


def plain_cross_attention(attention, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    query, key, value = attention.query(queries), attention.key(keys), attention.value(keys)
    return attention.projection(plain_attention(query, key, value, attention.num_heads))


def plain_mlp(mlp, hidden: torch.Tensor) -> torch.Tensor:
    return mlp.fc2(F.gelu(mlp.fc1(hidden)))


def plain_transformer(transformer, streams: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Cross fusion where the model has it, then pre-norm blocks, then the final norm where the model has one."""
    if transformer.fusion == "cross":
        both = torch.cat(list(streams.values()), dim=1)
        for name, fusion in transformer.modality_fusion.items():
            update = plain_mlp(fusion.mlp, plain_cross_attention(fusion.attention, streams[name], both))
            streams = {**streams, name: streams[name] + fusion.norm(update)}
        return {name: plain_blocks(transformer, name, hidden) for name, hidden in streams.items()}
    sizes = [hidden.shape[1] for hidden in streams.values()]
    joint = plain_blocks(transformer, "joint", torch.cat(list(streams.values()), dim=1))
    return dict(zip(streams, joint.split(sizes, dim=1), strict=True))


def plain_blocks(transformer, stream: str, hidden: torch.Tensor) -> torch.Tensor:
    for layer in transformer.layers:
        block = layer.blocks[stream]
        query, key, value = block.attention.qkv(block.attention_norm(hidden)).chunk(3, dim=2)
        attended = plain_attention(query, key, value, block.attention.num_heads)
        hidden = hidden + block.attention.projection(attended)
        hidden = hidden + plain_mlp(block.mlp, block.mlp_norm(hidden))
    return transformer.norms[stream](hidden) if transformer.norms else hidden


def plain_embedding(model: VQMAEModel, modality: str, codes: torch.Tensor) -> torch.Tensor:
    """Tubes (B, L, P) -> (B, L, D), with positions."""
    vectors = F.embedding(codes, model.embeddings.code_table(modality).weight)
    return vectors.flatten(2) + model.embeddings.positions(modality, codes.shape[1])


def plain_global(pooling, local: torch.Tensor) -> torch.Tensor:
    query = pooling.query.expand(len(local), -1, -1)
    hidden = query + plain_cross_attention(pooling.attention, query, local)
    return (hidden + pooling.norm(plain_mlp(pooling.mlp, hidden))).squeeze(1)


def plain_pretraining_loss(
    model: VQMAEForPreTraining, audio_codes: torch.Tensor, visual_codes: torch.Tensor, masks: dict[str, torch.Tensor]
) -> torch.Tensor:
    """The whole loss ([AV], total loss) for boolean `masks` (B, L) that hide equally many tubes of each clip."""
    encoder, decoder = model.model, model.decoder
    tubes = encoder.prepare_tubes(audio_codes, visual_codes)
    embedded = {name: plain_embedding(encoder, name, tubes[name].codes) for name in ORDER}
    shown = {name: hidden[~masks[name]].view(len(hidden), -1, hidden.shape[2]) for name, hidden in embedded.items()}
    local = plain_transformer(encoder.encoder, shown)
    complete = {}
    for name in ORDER:
        hidden = decoder.mask_token.expand_as(embedded[name]).clone()
        hidden[~masks[name]] = local[name].flatten(0, 1)
        complete[name] = hidden + decoder.positions(name, hidden.shape[1])
    decoded = plain_transformer(decoder.transformer, complete)
    loss = embedded["visual"].new_zeros(())
    for name in ORDER:
        head, mask = decoder.code_head(name), masks[name]
        logits = head(decoded[name].unflatten(2, (-1, head.in_features)))  # (B, L, P, K)
        term = F.cross_entropy(logits[mask].flatten(0, 1), tubes[name].codes[mask].flatten())
        loss = loss + getattr(model.config, f"{name}_loss_weight") * term
    if model.config.contrastive:
        vectors = [plain_global(encoder.global_pooling[name], local[name]) for name in ORDER]
        term = info_nce(*vectors, model.config.contrastive_temperature)
        loss = loss + model.config.contrastive_loss_weight * term
    return loss


def plain_logits(
    model: VQMAEForAudioVisualClassification, audio_codes: torch.Tensor, visual_codes: torch.Tensor
) -> torch.Tensor:
    """Logits (B, C) by attention pooling or Query2Emo ([AV], fine-tuning), or the mean over time, in evaluation mode."""
    encoder, head = model.model, model.classifier
    tubes = encoder.prepare_tubes(audio_codes, visual_codes)
    local = plain_transformer(encoder.encoder, {m: plain_embedding(encoder, m, tubes[m].codes) for m in ORDER})
    if model.config.classifier_pooling == "attention":
        vectors = [plain_global(encoder.global_pooling[name], local[name]) for name in ("audio", "visual")]
        return head(torch.cat(vectors, dim=1))
    if model.config.classifier_pooling == "temporal_mean":
        grids = {name: tubes[name].grid for name in ORDER}
        means = [local[name].unflatten(1, grids[name]).mean(dim=1).flatten(1) for name in ("audio", "visual")]
        return head(torch.cat(means, dim=1))
    memory = torch.cat([local[name] for name in ORDER], dim=1)
    layer = head.encoder_layer
    memory = plain_feed_forward(layer.feed_forward, plain_post_norm(layer.self_attention, memory, memory))
    memory = head.encoder_norm(memory)
    queries = head.class_queries.expand(len(memory), -1, -1)
    for layer in head.decoder_layers:
        queries = plain_post_norm(layer.self_attention, queries, queries)
        queries = plain_post_norm(layer.cross_attention, queries, memory)
        queries = plain_feed_forward(layer.feed_forward, queries)
    return head.output(head.decoder_norm(queries).flatten(1))


def plain_post_norm(part, hidden: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    return part.norm(hidden + part.dropout(plain_cross_attention(part.attention, hidden, keys)))


def plain_feed_forward(part, hidden: torch.Tensor) -> torch.Tensor:
    return part.norm(hidden + part.dropout(part.fc2(part.dropout(F.relu(part.fc1(hidden))))))


def plain_classification_loss(model: VQMAEForAudioVisualClassification, labels: torch.Tensor, **codes) -> torch.Tensor:
    return asymmetric_single_label_loss(plain_logits(model, **codes), labels)
